//! Where relays see us, over TCP and over QUIC.
//!
//! Routers treat the two apart: what a relay sees of one says nothing about the other, and some pairs of gateways can
//! punch a hole with one of them only. So whoever uses a relay connects with it over both, from the ports it listens
//! on.

use std::collections::HashMap;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use crate::address::Carrier;

/// Relays this is kept of.
const MAX_RELAYS: usize = 64;

/// What we know of each relay.
#[derive(Default)]
pub(crate) struct Sightings {
    relays: HashMap<PeerId, [Sight; Carrier::ALL.len()]>,
}

/// How far we are with one relay over one carrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sight {
    /// Nothing was tried.
    #[default]
    Unknown,
    /// The relay is being dialed, or has not said yet where it sees us.
    Asked(ConnectionId),
    /// It said where it sees us.
    Seen,
    /// It cannot be reached that way.
    Hopeless,
}

impl Sightings {
    /// A relay said over this carrier where it sees us.
    pub(crate) fn seen(&mut self, relay: PeerId, carrier: Carrier) {
        if let Some(sight) = self.sight(relay, carrier) {
            *sight = Sight::Seen;
        }
    }

    /// The carriers to dial the relay over. `connected` says whether a connection over one is still there.
    pub(crate) fn missing(&mut self, relay: PeerId, connected: impl Fn(Carrier) -> bool) -> Vec<Carrier> {
        let mut missing = Vec::new();
        for carrier in Carrier::ALL {
            let there = connected(carrier);
            if let Some(sight) = self.sight(relay, carrier)
                && !there
                && !matches!(sight, Sight::Asked(_))
            {
                *sight = Sight::Unknown;
                missing.push(carrier);
            }
        }
        missing
    }

    /// The relay is being dialed over this carrier; `None`: there is no address for that.
    pub(crate) fn dialing(&mut self, relay: PeerId, carrier: Carrier, dial: Option<ConnectionId>) {
        if let Some(sight) = self.sight(relay, carrier) {
            *sight = dial.map_or(Sight::Hopeless, Sight::Asked);
        }
    }

    /// A dial failed, or the connection is gone.
    pub(crate) fn failed(&mut self, dial: ConnectionId) {
        let mut all = self.relays.values_mut().flatten();
        if let Some(sight) = all.find(|sight| **sight == Sight::Asked(dial)) {
            *sight = Sight::Hopeless;
        }
    }

    /// Whether the relay has said all it ever will of where it sees us.
    pub(crate) fn settled(&self, relay: &PeerId) -> bool {
        self.relays.get(relay).is_none_or(|sights| {
            sights
                .iter()
                .all(|sight| matches!(sight, Sight::Seen | Sight::Hopeless))
        })
    }

    /// The last connection with a gateway is gone.
    pub(crate) fn disconnected(&mut self, relay: &PeerId) {
        self.relays.remove(relay);
    }

    /// Nothing of it counts any more: we are elsewhere.
    pub(crate) fn clear(&mut self) {
        self.relays.clear();
    }

    fn sight(&mut self, relay: PeerId, carrier: Carrier) -> Option<&mut Sight> {
        if self.relays.len() >= MAX_RELAYS && !self.relays.contains_key(&relay) {
            return None;
        }
        let [tcp, quic] = self.relays.entry(relay).or_default();
        Some(match carrier {
            Carrier::Tcp => tcp,
            Carrier::Quic => quic,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_asked_over_what_it_has_not_seen_us_over() {
        let mut sightings = Sightings::default();
        let relay = PeerId::random();
        assert!(sightings.settled(&relay), "nothing is expected of it");
        sightings.seen(relay, Carrier::Tcp);
        assert!(!sightings.settled(&relay));
        let over_tcp = |carrier| carrier == Carrier::Tcp;
        assert_eq!(sightings.missing(relay, over_tcp), [Carrier::Quic]);
        let dial = ConnectionId::new_unchecked(1);
        sightings.dialing(relay, Carrier::Quic, Some(dial));
        assert_eq!(sightings.missing(relay, over_tcp), [], "that is under way");
        assert!(!sightings.settled(&relay));
        sightings.failed(dial);
        assert!(sightings.settled(&relay));
        assert_eq!(
            sightings.missing(relay, over_tcp),
            [Carrier::Quic],
            "perhaps later"
        );
        sightings.dialing(relay, Carrier::Quic, Some(dial));
        sightings.seen(relay, Carrier::Quic);
        assert!(sightings.settled(&relay));
        assert_eq!(sightings.missing(relay, |_| true), []);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut sightings = Sightings::default();
        for _ in 0..1000 {
            sightings.seen(PeerId::random(), Carrier::Tcp);
        }
        assert_eq!(sightings.relays.len(), MAX_RELAYS);
    }
}
