//! Being a relay: for whom, how much, and why not.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId, relay};

use super::config::{RelayLimits, RelayServe};
use crate::address;

/// Gateways whose requests are remembered for the rate limit; beyond it the table starts anew.
const MAX_REMEMBERED: usize = 1024;
/// Connections of one gateway that carry what was granted to it.
const MAX_CARRYING: usize = 2;
/// What the rate limit counts over.
const WINDOW: Duration = Duration::from_secs(60);

/// Why a relay turns somebody away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it is not one of our contacts")]
    Stranger,
    #[error("every place is taken")]
    Full,
    #[error("it asks too often")]
    TooOften,
    #[error("as many circuits as allowed are open, for it or in all; or whom it calls has no place here")]
    Circuits,
}

/// What the relay part of the swarm decides by. Shared, because libp2p asks it from inside.
#[derive(Debug)]
pub(crate) struct Policy {
    serve: RelayServe,
    limits: RelayLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    contacts: HashSet<PeerId>,
    /// Who has a place.
    places: HashSet<PeerId>,
    /// How many circuits a gateway is an end of.
    circuits: HashMap<PeerId, usize>,
    requests: HashMap<PeerId, (Instant, u32)>,
    /// From where a gateway asked last: those connections carry what was granted.
    asked_from: HashMap<PeerId, Vec<Multiaddr>>,
    /// Why the last request of a gateway was refused, until that was reported.
    refused: HashMap<PeerId, Refusal>,
    refusals: u64,
}

/// How much a relay carries at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayLoad {
    /// Gateways that have a place.
    pub reservations: usize,
    /// Circuits that are open.
    pub circuits: usize,
    /// Requests refused since the start.
    pub refused: u64,
}

impl Policy {
    /// Nobody has a place yet.
    pub(crate) fn new(serve: RelayServe, limits: RelayLimits) -> Self {
        Self {
            serve,
            limits,
            state: Mutex::default(),
        }
    }

    /// The relay as libp2p runs it, unless it is off. It asks `policy`; its own limits stand behind that one's, a
    /// little wider, since it counts a renewal as one more place.
    pub(crate) fn server(policy: &Arc<Self>, us: PeerId, limits: &RelayLimits) -> Option<relay::Behaviour> {
        if policy.serve == RelayServe::Off {
            return None;
        }
        let longest = Duration::from_secs(u32::MAX.into());
        let (places, circuits) = (Arc::clone(policy), Arc::clone(policy));
        let config = relay::Config {
            max_reservations: limits.reservations.saturating_mul(2),
            max_circuits: limits.circuits,
            max_circuits_per_peer: limits.circuits_per_peer.saturating_sub(1),
            max_circuit_duration: limits.circuit_duration.min(longest),
            max_circuit_bytes: limits.circuit_bytes,
            reservation_rate_limiters: vec![Box::new(move |peer: PeerId, from: &Multiaddr, _| {
                places.place(peer, from).is_ok()
            })],
            circuit_src_rate_limiters: vec![Box::new(move |peer: PeerId, from: &Multiaddr, _| {
                circuits.circuit(peer, from).is_ok()
            })],
            ..relay::Config::default()
        };
        Some(relay::Behaviour::new(us, config))
    }

    /// Whether this node is a relay at all.
    pub(crate) fn serves(&self) -> bool {
        self.serve != RelayServe::Off
    }

    /// Who may have a place when we serve contacts only. Places that exist stay until they expire.
    pub(crate) fn set_contacts(&self, contacts: impl IntoIterator<Item = PeerId>) {
        self.lock().contacts = contacts.into_iter().collect();
    }

    /// Somebody at `from` wants a place, or to keep it.
    fn place(&self, peer: PeerId, from: &Multiaddr) -> Result<(), Refusal> {
        let mut state = self.lock();
        let known = state.places.contains(&peer);
        let verdict = if self.serve == RelayServe::Contacts && !state.contacts.contains(&peer) {
            Err(Refusal::Stranger)
        } else if !state.asks(peer, self.limits.requests_per_minute, Instant::now()) {
            Err(Refusal::TooOften)
        } else if !known && state.places.len() >= self.limits.reservations {
            Err(Refusal::Full)
        } else {
            Ok(())
        };
        match verdict {
            Ok(()) => {
                state.places.insert(peer);
                state.note(peer, from);
            }
            Err(refusal) => state.refuse(peer, refusal),
        }
        verdict
    }

