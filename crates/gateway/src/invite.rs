//! The invite line of an identity: its contact card, as text.

use std::time::Duration;

use clawchat_identity::{CardDetails, CardError, ContactCard};
use clawchat_types::{Locator, UnixSeconds};

use crate::addresses;
use crate::clock;
use crate::hosted::Hosted;
use crate::shared::Shared;

/// How long an invite is good for, and with it the attestation in it.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How old an invite may be that is shown once more, in seconds. One hour.
const SHOWN_FOR_SECS: i64 = 60 * 60;
/// Most addresses in one invite: keeps the line short enough to paste.
const MAX_ADDRESSES: usize = 6;

/// An invite that was made, and what it rests on.
pub(crate) struct Invite {
    line: String,
    locators: Vec<Locator>,
    made_at: UnixSeconds,
}

impl Invite {
    /// Whether it still says what a new one would, and is good for nearly as long.
    fn is_fresh(&self, locators: &[Locator], now: UnixSeconds) -> bool {
        let age = now.0.saturating_sub(self.made_at.0);
        self.locators == locators && (0..SHOWN_FOR_SECS).contains(&age)
    }
}

/// `clawchat:…`: who the identity is and where this gateway listens, signed. The same one for up to an hour, so that
/// asking often does not scatter attestations.
pub(crate) fn of(gateway: &Shared, hosted: &Hosted) -> Result<String, InviteError> {
    let now = clock::now().seconds();
    let locators = addresses::few(&gateway.node, MAX_ADDRESSES);
    let mut known = hosted.invite();
    match known.as_ref() {
        Some(invite) if invite.is_fresh(&locators, now) => Ok(invite.line.clone()),
        Some(_) | None => {
            let line = make(hosted, locators.clone(), now)?;
            *known = Some(Invite {
                line: line.clone(),
                locators,
                made_at: now,
            });
            Ok(line)
        }
    }
}

fn make(hosted: &Hosted, locators: Vec<Locator>, now: UnixSeconds) -> Result<String, InviteError> {
    // The invite is to be good for its whole life, so it carries an attestation of its own.
    let attestation = hosted.identity().attest(now, LIFETIME, clock::random()?);
    let details = CardDetails {
        locators,
        ..CardDetails::default()
    };
    Ok(ContactCard::create(hosted.node_key(), attestation, details, now, LIFETIME)?.to_invite())
}

/// Why there is no invite.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InviteError {
    #[error("the system gives no random numbers: {0}")]
    Randomness(#[from] getrandom::Error),
    #[error("the contact card cannot be made: {0}")]
    Card(#[from] CardError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invite_is_made_anew_after_an_hour_or_when_the_addresses_change() {
        let locators: Vec<Locator> = vec!["/ip4/192.0.2.1/tcp/9000".parse().unwrap()];
        let invite = Invite {
            line: String::new(),
            locators: locators.clone(),
            made_at: UnixSeconds(1_000_000),
        };
        let at = |seconds: i64| UnixSeconds(1_000_000 + seconds);
        assert!(invite.is_fresh(&locators, at(0)));
        assert!(invite.is_fresh(&locators, at(3599)));
        assert!(!invite.is_fresh(&locators, at(3600)));
        assert!(!invite.is_fresh(&[], at(0)));
        assert!(!invite.is_fresh(&locators, at(-1)), "the clock was set back");
    }
}
