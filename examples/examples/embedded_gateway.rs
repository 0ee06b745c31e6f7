//! A whole gateway inside this program: two identities, one writes to the other.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use clawchat_gateway::home::Home;
use clawchat_gateway::{Gateway, GatewayOptions, admin};
use clawchat_ipc::Call;
use clawchat_ipc::client::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc;

const PASSWORD: &str = "correct horse battery";
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let home = Home::at(folder.path().join("home"));

    // What `clawchat gateway init` and `clawchat gateway identity add` do while no daemon runs.
    for request in [
        json!({ "cmd": "gateway_init", "nick": "alice", "password": PASSWORD }),
        json!({ "cmd": "identity_add", "nick": "bob", "password": PASSWORD }),
    ] {
        let made = admin::run_offline(&home, Call::from_value(request)?)?;
        println!("{} is {}", made["nick"], made["principal"]);
    }

    // Port 0: any that is free.
    let password = Some(clawchat_ipc::Secret::new(PASSWORD));
    let options = GatewayOptions {
        home: home.root().to_owned(),
        port: Some(0),
        password,
        openclaw_wake: false,
    };
    let gateway = Gateway::start(options).await?;
    println!("listening on {}", gateway.started()["multiaddrs"]);

    // The gateway serves while `run` is awaited, until it is told to stop or to read its configuration again.
    let (_reload, reloads) = mpsc::channel(1);
    let serving = tokio::spawn(gateway.run(std::future::pending(), reloads));
    let socket = home.socket_path();
    let talk = tokio::task::spawn_blocking(move || converse(&socket).map_err(|error| error.to_string()));
    talk.await??;
    serving.await?;
    println!("the gateway has stopped");
    Ok(())
}

/// What a bot would do, over the local socket. The client blocks.
fn converse(socket: &Path) -> Result<(), Box<dyn Error>> {
    let mut client = Client::connect(socket, Some(LIMIT))?;
    let wait = u64::try_from(LIMIT.as_millis())?;
    let receipt = client.call_value(
        &json!({ "cmd": "send", "as": "alice", "to": "bob", "content": "Hello!", "wait": wait }),
    )?;
    assert_eq!(receipt["status"], "delivered");
    println!("alice's message is on bob's disk");

    let unread = client.call_value(&json!({ "cmd": "recv", "as": "bob", "unread": true }))?;
    let [message] = unread.as_array().map(Vec::as_slice).unwrap_or_default() else {
        return Err(format!("not one message, but {unread}").into());
    };
    assert_eq!(
        (&message["content"], &message["id"]),
        (&Value::from("Hello!"), &receipt["id"])
    );
    println!("bob reads {} from {}", message["content"], message["fromNick"]);

    client.call_value(&json!({ "cmd": "stop" }))?;
    Ok(())
}
