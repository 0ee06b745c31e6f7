//! Two gateways that talk while somebody kills them at random, and the check that nothing was lost or doubled.
//!
//! Shared by the crash test of this program and by `cargo xtask soak`, which includes this file.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use clawchat_ipc::client::{Client, ClientError};
use clawchat_ipc::{Answer, Call};
use serde_json::{Value, json};

use crate::gateways::{ANSWER_LIMIT, Gateway, Outcome, pair, text};

/// How long anything may take that needs no retry.
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// How long the last message of a conversation may take. Everything before it is delivered first.
const DELIVERY_LIMIT: Duration = Duration::from_secs(180);
/// Entries asked for at a time.
const PAGE: u64 = 500;
/// Shortest and longest bound of the pause between reaching a kill's place in the run and the kill, in bits of
/// microseconds: 64 us to 65 ms, short ones as likely as long ones.
const PAUSE_BITS: std::ops::Range<u64> = 6..17;
/// Violations told about; the rest is counted.
const MAX_VIOLATIONS: usize = 20;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Messages to be acknowledged in all, half of them each way.
    pub(crate) messages: u64,
    /// How many times a gateway is killed.
    pub(crate) kills: u64,
    /// Where all chance comes from.
    pub(crate) seed: u64,
}

/// What happened, if nothing went wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    /// Messages whose `queued` arrived: none of them was lost.
    pub(crate) queued: usize,
    /// Messages whose answer a kill swallowed.
    pub(crate) in_doubt: usize,
    /// Messages that arrived, each once and in order.
    pub(crate) arrived: usize,
    /// How often a gateway was killed.
    pub(crate) kills: u64,
}

