//! A line of three mesh peers that are killed, and cut off from each other, at random while six authors write into one
//! channel, some of them with clocks that are wrong; and the check that all three logs end as the same one.
//!
//! Shared by the chaos test of this program and by `cargo xtask soak --mesh`, which includes this file.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use clawchat_testkit::SeededRng;
use serde_json::Value;

use crate::cable::Cable;
use crate::gateways::Outcome;
use crate::mesh_authors::{Post, Sent};
use crate::mesh_peers::MeshPeer;

/// The channel all of it happens in.
pub(crate) const CHANNEL: &str = "lobby";
/// How long anything may take that needs no other peer.
pub(crate) const STEP_LIMIT: Duration = Duration::from_secs(120);
/// How long the line may take until all have everything. A peer that was cut off is dialed every 30 s at the latest.
const LEVEL_LIMIT: Duration = Duration::from_secs(180);
/// Peers of the line, the first dials the second and the second the third.
pub(crate) const PEERS: usize = 3;
/// Shortest and longest bound of the pause between reaching an accident's place in the run and the accident, in bits of
/// microseconds: 64 us to 65 ms, short ones as likely as long ones.
const PAUSE_BITS: std::ops::Range<u64> = 6..17;
/// After one accident of so many all is left alone until the peers are level.
const LEVELLED: u64 = 6;
/// Violations told about; the rest is counted.
const MAX_VIOLATIONS: usize = 20;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Messages in all, a sixth of them by each author: at each peer one who writes through its local socket, and one
    /// who is its neighbour and signs for itself.
    pub(crate) messages: u64,
    /// How many times a peer is killed.
    pub(crate) kills: u64,
    /// How many times the line is cut.
    pub(crate) cuts: u64,
    /// Where all chance comes from.
    pub(crate) seed: u64,
}

/// What happened, if nothing went wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    /// Messages that were acknowledged: none of them was lost.
    pub(crate) acknowledged: usize,
    /// Messages whose answer a kill swallowed.
    pub(crate) in_doubt: usize,
    /// Messages in each of the three logs, once each, in the same order.
    pub(crate) stored: usize,
    /// Messages that were sent again although a peer had them.
    pub(crate) repeated: u64,
    pub(crate) kills: u64,
    pub(crate) cuts: u64,
}

/// Does it. `program` is `clawchatd`; `tell` hears about progress.
pub(crate) fn run(program: &Path, plan: &Plan, tell: &dyn Fn(&str)) -> Outcome<Summary> {
    let mut line = Line::set_up(program)?;
    let desk = Desk::default();
    let posts = Post::all(&line.peers, plan.seed);
    let watchers: [_; PEERS] = std::array::from_fn(|place| Watcher {
        place,
        socket: line.socket(place),
    });
    let mut storm = Storm {
        plan,
        desk: &desk,
        random: SeededRng::new(plan.seed),
        kills: 0,
        cuts: 0,
    };
    let (raged, sent) = thread::scope(|scope| {
        for watcher in &watchers {
            scope.spawn(|| watcher.watch(&desk));
        }
        let writing: Vec<_> = posts
            .iter()
            .map(|post| scope.spawn(|| post.write(&desk)))
            .collect();
        let raged = storm.rage(&mut line, tell);
        desk.change(|state| state.writing_over = true);
        let sent: Vec<Sent> = writing
            .into_iter()
            .filter_map(|writing| writing.join().ok())
            .collect();
        let raged = raged.and_then(|()| storm.settle(&mut line, &posts, tell));
        desk.change(|state| state.over = true);
        // Those who watch see it at the latest when there is nothing to watch any more.
        line.peers.iter_mut().for_each(MeshPeer::kill);
        (raged, sent)
    });
    let mut violations = desk.state().violations.clone();
    let last = match raged {
        Ok(last) => last,
        Err(reason) => {
            violations.push(reason);
            return Err(complaint(plan, &violations));
        }
    };
    tell("all three are level; killed, and looking at what they kept");
    line.start(&[2, 1, 0])?;
    let logs = line
        .peers
        .iter()
        .map(|peer| peer.history(CHANNEL))
        .collect::<Outcome<Vec<_>>>()?;
    let check = Check {
        posts: &posts,
        sent: &sent,
        last: &last,
    };
    violations.extend(check.logs(&logs));
    if sent.len() != posts.len() {
        violations.push("an author panicked".to_owned());
    }
    if !violations.is_empty() {
        return Err(complaint(plan, &violations));
    }
    let acknowledged = sent.iter().map(|sent| sent.acknowledged.len()).sum::<usize>();
    let offered: u64 = sent.iter().map(|sent| sent.offered).sum();
    Ok(Summary {
        acknowledged: acknowledged + last.len(),
        in_doubt: usize::try_from(offered).unwrap_or(usize::MAX) - acknowledged,
        stored: logs.first().map_or(0, Vec::len),
        repeated: sent.iter().map(|sent| sent.repeated).sum(),
        kills: storm.kills,
        cuts: storm.cuts,
    })
}

