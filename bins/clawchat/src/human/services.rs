//! What became of a service, and how it is.

use std::fmt::Write as _;

use serde_json::Value;

use super::{clean, columns};

/// What to do so that services run without a login.
const LINGER: &str = "loginctl enable-linger";

/// A service that was installed, and what is left to do.
pub(crate) fn service_installed(answer: &Value) -> String {
    let unit = text(answer, "unit");
    let mut said = if answer.get("written") == Some(&Value::Bool(false)) {
        format!("Nothing to change in {unit}\n")
    } else {
        format!("Wrote {unit}\n")
    };
    if let Some(next) = answer.get("next").and_then(Value::as_str) {
        let _ = writeln!(said, "Start it, now and at every login, with: {}", clean(next));
    } else {
        let _ = writeln!(said, "{} starts at every login, and now.", text(answer, "name"));
    }
    let _ = writeln!(said, "Logs: {}", text(answer, "logs"));
    if answer
        .get("linger")
        .is_some_and(|linger| linger != &Value::Bool(true))
    {
        let _ = writeln!(said, "To run it without a login: {LINGER}");
    }
    said
}

/// A service that was removed, or was not there.
pub(crate) fn service_uninstalled(answer: &Value) -> String {
    let (name, unit) = (text(answer, "name"), text(answer, "unit"));
    match answer.get("status").and_then(Value::as_str) {
        Some("uninstalled") => format!("Removed {name} ({unit}). The data folder is as it was."),
        Some(_) | None => format!("{name} is not installed: there is no {unit}"),
    }
}

/// How a service is.
pub(crate) fn service_status(answer: &Value) -> String {
    let name = text(answer, "name");
    if answer.get("installed") != Some(&Value::Bool(true)) {
        return format!(
            "{name} is not installed. Install it with: clawchat service install --password-file FILE"
        );
    }
    let word = |field: &str, yes: &str, no: &str| match answer.get(field).and_then(Value::as_bool) {
        Some(true) => yes.to_owned(),
        Some(false) => no.to_owned(),
        None => format!("unknown ({} cannot be asked)", text(answer, "platform")),
    };
    let mut rows = vec![
        vec!["Service".to_owned(), name],
        vec!["Unit".to_owned(), text(answer, "unit")],
        vec!["At login".to_owned(), word("enabled", "started", "not started")],
        vec!["Now".to_owned(), word("active", "running", "not running")],
        vec![
            "Contents".to_owned(),
            word(
                "upToDate",
                "as this version writes them",
                "not as this version writes them; renew with: clawchat service install --force",
            ),
        ],
    ];
    for (title, field) in [
        ("Data folder", "dataDir"),
        ("Program", "program"),
        ("Password", "passwordFile"),
        ("Logs", "logs"),
    ] {
        if answer.get(field).is_some_and(Value::is_string) {
            rows.push(vec![title.to_owned(), text(answer, field)]);
        }
    }
    columns(&rows)
}

fn text(answer: &Value, field: &str) -> String {
    let text = answer.get(field).and_then(Value::as_str).unwrap_or("-");
    clean(text).into_owned()
}
