//! The cards we know: one for each principal, with who told us, for a limited time and in bounded number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use clawchat_types::{Moment, Principal, UnixSeconds};

use crate::DEFAULT_HINT_TTL;
use crate::card::Card;
use crate::rank::rank;

/// Cards in an address book.
pub const MAX_CARDS: usize = 8192;
/// Bytes of all cards in an address book, as [`Card::weight`] counts them.
pub const MAX_BOOK_BYTES: usize = 12 * 1024 * 1024;
/// Cards told by one source.
pub const MAX_CARDS_PER_SOURCE: usize = 2048;
/// Bytes of the cards told by one source.
pub const MAX_BYTES_PER_SOURCE: usize = 3 * 1024 * 1024;

/// Bytes an entry takes beside its card: its place in the maps. An estimate, for figures only.
const ENTRY_BYTES: usize = 256;

/// The bounds of an [`AddressBook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookConfig {
    /// How long a card stays usable, counted from when it was heard last. Its own end can shorten this, never
    /// lengthen it. Default 24 h. Longer keeps sleeping peers reachable, shorter forgets moved ones sooner, zero keeps
    /// nothing.
    pub ttl: Duration,
    /// Most cards. Default [`MAX_CARDS`].
    pub max_cards: usize,
    /// Most bytes. Default [`MAX_BOOK_BYTES`].
    pub max_bytes: usize,
    /// Most cards from one source. Default [`MAX_CARDS_PER_SOURCE`].
    pub max_cards_per_source: usize,
    /// Most bytes from one source. Default [`MAX_BYTES_PER_SOURCE`].
    pub max_bytes_per_source: usize,
}

impl Default for BookConfig {
    fn default() -> Self {
        Self {
            ttl: DEFAULT_HINT_TTL,
            max_cards: MAX_CARDS,
            max_bytes: MAX_BOOK_BYTES,
            max_cards_per_source: MAX_CARDS_PER_SOURCE,
            max_bytes_per_source: MAX_BYTES_PER_SOURCE,
        }
    }
}

/// A card in the book.
#[derive(Clone, Debug)]
pub struct Known {
    /// The card.
    pub card: Arc<Card>,
    /// Who told us: its principal itself, we ourselves (an invite, say), or a neighbour.
    pub source: Principal,
    /// When it was heard last: [`Moment::mono`].
    pub learned_at: Duration,
    /// Whether it came unasked and from somebody else: the first to go when room is needed.
    hearsay: bool,
}

/// What became of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// It is the newest of its principal now.
    Newer,
    /// It was there already.
    Known,
    /// A newer one of its principal is there.
    Stale,
    /// Its time is over.
    Expired,
    /// There was no room for it.
    NoRoom,
}

/// One card for each principal, the newest one, with its source.
///
/// What one source told can take only a part of the book, so nobody crowds out what others said. When a bound is
/// reached, hearsay goes before what a principal said itself and what we asked for; among equals a choice by the
/// seed decides, so that the full books of many peers hold different cards, and nobody can aim at one of them.
#[derive(Debug)]
pub struct AddressBook {
    config: BookConfig,
    seed: u64,
    cards: BTreeMap<Principal, Known>,
    /// The cards by their bytes, so that what is known need not be verified again.
    bytes: BTreeMap<Arc<[u8]>, Principal>,
    sources: BTreeMap<Principal, Source>,
    /// Weight of all cards.
    total: usize,
}

/// What one source told.
#[derive(Debug, Default)]
struct Source {
    weight: usize,
    /// The cards, the first to go first: hearsay in front, then by rank.
    order: BTreeSet<(bool, u64, Principal)>,
}

impl AddressBook {
    /// An empty book. `seed` decides which cards go when there is no room; it should be random and secret.
    #[must_use]
    pub fn new(config: BookConfig, seed: u64) -> Self {
        Self {
            config,
            seed,
            cards: BTreeMap::new(),
            bytes: BTreeMap::new(),
            sources: BTreeMap::new(),
            total: 0,
        }
    }

    /// The card of a principal, unless its time is over.
    #[must_use]
    pub fn get(&self, principal: &Principal, now: Moment) -> Option<&Known> {
        self.cards
            .get(principal)
            .filter(|known| self.is_usable(known, now))
    }

    /// Every usable card, by principal.
    pub fn iter(&self, now: Moment) -> impl Iterator<Item = &Known> {
        self.cards
            .values()
            .filter(move |known| self.is_usable(known, now))
    }

