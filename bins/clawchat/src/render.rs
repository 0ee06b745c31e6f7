//! The only place that writes to stdout and stderr.
//!
//! stdout is the answer, stderr the talk about it. In JSON format stdout holds JSON documents alone, one a line.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use crate::args::OutputFormat;
use crate::failure::{Failure, Outcome};
use crate::human;

/// Where answers go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    format: OutputFormat,
}

/// Turns a value into text for people. The result may have several lines; the last needs no line end.
pub(crate) type View = fn(&Value) -> String;

impl Screen {
    /// Answers in that format.
    pub(crate) const fn new(format: OutputFormat) -> Self {
        Self { format }
    }

    /// Whether people read along.
    pub(crate) fn is_text(self) -> bool {
        self.format == OutputFormat::Text
    }

    /// The answer of a command.
    ///
    /// # Errors
    /// When stdout cannot be written; silently when its reader has gone.
    pub(crate) fn answer(self, value: &Value, view: View) -> Outcome {
        match self.format {
            OutputFormat::Text => write(&with_line_end(view(value))),
            OutputFormat::Json => write(&format!("{value}\n")),
        }
    }

    /// One of several things to say, as they happen: an object a line, or a text.
    ///
    /// # Errors
    /// As [`Screen::answer`].
    pub(crate) fn event(self, value: &Value, text: &str) -> Outcome {
        match self.format {
            OutputFormat::Text => write(&with_line_end(human::clean_lines(text).into_owned())),
            OutputFormat::Json => write(&format!("{value}\n")),
        }
    }

    /// The beginning of an answer that is a long list; elements follow with [`List::push`].
    pub(crate) const fn list(self, view: View, empty: &'static str) -> List {
        List {
            screen: self,
            view,
            empty,
            count: 0,
        }
    }

    /// A word to people beside the answer; programs do not get it.
    pub(crate) fn note(self, text: &str) {
        if self.is_text() {
            warn(text);
        }
    }

    /// A picture made of characters, beside the answer: on stderr, whoever reads the answer.
    pub(crate) fn drawing(self, lines: &str) {
        warn(lines.trim_end_matches('\n'));
    }

    /// An answer that worked, but not quite as the caller may think: programs find that in its `warnings`, people on
    /// stderr.
    pub(crate) fn with_warnings(self, mut answer: Value, warnings: &[String]) -> Value {
        for warning in warnings {
            self.note(&format!("warning: {warning}"));
        }
        if let Some(object) = answer.as_object_mut()
            && !warnings.is_empty()
        {
            object.insert("warnings".to_owned(), json!(warnings));
        }
        answer
    }

    /// Something that is not as the caller may think, while a stream of answers goes on: a line on stderr.
    pub(crate) fn warning(self, text: &str) {
        match self.format {
            OutputFormat::Text => warn(&format!("warning: {text}")),
            OutputFormat::Json => warn(&json!({ "warning": text }).to_string()),
        }
    }

    /// The last word of a command that failed.
    pub(crate) fn failure(self, failure: &Failure) {
        if failure.is_silent() {
            return;
        }
        match self.format {
            OutputFormat::Text => warn(&human::clean_lines(&failure.text())),
            OutputFormat::Json => warn(&failure.json().to_string()),
        }
    }
}

/// A long list on its way to stdout, one JSON array or one paragraph an element.
#[derive(Debug)]
pub(crate) struct List {
    screen: Screen,
    view: View,
    empty: &'static str,
    count: u64,
}

impl List {
    /// One more element.
    ///
    /// # Errors
    /// As [`Screen::answer`].
    pub(crate) fn push(&mut self, value: &Value) -> Outcome {
        let text = match self.screen.format {
            OutputFormat::Text => with_line_end((self.view)(value)),
            OutputFormat::Json => format!("{}{value}", if self.count == 0 { "[" } else { "," }),
        };
        self.count += 1;
        write(&text)
    }

    /// The end of the list.
    ///
    /// # Errors
    /// As [`Screen::answer`].
    pub(crate) fn end(self) -> Outcome {
        match (self.screen.format, self.count) {
            (OutputFormat::Json, 0) => write("[]\n"),
            (OutputFormat::Json, _) => write("]\n"),
            (OutputFormat::Text, 0) => write(&with_line_end(self.empty.to_owned())),
            (OutputFormat::Text, _) => flush(),
        }
    }
}

/// A line on stderr in any format.
pub(crate) fn warn(text: &str) {
    // Nothing sensible can be done when stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Asks a question that is answered with yes (also by an empty line) or no.
///
/// # Errors
/// When stdin cannot be read.
pub(crate) fn question(text: &str) -> Outcome<bool> {
    let mut stderr = io::stderr().lock();
    // Nothing sensible can be done when stderr is closed.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(|error| {
        Failure::new(
            clawchat_ipc::ErrorCode::Io,
            format!("cannot read the answer: {error}"),
        )
    })?;
    Ok(matches!(
        line.trim().to_ascii_lowercase().as_str(),
        "" | "y" | "yes"
    ))
}

/// Writes out what stdout has buffered, and keeps everybody else from writing, then calls `last`.
pub(crate) fn after_last_line<T>(last: impl FnOnce() -> T) -> T {
    let mut stdout = io::stdout().lock();
    let _ = stdout.flush();
    last()
}

fn with_line_end(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn write(text: &str) -> Outcome {
    raw(text.as_bytes())
}

/// Raw text, the same in both formats: help, scripts and manual pages.
///
/// # Errors
/// As [`Screen::answer`].
pub(crate) fn raw(bytes: &[u8]) -> Outcome {
    let mut stdout = io::stdout().lock();
    told(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

fn flush() -> Outcome {
    told(io::stdout().lock().flush())
}

fn told(result: io::Result<()>) -> Outcome {
    result.map_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::nobody_reads();
        }
        Failure::new(
            clawchat_ipc::ErrorCode::Io,
            format!("cannot write the answer: {error}"),
        )
        .hint("check where stdout goes")
    })
}
