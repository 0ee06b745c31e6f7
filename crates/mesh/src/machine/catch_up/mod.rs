//! Catching up: asking neighbours for what they stored, a page at a time, until nothing is missing.

mod by_arrival;
mod by_time;

use std::time::Duration;

use clawchat_types::Moment;

use self::by_arrival::ByArrival;
use self::by_time::ByTime;
use super::append::{From, Then};
use super::link::Link;
use super::take::spread;
use super::timers::Timer;
use super::{LinkId, MAX_PAGE_MESSAGES, Mesh, Output, Purpose, Ticket};
use crate::ChannelId;
use crate::frame::{Entry, Response, SyncRequest, write};
use crate::message::Checked;

/// Neighbours asked for one channel at once.
const MAX_ASKERS: usize = 4;
/// How long a neighbour may take for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How often a neighbour is asked again.
const ROUND_EVERY: Duration = Duration::from_secs(60);
/// How much sooner or later.
const ROUND_JITTER: Duration = Duration::from_secs(12);
/// Rounds after which one that tells us where it stands is asked all the same.
const LEVEL_ROUNDS: u32 = 5;
/// Rounds after which a neighbour that answers by timestamp is asked from further back.
const OVERLAP_ROUNDS: u32 = 30;

/// The question under way on a link.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) channel: ChannelId,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The log looks how far we were.
    Loading(Ticket),
    /// The neighbour was asked, and should have answered by then.
    Asked(Duration),
}

/// How far we are with a channel on a link.
#[derive(Debug, Default)]
pub(super) struct Catch {
    /// It stands in the link's queue.
    queued: bool,
    /// What the log remembers was looked up.
    loaded: bool,
    /// Everything is here, and what is new comes live.
    pub(super) level: bool,
    /// It is to be asked again when it seems level.
    again: bool,
    /// For neighbours that answer in the order of arrival.
    by_arrival: ByArrival,
    /// For those that answer in the order of timestamps.
    by_time: ByTime,
}

/// What a page means for the next question.
enum Progress {
    /// There may be more.
    More,
    /// That was all.
    Level,
    /// The neighbour makes no sense; later again.
    Stuck,
}

impl Link {
    /// How many channels are level, and how many are not.
    pub(super) fn standing(&self) -> (usize, usize) {
        let level = self.catching.values().filter(|catch| catch.level).count();
        (level, self.catching.len() - level)
    }
}

impl Mesh {
    /// Puts a channel in a link's queue of questions, if there is somebody to ask.
    pub(super) fn want(&mut self, id: LinkId, name: ChannelId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let stores = link.stores();
        let asked = link.asking.as_ref().is_some_and(|asking| asking.channel == name);
        if !stores || asked || self.is_asked_elsewhere(id) {
            return;
        }
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let catch = link.catching.entry(name.clone()).or_default();
        if !std::mem::replace(&mut catch.queued, true) {
            link.to_ask.push_back(name);
        }
    }

    /// A channel is not wanted any more.
    pub(super) fn ask_no_more(&mut self, id: LinkId, name: &ChannelId, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.catching.remove(name);
        link.to_ask.retain(|other| other != name);
        if link.asking.as_ref().is_some_and(|asking| asking.channel == *name) {
            link.asking = None;
            self.end_asking(name, now);
            self.ask_next(id, now);
        }
    }

    /// A link is asked nothing more for now.
    pub(super) fn stop_asking(&mut self, id: LinkId, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.catching.clear();
        link.to_ask.clear();
        if let Some(asking) = link.asking.take() {
            self.end_asking(&asking.channel, now);
        }
    }

    /// Another link with the same neighbour stood there in a channel when it ended: this one goes on from there.
    pub(super) fn go_on_asking(&mut self, id: LinkId, name: &ChannelId, stood: Option<&Catch>) {
        let cursor = stood
            .filter(|stood| stood.level)
            .and_then(|stood| stood.by_arrival.after());
        if let Some(link) = self.links.get_mut(&id)
            && link.knows_marks()
            && let Some(cursor) = cursor
        {
            let catch = link.catching.entry(name.clone()).or_default();
            catch.by_arrival.advance(&cursor);
            catch.loaded = true;
        }
    }

