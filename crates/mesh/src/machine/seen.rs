//! Which messages came before.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::message::{Checked, Trust};

/// Ids remembered. One that was forgotten is found by the log. Half of what a hash table of 131,072 places takes: it is
/// then cleaned up where it is, instead of being doubled.
const SEEN_MESSAGES: usize = 57_000;

/// The messages stored or passed on last, by a keyed hash of channel and id.
#[derive(Debug)]
pub(super) struct Seen {
    seed: u64,
    /// Whether the copy was verified.
    known: HashMap<u64, Trust>,
    /// In the order in which they came.
    order: VecDeque<u64>,
}

/// The hash of a message's channel and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mark(u64);

impl Seen {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            known: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    pub(super) fn mark(&self, message: &Checked) -> Mark {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        message.message().channel().as_str().hash(&mut hasher);
        message.message().id().hash(&mut hasher);
        Mark(hasher.finish())
    }

    /// Whether a copy came before that is worth as much.
    pub(super) fn is_known(&self, mark: Mark, trust: Trust) -> bool {
        self.known
            .get(&mark.0)
            .is_some_and(|known| *known == Trust::Verified || trust == Trust::Unverified)
    }

    pub(super) fn add(&mut self, mark: Mark, trust: Trust) {
        match self.known.get_mut(&mark.0) {
            Some(known) if trust == Trust::Verified => *known = trust,
            Some(_) => {}
            None => {
                self.known.insert(mark.0, trust);
                self.order.push_back(mark.0);
                if self.order.len() > SEEN_MESSAGES
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.known.remove(&oldest);
                }
            }
        }
    }
}
