//! Delivery to a peer of ClawChat 1.0: batches of texts, each followed by the question whether it was read.
//!
//! The protocol has no receipts. A peer answers the question in order, so its answer says that everything before was
//! read; whether it was stored, only a gateway like ours promises. So such messages end as `sent`.

use std::collections::VecDeque;

use clawchat_node::{Confirmation, LegacySession};
use clawchat_snap2p::clawchat1::{ChatMessage, encode_chat};
use clawchat_store::{OutboxEntry, StoreError};
use clawchat_types::MessageId;
use tokio::time::{Instant, sleep_until, timeout};

use super::feed::{Feed, length};
use super::outbound::{ANSWER_LIMIT, End, SILENT_AFTER, UNANSWERED, has_newer};
use super::{Conversation, Ending, conclude};
use crate::clock;
use crate::hosted::Hosted;
use crate::link::Link;
use crate::receipts::Fate;
use crate::shared::Gateway;

/// Messages in one batch.
const BATCH_MESSAGES: usize = 128;
/// Bytes in one batch, unless a single message is larger.
const BATCH_BYTES: usize = 64 * 1024;
/// Batches sent and not confirmed.
const MAX_BATCHES: usize = 4;
/// How often messages are sent over a session that stays open and never confirms them, before they count as sent: more
/// copies would not make it more likely that the peer reads one.
const MAX_UNCONFIRMED: u32 = 3;

/// `lastError` of messages that count as sent all the same.
const NEVER_CONFIRMED: &str = "sent, but the recipient's gateway never confirmed that it read it";

/// Delivers what waits, until nothing is left or it does not go on.
pub(super) async fn over_session(
    gateway: &Gateway,
    hosted: &Hosted,
    conversation: &Conversation,
    session: &LegacySession,
) -> End {
    let mut pump = Pump {
        gateway,
        hosted,
        conversation,
        session,
        feed: Feed::new(hosted, conversation),
        in_flight: VecDeque::new(),
        progressed: false,
    };
    match pump.run().await {
        Ok(()) => End::Progress,
        Err(reason) => End::away(reason, pump.progressed),
    }
}

/// Messages on their way, and how it becomes known that they were read.
struct Batch {
    confirmation: Confirmation,
    messages: Vec<(u64, MessageId)>,
    sent_at: Instant,
}

struct Pump<'a> {
    gateway: &'a Gateway,
    hosted: &'a Hosted,
    conversation: &'a Conversation,
    session: &'a LegacySession,
    feed: Feed<'a>,
    in_flight: VecDeque<Batch>,
    progressed: bool,
}

