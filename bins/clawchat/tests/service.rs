//! `service …` with shell scripts in the places of `systemctl`, `launchctl` and `clawchatd`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stderr, reason = "says what was skipped")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Ended, FakeDaemon, Machine};
use serde_json::{Value, json};

/// A systemd that does as it is told: a unit is enabled and active once that was asked for.
const SYSTEMD: &str = r#"
case "$2 $3" in
  "enable --now") touch "$STATE/on";;
  "disable --now") rm -f "$STATE/on";;
  "is-enabled "*) if [ -e "$STATE/on" ]; then echo enabled; else echo "no such unit" >&2; exit 1; fi;;
  "is-active "*) if [ -e "$STATE/on" ]; then echo "${ACTIVE:-active}"; else echo inactive; exit 3; fi;;
esac"#;

/// A systemd of another session, or none at all.
const NO_BUS: &str = r#"echo "Failed to connect to bus: No medium found" >&2; exit 1"#;

/// A launchd that does as it is told.
const LAUNCHD: &str = r#"
case "$1" in
  bootstrap) touch "$STATE/on";;
  bootout) rm -f "$STATE/on";;
  print) if [ -e "$STATE/on" ]; then printf '\tstate = running\n'; else exit 113; fi;;
esac"#;

/// A machine with a gateway, and a manager that notes what it is told.
struct Managed {
    machine: Machine,
    tools: PathBuf,
}

impl Managed {
    fn new(program: &str, script: &str) -> Self {
        let machine = Machine::with_daemon_program(Some("exit 1"));
        let tools = machine.folder.path().join("tools");
        fs::create_dir(&tools).unwrap();
        let script = format!("#!/bin/sh\necho \"$@\" >> \"$STATE/told\"\n{script}\n");
        common::install(script.as_bytes(), &tools.join(program));
        gateway_in(&machine.data_dir());
        Self { machine, tools }
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = self.machine.command(line);
        command
            .env("PATH", format!("{}:/usr/bin:/bin", self.tools.display()))
            .env("STATE", &self.tools);
        command
    }

    fn run(&self, line: &[&str]) -> Ended {
        Ended::from(self.command(line).output().unwrap())
    }

    /// What the manager was told since the last time, questions left out.
    fn told(&self) -> Vec<String> {
        let log = self.tools.join("told");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(log);
        let question = |line: &&str| line.contains("is-enabled") || line.contains("is-active");
        text.lines()
            .filter(|line| !question(line))
            .map(str::to_owned)
            .collect()
    }

    fn unit(&self, name: &str) -> PathBuf {
        let home = self.machine.folder.path().join("home");
        home.join(format!(".config/systemd/user/{name}.service"))
    }

