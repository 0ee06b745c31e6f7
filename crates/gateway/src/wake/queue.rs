//! When to wake, and about what: one way of waking for one identity. No clock, no store, no process in here.
//!
//! What arrives is added as it is found in the store; [`Queue::next`] says what to do then. A wake that failed is not
//! kept: its messages are looked up again when it is time to try again, so that those that were read meanwhile drop
//! out. [`Queue::settled`] is how far everything is dealt with, and all that has to survive a restart.

use std::time::Duration;

use clawchat_types::Principal;

use super::batch::{Batch, Note};
use super::guard::{Guard, Verdict};

/// Rest after a wake before the next one that is not urgent: what arrives meanwhile is told at once.
pub(super) const REST: Duration = Duration::from_secs(1);
/// How long the first try after a failure waits; twice as long after each further one.
pub(super) const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait for the next try.
pub(super) const LAST_RETRY: Duration = Duration::from_secs(300);
/// Longest wait for the next try, from the failure on, when something arrived since.
pub(super) const FRESH_RETRY: Duration = Duration::from_secs(30);

/// The state of one way of waking.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pending: Option<Batch>,
    /// The first message of the wake under way.
    running: Option<u64>,
    failure: Option<Failure>,
    failures: u32,
    rested_at: Duration,
    guard: Guard,
}

/// A wake that has to be tried again.
#[derive(Clone, Copy, Debug)]
struct Failure {
    /// Its first message.
    first: u64,
    at: Duration,
    retry_at: Duration,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Wake, then say [`Queue::finished`].
    Wake(Box<Batch>),
    /// Add what is unread behind this arrival, of this sender if one is given, as far as was looked before; then say
    /// [`Queue::looked_again`].
    LookAgain { after: u64, from: Option<Principal> },
    /// Nothing until then, or until something arrives or ends.
    Wait(Option<Duration>),
}

impl Queue {
    /// Adds a message that was found. Returns whether a pause of its sender begins with it.
    pub(super) fn add(&mut self, note: Note, now: Duration) -> bool {
        if let Some(failure) = &mut self.failure {
            // It is found when it is time to try again; for news that is earlier.
            failure.retry_at = failure.retry_at.min((failure.at + FRESH_RETRY).max(now));
            return false;
        }
        match self.guard.judge(&note.from, note.arrival, now) {
            Verdict::PauseBegins => return true,
            Verdict::Paused => return false,
            Verdict::Wake => {}
        }
        match &mut self.pending {
            Some(batch) => batch.add(note),
            None => self.pending = Some(Batch::new(note)),
        }
        false
    }

    /// What to do.
    pub(super) fn next(&mut self, now: Duration) -> Next {
        if self.running.is_some() {
            return Next::Wait(None);
        }
        let pauses_end = self.guard.next_end();
        let until = |then: Option<Duration>| Next::Wait(then.into_iter().chain(pauses_end).min());
        if let Some(failure) = self.failure {
            if now < failure.retry_at {
                return Next::Wait(Some(failure.retry_at));
            }
            self.failure = None;
            return Next::LookAgain {
                after: failure.first - 1,
                from: None,
            };
        }
        if let Some((peer, held_from)) = self.guard.end_pause(now) {
            return Next::LookAgain {
                after: held_from - 1,
                from: Some(peer),
            };
        }
        let Some(pending) = &self.pending else {
            return until(None);
        };
        let ready_at = if pending.is_urgent() { now } else { self.rested_at };
        if now < ready_at {
            return until(Some(ready_at));
        }
        match self.pending.take() {
            Some(batch) => {
                self.running = Some(batch.first());
                self.guard.count(batch.senders(), now);
                Next::Wake(Box::new(batch))
            }
            None => until(None),
        }
    }

    /// Notes that everything unread was added again. `more`: but for what was too much.
    pub(super) fn looked_again(&mut self, more: bool) {
        match &mut self.pending {
            Some(batch) if more => batch.set_more(),
            Some(_) => {}
            // All were read.
            None => self.failures = 0,
        }
    }

    /// Notes that what is behind `after` could not be looked up: it is tried again like a wake.
    pub(super) fn could_not_look(&mut self, after: u64, now: Duration) {
        self.running = Some(after.saturating_add(1));
        self.finished(false, now, 0);
    }

    /// Notes how the wake ended. `spread` is any number; it keeps many daemons from trying again in step.
    pub(super) fn finished(&mut self, success: bool, now: Duration, spread: u64) {
        let first = self.running.take().unwrap_or(u64::MAX);
        self.rested_at = now + REST;
        if success {
            self.failures = 0;
            return;
        }
        let wait = FIRST_RETRY
            .saturating_mul(1 << self.failures.min(16))
            .min(LAST_RETRY);
        self.failures = self.failures.saturating_add(1);
        // Up to a quarter more.
        let spread = u32::try_from(spread % 256).unwrap_or(0);
        let retry_at = now + wait + wait / 1024 * spread;
        // What arrived meanwhile is looked up with the rest.
        let pending = self.pending.take().map_or(u64::MAX, |batch| batch.first());
        self.failure = Some(Failure {
            first: first.min(pending).max(1),
            at: now,
            retry_at,
        });
    }

    /// Up to which arrival nothing is left to do, if `looked` is how far was looked.
    pub(super) fn settled(&self, looked: u64) -> u64 {
        let open = [
            self.running,
            self.pending.as_ref().map(Batch::first),
            self.failure.map(|failure| failure.first),
            self.guard.held_from(),
        ];
        open.into_iter()
            .flatten()
            .min()
            .map_or(looked, |first| looked.min(first.saturating_sub(1)))
    }

    /// Who is in a pause of the loop guard, and until when.
    pub(super) fn paused(&self) -> impl Iterator<Item = (&Principal, Duration)> {
        self.guard.paused()
    }

    /// When a wake that failed is tried again.
    pub(super) fn retry_at(&self) -> Option<Duration> {
        self.failure.map(|failure| failure.retry_at)
    }
}

#[cfg(test)]
mod tests;
