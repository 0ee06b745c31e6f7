//! Being reachable behind routers: relays, hole punching, port mapping, neighbours, and being a relay.

mod candidates;
mod circuits;
mod config;
mod events;
mod facts;
mod keeper;
mod moves;
mod part;
mod policy;
mod reachability;
#[cfg(test)]
mod recorder;
mod remapped;
mod retested;
mod sightings;

pub(crate) use self::candidates::Candidates;
pub(crate) use self::circuits::Circuit;
pub use self::config::{NatConfig, RelayLimits, RelayServe};
pub(crate) use self::part::NatPart;
pub(crate) use self::policy::Policy;
pub use self::reachability::{Reachability, RelayLoad, RelayPlace, RelayState};
pub(crate) use self::remapped::Remapped;
pub(crate) use self::retested::Retested;
