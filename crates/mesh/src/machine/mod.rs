//! The mesh as a state machine: frames, stored records and time in; frames, records to store and events out.

mod answer;
mod append;
mod catch_up;
mod channel;
mod config;
mod feed;
mod handshake;
mod link;
mod output;
mod rate;
mod seen;
mod subscriptions;
mod take;
mod timers;
mod twins;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use clawchat_types::Moment;

use self::append::{Appends, Upgraded};
use self::channel::{Channel, Ring};
use self::link::Link;
use self::seen::Seen;
use self::timers::{Timer, Timers};
use crate::message::Checked;
use crate::{ChannelId, PeerName, Received};

pub use self::config::{MeshConfig, MeshLimits};
pub use self::output::{
    After, CloseReason, Counters, LinkId, LinkStatus, MeshEvent, Origin, Output, PageEntry, PublishError,
    PublishTicket, Side, StoredAs, Ticket,
};

/// Most messages in one page of a sync.
pub const MAX_PAGE_MESSAGES: usize = 500;
/// Most bytes of text in one page; one message is always sent.
pub const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// Longest cursor, in bytes.
pub const MAX_CURSOR_BYTES: usize = 128;

/// How long a page that the log could not read is left alone.
const READ_RETRY: Duration = Duration::from_secs(1);

/// One peer of the mesh.
///
/// After each call, take everything from [`Mesh::poll_output`]. A link that the machine closes ([`Output::Close`]) is
/// forgotten at once: what the driver still reports of it is ignored.
#[derive(Debug)]
pub struct Mesh {
    config: MeshConfig,
    links: BTreeMap<LinkId, Link>,
    /// Channels that somebody here or a neighbour cares for.
    channels: BTreeMap<ChannelId, Channel>,
    /// The newest arrival numbers of channels of the log.
    lasts: BTreeMap<ChannelId, u64>,
    /// How many channels are followed, and kept.
    followed: usize,
    kept: usize,
    /// Which channels are kept for others.
    patterns: Vec<String>,
    ring: Ring,
    seen: Seen,
    appends: Appends,
    upgraded: Upgraded,
    /// What the log was asked.
    questions: BTreeMap<Ticket, Purpose>,
    timers: Timers,
    /// Of the links with a neighbour whose name a carrier has proven, the one that is fed and asked.
    proven: BTreeMap<PeerName, LinkId>,
    /// Links that may be fed.
    hungry: BTreeSet<LinkId>,
    /// A question ended, so others may be asked.
    ask_again: bool,
    subscriptions: usize,
    outputs: VecDeque<Output>,
    counters: Counters,
    next: u64,
    random: u64,
}

/// Why the log was asked.
#[derive(Debug)]
enum Purpose {
    Append,
    Feed(LinkId, ChannelId),
    Answer(LinkId),
    Cursor(LinkId),
}

impl Mesh {
    /// A peer without links or channels. `seed` is random: it spreads timers and keys hash tables.
    #[must_use]
    pub fn new(config: MeshConfig, seed: u64) -> Self {
        Self {
            ring: Ring::new(config.limits.ring_messages, config.limits.ring_bytes),
            config,
            links: BTreeMap::new(),
            channels: BTreeMap::new(),
            lasts: BTreeMap::new(),
            followed: 0,
            kept: 0,
            patterns: Vec::new(),
            seen: Seen::new(seed),
            appends: Appends::default(),
            upgraded: Upgraded::default(),
            questions: BTreeMap::new(),
            timers: Timers::default(),
            proven: BTreeMap::new(),
            hungry: BTreeSet::new(),
            ask_again: false,
            subscriptions: 0,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            next: 0,
            random: seed,
        }
    }

    /// How it was configured.
    #[must_use]
    pub const fn config(&self) -> &MeshConfig {
        &self.config
    }

    /// A link stands: bytes can be sent both ways. Ids must not be used twice. `origin` is what is known about the other
    /// end, whatever it will say of itself.
    pub fn link_opened(&mut self, link: LinkId, side: Side, origin: Origin, now: Moment) {
        self.open(link, side, origin, now);
        self.settle(now);
    }

    /// A link broke or was closed by the peer.
    pub fn link_closed(&mut self, link: LinkId, now: Moment) {
        self.forget(link, now);
        self.settle(now);
    }

    /// A frame came over a link.
    pub fn received(&mut self, link: LinkId, frame: Received, now: Moment) {
        self.take(link, frame, now);
        self.settle(now);
    }

    /// The driver wrote `bytes` more of what [`Output::Send`] gave it for this link.
    pub fn written(&mut self, link: LinkId, bytes: usize, now: Moment) {
        if let Some(link) = self.links.get_mut(&link) {
            link.in_flight = link.in_flight.saturating_sub(bytes);
        }
        self.hungry.insert(link);
        self.answer_next(link);
        self.refresh_reading(link, now);
        self.settle(now);
    }

    /// At the start, for each channel the log holds: the arrival number of its newest message, and whether it is followed.
    pub fn restore(&mut self, channel: ChannelId, last: u64, followed: bool, now: Moment) {
        self.restore_channel(channel, last, followed, now);
        self.settle(now);
    }

    /// Subscribes to a channel and keeps its messages. False when as many are followed already as may be.
    pub fn follow(&mut self, channel: ChannelId, now: Moment) -> bool {
        let followed = self.follow_channel(&channel, now);
        self.settle(now);
        followed
    }

    /// Ends [`Mesh::follow`]. What is stored stays.
    pub fn unfollow(&mut self, channel: &ChannelId, now: Moment) {
        self.unfollow_channel(channel, now);
        self.settle(now);
    }

