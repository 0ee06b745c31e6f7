//! Who is connected, and who has to go.
//!
//! A *stranger* is a connection without an authenticated session. It may stay for a while; and where a limit
//! is reached, the oldest stranger goes so that a newcomer can come in. A newcomer is refused only when
//! everybody else has a session.
//!
//! Three kinds of connections without a session are no strangers while they are of use: with a relay we rely on,
//! with a relay that carries a circuit of ours, and with a gateway we are the relay of. What the last kind may take
//! up is the relay's own business (`nat::Policy`).
//!
//! Whoever is told to punch a hole from the other side also calls back the plain way, see [`Connections::call_back`].

mod ways;

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::future::Future as _;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, ListenFailure, NetworkBehaviour,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, Sleep};

use crate::Limits;
use crate::address::{self, Carrier};
use crate::nat::Policy;
use crate::rate::Source;

/// Addresses seen by peers that wait to be passed on.
const MAX_OBSERVED: usize = 32;
/// Connections over one carrier that somebody who has a place with us may keep besides those it asked over.
const MAX_OF_A_KIND: usize = 2;
/// Addresses of one peer that are called back.
const MAX_CALLED_BACK: usize = 8;
/// Peers that are called back at a time.
const MAX_CALLING_BACK: usize = 32;
/// Connections that are being closed may exist beyond the limit, this many at most.
const MAX_CLOSING: usize = 256;

/// The behaviour. Comes first in the swarm's, so that nobody else knows of a connection that is refused here.
pub(crate) struct Connections {
    limits: Limits,
    policy: Arc<Policy>,
    /// Listens on this machine only, so that its addresses are as good as any.
    on_loopback: bool,
    known: HashMap<ConnectionId, Connection>,
    /// Dials under way that we decided on ourselves; others go where a peer says.
    ours: HashSet<ConnectionId>,
    /// Relays we rely on.
    relays: HashSet<PeerId>,
    /// Addresses of ours, as peers saw them.
    observed: VecDeque<Multiaddr>,
    /// Peers being called back.
    calling_back: HashMap<ConnectionId, PeerId>,
    /// Calls back that are about to begin.
    calls: VecDeque<DialOpts>,
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
    /// The address of this machine it began with; none through a relay.
    local: Option<IpAddr>,
    inbound: bool,
    /// Whether it goes through a relay.
    relayed: bool,
    /// The relay it goes through, as far as its address tells.
    relay: Option<PeerId>,
    /// We dialed it from a port we listen on.
    from_listener: bool,
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
    #[error("not dialed: a peer named an address that is not a public one")]
    NotPublic,
}

