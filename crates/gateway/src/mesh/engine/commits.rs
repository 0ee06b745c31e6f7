//! Writes to the log, in order, one commit at a time: what comes meanwhile shares the next one.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;

use clawchat_ipc::{ErrorCode, Failure};
use clawchat_mesh::{ChannelId, StoredAs, Ticket};
use clawchat_store::{Appended, ChannelLogHandle, LogOutcome, LogWrite, StoreError};
use clawchat_types::UnixMillis;
use tokio::sync::oneshot;
use tracing::warn;

/// Most writes of one commit.
const COMMIT_WRITES: usize = 1024;
/// Most bytes of one commit, unless a single write has more. 4 MiB.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;

/// Why something is written.
pub(super) enum Purpose {
    /// A message the machine wants stored.
    Entry(Ticket),
    /// Somebody waits for it.
    Told(oneshot::Sender<Result<(), Failure>>),
    /// Somebody leaves a channel; the number tells this attempt from others.
    Leave {
        channel: ChannelId,
        number: u64,
        answer: oneshot::Sender<Result<bool, Failure>>,
    },
    /// Nobody waits for it, but it has to be tried again: this channel is followed.
    Noted(ChannelId),
    /// In one commit with the write behind it, so that both are on disk or none.
    WithNext,
    /// Nobody waits for it.
    Nothing,
}

/// How a commit went, for the machine.
#[derive(Default)]
pub(super) struct Committed {
    pub(super) stored: Vec<(Ticket, Vec<StoredAs>)>,
    pub(super) failed: Vec<Ticket>,
    /// Channels that were left, with the number of the attempt.
    pub(super) left: Vec<(ChannelId, u64)>,
    /// Channels that could not be noted as followed.
    pub(super) not_noted: Vec<ChannelId>,
    pub(super) error: Option<StoreError>,
}

type Commit = Pin<Box<dyn Future<Output = Result<Vec<LogOutcome>, StoreError>> + Send>>;

/// What waits to be on disk.
pub(super) struct Commits {
    log: ChannelLogHandle,
    waiting: VecDeque<(LogWrite, Purpose)>,
    bytes: usize,
    running: Option<(Commit, Vec<Purpose>, usize)>,
    tickets: HashMap<Ticket, Progress>,
}

struct Progress {
    outcomes: Vec<StoredAs>,
    expected: usize,
    failed: bool,
}

impl Commits {
    pub(super) fn new(log: ChannelLogHandle) -> Self {
        Self {
            log,
            waiting: VecDeque::new(),
            bytes: 0,
            running: None,
            tickets: HashMap::new(),
        }
    }

    /// Bytes that are not known to be on disk.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes that wait for a commit.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether everything is on disk.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_none()
    }

    /// So many entries of a ticket follow.
    pub(super) fn expect(&mut self, ticket: Ticket, entries: usize) {
        let progress = Progress {
            outcomes: Vec::with_capacity(entries),
            expected: entries,
            failed: false,
        };
        self.tickets.insert(ticket, progress);
    }

    /// One more write, behind all earlier ones.
    pub(super) fn push(&mut self, write: LogWrite, purpose: Purpose) {
        let write = match write.check() {
            Ok(()) => write,
            Err(error) => {
                // It would spoil the commit for the others. In its place goes one that does nothing and counts as refused.
                warn!(%error, "something of the mesh is too long for its log");
                LogWrite::Expire { now: UnixMillis(0) }
            }
        };
        self.bytes += write.size();
        self.waiting.push_back((write, purpose));
    }

    /// The next commit that is done. Waits for ever when there is nothing to write. Safe to drop.
    pub(super) async fn next(&mut self) -> Committed {
        if self.running.is_none() {
            self.begin();
        }
        let Some((commit, _, _)) = &mut self.running else {
            return std::future::pending().await;
        };
        let result = commit.await;
        let Some((_, purposes, bytes)) = self.running.take() else {
            return Committed::default();
        };
        self.bytes = self.bytes.saturating_sub(bytes);
        self.done(result, purposes)
    }

    fn begin(&mut self) {
        let (mut writes, mut purposes, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some((write, _)) = self.waiting.front() {
            let size = write.size();
            let full = writes.len() >= COMMIT_WRITES || (!writes.is_empty() && bytes + size > COMMIT_BYTES);
            if full && !matches!(purposes.last(), Some(Purpose::WithNext)) {
                break;
            }
            let Some((write, purpose)) = self.waiting.pop_front() else {
                break;
            };
            bytes += size;
            writes.push(write);
            purposes.push(purpose);
        }
        if writes.is_empty() {
            return;
        }
        let log = self.log.clone();
        let commit: Commit = Box::pin(async move { log.submit_all(writes).await });
        self.running = Some((commit, purposes, bytes));
    }

    fn done(&mut self, result: Result<Vec<LogOutcome>, StoreError>, purposes: Vec<Purpose>) -> Committed {
        let mut committed = Committed::default();
        let (outcomes, error) = match result {
            Ok(outcomes) => (outcomes, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let mut outcomes = outcomes.into_iter();
        for purpose in purposes {
            let outcome = outcomes.next();
            match purpose {
                Purpose::Entry(ticket) => self.entry(ticket, outcome, &mut committed),
                Purpose::Told(answer) => drop(answer.send(told(error.as_ref(), ()))),
                Purpose::Leave {
                    channel,
                    number,
                    answer,
                } => {
                    if error.is_none() {
                        committed.left.push((channel, number));
                    }
                    drop(answer.send(told(error.as_ref(), true)));
                }
                Purpose::Noted(channel) => {
                    if error.is_some() {
                        committed.not_noted.push(channel);
                    }
                }
                Purpose::WithNext | Purpose::Nothing => {}
            }
        }
        committed.error = error;
        committed
    }

    fn entry(&mut self, ticket: Ticket, outcome: Option<LogOutcome>, committed: &mut Committed) {
        let Some(progress) = self.tickets.get_mut(&ticket) else {
            return;
        };
        match outcome {
            Some(outcome) => progress.outcomes.push(stored_as(outcome)),
            None => {
                progress.failed = true;
                progress.outcomes.push(StoredAs::Refused);
            }
        }
        if progress.outcomes.len() < progress.expected {
            return;
        }
        if let Some(progress) = self.tickets.remove(&ticket) {
            if progress.failed {
                committed.failed.push(ticket);
            } else {
                committed.stored.push((ticket, progress.outcomes));
            }
        }
    }
}

fn told<T>(error: Option<&StoreError>, worked: T) -> Result<T, Failure> {
    match error {
        None => Ok(worked),
        Some(error) => Err(Failure::new(ErrorCode::Io, error.to_string())
            .with_hint("free some disk space or see daemon.log, then try again")),
    }
}

fn stored_as(outcome: LogOutcome) -> StoredAs {
    match outcome {
        LogOutcome::Append(Appended::New { arrival }) => StoredAs::New { arrival },
        LogOutcome::Append(Appended::Known { arrival }) => StoredAs::Known { arrival },
        LogOutcome::Append(Appended::Verified { arrival }) => StoredAs::Verified { arrival },
        LogOutcome::Append(Appended::TooOld | Appended::ChannelFull)
        | LogOutcome::Done
        | LogOutcome::OtherKey(_)
        | LogOutcome::NotFound
        | LogOutcome::Expired { .. } => StoredAs::Refused,
    }
}
