//! A store that forgets everything at the end of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use clawchat_types::{Message, MessageId, OutboundStatus, Principal, UnixMillis};

use crate::model::{is_open, rising};
use crate::store::PageBudget;
use crate::write::{MAX_PENDING, check_batch, cut_error};
use crate::{
    AttemptState, InboxEntry, MessageStore, OutboundDraft, OutboxEntry, Outcome, PeerRecord, Proof,
    StoreError, Write,
};

/// Keeps everything in memory, for tests and throw-away gateways. Behaves like [`SledStore`](crate::SledStore)
/// in everything but durability.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    inbox: Vec<InboxEntry>,
    inbox_ids: BTreeMap<(MessageId, Principal), u64>,
    unread: BTreeSet<u64>,
    outbox: Vec<OutboxEntry>,
    outbox_ids: BTreeMap<MessageId, u64>,
    pending: BTreeMap<Principal, BTreeSet<u64>>,
    expiry: BTreeSet<(UnixMillis, u64)>,
    sequences: BTreeMap<Principal, u64>,
    attempts: BTreeMap<Principal, AttemptState>,
    peers: BTreeMap<Principal, PeerRecord>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(StoreError::Closed);
        }
        Ok(state)
    }
}

impl MessageStore for MemoryStore {
    fn commit(&self, batch: Vec<Write>) -> Result<Vec<Outcome>, StoreError> {
        let mut state = self.state()?;
        check_batch(&batch)?;
        Ok(batch.into_iter().map(|write| state.apply(write)).collect())
    }

    fn inbox(&self, after: u64, limit: usize) -> Result<Vec<InboxEntry>, StoreError> {
        let state = self.state()?;
        Ok(page(
            state.inbox.iter().skip(index(after.saturating_add(1))),
            limit,
        ))
    }

    fn arrival_at(&self, time: UnixMillis) -> Result<u64, StoreError> {
        let state = self.state()?;
        Ok(count(
            state.inbox.partition_point(|entry| entry.received_at <= time),
        ))
    }

    fn inbox_by_id(&self, id: &MessageId) -> Result<Vec<InboxEntry>, StoreError> {
        let state = self.state()?;
        Ok(state
            .inbox
            .iter()
            .filter(|entry| entry.message.id == *id)
            .cloned()
            .collect())
    }

    fn inbox_count(&self) -> Result<u64, StoreError> {
        Ok(count(self.state()?.inbox.len()))
    }

    fn unread(&self, after: u64, limit: usize) -> Result<Vec<InboxEntry>, StoreError> {
        let state = self.state()?;
        let arrivals = state.unread.range(after.saturating_add(1)..);
        Ok(page(
            arrivals.filter_map(|arrival| state.inbox.get(index(*arrival))),
            limit,
        ))
    }

    fn unread_count(&self) -> Result<u64, StoreError> {
        Ok(count(self.state()?.unread.len()))
    }

    fn outbox(&self, after: u64, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        let state = self.state()?;
        Ok(page(
            state.outbox.iter().skip(index(after.saturating_add(1))),
            limit,
        ))
    }

    fn outbox_by_id(&self, id: &MessageId) -> Result<Option<OutboxEntry>, StoreError> {
        let state = self.state()?;
        Ok(state
            .outbox_ids
            .get(id)
            .and_then(|position| state.outbox.get(index(*position)))
            .cloned())
    }

    fn outbox_count(&self) -> Result<u64, StoreError> {
        Ok(count(self.state()?.outbox.len()))
    }

    fn pending(&self, to: &Principal, after: u64, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        let state = self.state()?;
        let positions = state
            .pending
            .get(to)
            .into_iter()
            .flat_map(|set| set.range(after.saturating_add(1)..));
        Ok(page(
            positions.filter_map(|position| state.outbox.get(index(*position))),
            limit,
        ))
    }

    fn pending_recipients(&self) -> Result<Vec<Principal>, StoreError> {
        Ok(self.state()?.pending.keys().copied().collect())
    }

    fn pending_count(&self, to: &Principal) -> Result<u64, StoreError> {
        Ok(self.state()?.pending.get(to).map_or(0, |set| count(set.len())))
    }

    fn due_expiries(&self, now: UnixMillis, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        let state = self.state()?;
        let due = state.expiry.range(..=(now, u64::MAX));
        Ok(page(
            due.filter_map(|(_, position)| state.outbox.get(index(*position))),
            limit,
        ))
    }

    fn next_expiry(&self) -> Result<Option<UnixMillis>, StoreError> {
        Ok(self.state()?.expiry.first().map(|(time, _)| *time))
    }

    fn attempt_state(&self, to: &Principal) -> Result<Option<AttemptState>, StoreError> {
        Ok(self.state()?.attempts.get(to).cloned())
    }

    fn peers(&self) -> Result<Vec<PeerRecord>, StoreError> {
        Ok(self.state()?.peers.values().cloned().collect())
    }

