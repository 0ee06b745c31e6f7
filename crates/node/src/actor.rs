//! The one task that owns the swarm.

mod inbound;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use clawchat_identity::{Attestation, Verified};
use clawchat_snap2p::{Credentials, Gatekeeper};
use clawchat_types::{InviteToken, Locator, Principal};
use futures::{FutureExt as _, StreamExt as _};
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{PeerId, Swarm, identify};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::address;
use crate::clock::Clock;
use crate::counters::Handshake;
use crate::dial::{self, Dials};
use crate::legacy::LegacyPart;
use crate::nat::NatPart;
use crate::node::View;
use crate::rate::{Handshakes, Source};
use crate::session::refusal::Refusals;
use crate::session::task::{self as session, Notice, Outcome};
use crate::swarm::{Behaviour, BehaviourEvent, OpenReply, Protocol};
use crate::{DialError, LegacySession, Limits, NodeEvent, SessionHandle, SessionOpenError};

/// Events that may wait for a slow owner before the swarm stops being polled.
const MAX_WAITING_EVENTS: usize = 1024;
/// How long the start waits for the addresses of its listeners.
const FIRST_ADDRESS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long goodbyes may take when nobody asked for them: every handle was just dropped.
const DROPPED_LIMIT: Duration = Duration::from_secs(1);

/// A session that ends before is no better than a handshake that came to none.
const SHORT_SESSION: Duration = Duration::from_secs(10);

/// What the node's handles ask for.
pub(crate) enum Command {
    /// Connect to whoever answers first. With `again`, even to who is connected.
    Connect {
        locators: Vec<Locator>,
        again: bool,
        reply: dial::Reply,
    },
    /// Open a session with a connected peer.
    OpenSession {
        peer: clawchat_types::PeerId,
        local: Credentials,
        target: Option<Principal>,
        knock: Option<InviteToken>,
        reply: oneshot::Sender<Result<SessionHandle, SessionOpenError>>,
    },
    /// Open one of wire profile 1.0 with a connected peer.
    OpenLegacySession {
        peer: clawchat_types::PeerId,
        local: Attestation<Verified>,
        reply: oneshot::Sender<Result<LegacySession, SessionOpenError>>,
    },
    /// Open a substream for a PX-1 exchange of that profile.
    OpenPx1 {
        peer: clawchat_types::PeerId,
        reply: OpenReply,
    },
    /// These are our contacts' gateways.
    SetContacts(Vec<(clawchat_types::PeerId, Vec<Locator>)>),
    /// Say goodbye and stop, within the time given.
    Close {
        limit: Duration,
        done: oneshot::Sender<()>,
    },
}

/// What the task owns.
pub(crate) struct Actor {
    pub(crate) swarm: Swarm<Behaviour>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: mpsc::Sender<NodeEvent>,
    pub(crate) view: Arc<View>,
    pub(crate) gatekeeper: Arc<dyn Gatekeeper + Send + Sync>,
    pub(crate) nat: NatPart,
    pub(crate) legacy: Option<LegacyPart>,
    pub(crate) limits: Limits,
    pub(crate) state: State,
}

/// What it starts without.
pub(crate) struct State {
    pub(crate) clock: Clock,
    pub(crate) dials: Dials,
    sessions: JoinSet<Outcome>,
    running: HashMap<task::Id, Running>,
    refusals: Refusals,
    rate: Handshakes,
    waiting_events: VecDeque<NodeEvent>,
    notices: (mpsc::Sender<Notice>, mpsc::Receiver<Notice>),
    stop: watch::Sender<bool>,
    next: u64,
}

/// One session task.
struct Running {
    peer: PeerId,
    connection: ConnectionId,
    protocol: Protocol,
    inbound: bool,
    authenticated: Option<Instant>,
    /// Told to end to make room; still there until it has.
    doomed: bool,
    abort: AbortHandle,
    order: u64,
    /// Where a handshake that counts came from: the first of its connection that a peer began.
    source: Option<Source>,
}

impl State {
    /// Nothing is going on.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            clock: Clock::start(),
            dials: Dials::default(),
            sessions: JoinSet::new(),
            running: HashMap::new(),
            refusals: Refusals::default(),
            rate: Handshakes::new(limits.handshakes_per_minute),
            waiting_events: VecDeque::new(),
            notices: mpsc::channel(session::MAX_NOTICES),
            stop: watch::Sender::new(false),
            next: 0,
        }
    }
}

