//! The task behind each session, from the substream to the goodbye.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use clawchat_snap2p::{
    Answerer, Credentials, Dialer, Gatekeeper, HANDSHAKE_DEADLINE, HandshakeError, PeerPair,
};
use clawchat_types::{InviteToken, PeerId, Principal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task;

use super::drive::drive;
use super::handle::SessionHandle;
use super::handshake::{self, Failure, FailureOf, Native};
use super::shared::{Place, Shared};
use crate::clock::Clock;
use crate::swarm::{NEGOTIATION_TIMEOUT, OpenError, Substream};
use crate::{NodeEvent, SessionClosed, SessionOpenError};

/// Notices of session tasks waiting for the node.
pub(crate) const MAX_NOTICES: usize = 64;

/// What every session task needs.
pub(crate) struct Context {
    pub(crate) clock: Clock,
    pub(crate) us: PeerId,
    pub(crate) peer: PeerId,
    /// Whether the connection goes through a relay.
    pub(crate) relayed: bool,
    /// Where its connection comes from or goes to; unknown through a relay.
    pub(crate) host: Option<IpAddr>,
    /// That relay, as far as it is known.
    pub(crate) relay: Option<PeerId>,
    pub(crate) notices: mpsc::Sender<Notice>,
    /// Becomes true when the node closes.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Whom a session is for.
pub(crate) struct Wanted {
    /// Who has to answer; whoever does by default if not given.
    pub(crate) target: Option<Principal>,
    /// What to knock with.
    pub(crate) knock: Option<InviteToken>,
}

/// What session tasks tell the node.
pub(crate) enum Notice {
    /// The handshake of this task is done.
    Authenticated(task::Id),
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// In one of the usual ways.
    Ended,
    /// The peer did not answer: the connection may be dead.
    ConnectionSuspect,
}

pub(crate) type Opened = oneshot::Receiver<Result<Substream, OpenError>>;
type Reply = oneshot::Sender<Result<SessionHandle, SessionOpenError>>;

/// A session we open.
pub(crate) async fn dial(
    context: Context,
    opened: Opened,
    local: Credentials,
    wanted: Wanted,
    mut reply: Reply,
) -> Outcome {
    let mut stop = context.stop.clone();
    let attempt = async {
        let mut io = substream(opened, &context.peer).await?;
        let peers = PeerPair {
            initiator: context.us.to_string(),
            responder: context.peer.to_string(),
        };
        let entropy = handshake::entropy().map_err(|error| broken(&error))?;
        let knock = wanted.knock.as_ref().map(|token| token.as_bytes().as_slice());
        let dialer = Dialer::new(local, &peers, wanted.target, knock, entropy, context.clock.now());
        let machine = Native::Dial(Box::new(dialer));
        let (session, frames) = handshake::run(machine, &mut io, context.clock, HANDSHAKE_DEADLINE)
            .await
            .map_err(open_error)?;
        Ok((io, session, frames))
    };
    let result = tokio::select! {
        result = attempt => result,
        _ = stop.wait_for(|stop| *stop) => Err((SessionOpenError::Closed, Outcome::Ended)),
        // Whoever asked has given up.
        () = reply.closed() => return Outcome::Ended,
    };
    match result {
        Ok((io, session, frames)) => {
            let shared = Arc::new(Shared::new(session, context.place()));
            let handle = SessionHandle::new(Arc::clone(&shared), context.clock);
            context.authenticated().await;
            let _ = reply.send(Ok(handle));
            outcome(&drive(&shared, io, frames, context.clock, stop).await)
        }
        Err((error, outcome)) => {
            tracing::debug!(peer = %context.peer, %error, "no session");
            let _ = reply.send(Err(error));
            outcome
        }
    }
}

/// A session the peer opens.
pub(crate) async fn answer(
    context: Context,
    mut io: Substream,
    gatekeeper: Arc<dyn Gatekeeper + Send + Sync>,
    events: mpsc::Sender<NodeEvent>,
) -> Outcome {
    let Ok(entropy) = handshake::entropy() else {
        return Outcome::Ended;
    };
    let mut stop = context.stop.clone();
    let peers = PeerPair {
        initiator: context.peer.to_string(),
        responder: context.us.to_string(),
    };
    let answerer = Answerer::new(&peers, entropy, context.clock.now());
    let machine = Native::Answer(Box::new(answerer), gatekeeper);
    let result = tokio::select! {
        result = handshake::run(machine, &mut io, context.clock, HANDSHAKE_DEADLINE) => result,
        _ = stop.wait_for(|stop| *stop) => return Outcome::Ended,
    };
    let (session, frames) = match result {
        Ok(done) => done,
        Err(error) => {
            tracing::debug!(peer = %context.peer, %error, "no session");
            return Outcome::Ended;
        }
    };
    let shared = Arc::new(Shared::new(session, context.place()));
    let handle = SessionHandle::new(Arc::clone(&shared), context.clock);
    context.authenticated().await;
    // The session runs while its owner is not ready to take it.
    let mut driving = pin!(drive(&shared, io, frames, context.clock, stop));
    let closed = tokio::select! {
        biased;
        _ = events.send(NodeEvent::Session(handle)) => driving.await,
        closed = &mut driving => closed,
    };
    outcome(&closed)
}

impl Context {
    fn place(&self) -> Place {
        Place {
            peer: self.peer.clone(),
            relayed: self.relayed,
            host: self.host,
            relay: self.relay.clone(),
        }
    }

    pub(crate) async fn authenticated(&self) {
        let _ = self.notices.send(Notice::Authenticated(task::id())).await;
    }
}

pub(crate) async fn substream(
    opened: Opened,
    peer: &PeerId,
) -> Result<Substream, (SessionOpenError, Outcome)> {
    Err(match opened.await {
        Ok(Ok(substream)) => return Ok(substream),
        Ok(Err(OpenError::Unsupported)) => (SessionOpenError::ProtocolUnsupported, Outcome::Ended),
        Ok(Err(OpenError::Timeout)) => (
            SessionOpenError::Timeout(NEGOTIATION_TIMEOUT),
            Outcome::ConnectionSuspect,
        ),
        Ok(Err(OpenError::Busy)) => (SessionOpenError::Busy, Outcome::Ended),
        Ok(Err(OpenError::Io(error))) => broken(&error),
        Err(_) => (
            SessionOpenError::Unreachable { peer: peer.clone() },
            Outcome::Ended,
        ),
    })
}

pub(crate) fn broken(error: &std::io::Error) -> (SessionOpenError, Outcome) {
    (SessionOpenError::Broken(error.to_string()), Outcome::Ended)
}

fn open_error(failure: FailureOf<Native>) -> (SessionOpenError, Outcome) {
    let rejected = |error: HandshakeError| SessionOpenError::Rejected {
        code: error.wire_code(),
        reason: error.to_string(),
    };
    let error = match failure {
        Failure::Handshake(HandshakeError::Refused { code }) => SessionOpenError::Refused(code),
        Failure::Handshake(HandshakeError::Timeout) | Failure::Timeout => {
            SessionOpenError::Timeout(HANDSHAKE_DEADLINE)
        }
        Failure::Handshake(error) => rejected(error),
        Failure::Frame(error) => rejected(HandshakeError::Frame(error)),
        Failure::Io(error) => return broken(&error),
    };
    (error, Outcome::Ended)
}

pub(crate) fn outcome(closed: &SessionClosed) -> Outcome {
    match closed {
        SessionClosed::Dead => Outcome::ConnectionSuspect,
        SessionClosed::ByUs
        | SessionClosed::ByPeer(_)
        | SessionClosed::ConnectionLost
        | SessionClosed::Protocol(_) => Outcome::Ended,
    }
}
