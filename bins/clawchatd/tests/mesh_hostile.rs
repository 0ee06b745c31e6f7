//! What neighbours and lists can do who mean no good, against the real mesh peer: its memory stays bounded, it says
//! `error` where the protocol has one, and another neighbour is served throughout.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/gateways.rs"]
mod gateways;
#[path = "common/mesh_guest.rs"]
mod mesh_guest;
#[path = "common/mesh_peers.rs"]
mod mesh_peers;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use mesh_guest::{Author, Guest, header, masked, now};
use mesh_peers::MeshPeer;

const MIB: u64 = 1024 * 1024;
/// What a peer may take at most for whatever one neighbour does, beyond what it took before: one frame of the longest
/// kind while it is read, its texts again while they are looked at, and what is kept of recent messages.
const ROOM: u64 = 48 * MIB;
/// The same for a reader that never reads, once the store's caches are warm: half of what it is not sent.
const READER_ROOM: u64 = 16 * MIB;
/// How long a neighbour may be silent.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);
const LOBBY: &str = "lobby";
/// The kind of a text frame, and of those that go on with it.
const TEXT: u8 = 1;

/// A peer under attack, and a neighbour that means well.
struct Scene {
    peer: MeshPeer,
    friend: Guest,
    author: Author,
    said: u64,
    before: u64,
}

impl Scene {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(arguments: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_clawchatd"));
        let peer = MeshPeer::started(program, "peer", arguments).unwrap();
        let author = Author::new(1);
        let friend = Guest::greet(peer.port(), "friend").unwrap();
        friend.stays().unwrap();
        friend
            .send(r#"{"type":"subscribe","channel_id":"lobby"}"#)
            .unwrap();
        let mut scene = Self {
            peer,
            friend,
            author,
            said: 0,
            before: 0,
        };
        scene.others_are_served();
        scene.before = scene.peak();
        scene
    }

    /// What somebody says now reaches the friend, and is in the log.
    #[track_caller]
    fn others_are_served(&mut self) {
        self.said += 1;
        let id = format!("said-{}", self.said);
        let text = self.author.message(LOBBY, &id, "are you there?", now()).unwrap();
        let speaker = Guest::greet(self.peer.port(), self.author.name()).unwrap();
        speaker.send(&text).unwrap();
        self.friend.wait_for(|frame| frame["message_id"] == *id).unwrap();
    }

    /// The most memory the peer ever had in use, in bytes.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.peer.pid().unwrap())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        let kilobytes: u64 = line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap();
        kilobytes * 1024
    }

    #[track_caller]
    fn memory_is_within(&self, room: u64) {
        let more = self.peak().saturating_sub(self.before);
        assert!(more < room, "{} MiB more", more / MIB);
    }

    /// After the attack: everything is as it was.
    #[track_caller]
    fn is_unmoved(&mut self) {
        self.is_unmoved_within(ROOM);
    }

    #[track_caller]
    fn is_unmoved_within(&mut self, room: u64) {
        self.others_are_served();
        self.memory_is_within(room);
        assert_eq!(self.peer.count(LOBBY).unwrap(), self.said);
    }

    fn enemy(&self) -> Guest {
        Guest::greet(self.peer.port(), "enemy").unwrap()
    }

    /// Its link to somebody, as `status` shows it.
    fn link(&self, name: &str) -> Option<Value> {
        let status = self.peer.ask(&json!({ "cmd": "status" })).unwrap();
        let links = status["mesh"]["links"].as_array().unwrap();
        links.iter().find(|link| link["peerId"] == name).cloned()
    }
}

/// The codes of the `error` frames until the peer closes the link.
#[track_caller]
fn errors(link: &mut Guest) -> Vec<String> {
    let mut codes = Vec::new();
    while let Some(frame) = link.next().unwrap() {
        if frame["type"] == "error" {
            codes.push(frame["code"].as_str().unwrap().to_owned());
        }
    }
    codes
}

