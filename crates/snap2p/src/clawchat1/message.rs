//! The messages of a session: one CBOR map each, told apart by `type`.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use clawchat_identity::AttestationParts;

use super::cbor::{self, CborError, Map, Value, Writer};
use super::{MAX_FRAME, VERSION, attestation};
use crate::ErrorCode;

const HELLO: u64 = 0x01;
const AUTH: u64 = 0x02;
const AUTH_OK: u64 = 0x03;
const AUTH_FAIL: u64 = 0x04;
const STREAM_DATA: u64 = 0x12;
const PING: u64 = 0x20;
const PONG: u64 = 0x21;

/// Longest nonce of a PING that is answered, in bytes. Existing peers use 16.
pub const MAX_PING_NONCE_BYTES: usize = 64;
/// Lengths of the nonce of a HELLO, in bytes. Existing peers use 16.
const HELLO_NONCE_BYTES: RangeInclusive<usize> = 8..=64;
/// Longest text of the handshake that is read, in bytes.
const MAX_TEXT_BYTES: usize = 128;
/// Longest reason of an AUTH_FAIL that is kept, in characters.
const MAX_REASON_CHARS: usize = 100;

/// The nonce of a PING, as it was received: at most [`MAX_PING_NONCE_BYTES`] bytes, or none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PingNonce(pub(super) Option<Vec<u8>>);

impl PingNonce {
    /// The bytes, if the PING had some.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }
}

