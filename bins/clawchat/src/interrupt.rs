//! Ctrl-C and its kin, as decisions instead of sudden deaths.

use std::io;
use std::process;
use std::thread;

use clawchat_ipc::ErrorCode;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Failure, Outcome};
use crate::render;

/// From now on an interrupt ends the process with exit code 0, between two lines of output.
///
/// # Errors
/// When the system refuses to watch for signals.
pub(crate) fn end_quietly() -> Outcome {
    on_interrupt(|_| render::after_last_line(|| process::exit(0)))
}

/// From now on an interrupt calls `last`, with the exit code a shell expects of an interrupted program.
///
/// # Errors
/// When the system refuses to watch for signals.
pub(crate) fn on_interrupt(last: impl Fn(i32) + Send + 'static) -> Outcome {
    /// What shells add to a signal's number.
    const SIGNALLED: i32 = 128;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|error| cannot_watch(&error))?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                last(SIGNALLED + signal);
            }
        })
        .map_err(|error| cannot_watch(&error))?;
    Ok(())
}

fn cannot_watch(error: &io::Error) -> Failure {
    Failure::new(ErrorCode::Failed, format!("cannot watch for signals: {error}"))
}
