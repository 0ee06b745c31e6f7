//! How a node can be reached, as facts.

use clawchat_types::{Locator, PeerId, UnixSeconds};

pub use super::policy::RelayLoad;

/// How a node can be reached from elsewhere, as far as it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reachability {
    /// Addresses that work from the internet: a peer tried them, or the configuration says so.
    pub public: Vec<Locator>,
    /// Ports the router forwards to us because we asked it to (UPnP).
    pub mapped: Vec<Locator>,
    /// Addresses that a peer tried and that did not work (the last few).
    pub failed: Vec<Locator>,
    /// The relays we know, the configured ones first.
    pub relays: Vec<RelayPlace>,
    /// Connected gateways that we reached directly only after a relay brought us together.
    pub punched: Vec<PeerId>,
    /// What we carry for others; `None` when this node is no relay.
    pub serving: Option<RelayLoad>,
    /// Whether this node can be a relay at the moment: for that it has to be reachable itself.
    pub can_serve: bool,
    /// What the router said to our request to forward ports, when that did not work out.
    pub mapping_trouble: Option<String>,
    /// When any of this last changed, but for what is carried for others; 0 at the start.
    pub changed_at: UnixSeconds,
}

/// One relay of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayPlace {
    /// The relay's gateway.
    pub peer: PeerId,
    /// Whether the configuration names it; else it is a contact's that offered itself.
    pub configured: bool,
    /// Where it stands.
    pub state: RelayState,
    /// Our addresses through it.
    pub locators: Vec<Locator>,
    /// What went wrong the last time, if it has not worked since.
    pub trouble: Option<String>,
}

/// Where it stands with a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayState {
    /// We have a place there: peers reach us through it.
    Placed,
    /// We are asking for one.
    Trying,
    /// Not used at the moment.
    Idle,
}

impl Reachability {
    /// The relays peers can reach us through.
    pub fn placed(&self) -> impl Iterator<Item = &RelayPlace> {
        self.relays
            .iter()
            .filter(|relay| relay.state == RelayState::Placed)
    }
}
