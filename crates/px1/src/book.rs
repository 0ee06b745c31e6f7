//! What others told us about where principals can be reached.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use clawchat_types::{Locator, Moment, Principal};

/// How long a hint stays usable unless its source says less (SNaP2P v0.1: 24 h).
pub const DEFAULT_HINT_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Hints in a book.
pub const MAX_HINTS: usize = 4096;
/// Hints about one principal.
pub const MAX_HINTS_PER_PRINCIPAL: usize = 16;
/// Hints from one source.
pub const MAX_HINTS_PER_SOURCE: usize = 256;

/// An address to try for a principal, as somebody gave it to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Who is said to be reachable there.
    pub principal: Principal,
    /// Where.
    pub locator: Locator,
    /// Who said so, in an authenticated session. The principal itself, or anybody else.
    pub source: Principal,
    /// When we heard it last: [`Moment::mono`].
    pub learned_at: Duration,
    /// From when on it is not used any more: [`Moment::mono`].
    pub expires_at: Duration,
}

/// The hints heard, with their origin, for a limited time and in bounded number.
///
/// Each (principal, locator, source) stands once, so nobody can take over what another said. When a bound is
/// reached the oldest hint of whoever takes most of the room goes; what a principal says about itself is the
/// last to go from its own part.
#[derive(Clone, Debug)]
pub struct Book {
    /// Oldest first.
    hints: VecDeque<Hint>,
    ttl: Duration,
}

impl Default for Book {
    fn default() -> Self {
        Self::new(DEFAULT_HINT_TTL)
    }
}

impl Book {
    /// An empty book.
    ///
    /// `ttl` is how long a hint stays usable, counted from when it was heard last. Longer keeps sleeping peers
    /// reachable, shorter forgets moved ones sooner, zero keeps nothing. Default [`DEFAULT_HINT_TTL`].
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self {
            hints: VecDeque::new(),
            ttl,
        }
    }

    /// Notes that `source` said where `principal` can be reached. Saying it again makes the hint new again.
    ///
    /// `ttl` is how long the source says it holds; it can shorten the book's own, never lengthen it.
    pub fn learn(
        &mut self,
        principal: Principal,
        locator: Locator,
        source: Principal,
        ttl: Option<Duration>,
        now: Moment,
    ) {
        self.expire(now);
        let ttl = ttl.map_or(self.ttl, |ttl| ttl.min(self.ttl));
        self.remove_where(|hint| {
            hint.principal == principal && hint.source == source && hint.locator == locator
        });
        if ttl.is_zero() {
            return;
        }
        self.make_room(&principal, &source);
        self.hints.push_back(Hint {
            principal,
            locator,
            source,
            learned_at: now.mono,
            expires_at: now.mono.saturating_add(ttl),
        });
    }

    /// The addresses to try for a principal, what was heard last first, each once.
    #[must_use]
    pub fn lookup(&self, principal: &Principal, now: Moment) -> Vec<&Hint> {
        let mut found: Vec<&Hint> = Vec::new();
        for hint in self.hints.iter().rev() {
            if hint.principal == *principal
                && now.mono < hint.expires_at
                && !found.iter().any(|known| known.locator == hint.locator)
            {
                found.push(hint);
            }
        }
        found
    }

    /// Drops everything about a principal, whoever said it.
    pub fn forget(&mut self, principal: &Principal) {
        self.remove_where(|hint| hint.principal == *principal);
    }

    /// Drops everything a source said, about whomever.
    pub fn forget_source(&mut self, source: &Principal) {
        self.remove_where(|hint| hint.source == *source);
    }

    /// Drops what is past its time. Done by [`Book::learn`] too.
    pub fn expire(&mut self, now: Moment) {
        self.remove_where(|hint| hint.expires_at <= now.mono);
    }

    /// Hints held, those past their time that nobody has dropped yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hints.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hints.is_empty()
    }

    fn remove_where(&mut self, unwanted: impl Fn(&Hint) -> bool) {
        self.hints.retain(|hint| !unwanted(hint));
    }

    /// Makes sure that one more hint fits every bound.
    fn make_room(&mut self, principal: &Principal, source: &Principal) {
        let from_source = |hint: &Hint| hint.source == *source;
        if self.count(from_source) >= MAX_HINTS_PER_SOURCE {
            self.drop_oldest(from_source);
        }
        let about = |hint: &Hint| hint.principal == *principal;
        if self.count(about) >= MAX_HINTS_PER_PRINCIPAL {
            let hearsay = |hint: &Hint| about(hint) && hint.source != hint.principal;
            if self.count(hearsay) > 0 {
                self.drop_from_busiest(hearsay);
            } else {
                self.drop_oldest(about);
            }
        }
        if self.hints.len() >= MAX_HINTS {
            self.drop_from_busiest(|_| true);
        }
    }

    fn count(&self, wanted: impl Fn(&Hint) -> bool) -> usize {
        self.hints.iter().filter(|hint| wanted(hint)).count()
    }

    fn drop_oldest(&mut self, wanted: impl Fn(&Hint) -> bool) {
        if let Some(at) = self.hints.iter().position(wanted) {
            self.hints.remove(at);
        }
    }

    /// Among the hints `wanted`, drops the oldest one of the source with most of them; of several such sources,
    /// the one heard longest ago.
    fn drop_from_busiest(&mut self, wanted: impl Fn(&Hint) -> bool) {
        let mut counts: HashMap<Principal, usize> = HashMap::new();
        for hint in self.hints.iter().filter(|hint| wanted(hint)) {
            *counts.entry(hint.source).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or_default();
        self.drop_oldest(|hint| wanted(hint) && counts.get(&hint.source) == Some(&most));
    }
}
