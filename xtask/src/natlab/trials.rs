//! What happens to a conversation when the network changes under it: nothing may be lost, nothing doubled.

use std::thread;
use std::time::{Duration, Instant};

use super::cells::After;
use super::kind::Kind;
use super::member::Programs;
use super::space::Lab;
use super::talk::{Route, Talk};
use super::world::{Crossed, Side, World};
use crate::gateways::Outcome;

/// How long the first message may take.
const FIRST_LIMIT: Duration = Duration::from_secs(30);
/// How long a pair that can may take to do without the relay.
const PUNCH_LIMIT: Duration = Duration::from_secs(10);
/// How long messages may take once the network is whole again: longer than a session lives without a sign of the other.
const HEAL_LIMIT: Duration = Duration::from_secs(150);
/// How long a conversation may stand still when its relay dies.
const FAILOVER_LIMIT: Duration = Duration::from_secs(15);
/// How long it may when one side goes to another network.
const ROAM_LIMIT: Duration = Duration::from_secs(15);
/// How long a pair may stay with the relay once it can do without: until the second retry.
const LATE_LIMIT: Duration = Duration::from_secs(200);
/// How long the old address of a router may be told: until the next search for it but one.
const RENUMBER_LIMIT: Duration = Duration::from_secs(200);
/// Messages of each side in each part of a trial.
const MESSAGES: usize = 5;
/// How long a network is cut off: shorter than a session lives without a sign of the other, and longer.
const CUTS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(100)];
/// Between two messages of a conversation that goes on while something happens to it.
const PAUSE: Duration = Duration::from_millis(100);

/// One of them.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) name: &'static str,
    /// Whether it belongs to the short form.
    pub(super) quick: bool,
    kinds: [Kind; 2],
    relays: usize,
    /// Returns what was proven.
    play: fn(&mut World<'_>, &mut Talk<'_>) -> Outcome<String>,
}

/// All of them.
pub(super) const TRIALS: [Trial; 9] = [
    Trial {
        name: "relay-death",
        quick: true,
        kinds: [Kind::Symmetric, Kind::Symmetric],
        relays: 2,
        play: relay_death,
    },
    Trial {
        name: "relay-silence",
        quick: false,
        kinds: [Kind::Symmetric, Kind::Symmetric],
        relays: 2,
        play: relay_silence,
    },
    Trial {
        name: "relay-death-direct",
        quick: false,
        kinds: [Kind::PortRestricted, Kind::PortRestricted],
        relays: 1,
        play: relay_death_beside,
    },
    Trial {
        name: "partition",
        quick: true,
        kinds: [Kind::PortRestricted, Kind::PortRestricted],
        relays: 1,
        play: |world, talk| partition(world, talk, CUTS[0]),
    },
    Trial {
        name: "long-partition",
        quick: false,
        kinds: [Kind::PortRestricted, Kind::Symmetric],
        relays: 1,
        play: |world, talk| partition(world, talk, CUTS[1]),
    },
    Trial {
        name: "roaming-caller",
        quick: false,
        kinds: [Kind::PortRestricted, Kind::Public],
        relays: 1,
        play: |world, talk| roam(world, talk, Side::A),
    },
    Trial {
        name: "roaming-called",
        quick: false,
        kinds: [Kind::PortRestricted, Kind::PortRestricted],
        relays: 1,
        play: |world, talk| roam(world, talk, Side::B),
    },
    Trial {
        name: "late-punch",
        quick: false,
        kinds: [Kind::PortRestricted, Kind::PortRestricted],
        relays: 1,
        play: punch_late,
    },
    Trial {
        name: "router-renumbered",
        quick: false,
        kinds: [Kind::Symmetric, Kind::Upnp],
        relays: 1,
        play: renumber,
    },
];

impl Trial {
    /// Whether it takes a router that forwards ports when asked to.
    pub(super) fn takes_igd(&self) -> bool {
        self.kinds.contains(&Kind::Upnp)
    }

    /// Plays it in a world of its own.
    pub(super) fn play(&self, lab: &Lab, programs: &Programs, after: After<'_>) -> Outcome<String> {
        let mut world = World::build(lab, self.kinds)?;
        let mut talk = Talk::begin(&world, programs, self.relays)?;
        let outcome = self.prepare_and_play(&mut world, &mut talk);
        after(&world, &talk, outcome.is_err());
        outcome
    }

