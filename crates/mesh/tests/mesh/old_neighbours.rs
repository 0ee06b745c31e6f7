//! Neighbours as existing peers are: they answer by timestamp, keep no signatures and ask for one page.

use std::time::Duration;

use clawchat_mesh::{Message, PeerName, Trust};
use clawchat_types::UnixMillis;

use crate::old_peer::OldPeer;
use crate::world::{Peer, World};

const LOBBY: &str = "lobby";

fn bare(world: &World, number: usize) -> usize {
    let records = world.nodes[number].log.channels.values().flatten();
    records.filter(|entry| entry.trust() == Trust::Unverified).count()
}

#[test]
fn everything_an_old_peer_holds_is_walked_though_timestamps_repeat() {
    let mut world = World::new(1);
    let old = world.add_old(&[LOBBY]);
    for burst in 0..40 {
        for _ in 0..45 {
            // All within a millisecond.
            world.publish(old, LOBBY, "old").unwrap();
        }
        world.run(Duration::from_secs(60 * (1 + burst % 3)));
    }
    let ours = world.add(&[LOBBY]);
    world.start(ours);
    world.join(ours, old);
    world.run(Duration::from_secs(20));
    assert_eq!(world.ids(ours, LOBBY), world.ids(old, LOBBY));
    assert_eq!(world.nodes[ours].level, 1);
}

#[test]
fn what_an_old_peer_got_while_the_line_was_broken_is_found_however_old_its_timestamp() {
    let mut world = World::new(2);
    let old = world.add_old(&[LOBBY]);
    let ours = world.add(&[LOBBY]);
    let late = world.add_old(&[LOBBY]);
    // An hour behind.
    world.set_clock(late, -60 * 60 * 1000);
    world.start(ours);
    world.join(ours, old);
    world.join(late, old);
    for _ in 0..300 {
        world.publish(old, LOBBY, "said").unwrap();
        world.run(Duration::from_secs(60));
    }
    for _ in 0..30 {
        world.cut(ours, old);
        for number in [old, late, old] {
            world.publish(number, LOBBY, "missed").unwrap();
        }
        world.run(Duration::from_secs(60));
        world.join(ours, old);
        world.run(Duration::from_secs(5));
        assert_eq!(world.ids(ours, LOBBY), world.ids(old, LOBBY));
    }
    // It was not all asked for every time.
    let Peer::Old(peer) = &world.nodes[old].peer else {
        unreachable!()
    };
    let whole = peer.asked.iter().filter(|(_, after)| after.is_null()).count();
    // In its first minutes, and by the other old peer.
    assert!(whole < 10, "{whole}");
}

#[test]
fn an_old_peer_that_lost_its_store_is_asked_from_the_beginning() {
    let mut world = World::new(8);
    let old = world.add_old(&[LOBBY]);
    let ours = world.add(&[LOBBY]);
    world.start(ours);
    world.join(ours, old);
    for _ in 0..180 {
        world.publish(old, LOBBY, "lost").unwrap();
        world.run(Duration::from_secs(60));
    }
    world.cut(ours, old);
    world.nodes[old].peer = Peer::Old(OldPeer::new("old-0", &[LOBBY]));
    for _ in 0..700 {
        world.publish(old, LOBBY, "since").unwrap();
        world.run(Duration::from_secs(1));
    }
    assert!(!world.nodes[ours].log.cursors.is_empty());
    world.join(ours, old);
    world.run(Duration::from_secs(10));
    assert_eq!(world.ids(ours, LOBBY).len(), 880);
}

#[test]
fn an_old_peer_where_nothing_happens_is_asked_for_little() {
    let mut world = World::new(7);
    let old = world.add_old(&[LOBBY]);
    let ours = world.add(&[LOBBY]);
    world.start(ours);
    world.join(ours, old);
    world.run(Duration::from_secs(1));
    for _ in 0..1000 {
        world.publish(old, LOBBY, "burst").unwrap();
        world.run(Duration::from_millis(50));
    }
    world.run(Duration::from_secs(60 * 60));
    let Peer::Old(peer) = &world.nodes[old].peer else {
        unreachable!()
    };
    assert!(
        peer.asked.len() > 50 && peer.served < 5000,
        "{} in {}",
        peer.served,
        peer.asked.len()
    );
}

