//! What waits in the outbox for one recipient, in order.

use std::collections::VecDeque;

use clawchat_store::{OutboxEntry, StoreError};

use super::Conversation;
use crate::hosted::Hosted;

/// Messages read from the outbox at a time.
const PAGE: usize = 64;

/// Read page by page behind what has been taken.
pub(super) struct Feed<'a> {
    hosted: &'a Hosted,
    conversation: &'a Conversation,
    cursor: u64,
    page: VecDeque<OutboxEntry>,
    exhausted: bool,
}

impl<'a> Feed<'a> {
    /// From the oldest message that waits.
    pub(super) fn new(hosted: &'a Hosted, conversation: &'a Conversation) -> Self {
        Self {
            hosted,
            conversation,
            cursor: 0,
            page: VecDeque::new(),
            exhausted: false,
        }
    }

    /// There may be more by now.
    pub(super) fn look_again(&mut self) {
        self.exhausted = false;
    }

    /// The next one.
    pub(super) fn peek(&mut self) -> Result<Option<&OutboxEntry>, StoreError> {
        if self.page.is_empty() && !self.exhausted {
            self.page = self
                .hosted
                .store()
                .store()
                .pending(self.conversation.remote(), self.cursor, PAGE)?
                .into();
            self.exhausted = self.page.is_empty();
        }
        Ok(self.page.front())
    }

    /// Takes the one that was looked at.
    pub(super) fn take(&mut self) -> Option<OutboxEntry> {
        let entry = self.page.pop_front()?;
        self.cursor = entry.position;
        Some(entry)
    }

    /// Gives it back.
    pub(super) fn put_back(&mut self, entry: OutboxEntry) {
        self.page.push_front(entry);
    }
}

/// About how long a message is, in bytes: the text and payload are all that can be large.
pub(super) fn length(entry: &OutboxEntry) -> usize {
    let payload = entry.message.payload.as_ref();
    entry.message.content.as_str().len() + payload.map_or(0, |payload| payload.as_str().len())
}
