//! Daemons run by hand: those that refuse to start, and those whose end is looked at.
#![allow(dead_code, reason = "each user needs another part of it")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

#[path = "stopwatch.rs"]
pub(crate) mod stopwatch;

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use self::stopwatch::Stopwatch;
use crate::gateways::Gateway;

/// A daemon that did not start, and what it said about it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) exit: Option<i32>,
    pub(crate) code: String,
    pub(crate) error: String,
    pub(crate) hint: String,
    pub(crate) took: Duration,
}

impl Refusal {
    #[track_caller]
    pub(crate) fn expect(&self, exit: i32, code: &str, parts: &[&str]) {
        assert_eq!((self.exit, self.code.as_str()), (Some(exit), code), "{self:?}");
        assert!(!self.hint.is_empty(), "no hint: {self:?}");
        for part in parts {
            assert!(self.error.contains(part), "no {part:?}: {self:?}");
        }
    }
}

/// Runs a daemon that is expected not to start. `command` is that of [`Gateway::command`], perhaps with more.
#[track_caller]
pub(crate) fn refusal(gateway: &Gateway, command: &mut Command) -> Refusal {
    let log = gateway.log_path().with_extension("refused");
    let begun = Stopwatch::start();
    let mut daemon = Daemon::spawn(command.args(["--log-format", "json"]), b"", &log);
    let line = daemon.line();
    let status = match line {
        None => daemon.process.wait().unwrap(),
        Some(line) => panic!("it started: {line}"),
    };
    let took = begun.elapsed();
    let said = fs::read_to_string(&log).unwrap();
    let last = said.lines().last().unwrap_or_default();
    let last: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {said}"));
    let text = |name: &str| last[name].as_str().unwrap_or_default().to_owned();
    Refusal {
        exit: status.code(),
        code: text("code"),
        error: text("error"),
        hint: text("hint"),
        took,
    }
}

/// A running daemon, killed when dropped.
pub(crate) struct Daemon {
    pub(crate) process: Child,
    stdout: BufReader<ChildStdout>,
}

impl Daemon {
    /// Starts it; stderr goes to a file.
    pub(crate) fn spawn(command: &mut Command, stdin: &[u8], log: &Path) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log).unwrap())
            .spawn()
            .unwrap();
        // Fails for a program that does not listen, which is its right.
        let _ = process.stdin.take().unwrap().write_all(stdin);
        let stdout = BufReader::new(process.stdout.take().unwrap());
        Self { process, stdout }
    }

    /// The next line of its stdout, `None` at the end.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        (!line.is_empty()).then_some(line)
    }

    /// Waits until it serves.
    #[track_caller]
    pub(crate) fn started(&mut self) -> Value {
        let line = self.line().expect("it did not start");
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event"], "started", "{event}");
        event
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end: what else it said, and its exit code.
    pub(crate) fn ended(&mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (rest, self.process.wait().unwrap().code())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails for one that has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What is in a folder, folders and sockets included. The lock of a home is left out: it is signed by whoever looks.
pub(crate) fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = each_below(folder, |path, found| {
        if found.is_dir() || found.file_type().is_socket() {
            Ok(Vec::new())
        } else {
            fs::read(path)
        }
    });
    all.retain(|path, _| !path.ends_with("home.lock"));
    all
}

/// What `look` finds out about everything in a folder, folders and sockets included. All is looked at again when something
/// went away between its listing and the look at it: a daemon at work writes files under other names first.
pub(crate) fn each_below<T>(
    folder: &Path,
    look: impl Fn(&Path, &Metadata) -> io::Result<T>,
) -> BTreeMap<PathBuf, T> {
    let walk = || -> io::Result<BTreeMap<PathBuf, T>> {
        let mut all = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                let found = fs::symlink_metadata(&path)?;
                if found.is_dir() {
                    folders.push(path.clone());
                }
                let seen = look(&path, &found)?;
                all.insert(path, seen);
            }
        }
        Ok(all)
    };
    for _ in 0..WALKS {
        match walk() {
            Ok(all) => return all,
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder.exists() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
            Err(error) => panic!("{}: {error}", folder.display()),
        }
    }
    panic!(
        "{}: something goes away in every one of {WALKS} looks",
        folder.display()
    )
}

/// Looks at a folder at most, until nothing in it went away meanwhile.
const WALKS: usize = 100;

/// A small disk of its own, gone when dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at a folder, which is created. `None` where that is not allowed, after saying so.
    pub(crate) fn at(folder: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let options = format!("size={size},mode=0700");
        let disk = Self(folder.to_owned());
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(disk);
        }
        std::mem::forget(disk);
        println!("skipped: no right to mount a small tmpfs");
        None
    }

    /// From now on nothing on it can be changed.
    pub(crate) fn freeze(&self) {
        let frozen = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(&self.0)
            .status();
        assert!(frozen.unwrap().success());
    }

    /// Uses all of it, by a file of that name, also what became free since that file was made.
    pub(crate) fn fill(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        let mut file = File::options().append(true).create(true).open(&path).unwrap();
        let piece = vec![0; 64 * 1024];
        while file.write_all(&piece).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a daemon may still be in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
