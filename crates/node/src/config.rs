//! What a node is told at its start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::{Legacy, NatConfig};

/// Everything [`Node::start`](crate::Node::start) needs to know.
#[derive(Clone)]
pub struct NodeConfig {
    /// Seed of the Ed25519 key that gives the gateway its peer id. The same seed as a node key's gives the
    /// same peer id as the TypeScript ClawChat's.
    pub seed: Zeroizing<[u8; 32]>,
    /// Port P: TCP on P, QUIC on P/udp, WebSocket on P+1. With 0 the system chooses three free ports.
    pub port: u16,
    /// Local addresses to listen on. Default `0.0.0.0` and `::`; of several, those the machine does not have
    /// are skipped with a warning as long as one of them works.
    pub bind: Vec<IpAddr>,
    /// How much strangers and peers may take up.
    pub limits: Limits,
    /// For peers of wire profile 1.0. Default `None`: the profile is not spoken.
    pub legacy: Option<Legacy>,
    /// How it makes itself reachable, and helps others to be. Default: every part on, but no relay for others.
    pub nat: NatConfig,
}

impl NodeConfig {
    /// A node on `port` of all interfaces, with the default limits.
    #[must_use]
    pub fn new(seed: [u8; 32], port: u16) -> Self {
        Self {
            seed: Zeroizing::new(seed),
            port,
            bind: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            limits: Limits::default(),
            legacy: None,
            nat: NatConfig::default(),
        }
    }

    /// The same on the loopback interface only, on ports of the system's choice, with [`NatConfig::off`]: for tests.
    #[must_use]
    pub fn loopback(seed: [u8; 32]) -> Self {
        Self {
            bind: vec![Ipv4Addr::LOCALHOST.into()],
            nat: NatConfig::off(),
            ..Self::new(seed, 0)
        }
    }

    /// Whether it listens where only programs of this machine get at it.
    pub(crate) fn is_on_loopback(&self) -> bool {
        self.bind.iter().all(IpAddr::is_loopback)
    }
}

impl std::fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeConfig")
            .field("port", &self.port)
            .field("bind", &self.bind)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// How much others may take up. A *stranger* is a connection without an authenticated session.
///
/// Limits that strangers fill never keep a newcomer out: the oldest stranger has to go instead. Only
/// connections with a session are safe from that.
///
/// A session that is refused is refused with [`ErrorCode::RateLimited`](crate::ErrorCode::RateLimited).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all. Default 512. Beyond it a newcomer replaces the oldest stranger that dialed us; if
    /// every connection has a session, the newcomer is refused.
    pub connections: usize,
    /// Connections with one peer id. Default 8. Beyond it a newcomer replaces the oldest one without a session.
    pub connections_per_peer: usize,
    /// Strangers from one IP address (one /64 network of IPv6) that dialed us. Default 32, loopback and
    /// private addresses included. Beyond it a newcomer replaces the oldest of them.
    pub strangers_per_ip: usize,
    /// Dialed-in connections still in the libp2p handshake (at most 10 s each). Default 64. Beyond it the
    /// oldest of the IP address that has the most of them is dropped.
    pub pending_inbound: usize,
    /// How long a connection may stay without an authenticated session. Default 15 s.
    pub stranger_timeout: Duration,
    /// Sessions in all, being opened or open. Default 2048. The next one is refused.
    pub sessions: usize,
    /// Session substreams per connection each way, authenticated or not. Default 64. The next one is refused.
    pub sessions_per_connection: usize,
    /// Inbound session handshakes in flight in all (at most 10 s each). Default 256. Beyond it the oldest of
    /// the peer that has the most of them is dropped.
    pub handshakes: usize,
    /// Inbound session handshakes in flight per peer. Default 64. The next one is refused.
    pub handshakes_per_peer: usize,
    /// Inbound session handshakes per minute from one IP address (one /64 network of IPv6; through a relay: from one
    /// peer id) that did not come to a session, or to one that ended within 10 s. Default 120. The next one is refused,
    /// unless its connection has a session already.
    pub handshakes_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_peer: 8,
            strangers_per_ip: 32,
            pending_inbound: 64,
            stranger_timeout: Duration::from_secs(15),
            sessions: 2048,
            sessions_per_connection: 64,
            handshakes: 256,
            handshakes_per_peer: 64,
            handshakes_per_minute: 120,
        }
    }
}
