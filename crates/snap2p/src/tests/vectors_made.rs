//! Where the vectors come from. `CLAWCHAT_SNAP2P_WRITE_VECTORS=1 cargo test -p clawchat-snap2p vectors` writes
//! them; without it, what is made here must equal what the repository holds.

use serde::Serialize;

use super::vectors::{FrameCase, SessionCase, enhex, folder, play};
use crate::limits::WINDOW_STEP;
use crate::wire::{Control, clear_frame};
use crate::{ErrorCode, INITIAL_WINDOW, MAX_DATA_BYTES, MAX_FRAME, MAX_PRE_AUTH_FRAME};

/// Compares what is made here with what the repository holds, or writes it.
pub(super) fn check<T: Serialize>(file: &str, cases: &[T]) {
    let mut text = serde_json::to_string_pretty(cases).unwrap();
    text.push('\n');
    let path = folder().join(file);
    if std::env::var_os("CLAWCHAT_SNAP2P_WRITE_VECTORS").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(&path, &text).unwrap();
    } else if std::env::var_os("CLAWCHAT_SNAP2P_VECTORS_DIR").is_none() {
        assert!(
            std::fs::read_to_string(path).unwrap() == text,
            "{file} is not what is made here"
        );
    }
}

#[test]
fn vectors_of_frames() {
    let case = |name: &str, must: &str, limit, bytes: &[u8], frames: &[&[u8]], refused| FrameCase {
        name: name.to_owned(),
        must: must.to_owned(),
        limit,
        bytes: enhex(bytes),
        frames: frames.iter().map(enhex).collect(),
        refused,
    };
    let strangers = MAX_PRE_AUTH_FRAME;
    let full = clear_frame(0, &vec![0xee; strangers - 1]);
    let long = u16::try_from(strangers + 1).unwrap().to_be_bytes();
    check(
        "frames.json",
        &[
            case(
                "two frames",
                "F1",
                strangers,
                &[0, 2, 0, 7, 0, 1, 2],
                &[&[0, 7], &[2]],
                false,
            ),
            case(
                "half a frame",
                "F1",
                strangers,
                &[0, 2, 0, 7, 0, 9, 2],
                &[&[0, 7]],
                false,
            ),
            case("without a kind", "F1", strangers, &[0, 0], &[], true),
            case(
                "as long as a stranger's may be",
                "F2",
                strangers,
                &full,
                &[&full[2..]],
                false,
            ),
            case(
                "longer than a stranger's may be",
                "F2",
                strangers,
                &long,
                &[],
                true,
            ),
            case("long, after authentication", "F2", MAX_FRAME, &long, &[], false),
        ],
    );
}

#[test]
fn vectors_of_sessions() {
    let case = |name: &str, must: &str, receive: &[Vec<u8>]| {
        let owner_reads = must != "W3";
        let (send, delivered, ended) = play(owner_reads, receive);
        let receive = receive.iter().map(enhex).collect();
        SessionCase {
            name: name.to_owned(),
            must: must.to_owned(),
            owner_reads,
            receive,
            send,
            delivered,
            ended,
        }
    };
    let open = |id| Control::Open { id, label: "x" }.to_vec();
    let data = |id, bytes: &[u8]| Control::Data { id, bytes }.to_vec();
    let finish = |id| Control::Close { id, code: None }.to_vec();
    let ping = |nonce| Control::Ping { nonce }.to_vec();
    let chunk = vec![0xda; MAX_DATA_BYTES];
    let full = |count: usize| vec![data(1, &chunk); count];
    let opened_with = |count: usize| {
        let mut first = open(1);
        first.extend(full(count).concat());
        first
    };
    let two_halves = [opened_with(2), full(2).concat()];
    let mut window_full = vec![open(1)];
    window_full.extend(full(INITIAL_WINDOW / MAX_DATA_BYTES));
    let mut window_exceeded = window_full.clone();
    window_exceeded.push(data(1, b"x"));
    let many: Vec<u8> = (0..=64).flat_map(|n| open(2 * n + 1)).collect();
    let window = |credit| [open(1), Control::Window { id: 1, credit }.to_vec()].concat();
    check(
        "session.json",
        &[
            case(
                "a stream, its bytes, its end",
                "S1",
                &[[open(1), data(1, b"hello"), finish(1)].concat()],
            ),
            case(
                "messages in frames of their own",
                "C5",
                &[open(1), data(1, b"a"), data(1, b"b")],
            ),
            case("a frame without messages", "C5", &[Vec::new()]),
            case(
                "a field of another version",
                "C2",
                &[vec![
                    0xa3, 0x61, b'n', 5, 0x61, b't', 0x18, 0x20, 0x61, b'z', 0xf5,
                ]],
            ),
            case(
                "an unknown message type",
                "C3",
                &[vec![0xa1, 0x61, b't', 0x18, 0x40]],
            ),
            case("AUTH_OK again", "C4", &[Control::AuthOk.to_vec()]),
            case("cut short", "C1", &[vec![0xa1, 0x61]]),
            case("a stream of the wrong side", "S2", &[open(2)]),
            case("an id twice", "S2", &[open(1), open(1)]),
            case("ids may be left out", "S2", &[open(7)]),
            case(
                "a label with a space",
                "S3",
                &[vec![
                    0xa3, 0x61, b'i', 1, 0x61, b'l', 0x61, b' ', 0x61, b't', 0x10,
                ]],
            ),
            case("64 streams and one more", "S4", &[many]),
            case("data before the stream is open", "S5", &[data(1, b"x")]),
            case("data after the end", "S5", &[open(1), finish(1), data(1, b"x")]),
            case(
                "data for a stream that was reset",
                "S6",
                &[
                    open(1),
                    Control::Close {
                        id: 1,
                        code: Some(ErrorCode::NoError),
                    }
                    .to_vec(),
                    data(1, b"x"),
                ],
            ),
            case(
                "an empty DATA",
                "D1",
                &[
                    open(1),
                    vec![0xa3, 0x61, b'd', 0x40, 0x61, b'i', 1, 0x61, b't', 0x12],
                ],
            ),
            case("the longest DATA", "D1", &[[open(1), data(1, &chunk)].concat()]),
            case(
                "a longer DATA",
                "D1",
                &[[open(1), data(1, &vec![0; MAX_DATA_BYTES + 1])].concat()],
            ),
            case("credit given back when a quarter is consumed", "W1", &two_halves),
            case(
                "credit up to the most",
                "W2",
                &[window((1 << 31) - 1 - INITIAL_WINDOW as u64)],
            ),
            case(
                "credit above the most",
                "W2",
                &[window((1 << 31) - INITIAL_WINDOW as u64)],
            ),
            case("a window used up", "W3", &window_full),
            case("a byte more than the window", "W3", &window_exceeded),
            case("PING", "P1", &[ping(7)]),
            case(
                "only the last PING of a frame is answered",
                "P1",
                &[[ping(7), ping(8)].concat()],
            ),
            case(
                "GOODBYE",
                "G1",
                &[Control::Goodbye {
                    code: ErrorCode::NoError,
                }
                .to_vec()],
            ),
        ],
    );
    const { assert!(WINDOW_STEP <= 4 * MAX_DATA_BYTES, "the W1 case consumes enough") };
}
