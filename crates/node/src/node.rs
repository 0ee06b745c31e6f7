//! The node as its owner sees it.

use std::sync::Arc;
use std::time::Duration;

use clawchat_snap2p::{Credentials, Gatekeeper};
use clawchat_types::{Locator, PeerId, Principal};
use tokio::sync::mpsc;

use crate::{DialError, NodeConfig, NodeEvent, SessionHandle, SessionOpenError, StartError, Transport};

/// A running gateway on the network. Cheap to clone; every clone means the same node, which stops when
/// [`close`](Self::close) is called or the last clone is dropped.
#[derive(Clone)]
pub struct Node {}

/// A connection that came about, or was there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The peer, as proven by the connection's own handshake.
    pub peer: PeerId,
    /// The address that worked, naming the peer. For a connection that was there already: its address.
    pub locator: Locator,
}

/// A way of listening that is missing, though the node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedTransport {
    /// Which one.
    pub transport: Transport,
    /// The port it should have used; `None` when there is no such port (P+1 of 65535).
    pub port: Option<u16>,
    /// Why, in words.
    pub reason: String,
}

impl Node {
    /// Starts listening. Events come out of the receiver, at most 256 waiting: a slow owner slows the node
    /// down, and sessions that peers open wait.
    ///
    /// TCP has to work; QUIC and WebSocket are left out with a warning when their port is not to be had (see
    /// [`skipped`](Self::skipped)). Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`], most often [`StartError::PortInUse`].
    pub async fn start(
        _config: NodeConfig,
        _gatekeeper: Arc<dyn Gatekeeper + Send + Sync>,
    ) -> Result<(Self, mpsc::Receiver<NodeEvent>), StartError> {
        todo!()
    }

    /// Our own peer id.
    #[must_use]
    pub fn peer_id(&self) -> &PeerId {
        todo!()
    }

    /// The addresses we listen on, one for each interface and transport, naming us: `/ip4/…/tcp/9000/p2p/…`.
    /// Loopback last.
    #[must_use]
    pub fn locators(&self) -> Vec<Locator> {
        todo!()
    }

    /// The ways of listening that did not work out at the start.
    #[must_use]
    pub fn skipped(&self) -> &[SkippedTransport] {
        todo!()
    }

    /// Whether there is a connection with the peer.
    #[must_use]
    pub fn is_connected(&self, _peer: &PeerId) -> bool {
        todo!()
    }

    /// Where a connected peer says it listens (at most 16 addresses, naming it): hints, not proven. Loopback
    /// only if the connection itself is loopback. Empty until the peer has told, and after it disconnected.
    #[must_use]
    pub fn peer_locators(&self, _peer: &PeerId) -> Vec<Locator> {
        todo!()
    }

    /// Connects to whoever answers first at one of the addresses: at once if one names a connected peer,
    /// else within 10 s. The first 16 addresses are tried in their order, the next one 250 ms after the one
    /// before, or as soon as that failed. Safe to drop.
    ///
    /// # Errors
    /// [`DialError::Failed`] says what happened to each address.
    pub async fn connect(&self, _locators: &[Locator]) -> Result<Connected, DialError> {
        todo!()
    }

    /// Opens a session with a connected peer, as the identity in `local`. `target` is the principal that has
    /// to answer there; without one it is the peer gateway's default identity. At most 20 s. Safe to drop.
    ///
    /// # Errors
    /// [`SessionOpenError`]; [`Refused`](SessionOpenError::Refused) carries the peer's reason.
    pub async fn open_session(
        &self,
        _peer: &PeerId,
        _local: Credentials,
        _target: Option<Principal>,
    ) -> Result<SessionHandle, SessionOpenError> {
        todo!()
    }

    /// Says goodbye to every session, closes all connections and stops listening; waits for that no longer
    /// than `limit`. Calling it again does nothing more.
    pub async fn close(&self, _limit: Duration) {
        todo!()
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}
