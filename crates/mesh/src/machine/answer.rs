//! Answering sync requests: pages of the log in the order of arrival.

use std::sync::Arc;

use clawchat_types::Moment;

use super::handshake::Fault;
use super::link::Link;
use super::{After, LinkId, MAX_PAGE_BYTES, MAX_PAGE_MESSAGES, Mesh, Output, PageEntry, Purpose};
use crate::ChannelId;
use crate::frame::{SyncRequest, write};

/// Questions of one link that may wait: one for each channel it may subscribe to, and some.
const MAX_WAITING_REQUESTS: usize = 1100;

impl Link {
    /// Whether a question waits behind the one being answered.
    pub(super) fn has_waiting_question(&self) -> bool {
        self.requests.len() > 1
    }
}

impl Mesh {
    pub(super) fn asked(&mut self, id: LinkId, request: SyncRequest, now: Moment) {
        if !self.config.store {
            return;
        }
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.requests.len() >= MAX_WAITING_REQUESTS {
            let text = write::error(write::RATE_LIMITED, "Too many sync requests");
            self.complain(id, text, Fault::Theirs, now);
            return;
        }
        link.requests.push_back(request);
        self.answer_next(id);
    }

    /// Answers the link's first question, if what was sent before is written and no answer is under way.
    pub(super) fn answer_next(&mut self, id: LinkId) {
        loop {
            let Some(link) = self.links.get(&id) else {
                return;
            };
            if link.answering.is_some() || link.in_flight >= self.config.limits.window_bytes {
                return;
            }
            let Some(request) = link.requests.front() else {
                return;
            };
            let channel = request.channel.clone();
            if self.is_logged(&channel) {
                let after = request.after.clone().map_or(After::Oldest, After::Id);
                let limit = request.limit;
                self.read_answer(id, channel, after, limit);
                return;
            }
            self.send_answer(id, &channel, &[]);
        }
    }

    fn read_answer(&mut self, id: LinkId, channel: ChannelId, after: After, limit: usize) {
        let ticket = self.ticket(Purpose::Answer(id));
        if let Some(link) = self.links.get_mut(&id) {
            link.answering = Some(ticket);
        }
        self.outputs.push_back(Output::ReadPage {
            ticket,
            channel,
            after,
            limit: limit.clamp(1, MAX_PAGE_MESSAGES),
            max_bytes: MAX_PAGE_BYTES,
        });
    }

    /// The log gave the page of an answer. `None`: it does not know the message to begin behind.
    pub(super) fn answer_read(&mut self, id: LinkId, entries: Option<Vec<PageEntry>>, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.answering = None;
        let Some(request) = link.requests.front() else {
            return;
        };
        let channel = request.channel.clone();
        let limit = request.limit;
        match entries {
            // To begin again costs duplicates. A peer that does not page must not get the same page for ever.
            None if link.knows_marks() => {
                self.read_answer(id, channel, After::Oldest, limit);
                return;
            }
            None => self.send_answer(id, &channel, &[]),
            Some(entries) => self.send_answer(id, &channel, &entries),
        }
        self.answer_next(id);
        self.refresh_reading(id, now);
    }

    /// Answers the link's first question.
    fn send_answer(&mut self, id: LinkId, name: &ChannelId, entries: &[PageEntry]) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.requests.pop_front();
        let knows_marks = link.knows_marks();
        let last = self.channels.get(name).map_or(0, |channel| channel.last);
        let more = entries.last().is_some_and(|entry| entry.arrival < last);
        if let Some(reader) = self
            .channels
            .get_mut(name)
            .and_then(|channel| channel.readers.get_mut(&id))
        {
            reader.synced = true;
            reader.hinted = false;
        }
        let texts: Vec<Arc<str>> = entries.iter().map(|entry| Arc::clone(&entry.text)).collect();
        self.counters.served += u64::try_from(texts.len()).unwrap_or_default();
        let text = write::sync_response(name, &texts, knows_marks.then_some(more), None);
        self.send(id, text);
    }
}
