//! Listening: which ports, on which addresses, and what to say when one is taken.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Swarm, TransportError};

use super::Behaviour;
use crate::node::SkippedTransport;
use crate::{NodeConfig, StartError, Transport};

/// What came of the attempt to listen.
pub(crate) struct Listening {
    /// Listeners that will tell their addresses as the swarm runs.
    pub(crate) listeners: HashSet<ListenerId>,
    /// What did not work out, though TCP did.
    pub(crate) skipped: Vec<SkippedTransport>,
}

/// Starts to listen as configured.
pub(crate) fn listen(swarm: &mut Swarm<Behaviour>, config: &NodeConfig) -> Result<Listening, StartError> {
    let mut listeners = HashSet::new();
    let mut skipped = Vec::new();
    listeners.extend(on_every_address(swarm, config, Transport::Tcp, config.port)?);
    match on_every_address(swarm, config, Transport::Quic, config.port) {
        Ok(more) => listeners.extend(more),
        Err(error) => skipped.push(skip(Transport::Quic, Some(config.port), error.to_string())),
    }
    let above = if config.port == 0 {
        Some(0)
    } else {
        config.port.checked_add(1)
    };
    match above.map(|port| on_every_address(swarm, config, Transport::WebSocket, port)) {
        Some(Ok(more)) => listeners.extend(more),
        Some(Err(error)) => skipped.push(skip(Transport::WebSocket, above, error.to_string())),
        None => {
            let reason = format!("there is no port above {}: choose a lower one", config.port);
            skipped.push(skip(Transport::WebSocket, None, reason));
        }
    }
    Ok(Listening { listeners, skipped })
}

fn skip(transport: Transport, port: Option<u16>, reason: String) -> SkippedTransport {
    tracing::warn!(%transport, reason, "running without one way to be reached");
    SkippedTransport {
        transport,
        port,
        reason,
    }
}

/// Starts one listener per configured address. Addresses the machine does not have are skipped as long as
/// there is another one.
fn on_every_address(
    swarm: &mut Swarm<Behaviour>,
    config: &NodeConfig,
    transport: Transport,
    port: u16,
) -> Result<Vec<ListenerId>, StartError> {
    let mut listeners = Vec::new();
    let mut first_error = None;
    // All probes come before the first listener, or an IPv6 probe would meet our own IPv4 listener.
    let usable: Vec<IpAddr> = config
        .bind
        .iter()
        .copied()
        .filter(|ip| match probe(transport, *ip, port) {
            Ok(()) => true,
            Err(error) => {
                let busy = error.kind() == ErrorKind::AddrInUse;
                if first_error.is_none() || busy {
                    first_error = Some(error);
                }
                false
            }
        })
        .collect();
    if first_error
        .as_ref()
        .is_some_and(|error| error.kind() == ErrorKind::AddrInUse)
    {
        return Err(StartError::PortInUse { port, transport });
    }
    for ip in usable {
        match swarm.listen_on(multiaddr(transport, ip, port)) {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                let error = io_error(error);
                if error.kind() == ErrorKind::AddrInUse {
                    for listener in listeners {
                        swarm.remove_listener(listener);
                    }
                    return Err(StartError::PortInUse { port, transport });
                }
                tracing::debug!(%transport, %ip, port, %error, "not listening on this address");
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        _ if !listeners.is_empty() => Ok(listeners),
        Some(error) => Err(start_error(transport, port, error)),
        None => Err(StartError::NoBindAddress),
    }
}

/// Tries a port the plain way. libp2p shares its TCP ports (`SO_REUSEPORT`), so that a second gateway of the
/// same user would not notice that the port is taken and would steal half of the connections; and QUIC on one of two
/// address families alone would look like QUIC on both.
fn probe(transport: Transport, ip: IpAddr, port: u16) -> io::Result<()> {
    match transport {
        Transport::Tcp | Transport::WebSocket if port > 0 => {
            TcpListener::bind(SocketAddr::new(ip, port)).map(drop)
        }
        Transport::Quic if port > 0 => UdpSocket::bind(SocketAddr::new(ip, port)).map(drop),
        Transport::Tcp | Transport::WebSocket | Transport::Quic => Ok(()),
    }
}

fn start_error(transport: Transport, port: u16, error: io::Error) -> StartError {
    match error.kind() {
        ErrorKind::AddrInUse => StartError::PortInUse { port, transport },
        ErrorKind::PermissionDenied => StartError::NotPermitted { port, transport },
        _ => StartError::Listen {
            port,
            transport,
            source: error,
        },
    }
}

/// The system's own error inside a transport's.
fn io_error(error: TransportError<io::Error>) -> io::Error {
    let error = match error {
        TransportError::Other(error) => error,
        TransportError::MultiaddrNotSupported(_) => return ErrorKind::Unsupported.into(),
    };
    let mut cause: &(dyn std::error::Error + 'static) = &error;
    loop {
        if let Some(code) = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return io::Error::from_raw_os_error(code);
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return error,
        }
    }
}

fn multiaddr(transport: Transport, ip: IpAddr, port: u16) -> Multiaddr {
    let host = Multiaddr::empty().with(match ip {
        IpAddr::V4(ip) => Protocol::Ip4(ip),
        IpAddr::V6(ip) => Protocol::Ip6(ip),
    });
    match transport {
        Transport::Tcp => host.with(Protocol::Tcp(port)),
        Transport::Quic => host.with(Protocol::Udp(port)).with(Protocol::QuicV1),
        Transport::WebSocket => host.with(Protocol::Tcp(port)).with(Protocol::Ws("/".into())),
    }
}
