//! Where the vectors of sessions come from: what an initiator sends, and what becomes of it.

use super::vectors::{Owner, Play, SessionCase, enhex};
use crate::limits::WINDOW_STEP;
use crate::wire::Control;
use crate::{ErrorCode, INITIAL_WINDOW, MAX_DATA_BYTES, MAX_LABEL_BYTES, MAX_STREAMS};

pub(super) fn session_cases() -> Vec<SessionCase> {
    let mut cases = messages();
    cases.extend(streams());
    cases.extend(bytes());
    cases.extend(credit());
    cases.extend(life());
    cases
}

fn case(name: &str, must: &str, receive: &[Vec<u8>]) -> SessionCase {
    with(Owner::Reads, name, must, receive)
}

fn with(owner: Owner, name: &str, must: &str, receive: &[Vec<u8>]) -> SessionCase {
    let play = Play {
        owner,
        opens: 0,
        receive: receive.iter().map(enhex).collect(),
        silence: Vec::new(),
    };
    played(name, must, play)
}

fn played(name: &str, must: &str, play: Play) -> SessionCase {
    let (send, delivered, ended) = play.run();
    SessionCase {
        name: name.to_owned(),
        must: must.to_owned(),
        play,
        send,
        delivered,
        ended,
    }
}

fn open(id: u64) -> Vec<u8> {
    Control::Open { id, label: "x" }.to_vec()
}

fn data(id: u64, bytes: &[u8]) -> Vec<u8> {
    Control::Data { id, bytes }.to_vec()
}

fn finish(id: u64) -> Vec<u8> {
    Control::Close { id, code: None }.to_vec()
}

fn reset(id: u64) -> Vec<u8> {
    let code = Some(ErrorCode::NoError);
    Control::Close { id, code }.to_vec()
}

fn window(id: u64, credit: u64) -> Vec<u8> {
    Control::Window { id, credit }.to_vec()
}

fn ping(nonce: u64) -> Vec<u8> {
    Control::Ping { nonce }.to_vec()
}

fn pong(nonce: u64) -> Vec<u8> {
    Control::Pong { nonce }.to_vec()
}

fn goodbye() -> Vec<u8> {
    let code = ErrorCode::NoError;
    Control::Goodbye { code }.to_vec()
}

/// {n: 5, t: PING, z: what}
fn ping_with(what: &[u8]) -> Vec<u8> {
    [&[0xa3, 0x61, b'n', 5, 0x61, b't', 0x18, 0x20, 0x61, b'z'], what].concat()
}

/// As many arrays within each other.
fn nested(arrays: usize) -> Vec<u8> {
    let mut item = vec![0x81; arrays - 1];
    item.push(0x80);
    item
}

/// Full DATA messages of the first stream.
fn full(count: usize) -> Vec<Vec<u8>> {
    vec![data(1, &[0xda; MAX_DATA_BYTES]); count]
}

fn messages() -> Vec<SessionCase> {
    let whole = [open(1), data(1, b"x"), window(1, 1), ping(7), pong(8), finish(1)];
    let unknown = vec![0xa1, 0x61, b't', 0x18, 0x40];
    vec![
        case(
            "messages in frames of their own",
            "C5",
            &[open(1), data(1, b"a"), data(1, b"b")],
        ),
        case("a frame without messages", "C5", &[Vec::new()]),
        case("a field of another version", "C2", &[ping_with(&[0xf5])]),
        case(
            "a field of another version with a tag",
            "C2",
            &[ping_with(&[0xc1, 0])],
        ),
        case("every message of a session", "C3", &[whole.concat()]),
        case("an unknown message type", "C3", &[unknown]),
        case("a PONG nobody asked for", "C4", &[pong(7)]),
        case("AUTH_OK again", "C4", &[Control::AuthOk.to_vec()]),
        case("as deep as it may be", "C1", &[ping_with(&nested(15))]),
        case("too deep", "C1", &[ping_with(&nested(16))]),
        case("cut short", "C1", &[vec![0xa1, 0x61]]),
    ]
}

