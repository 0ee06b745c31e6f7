//! `send`, `reply`, `ask`.

use std::sync::Arc;
use std::time::Duration;

use clawchat_ipc::{ErrorCode, Failure};
use clawchat_router::DEFAULT_EXPIRY;
use clawchat_snap2p::chat::MAX_PAYLOAD_DEPTH;
use clawchat_store::{InboxEntry, MAX_PENDING, OutboundDraft, Outcome, Write};
use clawchat_types::{Content, MessageId, Payload, Principal};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Api, render, storage};
use crate::aliases::DisplayNames;
use crate::clock;
use crate::delivery;
use crate::hosted::{Hosted, in_future};
use crate::receipts::{Fate, Receipt};

/// The content type of plain messages.
pub(super) const TEXT: &str = "text/plain";
/// Longest expiry: ten years. Longer ones are cut.
const MAX_EXPIRY: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How long `ask` waits when the caller does not say.
const ASK_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait of one request: a day. Longer ones are cut, so that deadlines cannot overflow.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// A message as a caller wants it sent.
pub(super) struct Draft {
    pub(super) to: String,
    pub(super) content: Content,
    pub(super) payload: Option<Value>,
    pub(super) reply_to: Option<MessageId>,
    pub(super) expires: Option<Duration>,
}

impl Api {
    pub(super) async fn send(
        &self,
        hosted: &Arc<Hosted>,
        draft: Draft,
        wait: Option<Duration>,
    ) -> Result<Value, Failure> {
        let to = self.recipient(hosted, &draft.to)?;
        let (id, receipt) = self.enqueue(hosted, to, draft, wait.is_some()).await?;
        match (wait, receipt) {
            (Some(wait), Some(receipt)) => tokio::select! {
                result = wait_for_receipt(id, receipt, wait) => result,
                () = hosted.stop().cancelled() => Err(no_longer_served(hosted)),
            },
            (None, _) | (_, None) => Ok(json!({ "status": "queued", "id": id })),
        }
    }

    pub(super) async fn reply(
        &self,
        hosted: &Arc<Hosted>,
        reply_to: MessageId,
        content: Content,
        payload: Option<Value>,
        wait: Option<Duration>,
        expires: Option<Duration>,
    ) -> Result<Value, Failure> {
        let found = hosted
            .store()
            .store()
            .inbox_by_id(&reply_to)
            .map_err(|error| storage(&error))?;
        // Ids are unique per sender; of several senders the latest is meant.
        let original = found
            .into_iter()
            .max_by_key(|entry| entry.arrival)
            .ok_or_else(|| {
                Failure::new(
                    ErrorCode::NoSuchMessage,
                    format!("no message {reply_to} in the inbox"),
                )
                .with_hint("'clawchat inbox' lists the received messages with their ids")
            })?;
        let to = original.message.from.to_string();
        let draft = Draft {
            to,
            content,
            payload,
            reply_to: Some(reply_to),
            expires,
        };
        self.send(hosted, draft, wait).await
    }

    pub(super) async fn ask(
        &self,
        hosted: &Arc<Hosted>,
        draft: Draft,
        timeout: Option<Duration>,
    ) -> Result<Value, Failure> {
        let to = self.recipient(hosted, &draft.to)?;
        let mut arrivals = hosted.arrivals();
        let mut cursor = *arrivals.borrow_and_update();
        let timeout = timeout.unwrap_or(ASK_TIMEOUT).min(MAX_WAIT);
        let deadline = Instant::now() + timeout;
        let (id, receipt) = self.enqueue(hosted, to, draft, true).await?;
        let mut receipt = receipt;
        // A peer of ClawChat 1.0 cannot say what it answers: the first thing it says afterwards is taken for that.
        let mut has_references = true;
        let mut unreferenced = None;
        loop {
            while let Some(entry) = next_in_inbox(hosted, &mut cursor)? {
                if entry.message.from != to {
                    continue;
                }
                if entry.message.reply_to == Some(id) {
                    return Ok(render::inbox_entry(&entry, &mut DisplayNames::of(hosted)));
                }
                if entry.message.reply_to.is_none() && unreferenced.is_none() {
                    unreferenced = Some(entry);
                }
            }
            if !has_references && let Some(entry) = unreferenced {
                return Ok(render::inbox_entry(&entry, &mut DisplayNames::of(hosted)));
            }
            tokio::select! {
                changed = arrivals.changed() => if changed.is_err() { return Err(Failure::stopping()) },
                fate = fate(&mut receipt) => match fate {
                    Fate::Delivered => {}
                    Fate::Sent { .. } => has_references = false,
                    Fate::Failed { reason, refused } => return Err(undelivered(id, &reason, refused)),
                },
                () = hosted.stop().cancelled() => return Err(no_longer_served(hosted)),
                () = tokio::time::sleep_until(deadline) => {
                    return Err(Failure::new(ErrorCode::Timeout, format!("no reply within {} s", timeout.as_secs_f64()))
                        .with_hint("the question stays queued or delivered; a late reply arrives in the inbox")
                        .with_data(json!({ "id": id })));
                }
            }
        }
    }

