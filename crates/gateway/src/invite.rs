//! Invites of an identity: its contact card as a line of text, with or without a token.

use std::time::Duration;

use clawchat_identity::{
    ALIAS_CARD_TTL, AliasCard, CardDetails, CardError, ContactCard, Invite, Nickname, Verified, token_digest,
};
use clawchat_types::{InviteToken, Locator, Nick, UnixMillis, UnixSeconds};

use crate::addresses;
use crate::clock;
use crate::hosted::Hosted;
use crate::invites::Entry;
use crate::shared::Shared;

/// How long an invite is good for unless said otherwise, and with it the attestation in it. Seven days.
pub(crate) const LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How old an invite may be that is shown once more, in seconds. One hour.
const SHOWN_FOR_SECS: i64 = 60 * 60;
/// Most addresses in one invite: keeps the line short enough to paste.
const MAX_ADDRESSES: usize = 6;

/// An invite that was shown, and what it rests on.
pub(crate) struct Shown {
    line: String,
    locators: Vec<Locator>,
    nick: Option<Nick>,
    made_at: UnixSeconds,
}

impl Shown {
    /// Whether it still says what a new one would, and is good for nearly as long.
    fn is_fresh(&self, locators: &[Locator], nick: Option<&Nick>, now: UnixSeconds) -> bool {
        let age = now.0.saturating_sub(self.made_at.0);
        self.locators == locators && self.nick.as_ref() == nick && (0..SHOWN_FOR_SECS).contains(&age)
    }
}

/// `clawchat:…`: who the identity is and where this gateway listens, signed. The same one for up to an hour, so that
/// asking often does not scatter attestations.
pub(crate) fn of(gateway: &Shared, hosted: &Hosted) -> Result<String, MakeError> {
    let now = clock::now().seconds();
    let (locators, nick) = (own_locators(gateway), hosted.nick());
    let mut known = hosted.invite();
    match known.as_ref() {
        Some(shown) if shown.is_fresh(&locators, nick.as_ref(), now) => Ok(shown.line.clone()),
        Some(_) | None => {
            let line = card(hosted, locators.clone(), LIFETIME)?.to_invite();
            *known = Some(Shown {
                line: line.clone(),
                locators,
                nick,
                made_at: now,
            });
            Ok(line)
        }
    }
}

/// A new invite that is good for `life`.
pub(crate) fn make(
    gateway: &Shared,
    hosted: &Hosted,
    life: Duration,
    with_token: bool,
) -> Result<Invite<Verified>, MakeError> {
    let card = card(hosted, own_locators(gateway), life)?;
    let token = match with_token {
        true => Some(InviteToken::new(clock::random()?)),
        false => None,
    };
    Ok(Invite::new(card, token))
}

/// What is kept of a token that is handed out.
pub(crate) fn entry(
    token: &InviteToken,
    now: UnixMillis,
    expires_at: UnixMillis,
    uses: Option<u64>,
) -> Result<Entry, MakeError> {
    let id: [u8; 4] = clock::random()?;
    Ok(Entry {
        id: format!("{:08x}", u32::from_be_bytes(id)),
        digest: token_digest(token.as_bytes()),
        created_at: now,
        expires_at,
        uses,
        members: Vec::new(),
    })
}

/// The contact card of an identity, with what it is called in it. It is to be good for all of `life`, so it carries an
/// attestation of its own.
pub(crate) fn card(
    hosted: &Hosted,
    locators: Vec<Locator>,
    life: Duration,
) -> Result<ContactCard<Verified>, MakeError> {
    let now = clock::now().seconds();
    let attestation = hosted.identity().attest(now, life, clock::random()?);
    let details = CardDetails {
        locators,
        alias: own_alias(hosted, now)?,
        ..CardDetails::default()
    };
    Ok(ContactCard::create(
        hosted.node_key(),
        attestation,
        details,
        now,
        life,
    )?)
}

/// The identity's nickname as an alias card: the alias in its normal form, which is plain ASCII, and the name as it is
/// written beside it. A nickname of another script has the beginning of the address for an alias.
pub(crate) fn own_alias(hosted: &Hosted, now: UnixSeconds) -> Result<Option<AliasCard>, MakeError> {
    let Some(nick) = hosted.nick() else {
        return Ok(None);
    };
    let address = hosted.principal().address().to_string();
    let make = |alias: &str| -> Result<AliasCard, MakeError> {
        let name = (alias != nick.as_str()).then(|| Nickname::from(nick.clone()));
        let identity = hosted.identity();
        let made = AliasCard::create(
            identity.wallet(),
            identity.network(),
            alias,
            name,
            now,
            ALIAS_CARD_TTL,
            clock::random()?,
        )?;
        // A card carries it as others see it.
        Ok(AliasCard::from_bytes(&made.to_bytes())?)
    };
    match make(&nick.as_str().to_ascii_lowercase()) {
        Err(MakeError::Card(CardError::Name)) => {
            let alias: String = address.chars().take(ADDRESS_ALIAS_CHARS).collect();
            make(&alias).map(Some)
        }
        made => made.map(Some),
    }
}

/// How much of an address stands for a name that cannot be an alias.
const ADDRESS_ALIAS_CHARS: usize = 12;

fn own_locators(gateway: &Shared) -> Vec<Locator> {
    addresses::few(&gateway.node, MAX_ADDRESSES)
}

/// Why there is no invite.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    #[error("the system gives no random numbers: {0}")]
    Randomness(#[from] getrandom::Error),
    #[error("the contact card cannot be made: {0}")]
    Card(#[from] CardError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invite_is_made_anew_after_an_hour_or_when_what_it_says_changes() {
        let locators: Vec<Locator> = vec!["/ip4/192.0.2.1/tcp/9000".parse().unwrap()];
        let nick: Nick = "alice".parse().unwrap();
        let shown = Shown {
            line: String::new(),
            locators: locators.clone(),
            nick: Some(nick.clone()),
            made_at: UnixSeconds(1_000_000),
        };
        let at = |seconds: i64| UnixSeconds(1_000_000 + seconds);
        assert!(shown.is_fresh(&locators, Some(&nick), at(0)));
        assert!(shown.is_fresh(&locators, Some(&nick), at(3599)));
        assert!(!shown.is_fresh(&locators, Some(&nick), at(3600)));
        assert!(!shown.is_fresh(&[], Some(&nick), at(0)));
        assert!(!shown.is_fresh(&locators, None, at(0)));
        assert!(
            !shown.is_fresh(&locators, Some(&nick), at(-1)),
            "the clock was set back"
        );
    }
}
