//! `send`, `reply`, `ask`, `recv`, `inbox`, `outbox`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use clawchat_ipc::{ErrorCode, Failure, MAX_FRAME_BYTES, OnWritten, Reply};
use clawchat_router::DEFAULT_EXPIRY;
use clawchat_snap2p::chat::MAX_PAYLOAD_DEPTH;
use clawchat_store::{InboxEntry, MAX_MARKS, OutboundDraft, OutboxEntry, Write};
use clawchat_types::{Content, MessageId, Payload, Principal, UnixMillis};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::render::{self, Waiting};
use super::{Answer, Api, storage};
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
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// Entries read from the store at a time.
const PAGE: usize = 256;
/// Most bytes of JSON in one answer, with room for its frame.
const MAX_ANSWER_BYTES: usize = MAX_FRAME_BYTES - 64 * 1024;

/// A message as a caller wants it sent.
pub(super) struct Draft {
    pub(super) to: String,
    pub(super) content: Content,
    pub(super) payload: Option<Value>,
    pub(super) reply_to: Option<MessageId>,
    pub(super) expires: Option<Duration>,
}

/// Which messages a caller wants to have.
pub(super) struct Wanted {
    pub(super) since: Option<UnixMillis>,
    pub(super) from: Option<String>,
    pub(super) limit: Option<u64>,
    pub(super) unread: bool,
    pub(super) after: Option<u64>,
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
        loop {
            while let Some(entry) = next_in_inbox(hosted, &mut cursor)? {
                if entry.message.reply_to == Some(id) && entry.message.from == to {
                    return Ok(render::inbox_entry(&entry));
                }
            }
            tokio::select! {
                changed = arrivals.changed() => if changed.is_err() { return Err(Failure::stopping()) },
                fate = fate(&mut receipt) => if let Fate::Failed { reason, refused } = fate {
                    return Err(undelivered(id, &reason, refused));
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

    pub(super) async fn recv(
        &self,
        hosted: &Arc<Hosted>,
        wanted: Wanted,
        timeout: Option<Duration>,
    ) -> Result<Answer, Failure> {
        let deadline = Instant::now() + timeout.unwrap_or_default().min(MAX_WAIT);
        let from = wanted
            .from
            .as_deref()
            .map(|from| self.sender(hosted, from))
            .transpose()?;
        let mut arrivals = hosted.arrivals();
        loop {
            arrivals.borrow_and_update();
            let page = collect(hosted, &wanted, from.as_ref())?;
            let late = Instant::now() >= deadline;
            if !page.entries.is_empty() || late {
                return Ok(self.hand_out(hosted, page, wanted.unread));
            }
            tokio::select! {
                changed = arrivals.changed() => if changed.is_err() { return Err(Failure::stopping()) },
                () = tokio::time::sleep_until(deadline) => {}
                () = hosted.stop().cancelled() => return Err(no_longer_served(hosted)),
            }
        }
    }

    pub(super) fn inbox(
        &self,
        hosted: &Arc<Hosted>,
        after: Option<u64>,
        limit: Option<u64>,
    ) -> Result<Value, Failure> {
        let wanted = Wanted {
            since: None,
            from: None,
            limit,
            unread: false,
            after,
        };
        Ok(Value::Array(collect(hosted, &wanted, None)?.values))
    }

    pub(super) fn outbox(
        &self,
        hosted: &Arc<Hosted>,
        after: Option<u64>,
        limit: Option<u64>,
    ) -> Result<Value, Failure> {
        let store = hosted.store().store();
        let mut waiting: HashMap<Principal, Waiting> = HashMap::new();
        let mut values = Values::new(limit);
        let mut cursor = after.unwrap_or(0);
        loop {
            let page = store.outbox(cursor, PAGE).map_err(|error| storage(&error))?;
            let Some(last) = page.last() else { break };
            cursor = last.position;
            for entry in &page {
                let value = render::outbox_entry(entry, waiting_for(hosted, &mut waiting, entry)?);
                if !values.push(value)? {
                    return Ok(Value::Array(values.list));
                }
            }
        }
        Ok(Value::Array(values.list))
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
        hosted
            .store()
            .submit(write)
            .await
            .map_err(|error| storage(&error))?;
        delivery::nudge(&self.gateway, hosted, &to);
        Ok((id, receipt))
    }

    /// Turns the entries into an answer; unread ones count as read once the answer has reached the caller.
    fn hand_out(&self, hosted: &Arc<Hosted>, page: Page, unread: bool) -> Answer {
        let value = Value::Array(page.values);
        if !unread || page.entries.is_empty() {
            return value.into();
        }
        let (gateway, hosted) = (Arc::clone(&self.gateway), Arc::clone(hosted));
        let claim = Claim {
            hosted,
            arrivals: page.entries,
            read: false,
        };
        let on_written = OnWritten::new(move |written| {
            if written {
                gateway.tasks.spawn(claim.mark_read());
            }
        });
        Answer::Reply(Reply::OnceThen {
            result: Ok(value),
            on_written,
        })
    }
}

/// What those who wait hear when their identity is removed. When the whole daemon stops, they hear that first.
fn no_longer_served(hosted: &Hosted) -> Failure {
    Failure::new(
        ErrorCode::NoSuchIdentity,
        format!("{} is no longer served here", hosted.principal()),
    )
}

fn payload(value: &Value) -> Result<Payload, Failure> {
    if is_deeper(value, MAX_PAYLOAD_DEPTH) {
        return Err(Failure::new(
            ErrorCode::TooLarge,
            format!("the payload is nested deeper than {MAX_PAYLOAD_DEPTH} levels"),
        ));
    }
    Payload::new(value.to_string())
        .map_err(|error| Failure::new(ErrorCode::TooLarge, format!("payload: {error}")))
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
        failure.with_hint("ask the recipient to allow you: clawchat gateway identity allow WHO PRINCIPAL")
    } else {
        failure
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

/// Messages found for a caller, and the arrivals of those claimed for it.
struct Page {
    values: Vec<Value>,
    entries: Vec<u64>,
}

/// Finds what a caller wants, in the order of arrival. Unread messages are claimed: no other call gets them
/// unless this answer is lost.
fn collect(hosted: &Hosted, wanted: &Wanted, from: Option<&Principal>) -> Result<Page, Failure> {
    let store = hosted.store().store();
    let mut cursor = wanted.after.unwrap_or(0);
    if let Some(since) = wanted.since {
        cursor = cursor.max(store.arrival_at(since).map_err(|error| storage(&error))?);
    }
    let mut claimed = wanted.unread.then(|| hosted.claimed());
    let mut values = Values::new(wanted.limit);
    if wanted.unread {
        values.limit = values.limit.min(MAX_MARKS);
        values.may_cut = true;
    }
    let mut entries = Vec::new();
    'pages: loop {
        let page = if wanted.unread {
            store.unread(cursor, PAGE)
        } else {
            store.inbox(cursor, PAGE)
        };
        let page = page.map_err(|error| storage(&error))?;
        let Some(last) = page.last() else { break };
        cursor = last.arrival;
        for entry in &page {
            let other_sender = from.is_some_and(|from| *from != entry.message.from);
            let taken = claimed
                .as_ref()
                .is_some_and(|claimed| claimed.contains(&entry.arrival));
            if other_sender || taken {
                continue;
            }
            if !values.push(render::inbox_entry(entry))? {
                break 'pages;
            }
            entries.push(entry.arrival);
        }
    }
    if let Some(claimed) = &mut claimed {
        claimed.extend(&entries);
    }
    Ok(Page {
        values: values.list,
        entries,
    })
}

/// A list of values that fits into one answer.
struct Values {
    list: Vec<Value>,
    bytes: usize,
    limit: usize,
    may_cut: bool,
}

impl Values {
    fn new(limit: Option<u64>) -> Self {
        let may_cut = limit.is_some();
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Self {
            list: Vec::new(),
            bytes: 0,
            limit,
            may_cut,
        }
    }

    /// Adds a value. Returns whether it was taken; not, once the limit or the size of an answer is reached.
    fn push(&mut self, value: Value) -> Result<bool, Failure> {
        if self.list.len() >= self.limit {
            return Ok(false);
        }
        self.bytes += value.to_string().len() + 1;
        if self.bytes > MAX_ANSWER_BYTES && !self.list.is_empty() {
            if self.may_cut {
                return Ok(false);
            }
            return Err(Failure::new(
                ErrorCode::TooLarge,
                format!("the list is longer than one answer may be ({MAX_ANSWER_BYTES} bytes)"),
            )
            .with_hint("ask for a part of it: give a limit, and go on after the last entry"));
        }
        self.list.push(value);
        Ok(true)
    }
}

/// Unread messages on their way to a caller. Dropped before they are read, they are there for others again.
struct Claim {
    hosted: Arc<Hosted>,
    arrivals: Vec<u64>,
    read: bool,
}

impl Claim {
    async fn mark_read(mut self) {
        let marks = Write::MarkRead(self.arrivals.clone());
        // Whether or not that is noted, waking others for what a caller has would only repeat it.
        self.read = true;
        if let Err(error) = self.hosted.store().submit(marks).await {
            tracing::warn!(identity = %self.hosted.principal(), %error, "cannot mark messages as read");
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = self.hosted.claimed();
        for arrival in &self.arrivals {
            claimed.remove(arrival);
        }
        drop(claimed);
        if !self.read {
            self.hosted.look_again();
        }
    }
}

fn waiting_for<'a>(
    hosted: &Arc<Hosted>,
    known: &'a mut HashMap<Principal, Waiting>,
    entry: &OutboxEntry,
) -> Result<Option<&'a Waiting>, Failure> {
    if !entry.is_open() {
        return Ok(None);
    }
    let to = entry.message.to;
    if let std::collections::hash_map::Entry::Vacant(vacant) = known.entry(to) {
        let state = hosted
            .store()
            .store()
            .attempt_state(&to)
            .map_err(|error| storage(&error))?;
        let conversation = hosted.conversations().get(&to).cloned();
        let (attempts, last_error) = state.map_or((0, None), |state| (state.attempts, state.last_error));
        vacant.insert(Waiting {
            conversation,
            attempts,
            last_error,
        });
    }
    Ok(known.get(&to))
}