impl From<[u8; 16]> for PingNonce {
    fn from(nonce: [u8; 16]) -> Self {
        Self(Some(nonce.to_vec()))
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Hello(Hello),
    Auth(Auth),
    AuthOk,
    AuthFail(AuthFail),
    StreamData(StreamData<'a>),
    Ping(PingNonce),
    Pong(PingNonce),
    /// Anything else that is CBOR: another type, or none that is a number.
    Unknown {
        kind: Option<u64>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) node_public_key: [u8; 32],
    pub(super) nonce: Vec<u8>,
    /// Unix seconds; 0 when there is none. Nothing depends on it.
    pub(super) timestamp: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Auth {
    pub(super) principal: String,
    pub(super) attestation: AttestationParts,
    /// The nonce of the sender's own HELLO.
    pub(super) session_nonce: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuthFail {
    pub(super) code: u16,
    /// Printable ASCII.
    pub(super) reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StreamData<'a> {
    pub(super) stream_id: u64,
    pub(super) fin: bool,
    pub(super) data: Cow<'a, [u8]>,
}

impl AuthFail {
    pub(super) fn of(code: ErrorCode) -> Self {
        Self {
            code: number_of(code),
            reason: code.to_string(),
        }
    }

    /// What it means: the name if it is one we know, else the number.
    pub(super) fn error_code(&self) -> ErrorCode {
        NAMED
            .into_iter()
            .find(|code| code.name() == self.reason)
            .unwrap_or_else(|| code_of(self.code))
    }
}

impl<'a> Message<'a> {
    /// Reads a frame's body.
    ///
    /// # Errors
    /// [`WireError`]; a type that is not known is none.
    pub(super) fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let Some(map) = cbor::read(body)?.map() else {
            return Ok(Self::Unknown { kind: None });
        };
        let [kind] = map.pick(["type"]);
        let kind = kind.and_then(unsigned);
        match kind {
            Some(HELLO) => hello(map).map(Self::Hello),
            Some(AUTH) => auth(map).map(Self::Auth),
            Some(AUTH_OK) => Ok(Self::AuthOk),
            Some(AUTH_FAIL) => Ok(Self::AuthFail(auth_fail(map))),
            Some(STREAM_DATA) => stream_data(map).map(Self::StreamData),
            Some(PING) => ping_nonce(map, PING).map(Self::Ping),
            Some(PONG) => ping_nonce(map, PONG).map(Self::Pong),
            kind => Ok(Self::Unknown { kind }),
        }
    }

    /// The body of a frame.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer;
        match self {
            Self::Hello(hello) => {
                writer = Writer::map_of(5);
                writer.key("type").unsigned(HELLO);
                writer.key("nonce").bytes(&hello.nonce);
                writer.key("version").unsigned(VERSION);
                writer.key("timestamp").integer(hello.timestamp);
                writer.key("nodePublicKey").bytes(&hello.node_public_key);
            }
            Self::Auth(auth) => {
                writer = Writer::map_of(4);
                writer.key("type").unsigned(AUTH);
                writer.key("principal").text(&auth.principal);
                attestation::write(writer.key("attestation"), &auth.attestation);
                writer.key("sessionNonce").bytes(&auth.session_nonce);
            }
            Self::AuthOk => {
                writer = Writer::map_of(1);
                writer.key("type").unsigned(AUTH_OK);
            }
            Self::AuthFail(fail) => {
                writer = Writer::map_of(3);
                writer.key("code").unsigned(fail.code.into());
                writer.key("type").unsigned(AUTH_FAIL);
                writer.key("reason").text(&fail.reason);
            }
            Self::StreamData(stream) => {
                writer = Writer::map_of(4);
                writer.key("fin").bool(stream.fin);
                writer.key("data").bytes(&stream.data);
                writer.key("type").unsigned(STREAM_DATA);
                writer.key("streamId").unsigned(stream.stream_id);
            }
            Self::Ping(nonce) => writer = sign_of_life(PING, nonce),
            Self::Pong(nonce) => writer = sign_of_life(PONG, nonce),
            Self::Unknown { kind } => {
                writer = Writer::map_of(1);
                writer.key("type").unsigned(kind.unwrap_or_default());
            }
        }
        writer.into_bytes()
    }
}

fn sign_of_life(kind: u64, nonce: &PingNonce) -> Writer {
    // A PING without a nonce leaves the key out; existing peers answer it with one that is undefined.
    let with_nonce = nonce.0.is_some() || kind == PONG;
    let mut writer = Writer::map_of(if with_nonce { 2 } else { 1 });
    writer.key("type").unsigned(kind);
    match &nonce.0 {
        Some(nonce) => writer.key("nonce").bytes(nonce),
        None if with_nonce => writer.key("nonce").undefined(),
        None => {}
    }
    writer
}

fn hello(map: Map<'_>) -> Result<Hello, WireError> {
    let [version, nonce, timestamp, key] = map.pick(["version", "nonce", "timestamp", "nodePublicKey"]);
    let field = |field| WireError::Field {
        message: HELLO,
        field,
    };
    let version = version.and_then(unsigned).ok_or(field("version"))?;
    if version != VERSION {
        return Err(WireError::Version { found: version });
    }
    let key = key.and_then(|key| key.bytes(32)).ok_or(field("nodePublicKey"))?;
    let nonce = nonce.and_then(|nonce| nonce.bytes(*HELLO_NONCE_BYTES.end()));
    Ok(Hello {
        node_public_key: key.as_ref().try_into().map_err(|_| field("nodePublicKey"))?,
        nonce: nonce
            .filter(|nonce| HELLO_NONCE_BYTES.contains(&nonce.len()))
            .ok_or(field("nonce"))?
            .into_owned(),
        timestamp: timestamp
            .and_then(|time| time.integer()?.try_into().ok())
            .unwrap_or_default(),
    })
}

fn auth(map: Map<'_>) -> Result<Auth, WireError> {
    let [principal, attestation, nonce] = map.pick(["principal", "attestation", "sessionNonce"]);
    let field = |field| WireError::Field { message: AUTH, field };
    Ok(Auth {
        principal: principal
            .and_then(|principal| principal.text(MAX_TEXT_BYTES))
            .ok_or(field("principal"))?
            .into_owned(),
        attestation: attestation
            .and_then(attestation::read)
            .ok_or(field("attestation"))?,
        session_nonce: nonce
            .and_then(|nonce| nonce.bytes(*HELLO_NONCE_BYTES.end()))
            .ok_or(field("sessionNonce"))?
            .into_owned(),
    })
}

fn auth_fail(map: Map<'_>) -> AuthFail {
    let [code, reason] = map.pick(["code", "reason"]);
    let reason = reason.and_then(|reason| reason.first_chars(MAX_REASON_CHARS));
    AuthFail {
        code: code
            .and_then(unsigned)
            .map_or(u16::MAX, |code| u16::try_from(code).unwrap_or(u16::MAX)),
        reason: printable(&reason.unwrap_or_default(), MAX_REASON_CHARS),
    }
}

fn stream_data(map: Map<'_>) -> Result<StreamData<'_>, WireError> {
    let [fin, data, stream_id] = map.pick(["fin", "data", "streamId"]);
    Ok(StreamData {
        stream_id: stream_id.and_then(unsigned).unwrap_or_default(),
        fin: matches!(fin, Some(Value::Bool(true))),
        data: data
            .and_then(|data| data.bytes(MAX_FRAME))
            .ok_or(WireError::Field {
                message: STREAM_DATA,
                field: "data",
            })?,
    })
}

fn ping_nonce(map: Map<'_>, message: u64) -> Result<PingNonce, WireError> {
    let [nonce] = map.pick(["nonce"]);
    let Some(nonce) = nonce.filter(|nonce| !matches!(nonce, Value::Null)) else {
        return Ok(PingNonce(None));
    };
    let bytes = nonce.bytes(MAX_PING_NONCE_BYTES).ok_or(WireError::Field {
        message,
        field: "nonce",
    })?;
    Ok(PingNonce(Some(bytes.into_owned())))
}

fn unsigned(value: Value<'_>) -> Option<u64> {
    value.integer()?.try_into().ok()
}

/// The beginning of a stranger's text, fit for a log line.
pub(super) fn printable(text: &str, max_chars: usize) -> String {
    let visible = |char: char| {
        if char == ' ' || char.is_ascii_graphic() {
            char
        } else {
            '?'
        }
    };
    text.chars().take(max_chars).map(visible).collect()
}

/// Every code with a name.
const NAMED: [ErrorCode; 12] = [
    ErrorCode::NoError,
    ErrorCode::AuthInvalid,
    ErrorCode::AuthExpired,
    ErrorCode::VersionUnsupported,
    ErrorCode::InviteRequired,
    ErrorCode::InviteInvalid,
    ErrorCode::NotAllowed,
    ErrorCode::RateLimited,
    ErrorCode::StreamRefused,
    ErrorCode::UnknownPrincipal,
    ErrorCode::ProtocolViolation,
    ErrorCode::Timeout,
];

/// The number of a code in this profile, which differs from the native one.
fn number_of(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::NoError => 0,
        ErrorCode::AuthInvalid => 1,
        ErrorCode::AuthExpired => 2,
        ErrorCode::VersionUnsupported => 3,
        ErrorCode::InviteRequired => 4,
        ErrorCode::InviteInvalid => 5,
        ErrorCode::NotAllowed => 6,
        ErrorCode::RateLimited => 7,
        ErrorCode::StreamRefused => 8,
        ErrorCode::UnknownPrincipal => 9,
        ErrorCode::ProtocolViolation => 10,
        ErrorCode::Timeout => 11,
        ErrorCode::Other(number) => number,
    }
}

fn code_of(number: u16) -> ErrorCode {
    let named = NAMED.get(usize::from(number)).copied();
    named.unwrap_or(ErrorCode::Other(number))
}

/// Why a message was not understood. Without its content: it may be hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Not CBOR as this profile reads it.
    #[error("not CBOR of this protocol: {0}")]
    Cbor(#[from] CborError),
    /// A HELLO of another version.
    #[error("version {found} instead of 1")]
    Version {
        /// The number found.
        found: u64,
    },
    /// A field is missing, of another kind or out of range.
    #[error("{field} of message type {message} is missing or out of range")]
    Field {
        /// The message type's number.
        message: u64,
        /// The field's name.
        field: &'static str,
    },
}

impl WireError {
    /// What the peer is told.
    #[must_use]
    pub fn wire_code(&self) -> ErrorCode {
        match self {
            Self::Cbor(_) | Self::Field { .. } => ErrorCode::ProtocolViolation,
            Self::Version { .. } => ErrorCode::VersionUnsupported,
        }
    }
}
