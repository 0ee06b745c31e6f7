//! The libp2p swarm: transports, behaviours, and the ports it listens on.

mod boxed;
mod connections;
mod gate;
mod listen;
mod muxer;
mod substreams;

use std::sync::Arc;
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, Swarm, Transport as _, autonat, dcutr, dns, identify, mdns, noise, ping, quic, relay, tcp,
    websocket, yamux,
};

use crate::legacy::Switch;
use crate::nat::{Candidates, Policy, Remapped, Retested};
use crate::{NodeConfig, StartError};

use self::boxed::Boxed;
pub(crate) use self::connections::Connections;
pub(crate) use self::listen::listen;
pub(crate) use self::substreams::{
    Event as SubstreamEvent, NEGOTIATION_TIMEOUT, OpenError, Protocol, Reply as OpenReply, Substream,
};

/// How long the libp2p handshake of one connection may take, dialed or accepted.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a connection is pinged. Below 20 s: over QUIC, longer intervals than the peer's own make answers
/// late. A failure counts only with relays we rely on, and with those who rely on us; sessions watch for themselves whether
/// their peer is alive.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(6);
/// How long the answer to a ping may take. With the interval: how soon a relay that fell silent is replaced.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(5);
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
    pub(crate) identify: Boxed<identify::Behaviour>,
    pub(crate) ping: ping::Behaviour,
    pub(crate) relay_client: Boxed<relay::client::Behaviour>,
    pub(crate) relay_server: Toggle<Boxed<relay::Behaviour>>,
    pub(crate) hole_punching: Toggle<Boxed<Candidates<dcutr::Behaviour>>>,
    pub(crate) reachable: Toggle<Candidates<Retested>>,
    pub(crate) dial_back: Toggle<Boxed<autonat::v2::server::Behaviour>>,
    pub(crate) mapping: Toggle<Remapped>,
    pub(crate) neighbours: Toggle<mdns::tokio::Behaviour>,
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
    config: &NodeConfig,
    legacy: &Arc<Switch>,
    policy: &Arc<Policy>,
) -> Result<Swarm<Behaviour>, StartError> {
    let (limits, nat) = (&config.limits, &config.nat);
    let us = key.public().to_peer_id();
    let (circuits, relay_client) = relay::client::new(us);
    let gate = gate::Gate::new(transport(key, circuits)?, limits.pending_inbound);
    let transport = gate.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer::BoundedClose::new(muxer))));
    let identify = identify::Config::new(PROTOCOL_FAMILY.to_owned(), key.public())
        .with_agent_version(format!("clawchat/{}", env!("CARGO_PKG_VERSION")))
        .with_push_listen_addr_updates(true)
        .with_cache_size(0);
    let on_loopback = config.is_on_loopback();
    let ping = ping::Config::new()
        .with_interval(PING_INTERVAL)
        .with_timeout(PING_TIMEOUT);
    let behaviour = Behaviour {
        connections: Connections::new(limits.clone(), Arc::clone(policy), on_loopback),
        substreams: substreams::Behaviour::new(limits.sessions_per_connection, Arc::clone(legacy)),
        identify: Boxed(identify::Behaviour::new(identify)),
        ping: ping::Behaviour::new(ping),
        relay_client: Boxed(relay_client),
        relay_server: Policy::server(policy, us, &nat.relay_limits).map(Boxed).into(),
        hole_punching: nat
            .hole_punching
            .then(|| Boxed(Candidates::new(dcutr::Behaviour::new(us), on_loopback).and_confirmed()))
            .into(),
        reachable: nat
            .autonat
            .then(|| Candidates::new(Retested::default(), on_loopback))
            .into(),
        dial_back: nat
            .autonat
            .then(|| Boxed(autonat::v2::server::Behaviour::default()))
            .into(),
        mapping: nat.upnp.then(Remapped::new).into(),
        neighbours: nat.mdns.then(|| neighbours(us)).flatten().into(),
    };
    let config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(limits.stranger_timeout)
        .with_max_negotiating_inbound_streams(MAX_NEGOTIATING);
    Ok(Swarm::new(transport.boxed(), behaviour, us, config))
}

/// Looks for gateways on the networks of this machine, where multicast works at all.
fn neighbours(us: PeerId) -> Option<mdns::tokio::Behaviour> {
    match mdns::tokio::Behaviour::new(mdns::Config::default(), us) {
        Ok(behaviour) => Some(behaviour),
        Err(error) => {
            tracing::warn!(%error, "gateways on the local network are not looked for");
            None
        }
    }
}

/// TCP, WebSocket over TCP, and QUIC, names resolved for all of them; and circuits through relays.
fn transport(
    key: &Keypair,
    circuits: relay::client::Transport,
) -> Result<transport::Boxed<(PeerId, StreamMuxerBox)>, StartError> {
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

    let over_circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise.clone())
        .multiplex(yamux())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    // Circuits come first and take nothing else, then WebSocket, likewise. Names are resolved around the other two
    // together: what resolves names takes any address, so nothing behind it would ever be asked.
    let plain = with_names(|| {
        over_tcp()
            .or_transport(over_quic())
            .map(|either, _| either.into_inner())
    });
    let all = over_circuits
        .or_transport(over_websocket)
        .map(|either, _| either.into_inner())
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
