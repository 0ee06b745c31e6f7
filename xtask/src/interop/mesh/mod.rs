//! Scenarios of the mesh: our peers beside an independent one on Node.

pub(super) mod away;
pub(super) mod meeting;
pub(super) mod talk;

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::peer::Peer;
use super::stage::Stage;
use crate::gateways::{self, Outcome, free_ports};

/// The channel of all scenarios.
const LOBBY: &str = "lobby";
/// Longest history asked for at once.
const MAX_HISTORY: usize = 1000;

/// `clawchatd mesh`: set up once, started as often as is needed.
struct Ours<'a> {
    stage: &'a Stage<'a>,
    name: String,
    home: PathBuf,
    /// 0 before the first start; then always the same.
    port: u16,
    bootstrap: Option<String>,
    peers: Vec<String>,
    running: Option<Peer>,
    peer_id: String,
}

impl<'a> Ours<'a> {
    /// Nothing runs yet.
    fn new(stage: &'a Stage<'a>, name: &str) -> Self {
        Self {
            stage,
            name: name.to_owned(),
            home: stage.path(name),
            port: 0,
            bootstrap: None,
            peers: Vec::new(),
            running: None,
            peer_id: String::new(),
        }
    }

    /// One that runs and knows nobody.
    fn started(stage: &'a Stage<'a>, name: &str) -> Outcome<Self> {
        let mut ours = Self::new(stage, name);
        ours.start()?;
        Ok(ours)
    }

    /// Configured by the environment alone, as the original is.
    fn start(&mut self) -> Outcome {
        if self.port == 0 {
            // Not one the system chooses: an outgoing connection of another scenario could have it when ours comes back.
            self.port = free_ports()?;
        }
        let mut command = Command::new(self.stage.ours("clawchatd"));
        command.arg("mesh").arg("--data-dir").arg(&self.home);
        for url in &self.peers {
            command.arg("--peer").arg(url);
        }
        command
            .env("PORT", self.port.to_string())
            .env("HOST", "127.0.0.1")
            .env("MESH_STORE_PATH", self.home.join("messages"))
            .env("MESH_KEY_DIR", self.home.join("keys"))
            .env_remove("MESH_PEER_PORT")
            .env_remove("MESH_BOOTSTRAP_URL");
        if let Some(url) = &self.bootstrap {
            command.env("MESH_BOOTSTRAP_URL", url);
        }
        let title = format!("{} (clawchatd mesh)", self.name);
        let mut running = self.stage.program(&title, command, "started")?;
        let started = running.event("started")?;
        if started["port"] != self.port {
            return Err(format!("{}: not at port {}: {started}", self.name, self.port));
        }
        let peer_id = gateways::text(&started, "peerId")?;
        if !self.peer_id.is_empty() && self.peer_id != peer_id {
            return Err(format!("{}: it came back as somebody else", self.name));
        }
        self.peer_id = peer_id;
        self.running = Some(running);
        Ok(())
    }

