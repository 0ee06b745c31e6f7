//! Reading control messages, one behind the other.

use clawchat_identity::cbor;
use clawchat_types::Principal;
use serde::Deserialize;

use super::WireError;
use super::control::{
    AUTH, AUTH_FAIL, AUTH_OK, Auth, CLOSE, Control, DATA, GOODBYE, HELLO, Hello, KNOCK, Knock, NONCE_BYTES,
    OPEN, PING, PONG, WINDOW, is_label,
};
use super::encode::{MAJOR_BYTES, MAJOR_UINT, read_head};
use crate::ErrorCode;
use crate::limits::{
    MAX_CAPABILITIES, MAX_CAPABILITY_BYTES, MAX_DATA_BYTES, MAX_FRAME, TOKEN_BYTES, VERSION,
};

/// Reads a sequence of control messages, one after the other. Ends after the first error.
pub(crate) struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Parser<'a> {
    type Item = Result<Control<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (message, rest) = match read_data(self.rest) {
            Some((message, rest)) => (Ok(message), rest),
            None => match cbor::split_first(self.rest, MAX_FRAME) {
                Ok((item, rest)) => (read(item), rest),
                Err(_) => (Err(WireError::Cbor), [].as_slice()),
            },
        };
        self.rest = if message.is_ok() { rest } else { &[] };
        Some(message)
    }
}

/// Reads exactly one message.
pub(crate) fn read_one(bytes: &[u8]) -> Result<Control<'_>, WireError> {
    let mut parser = Parser::new(bytes);
    let message = parser.next().unwrap_or(Err(WireError::Cbor))?;
    match parser.next() {
        None => Ok(message),
        Some(second) => Err(second?.unexpected()),
    }
}

/// Reads DATA in its one spelling without fields of other versions: the hot path, without a second look.
fn read_data(bytes: &[u8]) -> Option<(Control<'_>, &[u8])> {
    let rest = bytes.strip_prefix(&[0xa3, 0x61, b'd'])?;
    let (length, rest) = read_head(rest, MAJOR_BYTES)?;
    let (data, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let (id, rest) = read_head(rest.strip_prefix(&[0x61, b'i'])?, MAJOR_UINT)?;
    let rest = rest.strip_prefix(&[0x61, b't', DATA as u8])?;
    let fits = (1..=MAX_DATA_BYTES).contains(&data.len());
    fits.then_some((Control::Data { id, bytes: data }, rest))
}

/// Reads one item in deterministic form.
fn read(item: &[u8]) -> Result<Control<'_>, WireError> {
    let TypeOnly { t } = cbor::from_canonical(item, MAX_FRAME).map_err(|error| {
        if error == cbor::CborError::Mismatch {
            WireError::Field { message: 0 }
        } else {
            WireError::Cbor
        }
    })?;
    let message = t;
    let field = WireError::Field { message };
    Ok(match t {
        HELLO => {
            check_version(item, message)?;
            Control::Hello(read_hello(body(item, message)?).ok_or(field)?)
        }
        AUTH => {
            let fields: AuthFields<'_> = body(item, message)?;
            Control::Auth(Auth {
                principal: fields.p,
                attestation: fields.a,
                initiator_nonce: nonce(fields.ni).ok_or(field)?,
                responder_nonce: nonce(fields.nr).ok_or(field)?,
            })
        }
        AUTH_OK => Control::AuthOk,
        AUTH_FAIL => Control::AuthFail {
            code: ErrorCode::from_number(body::<CodeFields>(item, message)?.c),
        },
        OPEN => {
            let OpenFields { i: id, l } = body(item, message)?;
            let label = l.unwrap_or_default();
            if !is_label(label) {
                return Err(field);
            }
            Control::Open { id, label }
        }
        CLOSE => {
            let CloseFields { i: id, c } = body(item, message)?;
            Control::Close {
                id,
                code: c.map(ErrorCode::from_number),
            }
        }
        DATA => {
            let DataFields { i: id, d } = body(item, message)?;
            if !(1..=MAX_DATA_BYTES).contains(&d.len()) {
                return Err(field);
            }
            Control::Data { id, bytes: d }
        }
        WINDOW => {
            let WindowFields { i: id, n: credit } = body(item, message)?;
            Control::Window { id, credit }
        }
        PING => Control::Ping {
            nonce: body::<NumberFields>(item, message)?.n,
        },
        PONG => Control::Pong {
            nonce: body::<NumberFields>(item, message)?.n,
        },
        KNOCK => {
            check_version(item, message)?;
            let fields: KnockFields<'_> = body(item, message)?;
            if !TOKEN_BYTES.contains(&fields.k.len()) {
                return Err(field);
            }
            Control::Knock(Knock {
                nonce: nonce(fields.n).ok_or(field)?,
                token: fields.k,
            })
        }
        GOODBYE => Control::Goodbye {
            code: ErrorCode::from_number(body::<CodeFields>(item, message)?.c),
        },
        found => return Err(WireError::UnknownType { found }),
    })
}

