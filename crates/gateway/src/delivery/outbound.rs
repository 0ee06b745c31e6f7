//! Delivery to a principal on another gateway: feeding the `chat/1` window of a session, in order.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use clawchat_node::{SessionHandle, StreamReader, StreamWriter};
use clawchat_snap2p::chat::{CHAT_LABEL, ChatEvent, ChatSender, NackCode, QueueError, seal_envelope};
use clawchat_store::{OutboxEntry, StoreError};
use clawchat_types::{MessageId, OutboundStatus};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::feed::{Feed, length};
use super::{Conversation, Ending, conclude, legacy_outbound, local};
use crate::clock;
use crate::hosted::{Event, Hosted};
use crate::link::Link;
use crate::receipts::Fate;
use crate::sessions::Finality;
use crate::shared::Gateway;

/// Messages of a refused conversation that fail in one commit.
const PAGE: usize = 64;
/// Buffers of up to 64 KiB between the window and the stream.
const OUTPUT_BUFFERS: usize = 2;
/// How long a recipient may neither answer nor take anything while it owes an answer. Enough for what is buffered on
/// the way over a slow line.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How long without an answer makes a session worse than a newer one.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(2);
/// How long without an answer makes us ask whether the recipient's gateway is still there at all.
const DOUBT_AFTER: Duration = Duration::from_secs(3);
/// Messages sent whose fate is not written into the outbox yet. Beyond it no more are sent: the disk is behind.
const MAX_UNSETTLED: usize = 1024;

/// `lastError` after a recipient's silence.
pub(super) const UNANSWERED: &str = "the recipient's gateway takes messages but does not answer";

/// How a run of deliveries ended.
pub(super) enum End {
    /// Everything that waited has been decided.
    Progress,
    /// Something still waits: try again later.
    Away {
        /// Why it did not go on, for `lastError`.
        reason: String,
        /// Whether anything was decided before that.
        progressed: bool,
    },
}

impl End {
    pub(super) fn away(reason: impl ToString, progressed: bool) -> Self {
        Self::Away {
            reason: reason.to_string(),
            progressed,
        }
    }
}

/// Delivers what waits for the conversation's other end, over the way that exists or a new one. Returns when
/// nothing is left *and* the way is gone, or when it does not go on.
pub(super) async fn deliver(
    gateway: &Gateway,
    hosted: &std::sync::Arc<Hosted>,
    conversation: &Conversation,
) -> End {
    let remote = conversation.remote();
    if let Some(recipient) = gateway.hosts.find(remote) {
        return local::deliver(gateway, hosted, &recipient, conversation).await;
    }
    if gateway.hosts.is_configured(remote) {
        return End::away("the recipient is hosted by this gateway but not loaded", false);
    }
    match gateway.reach_for_delivery(hosted, remote).await {
        Ok(Link::Native(session)) => over_session(gateway, hosted, conversation, &session).await,
        Ok(Link::Legacy(session)) => {
            legacy_outbound::over_session(gateway, hosted, conversation, &session).await
        }
        Err(error) => match error.finality() {
            Finality::Retry => End::away(error, false),
            Finality::Final { refused } => {
                match fail_all(hosted, conversation, &error.to_string(), refused).await {
                    Ok(()) => End::Progress,
                    Err(error) => End::away(error, false),
                }
            }
        },
    }
}

/// Fails everything that waits, for the same reason.
async fn fail_all(
    hosted: &Hosted,
    conversation: &Conversation,
    reason: &str,
    refused: bool,
) -> Result<(), StoreError> {
    let attempts = conversation.attempts().saturating_add(1);
    loop {
        let page = hosted.store().store().pending(conversation.remote(), 0, PAGE)?;
        if page.is_empty() {
            return Ok(());
        }
        let fate = Fate::Failed {
            reason: reason.to_owned(),
            refused,
        };
        let endings = page
            .into_iter()
            .map(|entry| Ending {
                position: entry.position,
                id: entry.message.id,
                fate: fate.clone(),
            })
            .collect();
        conclude(hosted, conversation.remote(), attempts, endings).await?;
    }
}

async fn over_session(
    gateway: &Gateway,
    hosted: &Hosted,
    conversation: &Conversation,
    session: &SessionHandle,
) -> End {
    let stream = match session.open_stream(CHAT_LABEL).await {
        Ok(stream) => stream,
        Err(error) => return End::away(error, false),
    };
    let (reader, writer) = stream.split();
    let (output, queue) = mpsc::channel(OUTPUT_BUFFERS);
    let mut pump = Pump::new(gateway, hosted, conversation, session);
    let mut pumping = pin!(pump.run(reader, output));
    let mut writing = pin!(write_all(writer, queue));
    // The pump decides when it is over: a peer that stops reading must not hold it up. If the writer ends first, the
    // reader tells why.
    let mut written = false;
    loop {
        tokio::select! {
            end = &mut pumping => return end,
            () = &mut writing, if !written => written = true,
        }
    }
}