impl Actor {
    /// Runs the swarm until every listener has told its addresses, but not for long: an interface without
    /// addresses tells none.
    pub(crate) async fn settle(&mut self, mut silent: HashSet<ListenerId>) {
        let deadline = Instant::now() + FIRST_ADDRESS_TIMEOUT;
        loop {
            // The first address of a listener has to be waited for; the others are there by then.
            let next = self.swarm.select_next_some();
            let event = if silent.is_empty() {
                next.now_or_never()
            } else {
                tokio::time::timeout_at(deadline, next).await.ok()
            };
            match event {
                None => return,
                Some(event) => {
                    if let SwarmEvent::NewListenAddr { listener_id, .. }
                    | SwarmEvent::ListenerClosed { listener_id, .. } = &event
                    {
                        silent.remove(listener_id);
                    }
                    self.on_swarm_event(event);
                }
            }
            if Instant::now() >= deadline {
                return;
            }
        }
    }

    /// Serves until told to close, or until every handle is gone.
    pub(crate) async fn run(mut self) {
        self.nat.begin();
        let events = self.events.clone();
        let (limit, done) = loop {
            let idle = Instant::now() + Duration::from_secs(3600);
            let dial_at = self.state.dials.next_deadline().unwrap_or(idle);
            let tend_at = self.nat.next_deadline().unwrap_or(idle);
            let may_poll = self.state.waiting_events.len() < MAX_WAITING_EVENTS;
            tokio::select! {
                biased;
                Some(notice) = self.state.notices.1.recv() => self.on_notice(notice),
                Some(ended) = self.state.sessions.join_next_with_id() => self.on_session_end(ended),
                permit = events.reserve(), if !self.state.waiting_events.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(event) = self.state.waiting_events.pop_front() {
                            permit.send(event);
                        }
                    }
                    Err(_) => self.state.waiting_events.clear(),
                },
                command = self.commands.recv() => match command {
                    Some(Command::Close { limit, done }) => break (limit, Some(done)),
                    Some(Command::Connect { locators, again, reply }) => self.connect(locators, again, reply),
                    Some(Command::OpenSession { peer, local, target, knock, reply }) => {
                        self.open_session(&peer, local, session::Wanted { target, knock }, reply);
                    }
                    Some(Command::OpenLegacySession { peer, local, reply }) => {
                        self.open_legacy_session(&peer, local, reply);
                    }
                    Some(Command::OpenPx1 { peer, reply }) => self.open_px1(&peer, reply),
                    Some(Command::SetContacts(contacts)) => self.set_contacts(contacts),
                    None => break (DROPPED_LIMIT, None),
                },
                () = tokio::time::sleep_until(dial_at) => self.dial(),
                () = tokio::time::sleep_until(tend_at) => self.tend_nat(),
                event = self.swarm.select_next_some(), if may_poll => self.on_swarm_event(event),
            }
        };
        drop(events);
        self.close(limit).await;
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    async fn close(mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.state.dials.close();
        let _ = self.state.stop.send(true);
        // Callers that come too late are told by their channel being closed.
        self.commands.close();
        let goodbyes = async {
            while !self.state.sessions.is_empty() {
                tokio::select! {
                    _ = self.state.sessions.join_next() => {}
                    Some(_) = self.state.notices.1.recv() => {}
                    _ = self.swarm.select_next_some() => {}
                }
            }
            let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
            for peer in peers {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        if tokio::time::timeout_at(deadline, goodbyes).await.is_err() {
            tracing::debug!("not every peer could be told that we leave");
        }
        self.state.sessions.shutdown().await;
        self.view.clear();
    }

    fn connect(&mut self, locators: Vec<Locator>, again: bool, reply: dial::Reply) {
        let connections = &self.swarm.behaviour().connections;
        let connected = locators.iter().filter(|_| !again).find_map(|locator| {
            let peer = locator.peer_id()?;
            connections.best(&address::to_libp2p(&peer)?)?;
            Some(crate::Connected {
                peer,
                locator: locator.clone(),
            })
        });
        match connected {
            Some(connected) => {
                let _ = reply.send(Ok(connected));
            }
            None if locators.is_empty() => {
                let _ = reply.send(Err(DialError::NoAddresses));
            }
            None => {
                let ourselves = *self.swarm.local_peer_id();
                self.state.dials.begin(locators, &ourselves, reply);
                self.dial();
            }
        }
    }

    fn dial(&mut self) {
        let tasks = self.state.dials.due();
        self.perform(tasks);
    }

    fn perform(&mut self, tasks: Vec<dial::Task>) {
        for task in tasks {
            match task {
                dial::Task::Dial(opts) => {
                    if let Err((connection, failure)) = self.dial_ours(opts) {
                        self.state.dials.failed(connection, failure);
                    }
                }
                dial::Task::Circuit(circuit) => self.dial_circuit(circuit),
                dial::Task::Forget(connection) => {
                    self.forget_circuit(connection);
                    self.swarm.behaviour_mut().connections.forget_dial(connection);
                }
            }
        }
    }

    fn open_session(
        &mut self,
        peer: &clawchat_types::PeerId,
        local: Credentials,
        wanted: session::Wanted,
        reply: oneshot::Sender<Result<SessionHandle, SessionOpenError>>,
    ) {
        match self.open_substream(peer, Protocol::Native) {
            Ok((id, connection, substream)) => {
                let task = session::dial(
                    self.context(peer.clone(), connection),
                    substream,
                    local,
                    wanted,
                    reply,
                );
                self.spawn(id, connection, Protocol::Native, false, task);
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    /// Opens a substream for a session with a connected peer.
    pub(crate) fn open_substream(
        &mut self,
        peer: &clawchat_types::PeerId,
        protocol: Protocol,
    ) -> Result<(PeerId, ConnectionId, session::Opened), SessionOpenError> {
        let id = address::to_libp2p(peer);
        let behaviour = self.swarm.behaviour_mut();
        let Some((id, connection)) = id.and_then(|id| Some((id, behaviour.connections.best(&id)?))) else {
            return Err(SessionOpenError::Unreachable { peer: peer.clone() });
        };
        if self.state.running.len() >= self.limits.sessions {
            return Err(SessionOpenError::Busy);
        }
        behaviour.connections.touch(connection);
        let (opened, substream) = oneshot::channel();
        behaviour.substreams.open(id, connection, protocol, opened);
        Ok((id, connection, substream))
    }

    pub(crate) fn context(&self, peer: clawchat_types::PeerId, connection: ConnectionId) -> session::Context {
        let connections = &self.swarm.behaviour().connections;
        session::Context {
            clock: self.state.clock,
            us: self.view.peer_id.clone(),
            peer,
            relayed: connections.is_relayed(connection),
            relay: connections
                .relay_of(connection)
                .and_then(|relay| address::from_libp2p(&relay)),
            host: connections.ip(connection).map(address::host_of),
            notices: self.state.notices.0.clone(),
            stop: self.state.stop.subscribe(),
        }
    }

    pub(crate) fn spawn(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        protocol: Protocol,
        inbound: bool,
        task: impl Future<Output = Outcome> + Send + 'static,
    ) {
        let abort = self.state.sessions.spawn(task);
        self.state.next += 1;
        let order = self.state.next;
        let counts = inbound && protocol != Protocol::LegacyPx1;
        let source = counts.then(|| self.source(peer, connection)).flatten();
        let running = Running {
            peer,
            connection,
            protocol,
            inbound,
            authenticated: None,
            doomed: false,
            abort: abort.clone(),
            order,
            source,
        };
        self.state.running.insert(abort.id(), running);
    }

    /// How many tasks are at work for a protocol's substreams with a peer.
    pub(crate) fn tasks_of(&self, peer: &PeerId, protocol: Protocol) -> usize {
        let running = self.state.running.values();
        running
            .filter(|task| task.peer == *peer && task.protocol == protocol)
            .count()
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Authenticated(id) => {
                if let Some(running) = self.state.running.get_mut(&id) {
                    running.authenticated = Some(Instant::now());
                    if running.inbound {
                        self.view.tally.handshake_over(Handshake::Completed);
                    }
                    if let Some(source) = running.source {
                        self.state.rate.completed(source);
                    }
                    self.swarm
                        .behaviour_mut()
                        .connections
                        .session_began(running.connection);
                }
            }
        }
    }

    fn on_session_end(&mut self, ended: Result<(task::Id, Outcome), task::JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, Some(outcome)),
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "a session task failed");
                }
                (error.id(), None)
            }
        };
        let Some(running) = self.state.running.remove(&id) else {
            return;
        };
        let connections = &mut self.swarm.behaviour_mut().connections;
        if let Some(since) = running.authenticated {
            connections.session_ended(running.connection);
            if let Some(source) = running.source.filter(|_| since.elapsed() < SHORT_SESSION) {
                self.state.rate.in_vain(source, Instant::now());
            }
        } else if running.inbound && running.protocol != Protocol::LegacyPx1 {
            self.view.tally.handshake_over(Handshake::Failed);
        }
        if outcome == Some(Outcome::ConnectionSuspect) {
            tracing::debug!(peer = %running.peer, "connection does not answer; closing it");
            connections.close(running.connection);
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_nat_event(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                num_established,
                ..
            } => {
                self.on_connected(peer_id, connection_id, &endpoint, num_established.get() == 1);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                cause,
                ..
            } => {
                tracing::debug!(peer = %peer_id, ?cause, "connection closed");
                self.view.tally.disconnected();
                self.nat_disconnected(&peer_id, connection_id);
                if num_established == 0 {
                    self.on_disconnected(&peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id, error, ..
            } => {
                tracing::debug!(%error, "dial failed");
                self.view.tally.not_connected(false);
                let failure = dial::failure(&error);
                self.nat_dial_failed(connection_id, &failure);
                self.state.dials.failed(connection_id, failure);
            }
            SwarmEvent::IncomingConnectionError {
                error,
                send_back_addr,
                ..
            } => {
                tracing::debug!(%error, from = %send_back_addr, "inbound connection failed");
                self.view.tally.not_connected(true);
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(&address, true),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_listening(&address, false),
            SwarmEvent::ExternalAddrConfirmed { address } => self.nat_external(&address, true),
            SwarmEvent::ExternalAddrExpired { address } => self.nat_external(&address, false),
            SwarmEvent::ListenerClosed {
                listener_id,
                addresses,
                reason,
            } => {
                if !self.nat_listener_closed(listener_id, reason.as_ref().copied()) {
                    tracing::warn!(?reason, "stopped listening");
                }
                addresses
                    .iter()
                    .for_each(|address| self.on_listening(address, false));
            }
            SwarmEvent::ListenerError { error, .. } => tracing::debug!(%error, "listener error"),
            _ => {}
        }
    }

    fn on_connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
        first: bool,
    ) {
        tracing::debug!(%peer, address = %endpoint.get_remote_address(), "connected");
        self.view.tally.connected(endpoint.is_listener());
        let relayed = endpoint.is_relayed();
        let tasks = self.state.dials.connected(connection, peer, relayed);
        if let Some(name) = address::from_libp2p(&peer) {
            self.view.connected(&name);
            if first {
                self.emit(NodeEvent::PeerConnected {
                    peer: name,
                    inbound: endpoint.is_listener(),
                });
            }
        }
        self.nat_connected(peer, endpoint.get_remote_address(), relayed);
        self.perform(tasks);
    }

    fn on_disconnected(&mut self, peer: &PeerId) {
        if let Some(peer) = address::from_libp2p(peer) {
            self.view.disconnected(&peer);
            self.emit(NodeEvent::PeerDisconnected { peer });
        }
    }

    fn on_listening(&mut self, address: &libp2p::Multiaddr, added: bool) {
        if address::is_relayed(address) {
            self.nat_listening(address, added);
            return;
        }
        self.nat_own_address(address, added);
        if address::ip_of(address).is_some_and(|ip| address::is_usable(ip, true))
            && let Some(locator) = address::to_locator(address, &self.view.peer_id)
            && self.view.listening(locator, added)
        {
            self.emit(NodeEvent::ListenersChanged);
        }
    }

    pub(crate) fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received {
            connection_id,
            peer_id,
            info,
        } = event
        else {
            return;
        };
        if info.public_key.to_peer_id() != peer_id {
            return;
        }
        self.nat_identified(connection_id, peer_id, &info);
        let seen = self.swarm.behaviour().connections.ip(connection_id);
        if let Some(peer) = address::from_libp2p(&peer_id) {
            let locators = address::usable_of_peer(&info.listen_addrs, &peer, seen);
            if self.view.identified(&peer, locators) {
                self.emit(NodeEvent::PeerIdentified { peer });
            }
        }
    }

    pub(crate) fn emit(&mut self, event: NodeEvent) {
        self.state.waiting_events.push_back(event);
    }
}
