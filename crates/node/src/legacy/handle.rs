//! The application's end of a session of wire profile 1.0.

use std::net::IpAddr;
use std::sync::Arc;

use clawchat_snap2p::clawchat1::{ChatMessage, PingNonce, Session};
use clawchat_types::{NodeId, PeerId, Principal};
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::SessionClosed;
use crate::session::task::Context;

/// Requests of the application that may wait for the substream.
const MAX_COMMANDS: usize = 16;

/// An authenticated session of wire profile 1.0 between one of our identities and a peer's principal.
///
/// It carries chat messages both ways and nothing else. Cheap to clone; every clone means the same session. It ends
/// when the peer or the connection ends it, when [`close`](Self::close) is called, or when the last handle is dropped.
#[derive(Clone)]
pub struct LegacySession {
    inner: Arc<Inner>,
}

struct Inner {
    local: Principal,
    remote: Principal,
    remote_node: NodeId,
    attestation: Vec<u8>,
    peer: PeerId,
    outbound: bool,
    bound: bool,
    host: Option<IpAddr>,
    relayed: bool,
    relay: Option<PeerId>,
    commands: mpsc::Sender<Command>,
    arrivals: Mutex<mpsc::Receiver<LegacyBatch>>,
    ended: watch::Receiver<Option<SessionClosed>>,
    close: Arc<Notify>,
}

/// What the application asks of the task that drives the session.
pub(super) enum Command {
    /// Send these frames, then ask whether they were read.
    Transmit {
        frames: Vec<u8>,
        confirm: oneshot::Sender<()>,
    },
    /// Tell the peer that everything before its question was dealt with.
    Pong(PingNonce),
}

/// The driving task's ends of a handle's channels.
pub(super) struct Ends {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) arrivals: mpsc::Sender<LegacyBatch>,
    pub(super) ended: watch::Sender<Option<SessionClosed>>,
    pub(super) close: Arc<Notify>,
}

/// Messages that arrived, in order. Hand it back to [`LegacySession::dealt_with`] once they are stored.
#[derive(Debug, Default)]
#[must_use = "the peer waits to hear that its messages were dealt with"]
pub struct LegacyBatch {
    /// The messages; `from` is the session's principal in each.
    pub messages: Vec<ChatMessage>,
    pub(super) pings: Vec<PingNonce>,
    /// Long messages that arrive hold one of a bounded number of places.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

impl LegacyBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.pings.is_empty()
    }
}

/// Becomes ready once the peer has read what was transmitted.
#[derive(Debug)]
#[must_use = "until it is ready the peer may not have read anything"]
pub struct Confirmation(oneshot::Receiver<()>);

impl Confirmation {
    /// Waits until the peer has read everything up to here. Safe to drop.
    ///
    /// # Errors
    /// [`Unconfirmed`](SessionClosed) as `None` is not possible: an error means that the session ended before the peer
    /// said so. It may have read it all the same.
    pub async fn confirmed(&mut self) -> Result<(), SessionClosed> {
        (&mut self.0).await.map_err(|_| SessionClosed::ConnectionLost)
    }
}

impl LegacySession {
    /// A handle for a session, and what its driver needs.
    pub(super) fn new(session: &Session, context: &Context) -> (Self, Ends) {
        let (commands, command_receiver) = mpsc::channel(MAX_COMMANDS);
        // One batch waits while the next one arrives.
        let (arrivals, arrival_receiver) = mpsc::channel(1);
        let (ended, end) = watch::channel(None);
        let close = Arc::new(Notify::new());
        let inner = Inner {
            local: *session.local(),
            remote: *session.remote(),
            remote_node: *session.remote_node(),
            attestation: session.remote_attestation().to_vec(),
            peer: context.peer.clone(),
            outbound: session.is_initiator(),
            bound: session.is_bound(),
            host: context.host,
            relayed: context.relayed,
            relay: context.relay.clone(),
            commands,
            arrivals: Mutex::new(arrival_receiver),
            ended: end,
            close: Arc::clone(&close),
        };
        let ends = Ends {
            commands: command_receiver,
            arrivals,
            ended,
            close,
        };
        let handle = Self {
            inner: Arc::new(inner),
        };
        (handle, ends)
    }

    /// Our identity in this session.
    #[must_use]
    pub fn local(&self) -> &Principal {
        &self.inner.local
    }

    /// The peer's principal, as its attestation says.
    #[must_use]
    pub fn remote(&self) -> &Principal {
        &self.inner.remote
    }

    /// The node key the peer's attestation names.
    #[must_use]
    pub fn remote_node(&self) -> &NodeId {
        &self.inner.remote_node
    }

    /// The peer's attestation in its canonical encoding.
    #[must_use]
    pub fn remote_attestation(&self) -> &[u8] {
        &self.inner.attestation
    }

    /// The gateway at the other end.
    #[must_use]
    pub fn peer_id(&self) -> &PeerId {
        &self.inner.peer
    }

    /// The IP address at the other end of its connection, of IPv6 the network of 64 bits. `None` through a relay, where
    /// it is not to be seen.
    #[must_use]
    pub fn host(&self) -> Option<IpAddr> {
        self.inner.host
    }

    /// Whether this side opened the session.
    #[must_use]
    pub fn is_outbound(&self) -> bool {
        self.inner.outbound
    }

    /// Whether its connection goes through a relay.
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        self.inner.relayed
    }

    /// The gateway that relays it; `None` when none does, or when the connection does not tell which.
    #[must_use]
    pub fn relay(&self) -> Option<&PeerId> {
        self.inner.relay.as_ref()
    }

    /// Whether the attested node key is the key of the connection: only then is it proven who the peer is.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.inner.bound
    }

    /// Whether both handles mean the same session.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.ended.borrow().is_some()
    }

    /// Waits for the end of the session and says how it came. Safe to drop.
    pub async fn closed(&self) -> SessionClosed {
        let mut ended = self.inner.ended.clone();
        let reason = ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        reason.unwrap_or(SessionClosed::ConnectionLost)
    }

    /// Sends complete frames, and asks the peer behind them whether it has read them. Returns once they are queued;
    /// waits while the queue is full. Not sent when dropped before that.
    ///
    /// # Errors
    /// How the session ended.
    pub async fn transmit(&self, frames: Vec<u8>) -> Result<Confirmation, SessionClosed> {
        let (confirm, confirmed) = oneshot::channel();
        let command = Command::Transmit { frames, confirm };
        match self.inner.commands.send(command).await {
            Ok(()) => Ok(Confirmation(confirmed)),
            Err(_) => Err(self.closed().await),
        }
    }

    /// The next messages; `None` once the session has ended and everything that arrived was taken. Safe to drop:
    /// nothing is lost. While nobody takes them, no more are read.
    pub async fn receive(&self) -> Option<LegacyBatch> {
        self.inner.arrivals.lock().await.recv().await
    }

    /// Says that the messages of a batch are stored, or will never be: the peer is told if it has asked.
    pub async fn dealt_with(&self, batch: LegacyBatch) {
        for nonce in batch.pings {
            if self.inner.commands.send(Command::Pong(nonce)).await.is_err() {
                return;
            }
        }
    }

    /// Ends the session. What was queued may not have been sent.
    pub fn close(&self) {
        self.inner.close.notify_one();
    }
}

impl std::fmt::Debug for LegacySession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LegacySession")
            .field("local", self.local())
            .field("remote", self.remote())
            .field("outbound", &self.is_outbound())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
