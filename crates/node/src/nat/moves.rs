//! Noticing that this machine went elsewhere, that others did or fell silent, and asking again from time to time
//! whether our addresses work.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, identify, ping};
use tokio::time::Instant;

use super::part::without_peer;
use crate::actor::Actor;
use crate::address::{self, Carrier};
use crate::swarm::{PING_INTERVAL, PING_TIMEOUT};
use crate::{NodeEvent, clock};

/// How long after a change of this machine's addresses something is done about it: some come back at once, and with
/// them everything that used them.
const SETTLE: Duration = Duration::from_secs(1);
/// How often peers are asked again whether our addresses work.
const RETEST_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// How much longer it may take, so that not everybody asks at once.
const RETEST_JITTER: Duration = Duration::from_secs(3 * 60);
/// Peers that are dialed for that.
const RETEST_PEERS: usize = 2;
/// How long a relay we rely on may be silent.
const RELAY_SILENCE: Duration = PING_INTERVAL.saturating_add(PING_TIMEOUT);
/// How long somebody who relies on us as a relay may be: one ping may get lost.
const GUEST_SILENCE: Duration = RELAY_SILENCE.saturating_mul(2);
/// Addresses of a relay that are dialed to learn how it sees us.
const MAX_RELAY_ADDRESSES: usize = 2;

/// What is remembered for that.
pub(crate) struct Moves {
    /// Set once the addresses this machine started with are known.
    begun: bool,
    /// When this machine's addresses have settled since they last changed.
    settled_at: Option<Instant>,
    retest_at: Instant,
    /// When a ping was last answered on a connection, and when that is to be looked at. What libp2p says of failures
    /// comes too late, and says nothing of the first one.
    answers: HashMap<ConnectionId, Answered>,
}

/// The last answer to a ping on a connection.
struct Answered {
    at: Instant,
    look_at: Instant,
}

impl Moves {
    /// Nothing has changed yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            begun: false,
            settled_at: None,
            retest_at: now + retest_pause(),
            answers: HashMap::new(),
        }
    }

    /// From now on addresses change.
    pub(super) fn begin(&mut self) {
        self.begun = true;
    }

    /// When there is something to do.
    pub(super) fn next_deadline(&self) -> Instant {
        let looks = self.answers.values().map(|answer| answer.look_at);
        let due = looks.chain(self.settled_at).min();
        due.map_or(self.retest_at, |at| at.min(self.retest_at))
    }

    /// This machine has an address more, or less.
    pub(super) fn addresses_changed(&mut self, now: Instant) {
        self.settled_at = self.begun.then(|| now + SETTLE);
    }

    /// A connection is gone.
    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.answers.remove(&connection);
    }

    fn is_settled(&mut self, now: Instant) -> bool {
        self.settled_at.take_if(|at| now >= *at).is_some()
    }

    fn is_time_to_retest(&mut self, now: Instant) -> bool {
        let due = now >= self.retest_at;
        if due {
            self.retest_at = now + retest_pause();
        }
        due
    }

    /// A ping was answered.
    fn answered(&mut self, connection: ConnectionId, now: Instant) {
        let look_at = now + RELAY_SILENCE;
        self.answers.insert(connection, Answered { at: now, look_at });
    }

    /// Connections that were silent for so long that a relay should not be, and for how long. Each is named once, and
    /// once more when not even a guest should be.
    fn silent(&mut self, now: Instant) -> Vec<(ConnectionId, Duration)> {
        let mut silent = Vec::new();
        self.answers.retain(|id, answer| {
            if now < answer.look_at {
                return true;
            }
            let silence = now.saturating_duration_since(answer.at);
            silent.push((*id, silence));
            answer.look_at = answer.at + GUEST_SILENCE;
            silence < GUEST_SILENCE
        });
        silent
    }
}

fn retest_pause() -> Duration {
    RETEST_INTERVAL + clock::jitter(RETEST_JITTER)
}