impl Connections {
    /// Keeps to `limits`, and asks `policy` whom we carry something for.
    pub(crate) fn new(limits: Limits, policy: Arc<Policy>, on_loopback: bool) -> Self {
        Self {
            limits,
            policy,
            on_loopback,
            known: HashMap::new(),
            ours: HashSet::new(),
            relays: HashSet::new(),
            observed: VecDeque::new(),
            calling_back: HashMap::new(),
            calls: VecDeque::new(),
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
            .max_by_key(|(_, connection)| (!connection.relayed, connection.order))
            .map(|(id, _)| *id)
    }

    /// Whether there is a usable connection with `peer`: one through a relay, or a direct one.
    pub(crate) fn has(&self, peer: &PeerId, relayed: bool) -> bool {
        let of_kind = |known: &&Connection| known.peer == *peer && known.relayed == relayed;
        self.known.values().filter(of_kind).any(Connection::usable)
    }

    /// Where we reached `peer` from a port we listen on: there, the routers between know that port.
    pub(crate) fn dialed_from_listener(&self, peer: &PeerId) -> bool {
        let mut of_peer = self.known.values().filter(|known| known.peer == *peer);
        of_peer.any(|known| known.from_listener && known.usable())
    }

    /// Whether a connection goes through a relay.
    pub(crate) fn is_relayed(&self, id: ConnectionId) -> bool {
        self.known.get(&id).is_some_and(|known| known.relayed)
    }

    /// The IP address a connection comes from or goes to; none through a relay.
    pub(crate) fn ip(&self, id: ConnectionId) -> Option<IpAddr> {
        self.known.get(&id).and_then(Connection::ip)
    }

    /// A dial we decided on ourselves is about to begin.
    pub(crate) fn begin_dial(&mut self, id: ConnectionId) {
        self.ours.insert(id);
    }

    /// From now on we rely on exactly these relays.
    pub(crate) fn rely_on(&mut self, relays: HashSet<PeerId>) {
        if self.relays != relays {
            self.relays = relays;
            self.reschedule();
        }
    }

    /// What we carry for others changed.
    pub(crate) fn carrying_changed(&mut self) {
        self.reschedule();
    }

    /// A peer told where it saw us come from. From a port we listen on, that is where the next one may reach us, even
    /// if it is another port.
    pub(crate) fn observed(&mut self, id: ConnectionId, address: &Multiaddr) {
        let telling = |known: &Connection| known.from_listener && !known.relayed;
        if self.known.get(&id).is_some_and(telling) && self.observed.len() < MAX_OBSERVED {
            self.observed.push_back(address.clone());
            self.wake();
        }
    }

    /// Closes every connection with a peer that has no session.
    pub(crate) fn close_unused(&mut self, peer: &PeerId) {
        let of_peer = |known: &Connection| known.peer == *peer && known.sessions == 0 && !known.relayed;
        let unused: Vec<ConnectionId> = self
            .known
            .iter()
            .filter(|(_, known)| of_peer(known))
            .map(|(id, _)| *id)
            .collect();
        unused.into_iter().for_each(|id| self.close(id));
    }

    /// Where handshakes on a connection are counted; nowhere once it has a session.
    pub(crate) fn source(&self, peer: PeerId, id: ConnectionId) -> Option<Source> {
        let connection = self.known.get(&id).filter(|known| known.sessions == 0)?;
        // Through a relay no address is to be seen.
        let host = connection.ip().map(address::host_of);
        Some(host.map_or(Source::Peer(peer), Source::Host))
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
    fn admit(&mut self, newcomer: &Connection) -> Result<(), Refusal> {
        let (peer, inbound, relayed) = (newcomer.peer, newcomer.inbound, newcomer.relayed);
        let host = newcomer.host();
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
        // Those who come through relays count as one host: nobody knows where they really are.
        let same_host =
            |known: &Connection| known.inbound && known.relayed == relayed && known.host() == host;
        if inbound
            && (host.is_some() || relayed)
            && self.count(|known| same_host(known) && self.is_stranger(known)) >= self.limits.strangers_per_ip
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
            .filter(|(_, known)| !known.closing && self.is_stranger(known) && of(known))
            .min_by_key(|(_, known)| known.order)
            .map(|(id, _)| *id)
    }

    fn evict(&mut self, id: ConnectionId, reason: &str) {
        if let Some(connection) = self.known.get(&id) {
            tracing::debug!(peer = %connection.peer, remote = %connection.remote, reason, "stranger dropped");
        }
        self.close(id);
    }

    /// Whether nothing keeps a connection but our patience.
    fn is_stranger(&self, known: &Connection) -> bool {
        let carries_ours = || {
            let through = |circuit: &Connection| circuit.relay == Some(known.peer) && !circuit.closing;
            self.relays.contains(&known.peer) || self.known.values().any(through)
        };
        let carries_theirs = || {
            self.policy.carries(&known.peer, &known.remote)
                || (self.policy.has_place(&known.peer) && self.is_new_of_its_kind(known))
        };
        let of_use = || !known.relayed && (carries_ours() || carries_theirs());
        known.sessions == 0 && !of_use()
    }

    /// Whether it is one of the newest with its peer over its carrier. Who has a place with us keeps some of each: there
    /// it learns how its router treats the two, and keeps the router from forgetting.
    fn is_new_of_its_kind(&self, known: &Connection) -> bool {
        let Some(carrier) = known.carrier() else {
            return false;
        };
        let newer = |other: &Connection| {
            other.peer == known.peer && other.order > known.order && other.carrier() == Some(carrier)
        };
        self.count(newer) < MAX_OF_A_KIND
    }

    /// A peer is to be dialed as if it had dialed us, to punch a hole with TCP. If the peer's side is open in truth,
    /// our packet reaches it before its own left, and two sides that both wait to be spoken to come about. So it is
    /// also called back the plain way, from another port: that reaches every peer that can be reached, and nobody else.
    fn call_back(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        if self.calling_back.len() >= MAX_CALLING_BACK
            || self.calling_back.values().any(|known| *known == peer)
        {
            return;
        }
        let over_tcp = |address: &&Multiaddr| Carrier::of(address) == Some(Carrier::Tcp);
        let addresses: Vec<Multiaddr> = addresses
            .iter()
            .filter(over_tcp)
            .take(MAX_CALLED_BACK)
            .cloned()
            .collect();
        if addresses.is_empty() {
            return;
        }
        let call = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(addresses)
            .allocate_new_port()
            .build();
        self.calling_back.insert(call.connection_id(), peer);
        self.calls.push_back(call);
        self.wake();
    }

    fn enter(&mut self, id: ConnectionId, mut newcomer: Connection) -> Result<(), ConnectionDenied> {
        self.ours.remove(&id);
        self.calling_back.remove(&id);
        self.admit(&newcomer).map_err(ConnectionDenied::new)?;
        self.next += 1;
        newcomer.order = self.next;
        self.known.insert(id, newcomer);
        self.reschedule();
        Ok(())
    }

    fn leave(&mut self, id: ConnectionId) {
        self.unwanted.remove(&id);
        self.ours.remove(&id);
        self.calling_back.remove(&id);
        self.known.remove(&id);
        self.reschedule();
    }

    /// Sets the timer to the moment the next stranger's time is up.
    fn reschedule(&mut self) {
        let next = self
            .known
            .values()
            .filter(|known| !known.closing && self.is_stranger(known));
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
            .filter(|(_, known)| now >= known.since + timeout && self.is_stranger(known));
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
    fn new(peer: PeerId, remote: &Multiaddr, local: Option<&Multiaddr>) -> Self {
        // Who comes through a relay shows only its peer id; where we listened tells the rest.
        let circuit = local.unwrap_or(remote);
        let far = address::ip_of(remote).filter(|_| !address::is_relayed(circuit));
        Self {
            peer,
            remote: remote.clone(),
            local: far.and_then(address::local_towards),
            inbound: local.is_some(),
            relayed: address::is_relayed(circuit),
            relay: address::relay_of(circuit),
            from_listener: false,
            established: false,
            closing: false,
            sessions: 0,
            since: Instant::now(),
            order: 0,
        }
    }

    fn ip(&self) -> Option<IpAddr> {
        address::ip_of(&self.remote).filter(|_| !self.relayed)
    }

    fn carrier(&self) -> Option<Carrier> {
        Carrier::of(&self.remote).filter(|_| !self.relayed)
    }

    fn usable(&self) -> bool {
        self.established && !self.closing
    }

    fn host(&self) -> Option<IpAddr> {
        self.ip().map(address::host_of)
    }
}

impl NetworkBehaviour for Connections {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.enter(id, Connection::new(peer, remote, Some(local)))?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let public = |address| address::is_public(address, self.on_loopback);
        if !self.ours.contains(&id) && !addresses.iter().all(public) {
            return Err(ConnectionDenied::new(Refusal::NotPublic));
        }
        if let (Some(peer), Endpoint::Listener) = (peer, role) {
            self.call_back(peer, addresses);
        }
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.unwanted.remove(&id) {
            return Err(ConnectionDenied::new(Refusal::Unwanted));
        }
        let from_listener = port == PortUse::Reuse;
        let newcomer = Connection::new(peer, remote, None);
        self.enter(
            id,
            Connection {
                from_listener,
                ..newcomer
            },
        )?;
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
            if let Some(opts) = self.calls.pop_front() {
                return Poll::Ready(ToSwarm::Dial { opts });
            }
            if let Some(address) = self.observed.pop_front() {
                return Poll::Ready(ToSwarm::NewExternalAddrCandidate(address));
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
mod tests;
