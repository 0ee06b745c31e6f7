//! The book of hints: newest first, forgotten in time, and nobody can crowd out the others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::time::Duration;

use clawchat_px1::{Book, DEFAULT_HINT_TTL, Hint, MAX_HINTS, MAX_HINTS_PER_PRINCIPAL, MAX_HINTS_PER_SOURCE};
use clawchat_types::{Locator, Moment, Network, Principal, UnixMillis};
use proptest::prelude::*;

fn at(seconds: u64) -> Moment {
    // The wall clock stands still: only the monotonic one counts.
    Moment {
        wall: UnixMillis(0),
        mono: Duration::from_secs(seconds),
    }
}

fn principal(number: usize) -> Principal {
    let mut hash = [0; 20];
    hash[..8].copy_from_slice(&(number as u64).to_be_bytes());
    Principal::from_hash160(Network::Testnet, hash)
}

fn locator(number: usize) -> Locator {
    format!("/dns/host-{number}/tcp/9000").parse().unwrap()
}

fn texts(hints: &[&Hint]) -> Vec<String> {
    hints.iter().map(|hint| hint.locator.to_string()).collect()
}

fn hosts(numbers: &[usize]) -> Vec<String> {
    numbers
        .iter()
        .map(|number| locator(*number).to_string())
        .collect()
}

#[test]
fn what_was_heard_last_comes_first_with_its_origin() {
    let mut book = Book::default();
    let (bob, carol) = (principal(1), principal(2));
    book.learn(bob, locator(1), bob, None, at(1));
    book.learn(bob, locator(2), carol, None, at(2));
    book.learn(carol, locator(3), carol, None, at(3));
    assert_eq!(texts(&book.lookup(&bob, at(4))), hosts(&[2, 1]));
    assert_eq!(book.lookup(&bob, at(4))[0].source, carol);
    assert_eq!(book.lookup(&bob, at(4))[0].learned_at, Duration::from_secs(2));
    // Heard again: new again, and still one.
    book.learn(bob, locator(1), bob, None, at(5));
    assert_eq!(texts(&book.lookup(&bob, at(6))), hosts(&[1, 2]));
    assert_eq!(book.len(), 3);
    assert!(book.lookup(&principal(9), at(6)).is_empty());
}

#[test]
fn the_same_address_from_two_sources_is_tried_once_and_belongs_to_both() {
    let mut book = Book::default();
    let (bob, carol) = (principal(1), principal(2));
    book.learn(bob, locator(1), bob, None, at(1));
    book.learn(bob, locator(1), carol, None, at(2));
    assert_eq!(texts(&book.lookup(&bob, at(3))), hosts(&[1]));
    book.forget_source(&carol);
    assert_eq!(book.lookup(&bob, at(3))[0].source, bob);
    book.forget(&bob);
    assert!(book.is_empty());
}

#[test]
fn a_hint_is_forgotten_in_time() {
    let mut book = Book::default();
    let bob = principal(1);
    book.learn(bob, locator(1), bob, None, at(0));
    let day = DEFAULT_HINT_TTL.as_secs();
    assert_eq!(book.lookup(&bob, at(day - 1)).len(), 1);
    assert!(book.lookup(&bob, at(day)).is_empty());
    assert_eq!(book.len(), 1);
    book.expire(at(day));
    assert!(book.is_empty());
}

#[test]
fn a_source_can_shorten_the_time_but_not_lengthen_it() {
    let mut book = Book::new(Duration::from_secs(100));
    let bob = principal(1);
    book.learn(bob, locator(1), bob, Some(Duration::from_secs(10)), at(0));
    book.learn(bob, locator(2), bob, Some(Duration::MAX), at(0));
    assert_eq!(texts(&book.lookup(&bob, at(9))), hosts(&[2, 1]));
    assert_eq!(texts(&book.lookup(&bob, at(10))), hosts(&[2]));
    assert!(book.lookup(&bob, at(100)).is_empty());
    // "Not any more" is a hint too.
    book.learn(bob, locator(2), bob, Some(Duration::ZERO), at(20));
    assert!(book.lookup(&bob, at(20)).is_empty());
}

