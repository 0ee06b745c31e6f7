//! The simulated world: who is online where, who is connected to whom, and what happens next.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use clawchat_px1::{BookConfig, CARD_OVERHEAD_BYTES, Card, Message, Output};
use clawchat_testkit::{Happening, Net, SeededRng};
use clawchat_types::{Locator, Principal, UnixSeconds};

use super::Px1;
use super::cards::{Cards, Holder};
use super::figures::Window;
use super::peer::Peer;

/// Time a message takes.
const LATENCY: std::ops::RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_millis(150);
/// Messages one way that it takes to set up a session.
const HANDSHAKE: u32 = 6;
/// How often a peer looks whether a contact should be dialed.
const CHECK: Duration = Duration::from_secs(5);
/// Time within which a search must have found the way.
const PATIENCE: Duration = clawchat_px1::RESOLVE_WITHIN;
/// Peers come online spread over this time at the start.
const START_UP: Duration = Duration::from_secs(5);
/// How long a peer stays away, in milliseconds.
const AWAY_MILLIS: std::ops::Range<u64> = 10_000..60_000;
/// Bytes of a message beside its cards, roughly.
const MESSAGE_BYTES: usize = 70;

/// What travels, or wakes somebody up.
enum Packet {
    Px1(Message),
    /// The machine's timer.
    Timer,
    Check {
        life: u64,
    },
    ComeOnline,
    Dialed {
        life: u64,
        to: usize,
        locator: Locator,
    },
    /// Somebody leaves.
    Churn,
    /// A search begins.
    Search,
    /// Did this search succeed?
    Judge {
        life: u64,
        target: usize,
        target_life: u64,
        at_once: bool,
    },
}

pub(super) struct World {
    net: Net<Packet>,
    random: SeededRng,
    config: BookConfig,
    peers: Vec<Peer>,
    numbers: HashMap<Principal, usize>,
    cards: Cards,
    /// Who can be reached where.
    addresses: HashMap<Locator, usize>,
    next_address: u32,
    churn_every: Option<Duration>,
    search_every: Option<Duration>,
    window: Window,
}

impl World {
    pub(super) fn new(options: &Px1, config: BookConfig) -> Self {
        let every = |in_a_minute: u64| {
            Some(Duration::from_secs(60))
                .filter(|_| in_a_minute > 0)
                .map(|minute| minute.div_f64(in_a_minute as f64))
        };
        let count = options.peers;
        let mut world = Self {
            net: Net::new(options.seed, LATENCY),
            random: SeededRng::new(options.seed ^ 0x5eed),
            config,
            peers: Vec::with_capacity(count),
            numbers: HashMap::new(),
            cards: Cards::default(),
            addresses: HashMap::new(),
            next_address: 0,
            churn_every: every(count as u64 * options.churn / 100),
            search_every: every(options.searches * 60),
            window: Window::default(),
        };
        for number in 0..count {
            world.add_peer(number);
        }
        if options.warm {
            world.know_everybody();
        }
        for number in 0..count {
            world.choose_contacts(number, options.contacts.min(count - 1));
            let at = Duration::from_micros(world.random.below(START_UP.as_micros() as u64));
            world.net.wake(number, at, Packet::ComeOnline);
        }
        for (every, packet) in [
            (world.churn_every, Packet::Churn),
            (world.search_every, Packet::Search),
        ] {
            if let Some(every) = every {
                world.net.wake(0, START_UP + every, packet);
            }
        }
        world
    }

