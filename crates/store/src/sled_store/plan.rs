//! From writes to changed values. Nothing is touched before the whole batch is known to be possible.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{PoisonError, RwLock};

use clawchat_types::{Message, OutboundStatus, Principal, UnixMillis};

use super::layout::{id_and_sender, joined, numbers, trees};
use super::owed::{Owed, OwedChanges, OwedMessage, Page};
use crate::guarded::{Base, Batch};
use crate::model::{is_open, rising};
use crate::record;
use crate::record::v1::{ConversationV1, OutboxV1, StateV1};
use crate::write::{MAX_PENDING, cut_error};
use crate::{OutboundDraft, Outcome, PeerRecord, Proof, StoreError, Write};

/// A batch being worked out.
pub(crate) struct Plan<'a> {
    base: &'a Base,
    batch: Batch<'a>,
    conversations: BTreeMap<[u8; Principal::BYTES], ConversationV1>,
    /// What is owed before this batch.
    before: &'a RwLock<Owed>,
    owed: OwedChanges,
    /// How many messages are owed as far as the batch is worked out.
    owed_count: usize,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(base: &'a Base, owed: &'a RwLock<Owed>) -> Self {
        let owed_count = owed.read().unwrap_or_else(PoisonError::into_inner).count();
        Self {
            base,
            batch: Batch::new(base),
            conversations: BTreeMap::new(),
            before: owed,
            owed: OwedChanges::new(),
            owed_count,
        }
    }

    pub(crate) fn apply(&mut self, write: Write) -> Result<Outcome, StoreError> {
        match write {
            Write::Enqueue(draft) => {
                if self.owed_count >= MAX_PENDING && self.outbox_position(&draft)?.is_none() {
                    return Ok(Outcome::OutboxFull);
                }
                self.enqueue(draft, OutboundStatus::Pending, 0, None)
            }
            Write::ImportOutbound {
                draft,
                status,
                attempts,
                last_error,
            } => self.enqueue(draft, status, attempts, cut_error(last_error)),
            Write::AppendInbound {
                message,
                proof,
                received_at,
            } => self.append(message, proof, received_at, true),
            Write::ImportInbound {
                message,
                received_at,
                unread,
            } => self.append(message, None, received_at, unread),
            Write::SetOutbound {
                position,
                status,
                attempts,
                last_error,
                at,
            } => self.set_outbound(position, status, attempts, last_error, at),
            Write::NoteAttempt {
                to,
                attempts,
                last_error,
                at,
            } => {
                self.conversation(&to)?.attempt = Some(record::attempt_record(attempts, last_error, at));
                Ok(Outcome::Done)
            }
            Write::PutPeer(peer) => self.put_peer(peer),
            Write::RemovePeer(principal) => self.remove_peer(&principal),
            Write::MarkRead(arrivals) => {
                for arrival in arrivals {
                    self.batch.remove(trees::UNREAD, &arrival.to_be_bytes())?;
                }
                Ok(Outcome::Done)
            }
        }
    }

    /// All changes.
    pub(crate) fn finish(mut self) -> Result<(Batch<'a>, OwedChanges), StoreError> {
        for conversation in std::mem::take(&mut self.conversations).into_values() {
            let key = self.base.keys.hide(&conversation.peer);
            self.batch.set_record(trees::CONVERSATIONS, &key, &conversation)?;
        }
        self.note_owed()?;
        Ok((self.batch, self.owed))
    }

    /// Writes down what is owed now and what is not any more.
    fn note_owed(&mut self) -> Result<(), StoreError> {
        // As each was, and as it will be.
        let mut pages: BTreeMap<u64, (Page, Page)> = BTreeMap::new();
        for (position, change) in &self.owed {
            if let Some(single) = self.owed_before(*position).filter(|message| message.single) {
                let hidden = self.base.keys.hide(&single.to.to_bytes());
                self.batch.remove(trees::PENDING, &joined(&hidden, *position))?;
                self.batch
                    .remove(trees::EXPIRY, &numbers(single.expires_at, *position))?;
            }
            let number = Page::of(*position);
            let (_, page) = match pages.entry(number) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let page = self.page(number)?;
                    entry.insert((page.clone(), page))
                }
            };
            page.set(*position, change.is_some());
        }
        for (number, (before, page)) in pages {
            let key = number.to_be_bytes();
            if page == before {
                continue;
            }
            if page == Page::EMPTY {
                self.batch.remove(trees::PENDING, &key)?;
            } else {
                self.batch.set(trees::PENDING, &key, &[page.bytes()], false)?;
            }
        }
        Ok(())
    }

    fn page(&self, number: u64) -> Result<Page, StoreError> {
        let key = number.to_be_bytes();
        match self.batch.current(trees::PENDING, &key)? {
            Some(value) => Page::read(self.base, self.base.unseal(trees::PENDING, &key, &value)?),
            None => Ok(Page::EMPTY),
        }
    }

    fn owed_before(&self, position: u64) -> Option<OwedMessage> {
        let before = self.before.read().unwrap_or_else(PoisonError::into_inner);
        before.get(position).cloned()
    }

    /// A message that is owed as far as the batch is worked out.
    fn owed_now(&self, position: u64) -> Option<OwedMessage> {
        match self.owed.get(&position) {
            Some(change) => change.clone(),
            None => self.owed_before(position),
        }
    }

    fn enqueue(
        &mut self,
        draft: OutboundDraft,
        status: OutboundStatus,
        attempts: u32,
        last_error: Option<String>,
    ) -> Result<Outcome, StoreError> {
        let id = *draft.id.as_bytes();
        if let Some(position) = self.outbox_position(&draft)? {
            let sequence = match self.owed_now(position) {
                Some(owed) => owed.sequence,
                None => self.state(position)?.sequence,
            };
            return Ok(Outcome::AlreadyQueued { position, sequence });
        }
        let position = self.batch.meta.count(trees::OUTBOX) + 1;
        let conversation = self.conversation(&draft.to)?;
        conversation.sequence += 1;
        conversation.open += u64::from(is_open(status));
        let sequence = conversation.sequence;
        let message = draft.into_message(sequence);
        let key = position.to_be_bytes();
        // That of a new message follows from the message and from its being owed.
        let noted = !is_open(status) || attempts > 0 || last_error.is_some();
        if is_open(status) {
            let owed = OwedMessage {
                to: message.to,
                sequence,
                expires_at: message.expires_at.0,
                single: false,
                noted,
            };
            self.owed.insert(position, Some(owed));
            self.owed_count += 1;
        }
        if noted {
            let state = StateV1 {
                to: message.to.to_bytes(),
                sequence,
                expires_at: message.expires_at.0,
                status: record::status_code(status),
                attempts,
                last_error,
                updated_at: message.timestamp.0,
            };
            self.set_state(position, &state, true)?;
        }
        self.batch.set_large(
            trees::OUTBOX,
            &key,
            &OutboxV1 {
                message: message.into(),
            },
            true,
        )?;
        self.batch.set(trees::OUTBOX_IDS, &id, &[&key], true)?;
        Ok(Outcome::Enqueued { position, sequence })
    }

    /// Where a message of this id is already.
    fn outbox_position(&self, draft: &OutboundDraft) -> Result<Option<u64>, StoreError> {
        let id = draft.id.as_bytes();
        let value = self.batch.current(trees::OUTBOX_IDS, id)?;
        value
            .map(|value| self.base.number(trees::OUTBOX_IDS, id, &value))
            .transpose()
    }

    fn append(
        &mut self,
        message: Message,
        proof: Option<Proof>,
        received_at: UnixMillis,
        unread: bool,
    ) -> Result<Outcome, StoreError> {
        let sender = self.base.keys.hide(&message.from.to_bytes());
        let id = id_and_sender(message.id.as_bytes(), &sender);
        if let Some(value) = self.batch.current(trees::INBOX_IDS, &id)? {
            return Ok(Outcome::Duplicate {
                arrival: self.base.number(trees::INBOX_IDS, &id, &value)?,
            });
        }
        let arrival = self.batch.meta.count(trees::INBOX) + 1;
        let received_at = rising(received_at, UnixMillis(self.batch.meta.noted));
        self.batch.meta.noted = received_at.0;
        let key = arrival.to_be_bytes();
        self.batch.set_large(
            trees::INBOX,
            &key,
            &record::inbox_record(message, proof, received_at),
            true,
        )?;
        self.batch.set(trees::INBOX_IDS, &id, &[&key], true)?;
        if unread {
            self.batch.set(trees::UNREAD, &key, &[], true)?;
        }
        Ok(Outcome::Appended { arrival, received_at })
    }

    fn set_outbound(
        &mut self,
        position: u64,
        status: OutboundStatus,
        attempts: u32,
        last_error: Option<String>,
        at: UnixMillis,
    ) -> Result<Outcome, StoreError> {
        if position == 0 || position > self.batch.meta.count(trees::OUTBOX) {
            return Ok(Outcome::NotFound);
        }
        let owed = self.owed_now(position);
        let (to, sequence, expires_at) = match &owed {
            Some(owed) => (owed.to, owed.sequence, owed.expires_at),
            None => {
                let state = self.state(position)?;
                let to = record::principal(&state.to);
                let to = self.base.decoded(trees::OUTBOX_STATE, to)?;
                (to, state.sequence, state.expires_at)
            }
        };
        let state = StateV1 {
            to: to.to_bytes(),
            sequence,
            expires_at,
            status: record::status_code(status),
            attempts,
            last_error: cut_error(last_error),
            updated_at: at.0,
        };
        let fresh = owed.as_ref().is_some_and(|owed| !owed.noted);
        self.set_state(position, &state, fresh)?;
        match (owed, is_open(status)) {
            (Some(_), false) => {
                let conversation = self.conversation(&to)?;
                conversation.open = conversation.open.saturating_sub(1);
                self.owed.insert(position, None);
                self.owed_count = self.owed_count.saturating_sub(1);
            }
            (None, true) => {
                self.conversation(&to)?.open += 1;
                let message = OwedMessage {
                    to,
                    sequence,
                    expires_at,
                    single: false,
                    noted: true,
                };
                self.owed.insert(position, Some(message));
                self.owed_count += 1;
            }
            (Some(mut message), true) if !message.noted => {
                // In memory as note_owed leaves it on disk.
                (message.single, message.noted) = (false, true);
                self.owed.insert(position, Some(message));
            }
            (Some(_), true) | (None, false) => {}
        }
        Ok(Outcome::Done)
    }

    fn put_peer(&mut self, peer: PeerRecord) -> Result<Outcome, StoreError> {
        let key = self.base.keys.hide(&peer.principal.to_bytes());
        self.batch.remove_pieces(trees::PEERS, &key)?;
        self.batch
            .set_large(trees::PEERS, &key, &record::peer_record(peer), false)?;
        Ok(Outcome::Done)
    }

    fn remove_peer(&mut self, principal: &Principal) -> Result<Outcome, StoreError> {
        let key = self.base.keys.hide(&principal.to_bytes());
        self.batch.remove_pieces(trees::PEERS, &key)?;
        Ok(if self.batch.remove(trees::PEERS, &key)? {
            Outcome::Done
        } else {
            Outcome::NotFound
        })
    }

    /// Puts a state. `fresh`: there is certainly none yet.
    fn set_state(&mut self, position: u64, state: &StateV1, fresh: bool) -> Result<(), StoreError> {
        let bytes = self.base.decoded(trees::OUTBOX_STATE, record::encode(state))?;
        let key = position.to_be_bytes();
        self.batch.set(trees::OUTBOX_STATE, &key, &[&bytes], fresh)?;
        Ok(())
    }

    fn state(&self, position: u64) -> Result<StateV1, StoreError> {
        let key = position.to_be_bytes();
        let value = self.batch.current(trees::OUTBOX_STATE, &key)?;
        let value = value.ok_or_else(|| {
            self.base
                .damage(format!("the state of message {position} is missing"))
        })?;
        self.base.record(trees::OUTBOX_STATE, &key, &value)
    }

    fn conversation(&mut self, peer: &Principal) -> Result<&mut ConversationV1, StoreError> {
        let bytes = peer.to_bytes();
        if !self.conversations.contains_key(&bytes) {
            let key = self.base.keys.hide(&bytes);
            let known = match self.batch.current(trees::CONVERSATIONS, &key)? {
                Some(value) => self.base.record(trees::CONVERSATIONS, &key, &value)?,
                None => ConversationV1 {
                    peer: bytes,
                    sequence: 0,
                    open: 0,
                    attempt: None,
                },
            };
            self.conversations.insert(bytes, known);
        }
        self.conversations.get_mut(&bytes).ok_or(StoreError::Closed)
    }
}