    /// Cards held, those past their time that nobody has dropped yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cards.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cards.is_empty()
    }

    /// What the book takes in memory, in bytes, roughly.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.total + self.cards.len() * ENTRY_BYTES
    }

    /// Drops the card of a principal.
    pub fn forget(&mut self, principal: &Principal) -> bool {
        let Some(known) = self.cards.remove(principal) else {
            return false;
        };
        self.bytes.remove(&known.card.bytes);
        let weight = known.card.weight();
        self.total = self.total.saturating_sub(weight);
        let place = self.place(&known);
        if let Some(source) = self.sources.get_mut(&known.source) {
            source.weight = source.weight.saturating_sub(weight);
            source.order.remove(&place);
            if source.order.is_empty() {
                self.sources.remove(&known.source);
            }
        }
        true
    }

    /// Drops everything a source told.
    pub fn forget_source(&mut self, source: &Principal) {
        let told: Vec<Principal> = self
            .sources
            .get(source)
            .map(|source| source.order.iter().map(|(_, _, principal)| *principal).collect())
            .unwrap_or_default();
        for principal in told {
            self.forget(&principal);
        }
    }

    /// Drops what is past its time.
    pub fn expire(&mut self, now: Moment) {
        let over: Vec<Principal> = self
            .cards
            .iter()
            .filter(|(_, known)| !self.is_usable(known, now))
            .map(|(principal, _)| *principal)
            .collect();
        for principal in over {
            self.forget(&principal);
        }
    }

    /// Whose card these bytes are, if the book holds exactly this one. Its time starts anew.
    pub(crate) fn heard_again(&mut self, bytes: &[u8], now: Moment) -> Option<Principal> {
        let principal = *self.bytes.get(bytes)?;
        let known = self.cards.get_mut(&principal)?;
        known.learned_at = now.mono;
        Some(principal)
    }

    /// Takes a card in, if it is newer than what is there and there is room. `hearsay`: nobody asked for it, and its
    /// source is somebody else.
    pub(crate) fn learn(
        &mut self,
        card: &Arc<Card>,
        source: Principal,
        hearsay: bool,
        now: Moment,
    ) -> Learned {
        if !card.is_current(now) || self.config.ttl.is_zero() {
            return Learned::Expired;
        }
        if let Some(known) = self.get(&card.principal, now) {
            if card.bytes == known.card.bytes {
                // Worth more if its owner says it too.
                if known.hearsay && !hearsay {
                    self.put(card, source, false, now);
                } else {
                    self.heard_again(&card.bytes, now);
                }
                return Learned::Known;
            }
            if card.issued_at <= known.card.issued_at {
                return Learned::Stale;
            }
            // Once worth keeping, always worth keeping: a newer card by hearsay does not demote its principal.
            let hearsay = hearsay && known.hearsay;
            self.put(card, source, hearsay, now);
        } else {
            self.put(card, source, hearsay, now);
        }
        self.make_room(source);
        if self.cards.contains_key(&card.principal) {
            Learned::Newer
        } else {
            Learned::NoRoom
        }
    }

    /// When a card was issued that is at hand.
    pub(crate) fn issued_at(&self, principal: &Principal, now: Moment) -> Option<UnixSeconds> {
        self.get(principal, now).map(|known| known.card.issued_at)
    }

    fn is_usable(&self, known: &Known, now: Moment) -> bool {
        now.mono < known.learned_at.saturating_add(self.config.ttl) && known.card.is_current(now)
    }

    /// Puts a card in the place of whatever is there of its principal.
    fn put(&mut self, card: &Arc<Card>, source: Principal, hearsay: bool, now: Moment) {
        self.forget(&card.principal);
        let known = Known {
            card: Arc::clone(card),
            source,
            learned_at: now.mono,
            hearsay,
        };
        let (weight, place) = (card.weight(), self.place(&known));
        let entry = self.sources.entry(source).or_default();
        entry.weight += weight;
        entry.order.insert(place);
        self.total += weight;
        self.bytes.insert(Arc::clone(&card.bytes), card.principal);
        self.cards.insert(card.principal, known);
    }

    /// Where a card stands among those of its source.
    fn place(&self, known: &Known) -> (bool, u64, Principal) {
        let principal = known.card.principal;
        (
            !known.hearsay,
            rank(self.seed, &[&principal.to_bytes()]),
            principal,
        )
    }

    /// Drops cards until every bound holds again, after one of `source` was added.
    fn make_room(&mut self, source: Principal) {
        let full = |told: &Source, config: &BookConfig| {
            told.order.len() > config.max_cards_per_source || told.weight > config.max_bytes_per_source
        };
        while self
            .sources
            .get(&source)
            .is_some_and(|told| full(told, &self.config))
        {
            self.drop_first_of(source);
        }
        while self.cards.len() > self.config.max_cards || self.total > self.config.max_bytes {
            let busiest = self.sources.iter().max_by_key(|(_, told)| told.weight);
            let Some(busiest) = busiest.map(|(source, _)| *source) else {
                return;
            };
            self.drop_first_of(busiest);
        }
    }

    fn drop_first_of(&mut self, source: Principal) {
        let first = self.sources.get(&source).and_then(|told| told.order.first());
        if let Some((_, _, principal)) = first.copied() {
            self.forget(&principal);
        }
    }
}

#[cfg(test)]
mod tests;
