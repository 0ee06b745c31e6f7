//! The task that owns a connection: it moves frames between the socket and the two halves of a [`super::WsLink`].

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc as batches;
use futures::{FutureExt as _, Sink as _, SinkExt as _, Stream as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::WsLimits;
use super::gate::{Gate, Verdict};
use super::link::{Outgoing, WsEnd, WsFrame};

/// What is read from the network at once, in bytes. Kept by every link.
const READ_BUFFER_BYTES: usize = 16 * 1024;
/// What is put together before it is written to the network, in bytes.
const WRITE_BUFFER_BYTES: usize = 32 * 1024;
/// Longest frame sent, in bytes: longer messages go in several, so that no link keeps a large buffer.
const MAX_FRAME_SENT_BYTES: usize = 128 * 1024;
/// Most that waits to be written, in bytes: two buffers and a frame, the rest for pongs.
const MAX_UNWRITTEN_BYTES: usize = 256 * 1024;
/// Frames that wait for the reader, in bytes and in number; twice this can be on its way to it.
const MAX_BATCH_BYTES: usize = 64 * 1024;
const MAX_BATCH_FRAMES: usize = 256;
/// Pings and pongs a peer may send within [`CONTROL_WINDOW`].
const MAX_CONTROL_FRAMES: u32 = 100;
/// How far back they are counted.
const CONTROL_WINDOW: Duration = Duration::from_secs(1);
/// How long a long message may take once there is room for it.
const LONG_MESSAGE_LIMIT: Duration = Duration::from_secs(120);
/// How long the last frames of a link that has ended may wait for its reader.
const LAST_FRAMES_LIMIT: Duration = Duration::from_secs(60);
/// How long saying goodbye may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);
/// How long a peer whose message was refused may pause before the connection is cut.
const DRAIN_PAUSE: Duration = Duration::from_millis(500);
/// What is read and thrown away of such a peer, in bytes.
const MAX_DRAINED_BYTES: usize = 64 * 1024 * 1024;
/// Longest reason in a close frame (RFC 6455 §5.5), in bytes.
const MAX_REASON_BYTES: usize = 123;

/// Messages to be sent, and whom to tell when they are.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) messages: Vec<Outgoing>,
    pub(super) done: oneshot::Sender<()>,
}

/// The wish to close.
#[derive(Debug)]
pub(super) struct Goodbye {
    code: u16,
    reason: String,
}

impl Goodbye {
    pub(super) fn new(code: u16, reason: &str) -> Self {
        let mut end = reason.len().min(MAX_REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            code,
            reason: reason.get(..end).unwrap_or_default().to_owned(),
        }
    }
}

/// How every connection is set up.
pub(super) fn config(limits: &WsLimits) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(MAX_UNWRITTEN_BYTES)
        .max_message_size(Some(limits.message_bytes))
        .max_frame_size(Some(limits.message_bytes))
}

/// The ends of the channels that a pump works with.
pub(super) struct Ends {
    pub(super) batches: batches::Sender<Vec<WsFrame>>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) close: oneshot::Receiver<Goodbye>,
    pub(super) end: Arc<OnceLock<WsEnd>>,
}

