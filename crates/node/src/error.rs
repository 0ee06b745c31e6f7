//! What can go wrong, one enum per operation.

use std::fmt;
use std::io;
use std::time::Duration;

use clawchat_snap2p::ErrorCode;
use clawchat_types::{Locator, PeerId};

/// One of the three ways a node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP on port P.
    Tcp,
    /// QUIC on UDP port P.
    Quic,
    /// WebSocket on TCP port P+1.
    WebSocket,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Quic => "QUIC (UDP)",
            Self::WebSocket => "WebSocket (TCP)",
        })
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another program listens there; most often another gateway.
    #[error(
        "{transport} port {port} is in use by another program, perhaps another gateway (each uses its port \
         and the one above it): stop that one, or choose another port"
    )]
    PortInUse {
        /// The busy port.
        port: u16,
        /// What it was wanted for.
        transport: Transport,
    },
    /// The system does not let this user listen there.
    #[error(
        "not allowed to listen on {transport} port {port}: ports below 1024 need special rights; choose a higher one"
    )]
    NotPermitted {
        /// The port that was asked for.
        port: u16,
        /// What it was wanted for.
        transport: Transport,
    },
    /// No configured local address could be listened on.
    #[error("cannot listen on {transport} port {port}: {source}")]
    Listen {
        /// The port that was asked for.
        port: u16,
        /// What it was wanted for.
        transport: Transport,
        /// What the system said.
        source: io::Error,
    },
    /// No local address to listen on was configured.
    #[error("no address to listen on is configured")]
    NoBindAddress,
    /// The machine lacks something a node needs, such as file descriptors.
    #[error("the network cannot be set up: {0}")]
    System(String),
}

/// What happened to one address that was dialed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialAttempt {
    /// The address as it was given.
    pub locator: Locator,
    /// What went wrong there, in words.
    pub reason: String,
}

/// Why no connection came about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// No address was given.
    #[error("no address to dial is known")]
    NoAddresses,
    /// The address is this gateway's own.
    #[error("{locator} is this gateway itself")]
    Ourselves {
        /// The address that leads back to us.
        locator: Locator,
    },
    /// None of the addresses worked.
    #[error("could not connect: {}", summary(.attempts))]
    Failed {
        /// Every address with its reason, in the order they were given.
        attempts: Vec<DialAttempt>,
    },
    /// Too many dials are under way already.
    #[error("too many connections are being dialed already; try again later")]
    Busy,
    /// The node is closing or closed.
    #[error("the network is shut down")]
    Closed,
}

fn summary(attempts: &[DialAttempt]) -> String {
    let lines: Vec<String> = attempts
        .iter()
        .map(|attempt| format!("{}: {}", attempt.locator, attempt.reason))
        .collect();
    lines.join("; ")
}

/// Why no session came about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionOpenError {
    /// There is no connection to the peer (any more): connect first.
    #[error("not connected to {peer}")]
    Unreachable {
        /// The peer that was asked for.
        peer: PeerId,
    },
    /// The peer speaks libp2p but not `/snap2p/2.0.0`.
    #[error("the peer does not speak SNaP2P 2")]
    ProtocolUnsupported,
    /// The peer refused us, and this is the reason it gave: [`ErrorCode::RateLimited`] when it has no room for
    /// another session at the moment.
    #[error("the peer refused the session: {0}")]
    Refused(ErrorCode),
    /// We refused the peer: what it presented did not hold, or is not whom we asked for.
    #[error("the session was refused here: {reason} ({code})")]
    Rejected {
        /// What the peer was told.
        code: ErrorCode,
        /// What went wrong, in words.
        reason: String,
    },
    /// The peer did not answer in time.
    #[error("the peer did not complete the handshake within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The connection or the substream broke during the handshake.
    #[error("the connection broke during the handshake: {0}")]
    Broken(String),
    /// Too many sessions are being opened on this connection already.
    #[error("too many sessions are being opened with this peer already; try again later")]
    Busy,
    /// The node is closing or closed.
    #[error("the network is shut down")]
    Closed,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionClosed {
    /// This side closed it, or dropped every handle and stream.
    #[error("closed on this side")]
    ByUs,
    /// The peer said goodbye, for this reason.
    #[error("closed by the peer ({0})")]
    ByPeer(ErrorCode),
    /// The peer stopped answering.
    #[error("the peer stopped answering")]
    Dead,
    /// The connection broke.
    #[error("the connection broke")]
    ConnectionLost,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
}

/// Why a stream cannot be used (any more).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer refused or reset the stream.
    #[error("the peer reset the stream ({0})")]
    Reset(ErrorCode),
    /// This side reset or finished it.
    #[error("the stream is finished on this side")]
    Finished,
    /// Too many streams are open on this session; or the label is too long.
    #[error("the stream cannot be opened: {0}")]
    Refused(String),
    /// The session has ended.
    #[error("the session has ended: {0}")]
    SessionClosed(#[from] SessionClosed),
}
