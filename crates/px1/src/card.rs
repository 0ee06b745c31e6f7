//! A contact card as this crate sees it: facts, and the bytes that travel on.

use std::fmt;
use std::sync::Arc;

use clawchat_types::{Locator, Moment, PeerId, Principal, UnixSeconds};

/// The capability word by which a card's owner allows others to pass the card on. Cards of public identities have
/// it, others never (`spec/px1.md`).
pub const PUBLIC_CAPABILITY: &str = "public";

/// The capability word by which a card's owner lets others tell the card to whoever asks them, and no more. Cards of
/// private identities have it; without one of the two words a card stays with whom it was given to.
pub const ASKED_CAPABILITY: &str = "asked";

/// A contact card whose signatures and times the caller has verified, reduced to what PX-1 needs.
///
/// Only the caller can verify a card; whatever is made into this type counts as its owner's own word.
#[derive(Clone, PartialEq, Eq)]
pub struct Card {
    /// Whose card it is.
    pub principal: Principal,
    /// Start of validity. Of two cards of one principal the later one counts.
    pub issued_at: UnixSeconds,
    /// End of validity.
    pub expires_at: UnixSeconds,
    /// Where to dial, best first.
    pub locators: Vec<Locator>,
    /// The gateway expected there, if the addresses agree on one.
    pub peer_id: Option<PeerId>,
    /// Whether its owner lets others pass it on: it has the capability [`PUBLIC_CAPABILITY`].
    pub shareable: bool,
    /// Whether its owner lets others tell it to those who ask: it has the capability [`ASKED_CAPABILITY`] or
    /// [`PUBLIC_CAPABILITY`].
    pub tellable: bool,
    /// The signed card. It travels on in these bytes.
    pub bytes: Arc<[u8]>,
}

impl Card {
    /// Whether its time is not over.
    #[must_use]
    pub fn is_current(&self, now: Moment) -> bool {
        now.wall.seconds() < self.expires_at
    }

    /// What it takes in memory, in bytes, roughly.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = self.locators.iter().map(|locator| locator.as_str().len());
        let peer_id = self.peer_id.as_ref().map_or(0, |peer| peer.as_str().len());
        size_of::<Self>()
            + self.bytes.len()
            + texts.sum::<usize>()
            + self.locators.len() * size_of::<Locator>()
            + peer_id
    }
}

/// Without the bytes: they are long, and the other fields say what is in them.
impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Card")
            .field("principal", &self.principal)
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .field("locators", &self.locators)
            .field("shareable", &self.shareable)
            .finish_non_exhaustive()
    }
}
