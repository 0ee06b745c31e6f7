//! The exchange between several peers: what becomes known to whom, and how.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use clawchat_px1::{Message, Output, PUSH_INTERVAL, RESOLVE_FANOUT, RESOLVE_WITHIN, Visibility};
use common::{NOW, Net, card, principal};

#[test]
fn two_who_know_a_third_find_each_other_through_it() {
    let mut net = Net::new(3, Visibility::Public);
    net.link(0, 1);
    net.link(0, 2);
    net.advance(PUSH_INTERVAL.as_secs());
    assert_eq!(net.knows(1, 2), Some(0));
    assert_eq!(net.knows(2, 1), Some(0));
    let known = net.peers[&1].lookup(&principal(2), net.now()).unwrap();
    assert_eq!(known.source, principal(0), "provenance");
}

#[test]
fn a_change_is_told_and_an_older_card_changes_nothing() {
    let mut net = Net::new(3, Visibility::Public);
    net.link(0, 1);
    net.link(1, 2);
    net.advance(60);
    let now = net.now();
    net.peer(0).set_own(Some(card(0, NOW + 50)), now);
    net.settle();
    assert_eq!(
        net.knows(2, 0),
        Some(50),
        "told at once when nothing was told for a while"
    );
    let older = Message::Push {
        cards: vec![card(0, NOW + 20).bytes.clone()],
    };
    net.inject(1, 2, older);
    assert_eq!(net.knows(2, 0), Some(50));
    assert_eq!(net.peers[&2].counters().cards_stale, 1);
}

#[test]
fn a_search_asks_a_few_and_takes_the_first_newer_card() {
    let mut net = Net::new(30, Visibility::Private);
    for number in 1..30 {
        net.link(0, number);
    }
    // Only one of them knows the one looked for, whose owner lets others pass the card on.
    let now = net.now();
    net.peer(17).learn(card(99, NOW), now);
    net.sent.clear();
    net.peer(0).resolve(principal(99), now);
    net.settle();
    net.advance(RESOLVE_WITHIN.as_secs());
    let asked = net.sent.iter().filter(|(from, _, _)| *from == 0).count();
    assert!(asked <= 24, "{asked}");
    let found = &net.found;
    assert!(
        matches!(
            found[..],
            [(0, Output::Resolved { .. } | Output::NotFound { .. })]
        ),
        "{found:?}"
    );
    // Silent peers do not hold a search up for longer than its deadline.
    net.found.clear();
    net.silent.extend(1..30);
    let now = net.now();
    net.peer(0).resolve(principal(77), now);
    net.settle();
    assert_eq!(
        net.sent.iter().filter(|(_, _, message)| matches!(message, Message::Resolve { principal: asked, .. } if *asked == principal(77))).count(),
        RESOLVE_FANOUT
    );
    net.advance(RESOLVE_WITHIN.as_secs());
    assert_eq!(
        net.found,
        [(
            0,
            Output::NotFound {
                principal: principal(77)
            }
        )]
    );
}
