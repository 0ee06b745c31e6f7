//! Many small writes become few large ones.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use clawchat_testkit::Person::{Alice, Bob};
use futures::{AsyncRead, AsyncWrite};
use tokio::io::{AsyncRead as _, AsyncWrite as _, DuplexStream, ReadBuf};

use super::support::{Hosted, credentials, read_all, within};
use crate::session::testing::connect;

/// One end of a pipe that counts what is done to it.
struct Counted {
    pipe: DuplexStream,
    writes: Arc<AtomicUsize>,
    flushes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(Pin::new(&mut self.pipe).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.pipe).poll_write(cx, buf));
        self.writes.fetch_add(1, Relaxed);
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushes.fetch_add(1, Relaxed);
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_thousand_small_messages_take_a_handful_of_writes_and_one_flush() {
    let (near, far) = tokio::io::duplex(1024 * 1024);
    let count = |pipe| Counted {
        pipe,
        writes: Arc::default(),
        flushes: Arc::default(),
    };
    let (near, far) = (count(near), count(far));
    let (writes, flushes) = (Arc::clone(&near.writes), Arc::clone(&near.flushes));
    let (ours, theirs) = within(connect(near, far, credentials(Alice), Hosted::new(&[Bob]))).await;
    let mut stream = ours.open_stream("chat").await.unwrap();
    stream.write_all("first".into()).await.unwrap();
    let mut received = within(theirs.accept()).await.unwrap().accept();

    let before = (writes.load(Relaxed), flushes.load(Relaxed));
    for _ in 0..1000 {
        stream.write_all(vec![7; 100].into()).await.unwrap();
    }
    stream.finish();
    assert_eq!(read_all(&mut received).await.len(), 5 + 100_000);
    let (writes, flushes) = (writes.load(Relaxed) - before.0, flushes.load(Relaxed) - before.1);
    assert!(writes <= 4, "{writes} writes for 1000 messages");
    assert!(flushes <= 2, "{flushes} flushes for 1000 messages");
}
