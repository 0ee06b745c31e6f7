//! `gateway …` and `identity …`: over the socket when a daemon runs, else by an offline request.

use clawchat_ipc::{ErrorCode, Request, Secret};
use clawchat_types::{Network, Nick};
use serde_json::{Value, json};

use super::Context;
use super::peers::with_status;
use crate::args::{
    GatewayCommand, HostedAddArgs, HostedCommand, IdentityCommand, InitArgs, NetworkArgs, WordsArgs,
};
use crate::failure::{Failure, Outcome};
use crate::human;
use crate::link;
use crate::password::{self, PasswordSource};
use crate::render;

/// `gateway …`.
pub(super) fn gateway(context: &Context, command: GatewayCommand) -> Outcome {
    match command {
        GatewayCommand::Init(args) => init(context, args),
        GatewayCommand::Identity(command) => hosted(context, command),
    }
}

/// `identity …`.
pub(super) fn identity(context: &Context, command: IdentityCommand) -> Outcome {
    let source = &context.settings.password;
    let answer = match command {
        IdentityCommand::Create { nick, network, words } => {
            let nick = nick.as_deref().map(parsed_nick).transpose()?;
            let network = network.chosen();
            match words.given()? {
                Some(mnemonic) => admin(
                    context,
                    Request::IdentityRecover {
                        mnemonic,
                        nick,
                        network,
                        password: Some(source.new_one()?),
                    },
                )?,
                None => admin(
                    context,
                    Request::IdentityCreate {
                        nick,
                        network,
                        password: Some(source.new_one()?),
                    },
                )?,
            }
        }
        IdentityCommand::Recover { nick, network, words } => {
            let nick = nick.as_deref().map(parsed_nick).transpose()?;
            let mnemonic = words.required()?;
            let password = Some(source.new_one()?);
            admin(
                context,
                Request::IdentityRecover {
                    mnemonic,
                    nick,
                    network: network.chosen(),
                    password,
                },
            )?
        }
        IdentityCommand::Show => {
            with_password_if_needed(context, |password| Request::IdentityShow { password })?
        }
        IdentityCommand::SetNick { name } => {
            let nick = parsed_nick(&name)?;
            with_password_if_needed(context, |password| Request::IdentitySetNick {
                nick: nick.clone(),
                password,
            })?
        }
        IdentityCommand::ClearNick => {
            with_password_if_needed(context, |password| Request::IdentityClearNick { password })?
        }
    };
    context.screen.answer(&answer, human::identity)
}

impl NetworkArgs {
    /// The network that was named, if one was.
    fn chosen(self) -> Option<Network> {
        match (self.testnet, self.mainnet) {
            (_, true) => Some(Network::Mainnet),
            (true, false) => Some(Network::Testnet),
            (false, false) => None,
        }
    }
}

impl WordsArgs {
    fn given(&self) -> Outcome<Option<Secret>> {
        if let Some(words) = &self.mnemonic {
            render::warn(
                "warning: --mnemonic is visible to other users of this machine; prefer --mnemonic-file FILE",
            );
            return Ok(Some(Secret::new(words.clone())));
        }
        self.mnemonic_file.as_deref().map(password::from_file).transpose()
    }

    fn required(&self) -> Outcome<Secret> {
        match self.given()? {
            Some(words) => Ok(words),
            None if password::can_ask() => password::ask("The 24 words: "),
            None => Err(Failure::usage(
                "the 24 words are needed and there is no terminal to ask for them",
                "give them with --mnemonic-file FILE",
            )),
        }
    }
}

