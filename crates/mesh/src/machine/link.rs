//! One link and what is under way on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use clawchat_types::NodeId;

use super::catch_up::{Asking, Catch};
use super::rate::Rate;
use super::{MeshLimits, Origin, Side, Ticket};
use crate::frame::{Capabilities, SyncRequest};
use crate::{ChannelId, PeerName};

/// Error frames answered in a minute; a peer that needs more is let go.
const ERRORS_PER_MINUTE: u32 = 20;
/// Cursors saved in a second because the neighbour says where it stands.
const SAVES_PER_SECOND: u32 = 100;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) side: Side,
    pub(super) origin: Origin,
    /// Who is there, once it shook hands.
    pub(super) peer: Option<Peer>,
    /// Bytes given to the driver and not written yet.
    pub(super) in_flight: usize,
    pub(super) reading: Reading,
    /// Error frames we may still send.
    pub(super) errors: Rate,
    /// It was told that it subscribes to too much.
    pub(super) told_full: bool,
    /// What it subscribed to.
    pub(super) subscribed: BTreeSet<ChannelId>,
    pub(super) feed: Feed,
    /// Its questions that wait, the first being answered if `answering`.
    pub(super) requests: VecDeque<SyncRequest>,
    pub(super) answering: Option<Ticket>,
    pub(super) asking: Option<Asking>,
    /// Channels to ask for, in turn.
    pub(super) to_ask: VecDeque<ChannelId>,
    pub(super) catching: BTreeMap<ChannelId, Catch>,
    /// Cursors that may still be saved because the neighbour tells us to.
    pub(super) saves: Rate,
    /// Rounds of asking again so far.
    pub(super) rounds: u32,
}

/// A neighbour.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) name: PeerName,
    pub(super) key: Option<NodeId>,
    pub(super) capabilities: Capabilities,
}

/// How fast a link is read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) messages: Rate,
    pub(super) bytes: Rate,
    /// Not before this time.
    pub(super) not_before: Duration,
    /// The driver was told not to.
    pub(super) paused: bool,
}

/// What a link is fed with.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// Channels with something for it.
    pub(super) ready: VecDeque<ChannelId>,
    /// The page being read for it.
    pub(super) page: Option<Ticket>,
    /// Verified copies of messages it may have unverified.
    pub(super) extras: VecDeque<Arc<str>>,
    /// Channels in which it was fed since it was last told where it stands.
    pub(super) unmarked: BTreeSet<ChannelId>,
}

impl Link {
    pub(super) fn new(side: Side, origin: Origin, limits: &MeshLimits) -> Self {
        let second = Duration::from_secs(1);
        Self {
            side,
            origin,
            peer: None,
            in_flight: 0,
            reading: Reading {
                messages: Rate::new(limits.link_messages, second, 2 * u64::from(limits.link_messages)),
                // Counted in KiB, so that a nanosecond is fine enough.
                bytes: Rate::new(
                    (limits.link_bytes / 1024).max(1),
                    second,
                    u64::from(limits.link_bytes / 1024),
                ),
                not_before: Duration::ZERO,
                paused: false,
            },
            errors: Rate::new(
                ERRORS_PER_MINUTE,
                Duration::from_secs(60),
                u64::from(ERRORS_PER_MINUTE),
            ),
            told_full: false,
            subscribed: BTreeSet::new(),
            feed: Feed::default(),
            requests: VecDeque::new(),
            answering: None,
            asking: None,
            to_ask: VecDeque::new(),
            catching: BTreeMap::new(),
            saves: Rate::new(SAVES_PER_SECOND, second, u64::from(SAVES_PER_SECOND)),
            rounds: 0,
        }
    }

    /// Whether the neighbour answers in the order of arrival and knows marks.
    pub(super) fn knows_marks(&self) -> bool {
        self.peer
            .as_ref()
            .is_some_and(|peer| peer.capabilities.arrival_order)
    }

    /// Whether a sender is the neighbour itself.
    pub(super) fn is_peer(&self, sender: &PeerName) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.name == *sender)
    }
}
