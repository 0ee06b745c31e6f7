//! What peers with bad intentions can do to the exchange: nothing that costs others anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use clawchat_px1::{
    Card, FORWARD_FANOUT, MAX_BOOK_BYTES, MAX_CARDS_PER_MESSAGE, MAX_CARDS_PER_SOURCE, Message, Output,
    QUESTIONS_BURST, Visibility,
};
use clawchat_types::UnixSeconds;
use common::{NOW, Net, bytes, card, principal, private_card};

const MALLORY: usize = 66;

/// Peer 0 with an honest neighbour 1 and Mallory.
fn net() -> Net {
    let mut net = Net::new(2, Visibility::Public);
    net.add(MALLORY, Visibility::Private);
    net.link(0, 1);
    net.link(0, MALLORY);
    net.advance(60);
    net.sent.clear();
    net
}

fn push(cards: impl IntoIterator<Item = Arc<[u8]>>) -> Message {
    Message::Push {
        cards: cards.into_iter().collect(),
    }
}

fn question(id: u64, about: usize) -> Message {
    Message::Resolve {
        id,
        principal: principal(about),
        max: 1,
    }
}

fn answers_to(net: &Net, whom: usize) -> usize {
    let found = |message: &Message| matches!(message, Message::Found { .. });
    net.sent
        .iter()
        .filter(|(_, to, message)| *to == whom && found(message))
        .count()
}

#[test]
fn a_flood_of_questions_is_not_answered_and_does_not_touch_others() {
    let mut net = net();
    for id in 0..10_000 {
        net.inject(MALLORY, 0, question(id, 0));
    }
    net.inject(1, 0, question(1, 0));
    net.settle();
    assert_eq!(answers_to(&net, MALLORY), QUESTIONS_BURST as usize);
    assert_eq!(answers_to(&net, 1), 1);
    let counters = net.peers[&0].counters();
    assert_eq!(counters.questions_limited, 10_000 - u64::from(QUESTIONS_BURST));
    // Leaving and coming back gives nothing new; time does.
    net.cut(0, MALLORY);
    net.link(0, MALLORY);
    net.inject(MALLORY, 0, question(1, 0));
    net.settle();
    assert_eq!(answers_to(&net, MALLORY), QUESTIONS_BURST as usize);
    net.advance(2);
    net.inject(MALLORY, 0, question(2, 0));
    net.settle();
    assert_eq!(answers_to(&net, MALLORY), QUESTIONS_BURST as usize + 1);
}

#[test]
fn a_flood_of_pushes_costs_a_bounded_number_of_verifications() {
    let mut net = net();
    let before = net.verified;
    for round in 0..1000_usize {
        let forged = (0..MAX_CARDS_PER_MESSAGE).map(|number| {
            let mut card = bytes(round * 64 + number, NOW, 1000, true, 0).to_vec();
            card[40 - 3] ^= 1;
            card.into()
        });
        net.inject(MALLORY, 0, push(forged));
    }
    assert!(net.verified - before <= 512, "{}", net.verified - before);
    let counters = net.peers[&0].counters();
    assert!(counters.pushes_limited >= 990);
    assert_eq!(counters.cards_forged as usize, net.verified - before);
    // The neighbour's push is read all the same.
    net.inject(1, 0, push([card(70, NOW).bytes.clone()]));
    assert_eq!(net.knows(0, 70), Some(0));
    // An hour of it: no more than the refill.
    let before = net.verified;
    for _ in 0..3600 {
        net.inject(
            MALLORY,
            0,
            push((0..64).map(|number| bytes(number, NOW, -5, true, 0))),
        );
        net.advance(1);
    }
    assert!(
        net.verified - before <= 3600 * 5 + 512,
        "{}",
        net.verified - before
    );
}

#[test]
fn cards_that_do_not_hold_change_nothing_and_are_counted() {
    let mut net = net();
    net.inject(1, 0, push([card(50, NOW + 100).bytes.clone()]));
    assert_eq!(net.knows(0, 50), Some(100));
    let mut forged = bytes(50, NOW + 200, 1000, true, 0).to_vec();
    forged[30] ^= 1;
    let second = 86_400 * 40;
    let cards = [
        Arc::from(forged),
        bytes(50, NOW + second, 1000, true, 0), // from the future
        bytes(50, NOW + 50, 86_400, true, 0),   // stale
        bytes(51, NOW - 100, 100, true, 0),     // over
        bytes(0, NOW + 300, 86_400, true, 0),   // about peer 0 itself
        bytes(52, NOW, 86_400, false, 0),       // not for others
    ];
    net.inject(MALLORY, 0, push(cards));
    assert_eq!(net.knows(0, 50), Some(100));
    assert_eq!(
        net.peers[&0].book().len(),
        3,
        "50, and the two that are connected"
    );
    let counters = net.peers[&0].counters();
    assert_eq!(counters.cards_forged, 2);
    assert_eq!(counters.cards_stale, 1);
    assert_eq!(counters.cards_expired, 1);
    assert_eq!(counters.cards_own, 1);
    assert_eq!(counters.cards_not_shareable, 1);
}

#[test]
fn a_verifier_gone_wrong_cannot_smuggle_cards_in() {
    let mut net = net();
    let now = net.now();
    let batch = net
        .peer(0)
        .received(&principal(1), push([card(50, NOW).bytes.clone()]), now)
        .unwrap();
    net.peer(0).verified(batch, vec![card(51, NOW)], now);
    assert_eq!((net.knows(0, 50), net.knows(0, 51)), (None, None));
}