/// What is wrong, with all it takes to see it again.
fn complaint(plan: &Plan, violations: &[String]) -> String {
    let told: Vec<&str> = violations
        .iter()
        .take(MAX_VIOLATIONS)
        .map(String::as_str)
        .collect();
    format!(
        "{plan:?}: {} violations:\n  {}",
        violations.len(),
        told.join("\n  ")
    )
}

/// Three peers and the two cables between them.
struct Line {
    peers: Vec<MeshPeer>,
    cables: [Cable; 2],
}

impl Line {
    fn set_up(program: &Path) -> Outcome<Self> {
        let mut peers = ["a", "b", "c"]
            .into_iter()
            .map(|name| MeshPeer::prepare(program, name))
            .collect::<Outcome<Vec<_>>>()?;
        let [first, second, third] = peers.as_mut_slice() else {
            return Err("three peers make a line".to_owned());
        };
        let cables = [Cable::to(second.port())?, Cable::to(third.port())?];
        let [left, right] = &cables;
        first.dials(left.port());
        second.dials(right.port());
        let mut line = Self { peers, cables };
        line.start(&[2, 1, 0])?;
        Ok(line)
    }

    fn socket(&self, place: usize) -> std::path::PathBuf {
        self.peers.get(place).map(MeshPeer::socket).unwrap_or_default()
    }

    fn kill(&mut self, places: &[usize]) {
        for place in places {
            if let Some(peer) = self.peers.get_mut(*place) {
                peer.kill();
            }
        }
    }

    fn start(&mut self, places: &[usize]) -> Outcome {
        for place in places {
            self.peers.get_mut(*place).map_or(Ok(()), MeshPeer::start)?;
        }
        Ok(())
    }
}

/// What the threads tell each other.
#[derive(Default)]
pub(crate) struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub(crate) struct State {
    /// How many messages of each author are to be acknowledged by now.
    pub(crate) allowed: u64,
    /// How many of each author are, by the author's place.
    pub(crate) acknowledged: [u64; 2 * PEERS],
    /// How often each peer was started again.
    pub(crate) starts: [u64; PEERS],
    /// The ids in each peer's log, with their arrivals.
    pub(crate) seen: [HashMap<String, u64>; PEERS],
    /// No more messages will be allowed.
    pub(crate) writing_over: bool,
    /// Nothing more will happen.
    pub(crate) over: bool,
    pub(crate) violations: Vec<String>,
}

impl Desk {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    pub(crate) fn accuse(&self, violation: String) {
        self.change(|state| state.violations.push(violation));
    }

    /// Waits until something can be read from the state.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        mut read: impl FnMut(&State) -> Option<T>,
    ) -> Outcome<T> {
        let mut found = None;
        let waiting = |state: &mut State| {
            found = read(state);
            found.is_none()
        };
        drop(self.changed.wait_timeout_while(self.state(), limit, waiting));
        found.ok_or_else(|| format!("nothing within {} s: {what}", limit.as_secs()))
    }

    /// After a connection to a peer broke: waits until that was started again. False when nothing more will happen.
    pub(crate) fn again(&self, place: usize, starts: u64, error: &str) -> bool {
        let again = self.wait_for("a connection broke and nobody was killed", STEP_LIMIT, |state| {
            let started = state.starts.get(place).is_some_and(|now| *now > starts);
            (started || state.over).then_some(!state.over)
        });
        again.unwrap_or_else(|reason| {
            self.accuse(format!("peer {place}: {reason} ({error})"));
            false
        })
    }
}

/// Follows the log of one peer for as long as the storm takes, and sees whether it is ever rewritten.
struct Watcher {
    place: usize,
    socket: std::path::PathBuf,
}

impl Watcher {
    fn watch(&self, desk: &Desk) {
        let mut last = 0;
        loop {
            let starts = desk.state().starts.get(self.place).copied().unwrap_or_default();
            let error = self.follow(desk, &mut last);
            if desk.state().over || !desk.again(self.place, starts, &error) {
                return;
            }
        }
    }

