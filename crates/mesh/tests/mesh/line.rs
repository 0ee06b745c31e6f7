//! Three peers in a line, and everything that goes wrong with lines and peers.

use std::time::Duration;

use crate::world::{Peer, World};

const HOUR: i64 = 60 * 60 * 1000;
const LOBBY: &str = "lobby";

/// Everybody has every message once, in whatever order.
fn level(world: &World, nodes: &[usize], published: &[String]) {
    let mut published = published.to_vec();
    published.sort();
    for number in nodes {
        let ids = world.ids(*number, LOBBY);
        let missing: Vec<_> = published
            .iter()
            .filter(|id| ids.binary_search(id).is_err())
            .collect();
        assert!(
            missing.is_empty(),
            "{number} misses {} of {}: {missing:?}",
            missing.len(),
            published.len()
        );
        assert_eq!(ids, published, "{number}");
    }
}

fn line(seed: u64, messages: usize) {
    let mut world = World::new(seed);
    for clock in [0, HOUR, -HOUR] {
        let number = world.add(&[LOBBY]);
        world.set_clock(number, clock);
        // Little memory, so that slow links are fed from the log, too.
        world.nodes[number].limits.ring_messages = 40;
        world.start(number);
    }
    let mut published = Vec::new();
    while published.len() < messages {
        let number = world.random.below(3) as usize;
        let burst = world.random.below(12);
        for _ in 0..burst {
            if let Some(id) = world.publish(number, LOBBY, "said") {
                // It counts if it was stored; a crash before that loses it, and nobody was told.
                published.push((number, id));
            }
        }
        let pause = world.random.below(200);
        world.run(Duration::from_millis(pause));
        match world.random.below(12) {
            0 => world.crash(number),
            1 => world.cut(0, 1),
            2 => world.cut(1, 2),
            _ => {}
        }
        for number in 0..3 {
            if matches!(world.nodes[number].peer, Peer::Down) && world.random.one_in(4) {
                world.start(number);
            }
        }
        if world.random.one_in(3) {
            world.join(0, 1);
            world.join(2, 1);
        }
    }
    for number in 0..3 {
        if matches!(world.nodes[number].peer, Peer::Down) {
            world.start(number);
        }
    }
    world.join(0, 1);
    world.join(2, 1);
    world.run(Duration::from_secs(20));
    // What its own publisher stored is everywhere.
    let own: Vec<Vec<String>> = (0..3).map(|number| world.ids(number, LOBBY)).collect();
    let stored: Vec<String> = published
        .into_iter()
        .filter(|(number, id)| own[*number].binary_search(id).is_ok())
        .map(|(_, id)| id)
        .collect();
    assert!(stored.len() * 10 > messages * 8, "{} of {messages}", stored.len());
    level(&world, &[0, 1, 2], &stored);
    for node in &world.nodes {
        let mut told = node.told.clone();
        told.sort();
        let count = told.len();
        told.dedup();
        assert_eq!(told.len(), count, "told twice");
    }
}

#[test]
fn a_line_with_crashes_cuts_and_wrong_clocks_ends_level() {
    for seed in 0..12 {
        line(seed, 400);
    }
}

#[test]
fn thousands_of_messages_over_a_line_that_breaks() {
    line(100, 5000);
}

#[test]
fn what_a_middle_peer_catches_up_reaches_the_one_behind_it() {
    let mut world = World::new(3);
    for _ in 0..3 {
        let number = world.add(&[LOBBY]);
        world.start(number);
    }
    let published: Vec<String> = (0..700).map(|_| world.publish(0, LOBBY, "x").unwrap()).collect();
    world.run(Duration::from_secs(1));
    world.join(2, 1);
    world.run(Duration::from_secs(1));
    world.join(0, 1);
    world.run(Duration::from_secs(10));
    level(&world, &[0, 1, 2], &published);
}

