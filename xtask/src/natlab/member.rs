//! Real gateways on the machines of the lab.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clawchat_ipc::client::Client;
use serde_json::{Value, json};

use super::kind::PORT;
use super::space::{Lab, Space};
use crate::gateways::{Gateway, Outcome, PASSWORD, text};

/// How long a gateway may take to know how others reach it.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// What they log: enough to see why two did not come together as they should.
const LOG_FILTER: &str = "info,clawchat_node=debug,clawchat_gateway=debug,libp2p_dcutr=debug";
/// Ports a router forwards to it: TCP, QUIC and WebSocket.
const FORWARDED: usize = 3;
/// Messages asked for at a time.
const PAGE: u64 = 500;

/// The programs that are put to the test.
pub(super) struct Programs {
    clawchatd: PathBuf,
    clawchat: PathBuf,
}

impl Programs {
    /// Those in a folder.
    pub(super) fn of(folder: &Path) -> Self {
        Self {
            clawchatd: folder.join("clawchatd"),
            clawchat: folder.join("clawchat"),
        }
    }
}

/// A running gateway on one of the machines, and what it has received so far.
pub(super) struct Member<'a> {
    gateway: Gateway,
    programs: &'a Programs,
    space: Space,
    inbox: Option<Client>,
    /// The arrival number of the last message read.
    read: u64,
    received: Vec<String>,
}

impl<'a> Member<'a> {
    /// One with an address of its own that helps everybody, at the address given.
    pub(super) fn relay(programs: &'a Programs, space: &Space, name: &str) -> Outcome<Self> {
        Self::start(programs, space, name, &json!({ "relay": { "serve": "anyone" } }))
    }

    /// One that knows these relays.
    pub(super) fn client(
        programs: &'a Programs,
        space: &Space,
        name: &str,
        relays: &[String],
    ) -> Outcome<Self> {
        Self::start(programs, space, name, &json!({ "relays": relays }))
    }

    fn start(programs: &'a Programs, space: &Space, name: &str, config: &Value) -> Outcome<Self> {
        let mut gateway = Gateway::prepare(&programs.clawchatd, name)?;
        gateway.init(&json!({ "password": PASSWORD, "port": PORT }))?;
        gateway.log(LOG_FILTER);
        gateway.configure(|all| all.extend(config.as_object().cloned().unwrap_or_default()))?;
        space.run(|| gateway.start())?;
        Ok(Self {
            gateway,
            programs,
            space: space.clone(),
            inbox: None,
            read: 0,
            received: Vec::new(),
        })
    }

    /// Ends it without a word.
    pub(super) fn kill(&mut self) {
        self.gateway.kill();
    }

    /// The nickname of its identity.
    pub(super) fn name(&self) -> &str {
        self.gateway.name()
    }

    /// Who it is.
    pub(super) fn principal(&self) -> &str {
        self.gateway.principal()
    }

    /// Where it keeps what it logs.
    pub(super) fn log(&self) -> PathBuf {
        self.gateway.log_path()
    }

    /// The last lines of that.
    pub(super) fn end_of_log(&self, count: usize) -> String {
        self.gateway.end_of_log(count)
    }

    /// Its home folder.
    pub(super) fn home(&self) -> PathBuf {
        self.gateway.home()
    }

    /// Where it can be dialed if it has that address.
    pub(super) fn addresses(&self, at: Ipv4Addr) -> Vec<String> {
        let peer = self.gateway.peer_id();
        vec![
            format!("/ip4/{at}/tcp/{PORT}/p2p/{peer}"),
            format!("/ip4/{at}/udp/{PORT}/quic-v1/p2p/{peer}"),
        ]
    }

    /// `clawchat` with these arguments, on the same machine.
    pub(super) fn clawchat(&self, arguments: &[&str]) -> Outcome<Value> {
        let (gateway, programs) = (&self.gateway, self.programs);
        let home = gateway.home();
        self.space
            .run(|| crate::gateways::clawchat(&programs.clawchat, &home, arguments))
            .map_err(|reason| format!("{}: {reason}", gateway.name()))
    }

    /// What `clawchat daemon status` says.
    pub(super) fn status(&self) -> Outcome<Value> {
        self.clawchat(&["daemon", "status"])
    }

    /// Waits until it knows how others reach it: by an address of its own, or through that many relays. How long that
    /// took, `None` when it did not happen.
    pub(super) fn ready(&self, lab: &Lab, relays: usize) -> Outcome<Option<Duration>> {
        let begun = Instant::now();
        lab.until(begun + READY_LIMIT, || {
            let status = self.status()?;
            Ok(is_reachable(&status["nat"], relays).then(|| begun.elapsed()))
        })
    }

    /// Waits until its router forwards all ports to it, likewise.
    pub(super) fn mapped(&self, lab: &Lab) -> Outcome<Option<Duration>> {
        let begun = Instant::now();
        lab.until(begun + READY_LIMIT, || {
            let nat = &self.status()?["nat"];
            let mapped = nat["mapped"].as_array().map_or(0, Vec::len);
            Ok((nat["reachability"] == "mapped" && mapped == FORWARDED).then(|| begun.elapsed()))
        })
    }

    /// Whether it holds a direct connection with that one which began with a relay.
    pub(super) fn has_punched(&self, other: &Self) -> Outcome<bool> {
        let status = self.gateway.ask(&json!({ "cmd": "status" }))?;
        let peer = other.gateway.peer_id();
        let mut punched = status["nat"]["punchedPeers"].as_array().into_iter().flatten();
        Ok(punched.any(|entry| entry == peer))
    }

    /// Learns of another by the invite that one hands out.
    pub(super) fn add(&self, other: &Self, alias: &str) -> Outcome {
        let invite = text(&other.status()?, "invite")?;
        self.clawchat(&["peers", "add", &invite, "--alias", alias])
            .map(drop)
    }

    /// Hands a message over for somebody.
    pub(super) fn send(&self, to: &str, content: &str) -> Outcome {
        self.clawchat(&["send", to, content]).map(drop)
    }

    /// All messages that have arrived by now.
    pub(super) fn received(&mut self) -> Outcome<&[String]> {
        if self.inbox.is_none() {
            self.inbox = Some(self.gateway.connect()?);
        }
        let Some(client) = &mut self.inbox else {
            return Ok(&self.received);
        };
        let request = json!({ "cmd": "inbox", "after": self.read, "limit": PAGE });
        let page = client
            .call_value(&request)
            .map_err(|error| format!("the inbox of {}: {error}", self.gateway.name()))?;
        for entry in page.as_array().into_iter().flatten() {
            self.read = entry["arrival"].as_u64().unwrap_or(self.read);
            self.received.push(text(entry, "content")?);
        }
        Ok(&self.received)
    }
}

/// Whether the `nat` part of a status says that others get through: publicly, or by as many relays.
fn is_reachable(nat: &Value, relays: usize) -> bool {
    let count = |list: &str| nat[list].as_array().map_or(0, Vec::len);
    let placed = nat["relays"].as_array().into_iter().flatten();
    count("public") > 0 || placed.filter(|relay| relay["state"] == "placed").count() >= relays.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reachable_is_who_has_an_address_or_places_enough() {
        let relay = |state: &str| json!({ "peer": "x", "state": state });
        assert!(!is_reachable(&json!({}), 1));
        assert!(is_reachable(&json!({ "public": ["/ip4/11.7.0.1/tcp/9000"] }), 2));
        let one = json!({ "relays": [relay("placed"), relay("trying")] });
        assert!(is_reachable(&one, 1));
        assert!(!is_reachable(&one, 2));
    }
}
