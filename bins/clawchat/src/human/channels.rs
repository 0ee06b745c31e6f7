//! Channels of the mesh and their messages.

use std::fmt::Write as _;

use serde_json::Value;

use super::views::{list, number};
use super::{clean, columns, date_time, indented};

/// How much of a sender's key is shown: enough to tell people apart.
const SHORT_NAME: usize = 12;
/// What stands for what is not there.
const NOTHING: &str = "-";

/// Messages of a channel, one a line.
pub(crate) fn history(messages: &Value) -> String {
    let lines: Vec<String> = list(messages).map(channel_line).collect();
    if lines.is_empty() {
        return "No messages.".to_owned();
    }
    lines.join("\n")
}

/// One message of a channel, in a line where the text allows.
pub(crate) fn channel_line(message: &Value) -> String {
    // The time messages are ordered by, which is when they were sent; in one form, or not taken for a time.
    let when = utc(text(message, "timestamp")).unwrap_or_else(|| time(message, "receivedAt"));
    let doubt = match message.get("verified").and_then(Value::as_bool) {
        Some(true) => "",
        _ => " (unverified)",
    };
    let mut line = format!(
        "{when} {}{doubt} [{}]: {}",
        short(text(message, "sender")),
        clean(text(message, "id")),
        indented(text(message, "body"), "    ")
    );
    if let Some(payload) = message.get("payload") {
        match file_words(payload) {
            Some(file) => {
                let _ = write!(
                    line,
                    "\n    file {file}; take it out with: clawchat channel save {}",
                    clean(text(message, "id"))
                );
            }
            None => {
                let _ = write!(line, "\n    payload {}", clean(&payload.to_string()));
            }
        }
    }
    line
}

/// What `channel join`, `leave` and `send` answer with.
pub(crate) fn channel_word(answer: &Value) -> String {
    let mut words = text(answer, "status").replace('_', " ");
    for field in ["channel", "id"] {
        if let Some(value) = answer.get(field).and_then(Value::as_str) {
            let _ = write!(words, "  {}", clean(value));
        }
    }
    words
}

/// The channels, a line each.
pub(crate) fn channels(answer: &Value) -> String {
    let rows: Vec<Vec<String>> = list(answer)
        .map(|channel| {
            let count = number(channel, "count").unwrap_or(0);
            let followed = channel.get("joined").and_then(Value::as_bool).unwrap_or(false);
            let last = time(channel, "lastReceivedAt");
            vec![
                clean(text(channel, "channel")).into_owned(),
                if followed { "joined" } else { "kept for others" }.to_owned(),
                if count == 1 {
                    "1 message".to_owned()
                } else {
                    format!("{count} messages")
                },
                last,
            ]
        })
        .collect();
    if rows.is_empty() {
        return "No channels yet. Join one: clawchat channel join lobby".to_owned();
    }
    columns(&rows)
}

/// Who is in a channel.
pub(crate) fn members(answer: &Value) -> String {
    let rows: Vec<Vec<String>> = list(answer)
        .map(|member| {
            let flag = |name: &str| member.get(name).and_then(Value::as_bool).unwrap_or(false);
            let mut facts = Vec::new();
            if flag("self") {
                facts.push("you");
            }
            if flag("neighbour") {
                facts.push("connected");
            }
            if flag("subscribed") {
                facts.push("subscribed");
            }
            let wrote = number(member, "lastReceivedAt");
            if wrote.is_some() && !flag("verified") {
                facts.push("unverified");
            }
            let last = wrote.map_or_else(|| NOTHING.to_owned(), |when| format!("wrote {}", date_time(when)));
            vec![clean(text(member, "sender")).into_owned(), last, facts.join(", ")]
        })
        .collect();
    if rows.is_empty() {
        return "Nobody yet.".to_owned();
    }
    columns(&rows)
}

/// The place in the mesh: neighbours, and how far they are ahead.
pub(super) fn mesh_place(rows: &mut Vec<Vec<String>>, mesh: &Value) {
    if let Some(error) = mesh.get("error").and_then(Value::as_str) {
        rows.push(vec!["Mesh".to_owned(), format!("off: {}", clean(error))]);
        return;
    }
    let Some(own) = mesh.get("peerId").and_then(Value::as_str) else {
        return;
    };
    rows.push(vec!["Mesh".to_owned(), clean(own).into_owned()]);
    if let Some(address) = mesh.get("listen").and_then(Value::as_str) {
        let scheme = if mesh["tls"] == true { "wss" } else { "ws" };
        rows.push(vec![
            String::new(),
            format!("listens at {scheme}://{}", clean(address)),
        ]);
    }
    for link in list(mesh.get("links").unwrap_or(&Value::Null)) {
        let behind = number(link, "behind").unwrap_or(0);
        let state = if behind == 0 { "level" } else { "catching up" };
        let peer = link.get("peerId").and_then(Value::as_str).unwrap_or("?");
        rows.push(vec![
            String::new(),
            format!("{}  {}  {state}", clean(peer), clean(text(link, "address"))),
        ]);
    }
}

