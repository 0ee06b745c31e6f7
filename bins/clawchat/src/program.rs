//! Finding and running `clawchatd`.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clawchat_ipc::{ErrorCode, Secret};
use serde_json::Value;

use crate::failure::{Failure, Outcome};

/// Name of the daemon's program.
const PROGRAM: &str = "clawchatd";
/// Name of the log of a daemon in the background.
const LOG: &str = "daemon.log";
/// A log larger than this is put aside as `daemon.log.1` at the next start. In bytes.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;
/// How much of the log is looked at when a daemon did not start, in bytes.
const LOG_TAIL_BYTES: u64 = 64 * 1024;
/// How many lines of it are shown.
const LOG_TAIL_LINES: usize = 10;
/// Longest line a starting daemon may print, in bytes.
const MAX_EVENT_BYTES: u64 = 1024 * 1024;
/// How long a daemon may take to start. Unsealing many identities takes a third of a second each.
const START_LIMIT: Duration = Duration::from_secs(120);

/// What a daemon is started with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Launch {
    /// Instead of the configured port.
    pub(crate) port: Option<u16>,
    /// Wake OpenClaw whatever the configuration says.
    pub(crate) openclaw_wake: bool,
    /// Opens the identities; goes over a pipe, never through arguments.
    pub(crate) password: Option<Secret>,
}

/// The path of `clawchatd`: beside this program, then on `PATH`.
///
/// # Errors
/// When there is none.
pub(crate) fn find() -> Outcome<PathBuf> {
    let here = env::current_exe().ok();
    let beside = here
        .as_deref()
        .and_then(Path::parent)
        .map(|folder| folder.join(PROGRAM));
    let on_path = env::var_os("PATH");
    beside
        .into_iter()
        .chain(
            on_path
                .iter()
                .flat_map(env::split_paths)
                .map(|folder| folder.join(PROGRAM)),
        )
        .find(|path| is_program(path))
        .ok_or_else(|| {
            Failure::new(
                ErrorCode::Failed,
                format!("{PROGRAM} was not found beside clawchat or on PATH"),
            )
            .named("daemon_not_found")
            .hint(format!("install {PROGRAM} into the same folder as clawchat"))
        })
}

/// A `clawchatd` for this home folder with one subcommand, if any.
///
/// # Errors
/// As [`find`].
pub(crate) fn command(home: &Path, arguments: &[&OsStr]) -> Outcome<Command> {
    let mut command = Command::new(find()?);
    command.arg("--data-dir").arg(home).args(arguments);
    Ok(command)
}

/// Starts a daemon in the background and waits until it serves. Answers with its `started` event.
///
/// # Errors
/// The daemon's own reason, with the last lines of its log.
pub(crate) fn start(home: &Path, launch: &Launch) -> Outcome<Value> {
    start_by(home, launch, Command::spawn)
}

/// The same; the daemon is spawned by `spawn`.
///
/// # Errors
/// As [`start`], and what `spawn` says.
pub(crate) fn start_by(
    home: &Path,
    launch: &Launch,
    spawn: impl FnOnce(&mut Command) -> io::Result<Child>,
) -> Outcome<Value> {
    let (log, log_start) = open_log(home)?;
    let mut command = command(home, &[OsStr::new("--report-failure")])?;
    launch.apply(&mut command);
    command
        .process_group(0)
        .stdin(if launch.password.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(log);
    let mut child = spawn(&mut command).map_err(|error| cannot_run(&error))?;
    if let (Some(mut pipe), Some(password)) = (child.stdin.take(), &launch.password) {
        // A daemon that ended before it read its password says why by itself.
        let _ = pipe.write_all(password.expose().as_bytes());
    }
    let Some(event) = first_event(&mut child) else {
        let _ = child.kill();
        let _ = child.wait();
        let message = format!("{PROGRAM} did not start within {} s", START_LIMIT.as_secs());
        return Err(with_log(
            Failure::new(ErrorCode::Timeout, message).exit_as(1),
            home,
            log_start,
        ));
    };
    match event.get("event").and_then(Value::as_str) {
        Some("started") => Ok(event),
        _ => {
            let status = child.wait().map_err(|error| cannot_run(&error))?;
            Err(with_log(why_not(&event, status), home, log_start))
        }
    }
}

/// Becomes the daemon: it keeps this process's terminal and process id. Returns only to say why it cannot.
pub(crate) fn become_daemon(home: &Path, launch: &Launch) -> Failure {
    let mut command = match command(home, &[]) {
        Ok(command) => command,
        Err(failure) => return failure,
    };
    launch.apply(&mut command);
    if let Some(password) = &launch.password {
        match pipe_with(password) {
            Ok(reader) => command.stdin(reader),
            Err(error) => return cannot_run(&error),
        };
    }
    become_program(command)
}

/// Becomes a `clawchatd`, with this process's terminal and process id. Returns only to say why it cannot.
pub(crate) fn become_program(mut command: Command) -> Failure {
    cannot_run(&command.exec())
}

impl Launch {
    fn apply(&self, command: &mut Command) {
        if let Some(port) = self.port {
            command.arg("--port").arg(port.to_string());
        }
        if self.openclaw_wake {
            command.arg("--openclaw-wake");
        }
        if self.password.is_some() {
            command.arg("--password-stdin");
        }
    }
}

fn is_program(path: &Path) -> bool {
    const EXECUTABLE: u32 = 0o111;
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & EXECUTABLE != 0)
}

