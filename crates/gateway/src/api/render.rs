//! Records as JSON, in the shapes the TypeScript ClawChat uses; ours in addition are optional for readers.

use clawchat_store::{InboxEntry, OutboxEntry, PeerRecord};
use clawchat_types::{Message, OutboundStatus};
use serde_json::{Map, Value, json};

use crate::aliases::{self, DisplayNames};
use crate::clock;
use crate::delivery::Conversation;
use crate::link::protocol_name;

/// A received message. `arrival` is the cursor of `after`; `receivedAt` that of `since`.
/// `names` are what peers ask to be called.
pub(super) fn inbox_entry(entry: &InboxEntry, names: &mut DisplayNames<'_>) -> Value {
    let mut object = message(&entry.message);
    if let Some(name) = names.get(&entry.message.from) {
        object.insert("fromDisplayName".to_owned(), json!(name));
    }
    object.insert("status".to_owned(), json!("delivered"));
    object.insert("receivedAt".to_owned(), json!(entry.received_at));
    object.insert("arrival".to_owned(), json!(entry.arrival));
    object.insert("verified".to_owned(), json!(entry.proof.is_some()));
    Value::Object(object)
}

/// A sent message. While it waits, attempts and error are those of its conversation.
pub(super) fn outbox_entry(entry: &OutboxEntry, waiting: Option<&Waiting>) -> Value {
    let mut object = message(&entry.message);
    let open = entry.is_open();
    let in_flight = waiting.is_some_and(|waiting| waiting.in_flight(entry.position));
    let status = if open && in_flight {
        OutboundStatus::Sent
    } else {
        entry.status
    };
    let (attempts, last_error) = match waiting {
        Some(waiting) if open => (waiting.attempts.max(entry.attempts), waiting.last_error.as_ref()),
        Some(_) | None => (entry.attempts, entry.last_error.as_ref()),
    };
    object.insert("status".to_owned(), json!(status));
    object.insert("attempts".to_owned(), json!(attempts));
    if let Some(error) = last_error {
        object.insert("lastError".to_owned(), json!(error));
    }
    object.insert("updatedAt".to_owned(), json!(entry.updated_at));
    object.insert("expiresAt".to_owned(), json!(entry.message.expires_at));
    object.insert("position".to_owned(), json!(entry.position));
    Value::Object(object)
}

/// How things stand with somebody who has messages waiting.
pub(super) struct Waiting {
    pub(super) conversation: Option<std::sync::Arc<Conversation>>,
    pub(super) attempts: u32,
    pub(super) last_error: Option<String>,
}

impl Waiting {
    fn in_flight(&self, position: u64) -> bool {
        self.conversation
            .as_ref()
            .is_some_and(|known| known.in_flight().contains(&position))
    }
}

/// How a connected peer is connected.
pub(super) struct Way {
    /// Generation of the protocol in use.
    pub(super) generation: u8,
    /// `direct`, `punched` (direct, after a relay brought the two together) or `relayed`.
    pub(super) path: &'static str,
    /// Who relays.
    pub(super) relay: Option<String>,
}

/// A known peer. `address` is a comma-separated list, as in the TypeScript version; `addresses` the same as a list.
/// `protocol` is the one in use, otherwise the best one the peer has spoken.
pub(super) fn peer(record: &PeerRecord, way: Option<Way>) -> Value {
    let in_use = way.as_ref().map(|way| way.generation);
    let (generation, connected) = (in_use.or(record.protocol_pin), way.is_some());
    let mut object = Map::new();
    object.insert("principal".to_owned(), json!(record.principal));
    if !record.locators.is_empty() {
        let texts: Vec<&str> = record.locators.iter().map(|locator| locator.as_str()).collect();
        object.insert("address".to_owned(), json!(texts.join(",")));
        object.insert("addresses".to_owned(), json!(texts));
    }
    if let Some(alias) = &record.alias {
        object.insert("alias".to_owned(), json!(alias));
    }
    if let Some(name) = aliases::display_name(record, clock::now().seconds()) {
        object.insert("displayName".to_owned(), json!(name));
    }
    let last_seen = if connected {
        Some(clock::now())
    } else {
        record.last_seen
    };
    object.insert("lastSeen".to_owned(), json!(last_seen));
    object.insert("connected".to_owned(), json!(connected));
    object.insert("added".to_owned(), json!(record.added));
    if let Some(peer_id) = &record.peer_id {
        object.insert("peerId".to_owned(), json!(peer_id));
    }
    if let Some(protocol) = generation.and_then(protocol_name) {
        object.insert("protocol".to_owned(), json!(protocol));
    }
    if let Some(way) = way {
        object.insert("path".to_owned(), json!(way.path));
        if let Some(relay) = way.relay {
            object.insert("relay".to_owned(), json!(relay));
        }
    }
    Value::Object(object)
}

fn message(message: &Message) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(message.id));
    object.insert("from".to_owned(), json!(message.from));
    if let Some(nick) = &message.from_nick {
        object.insert("fromNick".to_owned(), json!(nick));
    }
    object.insert("to".to_owned(), json!(message.to));
    object.insert("content".to_owned(), json!(message.content.as_str()));
    object.insert("timestamp".to_owned(), json!(message.timestamp));
    // Peers of ClawChat 1.0 do not count.
    if message.sequence > 0 {
        object.insert("sequence".to_owned(), json!(message.sequence));
    }
    if let Some(payload) = &message.payload {
        // It was parsed when it was accepted; text that is no JSON any more is shown as text.
        let value = serde_json::from_str(payload.as_str()).unwrap_or_else(|_| json!(payload.as_str()));
        object.insert("payload".to_owned(), value);
    }
    if let Some(reply_to) = &message.reply_to {
        object.insert("replyTo".to_owned(), json!(reply_to));
    }
    if message.content_type != super::messages::TEXT {
        object.insert("contentType".to_owned(), json!(message.content_type));
    }
    object
}
