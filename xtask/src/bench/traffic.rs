//! Sending messages over one local connection, in the ways that are measured.
//!
//! Lines are made beforehand and answers hardly looked at, so that this program, which shares the machine with the
//! gateways it measures, takes little of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::gateways::{ANSWER_LIMIT, Gateway, Outcome};

/// Bytes of text in each message.
const MESSAGE_BYTES: usize = 100;
/// Requests in flight; the daemon takes 256 of one connection.
const IN_FLIGHT: usize = 200;
/// Requests written at once while the pipeline is full.
const REFILL: usize = 32;
/// Messages between two looks at the clock while an inbox is filled.
const FILL_STEP: u64 = 5_000;

/// One connection to a gateway, and to whom messages go over it.
pub(super) struct Line {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
    to: String,
    answer: Vec<u8>,
    sent: u64,
}

/// What an answer has to say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Queued,
    Delivered,
}

/// How long many messages took.
pub(super) struct Plain {
    /// Until the last one was on disk here.
    pub(super) queued: Duration,
    /// Until the last one, and with it every other, was on disk there.
    pub(super) delivered: Duration,
}

impl Line {
    pub(super) fn open(from: &Gateway, to: &Gateway) -> Outcome<Self> {
        Self::open_to(from, to.name())
    }

    /// The same to anybody the gateway knows.
    pub(super) fn open_to(from: &Gateway, to: &str) -> Outcome<Self> {
        let writer = UnixStream::connect(from.socket()).map_err(failed)?;
        writer.set_read_timeout(Some(ANSWER_LIMIT * 2)).map_err(failed)?;
        let reader = BufReader::with_capacity(64 * 1024, writer.try_clone().map_err(failed)?);
        Ok(Self {
            writer,
            reader,
            to: to.to_owned(),
            answer: Vec::new(),
            sent: 0,
        })
    }

    /// How many messages have been sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends messages one after the other's receipt. How long each took, sorted.
    pub(super) fn one_at_a_time(&mut self, count: u64) -> Outcome<Vec<Duration>> {
        let requests = self.requests(count, Status::Delivered);
        let mut times = Vec::with_capacity(requests.len());
        for request in &requests {
            let begun = Instant::now();
            self.ask(request, Status::Delivered)?;
            times.push(begun.elapsed());
        }
        self.sent += count;
        times.sort_unstable();
        Ok(times)
    }

    /// Sends messages as fast as the daemon takes them, each answered with its receipt. How long until the last.
    pub(super) fn waited(&mut self, count: u64) -> Outcome<Duration> {
        let requests = self.requests(count, Status::Delivered);
        let begun = Instant::now();
        self.flow(&requests, Status::Delivered)?;
        self.sent += count;
        Ok(begun.elapsed())
    }

    /// Sends messages as fast as the daemon takes them, and waits for the receipt of the last one only.
    pub(super) fn plain(&mut self, count: u64) -> Outcome<Plain> {
        let requests = self.requests(count.saturating_sub(1), Status::Queued);
        let last = self.request(count, Status::Delivered);
        let begun = Instant::now();
        self.flow(&requests, Status::Queued)?;
        let queued = begun.elapsed();
        self.ask(&last, Status::Delivered)?;
        self.sent += count;
        Ok(Plain {
            queued,
            delivered: begun.elapsed(),
        })
    }

    /// Sends messages as fast as the daemon takes them, and waits for no receipts.
    pub(super) fn queued(&mut self, count: u64) -> Outcome {
        let requests = self.requests(count, Status::Queued);
        self.flow(&requests, Status::Queued)?;
        self.sent += count;
        Ok(())
    }

    /// Delivers `count` messages, or as many as `limit` allows.
    pub(super) fn fill(&mut self, count: u64, limit: Duration) -> Outcome {
        let (begun, end) = (Instant::now(), self.sent + count);
        while self.sent < end && begun.elapsed() < limit {
            self.plain(FILL_STEP.min(end - self.sent))?;
        }
        Ok(())
    }

    fn requests(&self, count: u64, status: Status) -> Vec<Vec<u8>> {
        (0..count).map(|number| self.request(number, status)).collect()
    }

    /// One message, answered when it has that status.
    fn request(&self, number: u64, status: Status) -> Vec<u8> {
        let content = format!("{number:0MESSAGE_BYTES$}");
        let mut request = json!({ "cmd": "send", "id": number, "to": self.to, "content": content });
        if status == Status::Delivered {
            request["wait"] = json!(u64::try_from(ANSWER_LIMIT.as_millis()).unwrap_or(u64::MAX));
        }
        format!("{request}\n").into_bytes()
    }

    fn ask(&mut self, request: &[u8], status: Status) -> Outcome {
        self.writer.write_all(request).map_err(failed)?;
        self.expect(status)
    }

    /// Keeps [`IN_FLIGHT`] requests going until all are answered, each with `status`.
    fn flow(&mut self, requests: &[Vec<u8>], status: Status) -> Outcome {
        let (mut offered, mut answered) = (0, 0);
        while answered < requests.len() {
            let room = IN_FLIGHT - (offered - answered);
            if room >= REFILL && offered < requests.len() {
                let end = requests.len().min(offered + room);
                let batch = requests.get(offered..end).unwrap_or_default().concat();
                self.writer.write_all(&batch).map_err(failed)?;
                offered = end;
            }
            self.expect(status)?;
            answered += 1;
        }
        Ok(())
    }

    fn expect(&mut self, status: Status) -> Outcome {
        let status: &[u8] = match status {
            Status::Queued => b"\"status\":\"queued\"",
            Status::Delivered => b"\"status\":\"delivered\"",
        };
        self.answer.clear();
        self.reader.read_until(b'\n', &mut self.answer).map_err(failed)?;
        let good = self.answer.starts_with(b"{\"ok\":true")
            && self.answer.windows(status.len()).any(|window| window == status);
        let answer = || String::from_utf8_lossy(&self.answer).trim_end().to_owned();
        if good {
            Ok(())
        } else {
            Err(format!("the gateway answered {:?}", answer()))
        }
    }
}

fn failed(error: std::io::Error) -> String {
    format!("the gateway: {error}")
}
