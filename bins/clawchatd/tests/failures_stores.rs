//! Damaged keys and stores: the other identities are served, the damaged one is named, and nothing of it is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/gateways.rs"]
mod gateways;
#[path = "common/process.rs"]
mod process;
#[path = "common/wire.rs"]
mod wire;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gateways::{Gateway, PASSWORD, text};
use process::{contents, refusal};
use serde_json::{Value, json};
use wire::assert_alive;

/// A gateway with two identities, which have written to each other. It does not run.
struct Two {
    gateway: Gateway,
    first: String,
    second: String,
}

impl Two {
    fn set_up() -> Self {
        let mut gateway = Gateway::set_up(Path::new(env!("CARGO_BIN_EXE_clawchatd")), "first").unwrap();
        let add = json!({ "cmd": "identity_add", "nick": "second", "password": PASSWORD });
        let second = text(&gateway.offline(&add).unwrap(), "principal").unwrap();
        let first = gateway.principal().to_owned();
        gateway.start().unwrap();
        for (from, to) in [("first", &second), ("second", &first)] {
            for number in 0..5 {
                let request = json!({ "cmd": "send", "as": from, "to": to, "content": number.to_string(), "wait": 60_000 });
                gateway.ask(&request).unwrap();
            }
        }
        gateway.stop().unwrap();
        Self {
            gateway,
            first,
            second,
        }
    }

    fn folder(&self, principal: &str) -> PathBuf {
        self.gateway.home().join("identities").join(principal)
    }

    /// Starts it and expects that `whole` is served alone, and that `damaged` is named with a reason that has `parts`.
    /// Then stops it, and expects that nothing of `damaged` was touched.
    fn expect_only(&mut self, whole: &str, damaged: &str, parts: &[&str]) {
        let before = contents(&self.folder(damaged));
        self.gateway.start().unwrap();
        let status = self.gateway.ask(&json!({ "cmd": "status" })).unwrap();
        assert_eq!(status["principal"], whole, "{status}");
        assert_eq!(
            status["loadedIdentities"].as_array().unwrap().len(),
            1,
            "{status}"
        );
        assert_eq!(status["notLoaded"].as_array().unwrap().len(), 1, "{status}");
        assert_eq!(status["notLoaded"][0]["principal"], damaged, "{status}");
        let reason = status["notLoaded"][0]["reason"].as_str().unwrap();
        for part in parts.iter().chain([&damaged]) {
            assert!(reason.contains(part), "no {part} in {reason}");
        }
        assert_alive(&self.gateway, whole);
        let absent = json!({ "cmd": "inbox", "as": damaged });
        assert!(self.gateway.ask(&absent).is_err());
        self.gateway.stop().unwrap();
        assert!(
            contents(&self.folder(damaged)) == before,
            "files of {damaged} were touched"
        );
    }

    /// Starts it and expects that both are served, with all messages.
    fn expect_both(&mut self) {
        self.gateway.start().unwrap();
        for who in ["first", "second"] {
            let inbox = self.gateway.ask(&json!({ "cmd": "inbox", "as": who })).unwrap();
            let numbers = inbox.as_array().unwrap().iter().map(|entry| &entry["content"]);
            let numbers: Vec<&Value> = numbers.filter(|text| **text != "still there?").collect();
            assert_eq!(json!(numbers), json!(["0", "1", "2", "3", "4"]), "{who}");
        }
        self.gateway.stop().unwrap();
    }
}

/// Changes a file for the length of `work`.
fn with_changed(path: &Path, change: impl FnOnce(&mut Vec<u8>), work: impl FnOnce()) {
    let original = fs::read(path).unwrap();
    let mut changed = original.clone();
    change(&mut changed);
    assert_ne!(original, changed);
    fs::write(path, changed).unwrap();
    work();
    fs::write(path, original).unwrap();
}

/// Makes the file that says in which format a store is say the next one, with a right checksum.
fn make_newer(format: &mut [u8]) {
    format[11] += 1;
    let body = format.len() - 32;
    let mut tool = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(&format[..body]).unwrap();
    let printed = tool.wait_with_output().unwrap().stdout;
    let digits = printed.get(..64).unwrap();
    for (place, digits) in format[body..].iter_mut().zip(digits.chunks(2)) {
        *place = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    }
}

fn flip_in_the_middle(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
}

/// Of a database, which is empty in many places.
fn flip_some_that_count(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != 0).step_by(50) {
        *byte ^= 0x40;
    }
}

#[test]
fn what_is_wrong_with_one_identity_leaves_the_other_one_served() {
    let mut two = Two::set_up();
    let (first, second) = (two.first.clone(), two.second.clone());
    let (sound, broken) = (first.as_str(), second.as_str());
    let folder = two.folder(broken);
    let store = folder.join("store");

    let format = store.join("format");
    with_changed(
        &format,
        |bytes| make_newer(bytes),
        || {
            two.expect_only(
                sound,
                broken,
                &["format 3", "newer clawchatd", format.to_str().unwrap()],
            );
        },
    );
    let database = store.join("sled/db");
    with_changed(
        &database,
        |bytes| flip_some_that_count(bytes),
        || {
            two.expect_only(sound, broken, &["damaged", "backup", store.to_str().unwrap()]);
        },
    );
    let cut = |bytes: &mut Vec<u8>| {
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes.truncate(used / 2);
    };
    with_changed(&database, cut, || {
        two.expect_only(sound, broken, &["damaged", "backup", store.to_str().unwrap()]);
    });
    let keys = folder.join("identity.enc");
    with_changed(
        &keys,
        |bytes| flip_in_the_middle(bytes),
        || {
            two.expect_only(sound, broken, &["wrong password", keys.to_str().unwrap()]);
        },
    );
    with_changed(
        &keys,
        |bytes| bytes[0] = 3,
        || {
            two.expect_only(sound, broken, &["version 3", keys.to_str().unwrap()]);
        },
    );
    with_changed(&keys, Vec::clear, || {
        two.expect_only(sound, broken, &[keys.to_str().unwrap()]);
    });
    two.expect_both();

    // The first one is no exception.
    let database = two.folder(&first).join("store/sled/db");
    with_changed(
        &database,
        |bytes| flip_some_that_count(bytes),
        || {
            two.expect_only(&second, &first, &["damaged", "backup"]);
        },
    );
    two.expect_both();
}

#[test]
fn a_gateway_with_nothing_left_to_serve_refuses_to_start() {
    let mut two = Two::set_up();
    let databases = [&two.first, &two.second].map(|who| two.folder(who).join("store/sled/db"));
    with_changed(
        &databases[0],
        |bytes| flip_some_that_count(bytes),
        || {
            with_changed(
                &databases[1],
                |bytes| flip_some_that_count(bytes),
                || {
                    let before = contents(&two.gateway.home());
                    let mut command = two.gateway.command(&two.gateway.password_file());
                    let refused = refusal(&two.gateway, &mut command);
                    refused.expect(
                        1,
                        "storage_damaged",
                        &[&two.first, &two.second, "damaged", "Nothing was changed"],
                    );
                    assert!(
                        contents(&two.gateway.home()) == before,
                        "files were touched: {refused:?}"
                    );
                },
            );
        },
    );
    two.expect_both();
}
