//! What can be asked of a store, and what comes back.

use clawchat_types::{Message, OutboundStatus, Principal, UnixMillis};

use crate::{OutboundDraft, PeerRecord, Proof, StoreError};

/// Largest record, in bytes: one message with its proof, encoded. Larger ones are refused.
pub const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;
/// Most addresses kept for a peer.
pub const MAX_PEER_LOCATORS: usize = 16;
/// Longest peer alias, in bytes.
pub const MAX_ALIAS_BYTES: usize = 256;
/// Largest attestation kept for a peer, in bytes.
pub const MAX_ATTESTATION_BYTES: usize = 4096;
/// Largest alias card kept for a peer, in bytes.
pub const MAX_ALIAS_CARD_BYTES: usize = 1024;
/// Longest MIME type of a message, in bytes.
pub const MAX_CONTENT_TYPE_BYTES: usize = 255;
/// Longest `last_error`, in bytes. Longer ones are cut, never refused.
pub const MAX_ERROR_BYTES: usize = 1024;
/// Most arrivals in one [`Write::MarkRead`].
pub const MAX_MARKS: usize = 4096;
/// Most writes in one [`commit`](crate::MessageStore::commit).
pub const MAX_BATCH_WRITES: usize = 4096;
/// Most bytes in one [`commit`](crate::MessageStore::commit), by [`Write::size`], unless it is a single write.
pub const MAX_BATCH_BYTES: usize = 32 * 1024 * 1024;
/// Most messages still to be delivered, in messages, with which a store takes another [`Write::Enqueue`]. Each takes
/// about 200 bytes of memory while it waits: 20 MB for all of them.
pub const MAX_PENDING: usize = 100_000;

/// What a small record takes beside its texts, in bytes. An estimate from above.
const RECORD_OVERHEAD: usize = 512;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Accept a message for delivery: it gets the next position and the next sequence number of its
    /// conversation and starts as `pending`. Gives [`Outcome::Enqueued`], [`Outcome::AlreadyQueued`] when
    /// the outbox has a message of this id, or [`Outcome::OutboxFull`].
    Enqueue(OutboundDraft),
    /// Take a message into the inbox, unread. Gives [`Outcome::Appended`], or [`Outcome::Duplicate`] when the
    /// inbox has a message of this id from this sender.
    AppendInbound {
        /// The message.
        message: Message,
        /// What its sender signed.
        proof: Option<Proof>,
        /// Now.
        received_at: UnixMillis,
    },
    /// Take over a message that another program received for this identity. Gives what
    /// [`AppendInbound`](Self::AppendInbound) does.
    ImportInbound {
        /// The message.
        message: Message,
        /// When it was received there.
        received_at: UnixMillis,
        /// Whether nobody has read it yet.
        unread: bool,
    },
    /// Take over a message that another program sent for this identity, with what became of it there. Gives what
    /// [`Enqueue`](Self::Enqueue) does, but never [`Outcome::OutboxFull`]: what another program took must not be lost.
    /// Only a `pending` one is delivered.
    ImportOutbound {
        /// The message.
        draft: OutboundDraft,
        /// How far it came.
        status: OutboundStatus,
        /// How often its delivery was tried.
        attempts: u32,
        /// Why the last try failed; cut to [`MAX_ERROR_BYTES`].
        last_error: Option<String>,
    },
    /// Note how a delivery went. Gives [`Outcome::Done`] or [`Outcome::NotFound`]. One that is to be delivered again
    /// is never too much.
    SetOutbound {
        /// Which outbox entry.
        position: u64,
        /// Its new status.
        status: OutboundStatus,
        /// Its number of tries.
        attempts: u32,
        /// Why the last one failed; cut to [`MAX_ERROR_BYTES`].
        last_error: Option<String>,
        /// Now.
        at: UnixMillis,
    },
    /// Note how reaching somebody went; replaces what was noted before. Gives [`Outcome::Done`].
    NoteAttempt {
        /// Who was to be reached.
        to: Principal,
        /// Failed tries since the last success.
        attempts: u32,
        /// Why the last one failed; cut to [`MAX_ERROR_BYTES`].
        last_error: Option<String>,
        /// Now.
        at: UnixMillis,
    },
    /// Remember a peer; replaces the whole record. Gives [`Outcome::Done`].
    PutPeer(PeerRecord),
    /// Forget a peer. Messages stay. Gives [`Outcome::Done`] or [`Outcome::NotFound`].
    RemovePeer(Principal),
    /// These inbox entries have been read. Unknown ones are passed over. Gives [`Outcome::Done`].
    MarkRead(Vec<u64>),
}

