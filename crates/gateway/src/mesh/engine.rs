//! The task that runs the machine: frames and requests in, texts and log entries out.

mod commits;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use clawchat_ipc::{ErrorCode, Failure};
use clawchat_mesh::{
    After, ChannelId, Checked, LinkId, Mesh, MeshEvent, Origin, Output, PageEntry, PeerName, PublishError,
    PublishTicket, Ticket, Trust,
};
use clawchat_store::{LogWrite, NewEntry, StoreError};
use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::commits::{Commits, Purpose};
use super::hub::{Hub, Input, Port, Status};

/// Inputs taken before the machine is asked what to do: what they cause shares a commit.
const TOGETHER: usize = 256;
/// Bytes of texts that wait to be on disk; nothing more is taken while there are more. 32 MiB.
const UNSTORED_BYTES: usize = 32 * 1024 * 1024;
/// Writes that wait to be on disk, likewise.
const UNSTORED_WRITES: usize = 32 * 1024;
/// Channels of two that are followed because the other one was seen, without a message in them.
const MAX_EXPECTED_DIRECT: usize = 64;
/// How often entries beyond their age are looked for while nothing is written.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// How long the last writes may take when the gateway stops.
const LAST_WRITES_LIMIT: Duration = Duration::from_millis(400);
/// What is noted, under no peer's name, of a channel that was left: so the configuration does not join it again.
pub(super) const LEFT: &str = "left";
/// The opposite.
pub(super) const JOINED: &str = "joined";
/// In place of a channel: when it was last tried whether something can be written. No channel is called that.
const CHECKED: &str = "";
/// Under which such notes stand: no peer can be called that.
pub(super) const OWN_NOTES: &str = "";

/// What the log says to a question of the machine.
type Answered<T> = (Ticket, Result<Option<T>, StoreError>);

/// Runs one [`Mesh`] with its links and its log.
pub(super) struct Engine {
    hub: Arc<Hub>,
    mesh: Mesh,
    inputs: mpsc::Receiver<Input>,
    links: HashMap<LinkId, Port>,
    commits: Commits,
    reads: JoinSet<Answered<Vec<PageEntry>>>,
    /// What those tasks read for: they cannot say it themselves when they panic.
    reading: HashMap<Id, Ticket>,
    publishing: HashMap<PublishTicket, oneshot::Sender<Result<u64, Failure>>>,
    /// Followed and noted as such in the log.
    followed: HashSet<ChannelId>,
    /// Followed because somebody who was seen could write there.
    expected: HashSet<ChannelId>,
    /// Followed, but the log could not note it.
    not_noted: HashSet<ChannelId>,
    /// Left, but the log does not know that yet, with the number of the newest attempt to tell it.
    leaving: HashMap<ChannelId, u64>,
    /// Attempts so far.
    attempts: u64,
    /// Channels with something new since they were last announced, with its number.
    changed: BTreeMap<ChannelId, u64>,
    /// Answers of the log that were to be had at once.
    cursors: Vec<Answered<Box<str>>>,
}

impl Engine {
    /// A machine whose channels were restored; `followed` are those the log has noted as followed.
    pub(super) fn new(
        hub: Arc<Hub>,
        mesh: Mesh,
        inputs: mpsc::Receiver<Input>,
        followed: HashSet<ChannelId>,
    ) -> Self {
        Self {
            commits: Commits::new(hub.log.clone()),
            hub,
            mesh,
            inputs,
            links: HashMap::new(),
            reads: JoinSet::new(),
            reading: HashMap::new(),
            publishing: HashMap::new(),
            followed,
            expected: HashSet::new(),
            not_noted: HashSet::new(),
            leaving: HashMap::new(),
            attempts: 0,
            changed: BTreeMap::new(),
            cursors: Vec::new(),
        }
    }

