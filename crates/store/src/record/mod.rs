//! Between what is remembered and the bytes on disk. The only file that names bincode beside the frozen structs.

pub(crate) mod channel_v1;
pub(crate) mod v1;
pub(crate) mod v2;

use bincode::config;
use clawchat_types::{
    Content, InviteToken, Message, MessageId, Nick, NodeId, OutboundStatus, Payload, Principal, UnixMillis,
};

use crate::write::{MAX_RECORD_BYTES, cut_error};
use crate::{AttemptState, InboxEntry, OutboxEntry, PeerRecord, Proof};

use v1::{AttemptV1, ConversationV1, InboxV1, MessageV1, OutboxV1, PeerV1, ProofV1, StateV1};
use v2::PeerV2;

/// Records up to this length, in bytes, are decoded under the small limit.
const SMALL_RECORD_BYTES: usize = 64 * 1024;
/// What decoding a small record may allocate, in bytes.
const SMALL_LIMIT: usize = 2 * SMALL_RECORD_BYTES;
/// What decoding any record may allocate, in bytes.
const LARGE_LIMIT: usize = MAX_RECORD_BYTES + SMALL_LIMIT;

/// A record that cannot be read. `&'static str` says what does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordError(pub(crate) &'static str);

/// A struct of a record.
pub(crate) trait Record: bincode::Encode + bincode::Decode<()> {}

impl Record for InboxV1 {}
impl Record for OutboxV1 {}
impl Record for StateV1 {}
impl Record for ConversationV1 {}
impl Record for PeerV1 {}
impl Record for PeerV2 {}
impl Record for v1::MetaV1 {}
impl Record for channel_v1::BlockV1 {}
impl Record for channel_v1::ChannelV1 {}
impl Record for channel_v1::RunV1 {}
impl Record for channel_v1::CursorV1 {}
impl Record for channel_v1::KeyV1 {}

pub(crate) fn encode<R: Record>(record: &R) -> Result<Vec<u8>, RecordError> {
    bincode::encode_to_vec(record, config::standard()).map_err(|_| RecordError("cannot be encoded"))
}

/// Reads one record that fills `bytes` exactly.
pub(crate) fn decode<R: Record>(bytes: &[u8]) -> Result<R, RecordError> {
    let decoded = if bytes.len() <= SMALL_RECORD_BYTES {
        bincode::decode_from_slice(bytes, config::standard().with_limit::<SMALL_LIMIT>())
    } else {
        bincode::decode_from_slice(bytes, config::standard().with_limit::<LARGE_LIMIT>())
    };
    let (record, used): (R, usize) = decoded.map_err(|_| RecordError("cannot be decoded"))?;
    if used != bytes.len() {
        return Err(RecordError("has bytes left over"));
    }
    Ok(record)
}

/// The first field of an inbox record, from its beginning.
pub(crate) fn decode_received_at(bytes: &[u8]) -> Result<UnixMillis, RecordError> {
    /// A varint has at most 9 bytes.
    const LIMIT: usize = 16;
    bincode::decode_from_slice(bytes, config::standard().with_limit::<LIMIT>())
        .map(|(millis, _)| UnixMillis(millis))
        .map_err(|_| RecordError("has no time"))
}

impl From<Message> for MessageV1 {
    fn from(message: Message) -> Self {
        Self {
            id: *message.id.as_bytes(),
            from: message.from.to_bytes(),
            to: message.to.to_bytes(),
            timestamp: message.timestamp.0,
            sequence: message.sequence,
            from_nick: message.from_nick.map(|nick| nick.as_str().to_owned()),
            content_type: message.content_type,
            content: message.content.as_str().to_owned(),
            payload: message.payload.map(|payload| payload.as_str().to_owned()),
            reply_to: message.reply_to.map(|id| *id.as_bytes()),
            expires_at: message.expires_at.0,
        }
    }
}

impl TryFrom<MessageV1> for Message {
    type Error = RecordError;

