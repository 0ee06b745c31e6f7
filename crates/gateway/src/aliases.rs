//! What peers ask to be called: for people to read, never for routing or trust.

use std::collections::HashMap;

use clawchat_identity::{AliasCard, ContactCard, Verified, shown_name};
use clawchat_store::{PeerRecord, StoreError};
use clawchat_types::{Principal, UnixSeconds};

use crate::clock;
use crate::hosted::Hosted;

/// Keeps the alias on a verified contact card with the peer it is about, if that is a peer of `hosted` already and the
/// alias is newer than what is known. Nobody becomes a peer by a card.
///
/// # Errors
/// When the store does not do its part.
pub(crate) async fn note_card(hosted: &Hosted, card: &ContactCard<Verified>) -> Result<(), StoreError> {
    let turn = hosted.peers().turn().await;
    let Some(mut record) = hosted.store().store().peer(card.principal())? else {
        return Ok(());
    };
    if take_alias(&mut record, card, clock::now().seconds()) {
        turn.put(record).await?;
    }
    Ok(())
}

/// Puts the alias of a card into the record of its principal. Returns whether that changed anything.
pub(crate) fn take_alias(record: &mut PeerRecord, card: &ContactCard<Verified>, now: UnixSeconds) -> bool {
    let Some(alias) = card.alias(now) else {
        return false;
    };
    let known = known(record).map(|known| known.issued_at());
    if *card.principal() != record.principal || known.is_some_and(|known| known >= alias.issued_at()) {
        return false;
    }
    record.alias_card = Some(alias.to_bytes());
    true
}

/// What a peer asks to be called now, fit to be shown. `None`: it does not say, or said so too long ago.
pub(crate) fn display_name(record: &PeerRecord, now: UnixSeconds) -> Option<String> {
    // It was verified before it was kept.
    let card = known(record).filter(|card| card.is_current(now))?;
    match card.display_name() {
        Some(name) => shown_name(name.as_str()),
        None => shown_name(card.alias()),
    }
}

/// What the peers of an identity ask to be called, each looked up once: for the messages of one answer.
pub(crate) struct DisplayNames<'a> {
    hosted: &'a Hosted,
    now: UnixSeconds,
    /// As many as there are senders in the answer.
    known: HashMap<Principal, Option<String>>,
}

impl<'a> DisplayNames<'a> {
    /// As of now.
    pub(crate) fn of(hosted: &'a Hosted) -> Self {
        Self {
            hosted,
            now: clock::now().seconds(),
            known: HashMap::new(),
        }
    }

    /// The name of a peer fit to be shown, if it says one now. A peer that cannot be read has none.
    pub(crate) fn get(&mut self, principal: &Principal) -> Option<&str> {
        let Self { hosted, now, known } = self;
        let name = known.entry(*principal).or_insert_with(|| {
            let record = hosted.store().store().peer(principal).ok().flatten()?;
            display_name(&record, *now)
        });
        name.as_deref()
    }
}

fn known(record: &PeerRecord) -> Option<AliasCard> {
    AliasCard::from_bytes(record.alias_card.as_deref()?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clawchat_identity::CardDetails;
    use clawchat_testkit::stranger;
    use clawchat_types::Network;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_767_225_600);
    const HOUR: Duration = Duration::from_secs(3600);

    fn card(who: u64, alias: &str, name: Option<&str>, issued: UnixSeconds) -> ContactCard<Verified> {
        let me = stranger(who);
        let name = name.map(|name| name.parse().unwrap());
        let alias =
            AliasCard::create(me.wallet(), Network::Testnet, alias, name, issued, HOUR, [1; 32]).unwrap();
        let details = CardDetails {
            alias: Some(AliasCard::from_bytes(&alias.to_bytes()).unwrap()),
            ..CardDetails::default()
        };
        ContactCard::create(me.node_key(), me.attest(NOW, HOUR, [2; 32]), details, NOW, HOUR).unwrap()
    }

    #[test]
    fn the_newest_current_alias_is_shown() {
        let mut record = PeerRecord::new(*stranger(1).principal());
        assert_eq!(display_name(&record, NOW), None);
        assert!(take_alias(&mut record, &card(1, "first", None, NOW), NOW));
        assert_eq!(display_name(&record, NOW).as_deref(), Some("first"));

        let older = UnixSeconds(NOW.0 - 60);
        assert!(!take_alias(&mut record, &card(1, "older", None, older), NOW));
        assert!(!take_alias(&mut record, &card(1, "same time", None, NOW), NOW));
        assert!(!take_alias(&mut record, &card(2, "another", None, NOW), NOW));
        let newer = UnixSeconds(NOW.0 + 60);
        assert!(take_alias(
            &mut record,
            &card(1, "zoe", Some("Zo\u{200b}e"), newer),
            NOW
        ));
        assert_eq!(display_name(&record, NOW).as_deref(), Some("Zo\\u{200b}e"));

        let late = UnixSeconds(newer.0 + 3600 + 300);
        assert_eq!(display_name(&record, late), None, "expired");
        let expired = UnixSeconds(NOW.0 - 2 * 3600);
        let mut record = PeerRecord::new(*stranger(1).principal());
        assert!(!take_alias(&mut record, &card(1, "old", None, expired), NOW));
    }
}