fn body<'a, T: Deserialize<'a>>(item: &'a [u8], message: u64) -> Result<T, WireError> {
    cbor::from_slice_limited(item, MAX_FRAME).map_err(|_| WireError::Field { message })
}

/// Another version may have other fields, so its number is looked at first.
fn check_version(item: &[u8], message: u64) -> Result<(), WireError> {
    match body::<VersionOnly>(item, message)?.v {
        VERSION => Ok(()),
        found => Err(WireError::Version { found }),
    }
}

fn read_hello(fields: HelloFields<'_>) -> Option<Hello> {
    let fit = fields.cap.len() <= MAX_CAPABILITIES
        && fields.cap.iter().all(|text| text.len() <= MAX_CAPABILITY_BYTES);
    Some(Hello {
        nonce: nonce(fields.n)?,
        target: fields.to,
        capabilities: fit.then_some(fields.cap)?,
    })
}

fn nonce(bytes: &[u8]) -> Option<[u8; NONCE_BYTES]> {
    bytes.try_into().ok()
}

#[derive(Deserialize)]
struct TypeOnly {
    t: u64,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u64,
}

#[derive(Deserialize)]
struct HelloFields<'a> {
    #[serde(with = "serde_bytes")]
    n: &'a [u8],
    #[serde(default)]
    to: Option<Principal>,
    #[serde(default)]
    cap: Vec<String>,
}

#[derive(Deserialize)]
struct AuthFields<'a> {
    #[serde(with = "serde_bytes")]
    a: &'a [u8],
    p: Principal,
    #[serde(with = "serde_bytes")]
    ni: &'a [u8],
    #[serde(with = "serde_bytes")]
    nr: &'a [u8],
}

#[derive(Deserialize)]
struct CodeFields {
    c: u16,
}

#[derive(Deserialize)]
struct OpenFields<'a> {
    i: u64,
    #[serde(default)]
    l: Option<&'a str>,
}

#[derive(Deserialize)]
struct CloseFields {
    i: u64,
    #[serde(default)]
    c: Option<u16>,
}

#[derive(Deserialize)]
struct DataFields<'a> {
    i: u64,
    #[serde(with = "serde_bytes")]
    d: &'a [u8],
}

#[derive(Deserialize)]
struct WindowFields {
    i: u64,
    n: u64,
}

#[derive(Deserialize)]
struct NumberFields {
    n: u64,
}

