//! One connection between two peers, as its owner sees it: frames come out of it, frames go into it.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::channel::mpsc as batches;
use tokio::sync::{mpsc, oneshot};

use super::gate::{Held, Opened};
use super::pump::{Goodbye, Order};

/// An open connection. Nothing is read ahead of its reader but a few frames, and nothing is sent that nobody handed in;
/// pings are sent and answered by themselves. Dropping it, or its writer, closes it.
#[derive(Debug)]
pub struct WsLink {
    pub(super) remote: SocketAddr,
    pub(super) reader: WsReader,
    pub(super) writer: WsWriter,
}

/// The half that frames come out of.
#[derive(Debug)]
pub struct WsReader {
    pub(super) batches: batches::Receiver<Vec<WsFrame>>,
    pub(super) ready: VecDeque<WsFrame>,
    pub(super) opened: Arc<Opened>,
    pub(super) end: Arc<OnceLock<WsEnd>>,
}

/// The half that frames go into.
#[derive(Debug)]
pub struct WsWriter {
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) close: Option<oneshot::Sender<Goodbye>>,
}

/// The contents of a message that came in, text and binary alike. A long one holds a place among all the long ones
/// there may be at a time, until it is dropped; so it is not to be kept.
#[derive(Debug)]
pub struct WsFrame {
    pub(super) bytes: Bytes,
    pub(super) _places: Option<Arc<Held>>,
}

/// Why a link is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WsEnd {
    /// The peer closed it, in order.
    Closed {
        /// With which code, if it gave one (RFC 6455 §7.4).
        code: Option<u16>,
    },
    /// This side closed it.
    ClosedHere,
    /// The peer sent a message longer than it may. It was told so.
    TooLong,
    /// The peer broke the rules of WebSocket, or sent more pings than anybody needs. It was told so.
    Broken,
    /// Nothing came from the peer for too long, pings or not, or a long message took too long.
    Silent,
    /// The connection broke.
    Lost,
}

impl WsLink {
    /// The address at the other end.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Both halves, for two tasks.
    #[must_use]
    pub fn split(self) -> (WsReader, WsWriter) {
        (self.reader, self.writer)
    }
}

impl WsReader {
    /// The next message; `None` when there will be no more, and [`Self::end`] says why. Nothing is lost when the
    /// future is dropped. While nobody asks, the connection is not read (after a few frames), and the peer waits.
    pub async fn next(&mut self) -> Option<WsFrame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            self.ready = self.batches.next().await?.into();
        }
    }

    /// The next message, if it is already here.
    pub fn try_next(&mut self) -> Option<WsFrame> {
        if self.ready.is_empty() {
            self.ready = self.batches.try_recv().ok()?.into();
        }
        self.ready.pop_front()
    }

    /// From now on messages of every allowed length may come: the peer has said who it is. Before this a second
    /// message that is long waits, and a first one ends the link.
    pub fn admit_long_messages(&self) {
        self.opened.open();
    }

    /// Why the link ended; `None` while it stands.
    #[must_use]
    pub fn end(&self) -> Option<WsEnd> {
        self.end.get().cloned()
    }
}

impl WsWriter {
    /// Sends messages, each as one text frame (very long ones in several), and returns when the system has taken the
    /// last byte of them: then it is time for more. When the future is dropped they are sent all the same, unless the
    /// link ends.
    ///
    /// # Errors
    /// [`WsClosed`] when the link ended before.
    pub async fn send(&mut self, messages: Vec<Outgoing>) -> Result<(), WsClosed> {
        let (done, taken) = oneshot::channel();
        self.orders
            .send(Order { messages, done })
            .await
            .map_err(|_| WsClosed)?;
        taken.await.map_err(|_| WsClosed)
    }

    /// Closes the link, with a code (RFC 6455 §7.4) and a reason of at most 123 bytes; what is longer is cut off.
    /// What [`Self::send`] returned for goes out before. The rest happens by itself, within a few seconds.
    pub fn close(mut self, code: u16, reason: &str) {
        if let Some(close) = self.close.take() {
            // Fails when the link has ended by itself.
            let _ = close.send(Goodbye::new(code, reason));
        }
    }
}

impl WsFrame {
    /// What was sent. Of a text frame it is valid UTF-8.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// One message to be sent: its parts are put together when it is its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing(pub(super) Vec<Arc<str>>);

impl Outgoing {
    /// How long it is, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|part| part.len()).sum()
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Arc<str>> for Outgoing {
    fn from(text: Arc<str>) -> Self {
        Self(vec![text])
    }
}

impl From<String> for Outgoing {
    fn from(text: String) -> Self {
        Self(vec![text.into()])
    }
}

impl From<Vec<Arc<str>>> for Outgoing {
    fn from(parts: Vec<Arc<str>>) -> Self {
        Self(parts)
    }
}

impl fmt::Display for WsEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { code: Some(code) } => write!(f, "the peer closed the connection (code {code})"),
            Self::Closed { code: None } => f.write_str("the peer closed the connection"),
            Self::ClosedHere => f.write_str("the connection was closed here"),
            Self::TooLong => f.write_str("the peer sent a message longer than allowed"),
            Self::Broken => f.write_str("the peer does not speak WebSocket as it should"),
            Self::Silent => f.write_str("nothing came from the peer for too long"),
            Self::Lost => f.write_str("the connection broke"),
        }
    }
}

/// The link has ended; [`WsReader::end`] says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection has ended")]
pub struct WsClosed;
