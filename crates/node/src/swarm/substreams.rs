//! The substreams of SNaP2P: opening them on a connection of our choice, and taking what peers open.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use clawchat_snap2p::clawchat1;
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use crate::legacy::Switch;

/// What a substream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// A native session.
    Native,
    /// A session of wire profile 1.0.
    Legacy,
    /// One PX-1 exchange of wire profile 1.0.
    LegacyPx1,
}

impl Protocol {
    /// What multistream-select calls it.
    const fn name(self) -> &'static str {
        match self {
            Self::Native => clawchat_snap2p::PROTOCOL,
            Self::Legacy => clawchat1::PROTOCOL,
            Self::LegacyPx1 => clawchat1::PX1_PROTOCOL,
        }
    }
}

impl AsRef<str> for Protocol {
    fn as_ref(&self) -> &str {
        self.name()
    }
}

/// How long agreeing on the protocol of one substream may take.
pub(crate) const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Substreams of one connection, beyond those it may have, that are being told so at a time. More are dropped.
const MAX_REFUSED: usize = 8;
/// Most substreams waiting to be handed to their connections, over all connections.
const MAX_QUEUED_OPENS: usize = 1024;

/// Where the opener of a substream waits.
pub(crate) type Reply = oneshot::Sender<Result<Substream, OpenError>>;

/// Why a substream did not open. That the connection is gone shows as a dropped [`Reply`].
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The peer does not speak the protocol.
    Unsupported,
    /// The peer did not answer in time: the connection may be dead.
    Timeout,
    /// As many as allowed are open or being opened.
    Busy,
    /// The connection broke.
    Io(io::Error),
}

/// What peers do.
#[derive(Debug)]
pub(crate) enum Event {
    /// A substream was opened by the peer.
    Inbound {
        /// The peer.
        peer: PeerId,
        /// The connection it came over.
        connection: ConnectionId,
        /// What it is for.
        protocol: Protocol,
        /// The substream.
        substream: Substream,
    },
    /// A native substream more than allowed was opened on the connection.
    Refused {
        /// The peer.
        peer: PeerId,
        /// The substream, to tell it so.
        substream: Substream,
    },
}

/// An open substream. Holds its place in the connection's count until dropped.
pub(crate) struct Substream {
    io: libp2p::Stream,
    _place: Arc<()>,
}

impl fmt::Debug for Substream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Substream")
    }
}

impl AsyncRead for Substream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Substream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// The behaviour: hands requests to the connections and their news to the node.
pub(crate) struct Behaviour {
    per_connection: usize,
    legacy: Arc<Switch>,
    actions: VecDeque<ToSwarm<Event, Open>>,
    waker: Option<Waker>,
}

impl Behaviour {
    /// At most `per_connection` substreams each way on one connection. Peers are offered wire profile 1.0 while
    /// `legacy` is on.
    pub(crate) fn new(per_connection: usize, legacy: Arc<Switch>) -> Self {
        Self {
            per_connection,
            legacy,
            actions: VecDeque::new(),
            waker: None,
        }
    }

