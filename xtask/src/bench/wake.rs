//! Waking OpenClaw: how soon after a message is stored, and what it costs the messages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::Effort;
use super::figure::{Figure, Target};
use super::limits::percentile;
use super::process::processor_time;
use super::traffic::Line;
use crate::gateways::{Gateway, Outcome, pair};
use crate::say;

/// Messages of one window: about two seconds of them, so that an agent is woken more than once in it.
const WINDOW: u64 = 10_000;
/// Pairs of windows, one with wakes and one without, right after each other. Each pair says how much slower the one is,
/// and the middle one counts, so that what else this machine does disturbs both sides alike.
const PAIRS: usize = 15;
/// Messages before anything is measured.
const WARM_UP: u64 = 2_000;
/// Between two wakes that are timed: the gateway rests after each.
const REST: Duration = Duration::from_millis(1_500);
/// How long a wake may take.
const WAKE_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks whether it has happened.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What waking costs.
pub(super) fn measure(folder: &Path, effort: &Effort) -> Outcome<Vec<Figure>> {
    say("waking OpenClaw (a program that only notes when it was run)");
    let gateways = pair(&folder.join("clawchatd"))?;
    let [alice, bob] = &gateways;
    let mut line = Line::open(alice, bob)?;
    line.plain(WARM_UP)?;
    let recorder = Recorder::new()?;
    recorder.switch(bob, true)?;
    // Before the windows: a sender that wakes too often is not listened to for a minute.
    let mut times = Vec::new();
    for _ in 0..effort.wakes {
        recorder.forget()?;
        let before = SystemTime::now();
        line.one_at_a_time(1)?;
        let woken = recorder.wait()?;
        let stored = newest(bob, before)?;
        // The file's clock is a few milliseconds coarse.
        times.push(woken.duration_since(stored).unwrap_or_default());
        thread::sleep(REST);
    }
    times.sort_unstable();

    let woken_before = wakes(bob)?;
    let (mut rates, mut work) = (Vec::with_capacity(PAIRS), Vec::with_capacity(PAIRS));
    for round in 0..PAIRS {
        let mut window = |on| {
            recorder.switch(bob, on)?;
            let before = processor_time(&gateways).unwrap_or_default();
            let took = line.plain(WINDOW)?.delivered.as_secs_f64();
            let worked = processor_time(&gateways).unwrap_or_default();
            Ok::<_, String>((took, worked.saturating_sub(before).as_secs_f64()))
        };
        // Each goes first in every other pair: the longer the inbox, the slower the second.
        let (without, with) = if round % 2 == 0 {
            (window(false)?, window(true)?)
        } else {
            let with = window(true)?;
            (window(false)?, with)
        };
        rates.push(without.0 / with.0);
        work.push(with.1 / without.1);
    }
    let woken = wakes(bob)? - woken_before;
    rates.sort_unstable_by(f64::total_cmp);
    work.sort_unstable_by(f64::total_cmp);
    let of_pairs = |sorted: &[f64], percent: usize| sorted[(sorted.len() - 1) * percent / 100];
    let millis = |percent: usize| percentile(&times, percent).as_secs_f64() * 1000.0;
    Ok(vec![
        Figure::new("from a message stored to OpenClaw run, p50", millis(50), "ms"),
        Figure::new("  the slowest", millis(100), "ms").target(Target::AtMost(50.0)),
        Figure::new(
            &format!("message rate with wakes ({woken:.0} of them) beside that without"),
            of_pairs(&rates, 50),
            "times",
        )
        .target(Target::AtLeast(0.95)),
        Figure::new(
            "  in a quarter of the pairs at most",
            of_pairs(&rates, 25),
            "times",
        ),
        Figure::new(
            "  in a quarter of the pairs at least",
            of_pairs(&rates, 75),
            "times",
        ),
        Figure::new(
            "  processor time of both gateways with wakes beside that without",
            of_pairs(&work, 50),
            "times",
        ),
    ])
}

/// In place of OpenClaw: leaves a file whenever it is run.
struct Recorder {
    folder: tempfile::TempDir,
}

impl Recorder {
    fn new() -> Outcome<Self> {
        let folder = tempfile::Builder::new()
            .prefix("clawchat-wake-")
            .tempdir()
            .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        let recorder = Self { folder };
        let (program, notes) = (recorder.program(), recorder.notes());
        let script = format!("#!/bin/sh\n: > \"{}/$$\"\n", notes.display());
        fs::create_dir(&notes)
            .and_then(|()| fs::write(&program, script))
            .and_then(|()| fs::set_permissions(&program, fs::Permissions::from_mode(0o700)))
            .map_err(|error| format!("{}: {error}", program.display()))?;
        Ok(recorder)
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("openclaw")
    }

    fn notes(&self) -> PathBuf {
        self.folder.path().join("notes")
    }

    /// Lets a gateway run it, or not.
    fn switch(&self, gateway: &Gateway, on: bool) -> Outcome {
        let path = gateway.home().join("gateway-config.json");
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read(&path).map_err(|error| failed(&error))?;
        let mut config: Map<String, Value> = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
        config.insert("wake".to_owned(), json!({ "openclaw": self.program() }));
        let identities = config.get_mut("identities").and_then(Value::as_array_mut);
        for identity in identities.into_iter().flatten() {
            identity["openclawWake"] = json!(on);
        }
        fs::write(&path, Value::from(config).to_string()).map_err(|error| failed(&error))?;
        gateway.ask(&json!({ "cmd": "reload" })).map(drop)
    }

    /// Removes the notes so far.
    fn forget(&self) -> Outcome {
        for note in self.all()? {
            fs::remove_file(&note).map_err(|error| format!("{}: {error}", note.display()))?;
        }
        Ok(())
    }

    /// Waits until it is run; when that was.
    fn wait(&self) -> Outcome<SystemTime> {
        let begun = Instant::now();
        loop {
            if let Some(note) = self.all()?.first() {
                return fs::metadata(note)
                    .and_then(|found| found.modified())
                    .map_err(|error| format!("{}: {error}", note.display()));
            }
            if begun.elapsed() > WAKE_LIMIT {
                return Err(format!("no wake within {} s", WAKE_LIMIT.as_secs()));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn all(&self) -> Outcome<Vec<PathBuf>> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.notes().display());
        fs::read_dir(self.notes())
            .map_err(failed)?
            .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
            .collect()
    }
}

/// How often a gateway has woken its agent.
fn wakes(gateway: &Gateway) -> Outcome<f64> {
    let status = gateway.ask(&json!({ "cmd": "status" }))?;
    let sent = status["wake"]["sent"].as_f64();
    sent.ok_or_else(|| format!("no wakes in the status: {status}"))
}

/// When the last message arrived, which was not before `since`.
fn newest(gateway: &Gateway, since: SystemTime) -> Outcome<SystemTime> {
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let since = u64::try_from(since.as_millis()).unwrap_or_default();
    let messages = gateway.ask(&json!({ "cmd": "recv", "since": since.saturating_sub(1) }))?;
    let last = messages.as_array().and_then(|messages| messages.last());
    let millis = last.and_then(|message| message["receivedAt"].as_u64());
    millis
        .map(|millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
        .ok_or_else(|| format!("the newest message is {last:?}"))
}
