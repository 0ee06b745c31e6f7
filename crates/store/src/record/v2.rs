//! The record of a peer with what invites and alias cards brought. Frozen, as version 1 is.

use bincode::de::{Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};

use super::v1::PeerV1;

/// The first byte of a [`PeerV2`]. A [`PeerV1`] begins with the version byte of a principal, 22 or 26.
const MARK: u8 = 2;

/// What version 1 holds, and more.
pub(crate) struct PeerV2 {
    pub(crate) known: PeerV1,
    pub(crate) knock: Option<[u8; 32]>,
    pub(crate) alias_card: Option<Vec<u8>>,
}

/// A value of tree `peers`: one with nothing of version 2 in it is written as version 1.
impl Encode for PeerV2 {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        if self.knock.is_none() && self.alias_card.is_none() {
            return self.known.encode(encoder);
        }
        MARK.encode(encoder)?;
        self.known.encode(encoder)?;
        self.knock.encode(encoder)?;
        self.alias_card.encode(encoder)
    }
}

impl<C> Decode<C> for PeerV2 {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let first = u8::decode(decoder)?;
        if first == MARK {
            return Ok(Self {
                known: PeerV1::decode(decoder)?,
                knock: Option::decode(decoder)?,
                alias_card: Option::decode(decoder)?,
            });
        }
        let mut principal = [0; 21];
        let [version, hash @ ..] = &mut principal;
        *version = first;
        *hash = <[u8; 20]>::decode(decoder)?;
        Ok(Self {
            // Field by field, in the order of the struct: its first byte is taken already.
            known: PeerV1 {
                principal,
                alias: Option::decode(decoder)?,
                locators: Vec::decode(decoder)?,
                last_seen: Option::decode(decoder)?,
                added: bool::decode(decoder)?,
                attestation: Option::decode(decoder)?,
                node_id: Option::decode(decoder)?,
                peer_id: Option::decode(decoder)?,
                protocol_pin: Option::decode(decoder)?,
            },
            knock: None,
            alias_card: None,
        })
    }
}
