//! Moves a session's bytes: machine to substream and back, until the session is over.

use std::time::Duration;

use clawchat_snap2p::{ErrorCode, FrameReader};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::shared::{Fed, Shared};
use crate::SessionClosed;
use crate::clock::Clock;

/// Bytes read at once.
const READ_BUFFER: usize = 32 * 1024;
/// A write buffer that grew larger than this is given back when there is nothing to send, in bytes.
const KEPT_WRITE_BUFFER: usize = 4 * 1024;
/// How long the last words to the peer may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long finished streams are still delivered after the last handle is gone.
const ABANDONED_TIMEOUT: Duration = Duration::from_secs(5);

/// Drives the session until it is over, and says how it ended. `stop` becoming true ends it.
pub(super) async fn drive(
    shared: &Shared,
    io: impl AsyncRead + AsyncWrite + Unpin,
    mut frames: FrameReader,
    clock: Clock,
    stop: watch::Receiver<bool>,
) -> SessionClosed {
    let (reader, writer) = io.split();
    let mut writing = Box::pin(write(shared, writer));
    tokio::select! {
        () = &mut writing => {}
        () = read(shared, reader, &mut frames, clock) => last_words(shared, &mut writing).await,
        () = watch_time(shared, clock) => last_words(shared, &mut writing).await,
        () = stop_or_abandoned(shared, stop) => last_words(shared, &mut writing).await,
    }
    // Whatever ended it has said why; a broken substream has not.
    shared.end(SessionClosed::ConnectionLost);
    shared.closed().unwrap_or(SessionClosed::ConnectionLost)
}

async fn last_words(shared: &Shared, writing: &mut (impl Future<Output = ()> + Unpin)) {
    shared.writer.notify_one();
    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, writing).await;
}

/// Reads until the peer ends or breaks the session, or the substream ends.
async fn read(shared: &Shared, mut io: impl AsyncRead + Unpin, frames: &mut FrameReader, clock: Clock) {
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        // Before the first read: frames that came with the end of the handshake.
        if let Fed::Over = shared.feed(frames, clock.now()) {
            return;
        }
        shared.writer.notify_one();
        match io.read(&mut buffer).await {
            Ok(count) if count > 0 => frames.push(buffer.get(..count).unwrap_or_default()),
            Ok(_) | Err(_) => return shared.end(SessionClosed::ConnectionLost),
        }
    }
}

/// Writes what the session has to say until it is over: as much as there is in one go, flushed when there is
/// nothing more.
async fn write(shared: &Shared, mut io: impl AsyncWrite + Unpin) {
    let mut out = Vec::new();
    let mut flushed = true;
    loop {
        let fed = shared.transmit(&mut out);
        if !out.is_empty() {
            if io.write_all(&out).await.is_err() {
                return;
            }
            out.clear();
            flushed = false;
        } else if !flushed {
            if io.flush().await.is_err() {
                return;
            }
            flushed = true;
        } else if let Fed::Over = fed {
            let _ = io.close().await;
            return;
        } else {
            if out.capacity() > KEPT_WRITE_BUFFER {
                out = Vec::new();
            }
            shared.writer.notified().await;
        }
    }
}

/// Tells the session the time whenever it wants to know, until it gives the peer up.
async fn watch_time(shared: &Shared, clock: Clock) {
    loop {
        tokio::select! {
            () = clock.sleep_until(shared.deadline()) => {}
            () = shared.hasty.notified() => {}
        }
        if let Fed::Over = shared.handle_timeout(clock.now()) {
            return;
        }
        shared.writer.notify_one();
    }
}

/// Waits until the node stops, or nobody wants the session and its streams had their time.
async fn stop_or_abandoned(shared: &Shared, mut stop: watch::Receiver<bool>) {
    let abandoned = async {
        shared.abandoned.notified().await;
        tokio::time::sleep_until(Instant::now() + ABANDONED_TIMEOUT).await;
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = abandoned => {}
    }
    shared.close(ErrorCode::NoError);
}
