//! Folders written by hand, as the TypeScript version writes them.

use std::cell::Cell;
use std::sync::Mutex;

use clawchat_store::{AttemptState, InboxEntry, MemoryStore, OutboxEntry, Outcome, PeerRecord, Write};
use clawchat_types::{MessageId, OutboundStatus, Principal};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const ME: &str = "stacks:ST3YZM3S1P75KA4B60HDZEX9496TTATN5PVD94DFF";
const CAROL: &str = "stacks:STYVBQC2MG7BX4H0PCZWM8THCFV9EB3NSX83S0Z4";
const BOB: &str = "stacks:ST3JJPDR32NBV4W4810F9S8AW2ESRMJHG9KPRBSM2";
const ALICE: &str = "stacks:ST1PQHQKV0RJXZFY1DGX8MNSNYVE3VGZJSRTPGZGM";
const MAINNET: &str = "stacks:SP2J6ZY48GV1EZ5V2V5RB9MP66SW86PYKKNRV9EJ7";
const ADDRESS: &str = "/ip4/127.0.0.1/tcp/9600/p2p/12D3KooWEcKpSWJcaZEmui8eoD1RFUGBKW3kLJWYTHz2r7RCPgtW";
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const WEEK: u64 = 7 * 24 * 3600 * 1000;

fn who(text: &str) -> Principal {
    text.parse().unwrap()
}

fn owner() -> Owner {
    Owner {
        principal: who(ME),
        nick: Some("me".parse().unwrap()),
        names: [("me".to_owned(), who(ME)), ("carol".to_owned(), who(CAROL))].into(),
    }
}

fn hex_id(number: u64) -> String {
    format!("{number:032x}")
}

fn received(number: u64, from: &str, content: &str) -> Value {
    json!({ "id": hex_id(number), "from": from, "fromNick": "bob", "to": ME, "content": content,
            "timestamp": 1_700_000_000_000_u64 + number, "status": "delivered" })
}

fn sent(number: u64, to: &str, status: &str) -> Value {
    json!({ "id": hex_id(number), "from": ME, "to": to, "content": format!("to {to}"),
            "timestamp": 1_700_000_000_000_u64 + number, "status": status })
}

/// A folder with these files, each written as that version does.
fn folder(files: &[(&str, &Value)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(
            folder.path().join(name),
            serde_json::to_string_pretty(content).unwrap(),
        )
        .unwrap();
    }
    folder
}

