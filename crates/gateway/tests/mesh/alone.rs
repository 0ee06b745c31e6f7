//! A mesh peer by itself.

use clawchat_gateway::config::MeshSettings;
use clawchat_gateway::{MeshDaemon, MeshDaemonOptions};
use clawchat_testkit::Person;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::common::{eventually, within};
use crate::support::Peer;

#[tokio::test(flavor = "multi_thread")]
async fn it_needs_nothing_and_serves_channels() {
    let bob = Peer::start(Person::Bob, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let options = || {
        let mut settings = MeshSettings::default();
        settings.listen = Some("127.0.0.1:0".parse().unwrap());
        settings.peers = vec![bob.url()];
        MeshDaemonOptions {
            home: folder.path().join("home"),
            keys: Some(folder.path().join("keys")),
            store: Some(folder.path().join("store")),
            settings,
        }
    };
    let mut names = Vec::new();
    for round in 1..=2 {
        let daemon = MeshDaemon::start(options()).await.unwrap();
        let started = daemon.started();
        names.push(started["peerId"].clone());
        assert_ne!(started["port"], 0);
        let socket = folder.path().join("home/clawchat.sock");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(daemon.run(async {
            let _ = stopped.await;
        }));
        let ask = async |request: Value| ask(&socket, request).await;
        let sent =
            ask(json!({ "cmd": "channel_send", "channel": "lobby", "body": format!("round {round}") })).await;
        assert_eq!(sent["ok"], true, "{sent}");
        bob.bodies_once("lobby", round).await;
        let refused = ask(json!({ "cmd": "send", "to": "bob", "content": "x" })).await;
        assert_eq!(refused["code"], "unsupported", "{refused}");
        let status = ask(json!({ "cmd": "status" })).await;
        assert_eq!(status["data"]["running"], true);
        assert_eq!(status["data"]["mesh"]["peerId"], started["peerId"]);
        drop(stop);
        within(serving).await.unwrap();
        eventually("bob notices", async || bob.links().await.is_empty().then_some(())).await;
    }
    assert_eq!(names[0], names[1], "the key is made once");

    std::fs::remove_dir_all(folder.path().join("store")).unwrap();
    std::fs::write(folder.path().join("store"), "a database of the original").unwrap();
    let failure = MeshDaemon::start(options()).await.unwrap_err();
    assert!(failure.message.contains("is a file"), "{failure}");
}

async fn ask(socket: &std::path::Path, request: Value) -> Value {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(format!("{request}\n").as_bytes()).await.unwrap();
    let mut line = String::new();
    within(BufReader::new(stream).read_line(&mut line)).await.unwrap();
    serde_json::from_str(&line).unwrap()
}
