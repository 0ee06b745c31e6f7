//! Asking again whether our addresses work.
//!
//! libp2p's client asks once about each address and keeps the verdict for ever. But routers restart, ports get
//! forwarded, and laptops move. So from time to time, and whenever this machine's addresses changed, the client is
//! exchanged for a fresh one, which is told of the addresses again. It knows nothing of connections that were there
//! before: the node opens new ones to ask over.

use std::collections::HashSet;
use std::task::{Context, Poll};

use libp2p::autonat::v2::client::Behaviour as Client;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NewExternalAddrCandidate, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

/// Addresses that are told again: as many as one client asks about at a time.
const MAX_TOLD: usize = 16;

/// A client that asks again when told to.
#[derive(Default)]
pub(crate) struct Retested {
    client: Client,
    /// Connections this client knows of.
    known: HashSet<ConnectionId>,
    told: Vec<Multiaddr>,
}

impl Retested {
    /// Forgets every verdict, and asks about the same addresses again.
    pub(crate) fn again(&mut self) {
        self.client = Client::default();
        self.known.clear();
        for addr in &self.told {
            let event = FromSwarm::NewExternalAddrCandidate(NewExternalAddrCandidate { addr });
            self.client.on_swarm_event(event);
        }
    }

    /// Forgets the addresses too: this machine is elsewhere.
    pub(crate) fn anew(&mut self) {
        self.told.clear();
        self.again();
    }

    fn note(&mut self, address: &Multiaddr) {
        if self.told.contains(address) {
            return;
        }
        if self.told.len() >= MAX_TOLD {
            self.told.remove(0);
        }
        self.told.push(address.clone());
    }
}

impl NetworkBehaviour for Retested {
    type ConnectionHandler = <Client as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = <Client as NetworkBehaviour>::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.client
            .handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.client
            .handle_established_outbound_connection(id, peer, remote, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::ConnectionEstablished(event) => {
                self.known.insert(event.connection_id);
            }
            // The client takes it for an error to hear of the end of what it never knew.
            FromSwarm::ConnectionClosed(event) if !self.known.remove(&event.connection_id) => return,
            FromSwarm::NewExternalAddrCandidate(NewExternalAddrCandidate { addr }) => self.note(addr),
            _ => {}
        }
        self.client.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        if self.known.contains(&connection) {
            self.client.on_connection_handler_event(peer, connection, event);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.client.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::ConnectedPoint;
    use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};

    use super::*;

    fn tell(client: &mut Retested, text: &str) {
        let addr: Multiaddr = text.parse().unwrap();
        let event = NewExternalAddrCandidate { addr: &addr };
        client.on_swarm_event(FromSwarm::NewExternalAddrCandidate(event));
    }

    fn connection(client: &mut Retested, id: usize, begins: bool) {
        let endpoint = ConnectedPoint::Listener {
            local_addr: "/ip4/192.0.2.1/tcp/1".parse().unwrap(),
            send_back_addr: "/ip4/192.0.2.2/tcp/1".parse().unwrap(),
        };
        let (peer_id, connection_id) = (PeerId::random(), ConnectionId::new_unchecked(id));
        client.on_swarm_event(if begins {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: 0,
            })
        } else {
            FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id,
                endpoint: &endpoint,
                cause: None,
                remaining_established: 0,
            })
        });
    }

    #[test]
    fn connections_from_before_may_end_after() {
        let mut client = Retested::default();
        connection(&mut client, 1, true);
        client.again();
        connection(&mut client, 2, true);
        connection(&mut client, 1, false);
        connection(&mut client, 2, false);
        assert!(client.known.is_empty());
    }

    #[test]
    fn the_latest_addresses_are_told_again_and_none_after_a_move() {
        let mut client = Retested::default();
        for port in 1..100 {
            tell(&mut client, &format!("/ip4/198.51.100.1/tcp/{port}"));
            tell(&mut client, &format!("/ip4/198.51.100.1/tcp/{port}"));
        }
        client.again();
        assert_eq!(client.told.len(), MAX_TOLD);
        assert_eq!(
            client.told.last(),
            Some(&"/ip4/198.51.100.1/tcp/99".parse().unwrap())
        );
        client.anew();
        assert!(client.told.is_empty());
    }
}