    fn peer(&self, principal: &Principal) -> Result<Option<PeerRecord>, StoreError> {
        Ok(self.state()?.peers.get(principal).cloned())
    }

    fn close(&self) -> Result<(), StoreError> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        Ok(())
    }
}

impl State {
    fn apply(&mut self, write: Write) -> Outcome {
        match write {
            Write::Enqueue(draft) => {
                if self.expiry.len() >= MAX_PENDING && !self.outbox_ids.contains_key(&draft.id) {
                    return Outcome::OutboxFull;
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
            } => {
                let Some(entry) = self.outbox.get_mut(index(position)) else {
                    return Outcome::NotFound;
                };
                entry.status = status;
                entry.attempts = attempts;
                entry.last_error = cut_error(last_error);
                entry.updated_at = at;
                let (to, expiry) = (entry.message.to, (entry.message.expires_at, position));
                if is_open(status) {
                    self.pending.entry(to).or_default().insert(position);
                    self.expiry.insert(expiry);
                } else {
                    if let Some(set) = self.pending.get_mut(&to) {
                        set.remove(&position);
                        if set.is_empty() {
                            self.pending.remove(&to);
                        }
                    }
                    self.expiry.remove(&expiry);
                }
                Outcome::Done
            }
            Write::NoteAttempt {
                to,
                attempts,
                last_error,
                at,
            } => {
                let last_error = cut_error(last_error);
                self.attempts.insert(
                    to,
                    AttemptState {
                        to,
                        attempts,
                        last_error,
                        at,
                    },
                );
                Outcome::Done
            }
            Write::PutPeer(peer) => {
                self.peers.insert(peer.principal, peer);
                Outcome::Done
            }
            Write::RemovePeer(principal) => match self.peers.remove(&principal) {
                Some(_) => Outcome::Done,
                None => Outcome::NotFound,
            },
            Write::MarkRead(arrivals) => {
                for arrival in arrivals {
                    if let Some(entry) = self.inbox.get_mut(index(arrival)) {
                        entry.unread = false;
                        self.unread.remove(&arrival);
                    }
                }
                Outcome::Done
            }
        }
    }

    fn enqueue(
        &mut self,
        draft: OutboundDraft,
        status: OutboundStatus,
        attempts: u32,
        last_error: Option<String>,
    ) -> Outcome {
        if let Some(position) = self.outbox_ids.get(&draft.id).copied() {
            let sequence = self
                .outbox
                .get(index(position))
                .map_or(0, |entry| entry.message.sequence);
            return Outcome::AlreadyQueued { position, sequence };
        }
        let position = count(self.outbox.len()) + 1;
        let sequence = self.sequences.entry(draft.to).or_default();
        *sequence += 1;
        let message = draft.into_message(*sequence);
        self.outbox_ids.insert(message.id, position);
        if is_open(status) {
            self.pending.entry(message.to).or_default().insert(position);
            self.expiry.insert((message.expires_at, position));
        }
        let sequence = message.sequence;
        self.outbox.push(OutboxEntry {
            position,
            updated_at: message.timestamp,
            message,
            status,
            attempts,
            last_error,
        });
        Outcome::Enqueued { position, sequence }
    }

    fn append(
        &mut self,
        message: Message,
        proof: Option<Proof>,
        received_at: UnixMillis,
        unread: bool,
    ) -> Outcome {
        let key = (message.id, message.from);
        if let Some(arrival) = self.inbox_ids.get(&key).copied() {
            return Outcome::Duplicate { arrival };
        }
        let arrival = count(self.inbox.len()) + 1;
        let last = self.inbox.last().map_or(UnixMillis(0), |last| last.received_at);
        let received_at = rising(received_at, last);
        self.inbox_ids.insert(key, arrival);
        if unread {
            self.unread.insert(arrival);
        }
        self.inbox.push(InboxEntry {
            arrival,
            received_at,
            message,
            proof,
            unread,
        });
        Outcome::Appended { arrival, received_at }
    }
}

/// Where the entry with this 1-based number lies in its vector; out of range for 0.
fn index(number: u64) -> usize {
    number
        .checked_sub(1)
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(usize::MAX)
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The beginning of `entries` that makes one page.
fn page<'a, E: Paged + 'a>(entries: impl Iterator<Item = &'a E>, limit: usize) -> Vec<E> {
    let mut budget = PageBudget::default();
    entries
        .take(limit)
        .take_while(|entry| entry.fits(&mut budget))
        .cloned()
        .collect()
}

trait Paged: Clone {
    fn fits(&self, budget: &mut PageBudget) -> bool;
}

impl Paged for InboxEntry {
    fn fits(&self, budget: &mut PageBudget) -> bool {
        budget.admits(&self.message, self.proof.as_ref())
    }
}

impl Paged for OutboxEntry {
    fn fits(&self, budget: &mut PageBudget) -> bool {
        budget.admits(&self.message, None)
    }
}
