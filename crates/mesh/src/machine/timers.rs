//! What is due when.

use std::collections::BTreeSet;
use std::time::Duration;

use super::LinkId;

/// What may be due. A timer that nobody needs any more does nothing when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The handshake of a link.
    Handshake(LinkId),
    /// A link may be read from again.
    Reading(LinkId),
    /// Telling a neighbour how far it is level with us.
    Marks(LinkId),
    /// Asking a neighbour again for what it has.
    Round(LinkId),
    /// The answer of a neighbour.
    Answer(LinkId),
    /// Asking the log again.
    Retry,
}

#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Duration, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: Duration, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.0.first().map(|(at, _)| *at)
    }

    /// One that is due.
    pub(super) fn due(&mut self, now: Duration) -> Option<Timer> {
        let first = self.0.first().filter(|(at, _)| *at <= now).copied()?;
        self.0.remove(&first);
        Some(first.1)
    }
}
