//! One peer whose log answers at once and whose neighbours are the test itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clawchat_mesh::{
    CloseReason, FrameLimits, LinkId, Mesh, MeshConfig, MeshEvent, MeshLimits, Message, Origin, Output,
    PeerName, Side, receive,
};
use clawchat_types::{Moment, NodeId, UnixMillis};

use crate::log::Log;

pub(crate) struct One {
    pub(crate) mesh: Mesh,
    pub(crate) log: Log,
    pub(crate) now: Moment,
    /// What was sent, by link.
    pub(crate) sent: BTreeMap<LinkId, Vec<String>>,
    pub(crate) closed: BTreeMap<LinkId, CloseReason>,
    pub(crate) paused: BTreeSet<LinkId>,
    pub(crate) events: Vec<MeshEvent>,
    pub(crate) keys: BTreeMap<String, NodeId>,
    /// Links that never take what is sent.
    pub(crate) stuck: BTreeSet<LinkId>,
}

pub(crate) const NOW: UnixMillis = UnixMillis(1_795_229_009_509);

impl One {
    pub(crate) fn new(name: PeerName, key: Option<NodeId>, limits: MeshLimits) -> Self {
        let config = MeshConfig {
            name,
            key,
            store: true,
            relay: true,
            limits,
        };
        Self {
            mesh: Mesh::new(config, 7),
            log: Log::default(),
            now: Moment {
                wall: NOW,
                mono: Duration::from_secs(1000),
            },
            sent: BTreeMap::new(),
            closed: BTreeMap::new(),
            paused: BTreeSet::new(),
            events: Vec::new(),
            keys: BTreeMap::new(),
            stuck: BTreeSet::new(),
        }
    }

    pub(crate) fn opaque() -> Self {
        Self::new("me".parse().unwrap(), None, MeshLimits::default())
    }

    pub(crate) fn follow(&mut self, channel: &str) {
        assert!(self.mesh.follow(channel.parse().unwrap(), self.now));
        self.run();
    }

    pub(crate) fn open(&mut self, link: u64, side: Side) -> LinkId {
        self.open_at(link, side, Origin::Place("anywhere".into()))
    }

    pub(crate) fn open_at(&mut self, link: u64, side: Side, origin: Origin) -> LinkId {
        self.mesh.link_opened(LinkId(link), side, origin, self.now);
        self.run();
        LinkId(link)
    }

    /// A neighbour that shook hands.
    pub(crate) fn neighbour(&mut self, link: u64, name: &str, capabilities: &str) -> LinkId {
        let id = self.open(link, Side::Accepted);
        let text = format!(
            "{{\"type\":\"handshake\",\"version\":1,\"peer_id\":\"{name}\",\"capabilities\":{{{capabilities}}}}}"
        );
        self.get(id, &text);
        id
    }

    /// Frames come over a link.
    pub(crate) fn get(&mut self, link: LinkId, text: &str) {
        self.get_bytes(link, text.as_bytes());
    }

    pub(crate) fn get_bytes(&mut self, link: LinkId, bytes: &[u8]) {
        let keys = &self.keys;
        let frame = receive(
            bytes,
            &FrameLimits::default(),
            &|name| keys.get(name).copied(),
            self.now.wall,
        );
        self.mesh.received(link, frame, self.now);
        self.run();
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall = self.now.wall.after(time);
        if self.mesh.poll_timeout().is_some_and(|at| at <= self.now.mono) {
            self.mesh.handle_timeout(self.now);
        }
        self.run();
    }

    pub(crate) fn take_sent(&mut self, link: LinkId) -> Vec<String> {
        self.sent.remove(&link).unwrap_or_default()
    }

    pub(crate) fn run(&mut self) {
        let now = self.now;
        while let Some(output) = self.mesh.poll_output() {
            match output {
                Output::Send { link, text } => {
                    self.sent.entry(link).or_default().push(text.to_string());
                    if !self.stuck.contains(&link) {
                        self.mesh.written(link, text.len(), now);
                    }
                }
                Output::Pause { link } => assert!(self.paused.insert(link)),
                Output::Resume { link } => assert!(self.paused.remove(&link)),
                Output::Close { link, why } => {
                    self.closed.insert(link, why);
                }
                Output::Append { ticket, entries } => {
                    let outcomes = self.log.append(&entries);
                    self.mesh.stored(ticket, outcomes, now);
                }
                Output::ReadPage {
                    ticket,
                    channel,
                    after,
                    limit,
                    max_bytes,
                } => {
                    let page = self.log.page(&channel, &after, limit, max_bytes);
                    self.mesh.page(ticket, page, now);
                }
                Output::LoadCursor {
                    ticket,
                    peer,
                    origin,
                    channel,
                } => {
                    let cursor = self.log.cursors.get(&(peer, origin, channel)).cloned();
                    self.mesh.cursor_loaded(ticket, cursor, now);
                }
                Output::SaveCursor {
                    peer,
                    origin,
                    channel,
                    cursor,
                } => {
                    self.log.cursors.insert((peer, origin, channel), cursor);
                }
                Output::RememberKey { name, key } => {
                    self.keys.insert(name.to_string(), key);
                }
                Output::Event(event) => self.events.push(event),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A time as existing peers print it.
pub(crate) fn iso(time: UnixMillis) -> String {
    let sender: PeerName = "anybody".parse().unwrap();
    let message = Message::draft("any".parse().unwrap(), sender, "", None, time, "1").unwrap();
    message.timestamp().to_owned()
}