    /// SIGKILL.
    fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
        }
    }

    /// SIGTERM, and until it has ended.
    fn stop(&mut self) -> Outcome {
        self.running.take().map_or(Ok(()), Peer::stop)
    }

    fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    fn clawchat(&self, arguments: &[&str]) -> Outcome<Value> {
        gateways::clawchat(&self.stage.ours("clawchat"), &self.home, arguments)
    }

    /// Publishes in the lobby.
    fn say(&self, text: &str) -> Outcome {
        self.clawchat(&["channel", "send", LOBBY, text]).map(drop)
    }

    /// What it has of the lobby, from the first to the last, however much that is.
    fn history(&self) -> Outcome<Vec<Value>> {
        let limit = MAX_HISTORY.to_string();
        let mut all: Vec<Value> = Vec::new();
        loop {
            let mut arguments = vec!["channel", "history", LOBBY, "--limit", &limit];
            if let Some(first) = all.first() {
                arguments.extend(["--before", first["id"].as_str().unwrap_or_default()]);
            }
            let Value::Array(mut page) = self.clawchat(&arguments)? else {
                return Err(format!("{}: its history is no list", self.name));
            };
            if page.is_empty() {
                return Ok(all);
            }
            page.append(&mut all);
            all = page;
        }
    }

    /// Waits until its history has `count` messages, and checks that it has each once.
    fn history_of(&self, count: usize) -> Outcome<Vec<Value>> {
        let history = self
            .stage
            .until(&format!("{count} messages at {}", self.name), || {
                Ok(Some(self.history()?).filter(|history| history.len() >= count))
            })?;
        let ids: HashSet<&str> = history
            .iter()
            .filter_map(|message| message["id"].as_str())
            .collect();
        if history.len() != count || ids.len() != count {
            return Err(format!(
                "{} has {} messages with {} ids, not {count}",
                self.name,
                history.len(),
                ids.len()
            ));
        }
        Ok(history)
    }

    /// The links it has, once there are that many with a peer that said who it is.
    fn links(&self, count: usize) -> Outcome<Vec<Value>> {
        self.stage.until(&format!("{count} links of {}", self.name), || {
            let status = self.clawchat(&["daemon", "status"])?;
            let links = status["mesh"]["links"].as_array().cloned().unwrap_or_default();
            let known: Vec<Value> = links
                .into_iter()
                .filter(|link| link["peerId"].is_string())
                .collect();
            Ok(Some(known).filter(|known| known.len() >= count))
        })
    }
}

/// The peer on Node, with these arguments. One named in `key` has a key of its own in that folder.
fn node(stage: &Stage<'_>, name: &str, key: Option<&str>, arguments: &[&str]) -> Outcome<Peer> {
    let mut command = stage.mesh_command();
    match key {
        Some(folder) => command.arg("--key-dir").arg(stage.path(folder)),
        None => command.args(["--peer-id", name]),
    };
    command.arg("--timeout").arg(stage.left().as_secs().to_string());
    command.args(arguments);
    let ready = if arguments.contains(&"--listen") {
        "listening"
    } else {
        "identity"
    };
    stage.program(&format!("{name} (mesh peer)"), command, ready)
}

/// Who a peer on Node is.
fn identity(peer: &mut Peer) -> Outcome<String> {
    gateways::text(&peer.event("identity")?, "peer_id")
}

/// Where a peer on Node listens.
fn address(peer: &mut Peer) -> Outcome<String> {
    gateways::text(&peer.event("listening")?, "url")
}

/// Fails unless all these messages are from that sender and as trustworthy as said.
fn check_messages(messages: &[Value], sender: &str, verified: bool) -> Outcome {
    let wrong = messages
        .iter()
        .find(|message| message["sender"] != sender || message["verified"] != verified);
    wrong.map_or(Ok(()), |message| {
        Err(format!("not of {sender} with verified {verified}: {message}"))
    })
}

/// Fails unless the bodies are `text 1` to `text count`, in any order.
fn check_numbered(messages: &[Value], text: &str, count: usize) -> Outcome {
    let mut bodies: Vec<&str> = messages
        .iter()
        .filter_map(|message| message["body"].as_str())
        .collect();
    let mut expected: Vec<String> = (1..=count).map(|number| format!("{text} {number}")).collect();
    bodies.sort_unstable();
    expected.sort_unstable();
    if bodies == expected {
        Ok(())
    } else {
        Err(format!("{} bodies are not {text:?} 1 to {count}", bodies.len()))
    }
}

/// A list of peers as it stands in a file.
fn list(entries: &[(&str, &str)]) -> String {
    let entries: Vec<Value> = entries
        .iter()
        .map(|(peer, url)| {
            json!({"peer_id": peer, "ws_url": url, "capabilities": {"relay": true, "store": true}})
        })
        .collect();
    json!({"version": 1, "peers": entries, "updated_at": "2026-01-02T03:04:05Z"}).to_string()
}