    /// A password file with these permissions.
    fn password_file(&self, mode: u32) -> PathBuf {
        let path = self.machine.folder.path().join("my 50% \"secret\"");
        fs::write(&path, "correct horse battery\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

/// A home with one identity that keeps its password.
fn gateway_in(data_dir: &Path) {
    let identity = data_dir.join("identities/stacks:STA");
    fs::create_dir_all(&identity).unwrap();
    fs::write(identity.join("password"), "secret").unwrap();
    let config = json!({"version": 1, "identities": [{"principal": "stacks:STA", "autoload": true}]});
    fs::write(data_dir.join("gateway-config.json"), config.to_string()).unwrap();
}

/// A daemon that answers once the manager has started it.
fn serving(managed: &Managed) -> FakeDaemon {
    fs::write(managed.tools.join("on"), "").unwrap();
    FakeDaemon::answering(&managed.machine.data_dir(), json!({}))
}

#[test]
fn a_service_is_installed_shown_and_removed() {
    let managed = Managed::new("systemctl", SYSTEMD);
    let unit = managed.unit("clawchatd");
    let before = managed.run(&["service", "status"]).json();
    assert_eq!(
        before,
        json!({
            "installed": false, "platform": "systemd", "name": "clawchatd", "unit": unit,
            "enabled": false, "active": false, "upToDate": false,
        })
    );
    let daemon = serving(&managed);
    let installed = managed.run(&["service", "install"]).json();
    let shown =
        ["status", "platform", "name", "written", "enabled", "running"].map(|field| &installed[field]);
    assert_eq!(
        json!(shown),
        json!(["installed", "systemd", "clawchatd", true, true, true])
    );
    assert_eq!(
        managed.told(),
        [
            "--user daemon-reload",
            "--user reset-failed clawchatd.service",
            "--user enable --now clawchatd.service",
            "--user restart clawchatd.service",
        ]
    );
    let text = fs::read_to_string(&unit).unwrap();
    let (program, home) = (
        managed.machine.folder.path().join("bin/clawchatd"),
        managed.machine.data_dir(),
    );
    let start = format!("ExecStart=:{} --data-dir {}\n", program.display(), home.display());
    assert!(text.contains(&start), "{text}");
    assert!(
        text.contains(&format!(
            "Environment=PATH={}:/usr/bin:/bin\n",
            managed.tools.display()
        )),
        "{text}"
    );

    let status = managed.run(&["service", "status"]).json();
    for field in ["installed", "enabled", "active", "upToDate"] {
        assert_eq!(status[field], true, "{field}: {status}");
    }
    assert_eq!(
        (&status["dataDir"], &status["passwordFile"]),
        (&json!(home), &Value::Null)
    );

    managed.told();
    assert_eq!(
        managed.run(&["service", "uninstall"]).json(),
        json!({"status": "uninstalled", "name": "clawchatd", "unit": unit})
    );
    assert_eq!(
        managed.told(),
        [
            "--user disable --now clawchatd.service",
            "--user daemon-reload",
            "--user reset-failed clawchatd.service",
        ]
    );
    assert!(!unit.exists());
    assert!(home.join("gateway-config.json").exists());
    assert_eq!(
        managed.run(&["service", "uninstall"]).json()["status"],
        "not_installed"
    );
    drop(daemon);
}

#[test]
fn installing_again_changes_nothing_even_from_a_shell_with_another_path() {
    let managed = Managed::new("systemctl", SYSTEMD);
    let _daemon = serving(&managed);
    managed.run(&["service", "install"]).json();
    let text = fs::read_to_string(managed.unit("clawchatd")).unwrap();
    managed.told();
    let path = format!("{}:/usr/bin:/bin:/usr/sbin", managed.tools.display());
    let with_path = |line: &[&str]| Ended::from(managed.command(line).env("PATH", &path).output().unwrap());
    let again = with_path(&["service", "install"]).json();
    assert_eq!(
        (&again["status"], &again["written"]),
        (&json!("installed"), &json!(false))
    );
    assert_eq!(fs::read_to_string(managed.unit("clawchatd")).unwrap(), text);
    assert!(!managed.told().iter().any(|line| line.contains("restart")));
    assert_eq!(with_path(&["service", "status"]).json()["upToDate"], true);
    assert_eq!(
        with_path(&["service", "install", "--force"]).json()["written"],
        true
    );
    assert!(
        managed
            .told()
            .contains(&"--user restart clawchatd.service".to_owned())
    );
    assert!(
        fs::read_to_string(managed.unit("clawchatd"))
            .unwrap()
            .contains(&path)
    );
}

#[test]
fn a_unit_with_other_contents_is_replaced_only_by_force() {
    let managed = Managed::new("systemctl", SYSTEMD);
    let unit = managed.unit("clawchatd");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    fs::write(&unit, "[Service]\nExecStart=/bin/true\n").unwrap();
    let error = managed.run(&["service", "install"]).error(1, "already_exists");
    assert!(error["hint"].as_str().unwrap().contains("--force"), "{error}");
    managed.run(&["service", "uninstall"]).error(1, "foreign_unit");
    assert_eq!(managed.told(), [""; 0]);
    assert_eq!(
        fs::read_to_string(&unit).unwrap(),
        "[Service]\nExecStart=/bin/true\n"
    );
    let status = managed.run(&["service", "status"]).json();
    assert_eq!(
        (&status["installed"], &status["upToDate"]),
        (&json!(true), &json!(false))
    );
    managed
        .run(&["service", "install", "--force", "--no-enable"])
        .json();
    assert_eq!(managed.run(&["service", "status"]).json()["upToDate"], true);

    let file = managed.password_file(0o600);
    let other = [
        "service",
        "install",
        "--no-enable",
        "--password-file",
        file.to_str().unwrap(),
    ];
    managed.run(&other).error(1, "already_exists");
    let text = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, text.replace("RestartSec=5", "RestartSec=6")).unwrap();
    managed.run(&["service", "install"]).error(1, "already_exists");
    assert_eq!(managed.run(&["service", "status"]).json()["upToDate"], false);
    managed.run(&["service", "uninstall"]).json();
    assert!(!unit.exists());
}

#[test]
fn without_a_user_manager_it_says_what_was_written_and_what_to_run() {
    let managed = Managed::new("systemctl", NO_BUS);
    let unit = managed.unit("clawchatd");
    let error = managed
        .run(&["service", "install"])
        .error(1, "no_service_manager");
    let (what, hint) = (error["error"].as_str().unwrap(), error["hint"].as_str().unwrap());
    assert!(
        what.contains(unit.to_str().unwrap()) && what.contains("No medium found"),
        "{what}"
    );
    assert!(
        hint.contains("systemctl --user daemon-reload && systemctl --user enable --now clawchatd.service"),
        "{hint}"
    );
    assert_eq!((&error["unit"], &error["written"]), (&json!(unit), &json!(true)));
    assert!(unit.exists());
    let status = managed.run(&["service", "status"]).json();
    assert_eq!(
        (&status["enabled"], &status["active"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(status["upToDate"], true);

    let wants = unit.parent().unwrap().join("default.target.wants");
    fs::create_dir(&wants).unwrap();
    std::os::unix::fs::symlink(&unit, wants.join("clawchatd.service")).unwrap();
    let removed = managed.run(&["service", "uninstall"]).json();
    assert_eq!(removed["status"], "uninstalled");
    assert!(
        removed["warnings"][0]
            .as_str()
            .unwrap()
            .contains("No medium found"),
        "{removed}"
    );
    assert!(!unit.exists() && !wants.join("clawchatd.service").is_symlink());
}

#[test]
fn without_systemctl_the_unit_is_written_all_the_same() {
    let managed = Managed::new("systemctl", SYSTEMD);
    let none = |line: &[&str]| {
        Ended::from(
            managed
                .command(line)
                .env("PATH", "/no/such/folder")
                .output()
                .unwrap(),
        )
    };
    none(&["service", "install"]).error(1, "no_service_manager");
    assert!(managed.unit("clawchatd").exists());
    let written = none(&["service", "install", "--no-enable"]).json();
    assert_eq!(written["written"], false);
    assert!(
        written["next"].as_str().unwrap().contains("enable --now"),
        "{written}"
    );
    let text = fs::read_to_string(managed.unit("clawchatd")).unwrap();
    assert!(
        text.contains("Environment=PATH=/usr/local/bin:/usr/bin:/bin\n"),
        "{text}"
    );
}

#[test]
fn a_service_needs_a_gateway_and_a_password_only_the_user_can_read() {
    let managed = Managed::new("systemctl", SYSTEMD);
    let elsewhere = managed.machine.folder.path().join("elsewhere");
    let empty = ["service", "install", "-d", elsewhere.to_str().unwrap()];
    managed.run(&empty).error(1, "not_initialized");
    gateway_in(&elsewhere);
    fs::remove_file(elsewhere.join("identities/stacks:STA/password")).unwrap();
    let error = managed.run(&empty).error(2, "password_required");
    assert!(
        error["hint"].as_str().unwrap().contains("--password-file"),
        "{error}"
    );

    let with =
        |file: &Path| managed.run(&[&empty[..], &["--password-file", file.to_str().unwrap()]].concat());
    with(Path::new("/no/such/file")).error(1, "io");
    with(managed.machine.folder.path()).error(1, "failed");
    with(Path::new("-")).error(2, "usage");
    for mode in [0o644, 0o640, 0o604, 0o620] {
        let file = managed.password_file(mode);
        let error = with(&file).error(5, "password_file_open");
        assert!(
            error["hint"].as_str().unwrap().starts_with("chmod 600"),
            "{error}"
        );
    }
    let on_the_line = managed.run(&[&empty[..], &["--password", "correct horse battery"]].concat());
    assert_eq!(on_the_line.code, 2, "{}", on_the_line.stderr);
    assert_eq!(managed.told(), [""; 0]);
    assert!(
        !managed.unit("clawchatd").parent().unwrap().exists(),
        "nothing is written"
    );

    let file = managed.password_file(0o600);
    let written = Ended::from(
        managed
            .command(&[&empty[..], &["--no-enable"]].concat())
            .env("CLAWCHAT_PASSWORD_FILE", &file)
            .output()
            .unwrap(),
    );
    let unit = written.json()["unit"].as_str().unwrap().to_owned();
    assert!(unit.contains("/clawchatd-elsewhere-"), "{unit}");
    assert_eq!(fs::metadata(&unit).unwrap().permissions().mode() & 0o077, 0);
    verified(Path::new(&unit), managed.machine.folder.path());
}

#[test]
fn several_gateways_have_services_of_their_own() {
    let managed = Managed::new("systemctl", SYSTEMD);
    let second = managed.machine.folder.path().join("Bob's 100% \"é\" $HOME");
    gateway_in(&second);
    let second = second.to_str().unwrap();
    managed.run(&["service", "install", "--no-enable"]).json();
    let line = ["service", "install", "--no-enable", "-d", second];
    let one = managed.run(&line).json();
    assert!(
        one["name"].as_str().unwrap().starts_with("clawchatd-bob-s-100-"),
        "{one}"
    );
    assert_eq!(managed.run(&line).json()["written"], false);
    let named = managed.run(&[&line[..], &["--name", "bob"]].concat()).json();
    assert_eq!(named["unit"], json!(managed.unit("bob")));
    managed
        .run(&[&line[..], &["--name", "../bob"]].concat())
        .error(2, "usage");
    for unit in [&one["unit"], &named["unit"], &json!(managed.unit("clawchatd"))] {
        verified(Path::new(unit.as_str().unwrap()), managed.machine.folder.path());
    }
    assert_eq!(
        managed.run(&["service", "uninstall", "--name", "bob"]).json()["status"],
        "uninstalled"
    );
    assert!(managed.unit("clawchatd").exists());
}

#[test]
fn a_daemon_started_by_hand_is_not_fought_with() {
    let managed = Managed::new("systemctl", SYSTEMD);
    let _daemon = FakeDaemon::answering(&managed.machine.data_dir(), json!({}));
    let error = managed.run(&["service", "install"]).error(1, "already_running");
    assert!(error["hint"].as_str().unwrap().contains("daemon stop"), "{error}");
    assert!(!managed.unit("clawchatd").exists());
    managed.run(&["service", "install", "--no-enable"]).json();
}

#[test]
fn a_daemon_that_does_not_start_is_told() {
    let managed = Managed::new("systemctl", SYSTEMD);
    let failed = managed
        .command(&["service", "install"])
        .env("ACTIVE", "failed")
        .output();
    let error = Ended::from(failed.unwrap()).error(1, "service_failed");
    assert!(
        error["hint"]
            .as_str()
            .unwrap()
            .contains("journalctl --user -u clawchatd"),
        "{error}"
    );
}

#[test]
fn printing_needs_nothing_and_changes_nothing() {
    let managed = Managed::new("systemctl", NO_BUS);
    let line = [
        "service",
        "install",
        "--print",
        "-d",
        "/srv/chat",
        "--password-file",
        "/etc/chat/pw",
        "--name",
        "chat",
    ];
    let unit = managed.run(&line);
    assert_eq!((unit.code, unit.stderr.as_str()), (0, ""));
    assert!(
        unit.stdout
            .contains("--data-dir /srv/chat --password-file /etc/chat/pw\n"),
        "{}",
        unit.stdout
    );
    let agent = managed
        .run(&[&line[..], &["--platform", "launchd"]].concat())
        .stdout;
    let agent = plist::Value::from_reader_xml(agent.as_bytes()).unwrap();
    assert_eq!(
        agent.as_dictionary().unwrap()["Label"].as_string(),
        Some("io.github.clawchat.chat")
    );
    assert_eq!(managed.told(), [""; 0]);
    assert!(!managed.unit("chat").exists());
}

#[test]
fn a_launchd_agent_is_installed_shown_and_removed() {
    let managed = Managed::new("launchctl", LAUNCHD);
    let daemon = FakeDaemon::answering(&managed.machine.data_dir(), json!({}));
    drop(daemon);
    let on = ["--platform", "launchd"];
    let run = |line: &[&str]| managed.run(&[line, &on[..]].concat());
    let agent = managed
        .machine
        .folder
        .path()
        .join("home/Library/LaunchAgents/io.github.clawchat.clawchatd.plist");
    fs::write(managed.tools.join("on"), "").unwrap();
    let _daemon = FakeDaemon::answering(&managed.machine.data_dir(), json!({}));
    let installed = run(&["service", "install"]).json();
    assert_eq!(
        (&installed["unit"], &installed["running"]),
        (&json!(agent), &json!(true))
    );
    let uid = String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap();
    let domain = format!("gui/{}", uid.trim());
    let told = |managed: &Managed| {
        let mut told = managed.told();
        told.retain(|line| !line.starts_with("print"));
        told
    };
    let target = format!("{domain}/io.github.clawchat.clawchatd");
    assert_eq!(
        told(&managed),
        [
            format!("bootout {target}"),
            format!("enable {target}"),
            format!("bootstrap {domain} {}", agent.display()),
        ]
    );
    let status = run(&["service", "status"]).json();
    for field in ["installed", "enabled", "active", "upToDate"] {
        assert_eq!(status[field], true, "{field}: {status}");
    }
    assert_eq!(run(&["service", "install"]).json()["written"], false);
    assert_eq!(
        told(&managed),
        [format!("enable {target}"), format!("kickstart {target}")]
    );
    assert_eq!(run(&["service", "uninstall"]).json()["status"], "uninstalled");
    assert_eq!(told(&managed), [format!("bootout {target}")]);
    assert!(!agent.exists());
}

#[test]
fn people_read_what_was_done_and_what_is_left() {
    let managed = Managed::new("systemctl", SYSTEMD);
    let text = |line: &[&str]| managed.run(&[line, &["--output", "text"]].concat()).stdout;
    assert!(text(&["service", "status"]).starts_with("clawchatd is not installed."));
    let said = text(&["service", "install", "--no-enable"]);
    assert!(
        said.starts_with("Wrote ") && said.contains("enable --now clawchatd.service"),
        "{said}"
    );
    assert!(said.contains("loginctl enable-linger"), "{said}");
    let status = text(&["service", "status"]);
    assert!(
        status.contains("not running") && status.contains("journalctl --user -u clawchatd"),
        "{status}"
    );
    assert!(text(&["service", "uninstall"]).starts_with("Removed clawchatd"));
}

/// Has systemd itself read the unit, where it is installed: not a word of complaint.
fn verified(unit: &Path, scratch: &Path) {
    let runtime = scratch.join("runtime");
    fs::create_dir_all(&runtime).unwrap();
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--user"])
        .arg(unit)
        .env("XDG_RUNTIME_DIR", &runtime)
        .env("HOME", scratch)
        .output();
    let Ok(Output { status, stderr, .. }) = verified else {
        eprintln!("skipped: no systemd-analyze to verify {} with", unit.display());
        return;
    };
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success() && said.is_empty(), "{status}: {said}");
}
