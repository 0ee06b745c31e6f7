//! Which channels are followed, here and by neighbours.

use std::collections::BTreeSet;

use clawchat_types::Moment;

use super::channel::{Channel, Reader};
use super::handshake::Fault;
use super::link::Link;
use super::{LinkId, Mesh};
use crate::ChannelId;
use crate::frame::write;

/// Subscriptions of all links together; one costs up to half a kilobyte.
const MAX_SUBSCRIPTIONS: usize = 32_768;
/// Patterns of channels kept for others.
const MAX_PATTERNS: usize = 100;

impl Mesh {
    /// A new neighbour hears what we want of it.
    pub(super) fn greet(&mut self, id: LinkId, now: Moment) {
        let logged: Vec<ChannelId> = self
            .channels
            .iter()
            .filter(|(_, channel)| channel.is_logged())
            .map(|(name, _)| name.clone())
            .collect();
        for name in &logged {
            self.send(id, write::subscription("subscribe", name));
        }
        for name in logged {
            self.want(id, name);
        }
        self.start_rounds(id, now);
        self.ask_next(id, now);
    }

    pub(super) fn restore_channel(&mut self, name: ChannelId, last: u64, followed: bool, now: Moment) {
        self.lasts.insert(name.clone(), last);
        if followed {
            self.begin(&name, Some(true), None, now);
        }
        self.keep_channel(&name, now);
    }

    pub(super) fn follow_channel(&mut self, name: &ChannelId, now: Moment) -> bool {
        let is_followed = self.channels.get(name).is_some_and(|channel| channel.followed);
        let may = is_followed || self.followed < self.config.limits.channels;
        if may {
            self.begin(name, Some(true), None, now);
        }
        may
    }

    pub(super) fn unfollow_channel(&mut self, name: &ChannelId, now: Moment) {
        self.end(name, Some(false), None, now);
    }

    /// The messages of a channel go into the log from now on.
    fn begin(&mut self, name: &ChannelId, followed: Option<bool>, kept: Option<bool>, now: Moment) {
        let channel = self.channels.entry(name.clone()).or_default();
        let was_logged = channel.is_logged();
        self.followed += usize::from(followed == Some(true) && !channel.followed);
        self.kept += usize::from(kept == Some(true) && !channel.kept);
        if !was_logged {
            // The log numbers them; what was passed on so far has no place in it.
            self.ring.clear(channel);
            channel.last = self.lasts.get(name).copied().unwrap_or(0);
            for reader in channel.readers.values_mut() {
                reader.position = channel.last;
                reader.marked = channel.last;
                reader.at = None;
            }
        }
        channel.followed = followed.unwrap_or(channel.followed);
        channel.kept = kept.unwrap_or(channel.kept);
        if !was_logged {
            self.announce(name, now);
        }
    }

    /// The reverse of [`Mesh::begin`].
    fn end(&mut self, name: &ChannelId, followed: Option<bool>, kept: Option<bool>, now: Moment) {
        let Some(channel) = self.channels.get_mut(name) else {
            return;
        };
        let was_logged = channel.is_logged();
        self.followed -= usize::from(followed == Some(false) && channel.followed);
        self.kept -= usize::from(kept == Some(false) && channel.kept);
        channel.followed = followed.unwrap_or(channel.followed);
        channel.kept = kept.unwrap_or(channel.kept);
        if was_logged && !channel.is_logged() {
            self.lasts.insert(name.clone(), channel.last);
            self.withdraw(name, now);
            self.drop_idle(name);
        }
    }

    /// Tells all neighbours that we want a channel, and asks for what is missing.
    fn announce(&mut self, name: &ChannelId, now: Moment) {
        let text = write::subscription("subscribe", name);
        for id in self.neighbours() {
            self.send(id, text.clone());
            self.want(id, name.clone());
            self.ask_next(id, now);
        }
    }

    fn withdraw(&mut self, name: &ChannelId, now: Moment) {
        let text = write::subscription("unsubscribe", name);
        for id in self.neighbours() {
            self.send(id, text.clone());
            self.ask_no_more(id, name, now);
        }
    }