#[test]
fn a_crash_does_not_lose_the_place_in_an_old_peer_s_store() {
    let mut world = World::new(3);
    let old = world.add_old(&[LOBBY]);
    let ours = world.add(&[LOBBY]);
    world.start(ours);
    for round in 0..20 {
        for _ in 0..100 {
            world.publish(old, LOBBY, "said").unwrap();
            world.run(Duration::from_secs(10));
        }
        world.join(ours, old);
        world.run(Duration::from_secs(10));
        assert_eq!(world.ids(ours, LOBBY), world.ids(old, LOBBY), "{round}");
        world.crash(ours);
        world.start(ours);
    }
}

#[test]
fn messages_without_signatures_reach_our_neighbours_by_sync_and_signatures_follow() {
    let mut world = World::new(4);
    let author = world.add(&[LOBBY]);
    let old = world.add_old(&[LOBBY]);
    let first = world.add(&[LOBBY]);
    let second = world.add(&[LOBBY]);
    for number in [author, first, second] {
        world.start(number);
    }
    world.join(author, old);
    world.run(Duration::from_secs(1));
    for _ in 0..40 {
        world.publish(author, LOBBY, "signed").unwrap();
        world.run(Duration::from_secs(1));
    }
    world.cut(author, old);
    // These two are level with each other before one of them meets the old peer.
    world.join(first, second);
    world.run(Duration::from_secs(5));
    world.join(first, old);
    world.run(Duration::from_secs(10));
    assert_eq!(world.ids(first, LOBBY).len(), 40);
    assert_eq!(
        world.ids(second, LOBBY).len(),
        40,
        "by sync, for it may not come live"
    );
    assert_eq!((bare(&world, first), bare(&world, second)), (40, 40));
    // The author still has what proves them.
    world.join(author, first);
    world.run(Duration::from_secs(10));
    assert_eq!((bare(&world, first), bare(&world, second)), (0, 0));
    for node in [first, second] {
        assert_eq!(world.nodes[node].told.len(), 40, "told once");
    }
}

#[test]
fn an_old_peer_gets_live_what_it_subscribed_to_and_pages_of_what_we_hold() {
    let mut world = World::new(5);
    let ours = world.add(&[LOBBY]);
    world.start(ours);
    let old = world.add_old(&[LOBBY]);
    for _ in 0..60 {
        world.publish(ours, LOBBY, "before").unwrap();
    }
    world.run(Duration::from_secs(1));
    world.join(old, ours);
    world.run(Duration::from_secs(5));
    for _ in 0..60 {
        world.publish(ours, LOBBY, "live").unwrap();
        world.publish(old, LOBBY, "back").unwrap();
    }
    world.run(Duration::from_secs(5));
    assert_eq!(world.ids(old, LOBBY).len(), 180);
    assert_eq!(world.ids(ours, LOBBY), world.ids(old, LOBBY));
}

#[test]
fn a_timestamp_that_is_no_time_does_not_stop_the_walk() {
    let mut world = World::new(6);
    let old = world.add_old(&[LOBBY]);
    world.publish(old, LOBBY, "first").unwrap();
    let ours = world.add(&[LOBBY]);
    world.start(ours);
    world.join(ours, old);
    world.run(Duration::from_secs(5));
    let sender: PeerName = "somebody".parse().unwrap();
    let mut draft = Message::draft(LOBBY.parse().unwrap(), sender, "x", None, UnixMillis(0), "odd")
        .unwrap()
        .to_text();
    draft = draft.replace("1970-01-01T00:00:00.000Z", "someday");
    if let Peer::Old(peer) = &mut world.nodes[old].peer {
        peer.frame(ours, &draft, UnixMillis(0));
    }
    for _ in 0..10 {
        world.publish(old, LOBBY, "more").unwrap();
        world.cut(ours, old);
        world.run(Duration::from_secs(60));
        world.publish(old, LOBBY, "missed").unwrap();
        world.join(ours, old);
        world.run(Duration::from_secs(5));
        assert_eq!(world.ids(ours, LOBBY), world.ids(old, LOBBY));
    }
}
