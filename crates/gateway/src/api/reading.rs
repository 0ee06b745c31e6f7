//! `recv`, `inbox`, `outbox`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use clawchat_ipc::{ErrorCode, Failure, MAX_FRAME_BYTES, OnWritten, Reply};
use clawchat_store::{InboxEntry, MAX_MARKS, OutboxEntry};
use clawchat_types::{Principal, UnixMillis};
use serde_json::Value;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::messages::{MAX_WAIT, no_longer_served};
use super::render::{self, Waiting};
use super::{Answer, Api, storage};
use crate::aliases::DisplayNames;
use crate::claims::{Claim, Scanned};
use crate::hosted::Hosted;

/// Entries read from the store at a time.
const PAGE: usize = 256;
/// Most bytes of JSON in one answer, with room for its frame.
const MAX_ANSWER_BYTES: usize = MAX_FRAME_BYTES - 64 * 1024;
/// Most bytes of JSON that a list may hold while it lets others have their turn. Hundreds of requests of one connection
/// may be begun before the first goes on, and what is not an answer yet is counted nowhere; a longer list is read to its
/// end at once, which [`MAX_ANSWER_BYTES`] keeps short.
const MAX_PAUSED_BYTES: usize = 64 * 1024;

/// Which messages a caller wants to have.
pub(super) struct Wanted {
    pub(super) since: Option<UnixMillis>,
    pub(super) from: Option<String>,
    pub(super) limit: Option<u64>,
    pub(super) unread: bool,
    pub(super) after: Option<u64>,
}

impl Api {
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
        let start = wanted.start(hosted)?;
        let mut cursor = start;
        loop {
            arrivals.borrow_and_update();
            if wanted.unread {
                // What another call was about to take may be there again.
                cursor = start;
            }
            let page = collect(hosted, &wanted, from.as_ref(), &mut cursor).await?;
            let late = Instant::now() >= deadline;
            if !page.values.is_empty() || late {
                return Ok(self.hand_out(page));
            }
            tokio::select! {
                changed = arrivals.changed() => if changed.is_err() { return Err(Failure::stopping()) },
                () = tokio::time::sleep_until(deadline) => {}
                () = hosted.stop().cancelled() => return Err(no_longer_served(hosted)),
            }
        }
    }

    pub(super) async fn inbox(
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
        let mut cursor = wanted.start(hosted)?;
        Ok(Value::Array(
            collect(hosted, &wanted, None, &mut cursor).await?.values,
        ))
    }

    pub(super) async fn outbox(
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
            drop(page);
            values.pause().await;
        }
        Ok(Value::Array(values.list))
    }

    /// Turns a page into an answer; unread messages count as read once the answer has reached the caller.
    fn hand_out(&self, page: Page) -> Answer {
        let value = Value::Array(page.values);
        let Some(claim) = page.claim else {
            return value.into();
        };
        let gateway = Arc::clone(&self.gateway);
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

impl Wanted {
    /// Behind which arrival to look.
    fn start(&self, hosted: &Hosted) -> Result<u64, Failure> {
        let after = self.after.unwrap_or(0);
        let Some(since) = self.since else {
            return Ok(after);
        };
        let arrival = hosted.store().store().arrival_at(since);
        Ok(after.max(arrival.map_err(|error| storage(&error))?))
    }
}

/// Messages found for a caller. Unread ones are claimed: no other call gets them unless this answer is lost.
struct Page {
    values: Vec<Value>,
    claim: Option<Claim>,
}

/// Finds what a caller wants behind `cursor`, in the order of arrival, and moves it behind what was looked at.
async fn collect(
    hosted: &Arc<Hosted>,
    wanted: &Wanted,
    from: Option<&Principal>,
    cursor: &mut u64,
) -> Result<Page, Failure> {
    let mut claim = wanted.unread.then(|| Claim::new(hosted));
    let mut values = Values::new(wanted.limit);
    let mut names = DisplayNames::of(hosted);
    if wanted.unread {
        values.limit = values.limit.min(MAX_MARKS);
        values.may_cut = true;
    }
    // A time still to come may lie behind messages that arrive while this waits.
    let wants = |entry: &InboxEntry| {
        from.is_none_or(|from| *from == entry.message.from)
            && wanted.since.is_none_or(|since| entry.received_at > since)
    };
    while !values.is_full() {
        let page = match &mut claim {
            Some(claim) => claim.page(*cursor, PAGE, values.room(), wants),
            None => hosted.store().store().inbox(*cursor, PAGE).map(Scanned::from),
        };
        let page = page.map_err(|error| storage(&error))?;
        let Some(last) = page.last else { break };
        *cursor = last;
        for entry in page.entries.iter().filter(|entry| wants(entry)) {
            if !values.push(render::inbox_entry(entry, &mut names))? {
                if let Some(claim) = &mut claim {
                    claim.give_back_from(entry.arrival);
                }
                return Ok(Page {
                    values: values.list,
                    claim,
                });
            }
        }
        drop(page);
        values.pause().await;
    }
    Ok(Page {
        values: values.list,
        claim,
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

    /// How many more values are wanted.
    fn room(&self) -> usize {
        self.limit.saturating_sub(self.list.len())
    }

    fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// A long inbox with little in it that is wanted is not to hold up everybody else.
    async fn pause(&self) {
        if self.bytes <= MAX_PAUSED_BYTES {
            yield_now().await;
        }
    }

    /// Adds a value. Returns whether it was taken; not, once the limit or the size of an answer is reached.
    fn push(&mut self, value: Value) -> Result<bool, Failure> {
        if self.is_full() {
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
