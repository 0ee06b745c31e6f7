//! Runs the handshake of one session on a substream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use clawchat_snap2p::{
    Answerer, Dialer, FrameError, FrameReader, Gatekeeper, HandshakeEntropy, HandshakeError, MAX_FRAME,
    Session,
};
use clawchat_types::Moment;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::clock::Clock;

/// Bytes read at once. Enough for the usual handshake; strangers make us hold it.
const READ_BUFFER: usize = 1024;
/// How much longer than the machine's own deadline the handshake may take, for a refusal to be written.
const GRACE: Duration = Duration::from_secs(1);

/// One side of a handshake, of either generation of the protocol.
pub(crate) trait Machine {
    /// What it leads to.
    type Session;
    /// How the bytes are cut into frames.
    type Frames: Frames;
    /// Why it failed.
    type Error: std::error::Error;

    fn handle_frame(&mut self, frame: &[u8], now: Moment);
    fn poll_frame(&mut self) -> Option<Vec<u8>>;
    fn poll_timeout(&self) -> Option<Duration>;
    fn handle_timeout(&mut self, now: Moment);
    fn is_done(&self) -> bool;
    fn finish(self) -> Result<Self::Session, Self::Error>;
}

/// Cuts what arrives into frames, small ones only until the peer is authenticated.
pub(crate) trait Frames: Default {
    /// Why the bytes are no frames.
    type Error: std::error::Error;

    fn push(&mut self, bytes: &[u8]);
    fn next_frame(&mut self) -> Result<Option<Vec<u8>>, Self::Error>;
    /// From now on frames may be as long as in an authenticated session.
    fn raise_limit(&mut self);
}

/// One side of the native handshake.
pub(super) enum Native {
    /// We opened the substream.
    Dial(Box<Dialer>),
    /// The peer did.
    Answer(Box<Answerer>, Arc<dyn Gatekeeper + Send + Sync>),
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure<H, F> {
    /// The handshake came to that result.
    #[error(transparent)]
    Handshake(H),
    /// What the peer sent is no frame.
    #[error(transparent)]
    Frame(F),
    /// It took too long.
    #[error("the peer did not complete the handshake in time")]
    Timeout,
    /// The substream broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The failure of a machine's handshake.
pub(crate) type FailureOf<M> = Failure<<M as Machine>::Error, <<M as Machine>::Frames as Frames>::Error>;
/// What a machine's handshake leads to: the session, and the reader with what the peer sent behind the handshake.
pub(crate) type Done<M> = (<M as Machine>::Session, <M as Machine>::Frames);

impl Machine for Native {
    type Session = Session;
    type Frames = FrameReader;
    type Error = HandshakeError;

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

/// Runs a handshake to its end, a refusal owed to the peer included, within `deadline` and a little more: the machine's
/// own deadline comes first. The reader holds what the peer sent behind it. Safe to drop.
pub(crate) async fn run<M: Machine>(
    machine: M,
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    clock: Clock,
    deadline: Duration,
) -> Result<Done<M>, FailureOf<M>> {
    let exchange = exchange(machine, io, clock);
    let result = tokio::time::timeout(deadline + GRACE, exchange).await;
    result.unwrap_or(Err(Failure::Timeout))
}

async fn exchange<M: Machine>(
    mut machine: M,
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    clock: Clock,
) -> Result<Done<M>, FailureOf<M>> {
    let mut frames = M::Frames::default();
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
            Err(error) => return Err(Failure::Frame(error)),
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
            frames.raise_limit();
            Ok((session, frames))
        }
        Err(error) => {
            // A refusal just written must arrive, not be overtaken by a reset.
            let _ = io.close().await;
            Err(Failure::Handshake(error))
        }
    }
}
