//! Real gateways in temporary homes: set up, started, killed, started again, and gone without a trace when dropped.
//!
//! Shared by the tests of this program and by `cargo xtask`, which includes this file.
#![allow(dead_code, reason = "each user needs another part of it")]

#[path = "ports.rs"]
mod ports;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use clawchat_ipc::client::Client;
use clawchat_ipc::{Call, offline};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// How long a gateway may take until it serves. After a kill it examines its stores first.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(120);
/// How long a gateway may take to end when it is told to.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How long an ordinary answer may take. Longer than any of them is told to wait.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// Lines of the log shown with an error.
pub(crate) const LOG_LINES: usize = 8;
/// Seals the keys in these homes.
pub(crate) const PASSWORD: &str = "not a secret at all";

/// Nothing, or one sentence saying what went wrong.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// One gateway and its home. Dropping it kills the process and removes the folder.
pub(crate) struct Gateway {
    program: PathBuf,
    name: String,
    principal: String,
    port: u16,
    peer_id: String,
    /// What it logs, unless `RUST_LOG` says so; otherwise what the program itself chooses.
    log_filter: Option<&'static str>,
    running: Option<Running>,
    folder: TempDir,
}

struct Running {
    process: Child,
    /// Lines of its stdout. Closed when it has ended.
    lines: Receiver<String>,
}

impl Gateway {
    /// A home with one identity of that nickname. Nothing runs yet. `program` is `clawchatd`.
    pub(crate) fn set_up(program: &Path, name: &str) -> Outcome<Self> {
        let mut gateway = Self::prepare(program, name)?;
        gateway.init(&json!({ "password": PASSWORD }))?;
        Ok(gateway)
    }

    /// Only a place for a home, and ports: there is nothing in it yet.
    pub(crate) fn prepare(program: &Path, name: &str) -> Outcome<Self> {
        let folder = tempfile::Builder::new()
            .prefix("clawchat-")
            .tempdir()
            .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        Ok(Self {
            program: program.to_owned(),
            name: name.to_owned(),
            principal: String::new(),
            port: free_ports()?,
            peer_id: String::new(),
            log_filter: None,
            running: None,
            folder,
        })
    }

    /// Sets the home up: `fields` of `gateway_init` beside port and nickname, the password among them.
    pub(crate) fn init(&mut self, fields: &Value) -> Outcome {
        fs::write(self.password_file(), text(fields, "password")?)
            .map_err(|error| format!("the password file: {error}"))?;
        let mut request =
            json!({ "cmd": "gateway_init", "port": self.port, "nick": self.name, "migrate": false });
        if let (Some(request), Some(fields)) = (request.as_object_mut(), fields.as_object()) {
            request.extend(fields.clone());
        }
        self.principal = text(&self.offline(&request)?, "principal")?;
        Ok(())
    }

