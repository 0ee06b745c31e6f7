//! What the engine, the links and the callers share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use clawchat_ipc::Failure;
use clawchat_mesh::{
    ChannelId, Checked, Counters, FrameLimits, LinkId, LinkStatus, Origin, PeerName, Received, Side,
};
use clawchat_store::ChannelLogHandle;
use clawchat_types::{Moment, NodeId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock;

/// Inputs waiting for the engine; whoever has one more waits.
pub(super) const INPUTS: usize = 1024;
/// Bytes of frames that were read and wait for the engine, over all links: 64 MiB.
const FRAMES_BYTES: usize = 64 * 1024 * 1024;
/// The unit in which they are counted, in bytes.
const FRAMES_UNIT: usize = 1024;
/// Keys remembered here until they are surely in the log.
const FRESH_KEYS: usize = 1024;

/// What reaches the engine.
pub(super) enum Input {
    /// A link stands.
    Opened {
        link: LinkId,
        side: Side,
        origin: Origin,
        port: Port,
    },
    /// A frame came.
    Frame {
        link: LinkId,
        frame: Received,
        /// The memory it takes, given back when the engine has it.
        _memory: OwnedSemaphorePermit,
    },
    /// So many bytes more of what was sent are written.
    Written { link: LinkId, bytes: usize },
    /// The link ended.
    Closed { link: LinkId },
    /// Follow a channel. Answered once that is on disk.
    Join {
        channel: ChannelId,
        answer: oneshot::Sender<Result<(), Failure>>,
    },
    /// Follow it no longer. Answers whether it was followed.
    Leave {
        channel: ChannelId,
        answer: oneshot::Sender<Result<bool, Failure>>,
    },
    /// Publish a message. Answered with its arrival once it is on disk.
    Publish {
        message: Checked,
        answer: oneshot::Sender<Result<u64, Failure>>,
    },
    /// Write something to the log. Answered once it is on disk.
    Check {
        answer: oneshot::Sender<Result<(), Failure>>,
    },
    /// Which neighbours subscribed to a channel.
    Subscribers {
        channel: ChannelId,
        answer: oneshot::Sender<Vec<PeerName>>,
    },
    /// How things are.
    Status { answer: oneshot::Sender<Status> },
}

/// The engine's end of a link.
pub(super) struct Port {
    /// Texts to write. Dropped to close the link once they are written.
    pub(super) out: mpsc::Sender<Arc<str>>,
    /// Whether nothing more is to be read for now.
    pub(super) pause: watch::Sender<bool>,
    /// Where it leads, for people.
    pub(super) label: Arc<str>,
}

/// How the mesh is.
pub(super) struct Status {
    pub(super) links: Vec<(LinkStatus, Arc<str>)>,
    pub(super) counters: Counters,
    /// The channels followed, those that nobody here joined but that could bring a direct message included.
    pub(super) followed: Vec<ChannelId>,
}

/// Shared by the engine, the links and the callers.
pub(super) struct Hub {
    /// Who we are.
    pub(super) name: PeerName,
    /// The messages.
    pub(super) log: ChannelLogHandle,
    /// What is read of frames.
    pub(super) limits: FrameLimits,
    inputs: mpsc::Sender<Input>,
    memory: Arc<Semaphore>,
    next_link: AtomicU64,
    fresh_keys: RwLock<HashMap<Box<str>, NodeId>>,
    news: Mutex<HashMap<ChannelId, watch::Sender<u64>>>,
    started: Instant,
}

impl Hub {
    /// With it come the inputs, for the engine.
    pub(super) fn new(
        name: PeerName,
        log: ChannelLogHandle,
        limits: FrameLimits,
    ) -> (Arc<Self>, mpsc::Receiver<Input>) {
        let (inputs, receiver) = mpsc::channel(INPUTS);
        let hub = Self {
            name,
            log,
            limits,
            inputs,
            memory: Arc::new(Semaphore::new(FRAMES_BYTES / FRAMES_UNIT)),
            next_link: AtomicU64::new(1),
            fresh_keys: RwLock::default(),
            news: Mutex::default(),
            started: Instant::now(),
        };
        (Arc::new(hub), receiver)
    }

    /// Both clocks.
    pub(super) fn now(&self) -> Moment {
        Moment {
            wall: clock::now(),
            mono: self.started.elapsed(),
        }
    }

    /// When a time of the machine is, on the runtime's clock.
    pub(super) fn at(&self, mono: std::time::Duration) -> Instant {
        self.started + mono
    }

    /// A name for a link that no other had.
    pub(super) fn new_link(&self) -> LinkId {
        LinkId(self.next_link.fetch_add(1, Ordering::Relaxed))
    }

    /// Hands something to the engine, waiting while it has enough to do.
    ///
    /// # Errors
    /// When there is no engine any more.
    pub(super) async fn tell(&self, input: Input) -> Result<(), Failure> {
        self.inputs.send(input).await.map_err(|_| Failure::stopping())
    }

    /// The same with an answer.
    pub(super) async fn ask<T>(&self, input: impl FnOnce(oneshot::Sender<T>) -> Input) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        self.tell(input(answer)).await?;
        answered.await.map_err(|_| Failure::stopping())
    }

    /// [`Self::tell`] for at most [`INPUTS`] at once, in their order.
    pub(super) async fn tell_all(&self, inputs: Vec<Input>) -> Result<(), Failure> {
        let places = self.inputs.reserve_many(inputs.len()).await;
        let places = places.map_err(|_| Failure::stopping())?;
        for (place, input) in places.zip(inputs) {
            place.send(input);
        }
        Ok(())
    }

    /// Memory for frames of those lengths, for each its own, once there is enough for all of them.
    pub(super) async fn memory_for(
        &self,
        lengths: Vec<usize>,
    ) -> Option<impl Iterator<Item = OwnedSemaphorePermit>> {
        let units = |bytes: usize| bytes / FRAMES_UNIT + 1;
        let all = lengths.iter().map(|bytes| units(*bytes)).sum::<usize>();
        let all = u32::try_from(all.min(FRAMES_BYTES / FRAMES_UNIT)).ok()?;
        let mut memory = Arc::clone(&self.memory).acquire_many_owned(all).await.ok()?;
        Some(lengths.into_iter().map_while(move |bytes| {
            let units = units(bytes).min(memory.num_permits());
            memory.split(units)
        }))
    }

    /// The key an opaque name was first seen with.
    pub(super) fn key_of(&self, name: &str) -> Option<NodeId> {
        let fresh = self.fresh_keys.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = fresh.get(name) {
            return Some(*key);
        }
        drop(fresh);
        self.log.log().key_of(name).ok().flatten()
    }

    /// Remembers a key until it can be read from the log.
    pub(super) fn remember_key(&self, name: &str, key: NodeId) {
        let mut fresh = self.fresh_keys.write().unwrap_or_else(PoisonError::into_inner);
        if fresh.len() >= FRESH_KEYS {
            // The log has had time to take the others.
            fresh.clear();
        }
        fresh.entry(name.into()).or_insert(key);
    }

    /// Is told the number of the newest message of a channel whenever there is one more.
    pub(super) fn news_of(&self, channel: &ChannelId) -> watch::Receiver<u64> {
        let mut news = self.news();
        news.retain(|_, sender| sender.receiver_count() > 0);
        news.entry(channel.clone())
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
    }

    /// Tells those who follow the channel.
    pub(super) fn announce(&self, channel: &ChannelId, newest: u64) {
        if let Some(sender) = self.news().get(channel) {
            sender.send_if_modified(|known| {
                let more = newest > *known;
                *known = newest.max(*known);
                more
            });
        }
    }

    fn news(&self) -> MutexGuard<'_, HashMap<ChannelId, watch::Sender<u64>>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use clawchat_mesh::receive;
    use clawchat_store::{LogQuota, MemoryChannelLog};

    use super::*;

    #[tokio::test]
    async fn frames_handed_over_together_keep_their_order_and_give_back_their_memory_one_by_one() {
        let log = Arc::new(MemoryChannelLog::new(LogQuota::default()));
        let log = ChannelLogHandle::start(log).unwrap();
        let limits = FrameLimits::default();
        let (hub, mut inputs) = Hub::new("us".parse().unwrap(), log, limits);
        let free = || hub.memory.available_permits();
        let all = free();
        let lengths = vec![0, 5000, 1];
        let memory = hub.memory_for(lengths.clone()).await.unwrap();
        let frames: Vec<Input> = memory
            .zip(lengths)
            .map(|(memory, length)| Input::Frame {
                link: LinkId(1),
                frame: receive(&vec![b' '; length], &limits, &|_| None, hub.now().wall),
                _memory: memory,
            })
            .collect();
        assert_eq!((frames.len(), free()), (3, all - 7));
        hub.tell_all(frames).await.unwrap();
        for (length, left) in [(0, 6), (5000, 1), (1, 0)] {
            let Some(Input::Frame { frame, _memory, .. }) = inputs.recv().await else {
                panic!("no frame of {length} bytes");
            };
            assert_eq!(frame.bytes(), length);
            drop(_memory);
            assert_eq!(free(), all - left);
        }
        drop(inputs);
        let more = Input::Closed { link: LinkId(1) };
        assert!(hub.tell_all(vec![more]).await.is_err());
    }
}
