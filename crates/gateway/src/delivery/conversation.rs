//! One conversation: an identity here, a principal somewhere, and the task that delivers between them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clawchat_router::Backoff;
use clawchat_store::Write;
use clawchat_types::Principal;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::outbound::{self, End};
use crate::clock;
use crate::hosted::Hosted;
use crate::shared::Gateway;

/// How long a conversation's task stays around with nothing to do.
const IDLE: Duration = Duration::from_secs(60);
/// The least time between a failed try and the next, however good the reasons.
const LEAST_PAUSE_HURRIED: Duration = Duration::from_millis(500);
/// The least time between two tries that new messages cause while a peer is away.
const LEAST_PAUSE: Duration = Duration::from_secs(5);

/// The parts of a conversation that others than its task look at.
pub(crate) struct Conversation {
    remote: Principal,
    wake: Notify,
    /// Something changed that makes a try worthwhile now: a session appeared, an address, a rule.
    hurried: AtomicBool,
    /// A message in flight was to be decided long ago: the way is not one.
    overdue: AtomicBool,
    /// Somebody asked for the task since it last looked whether it may end.
    wanted: AtomicBool,
    in_flight: Mutex<BTreeSet<u64>>,
    attempts: AtomicU32,
    /// How often in a row a peer without receipts took messages and said nothing.
    unconfirmed: AtomicU32,
}

impl Conversation {
    fn new(remote: Principal, attempts: u32) -> Self {
        Self {
            remote,
            wake: Notify::new(),
            hurried: AtomicBool::new(false),
            overdue: AtomicBool::new(false),
            wanted: AtomicBool::new(true),
            in_flight: Mutex::default(),
            attempts: AtomicU32::new(attempts),
            unconfirmed: AtomicU32::new(0),
        }
    }

    pub(crate) fn remote(&self) -> &Principal {
        &self.remote
    }

