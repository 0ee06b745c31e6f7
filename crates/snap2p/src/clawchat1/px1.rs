//! PX-1: hints about where principals can be reached. One stream for each exchange, one message each way.
//!
//! Hints only. Who is really there is proven by dialing.

use clawchat_types::UnixMillis;

use super::cbor::{self, CborError, Map, Value, Writer};
use super::message::printable;
use super::{MAX_PX1_FRAME, MAX_TIMESTAMP};

const RESOLVE_REQUEST: i128 = 1;
const RESOLVE_RESPONSE: i128 = 2;
const PUSH: i128 = 3;

/// Most peers of one push that are read; those behind are left out. Existing gateways send 20.
pub const MAX_PEERS: usize = 64;
/// Most addresses of one peer that are read; those behind are left out.
pub const MAX_MULTIADDRS: usize = 32;
/// Longest address that is read, in bytes; longer ones are left out.
pub const MAX_MULTIADDR_BYTES: usize = 512;
/// Longest principal, PeerId or request id that is read, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest error text that is kept, in characters; all of them printable ASCII.
pub const MAX_ERROR_CHARS: usize = 100;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Where is this principal?
    ResolveRequest {
        /// Whom the peer asks for: any text.
        principal: String,
        /// To be given back in the answer. Existing peers use 32 hexadecimal digits.
        request_id: String,
    },
    /// The answer.
    ResolveResponse {
        /// That of the question.
        request_id: String,
        /// Where it is, if that is known and not kept secret.
        peer: Option<PeerInfo>,
        /// Why there is no answer.
        error: Option<String>,
    },
    /// Hints nobody asked for.
    Push {
        /// Up to [`MAX_PEERS`].
        peers: Vec<PeerInfo>,
    },
}

/// Where a principal was last seen. Nothing of it is checked: addresses and ids are any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Who: 1 to [`MAX_NAME_BYTES`] bytes of text.
    pub principal: String,
    /// Where: up to [`MAX_MULTIADDRS`] texts of 1 to [`MAX_MULTIADDR_BYTES`] bytes.
    pub multiaddrs: Vec<String>,
    /// When somebody spoke with it there; at most [`MAX_TIMESTAMP`], 0 when it is not said.
    pub last_seen: UnixMillis,
    /// The gateway's PeerId, if it is known.
    pub peer_id: Option<String>,
}

/// Reads a frame's body. Too many peers or addresses are cut, malformed ones left out.
///
/// # Errors
/// [`Px1Error`] when nothing can be made of it.
pub fn decode(body: &[u8]) -> Result<Message, Px1Error> {
    if body.len() > MAX_PX1_FRAME {
        return Err(Px1Error::TooLong { bytes: body.len() });
    }
    let map = cbor::read(body)?.map().ok_or(Px1Error::UnknownType)?;
    let [kind] = map.pick(["type"]);
    match kind.and_then(Value::integer) {
        Some(RESOLVE_REQUEST) => resolve_request(map),
        Some(RESOLVE_RESPONSE) => resolve_response(map),
        Some(PUSH) => push(map),
        _ => Err(Px1Error::UnknownType),
    }
}

/// The body of a frame. An absent peer is written as `null`, an absent PeerId as `undefined`, as existing
/// gateways do.
#[must_use]
pub fn encode(message: &Message) -> Vec<u8> {
    let mut writer;
    match message {
        Message::ResolveRequest {
            principal,
            request_id,
        } => {
            writer = Writer::map_of(3);
            writer.key("type").unsigned(1);
            writer.key("principal").text(principal);
            writer.key("requestId").text(request_id);
        }
        Message::ResolveResponse {
            request_id,
            peer,
            error,
        } => {
            writer = Writer::map_of(if error.is_some() { 4 } else { 3 });
            match peer {
                Some(peer) => write_peer(writer.key("peer"), peer),
                None => writer.key("peer").null(),
            }
            writer.key("type").unsigned(2);
            if let Some(error) = error {
                writer.key("error").text(error);
            }
            writer.key("requestId").text(request_id);
        }
        Message::Push { peers } => {
            writer = Writer::map_of(2);
            writer.key("type").unsigned(3);
            writer.key("peers").array(peers.len());
            for peer in peers {
                write_peer(&mut writer, peer);
            }
        }
    }
    writer.into_bytes()
}