#[derive(Deserialize)]
struct KnockFields<'a> {
    #[serde(with = "serde_bytes")]
    k: &'a [u8],
    #[serde(with = "serde_bytes")]
    n: &'a [u8],
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages() -> impl Strategy<Value = Vec<u8>> {
        let id = any::<u64>();
        let code = any::<u16>().prop_map(ErrorCode::from_number);
        prop_oneof![
            (
                any::<[u8; 32]>(),
                prop::option::of(any::<[u8; 20]>()),
                prop::collection::vec("[a-z/0-9]{1,32}", 0..4)
            )
                .prop_map(|(nonce, hash, capabilities)| {
                    let target =
                        hash.map(|hash| Principal::from_hash160(clawchat_types::Network::Testnet, hash));
                    Control::Hello(Hello {
                        nonce,
                        target,
                        capabilities,
                    })
                    .to_vec()
                }),
            (
                any::<[u8; 32]>(),
                any::<[u8; 20]>(),
                prop::collection::vec(any::<u8>(), 0..600)
            )
                .prop_map(|(nonce, hash, attestation)| Control::Auth(Auth {
                    principal: Principal::from_hash160(clawchat_types::Network::Mainnet, hash),
                    attestation: &attestation,
                    initiator_nonce: nonce,
                    responder_nonce: [9; 32],
                })
                .to_vec()),
            (id, "[!-~]{0,64}").prop_map(|(id, label)| Control::Open { id, label: &label }.to_vec()),
            (id, prop::option::of(code.clone())).prop_map(|(id, code)| Control::Close { id, code }.to_vec()),
            (id, prop::collection::vec(any::<u8>(), 1..700)).prop_map(|(id, bytes)| Control::Data {
                id,
                bytes: &bytes
            }
            .to_vec()),
            (id, any::<u64>()).prop_map(|(id, credit)| Control::Window { id, credit }.to_vec()),
            any::<u64>().prop_map(|nonce| Control::Ping { nonce }.to_vec()),
            any::<u64>().prop_map(|nonce| Control::Pong { nonce }.to_vec()),
            (any::<[u8; 32]>(), prop::collection::vec(any::<u8>(), TOKEN_BYTES))
                .prop_map(|(nonce, token)| Control::Knock(Knock { nonce, token: &token }).to_vec()),
            code.clone().prop_map(|code| Control::AuthFail { code }.to_vec()),
            code.prop_map(|code| Control::Goodbye { code }.to_vec()),
            Just(Control::AuthOk.to_vec()),
        ]
    }

    #[test]
    fn unknown_fields_are_ignored_even_where_another_message_has_one_of_that_name() {
        // PING with d: -1 and zz: [null].
        let bytes = hex::decode("a46164206e0061741820627a7a81f6".replace("6e00", "616e07")).unwrap();
        assert_eq!(read_one(&bytes), Ok(Control::Ping { nonce: 7 }));
        // DATA with one field more than this version writes.
        let bytes = hex::decode("a461644178616903617412617aa0").unwrap();
        assert_eq!(read_one(&bytes), Ok(Control::Data { id: 3, bytes: b"x" }));
    }

    #[test]
    fn messages_out_of_form_are_refused() {
        for (name, bytes, error) in [
            ("nothing", "", WireError::Cbor),
            ("not a map", "00", WireError::Field { message: 0 }),
            ("no type", "a0", WireError::Field { message: 0 }),
            ("same key twice", "a2617403617403", WireError::Cbor),
            ("long integer", "a161741803", WireError::Cbor),
            ("keys out of order", "a2617404616300", WireError::Cbor),
            ("indefinite map", "bf617403ff", WireError::Cbor),
            ("unknown type", "a161740a", WireError::UnknownType { found: 10 }),
            ("cut short", "a161", WireError::Cbor),
            (
                "two where one is due",
                "a1617403a1617403",
                WireError::Unexpected { message: 3 },
            ),
            (
                "code above 16 bits",
                "a261631a00010000617404",
                WireError::Field { message: 4 },
            ),
            (
                "empty DATA",
                "a3616440616901617412",
                WireError::Field { message: DATA },
            ),
            (
                "label with a space",
                "a3616901616c6120617410",
                WireError::Field { message: OPEN },
            ),
        ] {
            assert_eq!(read_one(&hex::decode(bytes).unwrap()), Err(error), "{name}");
        }
        let long = Control::Data {
            id: 1,
            bytes: &[0; MAX_DATA_BYTES + 1],
        }
        .to_vec();
        assert_eq!(read_one(&long), Err(WireError::Field { message: DATA }));
        let deep = [[0xa2, 0x61, b't', 3, 0x61, b'z'].as_slice(), &[0x81; 40], &[0]].concat();
        assert_eq!(read_one(&deep), Err(WireError::Cbor));
    }

    #[test]
    fn another_version_is_named_whatever_its_other_fields_are() {
        let bytes = hex::decode("a2617401617603").unwrap();
        assert_eq!(read_one(&bytes), Err(WireError::Version { found: 3 }));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_written_again(items in prop::collection::vec(messages(), 1..8)) {
            let bytes = items.concat();
            let mut again = Vec::new();
            for message in Parser::new(&bytes) {
                message.unwrap().write(&mut again);
            }
            prop_assert_eq!(again, bytes);
        }

        #[test]
        fn the_fast_path_reads_what_the_slow_path_reads(
            bytes in messages(), cut in any::<prop::sample::Index>(), with in any::<u8>(),
        ) {
            let mut bytes = bytes;
            let at = cut.index(bytes.len());
            bytes[at] = with;
            if let Some((fast, rest)) = read_data(&bytes) {
                let item = &bytes[..bytes.len() - rest.len()];
                prop_assert_eq!(read(item), Ok(fast));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Parser::new(&bytes).count() <= bytes.len());
            let _ = read_one(&bytes);
        }

        #[test]
        fn damaged_messages_never_panic(
            bytes in messages(), at in any::<prop::sample::Index>(), with in any::<u8>(), keep in any::<prop::sample::Index>(),
        ) {
            let mut bytes = bytes;
            let at = at.index(bytes.len());
            bytes[at] = with;
            let keep = keep.index(bytes.len()) + 1;
            let _ = read_one(&bytes[..keep]);
            let _ = read_one(&bytes);
        }
    }
}
