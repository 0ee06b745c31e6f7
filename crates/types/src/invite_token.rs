//! The secret in an invite.

use std::fmt;

/// What opens a door that is closed to strangers: 32 random bytes. Whoever holds it may use it, so it is shown to
/// nobody but the gateway it is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InviteToken([u8; Self::BYTES]);

impl InviteToken {
    /// Its length in bytes.
    pub const BYTES: usize = 32;

    /// The token of these bytes, which are to be random or made from a random token.
    #[must_use]
    pub const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, as a knock carries them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

/// Shows nothing of it.
impl fmt::Debug for InviteToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteToken(…)")
    }
}