    fn try_from(record: MessageV1) -> Result<Self, RecordError> {
        let nick = |text: String| {
            text.parse::<Nick>()
                .map_err(|_| RecordError("has a bad nickname"))
        };
        Ok(Self {
            id: MessageId::new(record.id),
            from: principal(&record.from)?,
            to: principal(&record.to)?,
            timestamp: UnixMillis(record.timestamp),
            sequence: record.sequence,
            from_nick: record.from_nick.map(nick).transpose()?,
            content_type: record.content_type,
            content: Content::new(record.content).map_err(|_| RecordError("has a content too large"))?,
            payload: record
                .payload
                .map(Payload::new)
                .transpose()
                .map_err(|_| RecordError("has a payload too large"))?,
            reply_to: record.reply_to.map(MessageId::new),
            expires_at: UnixMillis(record.expires_at),
        })
    }
}

impl StateV1 {
    /// What a message begins with: nothing has been noted about it.
    pub(crate) fn first(message: &MessageV1) -> Self {
        Self {
            to: message.to,
            sequence: message.sequence,
            expires_at: message.expires_at,
            status: status_code(OutboundStatus::Pending),
            attempts: 0,
            last_error: None,
            updated_at: message.timestamp,
        }
    }
}

pub(crate) fn inbox_record(message: Message, proof: Option<Proof>, received_at: UnixMillis) -> InboxV1 {
    InboxV1 {
        received_at: received_at.0,
        message: message.into(),
        proof: proof.map(|proof| ProofV1 {
            node_id: *proof.node_id.as_bytes(),
            signature: proof.signature,
            envelope: proof.envelope,
        }),
    }
}

pub(crate) fn inbox_entry(arrival: u64, record: InboxV1, unread: bool) -> Result<InboxEntry, RecordError> {
    Ok(InboxEntry {
        arrival,
        received_at: UnixMillis(record.received_at),
        message: record.message.try_into()?,
        proof: record.proof.map(|proof| Proof {
            envelope: proof.envelope,
            signature: proof.signature,
            node_id: NodeId::new(proof.node_id),
        }),
        unread,
    })
}

pub(crate) fn outbox_entry(
    position: u64,
    record: OutboxV1,
    state: StateV1,
) -> Result<OutboxEntry, RecordError> {
    let message: Message = record.message.try_into()?;
    if message.to.to_bytes() != state.to || message.sequence != state.sequence {
        return Err(RecordError("does not belong to its state"));
    }
    Ok(OutboxEntry {
        position,
        message,
        status: status(state.status)?,
        attempts: state.attempts,
        last_error: state.last_error,
        updated_at: UnixMillis(state.updated_at),
    })
}

pub(crate) fn status_code(status: OutboundStatus) -> u8 {
    match status {
        OutboundStatus::Pending => 0,
        OutboundStatus::Sent => 1,
        OutboundStatus::Delivered => 2,
        OutboundStatus::Failed => 3,
    }
}

pub(crate) fn status(code: u8) -> Result<OutboundStatus, RecordError> {
    match code {
        0 => Ok(OutboundStatus::Pending),
        1 => Ok(OutboundStatus::Sent),
        2 => Ok(OutboundStatus::Delivered),
        3 => Ok(OutboundStatus::Failed),
        _ => Err(RecordError("has an unknown status")),
    }
}

pub(crate) fn attempt_record(attempts: u32, last_error: Option<String>, at: UnixMillis) -> AttemptV1 {
    AttemptV1 {
        attempts,
        last_error: cut_error(last_error),
        at: at.0,
    }
}

pub(crate) fn attempt_state(record: ConversationV1) -> Result<Option<AttemptState>, RecordError> {
    let to = principal(&record.peer)?;
    Ok(record.attempt.map(|attempt| AttemptState {
        to,
        attempts: attempt.attempts,
        last_error: attempt.last_error,
        at: UnixMillis(attempt.at),
    }))
}