    /// Writes a message into the outbox. Nothing is awaited before the write is submitted, so that pipelined
    /// requests keep their order.
    async fn enqueue(
        &self,
        hosted: &Arc<Hosted>,
        to: Principal,
        draft: Draft,
        with_receipt: bool,
    ) -> Result<(MessageId, Option<Receipt>), Failure> {
        let payload = draft.payload.as_ref().map(payload).transpose()?;
        let id = clock::message_id()
            .map_err(|error| Failure::new(ErrorCode::Internal, format!("no random numbers: {error}")))?;
        let receipt = with_receipt.then(|| hosted.receipts().expect(id));
        let expires = draft.expires.unwrap_or(DEFAULT_EXPIRY).min(MAX_EXPIRY);
        let write = Write::Enqueue(OutboundDraft {
            id,
            from: *hosted.principal(),
            to,
            timestamp: clock::now(),
            from_nick: hosted.nick(),
            content_type: TEXT.to_owned(),
            content: draft.content,
            payload,
            reply_to: draft.reply_to,
            expires_at: in_future(expires),
        });
        let outcome = hosted.store().submit(write).await;
        accepted(outcome.map_err(|error| storage(&error))?)?;
        delivery::nudge(&self.gateway, hosted, &to);
        Ok((id, receipt))
    }
}

/// What those who wait hear when their identity is removed. When the whole daemon stops, they hear that first.
pub(super) fn no_longer_served(hosted: &Hosted) -> Failure {
    Failure::new(
        ErrorCode::NoSuchIdentity,
        format!("{} is no longer served here", hosted.principal()),
    )
}

/// Whether the store took a message for delivery.
fn accepted(outcome: Outcome) -> Result<(), Failure> {
    match outcome {
        Outcome::OutboxFull => Err(Failure::new(
            ErrorCode::Busy,
            format!("{MAX_PENDING} messages of this identity are still to be delivered, so this one was not taken"),
        )
        .with_hint("send it again when some of them have been delivered or have expired; 'clawchat outbox' shows why they wait")),
        Outcome::Enqueued { .. }
        | Outcome::AlreadyQueued { .. }
        | Outcome::Appended { .. }
        | Outcome::Duplicate { .. }
        | Outcome::Done
        | Outcome::NotFound => Ok(()),
    }
}

fn payload(value: &Value) -> Result<Payload, Failure> {
    if is_deeper(value, MAX_PAYLOAD_DEPTH) {
        return Err(Failure::new(
            ErrorCode::TooLarge,
            format!("the payload is nested deeper than {MAX_PAYLOAD_DEPTH} levels"),
        )
        .with_hint("flatten it, or send the inner part as text"));
    }
    Payload::new(value.to_string()).map_err(|error| {
        Failure::new(ErrorCode::TooLarge, format!("payload: {error}"))
            .with_hint("split it over several messages, or send a link to it")
    })
}

/// Whether a value has more than `levels` arrays and objects inside each other. JSON from the socket is itself
/// limited to 128 levels by its parser, which bounds the recursion.
fn is_deeper(value: &Value, levels: u32) -> bool {
    match value {
        Value::Array(list) => levels == 0 || list.iter().any(|inner| is_deeper(inner, levels - 1)),
        Value::Object(object) => levels == 0 || object.values().any(|inner| is_deeper(inner, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

async fn wait_for_receipt(id: MessageId, mut receipt: Receipt, wait: Duration) -> Result<Value, Failure> {
    match tokio::time::timeout(wait.min(MAX_WAIT), receipt.fate()).await {
        Ok(Some(Fate::Delivered)) => Ok(json!({ "status": "delivered", "id": id })),
        // As far as it can be known: the recipient's protocol has no receipts.
        Ok(Some(Fate::Sent { .. })) => Ok(json!({ "status": "sent", "id": id })),
        Ok(Some(Fate::Failed { reason, refused })) => Err(undelivered(id, &reason, refused)),
        Ok(None) => Err(Failure::stopping()),
        Err(_) => Err(Failure::new(
            ErrorCode::Timeout,
            format!("not delivered within {} s", wait.as_secs_f64()),
        )
        .with_hint("the message stays queued; 'clawchat outbox' shows how it stands")
        .with_data(json!({ "id": id, "status": "queued" }))),
    }
}

fn undelivered(id: MessageId, reason: &str, refused: bool) -> Failure {
    let code = if refused {
        ErrorCode::NotAllowed
    } else {
        ErrorCode::Failed
    };
    let failure = Failure::new(code, format!("not delivered: {reason}"));
    let failure = if refused {
        failure.with_hint("ask the recipient to allow you (clawchat gateway identity allow WHO PRINCIPAL), or for a new invite")
    } else {
        failure.with_hint("it is not tried again: put right what the reason says, and send it anew")
    };
    failure.with_data(json!({ "id": id, "status": "failed" }))
}

/// The fate of a message, once; afterwards this waits for ever.
async fn fate(receipt: &mut Option<Receipt>) -> Fate {
    if let Some(waiting) = receipt {
        let fate = waiting.fate().await;
        *receipt = None;
        if let Some(fate) = fate {
            return fate;
        }
    }
    std::future::pending().await
}

fn next_in_inbox(hosted: &Hosted, cursor: &mut u64) -> Result<Option<InboxEntry>, Failure> {
    let page = hosted
        .store()
        .store()
        .inbox(*cursor, 1)
        .map_err(|error| storage(&error))?;
    let entry = page.into_iter().next();
    if let Some(entry) = &entry {
        *cursor = entry.arrival;
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_for_which_the_outbox_has_no_room_is_an_error() {
        let (position, sequence) = (1, 1);
        assert_eq!(accepted(Outcome::Enqueued { position, sequence }), Ok(()));
        let failure = accepted(Outcome::OutboxFull).unwrap_err();
        assert_eq!(failure.code, ErrorCode::Busy);
        assert!(failure.message.contains("100000 messages"), "{failure}");
        assert!(failure.hint.is_some());
    }
}
