//! What a store remembers.

use clawchat_types::{
    Content, InviteToken, Locator, Message, MessageId, Nick, NodeId, OutboundStatus, Payload, PeerId,
    Principal, UnixMillis,
};

/// A message somebody sent to this identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxEntry {
    /// Its place in the inbox: 1, 2, 3… without gaps, in the order of arrival.
    pub arrival: u64,
    /// When it was stored; later than that of the entry before it, whatever the clock said: at least a millisecond.
    /// So a time continues behind one entry exactly. Of entries that arrive faster than one a millisecond, the last
    /// ones carry a time that is still to come.
    pub received_at: UnixMillis,
    /// The message itself.
    pub message: Message,
    /// What its sender signed, if it came over a protocol that signs.
    pub proof: Option<Proof>,
    /// Whether nobody has read it yet.
    pub unread: bool,
}

/// What the sender signed, kept as received so that it can be shown to others.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    /// The signed bytes. Opaque here.
    pub envelope: Vec<u8>,
    /// The Ed25519 signature over them.
    pub signature: [u8; 64],
    /// The node key that made it.
    pub node_id: NodeId,
}

/// Shows lengths only: the envelope contains the message.
impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proof({} bytes, by {:?})", self.envelope.len(), self.node_id)
    }
}

/// A message this identity wants delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Its place in the outbox: 1, 2, 3… without gaps, in the order of acceptance.
    pub position: u64,
    /// The message itself, numbered.
    pub message: Message,
    /// How far it came.
    pub status: OutboundStatus,
    /// How often its delivery was tried.
    pub attempts: u32,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// When status, attempts or error last changed; at first the message's own timestamp.
    pub updated_at: UnixMillis,
}

impl OutboxEntry {
    /// Whether delivery is still owed. A `sent` message is not: it went to a peer whose protocol has no receipts, and
    /// nothing more will ever be heard of it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        is_open(self.status)
    }
}

/// Whether a message of this status still has to be delivered.
pub(crate) fn is_open(status: OutboundStatus) -> bool {
    match status {
        OutboundStatus::Pending => true,
        OutboundStatus::Sent | OutboundStatus::Delivered | OutboundStatus::Failed => false,
    }
}

/// The time an entry gets that is received at `now` behind one of time `last`.
pub(crate) fn rising(now: UnixMillis, last: UnixMillis) -> UnixMillis {
    now.max(UnixMillis(last.0.saturating_add(1)))
}

/// A message before the store has numbered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundDraft {
    /// Drawn by the caller at random.
    pub id: MessageId,
    /// The identity that writes it.
    pub from: Principal,
    /// For whom it is.
    pub to: Principal,
    /// The sender's clock.
    pub timestamp: UnixMillis,
    /// The nickname the sender goes by.
    pub from_nick: Option<Nick>,
    /// MIME type of `content`.
    pub content_type: String,
    /// The text.
    pub content: Content,
    /// Structured data beside the text.
    pub payload: Option<Payload>,
    /// The message this one answers.
    pub reply_to: Option<MessageId>,
    /// When to give up.
    pub expires_at: UnixMillis,
}

impl OutboundDraft {
    /// The message with its number in the conversation.
    #[must_use]
    pub fn into_message(self, sequence: u64) -> Message {
        Message {
            id: self.id,
            from: self.from,
            to: self.to,
            timestamp: self.timestamp,
            sequence,
            from_nick: self.from_nick,
            content_type: self.content_type,
            content: self.content,
            payload: self.payload,
            reply_to: self.reply_to,
            expires_at: self.expires_at,
        }
    }
}

/// What is known about somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRecord {
    /// Who.
    pub principal: Principal,
    /// The operator's name for them. At most [`MAX_ALIAS_BYTES`](crate::MAX_ALIAS_BYTES).
    pub alias: Option<String>,
    /// Where their gateway may be. At most [`MAX_PEER_LOCATORS`](crate::MAX_PEER_LOCATORS).
    pub locators: Vec<Locator>,
    /// When a session with them last existed.
    pub last_seen: Option<UnixMillis>,
    /// Whether the operator added them, rather than them having turned up.
    pub added: bool,
    /// Their latest attestation, as received. At most
    /// [`MAX_ATTESTATION_BYTES`](crate::MAX_ATTESTATION_BYTES).
    pub attestation: Option<Vec<u8>>,
    /// The node key it names.
    pub node_id: Option<NodeId>,
    /// The gateway they were last met at.
    pub peer_id: Option<PeerId>,
    /// The protocol generation they proved to speak, so that nobody can talk us into an older one.
    pub protocol_pin: Option<u8>,
    /// What to knock with: the token of the invite they gave.
    pub knock: Option<InviteToken>,
    /// Their alias card: what they ask to be called, as received. At most
    /// [`MAX_ALIAS_CARD_BYTES`](crate::MAX_ALIAS_CARD_BYTES).
    pub alias_card: Option<Vec<u8>>,
}

impl PeerRecord {
    /// A record that knows the name alone.
    #[must_use]
    pub fn new(principal: Principal) -> Self {
        Self {
            principal,
            alias: None,
            locators: Vec::new(),
            last_seen: None,
            added: false,
            attestation: None,
            node_id: None,
            peer_id: None,
            protocol_pin: None,
            knock: None,
            alias_card: None,
        }
    }
}

/// How the tries to reach somebody went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptState {
    /// Who is to be reached.
    pub to: Principal,
    /// Failed tries since the last success.
    pub attempts: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// When that was noted.
    pub at: UnixMillis,
}
