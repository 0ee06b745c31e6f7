//! Contact cards: our own, and those of others verified.

use std::sync::Arc;
use std::time::Duration;

use clawchat_identity::{CLOCK_SKEW_SECS, CardDetails, ContactCard, Verified};
use clawchat_px1::{self as px1, ASKED_CAPABILITY, Card, PUBLIC_CAPABILITY, Visibility};
use clawchat_snap2p::px1 as wire;
use clawchat_types::{Locator, Network, Nick, UnixSeconds};
use tracing::warn;

use crate::hosted::{HostError, Hosted};
use crate::shared::Gateway;
use crate::{addresses, clock, invite};

/// How long a card of ours is good for; it is made anew when half of that is over.
const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// How soon it is tried again after one could not be made, at the next look behind that.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Most addresses on it.
const MAX_ADDRESSES: usize = 8;

/// The card of an identity here, and what it rests on.
#[derive(Default)]
pub(super) struct OwnCard {
    made: Option<(Says, UnixSeconds)>,
    /// What the next one was to say that could not be made, and when.
    failed: Option<(Says, UnixSeconds)>,
}

/// What a card of ours says that can change.
type Says = (Vec<Locator>, Visibility, Option<Nick>);

impl OwnCard {
    /// A new one if the last does not say what is true any more, or is half over. `Some(None)`: there is none now.
    pub(super) fn renewed(
        &mut self,
        gateway: &Gateway,
        hosted: &Hosted,
        visibility: Visibility,
    ) -> Option<Option<Arc<Card>>> {
        let locators = addresses::few(&gateway.node, MAX_ADDRESSES);
        let says = (locators.clone(), visibility, hosted.nick());
        let make = |issued| match visibility {
            Visibility::Stealth => Ok(None),
            Visibility::Public | Visibility::Private => {
                make(hosted, locators, visibility, issued).map(|card| Some(Arc::new(card)))
            }
        };
        let renewed = self.renewed_by(says, clock::now().seconds(), make)?;
        Some(renewed.unwrap_or_else(|error| {
            warn!(identity = %hosted.principal(), %error, "there is no contact card to hand out");
            None
        }))
    }

    /// The same with what it is to say, and how it is made.
    fn renewed_by<T>(
        &mut self,
        says: Says,
        now: UnixSeconds,
        make: impl FnOnce(UnixSeconds) -> Result<T, HostError>,
    ) -> Option<Result<T, HostError>> {
        let settled = match (&self.failed, &self.made) {
            (Some((wanted, at)), _) => *wanted == says && is_too_soon(*at, now),
            (None, Some((said, at))) => *said == says && is_fresh(*at, now),
            (None, None) => false,
        };
        if settled {
            return None;
        }
        let issued = match &self.made {
            Some((_, last)) => issued_behind(*last, now),
            None => now,
        };
        let made = make(issued);
        if made.is_ok() {
            self.made = Some((says, issued));
            self.failed = None;
        } else {
            self.failed = Some((says, now));
        }
        Some(made)
    }
}

/// Whether it is too soon after that failure to try again.
fn is_too_soon(failed: UnixSeconds, now: UnixSeconds) -> bool {
    let pause = i64::try_from(TRY_AGAIN_AFTER.as_secs()).unwrap_or(i64::MAX);
    (0..pause).contains(&now.0.saturating_sub(failed.0))
}

/// Whether a card made then is still to be shown: not half over, and believed by now.
fn is_fresh(made: UnixSeconds, now: UnixSeconds) -> bool {
    let half = i64::try_from(LIFETIME.as_secs() / 2).unwrap_or(i64::MAX);
    (-CLOCK_SKEW_SECS..half).contains(&now.0.saturating_sub(made.0))
}

/// When the next card is issued. Of two the one issued later counts, so the times rise even when the clock does not;
/// but a card from so far in the future that nobody believed it is as good as none.
fn issued_behind(last: UnixSeconds, now: UnixSeconds) -> UnixSeconds {
    if last.0.saturating_sub(now.0) >= CLOCK_SKEW_SECS {
        return now;
    }
    UnixSeconds(now.0.max(last.0.saturating_add(1)))
}

fn make(
    hosted: &Hosted,
    locators: Vec<Locator>,
    visibility: Visibility,
    now: UnixSeconds,
) -> Result<Card, HostError> {
    let attestation = hosted.credentials()?.attestation;
    let capabilities = match visibility {
        Visibility::Public => vec![PUBLIC_CAPABILITY.to_owned()],
        Visibility::Private => vec![ASKED_CAPABILITY.to_owned()],
        Visibility::Stealth => Vec::new(),
    };
    let details = CardDetails {
        locators,
        capabilities,
        alias: invite::own_alias(hosted, now)?,
    };
    let card = ContactCard::create(hosted.node_key(), attestation, details, now, LIFETIME)?;
    Ok(facts(&card))
}

