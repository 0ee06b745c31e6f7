//! Where the vectors come from. `CLAWCHAT_SNAP2P_WRITE_VECTORS=1 cargo test -p clawchat-snap2p vectors` writes
//! them; without it, what is made here must equal what the repository holds.

use serde::Serialize;

use super::vectors::{FrameCase, HandshakeCase, enhex, folder};
use super::vectors_initiator::initiator_cases;
use super::vectors_responder::responder_cases;
use super::vectors_session::session_cases;
use crate::wire::clear_frame;
use crate::{MAX_FRAME, MAX_PRE_AUTH_FRAME};

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
fn vectors_of_the_handshake() {
    let cases: Vec<HandshakeCase> = responder_cases().into_iter().chain(initiator_cases()).collect();
    check("handshake.json", &cases);
}

#[test]
fn vectors_of_sessions() {
    check("session.json", &session_cases());
}