    /// Runs until it is told to stop. What was taken by then is on disk afterwards.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut expire = tokio::time::interval(EXPIRE_INTERVAL);
        expire.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.act();
            let due = self.mesh.poll_timeout().map(|mono| self.hub.at(mono));
            let room = self.commits.bytes() < UNSTORED_BYTES && self.commits.len() < UNSTORED_WRITES;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                outcome = self.commits.next() => self.committed(outcome),
                Some(read) = self.reads.join_next_with_id() => self.read(read),
                input = self.inputs.recv(), if room => {
                    let Some(input) = input else { break };
                    self.take(input);
                    for _ in 1..TOGETHER {
                        match self.inputs.try_recv() {
                            Ok(input) => self.take(input),
                            Err(_) => break,
                        }
                    }
                }
                _ = expire.tick() => {
                    let now = self.hub.now().wall;
                    self.commits.push(LogWrite::Expire { now }, Purpose::Nothing);
                }
                () = sleep_until(due) => {
                    let now = self.hub.now();
                    self.mesh.handle_timeout(now);
                }
            }
        }
        // Links end; those who wait for an answer hear that the gateway stops.
        self.links.clear();
        self.inputs.close();
        self.note_again();
        let deadline = Instant::now() + LAST_WRITES_LIMIT;
        while !self.commits.is_empty() {
            match tokio::time::timeout_at(deadline, self.commits.next()).await {
                Ok(outcome) => self.committed(outcome),
                Err(_) => {
                    warn!("messages of the mesh were not written in time; neighbours send them again");
                    break;
                }
            }
            self.act();
        }
    }

    fn take(&mut self, input: Input) {
        let now = self.hub.now();
        match input {
            Input::Opened {
                link,
                side,
                origin,
                port,
            } => {
                debug!(label = %port.label, "a link of the mesh stands");
                self.links.insert(link, port);
                self.mesh.link_opened(link, side, origin, now);
            }
            Input::Frame { link, frame, .. } => self.mesh.received(link, frame, now),
            Input::Written { link, bytes } => self.mesh.written(link, bytes, now),
            Input::Closed { link } => {
                self.links.remove(&link);
                self.mesh.link_closed(link, now);
            }
            Input::Join { channel, answer } => self.join(channel, answer),
            Input::Leave { channel, answer } => self.leave(&channel, answer),
            Input::Publish { message, answer } => match self.mesh.publish(message, now) {
                Ok(ticket) => {
                    self.publishing.insert(ticket, answer);
                }
                Err(error) => drop(answer.send(Err(not_published(error)))),
            },
            Input::Check { answer } => {
                let write = LogWrite::SetCursor {
                    peer: OWN_NOTES.into(),
                    channel: CHECKED.into(),
                    id: now.wall.0.to_string().into(),
                };
                self.commits.push(write, Purpose::Told(answer));
            }
            Input::Subscribers { channel, answer } => {
                let names = self.mesh.subscribers(&channel).into_iter().cloned().collect();
                drop(answer.send(names));
            }
            Input::Status { answer } => drop(answer.send(self.status())),
        }
    }

    fn join(&mut self, channel: ChannelId, answer: oneshot::Sender<Result<(), Failure>>) {
        let now = self.hub.now();
        if !self.followed.contains(&channel)
            && !self.expected.contains(&channel)
            && !self.mesh.follow(channel.clone(), now)
        {
            let limit = self.mesh.config().limits.channels;
            let failure = Failure::new(
                ErrorCode::Failed,
                format!("{limit} channels are followed here already"),
            )
            .with_hint("leave one first: clawchat channel leave NAME");
            drop(answer.send(Err(failure)));
            return;
        }
        self.expected.remove(&channel);
        self.followed.insert(channel.clone());
        self.leaving.remove(&channel);
        self.note(&channel, JOINED);
        self.commits.push(follow(&channel, true), Purpose::Told(answer));
    }

    fn leave(&mut self, channel: &ChannelId, answer: oneshot::Sender<Result<bool, Failure>>) {
        if !self.leaving.contains_key(channel) {
            if !self.followed.contains(channel) {
                drop(answer.send(Ok(false)));
                return;
            }
            let limit = self.mesh.config().limits.channels;
            if self.leaving.len() >= limit {
                let failure = Failure::new(
                    ErrorCode::Busy,
                    format!("{limit} channels were left, and that is not on disk yet"),
                )
                .with_hint("free some disk space or see daemon.log, and leave those again first");
                drop(answer.send(Err(failure)));
                return;
            }
        }
        if self.followed.remove(channel) {
            let now = self.hub.now();
            self.mesh.unfollow(channel, now);
        }
        // Whoever tries again after a failed write is not told that there is no such channel before the log agrees.
        self.attempts += 1;
        self.leaving.insert(channel.clone(), self.attempts);
        self.note(channel, LEFT);
        let purpose = Purpose::Leave {
            channel: channel.clone(),
            number: self.attempts,
            answer,
        };
        self.commits.push(follow(channel, false), purpose);
    }

    /// Notes once more what could not be noted, as far as it is still so.
    fn note_again(&mut self) {
        for channel in std::mem::take(&mut self.not_noted) {
            if self.followed.contains(&channel) {
                self.commits.push(follow(&channel, true), Purpose::Noted(channel));
            }
        }
    }

    /// What is written behind it goes to disk with it.
    fn note(&mut self, channel: &ChannelId, word: &str) {
        let write = LogWrite::SetCursor {
            peer: OWN_NOTES.into(),
            channel: channel.as_str().into(),
            id: word.into(),
        };
        self.commits.push(write, Purpose::WithNext);
    }

    /// Does what the machine wants done, until it wants nothing more.
    fn act(&mut self) {
        loop {
            while let Some(output) = self.mesh.poll_output() {
                self.perform(output);
            }
            if self.cursors.is_empty() {
                break;
            }
            let now = self.hub.now();
            for (ticket, cursor) in std::mem::take(&mut self.cursors) {
                match cursor {
                    Ok(cursor) => self.mesh.cursor_loaded(ticket, cursor, now),
                    Err(error) => {
                        warn!(%error, "the log of the mesh cannot be read");
                        self.mesh.store_failed(ticket, now);
                    }
                }
            }
        }
        for (channel, newest) in std::mem::take(&mut self.changed) {
            self.hub.announce(&channel, newest);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Send { link, text } => self.send(link, text),
            Output::Pause { link } => self.pause(link, true),
            Output::Resume { link } => self.pause(link, false),
            Output::Close { link, why } => {
                if let Some(port) = self.links.remove(&link) {
                    info!(label = %port.label, ?why, "a link of the mesh is closed");
                }
            }
            Output::Append { ticket, entries } => self.append(ticket, entries),
            Output::ReadPage {
                ticket,
                channel,
                after,
                limit,
                max_bytes,
            } => self.read_page(ticket, channel, after, limit, max_bytes),
            Output::LoadCursor {
                ticket,
                peer,
                origin,
                channel,
            } => {
                let note = note_of(&peer, &origin);
                let cursor = self.hub.log.log().cursor(&note, channel.as_str());
                self.cursors.push((ticket, cursor));
            }
            Output::SaveCursor {
                peer,
                origin,
                channel,
                cursor,
            } => {
                let write = LogWrite::SetCursor {
                    peer: note_of(&peer, &origin),
                    channel: channel.as_str().into(),
                    id: cursor,
                };
                self.commits.push(write, Purpose::Nothing);
            }
            Output::RememberKey { name, key } => {
                self.hub.remember_key(name.as_str(), key);
                let id = name.as_str().into();
                self.commits
                    .push(LogWrite::RememberKey { id, key }, Purpose::Nothing);
            }
            Output::Event(event) => self.happened(event),
            other => debug!(?other, "the machine wants something unknown"),
        }
    }

    fn send(&mut self, link: LinkId, text: Arc<str>) {
        let Some(port) = self.links.get(&link) else { return };
        if port.out.try_send(text).is_err() {
            // It takes nothing, or its task has ended.
            self.links.remove(&link);
            let now = self.hub.now();
            self.mesh.link_closed(link, now);
        }
    }

    fn pause(&self, link: LinkId, paused: bool) {
        if let Some(port) = self.links.get(&link) {
            port.pause.send_replace(paused);
        }
    }

    fn append(&mut self, ticket: Ticket, entries: Vec<Checked>) {
        let received_at = self.hub.now().wall;
        self.commits.expect(ticket, entries.len());
        for message in entries {
            let entry = NewEntry {
                channel: message.message().channel().as_str().into(),
                id: message.message().id().into(),
                time: message.time(),
                received_at,
                verified: message.trust() == Trust::Verified,
                text: Arc::clone(message.text()),
            };
            self.commits.push(LogWrite::Append(entry), Purpose::Entry(ticket));
        }
    }

    fn read_page(
        &mut self,
        ticket: Ticket,
        channel: ChannelId,
        after: After,
        limit: usize,
        max_bytes: usize,
    ) {
        let log = self.hub.log.clone();
        let task = self.reads.spawn_blocking(move || {
            let log = log.log();
            let after = match after {
                After::Oldest => Some(0),
                After::Arrival(arrival) => Some(arrival),
                After::Id(id) => match log.arrival_of(channel.as_str(), &id) {
                    Ok(arrival) => arrival,
                    Err(error) => return (ticket, Err(error)),
                },
            };
            let Some(after) = after else {
                return (ticket, Ok(None));
            };
            let page = log.page(channel.as_str(), after, limit, max_bytes);
            let entries = page.map(|page| {
                let entry = |entry: clawchat_store::LogEntry| PageEntry {
                    arrival: entry.arrival,
                    id: entry.id,
                    verified: entry.verified,
                    text: entry.text,
                };
                Some(page.into_iter().map(entry).collect())
            });
            (ticket, entries)
        });
        self.reading.insert(task.id(), ticket);
    }

    fn read(&mut self, read: Result<(Id, Answered<Vec<PageEntry>>), JoinError>) {
        let now = self.hub.now();
        let id = read.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let asked = self.reading.remove(&id);
        match read {
            Ok((_, (ticket, Ok(entries)))) => self.mesh.page(ticket, entries, now),
            Ok((_, (ticket, Err(error)))) => {
                warn!(%error, "the log of the mesh cannot be read");
                self.mesh.store_failed(ticket, now);
            }
            Err(error) => {
                error!(%error, "reading the log of the mesh ended badly");
                if let Some(ticket) = asked {
                    self.mesh.store_failed(ticket, now);
                }
            }
        }
    }

    fn committed(&mut self, outcome: commits::Committed) {
        let now = self.hub.now();
        for (channel, number) in outcome.left {
            if self.leaving.get(&channel) == Some(&number) {
                self.leaving.remove(&channel);
            }
        }
        if let Some(error) = outcome.error {
            warn!(%error, "messages of the mesh cannot be stored");
            self.not_noted.extend(outcome.not_noted);
        } else {
            self.note_again();
        }
        for (ticket, stored) in outcome.stored {
            self.mesh.stored(ticket, stored, now);
        }
        for ticket in outcome.failed {
            self.mesh.store_failed(ticket, now);
        }
    }

    fn happened(&mut self, event: MeshEvent) {
        match event {
            MeshEvent::Up { link, peer } => {
                let label = self.links.get(&link).map(|port| Arc::clone(&port.label));
                info!(%peer, label = label.as_deref().unwrap_or_default(), "a neighbour in the mesh");
                self.expect_direct(&peer);
            }
            MeshEvent::Down { peer, .. } => info!(%peer, "a neighbour in the mesh is gone"),
            MeshEvent::Stored { arrival, message } | MeshEvent::Verified { arrival, message } => {
                let channel = message.message().channel().clone();
                if self.expected.remove(&channel) {
                    // Now it is a conversation, and survives restarts.
                    self.followed.insert(channel.clone());
                    let write = follow(&channel, true);
                    self.commits.push(write, Purpose::Noted(channel.clone()));
                }
                if message.trust() == Trust::Verified {
                    self.expect_direct(message.message().sender());
                }
                let newest = self.changed.entry(channel).or_default();
                *newest = arrival.max(*newest);
            }
            MeshEvent::Published { ticket, arrival } => {
                if let Some(answer) = self.publishing.remove(&ticket) {
                    // It may have given up.
                    let _ = answer.send(Ok(arrival));
                }
            }
            MeshEvent::PublishFailed { ticket } => {
                if let Some(answer) = self.publishing.remove(&ticket) {
                    let failure = Failure::new(ErrorCode::Failed, "the message could not be stored")
                        .with_hint("see daemon.log for the reason; nothing was sent");
                    let _ = answer.send(Err(failure));
                }
            }
            MeshEvent::Level { peer, channel } => debug!(%peer, %channel, "level with a neighbour"),
            MeshEvent::Refused { link, why } => debug!(?link, %why, "a message was refused"),
            other => debug!(?other, "something else happened in the mesh"),
        }
    }

    /// Follows the channel of the two of us: whoever was seen may write to us.
    fn expect_direct(&mut self, peer: &PeerName) {
        if *peer == self.hub.name || self.expected.len() >= MAX_EXPECTED_DIRECT {
            return;
        }
        let Ok(channel) = ChannelId::direct(self.hub.name.as_str(), peer.as_str()) else {
            return;
        };
        if self.followed.contains(&channel)
            || self.expected.contains(&channel)
            || self.leaving.contains_key(&channel)
        {
            return;
        }
        let note = self.hub.log.log().cursor(OWN_NOTES, channel.as_str());
        if matches!(note, Ok(Some(note)) if &*note == LEFT) {
            return;
        }
        let now = self.hub.now();
        if self.mesh.follow(channel.clone(), now) {
            self.expected.insert(channel);
        }
    }

    fn status(&self) -> Status {
        let label = |link: LinkId| {
            let port = self.links.get(&link);
            port.map_or_else(|| Arc::from(""), |port| Arc::clone(&port.label))
        };
        Status {
            links: self
                .mesh
                .links()
                .into_iter()
                .map(|link| {
                    let label = label(link.link);
                    (link, label)
                })
                .collect(),
            counters: self.mesh.counters(),
            followed: self.followed.iter().cloned().collect(),
        }
    }
}