#[test]
fn a_book_without_time_keeps_nothing() {
    let mut book = Book::new(Duration::ZERO);
    book.learn(principal(1), locator(1), principal(1), None, at(0));
    assert!(book.is_empty());
}

#[test]
fn a_talkative_source_crowds_out_only_itself() {
    let mut book = Book::default();
    let (bob, mallory) = (principal(1), principal(2));
    book.learn(bob, locator(0), bob, None, at(0));
    for number in 0..2 * MAX_HINTS_PER_SOURCE {
        book.learn(principal(100 + number), locator(number), mallory, None, at(1));
    }
    assert_eq!(book.len(), 1 + MAX_HINTS_PER_SOURCE);
    assert_eq!(book.lookup(&bob, at(2)).len(), 1);
    assert!(book.lookup(&principal(100), at(2)).is_empty(), "the oldest went");
    assert_eq!(
        book.lookup(&principal(99 + 2 * MAX_HINTS_PER_SOURCE), at(2))
            .len(),
        1
    );
}

#[test]
fn hearsay_never_replaces_what_a_principal_says_itself() {
    let mut book = Book::default();
    let bob = principal(1);
    book.learn(bob, locator(0), bob, None, at(0));
    book.learn(bob, locator(1), principal(2), None, at(1));
    for number in 0..100 {
        book.learn(bob, locator(10 + number), principal(3), None, at(2));
    }
    let found = book.lookup(&bob, at(3));
    assert_eq!(found.len(), MAX_HINTS_PER_PRINCIPAL);
    assert!(texts(&found).contains(&locator(0).to_string()));
    assert!(
        texts(&found).contains(&locator(1).to_string()),
        "a source with one hint keeps it"
    );
    for number in 0..100 {
        book.learn(bob, locator(10 + number), principal(10 + number), None, at(4));
    }
    assert!(texts(&book.lookup(&bob, at(5))).contains(&locator(0).to_string()));
    // It can replace everything itself, its own words last.
    for number in 0..MAX_HINTS_PER_PRINCIPAL {
        book.learn(bob, locator(500 + number), bob, None, at(6));
    }
    assert!(book.lookup(&bob, at(7)).iter().all(|hint| hint.source == bob));
    assert!(!texts(&book.lookup(&bob, at(7))).contains(&locator(0).to_string()));
}

#[test]
fn a_full_book_drops_from_whoever_fills_it() {
    let mut book = Book::default();
    let bob = principal(0);
    book.learn(bob, locator(0), bob, None, at(0));
    let sources = MAX_HINTS / MAX_HINTS_PER_SOURCE + 1;
    for number in 0..sources * MAX_HINTS_PER_SOURCE {
        let source = principal(1_000_000 + number % sources);
        book.learn(principal(1 + number), locator(number), source, None, at(1));
    }
    assert_eq!(book.len(), MAX_HINTS);
    assert_eq!(book.lookup(&bob, at(2)).len(), 1);
}

proptest! {
    #[test]
    fn every_bound_holds_and_time_is_kept(
        steps in prop::collection::vec((0_usize..6, 0_usize..30, 0_usize..6, 0_u64..40, 0_u64..5), 0..300),
    ) {
        let mut book = Book::new(Duration::from_secs(30));
        let mut now = 0;
        for (about, address, source, ttl, passes) in steps {
            now += passes;
            book.learn(principal(about), locator(address), principal(source), Some(Duration::from_secs(ttl)), at(now));
            let mut counted: HashMap<Principal, usize> = HashMap::new();
            let mut total = 0;
            for number in 0..6 {
                let found = book.lookup(&principal(number), at(now));
                prop_assert!(found.is_sorted_by(|a, b| a.learned_at >= b.learned_at));
                prop_assert!(found.len() <= MAX_HINTS_PER_PRINCIPAL);
                for hint in &found {
                    prop_assert!(hint.expires_at > at(now).mono);
                    prop_assert!(hint.expires_at <= hint.learned_at + Duration::from_secs(30));
                    *counted.entry(hint.source).or_default() += 1;
                }
                total += found.len();
            }
            prop_assert!(total <= book.len());
            prop_assert!(ttl == 0 || book.lookup(&principal(about), at(now)).first().is_some_and(|hint| hint.locator == locator(address)));
        }
    }
}
