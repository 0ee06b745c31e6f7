//! What the server asks of whoever answers requests.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::codec::Call;
use crate::failure::Failure;

/// Who is at the other end of a connection, as the kernel reported it; a request cannot claim it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id of the process that connected.
    pub uid: u32,
    /// Its process id, where the system tells.
    pub pid: Option<i32>,
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. The future is polled for the first time before the next request of the same
    /// connection is looked at, so what happens before its first suspension happens in the order of the requests.
    /// It is dropped when the caller goes away, or when the daemon stops and the request is one that
    /// [waits](crate::Request::waits).
    fn handle(&self, caller: Caller, call: Call) -> impl Future<Output = Reply> + Send;
}

impl<H: Handler> Handler for Arc<H> {
    fn handle(&self, caller: Caller, call: Call) -> impl Future<Output = Reply> + Send {
        H::handle(self, caller, call)
    }
}

/// The answer to a request.
#[derive(Debug)]
pub enum Reply {
    /// One line.
    Once(Result<Value, Failure>),
    /// One line, and somebody who wants to know whether it reached the socket.
    OnceThen {
        /// The answer.
        result: Result<Value, Failure>,
        /// Told once the line was written, or cannot be any more.
        on_written: OnWritten,
    },
    /// Any number of lines, each one an object, until the sender is dropped or the caller goes away; then a last
    /// line `{"event":"end"}`. Lines are taken from the channel as fast as the caller reads.
    Stream(mpsc::Receiver<Value>),
}

impl Reply {
    /// A reply of one line that worked.
    #[must_use]
    pub fn ok(data: Value) -> Self {
        Self::Once(Ok(data))
    }

    /// A reply of one line that did not.
    #[must_use]
    pub fn failure(failure: Failure) -> Self {
        Self::Once(Err(failure))
    }
}

impl From<Result<Value, Failure>> for Reply {
    fn from(result: Result<Value, Failure>) -> Self {
        Self::Once(result)
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        Self::Once(Err(failure))
    }
}

/// Called exactly once: with `true` when the answer was handed to the socket completely, with `false` when the
/// connection died before (or the answer was dropped). Must not block.
pub struct OnWritten(Option<Box<dyn FnOnce(bool) + Send>>);

impl OnWritten {
    /// Calls `hook` when the fate of the answer is known.
    #[must_use]
    pub fn new(hook: impl FnOnce(bool) + Send + 'static) -> Self {
        Self(Some(Box::new(hook)))
    }

    pub(crate) fn written(mut self) {
        if let Some(hook) = self.0.take() {
            hook(true);
        }
    }
}

impl Drop for OnWritten {
    fn drop(&mut self) {
        if let Some(hook) = self.0.take() {
            hook(false);
        }
    }
}

impl fmt::Debug for OnWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnWritten")
    }
}
