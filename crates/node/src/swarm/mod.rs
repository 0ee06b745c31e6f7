//! The libp2p swarm: transports, behaviours, and the ports it listens on.

mod connections;
mod gate;
mod listen;
mod muxer;
mod substreams;

use std::sync::Arc;
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{PeerId, Swarm, Transport as _, dns, identify, noise, ping, quic, tcp, websocket, yamux};

use crate::legacy::Switch;
use crate::{Limits, StartError};

pub(crate) use self::connections::Connections;
pub(crate) use self::listen::listen;
pub(crate) use self::substreams::{
    Event as SubstreamEvent, NEGOTIATION_TIMEOUT, OpenError, Protocol, Reply as OpenReply, Substream,
};

/// How long the libp2p handshake of one connection may take, dialed or accepted.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a connection is pinged. Below 20 s: over QUIC, longer intervals than the peer's own make answers
/// late. Failures mean nothing here; sessions watch for themselves whether their peer is alive.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Substreams of any protocol on one TCP or WebSocket connection.
const MAX_YAMUX_STREAMS: usize = 256;
/// Substreams of any protocol that the peer may open on one QUIC connection.
const MAX_QUIC_STREAMS: u32 = 256;
/// Inbound substreams whose protocol is being negotiated, on one connection.
const MAX_NEGOTIATING: usize = 64;
/// Longest WebSocket message accepted, in bytes. One carries one libp2p frame of at most 64 KiB.
const MAX_WEBSOCKET_MESSAGE: usize = 1024 * 1024;
/// What identify calls the family of protocols we speak.
const PROTOCOL_FAMILY: &str = "clawchat/2.0.0";

/// Everything the swarm does. The order matters: who is asked first refuses first.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) connections: Connections,
    pub(crate) substreams: substreams::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
}

/// The key pair that gives a node its peer id.
pub(crate) fn keypair(seed: &[u8; 32]) -> Result<Keypair, StartError> {
    // Reading the key wipes what it is read from, so it gets a copy.
    let mut copy = zeroize::Zeroizing::new(*seed);
    Keypair::ed25519_from_bytes(&mut *copy).map_err(|error| StartError::System(error.to_string()))
}

/// A swarm that does not listen yet.
pub(crate) fn build(
    key: &Keypair,
    limits: &Limits,
    legacy: &Arc<Switch>,
) -> Result<Swarm<Behaviour>, StartError> {
    let gate = gate::Gate::new(transport(key)?, limits.pending_inbound);
    let transport = gate.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer::BoundedClose::new(muxer))));
    let identify = identify::Config::new(PROTOCOL_FAMILY.to_owned(), key.public())
        .with_agent_version(format!("clawchat/{}", env!("CARGO_PKG_VERSION")))
        .with_push_listen_addr_updates(true)
        .with_cache_size(0);
    let behaviour = Behaviour {
        connections: Connections::new(limits.clone()),
        substreams: substreams::Behaviour::new(limits.sessions_per_connection, Arc::clone(legacy)),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL)),
    };
    let config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(limits.stranger_timeout)
        .with_max_negotiating_inbound_streams(MAX_NEGOTIATING);
    Ok(Swarm::new(
        transport.boxed(),
        behaviour,
        key.public().to_peer_id(),
        config,
    ))
}

/// TCP, WebSocket over TCP, and QUIC; names resolved for all of them.
fn transport(key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
    let noise = noise::Config::new(key).map_err(|error| StartError::System(error.to_string()))?;
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));

    let mut over_websocket = websocket::Config::new(with_names(tcp));
    over_websocket.set_max_data_size(MAX_WEBSOCKET_MESSAGE);
    let over_websocket = over_websocket
        .upgrade(Version::V1Lazy)
        .authenticate(noise.clone())
        .multiplex(yamux())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let over_tcp = || {
        tcp()
            .upgrade(Version::V1Lazy)
            .authenticate(noise.clone())
            .multiplex(yamux())
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
    };
    let over_quic = || {
        let mut config = quic::Config::new(key);
        config.max_concurrent_stream_limit = MAX_QUIC_STREAMS;
        quic::tokio::Transport::new(config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
    };

    // WebSocket comes first and takes nothing else. Names are resolved around the other two together: what
    // resolves names takes any address, so nothing behind it would ever be asked.
    let plain = with_names(|| {
        over_tcp()
            .or_transport(over_quic())
            .map(|either, _| either.into_inner())
    });
    let all = over_websocket
        .or_transport(plain)
        .map(|either, _| either.into_inner());
    Ok(TransportTimeout::new(all, HANDSHAKE_TIMEOUT).boxed())
}

fn yamux() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(MAX_YAMUX_STREAMS);
    config
}

/// Lets a transport dial names. Without a usable resolver file on this machine, only the names of its hosts
/// file are known.
fn with_names<T>(transport: impl Fn() -> T) -> dns::tokio::Transport<T> {
    dns::tokio::Transport::system(transport()).unwrap_or_else(|error| {
        tracing::warn!(%error, "no name resolver is configured on this machine: only IP addresses can be dialed");
        let (config, options) = (dns::ResolverConfig::default(), dns::ResolverOpts::default());
        dns::tokio::Transport::custom(transport(), config, options)
    })
}
