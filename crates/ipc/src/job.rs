//! One request that is being answered.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::coop::unconstrained;

use crate::codec::{Answer, Call};
use crate::failure::Failure;
use crate::handler::{Caller, Handler, OnWritten, Reply};

/// The outcome of a request.
pub(crate) enum Answered {
    /// The line to write.
    Line {
        line: Held,
        on_written: Option<OnWritten>,
    },
    /// Lines to come.
    Stream {
        id: Option<Value>,
        lines: mpsc::Receiver<Value>,
    },
}

impl Answered {
    fn line(answer: Answer, on_written: Option<OnWritten>, meter: &Meter) -> Self {
        let mut bytes = Vec::new();
        answer.append_line(&mut bytes);
        let line = meter.hold(bytes);
        Self::Line { line, on_written }
    }

    fn new(id: Option<Value>, reply: Reply, meter: &Meter) -> Self {
        match reply {
            Reply::Once(result) => Self::line(Answer { id, result }, None, meter),
            Reply::OnceThen { result, on_written } => {
                Self::line(Answer { id, result }, Some(on_written), meter)
            }
            Reply::Stream(lines) => Self::Stream { id, lines },
        }
    }
}

/// Adds up the answers of one connection that wait for their turn, in bytes.
#[derive(Clone, Default)]
pub(crate) struct Meter(Arc<AtomicUsize>);

impl Meter {
    /// Bytes held now.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn hold(&self, bytes: Vec<u8>) -> Held {
        self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        let meter = self.clone();
        Held { bytes, meter }
    }
}

/// A line that counts on a [`Meter`] until it is dropped.
pub(crate) struct Held {
    bytes: Vec<u8>,
    meter: Meter,
}

impl Held {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// A request on its way to an answer.
pub(crate) enum Job {
    /// Still being handled.
    Running(BoxFuture<'static, Answered>),
    /// Answered, not collected yet; empty once it is.
    Done(Option<Answered>),
}

impl Job {
    /// Begins a request without polling it. With `stop`, it is given up when the server stops.
    pub(crate) fn start<H: Handler>(
        handler: Arc<H>,
        caller: Caller,
        call: Call,
        stop: Option<watch::Receiver<bool>>,
        meter: Meter,
    ) -> Self {
        let id = call.id.clone();
        // Many requests are begun in one turn of their connection. The runtime would put the later ones off in the
        // middle of what they do first, and let them go on in another order than they came.
        Self::Running(Box::pin(unconstrained(async move {
            let reply = handler.handle(caller, call);
            let reply = match stop {
                None => reply.await,
                Some(mut stop) => tokio::select! {
                    biased;
                    reply = reply => reply,
                    _ = stop.wait_for(|stop| *stop) => Reply::failure(Failure::stopping()),
                },
            };
            Answered::new(id, reply, &meter)
        })))
    }

    /// A request that was answered without a handler.
    pub(crate) fn answered(answer: Answer, meter: &Meter) -> Self {
        Self::Done(Some(Answered::line(answer, None, meter)))
    }

    /// Polls a running request once.
    pub(crate) fn advance(&mut self, cx: &mut Context<'_>) {
        if let Self::Running(running) = self
            && let Poll::Ready(answered) = running.as_mut().poll(cx)
        {
            *self = Self::Done(Some(answered));
        }
    }
}

impl Future for Job {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        self.advance(cx);
        match &mut *self {
            Self::Running(_) => Poll::Pending,
            Self::Done(answered) => answered.take().map_or(Poll::Pending, Poll::Ready),
        }
    }
}
