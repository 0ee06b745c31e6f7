//! The loop guard: two agents that answer each other must not keep waking each other.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use clawchat_types::Principal;

/// Most wakes for messages of one peer within [`WINDOW`].
pub(super) const MAX_WAKES: usize = 20;
/// How far back wakes are counted.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// How long a peer that reached [`MAX_WAKES`] wakes nobody.
pub(super) const PAUSE: Duration = Duration::from_secs(60);

/// Wakes of the last minute, peer by peer.
#[derive(Debug, Default)]
pub(super) struct Guard {
    peers: BTreeMap<Principal, Peer>,
}

#[derive(Debug, Default)]
struct Peer {
    /// When it woke, the latest last. At most [`MAX_WAKES`].
    wakes: VecDeque<Duration>,
    pause: Option<Pause>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Duration,
    /// The first message that waits for its end.
    held_from: u64,
}

/// Whether a message may wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Yes.
    Wake,
    /// Not before the pause ends that it begins.
    PauseBegins,
    /// Not before the pause ends.
    Paused,
}

impl Guard {
    /// Judges a message, and remembers one that has to wait.
    pub(super) fn judge(&mut self, from: &Principal, arrival: u64, now: Duration) -> Verdict {
        let Some(peer) = self.peers.get_mut(from) else {
            return Verdict::Wake;
        };
        if let Some(pause) = &mut peer.pause {
            pause.held_from = pause.held_from.min(arrival);
            return Verdict::Paused;
        }
        peer.forget(now);
        if peer.wakes.len() < MAX_WAKES {
            return Verdict::Wake;
        }
        peer.pause = Some(Pause {
            until: now + PAUSE,
            held_from: arrival,
        });
        Verdict::PauseBegins
    }

    /// Counts a wake for messages of these peers.
    pub(super) fn count<'a>(&mut self, peers: impl Iterator<Item = &'a Principal>, now: Duration) {
        self.peers.retain(|_, peer| {
            peer.forget(now);
            peer.pause.is_some() || !peer.wakes.is_empty()
        });
        for principal in peers {
            let peer = self.peers.entry(*principal).or_default();
            peer.wakes.push_back(now);
            if peer.wakes.len() > MAX_WAKES {
                peer.wakes.pop_front();
            }
        }
    }

    /// Ends a pause whose time is up: whose it was, and the first message that waited for it.
    pub(super) fn end_pause(&mut self, now: Duration) -> Option<(Principal, u64)> {
        self.peers.iter_mut().find_map(|(principal, peer)| {
            let pause = peer.pause.filter(|pause| pause.until <= now)?;
            peer.pause = None;
            peer.wakes.clear();
            Some((*principal, pause.held_from))
        })
    }

    /// When the next pause ends.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.pauses().map(|(_, pause)| pause.until).min()
    }

    /// The earliest message that waits for the end of a pause.
    pub(super) fn held_from(&self) -> Option<u64> {
        self.pauses().map(|(_, pause)| pause.held_from).min()
    }

    /// Who is in a pause, and until when.
    pub(super) fn paused(&self) -> impl Iterator<Item = (&Principal, Duration)> {
        self.pauses().map(|(principal, pause)| (principal, pause.until))
    }

    fn pauses(&self) -> impl Iterator<Item = (&Principal, &Pause)> {
        self.peers
            .iter()
            .filter_map(|(principal, peer)| Some((principal, peer.pause.as_ref()?)))
    }
}

impl Peer {
    fn forget(&mut self, now: Duration) {
        while self.wakes.front().is_some_and(|at| *at + WINDOW <= now) {
            self.wakes.pop_front();
        }
    }
}
