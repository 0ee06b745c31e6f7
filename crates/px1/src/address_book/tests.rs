//! The address book against a few sentences about it.

use clawchat_types::{Network, UnixMillis};
use proptest::prelude::*;

use super::*;

const CONFIG: BookConfig = BookConfig {
    ttl: Duration::from_secs(100),
    max_cards: 20,
    max_bytes: 9000,
    max_cards_per_source: 8,
    max_bytes_per_source: 4000,
};

fn at(seconds: u64) -> Moment {
    Moment {
        wall: UnixMillis(seconds * 1000),
        mono: Duration::from_secs(seconds),
    }
}

fn principal(number: u8) -> Principal {
    Principal::from_hash160(Network::Testnet, [number; 20])
}

fn card(number: u8, issued: i64, lasts: i64, size: usize) -> Arc<Card> {
    let mut bytes = vec![number; size + 1];
    bytes.extend(issued.to_be_bytes());
    bytes.extend(lasts.to_be_bytes());
    Arc::new(Card {
        principal: principal(number),
        issued_at: UnixSeconds(issued),
        expires_at: UnixSeconds(issued + lasts),
        locators: Vec::new(),
        peer_id: None,
        shareable: true,
        tellable: true,
        bytes: bytes.into(),
    })
}

/// Every index says the same as the cards, and every bound holds.
fn check(book: &AddressBook) -> Result<(), TestCaseError> {
    let weight = |known: &Known| known.card.weight();
    prop_assert_eq!(book.total, book.cards.values().map(weight).sum::<usize>());
    prop_assert!(book.cards.len() <= CONFIG.max_cards && book.total <= CONFIG.max_bytes);
    prop_assert_eq!(book.bytes.len(), book.cards.len());
    for (principal, known) in &book.cards {
        prop_assert_eq!(book.bytes.get(&known.card.bytes), Some(principal));
        let told = &book.sources[&known.source];
        prop_assert!(told.order.contains(&book.place(known)));
    }
    let mut listed = 0;
    for (source, told) in &book.sources {
        let of_source = || book.cards.values().filter(|known| known.source == *source);
        prop_assert_eq!(told.weight, of_source().map(weight).sum::<usize>());
        prop_assert!(!told.order.is_empty());
        prop_assert!(told.order.len() <= CONFIG.max_cards_per_source);
        prop_assert!(told.weight <= CONFIG.max_bytes_per_source);
        listed += told.order.len();
    }
    prop_assert_eq!(listed, book.cards.len());
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    Learn {
        number: u8,
        issued: i64,
        lasts: i64,
        size: usize,
        source: u8,
        hearsay: bool,
    },
    Again(u8),
    Forget(u8),
    ForgetSource(u8),
    Expire,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let learn = (
        0..40_u8,
        0..200_i64,
        1..300_i64,
        0..600_usize,
        0..5_u8,
        any::<bool>(),
    )
        .prop_map(|(number, issued, lasts, size, source, hearsay)| Step::Learn {
            number,
            issued,
            lasts,
            size,
            source: source + 100,
            hearsay,
        });
    prop_oneof![
        12 => learn,
        2 => (0..40_u8).prop_map(Step::Again),
        1 => (0..40_u8).prop_map(Step::Forget),
        1 => (100..105_u8).prop_map(Step::ForgetSource),
        1 => Just(Step::Expire),
        2 => (0..60_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn bounds_hold_and_newer_wins(steps in prop::collection::vec(step(), 1..200), seed in any::<u64>()) {
        let mut book = AddressBook::new(CONFIG, seed);
        let mut seconds = 0;
        for step in steps {
            let now = at(seconds);
            match step {
                Step::Learn { number, issued, lasts, size, source, hearsay } => {
                    let card = card(number, issued, lasts, size);
                    let before = book.issued_at(&card.principal, now);
                    let learned = book.learn(&card, principal(source), hearsay, now);
                    let after = book.get(&card.principal, now);
                    match learned {
                        Learned::Newer => {
                            prop_assert!(Some(card.issued_at) > before);
                            prop_assert_eq!(&after.unwrap().card, &card);
                            prop_assert_eq!(after.unwrap().source, principal(source));
                        }
                        Learned::Known => prop_assert_eq!(&after.unwrap().card, &card),
                        Learned::Stale => prop_assert!(before >= Some(card.issued_at)),
                        Learned::Expired => prop_assert!(!card.is_current(now)),
                        Learned::NoRoom => prop_assert!(after.is_none()),
                    }
                    // Never a step back, except into nothing.
                    let after = book.issued_at(&card.principal, now);
                    prop_assert!(after.is_none() || after >= before);
                }
                Step::Again(number) => {
                    let bytes = book.get(&principal(number), now).map(|known| known.card.bytes.clone());
                    if let Some(bytes) = bytes {
                        prop_assert_eq!(book.heard_again(&bytes, now), Some(principal(number)));
                    }
                }
                Step::Forget(number) => {
                    book.forget(&principal(number));
                    prop_assert!(book.get(&principal(number), now).is_none());
                }
                Step::ForgetSource(source) => {
                    book.forget_source(&principal(source));
                    prop_assert!(book.iter(now).all(|known| known.source != principal(source)));
                }
                Step::Expire => {
                    book.expire(now);
                    prop_assert_eq!(book.iter(now).count(), book.len());
                }
                Step::Wait(more) => seconds += more,
            }
            let now = at(seconds);
            prop_assert!(book.iter(now).all(|known| known.card.is_current(now) && now.mono < known.learned_at + CONFIG.ttl));
            check(&book)?;
        }
    }
}

#[test]
fn hearsay_goes_first_and_full_books_of_different_seeds_differ() {
    let fill = |seed| {
        let mut book = AddressBook::new(CONFIG, seed);
        book.learn(&card(99, 1, 1000, 0), principal(100), false, at(0));
        for number in 0..60 {
            book.learn(&card(number, 1, 1000, 0), principal(100), true, at(0));
        }
        assert_eq!(book.len(), CONFIG.max_cards_per_source);
        assert!(book.get(&principal(99), at(0)).is_some());
        book.iter(at(0))
            .map(|known| known.card.principal)
            .collect::<Vec<_>>()
    };
    assert_eq!(fill(1), fill(1));
    assert_ne!(fill(1), fill(2));
}

#[test]
fn a_busy_source_makes_room_for_a_quiet_one() {
    let mut book = AddressBook::new(CONFIG, 5);
    for source in 0..4 {
        for number in 0..5 + source {
            book.learn(
                &card(10 * source + number, 1, 1000, 0),
                principal(100 + source),
                true,
                at(0),
            );
        }
    }
    book.learn(&card(90, 1, 1000, 0), principal(120), true, at(0));
    assert!(book.get(&principal(90), at(0)).is_some());
    assert_eq!(book.len(), CONFIG.max_cards);
}
