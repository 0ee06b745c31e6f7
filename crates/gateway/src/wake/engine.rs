//! The task of one identity that follows what arrives and wakes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clawchat_store::{InboxEntry, StoreError};
use clawchat_types::{Principal, UnixMillis};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::batch::Note;
use super::cursor::{self, Cursors};
use super::queue::{Next, Queue};
use super::settings::IdentitySettings;
use super::{Failed, Means, Way};
use crate::clock;
use crate::config::UrgentFrom;
use crate::hosted::Hosted;
use crate::shared::Gateway;

/// Entries read from the store at a time.
const PAGE: usize = 256;
/// Most entries looked at again for one wake; of more, only that there are more is told.
const MAX_LOOKED_AGAIN: usize = 4096;
/// Shortest time between two looks at what arrived: with many messages a second, they are read together.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How long after the store could not be read it is tried again.
const STORE_PAUSE: Duration = Duration::from_secs(5);
/// Shortest time between two writes of the cursor. A crash repeats what was told since the last one.
const SAVE_PAUSE: Duration = Duration::from_secs(5);
/// A wake runs for each way at most.
const OUTCOMES: usize = Way::ALL.len();

/// Starts waking for an identity. What arrives from now on is told, and what arrived since it was last served.
pub(crate) fn start(gateway: &Gateway, hosted: &Arc<Hosted>) {
    let arrivals = hosted.arrivals();
    let latest = *arrivals.borrow();
    let (report, outcomes) = mpsc::channel(OUTCOMES);
    let engine = Engine {
        gateway: Arc::clone(gateway),
        hosted: Arc::clone(hosted),
        settings: gateway.wakes.follow(),
        arrivals,
        started: Instant::now(),
        urgent_from: UrgentFrom::default(),
        channels: BTreeMap::new(),
        generation: 0,
        report,
        outcomes,
        looked: latest,
        look_at: None,
        looked_at: None,
        path: cursor::path(&gateway.home.identity_dir(hosted.principal())),
        saved: Cursors::new(),
        saved_at: None,
        saving: None,
    };
    gateway.tasks.spawn(engine.serve());
}

struct Engine {
    gateway: Gateway,
    hosted: Arc<Hosted>,
    settings: watch::Receiver<BTreeMap<Principal, IdentitySettings>>,
    arrivals: watch::Receiver<u64>,
    /// What times in here are counted from.
    started: Instant,
    urgent_from: UrgentFrom,
    channels: BTreeMap<Way, Channel>,
    generation: u64,
    report: mpsc::Sender<Outcome>,
    outcomes: mpsc::Receiver<Outcome>,
    /// The arrival up to which everything was looked at.
    looked: u64,
    /// When to look at what arrived; `None`: nothing did.
    look_at: Option<Duration>,
    looked_at: Option<Duration>,
    path: PathBuf,
    /// What the file says.
    saved: Cursors,
    saved_at: Option<Duration>,
    saving: Option<JoinHandle<()>>,
}

/// A way of waking that is on.
struct Channel {
    means: Means,
    queue: Queue,
    /// Tells its outcomes from those of a predecessor that was turned off.
    generation: u64,
    /// The wake under way; ends with this.
    running: Option<AbortOnDropHandle<()>>,
    /// The failure that was logged last, until a wake works.
    broken: Option<String>,
}

/// How a wake ended.
struct Outcome {
    way: Way,
    generation: u64,
    result: Result<(), Failed>,
}

impl Engine {
    /// Runs until the identity is no longer served.
    async fn serve(mut self) {
        let stop = self.hosted.stop().clone();
        stop.run_until_cancelled(self.run()).await;
        self.channels_stop();
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
        if let Some(saving) = self.save() {
            let _ = saving.await;
        }
    }

