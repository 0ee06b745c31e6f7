//! The session after the handshake: streams, credit, signs of life, and its end.

mod event;
mod stream;
mod transmit;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use clawchat_identity::{Attestation, Verified};
use clawchat_types::{Moment, NodeId, Principal};
use snow::TransportState;

pub use self::event::{OpenError, SessionError, SessionEvent, StreamId};
use self::stream::Stream;
use crate::ErrorCode;
use crate::limits::{MAX_QUEUED_CONTROL, MAX_STREAMS, PING_AFTER, PONG_WITHIN, PONG_WITHIN_WHEN_DOUBTED};
use crate::wire::{Control, KIND_NOISE, Parser, is_label};

/// Which side of the handshake this was. Decides who opens odd and who even streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Initiator,
    Responder,
}

/// An authenticated, encrypted session between a local and a remote identity, with up to
/// [`crate::MAX_STREAMS`] streams.
///
/// Loop: hand over frames ([`Session::handle_frame`]) and time ([`Session::handle_timeout`]), then take every
/// [`Session::poll_event`], then write out everything [`Session::poll_transmit`] gives. Do the last two after
/// every other call as well, `consumed` included: each may make events or frames.
///
/// Holds at most [`crate::INITIAL_WINDOW`] received and [`crate::MAX_SEND_BUFFER`] unsent bytes per stream.
pub struct Session {
    transport: TransportState,
    role: Role,
    local: Principal,
    remote: Attestation<Verified>,
    streams: BTreeMap<u64, Stream>,
    /// Streams with something to send, in the order of their turns; each at most once.
    ring: VecDeque<u64>,
    /// Streams that may have an event; each at most once.
    events: VecDeque<u64>,
    /// Encoded control messages, sent before any stream's data.
    control: VecDeque<Vec<u8>>,
    next_local: u64,
    next_remote: u64,
    pong: Option<u64>,
    ping: Option<u64>,
    pings_sent: u64,
    heard_at: Duration,
    /// When a peer that was asked for a sign of life is dead.
    dead_at: Option<Duration>,
    state: State,
    gone: Option<ErrorCode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The GOODBYE is to be sent.
    Closing(ErrorCode),
    Closed,
}

impl Session {
    pub(crate) fn new(
        transport: TransportState,
        role: Role,
        local: Principal,
        remote: Attestation<Verified>,
        now: Moment,
    ) -> Self {
        let (next_local, next_remote) = match role {
            Role::Initiator => (1, 2),
            Role::Responder => (2, 1),
        };
        Self {
            transport,
            role,
            local,
            remote,
            streams: BTreeMap::new(),
            ring: VecDeque::new(),
            events: VecDeque::new(),
            control: VecDeque::new(),
            next_local,
            next_remote,
            pong: None,
            ping: None,
            pings_sent: 0,
            heard_at: now.mono,
            dead_at: None,
            state: State::Open,
            gone: None,
        }
    }

    /// The local identity.
    #[must_use]
    pub fn local(&self) -> &Principal {
        &self.local
    }

    /// The peer's identity, proven by the handshake.
    #[must_use]
    pub fn remote(&self) -> &Principal {
        self.remote.principal()
    }

    /// The peer's node key, proven to hold the other end of this channel.
    #[must_use]
    pub fn remote_node(&self) -> &NodeId {
        self.remote.node_id()
    }

    /// What bound the two together; it was current when the session began.
    #[must_use]
    pub fn remote_attestation(&self) -> &Attestation<Verified> {
        &self.remote
    }

    /// Whether this side dialed.
    #[must_use]
    pub fn is_initiator(&self) -> bool {
        self.role == Role::Initiator
    }

