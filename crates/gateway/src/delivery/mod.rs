//! Moving messages between the stores and the sessions.
//!
//! Each conversation with something to deliver has one task ([`outbound`]); each `chat/1` stream a peer opens has
//! one ([`inbound`]), and so has each session of ClawChat 1.0 ([`legacy_inbound`]); each identity has one that lets messages expire ([`expiry`]).

mod conversation;
mod expiry;
mod feed;
mod inbound;
mod legacy_inbound;
mod legacy_outbound;
mod local;
mod outbound;

pub(crate) use self::conversation::{Conversation, hurry, nudge};
pub(crate) use self::inbound::{LongMessages, receive};
pub(crate) use self::legacy_inbound::receive as receive_legacy;

use clawchat_store::{StoreError, Write};
use clawchat_types::{MessageId, OutboundStatus, Principal};

use crate::clock;
use crate::hosted::{Event, Hosted};
use crate::receipts::Fate;
use crate::shared::Gateway;

/// Starts what an identity needs: the expiry of old messages, and every conversation that has some left from the
/// last run.
pub(crate) fn start(gateway: &Gateway, hosted: &std::sync::Arc<Hosted>) -> Result<(), StoreError> {
    gateway.tasks.spawn(expiry::run(std::sync::Arc::clone(hosted)));
    for remote in hosted.store().store().pending_recipients()? {
        nudge(gateway, hosted, &remote);
    }
    Ok(())
}

/// How an outgoing message ended.
#[derive(Clone, Debug)]
struct Ending {
    position: u64,
    id: MessageId,
    fate: Fate,
}

/// Writes the endings into the outbox, and then tells whoever waits for them. Until they are written the
/// messages count as open: after a crash they are sent again, and the other side knows them by their ids.
async fn conclude(
    hosted: &Hosted,
    remote: &Principal,
    attempts: u32,
    endings: Vec<Ending>,
) -> Result<Vec<Ending>, StoreError> {
    let at = clock::now();
    let writes = endings
        .iter()
        .map(|ending| {
            let (status, last_error) = outcome(&ending.fate);
            Write::SetOutbound {
                position: ending.position,
                status,
                attempts,
                last_error,
                at,
            }
        })
        .collect();
    hosted.store().submit_all(writes).await?;
    for ending in &endings {
        let (status, last_error) = outcome(&ending.fate);
        hosted.announce(Event::State {
            id: ending.id,
            to: *remote,
            status,
            last_error,
        });
        hosted.receipts().settle(ending.id, ending.fate.clone());
    }
    Ok(endings)
}

fn outcome(fate: &Fate) -> (OutboundStatus, Option<String>) {
    match fate {
        Fate::Delivered => (OutboundStatus::Delivered, None),
        Fate::Sent { doubt } => (OutboundStatus::Sent, doubt.clone()),
        Fate::Failed { reason, .. } => (OutboundStatus::Failed, Some(reason.clone())),
    }
}
