//! Everything a recorded ClawChat daemon was asked over its socket, asked again of real gateways.
//!
//! What it answered is expected of us too, in every field it had, but for the deviations listed here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/gateways.rs"]
mod gateways;
#[path = "common/shape.rs"]
mod shape;
#[path = "common/wire.rs"]
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gateways::Gateway;
use serde_json::{Value, json};
use shape::Ids;
use wire::{assert_alive, one_answer, settle};

/// The second identity of the first gateway, and the identity of the second gateway, in the recording.
const ALICE2: &str = "stacks:STYVBQC2MG7BX4H0PCZWM8THCFV9EB3NSX83S0Z4";
const BOB: &str = "stacks:ST3JJPDR32NBV4W4810F9S8AW2ESRMJHG9KPRBSM2";
/// Opens the recorded keystore of the first identity.
const PASSWORD: &str = "correct horse battery staple";
/// Placeholder of a value of which only the type counts.
const ANY_BOOL: &str = "<bool>";
/// Ids of messages at their recipient, and what `send` returned for them: there they differ, here they are one.
const SAME_MESSAGE: &[(&str, &str)] = &[
    ("<id:2>", "<id:1>"),
    ("<id:9>", "<id:3>"),
    ("<id:10>", "<id:4>"),
    ("<id:11>", "<id:5>"),
    ("<id:12>", "<id:6>"),
    ("<id:16>", "<id:15>"),
    ("<id:20>", "<id:19>"),
];
/// The messages that are no messages to us: in the outbox, and in the inbox of the recipient.
const NO_MESSAGES: &[&str] = &["<id:7>", "<id:8>", "<id:13>", "<id:14>"];

/// What we answer where we do not answer like the recording.
enum Ours {
    /// `ok: false` with this code.
    Refused(&'static str),
    /// The recorded answer, changed like this.
    Changed(fn(&mut Value)),
    /// Something this finds right.
    Right(fn(&Value) -> bool),
}

/// Where we deviate on purpose, and why.
const DEVIATIONS: &[(&[&str], Ours, &str)] = &[
    (
        &["send-content-missing", "send-content-number"],
        Ours::Refused("invalid_request"),
        "a message has a text; the recipient would get something else than was sent",
    ),
    (
        &["recv-since-string"],
        Ours::Refused("invalid_request"),
        "a time that is none is a mistake of the caller, not a time at which nothing happened",
    ),
    (
        &["peer_add-no-address", "peer_add-bad-address"],
        Ours::Refused("invalid_request"),
        "what is no principal or no address can never be reached",
    ),
    (
        &["peer_remove-missing"],
        Ours::Refused("invalid_request"),
        "whom to remove has to be said",
    ),
    (
        &["peer_resolve-through"],
        Ours::Right(|answer| {
            let data = &answer["data"];
            answer["ok"] == true && (data.is_null() || data["principal"] == ALICE2)
        }),
        "a peer that is asked tells where somebody is, as soon as it has heard",
    ),
    (
        &["outbox-after-retry", "outbox-after-sends"],
        Ours::Changed(|answer| {
            without_refused(answer);
            for entry in answer["data"].as_array_mut().unwrap() {
                entry["status"] = json!("delivered");
            }
        }),
        "delivered means stored at the recipient, which the sender is told",
    ),
    (
        &["bob-inbox"],
        Ours::Changed(without_refused),
        "the messages without a text were not sent",
    ),
    (
        &["bob-inbox-wrong-sender"],
        Ours::Changed(|answer| {
            without_refused(answer);
            let last = answer["data"].as_array_mut().unwrap().last_mut().unwrap();
            last["from"] = json!(ALICE2);
            last["fromNick"] = json!("alice2");
        }),
        "a message comes from the identity that sent it",
    ),
    (
        &["bob-status-connected"],
        Ours::Changed(|answer| answer["data"]["inboxCount"] = json!(5)),
        "the messages without a text were not sent",
    ),
    (
        &["peers-one", "peers-alias-lost"],
        Ours::Changed(|answer| answer["data"][0]["connected"] = json!(ANY_BOOL)),
        "a peer that is added is dialed at once, so it may be connected by now",
    ),
    (
        &["peers-empty-again"],
        Ours::Right(|answer| {
            let peers = answer["data"].as_array().unwrap();
            answer["ok"] == true && peers.iter().all(|peer| peer["added"] == false)
        }),
        "peers that turn up by themselves are listed, marked as not added",
    ),
];

/// What we answer to the requests that killed the recorded daemon, where it is not an error as it was there.
const KILLERS_THAT_WORK: &[(&str, &str)] = &[(
    "send-to-local-nick",
    "the nickname of a co-hosted identity is a recipient like any other",
)];

fn without_refused(answer: &mut Value) {
    let entries = answer["data"].as_array_mut().unwrap();
    entries.retain(|entry| !NO_MESSAGES.contains(&entry["id"].as_str().unwrap()));
}

fn vectors() -> PathBuf {
    let ours = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/clawchat");
    std::env::var_os("CLAWCHAT_VECTORS_DIR").map_or_else(ours, PathBuf::from)
}

fn read(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(vectors().join(name)).unwrap()).unwrap()
}