fn streams() -> Vec<SessionCase> {
    let many = |count: usize| -> Vec<u8> { (0..count as u64).flat_map(|n| open(2 * n + 1)).collect() };
    let of_both_sides = |name: &str, receive: Vec<u8>| {
        let play = Play {
            owner: Owner::Reads,
            opens: MAX_STREAMS / 2,
            receive: vec![enhex(receive)],
            silence: Vec::new(),
        };
        played(name, "S4", play)
    };
    let labelled = |label: &[u8]| {
        let length = u8::try_from(label.len()).unwrap();
        let head = [0xa3, 0x61, b'i', 1, 0x61, b'l', 0x78, length];
        [&head, label, &[0x61, b't', 0x10]].concat()
    };
    let space = vec![0xa3, 0x61, b'i', 1, 0x61, b'l', 0x61, b' ', 0x61, b't', 0x10];
    let one_more = open(2 * MAX_STREAMS as u64 + 1);
    vec![
        case(
            "a stream, its bytes, its end",
            "S1",
            &[[open(1), data(1, b"hello"), finish(1)].concat()],
        ),
        case("a stream given up at once", "S1", &[[open(1), reset(1)].concat()]),
        with(
            Owner::Refuses,
            "a stream its owner does not want",
            "S1",
            &[open(1)],
        ),
        case("a stream of the wrong side", "S2", &[open(2)]),
        case("an id twice", "S2", &[open(1), open(1)]),
        case("an id that was left out", "S2", &[open(7), open(5)]),
        case("ids may be left out", "S2", &[open(7)]),
        case("a label with a space", "S3", &[space]),
        case(
            "a label with every kind of character",
            "S3",
            &[labelled(b"!\"#chat/1:AZ[az]{09}~!!!!!!")],
        ),
        case("the longest label", "S3", &[labelled(&[b'l'; MAX_LABEL_BYTES])]),
        case("a longer label", "S3", &[labelled(&[b'l'; MAX_LABEL_BYTES + 1])]),
        case("64 streams", "S4", &[many(MAX_STREAMS)]),
        case("64 streams and one more", "S4", &[many(MAX_STREAMS + 1)]),
        case(
            "one more when one is gone",
            "S4",
            &[many(MAX_STREAMS), reset(1), one_more],
        ),
        of_both_sides("32 streams of each side", many(MAX_STREAMS / 2)),
        of_both_sides("one more than 32 of each side", many(MAX_STREAMS / 2 + 1)),
        case("data before the stream is open", "S5", &[data(1, b"x")]),
        case("data after the end", "S5", &[open(1), finish(1), data(1, b"x")]),
        case("a second end", "S5", &[open(1), finish(1), finish(1)]),
        case(
            "credit and a reset after the end",
            "S5",
            &[open(1), finish(1), window(1, 1), reset(1)],
        ),
        case(
            "data for a stream that was reset",
            "S6",
            &[open(1), reset(1), data(1, b"x")],
        ),
        case(
            "credit and ends for a stream that was reset",
            "S6",
            &[open(1), reset(1), window(1, 1), finish(1), reset(1)],
        ),
        case(
            "a stream that was reset, again",
            "S6",
            &[open(1), reset(1), open(1)],
        ),
    ]
}

fn bytes() -> Vec<SessionCase> {
    let empty = vec![0xa3, 0x61, b'd', 0x40, 0x61, b'i', 1, 0x61, b't', 0x12];
    let longer = data(1, &vec![0; MAX_DATA_BYTES + 1]);
    vec![
        case("an empty DATA", "D1", &[open(1), empty]),
        case("the longest DATA", "D1", &[[open(1), full(1).concat()].concat()]),
        case("a longer DATA", "D1", &[[open(1), longer].concat()]),
    ]
}

fn credit() -> Vec<SessionCase> {
    const {
        assert!(
            WINDOW_STEP == 4 * MAX_DATA_BYTES,
            "the cases of W1 consume just enough"
        )
    };
    const WINDOW: usize = INITIAL_WINDOW / MAX_DATA_BYTES;
    let quarter = [[open(1), full(2).concat()].concat(), full(2).concat()];
    let opened_and = |chunks: usize| [vec![open(1)], full(chunks)].concat();
    let granted = opened_and(4 + WINDOW);
    let more = |mut plaintexts: Vec<Vec<u8>>| {
        plaintexts.push(data(1, b"x"));
        plaintexts
    };
    let up_to = |most: u64| [open(1), window(1, most - INITIAL_WINDOW as u64)].concat();
    vec![
        case("credit given back when a quarter is consumed", "W1", &quarter),
        with(Owner::Waits, "nothing consumed, nothing granted", "W1", &quarter),
        with(
            Owner::ReadsOnly(WINDOW_STEP),
            "as much as was consumed, again",
            "W1",
            &granted,
        ),
        with(
            Owner::ReadsOnly(WINDOW_STEP),
            "a byte more than was consumed",
            "W1",
            &more(granted.clone()),
        ),
        case("credit up to the most", "W2", &[up_to((1 << 31) - 1)]),
        case("credit above the most", "W2", &[up_to(1 << 31)]),
        with(Owner::Waits, "a window used up", "W3", &opened_and(WINDOW)),
        with(
            Owner::Waits,
            "a byte more than the window",
            "W3",
            &more(opened_and(WINDOW)),
        ),
    ]
}

fn life() -> Vec<SessionCase> {
    let silent = |name: &str, silence: &[u64]| {
        let play = Play {
            owner: Owner::Reads,
            opens: 0,
            receive: Vec::new(),
            silence: silence.to_vec(),
        };
        played(name, "P1", play)
    };
    vec![
        case("PING", "P1", &[ping(7)]),
        case(
            "only the last PING of a frame is answered",
            "P1",
            &[[ping(7), ping(8)].concat()],
        ),
        silent("a silent peer is asked", &[29, 1, 19]),
        silent("a peer that does not answer is given up", &[30, 20]),
        case("GOODBYE", "G1", &[goodbye()]),
        case(
            "nothing counts behind GOODBYE",
            "G1",
            &[[goodbye(), ping(7)].concat()],
        ),
        case(
            "the first violation is told, and no other",
            "G1",
            &[data(1, b"x"), vec![0xa1, 0x61, b't', 0x18, 0x40], ping(7)],
        ),
    ]
}
