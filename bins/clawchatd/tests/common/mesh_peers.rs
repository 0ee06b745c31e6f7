//! Real peers of the mesh, `clawchatd mesh`, in temporary folders: started, killed, started again, and gone without a
//! trace when dropped.
//!
//! Shared by the tests of this program and by `cargo xtask`, which includes this file.
#![allow(dead_code, reason = "each user needs another part of it")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;

use clawchat_ipc::client::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::gateways::{ANSWER_LIMIT, LOG_LINES, Outcome, START_LIMIT, free_ports, lines_of, text};

/// The environment of the original's peer; ours is started by flags alone.
const ENVIRONMENT: [&str; 6] = [
    "HOST",
    "MESH_BOOTSTRAP_URL",
    "MESH_KEY_DIR",
    "MESH_PEER_PORT",
    "MESH_STORE_PATH",
    "PORT",
];

/// One peer and its folder. Dropping it kills the process and removes the folder.
pub(crate) struct MeshPeer {
    program: PathBuf,
    name: String,
    port: u16,
    arguments: Vec<String>,
    peer_id: String,
    running: Option<Running>,
    folder: TempDir,
}

struct Running {
    process: Child,
    /// Lines of its stdout.
    _lines: Receiver<String>,
}

impl MeshPeer {
    /// A place for one, and a port. Nothing runs yet. `program` is `clawchatd`.
    pub(crate) fn prepare(program: &Path, name: &str) -> Outcome<Self> {
        let folder = tempfile::Builder::new()
            .prefix("clawchat-mesh-")
            .tempdir()
            .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        Ok(Self {
            program: program.to_owned(),
            name: name.to_owned(),
            port: free_ports()?,
            arguments: Vec::new(),
            peer_id: String::new(),
            running: None,
            folder,
        })
    }

    /// The same, and it runs.
    pub(crate) fn started(program: &Path, name: &str, arguments: &[&str]) -> Outcome<Self> {
        let mut peer = Self::prepare(program, name)?;
        peer.with(arguments);
        peer.start()?;
        Ok(peer)
    }

    /// Arguments for its next starts, beside those it has.
    pub(crate) fn with(&mut self, arguments: &[&str]) {
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        self.arguments.extend(arguments);
    }

    /// A peer that it dials from its next start on, at a port of this machine.
    pub(crate) fn dials(&mut self, port: u16) {
        self.with(&["--peer", &format!("ws://127.0.0.1:{port}")]);
    }

    /// Starts it and waits until it serves.
    pub(crate) fn start(&mut self) -> Outcome {
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.log_path())
            .map_err(|error| format!("the log: {error}"))?;
        let mut command = Command::new(&self.program);
        for name in ENVIRONMENT {
            command.env_remove(name);
        }
        let mut process = command
            .arg("--data-dir")
            .arg(self.home())
            .args(["mesh", "--host", "127.0.0.1", "--port", &self.port.to_string()])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", self.program.display()))?;
        let lines = lines_of(process.stdout.take());
        let first = lines.recv_timeout(START_LIMIT);
        // From here on the process ends with this value, whatever happens.
        self.running = Some(Running {
            process,
            _lines: lines,
        });
        let line = first.map_err(|_| self.complaint("it did not say that it serves"))?;
        let event: Value = serde_json::from_str(&line)
            .map_err(|_| self.complaint(&format!("its first line is {line:?}")))?;
        if event["event"] != "started" {
            return Err(self.complaint(&format!("its first line is {line}")));
        }
        self.peer_id = text(&event, "peerId")?;
        Ok(())
    }

    /// SIGKILL. Nothing of what it was doing is finished.
    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            // Fails only for a process that has ended already.
            let _ = running.process.kill();
            let _ = running.process.wait();
        }
    }

    /// A new local connection.
    pub(crate) fn connect(&self) -> Outcome<Client> {
        Client::connect(self.socket(), Some(ANSWER_LIMIT)).map_err(|error| self.complaint(&error.to_string()))
    }

    /// One local request on a connection of its own.
    pub(crate) fn ask(&self, request: &Value) -> Outcome<Value> {
        self.connect()?
            .call_value(request)
            .map_err(|error| self.complaint(&format!("{}: {error}", request["cmd"])))
    }

    /// Everything in a channel, in the order of display.
    pub(crate) fn history(&self, channel: &str) -> Outcome<Vec<Value>> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let mut request = json!({ "cmd": "channel_history", "channel": channel, "limit": 1000 });
            if let Some(first) = all.first() {
                request["before"] = first["id"].clone();
            }
            match self.ask(&request)? {
                Value::Array(page) if page.is_empty() => return Ok(all),
                Value::Array(page) => drop(all.splice(0..0, page)),
                other => return Err(format!("the history of {} is {other}", self.name)),
            }
        }
    }

    /// How many messages of a channel it has stored.
    pub(crate) fn count(&self, channel: &str) -> Outcome<u64> {
        let channels = self.ask(&json!({ "cmd": "channel_list" }))?;
        let mut channels = channels.as_array().into_iter().flatten();
        let found = channels.find(|known| known["channel"] == channel);
        Ok(found.and_then(|found| found["count"].as_u64()).unwrap_or(0))
    }

    /// What it is called here.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it is called in the mesh. Empty before its first start.
    pub(crate) fn peer_id(&self) -> &str {
        &self.peer_id
    }

    /// Its port for other peers.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.process.id())
    }

    /// Its local socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.home().join("clawchat.sock")
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What went wrong, and what the log said last.
    pub(crate) fn complaint(&self, what: &str) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines
            .get(lines.len().saturating_sub(LOG_LINES)..)
            .unwrap_or_default();
        format!(
            "{}: {what}\n  its log ends with:\n    {}",
            self.name,
            last.join("\n    ")
        )
    }
}

impl Drop for MeshPeer {
    fn drop(&mut self) {
        self.kill();
    }
}
