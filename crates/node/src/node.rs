//! The node as its owner sees it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clawchat_identity::{Attestation, Verified};
use clawchat_snap2p::clawchat1::px1::PeerInfo;
use clawchat_snap2p::{Credentials, Gatekeeper};
use clawchat_types::{InviteToken, Locator, PeerId, Principal};
use tokio::sync::{mpsc, oneshot};

use crate::actor::{Actor, Command, State};
use crate::counters::{NodeCounters, Tally};
use crate::legacy::{LegacyPart, Switch, px1};
use crate::nat::{NatPart, Policy, Reachability};
use crate::{
    DialError, LegacyPolicy, LegacySession, NodeConfig, NodeEvent, Px1Error, SessionHandle, SessionOpenError,
    StartError, Transport,
};
use crate::{address, dial, swarm};

/// Requests of handles that may wait for the node.
const MAX_COMMANDS: usize = 256;
/// Events that may wait for the owner.
const MAX_EVENTS: usize = 256;

/// A running gateway on the network. Cheap to clone; every clone means the same node, which stops when
/// [`close`](Self::close) is called or the last clone is dropped; its sessions end with it.
#[derive(Clone)]
pub struct Node {
    commands: mpsc::Sender<Command>,
    view: Arc<View>,
    skipped: Arc<[SkippedTransport]>,
    legacy: Arc<Switch>,
}

/// A connection that came about, or was there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The peer, as proven by the connection's own handshake.
    pub peer: PeerId,
    /// The address that worked, naming the peer. For a connection that was there already: the given address
    /// that names the peer.
    pub locator: Locator,
}

/// A way of listening that is missing, though the node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedTransport {
    /// Which one.
    pub transport: Transport,
    /// The port it should have used; `None` when there is no such port (P+1 of 65535).
    pub port: Option<u16>,
    /// Why, in words.
    pub reason: String,
}

impl Node {
    /// Starts listening. Events come out of the receiver, at most 256 waiting: a slow owner slows the node
    /// down, and sessions that peers open wait.
    ///
    /// TCP has to work; QUIC and WebSocket are left out with a warning when their port is not to be had (see
    /// [`skipped`](Self::skipped)). Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`], most often [`StartError::PortInUse`].
    pub async fn start(
        config: NodeConfig,
        gatekeeper: Arc<dyn Gatekeeper + Send + Sync>,
    ) -> Result<(Self, mpsc::Receiver<NodeEvent>), StartError> {
        let key = swarm::keypair(&config.seed)?;
        let peer_id = address::from_libp2p(&key.public().to_peer_id());
        let peer_id = peer_id.ok_or_else(|| StartError::System("the peer id is not usable".to_owned()))?;
        let switch = Arc::new(Switch::default());
        if let Some(legacy) = &config.legacy {
            switch.set(legacy.policy);
        }
        let policy = Arc::new(Policy::new(
            config.nat.relay_serve,
            config.nat.relay_limits.clone(),
        ));
        let mut swarm = swarm::build(&key, &config, &switch, &policy)?;
        let listening = swarm::listen(&mut swarm, &config)?;

        let (commands, command_receiver) = mpsc::channel(MAX_COMMANDS);
        let (events, event_receiver) = mpsc::channel(MAX_EVENTS);
        let view = Arc::new(View {
            peer_id,
            tally: Tally::default(),
            known: Mutex::default(),
        });
        let mut actor = Actor {
            swarm,
            commands: command_receiver,
            events,
            view: Arc::clone(&view),
            gatekeeper,
            nat: NatPart::new(&config.nat, policy, config.is_on_loopback()),
            legacy: config
                .legacy
                .map(|legacy| LegacyPart::new(legacy, Arc::clone(&switch))),
            state: State::new(&config.limits),
            limits: config.limits,
        };
        actor.begin_nat();
        actor.settle(listening.listeners).await;
        // Ends by itself when the last handle is gone; `close` waits for it.
        tokio::spawn(actor.run());
        Ok((
            Self {
                commands,
                view,
                skipped: listening.skipped.into(),
                legacy: switch,
            },
            event_receiver,
        ))
    }

    /// Our own peer id.
    #[must_use]
    pub fn peer_id(&self) -> &PeerId {
        &self.view.peer_id
    }

    /// The addresses that may lead here, naming us: `/ip4/…/tcp/9000/p2p/…`. Those known to work from the internet
    /// come first, then those we listen on, one for each interface and transport, then those through relays, and
    /// loopback last; of each kind TCP before QUIC before WebSocket. Empty after [`close`](Self::close).
    #[must_use]
    pub fn locators(&self) -> Vec<Locator> {
        let mut locators = self.view.locators();
        locators.sort_by_key(|locator| {
            let text = locator.as_str();
            let transport = if text.contains("/quic-v1/") {
                1
            } else {
                2 * u8::from(text.contains("/ws/"))
            };
            let loopback = locator.ip().is_some_and(|ip| ip.is_loopback());
            (loopback, locator.is_relayed(), transport)
        });
        locators
    }

