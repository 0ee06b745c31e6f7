//! `invite` against a fake daemon: what is asked, what is printed, and where the QR code goes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{FakeDaemon, Machine};
use serde_json::json;

const LINE: &str = "clawchat:abcdefghijklmnop";

#[test]
fn an_invite_is_asked_for_with_its_limits_and_printed_as_it_is() {
    let machine = Machine::new();
    let answer = json!({ "invite": LINE, "expiresAt": 1_795_253_412_000_u64, "id": "0a1b2c3d", "uses": 1 });
    let daemon = FakeDaemon::answering(&machine.data_dir(), answer.clone());
    let ended = machine.run(&["invite", "create", "--expires", "12h", "--uses", "1"]);
    assert_eq!(ended.json(), answer);
    assert_eq!(ended.stderr, "", "no QR code without a terminal");
    machine.run(&["invite", "create"]).json();
    assert_eq!(
        daemon.asked(),
        [
            json!({ "cmd": "invite_create", "expires": 43_200_000, "uses": 1 }),
            json!({ "cmd": "invite_create" }),
        ]
    );
    let text = machine.run(&["--output", "text", "invite", "create"]).stdout;
    assert_eq!(text.lines().next(), Some(LINE), "{text}");
    assert!(
        text.contains("for 1 peer") && text.contains("invite revoke 0a1b2c3d"),
        "{text}"
    );
}

#[test]
fn the_qr_code_is_drawn_on_stderr_when_it_is_asked_for() {
    let machine = Machine::new();
    let _daemon = FakeDaemon::answering(&machine.data_dir(), json!({ "invite": LINE }));
    let ended = machine.run(&["invite", "create", "--qr"]);
    ended.json();
    assert!(
        ended.stderr.lines().count() > 10 && ended.stderr.contains('▀'),
        "{}",
        ended.stderr
    );
    for line in [
        &["invite", "create", "--qr", "--no-qr"][..],
        &["invite", "create", "--uses", "0"],
        &["invite", "create", "--expires", "soon"],
        &["invite", "revoke"],
        &["invite"],
    ] {
        machine.run(line).error(2, "usage");
    }
}

#[test]
fn a_number_of_uses_that_cannot_be_is_refused_with_those_that_can() {
    let machine = Machine::new();
    for uses in ["0", "1025"] {
        let error = machine
            .run(&["invite", "create", "--uses", uses])
            .error(2, "usage");
        assert!(error["error"].as_str().unwrap().contains("1..=1024"), "{error}");
    }
    let _daemon = FakeDaemon::answering(&machine.data_dir(), json!({ "invite": LINE }));
    machine.run(&["invite", "create", "--uses", "1024"]).json();
}

#[test]
fn invites_are_listed_and_revoked() {
    let machine = Machine::new();
    let listed = json!([{ "id": "0a1b2c3d", "createdAt": 1, "expiresAt": 1_795_253_412_000_u64, "used": 1,
        "usedBy": ["stacks:STA"], "uses": 2, "state": "open" }]);
    let daemon = FakeDaemon::answering(&machine.data_dir(), listed.clone());
    assert_eq!(machine.run(&["invite", "list"]).json(), listed);
    let text = machine.run(&["--output", "text", "invite", "list"]).stdout;
    assert!(
        text.starts_with("0a1b2c3d  open  used 1 of 2  until ") && text.contains("stacks:STA"),
        "{text}"
    );
    drop(daemon);

    let revoked = json!({ "status": "revoked", "id": "0a1b2c3d", "used": 1 });
    let daemon = FakeDaemon::answering(&machine.data_dir(), revoked.clone());
    assert_eq!(machine.run(&["invite", "revoke", "0a1b2c3d"]).json(), revoked);
    assert_eq!(
        daemon.asked(),
        [json!({ "cmd": "invite_revoke", "invite": "0a1b2c3d" })]
    );
}