    /// Which channels are kept for others though nobody here follows them: names, or beginnings of names with a `*` behind.
    /// One with a `*` takes effect when a neighbour subscribes to such a channel or sends a message for it.
    pub fn keep(&mut self, patterns: Vec<String>, now: Moment) {
        self.set_kept(patterns, now);
        self.settle(now);
    }

    /// Publishes a message of ours in a channel that is followed or kept here. [`MeshEvent::Published`] or
    /// [`MeshEvent::PublishFailed`] tells how it ended.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn publish(&mut self, message: Checked, now: Moment) -> Result<PublishTicket, PublishError> {
        let published = self.publish_ours(message);
        self.settle(now);
        published
    }

    /// The log did [`Output::Append`]; one outcome for each entry, in order.
    pub fn stored(&mut self, ticket: Ticket, outcomes: Vec<StoredAs>, now: Moment) {
        if self.questions.remove(&ticket).is_some() {
            self.batch_stored(ticket, &outcomes, now);
        }
        self.settle(now);
    }

    /// The log could not do [`Output::Append`], [`Output::ReadPage`] or [`Output::LoadCursor`].
    pub fn store_failed(&mut self, ticket: Ticket, now: Moment) {
        match self.questions.remove(&ticket) {
            Some(Purpose::Append) => self.batch_failed(ticket, now),
            Some(Purpose::Feed(link, _)) => {
                self.feed_failed(link);
                self.timers.set(now.mono.saturating_add(READ_RETRY), Timer::Retry);
            }
            // An empty page would say that there is nothing, and who asked would take itself for level.
            Some(Purpose::Answer(link)) => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.answering = None;
                }
                self.timers.set(now.mono.saturating_add(READ_RETRY), Timer::Retry);
            }
            Some(Purpose::Cursor(link)) => self.cursor_is(link, ticket, None, now),
            None => {}
        }
        self.settle(now);
    }

    /// The log did [`Output::ReadPage`]. `None`: it does not hold the message of [`After::Id`].
    pub fn page(&mut self, ticket: Ticket, entries: Option<Vec<PageEntry>>, now: Moment) {
        match self.questions.remove(&ticket) {
            Some(Purpose::Feed(link, channel)) => {
                self.feed_read(link, &channel, entries.unwrap_or_default(), now);
            }
            Some(Purpose::Answer(link)) => self.answer_read(link, entries, now),
            Some(Purpose::Append | Purpose::Cursor(_)) | None => {}
        }
        self.settle(now);
    }

    /// The log did [`Output::LoadCursor`].
    pub fn cursor_loaded(&mut self, ticket: Ticket, cursor: Option<Box<str>>, now: Moment) {
        if let Some(Purpose::Cursor(link)) = self.questions.remove(&ticket) {
            self.cursor_is(link, ticket, cursor.as_deref(), now);
        }
        self.settle(now);
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Mesh::handle_timeout`], as [`Moment::mono`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Moment) {
        while let Some(timer) = self.timers.due(now.mono) {
            match timer {
                Timer::Handshake(link) => self.handshake_due(link, now),
                Timer::Reading(link) => self.refresh_reading(link, now),
                Timer::Marks(link) => self.send_marks(link),
                Timer::Round(link) => self.round_due(link, now),
                Timer::Answer(link) => self.answer_due(link, now),
                Timer::Retry => {
                    self.retry_append(now);
                    self.hungry.extend(self.links.keys());
                    for link in self.links.keys().copied().collect::<Vec<_>>() {
                        self.answer_next(link);
                    }
                }
            }
        }
        self.settle(now);
    }

    /// What has happened so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The links that stand, in the order of their ids.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        self.links
            .iter()
            .map(|(id, link)| {
                let (level, behind) = link.standing();
                let peer = link.peer.as_ref();
                LinkStatus {
                    link: *id,
                    side: link.side,
                    peer: peer.map(|peer| peer.name.clone()),
                    capabilities: peer.map(|peer| peer.capabilities).unwrap_or_default(),
                    subscriptions: link.subscribed.len(),
                    level,
                    behind,
                }
            })
            .collect()
    }

    /// The neighbours that subscribed to a channel, each once, in the order of their names.
    #[must_use]
    pub fn subscribers(&self, channel: &ChannelId) -> BTreeSet<&PeerName> {
        let readers = self.channels.get(channel).map(|channel| channel.readers.keys());
        readers
            .into_iter()
            .flatten()
            .filter_map(|link| self.links.get(link)?.peer.as_ref())
            .map(|peer| &peer.name)
            .collect()
    }

    /// Does what has become possible.
    fn settle(&mut self, now: Moment) {
        self.drive_appends();
        if std::mem::take(&mut self.ask_again) {
            let links: Vec<LinkId> = self.links.keys().copied().collect();
            for link in links {
                self.ask_next(link, now);
            }
        }
        self.feed_hungry(now);
    }

    fn send(&mut self, link: LinkId, text: String) {
        self.send_text(link, text.into());
    }

    fn send_text(&mut self, id: LinkId, text: Arc<str>) {
        if let Some(link) = self.links.get_mut(&id) {
            link.in_flight += text.len();
            self.outputs.push_back(Output::Send { link: id, text });
        }
    }

    fn tell(&mut self, event: MeshEvent) {
        self.outputs.push_back(Output::Event(event));
    }

    fn ticket(&mut self, purpose: Purpose) -> Ticket {
        self.next += 1;
        let ticket = Ticket(self.next);
        self.questions.insert(ticket, purpose);
        ticket
    }

    /// A number to spread things with.
    fn random(&mut self) -> u64 {
        crate::random::next(&mut self.random)
    }
}
