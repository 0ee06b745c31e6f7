//! What the node's task does about being reachable.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use clawchat_types::{Locator, UnixSeconds};
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, TransportError, autonat, dcutr, identify, mdns, ping, relay, upnp};
use tokio::time::Instant;

use super::circuits::{Circuit, Circuits};
use super::config::NatConfig;
use super::keeper::{Keeper, Standing, Task};
use super::policy::Policy;
use super::reachability::{Reachability, RelayPlace, RelayState};
use crate::actor::Actor;
use crate::dial::{self, Failure};
use crate::{NodeEvent, address};

/// Addresses of one kind that are kept of ourselves.
const MAX_OWN: usize = 16;
/// Addresses of ours through one relay.
const MAX_THROUGH_RELAY: usize = 4;
/// Addresses of one neighbour that are tried.
const MAX_NEIGHBOUR_ADDRESSES: usize = 8;
/// How long a neighbour that did not answer is left alone.
const NEIGHBOUR_PAUSE: Duration = Duration::from_secs(30);
/// Contacts known at a time.
const MAX_CONTACTS: usize = 4096;

/// What it has for that.
pub(crate) struct NatPart {
    hole_punching: bool,
    /// Listens on this machine only, so that its addresses are as good as any.
    on_loopback: bool,
    policy: Arc<Policy>,
    keeper: Keeper,
    circuits: Circuits,
    contacts: HashMap<PeerId, Vec<Multiaddr>>,
    /// Connected peers that told where they see us.
    identified: HashSet<PeerId>,
    external: Vec<Multiaddr>,
    confirmed: Vec<Multiaddr>,
    mapped: Vec<Multiaddr>,
    failed: VecDeque<Multiaddr>,
    mapping_trouble: Option<String>,
    through_relays: Vec<(PeerId, Locator)>,
    punched: HashSet<PeerId>,
    /// Neighbours dialed, and when.
    neighbours: HashMap<PeerId, Instant>,
}

impl NatPart {
    /// Nothing is known but what the configuration says.
    pub(crate) fn new(config: &NatConfig, policy: Arc<Policy>, on_loopback: bool) -> Self {
        let relays = config.relays.iter().filter_map(|locator| {
            let peer = address::to_libp2p(&locator.peer_id()?)?;
            Some((peer, without_peer(address::to_multiaddr(locator)?)))
        });
        let external = config.external.iter().filter_map(address::to_multiaddr);
        Self {
            hole_punching: config.hole_punching,
            on_loopback,
            policy,
            keeper: Keeper::new(relays, Instant::now()),
            circuits: Circuits::default(),
            contacts: HashMap::new(),
            identified: HashSet::new(),
            external: external.map(without_peer).take(MAX_OWN).collect(),
            confirmed: Vec::new(),
            mapped: Vec::new(),
            failed: VecDeque::new(),
            mapping_trouble: None,
            through_relays: Vec::new(),
            punched: HashSet::new(),
            neighbours: HashMap::new(),
        }
    }

    /// When there is something to do, if nothing else happens.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let circuits = self.circuits.next_deadline();
        self.keeper.next_deadline().into_iter().chain(circuits).min()
    }

    fn is_public(&self) -> bool {
        !(self.external.is_empty() && self.confirmed.is_empty() && self.mapped.is_empty())
    }
}

impl Actor {
    /// Tells libp2p what the configuration says of our addresses.
    pub(crate) fn begin_nat(&mut self) {
        for address in self.nat.external.clone() {
            self.swarm.add_external_address(address);
        }
        self.nat_changed();
    }

    /// Does what is due.
    pub(crate) fn tend_nat(&mut self) {
        let now = Instant::now();
        for task in self.nat.keeper.due(now) {
            match task {
                Task::Connect { relay, addresses } => self.connect_relay(relay, addresses),
                Task::Close(relay) => {
                    self.rely_on_relays();
                    self.swarm.behaviour_mut().connections.close_unused(&relay);
                }
            }
        }
        self.dial_ready_circuits();
        self.nat_changed();
    }

