//! `cargo xtask test`: all that CI runs, in the order that fails fastest.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{TaskResult, build, interop, layers, natlab, say};

pub(crate) fn run() -> TaskResult {
    let started = Instant::now();
    build::cargo(&["fmt", "--all", "--check"], &[])?;
    layers::run()?;
    licences()?;
    build::cargo(
        &[
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ],
        &[],
    )?;
    build::cargo(
        &[
            "doc",
            "--locked",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ],
        &[(
            "RUSTDOCFLAGS",
            "--deny warnings --allow rustdoc::private_intra_doc_links",
        )],
    )?;
    // Both binaries are needed by the end-to-end tests of either; building the workspace's tests makes them.
    build::cargo(&["test", "--locked", "--workspace", "--no-fail-fast"], &[])?;
    interop::run_where_possible()?;
    natlab::run_where_possible()?;
    say(&format!(
        "all checks passed in {:.0} s",
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Licences, duplicate versions and sources, where cargo-deny is installed.
fn licences() -> TaskResult {
    let installed = Command::new("cargo-deny")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !installed {
        say(
            "skipped: licence check (cargo-deny is not installed; `cargo install cargo-deny --locked` adds it)",
        );
        return Ok(());
    }
    build::cargo(&["deny", "--locked", "check", "bans", "licenses", "sources"], &[])
}
