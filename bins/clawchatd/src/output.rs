//! The only place that writes to stdout, and to stderr beside the log.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use crate::args::LogFormat;
use crate::failure::Failure;

/// One line on stdout. Whoever started the daemon may have stopped reading; that is no reason to end.
pub(crate) fn event(event: &Value) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{event}").and_then(|()| stdout.flush());
}

/// Why the daemon ends: one line on stderr, and an event on stdout if that was asked for.
pub(crate) fn failure(failure: &Failure, format: LogFormat, report: bool) {
    let hint = failure.hint.as_deref().unwrap_or(failure.code.advice());
    let line = match format {
        LogFormat::Text => format!("clawchatd: {} ({hint})", failure.message),
        LogFormat::Json => {
            json!({"error": failure.message, "code": failure.code.as_str(), "hint": hint}).to_string()
        }
    };
    // Nothing sensible can be done when stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{}", line.replace('\n', " "));
    if report {
        event(&json!({
            "event": "failed", "error": failure.message, "code": failure.code.as_str(), "hint": hint,
        }));
    }
}
