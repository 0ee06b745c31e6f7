//! Who is connected, and who has to go.
//!
//! A *stranger* is a connection without an authenticated session. It may stay for a while; and where a limit
//! is reached, the oldest stranger goes so that a newcomer can come in. A newcomer is refused only when
//! everybody else has a session.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::future::Future as _;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, ListenFailure, NetworkBehaviour,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, Sleep};

use crate::Limits;
use crate::address;

/// Connections that are being closed may exist beyond the limit, this many at most.
const MAX_CLOSING: usize = 256;

/// The behaviour. Comes first in the swarm's, so that nobody else knows of a connection that is refused here.
pub(crate) struct Connections {
    limits: Limits,
    known: HashMap<ConnectionId, Connection>,
    /// Dials under way whose result nobody wants any more.
    unwanted: HashSet<ConnectionId>,
    closing: VecDeque<(PeerId, ConnectionId)>,
    timer: Option<Pin<Box<Sleep>>>,
    waker: Option<Waker>,
    next: u64,
}

struct Connection {
    peer: PeerId,
    remote: Multiaddr,
    inbound: bool,
    established: bool,
    closing: bool,
    /// Authenticated sessions on it.
    sessions: usize,
    /// Since when it is a stranger, or was last of use to us.
    since: Instant,
    /// Order of arrival.
    order: u64,
}

/// Why a connection was refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("too many connections, all of them with a session")]
    Full,
    #[error("too many connections with this peer, all of them with a session")]
    FullForPeer,
    #[error("another address of the peer was faster")]
    Unwanted,
}