/// Does it. `program` is `clawchatd`; `tell` hears about progress.
pub(crate) fn run(program: &Path, plan: &Plan, tell: &dyn Fn(&str)) -> Outcome<Summary> {
    let mut gateways = pair(program)?;
    let desk = Desk::default();
    let [alice, bob] = &gateways;
    let post = [
        Post::new(0, alice, bob, plan.seed),
        Post::new(1, bob, alice, plan.seed),
    ];
    let (killed, sent) = thread::scope(|scope| {
        let [first, second] = post.each_ref().map(|post| scope.spawn(|| post.send_all(&desk)));
        let killed = Storm {
            plan,
            desk: &desk,
            random: Random(plan.seed),
            kills: 0,
        }
        .rage(&mut gateways, tell);
        desk.change(|state| state.over = true);
        (killed, [first.join(), second.join()])
    });
    let mut violations = desk.state().violations.clone();
    let kills = match killed {
        Ok(kills) => kills,
        Err(reason) => {
            violations.push(reason);
            return Err(complaint(plan, &violations));
        }
    };
    let [from_alice, from_bob] = sent.map(|sent| sent.map_err(|_| "a sender panicked".to_owned()));
    let mut sent = [from_alice?, from_bob?];
    tell("all messages are handed over; killing both once more");
    restart(&mut gateways)?;
    for (post, sent) in post.iter().zip(&mut sent) {
        post.send_last(sent)?;
    }
    tell("the last message of either side is delivered; killing both, and looking at what they kept");
    restart(&mut gateways)?;

    let [alice, bob] = &gateways;
    let inboxes = [
        entries(bob, "inbox", "arrival")?,
        entries(alice, "inbox", "arrival")?,
    ];
    let outboxes = [
        entries(alice, "outbox", "position")?,
        entries(bob, "outbox", "position")?,
    ];
    for (post, (sent, (inbox, outbox))) in post.iter().zip(sent.iter().zip(inboxes.iter().zip(&outboxes))) {
        violations.extend(post.check(sent, inbox, outbox));
    }
    if !violations.is_empty() {
        return Err(complaint(plan, &violations));
    }
    let queued = sent.iter().map(|sent| sent.queued.len()).sum();
    let offered: u64 = sent.iter().map(|sent| sent.offered).sum();
    Ok(Summary {
        queued,
        in_doubt: usize::try_from(offered).unwrap_or(usize::MAX) - queued,
        arrived: inboxes.iter().map(Vec::len).sum(),
        kills: kills + 4,
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

/// SIGKILL for both, then both again.
fn restart(gateways: &mut [Gateway; 2]) -> Outcome {
    gateways.iter_mut().for_each(Gateway::kill);
    gateways.iter_mut().try_for_each(Gateway::start)
}

/// What the threads tell each other.
#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Default)]
struct State {
    /// How many messages of each side are to be acknowledged by now.
    allowed: [u64; 2],
    /// How many of each side are.
    acknowledged: [u64; 2],
    /// How often each side was started again.
    starts: [u64; 2],
    /// No more messages will be allowed.
    over: bool,
    violations: Vec<String>,
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits until something can be read from the state.
    fn wait_for<T>(&self, what: &str, mut read: impl FnMut(&State) -> Option<T>) -> Outcome<T> {
        let mut found = None;
        let waiting = |state: &mut State| {
            found = read(state);
            found.is_none()
        };
        drop(self.changed.wait_timeout_while(self.state(), STEP_LIMIT, waiting));
        found.ok_or_else(|| format!("nothing within {} s: {what}", STEP_LIMIT.as_secs()))
    }
}

/// Who kills, and when.
struct Storm<'a> {
    plan: &'a Plan,
    desk: &'a Desk,
    random: Random,
    kills: u64,
}

impl Storm<'_> {
    /// Lets messages through in rounds and kills in each; returns how often it did.
    fn rage(mut self, gateways: &mut [Gateway; 2], tell: &dyn Fn(&str)) -> Outcome<u64> {
        let each = self.plan.messages / 2;
        let mut allowed = 0;
        while self.kills < self.plan.kills {
            let victims: &[usize] = match self.random.below(5) {
                0 | 1 => &[0],
                2 | 3 => &[1],
                _ => &[0, 1],
            };
            let before = allowed;
            allowed = (each * (self.kills + 1) / (self.plan.kills + 1)).max(allowed);
            self.desk.change(|state| state.allowed = [allowed; 2]);
            // Half of the kills come as the messages are being taken, the others as they are on their way.
            let taken = if self.random.below(2) == 0 {
                0
            } else {
                self.random.below(allowed - before + 1)
            };
            let goal = before + taken;
            self.wait_until_acknowledged(victims, goal)?;
            thread::sleep(self.pause());
            for victim in victims {
                gateways.get_mut(*victim).map(Gateway::kill);
                self.kills += 1;
            }
            for victim in victims {
                gateways.get_mut(*victim).map_or(Ok(()), Gateway::start)?;
                self.desk.change(|state| state.starts[*victim] += 1);
            }
            tell(&format!(
                "kill {} of {}, at {allowed} of {each} messages each way",
                self.kills, self.plan.kills
            ));
        }
        self.desk.change(|state| state.allowed = [each; 2]);
        self.wait_until_acknowledged(&[0, 1], each)?;
        Ok(self.kills)
    }

    fn pause(&mut self) -> Duration {
        let bits = PAUSE_BITS.start + self.random.below(PAUSE_BITS.end - PAUSE_BITS.start);
        Duration::from_micros(self.random.below(1 << bits))
    }

    fn wait_until_acknowledged(&self, sides: &[usize], goal: u64) -> Outcome {
        self.desk.wait_for("messages are not taken", |state| {
            let stuck = !state.violations.is_empty();
            let reached = sides.iter().all(|side| state.acknowledged[*side] >= goal);
            (reached || stuck).then_some(())
        })
    }
}

/// One direction of the conversation.
struct Post {
    side: usize,
    socket: std::path::PathBuf,
    from: String,
    to: String,
    seed: u64,
}

/// What became of the messages of one side.
#[derive(Default)]
struct Sent {
    /// How many were offered, numbered from 0.
    offered: u64,
    /// Those that were answered `queued`: number and id.
    queued: Vec<(u64, String)>,
}

impl Sent {
    fn acknowledged(&self) -> u64 {
        u64::try_from(self.queued.len()).unwrap_or(u64::MAX)
    }
}

impl Post {
    fn new(side: usize, from: &Gateway, to: &Gateway, seed: u64) -> Self {
        Self {
            side,
            socket: from.socket(),
            from: from.principal().to_owned(),
            to: to.principal().to_owned(),
            seed,
        }
    }

    /// Offers messages until as many are acknowledged as is allowed, over as many connections as it takes. None is
    /// offered twice.
    fn send_all(&self, desk: &Desk) -> Sent {
        let mut sent = Sent::default();
        loop {
            let starts = desk.state().starts[self.side];
            let error = match self.send_over_one_connection(desk, &mut sent) {
                Ok(true) => continue,
                Ok(false) => return sent,
                Err(error) => error,
            };
            let again = desk.wait_for("a connection broke and nobody was killed", |state| {
                let restarted = state.starts[self.side] > starts;
                (restarted || state.over).then_some(restarted)
            });
            match again {
                Ok(true) => {}
                Ok(false) => return sent,
                Err(reason) => {
                    desk.change(|state| {
                        state
                            .violations
                            .push(format!("{}: {reason} ({error})", self.from))
                    });
                    return sent;
                }
            }
        }
    }

    /// Returns whether there is a reason for another connection.
    fn send_over_one_connection(&self, desk: &Desk, sent: &mut Sent) -> Result<bool, ClientError> {
        let starts = desk.state().starts[self.side];
        let mut client = Client::connect(&self.socket, Some(ANSWER_LIMIT))?;
        loop {
            let next = desk.wait_for("no more messages", |state| {
                let allowed = state.allowed[self.side];
                let restarted = state.starts[self.side] > starts;
                (allowed > sent.acknowledged() || state.over).then_some((allowed, restarted))
            });
            let Ok((allowed, restarted)) = next else {
                return Ok(false);
            };
            let missing = allowed.saturating_sub(sent.acknowledged());
            if missing == 0 || restarted {
                return Ok(restarted);
            }
            let offered = Cell::new(sent.offered);
            let calls = (sent.offered..sent.offered + missing).filter_map(|number| {
                offered.set(number + 1);
                self.call(number).ok()
            });
            let result = client.pipeline(calls, |answer| match queued(&answer) {
                Ok(entry) => {
                    sent.queued.push(entry);
                    desk.change(|state| state.acknowledged[self.side] += 1);
                }
                Err(reason) => desk.change(|state| state.violations.push(format!("{}: {reason}", self.from))),
            });
            sent.offered = offered.get();
            result?;
        }
    }

    /// One more message, which is delivered behind all others.
    fn send_last(&self, sent: &mut Sent) -> Outcome {
        let number = sent.offered;
        let mut request = self.request(number);
        request["wait"] = json!(u64::try_from(DELIVERY_LIMIT.as_millis()).unwrap_or(u64::MAX));
        sent.offered += 1;
        let answer = Client::connect(&self.socket, Some(DELIVERY_LIMIT + ANSWER_LIMIT))
            .and_then(|mut client| client.call_value(&request))
            .map_err(|error| format!("the last message of {}: {error}", self.from))?;
        sent.queued.push((number, text(&answer, "id")?));
        Ok(())
    }

    fn request(&self, number: u64) -> Value {
        json!({ "cmd": "send", "id": number, "to": self.to, "content": self.content(number) })
    }

    fn call(&self, number: u64) -> Outcome<Call> {
        Call::from_value(self.request(number)).map_err(|error| error.to_string())
    }

    /// The text of a message: its number, and something whose length and letters depend on it.
    fn content(&self, number: u64) -> String {
        let mut random = Random(self.seed ^ number.rotate_left(32) ^ self.side as u64);
        let length = if random.below(100) == 0 {
            40_000
        } else {
            random.below(200)
        };
        let letters =
            (0..length).map(|_| char::from(b'a' + u8::try_from(random.below(26)).unwrap_or_default()));
        format!("{number} {}", letters.collect::<String>())
    }

    /// Everything that is wrong with what the two sides remember.
    fn check(&self, sent: &Sent, inbox: &[Value], outbox: &[Value]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut say = |text: String| wrong.push(format!("{} -> {}: {text}", self.from, self.to));
        let mut arrived = HashMap::new();
        let mut last = None;
        for (entry, expected_sequence) in inbox.iter().zip(1_u64..) {
            let content = entry["content"].as_str().unwrap_or_default();
            let number = content
                .split(' ')
                .next()
                .and_then(|number| number.parse::<u64>().ok());
            let Some(number) =
                number.filter(|number| *number < sent.offered && self.content(*number) == content)
            else {
                say(format!("what arrived as {} was never sent", entry["arrival"]));
                continue;
            };
            if last >= Some(number) {
                say(format!("message {number} arrived behind {last:?}"));
            }
            last = Some(number);
            if entry["from"] != self.from.as_str() || entry["sequence"] != expected_sequence {
                say(format!(
                    "message {number} is {} of {}",
                    entry["sequence"], entry["from"]
                ));
            }
            if let Some(id) = entry["id"].as_str()
                && arrived.insert(id, number).is_some()
            {
                say(format!("{id} arrived twice"));
            }
        }
        for (number, id) in &sent.queued {
            if arrived.get(id.as_str()) != Some(number) {
                say(format!("message {number} ({id}) was queued and did not arrive"));
            }
        }
        for entry in outbox {
            let id = entry["id"].as_str().unwrap_or_default();
            if entry["status"] != "delivered" || !arrived.contains_key(id) {
                say(format!(
                    "the outbox has {id} as {}, arrived: {}",
                    entry["status"],
                    arrived.contains_key(id)
                ));
            }
        }
        if outbox.len() != inbox.len() {
            say(format!(
                "{} in the outbox, {} in the inbox",
                outbox.len(),
                inbox.len()
            ));
        }
        wrong
    }
}

/// The number and id of an answer that says `queued`.
fn queued(answer: &Answer) -> Outcome<(u64, String)> {
    let number = answer
        .id
        .as_ref()
        .and_then(Value::as_u64)
        .ok_or("an answer without the id of its request")?;
    let data = answer
        .result
        .as_ref()
        .map_err(|failure| format!("message {number} was refused: {failure}"))?;
    if data["status"] != "queued" {
        return Err(format!("message {number} was answered with {data}"));
    }
    Ok((number, text(data, "id")?))
}

/// All of an inbox or outbox; `place` names the field to go on behind.
pub(crate) fn entries(gateway: &Gateway, list: &str, place: &str) -> Outcome<Vec<Value>> {
    let mut client = gateway.connect()?;
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all.last().and_then(|entry| entry[place].as_u64()).unwrap_or(0);
        let request = json!({ "cmd": list, "after": after, "limit": PAGE });
        match client
            .call_value(&request)
            .map_err(|error| format!("{} of {}: {error}", list, gateway.name()))?
        {
            Value::Array(page) if page.is_empty() => return Ok(all),
            Value::Array(page) => all.extend(page),
            other => return Err(format!("{} of {} is {other}", list, gateway.name())),
        }
    }
}

