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
/// Most addresses on it.
const MAX_ADDRESSES: usize = 8;

/// The card of an identity here, and what it rests on.
#[derive(Default)]
pub(super) struct OwnCard {
    made: Option<(Says, UnixSeconds)>,
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
        let mut now = clock::now().seconds();
        let locators = addresses::few(&gateway.node, MAX_ADDRESSES);
        let says = (locators.clone(), visibility, hosted.nick());
        if let Some((said, at)) = &self.made
            && *said == says
            && is_fresh(*at, now)
        {
            return None;
        }
        if let Some((_, last)) = &self.made {
            now = issued_behind(*last, now);
        }
        self.made = Some((says, now));
        if visibility == Visibility::Stealth {
            return Some(None);
        }
        let card = make(hosted, locators, visibility, now);
        Some(match card {
            Ok(card) => Some(Arc::new(card)),
            Err(error) => {
                warn!(identity = %hosted.principal(), %error, "there is no contact card to hand out");
                None
            }
        })
    }
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
}