fn follow(channel: &ChannelId, followed: bool) -> LogWrite {
    LogWrite::SetFollowed {
        channel: channel.as_str().into(),
        followed,
    }
}

/// Under which name it is noted how far the log of a neighbour is known. A name that is not proven counts only where it was
/// shown: elsewhere it may be somebody else's.
fn note_of(peer: &PeerName, origin: &Origin) -> Box<str> {
    if origin.proves(peer) {
        return peer.as_str().into();
    }
    let (kind, place) = match origin {
        Origin::Key(key) => ("key", PeerName::of_key(key).as_str().to_owned()),
        Origin::Place(place) => ("place", place.to_string()),
    };
    let mut hash = Sha256::new();
    for part in [peer.as_str(), kind, &place] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    // Longer than the name of a key, so it is never taken for one.
    format!("@{}", BASE64URL_NOPAD.encode(&hash.finalize())).into()
}

fn not_published(error: PublishError) -> Failure {
    match error {
        PublishError::NotFollowed => Failure::new(ErrorCode::NoSuchChannel, error.to_string())
            .with_hint("join it first: clawchat channel join NAME"),
        PublishError::Busy => Failure::new(ErrorCode::Busy, error.to_string()),
        _ => Failure::new(ErrorCode::Failed, error.to_string()),
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
