//! A bare connection to a gateway: bytes out, lines in.
#![allow(dead_code, reason = "each user needs another part of it")]

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::gateways::{ANSWER_LIMIT, Gateway};

/// How long something that happens by itself may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// One connection.
pub(crate) struct Wire {
    socket: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Wire {
    pub(crate) fn to(gateway: &Gateway) -> Self {
        let socket = UnixStream::connect(gateway.socket()).unwrap();
        socket.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
        socket.set_write_timeout(Some(ANSWER_LIMIT)).unwrap();
        let lines = BufReader::new(socket.try_clone().unwrap());
        Self { socket, lines }
    }

    /// The socket itself.
    pub(crate) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    pub(crate) fn write(&self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes.as_ref()).unwrap();
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.socket).write_all(bytes)
    }

    pub(crate) fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "an answer ends after {line:?}");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    pub(crate) fn call(&mut self, request: &Value) -> Value {
        self.write(format!("{request}\n"));
        self.line()
    }

    /// What else is answered until the other end closes, whether or not it has read all that was asked: the system
    /// tells a caller whose last requests were not read so, behind the last answer.
    pub(crate) fn rest_before_the_end(mut self) -> String {
        let mut rest = Vec::new();
        match self.lines.read_to_end(&mut rest) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            ended => drop(ended.unwrap()),
        }
        String::from_utf8(rest).unwrap()
    }

    /// Says that no more requests come, and reads what else is answered.
    pub(crate) fn rest(mut self) -> String {
        self.socket.shutdown(Shutdown::Write).unwrap();
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        rest
    }
}

/// The answer to one request on a connection of its own. There must be exactly one line.
pub(crate) fn one_answer(gateway: &Gateway, request: impl AsRef<[u8]>) -> Value {
    let mut wire = Wire::to(gateway);
    wire.write(request);
    let answer = wire.line();
    assert_eq!(wire.rest(), "", "a second line after {answer}");
    answer
}

/// A message from one gateway to another arrives: both live.
pub(crate) fn assert_alive(from: &Gateway, to: &str) {
    let request = json!({ "cmd": "send", "to": to, "content": "still there?", "wait": 60_000 });
    let delivered = from.ask(&request).unwrap();
    assert_eq!(delivered["status"], "delivered", "{delivered}");
}

/// Asks again and again until the answer is there; each round is an exchange with a gateway.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::yield_now();
    }
}

/// Waits until everything this identity has sent is delivered or failed.
pub(crate) fn settle(gateway: &Gateway, who: &str) {
    eventually("messages are delivered", || {
        let outbox = gateway.ask(&json!({ "cmd": "outbox", "as": who })).unwrap();
        let open = |entry: &Value| entry["status"] == "pending" || entry["status"] == "sent";
        (!outbox.as_array().unwrap().iter().any(open)).then_some(())
    });
}
