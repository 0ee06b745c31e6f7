//! `up`: from nothing to a gateway others can reach, in one command that can be repeated.

use std::thread;
use std::time::{Duration, Instant};

use clawchat_ipc::{ErrorCode, Request};
use clawchat_types::{Network, Principal};
use serde_json::{Map, Value};

use super::{Context, daemon, setup};
use crate::args::UpArgs;
use crate::failure::{Failure, Outcome};
use crate::human;
use crate::link::Link;
use crate::program::{self, Launch};

/// What of a status, and of a fresh setup, is worth showing.
const SHOWN: [&str; 9] = [
    "principal",
    "address",
    "nick",
    "peerId",
    "p2pPort",
    "multiaddrs",
    "invite",
    "pid",
    "version",
];

/// How long somebody else who sets up or starts the same gateway at this moment is waited for.
const OTHERS_LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked whether they are done.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Creates what is missing, starts what is not running, and tells where others reach it.
pub(super) fn run(context: &Context, args: &UpArgs) -> Outcome {
    let mut answer = Map::new();
    answer.insert("status".to_owned(), Value::from("up"));
    answer.insert("created".to_owned(), Value::Bool(false));
    answer.insert("started".to_owned(), Value::Bool(false));

    let deadline = Instant::now() + OTHERS_LIMIT;
    let warnings = loop {
        match bring_up(context, args, &mut answer) {
            Ok(warnings) => break warnings,
            Err(failure) if is_in_other_hands(&failure) && Instant::now() < deadline => {
                thread::sleep(LOOK_EVERY);
            }
            // The words of an identity that was made are shown this once, or never.
            Err(failure) if answer.get("created") == Some(&Value::Bool(true)) => {
                answer.remove("status");
                return Err(failure.detail("data", Value::Object(answer)));
            }
            Err(failure) => return Err(failure),
        }
    };
    let answer = context.screen.with_warnings(Value::Object(answer), &warnings);
    context.screen.answer(&answer, human::up)
}

/// Whether it failed because another command creates or starts this gateway just now.
fn is_in_other_hands(failure: &Failure) -> bool {
    [
        ErrorCode::AlreadyInitialized,
        ErrorCode::AlreadyRunning,
        ErrorCode::Busy,
    ]
    .into_iter()
    .any(|code| failure.is(code))
}

/// The same once, into `answer`. Returns what is not quite as it was asked for.
fn bring_up(context: &Context, args: &UpArgs, answer: &mut Map<String, Value>) -> Outcome<Vec<String>> {
    let settings = &context.settings;
    let running = Link::try_open(&settings.socket())?;
    if running.is_some() || settings.home.join("gateway-config.json").exists() {
        change(context, args)?;
    } else {
        let created = create(context, args)?;
        answer.insert("created".to_owned(), Value::Bool(true));
        take(
            answer,
            &created,
            &["principal", "address", "nick", "mnemonic", "passwordFile"],
        );
    }
    let mut warnings = Vec::new();
    let status = match running {
        Some(mut link) => {
            let status = daemon::status_of(&mut link, context.acting())?;
            warnings.extend(port_that_waits(args, &status));
            status
        }
        None => {
            let launch = Launch {
                password: daemon::password_for(settings)?,
                ..Launch::default()
            };
            let event = program::start(&settings.home, &launch)?;
            answer.insert("started".to_owned(), Value::Bool(true));
            take(answer, &event, &SHOWN);
            daemon::status_of(&mut context.link()?, context.acting())?
        }
    };
    warnings.extend(human::import_problems(&status));
    take(answer, &status, &SHOWN);
    describe(answer, &status);
    Ok(warnings)
}

/// A new gateway. Without a password the daemon's side draws one and keeps it beside the keys.
fn create(context: &Context, args: &UpArgs) -> Outcome<Value> {
    let nick = args.nick.as_deref().map(setup::parsed_nick).transpose()?;
    let request = Request::GatewayInit {
        port: args.port,
        nick,
        network: args.mainnet.then_some(Network::Mainnet),
        password: context.settings.password.given()?,
        mnemonic: None,
        migrate: Some(true),
    };
    setup::admin(context, request)
}

/// What the flags say of a gateway that is there: checked first, then kept in its configuration.
fn change(context: &Context, args: &UpArgs) -> Outcome {
    let nick = args.nick.as_deref().map(setup::parsed_nick).transpose()?;
    if args.mainnet {
        refuse_testnet(&setup::admin(context, Request::IdentityList {})?)?;
    }
    if let Some(nick) = nick {
        setup::admin(context, Request::IdentitySetNick { nick, password: None })?;
    }
    if let Some(port) = args.port {
        setup::admin(context, Request::GatewaySet { port })?;
    }
    Ok(())
}

/// A gateway is on one network for good.
fn refuse_testnet(list: &Value) -> Outcome {
    let identities = list.get("identities").and_then(Value::as_array);
    let hosted = identities.into_iter().flatten().find_map(principal_of);
    if hosted.is_some_and(|principal| principal.network() == Network::Testnet) {
        return Err(Failure::new(
            ErrorCode::WrongNetwork,
            "this gateway is on the testnet; --mainnet cannot change that",
        )
        .hint("leave --mainnet out, or set up a second gateway in another --data-dir"));
    }
    Ok(())
}

fn principal_of(object: &Value) -> Option<Principal> {
    object.get("principal")?.as_str()?.parse().ok()
}

/// What to say when a running daemon listens on another port than was asked for.
fn port_that_waits(args: &UpArgs, status: &Value) -> Option<String> {
    let wanted = args.port?;
    let current = status.get("p2pPort").and_then(Value::as_u64)?;
    (current != u64::from(wanted)).then(|| {
        format!(
            "the running daemon stays on port {current}; {wanted} counts from its next start: clawchat daemon stop, then clawchat up"
        )
    })
}

/// Nickname, address and network of whoever the answer is about.
fn describe(answer: &mut Map<String, Value>, status: &Value) {
    let principal = status.get("principal").filter(|principal| principal.is_string());
    let loaded = status.get("loadedIdentities").and_then(Value::as_array);
    let nick = loaded
        .into_iter()
        .flatten()
        .find(|identity| identity.get("principal") == principal)
        .and_then(|identity| identity.get("nick"));
    if let Some(nick) = nick.filter(|nick| nick.is_string()) {
        answer.insert("nick".to_owned(), nick.clone());
    }
    if let Some(principal) = principal_of(status) {
        answer.insert("address".to_owned(), Value::from(principal.address()));
        answer.insert("network".to_owned(), Value::from(principal.network().to_string()));
    }
}

fn take(answer: &mut Map<String, Value>, from: &Value, fields: &[&str]) {
    for field in fields {
        if let Some(value) = from.get(field).filter(|value| !value.is_null()) {
            answer.insert((*field).to_owned(), value.clone());
        }
    }
}