    /// How this node can be reached from elsewhere, as far as is known.
    #[must_use]
    pub fn reachability(&self) -> Reachability {
        self.view.lock().reachability.clone()
    }

    /// What this node has seen, in numbers.
    #[must_use]
    pub fn counters(&self) -> NodeCounters {
        let gateways = self.view.lock().peers.len();
        self.view.tally.counters(gateways)
    }

    /// Tells which gateways are those of our contacts, and where they may be (at most 4096). Only theirs are found on
    /// the local network, used as relays without being configured, and, with
    /// [`RelayServe::Contacts`](crate::RelayServe::Contacts), given a place at ours. Replaces what was told before.
    pub async fn set_contacts(&self, contacts: Vec<(PeerId, Vec<Locator>)>) {
        // A node that is closed has no use for them.
        let _ = self.commands.send(Command::SetContacts(contacts)).await;
    }

    /// The ways of listening that did not work out at the start.
    #[must_use]
    pub fn skipped(&self) -> &[SkippedTransport] {
        &self.skipped
    }

    /// Whether there is a connection with the peer.
    #[must_use]
    pub fn is_connected(&self, peer: &PeerId) -> bool {
        self.view.lock().peers.contains_key(peer)
    }

    /// Where a connected peer says it listens (at most 16 addresses, naming it): hints, not proven. Loopback
    /// only if the connection itself is loopback. Empty until the peer has told, and after it disconnected.
    #[must_use]
    pub fn peer_locators(&self, peer: &PeerId) -> Vec<Locator> {
        self.view.lock().peers.get(peer).cloned().unwrap_or_default()
    }

    /// Connects to whoever answers first at one of the addresses: at once if one names a connected peer,
    /// else within 10 s. The first 16 addresses are tried in their order, the next one 250 ms after the one
    /// before, or as soon as that failed. Without a session, the connection is closed again after 15 s
    /// (`Limits::stranger_timeout`). Safe to drop.
    ///
    /// # Errors
    /// [`DialError::Failed`] says what happened to each address.
    pub async fn connect(&self, locators: &[Locator]) -> Result<Connected, DialError> {
        self.connect_somehow(locators, false).await
    }

    /// The same with somebody who is connected already, in the hope of a better way: without a relay, or through one
    /// that brings about a direct connection now ([`NodeEvent::Upgraded`]). What is there
    /// stays as it is. Done as soon as any of the addresses answers; direct ones are tried on for a while when it was a
    /// relay's.
    ///
    /// # Errors
    /// [`DialError::Failed`] says what happened to each address.
    pub async fn connect_again(&self, locators: &[Locator]) -> Result<Connected, DialError> {
        self.connect_somehow(locators, true).await
    }

    async fn connect_somehow(&self, locators: &[Locator], again: bool) -> Result<Connected, DialError> {
        let (reply, result) = oneshot::channel();
        let locators = locators.iter().take(dial::MAX_ADDRESSES).cloned().collect();
        let connect = Command::Connect {
            locators,
            again,
            reply,
        };
        let sent = self.commands.send(connect).await;
        sent.map_err(|_| DialError::Closed)?;
        result.await.unwrap_or(Err(DialError::Closed))
    }

    /// Opens a session with a connected peer, as the identity in `local`. `target` is the principal that has
    /// to answer there; without one it is the peer gateway's default identity. `knock` is shown to the peer's gateway
    /// before anything else, for an identity that is hidden from strangers. At most 20 s. Safe to drop.
    ///
    /// # Errors
    /// [`SessionOpenError`]; [`Refused`](SessionOpenError::Refused) carries the peer's reason.
    pub async fn open_session(
        &self,
        peer: &PeerId,
        local: Credentials,
        target: Option<Principal>,
        knock: Option<InviteToken>,
    ) -> Result<SessionHandle, SessionOpenError> {
        let (reply, result) = oneshot::channel();
        let command = Command::OpenSession {
            peer: peer.clone(),
            local,
            target,
            knock,
            reply,
        };
        self.commands
            .send(command)
            .await
            .map_err(|_| SessionOpenError::Closed)?;
        result.await.unwrap_or(Err(SessionOpenError::Closed))
    }

