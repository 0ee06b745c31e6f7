//! Gateways in temporary folders, driven by the real `clawchat` and `clawchatd`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(
    clippy::print_stderr,
    reason = "the daemon's log belongs to a failed test's output"
)]
#![allow(dead_code, reason = "each test file uses its part")]

mod ports;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// The password of every gateway here.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
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
    /// The document on stdout of a command that worked.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {:?}", self.stdout))
    }

    /// The error on stderr of a command that failed.
    #[track_caller]
    pub(crate) fn error(&self, exit: i32, code: &str) -> Value {
        assert_eq!(
            self.code, exit,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        let last = self.stderr.lines().last().unwrap_or_default();
        let error: Value =
            serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {:?}", self.stderr));
        assert_eq!(error["code"], code, "{error}");
        error
    }
}

/// One gateway's home folder. A daemon that still runs in it is stopped at the end.
pub(crate) struct Home {
    folder: TempDir,
    password_file: PathBuf,
    pub(crate) port: u16,
}

impl Home {
    /// An empty one.
    pub(crate) fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("cc").tempdir().unwrap();
        let password_file = folder.path().join("password");
        fs::write(&password_file, format!("{PASSWORD}\n")).unwrap();
        Self {
            folder,
            password_file,
            port: ports::free_pair().expect("a free pair of ports"),
        }
    }

    /// One with a gateway whose first identity has that nickname.
    pub(crate) fn with_gateway(nick: &str) -> Self {
        let home = Self::empty();
        let port = home.port.to_string();
        let made = home
            .run(&["gateway", "init", "--port", &port, "--nick", nick])
            .json();
        assert_eq!(made["status"], "initialized");
        home
    }

    /// The same, serving.
    pub(crate) fn serving(nick: &str) -> Self {
        let home = Self::with_gateway(nick);
        assert_eq!(home.run(&["daemon", "start"]).json()["status"], "started");
        home
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// `clawchat` with this home and its password.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.command_without_password(arguments);
        command.env("CLAWCHAT_PASSWORD_FILE", &self.password_file);
        command
    }

    /// The same, knowing no password.
    pub(crate) fn command_without_password<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(clawchat());
        self.prepare(command.args(arguments));
        command
    }

    /// `clawchatd` with this home and its password.
    pub(crate) fn daemon(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clawchatd"));
        self.prepare(command.args(arguments));
        command.env("CLAWCHAT_PASSWORD_FILE", &self.password_file);
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    pub(crate) fn principal(&self) -> String {
        self.run(&["identity", "show"]).json()["principal"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Where others on this machine reach the running gateway.
    pub(crate) fn address(&self) -> String {
        let status = self.run(&["daemon", "status"]).json();
        format!(
            "/ip4/127.0.0.1/tcp/{}/p2p/{}",
            self.port,
            status["peerId"].as_str().unwrap()
        )
    }

    /// Tells this gateway where the other one is.
    pub(crate) fn learn(&self, other: &Self, alias: &str) {
        let added = self
            .run(&[
                "peers",
                "add",
                &other.principal(),
                &other.address(),
                "--alias",
                alias,
            ])
            .json();
        assert_eq!(added["status"], "added");
    }

    fn prepare(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.folder.path())
            .env("CLAWCHAT_DATA_DIR", self.data_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.data_dir().join("daemon.log")).unwrap_or_default();
            eprintln!("--- {} ---\n{log}", self.data_dir().display());
        }
        let _ = self.command(&["daemon", "stop"]).output();
    }
}

/// Two gateways that serve and know each other as `alice` and `bob`.
pub(crate) fn acquainted() -> (Home, Home) {
    let (alice, bob) = (Home::serving("alice"), Home::serving("bob"));
    alice.learn(&bob, "bob");
    bob.learn(&alice, "alice");
    (alice, bob)
}

/// `clawchat`, which is built beside `clawchatd`; cargo knows only the latter to be needed here.
pub(crate) fn clawchat() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_clawchatd")).parent().unwrap();
        let program = folder.join("clawchat");
        if !program.exists() {
            let profile = match folder.file_name().and_then(OsStr::to_str) {
                Some("debug") | None => "dev",
                Some(profile) => profile,
            };
            let built = Command::new(env!("CARGO"))
                .args([
                    "build",
                    "--package",
                    "clawchat",
                    "--profile",
                    profile,
                    "--target-dir",
                ])
                .arg(folder.parent().unwrap())
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status()
                .unwrap();
            assert!(built.success(), "clawchat does not build");
        }
        program
    })
}