/// Why a pump stops pumping.
enum Stop {
    /// This side wants to close.
    Asked(Goodbye),
    /// The peer closed.
    Closed(Option<u16>),
    /// There was a message longer than that.
    TooLong(usize),
    /// The peer broke the rules, in a way this close code has a word for.
    Broken(CloseCode, &'static str),
    Silent,
    Lost,
}

/// See the module.
pub(super) struct Pump<S> {
    /// `None` only for the moment in which it is rebuilt.
    socket: Option<WebSocketStream<Gate<S>>>,
    role: Role,
    limits: WsLimits,
    ends: Ends,
    /// What the reader gets next.
    batch: Vec<WsFrame>,
    batch_bytes: usize,
    /// Frames of the order that is being written.
    pieces: VecDeque<Message>,
    done: Option<oneshot::Sender<()>>,
    /// Something is written that was not flushed.
    unflushed: bool,
    /// The peer takes no bytes at the moment.
    blocked: bool,
    /// A long message was taken: its buffer is to be let go.
    rebuild: bool,
    heard: Instant,
    pinged: bool,
    control_frames: u32,
    control_since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pump<S> {
    pub(super) fn new(socket: WebSocketStream<Gate<S>>, role: Role, limits: WsLimits, ends: Ends) -> Self {
        let now = Instant::now();
        Self {
            socket: Some(socket),
            role,
            timer: Box::pin(sleep(limits.ping_after)),
            limits,
            ends,
            batch: Vec::new(),
            batch_bytes: 0,
            pieces: VecDeque::new(),
            done: None,
            unflushed: false,
            blocked: false,
            rebuild: false,
            heard: now,
            pinged: false,
            control_frames: 0,
            control_since: now,
        }
    }

    /// Works until the link has ended, and says goodbye as is proper.
    pub(super) async fn run(mut self) {
        let stop = poll_fn(|cx| self.poll(cx)).await;
        let end = match &stop {
            Stop::Asked(_) => WsEnd::ClosedHere,
            Stop::Closed(code) => WsEnd::Closed { code: *code },
            Stop::TooLong(_) => WsEnd::TooLong,
            Stop::Broken(_, _) => WsEnd::Broken,
            Stop::Silent => WsEnd::Silent,
            Stop::Lost => WsEnd::Lost,
        };
        let _ = self.ends.end.set(end);
        let Self {
            socket,
            ends,
            batch,
            done,
            ..
        } = self;
        let Ends {
            mut batches,
            orders,
            close,
            ..
        } = ends;
        // The writer learns of it at once.
        drop((done, orders, close));
        // What came before the end is delivered, and the reader learns of the end behind it.
        let last_frames = async move {
            if !batch.is_empty() {
                // Fails when nobody reads any more.
                let _ = timeout(LAST_FRAMES_LIMIT, batches.send(batch)).await;
            }
        };
        let goodbye = async move {
            if let Some(socket) = socket {
                let _ = timeout(GOODBYE_LIMIT, goodbye(socket, stop)).await;
            }
        };
        tokio::join!(last_frames, goodbye);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        if let Poll::Ready(asked) = self.ends.close.poll_unpin(cx) {
            // A writer that was dropped said nothing.
            return Poll::Ready(Stop::Asked(
                asked.unwrap_or_else(|_| Goodbye::new(CloseCode::Normal.into(), "")),
            ));
        }
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(stop_of(&error));
        }
        // Whether it stops at the network, and not for want of orders.
        self.blocked = self.done.is_some();
        if let Poll::Ready(stop) = self.poll_read(cx) {
            return Poll::Ready(stop);
        }
        // Answers to pings were written while reading.
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return Poll::Ready(stop_of(&error));
        }
        self.poll_timer(cx)
    }

