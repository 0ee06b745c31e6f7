//! Which ways connections take, and those that lead nowhere any more.

use std::collections::HashSet;
use std::net::IpAddr;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use super::{Connection, Connections};
use crate::address::Carrier;

impl Connections {
    /// Whether we reached `peer` over this carrier from a port we listen on.
    pub(crate) fn sees_us_over(&self, peer: &PeerId, carrier: Carrier) -> bool {
        let mut of_peer = self.known.values().filter(|known| known.peer == *peer);
        of_peer.any(|known| known.from_listener && known.usable() && known.carrier() == Some(carrier))
    }

    /// Whether we dialed a connection from a port we listen on, and over what.
    pub(crate) fn dialed_from_listener_over(&self, id: ConnectionId) -> Option<Carrier> {
        let known = self.known.get(&id).filter(|known| known.from_listener)?;
        known.carrier()
    }

    /// Closes the connections that began with an address of this machine that `is_gone`: nothing of them will ever arrive
    /// again. Says how many.
    pub(crate) fn close_moved(&mut self, is_gone: impl Fn(IpAddr) -> bool) -> usize {
        let locals: HashSet<IpAddr> = self.known.values().filter_map(|known| known.local).collect();
        let gone: HashSet<IpAddr> = locals.into_iter().filter(|local| is_gone(*local)).collect();
        let gone = |known: &Connection| known.local.is_some_and(|local| gone.contains(&local));
        let moved = self.known.iter().filter(|(_, known)| gone(known));
        let moved: Vec<ConnectionId> = moved.map(|(id, _)| *id).collect();
        let count = moved.len();
        moved.into_iter().for_each(|id| self.close(id));
        count
    }

    /// Closes the direct connections of a peer with one of these hosts.
    pub(crate) fn close_from(&mut self, peer: &PeerId, hosts: &HashSet<IpAddr>) {
        let left =
            |known: &Connection| known.peer == *peer && known.ip().is_some_and(|ip| hosts.contains(&ip));
        let left = self.known.iter().filter(|(_, known)| left(known));
        let left: Vec<ConnectionId> = left.map(|(id, _)| *id).collect();
        left.into_iter().for_each(|id| self.close(id));
    }

    /// Whether a circuit of ours goes through this relay.
    pub(crate) fn goes_through(&self, relay: &PeerId) -> bool {
        self.known
            .values()
            .any(|known| known.relay.as_ref() == Some(relay) && known.usable())
    }

    /// Whether there is any connection that does not go through a relay.
    pub(crate) fn has_direct(&self) -> bool {
        self.known.values().any(|known| !known.relayed && known.usable())
    }

    /// Peers that we dialed directly, each once, and where.
    pub(crate) fn dialed_directly(&self) -> Vec<(PeerId, Multiaddr)> {
        let mut dialed: Vec<(PeerId, Multiaddr)> = Vec::new();
        let usable = |known: &&Connection| !known.inbound && !known.relayed && known.usable();
        for known in self.known.values().filter(usable) {
            if !dialed.iter().any(|(peer, _)| *peer == known.peer) {
                dialed.push((known.peer, known.remote.clone()));
            }
        }
        dialed
    }

    /// The other end of a connection, and where it comes from or goes to.
    pub(crate) fn other_end(&self, id: ConnectionId) -> Option<(&PeerId, &Multiaddr)> {
        let known = self.known.get(&id)?;
        Some((&known.peer, &known.remote))
    }

    /// The relay a connection goes through.
    pub(crate) fn relay_of(&self, id: ConnectionId) -> Option<PeerId> {
        self.known.get(&id)?.relay
    }
}
