//! A connected peer: what is waiting for it, and how much it may ask of us.

use std::collections::BTreeMap;
use std::time::Duration;

use clawchat_types::Principal;

use super::{
    CARDS_BURST, CARDS_REFILL, MAX_PENDING, PUSHES_BURST, PUSHES_REFILL, QUESTIONS_BURST, QUESTIONS_REFILL,
};
use crate::bucket::Bucket;

/// A connected peer.
#[derive(Debug)]
pub(super) struct Neighbour {
    /// Whether our access list admits it. Others learn nothing but what a public identity tells everybody.
    pub(super) admitted: bool,
    /// Whose cards it is to be told, in this order: the first has the lowest number.
    pending: BTreeMap<i64, Principal>,
    /// The number of each in `pending`.
    places: BTreeMap<Principal, i64>,
    /// The number of the next.
    next_place: i64,
    /// What outlives the connection.
    pub(super) record: Record,
}

/// What is remembered of a peer when its connection ends, so that connecting again starts nothing anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// When it may be pushed to again.
    pub(super) next_push: Duration,
    /// Questions it may ask.
    pub(super) questions: Bucket,
    /// Pushes it may send.
    pub(super) pushes: Bucket,
    /// Cards it may make us verify.
    pub(super) cards: Bucket,
    /// Questions we may ask it.
    pub(super) asking: Bucket,
}

impl Record {
    pub(super) const fn new() -> Self {
        Self {
            next_push: Duration::ZERO,
            questions: Bucket::new(QUESTIONS_BURST, QUESTIONS_REFILL),
            pushes: Bucket::new(PUSHES_BURST, PUSHES_REFILL),
            cards: Bucket::new(CARDS_BURST, CARDS_REFILL),
            asking: Bucket::new(QUESTIONS_BURST, QUESTIONS_REFILL),
        }
    }

    /// Whether it says no more than a new one would.
    pub(super) fn is_spent(&self, now: Duration) -> bool {
        let buckets = [&self.questions, &self.pushes, &self.cards, &self.asking];
        self.next_push <= now && buckets.iter().all(|bucket| bucket.is_full(now))
    }
}

impl Neighbour {
    pub(super) fn new(admitted: bool, record: Record) -> Self {
        Self {
            admitted,
            pending: BTreeMap::new(),
            places: BTreeMap::new(),
            next_place: 0,
            record,
        }
    }

    /// Notes that it is to be told a card. False when too many are waiting.
    pub(super) fn tell(&mut self, principal: Principal) -> bool {
        if self.places.contains_key(&principal) {
            return true;
        }
        let room = self.pending.len() < MAX_PENDING;
        if room {
            self.pending.insert(self.next_place, principal);
            self.places.insert(principal, self.next_place);
            self.next_place += 1;
        }
        room
    }

    /// It need not be told that card any more.
    pub(super) fn knows(&mut self, principal: &Principal) {
        if let Some(place) = self.places.remove(principal) {
            self.pending.remove(&place);
        }
    }

    /// Takes the next card it is to be told.
    pub(super) fn next_pending(&mut self) -> Option<Principal> {
        let (_, principal) = self.pending.pop_first()?;
        self.places.remove(&principal);
        Some(principal)
    }

    /// Puts back what [`Neighbour::next_pending`] gave, in front of all others.
    pub(super) fn put_back(&mut self, principal: Principal) {
        let first = self.pending.keys().next().copied().unwrap_or(self.next_place);
        self.pending.insert(first - 1, principal);
        self.places.insert(principal, first - 1);
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
        self.places.clear();
    }
}
