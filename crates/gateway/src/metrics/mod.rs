//! What a gateway counts, for its operator (`docs/METRICS.md`).
//!
//! Events are counted where they happen, without locks; here they are put together, with what the layers below count
//! themselves, when somebody asks: over the local socket, or over HTTP where the configuration says so ([`serve`]).
//! Nothing names a principal, an address or a content, and nothing is decided by a count.

mod gather;
mod http;
mod page;

use std::sync::atomic::{AtomicU64, Ordering};

use clawchat_snap2p::chat::NackCode;

pub(crate) use self::gather::gather;
pub(crate) use self::http::{bind, serve};

/// Counts events since the gateway started.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// One more.
    pub(crate) fn count(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the parts of the gateway count that have no counters of their own.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) doors: Doors,
    pub(crate) letters: Letters,
    pub(crate) hints: Hints,
    /// Streams that were refused: of an unknown kind, or too many of a kind.
    pub(crate) streams_refused: Counter,
    /// Streams and sessions broken off because the peer broke the protocol spoken there.
    pub(crate) chat_broken: Counter,
    /// Sessions closed because their pair of principals had too many.
    pub(crate) displaced_by_pair: Counter,
    /// Sessions of strangers closed to keep room for contacts.
    pub(crate) displaced_strangers: Counter,
}

/// What those were told who wanted a session.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    /// There is nobody of that name: not here, or hidden from who does not knock. Not told apart, here as there.
    pub(crate) nobody: Counter,
    /// The access list says no.
    pub(crate) not_allowed: Counter,
    pub(crate) knocks_opened: Counter,
    pub(crate) knocks_refused: Counter,
}

/// What became of messages that peers sent.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    pub(crate) stored: Counter,
    /// Stored before: acknowledged again.
    pub(crate) known: Counter,
    pub(crate) invalid: Counter,
    pub(crate) expired: Counter,
    pub(crate) not_allowed: Counter,
    pub(crate) unknown_recipient: Counter,
    /// There was no room on the disk, or it failed.
    pub(crate) not_stored: Counter,
}

impl Letters {
    /// One was refused for that reason.
    pub(crate) fn refused(&self, code: NackCode) {
        match code {
            NackCode::Invalid => &self.invalid,
            NackCode::Expired => &self.expired,
            NackCode::NotAllowed => &self.not_allowed,
            NackCode::UnknownRecipient => &self.unknown_recipient,
            _ => &self.not_stored,
        }
        .count();
    }
}

/// What peers of ClawChat 1.0 told about where others are.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    pub(crate) taken: Counter,
    /// About ourselves, about another network, or about nobody.
    pub(crate) refused: Counter,
    /// Exchanges with gateways that have no session here.
    pub(crate) without_session: Counter,
}
