//! The matrix: one gateway writes to another for the first time, for each pair of kinds.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::kind::Kind;
use super::member::Programs;
use super::space::Lab;
use super::talk::{Route, Talk};
use super::world::{Side, World};
use crate::gateways::Outcome;

/// How long the first message may take.
const FIRST_LIMIT: Duration = Duration::from_secs(30);
/// How long two that can meet may take for a connection without a relay.
const PUNCH_LIMIT: Duration = Duration::from_secs(5);
/// How long messages may go on by the relay: they move over once what is under way has arrived.
const STRAIGHT_LIMIT: Duration = Duration::from_secs(10);
/// How long the others are watched.
const WATCH: Duration = Duration::from_secs(1);
/// Between two messages that show which way they take.
const PAUSE: Duration = Duration::from_millis(100);

/// How two gateways ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// The first of them could dial the other.
    Direct,
    /// A relay brought them together, and they talk without it.
    Punched,
    /// By a relay.
    Relayed,
    /// Not at all.
    Nothing,
}

impl Path {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Punched => "punched",
            Self::Relayed => "relayed",
            Self::Nothing => "none",
        }
    }
}

/// What became of one pair.
pub(super) struct Cell {
    pub(super) kinds: [Kind; 2],
    pub(super) path: Path,
    /// From handing the first message over until it was there.
    pub(super) first: Option<Duration>,
    /// From the first message until a daemon said that it had punched a connection.
    pub(super) punched: Option<Duration>,
    /// From the first message until messages went straight, as counted on the public segment.
    pub(super) straight: Option<Duration>,
    /// What is wrong with the messages.
    pub(super) complaint: Option<String>,
    /// What is wrong with the way they take.
    pub(super) detour: Option<String>,
}

impl Cell {
    /// One of the lines of `--json`.
    pub(super) fn to_json(&self) -> Value {
        let [a, b] = self.kinds.map(Kind::name);
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        json!({
            "a": a, "b": b, "path": self.path.name(), "arrived": self.first.is_some(),
            "firstMessageSeconds": seconds(self.first), "punchedAfterSeconds": seconds(self.punched),
            "directAfterSeconds": seconds(self.straight),
            "ok": self.complaint.is_none() && self.detour.is_none(),
            "complaint": self.complaint.as_ref().or(self.detour.as_ref()),
        })
    }
}

/// Called while everything still stands, with whether something is not as it should be.
pub(super) type After<'f> = &'f dyn Fn(&World<'_>, &Talk<'_>, bool);

/// Plays one pair.
pub(super) fn play(lab: &Lab, programs: &Programs, kinds: [Kind; 2], after: After<'_>) -> Outcome<Cell> {
    let world = World::build(lab, kinds)?;
    let mut talk = Talk::begin(&world, programs, 1)?;
    let played = converse(&world, &mut talk, kinds);
    let wrong = played
        .as_ref()
        .map_or(true, |cell| cell.complaint.is_some() || cell.detour.is_some());
    after(&world, &talk, wrong);
    played
}

fn converse(world: &World<'_>, talk: &mut Talk<'_>, kinds: [Kind; 2]) -> Outcome<Cell> {
    let ready = talk.introduce(world, kinds[1])?;
    let mut cell = Cell {
        kinds,
        path: Path::Nothing,
        first: None,
        punched: None,
        straight: None,
        complaint: None,
        detour: None,
    };
    let begun = Instant::now();
    talk.send(Side::A, 0)?;
    if !talk.arrived(world, Side::A, FIRST_LIMIT)? {
        cell.complaint = Some(match ready {
            Some(_) => "the first message did not arrive".to_owned(),
            None => "the first message did not arrive; nobody could reach the other side".to_owned(),
        });
        return Ok(cell);
    }
    cell.first = Some(begun.elapsed());
    let [a, b] = kinds;
    let can_meet = a.can_meet(b);
    let limit = if can_meet { STRAIGHT_LIMIT } else { WATCH };
    watch(world, talk, begun, limit, &mut cell)?;
    talk.send(Side::B, 0)?;
    if !talk.arrived(world, Side::B, FIRST_LIMIT)? {
        cell.complaint = Some("the answer did not arrive".to_owned());
        return Ok(cell);
    }
    cell.complaint = talk.check().err();
    cell.detour = match () {
        () if can_meet && cell.straight.is_none() => Some(match cell.punched {
            Some(_) => format!(
                "punched, but messages go by the relay for {} s",
                STRAIGHT_LIMIT.as_secs()
            ),
            None => format!("relayed for {} s, though they can meet", STRAIGHT_LIMIT.as_secs()),
        }),
        () if cell.punched.is_some_and(|time| time > PUNCH_LIMIT) => Some("punched too late".to_owned()),
        () if b.is_public() && cell.path != Path::Direct => {
            Some("not direct, though the other side is public".to_owned())
        }
        () => None,
    };
    Ok(cell)
}

/// Sends messages until one goes straight, and notes what the daemons say.
fn watch(
    world: &World<'_>,
    talk: &mut Talk<'_>,
    begun: Instant,
    limit: Duration,
    cell: &mut Cell,
) -> Outcome {
    cell.path = Path::Relayed;
    while begun.elapsed() < limit {
        if cell.punched.is_none() && talk.has_punched()? {
            cell.punched = Some(begun.elapsed());
        }
        if talk.route(world, limit)? == Some(Route::Straight) {
            cell.straight = Some(begun.elapsed());
            // It may have happened since.
            if cell.punched.is_none() && talk.has_punched()? {
                cell.punched = cell.straight;
            }
            cell.path = match cell.punched {
                Some(_) => Path::Punched,
                None => Path::Direct,
            };
            break;
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