pub(crate) fn peer_record(peer: PeerRecord) -> PeerV2 {
    let known = PeerV1 {
        principal: peer.principal.to_bytes(),
        alias: peer.alias,
        locators: peer
            .locators
            .iter()
            .map(|locator| locator.as_str().to_owned())
            .collect(),
        last_seen: peer.last_seen.map(|time| time.0),
        added: peer.added,
        attestation: peer.attestation,
        node_id: peer.node_id.map(|id| *id.as_bytes()),
        peer_id: peer.peer_id.map(|id| id.as_str().to_owned()),
        protocol_pin: peer.protocol_pin,
    };
    PeerV2 {
        known,
        knock: peer.knock.map(|token| *token.as_bytes()),
        alias_card: peer.alias_card,
    }
}

pub(crate) fn peer(record: PeerV2) -> Result<PeerRecord, RecordError> {
    let PeerV2 {
        known: record,
        knock,
        alias_card,
    } = record;
    let locators = record
        .locators
        .iter()
        .map(|text| text.parse())
        .collect::<Result<Vec<_>, _>>();
    let peer_id = record.peer_id.map(|text| text.parse()).transpose();
    Ok(PeerRecord {
        principal: principal(&record.principal)?,
        alias: record.alias,
        locators: locators.map_err(|_| RecordError("has a bad address"))?,
        last_seen: record.last_seen.map(UnixMillis),
        added: record.added,
        attestation: record.attestation,
        node_id: record.node_id.map(NodeId::new),
        peer_id: peer_id.map_err(|_| RecordError("has a bad peer id"))?,
        protocol_pin: record.protocol_pin,
        knock: knock.map(InviteToken::new),
        alias_card,
    })
}

