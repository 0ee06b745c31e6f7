//! Command lines, environment, formats and exit codes, without any daemon behind them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;

use common::{FakeDaemon, Machine, ok};
use serde_json::json;

const SOMEBODY: &str = "stacks:ST3JJPDR32NBV4W4810F9S8AW2ESRMJHG9KPRBSM2";

#[test]
fn a_line_that_cannot_be_read_is_exit_2_and_one_json_line() {
    let machine = Machine::new();
    for line in [
        &["frobnicate"][..],
        &[],
        &["send", "bob"],
        &["send", "bob", "hi", "--wait", "soon"],
        &["send", "bob", "hi", "--expires", "-1d"],
        &["send", "bob", "hi", "--payload", "{"],
        &["recv", "--since", "yesterday"],
        &["daemon"],
        &["daemon", "start", "--port", "0"],
        &["up", "--port", "0"],
        &["gateway", "init", "--port", "65536"],
        &["gateway", "init", "--testnet", "--mainnet"],
        &["peers", "add", SOMEBODY],
        &["peers", "add", "clawchat:abc", "host:9000"],
        &["--output", "xml", "inbox"],
        &["--json", "--output", "text", "inbox"],
        &["--password", "a", "--password-file", "b", "inbox"],
    ] {
        let ended = machine.run(line);
        ended.error(2, "usage");
        assert_eq!(ended.stdout, "", "{line:?}");
    }
}

