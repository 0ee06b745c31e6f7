//! `doctor` on machines in different states.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use common::{FakeDaemon, Machine, ok};
use serde_json::{Value, json};

/// The state of a check in a report.
#[track_caller]
fn state(report: &Value, check: &str) -> String {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|found| found["check"] == check);
    found.unwrap_or_else(|| panic!("{check}: {report}"))["state"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn set_up(machine: &Machine, mode: u32) {
    fs::create_dir_all(machine.data_dir()).unwrap();
    fs::write(machine.data_dir().join("gateway-config.json"), "{}").unwrap();
    fs::set_permissions(machine.data_dir(), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn each_missing_step_is_named_with_what_to_do() {
    let machine = Machine::with_daemon_program(None);
    let ended = machine.run(&["doctor"]);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    ended.error(1, "failed");
    assert_eq!(report["ok"], false);
    assert_eq!(state(&report, "clawchatd"), "failed");
    assert_eq!(state(&report, "folder"), "failed");
    assert_eq!(state(&report, "gateway"), "failed");

    let machine = Machine::with_daemon_program(Some("exit 1"));
    set_up(&machine, 0o755);
    let ended = machine.run(&["doctor"]);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(state(&report, "clawchatd"), "ok");
    assert_eq!(state(&report, "folder"), "failed", "others can read it");
    assert_eq!(state(&report, "gateway"), "ok");
    assert_eq!(state(&report, "daemon"), "failed");
    for check in report["checks"].as_array().unwrap() {
        assert!(check["state"] != "failed" || check["hint"].is_string(), "{check}");
    }
}

#[test]
fn a_mesh_peer_by_itself_is_examined_too() {
    let machine = Machine::with_daemon_program(Some("exit 1"));
    fs::create_dir_all(machine.data_dir()).unwrap();
    fs::set_permissions(machine.data_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    let _daemon = FakeDaemon::start(&machine.data_dir(), |request| {
        ok(match request["cmd"].as_str() {
            Some("mesh_check") => json!({"writable": false, "error": "No space left on device"}),
            _ => json!({
                "running": true, "loadedIdentities": [], "version": env!("CARGO_PKG_VERSION"),
                "mesh": {"listen": "0.0.0.0:5000", "tls": false, "links": [{"peerId": "a"}], "dialing": [],
                         "bootstrap": null, "counters": {"fromFuture": 0}},
            }),
        })
    });
    let ended = machine.run(&["doctor"]);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    ended.error(1, "failed");
    for (check, expected) in [
        ("gateway", "ok"),
        ("mesh port", "ok"),
        ("mesh neighbours", "ok"),
        ("mesh store", "failed"),
        ("mesh clock", "ok"),
    ] {
        assert_eq!(state(&report, check), expected, "{check}");
    }
    assert!(report.to_string().contains("No space left on device"), "{report}");
}

#[test]
fn a_healthy_gateway_is_found_healthy() {
    let machine = Machine::with_daemon_program(Some("exit 1"));
    set_up(&machine, 0o700);
    let _daemon = FakeDaemon::start(&machine.data_dir(), |request| {
        ok(match request["cmd"].as_str() {
            Some("peers") => json!([{"principal": "stacks:STB", "connected": true, "added": true}]),
            _ => json!({
                "principal": "stacks:STA", "version": env!("CARGO_PKG_VERSION"), "p2pPort": 9000,
                "multiaddrs": ["/ip4/192.0.2.1/tcp/9000"], "loadedIdentities": [{"principal": "stacks:STA"}],
                "nat": {"reachability": "public", "summary": "reachable from the internet"},
            }),
        })
    });
    let report = machine.run(&["doctor"]).json();
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(state(&report, "reachable"), "ok");
    assert_eq!(state(&report, "peers"), "ok");
    let text = machine.run(&["doctor", "--output", "text"]);
    assert_eq!(text.code, 0);
    assert!(
        text.stdout.contains("reachable from the internet"),
        "{}",
        text.stdout
    );
}