    async fn run(&mut self) {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || cursor::read(&path)).await;
        match read {
            Ok(Ok(Some(cursors))) => self.saved = cursors,
            Ok(Ok(None)) => {
                warn!(file = %self.path.display(), "not as expected; only what arrives from now on wakes")
            }
            Ok(Err(error)) => warn!(%error, "only what arrives from now on wakes"),
            Err(_) => return,
        }
        let cursors = self.saved.clone();
        self.configure(&cursors).await;
        loop {
            if self.look_at.is_some_and(|at| at <= self.now()) {
                self.look().await;
            }
            let queues = self.turn().await;
            let save = self.save_if_due();
            let next = [queues, save, self.look_at].into_iter().flatten().min();
            let next = next.map(|then| self.started + then);
            tokio::select! {
                changed = self.settings.changed() => {
                    if changed.is_err() { return }
                    // What arrived before a way is turned on is not for it.
                    self.look().await;
                    self.configure(&Cursors::new()).await;
                }
                changed = self.arrivals.changed(), if self.look_at.is_none() => {
                    if changed.is_err() { return }
                    let now = self.now();
                    self.look_at = Some(self.looked_at.map_or(now, |at| now.max(at + LOOK_PAUSE)));
                }
                Some(outcome) = self.outcomes.recv() => self.ended(outcome),
                () = sleep_until(next) => {}
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The wall time of a time in here.
    fn wall(&self, then: Duration) -> UnixMillis {
        clock::now().after(then.saturating_sub(self.now()))
    }

    /// Follows the settings. A way that is turned on begins behind its cursor, or with what arrives next.
    async fn configure(&mut self, cursors: &Cursors) {
        let settings = {
            let all = self.settings.borrow_and_update();
            all.get(self.hosted.principal()).cloned().unwrap_or_default()
        };
        self.urgent_from = settings.urgent_from;
        let board = self.hosted.wakes();
        self.channels.retain(|way, _| {
            let on = settings.ways.contains_key(way);
            if !on {
                board.note(*way, |tally| {
                    tally.on = false;
                    tally.last_error = None;
                });
            }
            on
        });
        for (way, means) in settings.ways {
            if let Some(channel) = self.channels.get_mut(&way) {
                channel.means = means;
                continue;
            }
            self.hosted.wakes().note(way, |tally| tally.on = true);
            self.generation += 1;
            let channel = Channel {
                means,
                queue: Queue::default(),
                generation: self.generation,
                running: None,
                broken: None,
            };
            self.channels.insert(way, channel);
            let after = cursors.get(&way).copied().unwrap_or(self.looked);
            if after < self.looked {
                self.look_again(way, after, None).await;
            }
        }
    }

    /// Looks at what arrived.
    async fn look(&mut self) {
        let now = self.now();
        self.looked_at = Some(now);
        self.look_at = None;
        let latest = *self.arrivals.borrow_and_update();
        if self.channels.is_empty() {
            self.looked = self.looked.max(latest);
            return;
        }
        // What arrives while this goes on has its turn with the next look.
        while self.looked < latest {
            let page = match self.hosted.store().store().unread(self.looked, PAGE) {
                Ok(page) => page,
                Err(error) => {
                    self.unreadable(&error);
                    self.look_at = Some(now + STORE_PAUSE);
                    return;
                }
            };
            // The others were read already.
            self.looked = page.last().map_or(latest, |last| last.arrival);
            for entry in &page {
                let note = self.note(entry);
                for (way, channel) in &mut self.channels {
                    if channel.queue.add(note.clone(), now) {
                        paused(&self.hosted, *way, &note.from);
                    }
                }
            }
            // A long inbox is not to hold up everybody else.
            yield_now().await;
        }
    }

    /// Looks once more at what one way still has to tell.
    async fn look_again(&mut self, way: Way, start: u64, from: Option<Principal>) {
        let mut after = start;
        let mut seen = 0;
        let mut more = false;
        'pages: while after < self.looked {
            let page = match self.hosted.store().store().unread(after, PAGE) {
                Ok(page) => page,
                Err(error) => {
                    self.unreadable(&error);
                    let now = self.now();
                    if let Some(channel) = self.channels.get_mut(&way) {
                        channel.queue.could_not_look(start, now);
                    }
                    return;
                }
            };
            let Some(last) = page.last() else { break };
            after = last.arrival;
            for entry in &page {
                if entry.arrival > self.looked {
                    break 'pages;
                }
                if seen == MAX_LOOKED_AGAIN {
                    more = true;
                    break 'pages;
                }
                seen += 1;
                if from.is_some_and(|from| from != entry.message.from) {
                    continue;
                }
                let (note, now) = (self.note(entry), self.now());
                let Some(channel) = self.channels.get_mut(&way) else {
                    return;
                };
                let from = note.from;
                if channel.queue.add(note, now) {
                    paused(&self.hosted, way, &from);
                }
            }
            yield_now().await;
        }
        if let Some(channel) = self.channels.get_mut(&way) {
            channel.queue.looked_again(more);
        }
    }

    fn note(&self, entry: &InboxEntry) -> Note {
        Note::of(entry, |sender| {
            self.urgent_from.admits(sender, || {
                let peer = self.hosted.store().store().peer(sender);
                peer.is_ok_and(|peer| peer.is_some_and(|peer| peer.added))
            })
        })
    }

    fn unreadable(&self, error: &StoreError) {
        warn!(identity = %self.hosted.principal(), %error, "cannot read what should wake");
    }

    /// Does what every way has to do now. Returns when the next one has something to do by itself.
    async fn turn(&mut self) -> Option<Duration> {
        let mut soonest: Option<Duration> = None;
        for way in Way::ALL {
            loop {
                let now = self.now();
                let Some(channel) = self.channels.get_mut(&way) else {
                    break;
                };
                match channel.queue.next(now) {
                    Next::Wake(batch) => {
                        let waking = channel.means.clone().wake(*self.hosted.principal(), *batch);
                        let (report, generation) = (self.report.clone(), channel.generation);
                        let waking = self.gateway.tasks.spawn(async move {
                            let result = waking.await;
                            let outcome = Outcome {
                                way,
                                generation,
                                result,
                            };
                            // Nobody hears it when the identity is no longer served.
                            let _ = report.send(outcome).await;
                        });
                        channel.running = Some(AbortOnDropHandle::new(waking));
                    }
                    Next::LookAgain { after, from } => self.look_again(way, after, from).await,
                    Next::Wait(then) => {
                        soonest = soonest.into_iter().chain(then).min();
                        break;
                    }
                }
            }
            self.show(way);
        }
        soonest
    }

    /// Notes how a wake ended.
    fn ended(&mut self, outcome: Outcome) {
        let Outcome {
            way,
            generation,
            result,
        } = outcome;
        let now = self.now();
        let Some(channel) = self.channels.get_mut(&way) else {
            return;
        };
        if channel.generation != generation {
            return;
        }
        channel.running = None;
        channel.queue.finished(result.is_ok(), now, clock::jitter());
        let identity = self.hosted.principal();
        self.hosted.wakes().note(way, |tally| match &result {
            Ok(()) => {
                tally.sent += 1;
                tally.last_error = None;
            }
            Err(failed) => {
                tally.failed += 1;
                tally.last_error = Some(failed.in_full());
            }
        });
        match result {
            Ok(()) => {
                if channel.broken.take().is_some() {
                    info!(%identity, way = way.name(), "waking works again");
                }
            }
            // Once for each reason: it is tried again many times.
            Err(failed) if channel.broken.as_ref() == Some(&failed.reason) => {
                debug!(%identity, way = way.name(), reason = %failed.reason, "waking failed again");
            }
            Err(failed) => {
                warn!(%identity, way = way.name(), reason = %failed.reason, "waking failed; it is tried again, see 'clawchat daemon status'");
                channel.broken = Some(failed.reason);
            }
        }
    }

    /// Shows in the status what changes with time.
    fn show(&self, way: Way) {
        let Some(channel) = self.channels.get(&way) else {
            return;
        };
        let retry_at = channel.queue.retry_at().map(|then| self.wall(then));
        let paused = channel.queue.paused();
        let paused = paused.map(|(peer, until)| (*peer, self.wall(until))).collect();
        self.hosted.wakes().note(way, |tally| {
            tally.retry_at = retry_at;
            tally.paused = paused;
        });
    }

    /// How far every way is.
    fn cursors(&self) -> Cursors {
        let settled = |channel: &Channel| channel.queue.settled(self.looked);
        self.channels
            .iter()
            .map(|(way, channel)| (*way, settled(channel)))
            .collect()
    }

    /// Writes the cursor if it moved and the last write is not too recent. Returns when to ask again.
    fn save_if_due(&mut self) -> Option<Duration> {
        if self.cursors() == self.saved {
            return None;
        }
        let due = self.saved_at.map(|at| at + SAVE_PAUSE);
        let now = self.now();
        if let Some(due) = due.filter(|due| *due > now) {
            return Some(due);
        }
        if self.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            return Some(now + SAVE_PAUSE);
        }
        self.saved_at = Some(now);
        self.saving = self.save();
        None
    }

    /// Begins to write the cursor, if it moved.
    fn save(&mut self) -> Option<JoinHandle<()>> {
        let cursors = self.cursors();
        if cursors == self.saved {
            return None;
        }
        self.saved.clone_from(&cursors);
        let path = self.path.clone();
        Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = cursor::write(&path, &cursors) {
                warn!(%error, "cannot note what was told; after a restart it may be told again");
            }
        }))
    }

    /// Ends what runs. It is told again after a restart, unless it is read until then.
    fn channels_stop(&mut self) {
        for channel in self.channels.values_mut() {
            channel.running = None;
        }
    }
}

fn paused(hosted: &Hosted, way: Way, peer: &Principal) {
    warn!(
        identity = %hosted.principal(), %peer, way = way.name(),
        "this peer wakes too often and pauses for a minute; its messages are told together then"
    );
}

async fn sleep_until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
