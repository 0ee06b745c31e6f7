//! What the node's task does about being reachable.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use clawchat_types::Locator;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, TransportError, identify, relay};
use tokio::time::Instant;

use super::circuits::{Circuit, Circuits};
use super::config::NatConfig;
use super::facts::refusal_in_words;
use super::keeper::{Keeper, Task};
use super::moves::Moves;
use super::policy::Policy;
use super::sightings::Sightings;
use crate::actor::Actor;
use crate::dial::{self, Failure};
use crate::{NodeEvent, address};

/// Addresses of one kind that are kept of ourselves.
pub(super) const MAX_OWN: usize = 16;
/// Addresses of ours through one relay.
const MAX_THROUGH_RELAY: usize = 4;
/// Contacts known at a time.
const MAX_CONTACTS: usize = 4096;
/// Addresses that are remembered of a peer that offers to relay.
const MAX_TOLD: usize = 8;

/// What it has for that.
pub(crate) struct NatPart {
    pub(super) hole_punching: bool,
    /// Listens on this machine only, so that its addresses are as good as any.
    pub(super) on_loopback: bool,
    pub(super) policy: Arc<Policy>,
    pub(super) keeper: Keeper,
    pub(super) circuits: Circuits,
    pub(super) contacts: HashMap<PeerId, Vec<Multiaddr>>,
    /// Connected peers that told where they see us, and what they told of themselves.
    pub(super) identified: HashMap<PeerId, Told>,
    pub(super) external: Vec<Multiaddr>,
    pub(super) confirmed: Vec<Multiaddr>,
    pub(super) mapped: Vec<Multiaddr>,
    pub(super) failed: VecDeque<Multiaddr>,
    pub(super) mapping_trouble: Option<String>,
    pub(super) through_relays: Vec<(PeerId, Locator)>,
    pub(super) punched: HashSet<PeerId>,
    /// Neighbours dialed, and when.
    pub(super) neighbours: HashMap<PeerId, Instant>,
    pub(super) sightings: Sightings,
    pub(super) moves: Moves,
}