/// Two gateways with the recorded identities; the first has its recorded node key as well.
struct Fixtures {
    alice: Gateway,
    bob: Gateway,
    recorded: Value,
    /// A port of this machine where nobody listens, for the recorded one.
    closed: u16,
}

impl Fixtures {
    fn start() -> Self {
        let words = read("attestation.json");
        let words = |principal: &str| {
            let mut cases = words["cases"].as_array().unwrap().iter();
            let case = cases.find(|case| case["attestation"]["principal"] == principal);
            case.unwrap()["mnemonic"].clone()
        };
        let recorded = read("ipc.json");
        let alice_principal = recorded["fixtures"]["alice"]["ids"][0]["principal"]
            .as_str()
            .unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_clawchatd"));

        let mut alice = Gateway::prepare(program, "alice").unwrap();
        let folder = alice.home().join("identities").join(alice_principal);
        alice
            .init(&json!({ "password": PASSWORD, "mnemonic": words(alice_principal) }))
            .unwrap();
        let keystore = vectors().join("keystore/testnet-nick.identity.enc");
        fs::copy(keystore, folder.join("identity.enc")).unwrap();
        let second = json!({ "cmd": "identity_add", "nick": "alice2", "password": PASSWORD, "mnemonic": words(ALICE2) });
        assert_eq!(alice.offline(&second).unwrap()["principal"], ALICE2);
        alice.start().unwrap();
        assert_eq!(alice.principal(), alice_principal);
        assert_eq!(alice.peer_id(), recorded["fixtures"]["alice"]["ids"][0]["peerId"]);

        let mut bob = Gateway::prepare(program, "bob").unwrap();
        bob.init(&json!({ "password": PASSWORD, "mnemonic": words(BOB) }))
            .unwrap();
        bob.start().unwrap();
        assert_eq!(bob.principal(), BOB);
        Self {
            alice,
            bob,
            recorded,
            closed: gateways::free_ports().unwrap(),
        }
    }

    /// A part of the recording with the ports and PeerIds of these gateways.
    fn here(&self, value: &Value) -> Value {
        let recorded_bob = self.recorded["fixtures"]["bob"]["ids"][0]["peerId"]
            .as_str()
            .unwrap();
        let mut text = value.to_string().replace(recorded_bob, self.bob.peer_id());
        for (there, here) in [
            (9500, self.alice.port()),
            (9501, self.alice.port() + 1),
            (9600, self.bob.port()),
            (9601, self.bob.port() + 1),
            (9699, self.closed),
        ] {
            text = text
                .replace(&format!("/tcp/{there}"), &format!("/tcp/{here}"))
                .replace(&format!("\"p2pPort\":{there}"), &format!("\"p2pPort\":{here}"));
        }
        for (there, here) in SAME_MESSAGE {
            text = text.replace(there, here);
        }
        serde_json::from_str(&text).unwrap()
    }

    fn gateway(&self, name: &Value) -> &Gateway {
        if *name == "bob" { &self.bob } else { &self.alice }
    }

    /// The bytes of a recorded request.
    fn request(&self, step: &Value) -> String {
        if step["name"] == "raw-10MB-unknown" {
            let length = 10_485_771 - "{\"cmd\":\"\"}\n".len();
            return format!("{{\"cmd\":\"{}\"}}\n", "x".repeat(length));
        }
        if let Some(raw) = step["request_raw"].as_str() {
            return raw.to_owned();
        }
        let mut request = self.here(&step["request"]);
        if let Some(since @ ("<last timestamp - 1>" | "<last timestamp>")) = request["since"].as_str() {
            // The time of arrival counts, not the sender's clock.
            let inbox = self.alice.ask(&json!({ "cmd": "inbox" })).unwrap();
            let last = inbox.as_array().unwrap().last().unwrap()["receivedAt"]
                .as_u64()
                .unwrap();
            request["since"] = json!(if since.contains('-') { last - 1 } else { last });
        }
        format!("{request}\n")
    }
}

