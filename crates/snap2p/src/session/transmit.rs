//! What goes out: many messages in few frames, and each stream in its turn.

use super::{Session, State};
use crate::ErrorCode;
use crate::limits::{FRAME_HEAD, MAX_PLAINTEXT, TAG_BYTES};
use crate::wire::{Control, DATA_HEAD, KIND_NOISE, write_data};

/// Room that must be left in a frame for one more control message of ours. The longest is OPEN with a label.
const CONTROL_ROOM: usize = 128;
/// A DATA message is cut to what is left of a frame only if at least this many bytes fit.
const LEAST_DATA: usize = 1024;

impl Session {
    /// Appends the next complete outer frame to `buffer`, at most 64 KiB; `false` when there is none at this
    /// time. Call until `false`, or stop while the socket is full: nothing is lost, and a stream that becomes
    /// ready meanwhile gets its turn.
    pub fn poll_transmit(&mut self, buffer: &mut Vec<u8>) -> bool {
        let plaintext = match self.state {
            State::Closed => return false,
            State::Closing(code) => {
                self.state = State::Closed;
                Control::Goodbye { code }.to_vec()
            }
            State::Open => self.fill(),
        };
        !plaintext.is_empty() && self.seal(&plaintext, buffer)
    }

    /// The messages of the next frame.
    fn fill(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(nonce) = self.pong.take() {
            Control::Pong { nonce }.write(&mut out);
        }
        if let Some(nonce) = self.ping.take() {
            Control::Ping { nonce }.write(&mut out);
        }
        while room(&out) >= CONTROL_ROOM
            && let Some(message) = self.control.pop_front()
        {
            out.extend_from_slice(&message);
        }
        if self.control.is_empty() {
            self.fill_from_streams(&mut out);
        }
        out
    }

    /// Round-robin: one DATA per turn, so that a long transfer delays nobody by more than one of its chunks.
    fn fill_from_streams(&mut self, out: &mut Vec<u8>) {
        while room(out) >= CONTROL_ROOM + DATA_HEAD + LEAST_DATA
            && let Some(id) = self.ring.pop_front()
        {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.in_ring = false;
            if let Some(grant) = stream.take_grant() {
                let credit = grant as u64;
                Control::Window { id, credit }.write(out);
            }
            let count = stream.sendable().min(room(out) - DATA_HEAD);
            if count > 0 {
                write_data(out, id, stream.peek(count));
                stream.advance(count);
            }
            if stream.take_finish() {
                Control::Close { id, code: None }.write(out);
            }
            self.wants_turn(id);
            self.has_event(id);
            self.drop_if_over(id);
        }
    }

    /// Encrypts straight into the caller's buffer.
    fn seal(&mut self, plaintext: &[u8], buffer: &mut Vec<u8>) -> bool {
        let start = buffer.len();
        let body = start + FRAME_HEAD;
        buffer.resize(body + plaintext.len() + TAG_BYTES, 0);
        let sealed = buffer
            .get_mut(body..)
            .and_then(|message| self.transport.write_message(plaintext, message).ok())
            .and_then(|length| u16::try_from(length + 1).ok());
        let head = buffer.get_mut(start..body);
        if let (Some(length), Some([high, low, kind])) = (sealed, head) {
            [*high, *low] = length.to_be_bytes();
            *kind = KIND_NOISE;
            return true;
        }
        // Only after 2^64 messages: the channel is used up.
        buffer.truncate(start);
        self.state = State::Closed;
        self.gone = Some(ErrorCode::NoError);
        false
    }
}

/// Bytes left in the plaintext of a frame.
fn room(out: &[u8]) -> usize {
    MAX_PLAINTEXT.saturating_sub(out.len())
}
