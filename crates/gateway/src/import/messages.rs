//! `inbox.json` and `outbox.json`.

use std::collections::BTreeMap;
use std::mem;

use clawchat_router::DEFAULT_EXPIRY;
use clawchat_store::{MessageStore, OutboundDraft, Outcome, StoreError, Write};
use clawchat_types::{Content, Message, MessageId, Nick, OutboundStatus, Principal, UnixMillis};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::record::Record;
use super::report::{Tally, Unusable, quoted};
use super::{BATCH_BYTES, BATCH_WRITES, Import, Owner};

/// MIME type of everything the TypeScript version sends.
const TEXT: &str = "text/plain";
/// Separates ids made of a record's content from every other use of the hash.
const ID_DOMAIN: &[u8] = b"clawchat-import-message-id-v1\0";
/// What is noted of a message that the other version gave up.
const GIVEN_UP: &str = "the TypeScript version gave it up";

/// The received messages.
pub(super) struct Inbox<'a> {
    owner: &'a Owner,
    now: UnixMillis,
    batch: Batch<'a>,
}

impl<'a> Inbox<'a> {
    pub(super) fn new(store: &'a dyn MessageStore, owner: &'a Owner, now: UnixMillis) -> Self {
        let batch = Batch::new(store);
        Self { owner, now, batch }
    }

    fn read(&mut self, number: usize, record: &RawValue) -> Result<(Message, Named), Unusable> {
        let record = Record::read(record)?;
        let from = principal(&record.required("from")?)?;
        let content = content(&record)?;
        let timestamp = record.time("timestamp");
        let named = Named::new(&record, &from, timestamp, &content);
        let from_nick = record.text("fromNick").filter(|nick| !nick.is_empty());
        let from_nick = from_nick.and_then(|nick| {
            let parsed = nick.parse::<Nick>().ok();
            if parsed.is_none() {
                let remark = format!("taken over without the nickname {}", quoted(&nick));
                self.batch.tally.remarks.add(number, &remark);
            }
            parsed
        });
        let message = Message {
            id: named.id,
            from,
            // Whatever the record says: it is this identity's inbox.
            to: self.owner.principal,
            timestamp,
            // Not counted in that version.
            sequence: 0,
            from_nick,
            content_type: TEXT.to_owned(),
            content,
            payload: None,
            reply_to: None,
            expires_at: timestamp.after(DEFAULT_EXPIRY),
        };
        Ok((message, named))
    }
}

impl Import for Inbox<'_> {
    fn take(&mut self, number: usize, record: &RawValue) -> Result<(), StoreError> {
        let (mut message, named) = match self.read(number, record) {
            Ok(read) => read,
            Err(reason) => {
                self.batch.tally.skip(number, &reason);
                return Ok(());
            }
        };
        let store = self.batch.store;
        message.id = self.batch.id(message.from, &named, || {
            let known = store.inbox_by_id(&named.id)?;
            let known = known.into_iter().find(|entry| entry.message.from == message.from);
            Ok(known.map(|entry| print_of(&entry.message)))
        })?;
        // The sender's clock may be ahead of ours, and later messages are never noted as earlier ones.
        let received_at = message.timestamp.min(self.now);
        self.batch.push(Write::ImportInbound {
            message,
            received_at,
            // That version has no unread messages: whoever asked was given all of them.
            unread: false,
        })
    }

    fn finish(self: Box<Self>) -> Result<Tally, StoreError> {
        self.batch.finish()
    }
}

/// The sent messages.
pub(super) struct Outbox<'a> {
    owner: &'a Owner,
    now: UnixMillis,
    /// The owner's peers by their aliases.
    aliases: BTreeMap<String, Principal>,
    batch: Batch<'a>,
}

/// An outgoing message as it is taken over.
struct Outgoing {
    draft: OutboundDraft,
    status: OutboundStatus,
    attempts: u32,
    last_error: Option<String>,
}

