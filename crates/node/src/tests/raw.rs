//! A libp2p peer that is no gateway: it does with connections and substreams what it likes.

use std::sync::Arc;

use clawchat_types::Locator;
use futures::StreamExt as _;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{PeerId, Swarm};
use tokio::sync::oneshot;

use super::support::{Gateway, within};
use crate::nat::Policy;
use crate::swarm::{self, Behaviour, BehaviourEvent, OpenError, Protocol, Substream};
use crate::{NodeConfig, RelayLimits, RelayServe};

/// The peer. Does nothing unless one of its functions is awaited.
pub(super) struct Raw {
    swarm: Swarm<Behaviour>,
    peer: Option<(PeerId, ConnectionId)>,
    closed: bool,
}

impl Raw {
    /// One that connects over TCP and then says nothing.
    pub(super) async fn connect(seed: u8, to: &Gateway) -> Self {
        Self::try_connect(seed, &to.over("tcp")[0])
            .await
            .expect("a connection")
    }

    /// The same; `None` when it is refused.
    pub(super) async fn try_connect(seed: u8, to: &Locator) -> Option<Self> {
        let key = swarm::keypair(&[seed; 32]).expect("a key");
        let swarm = swarm::build(
            &key,
            &NodeConfig::loopback([seed; 32]),
            &Arc::default(),
            &Arc::new(Policy::new(RelayServe::Off, RelayLimits::default())),
        )
        .expect("a swarm");
        let mut raw = Self {
            swarm,
            peer: None,
            closed: false,
        };
        let address: libp2p::Multiaddr = to.as_str().parse().expect("a multiaddr");
        raw.swarm.dial(address).expect("something to dial");
        within(async {
            while raw.peer.is_none() && !raw.closed {
                raw.step().await;
            }
        })
        .await;
        raw.peer.is_some().then_some(raw)
    }

    /// Opens a substream of the session protocol.
    pub(super) async fn open(&mut self) -> Substream {
        self.open_for(Protocol::Native).await.expect("a substream")
    }

    /// Opens a substream of one of the protocols.
    pub(super) async fn open_for(&mut self, protocol: Protocol) -> Result<Substream, OpenError> {
        let (peer, connection) = self.peer.expect("connected");
        let (reply, opened) = oneshot::channel();
        self.swarm
            .behaviour_mut()
            .substreams
            .open(peer, connection, protocol, reply);
        self.run(opened).await.expect("still connected")
    }

    /// Lives while something else is done.
    pub(super) async fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = Box::pin(future);
        within(async {
            loop {
                tokio::select! {
                    result = &mut future => return result,
                    () = self.step() => {}
                }
            }
        })
        .await
    }

    /// Waits until the other side closes the connection.
    pub(super) async fn closed(&mut self) {
        within(async {
            while !self.closed {
                self.step().await;
            }
        })
        .await;
    }

    async fn step(&mut self) {
        match self.swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                ..
            } => {
                // Not to be closed by our own side's patience.
                self.swarm
                    .behaviour_mut()
                    .connections
                    .session_began(connection_id);
                self.peer = Some((peer_id, connection_id));
            }
            SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => {
                self.closed = true
            }
            SwarmEvent::Behaviour(BehaviourEvent::Substreams(_)) => panic!("nobody opens sessions with us"),
            _ => {}
        }
    }
}
