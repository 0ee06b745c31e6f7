//! `channel …` and `dm …`.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clawchat_ipc::{ErrorCode, Request};
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::Context;
use super::messages::content;
use crate::args::{ChannelCommand, DmCommand, FileArgs, HistoryArgs};
use crate::failure::{Failure, Outcome};
use crate::human;
use crate::link::Link;

/// Messages shown when nobody says how many.
const HISTORY: u64 = 100;
/// Messages asked for at once. The daemon may answer with fewer, to stay within its frame; none means the end.
const PAGE: u64 = 500;
/// Longest name of a file that is written, in bytes: what common file systems take.
const MAX_NAME_BYTES: usize = 255;
/// Largest file read, in bytes. How much fits into a message the daemon knows.
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// `channel …`.
pub(super) fn channel(context: &Context, command: ChannelCommand) -> Outcome {
    match command {
        ChannelCommand::Join { name } => answer(
            context,
            Request::ChannelJoin { channel: name },
            human::channel_word,
        ),
        ChannelCommand::Leave { name } => answer(
            context,
            Request::ChannelLeave { channel: name },
            human::channel_word,
        ),
        ChannelCommand::List => answer(context, Request::ChannelList, human::channels),
        ChannelCommand::Send { name, text, extra } => {
            let body = content(text.unwrap_or_default())?;
            let (payload, file) = attached(extra)?;
            let request = Request::ChannelSend {
                channel: name,
                body,
                payload,
                file,
            };
            answer(context, request, human::channel_word)
        }
        ChannelCommand::History { name, part } => {
            history(context, part, |limit, before, after| Request::ChannelHistory {
                channel: name.clone(),
                limit,
                before,
                after,
            })
        }
        ChannelCommand::Members { name } => {
            answer(context, Request::ChannelMembers { channel: name }, human::members)
        }
        ChannelCommand::Save { message, to, channel } => save(context, message, to, channel),
    }
}

/// `dm …`.
pub(super) fn dm(context: &Context, command: DmCommand) -> Outcome {
    match command {
        DmCommand::Send { who, text, extra } => {
            let body = content(text.unwrap_or_default())?;
            let (payload, file) = attached(extra)?;
            let request = Request::DmSend {
                to: who,
                body,
                payload,
                file,
            };
            answer(context, request, human::channel_word)
        }
        DmCommand::History { who, part } => {
            history(context, part, |limit, before, after| Request::DmHistory {
                with: who.clone(),
                limit,
                before,
                after,
            })
        }
    }
}

/// The entry of a channel in the answer to `channel_list`.
pub(super) fn find<'a>(channels: &'a Value, name: &str) -> Option<&'a Value> {
    channels
        .as_array()?
        .iter()
        .find(|channel| channel.get("channel").and_then(Value::as_str) == Some(name))
}

fn answer(context: &Context, request: Request, view: fn(&Value) -> String) -> Outcome {
    let answer = context.link()?.call(context.acting(), request)?;
    context.screen.answer(&answer, view)
}

/// Asks for as many pages as it takes.
fn history(
    context: &Context,
    part: HistoryArgs,
    request: impl Fn(Option<u64>, Option<String>, Option<String>) -> Request,
) -> Outcome {
    let mut link = context.link()?;
    let mut left = part.limit.unwrap_or(HISTORY);
    let (mut before, mut after) = (part.before, part.after);
    let onwards = after.is_some();
    let mut pages: Vec<Vec<Value>> = Vec::new();
    while left > 0 {
        let asked = request(Some(left.min(PAGE)), before.take(), after.take());
        let page = page(&mut link, context, asked)?;
        let end = if onwards { page.last() } else { page.first() };
        let Some(end) = end.and_then(|message| message.get("id")?.as_str()) else {
            break;
        };
        *(if onwards { &mut after } else { &mut before }) = Some(end.to_owned());
        left = left.saturating_sub(page.len() as u64);
        pages.push(page);
    }
    if !onwards {
        pages.reverse();
    }
    let messages = Value::Array(pages.into_iter().flatten().collect());
    context.screen.answer(&messages, human::history)
}

fn page(link: &mut Link, context: &Context, request: Request) -> Outcome<Vec<Value>> {
    match link.call(context.acting(), request)? {
        Value::Array(page) => Ok(page),
        _ => Ok(Vec::new()),
    }
}

