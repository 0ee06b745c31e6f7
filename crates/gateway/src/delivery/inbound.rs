//! Messages from a peer: checked, stored, and only then acknowledged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clawchat_node::{ErrorCode, SessionHandle, Stream};
use clawchat_router::{Refusal, Verdict};
use clawchat_snap2p::chat::{ChatReceiver, Decision, NackCode, SignedEnvelope, open_envelope};
use clawchat_store::{Proof, StoreError, Write};
use clawchat_types::Message;
use futures::FutureExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use crate::clock;
use crate::hosted::Hosted;
use crate::shared::Gateway;

/// Invalid messages a peer may send on one stream, each refused, before the session is closed.
const MAX_INVALID: usize = 16;

/// Unfinished messages above this size need one of the gateway's places for long messages. 64 KiB.
const LONG_MESSAGE: usize = 64 * 1024;
/// Long messages that arrive at a time, from all peers together; the next ones wait. Bounds the memory strangers can
/// make us hold to about 350 MiB.
const LONG_MESSAGES: usize = 32;
/// How long one may take to arrive once it has a place, so that slow ones do not keep the places.
const LONG_MESSAGE_LIMIT: Duration = Duration::from_secs(120);
/// How long a peer may leave no room for an answer. It has half a megabyte of answers it did not read by then.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The places for long messages. One per gateway.
pub(crate) struct LongMessages(Semaphore);

impl LongMessages {
    /// How many arrive at the moment.
    pub(crate) fn arriving(&self) -> usize {
        LONG_MESSAGES.saturating_sub(self.0.available_permits())
    }
}

impl Default for LongMessages {
    fn default() -> Self {
        Self(Semaphore::new(LONG_MESSAGES))
    }
}

/// Serves one `chat/1` stream until it ends.
///
/// One commit is under way at a time; what arrives meanwhile goes into the next one. So messages of a stream are
/// stored in order even when a commit fails, and share their disk syncs.
pub(crate) async fn receive(gateway: Gateway, hosted: Arc<Hosted>, session: SessionHandle, stream: Stream) {
    let stop = hosted.stop().clone();
    stop.run_until_cancelled(serve(&gateway, &hosted, &session, stream))
        .await;
}

async fn serve(gateway: &Gateway, hosted: &Arc<Hosted>, session: &SessionHandle, stream: Stream) {
    let (mut reader, mut writer) = stream.split();
    let mut receiver = ChatReceiver::new();
    let mut invalid = 0;
    let mut place: Option<(SemaphorePermit<'_>, Instant)> = None;
    loop {
        invalid += store_arrived(gateway, hosted, session, &mut receiver).await;
        if invalid > MAX_INVALID {
            warn!(peer = %session.remote(), "a peer sends one invalid message after the other");
            gateway.tally.chat_broken.count();
            session.close(ErrorCode::ProtocolViolation);
            return;
        }
        let mut answers = Vec::new();
        if receiver.poll_write(&mut answers) {
            // What the place was for is stored or refused: whoever reads no answers must not keep it.
            place = None;
            match timeout(ANSWER_LIMIT, writer.write_all(Bytes::from(answers))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    warn!(peer = %session.remote(), "a peer does not read what becomes of its messages");
                    gateway.tally.chat_broken.count();
                    writer.reset(ErrorCode::Timeout);
                    return;
                }
            }
        }
        if receiver.is_ended() {
            writer.finish();
            return;
        }
        if receiver.unfinished() <= LONG_MESSAGE {
            place = None;
        } else if place.is_none() {
            // Closed only when the gateway is gone.
            let Ok(permit) = gateway.long_messages.0.acquire().await else {
                return;
            };
            place = Some((permit, Instant::now() + LONG_MESSAGE_LIMIT));
        }
        let reading = reader.read();
        let mut next = match &place {
            None => reading.await,
            Some((_, deadline)) => match timeout_at(*deadline, reading).await {
                Ok(next) => next,
                Err(_) => {
                    warn!(peer = %session.remote(), "a message takes too long to arrive");
                    gateway.tally.chat_broken.count();
                    writer.reset(ErrorCode::Timeout);
                    return;
                }
            },
        };
        // Everything that is there already shares the next commit.
        let broken = loop {
            match next {
                Some(Ok(bytes)) => {
                    if let Err(error) = receiver.handle_bytes(&bytes) {
                        break Some(error);
                    }
                }
                Some(Err(error)) => {
                    debug!(peer = %session.remote(), %error, "a chat stream broke");
                    store_arrived(gateway, hosted, session, &mut receiver).await;
                    return;
                }
                None => {
                    store_arrived(gateway, hosted, session, &mut receiver).await;
                    writer.finish();
                    return;
                }
            }
            // A place is for one message: the next long one waits for its own.
            let has_place = place.is_some() && receiver.undecided() == 0;
            let may_grow = has_place || receiver.unfinished() <= LONG_MESSAGE;
            match may_grow.then(|| reader.read().now_or_never()).flatten() {
                Some(more) => next = more,
                None => break None,
            }
        };
        if let Some(error) = broken {
            warn!(peer = %session.remote(), %error, "a peer broke the chat protocol");
            gateway.tally.chat_broken.count();
            store_arrived(gateway, hosted, session, &mut receiver).await;
            writer.reset(ErrorCode::ProtocolViolation);
            return;
        }
    }
}

