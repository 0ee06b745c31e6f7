//! Which handshakes that others begin are taken up.

use std::collections::HashMap;
use std::sync::Arc;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

use super::Actor;
use crate::address;
use crate::counters::Handshake;
use crate::rate::Source;
use crate::session::task as session;
use crate::swarm::{Protocol, SubstreamEvent};

impl Actor {
    /// A peer opened a substream, or tried to.
    pub(crate) fn on_substream(&mut self, event: SubstreamEvent) {
        match event {
            SubstreamEvent::Inbound {
                peer,
                connection,
                protocol,
                substream,
            } => {
                if let Err(refused) = self.take_up(peer, connection, protocol) {
                    tracing::debug!(%peer, ?refused, "session refused: too many are being opened");
                    self.view.tally.handshake_over(refused);
                    if protocol == Protocol::Native {
                        self.state.refusals.refuse(substream);
                    }
                    return;
                }
                let Some(name) = address::from_libp2p(&peer) else {
                    return;
                };
                if protocol != Protocol::Native {
                    self.on_legacy_substream(peer, name, connection, protocol, substream);
                    return;
                }
                let task = session::answer(
                    self.context(name, connection),
                    substream,
                    Arc::clone(&self.gatekeeper),
                    self.events.clone(),
                );
                self.spawn(peer, connection, protocol, true, task);
            }
            SubstreamEvent::Refused { peer, substream } => {
                tracing::debug!(%peer, "session refused: too many on one connection");
                self.view.tally.handshake();
                self.view.tally.handshake_over(Handshake::TooMany);
                self.state.refusals.refuse(substream);
            }
        }
    }

    /// Whether what a peer begins is to be answered. An exchange of addresses of profile 1.0 is no handshake, but takes
    /// up room like one.
    fn take_up(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        protocol: Protocol,
    ) -> Result<(), Handshake> {
        if protocol != Protocol::LegacyPx1 {
            self.view.tally.handshake();
            if !self.may_begin(peer, connection) {
                return Err(Handshake::TooOften);
            }
        }
        if self.make_room(&peer) {
            Ok(())
        } else {
            Err(Handshake::TooMany)
        }
    }

    /// Whether where `peer` comes from has not begun too many handshakes lately.
    fn may_begin(&mut self, peer: PeerId, connection: ConnectionId) -> bool {
        let source = self.source(peer, connection);
        source.is_none_or(|source| self.state.rate.begin(source, Instant::now()))
    }

    /// Where a handshake is counted; nowhere on a connection that has a session.
    pub(super) fn source(&self, peer: PeerId, connection: ConnectionId) -> Option<Source> {
        self.swarm.behaviour().connections.source(peer, connection)
    }

    /// Whether `peer` may start another handshake. If too many are under way, the oldest one of the busiest
    /// peer has to go.
    fn make_room(&mut self, peer: &PeerId) -> bool {
        if self.state.running.len() >= self.limits.sessions {
            return false;
        }
        let mut per_peer: HashMap<PeerId, usize> = HashMap::new();
        let handshakes = || {
            self.state
                .running
                .values()
                .filter(|task| task.inbound && task.authenticated.is_none() && !task.doomed)
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
