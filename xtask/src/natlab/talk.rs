//! Two gateways in a world that send each other messages, and the check that each arrived, once and in order.

use std::thread;
use std::time::{Duration, Instant};

use super::kind::Kind;
use super::member::{Member, Programs};
use super::world::{Side, World};
use crate::gateways::Outcome;

/// Bytes of a message that shows which way it takes: many more than all that is said besides.
const MARK_BYTES: usize = 16 * 1024;
/// Messages told about when they are missing; the rest is counted.
const TOLD: usize = 5;

/// The two, the relays they know, and what they have said.
pub(super) struct Talk<'a> {
    pub(super) a: Member<'a>,
    pub(super) b: Member<'a>,
    pub(super) relays: Vec<Member<'a>>,
    /// What A has sent, and what B has.
    sent: [Vec<String>; 2],
}

/// Where a message went along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// From one to the other.
    Straight,
    /// By a server.
    Relay,
}

impl<'a> Talk<'a> {
    /// Starts all of them in a world, with that many relays.
    pub(super) fn begin(world: &World<'_>, programs: &'a Programs, relays: usize) -> Outcome<Self> {
        let relays = (0..relays)
            .map(|index| {
                let (space, _) = world.server(index);
                Member::relay(programs, space, &format!("relay{}", index + 1))
            })
            .collect::<Outcome<Vec<_>>>()?;
        let known: Vec<String> = relays
            .iter()
            .enumerate()
            .flat_map(|(index, relay)| relay.addresses(world.server(index).1))
            .collect();
        let client = |side, name| Member::client(programs, world.host(side), name, &known);
        let (a, b) = (client(Side::A, "alice")?, client(Side::B, "bob")?);
        Ok(Self {
            a,
            b,
            relays,
            sent: Default::default(),
        })
    }

    /// Waits until B, which is of that kind, can be reached, and gives A the invite. `None` when B says that nobody can
    /// reach it; A has the invite then all the same.
    pub(super) fn introduce(&self, world: &World<'_>, kind: Kind) -> Outcome<Option<Duration>> {
        let ready = match kind {
            Kind::Public => Some(Duration::ZERO),
            Kind::Upnp => self.b.mapped(world.lab())?,
            _ => self.b.ready(world.lab(), self.relays.len())?,
        };
        self.a.add(&self.b, "bob")?;
        Ok(ready)
    }

    /// Hands over the next message of one side, with that many bytes at least.
    pub(super) fn send(&mut self, from: Side, length: usize) -> Outcome {
        let (sender, receiver, sent) = match (from, &mut self.sent) {
            (Side::A, [sent, _]) => (&self.a, &self.b, sent),
            (Side::B, [_, sent]) => (&self.b, &self.a, sent),
        };
        let mut content = format!("{} {}", if from == Side::A { "a" } else { "b" }, sent.len());
        if content.len() < length {
            content.push(' ');
            content.extend(std::iter::repeat_n('.', length - content.len()));
        }
        sender.send(receiver.principal(), &content)?;
        sent.push(content);
        Ok(())
    }

    /// Waits until everything one side has sent has arrived. Whether it has in time.
    pub(super) fn arrived(&mut self, world: &World<'_>, from: Side, limit: Duration) -> Outcome<bool> {
        let (receiver, sent) = match (from, &self.sent) {
            (Side::A, [sent, _]) => (&mut self.b, sent),
            (Side::B, [_, sent]) => (&mut self.a, sent),
        };
        let all = world.lab().until(Instant::now() + limit, || {
            Ok((receiver.received()?.len() >= sent.len()).then_some(()))
        })?;
        Ok(all.is_some())
    }

    /// Sends a message large enough to be seen, and looks which way it went. `None` when it did not arrive.
    pub(super) fn route(&mut self, world: &World<'_>, limit: Duration) -> Outcome<Option<Route>> {
        let before = world.crossed()?;
        self.send(Side::A, MARK_BYTES)?;
        if !self.arrived(world, Side::A, limit)? {
            return Ok(None);
        }
        let after = world.crossed()?;
        let straight = after.between_sites - before.between_sites;
        let enough = u64::try_from(MARK_BYTES).unwrap_or(u64::MAX);
        Ok(Some(if straight >= enough {
            Route::Straight
        } else {
            Route::Relay
        }))
    }

    /// Sends such messages until one goes straight; how long that took, `None` when none did in time.
    pub(super) fn straight(
        &mut self,
        world: &World<'_>,
        limit: Duration,
        pause: Duration,
    ) -> Outcome<Option<Duration>> {
        let begun = Instant::now();
        while let Some(route) = self.route(world, limit)? {
            if route == Route::Straight {
                return Ok(Some(begun.elapsed()));
            }
            if begun.elapsed() >= limit {
                break;
            }
            thread::sleep(pause);
        }
        Ok(None)
    }

    /// Whether either side holds a connection with the other that a relay arranged.
    pub(super) fn has_punched(&self) -> Outcome<bool> {
        Ok(self.a.has_punched(&self.b)? || self.b.has_punched(&self.a)?)
    }

    /// That everything sent has arrived, once and in order; how many messages that were.
    pub(super) fn check(&mut self) -> Outcome<usize> {
        let [from_a, from_b] = &self.sent;
        let complaints: Vec<String> = [
            compare("bob", from_a, self.b.received()?),
            compare("alice", from_b, self.a.received()?),
        ]
        .into_iter()
        .filter_map(Result::err)
        .collect();
        if !complaints.is_empty() {
            return Err(complaints.join("; "));
        }
        Ok(from_a.len() + from_b.len())
    }

    /// Everybody.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member<'a>> {
        [&self.a, &self.b].into_iter().chain(&self.relays)
    }
}

/// What is missing, doubled or out of order in what `who` has received.
fn compare(who: &str, sent: &[String], received: &[String]) -> Outcome {
    if sent == received {
        return Ok(());
    }
    let name = |content: &String| content.chars().take(8).collect::<String>().trim().to_owned();
    let lost: Vec<String> = sent
        .iter()
        .filter(|content| !received.contains(content))
        .map(name)
        .collect();
    let mut seen = std::collections::HashSet::new();
    let doubled = received.iter().filter(|content| !seen.insert(*content)).count();
    Err(if lost.is_empty() && doubled == 0 {
        format!("{who} received {} messages, not in their order", received.len())
    } else {
        format!(
            "{who} received {} of {} messages; {doubled} doubled; {} lost: {}",
            received.len(),
            sent.len(),
            lost.len(),
            lost.get(..TOLD.min(lost.len())).unwrap_or_default().join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_told() {
        let texts = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let sent = texts(&["a 0", "a 1", "a 2"]);
        assert!(compare("bob", &sent, &sent).is_ok());
        let told = |received: &[&str]| compare("bob", &sent, &texts(received)).unwrap_err();
        assert!(told(&["a 0", "a 2"]).contains("1 lost: a 1"));
        assert!(told(&["a 0", "a 1", "a 1", "a 2"]).contains("1 doubled; 0 lost"));
        assert!(told(&["a 1", "a 0", "a 2"]).contains("not in their order"));
        assert!(told(&["a 0", "a 1", "a 2", "b 7"]).contains("received 4"));
    }
}
