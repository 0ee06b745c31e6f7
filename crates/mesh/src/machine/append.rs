//! What waits to be stored, and what happens once it is.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use clawchat_types::Moment;

use super::channel::Recent;
use super::seen::Mark;
use super::timers::Timer;
use super::{LinkId, Mesh, MeshEvent, Origin, Output, PublishTicket, Purpose, StoredAs, Ticket};
use crate::message::{Checked, Trust};
use crate::{ChannelId, PeerName};

/// Messages in one batch.
const BATCH_MESSAGES: usize = 1024;
/// Bytes of text in one batch, if it is more than one message.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Messages that wait before no link is read from any more: the batch at the log and two more.
const MAX_WAITING_MESSAGES: usize = 3 * BATCH_MESSAGES;
/// Bytes of text that wait before no link is read from any more.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;
/// Verified copies held for neighbours that come back.
const UPGRADED_MESSAGES: usize = 256;
/// Bytes of text in them.
const UPGRADED_BYTES: usize = 1024 * 1024;
/// How long the log is left alone after it failed; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest such pause.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Messages on their way into the log, one batch at a time.
#[derive(Debug, Default)]
pub(super) struct Appends {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// The batch at the log.
    batch: Option<(Ticket, Vec<Waiting>)>,
    /// Messages in `waiting` and `batch`.
    pending: HashMap<Mark, Trust>,
    /// How many messages were ever put in.
    entered: u64,
    /// What waits until all up to a number are stored.
    then: VecDeque<(u64, Then)>,
    failures: u32,
    retry_at: Option<Duration>,
}

#[derive(Debug)]
struct Waiting {
    /// Counted from 1.
    number: u64,
    message: Checked,
    mark: Mark,
    from: From,
}

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Link(LinkId),
    Us(PublishTicket),
}

/// What is done once everything before it is stored.
#[derive(Debug)]
pub(super) enum Then {
    SaveCursor {
        peer: PeerName,
        origin: Origin,
        channel: ChannelId,
        cursor: Box<str>,
    },
    TellLevel {
        peer: PeerName,
        channel: ChannelId,
    },
}

/// Verified copies that took the place of others not long ago, for those who were away.
#[derive(Debug, Default)]
pub(super) struct Upgraded {
    newest: VecDeque<Checked>,
    bytes: usize,
}

impl Upgraded {
    fn push(&mut self, message: Checked) {
        self.bytes += message.text().len();
        self.newest.push_back(message);
        while (self.newest.len() > UPGRADED_MESSAGES || self.bytes > UPGRADED_BYTES)
            && let Some(oldest) = self.newest.pop_front()
        {
            self.bytes -= oldest.text().len();
        }
    }

    /// Those of a channel.
    pub(super) fn of(&self, channel: &ChannelId) -> Vec<Checked> {
        let newest = self.newest.iter();
        newest
            .filter(|message| message.message().channel() == channel)
            .cloned()
            .collect()
    }
}

impl Appends {
    /// Whether nothing more should come.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= MAX_WAITING_MESSAGES || self.bytes >= MAX_WAITING_BYTES
    }

    fn is_pending(&self, mark: Mark, trust: Trust) -> bool {
        self.pending
            .get(&mark)
            .is_some_and(|pending| *pending == Trust::Verified || trust == Trust::Unverified)
    }

    fn put(&mut self, message: Checked, mark: Mark, from: From) {
        self.bytes += message.text().len();
        self.pending.insert(mark, message.trust());
        self.entered += 1;
        self.waiting.push_back(Waiting {
            number: self.entered,
            message,
            mark,
            from,
        });
    }

    /// The next messages for the log.
    fn take_batch(&mut self) -> Vec<Waiting> {
        let mut bytes = 0;
        let mut batch = Vec::new();
        while let Some(next) = self.waiting.front() {
            bytes += next.message.text().len();
            if batch.len() >= BATCH_MESSAGES || (!batch.is_empty() && bytes > BATCH_BYTES) {
                break;
            }
            batch.extend(self.waiting.pop_front());
        }
        batch
    }

    fn is_out(&mut self, waiting: &Waiting) {
        self.bytes = self.bytes.saturating_sub(waiting.message.text().len());
        self.pending.remove(&waiting.mark);
    }

    /// Whether the first `count` messages are stored or refused.
    fn are_out(&self, count: u64) -> bool {
        let batch = self.batch.as_ref().and_then(|(_, batch)| batch.first());
        batch
            .or(self.waiting.front())
            .is_none_or(|first| first.number > count)
    }
}

impl Mesh {
    /// Takes a message for the log unless it is known. True if it is on its way.
    pub(super) fn append(&mut self, message: Checked, from: From) -> bool {
        let mark = self.seen.mark(&message);
        let trust = message.trust();
        if self.seen.is_known(mark, trust) || self.appends.is_pending(mark, trust) {
            self.counters.duplicates += 1;
            return false;
        }
        self.appends.put(message, mark, from);
        true
    }

    /// Does something once everything that came so far is stored.
    pub(super) fn then(&mut self, then: Then) {
        self.appends.then.push_back((self.appends.entered, then));
        self.run_stored();
    }

