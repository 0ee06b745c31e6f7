//! Invites: a contact card as one line of text, perhaps with a token that opens the door to it.

use clawchat_types::{InviteToken, Network, Principal, UnixSeconds};
use data_encoding::{BASE64URL_NOPAD, DecodeKind};
use sha2::{Digest, Sha256};

use crate::attestation::{AttestationError, OutOfTime, Unverified, Verified};
use crate::card_error::CardError;
use crate::cbor::CborError;
use crate::contact_card::{ContactCard, INVITE_PREFIX, MAX_CONTACT_CARD_BYTES};

/// Bytes behind the token that tell a mistyped or cut one from a whole one.
pub const TOKEN_CHECK_BYTES: usize = 4;

/// What the check of a token is made for. A zero byte, the token and the card follow it.
const CHECK_DOMAIN: &str = "clawchat-invite-v1";
/// What a personal token is made for. A zero byte, the invite's token and the principal's text follow it.
const PERSONAL_DOMAIN: &str = "clawchat-knock-v1";
/// What the digest of a token is made for. A zero byte and the token follow it.
const DIGEST_DOMAIN: &str = "clawchat-token-v1";
/// Stands between token and card; no character of base64url.
const SEPARATOR: char = '.';
/// Bytes of a token with its check.
const SEALED_TOKEN_BYTES: usize = InviteToken::BYTES + TOKEN_CHECK_BYTES;
/// The same as text. No card is as short.
const SEALED_TOKEN_CHARS: usize = SEALED_TOKEN_BYTES / 3 * 4;
/// Longest text that is looked at, in bytes, white space included.
const MAX_TEXT_BYTES: usize = 2 * MAX_CONTACT_CARD_BYTES;

/// A contact card that is handed over by any other means, with the token to knock with if its owner gave one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite<V = Unverified> {
    card: ContactCard<V>,
    token: Option<InviteToken>,
}

impl Invite<Unverified> {
    /// Reads an invite. White space in it is forgiven: long lines are often wrapped.
    ///
    /// # Errors
    /// [`InviteError::Foreign`], [`InviteError::Character`], [`InviteError::Truncated`], [`InviteError::TooLong`],
    /// [`InviteError::Token`] or [`InviteError::Card`]: what is wrong with the text.
    pub fn from_text(text: &str) -> Result<Self, InviteError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(InviteError::TooLong);
        }
        let text: String = text.split_ascii_whitespace().collect();
        let code = text.strip_prefix(INVITE_PREFIX).ok_or(InviteError::Foreign)?;
        let (token, card) = match code.split_once(SEPARATOR) {
            Some((token, card)) => (Some(token), card),
            // The line begins with the token, so what is as short as one has lost the card behind it.
            None if code.len() <= SEALED_TOKEN_CHARS => return Err(cut_or_garbled(code)),
            None => (None, code),
        };
        let bytes = decoded(card)?;
        let card = match ContactCard::from_bytes(&bytes) {
            Ok(card) => card,
            Err(CardError::Encoding(CborError::Truncated)) => return Err(InviteError::Truncated),
            Err(CardError::Encoding(CborError::TooLong { .. })) => return Err(InviteError::TooLong),
            Err(error) => return Err(InviteError::Card(error)),
        };
        let token = token.map(|token| unsealed(token, &bytes)).transpose()?;
        Ok(Self { card, token })
    }

    /// Checks the card; see [`ContactCard::verify`].
    ///
    /// # Errors
    /// [`InviteError::WrongNetwork`], [`InviteError::Expired`], [`InviteError::NotYetValid`] or
    /// [`InviteError::Forged`].
    pub fn verify(self, network: Network, now: UnixSeconds) -> Result<Invite<Verified>, InviteError> {
        Ok(Invite {
            card: self.card.verify(network, now).map_err(refusal)?,
            token: self.token,
        })
    }
}

impl<V> Invite<V> {
    /// Who it leads to.
    #[must_use]
    pub fn card(&self) -> &ContactCard<V> {
        &self.card
    }

    /// What to knock with.
    #[must_use]
    pub fn token(&self) -> Option<&InviteToken> {
        self.token.as_ref()
    }

    /// The invite as one line.
    #[must_use]
    pub fn to_text(&self) -> String {
        let card = self.card.to_bytes();
        let mut text = INVITE_PREFIX.to_owned();
        if let Some(token) = &self.token {
            let sealed = [token.as_bytes().as_slice(), &check(token, &card)].concat();
            text.push_str(&BASE64URL_NOPAD.encode(&sealed));
            text.push(SEPARATOR);
        }
        text.push_str(&BASE64URL_NOPAD.encode(&card));
        text
    }
}

impl Invite<Verified> {
    /// An invite made of a card and the token that goes with it.
    #[must_use]
    pub fn new(card: ContactCard<Verified>, token: Option<InviteToken>) -> Self {
        Self { card, token }
    }
}

