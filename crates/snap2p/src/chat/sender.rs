//! The side of a `chat/1` stream that has messages.

use std::collections::VecDeque;

use super::envelope::{MAX_ENVELOPE_BYTES, SignedEnvelope};
use super::frame::{
    ChatError, MAX_REPLY_FRAME_BYTES, NackCode, Reply, WINDOW_BYTES, WINDOW_MESSAGES, check_length,
    msg_length, write_msg,
};
use crate::prefixed::FrameBuffer;

/// Most bytes one call of [`ChatSender::poll_write`] appends.
const WRITE_CHUNK_BYTES: usize = 64 * 1024;

/// Sends messages in order and learns what became of each.
///
/// Queue envelopes while [`ChatSender::can_queue`], move bytes with [`ChatSender::poll_write`] and
/// [`ChatSender::handle_bytes`], and take the outcomes with [`ChatSender::poll_event`]. When the stream breaks,
/// or a message was refused for the time being ([`ChatSender::is_ended`]), whatever has had no event goes onto
/// another stream, in the same order, through a new sender.
#[derive(Debug, Default)]
pub struct ChatSender {
    /// Queued and without an answer, oldest first. The first has number `decided + 1`.
    window: VecDeque<InFlight>,
    /// Bytes of all frames in `window`, without their length fields.
    window_bytes: usize,
    /// Frames, or the rest of one, not handed out yet.
    outgoing: VecDeque<Vec<u8>>,
    /// How much of the first of `outgoing` has been handed out, in bytes.
    written: usize,
    /// The last message with an answer.
    decided: u64,
    /// The last message handed out completely.
    sent: u64,
    incoming: FrameBuffer,
    events: VecDeque<ChatEvent>,
    ended: bool,
    failed: Option<ChatError>,
}

#[derive(Debug)]
struct InFlight {
    tag: u64,
    frame_bytes: usize,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChatEvent {
    /// The other side has stored it durably.
    Acked {
        /// What the message was queued with.
        tag: u64,
    },
    /// The other side refused it.
    Nacked {
        /// What the message was queued with.
        tag: u64,
        /// Why.
        code: NackCode,
        /// Whether it may be accepted later. If so, this was the last event of the stream.
        retryable: bool,
        /// The other side's explanation, for a log.
        text: Option<String>,
    },
}

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// As much is under way as may be: wait for an event.
    #[error("the window is full")]
    WindowFull,
    /// Larger than any envelope may be; no receiver would take it.
    #[error("an envelope of {bytes} bytes is too large (at most {MAX_ENVELOPE_BYTES})")]
    TooLarge {
        /// How long it is.
        bytes: usize,
    },
    /// The stream takes no more messages: go on with another one.
    #[error("the stream has ended")]
    Ended,
}

impl ChatSender {
    /// The sender of a stream just opened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether an envelope of `bytes` bytes may be queued now. Whatever its size, one is always taken when
    /// nothing is in flight.
    #[must_use]
    pub fn can_queue(&self, bytes: usize) -> bool {
        self.check_room(bytes).is_ok()
    }

    /// Takes a message under the next number. `tag` is the caller's name for it, which comes back in its event.
    ///
    /// # Errors
    /// [`QueueError`]; the message is not queued then.
    pub fn queue(&mut self, tag: u64, envelope: SignedEnvelope) -> Result<(), QueueError> {
        self.check_room(envelope.bytes.len())?;
        let frame_bytes = msg_length(envelope.bytes.len());
        self.window.push_back(InFlight { tag, frame_bytes });
        self.window_bytes += frame_bytes;
        self.outgoing.push_back(write_msg(&envelope));
        Ok(())
    }

    fn check_room(&self, bytes: usize) -> Result<(), QueueError> {
        if self.is_ended() || self.failed.is_some() {
            return Err(QueueError::Ended);
        }
        if bytes > MAX_ENVELOPE_BYTES {
            return Err(QueueError::TooLarge { bytes });
        }
        let alone = self.window.is_empty();
        // Events nobody has taken count too, or they could pile up.
        let count = self.window.len() + self.events.len();
        if count < WINDOW_MESSAGES && (alone || self.window_bytes + msg_length(bytes) <= WINDOW_BYTES) {
            Ok(())
        } else {
            Err(QueueError::WindowFull)
        }
    }

    /// Appends bytes for the stream, at most 64 KiB. Returns whether there were any; call again until not.
    pub fn poll_write(&mut self, out: &mut Vec<u8>) -> bool {
        let mut room = WRITE_CHUNK_BYTES;
        while let Some(frame) = self.outgoing.front()
            && room > 0
        {
            let rest = &frame[self.written..];
            let taken = rest.len().min(room);
            out.extend_from_slice(&rest[..taken]);
            room -= taken;
            if taken < rest.len() {
                self.written += taken;
            } else {
                self.outgoing.pop_front();
                self.written = 0;
                self.sent += 1;
            }
        }
        room < WRITE_CHUNK_BYTES
    }

    /// Takes bytes that arrived on the stream, cut anywhere.
    ///
    /// # Errors
    /// [`ChatError`] when the other side breaks the protocol: reset the stream. Events that came before remain
    /// to be polled; every further call gives the same error.
    pub fn handle_bytes(&mut self, mut bytes: &[u8]) -> Result<(), ChatError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.handle(&mut bytes);
        if let Err(error) = result {
            self.failed = Some(error);
            self.outgoing.clear();
            self.incoming.clear();
        }
        result
    }

    fn handle(&mut self, bytes: &mut &[u8]) -> Result<(), ChatError> {
        while !bytes.is_empty() {
            if self.ended {
                return Err(ChatError::AfterEnd);
            }
            let check = |length| check_length(length, MAX_REPLY_FRAME_BYTES);
            let Some(frame) = self.incoming.next_frame(bytes, check)? else {
                break;
            };
            self.reply(Reply::read(&frame)?)?;
        }
        Ok(())
    }

    fn reply(&mut self, reply: Reply) -> Result<(), ChatError> {
        let (Reply::Ack { number } | Reply::Nack { number, .. }) = reply;
        let (sent, decided) = (self.sent, self.decided);
        if number > sent {
            return Err(ChatError::NotSent { number, sent });
        }
        match reply {
            Reply::Ack { .. } if number < decided => Err(ChatError::AckBackwards { number, decided }),
            Reply::Ack { .. } => {
                while self.decided < number
                    && let Some(tag) = self.settle()
                {
                    self.events.push_back(ChatEvent::Acked { tag });
                }
                Ok(())
            }
            Reply::Nack { .. } if number != decided + 1 => Err(ChatError::NackOutOfOrder { number, decided }),
            Reply::Nack {
                code,
                retryable,
                text,
                ..
            } => {
                if let Some(tag) = self.settle() {
                    self.events.push_back(ChatEvent::Nacked {
                        tag,
                        code,
                        retryable,
                        text,
                    });
                }
                if retryable {
                    self.ended = true;
                    self.outgoing.clear();
                }
                Ok(())
            }
        }
    }

    /// The oldest message in flight has its answer.
    fn settle(&mut self) -> Option<u64> {
        let settled = self.window.pop_front()?;
        self.decided += 1;
        self.window_bytes -= settled.frame_bytes;
        Some(settled.tag)
    }

    /// The next outcome, in the order in which the messages were queued.
    pub fn poll_event(&mut self) -> Option<ChatEvent> {
        self.events.pop_front()
    }

    /// Messages queued that have had no answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.window.len()
    }

    /// Whether a retryable refusal has ended the stream: finish it, wait a while, and send what has had no
    /// event, and what was refused, again on a new one.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }
}