impl Actor {
    /// Does what is due of this.
    pub(super) fn tend_moves(&mut self, now: Instant) {
        if self.nat.moves.is_settled(now) {
            self.moved(now);
        }
        if self.nat.moves.is_time_to_retest(now) {
            self.retest();
        }
        for (connection, silence) in self.nat.moves.silent(now) {
            self.fell_silent(connection, silence);
        }
    }

    /// This machine's addresses have changed. Connections that began with one that is gone are dead, but would not show
    /// it for a minute.
    fn moved(&mut self, now: Instant) {
        let behaviour = self.swarm.behaviour_mut();
        let closed = behaviour.connections.close_moved(address::is_gone);
        let elsewhere = closed > 0 || !behaviour.connections.has_direct();
        if closed > 0 {
            tracing::info!(
                closed,
                "this machine is on another network: connections from the last one are given up"
            );
        }
        if elsewhere {
            if let Some(reachable) = behaviour.reachable.as_mut() {
                reachable.anew().anew();
            }
            if let Some(hole_punching) = behaviour.hole_punching.as_mut() {
                hole_punching.0.anew();
            }
            // What peers said of the old place is no longer so.
            self.nat.failed.clear();
            self.nat.sightings.clear();
            for known in std::mem::take(&mut self.nat.confirmed) {
                self.swarm.remove_external_address(&known);
            }
            self.confirm_own_addresses();
        }
        self.nat.keeper.moved(now);
        self.emit(NodeEvent::Moved);
    }

    /// Lets peers try our addresses again. They are asked over new connections only, see `Retested`.
    fn retest(&mut self) {
        let behaviour = self.swarm.behaviour_mut();
        let Some(reachable) = behaviour.reachable.as_mut() else {
            return;
        };
        reachable.inner_mut().again();
        let relays = self.nat.keeper.in_use();
        let mut peers = behaviour.connections.dialed_directly();
        peers.sort_by_key(|(peer, _)| !relays.contains(peer));
        peers.truncate(RETEST_PEERS);
        for (peer, at) in peers {
            tracing::debug!(%peer, "asked again whether our addresses work");
            let opts = DialOpts::peer_id(peer)
                .condition(PeerCondition::Always)
                .addresses(vec![without_peer(at)])
                .allocate_new_port()
                .build();
            // If it does not work out, there is a next time.
            let _ = self.dial_ours(opts);
        }
    }

    /// A ping was answered, or not. QUIC watches for itself whether the other end is there, and answers late to pings
    /// that come more often than the other end sends its own.
    pub(crate) fn nat_ping(&mut self, event: &ping::Event) {
        let id = event.connection;
        let connections = &self.swarm.behaviour().connections;
        let watched = connections.other_end(id).is_some_and(|(_, remote)| {
            Carrier::of(remote) != Some(Carrier::Quic) && !connections.is_relayed(id)
        });
        if event.result.is_ok() && watched {
            self.nat.moves.answered(id, Instant::now());
        }
    }

    /// A relay that we or our circuits rely on must answer, and so must those who rely on us: whoever moved away without
    /// a word must not keep its place.
    fn fell_silent(&mut self, connection: ConnectionId, silence: Duration) {
        let connections = &mut self.swarm.behaviour_mut().connections;
        let Some((peer, remote)) = connections.other_end(connection) else {
            return;
        };
        if self.nat.keeper.has_place(peer) || connections.goes_through(peer) {
            tracing::info!(relay = %peer, ?silence, "the relay does not answer any more");
            connections.close(connection);
        } else if silence >= GUEST_SILENCE && self.nat.policy.carries(peer, remote) {
            tracing::debug!(%peer, ?silence, "who has a place with us does not answer any more");
            connections.close(connection);
        }
    }

    /// Somebody has a new place at our relay. If it has moved, what it left behind is dead: circuits to it must not
    /// end there.
    pub(super) fn who_moved(&mut self, peer: &PeerId) {
        let left = self.nat.policy.moved_from(peer);
        if !left.is_empty() {
            tracing::debug!(%peer, "has moved");
            self.swarm.behaviour_mut().connections.close_from(peer, &left);
        }
    }

