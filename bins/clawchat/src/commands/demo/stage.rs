//! The two gateways of the demonstration: making them, talking to them, and leaving nothing behind.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clawchat_ipc::{Call, ErrorCode, Request};
use clawchat_types::Content;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::commands::{Context, setup};
use crate::failure::{Failure, Outcome};
use crate::gone;
use crate::link::Link;
use crate::offline;
use crate::program::{self, Launch};
use crate::settings::Settings;

/// How long a gateway may take to end when it is told to.
const END_LIMIT: Duration = Duration::from_secs(6);
/// Where ports are looked for: below those the system gives to outgoing connections, one of which could otherwise take
/// a port until the gateway listens there.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// How many pairs of ports are tried.
const PORT_ATTEMPTS: u64 = 50;

/// The folder of the demonstration and the processes it started. Clones stand for the same.
#[derive(Clone)]
pub(super) struct Stage {
    folder: std::path::PathBuf,
    held: Arc<Mutex<Held>>,
}

struct Held {
    folder: Option<TempDir>,
    processes: Vec<Pid>,
    cleared: bool,
}

/// One of the two.
pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) principal: String,
    pub(super) address: String,
    settings: Settings,
}

impl Stage {
    /// An empty stage in a new temporary folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(super) fn new() -> Outcome<Self> {
        let folder = tempfile::Builder::new()
            .prefix("clawchat-demo-")
            .tempdir()
            .map_err(|error| {
                Failure::new(ErrorCode::Io, format!("cannot make a temporary folder: {error}"))
                    .hint("set TMPDIR to a folder you may write to")
            })?;
        let path = folder.path().to_owned();
        let held = Held {
            folder: Some(folder),
            processes: Vec::new(),
            cleared: false,
        };
        Ok(Self {
            folder: path,
            held: Arc::new(Mutex::new(held)),
        })
    }

    /// Where everything is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sets a gateway up and starts it.
    ///
    /// # Errors
    /// Whatever keeps it from serving.
    pub(super) fn enter(&self, context: &Context, name: &'static str) -> Outcome<Side> {
        let settings = context.settings.elsewhere(self.folder.join(name));
        let port = free_ports()?;
        let request = Request::GatewayInit {
            port: Some(port),
            nick: Some(setup::parsed_nick(name)?),
            network: None,
            password: None,
            mnemonic: None,
            migrate: Some(false),
        };
        let mut stand_in = 0;
        let made = offline::ask_by(&settings.home, &Call::new(request), |command| {
            let child = self.spawn(command)?;
            stand_in = child.id();
            Ok(child)
        });
        self.forget(stand_in);
        made?;
        let event = program::start_by(&settings.home, &Launch::default(), |command| self.spawn(command))?;
        let text = |name: &str| {
            event
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Ok(Side {
            name,
            principal: text("principal"),
            address: nearest(&event),
            settings,
        })
    }

    /// Whether somebody has cleared it already, or is about to.
    pub(super) fn is_cleared(&self) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).cleared
    }

    /// Ends every process and removes the folder. A second call, also from another thread, waits for the first.
    pub(super) fn clear(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.cleared = true;
        let processes = std::mem::take(&mut held.processes);
        for process in &processes {
            // One that has ended already needs no signal. Its id is still its own: it was not waited for.
            let _ = kill_process(*process, Signal::TERM);
        }
        for process in processes {
            if gone::process_ended(process, END_LIMIT) != Some(true) {
                let _ = kill_process(process, Signal::KILL);
                // Until then it may still make files.
                let _ = gone::process_ended(process, END_LIMIT);
            }
        }
        // What cannot be removed now is left to the system's own cleaning of temporary folders.
        drop(held.folder.take());
        if self.folder.exists() {
            // A file was made while it was being removed. There are no more to come.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    /// Starts a process of this stage. Whoever clears it waits until that is done, and ends it.
    ///
    /// # Errors
    /// What the system says, and when the stage was cleared meanwhile: nothing more is to be started.
    fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.cleared {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let child = command.spawn()?;
        held.processes.push(Pid::from_child(&child));
        Ok(child)
    }

    /// Its end was seen: its id may be somebody else's from now on.
    fn forget(&self, process: u32) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.processes
            .retain(|known| u32::try_from(known.as_raw_nonzero().get()) != Ok(process));
    }
}

