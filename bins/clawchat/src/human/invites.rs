//! Invites as people read them.

use serde_json::Value;

use super::views::{list, number, text};
use super::{clean, columns, date_time};

/// `invite create`: the line, and what limits it.
pub(crate) fn invite(answer: &Value) -> String {
    let mut limits = Vec::new();
    if let Some(when) = number(answer, "expiresAt") {
        limits.push(format!("good until {}", date_time(when)));
    }
    if let Some(uses) = number(answer, "uses") {
        limits.push(format!("for {uses} {}", if uses == 1 { "peer" } else { "peers" }));
    }
    if let Some(id) = answer.get("id").and_then(Value::as_str) {
        limits.push(format!("revoke: clawchat invite revoke {}", clean(id)));
    }
    format!("{}\n({})", text(answer, "invite"), limits.join("; "))
}

/// `invite list`: one invite a line.
pub(crate) fn invites(invites: &Value) -> String {
    let mut rows = Vec::new();
    for invite in list(invites) {
        let used = number(invite, "used").unwrap_or(0);
        let used = match number(invite, "uses") {
            Some(uses) => format!("used {used} of {uses}"),
            None => format!("used {used}"),
        };
        let until = number(invite, "expiresAt").map_or_else(String::new, date_time);
        let members = invite.get("usedBy").unwrap_or(&Value::Null);
        let members: Vec<&str> = list(members).filter_map(Value::as_str).collect();
        rows.push(vec![
            text(invite, "id"),
            text(invite, "state"),
            used,
            format!("until {until}"),
            clean(&members.join(" ")).into_owned(),
        ]);
    }
    if rows.is_empty() {
        return "No invites with a token. Make one: clawchat invite create --uses 1".to_owned();
    }
    columns(&rows)
}

/// `invite revoke`.
pub(crate) fn invite_revoked(answer: &Value) -> String {
    let used = number(answer, "used").unwrap_or(0);
    format!("revoked  {}  (it had let in {used})", text(answer, "id"))
}
