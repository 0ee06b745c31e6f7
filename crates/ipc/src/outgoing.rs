//! Lines on their way out, and who wants to know when they are.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::AsyncWrite;
use tokio::time::{Sleep, sleep};

use crate::codec::{MAX_FRAME_BYTES, append_json};
use crate::failure::ErrorCode;
use crate::handler::OnWritten;

/// How long a caller may leave the socket full before its connection is closed.
pub const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// A buffer that grew beyond this many bytes is given back once it is empty.
const KEEP_BYTES: usize = 256 * 1024;

/// What is to be written, in one piece, so that many lines take one write.
#[derive(Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    /// How much of `bytes` is written.
    written: usize,
    /// Bytes written before `bytes` began.
    base: u64,
    marks: VecDeque<Mark>,
    /// Runs while the socket takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// The end of a request's last line.
struct Mark {
    end: u64,
    on_written: Option<OnWritten>,
}

/// What one round of writing did.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) progress: bool,
    /// Requests whose last line is written now.
    pub(crate) answers: usize,
}

impl Outgoing {
    /// Bytes still to write.
    pub(crate) fn pending(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Adds the answer line of a request.
    pub(crate) fn answer(&mut self, line: &[u8], on_written: Option<OnWritten>) {
        self.bytes.extend_from_slice(line);
        self.mark(on_written);
    }

    /// Adds one line of a stream.
    pub(crate) fn event(&mut self, line: Value, id: Option<&Value>) {
        let mut object = match line {
            Value::Object(object) => object,
            other => Map::from_iter([("event".to_owned(), json!("data")), ("data".to_owned(), other)]),
        };
        if let Some(id) = id {
            object.insert("id".to_owned(), id.clone());
        }
        let before = self.bytes.len();
        append_json(&Value::Object(object), &mut self.bytes);
        if self.bytes.len() - before > MAX_FRAME_BYTES + 1 {
            self.bytes.truncate(before);
            let error = format!("an event is longer than {MAX_FRAME_BYTES} bytes");
            let code = ErrorCode::TooLarge.as_str();
            let line = json!({"event": "error", "error": error, "code": code, "id": id});
            append_json(&line, &mut self.bytes);
        }
    }

    /// Adds the last line of a stream.
    pub(crate) fn end(&mut self, id: Option<&Value>) {
        self.event(json!({"event": "end"}), id);
        self.mark(None);
    }

    fn mark(&mut self, on_written: Option<OnWritten>) {
        let end = self.base + self.bytes.len() as u64;
        self.marks.push_back(Mark { end, on_written });
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    /// The socket is broken, or took nothing for [`WRITE_LIMIT`].
    pub(crate) fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut W,
        cx: &mut Context<'_>,
    ) -> io::Result<Written> {
        let mut done = Written::default();
        while self.pending() > 0 {
            let rest = self.bytes.get(self.written..).unwrap_or_default();
            match Pin::new(&mut *socket).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) => {
                    self.written += bytes;
                    self.stalled = None;
                    done.progress = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_LIMIT)));
                    if stalled.as_mut().poll(cx).is_ready() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    break;
                }
            }
        }
        let written = self.base + self.written as u64;
        while self.marks.front().is_some_and(|mark| mark.end <= written)
            && let Some(mark) = self.marks.pop_front()
        {
            done.answers += 1;
            if let Some(on_written) = mark.on_written {
                on_written.written();
            }
        }
        self.tidy();
        Ok(done)
    }

    fn tidy(&mut self) {
        if self.pending() == 0 {
            self.bytes.clear();
            if self.bytes.capacity() > KEEP_BYTES {
                self.bytes = Vec::new();
            }
        } else if self.written > KEEP_BYTES.max(self.bytes.len() / 2) {
            self.bytes.drain(..self.written);
        } else {
            return;
        }
        self.base += self.written as u64;
        self.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::mpsc::sync_channel;
    use tokio::io::AsyncReadExt;

    async fn write(out: &mut Outgoing, socket: &mut (impl AsyncWrite + Unpin)) -> io::Result<Written> {
        poll_fn(|cx| match out.poll_write(socket, cx) {
            Ok(written) if written.progress => Poll::Ready(Ok(written)),
            Ok(_) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        })
        .await
    }

    fn answer(data: &str) -> Vec<u8> {
        format!("{}\n", json!({"ok": true, "data": data})).into_bytes()
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_never_reads_is_given_up_after_the_limit() {
        let (mut socket, _other) = tokio::io::duplex(16);
        let (told, hear) = sync_channel(1);
        let mut out = Outgoing::default();
        let hook = OnWritten::new(move |written| told.send(written).unwrap());
        out.answer(&answer("longer than sixteen bytes"), Some(hook));
        let began = tokio::time::Instant::now();
        assert_eq!(write(&mut out, &mut socket).await.unwrap().answers, 0);
        let error = write(&mut out, &mut socket).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= WRITE_LIMIT);
        assert!(hear.try_recv().is_err());
        drop(out);
        assert_eq!(hear.try_recv(), Ok(false));
    }

    #[tokio::test]
    async fn a_hook_hears_when_its_own_line_is_complete_not_before() {
        let (mut socket, mut other) = tokio::io::duplex(40);
        let (told, hear) = sync_channel(2);
        let mut out = Outgoing::default();
        for (number, data) in ["one", "a second answer that does not fit"]
            .into_iter()
            .enumerate()
        {
            let told = told.clone();
            let hook = OnWritten::new(move |written| told.send((number, written)).unwrap());
            out.answer(&answer(data), Some(hook));
        }
        assert_eq!(write(&mut out, &mut socket).await.unwrap().answers, 1);
        assert_eq!(hear.try_recv(), Ok((0, true)));
        assert!(hear.try_recv().is_err());
        let mut read = [0; 40];
        other.read_exact(&mut read).await.unwrap();
        assert_eq!(write(&mut out, &mut socket).await.unwrap().answers, 1);
        assert_eq!(hear.try_recv(), Ok((1, true)));
        assert_eq!(out.pending(), 0);
    }

    #[test]
    fn an_event_that_is_too_long_is_replaced_by_an_error() {
        let mut out = Outgoing::default();
        out.event(
            json!({"event": "message", "text": "x".repeat(MAX_FRAME_BYTES)}),
            Some(&json!(3)),
        );
        let line: Value = serde_json::from_slice(&out.bytes).unwrap();
        assert_eq!(
            (&line["event"], &line["code"], &line["id"]),
            (&json!("error"), &json!("too_large"), &json!(3))
        );
    }
}
