//! Starting and stopping a daemon, with a shell script in the place of `clawchatd`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::{Answer, FakeDaemon, Machine, ok};
use serde_json::{Value, json};

const STARTED: &str = r#"echo '{"event":"started","pid":7,"principal":"stacks:STA","peerId":"12D3","multiaddrs":["/a"],"p2pPort":9000}'"#;

/// A home with one identity whose password is kept there.
fn gateway_in(data_dir: &Path) {
    let identity = data_dir.join("identities/stacks:STA");
    fs::create_dir_all(&identity).unwrap();
    fs::write(identity.join("password"), "secret").unwrap();
    let config = json!({"version": 1, "identities": [{"principal": "stacks:STA", "autoload": true}]});
    fs::write(data_dir.join("gateway-config.json"), config.to_string()).unwrap();
}

#[test]
fn a_missing_clawchatd_is_named() {
    let machine = Machine::with_daemon_program(None);
    gateway_in(&machine.data_dir());
    for line in [
        &["daemon", "start"][..],
        &["daemon", "start", "--foreground"],
        &["gateway", "identity", "list"],
    ] {
        let error = machine.run(line).error(1, "daemon_not_found");
        assert!(error["error"].as_str().unwrap().contains("clawchatd"), "{error}");
        assert_ne!(error["hint"], "");
    }
}