#[test]
fn every_recorded_step_is_answered_as_recorded_or_as_listed_here() {
    let mut fixtures = Fixtures::start();
    let steps = fixtures.recorded["steps"].as_array().unwrap().clone();
    let mut ids = Ids::default();
    let mut deviated = Vec::new();
    let mut seen = 0;
    let mut reachable = false;
    for step in &steps {
        let name = step["name"].as_str().unwrap();
        match name {
            "pause" => {
                reachable = true;
                settle(&fixtures.alice, "alice");
                continue;
            }
            "connection-behaviour" | "stop" => continue,
            _ => {}
        }
        let gateway = fixtures.gateway(&step["daemon"]);
        let request = fixtures.request(step);
        let begun = Instant::now();
        let answer = one_answer(gateway, &request);
        let took = begun.elapsed();
        seen += 1;
        if let Some(seconds) = step["elapsed_s"].as_u64() {
            assert!(
                took >= Duration::from_secs(seconds),
                "{name}: answered after {took:?}"
            );
        }
        let mut expected = fixtures.here(&step["response"]);
        let deviation = DEVIATIONS.iter().find(|(steps, ..)| steps.contains(&name));
        deviated.extend(deviation.map(|_| name));
        match deviation.map(|(_, ours, _)| ours) {
            Some(Ours::Refused(code)) => assert_refused(name, &answer, Some(code)),
            Some(Ours::Right(right)) => assert!(right(&answer), "{name}: {answer}"),
            _ if expected["ok"] == false => assert_refused(name, &answer, None),
            deviation => {
                if let Some(Ours::Changed(change)) = deviation {
                    change(&mut expected);
                }
                shape::compare(&expected, &answer, &mut ids)
                    .unwrap_or_else(|why| panic!("{name}: {why}\nexpected {expected}\n     got {answer}"));
            }
        }
        if reachable && request.contains("\"send\"") {
            settle(&fixtures.alice, "alice");
            settle(&fixtures.alice, "alice2");
            settle(&fixtures.bob, "bob");
        }
    }
    assert!(seen > 70, "only {seen} requests in the recording");
    let listed = DEVIATIONS.iter().flat_map(|(steps, ..)| *steps);
    for name in listed {
        assert!(deviated.contains(name), "{name} is not in the recording");
    }
    the_last_step_stops_it(&mut fixtures, steps.last().unwrap());
}

/// The recorded daemon is gone before it answers; ours answers first.
fn the_last_step_stops_it(fixtures: &mut Fixtures, step: &Value) {
    assert_eq!(step["name"], "stop");
    fixtures.alice.stop().unwrap();
    let mut left: Vec<String> = fs::read_dir(fixtures.alice.home())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // The lock is the system's; its file stays.
    left.retain(|name| name != "home.lock");
    left.sort();
    assert_eq!(json!(left), step["files_left"]);
}

#[test]
fn the_requests_that_killed_the_recorded_daemon_are_answered_and_survived() {
    let mut fixtures = Fixtures::start();
    let Fixtures { alice, bob, .. } = &fixtures;
    // Peers are known per identity, but what waits for one goes out when any identity learns where it is.
    let early = json!({ "cmd": "send", "as": "alice2", "to": bob.principal(), "content": "too early" });
    alice.ask(&early).unwrap();
    alice.learn(bob).unwrap();
    settle(alice, "alice2");
    let mut seen = 0;
    for case in fixtures.recorded["daemon_killers"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let works = KILLERS_THAT_WORK.iter().any(|(killer, _)| *killer == name);
        for request in case["requests"].as_array().unwrap() {
            let answer = one_answer(alice, format!("{}\n", fixtures.here(request)));
            if works {
                assert_eq!(answer["ok"], true, "{name}: {answer}");
            } else {
                assert_refused(name, &answer, None);
            }
            seen += 1;
        }
        assert_alive(alice, "bob");
    }
    assert!(seen >= 9, "only {seen} requests in the recording");
    settle(alice, "alice");
    let local = alice.ask(&json!({ "cmd": "inbox", "as": "alice2" })).unwrap();
    assert_eq!(local[0]["content"], "x");

    // The recorded daemon died again after each start: what it had taken was in its files.
    fixtures.alice.stop().unwrap();
    fixtures.alice.start().unwrap();
    assert_alive(&fixtures.alice, "bob");
    let outbox = fixtures.alice.ask(&json!({ "cmd": "outbox" })).unwrap();
    let all = outbox.as_array().unwrap();
    assert!(all.iter().all(|entry| entry["status"] == "delivered"), "{outbox}");
}

fn assert_refused(name: &str, answer: &Value, code: Option<&str>) {
    assert_eq!(answer["ok"], false, "{name}: {answer}");
    let error = answer["error"].as_str().unwrap_or_default();
    let actual = answer["code"].as_str().unwrap_or_default();
    assert!(!error.is_empty() && !actual.is_empty(), "{name}: {answer}");
    assert!(code.is_none_or(|code| code == actual), "{name}: {answer}");
}
