//! A store that a build of format 1 left is read as it is, and goes on in format 2.

use std::path::Path;

use clawchat_types::{Content, MessageId, Network, OutboundStatus, Principal, UnixMillis};

use super::SledStore;
use super::layout::{LAYOUT, joined, numbers, trees};
use crate::guarded::{Batch, Guarded, Layout};
use crate::record;
use crate::record::v1::{ConversationV1, OutboxV1, StateV1};
use crate::{MemoryStore, MessageStore, OpenError, OutboundDraft, StoreOptions, Write};

const KEY: [u8; 32] = [6; 32];
/// Whose messages they are.
const RECIPIENTS: [u8; 2] = [1, 2];
/// A text that lies in pieces.
const LONG: usize = 20_000;

fn principal(number: u8) -> Principal {
    Principal::from_hash160(Network::Testnet, [number; 20])
}

fn draft(number: u8, to: u8, bytes: usize) -> OutboundDraft {
    OutboundDraft {
        id: MessageId::new([number; 16]),
        from: principal(9),
        to: principal(to),
        timestamp: UnixMillis(100 + u64::from(number)),
        from_nick: None,
        content_type: "text/plain".to_owned(),
        content: Content::new("x".repeat(bytes)).unwrap(),
        payload: None,
        reply_to: None,
        expires_at: UnixMillis(1_000 - u64::from(number)),
    }
}

fn set(position: u64, status: OutboundStatus, attempts: u32) -> Write {
    Write::SetOutbound {
        position,
        status,
        attempts,
        last_error: (attempts > 1).then(|| "away".to_owned()),
        at: UnixMillis(5_000),
    }
}

fn drafts() -> Vec<OutboundDraft> {
    let mut drafts: Vec<_> = (1..=6).map(|number| draft(number, 1, 30)).collect();
    drafts.extend([draft(7, 2, LONG), draft(8, 2, 10)]);
    drafts
}

/// What became of some of them: the second is delivered, the third was tried.
fn noted() -> [Write; 2] {
    [
        set(2, OutboundStatus::Delivered, 1),
        set(3, OutboundStatus::Pending, 2),
    ]
}

fn layout_1() -> &'static Layout {
    Box::leak(Box::new(Layout {
        version: 1,
        numbered: &[trees::INBOX, trees::OUTBOX, trees::OUTBOX_STATE],
        ..LAYOUT
    }))
}

fn open_1(place: &Path) -> Result<Guarded, OpenError> {
    Guarded::open(layout_1(), place, &KEY, StoreOptions::default())
}

/// Writes the store as builds of format 1 wrote it: a state for each message, and an entry in two indexes for each that
/// is still to be delivered.
fn write_format_1(place: &Path) {
    let store = open_1(place).unwrap();
    let open = store.base().unwrap();
    let base = open.get().unwrap();
    let mut batch = Batch::new(base);
    let mut conversations = RECIPIENTS.map(|to| ConversationV1 {
        peer: principal(to).to_bytes(),
        sequence: 0,
        open: 0,
        attempt: None,
    });
    for (draft, position) in drafts().into_iter().zip(1_u64..) {
        let conversation = conversations
            .iter_mut()
            .find(|conversation| conversation.peer == draft.to.to_bytes())
            .unwrap();
        conversation.sequence += 1;
        let (id, to) = (draft.id, draft.to);
        let message = draft.into_message(conversation.sequence);
        let mut state = StateV1 {
            to: to.to_bytes(),
            sequence: message.sequence,
            expires_at: message.expires_at.0,
            status: record::status_code(OutboundStatus::Pending),
            attempts: 0,
            last_error: None,
            updated_at: message.timestamp.0,
        };
        if position == 2 || position == 3 {
            state.attempts = if position == 2 { 1 } else { 2 };
            state.last_error = (position == 3).then(|| "away".to_owned());
            state.updated_at = 5_000;
        }
        if position == 2 {
            state.status = record::status_code(OutboundStatus::Delivered);
        } else {
            conversation.open += 1;
            let hidden = base.keys.hide(&to.to_bytes());
            batch
                .set(trees::PENDING, &joined(&hidden, position), &[], true)
                .unwrap();
            batch
                .set(trees::EXPIRY, &numbers(state.expires_at, position), &[], true)
                .unwrap();
        }
        let key = position.to_be_bytes();
        let record = OutboxV1 {
            message: message.into(),
        };
        batch.set_large(trees::OUTBOX, &key, &record, true).unwrap();
        batch.set_record(trees::OUTBOX_STATE, &key, &state).unwrap();
        batch
            .set(trees::OUTBOX_IDS, id.as_bytes(), &[&key], true)
            .unwrap();
    }
    for conversation in conversations {
        let key = base.keys.hide(&conversation.peer);
        batch
            .set_record(trees::CONVERSATIONS, &key, &conversation)
            .unwrap();
    }
    base.turn().unwrap().commit(batch, || ()).unwrap();
    drop(open);
    store.close();
}

