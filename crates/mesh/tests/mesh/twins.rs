//! Two links between the same two peers, and somebody else who shows the name of one of them.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use clawchat_identity::NodeKey;
use clawchat_mesh::{
    CloseReason, FrameLimits, LinkId, Mesh, MeshConfig, MeshLimits, Message, Origin, Output, PeerName, Side,
    receive,
};
use clawchat_testkit::SeededRng;
use clawchat_types::Moment;

use crate::log::Log;
use crate::one::{NOW, One};

const OURS: &str = r#""relay":true,"store":true,"arrival_order":true"#;

/// A peer whose log answers at once.
struct Peer {
    mesh: Mesh,
    log: Log,
    key: NodeKey,
}

/// A link between the two: what is on its way to each, and whether each still has it.
struct Wire {
    ids: [LinkId; 2],
    under_way: [VecDeque<String>; 2],
    open: [bool; 2],
    /// Messages sent live.
    live: usize,
}

struct Pair {
    peers: [Peer; 2],
    wires: Vec<Wire>,
    now: Moment,
    published: BTreeSet<String>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let now = Moment {
            wall: NOW,
            mono: Duration::from_secs(1000),
        };
        let peer = |number: u8| {
            let key = NodeKey::from_seed([number; 32]);
            let config = MeshConfig {
                name: PeerName::of_key(&key.node_id()),
                key: Some(key.node_id()),
                store: true,
                relay: true,
                limits: MeshLimits::default(),
            };
            let mut mesh = Mesh::new(config, seed ^ u64::from(number));
            assert!(mesh.follow("lobby".parse().unwrap(), now));
            let log = Log::default();
            Peer { mesh, log, key }
        };
        Self {
            peers: [peer(1), peer(2)],
            wires: Vec::new(),
            now,
            published: BTreeSet::new(),
        }
    }

    fn name(&self, side: usize) -> PeerName {
        PeerName::of_key(&self.peers[side].key.node_id())
    }

    /// Opens a link over which the carrier has proven both, or neither.
    fn join(&mut self, proven: bool) -> usize {
        let number = self.wires.len();
        let ids = [LinkId(number as u64 * 2 + 1), LinkId(number as u64 * 2 + 2)];
        self.wires.push(Wire {
            ids,
            under_way: Default::default(),
            open: [true; 2],
            live: 0,
        });
        for (side, opened) in [(1, Side::Accepted), (0, Side::Dialed)] {
            let origin = if proven {
                Origin::Key(self.peers[1 - side].key.node_id())
            } else {
                Origin::Place(format!("192.0.2.{}", 1 - side).into())
            };
            self.peers[side]
                .mesh
                .link_opened(ids[side], opened, origin, self.now);
            self.drive(side);
        }
        number
    }

    /// What is under way is lost. Who hears of it when is another matter.
    fn cut(&mut self, wire: usize) {
        self.wires[wire].under_way.iter_mut().for_each(VecDeque::clear);
    }

    fn notice(&mut self, wire: usize, side: usize) {
        if std::mem::take(&mut self.wires[wire].open[side]) {
            let id = self.wires[wire].ids[side];
            self.peers[side].mesh.link_closed(id, self.now);
            self.drive(side);
        }
    }

    fn publish(&mut self, side: usize) {
        let id = format!("m{}", self.published.len());
        let (name, now) = (self.name(side), self.now);
        let peer = &mut self.peers[side];
        let draft = Message::draft("lobby".parse().unwrap(), name, "said", None, now.wall, &id).unwrap();
        peer.mesh.publish(draft.sign(&peer.key).unwrap(), now).unwrap();
        self.published.insert(id);
        self.drive(side);
    }

    /// Delivers one frame, if there is one.
    fn deliver(&mut self, wire: usize, side: usize) -> bool {
        let Some(text) = self.wires[wire].under_way[side].pop_front() else {
            return false;
        };
        if self.wires[wire].open[side] {
            let frame = receive(text.as_bytes(), &FrameLimits::default(), &|_| None, self.now.wall);
            let id = self.wires[wire].ids[side];
            self.peers[side].mesh.received(id, frame, self.now);
            self.drive(side);
        }
        true
    }

    fn deliver_all(&mut self) {
        loop {
            let mut any = false;
            for wire in 0..self.wires.len() {
                any |= self.deliver(wire, 0) | self.deliver(wire, 1);
            }
            if !any {
                return;
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall = self.now.wall.after(time);
        for side in 0..2 {
            let mesh = &mut self.peers[side].mesh;
            if mesh.poll_timeout().is_some_and(|at| at <= self.now.mono) {
                mesh.handle_timeout(self.now);
            }
            self.drive(side);
        }
    }

    fn drive(&mut self, side: usize) {
        let now = self.now;
        let Peer { mesh, log, .. } = &mut self.peers[side];
        while let Some(output) = mesh.poll_output() {
            match output {
                Output::Send { link, text } => {
                    let wire = self.wires.iter_mut().find(|wire| wire.ids[side] == link).unwrap();
                    wire.live += usize::from(text.starts_with(r#"{"type":"message""#));
                    if wire.open == [true; 2] {
                        wire.under_way[1 - side].push_back(text.to_string());
                    }
                    mesh.written(link, text.len(), now);
                }
                // Frames were under way for too long.
                Output::Close {
                    link,
                    why: CloseReason::NoHandshake,
                } => {
                    let wire = self.wires.iter_mut().find(|wire| wire.ids[side] == link).unwrap();
                    wire.open[side] = false;
                }
                Output::Close { link, why } => panic!("{link:?} closed: {why:?}"),
                Output::Append { ticket, entries } => mesh.stored(ticket, log.append(&entries), now),
                Output::ReadPage {
                    ticket,
                    channel,
                    after,
                    limit,
                    max_bytes,
                } => mesh.page(ticket, log.page(&channel, &after, limit, max_bytes), now),
                Output::LoadCursor {
                    ticket,
                    peer,
                    origin,
                    channel,
                } => {
                    let cursor = log.cursors.get(&(peer, origin, channel)).cloned();
                    mesh.cursor_loaded(ticket, cursor, now);
                }
                Output::SaveCursor {
                    peer,
                    origin,
                    channel,
                    cursor,
                } => {
                    log.cursors.insert((peer, origin, channel), cursor);
                }
                _ => {}
            }
        }
    }

    fn ids(&self, side: usize) -> BTreeSet<String> {
        self.peers[side].log.ids("lobby").into_iter().collect()
    }

    #[track_caller]
    fn assert_level(&self) {
        for side in 0..2 {
            let ids = self.ids(side);
            let missing: Vec<&String> = self.published.difference(&ids).collect();
            assert!(missing.is_empty(), "{side} misses {missing:?}");
            assert_eq!(
                self.peers[side].log.ids("lobby").len(),
                ids.len(),
                "something is there twice"
            );
        }
    }
}

#[test]
fn one_of_two_links_is_fed_and_the_other_goes_on_when_it_ends() {
    for proven_first in [false, true] {
        let mut pair = Pair::new(1);
        let first = pair.join(proven_first);
        pair.deliver_all();
        let second = pair.join(!proven_first);
        pair.deliver_all();
        let (proven, other) = if proven_first {
            (first, second)
        } else {
            (second, first)
        };
        for number in 0..100 {
            pair.publish(number % 2);
            pair.deliver_all();
        }
        assert_eq!((pair.wires[proven].live, pair.wires[other].live), (100, 0));
        pair.assert_level();
        // What is asked for goes over that link as well.
        pair.pass(Duration::from_secs(600));
        pair.deliver_all();

        // These are lost on the way, and nobody waits for a round of asking to get them.
        for number in 0..10 {
            pair.publish(number % 2);
        }
        pair.cut(proven);
        pair.notice(proven, 0);
        pair.publish(0);
        pair.deliver_all();
        pair.publish(1);
        pair.notice(proven, 1);
        pair.deliver_all();
        pair.assert_level();
        pair.publish(0);
        pair.publish(1);
        pair.deliver_all();
        pair.assert_level();
    }
}

#[test]
fn nothing_is_lost_however_links_come_and_go() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut random = SeededRng::new(seed);
        let mut pair = Pair::new(seed);
        let mut plain = pair.join(false);
        let mut proven: Option<usize> = None;
        let mut dead: Vec<(usize, usize)> = Vec::new();
        for _ in 0..1500 {
            match random.below(100) {
                0..=14 => pair.publish(random.below(2) as usize),
                15..=16 if proven.is_none() => proven = Some(pair.join(true)),
                17 => {
                    if let Some(wire) = proven.take() {
                        pair.cut(wire);
                        dead.extend([(wire, 0), (wire, 1)]);
                    }
                }
                18 if random.one_in(4) => {
                    pair.cut(plain);
                    dead.extend([(plain, 0), (plain, 1)]);
                    plain = pair.join(false);
                }
                19..=22 if !dead.is_empty() => {
                    let (wire, side) = dead.swap_remove(random.below(dead.len() as u64) as usize);
                    pair.notice(wire, side);
                }
                23..=25 => pair.pass(Duration::from_millis(random.below(3000))),
                _ => {
                    let wire = random.below(pair.wires.len() as u64) as usize;
                    pair.deliver(wire, random.below(2) as usize);
                }
            }
            let broke = |pair: &Pair, wire: usize| pair.wires[wire].open != [true; 2];
            if broke(&pair, plain) {
                dead.extend([(plain, 0), (plain, 1)]);
                plain = pair.join(false);
            }
            if let Some(wire) = proven.take_if(|wire| broke(&pair, *wire)) {
                dead.extend([(wire, 0), (wire, 1)]);
            }
            // Nothing goes through a line that was cut.
            for wire in dead.iter().map(|(wire, _)| *wire).collect::<Vec<_>>() {
                pair.cut(wire);
            }
        }
        for (wire, side) in dead {
            pair.notice(wire, side);
        }
        for _ in 0..60 {
            pair.deliver_all();
            pair.pass(Duration::from_secs(10));
        }
        pair.deliver_all();
        pair.assert_level();
    }
}

fn handshake(name: &PeerName) -> String {
    format!(r#"{{"type":"handshake","version":1,"peer_id":"{name}","capabilities":{{{OURS}}}}}"#)
}

const SUBSCRIBE: &str = r#"{"type":"subscribe","channel_id":"lobby"}"#;

fn live(one: &mut One, link: LinkId) -> usize {
    let sent = one.take_sent(link);
    sent.iter()
        .filter(|text| text.starts_with(r#"{"type":"message""#))
        .count()
}

fn said(one: &mut One, id: &str) {
    let name = "me".parse().unwrap();
    let draft = Message::draft("lobby".parse().unwrap(), name, "said", None, one.now.wall, id).unwrap();
    let message = draft.sign(&NodeKey::from_seed([9; 32])).unwrap();
    one.mesh.publish(message, one.now).unwrap();
    one.run();
}

#[test]
fn an_impostor_silences_nobody() {
    let key = NodeKey::from_seed([3; 32]).node_id();
    let name = PeerName::of_key(&key);
    let mut one = One::opaque();
    one.follow("lobby");
    // Two who show one name, neither proven: both are fed, whoever came first.
    let links = [1, 2].map(|number| {
        let link = one.open(number, Side::Accepted);
        one.get(link, &handshake(&name));
        one.get(link, SUBSCRIBE);
        link
    });
    said(&mut one, "a");
    assert_eq!(links.map(|link| live(&mut one, link)), [1, 1]);
    // The real one comes over a link that proves it: now the others wait.
    let real = one.open_at(3, Side::Accepted, Origin::Key(key));
    one.get(real, &handshake(&name));
    one.get(real, SUBSCRIBE);
    said(&mut one, "b");
    assert_eq!(live(&mut one, real), 1);
    assert_eq!(links.map(|link| live(&mut one, link)), [0, 0]);
    // Once more over such a link: the older one stays.
    let second = one.open_at(4, Side::Dialed, Origin::Key(key));
    one.get(second, &handshake(&name));
    one.get(second, SUBSCRIBE);
    said(&mut one, "c");
    assert_eq!((live(&mut one, real), live(&mut one, second)), (1, 0));
    one.mesh.link_closed(real, one.now);
    one.run();
    said(&mut one, "d");
    assert_eq!(live(&mut one, second), 1);
    assert_eq!(links.map(|link| live(&mut one, link)), [0, 0]);
    // One that follows something else there is fed here.
    one.get(second, r#"{"type":"unsubscribe","channel_id":"lobby"}"#);
    said(&mut one, "e");
    assert_eq!(links.map(|link| live(&mut one, link)), [1, 1]);

    // Over such a link nobody can show another name.
    let other = one.open_at(
        5,
        Side::Accepted,
        Origin::Key(NodeKey::from_seed([4; 32]).node_id()),
    );
    one.get(other, &handshake(&name));
    assert_eq!(one.closed.get(&other), Some(&CloseReason::Unauthorized));
}

/// Behind which message a link was asked.
fn asked(one: &mut One, link: LinkId) -> Vec<String> {
    let sent = one.take_sent(link);
    let after = |text: &String| {
        let (_, rest) = text.split_once("\"after_message_id\":")?;
        Some(rest.split_once(',')?.0.trim_matches('"').to_owned())
    };
    sent.iter().filter_map(after).collect()
}

#[test]
fn an_impostor_does_not_spoil_the_place_of_the_real_one() {
    let key = NodeKey::from_seed([3; 32]);
    let name = PeerName::of_key(&key.node_id());
    let message = |number: u32| {
        let id = format!("m{number}");
        let draft = Message::draft("lobby".parse().unwrap(), name.clone(), "said", None, NOW, &id).unwrap();
        draft.sign(&key).unwrap().text().to_string()
    };
    let page = |numbers: std::ops::Range<u32>, more: bool| {
        let texts: Vec<String> = numbers.map(message).collect();
        let texts = texts.join(",");
        format!(r#"{{"type":"sync_response","channel_id":"lobby","messages":[{texts}],"more":{more}}}"#)
    };
    for proven in [false, true] {
        let mut one = One::opaque();
        one.follow("lobby");
        let home = if proven {
            Origin::Key(key.node_id())
        } else {
            Origin::Place("192.0.2.1".into())
        };
        let meet = |one: &mut One, number: u64, origin: &Origin| {
            let link = one.open_at(number, Side::Accepted, origin.clone());
            one.get(link, &handshake(&name));
            link
        };
        let real = meet(&mut one, 1, &home);
        assert_eq!(asked(&mut one, real), ["null"]);
        one.get(real, &page(0..3, false));
        one.mesh.link_closed(real, one.now);
        one.run();

        // While it is away, it goes on to say m3 to m9. Somebody who heard m9 shows its name, passes m9 on, and says
        // that this is all; and tells so unasked, too.
        let impostor = meet(&mut one, 2, &Origin::Place("198.51.100.7".into()));
        assert_eq!(asked(&mut one, impostor), ["null"]);
        one.get(impostor, &page(9..10, false));
        let mark = r#"{"type":"sync_response","channel_id":"lobby","messages":[],"more":false,"last":"m9"}"#;
        one.get(impostor, mark);
        one.mesh.link_closed(impostor, one.now);
        one.run();

        let real = meet(&mut one, 3, &home);
        assert_eq!(asked(&mut one, real), ["m2"], "from where the real one stood");
        one.get(real, &page(3..10, false));
        let mut ids = one.log.ids("lobby");
        ids.sort();
        assert_eq!(ids.len(), 10, "{ids:?}");
        // From a place where it was never met it is asked for everything, which costs duplicates and loses nothing.
        one.mesh.link_closed(real, one.now);
        one.run();
        let elsewhere = meet(&mut one, 4, &Origin::Place("203.0.113.5".into()));
        assert_eq!(asked(&mut one, elsewhere), ["null"]);
    }
}
