//! Peers in a seeded network: logs that answer late, lines that break, peers that crash and come back with what their
//! log holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clawchat_identity::NodeKey;
use clawchat_mesh::{
    ChannelId, Checked, FrameLimits, LinkId, Mesh, MeshConfig, MeshEvent, MeshLimits, Message, Origin,
    Output, PageEntry, PeerName, Side, StoredAs, Ticket, receive,
};
use clawchat_testkit::{Happening, Net, SeededRng};
use clawchat_types::{Moment, UnixMillis};

use crate::log::Log;
use crate::old_peer::OldPeer;

/// How long a log takes at most.
const LOG_LATENCY: u64 = 20;

#[derive(Clone, Debug)]
pub(crate) enum Wire {
    Frame(String),
    /// To a node itself; lost when it crashed since.
    Later(u64, Later),
}

#[derive(Clone, Debug)]
pub(crate) enum Later {
    Timeout,
    Append(Ticket, Vec<Checked>),
    Page(Ticket, Option<Vec<PageEntry>>),
    Cursor(Ticket, Option<Box<str>>),
    Written(LinkId, usize),
}

pub(crate) struct Node {
    pub(crate) peer: Peer,
    pub(crate) log: Log,
    key: NodeKey,
    /// How far its clock is ahead, in milliseconds.
    clock: i64,
    /// Its link to another node, and back.
    links: BTreeMap<usize, LinkId>,
    life: u64,
    pub(crate) channels: BTreeSet<ChannelId>,
    pub(crate) keep: Vec<String>,
    /// Messages its readers were told of, each once in a life.
    pub(crate) told: Vec<String>,
    pub(crate) level: usize,
    pub(crate) limits: MeshLimits,
    /// Bytes it is sent and has not read.
    pub(crate) reads: bool,
    unread: usize,
    pub(crate) most_unread: usize,
}

pub(crate) enum Peer {
    Ours(Box<Mesh>),
    Old(OldPeer),
    Down,
}

/// Where a node is met.
fn place(number: usize) -> String {
    format!("192.0.2.{number}")
}

