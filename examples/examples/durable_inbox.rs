//! An inbox that survives: messages are on disk when `commit` returns, each one once.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::path::Path;

use clawchat_store::{MessageStore, Outcome, SledStore, StoreOptions, Write};
use clawchat_types::{Content, Message, MessageId, Network, Principal, UnixMillis};

/// Seals every value. A gateway derives it from the identity's wallet.
const KEY: [u8; 32] = [42; 32];
const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    let received = Write::AppendInbound {
        message: message(1, "Are you there?")?,
        proof: None,
        received_at: NOW,
    };
    let again = received.clone();
    let second = Write::AppendInbound {
        message: message(2, "Hello?")?,
        proof: None,
        received_at: NOW,
    };

    // Two messages and a repetition in one commit, which is one sync of the disk.
    let outcomes = store.commit(vec![received, second, again])?;
    assert_eq!(outcomes.last(), Some(&Outcome::Duplicate { arrival: 1 }));
    println!("committed: {outcomes:?}");

    // Nobody else can read them: another key does not open the store.
    store.close()?;
    drop(store);
    assert!(SledStore::open(&folder.path().join("store"), &[0; 32], StoreOptions::default()).is_err());

    // The next run of the program finds them, in the order of their arrival.
    let store = open(folder.path())?;
    let inbox = store.inbox(0, 10)?;
    let texts: Vec<&str> = inbox.iter().map(|entry| entry.message.content.as_str()).collect();
    assert_eq!(texts, ["Are you there?", "Hello?"]);
    println!("found again: {texts:?}");

    // Reading is another write; what was read stays in the inbox.
    store.commit(vec![Write::MarkRead(vec![1])])?;
    assert_eq!((store.inbox_count()?, store.unread_count()?), (2, 1));
    println!("one of them is still unread");
    Ok(store.close()?)
}

fn open(folder: &Path) -> Result<SledStore, Box<dyn Error>> {
    Ok(SledStore::open(
        &folder.join("store"),
        &KEY,
        StoreOptions::default(),
    )?)
}

fn message(number: u8, text: &str) -> Result<Message, Box<dyn Error>> {
    let [me, friend] = [1, 2].map(|hash| Principal::from_hash160(Network::Testnet, [hash; 20]));
    Ok(Message {
        id: MessageId::new([number; 16]),
        from: friend,
        to: me,
        timestamp: NOW,
        sequence: u64::from(number),
        from_nick: None,
        content_type: "text/plain".to_owned(),
        content: Content::new(text)?,
        payload: None,
        reply_to: None,
        expires_at: UnixMillis(NOW.0 + 1000),
    })
}
