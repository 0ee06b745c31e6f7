//! `cargo xtask demo`: build both binaries, then let `clawchat demo` show a conversation.

use std::process::Command;

use crate::build::{self, Profile};
use crate::{TaskResult, say};

pub(crate) fn run() -> TaskResult {
    let folder = build::binaries(Profile::Dev)?;
    let program = folder.join("clawchat");
    say(&format!("$ {} demo", program.display()));
    let status = Command::new(&program)
        .args(["--output", "text", "demo"])
        .status()
        .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the demo ended with {status}"))
    }
}