#[test]
fn a_source_of_endless_identities_fills_only_its_own_part() {
    let mut net = net();
    for number in 100..400 {
        net.inject(1, 0, push([card(number, NOW).bytes.clone()]));
        net.advance(5);
    }
    let mut next = 1000;
    for _ in 0..2000 {
        let cards: Vec<Arc<[u8]>> = (0..25)
            .map(|_| {
                next += 1;
                bytes(next, NOW, 864_000, true, 0)
            })
            .collect();
        net.inject(MALLORY, 0, push(cards));
        net.advance(5);
        net.sent.clear();
    }
    let book = net.peers[&0].book();
    let now = net.now();
    let told = |who: usize| {
        book.iter(now)
            .filter(|known| known.source == principal(who))
            .count()
    };
    assert_eq!(told(MALLORY), MAX_CARDS_PER_SOURCE);
    assert_eq!(told(1), 301);
}

#[test]
fn large_cards_take_the_room_of_many_small_ones() {
    let mut net = net();
    net.inject(1, 0, push([card(50, NOW).bytes.clone()]));
    for number in 0..2000 {
        net.inject(
            MALLORY,
            0,
            push([bytes(1000 + number, NOW, 864_000, true, 16_000)]),
        );
        net.advance(4);
        net.sent.clear();
    }
    assert!(net.peers[&0].book().memory() < MAX_BOOK_BYTES / 3);
    assert_eq!(net.knows(0, 50), Some(0));
}

#[test]
fn only_the_peer_that_was_asked_can_answer_and_only_about_that() {
    let mut net = net();
    net.silent.extend([1, MALLORY]);
    let now = net.now();
    net.peer(0).resolve(principal(50), now);
    net.settle();
    let asked = |net: &Net, whom: usize| {
        net.sent.iter().find_map(|(_, to, message)| match message {
            Message::Resolve { id, .. } if *to == whom => Some(*id),
            Message::Resolve { .. } | Message::Found { .. } | Message::Push { .. } => None,
        })
    };
    let found = |id, card: Arc<Card>| Message::Found {
        id,
        cards: vec![card.bytes.clone()],
    };
    let of_neighbour = asked(&net, 1).unwrap();
    net.inject(MALLORY, 0, found(of_neighbour, card(50, NOW)));
    net.inject(MALLORY, 0, found(12_345, card(50, NOW)));
    assert_eq!(net.knows(0, 50), None);
    assert_eq!(net.peers[&0].counters().answers_unasked, 2);
    net.inject(MALLORY, 0, found(asked(&net, MALLORY).unwrap(), card(51, NOW)));
    net.inject(1, 0, found(of_neighbour, private_card(50, NOW)));
    assert_eq!((net.knows(0, 50), net.knows(0, 51)), (None, None));
    let counters = net.peers[&0].counters();
    assert_eq!((counters.cards_unasked, counters.cards_not_shareable), (1, 1));
    net.settle();
    assert_eq!(
        net.found,
        [(
            0,
            Output::NotFound {
                principal: principal(50)
            }
        )],
        "nobody is left to ask"
    );
}

#[test]
fn a_liar_with_an_old_card_does_not_end_a_search() {
    let mut net = Net::new(6, Visibility::Private);
    for number in 1..6 {
        net.link(0, number);
    }
    let now = net.now();
    net.peer(0).learn(card(50, NOW + 10), now);
    for number in 1..5 {
        net.peer(number).learn(card(50, NOW + 5), now);
        net.peer(number).set_policy(Visibility::Private, true, now);
    }
    net.peer(5).learn(card(50, NOW + 20), now);
    net.peer(0).resolve(principal(50), now);
    net.settle();
    let [(0, Output::Resolved { card })] = &net.found[..] else {
        panic!("{:?}", net.found);
    };
    assert_eq!(card.issued_at, UnixSeconds(NOW + 20));
}

/// One change costs O(N) messages, whatever the mesh looks like.
#[test]
fn a_change_is_no_storm() {
    const COUNT: usize = 40;
    type Lines = fn(usize) -> Vec<(usize, usize)>;
    let full: Lines = |count| (0..count).flat_map(|a| (0..a).map(move |b| (a, b))).collect();
    let ring: Lines = |count| (0..count).map(|a| (a, (a + 1) % count)).collect();
    let star: Lines = |count| (1..count).map(|a| (0, a)).collect();
    for (name, lines) in [("full", full), ("ring", ring), ("star", star)] {
        let mut net = Net::new(COUNT, Visibility::Public);
        for (a, b) in lines(COUNT) {
            net.link(a, b);
        }
        net.advance(900);
        net.sent.clear();
        let now = net.now();
        net.peer(1).set_own(Some(card(1, NOW + 900)), now);
        net.settle();
        net.advance(300);
        let knowing = (0..COUNT)
            .filter(|who| *who == 1 || net.knows(*who, 1) == Some(900))
            .count();
        assert!(
            net.sent.len() <= COUNT * (FORWARD_FANOUT + 1),
            "{name}: {} messages",
            net.sent.len()
        );
        // Behind a star's centre only some are told; the others ask it.
        assert!(
            knowing == COUNT || name == "star" && knowing > FORWARD_FANOUT,
            "{name}: {knowing}"
        );
    }
}

/// However fast somebody changes, nobody hears of it more often than the pace of pushes.
#[test]
fn a_restless_peer_is_told_at_the_pace_of_everybody() {
    let mut net = Net::new(4, Visibility::Public);
    net.link(0, 1);
    net.link(1, 2);
    net.link(2, 3);
    net.advance(60);
    net.sent.clear();
    for second in 0..300 {
        let now = net.now();
        net.peer(0).set_own(Some(card(0, NOW + 60 + second)), now);
        net.advance(1);
    }
    let pushes = |from: usize| net.sent.iter().filter(|(sender, _, _)| *sender == from).count();
    assert!((36..=44).contains(&pushes(0)), "{}", pushes(0));
    assert!(pushes(2) <= 44, "{}", pushes(2));
}