    /// The same over wire profile 1.0: `local` attests the key of this node, and whoever answers there decides as
    /// whom it does. At most 20 s. Safe to drop.
    ///
    /// # Errors
    /// [`SessionOpenError`]; [`ProtocolUnsupported`](SessionOpenError::ProtocolUnsupported) also when the profile is
    /// off here.
    pub async fn open_legacy_session(
        &self,
        peer: &PeerId,
        local: Attestation<Verified>,
    ) -> Result<LegacySession, SessionOpenError> {
        let (reply, result) = oneshot::channel();
        let command = Command::OpenLegacySession {
            peer: peer.clone(),
            local,
            reply,
        };
        self.commands
            .send(command)
            .await
            .map_err(|_| SessionOpenError::Closed)?;
        result.await.unwrap_or(Err(SessionOpenError::Closed))
    }

    /// Changes whom of the peers of wire profile 1.0 the node talks to. Sessions that exist go on. Without
    /// [`NodeConfig::legacy`] nothing changes.
    pub fn set_legacy(&self, policy: LegacyPolicy) {
        self.legacy.set(policy);
    }

    /// Tells a connected peer where others are, the way of wire profile 1.0. Safe to drop.
    ///
    /// # Errors
    /// [`Px1Error`].
    pub async fn px1_push(&self, peer: &PeerId, peers: Vec<PeerInfo>) -> Result<(), Px1Error> {
        px1::push(self.open_px1(peer).await?, peers).await
    }

    /// Asks a connected peer where somebody is, the way of wire profile 1.0. `None`: it does not know. Safe to drop.
    ///
    /// # Errors
    /// [`Px1Error`].
    pub async fn px1_resolve(
        &self,
        peer: &PeerId,
        principal: &Principal,
    ) -> Result<Option<PeerInfo>, Px1Error> {
        px1::resolve(self.open_px1(peer).await?, principal).await
    }

    async fn open_px1(
        &self,
        peer: &PeerId,
    ) -> Result<oneshot::Receiver<Result<swarm::Substream, swarm::OpenError>>, Px1Error> {
        let (reply, opened) = oneshot::channel();
        let command = Command::OpenPx1 {
            peer: peer.clone(),
            reply,
        };
        let sent = self.commands.send(command).await;
        sent.map_err(|_| Px1Error::Unreachable)?;
        Ok(opened)
    }

    /// Says goodbye to every session, closes all connections and stops listening; waits for that no longer
    /// than `limit`. Bytes not sent yet are dropped. Calling it again does nothing more.
    pub async fn close(&self, limit: Duration) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close { limit, done }).await.is_ok() {
            let _ = closed.await;
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("peer_id", self.peer_id())
            .finish_non_exhaustive()
    }
}

/// What handles can look up without asking the node's task.
pub(crate) struct View {
    pub(crate) peer_id: PeerId,
    /// Counts events.
    pub(crate) tally: Tally,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    listening: Vec<Locator>,
    /// Connected peers and where they say they listen. As many as there may be connections.
    peers: HashMap<PeerId, Vec<Locator>>,
    reachability: Reachability,
}

impl View {
    /// Notes an address of ours. Says whether that is news.
    pub(crate) fn listening(&self, locator: Locator, added: bool) -> bool {
        let listening = &mut self.lock().listening;
        let before = listening.len();
        listening.retain(|known| *known != locator);
        if added {
            listening.push(locator);
        }
        listening.len() != before
    }

    /// Changes the facts about how we can be reached.
    pub(crate) fn reachable<T>(&self, change: impl FnOnce(&mut Reachability) -> T) -> T {
        change(&mut self.lock().reachability)
    }

    /// Every address of ours, each once.
    fn locators(&self) -> Vec<Locator> {
        let known = self.lock();
        let facts = &known.reachability;
        let relayed = facts.placed().flat_map(|relay| &relay.locators);
        let all = facts.public.iter().chain(&facts.mapped);
        let mut locators = Vec::new();
        for locator in all.chain(&known.listening).chain(relayed) {
            if !locators.contains(locator) {
                locators.push(locator.clone());
            }
        }
        locators
    }

    /// A connection with this peer came about.
    pub(crate) fn connected(&self, peer: &PeerId) {
        self.lock().peers.entry(peer.clone()).or_default();
    }

    /// The last one is gone.
    pub(crate) fn disconnected(&self, peer: &PeerId) {
        self.lock().peers.remove(peer);
    }

    /// A connected peer told where it listens. Says whether that is news.
    pub(crate) fn identified(&self, peer: &PeerId, locators: Vec<Locator>) -> bool {
        match self.lock().peers.get_mut(peer) {
            Some(known) if *known != locators => {
                *known = locators;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Nothing of it is true any more.
    pub(crate) fn clear(&self) {
        *self.lock() = Known::default();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
