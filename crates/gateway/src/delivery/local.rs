//! Delivery between two identities of this gateway: from one store into the other.

use std::sync::Arc;

use clawchat_router::{Refusal, Verdict};
use clawchat_snap2p::chat::seal_envelope;
use clawchat_store::{GROUP_BYTES, OutboxEntry, Proof, Write};

use super::outbound::End;
use super::{Conversation, Ending, conclude};
use crate::clock;
use crate::hosted::Hosted;
use crate::receipts::Fate;
use crate::shared::Gateway;

/// Most messages moved in one commit.
const PAGE: usize = 64;
/// Most bytes moved in one commit, unless a single message is larger: what one group of the store's writer takes.
const COMMIT_BYTES: usize = GROUP_BYTES;

/// Delivers everything that waits for a co-hosted identity, in order.
pub(super) async fn deliver(
    gateway: &Gateway,
    hosted: &Hosted,
    recipient: &Arc<Hosted>,
    conversation: &Conversation,
) -> End {
    let mut progressed = false;
    loop {
        let page = match hosted.store().store().pending(conversation.remote(), 0, PAGE) {
            Ok(page) if page.is_empty() => return End::Progress,
            Ok(page) => page,
            Err(error) => return End::away(error, progressed),
        };
        let verdict = gateway
            .hosts
            .local_verdict(hosted.principal(), conversation.remote());
        let result = match verdict {
            Verdict::Deliver { .. } => hand_over(gateway, hosted, recipient, conversation, page).await,
            // Just taken out of service.
            Verdict::Refuse(refusal @ (Refusal::NotLoaded | Refusal::UnknownRecipient)) => {
                return End::away(refusal, progressed);
            }
            Verdict::Refuse(refusal @ (Refusal::NotAllowed | Refusal::WrongNetwork)) => {
                refuse(hosted, conversation, page, &refusal.to_string()).await
            }
        };
        conversation.in_flight().clear();
        match result {
            Ok(()) => progressed = true,
            Err(error) => return End::away(error, progressed),
        }
    }
}

async fn hand_over(
    gateway: &Gateway,
    hosted: &Hosted,
    recipient: &Arc<Hosted>,
    conversation: &Conversation,
    page: Vec<OutboxEntry>,
) -> Result<(), clawchat_store::StoreError> {
    let now = clock::now();
    let (expired, page): (Vec<_>, Vec<_>) = page
        .into_iter()
        .partition(|entry| entry.message.expires_at <= now);
    let mut endings: Vec<Ending> = expired
        .into_iter()
        .map(|entry| ending(&entry, super::expiry::expired()))
        .collect();
    // Until they are decided they do not expire.
    conversation
        .in_flight()
        .extend(page.iter().map(|entry| entry.position));
    let mut writes = Vec::with_capacity(page.len());
    let mut bytes = 0;
    for entry in page {
        if bytes >= COMMIT_BYTES {
            // The rest is read again for the next commit.
            break;
        }
        match seal_envelope(&entry.message, hosted.node_key()) {
            Ok(envelope) => {
                endings.push(ending(&entry, Fate::Delivered));
                let write = Write::AppendInbound {
                    message: entry.message,
                    proof: Some(Proof {
                        envelope: envelope.bytes,
                        signature: envelope.signature,
                        node_id: hosted.node_id(),
                    }),
                    received_at: now,
                };
                bytes += write.size();
                writes.push(write);
            }
            Err(error) => {
                let reason = format!("this message cannot be sent: {error}");
                endings.push(ending(
                    &entry,
                    Fate::Failed {
                        reason,
                        refused: false,
                    },
                ));
            }
        }
    }
    recipient.append(&gateway.tasks, writes).await?;
    let attempts = conversation.attempts().saturating_add(1);
    conclude(hosted, conversation.remote(), attempts, endings).await?;
    Ok(())
}

fn ending(entry: &OutboxEntry, fate: Fate) -> Ending {
    Ending {
        position: entry.position,
        id: entry.message.id,
        fate,
    }
}

async fn refuse(
    hosted: &Hosted,
    conversation: &Conversation,
    page: Vec<OutboxEntry>,
    reason: &str,
) -> Result<(), clawchat_store::StoreError> {
    let fate = Fate::Failed {
        reason: reason.to_owned(),
        refused: true,
    };
    let endings = page
        .into_iter()
        .map(|entry| ending(&entry, fate.clone()))
        .collect();
    conclude(
        hosted,
        conversation.remote(),
        conversation.attempts().saturating_add(1),
        endings,
    )
    .await?;
    Ok(())
}
