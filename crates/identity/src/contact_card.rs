//! Contact cards: who somebody is and where to reach them, in one signed piece that fits into a message.

use std::time::Duration;

use clawchat_types::{Locator, Network, NodeId, Principal, UnixSeconds};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::alias_card::AliasCard;
use crate::attestation::{Attestation, Unverified, Verified, add_ttl, check_window};
use crate::card_error::CardError;
use crate::cbor;
use crate::node_key::{NodeKey, verify_node_signature};

/// What a contact card is signed for. A zero byte and the card's body follow it.
pub const CONTACT_CARD_DOMAIN: &str = "clawchat-contact-card-v1";
/// What every invite starts with. The card follows in base64url without padding.
pub const INVITE_PREFIX: &str = "clawchat:";
/// Largest card that is read, in bytes.
pub const MAX_CONTACT_CARD_BYTES: usize = 16 * 1024;
/// Most addresses on one card.
pub const MAX_CARD_LOCATORS: usize = 16;
/// Most capabilities on one card.
pub const MAX_CARD_CAPABILITIES: usize = 16;
/// Longest capability word, in bytes of printable ASCII.
pub const MAX_CAPABILITY_BYTES: usize = 32;

const VERSION: u64 = 1;

/// An identity's own statement of where it can be reached, signed by its attested node key.
///
/// The addresses are hints: identity is proven again by whoever answers there. Of two verified cards of one
/// principal the one issued later counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactCard<V = Unverified> {
    attestation: Attestation<V>,
    details: CardDetails,
    issued_at: UnixSeconds,
    expires_at: UnixSeconds,
    /// What is signed, as received: fields of later versions stay in it.
    body: Vec<u8>,
    signature: [u8; 64],
}

/// What a card says beside who it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardDetails {
    /// Where to dial, best first; at most [`MAX_CARD_LOCATORS`].
    pub locators: Vec<Locator>,
    /// What the identity can do, as short plain words; at most [`MAX_CARD_CAPABILITIES`].
    pub capabilities: Vec<String>,
    /// What it asks to be called. Unverified here: use [`ContactCard::alias`].
    pub alias: Option<AliasCard>,
}

impl ContactCard<Unverified> {
    /// Reads a card. Addresses of a kind we cannot dial, and unknown fields, are skipped.
    ///
    /// # Errors
    /// [`CardError`] when the bytes cannot be any card.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CardError> {
        let outer: Outer<'_> = cbor::from_canonical(bytes, MAX_CONTACT_CARD_BYTES)?;
        let body: Body<'_> = cbor::from_canonical(outer.b, MAX_CONTACT_CARD_BYTES)?;
        if body.v != VERSION {
            return Err(CardError::Version { found: body.v });
        }
        let attestation = Attestation::from_bytes(body.att)?;
        let alias = body.alias.map(AliasCard::from_bytes).transpose()?;
        let principal: Principal = body.p.parse()?;
        if principal != *attestation.principal()
            || alias
                .as_ref()
                .is_some_and(|alias| *alias.principal() != principal)
        {
            return Err(CardError::Mismatch);
        }
        check_entries(body.loc.len(), &body.caps)?;
        Ok(Self {
            attestation,
            details: CardDetails {
                locators: body.loc.iter().filter_map(|text| text.parse().ok()).collect(),
                capabilities: body.caps.iter().map(ToString::to_string).collect(),
                alias,
            },
            issued_at: UnixSeconds(body.ts),
            expires_at: UnixSeconds(body.exp),
            body: outer.b.to_vec(),
            signature: outer.s.try_into().map_err(|_| CardError::Signature)?,
        })
    }

    /// Reads an invite, with white space around it forgiven.
    ///
    /// # Errors
    /// [`CardError::Invite`] for text that is not an invite, and those of [`ContactCard::from_bytes`].
    pub fn from_invite(text: &str) -> Result<Self, CardError> {
        let code = text.trim().strip_prefix(INVITE_PREFIX).ok_or(CardError::Invite)?;
        if code.len() > BASE64URL_NOPAD.encode_len(MAX_CONTACT_CARD_BYTES) {
            return Err(CardError::Invite);
        }
        let bytes = BASE64URL_NOPAD
            .decode(code.as_bytes())
            .map_err(|_| CardError::Invite)?;
        Self::from_bytes(&bytes)
    }

    /// Checks the attestation, the node key's signature, the time, and the wallet's signature on the alias. An
    /// alias whose time is over does not spoil the card.
    ///
    /// # Errors
    /// [`CardError::Attestation`] (also for the wrong network), [`CardError::Signature`], [`CardError::Time`].
    pub fn verify(self, network: Network, now: UnixSeconds) -> Result<ContactCard<Verified>, CardError> {
        let attestation = self.attestation.verify(network, now)?;
        verify_node_signature(attestation.node_id(), &signed(&self.body), &self.signature)
            .map_err(|_| CardError::Signature)?;
        check_window(self.issued_at, self.expires_at, now)?;
        if let Some(alias) = &self.details.alias {
            alias.check_signature(network)?;
        }
        Ok(ContactCard {
            attestation,
            details: self.details,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            body: self.body,
            signature: self.signature,
        })
    }
}

