//! Records as format version 1 writes them. Frozen: these structs never change; a new field means a new version
//! in a file of its own, and a reader for both.

use bincode::{Decode, Encode};

/// A message. `stacks:` principals as version byte and hash.
#[derive(Encode, Decode)]
pub(crate) struct MessageV1 {
    pub(crate) id: [u8; 16],
    pub(crate) from: [u8; 21],
    pub(crate) to: [u8; 21],
    pub(crate) timestamp: u64,
    pub(crate) sequence: u64,
    pub(crate) from_nick: Option<String>,
    pub(crate) content_type: String,
    pub(crate) content: String,
    pub(crate) payload: Option<String>,
    pub(crate) reply_to: Option<[u8; 16]>,
    pub(crate) expires_at: u64,
}

/// A value of tree `inbox`. `received_at` comes first so that it can be read alone.
#[derive(Encode, Decode)]
pub(crate) struct InboxV1 {
    pub(crate) received_at: u64,
    pub(crate) message: MessageV1,
    pub(crate) proof: Option<ProofV1>,
}

#[derive(Encode, Decode)]
pub(crate) struct ProofV1 {
    pub(crate) node_id: [u8; 32],
    pub(crate) signature: [u8; 64],
    pub(crate) envelope: Vec<u8>,
}

/// A value of tree `outbox`: what never changes about an outgoing message.
#[derive(Encode, Decode)]
pub(crate) struct OutboxV1 {
    pub(crate) message: MessageV1,
}

/// A value of tree `outbox_state`: what changes.
#[derive(Encode, Decode)]
pub(crate) struct StateV1 {
    pub(crate) to: [u8; 21],
    pub(crate) sequence: u64,
    pub(crate) expires_at: u64,
    /// 0 pending, 1 sent, 2 delivered, 3 failed.
    pub(crate) status: u8,
    pub(crate) attempts: u32,
    pub(crate) last_error: Option<String>,
    pub(crate) updated_at: u64,
}

/// A value of tree `conversations`.
#[derive(Encode, Decode)]
pub(crate) struct ConversationV1 {
    pub(crate) peer: [u8; 21],
    /// Sequence number of the latest message to them.
    pub(crate) sequence: u64,
    /// Messages to them still to be delivered.
    pub(crate) open: u64,
    pub(crate) attempt: Option<AttemptV1>,
}

#[derive(Encode, Decode)]
pub(crate) struct AttemptV1 {
    pub(crate) attempts: u32,
    pub(crate) last_error: Option<String>,
    pub(crate) at: u64,
}

/// A value of tree `peers`.
#[derive(Encode, Decode)]
pub(crate) struct PeerV1 {
    pub(crate) principal: [u8; 21],
    pub(crate) alias: Option<String>,
    pub(crate) locators: Vec<String>,
    pub(crate) last_seen: Option<u64>,
    pub(crate) added: bool,
    pub(crate) attestation: Option<Vec<u8>>,
    pub(crate) node_id: Option<[u8; 32]>,
    pub(crate) peer_id: Option<String>,
    pub(crate) protocol_pin: Option<u8>,
}

/// The one value of tree `meta`.
#[derive(Encode, Decode)]
pub(crate) struct MetaV1 {
    /// Number of the latest commit.
    pub(crate) commit: u64,
    /// `received_at` of the latest inbox entry.
    pub(crate) last_received_at: u64,
    /// Entries in each tree, in the order of tree numbers.
    pub(crate) counts: Vec<u64>,
    /// Exclusive or of the tags of all values outside `meta`.
    pub(crate) digest: [u8; 16],
}