    /// Lets time pass and tells what happened.
    pub(super) fn run_for(&mut self, duration: Duration) -> Window {
        self.window.from = self.net.now().mono;
        let end = self.window.from + duration;
        while let Some(happening) = self.net.next(end) {
            match happening {
                Happening::Message { from, to, payload } => self.arrive(from, to, payload),
                Happening::Wake { node, payload } => self.wake(node, payload),
            }
        }
        let mut window = std::mem::take(&mut self.window);
        let online = || self.peers.iter().filter(|peer| peer.online);
        window.online = online().count();
        let each = |sum: usize| sum as f64 / window.online.max(1) as f64;
        window.book_cards = each(online().map(|peer| peer.exchange.book().len()).sum());
        window.book_bytes = each(online().map(|peer| peer.exchange.book().memory()).sum());
        window.links = each(
            (0..self.peers.len())
                .map(|number| self.net.joined(number).len())
                .sum(),
        );
        window.sent = self
            .peers
            .iter_mut()
            .map(|peer| std::mem::take(&mut peer.sent))
            .collect();
        window
    }

    fn add_peer(&mut self, number: usize) {
        let now = self.net.now().wall.seconds();
        let holder = Holder::new(number, now);
        let locator = self.new_address();
        // Issued with an address before the beginning, as in an invite that is a while old.
        let issued = self.cards.issue(&holder, locator.clone(), now);
        let Ok(card) = issued else {
            return;
        };
        self.numbers.insert(holder.principal(), number);
        let seed = self.random.next_u64();
        self.peers
            .push(Peer::new(holder, card, locator, self.config, seed));
    }

    /// Invites: this peer has the cards of a few others.
    fn choose_contacts(&mut self, number: usize, count: usize) {
        let now = self.net.now();
        while self.peers[number].contacts.len() < count {
            let other = self.someone();
            if other != number {
                self.peers[number].befriend(other);
                let card = Arc::clone(&self.peers[other].card);
                self.peers[number].exchange.learn(card, now);
            }
        }
    }

    /// As after a long time together: every book holds what it has room for.
    fn know_everybody(&mut self) {
        let now = self.net.now();
        let cards: Vec<Arc<Card>> = self.peers.iter().map(|peer| Arc::clone(&peer.card)).collect();
        for peer in &mut self.peers {
            for card in &cards {
                peer.exchange.learn(Arc::clone(card), now);
                while peer.exchange.poll_output().is_some() {}
            }
        }
    }

    fn new_address(&mut self) -> Locator {
        self.next_address += 1;
        let [a, b, c, d] = (0x0b00_0000 + self.next_address).to_be_bytes();
        let text = format!("/ip4/{a}.{b}.{c}.{d}/udp/9000/quic-v1");
        #[expect(clippy::expect_used, reason = "four numbers and a port are an address")]
        text.parse().expect("an address")
    }

    fn someone(&mut self) -> usize {
        let count = if self.peers.is_empty() {
            1
        } else {
            self.peers.len()
        };
        usize::try_from(self.random.below(count as u64)).unwrap_or_default()
    }

    fn someone_online(&mut self) -> Option<usize> {
        for _ in 0..1000 {
            let number = self.someone();
            if self.peers[number].online {
                return Some(number);
            }
        }
        None
    }

    fn arrive(&mut self, from: usize, to: usize, packet: Packet) {
        let Packet::Px1(message) = packet else {
            return;
        };
        let (now, sender) = (self.net.now(), self.peers[from].principal());
        let exchange = &mut self.peers[to].exchange;
        if let Some(batch) = exchange.received(&sender, message, now) {
            self.window.verified += batch.cards().len() as u64;
            let good = batch
                .cards()
                .iter()
                .filter_map(|bytes| self.cards.verify(bytes))
                .collect();
            exchange.verified(batch, good, now);
        }
        self.drain(to);
    }

