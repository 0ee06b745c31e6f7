//! What the owner decides about being reachable.

use std::time::Duration;

use clawchat_types::Locator;

/// How a node makes itself reachable, and helps others to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// Look for contacts on the local networks, and be seen there (mDNS). Default on.
    pub mdns: bool,
    /// Ask the router to forward our ports (UPnP). Default on.
    pub upnp: bool,
    /// Let peers try whether our addresses work, and try theirs (AutoNAT v2). Default on.
    pub autonat: bool,
    /// Replace connections through relays by direct ones where the routers between allow it (DCUtR). Default on.
    pub hole_punching: bool,
    /// Relays to be reachable through, the preferred ones first; each must name its gateway. Default none.
    pub relays: Vec<Locator>,
    /// Whom this node is a relay for. Default nobody.
    pub relay_serve: RelayServe,
    /// How much it carries as one.
    pub relay_limits: RelayLimits,
    /// Addresses known to lead here from elsewhere, a port forwarded by hand for example. Default none.
    pub external: Vec<Locator>,
}

impl NatConfig {
    /// Nothing is looked for and nobody is asked for help.
    #[must_use]
    pub fn off() -> Self {
        Self {
            mdns: false,
            upnp: false,
            autonat: false,
            hole_punching: false,
            ..Self::default()
        }
    }
}

impl Default for NatConfig {
    fn default() -> Self {
        Self {
            mdns: true,
            upnp: true,
            autonat: true,
            hole_punching: true,
            relays: Vec::new(),
            relay_serve: RelayServe::default(),
            relay_limits: RelayLimits::default(),
            external: Vec::new(),
        }
    }
}

/// For whom a node keeps a place as a relay. Whoever has one can be called through it by anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelayServe {
    /// Nobody.
    #[default]
    Off,
    /// The gateways of our contacts: see [`Node::set_contacts`](crate::Node::set_contacts).
    Contacts,
    /// Whoever asks, within the limits.
    Anyone,
}

/// How much a relay carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayLimits {
    /// Gateways that may have a place. Default 64.
    pub reservations: usize,
    /// Circuits at a time. Default 128.
    pub circuits: usize,
    /// Circuits at a time that one gateway may be an end of. Default 32.
    pub circuits_per_peer: usize,
    /// How long one circuit may last, whole seconds. Default 7 days: as long as a session.
    pub circuit_duration: Duration,
    /// Bytes in both directions together that one circuit may carry; 0 is no limit. Default 4 GiB.
    pub circuit_bytes: u64,
    /// Requests for a place or a circuit that one gateway may make within a minute. Default 30.
    pub requests_per_minute: u32,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            reservations: 64,
            circuits: 128,
            circuits_per_peer: 32,
            circuit_duration: Duration::from_secs(7 * 24 * 60 * 60),
            circuit_bytes: 4 * 1024 * 1024 * 1024,
            requests_per_minute: 30,
        }
    }
}
