//! How we can be reached, put together for those who ask.

use clawchat_types::{Locator, UnixSeconds};
use libp2p::{Multiaddr, relay};

use super::keeper::Standing;
use super::reachability::{Reachability, RelayPlace, RelayState};
use crate::actor::Actor;
use crate::{NodeEvent, address};

impl Actor {
    /// Brings what others see up to date.
    pub(super) fn nat_changed(&mut self) {
        let needed = !self.nat.is_public();
        self.nat.keeper.set_needed(needed);
        self.rely_on_relays();
        let mut facts = self.reachability();
        let changed = self.view.reachable(|known| {
            facts.changed_at = known.changed_at;
            let same_but_load = Reachability {
                serving: known.serving,
                ..facts.clone()
            } == *known;
            if !same_but_load {
                facts.changed_at = UnixSeconds(self.state.clock.now().wall.seconds().0);
            }
            *known = facts;
            !same_but_load
        });
        if changed {
            self.emit(NodeEvent::ReachabilityChanged);
        }
    }

    fn reachability(&self) -> Reachability {
        let part = &self.nat;
        let us = &self.view.peer_id;
        let locators = |addresses: &mut dyn Iterator<Item = &Multiaddr>| -> Vec<Locator> {
            addresses
                .filter_map(|address| address::to_locator(address, us))
                .collect()
        };
        let place = |standing: Standing| {
            let through = part.through_relays.iter();
            let through = through.filter(|(relay, _)| *relay == standing.peer);
            let state = match standing {
                Standing { placed: true, .. } => RelayState::Placed,
                Standing { trying: true, .. } => RelayState::Trying,
                Standing { .. } => RelayState::Idle,
            };
            Some(RelayPlace {
                peer: address::from_libp2p(&standing.peer)?,
                configured: standing.configured,
                state,
                locators: through.map(|(_, locator)| locator.clone()).collect(),
                trouble: standing.trouble,
            })
        };
        let mut punched: Vec<_> = part.punched.iter().filter_map(address::from_libp2p).collect();
        punched.sort_unstable();
        Reachability {
            public: locators(&mut part.external.iter().chain(&part.confirmed)),
            mapped: locators(&mut part.mapped.iter()),
            failed: locators(&mut part.failed.iter()),
            relays: part.keeper.standings().into_iter().filter_map(place).collect(),
            punched,
            serving: part.policy.serves().then(|| part.policy.load()),
            can_serve: part.policy.serves() && part.is_public(),
            mapping_trouble: part.mapping_trouble.clone(),
            changed_at: UnixSeconds(0),
        }
    }
}

/// Why a relay gives us no place.
pub(super) fn refusal_in_words(error: &std::io::Error) -> String {
    use relay::outbound::hop::ReserveError as Error;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<Error>() {
            return match error {
                Error::Unsupported => {
                    "it is no relay, or cannot be one at the moment because it is not reachable itself"
                        .to_owned()
                }
                Error::ResourceLimitExceeded => {
                    "it refuses: it is full, or relays only for its own contacts".to_owned()
                }
                Error::Refused => "it refuses".to_owned(),
                Error::Io(error) => format!("the connection broke: {error}"),
                Error::Protocol(error) => format!("it breaks the protocol: {error}"),
            };
        }
        cause = error.source();
    }
    error.to_string()
}
