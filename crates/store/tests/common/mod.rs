//! What the test files share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::path::Path;
use std::sync::{PoisonError, RwLock};

use clawchat_store::{OutboundDraft, Proof, SledStore, StoreOptions, Write};
use clawchat_types::{
    Content, Message, MessageId, Network, NodeId, OutboundStatus, Payload, Principal, UnixMillis,
};

pub const KEY: [u8; 32] = [0x42; 32];
/// When the messages of these tests expire.
pub const EXPIRY: u64 = 1_000_000;

pub fn principal(number: u8) -> Principal {
    Principal::from_hash160(Network::Testnet, [number; 20])
}

pub fn id(number: u64) -> MessageId {
    let mut bytes = [0xee; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    MessageId::new(bytes)
}

pub fn draft(number: u64, to: u8) -> OutboundDraft {
    OutboundDraft {
        id: id(number),
        from: principal(0),
        to: principal(to),
        timestamp: UnixMillis(1_000 + number),
        from_nick: Some("me".parse().unwrap()),
        content_type: "text/plain".to_owned(),
        content: Content::new(format!("message {number}")).unwrap(),
        payload: Some(Payload::new(format!("{{\"n\":{number}}}")).unwrap()),
        reply_to: number.checked_sub(1).map(id),
        expires_at: UnixMillis(EXPIRY + number),
    }
}

pub fn message(number: u64, from: u8) -> Message {
    Message {
        from: principal(from),
        to: principal(0),
        ..draft(number, 0).into_message(number)
    }
}

pub fn proof(bytes: usize) -> Proof {
    Proof {
        envelope: (0..bytes).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect(),
        signature: [9; 64],
        node_id: NodeId::new([8; 32]),
    }
}

pub fn inbound(number: u64, from: u8, at: u64) -> Write {
    Write::AppendInbound {
        message: message(number, from),
        proof: Some(proof(80)),
        received_at: UnixMillis(at),
    }
}

pub fn set(position: u64, status: OutboundStatus) -> Write {
    let last_error = (status == OutboundStatus::Failed).then(|| "no way".to_owned());
    Write::SetOutbound {
        position,
        status,
        attempts: 3,
        last_error,
        at: UnixMillis(77),
    }
}

/// Options that never look at the real disk.
pub fn roomy() -> StoreOptions {
    StoreOptions {
        free_space: std::sync::Arc::new(|_| Ok(u64::MAX)),
        ..StoreOptions::default()
    }
}

pub fn open(folder: &Path) -> SledStore {
    opening(|| SledStore::open(folder, &KEY, roomy())).unwrap()
}

/// Between its fork and its exec a program that is started holds every lock of this process, also those that a test
/// beside it lets go of: nothing is opened meanwhile.
static STARTING: RwLock<()> = RwLock::new(());

/// Opens something that is locked.
pub fn opening<T>(open: impl FnOnce() -> T) -> T {
    let _nobody_starts = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    open()
}

/// Starts a program.
pub fn starting<T>(start: impl FnOnce() -> T) -> T {
    let _nobody_opens = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    start()
}

/// A folder for tests about dying processes and damaged files, which need no real disk: in memory where that is
/// possible, so that they do not wait for one.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Every file below a folder with its bytes.
pub fn contents(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
