//! Answers as people read them.
//!
//! Texts of strangers (messages, nicknames) are shown without their control characters, so that no message
//! can move the cursor, colour the screen or retitle the window. The JSON form is not touched.

mod channels;
mod invites;
mod services;
mod time;
mod views;

use std::borrow::Cow;

use serde_json::Value;

pub(crate) use crate::human::channels::{channel_line, channel_word, channels, history, members, saved};
pub(crate) use crate::human::invites::{invite, invite_revoked, invites};
pub(crate) use crate::human::services::{service_installed, service_status, service_uninstalled};
pub(crate) use crate::human::time::{clock, date_time};
pub(crate) use crate::human::views::{
    checks, connected, daemon_status, identities, identity, import_problems, inbound, initialized, line,
    outbound, peer, receipt, started, status_word, up, whereabouts,
};

/// One line of text a stranger wrote, fit for a terminal: control characters become `·`.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    scrub(text, |_| false)
}

/// The same, keeping line ends and tabs.
pub(crate) fn clean_lines(text: &str) -> Cow<'_, str> {
    scrub(text, |letter| matches!(letter, '\n' | '\t'))
}

/// What somebody calls itself. It proves nothing, so it stands behind the principal, in quotes of which there are none
/// inside: whatever the name is, it does not end before they do.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", clean(name).replace('"', "'"))
}

/// What the daemon has counted, in the daemon's words.
pub(crate) fn metrics(answer: &Value) -> String {
    let text = answer.get("text").and_then(Value::as_str).unwrap_or_default();
    clean_lines(text).into_owned()
}

/// Lines behind the first are moved right, to stand under it.
pub(crate) fn indented(text: &str, by: &str) -> String {
    clean_lines(text)
        .trim_end_matches('\n')
        .replace('\n', &format!("\n{by}"))
}

/// Milliseconds as people say them: `0.8 ms`, `12 ms`, `3.4 s`.
pub(crate) fn elapsed(time: std::time::Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 10.0 {
        format!("{millis:.1} ms")
    } else if millis < 1000.0 {
        format!("{millis:.0} ms")
    } else {
        format!("{:.1} s", millis / 1000.0)
    }
}

/// Rows under each other, columns two spaces apart; the last column is not padded.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(
                ' ',
                width.saturating_sub(cell.chars().count()) + 2,
            ));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn scrub(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let harmful = |letter: char| (letter.is_control() || is_direction_mark(letter)) && !keep(letter);
    if text.contains(harmful) {
        Cow::Owned(
            text.chars()
                .map(|letter| if harmful(letter) { '·' } else { letter })
                .collect(),
        )
    } else {
        Cow::Borrowed(text)
    }
}

/// Marks that turn the direction of writing, and so can make a line read as something else.
const fn is_direction_mark(letter: char) -> bool {
    matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_strangers_text_cannot_reach_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\u{7}\u{9b}c\nd\u{202e}"), "a·[31mb··c·d·");
        assert_eq!(clean_lines("a\tb\nc\r"), "a\tb\nc·");
        assert_eq!(clean("héllo 🦀"), "héllo 🦀");
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["a".to_owned(), "long".to_owned(), "x".to_owned()],
            vec!["bcd".to_owned(), "é".to_owned()],
        ];
        assert_eq!(columns(&rows), "a    long  x\nbcd  é\n");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(elapsed(Duration::from_micros(840)), "0.8 ms");
        assert_eq!(elapsed(Duration::from_millis(12)), "12 ms");
        assert_eq!(elapsed(Duration::from_millis(3400)), "3.4 s");
    }
}
