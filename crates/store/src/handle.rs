//! The way async code writes: one thread per store, many writes per disk sync.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use crate::guard::quietly;
use crate::{MessageStore, Outcome, StoreError, Write};

/// Requests waiting for the writer thread; the next one waits for room.
pub const QUEUE_REQUESTS: usize = 4096;
/// Most writes that share one disk sync.
pub const GROUP_WRITES: usize = 512;
/// Most bytes that share one disk sync, unless a single request is larger. 4 MiB.
pub const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// A store together with its writer thread. Clones share both.
///
/// Writes are applied in the order in which their futures were first polled. Many waiting writes share one disk
/// sync. A write that breaks a limit fails alone. Dropping a future does not take its write back. When the
/// last clone is dropped the thread finishes what is queued, closes the store and ends.
#[derive(Clone)]
pub struct StoreHandle {
    store: Arc<dyn MessageStore>,
    queue: Arc<Mutex<Option<mpsc::Sender<Request>>>>,
}

struct Request {
    writes: Vec<Write>,
    answer: Answer,
}

enum Answer {
    One(oneshot::Sender<Result<Outcome, StoreError>>),
    All(oneshot::Sender<Result<Vec<Outcome>, StoreError>>),
    /// The last request: close the store.
    Close(oneshot::Sender<Result<(), StoreError>>),
}

impl StoreHandle {
    /// Starts the writer thread.
    ///
    /// # Errors
    /// What the system says when it cannot start a thread.
    pub fn start(store: Arc<dyn MessageStore>) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE_REQUESTS);
        let writer = Arc::clone(&store);
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || run(&*writer, receiver))?;
        Ok(Self {
            store,
            queue: Arc::new(Mutex::new(Some(sender))),
        })
    }

    /// The store, for reading. Reads block briefly; see [`MessageStore`].
    #[must_use]
    pub fn store(&self) -> &dyn MessageStore {
        &*self.store
    }

    /// Writes, and returns when the write is on disk.
    ///
    /// # Errors
    /// As [`MessageStore::commit`]; [`StoreError::Closed`] after [`close`](Self::close).
    pub async fn submit(&self, write: Write) -> Result<Outcome, StoreError> {
        write.check()?;
        let (answer, result) = oneshot::channel();
        self.send(Request {
            writes: vec![write],
            answer: Answer::One(answer),
        })
        .await?;
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Writes all or none, and returns when they are on disk. One outcome for each.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_all(&self, writes: Vec<Write>) -> Result<Vec<Outcome>, StoreError> {
        crate::write::check_batch(&writes)?;
        let (answer, result) = oneshot::channel();
        self.send(Request {
            writes,
            answer: Answer::All(answer),
        })
        .await?;
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Takes no more writes, finishes those queued, and closes the store. Closing twice is fine.
    ///
    /// # Errors
    /// As [`MessageStore::close`].
    pub async fn close(&self) -> Result<(), StoreError> {
        let sender = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(sender) = sender else { return Ok(()) };
        let (answer, result) = oneshot::channel();
        let last = Request {
            writes: Vec::new(),
            answer: Answer::Close(answer),
        };
        sender.send(last).await.map_err(|_| StoreError::Closed)?;
        drop(sender);
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn send(&self, request: Request) -> Result<(), StoreError> {
        let sender = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sender = sender.ok_or(StoreError::Closed)?;
        // A task that has done much in one turn is otherwise put off here, without a place in the queue, and what it
        // polls later may pass.
        let queued = tokio::task::coop::unconstrained(sender.send(request));
        queued.await.map_err(|_| StoreError::Closed)
    }
}

/// The writer thread.
fn run(store: &dyn MessageStore, mut queue: mpsc::Receiver<Request>) {
    let mut held = None;
    while let Some(first) = held.take().or_else(|| queue.blocking_recv()) {
        if let Answer::Close(answer) = first.answer {
            queue.close();
            while let Some(late) = queue.blocking_recv() {
                late.answer.fail(StoreError::Closed);
            }
            let _ = answer.send(guarded(|| store.close()));
            return;
        }
        let (mut writes, mut bytes) = (first.writes.len(), size(&first));
        let mut group = vec![first];
        while let Ok(next) = queue.try_recv() {
            writes += next.writes.len();
            bytes += size(&next);
            if writes > GROUP_WRITES || bytes > GROUP_BYTES || matches!(next.answer, Answer::Close(_)) {
                held = Some(next);
                break;
            }
            group.push(next);
        }
        commit(store, group);
    }
    let _ = guarded(|| store.close());
}

fn size(request: &Request) -> usize {
    request.writes.iter().map(Write::size).sum()
}

fn commit(store: &dyn MessageStore, group: Vec<Request>) {
    let counts: Vec<usize> = group.iter().map(|request| request.writes.len()).collect();
    let (mut answers, mut all) = (
        Vec::with_capacity(group.len()),
        Vec::with_capacity(counts.iter().sum()),
    );
    // A copy to try again with, should one request spoil it for the others.
    let apart = (group.len() > 1).then(|| {
        group
            .iter()
            .map(|request| request.writes.clone())
            .collect::<Vec<_>>()
    });
    for request in group {
        all.extend(request.writes);
        answers.push(request.answer);
    }
    match (guarded(|| store.commit(all)), apart) {
        (Ok(outcomes), _) => {
            let mut outcomes = outcomes.into_iter();
            for (answer, count) in answers.into_iter().zip(counts) {
                answer.succeed(outcomes.by_ref().take(count).collect());
            }
        }
        (Err(StoreError::Damaged(_) | StoreError::TooLarge { .. }), Some(apart)) => {
            for (answer, writes) in answers.into_iter().zip(apart) {
                match guarded(|| store.commit(writes)) {
                    Ok(outcomes) => answer.succeed(outcomes),
                    Err(error) => answer.fail(error),
                }
            }
        }
        (Err(error), _) => {
            for answer in answers {
                answer.fail(error.clone());
            }
        }
    }
}

/// Turns a panic of a backend into its failure.
fn guarded<T>(act: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    quietly(act).unwrap_or_else(|panic| {
        Err(StoreError::Failed {
            path: "store".into(),
            reason: format!("an internal error: {panic}"),
        })
    })
}

impl Answer {
    fn succeed(self, outcomes: Vec<Outcome>) {
        match self {
            Self::One(answer) => {
                let outcome = outcomes.into_iter().next().ok_or(StoreError::Closed);
                drop(answer.send(outcome));
            }
            Self::All(answer) => drop(answer.send(Ok(outcomes))),
            Self::Close(answer) => drop(answer.send(Ok(()))),
        }
    }

    fn fail(self, error: StoreError) {
        match self {
            Self::One(answer) => drop(answer.send(Err(error))),
            Self::All(answer) => drop(answer.send(Err(error))),
            Self::Close(answer) => drop(answer.send(Err(error))),
        }
    }
}
