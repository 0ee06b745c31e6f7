//! The map an attestation is inside AUTH. Its signed form is another one, which `clawchat-identity` makes.

use clawchat_identity::{ATTESTATION_DOMAIN, Attestation, AttestationParts};

use super::cbor::{Value, Writer};

/// Longest byte field that is read; which lengths are right is checked with everything else.
const MAX_FIELD_BYTES: usize = 128;
/// The only version.
const VERSION: u64 = 1;

/// The fields of an attestation.
pub(super) fn parts_of<V>(attestation: &Attestation<V>) -> AttestationParts {
    AttestationParts {
        version: VERSION,
        principal: attestation.principal().to_string(),
        node_public_key: attestation.node_id().as_bytes().to_vec(),
        issued_at: attestation.issued_at().0,
        expires_at: attestation.expires_at().0,
        nonce: attestation.nonce().to_vec(),
        domain: ATTESTATION_DOMAIN.to_owned(),
        signature: attestation.signature().to_vec(),
    }
}

/// Appends the map.
pub(super) fn write(writer: &mut Writer, parts: &AttestationParts) {
    writer.map(8);
    writer.key("nonce").byte_array(&parts.nonce);
    writer.key("domain").text(&parts.domain);
    writer.key("version").unsigned(parts.version);
    writer.key("issuedAt").integer(parts.issued_at);
    writer.key("expiresAt").integer(parts.expires_at);
    writer.key("principal").text(&parts.principal);
    writer.key("signature").byte_array(&parts.signature);
    writer.key("nodePublicKey").byte_array(&parts.node_public_key);
}

/// Reads the map, unchecked. `None` when a field is missing or of another kind.
pub(super) fn read(value: Value<'_>) -> Option<AttestationParts> {
    let [
        nonce,
        domain,
        version,
        issued_at,
        expires_at,
        principal,
        signature,
        node_public_key,
    ] = value.map()?.pick([
        "nonce",
        "domain",
        "version",
        "issuedAt",
        "expiresAt",
        "principal",
        "signature",
        "nodePublicKey",
    ]);
    let bytes = |value: Option<Value<'_>>| Some(value?.bytes(MAX_FIELD_BYTES)?.into_owned());
    let text = |value: Option<Value<'_>>| Some(value?.text(MAX_FIELD_BYTES)?.into_owned());
    Some(AttestationParts {
        version: version?.integer()?.try_into().ok()?,
        principal: text(principal)?,
        node_public_key: bytes(node_public_key)?,
        issued_at: issued_at?.integer()?.try_into().ok()?,
        expires_at: expires_at?.integer()?.try_into().ok()?,
        nonce: bytes(nonce)?,
        domain: text(domain)?,
        signature: bytes(signature)?,
    })
}
