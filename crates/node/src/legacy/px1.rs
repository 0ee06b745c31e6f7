//! PX-1 exchanges of wire profile 1.0: one substream, one message each way.

use std::io;
use std::time::Duration;

use clawchat_snap2p::clawchat1::px1::{self, Message, PeerInfo};
use clawchat_snap2p::clawchat1::{FrameReader, MAX_PX1_FRAME};
use clawchat_types::{PeerId, Principal};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};

use crate::NodeEvent;
use crate::session::task::Outcome;
use crate::swarm::{OpenError, Substream};

/// Exchanges that a peer may have under way. It may be a stranger, and each can make us hold a whole message.
pub(crate) const MAX_EXCHANGES: usize = 2;
/// How long a whole exchange may take.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);
/// Bytes read at once.
const READ_BUFFER: usize = 4 * 1024;

/// A PX-1 message that a peer sent. Nothing says yet that the peer has a session with us: whoever handles it sees to
/// that. Dropping it ends the exchange.
#[derive(Debug)]
pub struct Px1Request {
    peer: PeerId,
    message: Message,
    answer: oneshot::Sender<Message>,
}

/// Why a PX-1 exchange with a peer came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Px1Error {
    /// There is no connection to the peer (any more).
    #[error("not connected to that peer")]
    Unreachable,
    /// The peer does not speak PX-1 of wire profile 1.0.
    #[error("the peer does not exchange addresses the ClawChat 1.0 way")]
    Unsupported,
    /// It did not answer within 10 s.
    #[error("the peer did not answer within {} s", EXCHANGE_LIMIT.as_secs())]
    Timeout,
    /// The substream broke, or too many are open.
    #[error("the exchange broke off: {0}")]
    Broken(String),
    /// It answered with something else.
    #[error("the peer's answer is none: {0}")]
    Malformed(String),
    /// It does not tell, and this is the reason it gave.
    #[error("the peer does not tell: {0}")]
    Refused(String),
}

impl Px1Request {
    /// The gateway that sent it.
    #[must_use]
    pub fn peer(&self) -> &PeerId {
        &self.peer
    }

    /// What it sent.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Answers it.
    pub fn answer(self, message: Message) {
        // A peer that has gone by now does not want to know.
        let _ = self.answer.send(message);
    }
}

/// Serves one substream that a peer opened.
pub(crate) async fn serve(peer: PeerId, mut io: Substream, events: mpsc::Sender<NodeEvent>) -> Outcome {
    let exchange = async {
        let message = read(&mut io).await?;
        let (answer, answered) = oneshot::channel();
        let request = Px1Request {
            peer: peer.clone(),
            message,
            answer,
        };
        let _ = events.send(NodeEvent::Px1(request)).await;
        if let Ok(message) = answered.await {
            write(&mut io, &message).await.map_err(broken)?;
        }
        io.close().await.map_err(broken)
    };
    match tokio::time::timeout(EXCHANGE_LIMIT, exchange).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a PX-1 exchange failed"),
        Err(_) => tracing::debug!(%peer, "a PX-1 exchange took too long"),
    }
    Outcome::Ended
}

/// Tells a peer where others are.
pub(crate) async fn push(opened: Opened, peers: Vec<PeerInfo>) -> Result<(), Px1Error> {
    limited(async {
        let mut io = substream(opened).await?;
        write(&mut io, &Message::Push { peers }).await.map_err(broken)?;
        io.close().await.map_err(broken)
    })
    .await
}

/// Asks a peer where somebody is.
pub(crate) async fn resolve(opened: Opened, principal: &Principal) -> Result<Option<PeerInfo>, Px1Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| Px1Error::Broken(error.to_string()))?;
    let request_id = format!("{:032x}", u128::from_be_bytes(id));
    let request = Message::ResolveRequest {
        principal: principal.to_string(),
        request_id: request_id.clone(),
    };
    limited(async {
        let mut io = substream(opened).await?;
        write(&mut io, &request).await.map_err(broken)?;
        io.close().await.map_err(broken)?;
        match read(&mut io).await? {
            Message::ResolveResponse {
                request_id: id,
                peer,
                error,
            } if id == request_id => match (peer, error) {
                (None, Some(error)) => Err(Px1Error::Refused(
                    error.chars().filter(|c| !c.is_control()).collect(),
                )),
                (peer, _) => Ok(peer.filter(|peer| peer.principal == principal.to_string())),
            },
            Message::ResolveResponse { .. } | Message::ResolveRequest { .. } | Message::Push { .. } => {
                Err(Px1Error::Malformed("not an answer to what was asked".to_owned()))
            }
        }
    })
    .await
}

type Opened = oneshot::Receiver<Result<Substream, OpenError>>;

async fn limited<T>(exchange: impl Future<Output = Result<T, Px1Error>>) -> Result<T, Px1Error> {
    let result = tokio::time::timeout(EXCHANGE_LIMIT, exchange).await;
    result.unwrap_or(Err(Px1Error::Timeout))
}

async fn substream(opened: Opened) -> Result<Substream, Px1Error> {
    match opened.await {
        Ok(Ok(substream)) => Ok(substream),
        Ok(Err(OpenError::Unsupported)) => Err(Px1Error::Unsupported),
        Ok(Err(OpenError::Timeout)) => Err(Px1Error::Timeout),
        Ok(Err(OpenError::Busy)) => Err(Px1Error::Broken("too many are open".to_owned())),
        Ok(Err(OpenError::Io(error))) => Err(broken(error)),
        Err(_) => Err(Px1Error::Unreachable),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used to map errors")]
fn broken(error: io::Error) -> Px1Error {
    Px1Error::Broken(error.to_string())
}

async fn write(io: &mut (impl AsyncWrite + Unpin), message: &Message) -> io::Result<()> {
    io.write_all(&clawchat_snap2p::clawchat1::frame(&px1::encode(message)))
        .await?;
    io.flush().await
}

/// Reads the one message of a peer.
async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Message, Px1Error> {
    let malformed = |error: &dyn std::fmt::Display| Px1Error::Malformed(error.to_string());
    let mut frames = FrameReader::new();
    frames.set_limit(MAX_PX1_FRAME);
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        if let Some(frame) = frames.next_frame().map_err(|error| malformed(&error))? {
            return px1::decode(&frame).map_err(|error| malformed(&error));
        }
        match io.read(&mut buffer).await.map_err(broken)? {
            0 => return Err(malformed(&"the substream ended before it")),
            count => frames.push(buffer.get(..count).unwrap_or_default()),
        }
    }
}
