//! What the parts of libp2p that make us reachable report.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, autonat, dcutr, mdns, relay, upnp};
use tokio::time::Instant;

use super::part::{MAX_OWN, without_peer};
use crate::actor::Actor;
use crate::address;
use crate::swarm::BehaviourEvent;

/// Addresses of one neighbour that are tried.
const MAX_NEIGHBOUR_ADDRESSES: usize = 8;
/// How long a neighbour that did not answer is left alone.
const NEIGHBOUR_PAUSE: Duration = Duration::from_secs(30);

impl Actor {
    /// Events of the parts that make us reachable.
    pub(crate) fn on_nat_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Ping(event) => self.nat_ping(&event),
            BehaviourEvent::RelayClient(event) => self.nat_relay_client(&event),
            BehaviourEvent::RelayServer(event) => self.nat_relay_server(event),
            BehaviourEvent::HolePunching(event) => self.nat_punching(&event),
            BehaviourEvent::Reachable(event) => self.nat_tried(event),
            BehaviourEvent::DialBack(event) => {
                tracing::debug!(peer = %event.client, address = %event.tested_addr, "tried for a peer");
            }
            BehaviourEvent::Mapping(event) => self.nat_mapping(event),
            BehaviourEvent::Neighbours(event) => self.nat_neighbours(event),
            BehaviourEvent::Connections(never) => match never {},
            BehaviourEvent::Substreams(event) => self.on_substream(event),
            BehaviourEvent::Identify(event) => self.on_identify(event),
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
                if !renewed {
                    self.who_moved(&src_peer_id);
                }
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
            // An address of this machine itself needs nobody to confirm it: a relay says so of its own.
            let own = self.swarm.listeners().any(|own| *own == address);
            let part = &mut self.nat;
            if part.confirmed.contains(&address) && !(own && part.policy.serves()) {
                self.swarm.remove_external_address(&address);
                self.nat_external(&address, false);
            }
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
}
