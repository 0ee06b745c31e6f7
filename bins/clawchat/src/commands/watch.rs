//! `watch`: new messages as they come, through restarts of the daemon.

use std::thread;
use std::time::Duration;

use clawchat_ipc::{ErrorCode, EventKind, Request};
use serde_json::Value;

use super::{Context, channel_watch, daemon};
use crate::args::WatchArgs;
use crate::failure::{Failure, Outcome};
use crate::human;
use crate::interrupt;
use crate::link::Link;

/// Messages skipped at once while looking for the newest.
const PAGE: u64 = 256;
/// First pause before the daemon is looked for again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Prints every message that arrives from now on, once, in order, until interrupted.
pub(super) fn run(context: &Context, args: &WatchArgs) -> Outcome {
    interrupt::end_quietly()?;
    if let Some(channel) = &args.channel {
        return channel_watch::run(context, channel, args.from.as_deref());
    }
    let mut link = context.link()?;
    let mut cursor = newest(context, &mut link)?;
    loop {
        let ended = follow(context, args, link, &mut cursor);
        if let Err(failure) = ended
            && !is_passing(&failure)
        {
            return Err(failure);
        }
        context.screen.note("(the daemon is away; waiting for it)");
        link = reconnect(context, &mut cursor)?;
        context.screen.note("(the daemon is back)");
    }
}

/// The number of the newest message, behind which everything is new.
///
/// The count is where to begin looking, since numbers start at 1 and are never given twice.
fn newest(context: &Context, link: &mut Link) -> Outcome<u64> {
    let status = daemon::status_of(link, context.acting())?;
    let mut newest = status.get("inboxCount").and_then(Value::as_u64).unwrap_or(0);
    loop {
        let request = Request::Inbox {
            after: Some(newest),
            limit: Some(PAGE),
        };
        let page = link.call(context.acting(), request)?;
        let last = page
            .as_array()
            .and_then(|page| page.last())
            .and_then(|message| message.get("arrival")?.as_u64());
        match last {
            Some(last) if last > newest => newest = last,
            _ => return Ok(newest),
        }
    }
}

/// Prints messages until the connection ends, moving the cursor behind each one printed.
fn follow(context: &Context, args: &WatchArgs, link: Link, cursor: &mut u64) -> Outcome {
    let request = Request::Subscribe {
        after: Some(*cursor),
        from: args.from.clone(),
        events: vec![EventKind::Message],
        channels: Vec::new(),
    };
    let mut events = link.subscribe(context.acting(), request)?;
    while let Some(event) = events.next_event()? {
        let Some(message) = event.get("message") else {
            continue;
        };
        let arrival = message.get("arrival").and_then(Value::as_u64);
        if arrival.is_some_and(|arrival| arrival <= *cursor) {
            continue;
        }
        context.screen.answer(message, human::line)?;
        *cursor = arrival.unwrap_or(*cursor);
    }
    Ok(())
}

/// Waits for the daemon to be back, for as long as it takes.
fn reconnect(context: &Context, cursor: &mut u64) -> Outcome<Link> {
    until_back(|| again(context, cursor))
}

/// Looks with growing pauses until `again` finds the daemon.
pub(super) fn until_back(mut again: impl FnMut() -> Outcome<Option<Link>>) -> Outcome<Link> {
    let mut pause = FIRST_PAUSE;
    loop {
        thread::sleep(pause);
        match again() {
            Ok(Some(link)) => return Ok(link),
            Ok(None) => {}
            Err(failure) if is_passing(&failure) => {}
            Err(failure) => return Err(failure),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The daemon, if it is back. Should its inbox be another one by now, in which arrivals are counted anew, then it
/// is followed from its newest message on: behind the old cursor nothing would come for a long time.
fn again(context: &Context, cursor: &mut u64) -> Outcome<Option<Link>> {
    let Some(mut link) = Link::try_open(&context.settings.socket())? else {
        return Ok(None);
    };
    let newest = newest(context, &mut link)?;
    if newest < *cursor {
        context.screen.warning(&format!(
            "the inbox was replaced: its newest message is number {newest}, the last one shown was {cursor}; only what comes now is shown"
        ));
        *cursor = newest;
    }
    Ok(Some(link))
}

/// Whether it may be over by itself: the daemon goes, comes, or has too much to do.
pub(super) fn is_passing(failure: &Failure) -> bool {
    !failure.is_silent()
        && [ErrorCode::NotRunning, ErrorCode::Busy]
            .into_iter()
            .any(|code| failure.is(code))
}