    /// Until the connection breaks; why it did.
    fn follow(&self, desk: &Desk, last: &mut u64) -> String {
        let request = serde_json::json!({ "cmd": "subscribe", "channels": [CHANNEL], "after": *last });
        let events = clawchat_ipc::Call::from_value(request)
            .map_err(|error| error.to_string())
            .and_then(|call| {
                let client = clawchat_ipc::client::Client::connect(&self.socket, None);
                client
                    .and_then(|client| client.subscribe(&call))
                    .map_err(|error| error.to_string())
            });
        let events = match events {
            Ok(events) => events,
            Err(error) => return error,
        };
        for event in events {
            let message = match &event {
                Ok(event) => &event["message"],
                Err(error) => return error.to_string(),
            };
            let (id, arrival) = (message["id"].as_str(), message["arrival"].as_u64());
            let (Some(id), Some(arrival)) = (id, arrival) else {
                return format!("{message} is no message");
            };
            if arrival != *last + 1 {
                desk.accuse(format!("peer {}: arrival {arrival} behind {last}", self.place));
            }
            *last = arrival;
            desk.change(|state| {
                let seen = state.seen.get_mut(self.place);
                if let Some(before) = seen.and_then(|seen| seen.insert(id.to_owned(), arrival)) {
                    state.violations.push(format!(
                        "peer {}: {id} arrived as {before} and as {arrival}",
                        self.place
                    ));
                }
            });
        }
        "the subscription ended".to_owned()
    }
}

/// What may happen.
enum Accident {
    /// These are killed.
    Kill(&'static [usize]),
    /// These cables are cut.
    Cut(&'static [usize]),
}

/// What happens, and when.
struct Storm<'a> {
    plan: &'a Plan,
    desk: &'a Desk,
    random: SeededRng,
    kills: u64,
    cuts: u64,
}

impl Storm<'_> {
    /// Lets messages through in rounds, with an accident in each.
    fn rage(&mut self, line: &mut Line, tell: &dyn Fn(&str)) -> Outcome {
        let each = self.plan.messages / (2 * PEERS as u64);
        let accidents = self.plan.kills + self.plan.cuts;
        let mut allowed = 0;
        while self.kills < self.plan.kills || self.cuts < self.plan.cuts {
            let before = allowed;
            allowed = (each * (self.kills + self.cuts + 1) / (accidents + 1)).max(allowed);
            self.desk.change(|state| state.allowed = allowed);
            // Half of the accidents come as messages are being taken, the others as they are on their way.
            let taken = if self.random.one_in(2) {
                0
            } else {
                self.random.below(allowed - before + 1)
            };
            match self.accident() {
                Accident::Kill(victims) => {
                    self.wait_until_written(victims, before + taken)?;
                    thread::sleep(self.pause());
                    line.kill(victims);
                    self.kills += victims.len() as u64;
                    for &victim in victims.iter().rev() {
                        line.start(&[victim])?;
                        self.desk.change(|state| {
                            if let Some(starts) = state.starts.get_mut(victim) {
                                *starts += 1;
                            }
                        });
                    }
                }
                Accident::Cut(cables) => {
                    let all: Vec<usize> = (0..PEERS).collect();
                    self.wait_until_written(&all, before + taken)?;
                    thread::sleep(self.pause());
                    for cable in cables.iter().filter_map(|cable| line.cables.get(*cable)) {
                        cable.cut();
                        self.cuts += 1;
                    }
                    // Everybody goes on writing while the line is cut.
                    self.wait_until_written(&all, allowed)?;
                    line.cables.iter().for_each(Cable::plug_in);
                }
            }
            // Else the links would be down most of the time.
            if self.random.one_in(LEVELLED) {
                self.wait_until_level(&BTreeSet::new())?;
            }
            tell(&format!(
                "{} of {} kills, {} of {} cuts, at {allowed} of {each} messages of each author",
                self.kills, self.plan.kills, self.cuts, self.plan.cuts
            ));
        }
        self.desk.change(|state| state.allowed = each);
        self.wait_until_written(&[0, 1, 2], each)
    }

    /// Kills all once more, and waits until they are level. Gives what was sent last.
    fn settle(&mut self, line: &mut Line, posts: &[Post], tell: &dyn Fn(&str)) -> Outcome<BTreeSet<String>> {
        tell("all is written; killing all of them, and waiting until they are level");
        line.kill(&[0, 1, 2]);
        self.kills += PEERS as u64;
        line.start(&[2, 1, 0])?;
        self.desk
            .change(|state| state.starts.iter_mut().for_each(|starts| *starts += 1));
        // Behind the last message of its local author a log has nothing that was in doubt.
        let last = posts
            .iter()
            .map(Post::write_last)
            .filter_map(Outcome::transpose)
            .collect::<Outcome<BTreeSet<_>>>()?;
        self.wait_until_level(&last)?;
        Ok(last)
    }

