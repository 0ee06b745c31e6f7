//! The side of a `chat/1` stream that stores messages.

use std::collections::VecDeque;

use super::envelope::SignedEnvelope;
use super::frame::{
    ChatError, MAX_MSG_FRAME_BYTES, NackCode, Reply, WINDOW_BYTES, WINDOW_MESSAGES, check_length, read_msg,
};
use crate::prefixed::FrameBuffer;

/// Takes messages and answers each once it is decided.
///
/// Move bytes with [`ChatReceiver::handle_bytes`] and [`ChatReceiver::poll_write`], take messages with
/// [`ChatReceiver::poll_message`], store them, and only then say so with [`ChatReceiver::decide`]. Decisions may
/// come in any order; answers go out in the order of the messages. When [`ChatReceiver::is_ended`], finish the
/// stream.
#[derive(Debug, Default)]
pub struct ChatReceiver {
    incoming: FrameBuffer,
    /// Messages beyond the first `decided`, in order. Their number is `decided + 1` and on.
    window: VecDeque<Slot>,
    /// Bytes of all frames in `window`, without their length fields.
    window_bytes: usize,
    /// Every message up to this one has been decided and its answer queued or given.
    decided: u64,
    /// Messages handed out with `poll_message`.
    delivered: u64,
    /// The last message whose answer has been handed out.
    answered: u64,
    /// Refusals among the messages between `answered` and `decided`.
    refusals: VecDeque<(u64, Refusal)>,
    /// The message whose retryable refusal ends the stream, once refused.
    last: Option<u64>,
    failed: Option<ChatError>,
}

#[derive(Debug)]
struct Slot {
    frame_bytes: usize,
    /// Gone once handed out.
    envelope: Option<SignedEnvelope>,
    decision: Option<Decision>,
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    code: NackCode,
    retryable: bool,
}

/// What is to become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is stored durably, now or already before.
    Stored,
    /// It is not accepted.
    Refused {
        /// Why.
        code: NackCode,
        /// Whether it may be accepted later. If so the stream ends with this message: everything behind it is
        /// discarded, and the sender starts again with it on a new stream.
        retryable: bool,
    },
}

impl ChatReceiver {
    /// The receiver of a stream just accepted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes that arrived on the stream, cut anywhere. What comes behind the end of the stream is
    /// discarded.
    ///
    /// # Errors
    /// [`ChatError`] when the other side breaks the protocol: reset the stream. Messages that came before remain
    /// to be polled and stored; every further call gives the same error.
    pub fn handle_bytes(&mut self, mut bytes: &[u8]) -> Result<(), ChatError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.handle(&mut bytes);
        if let Err(error) = result {
            self.failed = Some(error);
            self.incoming.clear();
        }
        result
    }

    fn handle(&mut self, bytes: &mut &[u8]) -> Result<(), ChatError> {
        while !bytes.is_empty() && self.last.is_none() {
            let (count, used) = (self.window.len(), self.window_bytes);
            let check = |length| check_window(length, count, used);
            let Some(frame) = self.incoming.next_frame(bytes, check)? else {
                break;
            };
            let envelope = read_msg(&frame)?;
            self.window.push_back(Slot {
                frame_bytes: frame.len(),
                envelope: Some(envelope),
                decision: None,
            });
            self.window_bytes += frame.len();
        }
        Ok(())
    }

    /// The next message and its number on this stream, to be decided.
    pub fn poll_message(&mut self) -> Option<(u64, SignedEnvelope)> {
        let number = self.delivered + 1;
        let index = self.index_of(number)?;
        let envelope = self.window.get_mut(index)?.envelope.take()?;
        self.delivered = number;
        Some((number, envelope))
    }

    /// Says what became of a message. Returns whether it was waiting for that: not before it was polled, not
    /// twice, and not behind a retryable refusal.
    pub fn decide(&mut self, number: u64, decision: Decision) -> bool {
        if number > self.delivered {
            return false;
        }
        let Some(slot) = self.index_of(number).and_then(|index| self.window.get_mut(index)) else {
            return false;
        };
        if slot.decision.is_some() {
            return false;
        }
        slot.decision = Some(decision);
        if let Decision::Refused { retryable: true, .. } = decision {
            self.end_with(number);
        }
        self.advance();
        true
    }

    /// Nothing behind `number` matters any more.
    fn end_with(&mut self, number: u64) {
        self.last = Some(number);
        let kept = usize::try_from(number - self.decided).unwrap_or(usize::MAX);
        self.window.truncate(kept);
        self.window_bytes = self.window.iter().map(|slot| slot.frame_bytes).sum();
        self.incoming.clear();
    }

    /// Moves decided messages from the front of the window into the answers.
    fn advance(&mut self) {
        while let Some(decision) = self.window.front().and_then(|slot| slot.decision) {
            let bytes = self.window.pop_front().map_or(0, |slot| slot.frame_bytes);
            self.window_bytes -= bytes;
            self.decided += 1;
            if let Decision::Refused { code, retryable } = decision {
                self.refusals
                    .push_back((self.decided, Refusal { code, retryable }));
            }
        }
    }

    /// Appends the answers that are due, in one go and as few as possible. Returns whether there were any.
    pub fn poll_write(&mut self, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        while let Some((number, Refusal { code, retryable })) = self.refusals.pop_front() {
            self.acknowledge(number - 1, out);
            let nack = Reply::Nack {
                number,
                code,
                retryable,
                text: None,
            };
            nack.write(out);
            self.answered = number;
        }
        self.acknowledge(self.decided, out);
        out.len() > start
    }

    fn acknowledge(&mut self, number: u64, out: &mut Vec<u8>) {
        if number > self.answered {
            Reply::Ack { number }.write(out);
            self.answered = number;
        }
    }

    /// Bytes held of a message that has not arrived completely.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.incoming.held()
    }

    /// Messages that have arrived and are neither decided nor discarded.
    #[must_use]
    pub fn undecided(&self) -> usize {
        self.window.iter().filter(|slot| slot.decision.is_none()).count()
    }

    /// Whether a retryable refusal has been handed out as the last answer: finish the stream.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.last.is_some_and(|last| self.answered >= last)
    }

    /// Where in the window a message is, if it can still be there.
    fn index_of(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.decided + 1)?).ok()
    }
}

/// Refuses a frame before any of it is held, when the sender cannot have been allowed to send it.
fn check_window(length: usize, count: usize, used: usize) -> Result<(), ChatError> {
    check_length(length, MAX_MSG_FRAME_BYTES)?;
    if count >= WINDOW_MESSAGES || (count > 0 && used.saturating_add(length) > WINDOW_BYTES) {
        return Err(ChatError::WindowExceeded);
    }
    Ok(())
}
