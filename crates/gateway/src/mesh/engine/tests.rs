//! Logs that do not always work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use clawchat_identity::NodeKey;
use clawchat_ipc::Request;
use clawchat_mesh::{Origin, Side};
use clawchat_store::{
    ChannelInfo, ChannelLog, HistoryFrom, LogEntry, LogOutcome, LogQuota, LogWrite, MemoryChannelLog,
    StoreError,
};
use clawchat_types::{Content, NodeId};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::peer::MeshPeer;
use super::super::port::{FrameReader, FrameWriter};
use super::super::requests::NoNames;
use super::{LEFT, OWN_NOTES};
use crate::config::MeshSettings;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A log in memory that fails when it is told to.
struct Troubled {
    log: MemoryChannelLog,
    /// Refuses commits that say which channels are followed.
    refuses_follows: AtomicBool,
    /// How many of them.
    refused: AtomicUsize,
    /// The next page ends in a panic.
    panics: AtomicBool,
}

impl ChannelLog for Troubled {
    fn commit(&self, batch: Vec<LogWrite>) -> Result<Vec<LogOutcome>, StoreError> {
        let follows = |write: &LogWrite| matches!(write, LogWrite::SetFollowed { .. });
        if self.refuses_follows.load(Ordering::SeqCst) && batch.iter().any(follows) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(StoreError::StorageFull {
                path: "log".into(),
                free: 0,
                needed: 1,
            });
        }
        self.log.commit(batch)
    }

    fn page(
        &self,
        channel: &str,
        after: u64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "the disk is on fire");
        self.log.page(channel, after, limit, max_bytes)
    }

    fn arrival_of(&self, channel: &str, id: &str) -> Result<Option<u64>, StoreError> {
        self.log.arrival_of(channel, id)
    }

    fn entry(&self, channel: &str, id: &str) -> Result<Option<LogEntry>, StoreError> {
        self.log.entry(channel, id)
    }

    fn history(
        &self,
        channel: &str,
        from: HistoryFrom<'_>,
        limit: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        self.log.history(channel, from, limit)
    }

    fn channels(&self) -> Result<Vec<ChannelInfo>, StoreError> {
        self.log.channels()
    }

    fn channel(&self, name: &str) -> Result<Option<ChannelInfo>, StoreError> {
        self.log.channel(name)
    }

    fn cursor(&self, peer: &str, channel: &str) -> Result<Option<Box<str>>, StoreError> {
        self.log.cursor(peer, channel)
    }

    fn key_of(&self, id: &str) -> Result<Option<NodeId>, StoreError> {
        self.log.key_of(id)
    }

    fn close(&self) -> Result<(), StoreError> {
        self.log.close()
    }
}

/// A peer and its log.
fn peer(seed: u8, channels: &[&str]) -> (Arc<MeshPeer>, Arc<Troubled>) {
    let log = Arc::new(Troubled {
        log: MemoryChannelLog::new(LogQuota::default()),
        refuses_follows: AtomicBool::new(false),
        refused: AtomicUsize::new(0),
        panics: AtomicBool::new(false),
    });
    let settings = MeshSettings {
        channels: channels.iter().map(|name| name.parse().unwrap()).collect(),
        ..MeshSettings::default()
    };
    let kept: Arc<dyn ChannelLog> = Arc::clone(&log) as _;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let peer = MeshPeer::with_log(kept, NodeKey::from_seed([seed; 32]), settings, &tasks, &stop).unwrap();
    (peer, log)
}

struct Frames(mpsc::Receiver<Vec<u8>>);

impl FrameReader for Frames {
    type Frame = Vec<u8>;

    async fn next(&mut self) -> Option<Vec<u8>> {
        self.0.recv().await
    }

    fn try_next(&mut self) -> Option<Vec<u8>> {
        self.0.try_recv().ok()
    }

    fn admit_long_frames(&mut self) {}
}

struct Texts(Option<mpsc::Sender<Vec<u8>>>);

