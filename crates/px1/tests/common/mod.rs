//! Several exchanges joined by lines that lose nothing, and cards whose "signature" is a checksum.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use clawchat_px1::{BookConfig, Card, Exchange, Message, Output, Visibility};
use clawchat_types::{Locator, Moment, Network, Principal, UnixMillis, UnixSeconds};

pub const START: UnixMillis = UnixMillis(1_767_225_600_000);
/// Seconds of [`START`].
pub const NOW: i64 = 1_767_225_600;

pub fn principal(number: usize) -> Principal {
    let mut hash = [0; 20];
    hash[..8].copy_from_slice(&(number as u64).to_be_bytes());
    Principal::from_hash160(Network::Testnet, hash)
}

pub fn at(seconds: u64) -> Moment {
    Moment {
        wall: UnixMillis(START.0 + seconds * 1000),
        mono: Duration::from_secs(seconds),
    }
}

pub fn locator(number: usize) -> Locator {
    format!("/ip4/192.0.2.{}/tcp/{}", number % 256, 1000 + number % 60_000)
        .parse()
        .unwrap()
}

/// Principal, both times, whether shareable, addresses, and a checksum over all that.
pub fn bytes(number: usize, issued: i64, lasts: i64, shareable: bool, extra: usize) -> Arc<[u8]> {
    let mut bytes = principal(number).to_bytes().to_vec();
    bytes.extend(issued.to_be_bytes());
    bytes.extend((issued + lasts).to_be_bytes());
    bytes.push(u8::from(shareable));
    bytes.extend(vec![0xee; extra]);
    bytes.push(checksum(&bytes));
    bytes.into()
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(1, |sum: u8, byte| sum.wrapping_mul(31) ^ byte)
}

/// What a verifier makes of such a card. `None`: forged, or from the future.
pub fn verify(bytes: &Arc<[u8]>, now: Moment) -> Option<Card> {
    let (check, body) = bytes.split_last()?;
    if checksum(body) != *check || body.len() < 38 {
        return None;
    }
    let number = |range: std::ops::Range<usize>| i64::from_be_bytes(body[range].try_into().unwrap());
    let issued_at = number(21..29);
    (issued_at <= now.wall.seconds().0 + 300).then(|| Card {
        principal: Principal::from_bytes(body[..21].try_into().unwrap()).unwrap(),
        issued_at: UnixSeconds(issued_at),
        expires_at: UnixSeconds(number(29..37)),
        locators: vec![locator(usize::try_from(issued_at).unwrap())],
        peer_id: None,
        shareable: body[37] == 1,
        tellable: body[37] != 0,
        bytes: Arc::clone(bytes),
    })
}

/// A card of a day that others may pass on.
pub fn card(number: usize, issued: i64) -> Arc<Card> {
    Arc::new(verify(&bytes(number, issued, 86_400, true, 0), at(1_000_000)).unwrap())
}

/// A card that may be told to those who ask.
pub fn asked_card(number: usize, issued: i64) -> Arc<Card> {
    let mut bytes = bytes(number, issued, 86_400, false, 0).to_vec();
    bytes.pop();
    bytes[37] = 2;
    bytes.push(checksum(&bytes));
    Arc::new(verify(&bytes.into(), at(0)).unwrap())
}

pub fn private_card(number: usize, issued: i64) -> Arc<Card> {
    Arc::new(verify(&bytes(number, issued, 86_400, false, 0), at(1_000_000)).unwrap())
}

#[derive(Default)]
pub struct Net {
    pub seconds: u64,
    pub peers: BTreeMap<usize, Exchange>,
    pub links: BTreeSet<(usize, usize)>,
    /// Every message delivered.
    pub sent: Vec<(usize, usize, Message)>,
    /// What the machines found, other than cards learned.
    pub found: Vec<(usize, Output)>,
    /// Cards that had to be verified.
    pub verified: usize,
    /// Nobody answers these.
    pub silent: BTreeSet<usize>,
}

impl Net {
    /// So many peers, numbered from 0, with a card of their own.
    pub fn new(count: usize, visibility: Visibility) -> Self {
        let mut net = Self::default();
        for number in 0..count {
            net.add(number, visibility);
        }
        net
    }

    pub fn now(&self) -> Moment {
        at(self.seconds)
    }

    pub fn add(&mut self, number: usize, visibility: Visibility) {
        let mut exchange = Exchange::new(
            principal(number),
            visibility,
            BookConfig::default(),
            number as u64 * 7919 + 1,
        );
        let own = if visibility == Visibility::Public {
            card(number, NOW)
        } else {
            private_card(number, NOW)
        };
        exchange.set_own(Some(own), self.now());
        self.peers.insert(number, exchange);
    }

    pub fn peer(&mut self, number: usize) -> &mut Exchange {
        self.peers.get_mut(&number).unwrap()
    }

    pub fn link(&mut self, a: usize, b: usize) {
        self.links.insert((a, b));
        self.links.insert((b, a));
        let now = self.now();
        self.peer(a).connected(principal(b), true, now);
        self.peer(b).connected(principal(a), true, now);
        self.settle();
    }

    pub fn cut(&mut self, a: usize, b: usize) {
        self.links.remove(&(a, b));
        self.links.remove(&(b, a));
        let now = self.now();
        self.peer(a).disconnected(&principal(b), now);
        self.peer(b).disconnected(&principal(a), now);
        self.settle();
    }

    /// Delivers until nobody has anything to say.
    pub fn settle(&mut self) {
        loop {
            let mut outputs = Vec::new();
            for (number, exchange) in &mut self.peers {
                outputs.extend(std::iter::from_fn(|| exchange.poll_output()).map(|output| (*number, output)));
            }
            if outputs.is_empty() {
                return;
            }
            for (from, output) in outputs {
                match output {
                    Output::Send { to, message } => self.deliver(from, &to, message),
                    Output::Learned { .. } => {}
                    Output::Resolved { .. } | Output::NotFound { .. } => self.found.push((from, output)),
                }
            }
        }
    }

    fn deliver(&mut self, from: usize, to: &Principal, message: Message) {
        let to = (0..).find(|number| principal(*number) == *to).unwrap();
        assert!(
            self.links.contains(&(from, to)),
            "{from} and {to} are not connected"
        );
        self.sent.push((from, to, message.clone()));
        if !self.silent.contains(&to) {
            self.inject(from, to, message);
        }
    }

    /// `to` receives a message of `from`.
    pub fn inject(&mut self, from: usize, to: usize, message: Message) {
        let now = self.now();
        if let Some(batch) = self.peer(to).received(&principal(from), message, now) {
            self.verified += batch.cards().len();
            let good = batch
                .cards()
                .iter()
                .filter_map(|bytes| verify(bytes, now).map(Arc::new))
                .collect();
            self.peer(to).verified(batch, good, now);
        }
    }

    /// Time passes, second by second, with every timer on time.
    pub fn advance(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.seconds += 1;
            let now = self.now();
            for exchange in self.peers.values_mut() {
                if exchange.poll_timeout().is_some_and(|due| due <= now.mono) {
                    exchange.handle_timeout(now);
                }
            }
            self.settle();
        }
    }

    /// When the card was issued that `who` has of `whom`, in seconds after [`NOW`].
    pub fn knows(&self, who: usize, whom: usize) -> Option<i64> {
        let known = self.peers[&who].lookup(&principal(whom), self.now())?;
        Some(known.card.issued_at.0 - NOW)
    }
}
