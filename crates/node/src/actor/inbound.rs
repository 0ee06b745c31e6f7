//! Which handshakes that others begin are taken up.

use std::collections::HashMap;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

use super::Actor;
use crate::rate::Source;

impl Actor {
    /// Whether where `peer` comes from has not begun too many handshakes lately.
    pub(super) fn may_begin(&mut self, peer: PeerId, connection: ConnectionId) -> bool {
        let source = self.source(peer, connection);
        source.is_none_or(|source| self.state.rate.begin(source, Instant::now()))
    }

    /// Where a handshake is counted; nowhere on a connection that has a session.
    pub(super) fn source(&self, peer: PeerId, connection: ConnectionId) -> Option<Source> {
        self.swarm.behaviour().connections.source(peer, connection)
    }

    /// Whether `peer` may start another handshake. If too many are under way, the oldest one of the busiest
    /// peer has to go.
    pub(super) fn make_room(&mut self, peer: &PeerId) -> bool {
        if self.state.running.len() >= self.limits.sessions {
            return false;
        }
        let mut per_peer: HashMap<PeerId, usize> = HashMap::new();
        let handshakes = || {
            self.state
                .running
                .values()
                .filter(|task| task.inbound && !task.authenticated && !task.doomed)
        };
        handshakes().for_each(|task| *per_peer.entry(task.peer).or_default() += 1);
        if per_peer
            .get(peer)
            .is_some_and(|count| *count >= self.limits.handshakes_per_peer)
        {
            return false;
        }
        if per_peer.values().sum::<usize>() >= self.limits.handshakes {
            let busiest = per_peer.values().max().copied();
            let victim = handshakes()
                .filter(|task| per_peer.get(&task.peer).copied() == busiest)
                .min_by_key(|task| task.order)
                .map(|task| task.abort.id());
            if let Some(victim) = victim.and_then(|id| self.state.running.get_mut(&id)) {
                victim.doomed = true;
                victim.abort.abort();
            }
        }
        true
    }
}