    /// Whether the session has ended. A GOODBYE may still wait in [`Session::poll_transmit`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state != State::Open
    }

    /// How many streams count against [`crate::MAX_STREAMS`].
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Takes a frame of the peer: kind byte and body, as [`crate::FrameReader`] gives it.
    ///
    /// # Errors
    /// [`SessionError`] when the session has ended, in most cases because the peer broke the protocol. What it
    /// is told waits in [`Session::poll_transmit`], and a last [`SessionEvent::GoneAway`] in
    /// [`Session::poll_event`].
    pub fn handle_frame(&mut self, frame: &[u8], now: Moment) -> Result<(), SessionError> {
        if self.is_closed() {
            return Err(SessionError::Closed);
        }
        self.read_frame(frame, now)
            .inspect_err(|error| self.end(error.wire_code()))
    }

    /// The next event. `None` when there is none at this time.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        while let Some(&id) = self.events.front() {
            let Some(stream) = self.streams.get_mut(&id) else {
                self.events.pop_front();
                continue;
            };
            if let Some(event) = stream.next_event(StreamId::new(id)) {
                if matches!(event, SessionEvent::Closed { .. }) {
                    self.streams.remove(&id);
                }
                self.drop_if_over(id);
                return Some(event);
            }
            stream.in_events = false;
            self.events.pop_front();
        }
        self.gone.take().map(|code| SessionEvent::GoneAway { code })
    }

    /// Opens a stream. It can be written to at once; a peer that does not want it answers with
    /// [`SessionEvent::Closed`].
    ///
    /// # Errors
    /// [`OpenError`]: the session has ended, all streams are in use, or the label cannot be one.
    pub fn open(&mut self, label: &str) -> Result<StreamId, OpenError> {
        if self.is_closed() {
            return Err(OpenError::Closed);
        }
        if !is_label(label) {
            return Err(OpenError::Label);
        }
        if self.streams.len() >= MAX_STREAMS || self.control.len() >= MAX_QUEUED_CONTROL {
            return Err(OpenError::TooManyStreams);
        }
        let id = self.next_local;
        self.next_local = id.checked_add(2).ok_or(OpenError::TooManyStreams)?;
        self.streams.insert(id, Stream::ours());
        self.control.push_back(Control::Open { id, label }.to_vec());
        Ok(StreamId::new(id))
    }

    /// Takes the peer's stream: its bytes come from now on.
    pub fn accept(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id.get()) {
            stream.accept();
            self.has_event(id.get());
        }
    }

    /// Does not take the peer's stream: it is gone, and the peer told why, usually
    /// [`ErrorCode::StreamRefused`].
    pub fn refuse(&mut self, id: StreamId, code: ErrorCode) {
        self.reset(id, code);
    }

    /// Hands over bytes to send; returns how many were taken. Fewer than given when the send buffer is full:
    /// then [`SessionEvent::StreamWritable`] says when to go on. None when the stream is finished or gone.
    pub fn write(&mut self, id: StreamId, bytes: &[u8]) -> usize {
        if self.is_closed() {
            return 0;
        }
        let Some(stream) = self.streams.get_mut(&id.get()) else {
            return 0;
        };
        let taken = stream.write(bytes);
        self.wants_turn(id.get());
        taken
    }

    /// Reports that the owner has processed `count` bytes of [`SessionEvent::Data`], so that the peer may send
    /// as many again. Take [`Session::poll_event`] afterwards.
    pub fn consumed(&mut self, id: StreamId, count: usize) {
        if let Some(stream) = self.streams.get_mut(&id.get()) {
            stream.consumed(count);
            self.wants_turn(id.get());
            self.has_event(id.get());
        }
    }

    /// Says that nothing more will be written. What was written is still sent.
    pub fn finish(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id.get()) {
            stream.finish();
            self.wants_turn(id.get());
        }
    }

    /// Abandons a stream in both directions; what was not sent never is. No event follows.
    pub fn reset(&mut self, id: StreamId, code: ErrorCode) {
        if self.streams.remove(&id.get()).is_some() && !self.is_closed() {
            let code = Some(code);
            self.control
                .push_back(Control::Close { id: id.get(), code }.to_vec());
        }
    }

    /// Ends the session: the peer gets a GOODBYE with this reason behind what was sent already, unsent bytes are
    /// dropped, no event follows. To say everything first, `finish` the streams and wait.
    pub fn close(&mut self, code: ErrorCode) {
        if !self.is_closed() {
            self.state = State::Closing(code);
            self.drop_output();
            self.streams.clear();
            self.events.clear();
        }
    }

    /// When [`Session::handle_timeout`] is due, on the monotonic clock of [`Moment`]. `None` once closed.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let due = self
            .dead_at
            .unwrap_or_else(|| self.heard_at.saturating_add(PING_AFTER));
        (!self.is_closed()).then_some(due)
    }

    /// Asks a silent peer for a sign of life, or gives it up. Nothing happens when called early.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.is_closed() {
            return;
        }
        match self.dead_at {
            Some(dead_at) if now.mono >= dead_at => self.end(ErrorCode::Timeout),
            Some(_) => {}
            None if now.mono >= self.heard_at.saturating_add(PING_AFTER) => {
                self.ask_for_life(now.mono.saturating_add(PONG_WITHIN));
            }
            None => {}
        }
    }

    /// Asks the peer for a sign of life at once, because an answer of its application is overdue; without one it is
    /// given up after [`PONG_WITHIN_WHEN_DOUBTED`]. [`Session::poll_timeout`] may be earlier after that.
    pub fn doubt(&mut self, now: Moment) {
        let dead_at = now.mono.saturating_add(PONG_WITHIN_WHEN_DOUBTED);
        if !self.is_closed() && self.dead_at.is_none_or(|known| known > dead_at) {
            self.ask_for_life(dead_at);
        }
    }

    fn ask_for_life(&mut self, dead_at: Duration) {
        if self.dead_at.is_none() {
            self.ping = Some(self.pings_sent);
            self.pings_sent = self.pings_sent.wrapping_add(1);
        }
        self.dead_at = Some(dead_at);
    }

    // --- reading ------------------------------------------------------------------------

    fn read_frame(&mut self, frame: &[u8], now: Moment) -> Result<(), SessionError> {
        let (&kind, message) = frame.split_first().ok_or(SessionError::Empty)?;
        if kind != KIND_NOISE {
            return Err(SessionError::FrameKind { kind });
        }
        let mut plaintext = vec![0; message.len()];
        let length = self
            .transport
            .read_message(message, &mut plaintext)
            .map_err(|_| SessionError::Decrypt)?;
        plaintext.truncate(length);
        if plaintext.is_empty() {
            return Err(SessionError::Empty);
        }
        self.heard_at = now.mono;
        self.dead_at = None;
        self.ping = None;
        for message in Parser::new(&plaintext) {
            self.read_message(&message?)?;
            if self.is_closed() {
                break;
            }
        }
        Ok(())
    }

    fn read_message(&mut self, message: &Control<'_>) -> Result<(), SessionError> {
        match message {
            Control::Open { id, label } => self.on_open(*id, label),
            Control::Close { id, code } => self.on_close(*id, *code),
            Control::Data { id, bytes } => self.on_data(*id, bytes),
            Control::Window { id, credit } => self.on_window(*id, *credit),
            Control::Ping { nonce } => {
                self.pong = Some(*nonce);
                Ok(())
            }
            // Any frame is a sign of life; it has been noted.
            Control::Pong { .. } => Ok(()),
            Control::Goodbye { code } => {
                self.state = State::Closed;
                self.gone = Some(*code);
                self.drop_output();
                Ok(())
            }
            Control::Hello(_)
            | Control::Auth(_)
            | Control::AuthOk
            | Control::AuthFail { .. }
            | Control::Knock(_) => Err(message.unexpected().into()),
        }
    }

    fn on_open(&mut self, id: u64, label: &str) -> Result<(), SessionError> {
        if id < self.next_remote || id % 2 != self.next_remote % 2 {
            return Err(SessionError::StreamState { id });
        }
        self.next_remote = id.checked_add(2).ok_or(SessionError::StreamState { id })?;
        if self.streams.len() >= MAX_STREAMS {
            if self.control.len() >= MAX_QUEUED_CONTROL {
                return Err(SessionError::Flooded);
            }
            let code = Some(ErrorCode::StreamRefused);
            self.control.push_back(Control::Close { id, code }.to_vec());
            return Ok(());
        }
        self.streams.insert(id, Stream::theirs(label));
        self.has_event(id);
        Ok(())
    }

    fn on_close(&mut self, id: u64, code: Option<ErrorCode>) -> Result<(), SessionError> {
        let Some(stream) = self.known(id)? else {
            return Ok(());
        };
        match code {
            None if stream.peer_finished() => return Err(SessionError::StreamState { id }),
            None => stream.on_finish(),
            Some(code) => stream.on_reset(code),
        }
        self.has_event(id);
        Ok(())
    }

    fn on_data(&mut self, id: u64, bytes: &[u8]) -> Result<(), SessionError> {
        let Some(stream) = self.known(id)? else {
            return Ok(());
        };
        if stream.peer_finished() {
            return Err(SessionError::StreamState { id });
        }
        stream.receive(bytes).ok_or(SessionError::CreditExceeded { id })?;
        self.has_event(id);
        Ok(())
    }

    fn on_window(&mut self, id: u64, credit: u64) -> Result<(), SessionError> {
        let Some(stream) = self.known(id)? else {
            return Ok(());
        };
        stream
            .add_credit(credit)
            .ok_or(SessionError::CreditOverflow { id })?;
        self.wants_turn(id);
        Ok(())
    }

    /// The stream, or `None` when it is gone already: what the peer sent before it knew is ignored.
    fn known(&mut self, id: u64) -> Result<Option<&mut Stream>, SessionError> {
        let next = if id % 2 == self.next_local % 2 {
            self.next_local
        } else {
            self.next_remote
        };
        if id != 0 && id < next {
            Ok(self.streams.get_mut(&id))
        } else {
            Err(SessionError::StreamState { id })
        }
    }

    // --- bookkeeping --------------------------------------------------------------------

    fn has_event(&mut self, id: u64) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.in_events
        {
            stream.in_events = true;
            self.events.push_back(id);
        }
    }

    fn wants_turn(&mut self, id: u64) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.in_ring
            && stream.wants_turn()
        {
            stream.in_ring = true;
            self.ring.push_back(id);
        }
    }

    fn drop_if_over(&mut self, id: u64) {
        if self.streams.get(&id).is_some_and(Stream::is_over) {
            self.streams.remove(&id);
        }
    }

    /// Ends the session for a reason the owner did not choose.
    fn end(&mut self, code: ErrorCode) {
        self.state = State::Closing(code);
        self.gone = Some(code);
        self.drop_output();
    }

    fn drop_output(&mut self) {
        self.control.clear();
        self.ring.clear();
        self.ping = None;
        self.pong = None;
    }

    /// Bytes held for all streams and in the queues.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        let queued: usize = self.control.iter().map(Vec::len).sum();
        queued
            + 8 * (self.ring.len() + self.events.len())
            + self.streams.values().map(Stream::held).sum::<usize>()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("local", &self.local)
            .field("remote", self.remote.principal())
            .field("role", &self.role)
            .field("streams", &self.streams.len())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