    pub(super) fn set_kept(&mut self, patterns: Vec<String>, now: Moment) {
        self.patterns = patterns.into_iter().take(MAX_PATTERNS).collect();
        let exact: Vec<ChannelId> = self
            .patterns
            .iter()
            .filter(|pattern| !pattern.ends_with('*'))
            .filter_map(|pattern| pattern.parse().ok())
            .collect();
        let known = self.channels.keys().chain(self.lasts.keys()).cloned();
        let names: BTreeSet<ChannelId> = known.chain(exact).collect();
        for name in names {
            if self.is_kept(&name) {
                self.keep_channel(&name, now);
            } else {
                self.end(&name, None, Some(false), now);
            }
        }
    }

    /// Whether a channel is one that is kept for others.
    fn is_kept(&self, name: &ChannelId) -> bool {
        self.patterns
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(beginning) => name.as_str().starts_with(beginning),
                None => name.as_str() == pattern,
            })
    }

    /// Begins to keep a channel that should be, as long as there are not too many.
    pub(super) fn keep_channel(&mut self, name: &ChannelId, now: Moment) {
        let is_kept = self.channels.get(name).is_some_and(|channel| channel.kept);
        if is_kept || !self.is_kept(name) {
            return;
        }
        if self.kept < self.config.limits.channels {
            self.begin(name, None, Some(true), now);
        }
    }

    /// Whether the messages of a channel go into the log.
    pub(super) fn is_logged(&self, name: &ChannelId) -> bool {
        self.channels.get(name).is_some_and(Channel::is_logged)
    }

    pub(super) fn subscribe(&mut self, id: LinkId, name: ChannelId, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.subscribed.contains(&name) {
            return;
        }
        if link.subscribed.len() >= self.config.limits.link_subscriptions
            || self.subscriptions >= MAX_SUBSCRIPTIONS
        {
            if !std::mem::replace(&mut link.told_full, true) {
                let text = write::error(write::RATE_LIMITED, "Too many subscriptions");
                self.complain(id, text, Fault::Theirs, now);
            }
            return;
        }
        link.subscribed.insert(name.clone());
        self.subscriptions += 1;
        self.keep_channel(&name, now);
        let channel = self.channels.entry(name.clone()).or_default();
        // What is there already is for a sync request.
        let reader = Reader {
            position: channel.last,
            marked: channel.last,
            ..Reader::default()
        };
        channel.readers.insert(id, reader);
        // Its catching up has passed the place of these, if it had them unverified.
        if self.links.get(&id).is_some_and(Link::knows_marks) {
            for message in self.upgraded.of(&name) {
                self.feed_extra(id, &message);
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, id: LinkId, name: &ChannelId, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.subscribed.remove(name) {
            link.feed.unmarked.remove(name);
            link.feed.ready.retain(|ready| ready != name);
            self.subscriptions = self.subscriptions.saturating_sub(1);
            self.hand_over(id, name);
            self.drop_reader(id, name, now);
            self.wake_readers(name);
        }
    }

    pub(super) fn drop_reader(&mut self, id: LinkId, name: &ChannelId, now: Moment) {
        let Some(channel) = self.channels.get_mut(name) else {
            return;
        };
        channel.readers.remove(&id);
        // One that was kept for somebody who never said anything makes room for others.
        let was_for_nothing = channel.kept && channel.last == 0 && channel.readers.is_empty();
        if was_for_nothing && !self.patterns.iter().any(|pattern| pattern == name.as_str()) {
            self.end(name, None, Some(false), now);
        }
        self.drop_idle(name);
    }

    pub(super) fn drop_idle(&mut self, name: &ChannelId) {
        if let Some(channel) = self.channels.get_mut(name)
            && channel.is_idle()
            && channel.askers == 0
        {
            self.ring.clear(channel);
            self.channels.remove(name);
        }
    }

    /// Links on which hands were shaken.
    fn neighbours(&self) -> Vec<LinkId> {
        self.links
            .iter()
            .filter(|(_, link)| link.peer.is_some())
            .map(|(id, _)| *id)
            .collect()
    }
}