/// Decides every message that has arrived completely. Returns how many of them were invalid.
async fn store_arrived(
    gateway: &Gateway,
    hosted: &Arc<Hosted>,
    session: &SessionHandle,
    receiver: &mut ChatReceiver,
) -> usize {
    let mut invalid = 0;
    let mut numbers = Vec::new();
    let mut writes = Vec::new();
    while let Some((number, envelope)) = receiver.poll_message() {
        match check(gateway, hosted, session, envelope) {
            Ok(Checked::Store(write)) => {
                numbers.push(number);
                writes.push(write);
            }
            Ok(Checked::Known) => {
                gateway.tally.letters.known.count();
                receiver.decide(number, Decision::Stored);
            }
            Err(code) => {
                invalid += usize::from(code == NackCode::Invalid);
                gateway.tally.letters.refused(code);
                debug!(peer = %session.remote(), ?code, "a message was refused");
                // Who is served changes: the sender may find the recipient here, or elsewhere, another time.
                let retryable = code == NackCode::UnknownRecipient;
                receiver.decide(number, Decision::Refused { code, retryable });
            }
        }
    }
    if writes.is_empty() {
        return invalid;
    }
    match hosted.append(&gateway.tasks, writes).await {
        Ok(()) => {
            gateway.tally.letters.stored.add(numbers.len());
            for number in numbers {
                receiver.decide(number, Decision::Stored);
            }
        }
        Err(error) => {
            warn!(identity = %hosted.principal(), %error, "cannot store arriving messages");
            gateway.tally.letters.not_stored.count();
            let code = match error {
                StoreError::StorageFull { .. } => NackCode::StorageFull,
                _ => NackCode::Busy,
            };
            if let Some(first) = numbers.first() {
                receiver.decide(
                    *first,
                    Decision::Refused {
                        code,
                        retryable: true,
                    },
                );
            }
        }
    }
    invalid
}

/// Everything a message must be before it may be stored: signed by the session's peer, from it, for us, in time,
/// and admitted by the access list as it is now.
fn check(
    gateway: &Gateway,
    hosted: &Hosted,
    session: &SessionHandle,
    envelope: SignedEnvelope,
) -> Result<Checked, NackCode> {
    let message = open_envelope(&envelope, session.remote_node()).map_err(|error| {
        debug!(peer = %session.remote(), %error, "a peer sent an invalid message");
        NackCode::Invalid
    })?;
    if message.from != *session.remote() {
        debug!(peer = %session.remote(), claimed = %message.from, "a peer sent a message in another's name");
        return Err(NackCode::Invalid);
    }
    if message.to != *session.local() {
        debug!(peer = %session.remote(), to = %message.to, "a peer sent a message for another into a session");
        return Err(NackCode::Invalid);
    }
    let now = clock::now();
    let refusal = if message.expires_at <= now {
        Some(NackCode::Expired)
    } else {
        match gateway.hosts.inbound_verdict(&message.from, &message.to) {
            Verdict::Deliver { .. } => None,
            Verdict::Refuse(Refusal::UnknownRecipient | Refusal::NotLoaded) => {
                Some(NackCode::UnknownRecipient)
            }
            Verdict::Refuse(Refusal::NotAllowed | Refusal::WrongNetwork) => Some(NackCode::NotAllowed),
        }
    };
    if let Some(code) = refusal {
        // The acknowledgement of a stored message may have been lost: it stays stored, whatever changed since.
        return if is_known(hosted, &message) {
            Ok(Checked::Known)
        } else {
            Err(code)
        };
    }
    let proof = Proof {
        envelope: envelope.bytes,
        signature: envelope.signature,
        node_id: *session.remote_node(),
    };
    Ok(Checked::Store(Write::AppendInbound {
        message,
        proof: Some(proof),
        received_at: now,
    }))
}

/// A message that is to be acknowledged. Short-lived, one at a time: its size does not matter.
#[expect(clippy::large_enum_variant, reason = "lives for one call")]
enum Checked {
    /// Once this is written.
    Store(Write),
    /// At once: it was stored before.
    Known,
}

fn is_known(hosted: &Hosted, message: &Message) -> bool {
    let known = hosted
        .store()
        .store()
        .inbox_by_id(&message.id)
        .unwrap_or_default();
    known.iter().any(|entry| entry.message.from == message.from)
}
