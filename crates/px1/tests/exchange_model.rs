//! The exchange under anything peers and operators may do: what always holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clawchat_px1::{
    BookConfig, Exchange, MAX_CARD_BYTES_PER_MESSAGE, MAX_CARDS_PER_MESSAGE, Message, Output, Visibility,
};
use clawchat_types::{Moment, Principal};
use common::{NOW, at, bytes, card, principal, private_card, verify};
use proptest::prelude::*;

const ME: usize = 0;

#[derive(Clone, Debug)]
enum Step {
    Connected(usize, bool),
    Disconnected(usize),
    Ask {
        peer: usize,
        about: usize,
        max: u8,
    },
    Push {
        peer: usize,
        cards: Vec<Arc<[u8]>>,
    },
    /// Answers the question numbered so, or one that was never asked.
    Answer {
        peer: usize,
        id: u64,
        cards: Vec<Arc<[u8]>>,
    },
    Resolve(usize),
    Learn(usize, bool),
    Own(i64),
    Policy(Visibility, bool),
    Wait(u64),
}

fn cards() -> impl Strategy<Value = Vec<Arc<[u8]>>> {
    let one = (
        0..12_usize,
        0..100_i64,
        any::<bool>(),
        prop_oneof![Just(0_usize), Just(15_000)],
        0..8_u8,
    )
        .prop_map(|(number, issued, shareable, extra, damage)| {
            let mut card = bytes(number, NOW + issued, 400, shareable, extra).to_vec();
            card[30] ^= u8::from(damage == 0);
            Arc::from(card)
        });
    prop::collection::vec(one, 0..12)
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 1..8_usize;
    let visibility = prop::sample::select(vec![Visibility::Public, Visibility::Private, Visibility::Stealth]);
    prop_oneof![
        4 => (peer.clone(), any::<bool>()).prop_map(|(peer, admitted)| Step::Connected(peer, admitted)),
        2 => peer.clone().prop_map(Step::Disconnected),
        3 => (peer.clone(), 0..12_usize, any::<u8>()).prop_map(|(peer, about, max)| Step::Ask { peer, about, max }),
        4 => (peer.clone(), cards()).prop_map(|(peer, cards)| Step::Push { peer, cards }),
        4 => (peer, 0..40_u64, cards()).prop_map(|(peer, id, cards)| Step::Answer { peer, id, cards }),
        3 => (0..12_usize).prop_map(Step::Resolve),
        2 => (1..12_usize, any::<bool>()).prop_map(|(number, shareable)| Step::Learn(number, shareable)),
        1 => (0..100_i64).prop_map(Step::Own),
        1 => (visibility, any::<bool>()).prop_map(|(visibility, on)| Step::Policy(visibility, on)),
        3 => (0..20_u64).prop_map(Step::Wait),
    ]
}

struct World {
    exchange: Exchange,
    connected: BTreeMap<usize, bool>,
    visibility: Visibility,
    enabled: bool,
    seconds: u64,
    /// Searches under way.
    searching: BTreeSet<Principal>,
    own: Arc<[u8]>,
}

impl World {
    fn now(&self) -> Moment {
        at(self.seconds)
    }

    fn receive(&mut self, peer: usize, message: Message) {
        let now = self.now();
        if let Some(batch) = self.exchange.received(&principal(peer), message, now) {
            let good = batch
                .cards()
                .iter()
                .filter_map(|bytes| verify(bytes, now).map(Arc::new))
                .collect();
            self.exchange.verified(batch, good, now);
        }
    }