/// The token with which `principal`, once let in by `invite`, knocks from then on. Both sides make it by themselves.
/// It tells nothing about the invite's own token, and is worth nothing to anybody else.
#[must_use]
pub fn personal_token(invite: &InviteToken, principal: &Principal) -> InviteToken {
    let principal = principal.to_string();
    InviteToken::new(digest(
        PERSONAL_DOMAIN,
        &[invite.as_bytes(), principal.as_bytes()],
    ))
}

/// What is kept of a token where it is only compared with what comes in. `token` may be of any length.
#[must_use]
pub fn token_digest(token: &[u8]) -> [u8; 32] {
    digest(DIGEST_DOMAIN, &[token])
}

/// Why an invite cannot be used. One for each cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// It does not start with `clawchat:`.
    #[error("this is not an invite: one begins with \"clawchat:\"")]
    Foreign,
    /// It holds a character that no invite has.
    #[error("the invite holds a character that no invite has: it was changed on the way")]
    Character,
    /// Its end is missing.
    #[error("the invite is cut short: its end is missing")]
    Truncated,
    /// It is longer than any invite.
    #[error("this is longer than any invite")]
    TooLong,
    /// The token in it is not the one the card was handed out with.
    #[error("the invite was changed on the way: its token is not the one that was written")]
    Token,
    /// The card in it is not one.
    #[error("the invite was changed on the way, or is of a newer version: {0}")]
    Card(CardError),
    /// The signatures in it do not hold.
    #[error("the invite is forged or was changed on the way: {0}")]
    Forged(CardError),
    /// It leads to the other network.
    #[error("the invite is of the other network: this identity is on {expected}")]
    WrongNetwork {
        /// The network of this side.
        expected: Network,
    },
    /// Its time is over.
    #[error("the invite expired {} ago", span(*secs_ago))]
    Expired {
        /// Seconds since then.
        secs_ago: u64,
    },
    /// Its time has not come.
    #[error("the invite is valid only {} from now; check the clocks of both machines", span(*secs_ahead))]
    NotYetValid {
        /// Seconds until then.
        secs_ahead: u64,
    },
}

/// A time span as people say it, in whole units: up to two minutes in seconds, two hours in minutes, two days in hours.
fn span(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        120..7_200 => format!("{} minutes", secs / 60),
        7_200..172_800 => format!("{} hours", secs / 3_600),
        172_800.. => format!("{} days", secs / 86_400),
    }
}

/// What verification says, as the one cause it comes from.
fn refusal(error: CardError) -> InviteError {
    match error {
        CardError::WrongNetwork { expected }
        | CardError::Attestation(AttestationError::WrongNetwork { expected }) => {
            InviteError::WrongNetwork { expected }
        }
        CardError::Time(time) | CardError::Attestation(AttestationError::Time(time)) => match time {
            OutOfTime::Expired { secs_ago } => InviteError::Expired { secs_ago },
            OutOfTime::NotYetValid { secs_ahead } => InviteError::NotYetValid { secs_ahead },
        },
        error => InviteError::Forged(error),
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, InviteError> {
    if text.len() > BASE64URL_NOPAD.encode_len(MAX_CONTACT_CARD_BYTES) {
        return Err(InviteError::TooLong);
    }
    BASE64URL_NOPAD
        .decode(text.as_bytes())
        .map_err(|error| match error.kind {
            DecodeKind::Symbol | DecodeKind::Padding => InviteError::Character,
            DecodeKind::Length | DecodeKind::Trailing => {
                if text.bytes().all(is_base64url) {
                    InviteError::Truncated
                } else {
                    InviteError::Character
                }
            }
        })
}

fn cut_or_garbled(code: &str) -> InviteError {
    if code.bytes().all(is_base64url) {
        InviteError::Truncated
    } else {
        InviteError::Character
    }
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn unsealed(text: &str, card: &[u8]) -> Result<InviteToken, InviteError> {
    let bytes = decoded(text).map_err(|error| match error {
        InviteError::Character => InviteError::Character,
        _ => InviteError::Token,
    })?;
    let sealed: [u8; SEALED_TOKEN_BYTES] = bytes.try_into().map_err(|_| InviteError::Token)?;
    let (token, checked) = sealed
        .split_first_chunk::<{ InviteToken::BYTES }>()
        .ok_or(InviteError::Token)?;
    let token = InviteToken::new(*token);
    if check(&token, card) == checked {
        Ok(token)
    } else {
        Err(InviteError::Token)
    }
}

/// Ties a token to the card it was handed out with; against accidents, not against forgers.
fn check(token: &InviteToken, card: &[u8]) -> [u8; TOKEN_CHECK_BYTES] {
    let [a, b, c, d, ..] = digest(CHECK_DOMAIN, &[token.as_bytes(), card]);
    [a, b, c, d]
}

/// SHA-256 of the domain, a zero byte, and the parts; all but the last are of fixed length.
fn digest(domain: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(domain.as_bytes());
    hash.update([0]);
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
