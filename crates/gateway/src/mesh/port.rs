//! A link, whatever carries it: frames are read and checked here, beside the engine, and texts are written.

use std::sync::Arc;
use std::time::Duration;

use clawchat_mesh::{LinkId, Origin, Received, Side, receive};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::hub::{Hub, Input, Port};

/// Texts handed to a link and not written yet. The machine keeps to a window in bytes; small frames come on top.
const OUT_TEXTS: usize = 16 * 1024;
/// Texts written together.
const WRITE_TOGETHER: usize = 128;
/// How long a link that is to be closed may take to write what was sent before.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Frames longer than this are checked on a thread of their own, in bytes: they may hold hundreds of signatures.
const LONG_FRAME: usize = 8 * 1024;
/// Frames checked and handed to the engine together, if they are there already. Verifying their signatures takes a
/// millisecond.
const READ_TOGETHER: usize = 32;
/// Bytes of frames above which no other is added to them.
const READ_TOGETHER_BYTES: usize = 16 * 1024;

/// The reading end of what carries a link.
pub(crate) trait FrameReader: Send {
    /// What holds a frame.
    type Frame: AsRef<[u8]> + Send + 'static;
    /// The next frame; `None` when there is none any more, for whatever reason.
    fn next(&mut self) -> impl Future<Output = Option<Self::Frame>> + Send;
    /// The next frame if it is here already, and does not have to wait for a place.
    fn try_next(&mut self) -> Option<Self::Frame>;
    /// The first frame has come: from now on they may be longer.
    fn admit_long_frames(&mut self);
}

/// The writing end.
pub(crate) trait FrameWriter: Send {
    /// Writes all texts, a frame each; false when that is impossible.
    fn write(&mut self, texts: &[Arc<str>]) -> impl Future<Output = bool> + Send;
    /// Says goodbye.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// Runs a link until it ends.
pub(super) async fn run<R: FrameReader, W: FrameWriter>(
    hub: Arc<Hub>,
    mut reader: R,
    mut writer: W,
    side: Side,
    origin: Origin,
    label: Arc<str>,
) {
    let link = hub.new_link();
    let (out, texts) = mpsc::channel(OUT_TEXTS);
    let (pause, paused) = watch::channel(false);
    let given_up = pause.subscribe();
    let port = Port {
        out,
        pause,
        label: Arc::clone(&label),
    };
    if hub
        .tell(Input::Opened {
            link,
            side,
            origin,
            port,
        })
        .await
        .is_err()
    {
        return;
    }
    tokio::select! {
        () = read(&hub, link, &mut reader, paused) => {}
        () = write(&hub, link, &mut writer, texts) => {}
        () = overdue(given_up) => debug!(%label, "a link does not take what it was sent"),
    }
    // Without an engine nobody needs to know.
    let _ = hub.tell(Input::Closed { link }).await;
    if timeout(CLOSE_LIMIT, writer.close()).await.is_err() {
        debug!(%label, "a link could not be closed in time");
    }
}

/// Until the peer ends it.
async fn read<R: FrameReader>(
    hub: &Arc<Hub>,
    link: LinkId,
    reader: &mut R,
    mut paused: watch::Receiver<bool>,
) {
    loop {
        if paused.wait_for(|paused| !paused).await.is_err() {
            // The engine has closed it: what was sent before is still written.
            std::future::pending::<()>().await;
        }
        let Some(first) = reader.next().await else {
            return;
        };
        reader.admit_long_frames();
        let frames = here(reader, first);
        let lengths = frames.iter().map(|frame| frame.as_ref().len()).collect();
        let Some(memory) = hub.memory_for(lengths).await else {
            return;
        };
        let mut inputs = Vec::with_capacity(frames.len());
        for (frame, memory) in frames.into_iter().zip(memory) {
            let Some(frame) = check(hub, frame).await else {
                return;
            };
            inputs.push(Input::Frame {
                link,
                frame,
                _memory: memory,
            });
        }
        if hub.tell_all(inputs).await.is_err() {
            return;
        }
    }
}

/// A frame, and those behind it that are here already.
fn here<R: FrameReader>(reader: &mut R, first: R::Frame) -> Vec<R::Frame> {
    let mut bytes = first.as_ref().len();
    let mut frames = vec![first];
    while frames.len() < READ_TOGETHER
        && bytes < READ_TOGETHER_BYTES
        && let Some(next) = reader.try_next()
    {
        bytes += next.as_ref().len();
        frames.push(next);
    }
    frames
}

async fn check<F: AsRef<[u8]> + Send + 'static>(hub: &Arc<Hub>, frame: F) -> Option<Received> {
    let check =
        |hub: &Hub, bytes: &[u8]| receive(bytes, &hub.limits, &|name| hub.key_of(name), hub.now().wall);
    if frame.as_ref().len() <= LONG_FRAME {
        return Some(check(hub, frame.as_ref()));
    }
    let hub = Arc::clone(hub);
    tokio::task::spawn_blocking(move || check(&hub, frame.as_ref()))
        .await
        .ok()
}

/// Until the engine closes it, or nothing can be written any more.
async fn write<W: FrameWriter>(hub: &Hub, link: LinkId, writer: &mut W, mut texts: mpsc::Receiver<Arc<str>>) {
    let mut together = Vec::with_capacity(WRITE_TOGETHER);
    while texts.recv_many(&mut together, WRITE_TOGETHER).await > 0 {
        if !writer.write(&together).await {
            return;
        }
        let bytes = together.iter().map(|text| text.len()).sum();
        together.clear();
        if hub.tell(Input::Written { link, bytes }).await.is_err() {
            return;
        }
    }
}

/// Returns some time after the engine has closed the link.
async fn overdue(mut given_up: watch::Receiver<bool>) {
    while given_up.changed().await.is_ok() {}
    sleep(CLOSE_LIMIT).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of these lengths, all of them here.
    struct Lengths(Vec<usize>);

    impl FrameReader for Lengths {
        type Frame = Vec<u8>;

        async fn next(&mut self) -> Option<Vec<u8>> {
            self.try_next()
        }

        fn try_next(&mut self) -> Option<Vec<u8>> {
            (!self.0.is_empty()).then(|| vec![b'x'; self.0.remove(0)])
        }

        fn admit_long_frames(&mut self) {}
    }

    #[tokio::test]
    async fn no_more_frames_are_taken_together_than_may_be() {
        let together = |lengths: Vec<usize>| async {
            let mut reader = Lengths(lengths);
            let first = reader.next().await.unwrap();
            let frames = here(&mut reader, first);
            frames.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(together(vec![3]).await, [3]);
        assert_eq!(together(vec![1, 2, 3]).await, [1, 2, 3]);
        assert_eq!(together(vec![1; 100]).await.len(), READ_TOGETHER);
        let long = READ_TOGETHER_BYTES;
        assert_eq!(together(vec![long, 1]).await, [long]);
        assert_eq!(together(vec![1, long, 1]).await, [1, long]);
    }
}