    /// Asks a link's next question.
    pub(super) fn ask_next(&mut self, id: LinkId, now: Moment) {
        if self.appends.is_full() {
            return;
        }
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.asking.is_some() {
            return;
        }
        for _ in 0..link.to_ask.len() {
            let Some(name) = link.to_ask.pop_front() else {
                return;
            };
            let Some(channel) = self.channels.get_mut(&name).filter(|channel| channel.is_logged()) else {
                link.catching.remove(&name);
                continue;
            };
            if channel.askers >= MAX_ASKERS {
                link.to_ask.push_back(name);
                continue;
            }
            channel.askers += 1;
            self.begin_question(id, name, now);
            return;
        }
    }

    fn begin_question(&mut self, id: LinkId, name: ChannelId, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let catch = link.catching.entry(name.clone()).or_default();
        catch.queued = false;
        if catch.loaded {
            self.ask(id, name, now);
            return;
        }
        let Some(peer) = link.peer.as_ref().map(|peer| peer.name.clone()) else {
            return;
        };
        let origin = link.origin.clone();
        let ticket = self.ticket(Purpose::Cursor(id));
        if let Some(link) = self.links.get_mut(&id) {
            link.asking = Some(Asking {
                channel: name.clone(),
                stage: Stage::Loading(ticket),
            });
        }
        self.outputs.push_back(Output::LoadCursor {
            ticket,
            peer,
            origin,
            channel: name,
        });
    }

    /// The log told how far we were, or could not.
    pub(super) fn cursor_is(&mut self, id: LinkId, ticket: Ticket, cursor: Option<&str>, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let Some(asking) = link
            .asking
            .take_if(|asking| matches!(asking.stage, Stage::Loading(at) if at == ticket))
        else {
            return;
        };
        let name = asking.channel;
        let catch = link.catching.entry(name.clone()).or_default();
        catch.loaded = true;
        if let Some(cursor) = cursor {
            catch.by_arrival.restore(cursor);
            catch.by_time.restore(cursor);
        }
        catch.by_time.begin_first();
        self.ask(id, name, now);
    }

    fn ask(&mut self, id: LinkId, name: ChannelId, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let knows_marks = link.knows_marks();
        let catch = link.catching.entry(name.clone()).or_default();
        let after = if knows_marks {
            catch.by_arrival.after()
        } else {
            catch.by_time.after()
        };
        let deadline = now.mono.saturating_add(ANSWER_WITHIN);
        link.asking = Some(Asking {
            channel: name.clone(),
            stage: Stage::Asked(deadline),
        });
        self.timers.set(deadline, Timer::Answer(id));
        self.send(
            id,
            write::sync_request(&SyncRequest {
                channel: name,
                after,
                limit: MAX_PAGE_MESSAGES,
            }),
        );
    }

    /// A page came.
    pub(super) fn answered(&mut self, id: LinkId, response: Response, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let asked = link
            .asking
            .take_if(|asking| asking.channel == response.channel && matches!(asking.stage, Stage::Asked(_)));
        if asked.is_none() {
            self.told(id, &response, now);
            return;
        }
        let name = response.channel.clone();
        self.end_asking(&name, now);
        let progress = self.take_page(id, response, now);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let Some(catch) = link.catching.get_mut(&name) else {
            return;
        };
        match progress {
            Progress::More => self.want(id, name),
            Progress::Stuck => {}
            Progress::Level if std::mem::take(&mut catch.again) => self.want(id, name),
            Progress::Level => {
                let was_level = std::mem::replace(&mut catch.level, true);
                if let Some(peer) = link.peer.as_ref().filter(|_| !was_level) {
                    let peer = peer.name.clone();
                    self.then(Then::TellLevel { peer, channel: name });
                }
            }
        }
        self.ask_next(id, now);
    }