/// The payload, and the file as the daemon wants it.
fn attached(extra: FileArgs) -> Outcome<(Option<Value>, Option<Value>)> {
    let Some(path) = extra.file else {
        return Ok((extra.payload, None));
    };
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Failure::usage(format!("{} does not name a file", path.display()), "name a file"))?;
    let unreadable = |error: io::Error| Failure::file("read", &path, &error);
    let file = File::open(&path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(Failure::usage(
            format!("{} is not a file", path.display()),
            "name a file; a folder can be packed first",
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Failure::new(
            ErrorCode::TooLarge,
            format!("{} is larger than {MAX_FILE_BYTES} bytes", path.display()),
        )
        .hint("make it smaller, or send a link to it"));
    }
    Ok((
        extra.payload,
        Some(json!({ "name": name, "data": BASE64.encode(&bytes) })),
    ))
}

/// `channel save`: the daemon has checked the hash; where to write is this side's business.
fn save(context: &Context, message: String, to: Option<PathBuf>, channel: Option<String>) -> Outcome {
    let file = context
        .link()?
        .call(context.acting(), Request::ChannelSave { message, channel })?;
    let text = |field: &str| file.get(field).and_then(Value::as_str).unwrap_or_default();
    let name = plain_name(text("name"))?;
    let bytes = BASE64.decode(text("data").as_bytes()).map_err(|error| {
        Failure::new(
            ErrorCode::Internal,
            format!("the daemon's answer is not base64: {error}"),
        )
    })?;
    let folder = match to {
        Some(folder) => folder,
        None => env::current_dir().map_err(|error| {
            Failure::new(
                ErrorCode::Io,
                format!("the current folder cannot be found: {error}"),
            )
        })?,
    };
    let path = folder.join(name);
    write_new(&path, &bytes)?;
    let mut answer = json!({
        "status": "saved", "path": path.to_string_lossy(), "name": name, "size": bytes.len(), "sha256": text("sha256"),
    });
    if !text("type").is_empty() {
        answer["type"] = json!(text("type"));
    }
    context.screen.answer(&answer, human::saved)
}

/// The last part of the name a sender gave, if that is a name for a file and nothing else.
fn plain_name(given: &str) -> Outcome<&str> {
    let name = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = !name.is_empty()
        && !name.starts_with('.')
        && name.len() <= MAX_NAME_BYTES
        && !name.chars().any(char::is_control);
    if plain {
        return Ok(name);
    }
    Err(Failure::new(
        ErrorCode::NotAllowed,
        format!("the message calls its file {given:?}, which is not a plain file name"),
    )
    .hint("nothing was written; 'clawchat channel history --json' shows the payload"))
}

/// Writes a file that is not there yet, whole or not at all.
fn write_new(path: &Path, bytes: &[u8]) -> Outcome {
    let failed = |error: io::Error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return Failure::new(
                ErrorCode::AlreadyExists,
                format!("{} exists and stays as it is", path.display()),
            )
            .named("file_exists")
            .hint("choose another folder with --to DIR, or move that file away");
        }
        Failure::file("write", path, &error)
    };
    // Neither a link that stands there nor a file that appears meanwhile is written to.
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // It is ours, and half of it is of no use.
        let _ = fs::remove_file(path);
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_written() {
        for (given, name) in [
            ("a.png", "a.png"),
            ("a b", "a b"),
            ("é", "é"),
            ("/etc/passwd", "passwd"),
            ("../../a", "a"),
            ("c:\\x\\y.txt", "y.txt"),
        ] {
            assert_eq!(plain_name(given).unwrap(), name);
        }
        let long = "a".repeat(MAX_NAME_BYTES + 1);
        for bad in ["", ".", "..", "a/", "a/..", ".ssh", "a\0b", "a\nb", &long] {
            assert_eq!(plain_name(bad).unwrap_err().exit(), 5, "{bad}");
        }
    }

    #[test]
    fn what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_new(&path, b"one").unwrap();
        let failure = write_new(&path, b"two").unwrap_err();
        assert_eq!(failure.exit(), 1);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), folder.path().join("link")).unwrap();
        assert!(write_new(&folder.path().join("link"), b"x").is_err());
        assert!(!folder.path().join("elsewhere").exists());
    }
}
