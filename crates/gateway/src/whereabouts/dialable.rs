//! Which addresses that others told are dialed, and how often.
//!
//! What the operator gave is dialed as it is. What strangers say must not make us knock at doors of their choosing: this
//! machine, the local network, or somebody they want to bother.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use clawchat_px1::{DialGuard, Held};
use clawchat_types::{Locator, Moment, Principal};
use tokio::time::Instant;

use crate::clock;

/// The rule, shared by all identities of a gateway.
#[derive(Debug)]
pub(crate) struct Dialable {
    guard: Mutex<DialGuard>,
    held: Mutex<HeldBack>,
    started: Instant,
}

/// Addresses that were not dialed, by the reason.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeldBack {
    /// It is one of this machine or of a private network that is not ours, or a name.
    pub(crate) private: u64,
    /// The host was dialed too often for principals that were never met there.
    pub(crate) host: u64,
    /// The principal's addresses were dialed too often.
    pub(crate) principal: u64,
    /// It failed a short while ago.
    pub(crate) resting: u64,
}

impl Default for Dialable {
    fn default() -> Self {
        Self {
            guard: Mutex::default(),
            held: Mutex::default(),
            started: Instant::now(),
        }
    }
}

impl Dialable {
    /// Those of the addresses for `principal` that may be dialed now, given the addresses we listen on.
    pub(crate) fn among(&self, principal: &Principal, told: Vec<Locator>, ours: &[Locator]) -> Vec<Locator> {
        let count = told.len();
        let mut told = told;
        told.retain(|locator| may_be_dialed(locator, ours));
        let private = count - told.len();
        self.held.lock().unwrap_or_else(PoisonError::into_inner).private += private as u64;
        self.now(principal, told)
    }

    /// Of the addresses that `peer` itself reported in a session, those worth keeping: not those of private networks that
    /// are not ours, where they lead to somebody else. Loopback is reported only by who is on this machine.
    pub(crate) fn worth_keeping(reported: Vec<Locator>, ours: &[Locator]) -> Vec<Locator> {
        let is_loopback = |locator: &Locator| locator.ip().is_some_and(|ip| ip.is_loopback());
        let mut kept = reported;
        kept.retain(|locator| is_loopback(locator) || may_be_dialed(locator, ours));
        kept
    }

    /// Those of the kept addresses of somebody who only turned up that may be dialed now: whoever connects can name
    /// somebody else's, and come in the name of many.
    pub(crate) fn now(&self, principal: &Principal, kept: Vec<Locator>) -> Vec<Locator> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.moment();
        let mut admitted = Vec::new();
        for locator in kept {
            match guard.admit(principal, &locator, now) {
                Ok(()) => admitted.push(locator),
                Err(Held::Host(_)) => held.host += 1,
                Err(Held::Principal(_)) => held.principal += 1,
                Err(Held::Resting(_)) => held.resting += 1,
            }
        }
        admitted
    }

    /// How many addresses were not dialed so far.
    pub(crate) fn held(&self) -> HeldBack {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The principal proved itself at this address. About others that stood beside it that says nothing.
    pub(crate) fn reached(&self, principal: &Principal, way: &Locator) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        guard.succeeded(principal, way, self.moment());
    }

    /// None of these addresses led to the principal.
    pub(crate) fn failed(&self, principal: &Principal, tried: &[Locator]) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.moment();
        for locator in tried {
            guard.failed(principal, locator, now);
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            wall: clock::now(),
            mono: self.started.elapsed(),
        }
    }
}

/// Whether an address that somebody told is one to dial at all. Names are not, nor are relays that only a name leads
/// to: who gives them decides what they mean when they are looked up.
fn may_be_dialed(locator: &Locator, ours: &[Locator]) -> bool {
    locator
        .ip()
        .is_some_and(|ip| is_public(ip) || shares_network(ip, ours))
}

/// Whether an address means the same host to everybody.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let carrier = a == 100 && (64..128).contains(&b);
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || a == 0
                || a >= 240
                || carrier)
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => is_public(ip.into()),
            None => {
                let unique_local = ip.segments()[0] & 0xfe00 == 0xfc00;
                !(ip.is_loopback()
                    || ip.is_unspecified()
                    || ip.is_multicast()
                    || ip.is_unicast_link_local()
                    || unique_local)
            }
        },
    }
}