    /// Gives the log its next batch.
    pub(super) fn drive_appends(&mut self) {
        if self.appends.batch.is_some() || self.appends.retry_at.is_some() {
            return;
        }
        let batch = self.appends.take_batch();
        if batch.is_empty() {
            return;
        }
        let entries = batch.iter().map(|waiting| waiting.message.clone()).collect();
        let ticket = self.ticket(Purpose::Append);
        self.appends.batch = Some((ticket, batch));
        self.outputs.push_back(Output::Append { ticket, entries });
    }

    pub(super) fn batch_stored(&mut self, ticket: Ticket, outcomes: &[StoredAs], now: Moment) {
        let Some((_, batch)) = self.appends.batch.take_if(|(at, _)| *at == ticket) else {
            return;
        };
        let was_full = self.appends.is_full();
        self.appends.failures = 0;
        for (place, waiting) in batch.into_iter().enumerate() {
            self.appends.is_out(&waiting);
            let outcome = outcomes.get(place).copied().unwrap_or(StoredAs::Refused);
            self.is_stored(waiting, outcome);
        }
        self.run_stored();
        if was_full && !self.appends.is_full() {
            self.read_all_again(now);
        }
    }

    fn is_stored(&mut self, waiting: Waiting, outcome: StoredAs) {
        let Waiting {
            number: _,
            message,
            mark,
            from,
        } = waiting;
        let arrival = match outcome {
            StoredAs::New { arrival } | StoredAs::Known { arrival } | StoredAs::Verified { arrival } => {
                self.seen.add(mark, message.trust());
                Some(arrival)
            }
            StoredAs::Refused => None,
        };
        if let From::Us(ticket) = from {
            self.tell(match arrival {
                Some(arrival) => MeshEvent::Published { ticket, arrival },
                None => MeshEvent::PublishFailed { ticket },
            });
        }
        match outcome {
            StoredAs::New { arrival } => {
                self.counters.stored += 1;
                let link = match from {
                    From::Link(link) => Some(link),
                    From::Us(_) => None,
                };
                self.is_new(arrival, message, link);
            }
            StoredAs::Verified { arrival } => self.is_verified(arrival, message),
            StoredAs::Known { .. } => self.counters.duplicates += 1,
            StoredAs::Refused => self.counters.refused += 1,
        }
    }

    fn is_new(&mut self, arrival: u64, message: Checked, from: Option<LinkId>) {
        let id = message.message().channel().clone();
        self.tell(MeshEvent::Stored {
            arrival,
            message: message.clone(),
        });
        let recent = Recent {
            arrival,
            message,
            from,
        };
        self.ring.push(&mut self.channels, &id, recent);
        self.wake_readers(&id);
    }

    /// Neighbours that passed it may have it unverified, too.
    fn is_verified(&mut self, arrival: u64, message: Checked) {
        let id = message.message().channel().clone();
        if let Some(channel) = self.channels.get_mut(&id) {
            let first = channel.first_recent().unwrap_or(u64::MAX);
            let place = usize::try_from(arrival.wrapping_sub(first)).ok();
            if arrival >= first
                && let Some(recent) = place.and_then(|place| channel.ring.get_mut(place))
            {
                recent.message = message.clone();
            }
            let passed: Vec<LinkId> = channel
                .readers
                .iter()
                .filter(|(_, reader)| reader.position >= arrival)
                .map(|(link, _)| *link)
                .collect();
            for link in passed {
                self.feed_extra(link, &message);
            }
            self.upgraded.push(message.clone());
        }
        self.tell(MeshEvent::Verified { arrival, message });
    }

    /// The batch goes in again later; what is ours has failed.
    pub(super) fn batch_failed(&mut self, ticket: Ticket, now: Moment) {
        let Some((_, batch)) = self.appends.batch.take_if(|(at, _)| *at == ticket) else {
            return;
        };
        for waiting in batch.into_iter().rev() {
            match waiting.from {
                From::Link(_) => self.appends.waiting.push_front(waiting),
                From::Us(ticket) => {
                    self.appends.is_out(&waiting);
                    self.tell(MeshEvent::PublishFailed { ticket });
                }
            }
        }
        let pause = FIRST_RETRY.saturating_mul(1 << self.appends.failures.min(10));
        self.appends.failures = self.appends.failures.saturating_add(1);
        let at = now.mono.saturating_add(pause.min(LAST_RETRY));
        self.appends.retry_at = Some(at);
        self.timers.set(at, Timer::Retry);
    }

    pub(super) fn retry_append(&mut self, now: Moment) {
        self.appends.retry_at.take_if(|at| *at <= now.mono);
    }

    fn run_stored(&mut self) {
        while let Some((count, _)) = self.appends.then.front()
            && self.appends.are_out(*count)
            && let Some((_, then)) = self.appends.then.pop_front()
        {
            match then {
                Then::SaveCursor {
                    peer,
                    origin,
                    channel,
                    cursor,
                } => self.outputs.push_back(Output::SaveCursor {
                    peer,
                    origin,
                    channel,
                    cursor,
                }),
                Then::TellLevel { peer, channel } => self.tell(MeshEvent::Level { peer, channel }),
            }
        }
    }
}