/// splitmix64: all that chance needs here, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when that is 0.
    fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three messages sent and arrived, and what `change` makes of it.
    fn violations(change: impl FnOnce(&mut Vec<Value>, &mut Vec<Value>)) -> Vec<String> {
        let (from, to) = ("alice".to_owned(), "bob".to_owned());
        let post = Post {
            side: 0,
            socket: "unused".into(),
            from,
            to,
            seed: 7,
        };
        let id = |number: u64| format!("id {number}");
        let sent = Sent {
            offered: 3,
            queued: (0..3).map(|number| (number, id(number))).collect(),
        };
        let received = |number: u64| json!({ "id": id(number), "from": "alice", "sequence": number + 1, "content": post.content(number) });
        let mut inbox: Vec<Value> = (0..3).map(received).collect();
        let mut outbox: Vec<Value> = (0..3)
            .map(|number| json!({ "id": id(number), "status": "delivered" }))
            .collect();
        change(&mut inbox, &mut outbox);
        post.check(&sent, &inbox, &outbox)
    }

    #[test]
    fn the_check_sees_what_is_lost_doubled_mixed_up_or_changed() {
        assert_eq!(violations(|_, _| ()), [""; 0]);
        for found in [
            violations(|inbox, _| drop(inbox.pop())),
            violations(|inbox, _| inbox.push(inbox[2].clone())),
            violations(|inbox, _| inbox.swap(0, 1)),
            violations(|inbox, _| inbox[1]["content"] = json!("1 something else")),
            violations(|inbox, _| inbox[1]["from"] = json!("mallory")),
            violations(|_, outbox| outbox[2]["status"] = json!("sent")),
            violations(|_, outbox| drop(outbox.pop())),
        ] {
            assert_ne!(found, [""; 0]);
        }
    }
}