    fn wake(&mut self, node: usize, packet: Packet) {
        let now = self.net.now();
        match packet {
            Packet::Px1(_) => {}
            Packet::Timer => {
                let peer = &mut self.peers[node];
                if peer.online && peer.timer.is_some_and(|timer| timer <= now.mono) {
                    peer.timer = None;
                    peer.exchange.handle_timeout(now);
                    self.drain(node);
                }
            }
            Packet::Check { life } => {
                if self.peers[node].online && self.peers[node].life == life {
                    self.check(node);
                    self.net.wake(node, now.mono + CHECK, Packet::Check { life });
                }
            }
            Packet::ComeOnline => self.come_online(node),
            Packet::Dialed { life, to, locator } => {
                if self.peers[node].online && self.peers[node].life == life {
                    self.dialed(node, to, &locator);
                }
            }
            Packet::Churn => {
                if let Some(number) = self.someone_online() {
                    self.leave(number);
                }
                if let Some(every) = self.churn_every {
                    self.net.wake(0, now.mono + every, Packet::Churn);
                }
            }
            Packet::Search => {
                self.search();
                if let Some(every) = self.search_every {
                    self.net.wake(0, now.mono + every, Packet::Search);
                }
            }
            Packet::Judge {
                life,
                target,
                target_life,
                at_once,
            } => {
                let there = self.peers[target].online && self.peers[target].life == target_life;
                if there && self.peers[node].online && self.peers[node].life == life {
                    self.window.searches += 1;
                    self.window.at_once += u64::from(at_once);
                    self.window.resolved += u64::from(self.knows_the_way(node, target));
                }
            }
        }
    }

    fn come_online(&mut self, number: usize) {
        let now = self.net.now();
        let peer = &mut self.peers[number];
        peer.online = true;
        peer.life += 1;
        let life = peer.life;
        self.addresses.insert(peer.locator.clone(), number);
        peer.exchange.set_own(Some(Arc::clone(&peer.card)), now);
        self.net.wake(number, now.mono, Packet::Check { life });
    }

    /// Without a word, as when the power fails. Of all it knew, the addresses of its contacts are on the disk.
    fn leave(&mut self, number: usize) {
        let now = self.net.now();
        let me = self.peers[number].principal();
        for other in self.net.joined(number) {
            self.net.part(number, other);
            self.peers[other].exchange.disconnected(&me, now);
            self.drain(other);
        }
        self.addresses.remove(&self.peers[number].locator);
        let kept: Vec<Arc<Card>> = self.peers[number]
            .contacts
            .keys()
            .filter_map(|contact| {
                let known = self.peers[number]
                    .exchange
                    .lookup(&self.peers[*contact].principal(), now);
                known.map(|known| Arc::clone(&known.card))
            })
            .collect();
        let (locator, seed) = (self.new_address(), self.random.next_u64());
        let away = AWAY_MILLIS.start + self.random.below(AWAY_MILLIS.end - AWAY_MILLIS.start);
        let back = now.mono + Duration::from_millis(away);
        let peer = &mut self.peers[number];
        peer.online = false;
        peer.restart(self.config, seed);
        for card in kept {
            peer.exchange.learn(card, now);
        }
        while peer.exchange.poll_output().is_some() {}
        let issued = UnixSeconds(now.wall.seconds().0 + i64::try_from(away / 1000).unwrap_or_default());
        if let Ok(card) = self.cards.issue(&peer.holder, locator.clone(), issued) {
            peer.card = card;
            peer.locator = locator;
        }
        self.net.wake(number, back, Packet::ComeOnline);
    }

    /// Dials contacts that are due.
    fn check(&mut self, number: usize) {
        let now = self.net.now();
        let due: Vec<usize> = self.peers[number]
            .contacts
            .iter()
            .filter(|(contact, backoff)| backoff.is_due(now.wall) && !self.net.is_joined(number, **contact))
            .map(|(contact, _)| *contact)
            .collect();
        for contact in due {
            self.dial(number, contact);
        }
        self.drain(number);
    }

    /// Dials a contact where its card says, or searches for it when there is none.
    fn dial(&mut self, number: usize, to: usize) {
        let now = self.net.now();
        let wanted = self.peers[to].principal();
        let peer = &mut self.peers[number];
        if peer.dialing.contains(&to) {
            return;
        }
        let known = peer
            .exchange
            .lookup(&wanted, now)
            .and_then(|known| known.card.locators.first().cloned());
        let Some(locator) = known else {
            peer.exchange.resolve(wanted, now);
            return;
        };
        if peer.guard.admit(&wanted, &locator, now).is_ok() {
            peer.dialing.insert(to);
            let life = peer.life;
            let at = now.mono + self.net.latency() * HANDSHAKE;
            self.net.wake(number, at, Packet::Dialed { life, to, locator });
        }
    }

