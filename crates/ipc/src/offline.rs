//! One request over a pair of pipes, for when no daemon runs: the same lines as on the socket.

use std::io::{self, Read, Write};

use serde_json::Value;
use zeroize::Zeroize;

use crate::client::{ClientError, Incoming, check_length};
use crate::codec::{Answer, Call, Cut, Line, LineBuffer, MAX_FRAME_BYTES};
use crate::failure::{ErrorCode, Failure};
use crate::handler::{Caller, Handler, Reply};

/// Bytes taken from the pipe at once.
const READ_BYTES: usize = 8 * 1024;

/// Asks: writes the request to `to` (the other program's standard input) and reads the answer from `from` (its
/// standard output). `to` is closed once the request is written.
///
/// # Errors
/// [`ClientError::Refused`] with the reason, or what went wrong on the way.
pub fn ask(mut to: impl Write, mut from: impl Read, call: &Call) -> Result<Value, ClientError> {
    let mut line = Vec::new();
    call.append_line(&mut line);
    check_length(line.len())?;
    let written = to.write_all(&line).and_then(|()| to.flush());
    line.zeroize();
    drop(to);
    match Incoming::new().next_line(|buffer| from.read(buffer)) {
        Ok(Line::Answer(answer)) => Ok(answer.result?),
        Ok(Line::Event(_)) => Err(ClientError::Malformed {
            reason: "an event, not an answer".to_owned(),
        }),
        // What it said tells more than that it did not listen.
        Err(ClientError::Closed) if written.is_err() => {
            Err(written.map_or_else(ClientError::Io, |()| ClientError::Closed))
        }
        Err(error) => Err(error),
    }
}

/// Answers: reads one request from `from`, has it handled and writes the answer to `to`. A line that is no request is
/// answered with what is wrong with it.
///
/// # Errors
/// Reading or writing failed; that the request did is in the answer.
pub fn answer(
    from: impl Read,
    to: impl Write,
    handle: impl FnOnce(Call) -> Result<Value, Failure>,
) -> io::Result<()> {
    match read_call(from)? {
        Ok(call) => {
            let id = call.id.clone();
            write_answer(
                to,
                Answer {
                    id,
                    result: handle(call),
                },
            )
        }
        Err(rejected) => write_answer(to, rejected),
    }
}

/// The same with the handler of a [`Server`](crate::Server). Reads and writes block; streams are not supported.
///
/// # Errors
/// Reading or writing failed; that the request did is in the answer.
pub async fn answer_with<H: Handler>(
    from: impl Read,
    to: impl Write,
    caller: Caller,
    handler: &H,
) -> io::Result<()> {
    let call = match read_call(from)? {
        Ok(call) => call,
        Err(rejected) => return write_answer(to, rejected),
    };
    let id = call.id.clone();
    let (result, on_written) = match handler.handle(caller, call).await {
        Reply::Once(result) => (result, None),
        Reply::OnceThen { result, on_written } => (result, Some(on_written)),
        Reply::Stream(_) => {
            let failure = Failure::new(ErrorCode::NotRunning, "only a running daemon can do that");
            (Err(failure), None)
        }
    };
    write_answer(to, Answer { id, result })?;
    if let Some(on_written) = on_written {
        on_written.written();
    }
    Ok(())
}

fn read_call(mut from: impl Read) -> io::Result<Result<Call, Answer>> {
    let mut lines = LineBuffer::new(MAX_FRAME_BYTES);
    let mut scratch = [0; READ_BYTES];
    let mut ended = false;
    let outcome = loop {
        match lines.next_line() {
            Some(Cut::Line(line)) => {
                let line = lines.line(line);
                let call = Call::from_line(line);
                line.zeroize();
                break call.map_err(Answer::from);
            }
            Some(Cut::TooLong) => {
                let message = format!("the request is longer than {MAX_FRAME_BYTES} bytes");
                let result = Err(Failure::new(ErrorCode::TooLarge, message));
                break Err(Answer { id: None, result });
            }
            None => {}
        }
        match from.read(&mut scratch) {
            Ok(0) if ended => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(0) => {
                ended = true;
                lines.end();
            }
            Ok(bytes) => lines.push(scratch.get(..bytes).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    };
    scratch.zeroize();
    Ok(outcome)
}

fn write_answer(mut to: impl Write, answer: Answer) -> io::Result<()> {
    let mut line = Vec::new();
    answer.append_line(&mut line);
    to.write_all(&line)?;
    to.flush()
}