pub(crate) struct World {
    pub(crate) net: Net<Wire>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) random: SeededRng,
    next: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        println!("seed {seed}");
        let ms = Duration::from_millis;
        Self {
            net: Net::new(seed, ms(1)..=ms(40)),
            nodes: Vec::new(),
            random: SeededRng::new(seed ^ 0x5eed),
            next: 0,
        }
    }

    pub(crate) fn add(&mut self, channels: &[&str]) -> usize {
        let number = self.nodes.len();
        let seed = [u8::try_from(number).unwrap() + 1; 32];
        self.nodes.push(Node {
            peer: Peer::Down,
            log: Log::default(),
            key: NodeKey::from_seed(seed),
            clock: 0,
            links: BTreeMap::new(),
            life: 0,
            channels: channels.iter().map(|name| name.parse().unwrap()).collect(),
            keep: Vec::new(),
            told: Vec::new(),
            level: 0,
            limits: MeshLimits::default(),
            reads: true,
            unread: 0,
            most_unread: 0,
        });
        number
    }

    pub(crate) fn add_old(&mut self, channels: &[&str]) -> usize {
        let number = self.add(channels);
        let name = format!("old-{number}");
        self.nodes[number].peer = Peer::Old(OldPeer::new(&name, channels));
        number
    }

    pub(crate) fn set_clock(&mut self, number: usize, ahead: i64) {
        self.nodes[number].clock = ahead;
    }

    pub(crate) fn now(&self, number: usize) -> Moment {
        let now = self.net.now();
        let wall = now.wall.0.saturating_add_signed(self.nodes[number].clock);
        Moment {
            wall: UnixMillis(wall),
            mono: now.mono,
        }
    }

    /// Starts a peer of ours with what its log holds.
    pub(crate) fn start(&mut self, number: usize) {
        let now = self.now(number);
        let seed = self.random.next_u64();
        let node = &mut self.nodes[number];
        let key = node.key.node_id();
        let mut mesh = Mesh::new(
            MeshConfig {
                name: PeerName::of_key(&key),
                key: Some(key),
                store: true,
                relay: true,
                limits: node.limits,
            },
            seed,
        );
        for (channel, records) in &node.log.channels {
            let followed = node.channels.contains(channel);
            mesh.restore(channel.clone(), records.len() as u64, followed, now);
        }
        for channel in &node.channels {
            assert!(mesh.follow(channel.clone(), now));
        }
        mesh.keep(node.keep.clone(), now);
        node.peer = Peer::Ours(Box::new(mesh));
        self.drive(number);
    }

    /// What is not on disk is gone.
    pub(crate) fn crash(&mut self, number: usize) {
        for other in self.net.joined(number) {
            self.cut(number, other);
        }
        let node = &mut self.nodes[number];
        node.peer = Peer::Down;
        node.life += 1;
    }

    /// `a` dials `b`.
    pub(crate) fn join(&mut self, a: usize, b: usize) {
        let is_up = |node: &Node| !matches!(node.peer, Peer::Down);
        if !is_up(&self.nodes[a]) || !is_up(&self.nodes[b]) || !self.net.join(a, b) {
            return;
        }
        for (node, other, side) in [(b, a, Side::Accepted), (a, b, Side::Dialed)] {
            self.next += 1;
            let link = LinkId(self.next);
            self.nodes[node].links.insert(other, link);
            let now = self.now(node);
            match &mut self.nodes[node].peer {
                Peer::Ours(mesh) => mesh.link_opened(link, side, Origin::Place(place(other).into()), now),
                Peer::Old(old) => old.open(other, side),
                Peer::Down => {}
            }
            self.drive(node);
        }
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        if !self.net.part(a, b) {
            return;
        }
        for (node, other) in [(a, b), (b, a)] {
            let now = self.now(node);
            let link = self.nodes[node].links.remove(&other).unwrap();
            match &mut self.nodes[node].peer {
                Peer::Ours(mesh) => mesh.link_closed(link, now),
                Peer::Old(old) => old.close(other),
                Peer::Down => {}
            }
            self.drive(node);
        }
    }

    /// Publishes a signed message; its id if it was taken.
    pub(crate) fn publish(&mut self, number: usize, channel: &str, body: &str) -> Option<String> {
        let now = self.now(number);
        self.next += 1;
        let id = format!("{number}-{}", self.next);
        let node = &mut self.nodes[number];
        match &mut node.peer {
            Peer::Ours(mesh) => {
                let sender = PeerName::of_key(&node.key.node_id());
                let message =
                    Message::draft(channel.parse().unwrap(), sender, body, None, now.wall, &id).unwrap();
                mesh.publish(message.sign(&node.key).unwrap(), now).unwrap();
            }
            Peer::Old(old) => old.publish(&id, channel, body, now.wall),
            Peer::Down => return None,
        }
        self.drive(number);
        Some(id)
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.net.now().mono + time;
        while let Some(happening) = self.net.next(end) {
            match happening {
                Happening::Message { from, to, payload } => self.frame(from, to, payload),
                Happening::Wake { node, payload } => self.later(node, payload),
            }
        }
    }

    fn frame(&mut self, from: usize, to: usize, payload: Wire) {
        let now = self.now(to);
        let Wire::Frame(text) = payload else {
            return;
        };
        let node = &mut self.nodes[to];
        let Some(link) = node.links.get(&from) else {
            return;
        };
        match &mut node.peer {
            Peer::Ours(mesh) => {
                let frame = receive(text.as_bytes(), &FrameLimits::default(), &|_| None, now.wall);
                mesh.received(*link, frame, now);
            }
            Peer::Old(old) => old.frame(from, &text, now.wall),
            Peer::Down => {}
        }
        self.drive(to);
    }

    fn later(&mut self, number: usize, payload: Wire) {
        let now = self.now(number);
        let node = &mut self.nodes[number];
        let (Wire::Later(life, later), Peer::Ours(mesh)) = (payload, &mut node.peer) else {
            return;
        };
        if life != node.life {
            return;
        }
        match later {
            Later::Timeout => {
                if mesh.poll_timeout().is_some_and(|at| at <= now.mono) {
                    mesh.handle_timeout(now);
                }
            }
            Later::Append(ticket, entries) => {
                let outcomes: Vec<StoredAs> = node.log.append(&entries);
                mesh.stored(ticket, outcomes, now);
            }
            Later::Page(ticket, page) => mesh.page(ticket, page, now),
            Later::Cursor(ticket, cursor) => mesh.cursor_loaded(ticket, cursor, now),
            Later::Written(link, bytes) => mesh.written(link, bytes, now),
        }
        self.drive(number);
    }

    fn soon(&mut self, number: usize, later: Later) {
        let pause = Duration::from_millis(1 + self.random.below(LOG_LATENCY));
        let at = self.net.now().mono + pause;
        let life = self.nodes[number].life;
        self.net.wake(number, at, Wire::Later(life, later));
    }

    fn drive(&mut self, number: usize) {
        if let Peer::Old(old) = &mut self.nodes[number].peer {
            for (to, text) in old.take_sent() {
                self.net.send(number, to, Wire::Frame(text));
            }
            return;
        }
        loop {
            let Peer::Ours(mesh) = &mut self.nodes[number].peer else {
                return;
            };
            let Some(output) = mesh.poll_output() else {
                break;
            };
            self.output(number, output);
        }
        if let Peer::Ours(mesh) = &self.nodes[number].peer
            && let Some(at) = mesh.poll_timeout()
        {
            let life = self.nodes[number].life;
            self.net.wake(number, at, Wire::Later(life, Later::Timeout));
        }
    }

    fn output(&mut self, number: usize, output: Output) {
        let links = &self.nodes[number].links;
        let to = |link: LinkId| links.iter().find(|(_, at)| **at == link).map(|(other, _)| *other);
        match output {
            Output::Send { link, text } => {
                let Some(to) = to(link) else {
                    return;
                };
                if self.nodes[to].reads {
                    self.net.send(number, to, Wire::Frame(text.to_string()));
                    self.soon(number, Later::Written(link, text.len()));
                } else {
                    let other = &mut self.nodes[to];
                    other.unread += text.len();
                    other.most_unread = other.most_unread.max(other.unread);
                }
            }
            Output::Pause { .. } | Output::Resume { .. } => {}
            Output::Close { link, why } => panic!("{link:?} closed: {why:?}"),
            Output::Append { ticket, entries } => self.soon(number, Later::Append(ticket, entries)),
            Output::ReadPage {
                ticket,
                channel,
                after,
                limit,
                max_bytes,
            } => {
                let page = self.nodes[number].log.page(&channel, &after, limit, max_bytes);
                self.soon(number, Later::Page(ticket, page));
            }
            Output::LoadCursor {
                ticket,
                peer,
                origin,
                channel,
            } => {
                let cursor = self.nodes[number]
                    .log
                    .cursors
                    .get(&(peer, origin, channel))
                    .cloned();
                self.soon(number, Later::Cursor(ticket, cursor));
            }
            Output::SaveCursor {
                peer,
                origin,
                channel,
                cursor,
            } => {
                self.nodes[number]
                    .log
                    .cursors
                    .insert((peer, origin, channel), cursor);
            }
            Output::RememberKey { .. } => {}
            Output::Event(MeshEvent::Stored { message, .. }) => {
                let id = message.message().id().to_owned();
                self.nodes[number].told.push(id);
            }
            Output::Event(MeshEvent::Level { .. }) => self.nodes[number].level += 1,
            Output::Event(MeshEvent::Refused { why, .. }) => println!("{number}: refused, {why}"),
            Output::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn mesh(&self, number: usize) -> &Mesh {
        match &self.nodes[number].peer {
            Peer::Ours(mesh) => mesh,
            Peer::Old(_) | Peer::Down => panic!("{number} is none of ours or down"),
        }
    }

    /// The ids in a peer's log or store, sorted.
    pub(crate) fn ids(&self, number: usize, channel: &str) -> Vec<String> {
        let node = &self.nodes[number];
        let mut ids = match &node.peer {
            Peer::Old(old) => old.ids(channel),
            Peer::Ours(_) | Peer::Down => node.log.ids(channel),
        };
        ids.sort();
        ids
    }
}