#[test]
fn garbage_is_answered_twenty_times() {
    let mut scene = Scene::new();
    let deep = "[".repeat(50_000);
    let rubbish = [
        "garbage",
        "{",
        "[]",
        "1e999999",
        "\u{0}",
        "{\"type\":\"message\"}",
        r#"{"type":"message","message_id":{},"channel_id":[],"sender_id":7,"body":null}"#,
        &deep,
    ];
    let mut enemy = scene.enemy();
    for text in rubbish.iter().cycle().take(40) {
        // The link is closed some time.
        let _ = enemy.send(text);
    }
    assert_eq!(errors(&mut enemy), ["invalid_message"; 20]);
    // Nor do bytes that are no WebSocket, and WebSockets that say nothing of the mesh.
    let mut raw = TcpStream::connect((Ipv4Addr::LOCALHOST, scene.peer.port())).unwrap();
    raw.write_all(&[0xff; 4096]).unwrap();
    let stranger = Guest::dial(scene.peer.port()).unwrap();
    stranger.send_bytes(&[0xff; 4096]).unwrap();
    scene.is_unmoved();
}

#[test]
fn a_frame_of_50_megabytes_is_refused_before_it_is_there() {
    let mut scene = Scene::new();
    let long = 50 * 1024 * 1024;
    for greeted in [true, false] {
        let port = scene.peer.port();
        let mut enemy = if greeted {
            scene.enemy()
        } else {
            Guest::dial(port).unwrap()
        };
        let mut writer = enemy.writer().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let zeros = vec![b' '; 64 * 1024];
                let mut sent = writer.write_all(&header(TEXT, long));
                for _ in 0..long / zeros.len() {
                    sent = sent.and_then(|()| writer.write_all(&zeros));
                }
            });
            assert_eq!(errors(&mut enemy), ["invalid_message"]);
        });
        scene.others_are_served();
    }
    // The same in a hundred thousand pieces without an end.
    let mut enemy = scene.enemy();
    let mut writer = enemy.writer().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut piece = masked(&" ".repeat(500));
            piece[0] = TEXT;
            let mut sent = writer.write_all(&piece);
            piece[0] = 0;
            for _ in 0..100_000 {
                sent = sent.and_then(|()| writer.write_all(&piece));
            }
        });
        assert_eq!(errors(&mut enemy), ["invalid_message"]);
    });
    scene.is_unmoved();
}

#[test]
fn of_a_hundred_thousand_subscriptions_a_thousand_count() {
    let mut scene = Scene::new();
    let mut enemy = scene.enemy();
    let mut writer = enemy.writer().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for thousand in 0..100 {
                let frames = (0..1000).flat_map(|one| {
                    masked(&format!(
                        r#"{{"type":"subscribe","channel_id":"channel-{}"}}"#,
                        thousand * 1000 + one
                    ))
                });
                writer.write_all(&frames.collect::<Vec<u8>>()).unwrap();
            }
            writer.write_all(&masked(r#"{"type":"ping"}"#)).unwrap();
        });
        scene.others_are_served();
        let mut refusals = 0;
        enemy
            .wait_for(|frame| {
                if frame["type"] == "error" {
                    assert_eq!(frame["code"], "rate_limited");
                    refusals += 1;
                }
                frame["type"] == "pong"
            })
            .unwrap();
        assert_eq!(refusals, 1);
    });
    assert_eq!(scene.link("enemy").unwrap()["subscriptions"], 1000);
    scene.is_unmoved();
}