/// Why a message was not understood. Without its content: it may be hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Px1Error {
    /// Longer than [`MAX_PX1_FRAME`].
    #[error("an address hint of {bytes} bytes, where {MAX_PX1_FRAME} are taken")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not CBOR as this profile reads it.
    #[error("not CBOR of this protocol: {0}")]
    Cbor(#[from] CborError),
    /// A message of another type, or without any.
    #[error("a message of an unknown type")]
    UnknownType,
    /// A field is missing, of another kind or too long.
    #[error("{field} is missing or out of range")]
    Field {
        /// The field's name.
        field: &'static str,
    },
}

fn write_peer(writer: &mut Writer, peer: &PeerInfo) {
    writer.map(4);
    match &peer.peer_id {
        Some(peer_id) => writer.key("peerId").text(peer_id),
        None => writer.key("peerId").undefined(),
    }
    writer.key("lastSeen").unsigned(peer.last_seen.0);
    writer.key("principal").text(&peer.principal);
    writer.key("multiaddrs").array(peer.multiaddrs.len());
    for address in &peer.multiaddrs {
        writer.text(address);
    }
}

fn resolve_request(map: Map<'_>) -> Result<Message, Px1Error> {
    let [principal, request_id] = map.pick(["principal", "requestId"]);
    Ok(Message::ResolveRequest {
        principal: name(principal).ok_or(Px1Error::Field { field: "principal" })?,
        request_id: name(request_id).ok_or(Px1Error::Field { field: "requestId" })?,
    })
}

fn resolve_response(map: Map<'_>) -> Result<Message, Px1Error> {
    let [request_id, peer, error] = map.pick(["requestId", "peer", "error"]);
    let text = |value: Value<'_>| Some(printable(&value.first_chars(MAX_ERROR_CHARS)?, MAX_ERROR_CHARS));
    Ok(Message::ResolveResponse {
        request_id: name(request_id).ok_or(Px1Error::Field { field: "requestId" })?,
        peer: peer.and_then(peer_info),
        error: error.and_then(text),
    })
}

fn push(map: Map<'_>) -> Result<Message, Px1Error> {
    let [peers] = map.pick(["peers"]);
    let peers = peers
        .and_then(Value::items)
        .ok_or(Px1Error::Field { field: "peers" })?;
    Ok(Message::Push {
        peers: peers.filter_map(peer_info).take(MAX_PEERS).collect(),
    })
}

fn peer_info(value: Value<'_>) -> Option<PeerInfo> {
    let [principal, multiaddrs, last_seen, peer_id] =
        value
            .map()?
            .pick(["principal", "multiaddrs", "lastSeen", "peerId"]);
    let address = |value: Value<'_>| {
        let text = value.text(MAX_MULTIADDR_BYTES)?;
        (!text.is_empty()).then(|| text.into_owned())
    };
    Some(PeerInfo {
        principal: name(principal)?,
        multiaddrs: multiaddrs
            .and_then(Value::items)?
            .filter_map(address)
            .take(MAX_MULTIADDRS)
            .collect(),
        last_seen: UnixMillis(
            last_seen
                .and_then(|time| time.clamped(MAX_TIMESTAMP.0))
                .unwrap_or_default(),
        ),
        peer_id: name(peer_id),
    })
}

fn name(value: Option<Value<'_>>) -> Option<String> {
    let text = value?.text(MAX_NAME_BYTES)?;
    (!text.is_empty()).then(|| text.into_owned())
}
