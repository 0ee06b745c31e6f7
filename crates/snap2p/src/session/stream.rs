//! One stream: what it holds in each direction, and the credit for it.

use bytes::{Buf, Bytes, BytesMut};

use super::event::{SessionEvent, StreamId};
use crate::ErrorCode;
use crate::limits::{
    INITIAL_WINDOW, MAX_CREDIT, MAX_DATA_BYTES, MAX_LOOSE_CHUNKS, MAX_SEND_BUFFER, WINDOW_STEP,
};

/// How far our direction is towards its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendEnd {
    Open,
    /// To be finished once the buffer is sent.
    Wanted,
    Sent,
}

pub(super) struct Stream {
    /// The label, until the owner was told about the stream.
    announce: Option<String>,
    /// Whether the owner wants its bytes. Always true of streams we opened.
    accepted: bool,
    received: BytesMut,
    /// Bytes the peer may still send.
    receive_credit: usize,
    /// Bytes handed out and not reported as consumed.
    unconsumed: usize,
    /// Chunks handed out since nothing was unconsumed.
    loose_chunks: usize,
    /// Consumed bytes to be granted again.
    grant: usize,
    peer_finished: bool,
    finish_told: bool,
    peer_reset: Option<ErrorCode>,
    to_send: BytesMut,
    send_credit: u64,
    send_end: SendEnd,
    /// A write took less than it was given.
    writer_waits: bool,
    /// Whether the stream stands in the session's queue of streams with something to send.
    pub(super) in_ring: bool,
    /// Whether the stream stands in the session's queue of streams with events.
    pub(super) in_events: bool,
}

impl Stream {
    fn new(announce: Option<String>, accepted: bool) -> Self {
        Self {
            announce,
            accepted,
            received: BytesMut::new(),
            receive_credit: INITIAL_WINDOW,
            unconsumed: 0,
            loose_chunks: 0,
            grant: 0,
            peer_finished: false,
            finish_told: false,
            peer_reset: None,
            to_send: BytesMut::new(),
            send_credit: INITIAL_WINDOW as u64,
            send_end: SendEnd::Open,
            writer_waits: false,
            in_ring: false,
            in_events: false,
        }
    }

    pub(super) fn ours() -> Self {
        Self::new(None, true)
    }

    pub(super) fn theirs(label: &str) -> Self {
        Self::new(Some(label.to_owned()), false)
    }

    /// Whether nothing more will come from or go to this stream.
    pub(super) fn is_over(&self) -> bool {
        self.finish_told && self.send_end == SendEnd::Sent
    }

    // --- what the peer does -------------------------------------------------------------

