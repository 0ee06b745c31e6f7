//! Control messages: what they are, and their bytes: maps with short text keys in deterministic CBOR (RFC 8949
//! §4.2.1).

use clawchat_types::Principal;

use super::WireError;
use super::encode::{Value, write_map};
use crate::ErrorCode;
use crate::limits::{MAX_LABEL_BYTES, VERSION};

/// Length of the handshake nonces, in bytes.
pub(crate) const NONCE_BYTES: usize = 32;

pub(super) const HELLO: u64 = 0x01;
pub(super) const AUTH: u64 = 0x02;
pub(super) const AUTH_OK: u64 = 0x03;
pub(super) const AUTH_FAIL: u64 = 0x04;
pub(super) const OPEN: u64 = 0x10;
pub(super) const CLOSE: u64 = 0x11;
pub(super) const DATA: u64 = 0x12;
pub(super) const WINDOW: u64 = 0x13;
pub(super) const PING: u64 = 0x20;
pub(super) const PONG: u64 = 0x21;
pub(super) const KNOCK: u64 = 0x30;
pub(super) const GOODBYE: u64 = 0xff;

/// One control message. Fields are checked for kind and range; whether they make sense is the reader's matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Control<'a> {
    Hello(Hello),
    Auth(Auth<'a>),
    AuthOk,
    AuthFail { code: ErrorCode },
    Open { id: u64, label: &'a str },
    Close { id: u64, code: Option<ErrorCode> },
    Data { id: u64, bytes: &'a [u8] },
    Window { id: u64, credit: u64 },
    Ping { nonce: u64 },
    Pong { nonce: u64 },
    Knock(Knock<'a>),
    Goodbye { code: ErrorCode },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) nonce: [u8; NONCE_BYTES],
    pub(crate) target: Option<Principal>,
    /// Optional features of its sender. This version has none to name, and has no use for a peer's.
    pub(crate) capabilities: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Auth<'a> {
    pub(crate) principal: Principal,
    pub(crate) attestation: &'a [u8],
    pub(crate) initiator_nonce: [u8; NONCE_BYTES],
    pub(crate) responder_nonce: [u8; NONCE_BYTES],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Knock<'a> {
    pub(crate) nonce: [u8; NONCE_BYTES],
    pub(crate) token: &'a [u8],
}

impl<'a> Control<'a> {
    /// The message type's number.
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::Hello(_) => HELLO,
            Self::Auth(_) => AUTH,
            Self::AuthOk => AUTH_OK,
            Self::AuthFail { .. } => AUTH_FAIL,
            Self::Open { .. } => OPEN,
            Self::Close { .. } => CLOSE,
            Self::Data { .. } => DATA,
            Self::Window { .. } => WINDOW,
            Self::Ping { .. } => PING,
            Self::Pong { .. } => PONG,
            Self::Knock(_) => KNOCK,
            Self::Goodbye { .. } => GOODBYE,
        }
    }

    /// The error of a reader that has no use for this message.
    pub(crate) fn unexpected(&self) -> WireError {
        WireError::Unexpected {
            message: self.number(),
        }
    }

    /// The HELLO that is due.
    pub(crate) fn hello(self) -> Result<Hello, WireError> {
        let Self::Hello(hello) = self else {
            return Err(self.unexpected());
        };
        Ok(hello)
    }

    /// The AUTH that is due.
    pub(crate) fn auth(self) -> Result<Auth<'a>, WireError> {
        let Self::Auth(auth) = self else {
            return Err(self.unexpected());
        };
        Ok(auth)
    }

    /// The AUTH_OK that is due.
    pub(crate) fn auth_ok(self) -> Result<(), WireError> {
        let Self::AuthOk = self else {
            return Err(self.unexpected());
        };
        Ok(())
    }

    /// The KNOCK that is due.
    pub(crate) fn knock(self) -> Result<Knock<'a>, WireError> {
        let Self::Knock(knock) = self else {
            return Err(self.unexpected());
        };
        Ok(knock)
    }

    /// The code, if this is an AUTH_FAIL.
    pub(crate) fn refusal(&self) -> Option<ErrorCode> {
        let Self::AuthFail { code } = self else {
            return None;
        };
        Some(*code)
    }

    /// Appends the encoding.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let t = ("t", Value::Uint(self.number()));
        // Keys in the bytewise order of their encodings: by length, then by letter.
        match self {
            Self::Hello(hello) => {
                let target = hello.target.map(|target| target.to_string());
                let mut entries = vec![("n", Value::Bytes(&hello.nonce)), t, ("v", Value::Uint(VERSION))];
                if let Some(target) = &target {
                    entries.push(("to", Value::Text(target)));
                }
                if !hello.capabilities.is_empty() {
                    entries.push(("cap", Value::Texts(&hello.capabilities)));
                }
                write_map(out, &entries);
            }
            Self::Auth(auth) => write_map(
                out,
                &[
                    ("a", Value::Bytes(auth.attestation)),
                    ("p", Value::Text(&auth.principal.to_string())),
                    t,
                    ("ni", Value::Bytes(&auth.initiator_nonce)),
                    ("nr", Value::Bytes(&auth.responder_nonce)),
                ],
            ),
            Self::AuthOk => write_map(out, &[t]),
            Self::AuthFail { code } | Self::Goodbye { code } => {
                write_map(out, &[("c", Value::Uint(code.number().into())), t]);
            }
            Self::Open { id, label: "" } => write_map(out, &[("i", Value::Uint(*id)), t]),
            Self::Open { id, label } => {
                write_map(out, &[("i", Value::Uint(*id)), ("l", Value::Text(label)), t]);
            }
            Self::Close { id, code: None } => write_map(out, &[("i", Value::Uint(*id)), t]),
            Self::Close { id, code: Some(code) } => {
                let code = ("c", Value::Uint(code.number().into()));
                write_map(out, &[code, ("i", Value::Uint(*id)), t]);
            }
            Self::Data { id, bytes } => write_data(out, *id, bytes),
            Self::Window { id, credit } => {
                write_map(out, &[("i", Value::Uint(*id)), ("n", Value::Uint(*credit)), t]);
            }
            Self::Ping { nonce } | Self::Pong { nonce } => {
                write_map(out, &[("n", Value::Uint(*nonce)), t]);
            }
            Self::Knock(knock) => write_map(
                out,
                &[
                    ("k", Value::Bytes(knock.token)),
                    ("n", Value::Bytes(&knock.nonce)),
                    t,
                    ("v", Value::Uint(VERSION)),
                ],
            ),
        }
    }

    /// The encoding alone.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

/// Appends a DATA message. `bytes` must not be empty or longer than [`crate::MAX_DATA_BYTES`].
pub(crate) fn write_data(out: &mut Vec<u8>, id: u64, bytes: &[u8]) {
    write_map(
        out,
        &[
            ("d", Value::Bytes(bytes)),
            ("i", Value::Uint(id)),
            ("t", Value::Uint(DATA)),
        ],
    );
}

/// Most bytes a DATA message is longer than its data.
pub(crate) const DATA_HEAD: usize = 1 + 2 + 3 + 2 + 9 + 3;

/// Whether a text can label a stream: at most [`MAX_LABEL_BYTES`] visible ASCII characters, or nothing.
pub(crate) fn is_label(label: &str) -> bool {
    label.len() <= MAX_LABEL_BYTES && label.bytes().all(|b| b.is_ascii_graphic())
}