    fn prepare_and_play(&self, world: &mut World<'_>, talk: &mut Talk<'_>) -> Outcome<String> {
        let [a, b] = self.kinds;
        talk.introduce(world, b)?;
        say_some(world, talk, FIRST_LIMIT, "at the start")?;
        if a.can_meet(b) && talk.straight(world, PUNCH_LIMIT, PAUSE)?.is_none() {
            return Err(format!(
                "relayed for {} s, though they can meet",
                PUNCH_LIMIT.as_secs()
            ));
        }
        let proven = (self.play)(world, talk)?;
        let count = talk.check()?;
        Ok(format!("{proven}; {count} messages, each once and in order"))
    }
}

/// The relay that carries the conversation dies while both sides talk.
fn relay_death(world: &mut World<'_>, talk: &mut Talk<'_>) -> Outcome<String> {
    fail_over(world, talk, "died", |_, talk, carrier| {
        let carrier = talk.relays.get_mut(carrier);
        carrier.ok_or("there is no such relay")?.kill();
        Ok(())
    })
}

/// The same, but it keeps its connections and says nothing any more.
fn relay_silence(world: &mut World<'_>, talk: &mut Talk<'_>) -> Outcome<String> {
    fail_over(world, talk, "fell silent", |world, _, carrier| {
        world.cut_server(carrier)
    })
}

/// Something happens to the relay that carries the conversation while both sides talk.
fn fail_over(
    world: &mut World<'_>,
    talk: &mut Talk<'_>,
    what: &str,
    happen: impl Fn(&World<'_>, &mut Talk<'_>, usize) -> Outcome,
) -> Outcome<String> {
    let before = world.crossed()?;
    talk.route(world, FIRST_LIMIT)?
        .ok_or("a message did not arrive")?;
    let carrier = busiest(before, world.crossed()?);
    for _ in 0..MESSAGES {
        talk.send(Side::A, 0)?;
        talk.send(Side::B, 0)?;
    }
    let begun = Instant::now();
    happen(world, talk, carrier)?;
    say_some(world, talk, HEAL_LIMIT, &format!("after the relay {what}"))?;
    let still = begun.elapsed();
    if still > FAILOVER_LIMIT {
        return Err(format!(
            "the conversation stood still for {:.1} s when its relay {what}; {} s are allowed",
            still.as_secs_f64(),
            FAILOVER_LIMIT.as_secs()
        ));
    }
    Ok(format!(
        "relay {} {what}, and the other carried everything within {:.1} s",
        carrier + 1,
        still.as_secs_f64()
    ))
}

/// The relay dies that brought two together who do without it since.
fn relay_death_beside(world: &mut World<'_>, talk: &mut Talk<'_>) -> Outcome<String> {
    talk.relays.iter_mut().for_each(|relay| relay.kill());
    let begun = Instant::now();
    say_some(world, talk, FAILOVER_LIMIT, "after the relay died")?;
    if talk.route(world, FIRST_LIMIT)? != Some(Route::Straight) {
        return Err("messages do not go straight".to_owned());
    }
    Ok(format!(
        "nobody noticed ({:.2} s for the next messages)",
        begun.elapsed().as_secs_f64()
    ))
}

/// One side is cut off while both hand over messages, and connected again.
fn partition(world: &mut World<'_>, talk: &mut Talk<'_>, length: Duration) -> Outcome<String> {
    world.cut(Side::B)?;
    let end = Instant::now() + length;
    for _ in 0..MESSAGES {
        talk.send(Side::A, 0)?;
        talk.send(Side::B, 0)?;
    }
    while Instant::now() < end {
        world.lab().check()?;
        thread::sleep(PAUSE);
    }
    world.heal()?;
    let begun = Instant::now();
    say_some(world, talk, HEAL_LIMIT, "after the cut")?;
    Ok(format!(
        "cut off for {} s, and everything there {:.1} s later",
        length.as_secs(),
        begun.elapsed().as_secs_f64()
    ))
}

/// One side goes to another network while both hand over messages.
fn roam(world: &mut World<'_>, talk: &mut Talk<'_>, who: Side) -> Outcome<String> {
    let before = world.address(who);
    world.roam(who)?;
    let begun = Instant::now();
    say_some(world, talk, HEAL_LIMIT, "after the move")?;
    let back = begun.elapsed();
    if back > ROAM_LIMIT {
        return Err(format!(
            "everything was there {:.1} s after the move; {} s are allowed",
            back.as_secs_f64(),
            ROAM_LIMIT.as_secs()
        ));
    }
    if talk.straight(world, PUNCH_LIMIT, PAUSE)?.is_none() {
        return Err(format!(
            "relayed for {} s after the move, though they can meet",
            PUNCH_LIMIT.as_secs()
        ));
    }
    Ok(format!(
        "from {before} to {}: everything there after {:.1} s, straight after {:.1} s",
        world.address(who),
        back.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    ))
}

