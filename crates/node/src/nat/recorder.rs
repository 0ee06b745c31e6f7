//! For tests: a behaviour that notes what addresses it hears of, and says what it was given to say.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NewExternalAddrCandidate, NewListenAddr,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::upnp::Event;
use libp2p::{Multiaddr, PeerId};

/// The addresses, in their order.
pub(super) type Heard = Arc<Mutex<Vec<String>>>;

pub(super) struct Recorder {
    pub(super) heard: Heard,
    says: VecDeque<ToSwarm<Event, THandlerInEvent<Self>>>,
}

impl Recorder {
    pub(super) fn new(says: Vec<ToSwarm<Event, THandlerInEvent<Self>>>) -> Self {
        Self {
            heard: Heard::default(),
            says: says.into(),
        }
    }
}

impl NetworkBehaviour for Recorder {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::NewListenAddr(NewListenAddr { addr, .. })
        | FromSwarm::NewExternalAddrCandidate(NewExternalAddrCandidate { addr }) = event
        {
            self.heard.lock().unwrap().push(addr.to_string());
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        self.says.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
