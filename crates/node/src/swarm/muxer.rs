//! A connection that cannot refuse to be closed.
//!
//! Closing writes what is still buffered, and a peer that reads nothing could make that last for ever. After
//! a while the connection is simply dropped.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::StreamMuxer;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use tokio::time::Sleep;

/// How long a connection may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// A muxer whose closing takes at most [`CLOSE_TIMEOUT`].
pub(crate) struct BoundedClose {
    inner: StreamMuxerBox,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl BoundedClose {
    /// Wraps a muxer.
    pub(crate) fn new(inner: StreamMuxerBox) -> Self {
        Self {
            inner,
            deadline: None,
        }
    }
}

impl StreamMuxer for BoundedClose {
    type Substream = SubstreamBox;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        Pin::new(&mut self.inner).poll_inbound(cx)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        Pin::new(&mut self.inner).poll_outbound(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)));
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