/// For a while the two reach each other through the relay only, and no hole can be punched.
fn punch_late(world: &mut World<'_>, talk: &mut Talk<'_>) -> Outcome<String> {
    world.cut_between()?;
    say_some(world, talk, HEAL_LIMIT, "by the relay alone")?;
    if talk.route(world, FIRST_LIMIT)? != Some(Route::Relay) {
        return Err("messages go where nothing passes".to_owned());
    }
    // Long enough for every attempt at punching to fail.
    let end = Instant::now() + PUNCH_LIMIT;
    while Instant::now() < end {
        world.lab().check()?;
        thread::sleep(PAUSE);
    }
    world.heal()?;
    match talk.straight(world, LATE_LIMIT, PAUSE)? {
        Some(after) => Ok(format!(
            "straight {:.0} s after that was possible",
            after.as_secs_f64()
        )),
        None => Err(format!(
            "relayed for {} s, though they can meet",
            LATE_LIMIT.as_secs()
        )),
    }
}

/// The router that forwards ports to one side gets another address, as many do every night.
fn renumber(world: &mut World<'_>, talk: &mut Talk<'_>) -> Outcome<String> {
    world.renumber(Side::B)?;
    let begun = Instant::now();
    say_some(world, talk, HEAL_LIMIT, "with another address")?;
    let back = begun.elapsed();
    let address = world.address(Side::B).to_string();
    let told = world.lab().until(begun + RENUMBER_LIMIT, || {
        let status = talk.b.status()?;
        let mapped = status["nat"]["mapped"].as_array().cloned().unwrap_or_default();
        let is_new = |entry: &serde_json::Value| {
            entry
                .as_str()
                .is_some_and(|text| text.starts_with(&format!("/ip4/{address}/")))
        };
        Ok((!mapped.is_empty() && mapped.iter().all(is_new)).then(|| begun.elapsed()))
    })?;
    let told =
        told.ok_or_else(|| format!("the new address is not told after {} s", RENUMBER_LIMIT.as_secs()))?;
    if talk.straight(world, PUNCH_LIMIT, PAUSE)?.is_none() {
        return Err(format!(
            "relayed for {} s with the new address",
            PUNCH_LIMIT.as_secs()
        ));
    }
    Ok(format!(
        "everything there after {:.1} s, the new address told after {:.0} s",
        back.as_secs_f64(),
        told.as_secs_f64()
    ))
}

/// Both sides say some more, and all that was said so far has to arrive.
fn say_some(world: &World<'_>, talk: &mut Talk<'_>, limit: Duration, when: &str) -> Outcome {
    let begun = Instant::now();
    for _ in 0..MESSAGES {
        talk.send(Side::A, 0)?;
        talk.send(Side::B, 0)?;
    }
    for (side, name) in [(Side::B, "bob"), (Side::A, "alice")] {
        if !talk.arrived(world, side, limit.saturating_sub(begun.elapsed()))? {
            let state = talk.check().err().unwrap_or_default();
            return Err(format!(
                "not everything of {name} arrived in {} s {when}: {state}",
                limit.as_secs()
            ));
        }
    }
    Ok(())
}

/// The server that carried most in between.
fn busiest(before: Crossed, after: Crossed) -> usize {
    let [one, two] = [0, 1].map(|server: usize| {
        let of = |crossed: Crossed| crossed.with_servers.get(server).copied().unwrap_or_default();
        of(after) - of(before)
    });
    usize::from(two > one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_server_is_the_one_whose_count_grew_most() {
        let crossed = |with_servers| Crossed {
            between_sites: 0,
            with_servers,
        };
        assert_eq!(busiest(crossed([9000, 0]), crossed([9100, 5000])), 1);
        assert_eq!(busiest(crossed([0, 9000]), crossed([100, 9000])), 0);
    }

    #[test]
    fn every_trial_has_a_name_of_its_own_and_enough_relays() {
        for (index, trial) in TRIALS.iter().enumerate() {
            assert!(TRIALS[..index].iter().all(|earlier| earlier.name != trial.name));
            let [a, b] = trial.kinds;
            assert!(trial.relays > 0, "{a} {b}");
        }
    }
}
