//! Following channels: their messages as they come, without a gap.

use std::sync::Arc;

use clawchat_mesh::{ChannelId, Message, PeerName};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::hub::Hub;
use super::view;

/// Messages read from the log at a time.
const PAGE: usize = 128;
/// Bytes of text in them, unless one alone has more.
const PAGE_BYTES: usize = 1024 * 1024;

/// Sends every message of `channel` behind `cursor` until nobody takes them any more: lines
/// `{"event":"channel_message","channel","message":{…}}`. Read from the log, so none is missed however slow the
/// reader.
pub(super) async fn run(
    hub: Arc<Hub>,
    channel: ChannelId,
    mut cursor: u64,
    from: Option<PeerName>,
    lines: mpsc::Sender<Value>,
) {
    let mut news = hub.news_of(&channel);
    loop {
        news.borrow_and_update();
        loop {
            let page = match hub.log.log().page(channel.as_str(), cursor, PAGE, PAGE_BYTES) {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%channel, %error, "a subscription ends");
                    return;
                }
            };
            if page.is_empty() {
                break;
            }
            for entry in &page {
                cursor = entry.arrival;
                if let Some(from) = &from
                    && Message::from_text(&entry.text).is_ok_and(|message| message.sender() != from)
                {
                    continue;
                }
                let Ok(message) = view::message(entry) else {
                    continue;
                };
                let line =
                    json!({ "event": "channel_message", "channel": channel.as_str(), "message": message });
                if lines.send(line).await.is_err() {
                    return;
                }
            }
            // With few of them wanted, nothing above may ever wait.
            tokio::task::yield_now().await;
        }
        tokio::select! {
            changed = news.changed() => if changed.is_err() { return },
            () = lines.closed() => return,
        }
    }
}