    /// Outbox positions handed to the recipient's gateway and not acknowledged yet.
    pub(crate) fn in_flight(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Failed tries since the last success.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// How often in a row a peer without receipts took messages and did not confirm them.
    pub(super) fn unconfirmed(&self) -> u32 {
        self.unconfirmed.load(Ordering::Relaxed)
    }

    pub(super) fn set_unconfirmed(&self, times: u32) {
        self.unconfirmed.store(times, Ordering::Relaxed);
    }

    /// Says that something in flight has expired without an answer: the stream in use is to be given up.
    pub(super) fn give_up(&self) {
        self.overdue.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Whether the stream in use is to be given up. Asking resets it.
    pub(super) fn is_given_up(&self) -> bool {
        self.overdue.swap(false, Ordering::Relaxed)
    }

    /// Whether a session appeared, an address or a rule changed since the last time somebody asked.
    pub(super) fn was_hurried(&self) -> bool {
        self.hurried.swap(false, Ordering::Relaxed)
    }

    /// Waits until there may be something new to deliver.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

/// Says that there is something to deliver to `remote`.
pub(crate) fn nudge(gateway: &Gateway, hosted: &Arc<Hosted>, remote: &Principal) {
    let mut conversations = hosted.conversations();
    if let Some(conversation) = conversations.get(remote) {
        conversation.wanted.store(true, Ordering::Relaxed);
        conversation.wake.notify_one();
        return;
    }
    let attempts = hosted
        .store()
        .store()
        .attempt_state(remote)
        .ok()
        .flatten()
        .map_or(0, |state| state.attempts);
    let conversation = Arc::new(Conversation::new(*remote, attempts));
    conversations.insert(*remote, Arc::clone(&conversation));
    gateway
        .tasks
        .spawn(run(Arc::clone(gateway), Arc::clone(hosted), conversation));
}

/// Says that what is waiting for `remote` should be tried now, whatever happened before.
pub(crate) fn hurry(hosted: &Hosted, remote: &Principal) {
    if let Some(conversation) = hosted.conversations().get(remote) {
        conversation.hurried.store(true, Ordering::Relaxed);
        conversation.wake.notify_one();
    }
}

async fn run(gateway: Gateway, hosted: Arc<Hosted>, conversation: Arc<Conversation>) {
    let _leave = Leave(&hosted, &conversation.remote);
    let stop = hosted.stop().clone();
    stop.run_until_cancelled(deliver(&gateway, &hosted, &conversation))
        .await;
    // Cancelled in the middle or done: either way nothing is in flight any more.
    conversation.in_flight().clear();
}

async fn deliver(gateway: &Gateway, hosted: &Arc<Hosted>, conversation: &Conversation) {
    let mut backoff = Backoff::new();
    loop {
        let pending = hosted.store().store().has_pending(&conversation.remote);
        if matches!(pending, Ok(false)) {
            if idle(hosted, conversation).await {
                return;
            }
            continue;
        }
        conversation.hurried.store(false, Ordering::Relaxed);
        let end = outbound::deliver(gateway, hosted, conversation).await;
        conversation.in_flight().clear();
        match end {
            End::Progress => {
                backoff.reset();
                succeeded(hosted, conversation).await;
                tokio::task::yield_now().await;
            }
            // The way broke, but it was one: look for the next at once.
            End::Away {
                reason,
                progressed: true,
            } => {
                debug!(to = %conversation.remote, %reason, "delivery was interrupted");
                backoff.reset();
                succeeded(hosted, conversation).await;
            }
            End::Away {
                reason,
                progressed: false,
            } => {
                failed(hosted, conversation, &reason).await;
                let now = clock::now();
                let pause = now.until(backoff.after_failure(now, clock::jitter()));
                debug!(to = %conversation.remote, ?pause, %reason, "not delivered yet");
                wait(conversation, pause).await;
            }
        }
    }
}

/// Waits for something to do. Returns whether the task should end: then nobody can have nudged it in between.
async fn idle(hosted: &Hosted, conversation: &Conversation) -> bool {
    if tokio::time::timeout(IDLE, conversation.woken()).await.is_ok() {
        return false;
    }
    let mut conversations = hosted.conversations();
    if conversation.wanted.swap(false, Ordering::Relaxed) {
        return false;
    }
    conversations.remove(&conversation.remote);
    true
}

/// Takes a conversation off the list if its task panics, so that the next message starts another.
struct Leave<'a>(&'a Hosted, &'a Principal);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.conversations().remove(self.1);
        }
    }
}

/// Waits for the next try: `pause`, or until somebody hurries, or, once [`LEAST_PAUSE`] is over, until there is a new
/// message.
async fn wait(conversation: &Conversation, pause: Duration) {
    let start = Instant::now();
    let mut until = start + pause;
    loop {
        if conversation.hurried.load(Ordering::Relaxed) {
            until = until.min(start + LEAST_PAUSE_HURRIED);
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            () = conversation.woken() => until = until.min(start + LEAST_PAUSE),
        }
    }
}

async fn succeeded(hosted: &Hosted, conversation: &Conversation) {
    if conversation.attempts.swap(0, Ordering::Relaxed) > 0 {
        note(hosted, conversation, 0, None).await;
        info!(to = %conversation.remote, "reached again");
    }
}

async fn failed(hosted: &Hosted, conversation: &Conversation, reason: &str) {
    let attempts = conversation
        .attempts
        .fetch_add(1, Ordering::Relaxed)
        .saturating_add(1);
    note(hosted, conversation, attempts, Some(reason.to_owned())).await;
}

async fn note(hosted: &Hosted, conversation: &Conversation, attempts: u32, last_error: Option<String>) {
    let write = Write::NoteAttempt {
        to: conversation.remote,
        attempts,
        last_error,
        at: clock::now(),
    };
    if let Err(error) = hosted.store().submit(write).await {
        warn!(identity = %hosted.principal(), %error, "cannot note how a delivery went");
    }
}