pub(crate) fn principal(bytes: &[u8; Principal::BYTES]) -> Result<Principal, RecordError> {
    Principal::from_bytes(bytes).map_err(|_| RecordError("names no principal"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OutboundDraft;
    use clawchat_types::Network;
    use proptest::prelude::*;

    fn message() -> Message {
        let principal = |byte| Principal::from_hash160(Network::Testnet, [byte; 20]);
        OutboundDraft {
            id: MessageId::new([1; 16]),
            from: principal(2),
            to: principal(3),
            timestamp: UnixMillis(1_700_000_000_000),
            from_nick: Some("al".parse().unwrap()),
            content_type: "text/plain".to_owned(),
            content: Content::new("hé").unwrap(),
            payload: Some(Payload::new("{}").unwrap()),
            reply_to: Some(MessageId::new([4; 16])),
            expires_at: UnixMillis(1_700_604_800_000),
        }
        .into_message(300)
    }

    const MESSAGE: &str = "010101010101010101010101010101011a02020202020202020202020202020202020202021a0303030303030303\
        030303030303030303030303fd0068e5cf8b010000fb2c010102616c0a746578742f706c61696e0368c3a901027b7d0104040404040404\
        040404040404040404fd00ecf1f38b010000";

    /// These bytes are on people's disks. A change here means that they cannot be read any more.
    #[test]
    fn records_are_coded_as_they_always_were() {
        let proof = Proof {
            envelope: vec![5, 6],
            signature: [7; 64],
            node_id: NodeId::new([8; 32]),
        };
        let inbox = inbox_record(message(), Some(proof), UnixMillis(255));
        let state = StateV1 {
            to: [9; 21],
            sequence: 1,
            expires_at: 251,
            status: status_code(OutboundStatus::Failed),
            attempts: 70_000,
            last_error: Some("no".to_owned()),
            updated_at: 0,
        };
        let attempt = Some(attempt_record(2, None, UnixMillis(3)));
        let conversation = ConversationV1 {
            peer: [1; 21],
            sequence: 2,
            open: 1,
            attempt,
        };
        let peer = PeerV1 {
            principal: [1; 21],
            alias: Some("a".to_owned()),
            locators: vec!["/ip4/1.2.3.4/tcp/5".to_owned()],
            last_seen: Some(6),
            added: true,
            attestation: Some(vec![7]),
            node_id: None,
            peer_id: Some("12D3".to_owned()),
            protocol_pin: Some(2),
        };
        let meta = v1::MetaV1 {
            commit: 1,
            last_received_at: 2,
            counts: vec![3; 11],
            digest: [4; 16],
        };
        let ones = "01".repeat(21);
        for (found, expected) in [
            (
                encode(&OutboxV1 {
                    message: message().into(),
                }),
                MESSAGE.to_owned(),
            ),
            (
                encode(&inbox),
                format!("fbff00{MESSAGE}01{}{}020506", "08".repeat(32), "07".repeat(64)),
            ),
            (
                encode(&state),
                format!("{}01fbfb0003fc7011010001026e6f00", "09".repeat(21)),
            ),
            (encode(&conversation), format!("{ones}020101020003")),
            (
                encode(&peer),
                format!("{ones}01016101122f6970342f312e322e332e342f7463702f35010601010107000104313244330102"),
            ),
            (
                encode(&meta),
                format!("01020b{}{}", "03".repeat(11), "04".repeat(16)),
            ),
        ] {
            assert_eq!(hex::encode(found.unwrap()), expected);
        }
    }

    #[test]
    fn records_survive_the_round_trip_and_no_change_of_length() {
        let bytes = encode(&inbox_record(message(), None, UnixMillis(77))).unwrap();
        let entry = inbox_entry(1, decode(&bytes).unwrap(), true).unwrap();
        assert_eq!((entry.message, entry.received_at), (message(), UnixMillis(77)));
        assert_eq!(decode_received_at(&bytes), Ok(UnixMillis(77)));
        for length in 0..bytes.len() {
            assert!(decode::<InboxV1>(&bytes[..length]).is_err(), "cut at {length}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(
            decode::<InboxV1>(&longer).err(),
            Some(RecordError("has bytes left over"))
        );
    }

    #[test]
    fn peers_of_both_versions_are_read() {
        let plain = PeerRecord {
            alias: Some("a".to_owned()),
            locators: vec!["/ip4/1.2.3.4/tcp/5".parse().unwrap()],
            ..PeerRecord::new(Principal::from_hash160(Network::Testnet, [1; 20]))
        };
        let invited = PeerRecord {
            knock: Some(InviteToken::new([5; 32])),
            alias_card: Some(vec![6, 7]),
            ..plain.clone()
        };
        let old = encode(&peer_record(plain.clone()).known).unwrap();
        assert_eq!(
            encode(&peer_record(plain.clone())).unwrap(),
            old,
            "as it always was"
        );
        assert_eq!(peer(decode(&old).unwrap()), Ok(plain));
        let new = encode(&peer_record(invited.clone())).unwrap();
        let expected = format!("02{}01{}01020607", hex::encode(&old), "05".repeat(32));
        assert_eq!(hex::encode(&new), expected);
        assert_eq!(peer(decode(&new).unwrap()), Ok(invited));
        for length in 0..new.len() {
            assert!(decode::<PeerV2>(&new[..length]).is_err(), "cut at {length}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode::<OutboxV1>(&bytes).map(|record| Message::try_from(record.message));
            let _ = decode::<InboxV1>(&bytes).map(|record| inbox_entry(1, record, true));
            let _ = decode::<StateV1>(&bytes).map(|record| status(record.status));
            let _ = decode::<ConversationV1>(&bytes).map(attempt_state);
            let _ = decode::<PeerV2>(&bytes).map(peer);
            let _ = decode::<v1::MetaV1>(&bytes);
            let _ = decode_received_at(&bytes);
        }

        #[test]
        fn lengths_from_nowhere_allocate_nothing(length in any::<u64>(), tail in any::<[u8; 8]>()) {
            // An envelope that claims to be long: refused before there is room made for it.
            let message = hex::decode(MESSAGE).unwrap();
            let mut bytes = [[0].as_slice(), &message, &[1], &[8; 32], &[7; 64], &[0xfd]].concat();
            bytes.extend_from_slice(&length.max(9).to_le_bytes());
            bytes.extend_from_slice(&tail);
            prop_assert!(decode::<InboxV1>(&bytes).is_err());
        }
    }
}