#[test]
fn starting_answers_with_the_daemons_facts() {
    let machine = Machine::with_daemon_program(Some(&format!("echo \"$@\" >&2; {STARTED}")));
    gateway_in(&machine.data_dir());
    let started = machine.run(&["daemon", "start", "--port", "9100"]).json();
    assert_eq!(
        started,
        json!({"status": "started", "pid": 7, "principal": "stacks:STA", "peerId": "12D3", "multiaddrs": ["/a"], "p2pPort": 9000})
    );
    let log = machine.data_dir().join("daemon.log");
    let said = fs::read_to_string(&log).unwrap();
    assert!(
        said.contains("--port 9100") && !said.contains("--password-stdin"),
        "{said}"
    );
    assert!(
        said.contains(&format!("--data-dir {}", machine.data_dir().display())),
        "{said}"
    );
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_daemon_is_told_to_wake_openclaw() {
    let script = format!("echo \"$@\" > \"$0.arguments\"\n{STARTED}");
    let machine = Machine::with_daemon_program(Some(&script));
    gateway_in(&machine.data_dir());
    let ended = machine.run(&["daemon", "start", "--openclaw-wake"]);
    assert_eq!(ended.json().get("warnings"), None);
    let arguments = fs::read_to_string(machine.daemon_program().with_extension("arguments")).unwrap();
    assert!(
        arguments.split_whitespace().any(|word| word == "--openclaw-wake"),
        "{arguments}"
    );
}

#[test]
fn what_could_not_be_taken_over_is_a_warning_of_the_start() {
    let problem =
        r#"{"principal":"stacks:STA","file":"/x/inbox.json","line":3,"column":9,"error":"left as it is"}"#;
    let started = STARTED.replace("\"pid\":7", &format!("\"pid\":7,\"importProblems\":[{problem}]"));
    let machine = Machine::with_daemon_program(Some(&started));
    gateway_in(&machine.data_dir());
    let answer = machine.run(&["daemon", "start"]).json();
    assert_eq!(answer["warnings"], json!(["/x/inbox.json:3:9: left as it is"]));
    assert_eq!(answer["importProblems"][0]["line"], 3);
}

#[test]
fn the_password_of_an_old_single_identity_folder_is_asked_for() {
    let machine = Machine::with_daemon_program(Some(STARTED));
    fs::create_dir_all(machine.data_dir()).unwrap();
    fs::write(machine.data_dir().join("identity.enc"), "x").unwrap();
    machine.run(&["daemon", "start"]).error(2, "password_required");
    fs::write(machine.data_dir().join("password"), "x").unwrap();
    assert_eq!(machine.run(&["daemon", "start"]).json()["status"], "started");
}

const TESTNET: &str = "stacks:ST3JJPDR32NBV4W4810F9S8AW2ESRMJHG9KPRBSM2";

/// A daemon of the testnet on port 9000 that does what it is told.
fn testnet_daemon(request: &Value) -> Answer {
    match request["cmd"].as_str() {
        Some("status") => ok(json!({
            "principal": TESTNET, "p2pPort": 9000, "loadedIdentities": [{"principal": TESTNET, "nick": "al"}],
        })),
        Some("identity_list") => ok(json!({"identities": [{"principal": TESTNET}]})),
        _ => ok(json!({})),
    }
}

#[test]
fn up_keeps_what_its_flags_say_of_a_running_daemon() {
    let machine = Machine::new();
    let daemon = FakeDaemon::start(&machine.data_dir(), testnet_daemon);
    let up = machine.run(&["up", "--nick", "al", "--port", "9100"]).json();
    assert_eq!((&up["p2pPort"], &up["nick"]), (&json!(9000), &json!("al")));
    assert_eq!(up["network"], "testnet");
    let warning = up["warnings"][0].as_str().unwrap();
    assert!(warning.contains("9100 counts from its next start"), "{warning}");
    assert_eq!(
        daemon.asked(),
        [
            json!({"cmd": "identity_set_nick", "nick": "al"}),
            json!({"cmd": "gateway_set", "port": 9100}),
            json!({"cmd": "status"}),
        ]
    );
    let same = machine.run(&["up", "--port", "9000"]).json();
    assert_eq!(same["warnings"], Value::Null);
    let text = machine.run(&["--output", "text", "up", "--port", "9100"]);
    assert!(
        text.stderr
            .starts_with("warning: the running daemon stays on port 9000"),
        "{}",
        text.stderr
    );
}

#[test]
fn up_does_not_move_a_gateway_to_another_network() {
    let machine = Machine::new();
    let daemon = FakeDaemon::start(&machine.data_dir(), testnet_daemon);
    machine
        .run(&["up", "--mainnet", "--nick", "al", "--port", "9100"])
        .error(5, "wrong_network");
    assert_eq!(daemon.asked(), [json!({"cmd": "identity_list"})]);
}

#[test]
fn up_shows_the_words_of_a_new_identity_even_if_the_daemon_does_not_start() {
    let script = r#"if test "$3" = offline; then
            mkdir -p "$2"; echo '{"version":1,"identities":[]}' > "$2/gateway-config.json"
            echo '{"ok":true,"data":{"principal":"stacks:STA","mnemonic":"a b c"}}'
        else
            echo '{"event":"failed","error":"port 9000 is in use","code":"network","hint":"choose another"}'; exit 1
        fi"#;
    let machine = Machine::with_daemon_program(Some(script));
    let error = machine.run(&["up"]).error(1, "network");
    assert_eq!(
        (&error["data"]["created"], &error["data"]["mnemonic"]),
        (&json!(true), &json!("a b c"))
    );
    assert_eq!(error["data"]["status"], Value::Null);
    fs::remove_dir_all(machine.data_dir()).unwrap();
    let text = machine.run(&["--output", "text", "up"]);
    assert!(
        text.stderr.contains("recovery words, write them down: a b c\n"),
        "{}",
        text.stderr
    );
}

#[test]
fn up_waits_for_another_command_that_starts_the_daemon() {
    let script = r#"test -e "$2/tried" && { echo "$@" >> "$2/again"; exit 1; }
        touch "$2/tried"
        echo '{"event":"failed","error":"a daemon is already running","code":"already_running"}'; exit 1"#;
    let machine = Machine::with_daemon_program(Some(script));
    gateway_in(&machine.data_dir());
    // The second attempt is made, and its failure is another one.
    machine.run(&["up"]).error(1, "failed");
    assert!(machine.data_dir().join("again").exists());
}

#[test]
fn up_sets_the_port_of_a_stopped_gateway_before_it_starts() {
    let script = format!(
        r#"if test "$3" = offline; then read -r line; echo "$line" >> "$2/asked"; echo '{{"ok":true,"data":{{}}}}'; exit; fi
        cp "$2/asked" "$2/asked-before-start"; echo "$@" >> "$2/started"; {STARTED}"#
    );
    let machine = Machine::with_daemon_program(Some(&script));
    gateway_in(&machine.data_dir());
    // The script serves no socket, so there is no status to tell.
    assert_eq!(machine.run(&["up", "--port", "9100"]).code, 3);
    let asked = fs::read_to_string(machine.data_dir().join("asked-before-start")).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&asked).unwrap(),
        json!({"cmd": "gateway_set", "port": 9100})
    );
    let started = fs::read_to_string(machine.data_dir().join("started")).unwrap();
    assert!(!started.contains("--port"), "{started}");
}