/// A file just written.
pub(crate) fn saved(answer: &Value) -> String {
    let size = answer.get("size").and_then(Value::as_u64).unwrap_or(0);
    format!("saved  {}  ({size} bytes)", clean(text(answer, "path")))
}

fn file_words(payload: &Value) -> Option<String> {
    let file = payload.get("file")?;
    let name = file.get("name")?.as_str()?;
    let size = file.get("size").and_then(Value::as_u64)?;
    Some(format!("{} ({size} bytes)", clean(name)))
}

fn short(name: &str) -> String {
    let mut letters = name.chars();
    let start: String = letters.by_ref().take(SHORT_NAME).collect();
    let more = if letters.next().is_some() { "…" } else { "" };
    format!("{}{more}", clean(&start))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn time(value: &Value, field: &str) -> String {
    number(value, field).map_or_else(|| NOTHING.to_owned(), date_time)
}

/// `2026-11-21T09:30:12.000Z` as other times are shown.
fn utc(text: &str) -> Option<String> {
    let (date, rest) = text.split_once('T')?;
    let (time, fraction) = rest.strip_suffix('Z')?.split_at_checked(8)?;
    let has_form = |text: &str, form: &str| {
        text.len() == form.len()
            && text.bytes().zip(form.bytes()).all(|(byte, formed)| match formed {
                b'0' => byte.is_ascii_digit(),
                _ => byte == formed,
            })
    };
    let fits = has_form(date, "0000-00-00")
        && has_form(time, "00:00:00")
        && (fraction.is_empty() || has_form(fraction, ".000"));
    fits.then(|| format!("{date} {time}Z"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_a_line_and_says_whether_it_is_proven() {
        let message = json!({"id": "m1", "sender": "a-very-long-name-of-a-peer", "body": "hi\nthere", "receivedAt": 0,
                             "verified": true});
        assert_eq!(
            channel_line(&message),
            "1970-01-01 00:00:00Z a-very-long-… [m1]: hi\n    there"
        );
        // What was said long ago and came today was said long ago.
        for (timestamp, shown) in [
            ("2026-11-21T09:30:12.345Z", "2026-11-21 09:30:12Z"),
            ("2026-11-21T09:30:12Z", "2026-11-21 09:30:12Z"),
            ("2026-11-21T09:30:12+02:00", "1970-01-01 00:00:00Z"),
            ("2026-11-21T09:30:1\u{1b}.345Z", "1970-01-01 00:00:00Z"),
            ("yesterday", "1970-01-01 00:00:00Z"),
        ] {
            let message =
                json!({"id": "m", "sender": "a", "body": "", "receivedAt": 0, "timestamp": timestamp});
            assert!(channel_line(&message).starts_with(shown), "{timestamp}");
        }
        let file = json!({"id": "m2", "sender": "bot", "body": "", "verified": false,
                          "payload": {"file": {"name": "a\u{1b}.png", "size": 3}}});
        assert_eq!(
            channel_line(&file),
            "- bot (unverified) [m2]: \n    file a·.png (3 bytes); take it out with: clawchat channel save m2"
        );
        assert!(channel_line(&json!({"payload": [1]})).ends_with("payload [1]"));
    }

    #[test]
    fn channels_and_members_are_tables() {
        let list = json!([{"channel": "lobby", "joined": true, "count": 2, "lastReceivedAt": 0}, {"channel": "x", "count": 1}]);
        assert_eq!(
            channels(&list),
            "lobby  joined           2 messages  1970-01-01 00:00:00Z\nx      kept for others  1 message   -\n"
        );
        let who = json!([{"sender": "a", "self": true, "verified": true, "lastReceivedAt": 0}, {"sender": "b", "neighbour": true, "subscribed": true},
            {"sender": "c", "lastReceivedAt": 0}]);
        assert_eq!(
            members(&who),
            "a  wrote 1970-01-01 00:00:00Z  you\nb  -                           connected, subscribed\nc  wrote 1970-01-01 00:00:00Z  unverified\n"
        );
        assert!(channels(&json!([])).starts_with("No channels yet."));
    }
}
