use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;

/// More than any test takes.
const LONG: Duration = Duration::from_secs(60);

/// A folder with a shell script in it.
fn script(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    // Renamed when it is complete and closed: a program that is still being written cannot be run.
    let draft = folder.path().join("draft");
    fs::write(
        &draft,
        format!("#!/bin/sh\ncd '{}'\n{text}\n", folder.path().display()),
    )
    .unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&draft, &path).unwrap();
    (folder, path)
}

fn program(path: &Path, arguments: &[&str], input: &str) -> Program {
    Program {
        program: path.into(),
        arguments: arguments.iter().map(OsString::from).collect(),
        input: input.into(),
    }
}

/// Runs it; another test's child may hold the script open for writing between its fork and exec.
async fn run(path: &Path, arguments: &[&str], input: &str, limit: Duration) -> Result<(), Failed> {
    loop {
        match program(path, arguments, input).run(limit).await {
            Err(failed) if failed.reason.contains("Text file busy") => tokio::task::yield_now().await,
            result => return result,
        }
    }
}

#[tokio::test]
async fn arguments_and_input_arrive_as_they_are() {
    let (folder, path) = script(r#"printf '%s\0' "$@" > arguments; cat > input"#);
    let arguments = [
        "--text",
        "a \"b\" 'c' $(touch pwned) `touch pwned`\n;&|> \\",
        "",
        "é",
    ];
    run(&path, &arguments, "{\"x\":1}\n", LONG).await.unwrap();
    let written = fs::read_to_string(folder.path().join("arguments")).unwrap();
    assert_eq!(written.split_terminator('\0').collect::<Vec<_>>(), arguments);
    assert_eq!(
        fs::read_to_string(folder.path().join("input")).unwrap(),
        "{\"x\":1}\n"
    );
    assert!(!folder.path().join("pwned").exists());
}

#[tokio::test]
async fn a_failure_says_how_it_ended_and_what_it_said() {
    let (_folder, path) = script("echo no >&2; echo; exit 3");
    let failed = run(&path, &[], "", LONG).await.unwrap_err();
    assert_eq!(failed.reason, "ended with exit status: 3");
    assert_eq!(failed.in_full(), "ended with exit status: 3: no");
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let failed = program(Path::new("no-such-program-here"), &[], "")
        .run(LONG)
        .await;
    assert_eq!(
        failed.unwrap_err().reason,
        "there is no no-such-program-here on the daemon's PATH"
    );
    let failed = program(Path::new("/no/such/program"), &[], "").run(LONG).await;
    assert!(
        failed
            .unwrap_err()
            .reason
            .starts_with("cannot start /no/such/program")
    );
}

#[tokio::test]
async fn what_is_printed_is_dropped_however_much_it_is() {
    let (_folder, path) = script("head -c 100000000 /dev/zero; head -c 100000000 /dev/zero >&2");
    run(&path, &[], &"not read ".repeat(100_000), LONG).await.unwrap();
    let (_folder, path) = script("head -c 100000000 /dev/zero | tr '\\0' x >&2; exit 1");
    let failed = run(&path, &[], "", LONG).await.unwrap_err();
    assert!(failed.in_full().len() < 1000, "{}", failed.in_full().len());
}

/// Whether the process of this number is gone, or dead and only not buried yet.
fn is_gone(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is() {
        assert!(Instant::now() < deadline, "waiting until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_hangs_is_killed_with_all_it_started() {
    let (folder, path) =
        script("trap '' TERM HUP; sleep 1000 & echo $! > draft.pid; mv draft.pid pid; sleep 1000");
    let file = folder.path().join("pid");
    // On a busy machine it may be killed before it has started anything.
    for seconds in [2, 8, 30] {
        let failed = run(&path, &[], "", Duration::from_secs(seconds))
            .await
            .unwrap_err();
        assert_eq!(
            failed.reason,
            format!("did not end within {seconds} s and was killed")
        );
        if file.exists() {
            break;
        }
    }
    let pid = fs::read_to_string(file).unwrap();
    until("its child is gone", || is_gone(pid.trim())).await;
}

#[tokio::test]
async fn what_is_left_behind_is_killed() {
    let (folder, path) = script("sleep 1000 & echo $! > pid; exit 1");
    run(&path, &[], "", LONG).await.unwrap_err();
    let pid = fs::read_to_string(folder.path().join("pid")).unwrap();
    until("its child is gone", || is_gone(pid.trim())).await;
}

#[tokio::test]
async fn what_is_no_longer_wanted_is_killed() {
    let (folder, path) = script("echo $$ > draft.pid; mv draft.pid pid; sleep 1000");
    let running = tokio::spawn(async move { run(&path, &[], "", LONG).await });
    let file = folder.path().join("pid");
    until("it runs", || file.exists()).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    let pid = fs::read_to_string(file).unwrap();
    until("it is gone", || is_gone(pid.trim())).await;
}