/// What a connected peer told that counts once it is a contact. It says so once in some minutes only.
#[derive(Default)]
pub(super) struct Told {
    /// Whether it offers to relay.
    offers: bool,
    /// Where it says that it is, if it does.
    addresses: Vec<Multiaddr>,
    /// Whether it is on this machine.
    beside_us: bool,
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
            identified: HashMap::new(),
            external: external.map(without_peer).take(MAX_OWN).collect(),
            confirmed: Vec::new(),
            mapped: Vec::new(),
            failed: VecDeque::new(),
            mapping_trouble: None,
            through_relays: Vec::new(),
            punched: HashSet::new(),
            neighbours: HashMap::new(),
            sightings: Sightings::default(),
            moves: Moves::new(Instant::now()),
        }
    }

    /// When there is something to do, if nothing else happens.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.circuits.next_deadline(), self.keeper.next_deadline()];
        let moves = self.moves.next_deadline();
        deadlines.into_iter().flatten().chain([moves]).min()
    }

    /// The addresses this machine started with are known.
    pub(crate) fn begin(&mut self) {
        self.moves.begin();
    }

    pub(super) fn is_public(&self) -> bool {
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
        self.tend_moves(now);
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
        // Whoever is a contact from now on said before what it offers.
        let connected: Vec<PeerId> = self.nat.identified.keys().copied().collect();
        for peer in connected {
            self.consider_relay(peer);
        }
        self.tend_nat();
    }

    /// Dials a circuit as soon as its relay knows us.
    pub(crate) fn dial_circuit(&mut self, circuit: Circuit) {
        let (relay, at) = (circuit.relay, circuit.at.clone());
        let connections = &self.swarm.behaviour().connections;
        let seen = !self.nat.hole_punching || connections.dialed_from_listener(&relay);
        let connected = seen && connections.has(&relay, false);
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
    pub(crate) fn nat_disconnected(&mut self, peer: &PeerId, connection: ConnectionId) {
        self.nat.moves.closed(connection);
        self.nat.sightings.failed(connection);
        let connections = &self.swarm.behaviour().connections;
        if connections.has(peer, false) {
            return;
        }
        self.nat.punched.remove(peer);
        self.nat.identified.remove(peer);
        self.nat.sightings.disconnected(peer);
        self.nat.keeper.offered(*peer, &[], false, Instant::now());
        self.tend_nat();
    }

    /// A dial failed.
    pub(crate) fn nat_dial_failed(&mut self, connection: ConnectionId, failure: &Failure) {
        self.circuits_failed(connection, failure);
        self.nat.sightings.failed(connection);
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

    /// A new address of this machine, or one that is gone. A relay on a machine that has a public one needs nobody to
    /// confirm it.
    pub(crate) fn nat_own_address(&mut self, address: &Multiaddr, added: bool) {
        if address::ip_of(address).is_some_and(|ip| address::is_usable(ip, false)) {
            self.nat.moves.addresses_changed(Instant::now());
        }
        if !added {
            self.swarm.remove_external_address(address);
            self.nat_external(address, false);
        } else if self.nat.policy.serves() && address::is_public(address, self.nat.on_loopback) {
            self.swarm.add_external_address(address.clone());
            self.nat_external(address, true);
        }
    }

    /// The same for all of this machine's addresses.
    pub(super) fn confirm_own_addresses(&mut self) {
        let own: Vec<Multiaddr> = self.swarm.listeners().cloned().collect();
        for address in own {
            if self.nat.policy.serves()
                && !address::is_relayed(&address)
                && address::is_public(&address, self.nat.on_loopback)
            {
                self.swarm.add_external_address(address.clone());
                self.nat_external(&address, true);
            }
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
        let offers = info.protocols.contains(&relay::HOP_PROTOCOL_NAME);
        let beside_us = connections.ip(connection).is_some_and(|ip| ip.is_loopback());
        let addresses = info.listen_addrs.iter().filter(|_| offers).cloned();
        let addresses = addresses
            .map(without_peer)
            .filter(|at| may_relay_at(at, beside_us));
        let told = Told {
            offers,
            addresses: addresses.take(MAX_TOLD).collect(),
            beside_us,
        };
        self.nat.identified.insert(peer, told);
        if self.nat.hole_punching {
            self.be_seen(connection, peer, info);
        }
        self.consider_relay(peer);
        // The address that was just seen reaches hole punching first: what libp2p has for us to do is done in order.
        self.tend_nat();
    }

    // --- inside ---------------------------------------------------------------------------

    /// A connected peer may be a relay for us if it offers that and is a contact.
    fn consider_relay(&mut self, peer: PeerId) {
        let Some(told) = self.nat.identified.get(&peer) else {
            return;
        };
        let known = self.nat.contacts.get(&peer);
        let usable = |address: &&Multiaddr| may_relay_at(address, told.beside_us);
        let addresses = known.into_iter().flatten().filter(usable).chain(&told.addresses);
        let (addresses, offers) = (
            addresses.cloned().collect::<Vec<_>>(),
            told.offers && known.is_some(),
        );
        self.nat.keeper.offered(peer, &addresses, offers, Instant::now());
    }

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

    pub(super) fn rely_on_relays(&mut self) {
        let relays = self.nat.keeper.in_use();
        self.swarm.behaviour_mut().connections.rely_on(relays);
    }

    fn dial_ready_circuits(&mut self) {
        let (identified, sightings) = (&self.nat.identified, &self.nat.sightings);
        let sees_us = |relay: &PeerId| identified.contains_key(relay) && sightings.settled(relay);
        let knows_us = |relay: &PeerId| !self.nat.hole_punching || sees_us(relay);
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
}

/// Whether a relay may be dialed there.
fn may_relay_at(address: &Multiaddr, beside_us: bool) -> bool {
    !address::is_relayed(address)
        && address::ip_of(address).is_some_and(|ip| address::is_usable(ip, beside_us))
}

/// The address without a name of a gateway at its end.
pub(super) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}
