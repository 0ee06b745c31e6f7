//! How much of an identity others may learn.

use serde::{Deserialize, Serialize};

/// How much an identity gives away (SNaP2P v0.1, "Visibility"). In configuration: `public`, `private`, `stealth`.
///
/// Default `Private`: nothing is told to anybody who has not proven who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// May answer and push hints, also about itself.
    Public,
    /// Never pushes itself, answers only inside authenticated sessions.
    #[default]
    Private,
    /// Private, and silent towards whoever does not knock with a valid invite token first.
    Stealth,
}

impl Visibility {
    /// Whether a question may be answered outside an authenticated session. The `px-1` stream exists only inside
    /// one; this is about every other way of asking.
    #[must_use]
    pub const fn may_answer_unauthenticated(self) -> bool {
        matches!(self, Self::Public)
    }

    /// Whether it may, unasked, tell peers where it can be reached itself.
    #[must_use]
    pub const fn may_push_itself(self) -> bool {
        matches!(self, Self::Public)
    }

    /// Whether it takes part in PX-1 when its operator has said nothing about that.
    #[must_use]
    pub const fn px1_by_default(self) -> bool {
        !matches!(self, Self::Stealth)
    }

    /// Whether a handshake with it must begin with a valid KNOCK, before any costly cryptography.
    #[must_use]
    pub const fn handshake_needs_knock(self) -> bool {
        matches!(self, Self::Stealth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_gives_away_less() {
        let policy = |visibility: Visibility| {
            [
                visibility.may_answer_unauthenticated(),
                visibility.may_push_itself(),
                visibility.px1_by_default(),
                visibility.handshake_needs_knock(),
            ]
        };
        assert_eq!(policy(Visibility::Public), [true, true, true, false]);
        assert_eq!(policy(Visibility::Private), [false, false, true, false]);
        assert_eq!(policy(Visibility::Stealth), [false, false, false, true]);
    }

    #[test]
    fn nothing_is_public_unless_somebody_says_so() {
        assert_eq!(Visibility::default(), Visibility::Private);
    }
}
