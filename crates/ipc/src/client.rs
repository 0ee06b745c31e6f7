//! The calling side: blocking, on a plain socket, without any runtime, so that a command starts at once.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use zeroize::Zeroize;

use crate::codec::{Answer, Call, Cut, Line, LineBuffer, MAX_FRAME_BYTES, append_json};
use crate::failure::{ErrorCode, Failure};

/// Requests [`Client::pipeline`] keeps in flight; half of what the daemon takes.
pub const PIPELINE_WINDOW: usize = 128;
/// Bytes taken from the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// One connection to a daemon.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    incoming: Incoming,
    limit: Option<Duration>,
}

impl Client {
    /// Connects. `limit` is how long each answer may take; `None` waits as long as it takes.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] when there is no socket or nobody listens on it, [`ClientError::NotPermitted`]
    /// when it belongs to another user, otherwise [`ClientError::Io`].
    pub fn connect(path: impl AsRef<Path>, limit: Option<Duration>) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let socket = UnixStream::connect(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning {
                    path: path.to_owned(),
                }
            }
            io::ErrorKind::PermissionDenied => ClientError::NotPermitted {
                path: path.to_owned(),
            },
            _ => ClientError::Io(source),
        })?;
        Ok(Self {
            socket,
            incoming: Incoming::new(),
            limit,
        })
    }

    /// Changes how long each answer may take.
    pub fn set_limit(&mut self, limit: Option<Duration>) {
        self.limit = limit;
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the daemon's reason, or what went wrong on the way. After any other error than
    /// `Refused` the connection is of no use any more.
    pub fn call(&mut self, call: &Call) -> Result<Value, ClientError> {
        self.send(call)?;
        Ok(self.receive()?.result?)
    }

    /// The same for a request given as JSON.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn call_value(&mut self, request: &Value) -> Result<Value, ClientError> {
        let mut line = Vec::new();
        append_json(request, &mut line);
        self.send_raw(&line)?;
        Ok(self.receive()?.result?)
    }

    /// Sends one request without waiting.
    ///
    /// # Errors
    /// What went wrong on the way.
    pub fn send(&mut self, call: &Call) -> Result<(), ClientError> {
        self.send_many(std::slice::from_ref(call))
    }

    /// Sends several requests in one write. Take care to [`receive`](Client::receive) as many answers before
    /// sending more than the daemon holds ([`MAX_PIPELINED`](crate::MAX_PIPELINED)); [`Client::pipeline`] does.
    ///
    /// # Errors
    /// What went wrong on the way.
    pub fn send_many(&mut self, calls: &[Call]) -> Result<(), ClientError> {
        let mut lines = Vec::new();
        for call in calls {
            let before = lines.len();
            call.append_line(&mut lines);
            check_length(lines.len() - before)?;
        }
        let sent = self.send_raw(&lines);
        if calls.iter().any(|call| call.request.holds_secrets()) {
            lines.zeroize();
        }
        sent
    }

    /// Sends bytes as they are: whole lines, or parts of one.
    ///
    /// # Errors
    /// What went wrong on the way.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.socket.set_write_timeout(self.limit)?;
        match self.socket.write_all(bytes) {
            Ok(()) => Ok(()),
            // A daemon that turns us away says why before it closes.
            Err(error) if is_closed(&error) => match self.receive() {
                Ok(Answer {
                    result: Err(failure), ..
                }) => Err(failure.into()),
                Ok(_) | Err(_) => Err(ClientError::Closed),
            },
            Err(error) => Err(self.timed_out(error)),
        }
    }

    /// The next answer; events that come before it are passed over.
    ///
    /// # Errors
    /// What went wrong on the way; not what the answer says.
    pub fn receive(&mut self) -> Result<Answer, ClientError> {
        let deadline = self.deadline();
        loop {
            if let Line::Answer(answer) = self.receive_line_until(deadline)? {
                return Ok(answer);
            }
        }
    }

    /// The next `count` answers, in the order they come.
    ///
    /// # Errors
    /// What went wrong on the way; not what the answers say.
    pub fn receive_many(&mut self, count: usize) -> Result<Vec<Answer>, ClientError> {
        (0..count).map(|_| self.receive()).collect()
    }

    /// The next line, answer or event.
    ///
    /// # Errors
    /// What went wrong on the way.
    pub fn receive_line(&mut self) -> Result<Line, ClientError> {
        self.receive_line_until(self.deadline())
    }

    /// Sends any number of requests, [`PIPELINE_WINDOW`] at a time in flight, and hands over each answer as it comes.
    /// Answers come in the order of the requests unless those wait and carry ids.
    ///
    /// # Errors
    /// What went wrong on the way; not what the answers say.
    pub fn pipeline(
        &mut self,
        calls: impl IntoIterator<Item = Call>,
        mut on_answer: impl FnMut(Answer),
    ) -> Result<(), ClientError> {
        let mut calls = calls.into_iter().peekable();
        let mut in_flight = 0;
        while in_flight > 0 || calls.peek().is_some() {
            if in_flight <= PIPELINE_WINDOW / 2 {
                let batch: Vec<Call> = calls.by_ref().take(PIPELINE_WINDOW - in_flight).collect();
                in_flight += batch.len();
                self.send_many(&batch)?;
            }
            if in_flight > 0 {
                on_answer(self.receive()?);
                in_flight -= 1;
            }
        }
        Ok(())
    }

    /// Sends a `subscribe` request and turns the connection into the stream of its events.
    ///
    /// # Errors
    /// What went wrong on the way. That the daemon refuses shows as the first item.
    pub fn subscribe(mut self, call: &Call) -> Result<Subscription, ClientError> {
        self.send(call)?;
        self.limit = None;
        Ok(Subscription { client: Some(self) })
    }

    fn deadline(&self) -> Option<Instant> {
        self.limit.and_then(|limit| Instant::now().checked_add(limit))
    }

    fn receive_line_until(&mut self, deadline: Option<Instant>) -> Result<Line, ClientError> {
        let socket = &self.socket;
        let line = self.incoming.next_line(|buffer| {
            let left = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Err(io::ErrorKind::TimedOut.into()),
                left => left,
            };
            socket.set_read_timeout(left)?;
            (&*socket).read(buffer)
        });
        line.map_err(|error| match error {
            ClientError::Io(source) => self.timed_out(source),
            other => other,
        })
    }

    fn timed_out(&self, error: io::Error) -> ClientError {
        match (error.kind(), self.limit) {
            (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, Some(limit)) => {
                ClientError::Timeout { limit }
            }
            _ => ClientError::Io(error),
        }
    }
}