fn cannot_run(error: &io::Error) -> Failure {
    Failure::new(ErrorCode::Failed, format!("cannot run {PROGRAM}: {error}"))
        .hint(format!("check the installation of {PROGRAM}"))
}

/// A pipe that holds the password already. Passwords are far shorter than what a pipe takes unread.
fn pipe_with(password: &Secret) -> io::Result<io::PipeReader> {
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(password.expose().as_bytes())?;
    Ok(reader)
}

/// The first line the daemon prints, as JSON; null when it ends without one; `None` when it takes too long.
fn first_event(child: &mut Child) -> Option<Value> {
    let Some(stdout) = child.stdout.take() else {
        return Some(Value::Null);
    };
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let _ = sender.send(read_event(stdout));
    });
    receiver.recv_timeout(START_LIMIT).ok()
}

fn read_event(stdout: ChildStdout) -> Value {
    let mut line = String::new();
    let read = BufReader::new(stdout.take(MAX_EVENT_BYTES)).read_line(&mut line);
    read.ok()
        .and_then(|_| serde_json::from_str(&line).ok())
        .unwrap_or(Value::Null)
}

/// What a daemon that did not start said on its way out, or what its exit status tells.
fn why_not(event: &Value, status: ExitStatus) -> Failure {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let code = text("code").and_then(ErrorCode::from_text);
    let failure = match (text("error"), status.code()) {
        (Some(error), _) => Failure::new(code.unwrap_or(ErrorCode::Failed), error),
        (None, Some(5)) => Failure::new(ErrorCode::WrongPassword, "the daemon refused the password"),
        (None, _) => Failure::new(ErrorCode::Failed, format!("the daemon ended at once ({status})")),
    };
    match text("hint").filter(|hint| !hint.is_empty()) {
        Some(hint) => failure.hint(hint),
        None => failure.hint("its log says more"),
    }
}

/// Opens the log to append to, and tells where this run's part begins.
fn open_log(home: &Path) -> Outcome<(File, u64)> {
    if !home.is_dir() {
        let message = format!("there is no gateway in {}", home.display());
        return Err(Failure::new(ErrorCode::NotInitialized, message).hint("create one with: clawchat up"));
    }
    let path = home.join(LOG);
    let failed = |error: io::Error| Failure::file("open", &path, &error);
    if fs::metadata(&path).is_ok_and(|found| found.len() > MAX_LOG_BYTES) {
        fs::rename(&path, path.with_extension("log.1")).map_err(failed)?;
    }
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    let length = log.metadata().map_err(failed)?.len();
    Ok((log, length))
}

fn with_log(failure: Failure, home: &Path, from: u64) -> Failure {
    let lines = log_tail(&home.join(LOG), from).unwrap_or_default();
    if lines.is_empty() {
        return failure;
    }
    failure.detail("log", Value::from(lines))
}

fn log_tail(path: &Path, from: u64) -> io::Result<Vec<String>> {
    let mut log = File::open(path)?;
    let end = log.metadata()?.len();
    log.seek(SeekFrom::Start(from.max(end.saturating_sub(LOG_TAIL_BYTES))))?;
    let mut bytes = Vec::new();
    log.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    Ok(lines
        .iter()
        .skip(lines.len().saturating_sub(LOG_TAIL_LINES))
        .map(|line| (*line).to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tail_is_the_last_lines_of_this_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOG);
        let before = "old run\n";
        let mut text = before.to_owned();
        for number in 0..20 {
            text.push_str(&format!("line {number}\n\n"));
        }
        fs::write(&path, &text).unwrap();
        let tail = log_tail(&path, before.len() as u64).unwrap();
        assert_eq!(tail.len(), LOG_TAIL_LINES);
        assert_eq!(tail.first().unwrap(), "line 10");
        assert_eq!(tail.last().unwrap(), "line 19");
        fs::write(&path, "old run\nonly line\n").unwrap();
        assert_eq!(log_tail(&path, before.len() as u64).unwrap(), ["only line"]);
    }

    #[test]
    fn a_full_log_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOG);
        File::create(&path).unwrap().set_len(MAX_LOG_BYTES + 1).unwrap();
        let (_, start) = open_log(folder.path()).unwrap();
        assert_eq!(start, 0);
        assert!(folder.path().join("daemon.log.1").exists());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn without_a_home_there_is_nothing_to_start() {
        let folder = tempfile::tempdir().unwrap();
        let failure = open_log(&folder.path().join("missing")).unwrap_err();
        assert!(failure.is(ErrorCode::NotInitialized));
    }
}
