//! What a scenario is played with: gateways of ours, peers of the other kind, and patience until a deadline.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use clawchat_identity::{Mnemonic, Wallet};
use clawchat_ipc::Call;
use clawchat_types::Network;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::install::Installed;
use super::peer::{LastLines, Peer};
use crate::gateways::{self, Gateway, Outcome, PASSWORD};
use crate::storm;

/// How long a scenario is waited for. Nothing in it is measured by that.
const SCENARIO_LIMIT: Duration = Duration::from_secs(300);
/// What a peer is told that is to stay until it is ended, in seconds: longer than any scenario.
pub(super) const UNTIL_ENDED: &str = "1000";
/// Between two looks at something that is being waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Lines of a gateway's log that are shown when a scenario fails.
const LOG_LINES: usize = 30;

/// Everything of one scenario. Lives in one thread.
pub(super) struct Stage<'a> {
    programs: &'a Path,
    installed: &'a Installed,
    deadline: Instant,
    scratch: TempDir,
    cast: Rc<RefCell<Vec<(String, LastLines)>>>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(programs: &'a Path, installed: &'a Installed) -> Outcome<Self> {
        let scratch = tempfile::Builder::new()
            .prefix("clawchat-interop-")
            .tempdir()
            .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        Ok(Self {
            programs,
            installed,
            deadline: Instant::now() + SCENARIO_LIMIT,
            scratch,
            cast: Rc::default(),
        })
    }

    /// What everybody printed last.
    pub(super) fn last_lines(&self) -> String {
        let mut text = String::new();
        for (name, lines) in self.cast.borrow().iter() {
            text.push_str(&format!("  {name}:\n"));
            for line in lines.all() {
                text.push_str(&format!("    {line}\n"));
            }
        }
        text
    }

    /// A running gateway with one identity.
    pub(super) fn gateway(&self, name: &str) -> Outcome<Daemon> {
        self.gateway_with(name, |_| ())
    }

    /// The same, started with a changed configuration.
    pub(super) fn gateway_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Outcome<Daemon> {
        let mut daemon = self.gateway_at_rest(name)?;
        daemon.init(&json!({ "password": PASSWORD }))?;
        daemon.configure(change)?;
        daemon.start()?;
        Ok(daemon)
    }

    /// The same with the identity that [`Stage::peer`] gives a peer of that name.
    pub(super) fn gateway_as(&self, name: &str) -> Outcome<Daemon> {
        let mut daemon = self.gateway_at_rest(name)?;
        let words = words(name);
        daemon.init(&json!({ "password": PASSWORD, "mnemonic": words.expose_words() }))?;
        daemon.start()?;
        Ok(daemon)
    }

    fn gateway_at_rest(&self, name: &str) -> Outcome<Daemon> {
        let gateway = Gateway::prepare(&self.programs.join("clawchatd"), name)?;
        let log = LastLines::default();
        self.cast
            .borrow_mut()
            .push((format!("{name} (clawchatd)"), log.clone()));
        Ok(Daemon {
            gateway,
            clawchat: self.programs.join("clawchat"),
            log,
        })
    }

    /// Starts a peer. Its name decides who it is, and nothing else does.
    pub(super) fn peer<A: AsRef<OsStr>>(&self, name: &str, arguments: &[A]) -> Outcome<Peer> {
        let words_file = self.write(&format!("{name}.words"), words(name).expose_words())?;
        let mut command = self.installed.command();
        let left = self.deadline.saturating_duration_since(Instant::now());
        command
            .arg("--mnemonic-file")
            .arg(words_file)
            .arg("--timeout")
            .arg(left.as_secs().to_string());
        command.args(arguments);
        let lines = LastLines::default();
        self.cast
            .borrow_mut()
            .push((format!("{name} (peer)"), lines.clone()));
        Peer::start(name, command, self.deadline, lines)
    }

    /// Starts any program that says as one JSON object a line what happens, `ready` when it serves.
    pub(super) fn program(&self, name: &str, command: Command, ready: &str) -> Outcome<Peer> {
        let lines = LastLines::default();
        self.cast.borrow_mut().push((name.to_owned(), lines.clone()));
        Peer::start_until(name, command, ready, self.deadline, lines)
    }

    /// One of our own programs.
    pub(super) fn ours(&self, program: &str) -> PathBuf {
        self.programs.join(program)
    }

    /// The command that runs the peer of the mesh on Node.
    pub(super) fn mesh_command(&self) -> Command {
        self.installed.mesh_command()
    }

    /// How much of the time for this scenario is left.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Who a peer of that name is.
    pub(super) fn principal(&self, name: &str) -> Outcome<String> {
        let wallet = Wallet::from_mnemonic(&words(name)).map_err(|error| error.to_string())?;
        Ok(wallet.principal(Network::Testnet).to_string())
    }

    /// A file only this scenario has.
    pub(super) fn write(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        let path = self.scratch.path().join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// Where such a file would be.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Looks until `look` finds something.
    pub(super) fn until<T>(&self, what: &str, mut look: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            if Instant::now() >= self.deadline {
                return Err(format!("nothing in time: {what}"));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// A gateway of ours in a scenario.
pub(super) struct Daemon {
    gateway: Gateway,
    clawchat: PathBuf,
    log: LastLines,
}

impl Daemon {
    /// `clawchat` with these arguments, and what it answers.
    pub(super) fn clawchat(&self, arguments: &[&str]) -> Outcome<Value> {
        gateways::clawchat(&self.clawchat, &self.home(), arguments)
    }

    /// Queues messages, in their order. Answered as soon as all of them are on disk here.
    pub(super) fn send(&self, to: &str, contents: &[String]) -> Outcome {
        let calls: Vec<Call> = contents
            .iter()
            .map(|content| Call::from_value(json!({ "cmd": "send", "to": to, "content": content })))
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        let mut refused = None;
        self.connect()?
            .pipeline(calls, |answer| {
                if let Err(failure) = answer.result {
                    refused.get_or_insert(failure);
                }
            })
            .map_err(|error| format!("{}: {error}", self.name()))?;
        refused.map_or(Ok(()), |failure| {
            Err(format!("{} did not take a message: {failure}", self.name()))
        })
    }

    /// Everything its first identity has received.
    pub(super) fn inbox(&self) -> Outcome<Vec<Value>> {
        storm::entries(self, "inbox", "arrival")
    }

    /// Everything its first identity has sent.
    pub(super) fn outbox(&self) -> Outcome<Vec<Value>> {
        storm::entries(self, "outbox", "position")
    }

    /// What it says about a peer in its list.
    pub(super) fn known(&self, principal: &str) -> Outcome<Option<Value>> {
        let peers = self.ask(&json!({ "cmd": "peers" }))?;
        let mut peers = peers.as_array().into_iter().flatten();
        Ok(peers.find(|peer| peer["principal"] == principal).cloned())
    }

    /// Whether it has a session with somebody.
    pub(super) fn is_connected(&self, principal: &str) -> Outcome<bool> {
        Ok(self
            .known(principal)?
            .is_some_and(|peer| peer["connected"] == true))
    }

    /// Where it is, if it still runs as the process it was.
    pub(super) fn is_healthy(&self, pid: Option<u32>) -> Outcome {
        let status = self.ask(&json!({ "cmd": "status" }))?;
        if pid.is_some() && self.pid() == pid && status["running"] != false {
            Ok(())
        } else {
            Err(format!("{} is not well: {status}", self.name()))
        }
    }
}

impl Deref for Daemon {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.gateway
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Gateway {
        &mut self.gateway
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its folder goes with it.
        self.gateway.kill();
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        for line in lines
            .get(lines.len().saturating_sub(LOG_LINES)..)
            .unwrap_or_default()
        {
            self.log.push(line);
        }
    }
}

/// A node key's seed made of a name, as the peer's options want it.
pub(super) fn seed(name: &str) -> String {
    entropy(name).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn words(name: &str) -> Mnemonic {
    Mnemonic::from_entropy(entropy(name))
}

/// The same for the same name: nothing here is worth a secret.
fn entropy(name: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, of_name) in bytes.iter_mut().zip(name.bytes()) {
        *byte = of_name;
    }
    bytes
}