#[test]
fn a_password_goes_over_stdin_and_never_through_arguments() {
    let machine = Machine::with_daemon_program(Some(&format!("echo \"$@\" >&2; cat >&2; {STARTED}")));
    gateway_in(&machine.data_dir());
    let file = machine.folder.path().join("password");
    fs::write(&file, "correct horse battery\n").unwrap();
    machine
        .run(&["daemon", "start", "--password-file", file.to_str().unwrap()])
        .json();
    let said = fs::read_to_string(machine.data_dir().join("daemon.log")).unwrap();
    let (arguments, stdin) = said.split_once('\n').unwrap();
    assert!(
        arguments.contains("--password-stdin") && !arguments.contains("horse"),
        "{arguments}"
    );
    assert_eq!(stdin, "correct horse battery");
}

#[test]
fn without_kept_passwords_and_without_a_terminal_the_flag_is_named() {
    let machine = Machine::with_daemon_program(Some(STARTED));
    gateway_in(&machine.data_dir());
    fs::remove_file(machine.data_dir().join("identities/stacks:STA/password")).unwrap();
    let error = machine.run(&["daemon", "start"]).error(2, "password_required");
    assert!(error["hint"].as_str().unwrap().contains("--password-file"));
}

#[test]
fn a_daemon_that_does_not_start_says_why_with_its_log() {
    let script = r#"echo "line of the log" >&2
        echo "clawchatd: wrong password for stacks:STA" >&2
        echo '{"event":"failed","error":"wrong password for stacks:STA","code":"wrong_password","hint":"try again"}'
        exit 5"#;
    let machine = Machine::with_daemon_program(Some(script));
    gateway_in(&machine.data_dir());
    fs::write(machine.data_dir().join("daemon.log"), "of an earlier run\n").unwrap();
    let error = machine.run(&["daemon", "start"]).error(5, "wrong_password");
    assert_eq!(error["error"], "wrong password for stacks:STA");
    assert_eq!(
        error["log"],
        json!(["line of the log", "clawchatd: wrong password for stacks:STA"])
    );
    let text = machine.run(&["--output", "text", "daemon", "start"]);
    assert_eq!(
        text.stderr,
        "clawchat: wrong password for stacks:STA (try again)\n  log: line of the log\n"
    );
}

#[test]
fn a_daemon_that_just_ends_is_a_failure_with_its_log() {
    let machine = Machine::with_daemon_program(Some("echo boom >&2; exit 1"));
    gateway_in(&machine.data_dir());
    let error = machine.run(&["daemon", "start"]).error(1, "failed");
    assert_eq!(error["log"], json!(["boom"]));
}

#[test]
fn without_a_gateway_there_is_nothing_to_start() {
    let machine = Machine::with_daemon_program(Some(STARTED));
    let error = machine.run(&["daemon", "start"]).error(1, "not_initialized");
    assert!(error["hint"].as_str().unwrap().contains("clawchat up"));
    assert!(
        !machine.data_dir().exists(),
        "a failed start leaves nothing behind"
    );
}

#[test]
fn a_second_daemon_is_refused() {
    let machine = Machine::with_daemon_program(Some(STARTED));
    gateway_in(&machine.data_dir());
    let _daemon = FakeDaemon::answering(&machine.data_dir(), json!({"principal": "stacks:STA", "pid": 42}));
    let error = machine.run(&["daemon", "start"]).error(1, "already_running");
    assert_eq!(error["pid"], 42);
    machine
        .run(&["daemon", "start", "--foreground"])
        .error(1, "already_running");
}

#[test]
fn in_the_foreground_clawchatd_takes_the_place_of_clawchat() {
    let machine = Machine::with_daemon_program(Some("echo \"$$ $@\"; cat; exit 7"));
    gateway_in(&machine.data_dir());
    let child = machine
        .command(&["daemon", "start", "--foreground", "--password", "correct horse"])
        .spawn()
        .unwrap();
    let pid = child.id();
    let ended = common::Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, 7);
    assert!(ended.stdout.starts_with(&format!("{pid} ")), "{}", ended.stdout);
    assert!(
        ended.stdout.ends_with("--password-stdin\ncorrect horse"),
        "{}",
        ended.stdout
    );
}