    fn accident(&mut self) -> Accident {
        let (kills, cuts) = (
            self.plan.kills - self.kills.min(self.plan.kills),
            self.plan.cuts - self.cuts.min(self.plan.cuts),
        );
        if self.random.below(kills + cuts) < kills {
            Accident::Kill(match self.random.below(7) {
                0 => &[0],
                1 => &[1],
                2 => &[2],
                3 => &[0, 1],
                4 => &[1, 2],
                5 => &[0, 2],
                _ => &[0, 1, 2],
            })
        } else {
            Accident::Cut(match self.random.below(3) {
                0 => &[0],
                1 => &[1],
                _ => &[0, 1],
            })
        }
    }

    fn pause(&mut self) -> Duration {
        let bits = PAUSE_BITS.start + self.random.below(PAUSE_BITS.end - PAUSE_BITS.start);
        Duration::from_micros(self.random.below(1 << bits))
    }

    /// Until both authors at each of these peers have so many messages acknowledged.
    fn wait_until_written(&self, peers: &[usize], goal: u64) -> Outcome {
        self.desk.wait_for("messages are not taken", STEP_LIMIT, |state| {
            let stuck = !state.violations.is_empty();
            let mut authors = state.acknowledged.iter().enumerate();
            let reached = authors.all(|(place, count)| !peers.contains(&(place / 2)) || *count >= goal);
            (reached || stuck).then_some(())
        })
    }

    /// Until all peers have the same messages, these among them.
    fn wait_until_level(&self, these: &BTreeSet<String>) -> Outcome {
        let mut counts = [0; PEERS];
        let level = self
            .desk
            .wait_for("the line does not level", LEVEL_LIMIT, |state| {
                counts = state.seen.each_ref().map(HashMap::len);
                let [first, others @ ..] = &state.seen;
                let alike = others
                    .iter()
                    .all(|other| other.len() == first.len() && first.keys().all(|id| other.contains_key(id)));
                let stuck = !state.violations.is_empty();
                let has_these = these.iter().all(|id| first.contains_key(id));
                (stuck || (alike && has_these)).then_some(())
            });
        level.map_err(|error| format!("{error}; the peers have {counts:?} messages"))
    }
}

/// Compares what the peers kept with each other and with what was written.
struct Check<'a> {
    posts: &'a [Post],
    sent: &'a [Sent],
    last: &'a BTreeSet<String>,
}

impl Check<'_> {
    fn logs(&self, logs: &[Vec<Value>]) -> Vec<String> {
        let mut wrong = Vec::new();
        for (place, log) in logs.iter().enumerate() {
            wrong.extend(
                self.log(log)
                    .into_iter()
                    .map(|text| format!("peer {place}: {text}")),
            );
        }
        let alike = |entry: &Value| {
            ["id", "sender", "body", "timestamp", "verified"].map(|field| entry[field].clone())
        };
        if let Some((first, others)) = logs.split_first() {
            for (place, other) in others.iter().enumerate() {
                if first.len() != other.len() {
                    wrong.push(format!(
                        "{} messages at 0, {} at {}",
                        first.len(),
                        other.len(),
                        place + 1
                    ));
                }
                let different = first
                    .iter()
                    .zip(other)
                    .find(|(one, other)| alike(one) != alike(other));
                if let Some((one, other)) = different {
                    wrong.push(format!("{one} at 0 is {other} at {}", place + 1));
                }
            }
        }
        wrong
    }

    fn log(&self, log: &[Value]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut ids = HashMap::new();
        let mut bodies = BTreeSet::new();
        let mut before = None;
        for entry in log {
            let text = |field: &str| entry[field].as_str().unwrap_or_default();
            let (id, body) = (text("id"), text("body"));
            if ids.insert(id, body).is_some() {
                wrong.push(format!("{id} is there twice"));
            }
            // Also under another id.
            if !bodies.insert((text("sender"), body)) {
                wrong.push(format!("{body:?} of {} is there twice", text("sender")));
            }
            if !self.posts.iter().any(|post| post.wrote(text("sender"), body)) {
                wrong.push(format!("{entry} was never written"));
            }
            if entry["verified"] != true {
                wrong.push(format!("{id} is not verified"));
            }
            let place = (text("timestamp"), id);
            if before.is_some_and(|before| before >= place) {
                wrong.push(format!("{place:?} is shown behind {before:?}"));
            }
            before = Some(place);
        }
        for (post, sent) in self.posts.iter().zip(self.sent) {
            for (number, id) in &sent.acknowledged {
                if ids.get(id.as_str()) != Some(&post.body(*number).as_str()) {
                    wrong.push(format!("message {number} of {} ({id}) is lost", post.name()));
                }
            }
        }
        for id in self.last {
            if !ids.contains_key(id.as_str()) {
                wrong.push(format!("{id}, written last, is lost"));
            }
        }
        wrong
    }
}
