//! What a connection really does, measured with plain sockets before anything is concluded from it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, listen, socket, sockopt};

use super::kind::{Filter, Kind, Mapping, PORT};
use super::space::{Lab, Space};
use super::world::{Side, World};
use crate::gateways::Outcome;

/// How long a packet may be on its way within this machine before it counts as lost, where none is expected.
const ARRIVAL_LIMIT: Duration = Duration::from_millis(500);
/// The same where one is expected: the machine may be busy, or stand still for a while.
const EXPECTED_LIMIT: Duration = Duration::from_secs(20);
/// Where servers listen.
const ASKED: u16 = 7001;
/// Where servers listen that nobody has sent to.
const NOT_ASKED: u16 = 7002;
/// Connections that may wait for being accepted.
const BACKLOG: i32 = 8;

/// What was found for one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) mapping: Mapping,
    /// `None` where nothing goes out: then nobody can be let in.
    pub(super) filter: Option<Filter>,
}

/// Builds a connection of that kind, and compares what it does with what it should.
pub(super) fn check(lab: &Lab, kind: Kind) -> Outcome {
    let world = World::build(lab, [kind, Kind::Public])?;
    // Plain sockets ask for nothing.
    let kind = kind.unasked();
    for (name, udp) in [("UDP", true), ("TCP", false)] {
        let found = if udp {
            over_udp(&world, kind)
        } else {
            over_tcp(&world, kind)
        }?;
        let expected = Found {
            mapping: kind.mapping(udp),
            filter: (kind.mapping(udp) != Mapping::Blocked).then(|| kind.filter()),
        };
        if found != expected {
            return Err(format!(
                "{kind} does not behave as such over {name}: {found:?} instead of {expected:?}"
            ));
        }
    }
    Ok(())
}

fn over_udp(world: &World<'_>, kind: Kind) -> Outcome<Found> {
    let goes_out = kind.mapping(true) != Mapping::Blocked;
    let strangers_get_in = kind.filter() == Filter::Open;
    let open = |space: &Space, port: u16| {
        space.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(|error| error.to_string()))
    };
    let ((one, one_ip), (two, two_ip)) = (world.server(0), world.server(1));
    let inside = open(world.host(Side::A), PORT)?;
    let (asked, not_asked) = (open(one, ASKED)?, open(one, NOT_ASKED)?);
    let (stranger, asked_too) = (open(two, NOT_ASKED)?, open(two, ASKED)?);

    let seen = |at: &UdpSocket, ip: Ipv4Addr| -> Outcome<Option<SocketAddr>> {
        inside
            .send_to(b"who am I?", (ip, ASKED))
            .map_err(|error| format!("cannot send: {error}"))?;
        source(at, goes_out)
    };
    let Some(first) = seen(&asked, one_ip)? else {
        return Ok(Found {
            mapping: Mapping::Blocked,
            filter: None,
        });
    };
    let arrives = |from: &UdpSocket, expected: bool| -> Outcome<bool> {
        // Nothing may wait from before, and a lost one is not noticed by the sender.
        let _ = from.send_to(b"may I?", first);
        Ok(source(&inside, expected)?.is_some())
    };
    if !arrives(&asked, true)? {
        return Err("an answer did not arrive".to_owned());
    }
    let filter = filter(
        arrives(&not_asked, strangers_get_in)?,
        arrives(&stranger, strangers_get_in)?,
    )?;
    let second = seen(&asked_too, two_ip)?.ok_or("nothing arrived at the second server")?;
    Ok(Found {
        mapping: mapping(world, first, second)?,
        filter: Some(filter),
    })
}