/// Whether there is a newer session than this one between the same two.
pub(super) fn has_newer(gateway: &Gateway, link: &Link) -> bool {
    let newest = gateway.sessions.find(link.local(), link.remote());
    newest.is_some_and(|newest| !newest.is_same(link))
}

async fn write_all(mut writer: StreamWriter, mut queue: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = queue.recv().await {
        if writer.write_all(bytes).await.is_err() {
            return;
        }
    }
    writer.finish();
}

/// One `chat/1` stream at work.
struct Pump<'a> {
    gateway: &'a Gateway,
    session: &'a SessionHandle,
    hosted: &'a Hosted,
    conversation: &'a Conversation,
    sender: ChatSender,
    feed: Feed<'a>,
    ids: BTreeMap<u64, MessageId>,
    writing: FuturesUnordered<BoxFuture<'a, Result<Vec<Ending>, StoreError>>>,
    progressed: bool,
}

impl<'a> Pump<'a> {
    fn new(
        gateway: &'a Gateway,
        hosted: &'a Hosted,
        conversation: &'a Conversation,
        session: &'a SessionHandle,
    ) -> Self {
        Self {
            gateway,
            session,
            hosted,
            conversation,
            sender: ChatSender::new(),
            feed: Feed::new(hosted, conversation),
            ids: BTreeMap::new(),
            writing: FuturesUnordered::new(),
            progressed: false,
        }
    }

    async fn run(&mut self, reader: StreamReader, output: mpsc::Sender<Bytes>) -> End {
        let reason = self.exchange(reader, output).await;
        // What has been acknowledged must be written before anybody reads the outbox for the next try.
        while let Some(result) = self.writing.next().await {
            if let Err(error) = self.settled(result) {
                return End::away(error, self.progressed);
            }
        }
        let left = self
            .hosted
            .store()
            .store()
            .has_pending(self.conversation.remote());
        match left {
            Ok(false) => End::Progress,
            Ok(true) | Err(_) => End::away(reason, self.progressed),
        }
    }

    /// Runs until the stream ends, and says why it did.
    async fn exchange(&mut self, mut reader: StreamReader, output: mpsc::Sender<Bytes>) -> String {
        let mut buffer = Vec::new();
        let mut last_progress = Instant::now();
        // A newer session may have turned up before this one was silent for long enough.
        let mut look_again = false;
        let mut doubted = None;
        self.conversation.is_given_up();
        loop {
            if self.sender.in_flight() == 0 {
                last_progress = Instant::now();
                if std::mem::take(&mut look_again) && self.has_better_way(last_progress) {
                    return self.go_over();
                }
            }
            if let Err(error) = self.fill() {
                return error.to_string();
            }
            if buffer.is_empty() {
                self.sender.poll_write(&mut buffer);
            }
            tokio::select! {
                read = reader.read() => match read {
                    Some(Ok(bytes)) => {
                        last_progress = Instant::now();
                        if let Err(error) = self.sender.handle_bytes(&bytes) {
                            return format!("the recipient's gateway broke the protocol: {error}");
                        }
                        if let Some(refusal) = self.take_events() {
                            return refusal;
                        }
                    }
                    Some(Err(error)) => return error.to_string(),
                    None => return "the recipient's gateway ended the stream".to_owned(),
                },
                Ok(slot) = output.reserve(), if !buffer.is_empty() => {
                    slot.send(Bytes::from(std::mem::take(&mut buffer)));
                    last_progress = Instant::now();
                }
                Some(result) = self.writing.next(), if !self.writing.is_empty() => {
                    if let Err(error) = self.settled(result) {
                        return error.to_string();
                    }
                }
                () = self.conversation.woken() => {
                    if self.conversation.is_given_up() {
                        return UNANSWERED.to_owned();
                    }
                    if self.conversation.was_hurried() {
                        if self.has_better_way(last_progress) {
                            return self.go_over();
                        }
                        look_again = true;
                    }
                    self.feed.look_again();
                }
                () = tokio::time::sleep_until(last_progress + SILENT_AFTER), if look_again => {
                    look_again = false;
                    if self.has_better_way(last_progress) {
                        return self.go_over();
                    }
                }
                () = tokio::time::sleep_until(last_progress + DOUBT_AFTER),
                    if self.sender.in_flight() > 0 && doubted != Some(last_progress) =>
                {
                    doubted = Some(last_progress);
                    self.session.doubt();
                }
                () = tokio::time::sleep_until(last_progress + ANSWER_LIMIT), if self.sender.in_flight() > 0 => {
                    return UNANSWERED.to_owned();
                }
            }
        }
    }

    /// Not a failure: what is in flight goes over the newer session, at once.
    fn go_over(&mut self) -> String {
        self.progressed = true;
        "there is a newer session".to_owned()
    }

