//! `up`: from nothing to a gateway others can reach, in one command that can be repeated.

use clawchat_ipc::Request;
use clawchat_types::Network;
use serde_json::{Map, Value};

use super::{Context, daemon, setup};
use crate::args::UpArgs;
use crate::failure::Outcome;
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

/// Creates what is missing, starts what is not running, and tells where others reach it.
pub(super) fn run(context: &Context, args: &UpArgs) -> Outcome {
    let settings = &context.settings;
    let mut answer = Map::new();
    answer.insert("status".to_owned(), Value::from("up"));
    answer.insert("created".to_owned(), Value::Bool(false));
    answer.insert("started".to_owned(), Value::Bool(false));

    let running = match Link::try_open(&settings.socket())? {
        Some(link) => Some(link),
        None => {
            if !settings.home.join("gateway-config.json").exists() {
                let created = create(context, args)?;
                answer.insert("created".to_owned(), Value::Bool(true));
                take(
                    &mut answer,
                    &created,
                    &[
                        "principal",
                        "address",
                        "nick",
                        "network",
                        "mnemonic",
                        "passwordFile",
                    ],
                );
            }
            None
        }
    };
    let mut link = match running {
        Some(link) => {
            if args.port.is_some() {
                context
                    .screen
                    .note("The daemon is running already; --port counts from its next start.");
            }
            link
        }
        None => {
            let launch = Launch {
                port: args.port,
                openclaw_wake: false,
                password: daemon::password_for(settings)?,
            };
            let event = program::start(&settings.home, &launch)?;
            answer.insert("started".to_owned(), Value::Bool(true));
            take(&mut answer, &event, &SHOWN);
            context.link()?
        }
    };
    let status = daemon::status_of(&mut link, context.acting())?;
    take(&mut answer, &status, &SHOWN);
    context.screen.answer(&Value::Object(answer), human::up)
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

fn take(answer: &mut Map<String, Value>, from: &Value, fields: &[&str]) {
    for field in fields {
        if let Some(value) = from.get(field).filter(|value| !value.is_null()) {
            answer.insert((*field).to_owned(), value.clone());
        }
    }
}
