//! Neighbours that answer in the order of arrival: one walk along their log, for ever.

use super::Progress;
use crate::frame::Response;
use crate::machine::MAX_CURSOR_BYTES;

/// What a saved cursor begins with.
const PREFIX: &str = "a:";
/// Pages without anything that a neighbour may send while it says there is more.
const MAX_IDLE_PAGES: u32 = 3;

/// How far we are.
#[derive(Debug, Default)]
pub(super) struct ByArrival {
    /// The last message the neighbour gave us.
    cursor: Option<Box<str>>,
    /// It is saved, or on its way.
    saved: bool,
    idle_pages: u32,
}

impl ByArrival {
    pub(super) fn restore(&mut self, cursor: &str) {
        if let Some(id) = cursor.strip_prefix(PREFIX) {
            self.cursor = Some(id.into());
            self.saved = true;
        }
    }

    /// Behind which message to ask.
    pub(super) fn after(&self) -> Option<Box<str>> {
        self.cursor.clone()
    }

    pub(super) fn page(&mut self, response: &Response) -> Progress {
        let moved = response
            .entries
            .last()
            .is_some_and(|last| self.cursor.as_ref() != Some(&last.id));
        if let Some(last) = response.entries.last() {
            self.advance(&last.id);
        }
        if moved {
            self.idle_pages = 0;
        }
        match response.more {
            Some(false) => Progress::Level,
            Some(true) | None if moved => Progress::More,
            Some(true) if self.idle_pages < MAX_IDLE_PAGES && response.unreadable == 0 => {
                self.idle_pages += 1;
                Progress::More
            }
            Some(true) => Progress::Stuck,
            None if response.unreadable > 0 => Progress::Stuck,
            None => Progress::Level,
        }
    }

    /// The neighbour has given us everything up to a message.
    pub(super) fn advance(&mut self, id: &str) {
        if self.cursor.as_deref() != Some(id) {
            self.cursor = Some(id.into());
            self.saved = false;
        }
    }

    /// What to save, if it is not.
    pub(super) fn unsaved(&mut self) -> Option<Box<str>> {
        let cursor = self.cursor.as_ref().filter(|_| !self.saved)?;
        self.saved = true;
        let text = format!("{PREFIX}{cursor}");
        // From an older one we are told some messages twice, no more.
        (text.len() <= MAX_CURSOR_BYTES).then(|| text.into())
    }
}
