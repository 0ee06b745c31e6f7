//! The task behind each session of wire profile 1.0, from the substream to its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clawchat_identity::{Attestation, Verified};
use clawchat_snap2p::clawchat1::{
    Answerer, Binding, Channel, Dialer, FrameError, FrameReader, Gate, HANDSHAKE_DEADLINE, HandshakeError,
    MAX_FRAME, Session,
};
use clawchat_types::{Moment, Network, NodeId};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::LegacySession;
use super::drive::drive;
use crate::session::handshake::{self, Failure, FailureOf, Frames, Machine};
use crate::session::task::{Context, Opened, Outcome, broken, outcome, substream};
use crate::swarm::Substream;
use crate::{NodeEvent, SessionClosed, SessionOpenError};

type Reply = oneshot::Sender<Result<LegacySession, SessionOpenError>>;

/// What these tasks need beside what all sessions do.
pub(crate) struct LegacyContext {
    pub(crate) context: Context,
    /// The keys the connection has proven.
    pub(crate) local_node: NodeId,
    pub(crate) remote_node: Option<NodeId>,
    pub(crate) binding: Binding,
    /// The places for long frames.
    pub(crate) places: Arc<Semaphore>,
}

impl LegacyContext {
    fn channel(&self) -> Channel {
        Channel {
            local: self.local_node,
            remote: self.remote_node,
        }
    }
}

/// A session we open.
pub(crate) async fn dial(
    legacy: LegacyContext,
    opened: Opened,
    local: Attestation<Verified>,
    mut reply: Reply,
) -> Outcome {
    let channel = legacy.channel();
    let LegacyContext {
        context,
        binding,
        places,
        ..
    } = legacy;
    let mut stop = context.stop.clone();
    let attempt = async {
        let mut io = substream(opened, &context.peer).await?;
        let nonce = nonce().map_err(|error| broken(&error))?;
        let dialer = Dialer::new(local, channel, binding, nonce, context.clock.now());
        let machine = Side::Dial(Box::new(dialer));
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
            let (handle, ends) = LegacySession::new(&session, &context);
            context.authenticated().await;
            let _ = reply.send(Ok(handle));
            outcome(&drive(session, io, frames, ends, places, context.clock, stop).await)
        }
        Err((error, outcome)) => {
            tracing::debug!(peer = %context.peer, %error, "no session of profile 1.0");
            let _ = reply.send(Err(error));
            outcome
        }
    }
}

/// A session the peer opens.
pub(crate) async fn answer(
    legacy: LegacyContext,
    mut io: Substream,
    network: Network,
    gate: Arc<dyn Gate + Send + Sync>,
    events: mpsc::Sender<NodeEvent>,
) -> Outcome {
    let channel = legacy.channel();
    let LegacyContext {
        context,
        binding,
        places,
        ..
    } = legacy;
    let Ok(nonce) = nonce() else {
        return Outcome::Ended;
    };
    let mut stop = context.stop.clone();
    let answerer = Answerer::new(channel, binding, network, nonce, context.clock.now());
    let machine = Side::Answer(Box::new(answerer), gate);
    let result = tokio::select! {
        result = handshake::run(machine, &mut io, context.clock, HANDSHAKE_DEADLINE) => result,
        _ = stop.wait_for(|stop| *stop) => return Outcome::Ended,
    };
    let (session, frames) = match result {
        Ok(done) => done,
        Err(error) => {
            tracing::debug!(peer = %context.peer, %error, "no session of profile 1.0");
            return Outcome::Ended;
        }
    };
    let (handle, ends) = LegacySession::new(&session, &context);
    context.authenticated().await;
    let reporting = events.send(NodeEvent::LegacySession(handle));
    let driving = drive(session, io, frames, ends, places, context.clock, stop.clone());
    outcome(&drive_and_report(driving, reporting, stop).await)
}