    /// The gateways of our contacts, and where they are.
    pub(crate) fn set_contacts(&mut self, contacts: Vec<(clawchat_types::PeerId, Vec<Locator>)>) {
        let contacts = contacts.into_iter().filter_map(|(peer, locators)| {
            let addresses = locators.iter().filter(|locator| !locator.is_relayed());
            let addresses = addresses.filter_map(address::to_multiaddr).map(without_peer);
            Some((address::to_libp2p(&peer)?, addresses.collect()))
        });
        self.nat.contacts = contacts.take(MAX_CONTACTS).collect();
        self.nat.policy.set_contacts(self.nat.contacts.keys().copied());
    }

    /// Dials a circuit as soon as its relay knows us.
    pub(crate) fn dial_circuit(&mut self, circuit: Circuit) {
        let (relay, at) = (circuit.relay, circuit.at.clone());
        let connected = self.swarm.behaviour().connections.has(&relay, false);
        let dial = circuit.opts.connection_id();
        if !self.nat.circuits.wait(circuit, connected, Instant::now()) {
            let reason = "too many circuits are being dialed".to_owned();
            self.state.dials.failed(dial, Failure::Other(reason));
            return;
        }
        if !connected && !self.nat.circuits.is_dialing(&relay) {
            let opts = DialOpts::peer_id(relay)
                .condition(PeerCondition::Always)
                .addresses(vec![at])
                .build();
            self.nat.circuits.dialing(relay, opts.connection_id());
            if let Err((id, error)) = self.dial_ours(opts) {
                self.circuits_failed(id, &error);
            }
        }
        self.dial_ready_circuits();
    }

    /// Nobody wants the result of this dial any more.
    pub(crate) fn forget_circuit(&mut self, connection: ConnectionId) {
        self.nat.circuits.forget(connection);
    }

    /// Dials where we decided to.
    pub(crate) fn dial_ours(&mut self, opts: DialOpts) -> Result<(), (ConnectionId, Failure)> {
        let id = opts.connection_id();
        self.swarm.behaviour_mut().connections.begin_dial(id);
        self.swarm.dial(opts).map_err(|error| (id, dial::failure(&error)))
    }

    // --- what happens ---------------------------------------------------------------------

    /// A connection came about.
    pub(crate) fn nat_connected(&mut self, peer: PeerId, at: &Multiaddr, relayed: bool) {
        let now = Instant::now();
        if relayed {
            return;
        }
        self.nat.circuits.connected(&peer, now);
        if self.swarm.behaviour().connections.has(&peer, true)
            && let Some(name) = address::from_libp2p(&peer)
        {
            tracing::debug!(%peer, "connected directly, besides through a relay");
            self.nat.punched.insert(peer);
            self.emit(NodeEvent::Upgraded { peer: name });
        }
        if self.nat.neighbours.remove(&peer).is_some()
            && let Some(name) = address::from_libp2p(&peer)
        {
            self.emit(NodeEvent::Neighbour { peer: name });
        }
        let at = without_peer(at.clone());
        if let Some(at) = self.nat.keeper.connected(&peer, Some(&at)) {
            self.ask_for_place(peer, at);
        }
        self.tend_nat();
    }

    /// A connection is gone.
    pub(crate) fn nat_disconnected(&mut self, peer: &PeerId) {
        let connections = &self.swarm.behaviour().connections;
        if connections.has(peer, false) {
            return;
        }
        self.nat.punched.remove(peer);
        self.nat.identified.remove(peer);
        self.nat.keeper.offered(*peer, &[], false, Instant::now());
        self.tend_nat();
    }

    /// A dial failed.
    pub(crate) fn nat_dial_failed(&mut self, connection: ConnectionId, failure: &Failure) {
        self.circuits_failed(connection, failure);
        if self
            .nat
            .keeper
            .dial_failed(connection, &failure.to_string(), Instant::now())
        {
            self.tend_nat();
        }
    }