impl<'a> Outbox<'a> {
    /// # Errors
    /// When the peers cannot be read.
    pub(super) fn new(
        store: &'a dyn MessageStore,
        owner: &'a Owner,
        now: UnixMillis,
    ) -> Result<Self, StoreError> {
        let peers = store.peers()?.into_iter();
        Ok(Self {
            owner,
            now,
            aliases: peers
                .filter_map(|peer| Some((peer.alias?, peer.principal)))
                .collect(),
            batch: Batch::new(store),
        })
    }

    fn read(&self, record: &RawValue) -> Result<(Outgoing, Named), Unusable> {
        let record = Record::read(record)?;
        let from = self.owner.principal;
        let to = self.recipient(&record.required("to")?)?;
        let content = content(&record)?;
        let timestamp = record.time("timestamp");
        let named = Named::new(&record, &from, timestamp, &content);
        let (status, last_error) = match record.text("status").as_deref() {
            Some("pending") if to.network() != from.network() => (
                OutboundStatus::Failed,
                Some(format!("{to} is on {}", to.network())),
            ),
            Some("pending") => (OutboundStatus::Pending, None),
            Some("sent") => (OutboundStatus::Sent, None),
            Some("delivered") => (OutboundStatus::Delivered, None),
            Some("failed") => (OutboundStatus::Failed, Some(GIVEN_UP.to_owned())),
            other => {
                let status = other.map_or_else(|| "none".to_owned(), quoted);
                (
                    OutboundStatus::Failed,
                    Some(format!("taken over with a status nobody knows: {status}")),
                )
            }
        };
        // What is still owed has the time a new message has.
        let counted_from = match status {
            OutboundStatus::Pending => self.now,
            OutboundStatus::Sent | OutboundStatus::Delivered | OutboundStatus::Failed => timestamp,
        };
        let draft = OutboundDraft {
            id: named.id,
            from,
            to,
            timestamp,
            from_nick: self.owner.nick.clone(),
            content_type: TEXT.to_owned(),
            content,
            payload: None,
            reply_to: None,
            expires_at: counted_from.after(DEFAULT_EXPIRY),
        };
        let outgoing = Outgoing {
            draft,
            status,
            attempts: record.count("retries"),
            last_error,
        };
        Ok((outgoing, named))
    }

    /// That version takes aliases and nicknames too, and looks them up when it delivers.
    fn recipient(&self, text: &str) -> Result<Principal, Unusable> {
        let named = self.aliases.get(text).or_else(|| self.owner.names.get(text));
        if text.starts_with("stacks:") {
            return principal(text);
        }
        named
            .copied()
            .ok_or_else(|| Unusable(format!("is for {}, whom nobody here knows", quoted(text))))
    }
}

impl Import for Outbox<'_> {
    fn take(&mut self, number: usize, record: &RawValue) -> Result<(), StoreError> {
        let (mut outgoing, named) = match self.read(record) {
            Ok(read) => read,
            Err(reason) => {
                self.batch.tally.skip(number, &reason);
                return Ok(());
            }
        };
        let store = self.batch.store;
        let known = store.outbox_by_id(&named.id)?;
        let draft = &mut outgoing.draft;
        draft.id = self.batch.id(draft.from, &named, || {
            Ok(known.as_ref().map(|entry| print_of(&entry.message)))
        })?;
        if let Some(known) = known.filter(|known| known.message.id == draft.id)
            && known.is_open()
            && outgoing.status != OutboundStatus::Pending
        {
            // Taken over before, and sent by that version since.
            return self.batch.push(Write::SetOutbound {
                position: known.position,
                status: outgoing.status,
                attempts: outgoing.attempts,
                last_error: outgoing.last_error,
                at: self.now,
            });
        }
        let Outgoing {
            draft,
            status,
            attempts,
            last_error,
        } = outgoing;
        self.batch.push(Write::ImportOutbound {
            draft,
            status,
            attempts,
            last_error,
        })
    }

    fn finish(self: Box<Self>) -> Result<Tally, StoreError> {
        self.batch.finish()
    }
}