    /// A relay said where it sees us. Makes sure that it does over each carrier.
    pub(super) fn be_seen(&mut self, connection: ConnectionId, relay: PeerId, info: &identify::Info) {
        let connections = &self.swarm.behaviour().connections;
        if let Some(carrier) = connections.dialed_from_listener_over(connection) {
            self.nat.sightings.seen(relay, carrier);
        }
        let wanted = self.nat.keeper.in_use().contains(&relay) || self.nat.circuits.waits_for(&relay);
        let Some(ip) = connections.ip(connection).filter(|_| wanted) else {
            return;
        };
        let missing = self
            .nat
            .sightings
            .missing(relay, |carrier| connections.sees_us_over(&relay, carrier));
        for carrier in missing {
            let known = self.nat.keeper.addresses(&relay).iter();
            // The host we talk to already is no stranger's victim.
            let mut addresses: Vec<Multiaddr> = Vec::new();
            for address in known.chain(&info.listen_addrs) {
                let address = without_peer(address.clone());
                if Carrier::of(&address) == Some(carrier)
                    && address::ip_of(&address) == Some(ip)
                    && !addresses.contains(&address)
                    && addresses.len() < MAX_RELAY_ADDRESSES
                {
                    addresses.push(address);
                }
            }
            if addresses.is_empty() {
                self.nat.sightings.dialing(relay, carrier, None);
                continue;
            }
            let opts = DialOpts::peer_id(relay)
                .condition(PeerCondition::Always)
                .addresses(addresses)
                .build();
            self.nat
                .sightings
                .dialing(relay, carrier, Some(opts.connection_id()));
            if let Err((id, _)) = self.dial_ours(opts) {
                self.nat.sightings.failed(id);
            }
        }
        if !self.nat.sightings.settled(&relay) {
            self.nat.circuits.half_identified(&relay, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_acted_upon_once_they_have_settled() {
        let now = Instant::now();
        let mut moves = Moves::new(now);
        moves.addresses_changed(now);
        assert!(!moves.is_settled(now + SETTLE), "those of the start");
        moves.begin();
        moves.addresses_changed(now);
        assert_eq!(moves.next_deadline(), now + SETTLE);
        moves.addresses_changed(now + SETTLE / 2);
        assert!(!moves.is_settled(now + SETTLE));
        assert!(moves.is_settled(now + SETTLE / 2 + SETTLE));
        assert!(!moves.is_settled(now + 2 * SETTLE), "once");
    }

    #[test]
    fn addresses_are_tried_again_from_time_to_time() {
        let now = Instant::now();
        let mut moves = Moves::new(now);
        assert!(!moves.is_time_to_retest(now + RETEST_INTERVAL - Duration::from_secs(1)));
        let latest = now + RETEST_INTERVAL + RETEST_JITTER;
        assert!(moves.next_deadline() <= latest);
        assert!(moves.is_time_to_retest(latest));
        assert!(!moves.is_time_to_retest(latest));
    }

    #[test]
    fn silence_is_noticed_when_it_lasts() {
        let now = Instant::now();
        let mut moves = Moves::new(now);
        let id = ConnectionId::new_unchecked(1);
        moves.answered(id, now);
        assert_eq!(moves.next_deadline(), now + RELAY_SILENCE);
        let again = now + PING_INTERVAL;
        moves.answered(id, again);
        assert_eq!(moves.silent(now + RELAY_SILENCE), []);
        assert_eq!(moves.silent(again + RELAY_SILENCE), [(id, RELAY_SILENCE)]);
        assert_eq!(moves.silent(again + RELAY_SILENCE), [], "said once");
        assert_eq!(moves.next_deadline(), again + GUEST_SILENCE);
        assert_eq!(moves.silent(again + GUEST_SILENCE), [(id, GUEST_SILENCE)]);
        assert!(moves.answers.is_empty());
    }
}