    /// Writes order after order.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if self.is_deaf() {
                // Nothing more is taken, and what was is not said to be sent. Reading goes on until the end.
                return Poll::Pending;
            }
            while !self.pieces.is_empty() {
                let Some(socket) = self.socket.as_mut() else {
                    return Poll::Pending;
                };
                ready!(Pin::new(&mut *socket).poll_ready(cx))?;
                if self.blocked {
                    // A peer that reads slowly, and has nothing to say meanwhile, is not dead.
                    self.blocked = false;
                    self.heard = Instant::now();
                }
                if let Some(piece) = self.pieces.pop_front() {
                    self.unflushed = true;
                    Pin::new(socket).start_send(piece)?;
                }
            }
            ready!(self.poll_flush(cx))?;
            if self.is_deaf() {
                continue;
            }
            if std::mem::take(&mut self.blocked) {
                self.heard = Instant::now();
            }
            if let Some(done) = self.done.take() {
                // Whoever no longer waits for it does not care.
                let _ = done.send(());
            }
            let Some(order) = ready!(self.ends.orders.poll_recv(cx)) else {
                return Poll::Pending;
            };
            self.pieces = order.messages.into_iter().flat_map(pieces).collect();
            self.done = Some(order.done);
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.unflushed {
            if let Some(socket) = self.socket.as_mut() {
                ready!(Pin::new(socket).poll_flush(cx))?;
            }
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads as long as there is room for it.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        loop {
            if !self.batch.is_empty() {
                match self.ends.batches.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {
                        self.batch_bytes = 0;
                        if self
                            .ends
                            .batches
                            .start_send(std::mem::take(&mut self.batch))
                            .is_err()
                        {
                            return Poll::Ready(Stop::Asked(nobody_reads()));
                        }
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Stop::Asked(nobody_reads())),
                    Poll::Pending => {}
                }
            }
            if self.batch_bytes >= MAX_BATCH_BYTES || self.batch.len() >= MAX_BATCH_FRAMES {
                // It is not the peer who is silent.
                self.heard = Instant::now();
                return Poll::Pending;
            }
            if self.rebuild && !ready!(self.poll_rebuild(cx)) {
                return Poll::Ready(Stop::Lost);
            }
            let Some(socket) = self.socket.as_mut() else {
                return Poll::Ready(Stop::Lost);
            };
            let read = ready!(Pin::new(&mut *socket).poll_next(cx));
            self.heard = Instant::now();
            self.pinged = false;
            match read {
                Some(Ok(Message::Text(text))) => self.take(text.into()),
                Some(Ok(Message::Binary(bytes))) => self.take(bytes),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                    self.unflushed = true;
                    if self.is_flood() {
                        let why = "too many pings";
                        return Poll::Ready(Stop::Broken(CloseCode::Policy, why));
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    return Poll::Ready(Stop::Closed(frame.map(|frame| frame.code.into())));
                }
                // Only made for sending.
                Some(Ok(Message::Frame(_))) => {}
                None => return Poll::Ready(Stop::Closed(None)),
                Some(Err(error)) => {
                    return Poll::Ready(match socket.get_ref().verdict() {
                        Some(Verdict::TooLong { limit }) => Stop::TooLong(limit),
                        Some(Verdict::Broken) => Stop::Broken(CloseCode::Protocol, "control frame too long"),
                        None => stop_of(&error),
                    });
                }
            }
        }
    }

    /// Adds a message to what the reader gets.
    fn take(&mut self, bytes: Bytes) {
        let places = self
            .socket
            .as_mut()
            .and_then(|socket| socket.get_mut().take_places())
            .map(Arc::new);
        self.rebuild |= places.is_some();
        self.batch_bytes += bytes.len();
        self.batch.push(WsFrame {
            bytes,
            _places: places,
        });
    }

    /// Makes a new decoder, with a small buffer. The one that took a long message would keep a buffer of that length.
    /// There is nothing in it: the gate has let nothing by that stood behind that message. `false` says it failed.
    fn poll_rebuild(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.unflushed = true;
        if ready!(self.poll_flush(cx)).is_err() {
            return Poll::Ready(false);
        }
        let Some(socket) = self.socket.take() else {
            return Poll::Ready(false);
        };
        let mut gate = socket.into_inner();
        gate.pass_on();
        let remade = WebSocketStream::from_raw_socket(gate, self.role, Some(config(&self.limits)));
        self.socket = remade.now_or_never();
        self.rebuild = false;
        Poll::Ready(self.socket.is_some())
    }

    fn is_deaf(&self) -> bool {
        self.socket
            .as_ref()
            .is_some_and(|socket| socket.get_ref().is_deaf())
    }

    fn is_flood(&mut self) -> bool {
        if self.control_since.elapsed() > CONTROL_WINDOW {
            self.control_since = Instant::now();
            self.control_frames = 0;
        }
        self.control_frames += 1;
        self.control_frames > MAX_CONTROL_FRAMES
    }

    /// Pings a silent peer, and gives it up when it stays silent.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            let Some(socket) = self.socket.as_mut() else {
                return Poll::Ready(Stop::Lost);
            };
            let long_since = socket.get_ref().long_since();
            if long_since.is_some_and(|since| since + LONG_MESSAGE_LIMIT <= now) {
                return Poll::Ready(Stop::Silent);
            }
            if socket.get_ref().is_waiting() {
                // It waits for others.
                self.heard = now;
            }
            if self.heard + self.limits.dead_after <= now {
                return Poll::Ready(Stop::Silent);
            }
            let next = if self.heard + self.limits.ping_after > now {
                self.heard + self.limits.ping_after
            } else {
                // Where the peer takes nothing, a ping would not reach it either.
                if !self.pinged && self.done.is_none() && Pin::new(&mut *socket).poll_ready(cx).is_ready() {
                    self.pinged = true;
                    self.unflushed = true;
                    if let Err(error) = Pin::new(socket).start_send(Message::Ping(Bytes::new())) {
                        return Poll::Ready(stop_of(&error));
                    }
                    if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                        return Poll::Ready(stop_of(&error));
                    }
                }
                self.heard + self.limits.dead_after
            };
            let next = long_since.map_or(next, |since| next.min(since + LONG_MESSAGE_LIMIT));
            self.timer.as_mut().reset(next);
        }
    }
}

