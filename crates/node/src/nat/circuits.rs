//! Circuits we are about to dial, while the way to their relays is prepared.
//!
//! Hole punching offers the peer the addresses we know of ourselves when the circuit comes about, and not later. So
//! the relay is dialed first, from a port we listen on, and may tell where it sees us.

use std::time::Duration;

use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

/// How long a connected relay may take to say where it sees us.
const IDENTIFY_WAIT: Duration = Duration::from_secs(1);
/// How long it may take to say so over the other carrier, once it did over one.
const OTHER_CARRIER_WAIT: Duration = Duration::from_millis(400);
/// Circuits that wait at a time.
const MAX_WAITING: usize = 64;

/// A circuit to dial.
#[derive(Debug)]
pub(crate) struct Circuit {
    /// The dial itself.
    pub(crate) opts: DialOpts,
    /// The relay it goes through.
    pub(crate) relay: PeerId,
    /// Where that is.
    pub(crate) at: Multiaddr,
}

/// Those that wait.
#[derive(Default)]
pub(crate) struct Circuits {
    waiting: Vec<Waiting>,
    /// Relays being dialed for them.
    dialing: Vec<(PeerId, ConnectionId)>,
}

struct Waiting {
    circuit: Circuit,
    /// Set once the relay is connected: how long we wait for it to tell us more.
    until: Option<Instant>,
}

impl Circuits {
    /// One more waits. `connected` says whether its relay is. Returns whether there was room.
    pub(crate) fn wait(&mut self, circuit: Circuit, connected: bool, now: Instant) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        let until = connected.then(|| now + IDENTIFY_WAIT);
        self.waiting.push(Waiting { circuit, until });
        true
    }

    /// Whether a circuit through this relay waits.
    pub(crate) fn waits_for(&self, relay: &PeerId) -> bool {
        self.waiting.iter().any(|waiting| waiting.circuit.relay == *relay)
    }

    /// Whether this relay is being dialed.
    pub(crate) fn is_dialing(&self, relay: &PeerId) -> bool {
        self.dialing.iter().any(|(dialed, _)| dialed == relay)
    }

    /// The relay is being dialed.
    pub(crate) fn dialing(&mut self, relay: PeerId, connection: ConnectionId) {
        self.dialing.push((relay, connection));
    }

    /// The relay is connected, and will say where it sees us in a moment.
    pub(crate) fn connected(&mut self, relay: &PeerId, now: Instant) {
        self.dialing.retain(|(dialed, _)| dialed != relay);
        for waiting in &mut self.waiting {
            if waiting.circuit.relay == *relay {
                waiting.until.get_or_insert(now + IDENTIFY_WAIT);
            }
        }
    }

    /// The relay said where it sees us over one carrier; over the other one it has a moment more.
    pub(crate) fn half_identified(&mut self, relay: &PeerId, now: Instant) {
        for waiting in &mut self.waiting {
            if waiting.circuit.relay == *relay {
                let soon = now + OTHER_CARRIER_WAIT;
                waiting.until = Some(waiting.until.map_or(soon, |until| until.min(soon)));
            }
        }
    }

    /// Nobody wants this circuit any more.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.waiting
            .retain(|waiting| waiting.circuit.opts.connection_id() != connection);
    }

    /// Those to dial now: their relay said where it sees us, or their time is up.
    pub(crate) fn ready(&mut self, now: Instant, identified: impl Fn(&PeerId) -> bool) -> Vec<Circuit> {
        let is_ready = |waiting: &mut Waiting| {
            waiting
                .until
                .is_some_and(|until| now >= until || identified(&waiting.circuit.relay))
        };
        let ready = self.waiting.extract_if(.., is_ready);
        ready.map(|waiting| waiting.circuit).collect()
    }

    /// A dial failed. Gives the circuits that cannot be without it.
    pub(crate) fn failed(&mut self, connection: ConnectionId) -> Vec<Circuit> {
        let Some(index) = self.dialing.iter().position(|(_, dial)| *dial == connection) else {
            return Vec::new();
        };
        let (relay, _) = self.dialing.swap_remove(index);
        let hopeless = self.waiting.extract_if(.., |waiting| {
            waiting.circuit.relay == relay && waiting.until.is_none()
        });
        hopeless.map(|waiting| waiting.circuit).collect()
    }

    /// When one's time is up.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|waiting| waiting.until).min()
    }
}
