//! Feeding neighbours: whatever is new in a channel goes to those that subscribed, from memory or from the log.

use std::sync::Arc;
use std::time::Duration;

use clawchat_types::Moment;

use super::channel::Reader;
use super::timers::Timer;
use super::{After, LinkId, Mesh, Output, PageEntry, Purpose};
use crate::ChannelId;
use crate::frame::write;
use crate::message::{Checked, Message, Trust, may_go_live};

/// Messages of one channel fed to a link before its next channel has its turn.
const TURN_MESSAGES: usize = 64;
/// Messages of a page read for a slow link.
const FEED_PAGE_MESSAGES: usize = 256;
/// Bytes of such a page.
const FEED_PAGE_BYTES: usize = 256 * 1024;
/// Verified copies that may wait for a slow link.
const MAX_EXTRAS: usize = 256;
/// How long a neighbour may not know where it stands.
const MARK_WITHIN: Duration = Duration::from_secs(1);

/// How a turn of a channel ended.
enum Turn {
    /// There is nothing more in it.
    Done,
    /// There is more.
    More,
    /// It needs a page of the log.
    Page,
}

impl Mesh {
    /// There is something new in a channel.
    pub(super) fn wake_readers(&mut self, name: &ChannelId) {
        let Some(channel) = self.channels.get_mut(name) else {
            return;
        };
        for (id, reader) in &mut channel.readers {
            if reader.position < channel.last
                && !std::mem::replace(&mut reader.queued, true)
                && let Some(link) = self.links.get_mut(id)
            {
                link.feed.ready.push_back(name.clone());
                self.hungry.insert(*id);
            }
        }
    }