#[test]
fn a_reader_that_never_reads_costs_a_window() {
    let mut scene = Scene::new();
    let begun = Instant::now();
    let mut idle = scene.enemy();
    idle.send(r#"{"type":"subscribe","channel_id":"lobby"}"#).unwrap();
    let speaker = Guest::greet(scene.peer.port(), "speaker").unwrap();
    // Far more than the connection holds: 32 MiB until the store's caches are warm, and as much again. Never much of it
    // at once, for what waits to be stored may take memory of its own.
    let (count, step): (u64, u64) = (4096, 64);
    let body = "x".repeat(16 * 1024);
    for number in 0..count {
        let message = json!({
            "type": "message", "message_id": format!("flood-{number}"), "channel_id": LOBBY,
            "sender_id": "speaker", "body": body, "timestamp": "2026-01-01T00:00:00.000Z",
        });
        speaker.send(&message.to_string()).unwrap();
        if number == count / 2 {
            scene.before = scene.peak();
        }
        if number % step == step - 1 {
            for expected in number + 1 - step..=number {
                let frame = scene.friend.wait_for(|frame| frame["type"] == "message").unwrap();
                assert_eq!(frame["message_id"], format!("flood-{expected}"));
            }
        }
    }
    scene.said += count;
    // It holds up nobody, and was not fed what it did not take ...
    let status = scene.peer.ask(&json!({ "cmd": "status" })).unwrap();
    let fed = status["mesh"]["counters"]["fed"].as_u64().unwrap();
    assert!((count..2 * count).contains(&fed), "{fed}");
    scene.is_unmoved_within(READER_ROOM);
    // ... and has lost nothing when it reads after all, unless it was given up meanwhile for its silence.
    let mut next = 0;
    while next < count {
        let Some(frame) = idle.next().unwrap() else {
            assert!(begun.elapsed() >= GIVEN_UP_AFTER);
            break;
        };
        if frame["sender_id"] == "speaker" {
            assert_eq!(frame["message_id"], format!("flood-{next}"));
            next += 1;
        }
    }
    scene.others_are_served();
    scene.memory_is_within(ROOM);
    assert_eq!(scene.peer.count(LOBBY).unwrap(), scene.said);
}

#[test]
fn nobody_speaks_in_a_keys_name_without_the_key() {
    let mut scene = Scene::new();
    let mut enemy = scene.enemy();
    let good = scene
        .author
        .message(LOBBY, "forged", "I owe you 100", now())
        .unwrap();
    let good: Value = serde_json::from_str(&good).unwrap();
    let change = |field: &str, value: Value| {
        let mut forged = good.clone();
        forged[field] = value;
        forged
    };
    let mut unsigned = good.clone();
    unsigned.as_object_mut().unwrap().remove("signature");
    let other: Value = serde_json::from_str(
        &Author::new(2)
            .message(LOBBY, "forged", "I owe you 100", now())
            .unwrap(),
    )
    .unwrap();
    let forged = [
        unsigned,
        change("signature", json!("")),
        change("signature", other["signature"].clone()),
        change("sender_id", other["sender_id"].clone()),
        change("body", json!("I owe you 1000")),
        change("payload", json!({})),
        change("message_id", json!("another")),
        change("timestamp", json!("2026-01-01T00:00:00.000Z")),
    ];
    for message in &forged {
        enemy.send(&message.to_string()).unwrap();
        let answer = enemy.wait_for(|frame| frame["type"] == "error").unwrap();
        assert_eq!(answer["code"], "invalid_message", "{message}");
    }
    // An answer that was not asked for brings nothing either.
    let answer = json!({ "type": "sync_response", "channel_id": LOBBY, "messages": [good], "more": false });
    enemy.send(&answer.to_string()).unwrap();
    enemy.send(r#"{"type":"ping"}"#).unwrap();
    enemy.wait_for(|frame| frame["type"] == "pong").unwrap();
    // Nor may a link be called like a key it does not show, or like the peer itself.
    for name in [scene.author.name(), scene.peer.peer_id()] {
        let mut liar = Guest::dial(scene.peer.port()).unwrap();
        let mut handshake: Value = serde_json::from_str(&mesh_guest::handshake(name)).unwrap();
        handshake["public_key"] = json!(
            "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"
        );
        liar.send(&handshake.to_string()).unwrap();
        let codes = errors(&mut liar);
        assert!(codes.iter().all(|code| code == "unauthorized"), "{codes:?}");
    }
    scene.is_unmoved();
}

#[test]
fn thousands_of_replays_change_nothing() {
    let mut scene = Scene::new();
    let texts: Vec<String> = (0..300)
        .map(|number| {
            let time = now() - 3_600_000 * (number % 48);
            let id = format!("old-{number}");
            scene.author.message(LOBBY, &id, "old news", time).unwrap()
        })
        .collect();
    let frames: Vec<u8> = texts.iter().flat_map(|text| masked(text)).collect();
    let mut enemy = scene.enemy();
    for _ in 0..20 {
        enemy.send_bytes(&frames).unwrap();
    }
    enemy.send(r#"{"type":"ping"}"#).unwrap();
    enemy.wait_for(|frame| frame["type"] == "pong").unwrap();
    let mut heard = 0;
    scene
        .friend
        .wait_for(|frame| {
            heard += usize::from(frame["type"] == "message");
            frame["message_id"] == "old-299"
        })
        .unwrap();
    assert_eq!(heard, texts.len());
    scene.said += 300;
    scene.is_unmoved();
}

#[test]
fn a_list_of_a_million_peers_is_not_read_to_its_end() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/bootstrap.json", server.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        read_request(&mut stream);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut list = String::from("{\"version\":1,\"peers\":[");
        let mut sent = 0;
        for number in 0..1_000_000 {
            list.push_str(&format!(
                r#"{{"peer_id":"peer-{number}","ws_url":"ws://127.0.0.1:{}"}},"#,
                1 + number % 65_535
            ));
            if list.len() > 64 * 1024 {
                if stream.write_all(list.as_bytes()).is_err() {
                    return sent;
                }
                sent += list.len();
                list.clear();
            }
        }
        panic!("it read all of it");
    });
    let mut scene = Scene::with(&["--bootstrap", &url]);
    // What the connection holds comes on top of what was read.
    let sent = serving.join().unwrap();
    assert!(sent < 32 * 1024 * 1024, "{sent} bytes");
    scene.is_unmoved();
}

