//! What a session's task and the application's handles share: the state machine, and who waits for what.
//!
//! Nothing here waits while the lock is held. Bytes go straight from the application into the machine's
//! bounded send buffers and back, so there is no queue besides those.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clawchat_snap2p::{ErrorCode, FrameReader, OpenError, Session, SessionEvent, StreamId};
use clawchat_types::{Moment, NodeId, PeerId, Principal};
use tokio::sync::{Notify, watch};

use crate::{SessionClosed, StreamError};

/// Bytes collected for one write, give or take a frame.
const MAX_WRITE: usize = 64 * 1024;

/// What a session is between. Never changes.
pub(super) struct Parties {
    pub(super) local: Principal,
    pub(super) remote: Principal,
    pub(super) remote_node: NodeId,
    pub(super) attestation: Vec<u8>,
    pub(super) outbound: bool,
    pub(super) place: Place,
}

/// Where the other end of a session is.
pub(super) struct Place {
    /// Its gateway.
    pub(super) peer: PeerId,
    /// Whether the connection goes through a relay.
    pub(super) relayed: bool,
    /// The host of the connection's other end; unknown through a relay.
    pub(super) host: Option<IpAddr>,
    /// The relay, as far as it is known.
    pub(super) relay: Option<PeerId>,
}

/// The shared part of one session.
pub(super) struct Shared {
    pub(super) parties: Parties,
    /// Tells the writing side of the task that there may be something to send.
    pub(super) writer: Notify,
    /// Tells the task that it may have to tell the time earlier than it thought.
    pub(super) hasty: Notify,
    /// Tells the task that nobody wants the session any more.
    pub(super) abandoned: Notify,
    arrivals: Notify,
    ended: watch::Sender<Option<SessionClosed>>,
    state: Mutex<State>,
}

struct State {
    session: Session,
    streams: HashMap<StreamId, Entry>,
    /// Streams the peer opened and nobody took yet. Bounded by the session's own limit of streams.
    arrivals: VecDeque<(StreamId, String)>,
    abandoned: bool,
}

/// One stream the application knows or is to be offered.
#[derive(Default)]
struct Entry {
    inbox: VecDeque<Bytes>,
    finished_by_peer: bool,
    error: Option<StreamError>,
    reader_gone: bool,
    writer_gone: bool,
    signals: Arc<Signals>,
}

/// Where the two halves of a stream wait.
#[derive(Default)]
pub(super) struct Signals {
    pub(super) readable: Notify,
    pub(super) writable: Notify,
}

/// What a reader finds.
pub(super) enum Read {
    Bytes(Bytes),
    End,
    Failed(StreamError),
    /// Nothing yet.
    Wait,
}

/// How a frame or the end of the bytes left the session.
pub(super) enum Fed {
    /// More may come.
    GoOn,
    /// The session is over.
    Over,
}

impl Shared {
    /// Around a session that just began.
    pub(super) fn new(session: Session, place: Place) -> Self {
        let parties = Parties {
            local: *session.local(),
            remote: *session.remote(),
            remote_node: *session.remote_node(),
            attestation: session.remote_attestation().to_bytes(),
            outbound: session.is_initiator(),
            place,
        };
        let state = State {
            session,
            streams: HashMap::new(),
            arrivals: VecDeque::new(),
            abandoned: false,
        };
        Self {
            parties,
            writer: Notify::new(),
            hasty: Notify::new(),
            abandoned: Notify::new(),
            arrivals: Notify::new(),
            ended: watch::Sender::new(None),
            state: Mutex::new(state),
        }
    }

    // --- for the session's task ---------------------------------------------------------

