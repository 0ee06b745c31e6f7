//! The home folder: whose it is, who holds it, and what is found in it after something went wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clawchat_gateway::admin::run_offline;
use clawchat_gateway::config::{GatewayConfig, NewIdentity};
use clawchat_gateway::home::{
    self, Home, HomeError, MAX_SOCKET_PATH_BYTES, Purpose, read_bounded, write_atomic,
};
use clawchat_ipc::{Call, ErrorCode, Request, Secret};

/// Where a test that runs again in a process of its own finds its folder.
const CHILD_DIR: &str = "CLAWCHAT_TEST_CHILD_DIR";
/// The user id of nobody.
const NOBODY: u32 = 65534;
const ALICE: &str = "stacks:ST1JAHE8GEHB0MCBGR8J6W0AA7TJEE1XKFSD2Q80H";

#[test]
fn a_new_home_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().join("a/b/home"));
    assert!(home.prepare().unwrap());
    assert!(!home.prepare().unwrap());
    assert_eq!(mode(home.root()), 0o700);
    write_atomic(&home.config_path(), b"{}").unwrap();
    assert_eq!(mode(&home.config_path()), 0o600);
}

#[test]
fn an_open_home_is_closed_and_other_folders_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str, mode, file: Option<&str>| {
        let home = Home::at(dir.path().join(name));
        fs::create_dir(home.root()).unwrap();
        fs::set_permissions(home.root(), Permissions::from_mode(mode)).unwrap();
        if let Some(file) = file {
            fs::write(home.root().join(file), "x").unwrap();
        }
        home
    };
    for home in [
        open("empty", 0o755, None),
        open("home", 0o755, Some("identity.enc")),
    ] {
        home.prepare().unwrap();
        assert_eq!(mode(home.root()), 0o700);
    }
    for home in [
        open("pictures", 0o755, Some("cat.png")),
        open("temporary", 0o1777, None),
    ] {
        let before = mode(home.root());
        let error = home.prepare().unwrap_err();
        assert!(matches!(error, HomeError::Shared { .. }), "{error}");
        assert!(error.hint().contains("--data-dir"));
        assert_eq!(mode(home.root()), before);
    }
    let file = Home::at(dir.path().join("home/identity.enc"));
    assert!(matches!(file.prepare(), Err(HomeError::NotADirectory { .. })));
}

#[test]
fn a_daemon_is_named_at_once_to_whoever_comes_second() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().join("home"));
    let lock = home.lock(Purpose::Daemon).unwrap();
    let pid_file = lock.write_pid().unwrap();
    assert_eq!(home.recorded_pid(), Some(std::process::id()));
    for purpose in [Purpose::Daemon, Purpose::Request] {
        let HomeError::AlreadyRunning { pid, .. } = home.lock(purpose).unwrap_err() else {
            panic!("another error for {purpose:?}");
        };
        assert_eq!(pid, Some(std::process::id()));
    }
    drop(pid_file);
    assert_eq!(home.recorded_pid(), None);
    drop(lock);
    home.lock(Purpose::Daemon).unwrap();
}

#[test]
fn short_requests_wait_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().join("home"));
    let counter = home.root().join("counter");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let _lock = home.lock(Purpose::Request).unwrap();
                let before = fs::read(&counter).map_or(0, |bytes| bytes.len());
                write_atomic(&counter, &vec![b'x'; before + 1]).unwrap();
            });
        }
    });
    assert_eq!(fs::read(&counter).unwrap().len(), 8);
}

#[test]
fn what_a_killed_process_left_half_written_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().join("home"));
    home.prepare().unwrap();
    let staged = home.identities_dir().join(".new-1-0");
    fs::create_dir_all(&staged).unwrap();
    fs::write(staged.join("identity.enc"), "x").unwrap();
    fs::write(home.root().join(".gateway-config.json.1-0.tmp"), "{").unwrap();
    fs::write(home.root().join(".profile"), "mine").unwrap();
    let _lock = home.lock(Purpose::Request).unwrap();
    assert_eq!(names(home.root()), [".profile", "home.lock", "identities"]);
    assert!(names(&home.identities_dir()).is_empty());
}

#[test]
fn a_socket_path_the_system_cannot_bind_is_refused_with_advice() {
    let home = Home::at(format!("/{}", "x".repeat(MAX_SOCKET_PATH_BYTES)));
    let error = home.socket().unwrap_err();
    assert!(matches!(error, HomeError::SocketPathTooLong { .. }));
    assert!(error.hint().contains("--data-dir"));
    assert!(Home::at("/short").socket().is_ok());
}