    /// Somebody at `from` wants to call a gateway that has a place.
    fn circuit(&self, peer: PeerId, from: &Multiaddr) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.asks(peer, self.limits.requests_per_minute, Instant::now()) {
            state.note(peer, from);
            Ok(())
        } else {
            state.refuse(peer, Refusal::TooOften);
            Err(Refusal::TooOften)
        }
    }

    /// Why the last request of this gateway was refused; `Circuits` if libp2p's own limit did it.
    pub(crate) fn why_refused(&self, peer: &PeerId) -> Refusal {
        let mut state = self.lock();
        if let Some(refusal) = state.refused.remove(peer) {
            return refusal;
        }
        state.refusals += 1;
        Refusal::Circuits
    }

    /// A place was given back, or expired.
    pub(crate) fn place_ended(&self, peer: &PeerId) {
        self.lock().places.remove(peer);
    }

    /// A circuit began.
    pub(crate) fn circuit_began(&self, from: PeerId, to: PeerId) {
        let mut state = self.lock();
        for peer in [from, to] {
            *state.circuits.entry(peer).or_default() += 1;
        }
    }

    /// A circuit ended.
    pub(crate) fn circuit_ended(&self, from: PeerId, to: PeerId) {
        let mut state = self.lock();
        for peer in [from, to] {
            if let Some(count) = state.circuits.get_mut(&peer) {
                *count -= 1;
                if *count == 0 {
                    state.circuits.remove(&peer);
                }
            }
        }
    }

    /// Whether the connection of this gateway from `remote` carries something for others, or waits to.
    pub(crate) fn carries(&self, peer: &PeerId, remote: &Multiaddr) -> bool {
        let state = self.lock();
        let asked_from = state.asked_from.get(peer);
        state.carries(peer) && asked_from.is_some_and(|asked_from| asked_from.contains(remote))
    }

    /// Whether this gateway has a place here.
    pub(crate) fn has_place(&self, peer: &PeerId) -> bool {
        self.lock().places.contains(peer)
    }

    /// Where this gateway asked from before it moved: other IP addresses than the one it asked from last. They are
    /// forgotten by that.
    pub(crate) fn moved_from(&self, peer: &PeerId) -> HashSet<IpAddr> {
        let mut state = self.lock();
        let Some(asked_from) = state.asked_from.get_mut(peer) else {
            return HashSet::new();
        };
        let Some(now_at) = asked_from.last().and_then(address::ip_of) else {
            return HashSet::new();
        };
        let left = |from: &Multiaddr| {
            address::ip_of(from).is_some_and(|ip| ip != now_at && ip.is_ipv4() == now_at.is_ipv4())
        };
        let moved = asked_from.extract_if(.., |from| left(from));
        moved.filter_map(|from| address::ip_of(&from)).collect()
    }

    /// How much is carried.
    pub(crate) fn load(&self) -> RelayLoad {
        let state = self.lock();
        RelayLoad {
            reservations: state.places.len(),
            circuits: state.circuits.values().sum::<usize>() / 2,
            refused: state.refusals,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn asks(&mut self, peer: PeerId, per_minute: u32, now: Instant) -> bool {
        self.requests
            .retain(|_, (since, _)| now.saturating_duration_since(*since) < WINDOW);
        if self.requests.len() >= MAX_REMEMBERED {
            self.requests.clear();
        }
        let (_, count) = self.requests.entry(peer).or_insert((now, 0));
        *count = count.saturating_add(1);
        *count <= per_minute
    }

    fn carries(&self, peer: &PeerId) -> bool {
        self.places.contains(peer) || self.circuits.contains_key(peer)
    }

    fn note(&mut self, peer: PeerId, from: &Multiaddr) {
        if self.asked_from.len() >= MAX_REMEMBERED {
            let mut asked_from = std::mem::take(&mut self.asked_from);
            asked_from.retain(|peer, _| self.carries(peer));
            self.asked_from = asked_from;
        }
        let asked_from = self.asked_from.entry(peer).or_default();
        asked_from.retain(|known| known != from);
        asked_from.push(from.clone());
        if asked_from.len() > MAX_CARRYING {
            asked_from.remove(0);
        }
    }

    fn refuse(&mut self, peer: PeerId, refusal: Refusal) {
        self.refusals += 1;
        if self.refused.len() >= MAX_REMEMBERED {
            self.refused.clear();
        }
        self.refused.insert(peer, refusal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from() -> Multiaddr {
        "/ip4/192.0.2.1/tcp/9000".parse().unwrap()
    }

    fn policy(serve: RelayServe, limits: RelayLimits) -> Policy {
        Policy::new(serve, limits)
    }

    #[test]
    fn contacts_get_a_place_and_strangers_are_told_why_not() {
        let policy = policy(RelayServe::Contacts, RelayLimits::default());
        let (contact, stranger) = (PeerId::random(), PeerId::random());
        policy.set_contacts([contact]);
        assert_eq!(policy.place(contact, &from()), Ok(()));
        assert_eq!(policy.place(stranger, &from()), Err(Refusal::Stranger));
        assert_eq!(policy.why_refused(&stranger), Refusal::Stranger);
        assert!(policy.carries(&contact, &from()) && !policy.carries(&stranger, &from()));
        assert_eq!(
            policy.circuit(stranger, &from()),
            Ok(()),
            "anybody may call a contact"
        );
        policy.place_ended(&contact);
        assert!(!policy.carries(&contact, &from()));
    }

    #[test]
    fn a_full_relay_still_renews() {
        let limits = RelayLimits {
            reservations: 1,
            ..RelayLimits::default()
        };
        let policy = policy(RelayServe::Anyone, limits);
        let (first, second) = (PeerId::random(), PeerId::random());
        assert_eq!(policy.place(first, &from()), Ok(()));
        assert_eq!(policy.place(second, &from()), Err(Refusal::Full));
        assert_eq!(policy.place(first, &from()), Ok(()));
        policy.place_ended(&first);
        assert_eq!(policy.place(second, &from()), Ok(()));
        assert_eq!(policy.load().refused, 1);
    }

    #[test]
    fn who_asks_too_often_waits_and_does_not_keep_others_out() {
        let policy = policy(RelayServe::Anyone, RelayLimits::default());
        let (loud, quiet) = (PeerId::random(), PeerId::random());
        let limit = RelayLimits::default().requests_per_minute;
        for _ in 0..limit {
            assert_eq!(policy.circuit(loud, &from()), Ok(()));
        }
        assert_eq!(policy.circuit(loud, &from()), Err(Refusal::TooOften));
        assert_eq!(policy.circuit(quiet, &from()), Ok(()));
        for _ in 0..10 * MAX_REMEMBERED {
            let _ = policy.circuit(PeerId::random(), &from());
        }
        assert!(policy.lock().requests.len() <= MAX_REMEMBERED);
    }

    #[test]
    fn a_gateway_that_asks_from_elsewhere_has_moved() {
        let policy = policy(RelayServe::Anyone, RelayLimits::default());
        let at = |text: &str| text.parse::<Multiaddr>().unwrap();
        let peer = PeerId::random();
        assert_eq!(policy.moved_from(&peer), HashSet::new());
        for same_place in ["/ip4/192.0.2.1/tcp/1", "/ip6/2001:db8::1/tcp/1"] {
            assert_eq!(policy.place(peer, &at(same_place)), Ok(()));
            assert_eq!(policy.moved_from(&peer), HashSet::new());
        }
        assert_eq!(policy.place(peer, &at("/ip4/192.0.2.1/tcp/2")), Ok(()));
        assert_eq!(policy.moved_from(&peer), HashSet::new());
        assert_eq!(policy.place(peer, &at("/ip4/198.51.100.1/tcp/1")), Ok(()));
        assert_eq!(
            policy.moved_from(&peer),
            HashSet::from(["192.0.2.1".parse().unwrap()])
        );
        assert_eq!(policy.moved_from(&peer), HashSet::new());
        assert!(policy.has_place(&peer) && policy.carries(&peer, &at("/ip4/198.51.100.1/tcp/1")));
    }

    #[test]
    fn circuits_are_counted_for_both_ends() {
        let policy = policy(RelayServe::Anyone, RelayLimits::default());
        let (one, other) = (PeerId::random(), PeerId::random());
        assert_eq!(policy.circuit(one, &from()), Ok(()));
        assert!(!policy.carries(&one, &from()));
        policy.circuit_began(one, other);
        assert_eq!(policy.load().circuits, 1);
        assert!(policy.carries(&one, &from()));
        policy.circuit_ended(one, other);
        policy.circuit_ended(one, other);
        assert_eq!(policy.load().circuits, 0);
        assert!(!policy.carries(&one, &from()));
    }
}