    /// Sends a verified copy of what a link may have unverified.
    pub(super) fn feed_extra(&mut self, id: LinkId, message: &Checked) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if !link.is_peer(message.message().sender()) && link.feed.extras.len() < MAX_EXTRAS {
            link.feed.extras.push_back(Arc::clone(message.text()));
            self.hungry.insert(id);
        }
    }

    /// Feeds all links that have room.
    pub(super) fn feed_hungry(&mut self, now: Moment) {
        while let Some(id) = self.hungry.pop_first() {
            self.feed(id, now);
        }
    }

    fn feed(&mut self, id: LinkId, now: Moment) {
        while self.has_room(id)
            && let Some(text) = self
                .links
                .get_mut(&id)
                .and_then(|link| link.feed.extras.pop_front())
        {
            self.counters.fed += 1;
            self.send_text(id, text);
        }
        let mut waiting = Vec::new();
        while self.has_room(id)
            && let Some(name) = self
                .links
                .get_mut(&id)
                .and_then(|link| link.feed.ready.pop_front())
        {
            match self.feed_turn(id, &name, now) {
                Turn::Done => {
                    if let Some(reader) = self.reader(id, &name) {
                        reader.queued = false;
                    }
                }
                Turn::More => self.ready_again(id, name),
                Turn::Page => {
                    self.read_for(id, &name);
                    waiting.push(name);
                }
            }
        }
        for name in waiting {
            self.ready_again(id, name);
        }
    }

    fn ready_again(&mut self, id: LinkId, name: ChannelId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.feed.ready.push_back(name);
        }
    }

    pub(super) fn has_room(&self, id: LinkId) -> bool {
        self.links
            .get(&id)
            .is_some_and(|link| link.in_flight < self.config.limits.window_bytes)
    }

    fn reader(&mut self, id: LinkId, name: &ChannelId) -> Option<&mut Reader> {
        self.channels.get_mut(name)?.readers.get_mut(&id)
    }

    /// Feeds a link from the messages in memory.
    fn feed_turn(&mut self, id: LinkId, name: &ChannelId, now: Moment) -> Turn {
        if self.is_fed_elsewhere(id, name) {
            return Turn::Done;
        }
        for _ in 0..TURN_MESSAGES {
            if !self.has_room(id) {
                return Turn::More;
            }
            let Some(channel) = self.channels.get_mut(name) else {
                return Turn::Done;
            };
            let is_logged = channel.is_logged();
            let first = channel.first_recent();
            let last = channel.last;
            let Some(reader) = channel.readers.get_mut(&id) else {
                return Turn::Done;
            };
            if reader.position >= last {
                return Turn::Done;
            }
            let next = reader.position + 1;
            let Some(first) = first.filter(|first| is_logged || *first <= next) else {
                if is_logged {
                    return Turn::Page;
                }
                // What is not stored and fell out of memory is lost to a slow reader.
                let kept_from = first.unwrap_or(last + 1);
                self.counters.missed += kept_from - next;
                reader.position = kept_from - 1;
                continue;
            };
            if first > next {
                return Turn::Page;
            }
            let place = usize::try_from(next - first).unwrap_or(usize::MAX);
            let Some(recent) = channel.ring.get(place) else {
                return Turn::Done;
            };
            let message = recent.message.clone();
            let from_it = recent.from == Some(id);
            let item = Item {
                message: message.message(),
                verified: message.trust() == Trust::Verified,
                text: message.text(),
            };
            self.feed_one(id, name, next, &item, from_it, now);
        }
        Turn::More
    }

    /// Sends one message unless the neighbour has it or may not get it live, and moves its position behind it.
    fn feed_one(
        &mut self,
        id: LinkId,
        name: &ChannelId,
        arrival: u64,
        item: &Item<'_>,
        from_it: bool,
        now: Moment,
    ) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let knows_marks = link.knows_marks();
        let from_it = from_it || link.is_peer(item.message.sender());
        let Some(reader) = self
            .channels
            .get_mut(name)
            .and_then(|channel| channel.readers.get_mut(&id))
        else {
            return;
        };
        let before = reader.at.replace(item.message.id().into());
        reader.position = arrival;
        if !from_it && !may_go_live(item.message, item.verified, now.wall) {
            // It would rightly be refused. A neighbour that syncs is told to.
            if knows_marks && reader.synced && !std::mem::replace(&mut reader.hinted, true) {
                let text = write::sync_response(name, &[], Some(true), before.as_deref());
                self.send(id, text);
            }
            return;
        }
        if knows_marks && reader.synced && link.feed.unmarked.insert(name.clone()) {
            let at = now.mono.saturating_add(MARK_WITHIN);
            self.timers.set(at, Timer::Marks(id));
        }
        if !from_it {
            self.counters.fed += 1;
            self.send_text(id, Arc::clone(item.text));
        }
    }

    /// Reads a page for a link that is behind; one at a time.
    fn read_for(&mut self, id: LinkId, name: &ChannelId) {
        let Some(position) = self.reader(id, name).map(|reader| reader.position) else {
            return;
        };
        if self.links.get(&id).is_none_or(|link| link.feed.page.is_some()) {
            return;
        }
        let ticket = self.ticket(Purpose::Feed(id, name.clone()));
        if let Some(link) = self.links.get_mut(&id) {
            link.feed.page = Some(ticket);
        }
        self.outputs.push_back(Output::ReadPage {
            ticket,
            channel: name.clone(),
            after: After::Arrival(position),
            limit: FEED_PAGE_MESSAGES,
            max_bytes: FEED_PAGE_BYTES,
        });
    }

    /// The log gave a page for a link that is behind.
    pub(super) fn feed_read(&mut self, id: LinkId, name: &ChannelId, entries: Vec<PageEntry>, now: Moment) {
        self.feed_failed(id);
        self.hungry.insert(id);
        if !self.is_logged(name) {
            return;
        }
        let last = self.channels.get(name).map_or(0, |channel| channel.last);
        let end = entries.last().map_or(last, |entry| entry.arrival);
        for entry in &entries {
            let position = self.reader(id, name).map(|reader| reader.position);
            // What is no message of this version is passed over.
            if position.is_some_and(|position| position < entry.arrival)
                && let Ok(message) = Message::from_text(&entry.text)
            {
                let item = Item {
                    message: &message,
                    verified: entry.verified,
                    text: &entry.text,
                };
                self.feed_one(id, name, entry.arrival, &item, false, now);
            }
        }
        if let Some(reader) = self.reader(id, name) {
            reader.position = reader.position.max(end);
        }
    }

    /// A page for a link came or could not be read.
    pub(super) fn feed_failed(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.feed.page = None;
        }
    }

    /// Tells a neighbour how far it has been given everything, so that it need not ask for that again.
    pub(super) fn send_marks(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        for name in std::mem::take(&mut link.feed.unmarked) {
            let Some(reader) = self.reader(id, &name) else {
                continue;
            };
            if reader.hinted || reader.marked >= reader.position {
                continue;
            }
            let Some(at) = reader.at.clone() else {
                continue;
            };
            reader.marked = reader.position;
            let text = write::sync_response(&name, &[], Some(false), Some(&at));
            self.send(id, text);
        }
    }
}

/// A message to feed.
struct Item<'a> {
    message: &'a Message,
    verified: bool,
    text: &'a Arc<str>,
}
