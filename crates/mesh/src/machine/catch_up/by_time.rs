//! Neighbours that answer in the order of timestamps, as existing peers do: what they hold is walked again and again from
//! some time back, for a message with an older timestamp may reach them any time.
//!
//! They pass over messages whose timestamp equals that of the message asked behind, and answer nothing to an id they do not
//! know. So each step goes behind the last message that is older than the page's last, and a walk ends when a page ends
//! where the one before ended.

use std::collections::VecDeque;
use std::time::Duration;

use clawchat_types::UnixMillis;

use super::Progress;
use crate::frame::Entry;
use crate::machine::MAX_CURSOR_BYTES;
use crate::message::Checked;

/// What a saved cursor begins with.
const PREFIX: &str = "t:";
/// How far behind the newest message a walk begins after a new connection: clocks may differ by so much.
const OVERLAP: Duration = Duration::from_secs(2 * 60 * 60);
/// How far behind it an ordinary one begins.
const SHORT_OVERLAP: Duration = Duration::from_secs(2 * 60);
/// Least time between two messages remembered.
const SPACING: Duration = Duration::from_secs(60);
/// Messages remembered as places to begin at.
const MAX_PLACES: usize = 32;
/// Length of the timestamps that can be compared as texts: `2026-01-02T03:04:05.678Z`.
const COMPARABLE: usize = 24;

/// How far we are.
#[derive(Debug, Default)]
pub(super) struct ByTime {
    /// Where the log says to begin, and what it was told.
    saved: Option<Box<str>>,
    /// Messages the neighbour holds, by time, closer together the newer they are.
    places: VecDeque<(UnixMillis, Box<str>)>,
    /// The newest time of a message it holds, but none ahead of our clock.
    newest: UnixMillis,
    /// Behind which message to ask next.
    after: Option<Box<str>>,
    /// Where the page before ended.
    ended: Option<Box<str>>,
    /// Something newer came since the last walk began.
    moved: bool,
    /// The walk is the link's first.
    first: bool,
}

impl ByTime {
    pub(super) fn restore(&mut self, cursor: &str) {
        self.saved = cursor.strip_prefix(PREFIX).map(Into::into);
    }

    /// Begins the first walk of a link.
    pub(super) fn begin_first(&mut self) {
        self.after = self.saved.clone();
        self.ended = None;
        self.first = true;
    }

    /// Begins another walk.
    pub(super) fn begin(&mut self, far: bool) {
        let moved = std::mem::take(&mut self.moved);
        // Where nothing happens the end of the last walk is near enough.
        if far || moved || self.after.is_none() {
            let overlap = if far { OVERLAP } else { SHORT_OVERLAP };
            self.after = self.place(overlap).or_else(|| self.saved.clone());
        }
        self.ended = None;
        self.first = false;
    }

    pub(super) fn after(&self) -> Option<Box<str>> {
        self.after.clone()
    }

    pub(super) fn page(&mut self, entries: &[Entry], now: UnixMillis) -> Progress {
        for entry in entries {
            if let Ok(message) = &entry.message {
                self.note(message, now);
            }
        }
        let first = std::mem::take(&mut self.first);
        let Some(last) = entries.last() else {
            if first && self.after.take().is_some() {
                // It may not know the message any more.
                return Progress::More;
            }
            return Progress::Level;
        };
        if self.ended.as_ref() == Some(&last.id) {
            return Progress::Level;
        }
        let older = entries
            .iter()
            .rev()
            .find(|entry| entry.timestamp < last.timestamp);
        self.ended = Some(last.id.clone());
        self.after = Some(older.unwrap_or(last).id.clone());
        Progress::More
    }

    /// The neighbour holds a message.
    pub(super) fn note(&mut self, message: &Checked, now: UnixMillis) {
        let time = message.time();
        let timestamp = message.message().timestamp();
        if time > now || timestamp.len() != COMPARABLE || !timestamp.ends_with('Z') {
            return;
        }
        self.moved |= time > self.newest;
        self.newest = self.newest.max(time);
        if self
            .places
            .back()
            .is_some_and(|(last, _)| time < last.after(SPACING))
        {
            return;
        }
        self.places.push_back((time, message.message().id().into()));
        if self.places.len() > MAX_PLACES {
            let mut place = 0;
            self.places.retain(|_| {
                place += 1;
                place > MAX_PLACES / 2 || place % 2 == 1
            });
        }
    }

    /// What to save, if it is not: a place far enough back.
    pub(super) fn unsaved(&mut self) -> Option<Box<str>> {
        let place = self.place(OVERLAP)?;
        if self.saved.as_ref() == Some(&place) {
            return None;
        }
        let text = format!("{PREFIX}{place}");
        self.saved = Some(place);
        (text.len() <= MAX_CURSOR_BYTES).then(|| text.into())
    }

    /// The newest place that lies so far behind the newest message.
    fn place(&self, overlap: Duration) -> Option<Box<str>> {
        self.places
            .iter()
            .rev()
            .find(|(time, _)| time.after(overlap) <= self.newest)
            .map(|(_, id)| id.clone())
    }
}
