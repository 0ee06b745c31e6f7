//! Running the real `clawchat` against a socket of the test's own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code, reason = "each test file uses its part")]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

/// An empty machine: a home folder, no daemon, nothing on `PATH`, no terminal.
pub(crate) struct Machine {
    pub(crate) folder: TempDir,
    program: PathBuf,
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("cc").tempdir().unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        Self {
            folder,
            program: PathBuf::from(env!("CARGO_BIN_EXE_clawchat")),
        }
    }

    /// The same with a copy of `clawchat` in a folder of its own, and beside it a `clawchatd` that is this shell
    /// script, if one is given.
    pub(crate) fn with_daemon_program(script: Option<&str>) -> Self {
        let mut machine = Self::new();
        let bin = machine.folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let program = bin.join("clawchat");
        install(&fs::read(&machine.program).unwrap(), &program);
        machine.program = program;
        if let Some(script) = script {
            install(
                format!("#!/bin/sh\n{script}\n").as_bytes(),
                &bin.join("clawchatd"),
            );
        }
        machine
    }

    /// The daemon's program beside the client's.
    pub(crate) fn daemon_program(&self) -> PathBuf {
        self.program.with_file_name("clawchatd")
    }

    /// The data dir that is used without flags.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("home/.clawchat")
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path().join("home"))
            .env("PATH", "/usr/bin:/bin")
            .env("TMPDIR", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }

    pub(crate) fn run_with_stdin<S: AsRef<OsStr>>(&self, arguments: &[S], stdin: &[u8]) -> Ended {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        Ended::from(child.wait_with_output().unwrap())
    }
}

/// Writes a program. Another process does it: were the file open for writing here while a test beside this one
/// starts a process, that process would hold it open too, and the system refuses to run such a file.
pub(crate) fn install(bytes: &[u8], path: &Path) {
    let mut child = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(child.wait().unwrap().success());
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// The one JSON document on stdout of a command that worked.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {:?}", self.stdout))
    }

    /// The error of a command that failed: exactly one JSON line on stderr, with its three fields.
    #[track_caller]
    pub(crate) fn error(&self, code: i32, name: &str) -> Value {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        let mut lines = self.stderr.lines();
        let error: Value = serde_json::from_str(lines.next().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.stderr));
        assert_eq!(lines.next(), None, "more than one line: {}", self.stderr);
        assert_eq!(error["code"], name, "{error}");
        for field in ["error", "hint"] {
            let text = error[field].as_str();
            assert!(text.is_some_and(|text| !text.is_empty()), "{field}: {error}");
        }
        error
    }
}

/// What a fake daemon does with a request.
pub(crate) enum Answer {
    /// One line.
    Line(Value),
    /// These lines, then the connection stays open until the other side leaves.
    Lines(Vec<Value>),
    /// These lines, then the connection ends, and so did the daemon: nobody finds it any more who comes again.
    LinesThenEnd(Vec<Value>),
}

/// A socket that answers as the test wants, and remembers what it was asked.
pub(crate) struct FakeDaemon {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl FakeDaemon {
    /// Listens in `data_dir`, which is made if it is missing.
    pub(crate) fn start(data_dir: &Path, answer: impl Fn(&Value) -> Answer + Send + Sync + 'static) -> Self {
        fs::create_dir_all(data_dir).unwrap();
        let socket = data_dir.join("clawchat.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        let path = socket.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, log, path) = (Arc::clone(&answer), Arc::clone(&log), path.clone());
                thread::spawn(move || serve(stream.unwrap(), &*answer, &log, &path));
            }
        });
        Self { socket, asked }
    }

    /// Always the same answer.
    pub(crate) fn answering(data_dir: &Path, data: Value) -> Self {
        Self::start(data_dir, move |_| ok(data.clone()))
    }

    /// Always the same failure.
    pub(crate) fn refusing(data_dir: &Path, code: &'static str) -> Self {
        Self::start(data_dir, move |_| failed(code, Value::Null))
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
    }
}

pub(crate) fn ok(data: Value) -> Answer {
    Answer::Line(json!({"ok": true, "data": data}))
}

pub(crate) fn failed(code: &str, data: Value) -> Answer {
    Answer::Line(
        json!({"ok": false, "error": format!("it was {code}"), "code": code, "hint": "a hint", "data": data}),
    )
}

fn serve(
    stream: UnixStream,
    answer: &(impl Fn(&Value) -> Answer + ?Sized),
    log: &Mutex<Vec<Value>>,
    socket: &Path,
) {
    let mut writer = stream.try_clone().unwrap();
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let mut request: Value = serde_json::from_str(&line).unwrap();
        let id = request.as_object_mut().unwrap().remove("id");
        let (lines, end) = match answer(&request) {
            Answer::Line(line) => (vec![line], false),
            Answer::Lines(lines) => (lines, false),
            Answer::LinesThenEnd(lines) => (lines, true),
        };
        if end {
            // Before a line is seen, and before the test can know of the request: after that it may put another daemon
            // in this one's place.
            let _ = fs::remove_file(socket);
        }
        log.lock().unwrap().push(request);
        for mut line in lines {
            if let Some(id) = &id {
                line["id"] = id.clone();
            }
            if writeln!(writer, "{line}").is_err() {
                return;
            }
        }
        if end {
            return;
        }
    }
}
