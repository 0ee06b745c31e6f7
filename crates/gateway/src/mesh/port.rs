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
/// How long what a peer said before it stopped taking anything may still be read.
const LAST_FRAMES_LIMIT: Duration = Duration::from_secs(60);
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
            // The peer left. What it said before is still read, and the end of that is the end of the link.
            sleep(LAST_FRAMES_LIMIT).await;
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
    use clawchat_mesh::FrameLimits;
    use clawchat_store::{ChannelLogHandle, LogQuota, MemoryChannelLog};
    use tokio::sync::oneshot;

    use super::*;

    /// Frames that come when they are said.
    struct Said(mpsc::Receiver<Vec<u8>>);

    impl FrameReader for Said {
        type Frame = Vec<u8>;

        async fn next(&mut self) -> Option<Vec<u8>> {
            self.0.recv().await
        }

        fn try_next(&mut self) -> Option<Vec<u8>> {
            None
        }

        fn admit_long_frames(&mut self) {}
    }

    /// Takes nothing, and says when it was asked to.
    struct Gone(Option<oneshot::Sender<()>>);

    impl FrameWriter for Gone {
        async fn write(&mut self, _: &[Arc<str>]) -> bool {
            self.0.take().unwrap().send(()).unwrap();
            false
        }

        async fn close(&mut self) {}
    }

    #[tokio::test]
    async fn what_a_peer_said_before_it_took_nothing_any_more_is_read() {
        let log = Arc::new(MemoryChannelLog::new(LogQuota::default()));
        let log = ChannelLogHandle::start(log).unwrap();
        let (hub, mut inputs) = Hub::new("us".parse().unwrap(), log, FrameLimits::default());
        let (say, said) = mpsc::channel(1);
        let (asked, write) = oneshot::channel();
        let origin = Origin::Place("there".into());
        let (reader, writer) = (Said(said), Gone(Some(asked)));
        let link = tokio::spawn(run(hub, reader, writer, Side::Accepted, origin, "them".into()));
        let Some(Input::Opened { port, .. }) = inputs.recv().await else {
            panic!("no link");
        };
        port.out.send("welcome".into()).await.unwrap();
        write.await.unwrap();
        for length in 1..=3 {
            say.send(vec![b' '; length]).await.unwrap();
            let Some(Input::Frame { frame, .. }) = inputs.recv().await else {
                panic!("the frame of {length} bytes is lost");
            };
            assert_eq!(frame.bytes(), length);
        }
        drop(say);
        assert!(matches!(inputs.recv().await, Some(Input::Closed { .. })));
        link.await.unwrap();
    }

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