#[test]
fn in_text_format_a_mistake_is_one_line_for_people() {
    let machine = Machine::new();
    let ended = machine.run(&["--output", "text", "snd"]);
    assert_eq!(ended.code, 2);
    assert!(
        ended
            .stderr
            .starts_with("clawchat: unrecognized subcommand 'snd'"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stderr.lines().count(), 1);
}

#[test]
fn help_and_version_go_to_stdout() {
    let machine = Machine::new();
    for line in [&["--help"][..], &["help"], &["send", "--help"], &["--version"]] {
        let ended = machine.run(line);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{line:?}");
        assert!(ended.stdout.contains("clawchat"), "{line:?}");
    }
}

#[test]
fn without_a_daemon_commands_end_with_3() {
    let machine = Machine::new();
    for line in [
        &["send", "bob", "hi"][..],
        &["recv"],
        &["inbox"],
        &["outbox"],
        &["ask", "bob", "hi", "--timeout", "1"],
        &["reply", "00112233445566778899aabbccddeeff", "hi"],
        &["watch"],
        &["peers", "list"],
        &["peers", "add", SOMEBODY, "localhost:9000"],
        &["peers", "remove", "bob"],
        &["connect", "/ip4/127.0.0.1/tcp/9000"],
        &["daemon", "reload"],
        &["daemon", "metrics"],
    ] {
        let ended = machine.run(line);
        ended.error(3, "not_running");
        assert_eq!(ended.stdout, "", "{line:?}");
    }
    let ended = machine.run(&["--output", "text", "inbox"]);
    assert_eq!(ended.code, 3);
    assert!(
        ended.stderr.starts_with("clawchat: the daemon is not running"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stderr.lines().count(), 1);
    // What to do first depends on whether there is anything to start.
    assert!(ended.stderr.contains("clawchat up"), "{}", ended.stderr);
    fs::create_dir_all(machine.data_dir()).unwrap();
    fs::write(machine.data_dir().join("gateway-config.json"), "{}").unwrap();
    let hint = machine.run(&["inbox"]).error(3, "not_running")["hint"].clone();
    assert_eq!(hint, "start it with: clawchat daemon start");
}

#[test]
fn an_identity_from_before_gateways_is_taken_over_and_not_created() {
    let machine = Machine::new();
    fs::create_dir_all(machine.data_dir()).unwrap();
    fs::write(machine.data_dir().join("identity.enc"), "x").unwrap();
    let hint = machine.run(&["inbox"]).error(3, "not_running")["hint"].clone();
    let hint = hint.as_str().unwrap();
    for word in ["clawchat up", "clawchat daemon start", "takes it over"] {
        assert!(hint.contains(word), "{hint}");
    }
    assert!(!hint.contains("creates"), "{hint}");
}

#[test]
fn a_socket_nobody_listens_on_counts_as_no_daemon() {
    let machine = Machine::new();
    fs::create_dir_all(machine.data_dir()).unwrap();
    let path = machine.data_dir().join("clawchat.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    machine.run(&["inbox"]).error(3, "not_running");
    assert_eq!(
        machine.run(&["daemon", "status"]).json(),
        json!({"running": false})
    );
}

#[test]
fn a_file_in_the_place_of_the_folder_counts_as_no_daemon() {
    let machine = Machine::new();
    let file = machine.folder.path().join("file");
    fs::write(&file, "x").unwrap();
    machine
        .run(&["-d", file.to_str().unwrap(), "inbox"])
        .error(3, "not_running");
}

#[test]
fn a_folder_too_deep_for_a_socket_is_named() {
    let machine = Machine::new();
    let deep = machine.folder.path().join("x".repeat(120));
    let error = machine
        .run(&["-d", deep.to_str().unwrap(), "inbox"])
        .error(1, "io");
    assert!(error["hint"].as_str().unwrap().contains("--data-dir"), "{error}");
}

#[test]
fn status_and_stop_without_a_daemon_are_no_failures() {
    let machine = Machine::new();
    assert_eq!(
        machine.run(&["daemon", "status"]).json(),
        json!({"running": false})
    );
    assert_eq!(
        machine.run(&["daemon", "stop"]).json(),
        json!({"status": "not_running"})
    );
    let text = machine.run(&["--output", "text", "daemon", "status"]);
    assert!(
        text.stdout.starts_with("The daemon is not running."),
        "{}",
        text.stdout
    );
}

#[test]
fn flags_beat_the_environment() {
    let machine = Machine::new();
    let (home, elsewhere) = (machine.folder.path().join("a"), machine.folder.path().join("b"));
    let _a = FakeDaemon::start(&home, |request| {
        ok(json!([{"principal": "a", "as": request["as"]}]))
    });
    let _b = FakeDaemon::start(&elsewhere, |request| {
        ok(json!([{"principal": "b", "as": request["as"]}]))
    });
    let run = |line: &[&str]| {
        let mut command = machine.command(line);
        command
            .env("CLAWCHAT_DATA_DIR", &home)
            .env("CLAWCHAT_AS", "alice");
        common::Ended::from(command.output().unwrap()).json()
    };
    assert_eq!(
        run(&["peers", "list"]),
        json!([{"principal": "a", "as": "alice"}])
    );
    assert_eq!(
        run(&["peers", "list", "-d", elsewhere.to_str().unwrap(), "--as", "bob"]),
        json!([{"principal": "b", "as": "bob"}])
    );
}

#[test]
fn the_format_is_json_off_a_terminal_and_can_be_chosen() {
    let machine = Machine::new();
    let _daemon = FakeDaemon::answering(&machine.data_dir(), json!([]));
    assert_eq!(machine.run(&["peers", "list"]).stdout, "[]\n");
    assert_eq!(machine.run(&["--json", "peers", "list"]).stdout, "[]\n");
    let text = machine.run(&["peers", "list", "--output", "text"]).stdout;
    assert!(text.starts_with("No peers yet."), "{text}");
    let mut command = machine.command(&["peers", "list"]);
    let from_environment = command.env("CLAWCHAT_OUTPUT", "text").output().unwrap();
    assert_eq!(String::from_utf8(from_environment.stdout).unwrap(), text);
    let mut command = machine.command(&["peers", "list"]);
    let bad = common::Ended::from(command.env("CLAWCHAT_OUTPUT", "xml").output().unwrap());
    bad.error(2, "usage");
}

#[test]
fn a_password_on_the_command_line_is_warned_about_and_kept_out_of_stdout() {
    let machine = Machine::new();
    let _daemon = FakeDaemon::answering(&machine.data_dir(), json!([]));
    let ended = machine.run(&["peers", "list", "--password", "correct horse battery"]);
    assert_eq!(ended.json(), json!([]));
    assert!(
        ended.stderr.contains("--password is visible to other users"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("correct horse"));
}

#[test]
fn without_a_terminal_a_missing_password_names_the_flag() {
    let machine = Machine::with_daemon_program(Some("exit 1"));
    for line in [
        &["gateway", "init"][..],
        &["identity", "create"],
        &["gateway", "identity", "add", "--nick", "bob"],
        &["identity", "recover", "--mnemonic", "some words"],
    ] {
        let ended = machine.run(line);
        assert_eq!(ended.code, 2, "{line:?}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("--password-file"),
            "{line:?}: {}",
            ended.stderr
        );
    }
}

#[test]
fn completions_and_manual_need_nothing() {
    let machine = Machine::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = machine.run(&["completions", shell]);
        assert_eq!(ended.code, 0);
        assert!(ended.stdout.contains("clawchat"), "{shell}");
    }
    let page = machine.run(&["man"]);
    assert_eq!(page.code, 0);
    assert!(page.stdout.contains(".TH clawchat"), "{}", page.stdout);
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let machine = Machine::new();
    let message = json!({"id": "x", "content": "y".repeat(10_000), "arrival": 1});
    let _daemon = FakeDaemon::start(&machine.data_dir(), move |request| {
        if request["after"].is_null() {
            ok(json!(vec![message.clone(); 200]))
        } else {
            ok(json!([]))
        }
    });
    let mut child = machine.command(&["inbox"]).spawn().unwrap();
    drop(child.stdout.take());
    let ended = common::Ended::from(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
}