#[test]
fn ten_thousand_missed_messages_come_from_three_neighbours_each_once() {
    let mut world = World::new(4);
    for _ in 0..4 {
        let number = world.add(&[LOBBY]);
        world.start(number);
    }
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        world.join(a, b);
    }
    let mut published = Vec::new();
    for _ in 0..100 {
        for _ in 0..100 {
            published.push(world.publish(published.len() % 3, LOBBY, "missed").unwrap());
        }
        world.run(Duration::from_millis(100));
    }
    world.run(Duration::from_secs(10));
    level(&world, &[0, 1, 2], &published);
    for number in 0..3 {
        world.join(3, number);
    }
    world.run(Duration::from_secs(30));
    level(&world, &[3], &published);
    assert_eq!(world.nodes[3].told.len(), published.len());
    assert_eq!(world.nodes[3].level, 3);
    // After a second life it does not ask for what it has.
    world.crash(3);
    world.start(3);
    let served = |world: &World| -> u64 { (0..3).map(|number| world.mesh(number).counters().served).sum() };
    let before = served(&world);
    for number in 0..3 {
        world.join(3, number);
    }
    world.run(Duration::from_secs(30));
    assert_eq!(served(&world), before);
}

#[test]
fn a_clock_days_ahead_costs_nobody_a_link() {
    let mut world = World::new(6);
    for clock in [50 * HOUR, 0, 0] {
        let number = world.add(&[LOBBY]);
        world.set_clock(number, clock);
        world.start(number);
    }
    // One of its messages is known already, by a sync.
    let mut published = vec![world.publish(0, LOBBY, "from the future").unwrap()];
    world.run(Duration::from_secs(1));
    world.join(1, 2);
    world.join(0, 1);
    world.run(Duration::from_secs(5));
    for _ in 0..60 {
        world.publish(0, LOBBY, "from the future").unwrap();
        published.push(world.publish(2, LOBBY, "from today").unwrap());
        world.run(Duration::from_millis(500));
    }
    world.run(Duration::from_secs(5));
    level(&world, &[1, 2], &published);
    assert_eq!(world.ids(0, LOBBY).len(), published.len() + 60);
}

#[test]
fn what_came_live_is_not_asked_for_after_a_break() {
    let mut world = World::new(5);
    for _ in 0..2 {
        let number = world.add(&[LOBBY]);
        world.start(number);
    }
    world.join(0, 1);
    world.run(Duration::from_secs(1));
    let mut published = Vec::new();
    for _ in 0..50 {
        for number in 0..2 {
            published.push(world.publish(number, LOBBY, "live").unwrap());
        }
        world.run(Duration::from_millis(50));
    }
    world.run(Duration::from_secs(5));
    let served = world.mesh(0).counters().served + world.mesh(1).counters().served;
    world.cut(0, 1);
    world.join(1, 0);
    world.run(Duration::from_secs(5));
    let after = world.mesh(0).counters().served + world.mesh(1).counters().served;
    assert_eq!(after, served);
    level(&world, &[0, 1], &published);
}

/// Peers of both kinds, joined at random, most of the time not all.
fn mixed(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..4 {
        let number = world.add(&[LOBBY]);
        let clock = world.random.below(2 * HOUR as u64) as i64 - HOUR;
        world.set_clock(number, clock);
        world.nodes[number].limits.ring_messages = 30;
        world.start(number);
    }
    for _ in 0..2 {
        world.add_old(&[LOBBY]);
    }
    for _ in 0..250 {
        let (a, b) = (world.random.below(6) as usize, world.random.below(6) as usize);
        match world.random.below(10) {
            0 if a < 4 => {
                world.crash(a);
                world.start(a);
            }
            1 | 2 => world.cut(a, b),
            3..=5 if a != b => world.join(a, b),
            _ => {
                for _ in 0..world.random.below(6) {
                    world.publish(a, LOBBY, "said");
                }
            }
        }
        let pause = world.random.below(3000);
        world.run(Duration::from_millis(pause));
    }
    for a in 0..6 {
        for b in 0..a {
            world.join(a, b);
        }
    }
    world.run(Duration::from_secs(120));
    let mut all: Vec<String> = (0..6).flat_map(|number| world.ids(number, LOBBY)).collect();
    all.sort();
    all.dedup();
    assert!(all.len() > 150, "{}", all.len());
    level(&world, &[0, 1, 2, 3], &all);
}

#[test]
fn a_mesh_of_both_kinds_ends_level() {
    for seed in 200..206 {
        mixed(seed);
    }
}
