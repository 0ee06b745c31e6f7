//! From writes to changed values. Nothing is touched before the whole batch is known to be possible.

use std::collections::BTreeMap;

use clawchat_types::{Message, OutboundStatus, Principal, UnixMillis};

use super::base::{Base, IN_PIECES, PIECES_HEADER, WHOLE};
use super::engine::Changes;
use super::layout::{META_KEY, PIECE_BYTES, Tree, id_and_sender, joined, numbers, piece};
use super::meta::Meta;
use crate::model::{is_open, rising};
use crate::record::v1::{ConversationV1, OutboxV1, StateV1};
use crate::record::{self, Record};
use crate::sealed::{NONCE_BYTES, Place};
use crate::write::{MAX_RECORD_BYTES, cut_error};
use crate::{OutboundDraft, Outcome, PeerRecord, Proof, StoreError, Write};

/// Random bytes drawn at once.
const RANDOM_BYTES: usize = 64 * NONCE_BYTES;

/// A batch being worked out.
pub(crate) struct Plan<'a> {
    base: &'a Base,
    meta: Meta,
    changes: Changes,
    conversations: BTreeMap<[u8; Principal::BYTES], ConversationV1>,
    random: [u8; RANDOM_BYTES],
    /// Random bytes not yet used.
    left: usize,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(base: &'a Base) -> Self {
        Self {
            base,
            meta: base.published(),
            changes: Changes::default(),
            conversations: BTreeMap::new(),
            random: [0; RANDOM_BYTES],
            left: 0,
        }
    }

    pub(crate) fn apply(&mut self, write: Write) -> Result<Outcome, StoreError> {
        match write {
            Write::Enqueue(draft) => self.enqueue(draft, OutboundStatus::Pending, 0, None),
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
                    self.remove(Tree::Unread, &arrival.to_be_bytes())?;
                }
                Ok(Outcome::Done)
            }
        }
    }

    /// The changes and the state after them, or nothing when nothing changes.
    pub(crate) fn finish(mut self) -> Result<Option<(Changes, Meta)>, StoreError> {
        for conversation in std::mem::take(&mut self.conversations).into_values() {
            let key = self.base.keys.hide(&conversation.peer);
            self.set_record(Tree::Conversations, &key, &conversation)?;
        }
        if self.changes.iter().all(BTreeMap::is_empty) {
            return Ok(None);
        }
        self.meta.commit = self
            .meta
            .commit
            .checked_add(1)
            .ok_or_else(|| self.base.failed("commit number"))?;
        let bytes = self.base.decoded(Tree::Meta, self.meta.encode())?;
        let (value, _) = self.seal(Tree::Meta, META_KEY, &[], &[&bytes])?;
        self.changes[Tree::Meta.number()].insert(META_KEY.to_vec(), Some(value));
        Ok(Some((self.changes, self.meta)))
    }

    fn enqueue(
        &mut self,
        draft: OutboundDraft,
        status: OutboundStatus,
        attempts: u32,
        last_error: Option<String>,
    ) -> Result<Outcome, StoreError> {
        let id = *draft.id.as_bytes();
        if let Some(value) = self.current(Tree::OutboxIds, &id)? {
            let position = self.base.number(Tree::OutboxIds, &id, &value)?;
            let sequence = self.state(position)?.sequence;
            return Ok(Outcome::AlreadyQueued { position, sequence });
        }
        let position = self.meta.count(Tree::Outbox) + 1;
        let conversation = self.conversation(&draft.to)?;
        conversation.sequence += 1;
        conversation.open += u64::from(is_open(status));
        let sequence = conversation.sequence;
        let message = draft.into_message(sequence);
        let state = StateV1 {
            to: message.to.to_bytes(),
            sequence,
            expires_at: message.expires_at.0,
            status: record::status_code(status),
            attempts,
            last_error,
            updated_at: message.timestamp.0,
        };
        let key = position.to_be_bytes();
        self.set_large(
            Tree::Outbox,
            &key,
            &OutboxV1 {
                message: message.into(),
            },
            true,
        )?;
        self.set_record(Tree::OutboxState, &key, &state)?;
        self.set(Tree::OutboxIds, &id, &[&key], true)?;
        if is_open(status) {
            self.index_open(position, &state)?;
        }
        Ok(Outcome::Enqueued { position, sequence })
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
        if let Some(value) = self.current(Tree::InboxIds, &id)? {
            return Ok(Outcome::Duplicate {
                arrival: self.base.number(Tree::InboxIds, &id, &value)?,
            });
        }
        let arrival = self.meta.count(Tree::Inbox) + 1;
        let received_at = rising(received_at, UnixMillis(self.meta.last_received_at));
        self.meta.last_received_at = received_at.0;
        let key = arrival.to_be_bytes();
        self.set_large(
            Tree::Inbox,
            &key,
            &record::inbox_record(message, proof, received_at),
            true,
        )?;
        self.set(Tree::InboxIds, &id, &[&key], true)?;
        if unread {
            self.set(Tree::Unread, &key, &[], true)?;
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
        if position == 0 || position > self.meta.count(Tree::Outbox) {
            return Ok(Outcome::NotFound);
        }
        let mut state = self.state(position)?;
        let was_open = is_open(
            self.base
                .decoded(Tree::OutboxState, record::status(state.status))?,
        );
        state.status = record::status_code(status);
        state.attempts = attempts;
        state.last_error = cut_error(last_error);
        state.updated_at = at.0;
        self.set_record(Tree::OutboxState, &position.to_be_bytes(), &state)?;
        if was_open != is_open(status) {
            let to = self
                .base
                .decoded(Tree::OutboxState, record::principal(&state.to))?;
            let conversation = self.conversation(&to)?;
            if was_open {
                conversation.open = conversation.open.saturating_sub(1);
                let hidden = self.base.keys.hide(&state.to);
                self.remove(Tree::Pending, &joined(&hidden, position))?;
                self.remove(Tree::Expiry, &numbers(state.expires_at, position))?;
            } else {
                conversation.open += 1;
                self.index_open(position, &state)?;
            }
        }
        Ok(Outcome::Done)
    }

    fn index_open(&mut self, position: u64, state: &StateV1) -> Result<(), StoreError> {
        let hidden = self.base.keys.hide(&state.to);
        self.set(Tree::Pending, &joined(&hidden, position), &[], true)?;
        self.set(Tree::Expiry, &numbers(state.expires_at, position), &[], true)?;
        Ok(())
    }

    fn put_peer(&mut self, peer: PeerRecord) -> Result<Outcome, StoreError> {
        let key = self.base.keys.hide(&peer.principal.to_bytes());
        self.remove_pieces(Tree::Peers, &key)?;
        self.set_large(Tree::Peers, &key, &record::peer_record(peer), false)?;
        Ok(Outcome::Done)
    }

    fn remove_peer(&mut self, principal: &Principal) -> Result<Outcome, StoreError> {
        let key = self.base.keys.hide(&principal.to_bytes());
        self.remove_pieces(Tree::Peers, &key)?;
        Ok(if self.remove(Tree::Peers, &key)? {
            Outcome::Done
        } else {
            Outcome::NotFound
        })
    }

    fn state(&self, position: u64) -> Result<StateV1, StoreError> {
        let key = position.to_be_bytes();
        let value = self.current(Tree::OutboxState, &key)?;
        let value = value.ok_or_else(|| {
            self.base
                .damage(format!("the state of message {position} is missing"))
        })?;
        self.base.record(Tree::OutboxState, &key, &value)
    }

    fn conversation(&mut self, peer: &Principal) -> Result<&mut ConversationV1, StoreError> {
        let bytes = peer.to_bytes();
        if !self.conversations.contains_key(&bytes) {
            let key = self.base.keys.hide(&bytes);
            let known = match self.current(Tree::Conversations, &key)? {
                Some(value) => self.base.record(Tree::Conversations, &key, &value)?,
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

    fn current(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(change) = self.changes[tree.number()].get(key) {
            return Ok(change.clone());
        }
        Ok(self.base.get(tree, key)?.map(|value| value.to_vec()))
    }

    fn set_record(&mut self, tree: Tree, key: &[u8], record: &impl Record) -> Result<(), StoreError> {
        let bytes = self.base.decoded(tree, record::encode(record))?;
        self.set(tree, key, &[&bytes], false).map(|_| ())
    }

    /// Puts a record into one value, or into pieces.
    fn set_large(
        &mut self,
        tree: Tree,
        key: &[u8],
        record: &impl Record,
        fresh: bool,
    ) -> Result<(), StoreError> {
        let bytes = self.base.decoded(tree, record::encode(record))?;
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(StoreError::TooLarge {
                what: "record",
                size: bytes.len(),
                limit: MAX_RECORD_BYTES,
            });
        }
        if bytes.len() <= PIECE_BYTES {
            return self.set(tree, key, &[&[WHOLE], &bytes], fresh).map(|_| ());
        }
        let (start, rest) = bytes.split_at(PIECE_BYTES);
        let pieces = u32::try_from(rest.len().div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
        let mut header = Vec::with_capacity(PIECES_HEADER);
        header.push(IN_PIECES);
        header.extend_from_slice(&pieces.to_be_bytes());
        header.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        let nonce = self.set(tree, key, &[&header, start], fresh)?;
        for (bytes, number) in rest.chunks(PIECE_BYTES).zip(0..) {
            let key = piece(tree, key, number);
            let (value, _) = self.seal(Tree::Pieces, &key, &nonce, &[bytes])?;
            self.put(Tree::Pieces, &key, value, fresh)?;
        }
        Ok(())
    }

    /// Removes the pieces of a record, if it lies in any. Its main value stays.
    fn remove_pieces(&mut self, tree: Tree, key: &[u8]) -> Result<(), StoreError> {
        let Some(value) = self.current(tree, key)? else {
            return Ok(());
        };
        for number in 0..self.base.head(tree, key, &value)?.pieces {
            self.remove(Tree::Pieces, &piece(tree, key, number))?;
        }
        Ok(())
    }

    /// Seals and puts a value. `fresh`: there is certainly none yet. Gives its nonce.
    fn set(
        &mut self,
        tree: Tree,
        key: &[u8],
        parts: &[&[u8]],
        fresh: bool,
    ) -> Result<[u8; NONCE_BYTES], StoreError> {
        let (value, nonce) = self.seal(tree, key, &[], parts)?;
        self.put(tree, key, value, fresh)?;
        Ok(nonce)
    }

    fn put(&mut self, tree: Tree, key: &[u8], value: Vec<u8>, fresh: bool) -> Result<(), StoreError> {
        if !fresh && let Some(old) = self.current(tree, key)? {
            self.meta.subtract(tree, &old);
        }
        self.meta.add(tree, &value);
        self.changes[tree.number()].insert(key.to_vec(), Some(value));
        Ok(())
    }

    /// Removes a value. Whether there was one.
    fn remove(&mut self, tree: Tree, key: &[u8]) -> Result<bool, StoreError> {
        let Some(old) = self.current(tree, key)? else {
            return Ok(false);
        };
        self.meta.subtract(tree, &old);
        self.changes[tree.number()].insert(key.to_vec(), None);
        Ok(true)
    }

    fn seal(
        &mut self,
        tree: Tree,
        key: &[u8],
        context: &[u8],
        parts: &[&[u8]],
    ) -> Result<(Vec<u8>, [u8; NONCE_BYTES]), StoreError> {
        if self.left < NONCE_BYTES {
            getrandom::fill(&mut self.random)
                .map_err(|error| self.base.failed(format!("no randomness: {error}")))?;
            self.left = RANDOM_BYTES;
        }
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&self.random[self.left - NONCE_BYTES..self.left]);
        self.left -= NONCE_BYTES;
        let place = Place {
            tree: tree.name(),
            key,
            context,
        };
        let sealed = self.base.keys.seal(&place, &nonce, parts);
        Ok((
            sealed.map_err(|_| self.base.failed("a value cannot be sealed"))?,
            nonce,
        ))
    }
}
