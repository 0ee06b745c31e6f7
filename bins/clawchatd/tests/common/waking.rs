//! Two identities of one gateway, of which one is woken for messages of the other, and programs that record how.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::Home;

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// The processors of this machine: a test that times something has them for itself as far as its neighbours go.
static PROCESSORS: RwLock<()> = RwLock::new(());

/// The right to use them.
enum Turn {
    BesideOthers(#[expect(dead_code, reason = "held for as long as it lives")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held for as long as it lives")] RwLockWriteGuard<'static, ()>),
}

/// A gateway with the identities alice, who is woken, and bob, who writes to her.
pub(crate) struct Pair {
    pub(crate) home: Home,
    pub(crate) folder: tempfile::TempDir,
    _turn: Turn,
}

impl Pair {
    /// Not started yet; `wake` is the key of that name, with the recording program as its `openclaw`.
    pub(crate) fn new(wake: Value) -> Self {
        let turn = PROCESSORS.read().unwrap_or_else(PoisonError::into_inner);
        Self::set_up(wake, Turn::BesideOthers(turn))
    }

    /// The same, while no other one is there.
    pub(crate) fn alone(wake: Value) -> Self {
        let turn = PROCESSORS.write().unwrap_or_else(PoisonError::into_inner);
        Self::set_up(wake, Turn::Alone(turn))
    }

    fn set_up(mut wake: Value, turn: Turn) -> Self {
        let home = Home::with_gateway("alice");
        home.run(&["gateway", "identity", "add", "--nick", "bob"]).json();
        let folder = tempfile::tempdir().unwrap();
        let pair = Self {
            home,
            folder,
            _turn: turn,
        };
        pair.recorder("openclaw", "");
        wake["openclaw"] = json!(pair.path("openclaw"));
        pair.configure(|config| {
            config["wake"] = wake;
            config["identities"][1]["openclawWake"] = json!(false);
        });
        pair
    }

    pub(crate) fn serving(wake: Value) -> Self {
        let pair = Self::new(wake);
        pair.home.run(&["daemon", "start"]).json();
        pair
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn configure(&self, change: impl FnOnce(&mut Value)) {
        let path = self.home.data_dir().join("gateway-config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }

    /// A program that keeps its arguments and its input, then does `more`, and fails while there is a file `fail`.
    pub(crate) fn recorder(&self, name: &str, more: &str) {
        let script = format!(
            "#!/bin/sh\ncd '{}'\nn=$(ls | grep -c '^{name}\\.run')\n\
             {{ for a in \"$@\"; do printf '%s\\n' \"$a\"; done; cat; }} > draft.$$\n\
             mv draft.$$ {name}.run$(printf %04d $n)\n{more}\n[ ! -e fail ]\n",
            self.folder.path().display()
        );
        install(&self.path(name), &script);
    }

    /// What the recording program was run with so far.
    pub(crate) fn runs(&self, name: &str) -> Vec<String> {
        let prefix = format!("{name}.run");
        let mut files: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix))
            .collect();
        files.sort();
        files
            .iter()
            .map(|file| fs::read_to_string(file).unwrap())
            .collect()
    }

    /// Waits until it was run so often.
    #[track_caller]
    pub(crate) fn wait_for_runs(&self, name: &str, count: usize) -> Vec<String> {
        until(&format!("{name} ran {count} times"), || {
            let runs = self.runs(name);
            (runs.len() >= count).then_some(runs)
        })
    }

    /// Writes from bob to alice, and waits until she has it.
    pub(crate) fn send(&self, text: &str) {
        let sent =
            self.ask(&json!({ "cmd": "send", "as": "bob", "to": "alice", "content": text, "wait": 100_000 }));
        assert_eq!(sent["status"], "delivered", "{sent}");
    }

    /// The answer to one request. What is asked often is not asked by a process: many would take the processors from
    /// what they wait for.
    #[track_caller]
    fn ask(&self, request: &Value) -> Value {
        let mut socket = UnixStream::connect(self.home.data_dir().join("clawchat.sock")).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).unwrap();
        let mut answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert_eq!(answer["ok"], true, "{answer}");
        answer["data"].take()
    }

    pub(crate) fn bob(&self) -> String {
        let shown = self.home.run(&["identity", "show", "--as", "bob"]).json();
        shown["principal"].as_str().unwrap().to_owned()
    }

    pub(crate) fn status(&self) -> Value {
        self.ask(&json!({ "cmd": "status", "as": "alice" }))["wake"].take()
    }

    #[track_caller]
    pub(crate) fn wait_for_status(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(what, || Some(self.status()).filter(&is))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.data_dir().join("daemon.log")).unwrap_or_default()
    }

    pub(crate) fn restart(&self) {
        self.home.run(&["daemon", "stop"]).json();
        self.home.run(&["daemon", "start"]).json();
    }
}

pub(crate) fn install(path: &Path, script: &str) {
    let draft = path.with_extension("new");
    fs::write(&draft, script).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(draft, path).unwrap();
}

#[track_caller]
pub(crate) fn until<T>(what: &str, mut is: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(value) = is() {
            return value;
        }
        assert!(Instant::now() < deadline, "waiting until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