    /// Opens a substream on exactly this connection.
    pub(crate) fn open(&mut self, peer: PeerId, connection: ConnectionId, protocol: Protocol, reply: Reply) {
        if self.actions.len() >= MAX_QUEUED_OPENS {
            let _ = reply.send(Err(OpenError::Busy));
            return;
        }
        self.actions.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: Open { protocol, reply },
        });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.per_connection, Arc::clone(&self.legacy)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.per_connection, Arc::clone(&self.legacy)))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.actions.push_back(ToSwarm::GenerateEvent(match event {
            FromHandler::Inbound(protocol, substream) => Event::Inbound {
                peer,
                connection,
                protocol,
                substream,
            },
            FromHandler::Refused(substream) => Event::Refused { peer, substream },
        }));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        if let Some(action) = self.actions.pop_front() {
            return Poll::Ready(action);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Asks a connection to open a substream.
#[derive(Debug)]
pub(crate) struct Open {
    protocol: Protocol,
    reply: Reply,
}

/// What a connection reports.
#[derive(Debug)]
pub(crate) enum FromHandler {
    /// The peer opened a substream.
    Inbound(Protocol, Substream),
    /// The peer opened one native one more than allowed.
    Refused(Substream),
}

/// One connection's substreams. Open ones keep the connection alive by themselves.
pub(crate) struct Handler {
    limit: usize,
    legacy: Arc<Switch>,
    /// Each inbound substream holds a clone: the count is the number of clones.
    inbound: Arc<()>,
    /// Each outbound substream, requested or open, holds a clone.
    outbound: Arc<()>,
    /// Each substream that is being refused holds a clone.
    refused: Arc<()>,
    requests: VecDeque<Open>,
    arrived: VecDeque<FromHandler>,
    waker: Option<Waker>,
}

impl Handler {
    fn new(limit: usize, legacy: Arc<Switch>) -> Self {
        Self {
            limit,
            legacy,
            inbound: Arc::default(),
            outbound: Arc::default(),
            refused: Arc::default(),
            requests: VecDeque::new(),
            arrived: VecDeque::new(),
            waker: None,
        }
    }

    fn in_use(places: &Arc<()>) -> usize {
        Arc::strong_count(places) - 1
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = FromHandler;
    type InboundProtocol = Offer;
    type OutboundProtocol = ReadyUpgrade<Protocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = (Reply, Arc<()>);

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        let offer = Offer {
            legacy: self.legacy.is_on(),
        };
        SubstreamProtocol::new(offer, ()).with_timeout(NEGOTIATION_TIMEOUT)
    }

    fn on_behaviour_event(&mut self, open: Open) {
        if Self::in_use(&self.outbound) + self.requests.len() >= self.limit {
            let _ = open.reply.send(Err(OpenError::Busy));
            return;
        }
        self.requests.push_back(open);
        self.wake();
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (protocol, io),
                ..
            }) => {
                let at = |places: &Arc<()>| Substream {
                    io,
                    _place: Arc::clone(places),
                };
                if Self::in_use(&self.inbound) < self.limit {
                    self.arrived
                        .push_back(FromHandler::Inbound(protocol, at(&self.inbound)));
                } else if protocol == Protocol::Native && Self::in_use(&self.refused) < MAX_REFUSED {
                    self.arrived.push_back(FromHandler::Refused(at(&self.refused)));
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: io,
                info: (reply, place),
            }) => {
                // Whoever asked may have given up: the substream is closed by being dropped.
                let _ = reply.send(Ok(Substream { io, _place: place }));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError {
                info: (reply, _),
                error,
            }) => {
                let _ = reply.send(Err(open_error(error)));
            }
            _ => {}
        }
        self.wake();
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, FromHandler>> {
        if let Some(arrived) = self.arrived.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(arrived));
        }
        while let Some(Open { protocol, reply }) = self.requests.pop_front() {
            if reply.is_closed() {
                continue;
            }
            let info = (reply, Arc::clone(&self.outbound));
            let protocol =
                SubstreamProtocol::new(ReadyUpgrade::new(protocol), info).with_timeout(NEGOTIATION_TIMEOUT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// What a peer may open: native sessions, and those of wire profile 1.0 unless the operator turned them off.
pub(crate) struct Offer {
    legacy: bool,
}

impl UpgradeInfo for Offer {
    type Info = Protocol;
    type InfoIter = std::iter::Take<std::array::IntoIter<Protocol, 3>>;

    fn protocol_info(&self) -> Self::InfoIter {
        let all = [Protocol::Native, Protocol::Legacy, Protocol::LegacyPx1];
        all.into_iter().take(if self.legacy { all.len() } else { 1 })
    }
}

impl InboundUpgrade<libp2p::Stream> for Offer {
    type Output = (Protocol, libp2p::Stream);
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, io: libp2p::Stream, protocol: Protocol) -> Self::Future {
        std::future::ready(Ok((protocol, io)))
    }
}

fn open_error(error: StreamUpgradeError<Infallible>) -> OpenError {
    match error {
        StreamUpgradeError::Timeout => OpenError::Timeout,
        StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
        StreamUpgradeError::Io(error) => OpenError::Io(error),
        StreamUpgradeError::Apply(never) => match never {},
    }
}