/// Whether we listen in the same private network: the same /24 of IPv4, the same /64 of IPv6. Addresses of the machine
/// itself are shared by those on it, so they count when we listen there and nowhere else.
fn shares_network(ip: IpAddr, ours: &[Locator]) -> bool {
    let mut own = ours.iter().filter_map(Locator::ip);
    match ip {
        IpAddr::V4(v4) if v4.is_private() => own.any(|own| match own {
            IpAddr::V4(own) => own.octets()[..3] == v4.octets()[..3],
            IpAddr::V6(_) => false,
        }),
        IpAddr::V6(v6) if v6.segments()[0] & 0xfe00 == 0xfc00 => own.any(|own| match own {
            IpAddr::V6(own) => own.segments()[..4] == v6.segments()[..4],
            IpAddr::V4(_) => false,
        }),
        _ if ip.is_loopback() => {
            !ours.is_empty() && ours.iter().all(|own| own.ip().is_some_and(|ip| ip.is_loopback()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locator(ip: &str) -> Locator {
        let kind = if ip.contains(':') { "ip6" } else { "ip4" };
        format!("/{kind}/{ip}/tcp/9000").parse().unwrap()
    }

    #[test]
    fn strangers_cannot_send_us_into_our_own_network() {
        let ours = [locator("192.168.1.7"), locator("fd00::2"), locator("127.0.0.1")];
        for ip in ["192.0.2.1", "8.8.8.8", "2001:db8::1", "192.168.1.9", "fd00::77"] {
            assert!(may_be_dialed(&locator(ip), &ours), "{ip}");
        }
        let others = [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.2.9",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "100.64.0.1",
            "fe80::1",
            "ff02::1",
            "fd00:0:0:1::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
        ];
        for ip in others {
            assert!(!may_be_dialed(&locator(ip), &ours), "{ip}");
        }
        let name: Locator = "/dns4/intranet/tcp/80".parse().unwrap();
        assert!(!may_be_dialed(&name, &ours));
        // What counts of an address through a relay is where the relay is.
        let peer = "12D3KooWNZypvL2Um2qCT98FhMAf6mwGzPzFy8E7JsNnM7ipEHJo";
        for (relay, goes) in [("192.0.2.1", true), ("10.0.0.1", false), ("127.0.0.1", false)] {
            let text = format!("/ip4/{relay}/tcp/9000/p2p/{peer}/p2p-circuit/p2p/{peer}");
            assert_eq!(may_be_dialed(&text.parse().unwrap(), &ours), goes, "{text}");
        }
    }

    #[test]
    fn this_machine_is_dialed_for_others_only_by_a_gateway_that_is_nowhere_else() {
        let told = [locator("127.0.0.1"), locator("::1")];
        let nowhere_else = [locator("127.0.0.1")];
        let elsewhere_too = [locator("127.0.0.1"), locator("192.0.2.2")];
        for address in &told {
            assert!(may_be_dialed(address, &nowhere_else), "{address}");
            assert!(!may_be_dialed(address, &elsewhere_too), "{address}");
            assert!(!may_be_dialed(address, &[]), "{address}: we listen nowhere");
        }
    }

    #[test]
    fn of_what_a_peer_reports_foreign_private_networks_are_left_out() {
        let ours = [locator("192.168.1.7"), locator("127.0.0.1")];
        let reported = ["127.0.0.1", "192.168.1.9", "192.0.2.1", "192.168.2.9", "10.0.0.1"].map(locator);
        let kept = Dialable::worth_keeping(reported.to_vec(), &ours);
        assert_eq!(kept, reported[..3]);
    }

    #[test]
    fn one_host_is_not_dialed_for_everybody_who_claims_to_be_there() {
        let dialable = Dialable::default();
        let victim = locator("203.0.113.9");
        let (begun, mut dials) = (Instant::now(), 0);
        for number in 0..200 {
            let principal = *clawchat_testkit::stranger(number).principal();
            dials += dialable.among(&principal, vec![victim.clone()], &[]).len();
            dialable.failed(&principal, std::slice::from_ref(&victim));
        }
        assert!((1..=10 + freed(begun)).contains(&dials), "{dials}");
    }

    #[test]
    fn who_is_met_at_its_own_address_has_proven_nothing_about_the_others_on_its_card() {
        let dialable = Dialable::default();
        let victim = locator("203.0.113.9");
        let (begun, mut dials) = (Instant::now(), 0);
        for number in 0..40_u8 {
            let principal = *clawchat_testkit::stranger(u64::from(number)).principal();
            let own = locator(&format!("198.51.100.{number}"));
            dialable.among(&principal, vec![own.clone()], &[]);
            dialable.reached(&principal, &own);
            dials += dialable.among(&principal, vec![victim.clone()], &[]).len();
        }
        assert!((10..=10 + freed(begun)).contains(&dials), "{dials}");
    }

    /// Dials to one host that have come free since: ten a minute.
    fn freed(begun: Instant) -> usize {
        usize::try_from(begun.elapsed().as_secs() / 6).unwrap()
    }
}