/// The events of a subscription, until the daemon ends it or goes away.
///
/// The iterator ends after the event `end` (which it does not show) and after an error.
#[derive(Debug)]
pub struct Subscription {
    client: Option<Client>,
}

impl Iterator for Subscription {
    type Item = Result<Value, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let item = match self.client.as_mut()?.receive_line() {
                Ok(Line::Event(event)) if event.get("event").is_some_and(|kind| kind == "end") => {
                    self.client = None;
                    return None;
                }
                Ok(Line::Event(event)) => return Some(Ok(event)),
                Ok(Line::Answer(Answer { result: Ok(_), .. })) => continue,
                Ok(Line::Answer(Answer {
                    result: Err(failure), ..
                })) => failure.into(),
                Err(error) => error,
            };
            self.client = None;
            return Some(Err(item));
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no socket, or nobody listens on it.
    #[error("the daemon is not running")]
    NotRunning {
        /// The socket that was tried.
        path: PathBuf,
    },
    /// The socket belongs to another user.
    #[error("the daemon at {} belongs to another user", path.display())]
    NotPermitted {
        /// The socket that was tried.
        path: PathBuf,
    },
    /// No answer in time.
    #[error("the daemon did not answer within {} s", limit.as_secs_f64())]
    Timeout {
        /// The time it had.
        limit: Duration,
    },
    /// The daemon closed the connection before it answered.
    #[error("the daemon closed the connection before it answered")]
    Closed,
    /// The request or the answer is longer than [`MAX_FRAME_BYTES`].
    #[error("a line is longer than {MAX_FRAME_BYTES} bytes")]
    TooLarge,
    /// What came back is not an answer.
    #[error("the daemon's answer makes no sense: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The daemon answered, with an error.
    #[error("{0}")]
    Refused(#[from] Failure),
    /// Reading or writing failed.
    #[error("cannot talk to the daemon: {0}")]
    Io(#[from] io::Error),
}

impl ClientError {
    /// The same as a failure, for whoever reports it.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        let (code, hint) = match &self {
            Self::NotRunning { .. } => (
                ErrorCode::NotRunning,
                Some("start it with \"clawchat daemon start\""),
            ),
            Self::NotPermitted { .. } => (
                ErrorCode::NotAllowed,
                Some("run the command as the user of the daemon"),
            ),
            Self::Timeout { .. } => (
                ErrorCode::Timeout,
                Some("give it more time, or look at the daemon's log"),
            ),
            Self::Closed => (
                ErrorCode::Failed,
                Some("the daemon may have stopped; see its log"),
            ),
            Self::TooLarge => (ErrorCode::TooLarge, Some("split it up")),
            Self::Malformed { .. } => (ErrorCode::Internal, Some("is the daemon of the same version?")),
            Self::Io(_) => (ErrorCode::Io, None),
            Self::Refused(_) => (ErrorCode::Failed, None),
        };
        match self {
            Self::Refused(failure) => failure,
            other => {
                let failure = Failure::new(code, other.to_string());
                match hint {
                    Some(hint) => failure.with_hint(hint),
                    None => failure,
                }
            }
        }
    }

    /// What to branch on.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotRunning { .. } => ErrorCode::NotRunning,
            Self::NotPermitted { .. } => ErrorCode::NotAllowed,
            Self::Timeout { .. } => ErrorCode::Timeout,
            Self::Closed => ErrorCode::Failed,
            Self::TooLarge => ErrorCode::TooLarge,
            Self::Malformed { .. } => ErrorCode::Internal,
            Self::Io(_) => ErrorCode::Io,
            Self::Refused(failure) => failure.code,
        }
    }
}

pub(crate) fn check_length(line_bytes: usize) -> Result<(), ClientError> {
    // One more for the newline.
    if line_bytes > MAX_FRAME_BYTES + 1 {
        Err(ClientError::TooLarge)
    } else {
        Ok(())
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}

/// Lines out of a blocking reader.
#[derive(Debug)]
pub(crate) struct Incoming {
    lines: LineBuffer,
    scratch: Vec<u8>,
}

impl Incoming {
    pub(crate) fn new() -> Self {
        Self {
            lines: LineBuffer::new(MAX_FRAME_BYTES),
            scratch: vec![0; READ_BYTES],
        }
    }

    /// The next line from the daemon.
    pub(crate) fn next_line(
        &mut self,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> Result<Line, ClientError> {
        loop {
            match self.lines.next_line() {
                Some(Cut::Line(line)) => {
                    return Line::from_line(self.lines.line(line))
                        .map_err(|reason| ClientError::Malformed { reason });
                }
                Some(Cut::TooLong) => return Err(ClientError::TooLarge),
                None => {}
            }
            match read(&mut self.scratch) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(bytes) => self.lines.push(self.scratch.get(..bytes).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_closed(&error) => return Err(ClientError::Closed),
                Err(error) => return Err(ClientError::Io(error)),
            }
        }
    }
}