fn run(folder: &TempDir, store: &dyn MessageStore) -> Vec<Problem> {
    take_over(folder.path(), store, &owner(), NOW).unwrap()
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Everything a store remembers.
fn everything(store: &dyn MessageStore) -> String {
    format!(
        "{:#?}\n{:#?}\n{:#?}\n{:?}",
        store.inbox(0, usize::MAX).unwrap(),
        store.outbox(0, usize::MAX).unwrap(),
        store.peers().unwrap(),
        (store.unread_count().unwrap(), store.pending_recipients().unwrap())
    )
}

fn usual() -> TempDir {
    folder(&[
        (
            "inbox.json",
            &json!([
                received(1, BOB, "one"),
                received(2, ALICE, "zwei – 二"),
                received(3, BOB, "")
            ]),
        ),
        (
            "outbox.json",
            &json!([
                sent(11, BOB, "sent"),
                sent(12, "bobby", "pending"),
                sent(13, "carol", "sent"),
                sent(14, ALICE, "failed"),
                sent(15, MAINNET, "pending"),
                sent(16, BOB, "delivered"),
            ]),
        ),
        (
            "peers.json",
            &json!([
                { "principal": BOB, "address": format!("{ADDRESS},10.0.0.7:9000"), "alias": "bobby",
                  "lastSeen": 1_700_000_000_500_u64 },
                { "principal": ALICE, "address": "" },
            ]),
        ),
    ])
}

#[test]
fn a_folder_is_taken_over_as_it_stands() {
    let (folder, store) = (usual(), MemoryStore::new());
    assert_eq!(run(&folder, &store), []);
    assert_eq!(
        names(&folder),
        [
            "inbox.json.imported",
            "outbox.json.imported",
            "peers.json.imported"
        ]
    );

    let inbox = store.inbox(0, 10).unwrap();
    let texts: Vec<&str> = inbox.iter().map(|entry| entry.message.content.as_str()).collect();
    assert_eq!(texts, ["one", "zwei – 二", ""]);
    let first = &inbox[0];
    assert_eq!((first.message.from, first.message.to), (who(BOB), who(ME)));
    assert_eq!(first.message.id.to_string(), hex_id(1));
    assert_eq!(first.message.from_nick.as_ref().unwrap().as_str(), "bob");
    assert_eq!(first.message.timestamp, UnixMillis(1_700_000_000_001));
    assert_eq!(first.received_at, first.message.timestamp);
    assert_eq!(store.unread_count().unwrap(), 0);

    let outbox = store.outbox(0, 10).unwrap();
    let to: Vec<Principal> = outbox.iter().map(|entry| entry.message.to).collect();
    assert_eq!(to, [BOB, BOB, CAROL, ALICE, MAINNET, BOB].map(who));
    let states: Vec<OutboundStatus> = outbox.iter().map(|entry| entry.status).collect();
    use OutboundStatus::{Delivered, Failed, Pending, Sent};
    assert_eq!(states, [Sent, Pending, Sent, Failed, Failed, Delivered]);
    assert_eq!(
        outbox[1].message.expires_at,
        UnixMillis(NOW.0 + WEEK),
        "a fresh week"
    );
    assert!(outbox[4].last_error.as_ref().unwrap().contains("mainnet"));
    assert_eq!(store.pending_recipients().unwrap(), [who(BOB)]);

    let bob = store.peer(&who(BOB)).unwrap().unwrap();
    assert_eq!((bob.alias.as_deref(), bob.added), (Some("bobby"), true));
    let locators: Vec<&str> = bob.locators.iter().map(|locator| locator.as_str()).collect();
    assert_eq!(locators, [ADDRESS, "/ip4/10.0.0.7/tcp/9000"]);
    assert_eq!(bob.last_seen, Some(UnixMillis(1_700_000_000_500)));
    assert_eq!(store.peer(&who(ALICE)).unwrap().unwrap().locators, []);
}

#[test]
fn whatever_is_read_again_is_there_already() {
    let (folder, store) = (usual(), MemoryStore::new());
    run(&folder, &store);
    let before = everything(&store);
    assert_eq!(run(&folder, &store), []);
    for name in FILES {
        let imported = folder.path().join(format!("{name}.imported"));
        fs::copy(imported, folder.path().join(name)).unwrap();
    }
    assert_eq!(run(&folder, &store), []);
    assert_eq!(everything(&store), before);
    assert!(names(&folder).contains(&"inbox.json.1.imported".to_owned()));
    assert_eq!(names(&folder).len(), 6);
}

/// As after a crash at any commit: what was written stays, the file too.
#[test]
fn an_import_that_ends_early_is_repeated_without_loss_or_doubling() {
    let inbox: Vec<Value> = (0..700)
        .map(|number| received(number, BOB, &number.to_string()))
        .collect();
    let outbox: Vec<Value> = (0..600).map(|number| sent(1000 + number, BOB, "sent")).collect();
    let peers: Vec<Value> = (0..300_u16)
        .map(|number| {
            let mut hash = [0; 20];
            hash[..2].copy_from_slice(&number.to_be_bytes());
            let principal = Principal::from_hash160(clawchat_types::Network::Testnet, hash);
            json!({ "principal": principal, "alias": format!("peer {number}") })
        })
        .collect();
    let (inbox, outbox, peers) = (json!(inbox), json!(outbox), json!(peers));
    let files = [
        ("inbox.json", &inbox),
        ("outbox.json", &outbox),
        ("peers.json", &peers),
    ];
    let reference = MemoryStore::new();
    run(&folder(&files), &reference);
    assert_eq!(reference.inbox_count().unwrap(), 700);

    let mut ended_early = 0;
    for commits in 0..11 {
        let (folder, store) = (folder(&files), Faulty::after(commits, failed()));
        ended_early += usize::from(take_over(folder.path(), &store, &owner(), NOW).is_err());
        assert_eq!(names(&folder).len(), 3);
        store.left.set_forever();
        assert_eq!(run(&folder, &store), []);
        assert_eq!(
            everything(&store),
            everything(&reference),
            "after {commits} commits"
        );
    }
    assert!(ended_early >= 8, "only {ended_early}");
}

#[test]
fn a_full_disk_is_a_problem_and_the_next_time_goes_on() {
    let full = StoreError::StorageFull {
        path: "store".into(),
        free: 1,
        needed: 2,
    };
    let (folder, store) = (usual(), Faulty::after(1, full));
    let problems = run(&folder, &store);
    assert_eq!(problems.len(), 2);
    assert!(
        problems[0].to_string().contains("free some space"),
        "{problems:?}"
    );
    assert_eq!(
        names(&folder),
        ["inbox.json", "outbox.json", "peers.json.imported"]
    );
    store.left.set_forever();
    assert_eq!(run(&folder, &store), []);
    assert_eq!(store.inbox_count().unwrap(), 3);
}

#[test]
fn a_file_that_is_no_list_is_left_alone_and_the_rest_taken_over() {
    for (broken, line, column) in [
        ("[\n  {\"id\": \"x\",\n   \"from\": }\n]", 3, 12),
        ("", 1, 1),
        ("[{}", 1, 3),
        ("{}", 1, 1),
        ("[] []", 1, 4),
        ("[{\"content\": \"\u{7}\"}]", 1, 15),
    ] {
        let (folder, store) = (usual(), MemoryStore::new());
        let path = folder.path().join("inbox.json");
        fs::write(&path, broken).unwrap();
        let problems = run(&folder, &store);
        assert_eq!(problems.len(), 1, "{broken}: {problems:?}");
        let place = format!("{}:{line}:{column}: ", path.display());
        assert!(
            problems[0].to_string().starts_with(&place),
            "{broken}: {}",
            problems[0]
        );
        let shown = problems[0].to_json(&who(ME));
        assert_eq!((&shown["line"], &shown["column"]), (&json!(line), &json!(column)));
        assert_eq!(fs::read_to_string(&path).unwrap(), broken);
        assert_eq!(
            store.inbox_count().unwrap(),
            0,
            "{broken}: not even its beginning"
        );
        assert_eq!(
            (store.outbox_count().unwrap(), store.peers().unwrap().len()),
            (6, 2)
        );
    }
    let (folder, store) = (usual(), MemoryStore::new());
    fs::remove_file(folder.path().join("inbox.json")).unwrap();
    fs::create_dir(folder.path().join("inbox.json")).unwrap();
    assert!(run(&folder, &store)[0].to_string().contains("not a file"));
}

#[test]
fn records_that_cannot_be_stored_are_counted_and_named() {
    let large = "x".repeat(clawchat_types::MAX_CONTENT_BYTES + 1);
    let folder = folder(&[
        (
            "inbox.json",
            &json!([
                7,
                { "from": BOB },
                received(1, "local:bob", "x"),
                received(2, BOB, &large),
                received(3, BOB, "fine"),
                null,
                [],
                { "from": BOB, "content": 5 },
            ]),
        ),
        (
            "outbox.json",
            &json!([sent(1, "nobody", "pending"), sent(2, BOB, "sent")]),
        ),
        ("peers.json", &json!([{ "alias": "x" }, { "principal": ME }])),
    ]);
    let store = MemoryStore::new();
    let problems = run(&folder, &store);
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    for (text, parts) in texts.iter().zip([
        [
            "peers.json.imported: 2 of 2 records",
            "record 1: has no \"principal\"",
            "record 2: is the identity itself",
        ],
        [
            "inbox.json.imported: 6 of 8 records",
            "record 3: \"local:bob\" is no principal",
            "1 more",
        ],
        [
            "outbox.json.imported: 1 of 2 records",
            "record 1: is for \"nobody\"",
            "kept here alone",
        ],
    ]) {
        for part in parts {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
    let inbox = store.inbox(0, 10).unwrap();
    let texts: Vec<&str> = inbox.iter().map(|entry| entry.message.content.as_str()).collect();
    assert_eq!(texts, ["fine", "5"]);
    assert_eq!(names(&folder).len(), 3);
}

#[test]
fn ids_that_are_not_ours_or_not_unique_lose_no_message() {
    let mut records = vec![
        received(1, BOB, "first"),
        received(1, BOB, "another of that id"),
        received(1, ALICE, "somebody else's"),
        received(1, BOB, "first"),
    ];
    for (id, content) in [
        (json!("m1"), "a"),
        (json!("m1"), "b"),
        (json!(1), "c"),
        (Value::Null, "d"),
    ] {
        let mut record = received(9, BOB, content);
        record["id"] = id;
        records.push(record);
    }
    let mut upper = received(0xabc, BOB, "upper case");
    upper["id"] = json!(hex_id(0xabc).to_uppercase());
    records.push(upper);
    let records = json!(records);
    let store = MemoryStore::new();
    for _ in 0..2 {
        assert_eq!(run(&folder(&[("inbox.json", &records)]), &store), []);
        let inbox = store.inbox(0, 100).unwrap();
        let texts: Vec<&str> = inbox.iter().map(|entry| entry.message.content.as_str()).collect();
        let expected = [
            "first",
            "another of that id",
            "somebody else's",
            "a",
            "b",
            "c",
            "d",
            "upper case",
        ];
        assert_eq!(texts, expected);
        assert_eq!(inbox[7].message.id.to_string(), hex_id(0xabc));
    }
}

#[test]
fn times_rise_and_never_run_ahead_of_the_clock() {
    let mut records: Vec<Value> = (0..4).map(|number| received(number, BOB, "x")).collect();
    records[1]["timestamp"] = json!(9e300);
    records[2]["timestamp"] = json!("soon");
    let store = MemoryStore::new();
    run(&folder(&[("inbox.json", &json!(records))]), &store);
    let inbox = store.inbox(0, 10).unwrap();
    let times: Vec<u64> = inbox.iter().map(|entry| entry.received_at.0).collect();
    assert_eq!(times, [1_700_000_000_000, NOW.0, NOW.0 + 1, NOW.0 + 2]);
}

#[test]
fn what_the_other_version_sent_since_is_not_sent_again() {
    let store = MemoryStore::new();
    let with = |status| {
        folder(&[(
            "outbox.json",
            &json!([sent(1, BOB, status), sent(2, BOB, "pending")]),
        )])
    };
    run(&with("pending"), &store);
    assert_eq!(store.pending_count(&who(BOB)).unwrap(), 2);
    run(&with("sent"), &store);
    assert_eq!(store.pending_count(&who(BOB)).unwrap(), 1);
    // Here it went out meanwhile: an old file does not open it again.
    run(&with("pending"), &store);
    assert_eq!(store.pending_count(&who(BOB)).unwrap(), 1);
    assert_eq!(store.outbox_count().unwrap(), 2);
}

#[test]
fn known_peers_keep_what_the_operator_said() {
    let store = MemoryStore::new();
    let known = PeerRecord {
        alias: Some("robert".to_owned()),
        locators: vec!["/ip4/192.0.2.1/tcp/1".parse().unwrap()],
        last_seen: Some(UnixMillis(5)),
        protocol_pin: Some(2),
        ..PeerRecord::new(who(BOB))
    };
    store.commit(vec![Write::PutPeer(known)]).unwrap();
    let many: Vec<String> = (1..40).map(|port| format!("10.0.0.1:{port}")).collect();
    let peers = json!([
        { "principal": BOB, "address": "nonsense, /ip4/192.0.2.2/tcp/2 ,", "alias": "bobby", "lastSeen": 7 },
        { "principal": ALICE, "alias": "robert", "address": many.join(",") },
        { "principal": CAROL, "alias": "stacks:x", "lastSeen": "never" },
        { "principal": CAROL, "alias": "caro" },
    ]);
    assert_eq!(run(&folder(&[("peers.json", &peers)]), &store), []);
    let bob = store.peer(&who(BOB)).unwrap().unwrap();
    assert_eq!(
        (bob.alias.as_deref(), bob.added, bob.protocol_pin),
        (Some("robert"), true, Some(2))
    );
    let locators: Vec<&str> = bob.locators.iter().map(|locator| locator.as_str()).collect();
    assert_eq!(locators, ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/2"]);
    assert_eq!(bob.last_seen, Some(UnixMillis(7)));
    let alice = store.peer(&who(ALICE)).unwrap().unwrap();
    assert_eq!(
        (alice.alias, alice.locators.len()),
        (None, clawchat_store::MAX_PEER_LOCATORS)
    );
    let carol = store.peer(&who(CAROL)).unwrap().unwrap();
    assert_eq!((carol.alias.as_deref(), carol.last_seen), (Some("caro"), None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..700_usize) {
        for name in FILES {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(name), &bytes).unwrap();
            let _ = run(&folder, &MemoryStore::new());
            // A sound file whose end is missing, or in whose middle something is wrong.
            let text = serde_json::to_vec(&json!([received(1, BOB, "x"), sent(2, BOB, "sent"), { "principal": BOB }])).unwrap();
            let cut = cut.min(text.len());
            fs::write(folder.path().join(name), [&text[..cut], &bytes[..bytes.len().min(3)], &text[cut..]].concat()).unwrap();
            let _ = run(&folder, &MemoryStore::new());
        }
    }

    #[test]
    fn arbitrary_records_are_kept_or_named(fields in prop::collection::vec(field(), 0..8)) {
        let record: serde_json::Map<String, Value> = fields.into_iter().collect();
        for name in FILES {
            let folder = folder(&[(name, &json!([record]))]);
            let store = MemoryStore::new();
            let problems = run(&folder, &store);
            let kept = store.inbox_count().unwrap() + store.outbox_count().unwrap() + store.peers().unwrap().len() as u64;
            prop_assert_eq!(kept + problems.len() as u64, 1);
            prop_assert!(names(&folder)[0].ends_with(".imported"));
        }
    }
}

fn field() -> impl Strategy<Value = (String, Value)> {
    let name = prop::sample::select(vec![
        "id",
        "from",
        "fromNick",
        "to",
        "content",
        "timestamp",
        "status",
        "principal",
        "address",
        "alias",
        "lastSeen",
        "retries",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![BOB, ME, CAROL, "carol", "bob", "pending", "sent", ADDRESS])
            .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        Just(json!(null)),
        Just(json!([{ "a": true }])),
    ];
    (name.prop_map(str::to_owned), value)
}

/// A store that fails from some commit on.
struct Faulty {
    store: MemoryStore,
    left: Left,
    error: StoreError,
}

/// How many commits still work.
struct Left(Mutex<Cell<usize>>);

impl Left {
    fn set_forever(&self) {
        self.0.lock().unwrap().set(usize::MAX);
    }
}

impl Faulty {
    fn after(commits: usize, error: StoreError) -> Self {
        Self {
            store: MemoryStore::new(),
            left: Left(Mutex::new(Cell::new(commits))),
            error,
        }
    }
}

fn failed() -> StoreError {
    StoreError::Failed {
        path: "store".into(),
        reason: "for the test".to_owned(),
    }
}

macro_rules! passed_on {
    ($(fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $result:ty;)*) => {
        $(fn $name(&self $(, $argument: $type)*) -> Result<$result, StoreError> { self.store.$name($($argument),*) })*
    };
}

impl MessageStore for Faulty {
    fn commit(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StoreError> {
        let left = self.left.0.lock().unwrap();
        match left.get().checked_sub(1) {
            None => return Err(self.error.clone()),
            Some(fewer) if left.get() != usize::MAX => left.set(fewer),
            Some(_) => {}
        }
        self.store.commit(batch)
    }

    passed_on! {
        fn inbox(&self, after: u64, limit: usize) -> Vec<InboxEntry>;
        fn arrival_at(&self, time: UnixMillis) -> u64;
        fn inbox_by_id(&self, id: &MessageId) -> Vec<InboxEntry>;
        fn inbox_count(&self) -> u64;
        fn unread(&self, after: u64, limit: usize) -> Vec<InboxEntry>;
        fn unread_count(&self) -> u64;
        fn outbox(&self, after: u64, limit: usize) -> Vec<OutboxEntry>;
        fn outbox_by_id(&self, id: &MessageId) -> Option<OutboxEntry>;
        fn outbox_count(&self) -> u64;
        fn pending(&self, to: &Principal, after: u64, limit: usize) -> Vec<OutboxEntry>;
        fn pending_recipients(&self) -> Vec<Principal>;
        fn pending_count(&self, to: &Principal) -> u64;
        fn due_expiries(&self, now: UnixMillis, limit: usize) -> Vec<OutboxEntry>;
        fn next_expiry(&self) -> Option<UnixMillis>;
        fn attempt_state(&self, to: &Principal) -> Option<AttemptState>;
        fn peers(&self) -> Vec<PeerRecord>;
        fn peer(&self, principal: &Principal) -> Option<PeerRecord>;
        fn close(&self) -> ();
    }
}
