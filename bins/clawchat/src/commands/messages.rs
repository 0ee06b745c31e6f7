//! `send`, `recv`, `inbox`, `outbox`, `ask`, `reply`.

use std::io::{self, Read as _};
use std::time::Duration;

use clawchat_ipc::{ErrorCode, Request};
use clawchat_types::{Content, MAX_CONTENT_BYTES, MessageId, UnixMillis};
use serde_json::{Value, json};

use super::Context;
use crate::args::{AskArgs, RecvArgs, ReplyArgs, SendArgs};
use crate::failure::{Failure, Outcome};
use crate::human;
use crate::link::Link;

/// Messages asked for at once. The daemon may answer with fewer, to stay within its frame; none means the end.
const PAGE: u64 = 256;
/// For requests that are answered at once.
const NO_WAIT: Duration = Duration::ZERO;

/// `send`.
pub(super) fn send(context: &Context, args: SendArgs) -> Outcome {
    let request = Request::Send {
        to: args.to,
        content: content(args.text)?,
        payload: args.extra.payload,
        reply_to: args.reply_to.as_deref().map(message_id).transpose()?,
        wait: args.wait.map(|wait| wait.duration()),
        expires: args.extra.expires.map(|time| time.duration()),
    };
    hand_in(context, request, args.wait.map(|wait| wait.duration()))
}

/// `reply`.
pub(super) fn reply(context: &Context, args: ReplyArgs) -> Outcome {
    let request = Request::Reply {
        reply_to: message_id(&args.id)?,
        content: content(args.text)?,
        payload: args.extra.payload,
        wait: args.wait.map(|wait| wait.duration()),
        expires: args.extra.expires.map(|time| time.duration()),
    };
    hand_in(context, request, args.wait.map(|wait| wait.duration()))
}

/// `ask`.
pub(super) fn ask(context: &Context, args: AskArgs) -> Outcome {
    let request = Request::Ask {
        to: args.to,
        content: content(args.text)?,
        payload: args.payload,
        timeout: Some(args.timeout.duration()),
    };
    let reply = context
        .link()?
        .call_waiting(context.acting(), request, args.timeout.duration())?;
    context.screen.answer(&reply, human::inbound)
}

/// `recv`.
pub(super) fn recv(context: &Context, args: &RecvArgs) -> Outcome {
    let wanted = args.limit.unwrap_or(u64::MAX);
    let mut timeout = args.timeout.map(|timeout| timeout.duration());
    pages(
        context,
        wanted,
        human::inbound,
        "No messages.",
        |link, after, limit| {
            let timeout = timeout.take();
            let request = Request::Recv {
                since: args.since.map(UnixMillis),
                timeout,
                from: args.from.clone(),
                limit: Some(limit),
                unread: args.unread,
                after,
            };
            link.call_waiting(context.acting(), request, timeout.unwrap_or(NO_WAIT))
        },
    )
}

/// `inbox`.
pub(super) fn inbox(context: &Context) -> Outcome {
    pages(
        context,
        u64::MAX,
        human::inbound,
        "No messages.",
        |link, after, limit| {
            link.call(
                context.acting(),
                Request::Inbox {
                    after,
                    limit: Some(limit),
                },
            )
        },
    )
}

/// `outbox`.
pub(super) fn outbox(context: &Context) -> Outcome {
    pages(
        context,
        u64::MAX,
        human::outbound,
        "Nothing sent.",
        |link, after, limit| {
            link.call(
                context.acting(),
                Request::Outbox {
                    after,
                    limit: Some(limit),
                },
            )
        },
    )
}

/// Prints a list of any length, a page at a time, so that neither side ever holds it whole. What goes wrong
/// before the first page leaves stdout untouched.
fn pages(
    context: &Context,
    wanted: u64,
    view: fn(&Value) -> String,
    empty: &'static str,
    mut page: impl FnMut(&mut Link, Option<u64>, u64) -> Outcome<Value>,
) -> Outcome {
    let mut link = context.link()?;
    let mut list = context.screen.list(view, empty);
    let mut left = wanted;
    let mut after = None;
    while left > 0 {
        let limit = left.min(PAGE);
        let answer = page(&mut link, after, limit)?;
        let messages = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        for message in messages {
            list.push(message)?;
        }
        left = left.saturating_sub(messages.len() as u64);
        after = match messages.last().and_then(cursor) {
            // A cursor that does not move on would go round for ever.
            Some(next) if after.is_none_or(|after| next > after) => Some(next),
            _ => break,
        };
    }
    list.end()
}

/// The number behind which the next page begins: that of arrival, or the position in the outbox.
fn cursor(message: &Value) -> Option<u64> {
    message
        .get("arrival")
        .or_else(|| message.get("position"))
        .and_then(Value::as_u64)
}

/// Sends or replies, and answers with what became of it within `wait`.
fn hand_in(context: &Context, request: Request, wait: Option<Duration>) -> Outcome {
    let answer = context
        .link()?
        .call_waiting(context.acting(), request, wait.unwrap_or(NO_WAIT));
    let receipt = match answer {
        Ok(receipt) => receipt,
        Err(failure) => {
            // Late is not lost: the id is still the answer, and the exit code tells the rest. In text the failure
            // itself shows the id.
            if failure.is(ErrorCode::Timeout)
                && !context.screen.is_text()
                && let Some(id) = failure.get("data").and_then(|data| data.get("id"))
            {
                context
                    .screen
                    .answer(&json!({"status": "queued", "id": id}), human::receipt)?;
            }
            return Err(failure.or_hint("see: clawchat outbox"));
        }
    };
    context.screen.answer(&receipt, human::receipt)
}

/// The text of a message; `-` is all of stdin, byte for byte.
pub(super) fn content(text: String) -> Outcome<Content> {
    let text = if text == "-" { stdin()? } else { text };
    Content::new(text).map_err(|error| Failure::new(ErrorCode::TooLarge, error.to_string()))
}

fn stdin() -> Outcome<String> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_CONTENT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(ErrorCode::Io, format!("cannot read stdin: {error}")))?;
    if bytes.len() > MAX_CONTENT_BYTES {
        let message = format!("stdin holds more than the {MAX_CONTENT_BYTES} bytes one message may have");
        return Err(Failure::new(ErrorCode::TooLarge, message).hint("split it, or send a reference"));
    }
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(ErrorCode::Failed, "stdin is not UTF-8 text").hint("encode it, for example with base64")
    })
}

fn message_id(text: &str) -> Outcome<MessageId> {
    text.parse().map_err(|error| {
        Failure::new(
            ErrorCode::InvalidRequest,
            format!("{text:?} is not a message id: {error}"),
        )
        .hint("ids are in the output of send, inbox and outbox")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_on_behind_the_last_record() {
        assert_eq!(cursor(&json!({"arrival": 7})), Some(7));
        assert_eq!(cursor(&json!({"position": 9})), Some(9));
        assert_eq!(cursor(&json!({"id": "x"})), None);
    }

    #[test]
    fn ids_are_32_hex_digits() {
        assert!(message_id("00112233445566778899aabbccddeeff").is_ok());
        assert_eq!(message_id("nope").unwrap_err().exit(), 2);
    }
}
