//! One request without a daemon: `clawchatd offline` is run for it, with the request on its stdin and the answer on
//! its stdout. So one program alone ever opens keys and configuration.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use clawchat_ipc::client::ClientError;
use clawchat_ipc::{Call, ErrorCode};
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::{link, program};

/// Asks. What the stand-in logs goes to our stderr.
///
/// # Errors
/// What the answer says, or why there is none.
pub(crate) fn ask(home: &Path, call: &Call) -> Outcome<Value> {
    ask_by(home, call, Command::spawn)
}

/// The same; the stand-in is spawned by `spawn`.
///
/// # Errors
/// As [`ask`], and what `spawn` says.
pub(crate) fn ask_by(
    home: &Path,
    call: &Call,
    spawn: impl FnOnce(&mut Command) -> io::Result<Child>,
) -> Outcome<Value> {
    let cannot = |error: io::Error| {
        Failure::new(ErrorCode::Failed, format!("cannot run clawchatd: {error}"))
            .hint("check the installation of clawchatd")
    };
    let mut command = program::command(home, &[OsStr::new("offline")])?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = spawn(&mut command).map_err(cannot)?;
    let answer = match (child.stdin.take(), child.stdout.take()) {
        (Some(stdin), Some(stdout)) => clawchat_ipc::offline::ask(stdin, stdout, call),
        _ => Err(ClientError::Closed),
    };
    let status = child.wait().map_err(cannot)?;
    answer.map_err(|error| {
        if !matches!(error, ClientError::Closed | ClientError::Malformed { .. }) {
            return link::failure(error);
        }
        Failure::new(ErrorCode::Failed, format!("clawchatd gave no answer ({status})"))
            .hint("are clawchat and clawchatd of the same version?")
    })
}