#[test]
fn a_list_from_elsewhere_leads_nobody_to_loopback() {
    // Asks nobody anything: it only looks up where such a packet would leave this machine.
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let own = probe
        .connect("192.0.2.1:9")
        .and_then(|()| probe.local_addr())
        .map(|own| own.ip());
    let Ok(own) = own else { return };
    if own.is_loopback() || own.is_unspecified() {
        return;
    }
    let server = TcpListener::bind((own, 0)).unwrap();
    let (allowed, inner) = (
        TcpListener::bind((own, 0)).unwrap(),
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
    );
    let url = format!("http://{}/bootstrap.json", server.local_addr().unwrap());
    let (inside, outside) = (
        inner.local_addr().unwrap().port(),
        allowed.local_addr().unwrap().port(),
    );
    let entries: Vec<Value> = [
        format!("ws://127.0.0.1:{inside}"),
        format!("ws://localhost:{inside}"),
        format!("ws://[::ffff:127.0.0.1]:{inside}"),
        format!("ws://0.0.0.0:{inside}"),
        format!("ws://{own}:{outside}"),
    ]
    .iter()
    .enumerate()
    .map(|(number, url)| json!({ "peer_id": format!("peer-{number}"), "ws_url": url }))
    .collect();
    let list = json!({ "version": 1, "peers": entries }).to_string();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{list}", list.len());
    // As often as it is asked for: whoever got no answer in time asks again.
    thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || {
                read_request(&mut stream);
                stream.write_all(answer.as_bytes()).unwrap();
            });
        }
    });
    let mut scene = Scene::with(&["--bootstrap", &url]);
    let (mut dialed, _) = allowed.accept().unwrap();
    read_request(&mut dialed);
    inner.set_nonblocking(true).unwrap();
    assert!(inner.accept().is_err(), "it was led to loopback");
    scene.is_unmoved();
}

/// Reads the head of an HTTP request.
fn read_request(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
}