/// Drives a session while its owner is not ready to take it, and has it reported even when it ends before that: what a
/// peer said before it went is in the handle, and it will not say it again.
async fn drive_and_report(
    driving: impl Future<Output = SessionClosed>,
    reporting: impl Future,
    mut stop: watch::Receiver<bool>,
) -> SessionClosed {
    let (mut driving, mut reporting) = (pin!(driving), pin!(reporting));
    tokio::select! {
        _ = &mut reporting => driving.await,
        closed = &mut driving => {
            tokio::select! {
                _ = reporting => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            closed
        }
    }
}

/// One side of the handshake.
enum Side {
    Dial(Box<Dialer>),
    Answer(Box<Answerer>, Arc<dyn Gate + Send + Sync>),
}

impl Machine for Side {
    type Session = Session;
    type Frames = FrameReader;
    type Error = HandshakeError;

    fn handle_frame(&mut self, frame: &[u8], now: Moment) {
        match self {
            Self::Dial(dialer) => dialer.handle_frame(frame, now),
            Self::Answer(answerer, gate) => answerer.handle_frame(frame, now, &**gate),
        }
    }

    fn poll_frame(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Dial(dialer) => dialer.poll_frame(),
            Self::Answer(answerer, _) => answerer.poll_frame(),
        }
    }

    fn poll_timeout(&self) -> Option<Duration> {
        match self {
            Self::Dial(dialer) => dialer.poll_timeout(),
            Self::Answer(answerer, _) => answerer.poll_timeout(),
        }
    }

    fn handle_timeout(&mut self, now: Moment) {
        match self {
            Self::Dial(dialer) => dialer.handle_timeout(now),
            Self::Answer(answerer, _) => answerer.handle_timeout(now),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Dial(dialer) => dialer.is_done(),
            Self::Answer(answerer, _) => answerer.is_done(),
        }
    }

    fn finish(self) -> Result<Session, HandshakeError> {
        match self {
            Self::Dial(dialer) => dialer.finish(),
            Self::Answer(answerer, _) => answerer.finish(),
        }
    }
}

impl Frames for FrameReader {
    type Error = FrameError;

    fn push(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }

    fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        self.next_frame()
    }

    fn raise_limit(&mut self) {
        self.set_limit(MAX_FRAME);
    }
}

fn nonce() -> std::io::Result<[u8; 16]> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce)?;
    Ok(nonce)
}

fn open_error(failure: FailureOf<Side>) -> (SessionOpenError, Outcome) {
    let error = match failure {
        Failure::Handshake(HandshakeError::Refused { code, .. }) => SessionOpenError::Refused(code),
        Failure::Handshake(HandshakeError::Timeout) | Failure::Timeout => {
            SessionOpenError::Timeout(HANDSHAKE_DEADLINE)
        }
        Failure::Handshake(error) => SessionOpenError::Rejected {
            code: error.wire_code(),
            reason: error.to_string(),
        },
        Failure::Frame(error) => SessionOpenError::Rejected {
            code: clawchat_snap2p::ErrorCode::ProtocolViolation,
            reason: error.to_string(),
        },
        Failure::Io(error) => return broken(&error),
    };
    (error, Outcome::Ended)
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn a_session_that_ends_before_its_owner_looks_is_still_reported() {
        let (owner, mut events) = mpsc::channel(1);
        owner.send("an earlier event").await.unwrap();
        let (_stop, stopped) = watch::channel(false);
        let over = ready(SessionClosed::ConnectionLost);
        let mut task = pin!(drive_and_report(over, owner.send("the session"), stopped));
        assert!(poll!(&mut task).is_pending());
        assert_eq!(events.recv().await, Some("an earlier event"));
        assert_eq!(task.await, SessionClosed::ConnectionLost);
        assert_eq!(events.recv().await, Some("the session"));
    }

    #[tokio::test]
    async fn a_node_that_stops_does_not_wait_for_its_owner_to_look() {
        let (owner, _events) = mpsc::channel(1);
        owner.send("an earlier event").await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let over = ready(SessionClosed::ByUs);
        let mut task = pin!(drive_and_report(over, owner.send("the session"), stopped));
        assert!(poll!(&mut task).is_pending());
        stop.send_replace(true);
        assert_eq!(task.await, SessionClosed::ByUs);
    }
}