fn init(context: &Context, args: InitArgs) -> Outcome {
    let nick = args.nick.as_deref().map(parsed_nick).transpose()?;
    let config = context.settings.home.join("gateway-config.json");
    if config.exists() {
        let message = format!("a gateway is set up already: {} exists", config.display());
        return Err(Failure::new(ErrorCode::AlreadyInitialized, message)
            .hint("add identities with: clawchat gateway identity add; or choose another --data-dir"));
    }
    let legacy = context.settings.home.join("identity.enc").exists();
    let migrate = !args.no_migrate && (!legacy || agreed_to_migrate(context)?);
    let password = if migrate && legacy {
        context
            .settings
            .password
            .existing("the identity that is taken over")?
    } else {
        context.settings.password.new_one()?
    };
    let request = Request::GatewayInit {
        port: Some(args.port),
        nick,
        network: args.network.chosen(),
        password: Some(password),
        mnemonic: None,
        migrate: Some(migrate),
    };
    context
        .screen
        .answer(&admin(context, request)?, human::initialized)
}

/// Asks a person; programs said it with a flag.
fn agreed_to_migrate(context: &Context) -> Outcome<bool> {
    if !context.screen.is_text() || !password::can_ask() {
        return Ok(true);
    }
    render::question("This folder holds an identity of an older version. Take it over? [Y/n] ")
}

fn hosted(context: &Context, command: HostedCommand) -> Outcome {
    match command {
        HostedCommand::Add(args) => add(context, args),
        HostedCommand::List => {
            let answer = admin(context, Request::IdentityList {})?;
            let answer = if answer.is_array() {
                json!({"identities": answer})
            } else {
                answer
            };
            context.screen.answer(&answer, human::identities)
        }
        HostedCommand::Remove { who } => {
            let answer = admin(context, Request::IdentityRemove { who })?;
            context
                .screen
                .answer(&with_status("removed", answer), human::status_word)
        }
        HostedCommand::Allow { who, peer } => {
            let answer = admin(context, Request::IdentityAllow { who, peer })?;
            context
                .screen
                .answer(&with_status("allowed", answer), human::status_word)
        }
        HostedCommand::Deny { who, peer } => {
            let answer = admin(context, Request::IdentityDeny { who, peer })?;
            context
                .screen
                .answer(&with_status("denied", answer), human::status_word)
        }
    }
}

fn add(context: &Context, args: HostedAddArgs) -> Outcome {
    let nick = args.nick.as_deref().map(parsed_nick).transpose()?;
    let principal = args
        .principal
        .as_deref()
        .map(|text| {
            text.parse().map_err(|error| {
                Failure::new(
                    ErrorCode::InvalidRequest,
                    format!("{text:?} is not a principal: {error}"),
                )
                .hint("a principal looks like stacks:ST… or stacks:SP…")
            })
        })
        .transpose()?;
    let request = |password: Option<Secret>| Request::IdentityAdd {
        nick: nick.clone(),
        principal,
        autoload: args.no_autoload.then_some(false),
        allow_peers: args.allow_peers.clone().unwrap_or_default(),
        password,
        mnemonic: None,
    };
    let answer = if principal.is_some() {
        with_password_if_needed(context, request)?
    } else {
        admin(context, request(Some(context.settings.password.new_one()?)))?
    };
    context
        .screen
        .answer(&with_status("added", answer), human::identity)
}

/// Asks the daemon if one runs, else by an offline request.
pub(super) fn admin(context: &Context, request: Request) -> Outcome<Value> {
    link::admin(&context.settings, context.acting(), request)
}

/// First with the password that was given, if any: a daemon, or a file in the identity's folder, may do without.
/// When that is not enough and somebody is there, they are asked.
fn with_password_if_needed(context: &Context, request: impl Fn(Option<Secret>) -> Request) -> Outcome<Value> {
    let source = &context.settings.password;
    let given = source.given()?;
    match admin(context, request(given)) {
        Err(failure)
            if failure.is(ErrorCode::PasswordRequired)
                && matches!(source, PasswordSource::Ask)
                && password::can_ask() =>
        {
            admin(context, request(Some(source.existing("the identity")?)))
        }
        other => other,
    }
}

/// A nickname.
///
/// # Errors
/// When it is none.
pub(super) fn parsed_nick(text: &str) -> Outcome<Nick> {
    text.parse().map_err(|error| {
        Failure::new(
            ErrorCode::InvalidRequest,
            format!("{text:?} is not a nickname: {error}"),
        )
        .hint("choose another one")
    })
}