#[test]
fn reading_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    assert_eq!(read_bounded(&path, 3).unwrap(), None);
    fs::write(&path, "abc").unwrap();
    assert_eq!(read_bounded(&path, 3).unwrap().unwrap(), b"abc");
    let error = read_bounded(&path, 2).unwrap_err();
    assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    fs::write(&path, b"\xff").unwrap();
    assert!(matches!(
        home::read_text_bounded(&path, 3),
        Err(HomeError::NotText { .. })
    ));
}

#[test]
fn a_folder_that_cannot_be_used_is_named_with_what_to_do() {
    if let Some(dir) = child_dir() {
        let theirs = Home::at(dir.join("theirs")).prepare().unwrap_err();
        assert!(matches!(theirs, HomeError::NotOurs { owner: 0, .. }), "{theirs}");
        let closed = Home::at(dir.join("closed")).lock(Purpose::Request).unwrap_err();
        assert!(closed.to_string().contains("permission denied"), "{closed}");
        assert!(closed.to_string().contains("closed"), "{closed}");
        assert!(closed.hint().contains("permissions"), "{}", closed.hint());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    for name in ["theirs", "closed"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let closed = dir.path().join("closed");
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
    let mut child = again(
        "a_folder_that_cannot_be_used_is_named_with_what_to_do",
        dir.path(),
    );
    if rustix::process::geteuid().is_root() {
        // Nothing is closed to root: the test runs as somebody else.
        std::os::unix::fs::chown(&closed, Some(NOBODY), None).unwrap();
        child.uid(NOBODY).gid(NOBODY);
    } else {
        // Nobody but root gives folders away: one of root's own is somebody else's.
        fs::remove_dir(dir.path().join("theirs")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("theirs")).unwrap();
    }
    match child.output() {
        Ok(output) => assert_passed(&output),
        Err(error) => println!("skipped: the test binary cannot be run by another user: {error}"),
    }
}

#[test]
fn a_full_disk_leaves_the_old_file_and_nothing_half_written() {
    if let Some(dir) = child_dir() {
        let home = Home::at(dir.join("home"));
        let lock = home.lock(Purpose::Request).unwrap();
        let mut config =
            GatewayConfig::initial(9000, &NewIdentity::new(ALICE.parse().unwrap(), None)).unwrap();
        config.save(&lock).unwrap();
        let before = fs::read(home.config_path()).unwrap();
        let _ = fs::write(home.root().join("daemon.log"), vec![0; 1 << 20]);

        config.set_nick(ALICE, Some(&"alice".parse().unwrap())).unwrap();
        let error = config.save(&lock).unwrap_err();
        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert!(error.to_string().contains("gateway-config.json"), "{error}");
        assert!(error.hint().contains("free some space"), "{}", error.hint());
        assert_eq!(fs::read(home.config_path()).unwrap(), before);
        assert_eq!(
            names(home.root()),
            ["daemon.log", "gateway-config.json", "home.lock"]
        );
        drop(lock);

        fs::remove_file(home.config_path()).unwrap();
        let _ = fs::write(home.root().join("filler"), vec![0; 1 << 20]);
        let request = Request::GatewayInit {
            port: None,
            nick: None,
            network: None,
            password: Some(Secret::new("correct horse battery staple")),
            mnemonic: None,
            migrate: None,
        };
        let failure = run_offline(&home, Call::new(request)).unwrap_err();
        assert_eq!(failure.code, ErrorCode::StorageFull, "{failure}");
        assert_eq!(names(home.root()), ["daemon.log", "filler", "home.lock"]);
        return;
    }
    on_a_small_disk("a_full_disk_leaves_the_old_file_and_nothing_half_written", "");
}

#[test]
fn a_read_only_disk_is_named_with_what_to_do() {
    if let Some(dir) = child_dir() {
        let error = Home::at(dir.join("home")).lock(Purpose::Request).unwrap_err();
        assert!(error.to_string().contains("read-only"), "{error}");
        assert!(error.hint().contains("--data-dir"), "{}", error.hint());
        return;
    }
    on_a_small_disk(
        "a_read_only_disk_is_named_with_what_to_do",
        "mount -o remount,ro \"$0\" &&",
    );
}

/// Runs a test again in a process with a file system of 256 KiB of its own, where the system allows that.
fn on_a_small_disk(test: &str, then: &str) {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size=256k none \"$0\" && {then} echo mounted && exec \"$@\"");
    let child = again(test, dir.path());
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(dir.path())
        .arg(child.get_program())
        .args(child.get_args())
        .env(CHILD_DIR, dir.path())
        .output();
    match output {
        Ok(output) if output.stdout.starts_with(b"mounted") => assert_passed(&output),
        Ok(output) => println!(
            "skipped: no small disk: {}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => println!("skipped: no small disk: unshare: {error}"),
    }
}

fn assert_passed(output: &Output) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn again(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CHILD_DIR, dir);
    command
}

fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD_DIR).map(PathBuf::from)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