impl Side {
    /// Remembers where the other one is, under its name.
    ///
    /// # Errors
    /// What the daemon says.
    pub(super) fn learn(&self, other: &Self) -> Outcome {
        let principal = other.principal.parse().map_err(|_| {
            Failure::new(
                ErrorCode::Internal,
                format!("{} said no principal at its start", other.name),
            )
        })?;
        let request = Request::PeerAdd {
            principal: Some(principal),
            address: Some(other.address.clone()),
            alias: Some(other.name.to_owned()),
            invite: None,
        };
        self.link()?.call(None, request).map(drop)
    }

    /// Asks this gateway something that may take as long as `wait`.
    ///
    /// # Errors
    /// What the daemon says.
    pub(super) fn call_waiting(&self, request: Request, wait: Duration) -> Outcome<Value> {
        self.link()?.call_waiting(None, request, wait)
    }

    /// The next message nobody has read yet.
    ///
    /// # Errors
    /// When none comes in time.
    pub(super) fn next_message(&self, limit: Duration) -> Outcome<Value> {
        let request = Request::Recv {
            since: None,
            timeout: Some(limit),
            from: None,
            limit: Some(1),
            unread: true,
            after: None,
        };
        let messages = self.call_waiting(request, limit)?;
        let first = messages.as_array().and_then(|messages| messages.first());
        first
            .cloned()
            .ok_or_else(|| Failure::new(ErrorCode::Timeout, format!("{} received nothing", self.name)))
    }

    /// Answers a message and waits until the answer is delivered, as long as that limit.
    ///
    /// # Errors
    /// What the daemon says.
    pub(super) fn reply(&self, message: &Value, content: Content, limit: Duration) -> Outcome {
        let id = message.get("id").and_then(Value::as_str).unwrap_or_default();
        let reply_to = id
            .parse()
            .map_err(|_| Failure::new(ErrorCode::Internal, format!("{id:?} is not a message id")))?;
        let request = Request::Reply {
            reply_to,
            content,
            payload: None,
            wait: Some(limit),
            expires: None,
        };
        self.call_waiting(request, limit).map(drop)
    }

    fn link(&self) -> Outcome<Link> {
        Link::open(&self.settings.home, &self.settings.socket())
    }
}

/// A port that is free for TCP and UDP, and the next one for TCP: what a gateway listens on.
fn free_ports() -> Outcome<u16> {
    let any = Ipv4Addr::UNSPECIFIED;
    let pairs = u64::from((PORTS.end - PORTS.start) / 2);
    let first = RandomState::new().build_hasher().finish() % pairs;
    (first..first + PORT_ATTEMPTS)
        .filter_map(|pair| u16::try_from(2 * (pair % pairs)).ok())
        .map(|offset| PORTS.start + offset)
        .find(|port| {
            let tcp = [*port, port + 1].map(|port| TcpListener::bind((any, port)));
            tcp.iter().all(Result::is_ok) && UdpSocket::bind((any, *port)).is_ok()
        })
        .ok_or_else(|| Failure::new(ErrorCode::Network, "found no free pair of ports").hint("try again"))
}

/// The address that stays on this machine, else the first.
fn nearest(event: &Value) -> String {
    let addresses = || {
        event
            .get("multiaddrs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    };
    let plain = |address: &&str| address.starts_with("/ip4/127.0.0.1/tcp/") && !address.contains("/ws");
    addresses()
        .find(plain)
        .or_else(|| addresses().next())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_nearest_address_is_plain_tcp_on_loopback() {
        let event = json!({"multiaddrs": [
            "/ip4/10.0.0.1/tcp/1/p2p/x", "/ip4/127.0.0.1/tcp/2/ws/p2p/x", "/ip4/127.0.0.1/tcp/1/p2p/x",
        ]});
        assert_eq!(nearest(&event), "/ip4/127.0.0.1/tcp/1/p2p/x");
        assert_eq!(
            nearest(&json!({"multiaddrs": ["/ip4/10.0.0.1/tcp/1"]})),
            "/ip4/10.0.0.1/tcp/1"
        );
        assert_eq!(nearest(&json!({})), "");
    }

    #[test]
    fn a_cleared_stage_leaves_no_folder() {
        let stage = Stage::new().unwrap();
        let folder = stage.folder().to_owned();
        assert!(folder.is_dir());
        stage.clear();
        assert!(!folder.exists());
        stage.clear();
    }
}