impl Connections {
    /// Keeps to `limits`.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            known: HashMap::new(),
            unwanted: HashSet::new(),
            closing: VecDeque::new(),
            timer: None,
            waker: None,
            next: 0,
        }
    }

    /// The connections with `peer` that can carry a session, best first: direct before relayed, then the
    /// newest.
    pub(crate) fn best(&self, peer: &PeerId) -> Option<ConnectionId> {
        self.known
            .iter()
            .filter(|(_, connection)| connection.peer == *peer && connection.usable())
            .max_by_key(|(_, connection)| (!address::is_relayed(&connection.remote), connection.order))
            .map(|(id, _)| *id)
    }

    /// The IP address a connection comes from or goes to.
    pub(crate) fn ip(&self, id: ConnectionId) -> Option<IpAddr> {
        self.known
            .get(&id)
            .and_then(|connection| address::ip_of(&connection.remote))
    }

    /// Gives a connection its full time again, because we have use for it.
    pub(crate) fn touch(&mut self, id: ConnectionId) {
        if let Some(connection) = self.known.get_mut(&id) {
            connection.since = Instant::now();
            self.reschedule();
        }
    }

    /// An authenticated session began on a connection: it is no stranger.
    pub(crate) fn session_began(&mut self, id: ConnectionId) {
        if let Some(connection) = self.known.get_mut(&id) {
            connection.sessions += 1;
            self.reschedule();
        }
    }

    /// An authenticated session ended.
    pub(crate) fn session_ended(&mut self, id: ConnectionId) {
        if let Some(connection) = self.known.get_mut(&id) {
            connection.sessions = connection.sessions.saturating_sub(1);
            connection.since = Instant::now();
            self.reschedule();
        }
    }

    /// The result of this dial is not wanted any more.
    pub(crate) fn forget_dial(&mut self, id: ConnectionId) {
        self.unwanted.insert(id);
    }

    /// Closes a connection.
    pub(crate) fn close(&mut self, id: ConnectionId) {
        if let Some(connection) = self.known.get_mut(&id).filter(|known| !known.closing) {
            connection.closing = true;
            self.closing.push_back((connection.peer, id));
            self.wake();
        }
    }

    /// Makes room for a newcomer, or says that there is none.
    fn admit(&mut self, peer: PeerId, remote: &Multiaddr, inbound: bool) -> Result<(), Refusal> {
        let host = address::ip_of(remote).map(address::host_of);
        let closing = self.known.values().filter(|known| known.closing).count();
        if closing >= MAX_CLOSING {
            return Err(Refusal::Full);
        }
        if self.count(|known| known.peer == peer) >= self.limits.connections_per_peer {
            let oldest = self
                .oldest_stranger(|known| known.peer == peer)
                .ok_or(Refusal::FullForPeer)?;
            self.evict(oldest, "its peer opened another connection");
        }
        let same_host = |known: &Connection| known.inbound && known.is_stranger() && known.host() == host;
        if inbound
            && host.is_some()
            && self.count(same_host) >= self.limits.strangers_per_ip
            && let Some(oldest) = self.oldest_stranger(same_host)
        {
            self.evict(oldest, "too many strangers from one address");
        }
        if self.known.len() - closing >= self.limits.connections {
            let oldest = self.oldest_stranger(|known| known.inbound).ok_or(Refusal::Full)?;
            self.evict(oldest, "all places are taken");
        }
        Ok(())
    }

    fn count(&self, of: impl Fn(&Connection) -> bool) -> usize {
        self.known
            .values()
            .filter(|known| !known.closing && of(known))
            .count()
    }

    fn oldest_stranger(&self, of: impl Fn(&Connection) -> bool) -> Option<ConnectionId> {
        self.known
            .iter()
            .filter(|(_, known)| !known.closing && known.is_stranger() && of(known))
            .min_by_key(|(_, known)| known.order)
            .map(|(id, _)| *id)
    }

    fn evict(&mut self, id: ConnectionId, reason: &str) {
        if let Some(connection) = self.known.get(&id) {
            tracing::debug!(peer = %connection.peer, remote = %connection.remote, reason, "stranger dropped");
        }
        self.close(id);
    }

    fn enter(&mut self, id: ConnectionId, peer: PeerId, remote: &Multiaddr, inbound: bool) {
        self.next += 1;
        let connection = Connection {
            peer,
            remote: remote.clone(),
            inbound,
            established: false,
            closing: false,
            sessions: 0,
            since: Instant::now(),
            order: self.next,
        };
        self.known.insert(id, connection);
        self.reschedule();
    }

    fn leave(&mut self, id: ConnectionId) {
        self.unwanted.remove(&id);
        self.known.remove(&id);
        self.reschedule();
    }

    /// Sets the timer to the moment the next stranger's time is up.
    fn reschedule(&mut self) {
        let next = self
            .known
            .values()
            .filter(|known| known.is_stranger() && !known.closing);
        let next = next
            .map(|known| known.since)
            .min()
            .map(|since| since + self.limits.stranger_timeout);
        self.timer = next.map(|at| Box::pin(tokio::time::sleep_until(at)));
        self.wake();
    }

    fn close_overdue(&mut self) {
        let now = Instant::now();
        let timeout = self.limits.stranger_timeout;
        let overdue = self
            .known
            .iter()
            .filter(|(_, known)| known.is_stranger() && now >= known.since + timeout);
        let overdue: Vec<ConnectionId> = overdue.map(|(id, _)| *id).collect();
        for id in overdue {
            self.evict(id, "no session in time");
        }
        self.reschedule();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Connection {
    fn is_stranger(&self) -> bool {
        self.sessions == 0
    }

    fn usable(&self) -> bool {
        self.established && !self.closing
    }

    fn host(&self) -> Option<IpAddr> {
        address::ip_of(&self.remote).map(address::host_of)
    }
}

impl NetworkBehaviour for Connections {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(peer, remote, true).map_err(ConnectionDenied::new)?;
        self.enter(id, peer, remote, true);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.unwanted.remove(&id) {
            return Err(ConnectionDenied::new(Refusal::Unwanted));
        }
        self.admit(peer, remote, false).map_err(ConnectionDenied::new)?;
        self.enter(id, peer, remote, false);
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                if let Some(connection) = self.known.get_mut(&event.connection_id) {
                    connection.established = true;
                }
            }
            FromSwarm::ConnectionClosed(event) => self.leave(event.connection_id),
            FromSwarm::DialFailure(DialFailure { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => self.leave(connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        loop {
            if let Some((peer_id, id)) = self.closing.pop_front() {
                let connection = CloseConnection::One(id);
                return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection });
            }
            match self.timer.as_mut().map(|timer| timer.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => self.close_overdue(),
                Some(Poll::Pending) | None => break,
            }
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table {
        connections: Connections,
        last: usize,
    }

    impl Table {
        fn new(limits: Limits) -> Self {
            Self {
                connections: Connections::new(limits),
                last: 0,
            }
        }

        fn dialed_in(&mut self, peer: PeerId, ip: &str) -> Result<ConnectionId, ConnectionDenied> {
            self.last += 1;
            let id = ConnectionId::new_unchecked(self.last);
            let remote: Multiaddr = format!("/ip4/{ip}/tcp/{}", 1000 + self.last).parse().unwrap();
            let local: Multiaddr = "/ip4/127.0.0.1/tcp/9000".parse().unwrap();
            self.connections
                .handle_established_inbound_connection(id, peer, &local, &remote)?;
            self.connections.known.get_mut(&id).unwrap().established = true;
            Ok(id)
        }

        fn with_session(&mut self, peer: PeerId, ip: &str) -> ConnectionId {
            let id = self.dialed_in(peer, ip).unwrap();
            self.connections.session_began(id);
            id
        }

        fn evicted(&mut self) -> Vec<ConnectionId> {
            self.connections.closing.drain(..).map(|(_, id)| id).collect()
        }
    }

    #[tokio::test]
    async fn a_newcomer_replaces_the_oldest_stranger_and_never_a_session() {
        let mut table = Table::new(Limits {
            connections: 3,
            ..Limits::default()
        });
        let friend = table.with_session(PeerId::random(), "192.0.2.1");
        let first = table.dialed_in(PeerId::random(), "192.0.2.2").unwrap();
        let second = table.dialed_in(PeerId::random(), "192.0.2.3").unwrap();
        table.dialed_in(PeerId::random(), "192.0.2.4").unwrap();
        assert_eq!(table.evicted(), [first]);
        table.connections.session_began(second);
        let fourth = table.with_session(PeerId::random(), "192.0.2.5");
        assert_eq!(table.evicted().len(), 1);
        assert!(table.dialed_in(PeerId::random(), "192.0.2.6").is_err());
        assert!(
            [friend, second, fourth]
                .iter()
                .all(|id| !table.connections.known[id].closing)
        );
    }

    #[tokio::test]
    async fn one_address_holds_few_strangers_and_one_peer_few_connections() {
        let mut table = Table::new(Limits {
            strangers_per_ip: 2,
            connections_per_peer: 2,
            ..Limits::default()
        });
        let first = table.dialed_in(PeerId::random(), "192.0.2.1").unwrap();
        table.dialed_in(PeerId::random(), "192.0.2.2").unwrap();
        table.dialed_in(PeerId::random(), "192.0.2.1").unwrap();
        table.dialed_in(PeerId::random(), "192.0.2.1").unwrap();
        assert_eq!(table.evicted(), [first]);

        let peer = PeerId::random();
        let oldest = table.with_session(peer, "192.0.2.7");
        table.with_session(peer, "192.0.2.8");
        assert!(table.dialed_in(peer, "192.0.2.9").is_err());
        table.connections.session_ended(oldest);
        let newest = table.dialed_in(peer, "192.0.2.9").unwrap();
        assert_eq!(table.evicted(), [oldest]);
        assert_eq!(table.connections.best(&peer), Some(newest));
    }

    #[tokio::test]
    async fn direct_connections_come_before_relayed_ones() {
        let mut table = Table::new(Limits::default());
        let peer = PeerId::random();
        let direct = table.dialed_in(peer, "192.0.2.1").unwrap();
        let relayed = table.dialed_in(peer, "192.0.2.2").unwrap();
        let through = format!("/ip4/192.0.2.2/tcp/1/p2p/{}/p2p-circuit", PeerId::random());
        table.connections.known.get_mut(&relayed).unwrap().remote = through.parse().unwrap();
        assert_eq!(table.connections.best(&peer), Some(direct));
        table.connections.close(direct);
        assert_eq!(table.connections.best(&peer), Some(relayed));
    }

    #[tokio::test]
    async fn silence_is_ended_after_a_while() {
        let mut table = Table::new(Limits {
            stranger_timeout: std::time::Duration::from_millis(20),
            ..Limits::default()
        });
        let friend = table.with_session(PeerId::random(), "192.0.2.1");
        let silent = table.dialed_in(PeerId::random(), "192.0.2.2").unwrap();
        let closed = std::future::poll_fn(|cx| table.connections.poll(cx)).await;
        let ToSwarm::CloseConnection {
            connection: CloseConnection::One(id),
            ..
        } = closed
        else {
            panic!("something else happened")
        };
        assert_eq!(id, silent);
        assert!(!table.connections.known[&friend].closing);
    }
}
