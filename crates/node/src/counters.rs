//! What a node has seen, in numbers. For metrics; nothing is decided by them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Events since a node was started, and how many connections it has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeCounters {
    /// Connections at the moment.
    pub connections: u64,
    /// Connected gateways at the moment.
    pub gateways: u64,
    /// Connections that others began and that came about.
    pub accepted: u64,
    /// Connections that others began and that did not come about: broken off, too slow, or refused by a limit.
    pub accept_failures: u64,
    /// Connections that we began and that came about.
    pub dialed: u64,
    /// Dials of one address that failed.
    pub dial_failures: u64,
    /// Session handshakes that others began, refused ones included.
    pub handshakes: u64,
    /// Handshakes of them that came to a session.
    pub handshakes_completed: u64,
    /// Handshakes of them that were taken up and came to no session: refused, broken off, too slow.
    pub handshakes_failed: u64,
    /// Handshakes of them refused because their address began too many lately (`Limits::handshakes_per_minute`).
    pub handshakes_too_often: u64,
    /// Handshakes of them refused because too many are under way, or too many sessions are open.
    pub handshakes_too_many: u64,
}

/// The counters while they count.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    connections: AtomicU64,
    accepted: AtomicU64,
    accept_failures: AtomicU64,
    dialed: AtomicU64,
    dial_failures: AtomicU64,
    handshakes: AtomicU64,
    handshakes_completed: AtomicU64,
    handshakes_failed: AtomicU64,
    handshakes_too_often: AtomicU64,
    handshakes_too_many: AtomicU64,
}

/// What became of a handshake that a peer began.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Handshake {
    Completed,
    Failed,
    TooOften,
    TooMany,
}

impl Tally {
    pub(crate) fn connected(&self, inbound: bool) {
        add(if inbound { &self.accepted } else { &self.dialed });
        add(&self.connections);
    }

    pub(crate) fn disconnected(&self) {
        // Each one that ends was counted when it began.
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn not_connected(&self, inbound: bool) {
        add(if inbound {
            &self.accept_failures
        } else {
            &self.dial_failures
        });
    }

    /// A peer begins a handshake.
    pub(crate) fn handshake(&self) {
        add(&self.handshakes);
    }

    /// One of them is over.
    pub(crate) fn handshake_over(&self, how: Handshake) {
        add(match how {
            Handshake::Completed => &self.handshakes_completed,
            Handshake::Failed => &self.handshakes_failed,
            Handshake::TooOften => &self.handshakes_too_often,
            Handshake::TooMany => &self.handshakes_too_many,
        });
    }

    /// How they stand, with so many gateways connected.
    pub(crate) fn counters(&self, gateways: usize) -> NodeCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NodeCounters {
            connections: get(&self.connections),
            gateways: gateways as u64,
            accepted: get(&self.accepted),
            accept_failures: get(&self.accept_failures),
            dialed: get(&self.dialed),
            dial_failures: get(&self.dial_failures),
            handshakes: get(&self.handshakes),
            handshakes_completed: get(&self.handshakes_completed),
            handshakes_failed: get(&self.handshakes_failed),
            handshakes_too_often: get(&self.handshakes_too_often),
            handshakes_too_many: get(&self.handshakes_too_many),
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