impl FrameWriter for Texts {
    async fn write(&mut self, texts: &[Arc<str>]) -> bool {
        let Some(out) = &self.0 else { return false };
        for text in texts {
            if out.send(text.as_bytes().to_vec()).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn close(&mut self) {
        self.0 = None;
    }
}

/// Links the two.
fn link(one: &Arc<MeshPeer>, other: &Arc<MeshPeer>) {
    let (there, from_one) = mpsc::channel(64);
    let (here, from_other) = mpsc::channel(64);
    for (peer, with, frames, out, side) in [
        (one, other, from_other, there, Side::Dialed),
        (other, one, from_one, here, Side::Accepted),
    ] {
        let (peer, origin) = (Arc::clone(peer), Origin::Key(with.node_id()));
        tokio::spawn(async move {
            let (reader, writer) = (Frames(frames), Texts(Some(out)));
            peer.run_link(reader, writer, side, origin, "a test").await;
        });
    }
}

async fn answer(peer: &Arc<MeshPeer>, request: Request) -> Result<(), clawchat_ipc::Failure> {
    peer.answer(request, &NoNames).await.map(drop)
}

async fn write_to(peer: &Arc<MeshPeer>, to: &Arc<MeshPeer>, body: &str) {
    let request = Request::DmSend {
        to: to.name().to_string(),
        body: Content::new(body).unwrap(),
        payload: None::<Value>,
        file: None,
    };
    answer(peer, request).await.unwrap();
}

async fn eventually(what: &str, seen: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !seen() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The channel with that many messages in it, and whether it is followed.
fn with(log: &Troubled, channel: &str, count: u64) -> Option<bool> {
    let info = log.log.channel(channel).unwrap()?;
    (info.count == count).then_some(info.followed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_could_not_be_noted_is_noted_with_the_next_write_that_works() {
    let ((alice, _), (bob, log)) = (peer(1, &["#a"]), peer(2, &["#b"]));
    let direct = clawchat_mesh::ChannelId::direct(alice.name().as_str(), bob.name().as_str()).unwrap();
    log.refuses_follows.store(true, Ordering::SeqCst);
    link(&alice, &bob);
    write_to(&alice, &bob, "one").await;
    eventually("a message", || with(&log, direct.as_str(), 1).is_some()).await;
    eventually("a refusal", || log.refused.load(Ordering::SeqCst) > 0).await;
    assert_eq!(with(&log, direct.as_str(), 1), Some(false));
    log.refuses_follows.store(false, Ordering::SeqCst);
    write_to(&alice, &bob, "two").await;
    eventually("the note", || with(&log, direct.as_str(), 2) == Some(true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_could_not_leave_leaves_with_the_second_try() {
    let (alice, log) = peer(1, &["#a"]);
    let leave = || Request::ChannelLeave { channel: "#a".into() };
    log.refuses_follows.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let failure = answer(&alice, leave()).await.unwrap_err();
        assert_eq!(failure.code, clawchat_ipc::ErrorCode::Io, "{failure}");
        assert_eq!(with(&log, "#a", 0), Some(true));
    }
    log.refuses_follows.store(false, Ordering::SeqCst);
    answer(&alice, leave()).await.unwrap();
    assert_ne!(with(&log, "#a", 0), Some(true));
    let note = log.log.cursor(OWN_NOTES, "#a").unwrap();
    assert_eq!(note.as_deref(), Some(LEFT));
    let failure = answer(&alice, leave()).await.unwrap_err();
    assert_eq!(failure.code, clawchat_ipc::ErrorCode::NoSuchChannel, "{failure}");
    // Joining in between takes back what failed.
    let join = Request::ChannelJoin { channel: "#a".into() };
    answer(&alice, join).await.unwrap();
    answer(&alice, leave()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_panics_does_not_hold_up_the_next_ones() {
    let channels = ["#a", "#c"];
    let ((alice, log), (bob, copy)) = (peer(1, &channels), peer(2, &channels));
    for channel in channels {
        let send = Request::ChannelSend {
            channel: channel.into(),
            body: Content::new("hello").unwrap(),
            payload: None,
            file: None,
        };
        answer(&alice, send).await.unwrap();
    }
    log.panics.store(true, Ordering::SeqCst);
    link(&alice, &bob);
    eventually("the read", || !log.panics.load(Ordering::SeqCst)).await;
    eventually("a message of the other channel", || {
        channels.iter().any(|channel| with(&copy, channel, 1).is_some())
    })
    .await;
}