impl Write {
    /// About how many bytes it takes on disk, never less than its texts. Used for bounds.
    #[must_use]
    pub fn size(&self) -> usize {
        let variable = match self {
            Self::Enqueue(draft) => draft_size(draft),
            Self::ImportOutbound { draft, .. } => draft_size(draft) + MAX_ERROR_BYTES,
            Self::AppendInbound { message, proof, .. } => {
                message_size(message) + proof.as_ref().map_or(0, |p| p.envelope.len())
            }
            Self::ImportInbound { message, .. } => message_size(message),
            Self::SetOutbound { .. } | Self::NoteAttempt { .. } => MAX_ERROR_BYTES,
            Self::PutPeer(peer) => {
                peer.alias.as_ref().map_or(0, String::len)
                    + peer.attestation.as_ref().map_or(0, Vec::len)
                    + peer.alias_card.as_ref().map_or(0, Vec::len)
                    + peer.locators.iter().map(|l| l.as_str().len()).sum::<usize>()
            }
            Self::RemovePeer(_) => 0,
            Self::MarkRead(arrivals) => arrivals.len() * 64,
        };
        variable + RECORD_OVERHEAD
    }

    /// Whether it keeps all limits. [`commit`](crate::MessageStore::commit) checks this first and refuses the
    /// whole batch for one bad write; a [`StoreHandle`](crate::StoreHandle) refuses the bad one alone.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`].
    pub fn check(&self) -> Result<(), StoreError> {
        check_limit("record", self.size(), MAX_RECORD_BYTES)?;
        match self {
            Self::Enqueue(draft) | Self::ImportOutbound { draft, .. } => {
                check_limit("content type", draft.content_type.len(), MAX_CONTENT_TYPE_BYTES)
            }
            Self::AppendInbound { message, .. } | Self::ImportInbound { message, .. } => {
                check_limit("content type", message.content_type.len(), MAX_CONTENT_TYPE_BYTES)
            }
            Self::PutPeer(peer) => {
                check_limit("number of addresses", peer.locators.len(), MAX_PEER_LOCATORS)?;
                check_limit(
                    "alias",
                    peer.alias.as_ref().map_or(0, String::len),
                    MAX_ALIAS_BYTES,
                )?;
                let attestation = peer.attestation.as_ref().map_or(0, Vec::len);
                check_limit("attestation", attestation, MAX_ATTESTATION_BYTES)?;
                let alias_card = peer.alias_card.as_ref().map_or(0, Vec::len);
                check_limit("alias card", alias_card, MAX_ALIAS_CARD_BYTES)
            }
            Self::MarkRead(arrivals) => check_limit("list of arrivals", arrivals.len(), MAX_MARKS),
            Self::SetOutbound { .. } | Self::NoteAttempt { .. } | Self::RemovePeer(_) => Ok(()),
        }
    }
}

fn draft_size(draft: &OutboundDraft) -> usize {
    let payload = draft.payload.as_ref().map_or(0, |p| p.as_str().len());
    draft.content.as_str().len() + payload + draft.content_type.len()
}

fn message_size(message: &Message) -> usize {
    let payload = message.payload.as_ref().map_or(0, |p| p.as_str().len());
    message.content.as_str().len() + payload + message.content_type.len()
}

/// Checks a whole batch, as every backend does before it touches anything.
pub(crate) fn check_batch(batch: &[Write]) -> Result<(), StoreError> {
    check_limit("number of writes", batch.len(), MAX_BATCH_WRITES)?;
    let mut bytes = 0;
    for write in batch {
        write.check()?;
        bytes += write.size();
    }
    if batch.len() > 1 {
        check_limit("batch", bytes, MAX_BATCH_BYTES)?;
    }
    Ok(())
}

pub(crate) fn check_limit(what: &'static str, size: usize, limit: usize) -> Result<(), StoreError> {
    if size > limit {
        return Err(StoreError::TooLarge { what, size, limit });
    }
    Ok(())
}

/// Cuts an error text to [`MAX_ERROR_BYTES`], between characters.
pub(crate) fn cut_error(text: Option<String>) -> Option<String> {
    text.map(|mut text| {
        let end = (0..=MAX_ERROR_BYTES.min(text.len()))
            .rev()
            .find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text
    })
}

/// What became of a [`Write`]. By the time a caller sees it, it is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted for delivery.
    Enqueued {
        /// Its place in the outbox.
        position: u64,
        /// Its number in the conversation with the recipient, from 1.
        sequence: u64,
    },
    /// The outbox has this id already; nothing was written.
    AlreadyQueued {
        /// Where.
        position: u64,
        /// Its number in the conversation.
        sequence: u64,
    },
    /// [`MAX_PENDING`] messages or more are still to be delivered; nothing was written.
    OutboxFull,
    /// Taken into the inbox.
    Appended {
        /// Its place in the inbox.
        arrival: u64,
        /// The time noted, later than that of the entry before; see
        /// [`InboxEntry::received_at`](crate::InboxEntry::received_at).
        received_at: UnixMillis,
    },
    /// The inbox has this message already; nothing was written.
    Duplicate {
        /// Where.
        arrival: u64,
    },
    /// Written.
    Done,
    /// There is nothing of that name; nothing was written.
    NotFound,
}
