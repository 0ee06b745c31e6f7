//! One run of a peer, or of another program that says what happens as one JSON object a line.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::gateways::{Outcome, text};

/// Events read ahead of whoever looks at them. A peer that says more waits.
const EVENTS_AHEAD: usize = 1024;
/// Lines kept to be shown when something goes wrong.
const LINES_KEPT: usize = 30;
/// Characters of a line that are shown.
const LINE_SHOWN: usize = 400;
/// How long the peer may take until it listens: Node reads a thousand files before.
const START_LIMIT: Duration = Duration::from_secs(180);

/// The last lines somebody printed.
#[derive(Clone, Default)]
pub(crate) struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    pub(super) fn push(&self, line: &str) {
        let shown: String = line.chars().take(LINE_SHOWN).collect();
        let more = if shown.len() < line.len() { " …" } else { "" };
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(format!("{shown}{more}"));
    }

    pub(super) fn all(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }
}

/// A running peer. Dropping it kills the process.
pub(crate) struct Peer {
    name: String,
    process: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
    deadline: Instant,
}

impl Peer {
    /// Starts `command` and waits until it listens. All later waiting ends at `deadline`. What it prints is kept in
    /// `lines` too.
    pub(crate) fn start(name: &str, command: Command, deadline: Instant, lines: LastLines) -> Outcome<Self> {
        Self::start_until(name, command, "listening", deadline, lines)
    }

    /// The same for a program that says with another event that it is ready.
    pub(crate) fn start_until(
        name: &str,
        mut command: Command,
        ready: &str,
        deadline: Instant,
        lines: LastLines,
    ) -> Outcome<Self> {
        let shown: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let program = command.get_program().to_string_lossy();
        lines.push(&format!("$ {program} {}", shown.join(" ")));
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))?;
        let (sender, events) = sync_channel(EVENTS_AHEAD);
        read_events(process.stdout.take(), lines.clone(), sender);
        read_complaints(process.stderr.take(), lines);
        let mut peer = Self {
            name: name.to_owned(),
            process,
            events,
            seen: Vec::new(),
            deadline: deadline.min(Instant::now() + START_LIMIT),
        };
        peer.event(ready)?;
        peer.deadline = deadline;
        Ok(peer)
    }

    /// The first event of that name, which may have happened already.
    pub(crate) fn event(&mut self, name: &str) -> Outcome<Value> {
        self.events(name, 1)?
            .pop()
            .ok_or_else(|| format!("{}: no {name}", self.name))
    }

    /// At least `count` events of that name, in their order.
    pub(crate) fn events(&mut self, name: &str, count: usize) -> Outcome<Vec<Value>> {
        let mut missing = count.saturating_sub(self.so_far(name).len());
        while missing > 0 {
            self.receive(&format!("{name}, {missing} of {count}"))?;
            missing -= usize::from(self.seen.last().is_some_and(|event| is(event, name)));
        }
        Ok(self.so_far(name))
    }

    /// Events of that name that have happened by now.
    pub(crate) fn so_far(&mut self, name: &str) -> Vec<Value> {
        self.seen.extend(self.events.try_iter());
        let found = self.seen.iter().filter(|event| is(event, name));
        found.cloned().collect()
    }

    /// Waits until it has done all it was asked to and has ended; everything it said.
    pub(crate) fn finish(mut self) -> Outcome<Vec<Value>> {
        let done = self.event("done")?;
        if done["ok"] != true {
            return Err(self.complaint("it did not do what it was asked to"));
        }
        self.wait()?;
        Ok(std::mem::take(&mut self.seen))
    }

    /// SIGTERM, and waits until it has ended. It must have done all it was asked to before.
    pub(crate) fn dismiss(self) -> Outcome {
        self.terminate()?;
        let said = self.finish()?;
        match said.iter().find(|event| is(event, "done")) {
            Some(done) if done["invalid"].as_u64().unwrap_or(0) > 0 => {
                Err(format!("it received what is not valid: {done}"))
            }
            _ => Ok(()),
        }
    }

    /// Waits until it has ended and failed; everything it said.
    pub(crate) fn fail(mut self) -> Outcome<Vec<Value>> {
        let done = self.event("done")?;
        if done["ok"] != false {
            return Err(self.complaint("it was to fail, and did not"));
        }
        self.wait()?;
        Ok(std::mem::take(&mut self.seen))
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and waits until it has ended.
    pub(crate) fn stop(mut self) -> Outcome {
        self.terminate()?;
        self.wait()
    }

    fn terminate(&self) -> Outcome {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| format!("{}: it has no process id", self.name))?;
        kill_process(pid, Signal::TERM).map_err(|error| format!("cannot stop {}: {error}", self.name))
    }

    /// Who it is.
    pub(crate) fn principal(&self) -> Outcome<String> {
        let listening = self.seen.first();
        let listening = listening.ok_or_else(|| format!("{}: not started", self.name))?;
        text(listening, "principal")
    }

    /// Where it listens, with its PeerId.
    pub(crate) fn address(&self) -> Outcome<String> {
        let listening = self.seen.first().map(|event| &event["addrs"][0]);
        listening
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| format!("{}: it listens nowhere", self.name))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for any one event. `missing` says what for.
    fn receive(&mut self, missing: &str) -> Outcome {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(left) {
            Ok(event) => {
                self.seen.push(event);
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => Err(self.complaint(&format!("not in time: {missing}"))),
            Err(RecvTimeoutError::Disconnected) => {
                Err(self.complaint(&format!("it ended without {missing}")))
            }
        }
    }

    fn wait(&mut self) -> Outcome {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => self.seen.push(event),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err(self.complaint("it did not end in time")),
            }
        }
        let ended = self.process.wait();
        ended
            .map(drop)
            .map_err(|error| format!("cannot wait for {}: {error}", self.name))
    }

    fn end(&mut self) {
        // Fails only for a process that has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// What went wrong. Its last lines are shown with the scenario's failure.
    fn complaint(&self, what: &str) -> String {
        let faults = self
            .seen
            .iter()
            .filter(|event| is(event, "error"))
            .filter_map(|event| event["message"].as_str());
        let faults: Vec<&str> = faults.collect();
        if faults.is_empty() {
            format!("{}: {what}", self.name)
        } else {
            format!("{}: {what} ({})", self.name, faults.join("; "))
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether this is an event of that name.
pub(crate) fn is(event: &Value, name: &str) -> bool {
    event["event"] == name
}

fn read_events(stdout: Option<impl Read + Send + 'static>, lines: LastLines, sender: SyncSender<Value>) {
    thread::spawn(move || {
        for line in stdout
            .into_iter()
            .flat_map(|stdout| BufReader::new(stdout).lines())
        {
            let Ok(line) = line else { break };
            lines.push(&line);
            if let Ok(event) = serde_json::from_str(&line)
                && sender.send(event).is_err()
            {
                break;
            }
        }
    });
}

fn read_complaints(stderr: Option<impl Read + Send + 'static>, lines: LastLines) {
    thread::spawn(move || {
        for line in stderr
            .into_iter()
            .flat_map(|stderr| BufReader::new(stderr).lines())
            .map_while(Result::ok)
        {
            lines.push(&line);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept_and_long_ones_are_cut() {
        let lines = LastLines::default();
        for number in 0..LINES_KEPT + 2 {
            lines.push(&format!("{number}{}", "é".repeat(LINE_SHOWN)));
        }
        let kept = lines.all();
        assert_eq!(kept.len(), LINES_KEPT);
        assert!(
            kept[0].starts_with("2é") && kept[0].ends_with('…') && kept[0].chars().count() == LINE_SHOWN + 2
        );
    }
}
