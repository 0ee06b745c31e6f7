//! What the node's task does for peers of wire profile 1.0.

use std::sync::Arc;

use clawchat_identity::{Attestation, Verified};
use clawchat_snap2p::clawchat1::Gate;
use clawchat_types::Network;
use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tokio::sync::{Semaphore, oneshot};

use super::drive::MAX_LONG_FRAMES;
use super::task::{self, LegacyContext};
use super::{Legacy, LegacySession, Switch, px1};
use crate::SessionOpenError;
use crate::actor::Actor;
use crate::address;
use crate::swarm::{OpenReply, Protocol, Substream};

/// What it has for peers of wire profile 1.0.
pub(crate) struct LegacyPart {
    gate: Arc<dyn Gate + Send + Sync>,
    network: Network,
    switch: Arc<Switch>,
    /// The places for long frames.
    places: Arc<Semaphore>,
}

impl LegacyPart {
    pub(crate) fn new(legacy: Legacy, switch: Arc<Switch>) -> Self {
        Self {
            gate: legacy.gate,
            network: legacy.network,
            switch,
            places: Arc::new(Semaphore::new(MAX_LONG_FRAMES)),
        }
    }
}

impl Actor {
    pub(crate) fn open_legacy_session(
        &mut self,
        peer: &clawchat_types::PeerId,
        local: Attestation<Verified>,
        reply: oneshot::Sender<Result<LegacySession, SessionOpenError>>,
    ) {
        let is_on = self.legacy.as_ref().is_some_and(|legacy| legacy.switch.is_on());
        let opened = if is_on {
            self.open_substream(peer, Protocol::Legacy)
        } else {
            Err(SessionOpenError::ProtocolUnsupported)
        };
        let (id, connection, substream) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        if let Some(context) = self.legacy_context(&id, peer.clone(), connection) {
            let task = task::dial(context, substream, local, reply);
            self.spawn(id, connection, Protocol::Legacy, false, task);
        }
    }

    /// Opens a substream for one exchange. That there is no connection shows as a dropped reply.
    pub(crate) fn open_px1(&mut self, peer: &clawchat_types::PeerId, reply: OpenReply) {
        let behaviour = self.swarm.behaviour_mut();
        let id = address::to_libp2p(peer);
        if let Some((id, connection)) = id.and_then(|id| Some((id, behaviour.connections.best(&id)?))) {
            behaviour
                .substreams
                .open(id, connection, Protocol::LegacyPx1, reply);
        }
    }

    /// Serves a substream of profile 1.0 that a peer opened.
    pub(crate) fn on_legacy_substream(
        &mut self,
        peer: PeerId,
        name: clawchat_types::PeerId,
        connection: ConnectionId,
        protocol: Protocol,
        substream: Substream,
    ) {
        if protocol == Protocol::LegacyPx1 {
            if self.tasks_of(&peer, protocol) < px1::MAX_EXCHANGES {
                let task = px1::serve(name, substream, self.events.clone());
                self.spawn(peer, connection, protocol, true, task);
            }
            return;
        }
        let Some(context) = self.legacy_context(&peer, name, connection) else {
            return;
        };
        if let Some(legacy) = &self.legacy {
            let (network, gate) = (legacy.network, Arc::clone(&legacy.gate));
            let task = task::answer(context, substream, network, gate, self.events.clone());
            self.spawn(peer, connection, protocol, true, task);
        }
    }

    fn legacy_context(
        &self,
        peer: &PeerId,
        name: clawchat_types::PeerId,
        connection: ConnectionId,
    ) -> Option<LegacyContext> {
        let legacy = self.legacy.as_ref()?;
        Some(LegacyContext {
            context: self.context(name, connection),
            local_node: address::node_id_of(self.swarm.local_peer_id())?,
            remote_node: address::node_id_of(peer),
            binding: legacy.switch.binding(),
            places: Arc::clone(&legacy.places),
        })
    }
}
