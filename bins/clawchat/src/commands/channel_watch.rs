//! `watch --channel`: the messages of a channel as they come, through restarts of the daemon.

use clawchat_ipc::{ErrorCode, Request};
use serde_json::Value;

use super::{Context, channel, watch};
use crate::failure::{Failure, Outcome};
use crate::human;
use crate::link::Link;

/// Prints every message stored in the channel from now on, once, in order of arrival, until interrupted.
pub(super) fn run(context: &Context, name: &str, from: Option<&str>) -> Outcome {
    let mut link = context.link()?;
    let mut cursor = newest(context, &mut link, name)?;
    loop {
        let ended = follow(context, name, from, link, &mut cursor);
        if let Err(failure) = ended
            && !watch::is_passing(&failure)
        {
            return Err(failure);
        }
        context.screen.note("(the daemon is away; waiting for it)");
        link = watch::until_back(|| Link::try_open(&context.settings.socket()))?;
        context.screen.note("(the daemon is back)");
    }
}

/// The arrival number of the newest message of the channel.
fn newest(context: &Context, link: &mut Link, name: &str) -> Outcome<u64> {
    let channels = link.call(context.acting(), Request::ChannelList)?;
    let joined = channel::find(&channels, name)
        .filter(|channel| channel.get("joined").and_then(Value::as_bool) == Some(true));
    let Some(joined) = joined else {
        return Err(Failure::new(
            ErrorCode::NoSuchChannel,
            format!("the channel {name:?} is not followed here"),
        )
        .hint(format!("clawchat channel join {name}")));
    };
    Ok(joined.get("last").and_then(Value::as_u64).unwrap_or(0))
}

fn follow(context: &Context, name: &str, from: Option<&str>, link: Link, cursor: &mut u64) -> Outcome {
    let request = Request::Subscribe {
        after: Some(*cursor),
        from: from.map(str::to_owned),
        events: Vec::new(),
        channels: vec![name.to_owned()],
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
        context.screen.answer(message, human::channel_line)?;
        *cursor = arrival.unwrap_or(*cursor);
    }
    Ok(())
}
