//! Which of the addresses that others say are ours a behaviour gets to hear of.
//!
//! Any peer can claim to have seen us anywhere, as often as it likes, and the behaviours of libp2p remember what
//! they are told for ever. So they hear of a bounded number of addresses, and of none that means nothing elsewhere.

use std::collections::HashSet;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::ExternalAddrConfirmed;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NewExternalAddrCandidate, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::address;

/// Most addresses a behaviour hears of while this machine keeps its own.
const MAX_CANDIDATES: usize = 256;

/// A behaviour that hears only of candidates worth something.
pub(crate) struct Candidates<B> {
    inner: B,
    on_loopback: bool,
    confirmed_too: bool,
    passed: HashSet<Multiaddr>,
}

impl<B> Candidates<B> {
    /// With `on_loopback`, addresses of this machine count: the node listens nowhere else.
    pub(crate) fn new(inner: B, on_loopback: bool) -> Self {
        Self {
            inner,
            on_loopback,
            confirmed_too: false,
            passed: HashSet::new(),
        }
    }

    /// It also hears, as of a candidate, of an address that is known to work before anybody saw us there: one the
    /// operator named, or a router forwards. The swarm says of those only that they are confirmed, and hole punching
    /// does not listen to that: it would have no address to offer.
    pub(crate) fn and_confirmed(mut self) -> Self {
        self.confirmed_too = true;
        self
    }

    /// The behaviour itself. What it heard of does not count towards the bound any more: this machine is elsewhere.
    pub(crate) fn anew(&mut self) -> &mut B {
        self.passed.clear();
        &mut self.inner
    }

    /// The behaviour itself.
    pub(crate) fn inner_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    fn passes(&mut self, candidate: &Multiaddr) -> bool {
        if !address::is_public(candidate, self.on_loopback) || address::is_relayed(candidate) {
            return false;
        }
        if self.passed.contains(candidate) {
            return true;
        }
        self.passed.len() < MAX_CANDIDATES && self.passed.insert(candidate.clone())
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Candidates<B> {
    type ConnectionHandler = B::ConnectionHandler;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner
            .handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_outbound_connection(id, peer, remote, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::NewExternalAddrCandidate(NewExternalAddrCandidate { addr }) if !self.passes(addr) => {
                return;
            }
            FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr })
                if self.confirmed_too && self.passes(addr) =>
            {
                let candidate = NewExternalAddrCandidate { addr };
                self.inner
                    .on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
            }
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use libp2p::dcutr;

    use super::super::recorder::Recorder;
    use super::*;

    #[test]
    fn only_so_many_addresses_that_mean_something_elsewhere_are_heard_of() {
        let us = PeerId::random();
        let mut candidates = Candidates::new(dcutr::Behaviour::new(us), false);
        let mut passes = |text: &str| candidates.passes(&text.parse().unwrap());
        for private in [
            "/ip4/127.0.0.1/tcp/9",
            "/ip4/192.168.1.2/tcp/9",
            "/ip4/10.0.0.2/tcp/9",
            "/ip4/100.64.0.2/tcp/9",
            "/ip6/fd00::1/tcp/9",
            "/ip6/fe80::1/tcp/9",
            "/dns/example.org/tcp/9",
            &format!("/ip4/198.51.100.7/tcp/9/p2p/{us}/p2p-circuit"),
        ] {
            assert!(!passes(private), "{private}");
        }
        assert!(passes("/ip4/198.51.100.7/tcp/9"));
        let told = (1..1000).filter(|port| passes(&format!("/ip4/198.51.100.8/tcp/{port}")));
        assert_eq!(told.count(), MAX_CANDIDATES - 1);
        assert!(
            passes("/ip4/198.51.100.7/tcp/9"),
            "what is known may be said again"
        );
    }

    #[test]
    fn addresses_that_are_known_to_work_are_heard_of_where_that_is_wanted() {
        let heard = |and_confirmed: bool| {
            let recorder = Recorder::new(Vec::new());
            let heard = Arc::clone(&recorder.heard);
            let mut candidates = Candidates::new(recorder, false);
            if and_confirmed {
                candidates = candidates.and_confirmed();
            }
            for address in ["/ip4/198.51.100.7/tcp/9", "/ip4/192.168.1.2/tcp/9"] {
                let addr: Multiaddr = address.parse().unwrap();
                let confirmed = ExternalAddrConfirmed { addr: &addr };
                candidates.on_swarm_event(FromSwarm::ExternalAddrConfirmed(confirmed));
            }
            heard.lock().unwrap().clone()
        };
        assert!(heard(false).is_empty());
        assert_eq!(heard(true), ["/ip4/198.51.100.7/tcp/9"]);
    }
}