impl Pump<'_> {
    /// Runs until nothing is left. Otherwise says why it did not go on.
    async fn run(&mut self) -> Result<(), String> {
        self.conversation.is_given_up();
        loop {
            self.fill().await?;
            let superseded = has_newer(self.gateway, &Link::Legacy(self.session.clone()));
            let Some(oldest) = self.in_flight.front_mut() else {
                return Ok(());
            };
            let sent_at = oldest.sent_at;
            tokio::select! {
                result = oldest.confirmation.confirmed() => match result {
                    Ok(()) => self.confirmed().await?,
                    Err(_) => {
                        let ended = self.session.closed().await;
                        return Err(format!("the session ended before the recipient's gateway confirmed anything: {ended}"));
                    }
                },
                () = self.conversation.woken() => {
                    if self.conversation.is_given_up() {
                        return self.unanswered().await;
                    }
                    self.feed.look_again();
                }
                // The old session of a peer that came back looks alive for a while.
                () = sleep_until(sent_at + SILENT_AFTER), if superseded => {
                    self.progressed = true;
                    return Err("there is a newer session".to_owned());
                }
                () = sleep_until(sent_at + ANSWER_LIMIT) => return self.unanswered().await,
            }
        }
    }

    /// Sends batches while there is something to send and room for it.
    async fn fill(&mut self) -> Result<(), String> {
        while self.in_flight.len() < MAX_BATCHES {
            let (frames, messages) = self.next_batch().await.map_err(|error| error.to_string())?;
            if messages.is_empty() {
                return Ok(());
            }
            let positions = messages.iter().map(|(position, _)| *position);
            self.conversation.in_flight().extend(positions);
            let sending = timeout(ANSWER_LIMIT, self.session.transmit(frames));
            let confirmation = match sending.await {
                Ok(Ok(confirmation)) => confirmation,
                Ok(Err(ended)) => return Err(ended.to_string()),
                Err(_) => return Err(UNANSWERED.to_owned()),
            };
            self.in_flight.push_back(Batch {
                confirmation,
                messages,
                sent_at: Instant::now(),
            });
        }
        Ok(())
    }

    /// The frames of the messages to send next. What cannot be sent fails here.
    async fn next_batch(&mut self) -> Result<(Vec<u8>, Vec<(u64, MessageId)>), StoreError> {
        let now = clock::now();
        let (mut frames, mut messages, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        while messages.len() < BATCH_MESSAGES
            && let Some(entry) = self.feed.peek()?
        {
            if !frames.is_empty() && frames.len() + length(entry) > BATCH_BYTES {
                break;
            }
            let Some(entry) = self.feed.take() else { break };
            // Expired ones are left to the expiry task.
            if entry.message.expires_at <= now {
                continue;
            }
            match encode(&entry) {
                Ok(frame) => {
                    frames.extend(frame);
                    messages.push((entry.position, entry.message.id));
                }
                Err(reason) => failed.push(Ending {
                    position: entry.position,
                    id: entry.message.id,
                    fate: Fate::Failed {
                        reason,
                        refused: false,
                    },
                }),
            }
        }
        if !failed.is_empty() {
            self.conclude(failed).await?;
        }
        Ok((frames, messages))
    }

    /// The peer has read the oldest batch.
    async fn confirmed(&mut self) -> Result<(), String> {
        self.conversation.set_unconfirmed(0);
        self.oldest_is(&Fate::Sent { doubt: None }).await
    }

    /// The peer takes messages and does not confirm them.
    async fn unanswered(&mut self) -> Result<(), String> {
        // Or the next try would find the same session again.
        self.session.close();
        let times = self.conversation.unconfirmed() + 1;
        self.conversation.set_unconfirmed(times);
        if times >= MAX_UNCONFIRMED {
            self.conversation.set_unconfirmed(0);
            let doubt = Some(NEVER_CONFIRMED.to_owned());
            self.oldest_is(&Fate::Sent { doubt }).await?;
        }
        Err(UNANSWERED.to_owned())
    }

    async fn oldest_is(&mut self, fate: &Fate) -> Result<(), String> {
        let Some(batch) = self.in_flight.pop_front() else {
            return Ok(());
        };
        let endings = batch
            .messages
            .into_iter()
            .map(|(position, id)| Ending {
                position,
                id,
                fate: fate.clone(),
            })
            .collect();
        self.conclude(endings).await.map_err(|error| error.to_string())
    }

    async fn conclude(&mut self, endings: Vec<Ending>) -> Result<(), StoreError> {
        let attempts = self.conversation.attempts().saturating_add(1);
        let endings = conclude(self.hosted, self.conversation.remote(), attempts, endings).await?;
        self.progressed = true;
        let mut in_flight = self.conversation.in_flight();
        for ending in endings {
            in_flight.remove(&ending.position);
        }
        Ok(())
    }
}

/// The frame of a message, or why it cannot be sent this way.
fn encode(entry: &OutboxEntry) -> Result<Vec<u8>, String> {
    let message = &entry.message;
    if message.payload.is_some() {
        return Err(
            "the recipient's gateway speaks ClawChat 1.0, which carries no payload; send the text alone"
                .to_owned(),
        );
    }
    let chat = ChatMessage {
        id: message.id.to_string(),
        from: message.from.to_string(),
        nick: message.from_nick.as_ref().map(ToString::to_string),
        content: message.content.as_str().to_owned(),
        timestamp: message.timestamp,
    };
    encode_chat(&chat).map_err(|error| format!("this message cannot be sent: {error}"))
}