    /// Puts a page's messages on their way into the log, and remembers how far we are.
    fn take_page(&mut self, id: LinkId, response: Response, now: Moment) -> Progress {
        let name = response.channel.clone();
        let Some(link) = self.links.get_mut(&id) else {
            return Progress::Stuck;
        };
        let knows_marks = link.knows_marks();
        let Some(catch) = link.catching.get_mut(&name) else {
            return Progress::Stuck;
        };
        let progress = if knows_marks {
            catch.by_arrival.page(&response)
        } else {
            catch.by_time.page(&response.entries, now.wall)
        };
        let cursor = if knows_marks {
            catch.by_arrival.unsaved()
        } else {
            catch.by_time.unsaved()
        };
        let peer = link
            .peer
            .as_ref()
            .map(|peer| (peer.name.clone(), link.origin.clone()));
        self.counters.refused += u64::try_from(response.unreadable).unwrap_or_default();
        for Entry { message, .. } in response.entries {
            match message {
                Ok(message) => {
                    self.append(message, From::Link(id));
                }
                Err(why) => self.refused(id, why),
            }
        }
        if let (Some((peer, origin)), Some(cursor)) = (peer, cursor) {
            self.then(Then::SaveCursor {
                peer,
                origin,
                channel: name,
                cursor,
            });
        }
        progress
    }

    /// A neighbour tells, without being asked, how far it has given us everything, or that we should ask.
    fn told(&mut self, id: LinkId, response: &Response, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if !link.knows_marks() || !response.entries.is_empty() {
            return;
        }
        let name = response.channel.clone();
        let may_save = link.saves.allow(now.mono);
        let Some(catch) = link.catching.get_mut(&name) else {
            return;
        };
        let should_ask = response.more == Some(true);
        if !catch.level {
            // What we are asking for goes further than what it tells.
            catch.again |= should_ask;
            return;
        }
        if let Some(last) = &response.last {
            catch.by_arrival.advance(last);
        }
        let cursor = catch.by_arrival.unsaved().filter(|_| may_save);
        catch.level = !should_ask;
        if let (Some(peer), Some(cursor)) = (link.peer.as_ref(), cursor) {
            let (peer, origin) = (peer.name.clone(), link.origin.clone());
            self.then(Then::SaveCursor {
                peer,
                origin,
                channel: name.clone(),
                cursor,
            });
        }
        if should_ask {
            self.want(id, name);
            self.ask_next(id, now);
        }
    }

    /// A message came live: one that answers by timestamp may be asked from behind it.
    pub(super) fn note_live(&mut self, id: LinkId, message: &Checked, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if !link.knows_marks()
            && let Some(catch) = link.catching.get_mut(message.message().channel())
            && catch.level
        {
            catch.by_time.note(message, now.wall);
        }
    }

    /// A question ended; those who wait for their turn at the channel may ask.
    pub(super) fn end_asking(&mut self, name: &ChannelId, _now: Moment) {
        if let Some(channel) = self.channels.get_mut(name) {
            channel.askers = channel.askers.saturating_sub(1);
            self.ask_again = true;
        }
        self.drop_idle(name);
    }

    /// The neighbour takes too long. It is asked again in the next round.
    pub(super) fn answer_due(&mut self, id: LinkId, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let late = link
            .asking
            .take_if(|asking| matches!(asking.stage, Stage::Asked(at) if at <= now.mono));
        if let Some(asking) = late {
            self.end_asking(&asking.channel, now);
            self.ask_next(id, now);
        }
    }

    pub(super) fn start_rounds(&mut self, id: LinkId, now: Moment) {
        let pause = spread(ROUND_EVERY, ROUND_JITTER, self.random());
        self.timers.set(now.mono.saturating_add(pause), Timer::Round(id));
    }

    /// Asks for all channels again that may have something.
    pub(super) fn round_due(&mut self, id: LinkId, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.rounds = link.rounds.wrapping_add(1);
        let rounds = link.rounds;
        let knows_marks = link.knows_marks();
        let asking = link.asking.as_ref().map(|asking| &asking.channel);
        let mut names = Vec::new();
        for (name, catch) in &mut link.catching {
            let waits = knows_marks && catch.level && rounds % LEVEL_ROUNDS != 0;
            if waits || asking == Some(name) {
                continue;
            }
            if catch.loaded && !catch.queued {
                catch.by_time.begin(rounds % OVERLAP_ROUNDS == 0);
            }
            names.push(name.clone());
        }
        for name in names {
            self.want(id, name);
        }
        self.start_rounds(id, now);
        self.ask_next(id, now);
    }
}