    fn dialed(&mut self, number: usize, to: usize, locator: &Locator) {
        let now = self.net.now();
        let (me, wanted) = (self.peers[number].principal(), self.peers[to].principal());
        let answered = self.addresses.get(locator) == Some(&to);
        let random = self.random.next_u64();
        let peer = &mut self.peers[number];
        peer.dialing.remove(&to);
        let backoff = peer.contacts.entry(to).or_default();
        if !answered {
            let searches = backoff.searches();
            backoff.after_failure(now.wall, random);
            peer.guard.failed(&wanted, locator, now);
            if searches {
                peer.exchange.resolve(wanted, now);
            }
            self.drain(number);
            return;
        }
        backoff.reset();
        peer.guard.succeeded(&wanted, locator, now);
        if self.net.join(number, to) {
            self.peers[to].befriend(number);
            for (here, there) in [(number, wanted), (to, me)] {
                let admitted = self.peers[here].admits(&there);
                self.peers[here].exchange.connected(there, admitted, now);
            }
            self.drain(to);
            self.drain(number);
        }
    }

    /// Somebody looks for somebody.
    fn search(&mut self) {
        let (Some(asker), Some(target)) = (self.someone_online(), self.someone_online()) else {
            return;
        };
        if asker == target {
            return;
        }
        let (now, wanted) = (self.net.now(), self.peers[target].principal());
        let (life, target_life) = (self.peers[asker].life, self.peers[target].life);
        let at_once = self.knows_the_way(asker, target);
        if !at_once {
            self.peers[asker].exchange.resolve(wanted, now);
        }
        self.net.wake(
            asker,
            now.mono + PATIENCE,
            Packet::Judge {
                life,
                target,
                target_life,
                at_once,
            },
        );
        self.drain(asker);
    }

    /// Whether the card that `asker` has leads to `target`.
    fn knows_the_way(&self, asker: usize, target: usize) -> bool {
        let known = self.peers[asker]
            .exchange
            .lookup(&self.peers[target].principal(), self.net.now());
        known.is_some_and(|known| known.card.locators.contains(&self.peers[target].locator))
    }

    /// Does what a machine wants done.
    fn drain(&mut self, number: usize) {
        let now = self.net.now();
        while let Some(output) = self.peers[number].exchange.poll_output() {
            match output {
                Output::Send { to, message } => self.send(number, &to, message),
                Output::Learned { card } | Output::Resolved { card } => {
                    let Some(contact) = self.numbers.get(&card.principal).copied() else {
                        continue;
                    };
                    if self.peers[number].contacts.contains_key(&contact)
                        && !self.net.is_joined(number, contact)
                    {
                        self.dial(number, contact);
                    }
                }
                Output::NotFound { .. } => {}
            }
        }
        let peer = &mut self.peers[number];
        let due = peer.exchange.poll_timeout();
        if let Some(due) = due.filter(|due| peer.timer.is_none_or(|timer| *due < timer)) {
            peer.timer = Some(due.max(now.mono));
            self.net.wake(number, due, Packet::Timer);
        }
    }

    fn send(&mut self, from: usize, to: &Principal, message: Message) {
        let cards = match &message {
            Message::Resolve { .. } => {
                self.window.questions += 1;
                &[][..]
            }
            Message::Found { cards, .. } => {
                self.window.answers += 1;
                cards
            }
            Message::Push { cards } => {
                self.window.pushes += 1;
                cards
            }
        };
        let bytes: usize = cards.iter().map(|card| card.len() + CARD_OVERHEAD_BYTES).sum();
        self.window.bytes += (MESSAGE_BYTES + bytes) as u64;
        self.peers[from].sent += 1;
        if let Some(to) = self.numbers.get(to) {
            self.net.send(from, *to, Packet::Px1(message));
        }
    }
}
