//! Letting messages expire that could not be delivered in time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clawchat_store::{OutboxEntry, StoreError};
use clawchat_types::Principal;
use tracing::{info, warn};

use super::{Ending, conclude};
use crate::clock;
use crate::hosted::Hosted;
use crate::receipts::Fate;

/// Longest sleep between two looks at the outbox: bounds how late a message with a short expiry fails.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// How long after its time the answer to a message that is being delivered is waited for.
const GRACE: Duration = Duration::from_secs(5);
/// Most messages that expire in one commit.
const PAGE: usize = 256;

/// What becomes of a message whose time is up.
pub(super) fn expired() -> Fate {
    Fate::Failed {
        reason: "expired before it could be delivered".to_owned(),
        refused: false,
    }
}

/// Fails messages of `hosted` as their time comes, until it stops.
pub(super) async fn run(hosted: Arc<Hosted>) {
    let stop = hosted.stop().clone();
    stop.run_until_cancelled(async {
        loop {
            let pause = match sweep(&hosted).await {
                Ok(pause) => pause,
                Err(error) => {
                    warn!(identity = %hosted.principal(), %error, "cannot look for expired messages");
                    LONGEST_SLEEP * 60
                }
            };
            tokio::time::sleep(pause).await;
        }
    })
    .await;
}

/// Fails what is due now. Returns when to look again.
async fn sweep(hosted: &Hosted) -> Result<Duration, StoreError> {
    let now = clock::now();
    let due = hosted.store().store().due_expiries(now, PAGE)?;
    let full_page = due.len() == PAGE;
    let mut by_recipient: BTreeMap<Principal, Vec<OutboxEntry>> = BTreeMap::new();
    for entry in due {
        by_recipient.entry(entry.message.to).or_default().push(entry);
    }
    let mut failed = 0;
    for (remote, entries) in by_recipient {
        let conversation = hosted.conversations().get(&remote).cloned();
        let attempts = conversation
            .as_ref()
            .map_or(0, |conversation| conversation.attempts());
        // What is being delivered right now may still make it; its answer decides, if there is one.
        let (delivering, entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| {
            conversation
                .as_ref()
                .is_some_and(|known| known.in_flight().contains(&entry.position))
        });
        let silent = |entry: &OutboxEntry| entry.message.expires_at.after(GRACE) <= now;
        if let Some(conversation) = conversation
            && delivering.iter().any(silent)
        {
            conversation.give_up();
        }
        let endings: Vec<Ending> = entries
            .into_iter()
            .map(|entry| Ending {
                position: entry.position,
                id: entry.message.id,
                fate: expired(),
            })
            .collect();
        if endings.is_empty() {
            continue;
        }
        failed += endings.len();
        info!(identity = %hosted.principal(), to = %remote, messages = endings.len(), "messages expired");
        conclude(hosted, &remote, attempts, endings).await?;
    }
    if full_page && failed > 0 {
        return Ok(Duration::ZERO);
    }
    let next = hosted.store().store().next_expiry()?;
    Ok(next
        .map_or(LONGEST_SLEEP, |next| clock::now().until(next))
        .clamp(Duration::from_millis(20), LONGEST_SLEEP))
}