    /// Hands complete frames to the machine.
    pub(super) fn feed(&self, frames: &mut FrameReader, now: Moment) -> Fed {
        let mut state = self.lock();
        let mut end = None;
        while end.is_none() {
            match frames.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    if let Err(error) = state.session.handle_frame(&frame, now) {
                        end = Some(SessionClosed::Protocol(error.to_string()));
                    }
                }
                Err(error) => {
                    state.session.close(ErrorCode::ProtocolViolation);
                    end = Some(SessionClosed::Protocol(error.to_string()));
                }
            }
            // Taken after every frame: what waits in the machine stays small.
            let gone = self.pump(&mut state);
            end = end.or(gone.map(SessionClosed::ByPeer));
        }
        self.settle(&mut state, end)
    }

    /// Tells the machine the time.
    pub(super) fn handle_timeout(&self, now: Moment) -> Fed {
        let mut state = self.lock();
        state.session.handle_timeout(now);
        let gone = self.pump(&mut state);
        self.settle(&mut state, gone.map(|_| SessionClosed::Dead))
    }

    /// Appends what is to be sent. Says whether the session goes on after that.
    pub(super) fn transmit(&self, out: &mut Vec<u8>) -> Fed {
        let mut state = self.lock();
        while out.len() < MAX_WRITE && state.session.poll_transmit(out) {}
        self.pump(&mut state);
        self.settle(&mut state, None);
        if out.is_empty() && state.session.is_closed() {
            Fed::Over
        } else {
            Fed::GoOn
        }
    }

    /// When the machine wants to be told the time.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.lock().session.poll_timeout()
    }

    /// The session is over, whatever the machine thinks. The first reason counts.
    pub(super) fn end(&self, reason: SessionClosed) {
        let mut state = self.lock();
        state.session.close(ErrorCode::NoError);
        self.settle(&mut state, Some(reason));
    }

    // --- for handles --------------------------------------------------------------------

    /// An answer is overdue.
    pub(super) fn doubt(&self, now: Moment) {
        self.lock().session.doubt(now);
        self.hasty.notify_one();
        self.writer.notify_one();
    }

    /// Ends the session from this side.
    pub(super) fn close(&self, code: ErrorCode) {
        let mut state = self.lock();
        state.session.close(code);
        self.settle(&mut state, Some(SessionClosed::ByUs));
        drop(state);
        self.writer.notify_one();
    }

    /// The last handle is gone: the session ends as soon as its finished streams are delivered.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        while let Some((id, _)) = state.arrivals.pop_front() {
            state.session.refuse(id, ErrorCode::StreamRefused);
            state.streams.remove(&id);
        }
        self.settle(&mut state, None);
        drop(state);
        self.abandoned.notify_one();
        self.writer.notify_one();
    }

    pub(super) fn closed(&self) -> Option<SessionClosed> {
        self.ended.borrow().clone()
    }

    pub(super) fn ended(&self) -> watch::Receiver<Option<SessionClosed>> {
        self.ended.subscribe()
    }

    pub(super) fn open(&self, label: &str) -> Result<(StreamId, Arc<Signals>), StreamError> {
        let mut state = self.lock();
        let id = state.session.open(label).map_err(|error| match error {
            OpenError::Closed => {
                StreamError::SessionClosed(self.closed().unwrap_or(SessionClosed::ConnectionLost))
            }
            error => StreamError::Refused(error.to_string()),
        })?;
        let entry = Entry::default();
        let signals = Arc::clone(&entry.signals);
        state.streams.insert(id, entry);
        drop(state);
        self.writer.notify_one();
        Ok((id, signals))
    }

    /// The next stream the peer opened. With `None`, [`Shared::arrival`] says when to look again.
    pub(super) fn take_arrival(&self) -> Option<(StreamId, String)> {
        let mut state = self.lock();
        let next = state.arrivals.pop_front();
        if !state.arrivals.is_empty() {
            self.arrivals.notify_one();
        }
        next
    }

    pub(super) async fn arrival(&self) {
        self.arrivals.notified().await;
    }

    pub(super) fn accept(&self, id: StreamId) -> Arc<Signals> {
        let mut state = self.lock();
        state.session.accept(id);
        self.pump(&mut state);
        let signals = state
            .streams
            .get(&id)
            .map(|entry| Arc::clone(&entry.signals))
            .unwrap_or_default();
        drop(state);
        self.writer.notify_one();
        signals
    }

    pub(super) fn refuse(&self, id: StreamId, code: ErrorCode) {
        let mut state = self.lock();
        state.session.refuse(id, code);
        state.streams.remove(&id);
        drop(state);
        self.writer.notify_one();
    }

    pub(super) fn read(&self, id: StreamId) -> Read {
        let mut state = self.lock();
        let Some(entry) = state.streams.get_mut(&id) else {
            return Read::End;
        };
        if let Some(bytes) = entry.inbox.pop_front() {
            state.session.consumed(id, bytes.len());
            self.pump(&mut state);
            drop(state);
            self.writer.notify_one();
            return Read::Bytes(bytes);
        }
        match (&entry.error, entry.finished_by_peer) {
            (_, true) => Read::End,
            (Some(error), false) => Read::Failed(error.clone()),
            (None, false) => Read::Wait,
        }
    }

    /// Takes as many bytes as there is room for.
    pub(super) fn write(&self, id: StreamId, bytes: &[u8]) -> Result<usize, StreamError> {
        let mut state = self.lock();
        if let Some(error) = state.streams.get(&id).and_then(|entry| entry.error.clone()) {
            return Err(error);
        }
        let taken = state.session.write(id, bytes);
        drop(state);
        if taken > 0 {
            self.writer.notify_one();
        }
        Ok(taken)
    }

    pub(super) fn finish(&self, id: StreamId) {
        self.lock().session.finish(id);
        self.writer.notify_one();
    }

    pub(super) fn reset(&self, id: StreamId, code: ErrorCode) {
        let mut state = self.lock();
        state.session.reset(id, code);
        if let Some(entry) = state.streams.get_mut(&id) {
            entry.inbox.clear();
            entry.fail(StreamError::Finished);
        }
        drop(state);
        self.writer.notify_one();
    }

    /// The reading half is gone: what still arrives is discarded, so that the peer is not held up.
    pub(super) fn drop_reader(&self, id: StreamId) {
        let mut state = self.lock();
        let Some(entry) = state.streams.get_mut(&id) else {
            return;
        };
        entry.reader_gone = true;
        let unread = entry.inbox.drain(..).map(|bytes| bytes.len()).sum();
        state.forget_if_unused(id);
        state.session.consumed(id, unread);
        self.pump(&mut state);
        drop(state);
        self.writer.notify_one();
    }

    /// The writing half is gone, finished or reset before.
    pub(super) fn drop_writer(&self, id: StreamId) {
        let mut state = self.lock();
        if let Some(entry) = state.streams.get_mut(&id) {
            entry.writer_gone = true;
        }
        state.forget_if_unused(id);
    }

    // --- inside -------------------------------------------------------------------------

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes every event of the machine to where it is waited for. Gives the code of a session that ended.
    fn pump(&self, state: &mut State) -> Option<ErrorCode> {
        let mut gone = None;
        while let Some(event) = state.session.poll_event() {
            match event {
                SessionEvent::Opened { id, .. } if state.abandoned => {
                    state.session.refuse(id, ErrorCode::StreamRefused);
                }
                SessionEvent::Opened { id, label } => {
                    state.streams.insert(id, Entry::default());
                    state.arrivals.push_back((id, label));
                    self.arrivals.notify_one();
                }
                SessionEvent::Data { id, bytes } => match state.streams.get_mut(&id) {
                    Some(entry) if !entry.reader_gone => {
                        entry.inbox.push_back(bytes);
                        entry.signals.readable.notify_one();
                    }
                    _ => state.session.consumed(id, bytes.len()),
                },
                SessionEvent::Finished { id } => {
                    if let Some(entry) = state.streams.get_mut(&id) {
                        entry.finished_by_peer = true;
                        entry.signals.readable.notify_one();
                    }
                }
                SessionEvent::StreamWritable { id } => {
                    if let Some(entry) = state.streams.get(&id) {
                        entry.signals.writable.notify_one();
                    }
                }
                SessionEvent::Closed { id, code } => {
                    if let Some(entry) = state.streams.get_mut(&id) {
                        entry.fail(StreamError::Reset(code));
                    }
                }
                SessionEvent::GoneAway { code } => gone = Some(code),
            }
        }
        gone
    }

    /// Draws the consequences of what just happened.
    fn settle(&self, state: &mut State, end: Option<SessionClosed>) -> Fed {
        let mut end = end;
        if state.abandoned && state.session.open_streams() == 0 && !state.session.is_closed() {
            state.session.close(ErrorCode::NoError);
            end = Some(SessionClosed::ByUs);
            self.writer.notify_one();
        }
        if let Some(reason) = end {
            self.ended.send_if_modified(|ended| match ended {
                Some(_) => false,
                None => {
                    *ended = Some(reason.clone());
                    true
                }
            });
            for entry in state.streams.values_mut() {
                entry.fail(StreamError::SessionClosed(reason.clone()));
            }
        }
        if state.session.is_closed() {
            Fed::Over
        } else {
            Fed::GoOn
        }
    }
}

impl State {
    fn forget_if_unused(&mut self, id: StreamId) {
        if self
            .streams
            .get(&id)
            .is_some_and(|entry| entry.reader_gone && entry.writer_gone)
        {
            self.streams.remove(&id);
        }
    }
}

impl Entry {
    /// The first failure stays.
    fn fail(&mut self, error: StreamError) {
        self.error.get_or_insert(error);
        self.signals.readable.notify_one();
        self.signals.writable.notify_one();
    }
}
