//! One request without a daemon: `clawchatd offline` is run for it, with the request on its stdin and the answer on
//! its stdout. So one program alone ever opens keys and configuration.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

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
    ask_known(home, call, |_| ())
}

/// The same; `spawned` is told the process id of the stand-in.
///
/// # Errors
/// As [`ask`].
pub(crate) fn ask_known(home: &Path, call: &Call, spawned: impl FnOnce(u32)) -> Outcome<Value> {
    let cannot = |error: std::io::Error| {
        Failure::new(ErrorCode::Failed, format!("cannot run clawchatd: {error}"))
            .hint("check the installation of clawchatd")
    };
    let mut child = program::command(home, &[OsStr::new("offline")])?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    spawned(child.id());
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
