//! One connection, driven as a whole: reading requests, running them, writing answers in order.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, FuturesUnordered, Stream};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep, sleep};
use zeroize::Zeroize;

use crate::codec::{Answer, Call, Cut, LineBuffer, MAX_FRAME_BYTES};
use crate::failure::{ErrorCode, Failure};
use crate::handler::{Caller, Handler};
use crate::job::{Answered, Job, Meter};
use crate::outgoing::Outgoing;

/// Requests of one connection read but not answered completely; the next is read when one is.
pub const MAX_PIPELINED: usize = 256;
/// Answers waiting for a slow reader, in bytes; beyond it running requests of the connection are suspended.
const MAX_UNWRITTEN_BYTES: usize = 16 * 1024 * 1024;
/// The same for lines of streams, in bytes; beyond it the stream's own channel fills up.
const MAX_UNWRITTEN_STREAM_BYTES: usize = 256 * 1024;
/// Bytes taken from the socket at once.
const READ_BYTES: usize = 32 * 1024;
/// Rounds of work before other connections get their turn.
const ROUNDS_PER_TURN: usize = 32;
/// How often a caller that closed its writing side is looked at: it may have gone altogether.
const GONE_CHECK: Duration = Duration::from_millis(250);

/// A two-way stream of bytes that can tell whether the other end is gone altogether.
pub(crate) trait Channel: AsyncRead + AsyncWrite + Unpin + Send {
    /// Whether nobody can read answers any more, as opposed to nobody writing requests any more.
    fn is_gone(&self) -> bool;
}

/// Serves one connection until its caller is gone, or until `stop` and nothing is left to answer.
pub(crate) async fn serve<C: Channel, H: Handler>(
    channel: C,
    caller: Caller,
    handler: Arc<H>,
    stop: watch::Receiver<bool>,
) {
    let mut connection = Connection::new(channel, caller, handler, stop);
    poll_fn(|cx| connection.poll(cx)).await;
}

struct Connection<C, H> {
    channel: C,
    caller: Caller,
    handler: Arc<H>,
    stop: watch::Receiver<bool>,
    /// Completes when the server stops; gone once it has.
    stopped: Option<BoxFuture<'static, ()>>,
    lines: LineBuffer,
    scratch: Box<[u8]>,
    eof: bool,
    gone_check: Option<Pin<Box<Sleep>>>,
    /// Requests read whose last line is not written yet.
    unanswered: usize,
    /// Requests answered in the order they came.
    ordered: FuturesOrdered<Job>,
    /// Their answers, held back while a stream without an id has the word.
    held: VecDeque<Answered>,
    /// Waiting requests with an id, answered when they are done.
    detached: FuturesUnordered<Job>,
    streams: Vec<OpenStream>,
    /// Answers that wait for an earlier one.
    waiting: Meter,
    out: Outgoing,
}

struct OpenStream {
    id: Option<Value>,
    lines: mpsc::Receiver<Value>,
    /// Answers to later requests wait for its end.
    in_order: bool,
}

