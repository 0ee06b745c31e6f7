//! Messages from a peer of ClawChat 1.0: checked and stored, and only then is the peer told that they were read.

use std::sync::Arc;
use std::time::Duration;

use clawchat_node::LegacySession;
use clawchat_router::{DEFAULT_EXPIRY, Verdict};
use clawchat_snap2p::clawchat1::ChatMessage;
use clawchat_store::Write;
use clawchat_types::{Content, Message};
use tracing::{debug, warn};

use crate::clock;
use crate::hosted::Hosted;
use crate::legacy_ids;
use crate::shared::Gateway;

/// The content type of every message of this protocol.
const TEXT: &str = "text/plain";
/// How long to wait before messages are stored again that could not be. The peer would not send them a second time, so
/// they are held, and no more are read meanwhile.
const STORE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Serves a session until it ends.
pub(crate) async fn receive(gateway: Gateway, hosted: Arc<Hosted>, session: LegacySession) {
    while let Some(mut batch) = session.receive().await {
        let messages = std::mem::take(&mut batch.messages);
        let writes: Vec<Write> = messages
            .into_iter()
            .filter_map(|message| check(&gateway, &session, message))
            .collect();
        if !writes.is_empty() {
            store(&gateway, &hosted, writes).await;
        }
        session.dealt_with(batch).await;
    }
}

/// Writes them into the inbox, however long that takes.
async fn store(gateway: &Gateway, hosted: &Arc<Hosted>, writes: Vec<Write>) {
    while let Err(error) = hosted.append(&gateway.tasks, writes.clone()).await {
        gateway.tally.letters.not_stored.count();
        warn!(identity = %hosted.principal(), %error, "cannot store messages of a ClawChat 1.0 peer; they wait");
        tokio::time::sleep(STORE_AGAIN_AFTER).await;
    }
    gateway.tally.letters.stored.add(writes.len());
}

/// What is stored of a message, if it is admitted by the access list as it is now. There is no way to tell the sender
/// of one that is not.
fn check(gateway: &Gateway, session: &LegacySession, chat: ChatMessage) -> Option<Write> {
    let (from, to) = (*session.remote(), *session.local());
    if let Verdict::Refuse(refusal) = gateway.hosts.inbound_verdict(&from, &to) {
        debug!(peer = %from, %refusal, "a message was dropped");
        gateway.tally.letters.not_allowed.count();
        return None;
    }
    let now = clock::now();
    let content = match Content::new(chat.content) {
        Ok(content) => content,
        Err(error) => {
            warn!(peer = %from, %error, "a message was dropped");
            gateway.tally.letters.invalid.count();
            return None;
        }
    };
    let message = Message {
        id: legacy_ids::message_id(&from, &chat.id),
        from,
        to,
        timestamp: chat.timestamp,
        // Not counted by this protocol.
        sequence: 0,
        from_nick: chat.nick.and_then(|nick| nick.parse().ok()),
        content_type: TEXT.to_owned(),
        content,
        payload: None,
        reply_to: None,
        expires_at: now.after(DEFAULT_EXPIRY),
    };
    Some(Write::AppendInbound {
        message,
        proof: None,
        received_at: now,
    })
}
