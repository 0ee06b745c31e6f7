//! The JSON document as the file holds it.

use serde_json::{Map, Value};

/// The keys of the file, in one place.
pub(super) mod key {
    pub(in crate::config) const VERSION: &str = "version";
    pub(in crate::config) const P2P_PORT: &str = "p2pPort";
    pub(in crate::config) const IDENTITIES: &str = "identities";
    pub(in crate::config) const VISIBILITY: &str = "visibility";
    pub(in crate::config) const LIMITS: &str = "limits";
    pub(in crate::config) const PRINCIPAL: &str = "principal";
    pub(in crate::config) const NICK: &str = "nick";
    pub(in crate::config) const AUTOLOAD: &str = "autoload";
    pub(in crate::config) const ALLOW_LOCAL: &str = "allowLocal";
    pub(in crate::config) const ALLOWED: &str = "allowedRemotePeers";
    pub(in crate::config) const DENIED: &str = "deniedPeers";
    pub(in crate::config) const LEGACY_PEERS: &str = "legacyPeers";
    pub(in crate::config) const RELAY: &str = "relay";
    pub(in crate::config) const RELAYS: &str = "relays";
    pub(in crate::config) const NAT: &str = "nat";
    pub(in crate::config) const MESH: &str = "mesh";
    pub(in crate::config) const METRICS: &str = "metrics";
    pub(in crate::config) const OWN_WAKE: &str = "wake";
    pub(in crate::config) const WAKE: &str = "openclawWake";
}

/// The text of a document, as `JSON.stringify(value, null, 2)` writes it.
pub(super) fn to_text(document: &Map<String, Value>) -> String {
    // Writing a JSON value to memory cannot fail: its keys are text and its numbers are finite.
    serde_json::to_string_pretty(document).unwrap_or_default()
}

/// A value as a JavaScript template string shows it; the existing error texts quote values that way.
pub(super) fn shown(value: Option<&Value>) -> String {
    match value {
        None => "undefined".to_owned(),
        Some(Value::Null) => "null".to_owned(),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(float) if !number.is_i64() && !number.is_u64() => float.to_string(),
            _ => number.to_string(),
        },
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let item = |item: &Value| {
                if item.is_null() {
                    String::new()
                } else {
                    shown(Some(item))
                }
            };
            items.iter().map(item).collect::<Vec<_>>().join(",")
        }
        Some(Value::Object(_)) => "[object Object]".to_owned(),
    }
}
