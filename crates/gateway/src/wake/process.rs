//! Runs a program for a wake: with a time limit, without a shell, and without listening to what it prints.

use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};

use super::Failed;
use super::text;

/// What a program prints on stderr is kept up to this many bytes, for the status; the rest is dropped.
const MAX_SAID_BYTES: usize = 1024;
/// Bytes read from a program at a time.
const CHUNK: usize = 64 * 1024;
/// How long what an ended program has printed may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A program to run.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// A name to be found on `PATH`, or a path.
    pub(super) program: OsString,
    pub(super) arguments: Vec<OsString>,
    /// What it may read on stdin.
    pub(super) input: Vec<u8>,
}

impl Program {
    /// Runs it to its end, or until `limit` is over or this future is dropped. Whatever is left of its process group
    /// then is killed, so that nothing can pile up.
    ///
    /// # Errors
    /// It cannot be started, was too slow, or did not exit with 0.
    pub(super) async fn run(self, limit: Duration) -> Result<(), Failed> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| self.not_started(&error))?;
        let group = Group::of(&child);
        let said = Said::default();
        let streams = (child.stdin.take(), child.stderr.take());
        let mut talk = Box::pin(async {
            let (stdin, stderr) = streams;
            tokio::join!(feed(stdin, &self.input), listen(stderr, &said));
        });
        let mut talking = true;
        let ended = tokio::time::timeout(limit, async {
            loop {
                tokio::select! {
                    status = child.wait() => return status,
                    () = &mut talk, if talking => talking = false,
                }
            }
        })
        .await;
        drop(group);
        let status = match ended {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(Failed::new(format!("lost track of the program: {error}"))),
            Err(_) => {
                let seconds = limit.as_secs_f32();
                return Err(Failed::new(format!(
                    "did not end within {seconds} s and was killed"
                )));
            }
        };
        if status.success() {
            return Ok(());
        }
        if talking {
            // Held open by something that left the group, its stderr may never end.
            let _ = tokio::time::timeout(LAST_WORDS, &mut talk).await;
        }
        drop(talk);
        Err(Failed {
            reason: format!("ended with {status}"),
            said: said.line(),
        })
    }

    fn not_started(&self, error: &io::Error) -> Failed {
        let program = self.program.to_string_lossy();
        Failed::new(match error.kind() {
            io::ErrorKind::NotFound if !program.contains('/') => {
                format!("there is no {program} on the daemon's PATH")
            }
            _ => format!("cannot start {program}: {error}"),
        })
    }
}

/// A program that does not want to read is none of our business.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input).await;
    }
}

/// Reads to the end, so that the program is not held up.
async fn listen(stderr: Option<ChildStderr>, said: &Said) {
    let Some(mut stderr) = stderr else { return };
    let mut chunk = vec![0; CHUNK];
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        said.keep(&chunk[..read]);
    }
}

/// The beginning of what a program said.
#[derive(Default)]
struct Said(Mutex<Vec<u8>>);

impl Said {
    fn keep(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_SAID_BYTES - kept.len();
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn line(&self) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = text::one_line(&String::from_utf8_lossy(&kept));
        (!line.is_empty()).then_some(line)
    }
}

/// Kills a process group when dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Self(pid.and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Usually nobody is left in it.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests;
