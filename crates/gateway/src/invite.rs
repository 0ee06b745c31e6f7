//! The invite line of an identity: its contact card, as text.

use std::time::Duration;

use clawchat_identity::{CardDetails, CardError, ContactCard};

use crate::addresses;
use crate::clock;
use crate::hosted::Hosted;
use crate::shared::Shared;

/// How long an invite is good for.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Most addresses in one invite: keeps the line short enough to paste.
const MAX_ADDRESSES: usize = 6;

/// `clawchat:…`: who the identity is and where this gateway listens, signed.
pub(crate) fn of(gateway: &Shared, hosted: &Hosted) -> Result<String, InviteError> {
    let now = clock::now().seconds();
    // The invite is to be good for its whole life, so it carries an attestation of its own.
    let attestation = hosted.identity().attest(now, LIFETIME, clock::random()?);
    let locators = addresses::of(&gateway.node)
        .into_iter()
        .take(MAX_ADDRESSES)
        .collect();
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