    /// A listener ended. Says whether it was a place at a relay.
    pub(crate) fn nat_listener_closed(
        &mut self,
        listener: ListenerId,
        reason: Result<(), &std::io::Error>,
    ) -> bool {
        let reason = reason.map_or_else(refusal_in_words, |()| "the connection broke".to_owned());
        let Some(relay) = self.nat.keeper.lost(listener, reason.clone(), Instant::now()) else {
            return false;
        };
        tracing::info!(%relay, reason, "no place at this relay");
        self.nat.through_relays.retain(|(through, _)| *through != relay);
        self.tend_nat();
        true
    }

    /// An address of ours through a relay. Says whether it is kept.
    pub(crate) fn nat_listening(&mut self, address: &Multiaddr, added: bool) {
        let Some(relay) = address::relay_of(address) else {
            return;
        };
        let Some(locator) = address::to_locator(address, &self.view.peer_id) else {
            return;
        };
        let through = &mut self.nat.through_relays;
        through.retain(|(_, known)| *known != locator);
        let known = through.iter().filter(|(known, _)| *known == relay).count();
        if added && known < MAX_THROUGH_RELAY {
            through.push((relay, locator));
        }
        self.nat_changed();
    }

    /// A new address of this machine. A relay on a machine that has a public one needs nobody to confirm it.
    pub(crate) fn nat_own_address(&mut self, address: &Multiaddr, added: bool) {
        if !self.nat.policy.serves() || !address::is_public(address, self.nat.on_loopback) {
            return;
        }
        if added {
            self.swarm.add_external_address(address.clone());
        } else {
            self.swarm.remove_external_address(address);
        }
    }

    /// libp2p takes an address of ours for reachable, or does not any more.
    pub(crate) fn nat_external(&mut self, address: &Multiaddr, confirmed: bool) {
        let address = without_peer(address.clone());
        let part = &mut self.nat;
        if address::is_relayed(&address)
            || part.external.contains(&address)
            || part.mapped.contains(&address)
            || !address::is_public(&address, part.on_loopback)
        {
            return;
        }
        part.confirmed.retain(|known| *known != address);
        part.failed.retain(|known| *known != address);
        if confirmed && part.confirmed.len() < MAX_OWN {
            part.confirmed.push(address);
        }
        self.tend_nat();
    }

    /// A peer told who it is and where it sees us.
    pub(crate) fn nat_identified(&mut self, connection: ConnectionId, peer: PeerId, info: &identify::Info) {
        let connections = &mut self.swarm.behaviour_mut().connections;
        if connections.is_relayed(connection) {
            return;
        }
        connections.observed(connection, &info.observed_addr);
        self.nat.identified.insert(peer);
        if let Some(known) = self.nat.contacts.get(&peer) {
            let offers = info.protocols.contains(&relay::HOP_PROTOCOL_NAME);
            let seen = self.swarm.behaviour().connections.ip(connection);
            let told = info.listen_addrs.iter().cloned().map(without_peer);
            let usable = |address: &Multiaddr| {
                let loopback = seen.is_some_and(|ip| ip.is_loopback());
                !address::is_relayed(address)
                    && address::ip_of(address).is_some_and(|ip| address::is_usable(ip, loopback))
            };
            let addresses: Vec<Multiaddr> = known.iter().cloned().chain(told).filter(usable).collect();
            self.nat.keeper.offered(peer, &addresses, offers, Instant::now());
        }
        // The address that was just seen reaches hole punching first: what libp2p has for us to do is done in order.
        self.tend_nat();
    }

    /// A ping was answered, or not. A relay we rely on must answer.
    pub(crate) fn nat_ping(&mut self, event: &ping::Event) {
        let silent = matches!(event.result, Err(ping::Failure::Timeout));
        let connections = &mut self.swarm.behaviour_mut().connections;
        if silent && self.nat.keeper.has_place(&event.peer) && !connections.is_relayed(event.connection) {
            tracing::info!(relay = %event.peer, "the relay does not answer any more");
            connections.close(event.connection);
        }
    }

