//! A channel: who follows it, its recent messages, and its readers.

use std::collections::{BTreeMap, VecDeque};

use super::LinkId;
use crate::ChannelId;
use crate::message::Checked;

/// What is known of a channel while somebody here or a neighbour cares for it.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// Somebody here reads it.
    pub(super) followed: bool,
    /// It is kept for others.
    pub(super) kept: bool,
    /// Arrival number of the newest message. Of a channel that is not in the log: a number of ours.
    pub(super) last: u64,
    /// Recent messages, their numbers without a gap up to `last`.
    pub(super) ring: VecDeque<Recent>,
    /// The neighbours that subscribed.
    pub(super) readers: BTreeMap<LinkId, Reader>,
    /// Neighbours being asked for it.
    pub(super) askers: usize,
}

/// A recent message.
#[derive(Debug)]
pub(super) struct Recent {
    pub(super) arrival: u64,
    pub(super) message: Checked,
    /// The link it came over.
    pub(super) from: Option<LinkId>,
}

/// Where a neighbour stands.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Everything up to this number was sent, or needs not be.
    pub(super) position: u64,
    /// The id at that number, once something was fed.
    pub(super) at: Option<Box<str>>,
    /// It stands in its link's queue.
    pub(super) queued: bool,
    /// It asked for this channel's messages, so marks mean something to it.
    pub(super) synced: bool,
    /// The position it was told.
    pub(super) marked: u64,
    /// It was told to ask, and has not yet.
    pub(super) hinted: bool,
}

impl Channel {
    /// Whether its messages go into the log.
    pub(super) const fn is_logged(&self) -> bool {
        self.followed || self.kept
    }

    /// Whether nobody cares any more.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_logged() && self.readers.is_empty()
    }

    /// The first number in memory.
    pub(super) fn first_recent(&self) -> Option<u64> {
        self.ring.front().map(|recent| recent.arrival)
    }
}

/// The recent messages of all channels together, oldest out first.
#[derive(Debug)]
pub(super) struct Ring {
    max_messages: usize,
    max_bytes: usize,
    bytes: usize,
    /// Whose front is next to go, with what it was when it was pushed.
    order: VecDeque<(ChannelId, u64)>,
}

impl Ring {
    pub(super) const fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            max_messages,
            max_bytes,
            bytes: 0,
            order: VecDeque::new(),
        }
    }

    /// Puts a message behind the recent ones of its channel.
    pub(super) fn push(
        &mut self,
        channels: &mut BTreeMap<ChannelId, Channel>,
        id: &ChannelId,
        recent: Recent,
    ) {
        let Some(channel) = channels.get_mut(id) else {
            return;
        };
        if recent.arrival <= channel.last {
            return;
        }
        if recent.arrival != channel.last + 1 {
            self.clear(channel);
        }
        channel.last = recent.arrival;
        self.bytes += recent.message.text().len();
        self.order.push_back((id.clone(), recent.arrival));
        channel.ring.push_back(recent);
        while self.order.len() > self.max_messages || self.bytes > self.max_bytes {
            let Some((id, arrival)) = self.order.pop_front() else {
                break;
            };
            if let Some(channel) = channels.get_mut(&id)
                && channel.first_recent() == Some(arrival)
                && let Some(gone) = channel.ring.pop_front()
            {
                self.bytes -= gone.message.text().len();
            }
        }
    }

    /// Forgets a channel's recent messages.
    pub(super) fn clear(&mut self, channel: &mut Channel) {
        for gone in channel.ring.drain(..) {
            self.bytes -= gone.message.text().len();
        }
    }
}