impl<C: Channel, H: Handler> Connection<C, H> {
    fn new(channel: C, caller: Caller, handler: Arc<H>, stop: watch::Receiver<bool>) -> Self {
        let mut waiting = stop.clone();
        let stopped = async move {
            // An error means that nobody is left to stop us, which is a stop as well.
            let _ = waiting.wait_for(|stop| *stop).await;
        };
        Self {
            channel,
            caller,
            handler,
            stop,
            stopped: Some(Box::pin(stopped)),
            lines: LineBuffer::new(MAX_FRAME_BYTES),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            eof: false,
            gone_check: None,
            unanswered: 0,
            ordered: FuturesOrdered::new(),
            held: VecDeque::new(),
            detached: FuturesUnordered::new(),
            streams: Vec::new(),
            waiting: Meter::default(),
            out: Outgoing::default(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS_PER_TURN {
            self.poll_stop(cx);
            let mut progress = self.poll_read(cx);
            progress |= self.poll_replies(cx);
            progress |= self.poll_streams(cx);
            match self.out.poll_write(&mut self.channel, cx) {
                Ok(written) => {
                    self.unanswered = self.unanswered.saturating_sub(written.answers);
                    progress |= written.progress;
                }
                Err(error) => {
                    tracing::debug!(%error, "a local connection ended before its answers were written");
                    return Poll::Ready(());
                }
            }
            if self.is_over(cx) {
                return Poll::Ready(());
            }
            if !progress {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) {
        let stopped = self
            .stopped
            .as_mut()
            .is_some_and(|stopped| stopped.as_mut().poll(cx).is_ready());
        if stopped {
            self.stopped = None;
            self.unanswered = self.unanswered.saturating_sub(self.streams.len());
            self.streams.clear();
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopped.is_none()
    }

    fn may_take_more(&self) -> bool {
        self.unanswered < MAX_PIPELINED
            && self.out.pending() + self.waiting.bytes() < MAX_UNWRITTEN_BYTES
            && !self.is_stopping()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        loop {
            while self.may_take_more()
                && let Some(cut) = self.lines.next_line()
            {
                self.take_line(cut, cx);
                // At once, so that a burst of requests with large answers is not run to its end before the first
                // of them is written.
                self.poll_replies(cx);
                progress = true;
            }
            if self.eof || !self.may_take_more() {
                return progress;
            }
            let mut buffer = ReadBuf::new(&mut self.scratch);
            match Pin::new(&mut self.channel).poll_read(cx, &mut buffer) {
                Poll::Pending => return progress,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.lines.push(buffer.filled());
                    progress = true;
                }
                Poll::Ready(ended) => {
                    self.eof = true;
                    progress = true;
                    if ended.is_ok() {
                        self.lines.end();
                    }
                }
            }
        }
    }

    /// Starts one request: its future is polled here for the first time, before the next line is looked at.
    fn take_line(&mut self, cut: Cut, cx: &mut Context<'_>) {
        self.unanswered += 1;
        let line = match cut {
            Cut::Line(line) => line,
            Cut::TooLong => {
                let failure = Failure::new(
                    ErrorCode::TooLarge,
                    format!("the request is longer than {MAX_FRAME_BYTES} bytes"),
                );
                let answer = Answer {
                    id: None,
                    result: Err(failure),
                };
                self.ordered.push_back(Job::answered(answer, &self.waiting));
                return;
            }
        };
        let line = self.lines.line(line);
        let call = match Call::from_line(line) {
            Ok(call) => call,
            Err(rejected) => {
                self.ordered
                    .push_back(Job::answered(rejected.into(), &self.waiting));
                return;
            }
        };
        if call.request.holds_secrets() {
            line.zeroize();
            self.scratch.zeroize();
        }
        let waits = call.request.waits();
        let detached = waits && call.id.is_some();
        let stop = waits.then(|| self.stop.clone());
        let mut job = Job::start(
            Arc::clone(&self.handler),
            self.caller,
            call,
            stop,
            self.waiting.clone(),
        );
        job.advance(cx);
        if detached {
            self.detached.push(job);
        } else {
            self.ordered.push_back(job);
        }
    }

    fn poll_replies(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        while self.out.pending() < MAX_UNWRITTEN_BYTES
            && let Poll::Ready(Some(answered)) = Pin::new(&mut self.ordered).poll_next(cx)
        {
            self.held.push_back(answered);
            progress = true;
            self.release_held();
        }
        self.release_held();
        while self.out.pending() < MAX_UNWRITTEN_BYTES
            && let Poll::Ready(Some(answered)) = Pin::new(&mut self.detached).poll_next(cx)
        {
            self.emit(answered, false);
            progress = true;
        }
        progress
    }

    fn release_held(&mut self) {
        while self.out.pending() < MAX_UNWRITTEN_BYTES
            && !self.streams.iter().any(|stream| stream.in_order)
            && let Some(answered) = self.held.pop_front()
        {
            self.emit(answered, true);
        }
    }

    fn emit(&mut self, answered: Answered, in_order: bool) {
        match answered {
            Answered::Line { line, on_written } => self.out.answer(line.bytes(), on_written),
            // The caller sees the connection close, as with streams that were open before.
            Answered::Stream { .. } if self.is_stopping() => {
                self.unanswered = self.unanswered.saturating_sub(1);
            }
            Answered::Stream { id, lines } => self.streams.push(OpenStream { id, lines, in_order }),
        }
    }

    fn poll_streams(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        let out = &mut self.out;
        self.streams.retain_mut(|stream| {
            while out.pending() < MAX_UNWRITTEN_STREAM_BYTES {
                match stream.lines.poll_recv(cx) {
                    Poll::Pending => return true,
                    Poll::Ready(Some(line)) => out.event(line, stream.id.as_ref()),
                    Poll::Ready(None) => {
                        out.end(stream.id.as_ref());
                        progress = true;
                        return false;
                    }
                }
                progress = true;
            }
            true
        });
        progress
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let idle = self.unanswered == 0 && self.out.pending() == 0;
        if (self.eof || self.is_stopping()) && idle {
            return true;
        }
        if !self.eof {
            return false;
        }
        // The caller said all it has to say. If it only closed its writing side, it still reads the answers; if it
        // is gone, everything that runs for it ends now.
        loop {
            if self.channel.is_gone() {
                return true;
            }
            let check = self.gone_check.get_or_insert_with(|| Box::pin(sleep(GONE_CHECK)));
            if check.as_mut().poll(cx).is_pending() {
                return false;
            }
            check.as_mut().reset(Instant::now() + GONE_CHECK);
        }
    }
}