#[test]
fn status_is_the_daemons_marked_as_running() {
    let machine = Machine::new();
    let _daemon = FakeDaemon::start(&machine.data_dir(), |request| {
        let principal = if request["as"] == "nobody" {
            "unknown"
        } else {
            "stacks:STA"
        };
        ok(json!({"principal": principal, "peerId": "12D3", "multiaddrs": []}))
    });
    let status = machine.run(&["daemon", "status"]).json();
    assert_eq!(
        status,
        json!({"running": true, "principal": "stacks:STA", "peerId": "12D3", "multiaddrs": []})
    );
    machine
        .run(&["daemon", "status", "--as", "nobody"])
        .error(4, "no_such_identity");
}

#[test]
fn stop_is_done_when_the_home_is_free() {
    let machine = Machine::new();
    fs::create_dir_all(machine.data_dir()).unwrap();
    let lock = fs::File::create(machine.data_dir().join("home.lock")).unwrap();
    lock.lock().unwrap();
    let held = std::sync::Mutex::new(Some(lock));
    let daemon = FakeDaemon::start(&machine.data_dir(), move |request| {
        assert_eq!(request["cmd"], "stop");
        held.lock().unwrap().take();
        Answer::LinesThenEnd(Vec::new())
    });
    assert_eq!(
        machine.run(&["daemon", "stop"]).json(),
        json!({"status": "stopped"})
    );
    assert_eq!(daemon.asked().len(), 1);
}

#[test]
fn removing_a_peer_that_is_not_there_ends_with_4() {
    let machine = Machine::new();
    let daemon = FakeDaemon::start(&machine.data_dir(), |request| match request["cmd"].as_str() {
        Some("peers") => ok(json!([{"principal": "stacks:STB", "alias": "bob"}])),
        _ => Answer::Line(json!({"ok": true})),
    });
    let removed = machine.run(&["peers", "remove", "bob"]).json();
    assert_eq!(removed, json!({"status": "removed", "principal": "stacks:STB"}));
    assert_eq!(
        daemon.asked().pop().unwrap(),
        json!({"cmd": "peer_remove", "principal": "stacks:STB"})
    );
    machine
        .run(&["peers", "remove", "carol"])
        .error(4, "no_such_peer");
}

#[test]
fn administration_goes_to_the_daemon_if_one_runs_else_offline() {
    let script = r#"test "$3" = offline || exit 9
        read -r line
        echo "$line" > "$2.asked"
        echo '{"ok":true,"data":{"identities":[]}}'"#;
    let machine = Machine::with_daemon_program(Some(script));
    assert_eq!(
        machine.run(&["gateway", "identity", "list"]).json(),
        json!({"identities": []})
    );
    let asked = fs::read_to_string(machine.data_dir().with_extension("asked"))
        .or_else(|_| fs::read_to_string(format!("{}.asked", machine.data_dir().display())))
        .unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&asked).unwrap()["cmd"],
        "identity_list"
    );

    let daemon = FakeDaemon::answering(&machine.data_dir(), json!({"status": "allowed"}));
    machine
        .run(&["gateway", "identity", "allow", "alice", "*"])
        .json();
    assert_eq!(
        daemon.asked(),
        [json!({"cmd": "identity_allow", "who": "alice", "peer": "*"})]
    );
}

#[test]
fn offline_failures_keep_their_code() {
    let script = r#"echo '{"ok":false,"error":"Gateway mode already initialized","code":"already_initialized"}'; exit 1"#;
    let machine = Machine::with_daemon_program(Some(script));
    machine
        .run(&["gateway", "identity", "list"])
        .error(1, "already_initialized");
    let broken = Machine::with_daemon_program(Some("exit 3"));
    assert_eq!(broken.run(&["gateway", "identity", "list"]).code, 1);
}

#[test]
fn metrics_are_a_list_for_programs_and_prometheus_text_for_prometheus() {
    let machine = Machine::new();
    let list = json!({"metrics": [{"name": "clawchat_sessions", "type": "gauge", "help": "x", "samples": [{"value": 1}]}]});
    let text = "# HELP a x\n# TYPE a gauge\na{b=\"c\"} 1\n";
    let answer = list.clone();
    let daemon = FakeDaemon::start(&machine.data_dir(), move |request| {
        ok(if request["text"] == true {
            json!({"text": text})
        } else {
            answer.clone()
        })
    });
    assert_eq!(machine.run(&["daemon", "metrics"]).json(), list);
    let shown = machine.run(&["daemon", "metrics", "--output", "text"]);
    assert_eq!((shown.code, shown.stdout.as_str()), (0, text));
    let asked = daemon.asked();
    assert_eq!(asked[0]["cmd"], "metrics");
    assert_eq!(asked[1]["text"], true);
}
