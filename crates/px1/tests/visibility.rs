//! Who is told what: public, private, stealth, and peers that are not admitted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use clawchat_px1::{Message, Visibility};
use common::{NOW, Net, asked_card, card, principal, private_card};

/// The cards in the answer that `asker` gets from `asked`.
fn answer(net: &mut Net, asker: usize, asked: usize, about: usize) -> usize {
    net.sent.clear();
    let message = Message::Resolve {
        id: 7,
        principal: principal(about),
        max: 1,
    };
    net.inject(asker, asked, message);
    net.settle();
    let found = net.sent.iter().find_map(|(from, to, message)| match message {
        Message::Found { id: 7, cards } if (*from, *to) == (asked, asker) => Some(cards.len()),
        Message::Found { .. } | Message::Resolve { .. } | Message::Push { .. } => None,
    });
    found.expect("an answer")
}

fn pushes(net: &Net, from: usize) -> usize {
    let push = |message: &Message| matches!(message, Message::Push { .. });
    net.sent
        .iter()
        .filter(|(sender, _, message)| *sender == from && push(message))
        .count()
}

#[test]
fn a_private_identity_never_pushes_itself_and_answers_whom_it_admits() {
    let mut net = Net::new(3, Visibility::Private);
    net.link(0, 1);
    net.link(1, 2);
    net.advance(60);
    let now = net.now();
    net.peer(0).set_own(Some(private_card(0, NOW + 60)), now);
    net.advance(60);
    assert_eq!(pushes(&net, 0), 0);
    assert_eq!(answer(&mut net, 1, 0, 0), 1);
    // Who has the card keeps it for itself, asked or not.
    let now = net.now();
    net.peer(1).learn(private_card(0, NOW + 60), now);
    net.advance(60);
    assert_eq!(answer(&mut net, 2, 1, 0), 0);
    assert_eq!(pushes(&net, 1), 0);
}

#[test]
fn a_private_identity_is_found_through_those_it_knows_and_pushed_by_nobody() {
    let mut net = Net::new(3, Visibility::Private);
    for number in 0..3 {
        let now = net.now();
        net.peer(number).set_own(Some(asked_card(number, NOW + 60)), now);
    }
    // Whoever connects asks for the card, so that it can answer others.
    net.link(0, 1);
    net.link(1, 2);
    net.advance(60);
    assert_eq!((net.knows(1, 0), net.knows(2, 0)), (Some(60), None));
    assert_eq!((0..3).map(|who| pushes(&net, who)).sum::<usize>(), 0);
    let now = net.now();
    net.peer(2).resolve(principal(0), now);
    net.settle();
    assert_eq!(net.knows(2, 0), Some(60));
    // Told unasked by another than its owner it is not believed.
    let now = net.now();
    net.peer(2).forget(&principal(0));
    let told = Message::Push {
        cards: vec![asked_card(0, NOW + 60).bytes.clone()],
    };
    net.inject(1, 2, told);
    assert_eq!(net.knows(2, 0), None);
    // And whom the one in the middle does not admit, it tells nothing.
    net.peer(1).connected(principal(2), false, now);
    assert_eq!(answer(&mut net, 2, 1, 0), 0);
}

#[test]
fn a_private_identity_passes_on_what_others_made_public() {
    let mut net = Net::new(3, Visibility::Private);
    net.link(0, 1);
    net.link(1, 2);
    let now = net.now();
    net.peer(1).learn(card(50, NOW), now);
    net.advance(30);
    assert_eq!((net.knows(0, 50), net.knows(2, 50)), (Some(0), Some(0)));
    assert_eq!(answer(&mut net, 2, 1, 50), 1);
}

#[test]
fn a_stealth_identity_says_nothing_and_hears_nothing() {
    let mut net = Net::new(2, Visibility::Stealth);
    net.link(0, 1);
    let now = net.now();
    net.peer(0).learn(card(50, NOW), now);
    for message in [
        Message::Resolve {
            id: 1,
            principal: principal(0),
            max: 1,
        },
        Message::Push {
            cards: vec![card(60, NOW).bytes.clone()],
        },
    ] {
        net.inject(1, 0, message);
    }
    net.advance(60);
    assert_eq!(net.sent, []);
    assert_eq!(net.knows(0, 60), None);
    assert_eq!(net.peers[&0].counters().ignored, 2);
    // Its operator may switch it on: then it is as private as any.
    net.peer(0).set_policy(Visibility::Stealth, true, now);
    net.advance(60);
    assert_eq!(pushes(&net, 0), 0, "what it knew before is news to nobody");
    assert_eq!(answer(&mut net, 1, 0, 0), 1);
}

#[test]
fn who_is_not_admitted_learns_what_a_public_identity_tells_everybody() {
    for (visibility, own) in [(Visibility::Public, 1), (Visibility::Private, 0)] {
        let mut net = Net::new(2, visibility);
        let now = net.now();
        net.peer(0).learn(card(50, NOW), now);
        net.links.extend([(0, 1), (1, 0)]);
        net.peer(0).connected(principal(1), false, now);
        net.peer(1).connected(principal(0), true, now);
        net.advance(60);
        assert_eq!(answer(&mut net, 1, 0, 0), own, "{visibility:?}");
        assert_eq!(answer(&mut net, 1, 0, 50), 0, "{visibility:?}");
        assert_eq!(net.knows(1, 50), None);
        // Admitted in the meantime.
        net.peer(0).connected(principal(1), true, now);
        assert_eq!(answer(&mut net, 1, 0, 0), 1);
        assert_eq!(answer(&mut net, 1, 0, 50), 1);
    }
}

#[test]
fn what_one_identity_learned_is_not_told_in_the_name_of_another() {
    // 0 and 1 live in one gateway, 2 is connected to both.
    let mut net = Net::new(3, Visibility::Public);
    net.link(0, 2);
    net.link(1, 2);
    net.peer(2).set_policy(Visibility::Private, false, common::at(0));
    let now = net.now();
    net.peer(0).learn(card(50, NOW), now);
    assert_eq!(answer(&mut net, 2, 0, 50), 1);
    assert_eq!(answer(&mut net, 2, 1, 50), 0);
}

#[test]
fn becoming_private_stops_what_was_about_to_be_told() {
    let mut net = Net::new(2, Visibility::Public);
    net.link(0, 1);
    let now = net.now();
    // The last push was just now: this one waits.
    net.peer(0).set_own(Some(card(0, NOW + 1)), now);
    net.settle();
    net.peer(0).set_policy(Visibility::Private, true, now);
    net.sent.clear();
    net.advance(60);
    assert_eq!(pushes(&net, 0), 0);
    // And public again: everybody is told.
    let now = net.now();
    net.peer(0).set_policy(Visibility::Public, true, now);
    net.settle();
    assert_eq!(net.knows(1, 0), Some(1));
}