    /// Takes bytes of the peer. `None`: it had no credit for them.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Option<()> {
        self.receive_credit = self.receive_credit.checked_sub(bytes.len())?;
        if self.peer_reset.is_none() {
            self.received.extend_from_slice(bytes);
        }
        Some(())
    }

    pub(super) fn peer_finished(&self) -> bool {
        self.peer_finished
    }

    pub(super) fn on_finish(&mut self) {
        self.peer_finished = true;
        self.grant = 0;
    }

    pub(super) fn on_reset(&mut self, code: ErrorCode) {
        self.peer_reset = Some(code);
        self.received = BytesMut::new();
        self.to_send = BytesMut::new();
        self.grant = 0;
    }

    /// Takes credit of the peer. `None`: more than any stream may have.
    pub(super) fn add_credit(&mut self, credit: u64) -> Option<()> {
        let sum = self
            .send_credit
            .checked_add(credit)
            .filter(|sum| *sum <= MAX_CREDIT)?;
        self.send_credit = sum;
        Some(())
    }

    // --- what the owner does ------------------------------------------------------------

    pub(super) fn accept(&mut self) {
        self.accepted = true;
    }

    /// Takes as much as fits.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        if self.send_end != SendEnd::Open || self.peer_reset.is_some() {
            return 0;
        }
        let room = MAX_SEND_BUFFER.saturating_sub(self.to_send.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.to_send.extend_from_slice(taken);
        self.writer_waits |= taken.len() < bytes.len();
        taken.len()
    }

    pub(super) fn finish(&mut self) {
        if self.send_end == SendEnd::Open {
            self.send_end = SendEnd::Wanted;
        }
    }

    pub(super) fn consumed(&mut self, count: usize) {
        let count = count.min(self.unconsumed);
        self.unconsumed -= count;
        if self.unconsumed == 0 {
            self.loose_chunks = 0;
        }
        if !self.peer_finished && self.peer_reset.is_none() {
            self.grant += count;
        }
    }

    /// The next event, if there is one.
    pub(super) fn next_event(&mut self, id: StreamId) -> Option<SessionEvent> {
        if let Some(label) = self.announce.take() {
            return Some(SessionEvent::Opened { id, label });
        }
        if let Some(code) = self.peer_reset {
            return Some(SessionEvent::Closed { id, code });
        }
        if !self.accepted {
            return None;
        }
        let enough = self.loose_chunks < MAX_LOOSE_CHUNKS || self.received.len() >= MAX_DATA_BYTES;
        if !self.received.is_empty() && enough {
            self.unconsumed += self.received.len();
            self.loose_chunks += 1;
            return Some(SessionEvent::Data {
                id,
                bytes: self.take_received(),
            });
        }
        if self.peer_finished && !self.finish_told && self.received.is_empty() {
            self.finish_told = true;
            return Some(SessionEvent::Finished { id });
        }
        if self.writer_waits && self.to_send.len() <= MAX_SEND_BUFFER / 2 {
            self.writer_waits = false;
            return Some(SessionEvent::StreamWritable { id });
        }
        None
    }

    /// What arrived, in a buffer of its own size: the owner may keep it for long.
    fn take_received(&mut self) -> Bytes {
        let received = std::mem::take(&mut self.received);
        if received.capacity() > received.len().saturating_mul(2) {
            Bytes::copy_from_slice(&received)
        } else {
            received.freeze()
        }
    }

    // --- what goes out ------------------------------------------------------------------

    /// Whether there is something to send that may be sent now.
    pub(super) fn wants_turn(&self) -> bool {
        if self.peer_reset.is_some() {
            return false;
        }
        self.grant_is_due()
            || (!self.to_send.is_empty() && self.send_credit > 0)
            || (self.to_send.is_empty() && self.send_end == SendEnd::Wanted)
    }

    /// Credit to announce, if it is worth a message.
    pub(super) fn take_grant(&mut self) -> Option<usize> {
        if !self.grant_is_due() {
            return None;
        }
        let grant = std::mem::take(&mut self.grant);
        self.receive_credit += grant;
        Some(grant)
    }

    fn grant_is_due(&self) -> bool {
        self.grant >= WINDOW_STEP
    }

    /// How many bytes the next DATA may have, at most.
    pub(super) fn sendable(&self) -> usize {
        let credit = usize::try_from(self.send_credit).unwrap_or(usize::MAX);
        self.to_send.len().min(credit).min(MAX_DATA_BYTES)
    }

    /// The first `count` bytes to send.
    pub(super) fn peek(&self, count: usize) -> &[u8] {
        self.to_send.get(..count).unwrap_or(&self.to_send)
    }

    /// They are sent.
    pub(super) fn advance(&mut self, count: usize) {
        let count = count.min(self.to_send.len());
        self.to_send.advance(count);
        self.send_credit = self.send_credit.saturating_sub(count as u64);
        if self.to_send.is_empty() {
            self.to_send = BytesMut::new();
        }
    }

    /// Whether it is time to tell the peer that we are finished; says so once.
    pub(super) fn take_finish(&mut self) -> bool {
        let due = self.send_end == SendEnd::Wanted && self.to_send.is_empty();
        if due {
            self.send_end = SendEnd::Sent;
        }
        due
    }

    /// Bytes held for this stream.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.received.len() + self.to_send.len()
    }
}