/// What the exchange needs to know of a card.
pub(crate) fn facts(card: &ContactCard<Verified>) -> Card {
    let named: Vec<_> = card.locators().iter().filter_map(Locator::peer_id).collect();
    let peer_id = named
        .first()
        .filter(|first| named.iter().all(|peer| peer == *first))
        .cloned();
    let says = |word: &str| card.capabilities().iter().any(|said| said == word);
    Card {
        principal: *card.principal(),
        issued_at: card.issued_at(),
        expires_at: card.expires_at(),
        locators: card.locators().to_vec(),
        peer_id,
        shareable: says(PUBLIC_CAPABILITY),
        tellable: says(PUBLIC_CAPABILITY) || says(ASKED_CAPABILITY),
        bytes: card.to_bytes().into(),
    }
}

/// A card that holds: what the exchange needs of it, and the card itself.
pub(super) type Checked = (Arc<Card>, ContactCard<Verified>);

/// Those of the cards that hold. Signatures take their time, so another thread checks them.
pub(super) async fn verified(network: Network, cards: &[Arc<[u8]>]) -> Vec<Checked> {
    let cards = cards.to_vec();
    let now = clock::now().seconds();
    let checking = tokio::task::spawn_blocking(move || {
        let holds = |bytes: &Arc<[u8]>| {
            let card = ContactCard::from_bytes(bytes).ok()?.verify(network, now).ok()?;
            Some((Arc::new(facts(&card)), card))
        };
        cards.iter().filter_map(holds).collect()
    });
    checking.await.unwrap_or_default()
}

/// A message as the exchange knows it.
pub(super) fn to_exchange(message: wire::Message) -> px1::Message {
    match message {
        wire::Message::Resolve { id, principal, max } => px1::Message::Resolve { id, principal, max },
        wire::Message::Found { id, cards } => px1::Message::Found { id, cards },
        wire::Message::Push { cards } => px1::Message::Push { cards },
    }
}

/// A message as it goes over the wire.
pub(super) fn to_wire(message: px1::Message) -> wire::Message {
    match message {
        px1::Message::Resolve { id, principal, max } => wire::Message::Resolve { id, principal, max },
        px1::Message::Found { id, cards } => wire::Message::Found { id, cards },
        px1::Message::Push { cards } => wire::Message::Push { cards },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_issued_later_and_later_but_not_where_nobody_would_believe_them() {
        let now = UnixSeconds(1_767_225_600);
        let year = 365 * 24 * 60 * 60;
        for (last, issued, fresh) in [
            (-year, 0, false),
            (-1, 0, true),
            (0, 1, true),
            // The clock was set back a little: the last one is believed, and the next one counts.
            (CLOCK_SKEW_SECS - 1, CLOCK_SKEW_SECS, true),
            (CLOCK_SKEW_SECS + 1, 0, false),
            (year, 0, false),
        ] {
            let made = UnixSeconds(now.0 + last);
            assert_eq!(issued_behind(made, now).0 - now.0, issued, "{last} s");
            assert_eq!(is_fresh(made, now), fresh, "{last} s");
        }
    }

    #[test]
    fn a_card_that_could_not_be_made_is_tried_again_soon_but_not_at_every_look() {
        let now = |seconds| UnixSeconds(1_767_225_600 + seconds);
        let says = |name: &str| (Vec::new(), Visibility::Public, Some(name.parse().unwrap()));
        let failure = || HostError::Thread(std::io::Error::other("out of luck"));
        let mut own = OwnCard::default();
        let mut look = |name: &str, at: i64, works: bool| {
            let make = |issued: UnixSeconds| works.then(|| issued.0 - now(0).0).ok_or_else(failure);
            let made = own.renewed_by(says(name), now(at), make);
            made.map(Result::ok)
        };
        assert_eq!(look("alice", 0, false), Some(None));
        assert_eq!(look("alice", 1, true), None, "not at every look");
        assert_eq!(look("alice", 60, false), Some(None));
        assert_eq!(look("alice", 120, true), Some(Some(120)));
        assert_eq!(look("alice", 180, true), None, "it is good for hours");
        // One that says something else is tried at once, and the old one is not what is shown any more.
        assert_eq!(look("bob", 181, false), Some(None));
        assert_eq!(look("alice", 182, true), Some(Some(182)));
        assert_eq!(look("alice", 183, false), None);
        // A clock that is set back does not make it wait.
        assert_eq!(look("bob", 184, false), Some(None));
        assert_eq!(look("bob", 100, true), Some(Some(183)));
    }
}
