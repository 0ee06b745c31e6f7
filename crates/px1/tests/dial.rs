//! The dial guard: no card makes us a weapon, and no liar keeps us from a friend.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use clawchat_px1::{
    DIAL_BACKOFF_FIRST, DIAL_BACKOFF_MAX, DIALS_PER_HOST, DIALS_PER_PRINCIPAL, DialGuard, Held,
};
use clawchat_types::Locator;
use common::{at, principal};
use proptest::prelude::*;

fn locator(text: &str) -> Locator {
    text.parse().unwrap()
}

#[test]
fn a_victim_named_by_a_thousand_identities_is_dialed_ten_times_a_minute() {
    let mut guard = DialGuard::new();
    let mut dials = 0;
    for second in 0..600_u64 {
        for number in 0..100_u64 {
            // Every identity names the victim at other ports, over other transports and spelled in other ways.
            let port = 1 + (second * 100 + number) % 65_000;
            let place = match number % 4 {
                0 => format!("/ip4/192.0.2.7/tcp/{port}"),
                1 => format!("/ip4/192.0.2.7/udp/{port}/quic-v1"),
                2 => format!("/ip6/::ffff:192.0.2.7/tcp/{port}"),
                _ => format!("/ip4/192.0.2.7/tcp/{port}/ws"),
            };
            let who = principal((second * 100 + number) as usize);
            dials += u32::from(guard.admit(&who, &locator(&place), at(second)).is_ok());
        }
    }
    assert!(dials <= 11 * DIALS_PER_HOST, "{dials}");
    // Somebody else is dialed all the same.
    assert_eq!(
        guard.admit(&principal(5), &locator("/ip4/192.0.2.8/tcp/1"), at(600)),
        Ok(())
    );
}

#[test]
fn a_network_of_ipv6_addresses_and_a_name_in_any_case_are_one_host() {
    for spell in [
        |number: usize| format!("/ip6/2001:db8:1:2::{number:x}/tcp/9000"),
        |number: usize| {
            format!(
                "/dns/{}/tcp/{}",
                if number.is_multiple_of(2) {
                    "Victim.example"
                } else {
                    "victim.EXAMPLE."
                },
                number + 1
            )
        },
    ] {
        let mut guard = DialGuard::new();
        let admitted = (0..100).filter(|number| {
            guard
                .admit(&principal(*number), &locator(&spell(*number)), at(0))
                .is_ok()
        });
        assert_eq!(admitted.count(), DIALS_PER_HOST as usize);
    }
}

#[test]
fn one_identity_with_many_addresses_is_dialed_so_often() {
    let mut guard = DialGuard::new();
    let place = |number: usize| locator(&format!("/ip4/198.51.{}.{}/tcp/1", number / 256, number % 256));
    let admitted = (0..10_000)
        .filter(|number| guard.admit(&principal(1), &place(*number), at(0)).is_ok())
        .count();
    assert_eq!(admitted, DIALS_PER_PRINCIPAL as usize);
    let held = guard.admit(&principal(1), &place(1), at(0)).unwrap_err();
    assert_eq!(held, Held::Principal(Duration::from_secs(3)));
    assert_eq!(guard.admit(&principal(1), &place(1), at(3)), Ok(()));
}

#[test]
fn an_address_that_fails_rests_for_everybody_ever_longer() {
    let mut guard = DialGuard::new();
    let place = locator("/ip4/192.0.2.7/tcp/9000");
    let mut now = 0;
    let mut pauses = Vec::new();
    for who in 0..9 {
        assert_eq!(guard.admit(&principal(who), &place, at(now)), Ok(()));
        let until = guard.failed(&principal(who), &place, at(now));
        assert_eq!(
            guard.admit(&principal(50 + who), &place, at(now)),
            Err(Held::Resting(until))
        );
        pauses.push(until.as_secs() - now);
        now = until.as_secs();
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    assert_eq!(
        (DIAL_BACKOFF_FIRST.as_secs(), DIAL_BACKOFF_MAX.as_secs()),
        (5, 300)
    );
    guard.succeeded(&principal(1), &place, at(now));
    let until = guard.failed(&principal(2), &place, at(now));
    assert_eq!(until, at(now + 5).mono, "it starts anew after somebody answered");
}

#[test]
fn liars_do_not_keep_us_from_who_was_met_there() {
    let mut guard = DialGuard::new();
    let friend = principal(1);
    let place = locator("/ip4/192.0.2.7/tcp/9000");
    guard.succeeded(&friend, &place, at(0));
    for liar in 100..200 {
        if guard.admit(&principal(liar), &place, at(1)).is_ok() {
            guard.failed(&principal(liar), &place, at(1));
        }
    }
    assert_eq!(guard.admit(&friend, &place, at(1)), Ok(()));
    // Its own failures count.
    let until = guard.failed(&friend, &place, at(1));
    assert_eq!(guard.admit(&friend, &place, at(2)), Err(Held::Resting(until)));
}

#[test]
fn peers_behind_one_relay_rest_each_for_itself() {
    let mut guard = DialGuard::new();
    let behind = |peer: &str| {
        locator(&format!(
            "/ip4/192.0.2.7/tcp/9000/p2p/12D3KooWNZypvL2Um2qCT98FhMAf6mwGzPzFy8E7JsNnM7ipEHJo/p2p-circuit/p2p/{peer}"
        ))
    };
    let one = behind("12D3KooWEcKpSWJcaZEmui8eoD1RFUGBKW3kLJWYTHz2r7RCPgtW");
    let other = behind("12D3KooWLdmyGksmbXf4WSrXGRPr2uEAugaoTwBb3fm7sEHNMkhb");
    guard.failed(&principal(1), &one, at(0));
    assert!(guard.admit(&principal(1), &one, at(1)).is_err());
    assert_eq!(guard.admit(&principal(2), &other, at(1)), Ok(()));
}

proptest! {
    #[test]
    fn no_host_and_no_principal_is_dialed_beyond_its_bound(
        tries in prop::collection::vec((0_u64..3, 0_usize..3, 0_u8..3, 1_u16..4, any::<bool>()), 1..400),
    ) {
        let mut guard = DialGuard::new();
        let mut now = 0;
        let (mut hosts, mut principals) = ([0_u64; 3], [0_u64; 3]);
        for (pause, who, host, port, fails) in tries {
            now += pause;
            let place = locator(&format!("/ip4/192.0.2.{host}/tcp/{port}"));
            match guard.admit(&principal(who), &place, at(now)) {
                Ok(()) => {
                    hosts[usize::from(host)] += 1;
                    principals[who] += 1;
                }
                Err(held) => prop_assert!(held.until() > at(now).mono),
            }
            if fails {
                guard.failed(&principal(who), &place, at(now));
            }
            prop_assert!(hosts.iter().all(|dials| *dials <= u64::from(DIALS_PER_HOST) + now / 6));
            prop_assert!(principals.iter().all(|dials| *dials <= u64::from(DIALS_PER_PRINCIPAL) + now / 3));
        }
    }
}
