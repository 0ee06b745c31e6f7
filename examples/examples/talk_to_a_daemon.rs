//! Asks a running gateway who it is and what it received last:
//! `cargo run -p clawchat-examples --example talk_to_a_daemon [SOCKET]`.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clawchat_ipc::client::{Client, ClientError};
use clawchat_ipc::{Call, Request};
use serde_json::Value;

/// How long each answer may take.
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let socket = env::args_os().nth(1).map_or_else(default_socket, PathBuf::from);
    println!("asking {}", socket.display());
    let mut client = match Client::connect(&socket, Some(LIMIT)) {
        Ok(client) => client,
        Err(ClientError::NotRunning { .. }) => {
            println!("no daemon listens there; start one with 'clawchat up', or give another socket");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };

    // A typed request: its fields are checked by the compiler.
    let status = client.call(&Call::new(Request::Status))?;
    assert_eq!(status["running"], true);
    println!(
        "it is {} and has {} messages",
        status["principal"], status["inboxCount"]
    );

    // Several at once: the answers come in the order of the requests.
    let last = status["inboxCount"]
        .as_u64()
        .unwrap_or_default()
        .saturating_sub(1);
    let inbox = Request::Inbox {
        after: Some(last),
        limit: Some(1),
    };
    client.send_many(&[Call::new(Request::Peers), Call::new(inbox)])?;
    let [peers, inbox] = [client.receive()?.result?, client.receive()?.result?];
    println!("it knows {} peers", peers.as_array().map_or(0, Vec::len));
    for message in inbox.as_array().into_iter().flatten() {
        println!(
            "the last message is from {}: {}",
            message["from"], message["content"]
        );
    }

    // Any other program does the same with one line of JSON. What goes wrong has a code to branch on.
    let request: Value = serde_json::from_str(r#"{"cmd":"send","to":"nobody you know","content":"hello?"}"#)?;
    match client.call_value(&request) {
        Err(ClientError::Refused(failure)) => println!("refused with {}: {failure}", failure.code),
        other => return Err(format!("a message to nobody was answered with {other:?}").into()),
    }
    Ok(())
}

fn default_socket() -> PathBuf {
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let folder = env::var_os("CLAWCHAT_DATA_DIR").map_or_else(|| home.join(".clawchat"), PathBuf::from);
    folder.join("clawchat.sock")
}