impl<V> ContactCard<V> {
    /// The card as bytes: those it was read from.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_canonical(&Outer {
            b: &self.body,
            s: &self.signature,
        })
    }

    /// The card as text to hand over by any other means.
    #[must_use]
    pub fn to_invite(&self) -> String {
        format!("{INVITE_PREFIX}{}", BASE64URL_NOPAD.encode(&self.to_bytes()))
    }

    /// Who it is about.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        self.attestation.principal()
    }

    /// The node key that signed it.
    #[must_use]
    pub fn node_id(&self) -> &NodeId {
        self.attestation.node_id()
    }

    /// The attestation inside.
    #[must_use]
    pub fn attestation(&self) -> &Attestation<V> {
        &self.attestation
    }

    /// Where to dial, best first.
    #[must_use]
    pub fn locators(&self) -> &[Locator] {
        &self.details.locators
    }

    /// What the identity can do.
    #[must_use]
    pub fn capabilities(&self) -> &[String] {
        &self.details.capabilities
    }

    /// Start of validity.
    #[must_use]
    pub fn issued_at(&self) -> UnixSeconds {
        self.issued_at
    }

    /// End of validity.
    #[must_use]
    pub fn expires_at(&self) -> UnixSeconds {
        self.expires_at
    }
}

impl ContactCard<Verified> {
    /// Signs a card, from `now` for `ttl` (whole seconds), but never beyond the attestation's end.
    ///
    /// # Errors
    /// [`CardError::Mismatch`] when the node key is not the attested one or the alias is another principal's;
    /// [`CardError::Entries`] for too many addresses or capabilities, or capabilities that are not plain words.
    pub fn create(
        node_key: &NodeKey,
        attestation: Attestation<Verified>,
        details: CardDetails,
        now: UnixSeconds,
        ttl: Duration,
    ) -> Result<Self, CardError> {
        let of_another = |alias: &AliasCard| alias.principal() != attestation.principal();
        if node_key.node_id() != *attestation.node_id() || details.alias.as_ref().is_some_and(of_another) {
            return Err(CardError::Mismatch);
        }
        let expires_at = add_ttl(now, ttl).min(attestation.expires_at());
        let principal = attestation.principal().to_string();
        let (att, alias) = (
            attestation.to_bytes(),
            details.alias.as_ref().map(AliasCard::to_bytes),
        );
        let body = Body {
            p: &principal,
            v: VERSION,
            ts: now.0,
            exp: expires_at.0,
            att: &att,
            loc: details.locators.iter().map(Locator::as_str).collect(),
            caps: details.capabilities.iter().map(String::as_str).collect(),
            alias: alias.as_deref(),
        };
        check_entries(body.loc.len(), &body.caps)?;
        let body = cbor::to_canonical(&body);
        Ok(Self {
            signature: node_key.sign(&signed(&body)),
            attestation,
            details,
            issued_at: now,
            expires_at,
            body,
        })
    }

    /// Whether card and attestation are within their time.
    #[must_use]
    pub fn is_current(&self, now: UnixSeconds) -> bool {
        self.attestation.is_current(now) && check_window(self.issued_at, self.expires_at, now).is_ok()
    }

    /// Whether it replaces `other`: same principal, issued later.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        self.principal() == other.principal() && self.issued_at > other.issued_at
    }

    /// What the identity asks to be called now. `None` when it does not say, or its alias card is not current.
    #[must_use]
    pub fn alias(&self, now: UnixSeconds) -> Option<AliasCard<Verified>> {
        let alias = self.details.alias.clone()?;
        alias.verify(self.principal().network(), now).ok()
    }
}

/// The card on the wire: the body, and the node key's signature.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer<'a> {
    #[serde(with = "serde_bytes")]
    b: &'a [u8],
    #[serde(with = "serde_bytes")]
    s: &'a [u8],
}

/// What is signed. Unknown fields are ignored.
#[derive(Serialize, Deserialize)]
struct Body<'a> {
    p: &'a str,
    v: u64,
    ts: i64,
    #[serde(with = "serde_bytes")]
    att: &'a [u8],
    exp: i64,
    #[serde(borrow)]
    loc: Vec<&'a str>,
    #[serde(borrow)]
    caps: Vec<&'a str>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "serde_bytes")]
    alias: Option<&'a [u8]>,
}

fn signed(body: &[u8]) -> Vec<u8> {
    [CONTACT_CARD_DOMAIN.as_bytes(), &[0], body].concat()
}

fn check_entries(locators: usize, capabilities: &[&str]) -> Result<(), CardError> {
    let plain = |word: &&str| {
        (1..=MAX_CAPABILITY_BYTES).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_graphic())
    };
    if locators > MAX_CARD_LOCATORS
        || capabilities.len() > MAX_CARD_CAPABILITIES
        || !capabilities.iter().all(plain)
    {
        return Err(CardError::Entries);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