    fn take(&mut self, step: Step) {
        let now = self.now();
        match step {
            Step::Connected(peer, admitted) => {
                self.connected.insert(peer, admitted);
                self.exchange.connected(principal(peer), admitted, now);
            }
            Step::Disconnected(peer) => {
                self.connected.remove(&peer);
                self.exchange.disconnected(&principal(peer), now);
            }
            Step::Ask { peer, about, max } => {
                self.receive(
                    peer,
                    Message::Resolve {
                        id: 9,
                        principal: principal(about),
                        max,
                    },
                );
            }
            Step::Push { peer, cards } => self.receive(peer, Message::Push { cards }),
            Step::Answer { peer, id, cards } => self.receive(peer, Message::Found { id, cards }),
            Step::Resolve(about) => {
                self.searching.insert(principal(about));
                self.exchange.resolve(principal(about), now);
            }
            Step::Learn(number, shareable) => {
                let card = if shareable {
                    card(number, NOW)
                } else {
                    private_card(number, NOW)
                };
                self.exchange.learn(card, now);
            }
            Step::Own(issued) => {
                let own = card(ME, NOW + issued);
                self.own = Arc::clone(&own.bytes);
                self.exchange.set_own(Some(own), now);
            }
            Step::Policy(visibility, enabled) => {
                (self.visibility, self.enabled) = (visibility, enabled);
                self.exchange.set_policy(visibility, enabled, now);
            }
            Step::Wait(seconds) => {
                self.seconds += seconds;
                let now = self.now();
                if self.exchange.poll_timeout().is_some_and(|due| due <= now.mono) {
                    self.exchange.handle_timeout(now);
                    prop_assert_after(&self.exchange, now);
                }
            }
        }
    }

    fn check_outputs(&mut self, last: &Step) -> Result<(), TestCaseError> {
        while let Some(output) = self.exchange.poll_output() {
            match output {
                Output::Send { to, message } => {
                    let peer = self.connected.iter().find(|(peer, _)| principal(**peer) == to);
                    let (_, admitted) = peer.ok_or_else(|| TestCaseError::fail("sent to nobody"))?;
                    prop_assert!(self.enabled, "said something while switched off");
                    self.check_message(*admitted, &message, last)?;
                }
                Output::Resolved { card } => {
                    prop_assert!(
                        self.searching.remove(&card.principal),
                        "found what nobody looked for"
                    );
                }
                Output::NotFound { principal } => {
                    prop_assert!(self.searching.remove(&principal), "missed what nobody looked for");
                }
                Output::Learned { card } => prop_assert_ne!(card.principal, principal(ME)),
            }
        }
        Ok(())
    }

    fn check_message(&self, admitted: bool, message: &Message, last: &Step) -> Result<(), TestCaseError> {
        let (cards, unasked) = match message {
            Message::Resolve { .. } => return Ok(()),
            Message::Found { cards, .. } => (cards, false),
            Message::Push { cards } => (cards, true),
        };
        prop_assert!(!unasked || !cards.is_empty());
        prop_assert!(cards.len() <= MAX_CARDS_PER_MESSAGE);
        prop_assert!(cards.iter().map(|card| card.len()).sum::<usize>() <= MAX_CARD_BYTES_PER_MESSAGE);
        for bytes in cards {
            if *bytes == self.own {
                let public = self.visibility == Visibility::Public;
                prop_assert!(public || (admitted && !unasked), "{last:?}");
            } else {
                let card = verify(bytes, self.now()).expect("nothing forged is passed on");
                prop_assert!(
                    card.shareable && admitted && card.is_current(self.now()),
                    "{last:?}"
                );
            }
        }
        Ok(())
    }
}

/// A timer that was served is not due again at once, so that nobody spins.
fn prop_assert_after(exchange: &Exchange, now: Moment) {
    assert!(
        exchange.poll_timeout().is_none_or(|due| due > now.mono),
        "a timer that stays due"
    );
}

proptest! {
    #[test]
    fn whatever_happens_nothing_is_told_to_whom_it_is_not_for(steps in prop::collection::vec(step(), 1..120), seed in any::<u64>()) {
        let own = card(ME, NOW);
        let mut world = World {
            exchange: Exchange::new(principal(ME), Visibility::Public, BookConfig::default(), seed),
            connected: BTreeMap::new(),
            visibility: Visibility::Public,
            enabled: true,
            seconds: 0,
            searching: BTreeSet::new(),
            own: Arc::clone(&own.bytes),
        };
        world.exchange.set_own(Some(own), at(0));
        for step in steps {
            world.take(step.clone());
            world.check_outputs(&step)?;
        }
        // Every search ends.
        world.take(Step::Wait(6));
        world.check_outputs(&Step::Wait(6))?;
        prop_assert!(world.searching.is_empty());
    }
}
