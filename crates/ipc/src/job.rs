//! One request that is being answered.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::codec::Call;
use crate::connection::Answered;
use crate::failure::Failure;
use crate::handler::{Caller, Handler, Reply};

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
    ) -> Self {
        let id = call.id.clone();
        Self::Running(Box::pin(async move {
            let reply = handler.handle(caller, call);
            let reply = match stop {
                None => reply.await,
                Some(mut stop) => tokio::select! {
                    biased;
                    reply = reply => reply,
                    _ = stop.wait_for(|stop| *stop) => Reply::failure(Failure::stopping()),
                },
            };
            (id, reply)
        }))
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
