//! The operator's choice, as every connection looks it up.

use std::sync::atomic::{AtomicU8, Ordering};

use clawchat_snap2p::clawchat1::Binding;

use super::LegacyPolicy;

/// A [`LegacyPolicy`] that can change while the node runs.
#[derive(Debug, Default)]
pub(crate) struct Switch(AtomicU8);

impl Switch {
    const OFF: u8 = 0;
    const BOUND: u8 = 1;
    const UNBOUND: u8 = 2;

    pub(crate) fn set(&self, policy: LegacyPolicy) {
        let value = match policy {
            LegacyPolicy::Off => Self::OFF,
            LegacyPolicy::Bound => Self::BOUND,
            LegacyPolicy::Unbound => Self::UNBOUND,
        };
        self.0.store(value, Ordering::Relaxed);
    }

    /// Whether the profile is offered at all.
    pub(crate) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) != Self::OFF
    }

    /// How strict handshakes are.
    pub(crate) fn binding(&self) -> Binding {
        if self.0.load(Ordering::Relaxed) == Self::UNBOUND {
            Binding::Optional
        } else {
            Binding::Required
        }
    }
}
