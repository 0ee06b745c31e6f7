//! Runs the handshake of one session on a substream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use clawchat_snap2p::{
    Answerer, Dialer, FrameReader, Gatekeeper, HANDSHAKE_DEADLINE, HandshakeEntropy, HandshakeError,
    MAX_FRAME, Session,
};
use clawchat_types::Moment;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::clock::Clock;

/// Bytes read at once. A stranger's frame is at most that long.
const READ_BUFFER: usize = 4 * 1024;
/// How much longer than the machine's own deadline the handshake may take, for a refusal to be written.
const GRACE: Duration = Duration::from_secs(1);

/// One side of the handshake.
pub(super) enum Machine {
    /// We opened the substream.
    Dial(Box<Dialer>),
    /// The peer did.
    Answer(Box<Answerer>, Arc<dyn Gatekeeper + Send + Sync>),
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The handshake came to that result.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The substream broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Machine {
    fn handle_frame(&mut self, frame: &[u8], now: Moment) {
        match self {
            Self::Dial(dialer) => dialer.handle_frame(frame, now),
            Self::Answer(answerer, gatekeeper) => answerer.handle_frame(frame, now, &**gatekeeper),
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

/// Fresh randomness for one handshake.
pub(super) fn entropy() -> io::Result<HandshakeEntropy> {
    let mut entropy = HandshakeEntropy {
        ephemeral: [0; 32],
        nonce: [0; 32],
    };
    getrandom::fill(&mut entropy.ephemeral)?;
    getrandom::fill(&mut entropy.nonce)?;
    Ok(entropy)
}

/// Runs the handshake to its end, a refusal owed to the peer included. The reader holds what the peer sent
/// behind it. Safe to drop.
pub(super) async fn run(
    machine: Machine,
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    clock: Clock,
) -> Result<(Session, FrameReader), Failure> {
    let exchange = exchange(machine, io, clock);
    let result = tokio::time::timeout(HANDSHAKE_DEADLINE + GRACE, exchange).await;
    result.unwrap_or(Err(Failure::Handshake(HandshakeError::Timeout)))
}

async fn exchange(
    mut machine: Machine,
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    clock: Clock,
) -> Result<(Session, FrameReader), Failure> {
    let mut frames = FrameReader::new();
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        let mut out = Vec::new();
        while let Some(frame) = machine.poll_frame() {
            out.extend_from_slice(&frame);
        }
        if !out.is_empty() {
            io.write_all(&out).await?;
            io.flush().await?;
        }
        if machine.is_done() {
            break;
        }
        match frames.next_frame() {
            Ok(Some(frame)) => {
                machine.handle_frame(&frame, clock.now());
                continue;
            }
            Ok(None) => {}
            Err(error) => return Err(HandshakeError::Frame(error).into()),
        }
        tokio::select! {
            read = io.read(&mut buffer) => match read? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                count => frames.push(buffer.get(..count).unwrap_or_default()),
            },
            () = clock.sleep_until(machine.poll_timeout()) => machine.handle_timeout(clock.now()),
        }
    }
    match machine.finish() {
        Ok(session) => {
            frames.set_limit(MAX_FRAME);
            Ok((session, frames))
        }
        Err(error) => {
            // A refusal just written must arrive, not be overtaken by a reset.
            let _ = io.close().await;
            Err(error.into())
        }
    }
}
