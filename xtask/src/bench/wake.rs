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

/// Messages of one window.
const WINDOW: u64 = 2_000;
/// Windows with and without wakes, in turns; the quickest of each is the least disturbed by others on this machine.
const WINDOWS: usize = 10;
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
    line.plain(WINDOW)?;
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

    let (mut with, mut without) = (Duration::MAX, Duration::MAX);
    let (mut work_with, mut work_without) = (Duration::ZERO, Duration::ZERO);
    let work = || processor_time(&gateways).unwrap_or_default();
    for round in 0..WINDOWS {
        let mut turns = [
            (false, &mut without, &mut work_without),
            (true, &mut with, &mut work_with),
        ];
        if round % 2 == 1 {
            turns.reverse();
        }
        for (on, best, sum) in turns {
            recorder.switch(bob, on)?;
            let before = work();
            *best = line.plain(WINDOW)?.delivered.min(*best);
            *sum += work().saturating_sub(before);
        }
    }
    let millis = |percent: usize| percentile(&times, percent).as_secs_f64() * 1000.0;
    Ok(vec![
        Figure::new("from a message stored to OpenClaw run, p50", millis(50), "ms"),
        Figure::new("  the slowest", millis(100), "ms").target(Target::AtMost(50.0)),
        Figure::new(
            "message rate with wakes beside that without",
            without.as_secs_f64() / with.as_secs_f64(),
            "times",
        )
        .target(Target::AtLeast(0.95)),
        Figure::new(
            "  processor time of both gateways with wakes beside that without",
            work_with.as_secs_f64() / work_without.as_secs_f64(),
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