    /// Changes the configuration. Nothing may be running.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Outcome {
        let path = self.home().join("gateway-config.json");
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read(&path).map_err(|error| failed(&error))?;
        let mut config = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
        change(&mut config);
        fs::write(&path, Value::from(config).to_string()).map_err(|error| failed(&error))
    }

    /// From its next start on it logs this, unless `RUST_LOG` says otherwise.
    pub(crate) fn log(&mut self, filter: &'static str) {
        self.log_filter = Some(filter);
    }

    /// Starts it and waits until it serves.
    pub(crate) fn start(&mut self) -> Outcome {
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.log_path())
            .map_err(|error| format!("the log: {error}"))?;
        let mut process = self
            .command(&self.password_file())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", self.program.display()))?;
        let lines = lines_of(process.stdout.take());
        // From here on the process ends with this value, whatever happens.
        let running = self.running.insert(Running { process, lines });
        let first = running.lines.recv_timeout(START_LIMIT);
        let line = first.map_err(|_| self.complaint("it did not say that it serves"))?;
        let event: Value = serde_json::from_str(&line)
            .map_err(|_| self.complaint(&format!("its first line is {line:?}")))?;
        if event.get("event").is_none_or(|event| event != "started") {
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

    /// Tells it to end, and waits until it has.
    pub(crate) fn stop(&mut self) -> Outcome {
        self.ask(&json!({ "cmd": "stop" }))?;
        let Some(mut running) = self.running.take() else {
            return Err(format!("{} does not run", self.name));
        };
        loop {
            match running.lines.recv_timeout(END_LIMIT) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.running = Some(running);
                    return Err(self.complaint("it did not end in time"));
                }
            }
        }
        match running.process.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.complaint(&format!("it ended with {status}"))),
            Err(error) => Err(format!("cannot wait for {}: {error}", self.name)),
        }
    }

    /// The command that runs it in the foreground.
    pub(crate) fn command(&self, password_file: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--data-dir")
            .arg(self.home())
            .arg("--password-file")
            .arg(password_file)
            .env_remove("CLAWCHAT_DATA_DIR")
            .env_remove("CLAWCHAT_PASSWORD_FILE");
        if let Some(filter) = self.log_filter.filter(|_| std::env::var_os("RUST_LOG").is_none()) {
            command.env("RUST_LOG", filter);
        }
        command
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Outcome<Client> {
        Client::connect(self.socket(), Some(ANSWER_LIMIT)).map_err(|error| self.complaint(&error.to_string()))
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, request: &Value) -> Outcome<Value> {
        self.connect()?
            .call_value(request)
            .map_err(|error| self.complaint(&format!("{}: {error}", request["cmd"])))
    }

    /// Tells it where another gateway is, under that one's name. The other must have been started once.
    pub(crate) fn learn(&self, other: &Self) -> Outcome {
        let request = json!({
            "cmd": "peer_add", "principal": other.principal, "address": other.address(), "alias": other.name,
        });
        self.ask(&request).map(drop)
    }

    /// The nickname of its identity.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its identity.
    pub(crate) fn principal(&self) -> &str {
        &self.principal
    }

    /// Its P2P port. It has the next one too.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its PeerId. Empty before its first start.
    pub(crate) fn peer_id(&self) -> &str {
        &self.peer_id
    }

    /// Where it listens, on this machine.
    pub(crate) fn address(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", self.port, self.peer_id)
    }

    /// Its home folder.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Its local socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.home().join("clawchat.sock")
    }

    /// Holds the right password.
    pub(crate) fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    /// Its process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.process.id())
    }

    /// What went wrong, and what the log said last.
    fn complaint(&self, what: &str) -> String {
        format!("{}: {what}\n  {}", self.name, self.end_of_log(LOG_LINES))
    }

    /// The last lines of what it logged.
    pub(crate) fn end_of_log(&self, count: usize) -> String {
        let mut log = String::new();
        if let Ok(mut file) = File::open(self.log_path()) {
            let _ = file.read_to_string(&mut log);
        }
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(count)..).unwrap_or_default();
        format!("its log ends with:\n    {}", last.join("\n    "))
    }

    /// What it logs goes here.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// One administrative request while no daemon runs.
    pub(crate) fn offline(&self, request: &Value) -> Outcome<Value> {
        let call = Call::from_value(request.clone()).map_err(|error| error.to_string())?;
        let mut process = Command::new(&self.program)
            .arg("--data-dir")
            .arg(self.home())
            .arg("offline")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", self.program.display()))?;
        let answer = match (process.stdin.take(), process.stdout.take()) {
            (Some(stdin), Some(stdout)) => offline::ask(stdin, stdout, &call),
            _ => return Err("the program has no pipes".to_owned()),
        };
        let ended = process.wait();
        let answer = answer.map_err(|error| format!("{}: {}: {error}", self.name, request["cmd"]))?;
        ended.map_err(|error| error.to_string())?;
        Ok(answer)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Two running gateways that know each other.
pub(crate) fn pair(program: &Path) -> Outcome<[Gateway; 2]> {
    let mut alice = Gateway::set_up(program, "alice")?;
    let mut bob = Gateway::set_up(program, "bob")?;
    alice.start()?;
    bob.start()?;
    alice.learn(&bob)?;
    bob.learn(&alice)?;
    Ok([alice, bob])
}

/// What `clawchat`, the program given, answers to these arguments about the gateway of that home.
pub(crate) fn clawchat(program: &Path, home: &Path, arguments: &[&str]) -> Outcome<Value> {
    let output = Command::new(program)
        .arg("--data-dir")
        .arg(home)
        .args(["--output", "json"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("clawchat {}: {}", arguments.join(" "), complaint.trim()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| {
        let printed = String::from_utf8_lossy(&output.stdout);
        format!("clawchat {} printed {printed:?}: {error}", arguments.join(" "))
    })
}

/// A text field of an answer.
pub(crate) fn text(value: &Value, field: &str) -> Outcome<String> {
    let text = value.get(field).and_then(Value::as_str);
    text.map(str::to_owned)
        .ok_or_else(|| format!("no {field:?} in {value}"))
}

/// The lines a program prints, read so that it never waits for a reader.
pub(crate) fn lines_of(stdout: Option<ChildStdout>) -> Receiver<String> {
    // A gateway prints two lines in its life.
    let (sender, receiver) = sync_channel(8);
    thread::spawn(move || {
        for line in stdout
            .into_iter()
            .flat_map(|stdout| BufReader::new(stdout).lines())
        {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A port that is free for TCP and UDP, and the next one for TCP: what a gateway listens on.
pub(crate) fn free_ports() -> Outcome<u16> {
    ports::free_pair().ok_or_else(|| "found no free pair of ports".to_owned())
}