    /// Whether there is a newer session, and this one owes an answer for a while or has nothing to do: after a peer's
    /// machine restarted, the old session looks alive until its pings are missed.
    fn has_better_way(&self, last_progress: Instant) -> bool {
        let idle = self.sender.in_flight() == 0;
        (idle || last_progress.elapsed() >= SILENT_AFTER)
            && has_newer(self.gateway, &Link::Native(self.session.clone()))
    }

    /// Moves waiting messages into the window while there is room.
    fn fill(&mut self) -> Result<(), StoreError> {
        let now = clock::now();
        while self.ids.len() < MAX_UNSETTLED
            && let Some(entry) = self.feed.peek()?
        {
            // Left to the expiry task.
            let expired = entry.message.expires_at <= now;
            if !expired && !self.sender.can_queue(length(entry)) {
                return Ok(());
            }
            let Some(entry) = self.feed.take() else {
                return Ok(());
            };
            if !expired && !self.queue(&entry) {
                self.feed.put_back(entry);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Puts one message into the window. Returns whether there was room for it.
    fn queue(&mut self, entry: &OutboxEntry) -> bool {
        let envelope = match seal_envelope(&entry.message, self.hosted.node_key()) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.fail(entry, &error);
                return true;
            }
        };
        match self.sender.queue(entry.position, envelope) {
            Ok(()) => {}
            Err(error @ QueueError::TooLarge { .. }) => {
                self.fail(entry, &error);
                return true;
            }
            Err(_) => return false,
        }
        self.conversation.in_flight().insert(entry.position);
        self.ids.insert(entry.position, entry.message.id);
        self.hosted.announce(Event::State {
            id: entry.message.id,
            to: *self.conversation.remote(),
            status: OutboundStatus::Sent,
            last_error: None,
        });
        true
    }

    /// Takes what the other side decided. Returns the reason if it wants us to come back later.
    fn take_events(&mut self) -> Option<String> {
        let mut endings = Vec::new();
        let mut later = None;
        while let Some(event) = self.sender.poll_event() {
            let (tag, fate) = match event {
                ChatEvent::Acked { tag } => (tag, Fate::Delivered),
                ChatEvent::Nacked {
                    code,
                    retryable: true,
                    text,
                    ..
                } => {
                    later = Some(refusal(code, text.as_deref()));
                    continue;
                }
                ChatEvent::Nacked {
                    tag,
                    code,
                    retryable: false,
                    text,
                } => {
                    let refused = code == NackCode::NotAllowed;
                    (
                        tag,
                        Fate::Failed {
                            reason: refusal(code, text.as_deref()),
                            refused,
                        },
                    )
                }
                _ => continue,
            };
            if let Some(id) = self.ids.get(&tag) {
                endings.push(Ending {
                    position: tag,
                    id: *id,
                    fate,
                });
            }
        }
        if !endings.is_empty() {
            self.conclude(endings);
        }
        later
    }

    fn fail(&mut self, entry: &OutboxEntry, error: &dyn std::fmt::Display) {
        let reason = format!("this message cannot be sent: {error}");
        let fate = Fate::Failed {
            reason,
            refused: false,
        };
        self.conclude(vec![Ending {
            position: entry.position,
            id: entry.message.id,
            fate,
        }]);
    }

    fn conclude(&mut self, endings: Vec<Ending>) {
        let attempts = self.conversation.attempts().saturating_add(1);
        let (hosted, remote) = (self.hosted, self.conversation.remote());
        self.writing
            .push(Box::pin(conclude(hosted, remote, attempts, endings)));
    }

    fn settled(&mut self, result: Result<Vec<Ending>, StoreError>) -> Result<(), StoreError> {
        let endings = result?;
        self.progressed = true;
        let mut in_flight = self.conversation.in_flight();
        for ending in endings {
            in_flight.remove(&ending.position);
            self.ids.remove(&ending.position);
        }
        Ok(())
    }
}

fn refusal(code: NackCode, text: Option<&str>) -> String {
    let reason = match code {
        NackCode::NotAllowed => "refused by the recipient's access list (not_allowed)".to_owned(),
        NackCode::UnknownRecipient => "the recipient is not served at its gateway".to_owned(),
        NackCode::Invalid => "the recipient's gateway finds the message invalid".to_owned(),
        NackCode::Expired => "expired on the way".to_owned(),
        NackCode::TooLarge => "too large for the recipient".to_owned(),
        NackCode::StorageFull => "the recipient's disk is full".to_owned(),
        NackCode::Busy => "the recipient's gateway is busy".to_owned(),
        other => format!("refused by the recipient's gateway (code {})", other.to_wire()),
    };
    match text {
        // A stranger's words: no control characters into logs and terminals.
        Some(text) => format!(
            "{reason}: {}",
            text.chars().filter(|c| !c.is_control()).collect::<String>()
        ),
        None => reason,
    }
}
