//! One writer thread per store, many writes per disk sync.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use crate::StoreError;
use crate::guard::quietly;

/// Requests waiting for the writer thread; the next one waits for room.
pub const QUEUE_REQUESTS: usize = 4096;
/// Most writes that share one disk sync.
pub const GROUP_WRITES: usize = 512;
/// Most bytes that share one disk sync, unless a single request is larger. 4 MiB.
pub const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// A store that a [`Group`] writes to.
pub(crate) trait Backend: Send + Sync + 'static {
    /// One change.
    type Write: Clone + Send + 'static;
    /// What became of it.
    type Outcome: Send + 'static;

    /// Applies all or none, durably.
    fn commit_all(&self, batch: Vec<Self::Write>) -> Result<Vec<Self::Outcome>, StoreError>;
    /// Lets go of the files.
    fn close_files(&self) -> Result<(), StoreError>;
    /// About how many bytes a write takes.
    fn size_of(write: &Self::Write) -> usize;
}

/// A store together with its writer thread. Clones share both.
pub(crate) struct Group<S: Backend> {
    store: Arc<S>,
    queue: Queue<S>,
}

type Queue<S> = Arc<Mutex<Option<mpsc::Sender<Request<S>>>>>;

impl<S: Backend> Clone for Group<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            queue: Arc::clone(&self.queue),
        }
    }
}

struct Request<S: Backend> {
    writes: Vec<S::Write>,
    answer: Answer<S::Outcome>,
}

enum Answer<T> {
    One(oneshot::Sender<Result<T, StoreError>>),
    All(oneshot::Sender<Result<Vec<T>, StoreError>>),
    /// The last request: close the store.
    Close(oneshot::Sender<Result<(), StoreError>>),
}

impl<S: Backend> Group<S> {
    /// Starts the writer thread.
    pub(crate) fn start(name: &str, store: Arc<S>) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE_REQUESTS);
        let writer = Arc::clone(&store);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&*writer, receiver))?;
        Ok(Self {
            store,
            queue: Arc::new(Mutex::new(Some(sender))),
        })
    }

    pub(crate) fn store(&self) -> &S {
        &self.store
    }

    /// Writes one that keeps all limits.
    pub(crate) async fn submit(&self, write: S::Write) -> Result<S::Outcome, StoreError> {
        let (answer, result) = oneshot::channel();
        self.send(Request {
            writes: vec![write],
            answer: Answer::One(answer),
        })
        .await?;
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Writes all or none of some that keep all limits.
    pub(crate) async fn submit_all(&self, writes: Vec<S::Write>) -> Result<Vec<S::Outcome>, StoreError> {
        let (answer, result) = oneshot::channel();
        self.send(Request {
            writes,
            answer: Answer::All(answer),
        })
        .await?;
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Requests that wait for the thread.
    pub(crate) fn waiting(&self) -> usize {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue
            .as_ref()
            .map_or(0, |sender| sender.max_capacity() - sender.capacity())
    }

    /// Takes no more writes, finishes those queued, and closes the store.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
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

    async fn send(&self, request: Request<S>) -> Result<(), StoreError> {
        let sender = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sender = sender.ok_or(StoreError::Closed)?;
        // A task that has done much in one turn is otherwise put off here, without a place in the queue, and what it
        // polls later may pass.
        let queued = tokio::task::coop::unconstrained(sender.send(request));
        queued.await.map_err(|_| StoreError::Closed)
    }
}

/// The writer thread.
fn run<S: Backend>(store: &S, mut queue: mpsc::Receiver<Request<S>>) {
    let mut held = None;
    while let Some(first) = held.take().or_else(|| queue.blocking_recv()) {
        if let Answer::Close(answer) = first.answer {
            queue.close();
            while let Some(late) = queue.blocking_recv() {
                late.answer.fail(StoreError::Closed);
            }
            let _ = answer.send(guarded(|| store.close_files()));
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
    let _ = guarded(|| store.close_files());
}

fn size<S: Backend>(request: &Request<S>) -> usize {
    request.writes.iter().map(S::size_of).sum()
}

fn commit<S: Backend>(store: &S, group: Vec<Request<S>>) {
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
    match (guarded(|| store.commit_all(all)), apart) {
        (Ok(outcomes), _) => {
            let mut outcomes = outcomes.into_iter();
            for (answer, count) in answers.into_iter().zip(counts) {
                answer.succeed(outcomes.by_ref().take(count).collect());
            }
        }
        (Err(StoreError::Damaged(_) | StoreError::TooLarge { .. }), Some(apart)) => {
            for (answer, writes) in answers.into_iter().zip(apart) {
                match guarded(|| store.commit_all(writes)) {
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

impl<T> Answer<T> {
    fn succeed(self, outcomes: Vec<T>) {
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