    /// Our side of circuits and places.
    pub(crate) fn nat_relay_client(&mut self, event: &relay::client::Event) {
        match event {
            relay::client::Event::ReservationReqAccepted { relay_peer_id, .. } => {
                if self.nat.keeper.placed(relay_peer_id) {
                    tracing::info!(relay = %relay_peer_id, "reachable through this relay");
                }
                self.tend_nat();
            }
            relay::client::Event::OutboundCircuitEstablished { relay_peer_id, .. } => {
                tracing::debug!(relay = %relay_peer_id, "a circuit to a peer");
            }
            relay::client::Event::InboundCircuitEstablished { src_peer_id, .. } => {
                tracing::debug!(peer = %src_peer_id, "a circuit from a peer");
            }
        }
    }

    /// What others do with our relay.
    pub(crate) fn nat_relay_server(&mut self, event: relay::Event) {
        let policy = &self.nat.policy;
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, renewed } => {
                tracing::debug!(peer = %src_peer_id, renewed, "has a place at our relay");
            }
            relay::Event::ReservationReqDenied { src_peer_id, .. } => {
                let reason = policy.why_refused(&src_peer_id);
                tracing::info!(peer = %src_peer_id, %reason, "our relay gives it no place");
            }
            // Said of every connection of the peer; only the last one ends the place for sure.
            relay::Event::ReservationClosed { src_peer_id }
                if self.swarm.behaviour().connections.has(&src_peer_id, false) => {}
            relay::Event::ReservationClosed { src_peer_id }
            | relay::Event::ReservationTimedOut { src_peer_id } => policy.place_ended(&src_peer_id),
            relay::Event::CircuitReqAccepted {
                src_peer_id,
                dst_peer_id,
            } => policy.circuit_began(src_peer_id, dst_peer_id),
            relay::Event::CircuitClosed {
                src_peer_id,
                dst_peer_id,
                error,
            } => {
                tracing::debug!(from = %src_peer_id, to = %dst_peer_id, ?error, "a circuit ended");
                policy.circuit_ended(src_peer_id, dst_peer_id);
            }
            relay::Event::CircuitReqDenied {
                src_peer_id,
                dst_peer_id,
                status: relay::StatusCode::NoReservation,
            } => {
                tracing::debug!(from = %src_peer_id, to = %dst_peer_id, "a circuit to who has no place here");
            }
            relay::Event::CircuitReqDenied {
                src_peer_id,
                dst_peer_id,
                ..
            } => {
                let reason = policy.why_refused(&src_peer_id);
                tracing::info!(from = %src_peer_id, to = %dst_peer_id, %reason, "our relay carries no circuit");
            }
            relay::Event::StatusChanged { status } => tracing::debug!(?status, "relay"),
            // Deprecated kinds of failures, which libp2p logs itself.
            _ => {}
        }
        self.swarm.behaviour_mut().connections.carrying_changed();
        self.nat_changed();
    }

    /// Hole punching. Whether it worked shows in the connections; what it says is not always so.
    #[allow(clippy::unused_self)]
    pub(crate) fn nat_punching(&self, event: &dcutr::Event) {
        let dcutr::Event {
            remote_peer_id,
            result,
        } = event;
        tracing::debug!(peer = %remote_peer_id, ?result, "hole punching");
    }

    /// A peer tried one of our addresses.
    pub(crate) fn nat_tried(&mut self, event: autonat::v2::client::Event) {
        let address = without_peer(event.tested_addr);
        if let Err(error) = event.result {
            tracing::debug!(%address, %error, "not reachable from outside");
            let part = &mut self.nat;
            if !part.failed.contains(&address) && !part.confirmed.contains(&address) {
                part.failed.push_back(address);
            }
            while part.failed.len() > MAX_OWN {
                part.failed.pop_front();
            }
        }
        self.nat_changed();
    }

    /// The router forwards a port, or does not.
    pub(crate) fn nat_mapping(&mut self, event: upnp::Event) {
        let part = &mut self.nat;
        match event {
            upnp::Event::NewExternalAddr { external_addr, .. } => {
                let external = without_peer(external_addr);
                part.confirmed.retain(|known| *known != external);
                part.mapping_trouble = None;
                if !part.mapped.contains(&external) && part.mapped.len() < MAX_OWN {
                    part.mapped.push(external);
                }
            }
            upnp::Event::ExpiredExternalAddr { external_addr, .. } => {
                let external = without_peer(external_addr);
                part.mapped.retain(|known| *known != external);
                part.mapping_trouble = Some("the router does not forward the port any more".to_owned());
            }
            upnp::Event::GatewayNotFound => {
                part.mapping_trouble = Some("no router answers (UPnP)".to_owned());
            }
            upnp::Event::NonRoutableGateway => {
                let trouble = "the router is itself behind another one, so that its ports lead nowhere";
                part.mapping_trouble = Some(trouble.to_owned());
            }
        }
        self.tend_nat();
    }

    /// Gateways of the local network. Contacts are dialed; nobody else is.
    pub(crate) fn nat_neighbours(&mut self, event: mdns::Event) {
        let mdns::Event::Discovered(found) = event else {
            return;
        };
        let now = Instant::now();
        self.nat
            .neighbours
            .retain(|_, at| now.saturating_duration_since(*at) < NEIGHBOUR_PAUSE);
        let mut by_peer: HashMap<PeerId, Vec<Multiaddr>> = HashMap::new();
        for (peer, address) in found {
            let wanted = self.nat.contacts.contains_key(&peer)
                && !self.nat.neighbours.contains_key(&peer)
                && !self.swarm.behaviour().connections.has(&peer, false);
            let usable = address::ip_of(&address).is_some_and(|ip| address::is_usable(ip, false))
                && !address::is_relayed(&address);
            let addresses = by_peer.entry(peer).or_default();
            if wanted && usable && addresses.len() < MAX_NEIGHBOUR_ADDRESSES {
                addresses.push(without_peer(address));
            }
        }
        for (peer, addresses) in by_peer.into_iter().filter(|(_, addresses)| !addresses.is_empty()) {
            tracing::debug!(%peer, "a contact is on the local network");
            self.nat.neighbours.insert(peer, now);
            let opts = DialOpts::peer_id(peer)
                .condition(PeerCondition::NotDialing)
                .addresses(addresses)
                .allocate_new_port()
                .build();
            // If it does not work out, it is found again.
            let _ = self.dial_ours(opts);
        }
    }

    // --- inside ---------------------------------------------------------------------------

    fn connect_relay(&mut self, relay: PeerId, addresses: Vec<Multiaddr>) {
        self.rely_on_relays();
        let connections = &self.swarm.behaviour().connections;
        let connected = connections.has(&relay, false);
        if connected && (!self.nat.hole_punching || connections.dialed_from_listener(&relay)) {
            if let Some(at) = self.nat.keeper.connected(&relay, None) {
                self.ask_for_place(relay, at);
            }
            return;
        }
        // The default is to dial from a port we listen on, so that the relay sees that one.
        let opts = DialOpts::peer_id(relay)
            .condition(PeerCondition::Always)
            .addresses(addresses)
            .build();
        self.nat.keeper.dialing(&relay, opts.connection_id());
        if let Err((id, failure)) = self.dial_ours(opts) {
            self.nat_dial_failed(id, &failure);
        }
    }

    fn ask_for_place(&mut self, relay: PeerId, at: Multiaddr) {
        let through = at.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit);
        match self.swarm.listen_on(through) {
            Ok(listener) => self.nat.keeper.asking(&relay, listener, Instant::now()),
            Err(TransportError::MultiaddrNotSupported(address)) => {
                tracing::warn!(%address, "cannot be reached through this relay");
            }
            Err(TransportError::Other(error)) => {
                tracing::warn!(%relay, %error, "cannot be reached through this relay");
            }
        }
    }

    fn rely_on_relays(&mut self) {
        let relays = self.nat.keeper.in_use();
        self.swarm.behaviour_mut().connections.rely_on(relays);
    }

    fn dial_ready_circuits(&mut self) {
        let identified = &self.nat.identified;
        let knows_us = |relay: &PeerId| !self.nat.hole_punching || identified.contains(relay);
        for circuit in self.nat.circuits.ready(Instant::now(), knows_us) {
            if let Err((id, failure)) = self.dial_ours(circuit.opts) {
                self.state.dials.failed(id, failure);
            }
        }
    }

    fn circuits_failed(&mut self, connection: ConnectionId, failure: &Failure) {
        for circuit in self.nat.circuits.failed(connection) {
            let reason = format!("the relay cannot be reached: {failure}");
            let id = circuit.opts.connection_id();
            self.state.dials.failed(id, Failure::Other(reason));
        }
    }

    /// Brings what others see up to date.
    fn nat_changed(&mut self) {
        let needed = !self.nat.is_public();
        self.nat.keeper.set_needed(needed);
        self.rely_on_relays();
        let mut facts = self.reachability();
        let changed = self.view.reachable(|known| {
            facts.changed_at = known.changed_at;
            let same_but_load = Reachability {
                serving: known.serving,
                ..facts.clone()
            } == *known;
            if !same_but_load {
                facts.changed_at = UnixSeconds(self.state.clock.now().wall.seconds().0);
            }
            *known = facts;
            !same_but_load
        });
        if changed {
            self.emit(NodeEvent::ReachabilityChanged);
        }
    }

    fn reachability(&self) -> Reachability {
        let part = &self.nat;
        let us = &self.view.peer_id;
        let locators = |addresses: &mut dyn Iterator<Item = &Multiaddr>| -> Vec<Locator> {
            addresses
                .filter_map(|address| address::to_locator(address, us))
                .collect()
        };
        let place = |standing: Standing| {
            let through = part.through_relays.iter();
            let through = through.filter(|(relay, _)| *relay == standing.peer);
            let state = match standing {
                Standing { placed: true, .. } => RelayState::Placed,
                Standing { trying: true, .. } => RelayState::Trying,
                Standing { .. } => RelayState::Idle,
            };
            Some(RelayPlace {
                peer: address::from_libp2p(&standing.peer)?,
                configured: standing.configured,
                state,
                locators: through.map(|(_, locator)| locator.clone()).collect(),
                trouble: standing.trouble,
            })
        };
        let mut punched: Vec<_> = part.punched.iter().filter_map(address::from_libp2p).collect();
        punched.sort_unstable();
        Reachability {
            public: locators(&mut part.external.iter().chain(&part.confirmed)),
            mapped: locators(&mut part.mapped.iter()),
            failed: locators(&mut part.failed.iter()),
            relays: part.keeper.standings().into_iter().filter_map(place).collect(),
            punched,
            serving: part.policy.serves().then(|| part.policy.load()),
            can_serve: part.policy.serves() && part.is_public(),
            mapping_trouble: part.mapping_trouble.clone(),
            changed_at: UnixSeconds(0),
        }
    }
}

/// The address without a name of a gateway at its end.
fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// Why a relay gives us no place.
fn refusal_in_words(error: &std::io::Error) -> String {
    use relay::outbound::hop::ReserveError as Error;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<Error>() {
            return match error {
                Error::Unsupported => {
                    "it is no relay, or cannot be one at the moment because it is not reachable itself"
                        .to_owned()
                }
                Error::ResourceLimitExceeded => {
                    "it refuses: it is full, or relays only for its own contacts".to_owned()
                }
                Error::Refused => "it refuses".to_owned(),
                Error::Io(error) => format!("the connection broke: {error}"),
                Error::Protocol(error) => format!("it breaks the protocol: {error}"),
            };
        }
        cause = error.source();
    }
    error.to_string()
}