fn over_tcp(world: &World<'_>, kind: Kind) -> Outcome<Found> {
    let listening = |space: &Space, port: u16| {
        space.run(|| {
            let socket = bound(port)?;
            listen(&socket, BACKLOG).map_err(|error| error.to_string())?;
            let listener = TcpListener::from(socket);
            listener
                .set_nonblocking(true)
                .map_err(|error| error.to_string())?;
            Ok(listener)
        })
    };
    let ((one, one_ip), (two, two_ip)) = (world.server(0), world.server(1));
    let inside = listening(world.host(Side::A), PORT)?;
    let (asked, asked_too) = (listening(one, ASKED)?, listening(two, ASKED)?);
    // Held open, so that the router goes on knowing them.
    let mut open = Vec::new();
    let mut seen = |at: &TcpListener, ip: Ipv4Addr| -> Outcome<SocketAddr> {
        let stream = world.host(Side::A).run(|| {
            let socket = bound(PORT)?;
            connect(&socket, &SocketAddr::from((ip, ASKED)))
                .map_err(|error| format!("cannot connect: {error}"))?;
            Ok(TcpStream::from(socket))
        })?;
        open.push(stream);
        accepted(at)?.ok_or_else(|| "a connection did not arrive".to_owned())
    };
    let first = seen(&asked, one_ip)?;
    let arrives = |from: &Space| -> Outcome<bool> {
        let limit = limit(kind.filter() == Filter::Open);
        from.run(|| Ok(TcpStream::connect_timeout(&first, limit).is_ok()))
    };
    let filter = filter(arrives(one)?, arrives(two)?)?;
    let second = seen(&asked_too, two_ip)?;
    drop(inside);
    Ok(Found {
        mapping: mapping(world, first, second)?,
        filter: Some(filter),
    })
}

/// A TCP socket at that port, which it shares with others of this machine.
fn bound(port: u16) -> Outcome<std::os::fd::OwnedFd> {
    let made = || -> rustix::io::Result<_> {
        let made = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_socket_reuseaddr(&made, true)?;
        sockopt::set_socket_reuseport(&made, true)?;
        bind(&made, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
        Ok(made)
    };
    made().map_err(|error| format!("a socket at port {port}: {error}"))
}

/// How long something is waited for.
fn limit(expected: bool) -> Duration {
    if expected { EXPECTED_LIMIT } else { ARRIVAL_LIMIT }
}

/// Where the next packet comes from, if one comes.
fn source(socket: &UdpSocket, expected: bool) -> Outcome<Option<SocketAddr>> {
    socket
        .set_read_timeout(Some(limit(expected)))
        .map_err(|error| error.to_string())?;
    match socket.recv_from(&mut [0; 64]) {
        Ok((_, source)) => Ok(Some(source)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(format!("cannot receive: {error}")),
    }
}

/// Where the next connection comes from, if one comes.
fn accepted(listener: &TcpListener) -> Outcome<Option<SocketAddr>> {
    let deadline = Instant::now() + EXPECTED_LIMIT;
    loop {
        match listener.accept() {
            Ok((_, source)) => return Ok(Some(source)),
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                return Err(format!("cannot accept: {error}"));
            }
            Err(_) if Instant::now() > deadline => return Ok(None),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn mapping(world: &World<'_>, first: SocketAddr, second: SocketAddr) -> Outcome<Mapping> {
    let expected = IpAddr::V4(world.address(Side::A));
    if first.ip() != expected || second.ip() != expected {
        return Err(format!("seen at {first} and {second} instead of {expected}"));
    }
    Ok(match (first.port(), second.port()) {
        (PORT, PORT) => Mapping::Kept,
        (one, other) if one == other => Mapping::Shifted,
        _ => Mapping::PerDestination,
    })
}

/// What it means who gets through: another port of somebody who was asked, and somebody who was not.
fn filter(other_port: bool, stranger: bool) -> Outcome<Filter> {
    match (other_port, stranger) {
        (true, true) => Ok(Filter::Open),
        (false, false) => Ok(Filter::AddressAndPort),
        (other_port, stranger) => Err(format!(
            "another port gets through: {other_port}; a stranger gets through: {stranger}"
        )),
    }
}
