//! `cargo xtask openclaw`: waking, tried with the real OpenClaw.
//!
//! The package wants a newer Node than distributions have, and npm carries Node itself. Both take 650 MB, so the usual
//! test run wakes a recording program instead, and says so.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{TaskResult, build, say};

/// The version the wake was written for.
const OPENCLAW: &str = "openclaw@2026.9.6";
/// A Node that it accepts.
const NODE: &str = "node@24";

/// Installs both under the target folder, once, and runs the test that uses them.
pub(crate) fn run() -> TaskResult {
    let folder = build::target_folder()?.join("interop/openclaw-2026.9.6");
    let (node, package) = (folder.join("node"), folder.join("openclaw"));
    let node_programs = node.join("node_modules/node/bin");
    let program = package.join("node_modules/.bin/openclaw");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", node_programs.display());
    if !node_programs.join("node").exists() {
        install(&node, NODE, &[], &path)?;
    }
    if !program.exists() {
        install(&package, OPENCLAW, &["--ignore-scripts"], &path)?;
    }
    let arguments = [
        "test",
        "--locked",
        "--package",
        "clawchatd",
        "--test",
        "wake",
        "openclaw_takes_the_event",
    ];
    let program = program.display().to_string();
    build::cargo(
        &arguments,
        &[("CLAWCHAT_TEST_OPENCLAW", &program), ("PATH", &path)],
    )
}

fn install(folder: &Path, package: &str, flags: &[&str], path: &str) -> TaskResult {
    say(&format!("$ npm install {package} (once)"));
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    // Without a manifest of its own npm would look for one in the folders above.
    let manifest = folder.join("package.json");
    fs::write(&manifest, "{\"private\":true}").map_err(|error| format!("{}: {error}", manifest.display()))?;
    let output = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", package])
        .args(flags)
        .current_dir(folder)
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("npm cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("npm install {package} failed: {}", complaint.trim()))
}