fn nobody_reads() -> Goodbye {
    Goodbye::new(CloseCode::Away.into(), "")
}

/// The frames that a message is sent in.
fn pieces(message: Outgoing) -> Vec<Message> {
    let text = message.0.concat();
    if text.len() <= MAX_FRAME_SENT_BYTES {
        return vec![Message::text(text)];
    }
    let bytes = Bytes::from(text);
    let count = bytes.len().div_ceil(MAX_FRAME_SENT_BYTES);
    (0..count)
        .map(|number| {
            let from = number * MAX_FRAME_SENT_BYTES;
            let piece = bytes.slice(from..bytes.len().min(from + MAX_FRAME_SENT_BYTES));
            let kind = if number == 0 { Data::Text } else { Data::Continue };
            Message::Frame(Frame::message(piece, OpCode::Data(kind), number + 1 == count))
        })
        .collect()
}

fn stop_of(error: &Error) -> Stop {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Stop::Closed(None),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Stop::Lost,
        Error::Protocol(_) => Stop::Broken(CloseCode::Protocol, "protocol error"),
        Error::Utf8(_) => Stop::Broken(CloseCode::Invalid, "a text frame is not UTF-8"),
        // Of a message in many frames the library finds it first.
        Error::Capacity(tokio_tungstenite::tungstenite::error::CapacityError::MessageTooLong {
            max_size,
            ..
        }) => Stop::TooLong(*max_size),
        Error::WriteBufferFull(_) => Stop::Broken(CloseCode::Policy, "pings, and nothing is read"),
        _ => Stop::Lost,
    }
}

/// The last words, and what politeness demands behind them.
async fn goodbye<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<Gate<S>>, stop: Stop) {
    match stop {
        Stop::Asked(Goodbye { code, reason }) => {
            let frame = CloseFrame {
                code: code.into(),
                reason: reason.into(),
            };
            if socket.send(Message::Close(Some(frame))).await.is_ok() {
                // Until the peer has answered.
                while let Some(Ok(_)) = socket.next().await {
                    socket.get_mut().pass_on();
                }
            }
        }
        Stop::Closed(_) => {
            // The library has an answer ready.
            let _ = socket.flush().await;
        }
        Stop::TooLong(limit) => {
            let told = format!(
                r#"{{"type":"error","code":"invalid_message","message":"Message longer than {limit} bytes"}}"#
            );
            let _ = socket.feed(Message::text(told)).await;
            refuse(&mut socket, CloseCode::Size, "message too long").await;
        }
        Stop::Broken(code, reason) => refuse(&mut socket, code, reason).await,
        Stop::Silent | Stop::Lost => return,
    }
    let _ = socket.get_mut().socket().shutdown().await;
}

/// Tells the peer, and goes on reading for a moment: a connection closed with unread bytes in it is reset, and the
/// peer would never see what it was told.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<Gate<S>>,
    code: CloseCode,
    reason: &'static str,
) {
    let frame = CloseFrame {
        code,
        reason: reason.into(),
    };
    let _ = socket.send(Message::Close(Some(frame))).await;
    let raw = socket.get_mut().socket();
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let mut drained = 0;
    while drained < MAX_DRAINED_BYTES {
        match timeout(DRAIN_PAUSE, raw.read(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => drained += count,
            Ok(_) | Err(_) => return,
        }
    }
}
