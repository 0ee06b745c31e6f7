//! Gateways that take part in the mesh.

use clawchat_testkit::Person;
use serde_json::{Value, json};

use crate::common::{Caller, Gate, eventually, free_port};

/// A gateway of one person, with a port for peers of the mesh.
pub(crate) struct Peer {
    pub(crate) gate: Gate,
    person: Person,
    port: u16,
}

impl Peer {
    /// One that listens, and dials these. It does not run yet.
    pub(crate) fn set_up(person: Person, neighbours: &[&Self]) -> Self {
        let port = free_port();
        let urls: Vec<String> = neighbours.iter().map(|peer| peer.url()).collect();
        let mesh = json!({ "enabled": true, "listen": format!("127.0.0.1:{port}"), "peers": urls });
        Self::with(person, port, mesh)
    }

    /// The same, and it runs.
    pub(crate) async fn start(person: Person, neighbours: &[&Self]) -> Self {
        let mut peer = Self::set_up(person, neighbours);
        peer.gate.start().await;
        peer
    }

    /// One without a port of its own.
    pub(crate) async fn without_port(person: Person) -> Self {
        let mut peer = Self::with(person, 0, json!({ "enabled": true }));
        peer.gate.start().await;
        peer
    }

    pub(crate) fn with(person: Person, port: u16, mesh: Value) -> Self {
        let gate = Gate::set_up(&[person]);
        gate.edit(|config| config["mesh"] = mesh);
        Self { gate, person, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    pub(crate) fn caller(&self) -> Caller {
        self.gate.caller(self.person)
    }

    pub(crate) fn person(&self) -> Person {
        self.person
    }

    pub(crate) async fn restart(&mut self) {
        self.gate.stop().await;
        self.gate.start().await;
    }

    pub(crate) async fn ok(&self, request: Value) -> Value {
        self.caller().ok(request).await
    }

    /// What it is called in the mesh.
    pub(crate) async fn name(&self) -> String {
        let status = self.ok(json!({ "cmd": "status" })).await;
        status["mesh"]["peerId"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn links(&self) -> Vec<Value> {
        let status = self.ok(json!({ "cmd": "status" })).await;
        status["mesh"]["links"].as_array().unwrap().clone()
    }

    /// Waits until it has shaken hands with that many neighbours.
    pub(crate) async fn with_neighbours(&self, count: usize) -> Vec<Value> {
        eventually("neighbours", async || {
            let mut links = self.links().await;
            links.retain(|link| link["peerId"].is_string());
            (links.len() == count).then_some(links)
        })
        .await
    }

    pub(crate) async fn send(&self, channel: &str, body: &str) -> String {
        let sent = self
            .ok(json!({ "cmd": "channel_send", "channel": channel, "body": body }))
            .await;
        assert_eq!(sent["status"], "sent");
        sent["id"].as_str().unwrap().to_owned()
    }

    /// Everything in a channel, in the order of display.
    pub(crate) async fn history(&self, channel: &str) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let mut request = json!({ "cmd": "channel_history", "channel": channel, "limit": 1000 });
            if let Some(first) = all.first() {
                request["before"] = first["id"].clone();
            }
            let page = self.ok(request).await.as_array().unwrap().clone();
            if page.is_empty() {
                return all;
            }
            all.splice(0..0, page);
        }
    }

    pub(crate) async fn bodies(&self, channel: &str) -> Vec<String> {
        bodies(&self.history(channel).await)
    }

    /// Waits until that many messages are in a channel.
    pub(crate) async fn bodies_once(&self, channel: &str, count: usize) -> Vec<String> {
        eventually(&format!("{count} messages in {channel}"), async || {
            (self.count(channel).await >= count).then_some(())
        })
        .await;
        self.bodies(channel).await
    }

    /// Messages in a channel.
    pub(crate) async fn count(&self, channel: &str) -> usize {
        let channels = self.ok(json!({ "cmd": "channel_list" })).await;
        let found = channels
            .as_array()
            .unwrap()
            .iter()
            .find(|known| known["channel"] == channel)
            .cloned();
        found.map_or(0, |found| found["count"].as_u64().unwrap() as usize)
    }

    /// The names of the channels that are joined.
    pub(crate) async fn joined(&self) -> Vec<String> {
        let channels = self.ok(json!({ "cmd": "channel_list" })).await;
        let channels = channels.as_array().unwrap().iter();
        channels
            .filter(|channel| channel["joined"] == true)
            .map(|channel| channel["channel"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// The texts of messages.
pub(crate) fn bodies(messages: &[Value]) -> Vec<String> {
    messages
        .iter()
        .map(|message| message["body"].as_str().unwrap().to_owned())
        .collect()
}

/// What makes a message that message, wherever it is kept.
pub(crate) fn kept_alike(messages: &[Value]) -> Vec<Value> {
    messages
        .iter()
        .map(|message| {
            json!([
                message["id"],
                message["sender"],
                message["body"],
                message["timestamp"],
                message["verified"]
            ])
        })
        .collect()
}
