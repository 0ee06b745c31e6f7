//! Writing frames, byte for byte as existing peers do.

use std::sync::Arc;

use super::{Capabilities, SyncRequest};
use crate::json::quote;
use crate::{ChannelId, MeshConfig, public_key_pem};

/// Code of an error frame about a frame that cannot be taken.
pub(crate) const INVALID_MESSAGE: &str = "invalid_message";
/// Code of an error frame about another version.
pub(crate) const UNSUPPORTED_VERSION: &str = "unsupported_version";
/// Code of an error frame about who the peer is.
pub(crate) const UNAUTHORIZED: &str = "unauthorized";
/// Code of an error frame about too much of something.
pub(crate) const RATE_LIMITED: &str = "rate_limited";

/// Our handshake.
pub(crate) fn handshake(config: &MeshConfig) -> String {
    let mut text = String::from("{\"type\":\"handshake\",\"version\":1");
    push("peer_id", config.name.as_str(), &mut text);
    let Capabilities {
        relay,
        store,
        arrival_order,
    } = Capabilities {
        relay: config.relay,
        store: config.store,
        arrival_order: true,
    };
    text.push_str(&format!(
        ",\"capabilities\":{{\"relay\":{relay},\"store\":{store},\"arrival_order\":{arrival_order}}}"
    ));
    if let Some(key) = &config.key {
        push("public_key", &public_key_pem(key), &mut text);
    }
    text.push('}');
    text
}

/// `subscribe` or `unsubscribe`.
pub(crate) fn subscription(kind: &str, channel: &ChannelId) -> String {
    let mut text = begin(kind);
    push("channel_id", channel.as_str(), &mut text);
    text.push('}');
    text
}

/// A question for stored messages.
pub(crate) fn sync_request(request: &SyncRequest) -> String {
    let mut text = begin("sync_request");
    push("channel_id", request.channel.as_str(), &mut text);
    match &request.after {
        Some(id) => push("after_message_id", id, &mut text),
        None => text.push_str(",\"after_message_id\":null"),
    }
    text.push_str(&format!(",\"limit\":{}}}", request.limit));
    text
}

/// A page of stored messages. `more` and `last` are for peers that know them.
pub(crate) fn sync_response(
    channel: &ChannelId,
    messages: &[Arc<str>],
    more: Option<bool>,
    last: Option<&str>,
) -> String {
    let length: usize = messages.iter().map(|text| text.len() + 1).sum();
    let mut text = String::with_capacity(length + 512);
    text.push_str("{\"type\":\"sync_response\"");
    push("channel_id", channel.as_str(), &mut text);
    text.push_str(",\"messages\":[");
    for (place, message) in messages.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(message);
    }
    text.push(']');
    if let Some(more) = more {
        text.push_str(&format!(",\"more\":{more}"));
    }
    if let Some(last) = last {
        push("last", last, &mut text);
    }
    text.push('}');
    text
}

/// An error frame.
pub(crate) fn error(code: &str, message: &str) -> String {
    let mut text = begin("error");
    push("code", code, &mut text);
    push("message", message, &mut text);
    text.push('}');
    text
}

/// The answer to a ping.
pub(crate) fn pong() -> String {
    "{\"type\":\"pong\"}".to_owned()
}

fn begin(kind: &str) -> String {
    format!("{{\"type\":\"{kind}\"")
}

fn push(name: &str, value: &str, text: &mut String) {
    text.push_str(",\"");
    text.push_str(name);
    text.push_str("\":");
    quote(value, text);
}