/// What it has to hold.
fn expected() -> MemoryStore {
    let store = MemoryStore::new();
    store
        .commit(drafts().into_iter().map(Write::Enqueue).collect())
        .unwrap();
    store.commit(noted().into()).unwrap();
    store
}

fn outbox(store: &dyn MessageStore) -> String {
    let mut text = format!("{:?}\n", store.outbox(0, 100).unwrap());
    for to in RECIPIENTS.map(principal) {
        text += &format!(
            "{:?} {} {}\n",
            store.pending(&to, 0, 100).unwrap(),
            store.pending_count(&to).unwrap(),
            store.has_pending(&to).unwrap()
        );
    }
    text += &format!(
        "{:?} {:?} {:?}",
        store.pending_recipients().unwrap(),
        store.due_expiries(UnixMillis(u64::MAX), 100).unwrap(),
        store.next_expiry().unwrap()
    );
    text
}

fn entries(store: &SledStore) -> [u64; 2] {
    let open = store.store.base().unwrap();
    let base = open.get().unwrap();
    [trees::PENDING, trees::EXPIRY].map(|tree| base.durable(tree))
}

fn version(place: &Path) -> u8 {
    std::fs::read(place.join("format")).unwrap()[11]
}

#[test]
fn what_format_1_left_is_read_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    // In order; as after a crash; and as after one in the middle of the change of formats.
    for crash in ["none", "before", "within"] {
        let place = folder.path().join(crash);
        write_format_1(&place);
        assert_eq!(version(&place), 1);
        if crash != "none" {
            std::fs::remove_file(place.join("clean")).unwrap();
        }
        if crash == "within" {
            std::fs::write(place.join("format.creating"), b"half a file").unwrap();
        }
        let memory = expected();
        let open = || SledStore::open(&place, &KEY, StoreOptions::default()).unwrap();
        let store = open();
        assert_eq!(outbox(&store), outbox(&memory), "{crash}");
        assert_eq!((entries(&store), version(&place)), ([7, 7], 2));
        assert!(!place.join("format.creating").exists());
        drop(store);

        let store = open();
        assert_eq!(outbox(&store), outbox(&memory), "{crash}");
        let batches = [
            vec![
                set(1, OutboundStatus::Sent, 1),
                Write::Enqueue(draft(20, 1, 10)),
                set(7, OutboundStatus::Failed, 4),
                set(9, OutboundStatus::Pending, 3),
            ],
            // Decided and owed again, in one commit and in two.
            vec![
                set(4, OutboundStatus::Sent, 1),
                set(4, OutboundStatus::Pending, 2),
                set(7, OutboundStatus::Pending, 5),
                Write::Enqueue(draft(5, 1, 30)),
            ],
            (3..=9)
                .map(|position| set(position, OutboundStatus::Sent, 1))
                .collect(),
        ];
        for batch in batches {
            let outcomes = store.commit(batch.clone()).unwrap();
            assert_eq!(outcomes, memory.commit(batch).unwrap());
            assert_eq!(outbox(&store), outbox(&memory), "{crash}");
        }
        assert_eq!(entries(&store), [0, 0], "nothing is owed");
        drop(store);
        std::fs::remove_file(place.join("clean")).unwrap();
        assert_eq!(outbox(&open()), outbox(&memory), "{crash}");
    }
}

#[test]
fn a_build_of_format_1_does_not_touch_what_format_2_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("store");
    write_format_1(&place);
    drop(SledStore::open(&place, &KEY, StoreOptions::default()).unwrap());
    let refused = OpenError::NewerFormat {
        path: place.join("format"),
        found: 2,
        supported: 1,
    };
    assert_eq!(open_1(&place).err(), Some(refused));
}

#[test]
fn a_message_that_is_neither_owed_nor_decided_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("store");
    let open = || SledStore::open(&place, &KEY, StoreOptions::default());
    let store = open().unwrap();
    let writes = drafts().into_iter().map(Write::Enqueue).collect();
    store.commit(writes).unwrap();
    let forget = |tree, key: &[u8]| {
        let open = store.store.base().unwrap();
        let base = open.get().unwrap();
        let mut batch = Batch::new(base);
        assert!(batch.remove(tree, key).unwrap());
        base.turn().unwrap().commit(batch, || ()).unwrap();
    };
    store.commit(noted().into()).unwrap();
    forget(trees::OUTBOX_STATE, &2_u64.to_be_bytes());
    assert!(store.outbox(0, 100).is_err());
    drop(store);
    assert!(matches!(open(), Err(OpenError::Damaged(_))));
}