/// What tells one message from another: a hash of its id, sender, time and text.
type Print = [u8; 16];

/// A record's id, and the one it gets if another message has it.
struct Named {
    id: MessageId,
    print: Print,
}

impl Named {
    /// Ids are 32 hexadecimal digits; peers of other makes send other texts, or none.
    fn new(record: &Record, from: &Principal, timestamp: UnixMillis, content: &Content) -> Self {
        let text = record.text("id").unwrap_or_default();
        match text.parse::<MessageId>() {
            Ok(id) => Self {
                id,
                print: print(&id.to_string(), from, timestamp, content),
            },
            Err(_) => {
                let print = print(&text, from, timestamp, content);
                let id = MessageId::new(print);
                Self { id, print }
            }
        }
    }
}

fn print_of(message: &Message) -> Print {
    print(
        &message.id.to_string(),
        &message.from,
        message.timestamp,
        &message.content,
    )
}

fn print(id: &str, from: &Principal, timestamp: UnixMillis, content: &Content) -> Print {
    let mut hash = Sha256::new();
    hash.update(ID_DOMAIN);
    for part in [id.as_bytes(), &from.to_bytes(), &timestamp.0.to_be_bytes()] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.update(content.as_str());
    let mut print = Print::default();
    for (to, from) in print.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    print
}

/// Writes that share a commit.
struct Batch<'a> {
    store: &'a dyn MessageStore,
    writes: Vec<Write>,
    bytes: usize,
    /// The messages among them.
    prints: BTreeMap<(MessageId, Principal), Print>,
    tally: Tally,
}

impl<'a> Batch<'a> {
    fn new(store: &'a dyn MessageStore) -> Self {
        Self {
            store,
            writes: Vec::new(),
            bytes: 0,
            prints: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// The id to store a message under: its own, unless a different message has it. Senders choose ids, and two
    /// messages of one id were two messages in the other version.
    fn id(
        &mut self,
        from: Principal,
        named: &Named,
        stored: impl FnOnce() -> Result<Option<Print>, StoreError>,
    ) -> Result<MessageId, StoreError> {
        let made = MessageId::new(named.print);
        if named.id == made {
            return Ok(made);
        }
        let holder = match self.prints.get(&(named.id, from)) {
            Some(print) => Some(*print),
            None => stored()?,
        };
        if holder.is_some_and(|holder| holder != named.print) {
            return Ok(made);
        }
        self.prints.insert((named.id, from), named.print);
        Ok(named.id)
    }

    fn push(&mut self, write: Write) -> Result<(), StoreError> {
        if self.writes.len() >= BATCH_WRITES || self.bytes + write.size() > BATCH_BYTES {
            self.commit()?;
        }
        self.bytes += write.size();
        self.writes.push(write);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let writes = mem::take(&mut self.writes);
        self.bytes = 0;
        self.prints.clear();
        for outcome in self.store.commit(writes)? {
            match outcome {
                Outcome::Appended { .. } | Outcome::Enqueued { .. } => self.tally.imported += 1,
                Outcome::Duplicate { .. }
                | Outcome::AlreadyQueued { .. }
                | Outcome::Done
                | Outcome::NotFound
                // Never of what is taken over.
                | Outcome::OutboxFull => self.tally.known += 1,
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Tally, StoreError> {
        self.commit()?;
        Ok(self.tally)
    }
}

fn principal(text: &str) -> Result<Principal, Unusable> {
    text.parse()
        .map_err(|error| Unusable(format!("{} is no principal: {error}", quoted(text))))
}

fn content(record: &Record) -> Result<Content, Unusable> {
    Content::new(record.required("content")?).map_err(|error| Unusable(error.to_string()))
}
