//! Two gateways and one connection: how fast messages go, how much they cost, and whether that grows.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::figure::{Figure, Target};
use super::limits::{self, Limits, percentile};
use super::traffic::Line;
use super::{Effort, IDLE, memory, process};
use crate::gateways::{Gateway, Outcome, pair};
use crate::say;

/// Messages before growth is first looked for.
const EARLY: u64 = 1_000;
/// Messages of one window when looking for growth.
const WINDOW: u64 = 2_000;
/// Windows at each place; the quickest is the least disturbed by others on this machine.
const WINDOWS: u64 = 3;
/// Messages that open the session and warm everything up.
const WARM_UP: u64 = 20;

/// What it takes to deliver messages.
pub(super) fn measure(folder: &Path, effort: &Effort, limits: &Limits) -> Outcome<Vec<Figure>> {
    let mut gateways = pair(&folder.join("clawchatd"))?;
    let before = process::disk_bytes(&gateways)?;
    let mut figures = Vec::new();
    let [alice, bob] = &gateways;
    let mut line = Line::open(alice, bob)?;
    line.one_at_a_time(WARM_UP)?;

    say("one message at a time");
    let disk = limits::syncs_per_second()?;
    let single = line.one_at_a_time(effort.single)?;
    figures.extend(latencies(&single, disk));

    line.fill(EARLY.saturating_sub(line.sent()), effort.filling)?;
    let early = Windows::measure(&mut line, effort, &gateways)?;
    say("many at a time");
    figures.extend(rates(&mut line, effort)?);
    say("filling the inbox");
    let left = effort.inbox.saturating_sub(line.sent() + WINDOWS * WINDOW);
    line.fill(left, effort.filling)?;
    let late = Windows::measure(&mut line, effort, &gateways)?;
    figures.extend(early.growth(&late));

    say("the command line");
    let starts = 3 * effort.processes;
    let took = process::send_times(&folder.join("clawchat"), &gateways, starts)?;
    figures.push(
        Figure::new("clawchat send, the whole process", took, "ms")
            .target(Target::AtMost(15.0))
            .beside("process starts", took / limits.spawn_ms),
    );
    let sent = line.sent() as f64 + starts as f64;
    drop(line);
    thread::sleep(IDLE);
    figures.extend(memory("memory of the sender afterwards", alice));
    figures.extend(memory("memory of the receiver afterwards", bob));
    gateways.iter_mut().try_for_each(Gateway::stop)?;
    let after = process::disk_bytes(&gateways)?;
    for (who, (after, before)) in ["sender", "receiver"].iter().zip(after.iter().zip(before)) {
        let name = format!("disk per message at the {who}");
        figures.push(Figure::new(
            &name,
            after.saturating_sub(before) as f64 / sent,
            "bytes",
        ));
    }
    Ok(figures)
}

/// How long single messages took.
fn latencies(single: &[Duration], disk: f64) -> Vec<Figure> {
    let figure = |percent: usize| {
        let took = percentile(single, percent).as_secs_f64();
        let name = format!("one message to its receipt, p{percent}");
        Figure::new(&name, took * 1000.0, "ms").beside(&syncs(disk), took * disk)
    };
    vec![figure(50).target(Target::AtMost(3.0)), figure(95), figure(99)]
}

/// How many messages there are in a second.
fn rates(line: &mut Line, effort: &Effort) -> Outcome<Vec<Figure>> {
    let count = effort.pipelined;
    let disk = limits::syncs_per_second()?;
    let waited = line.waited(count)?;
    let plain = line.plain(count)?;
    let figure = |name: &str, took: Duration| {
        let rate = count as f64 / took.as_secs_f64();
        Figure::new(name, rate, "msg/s").beside(&syncs(disk), rate / disk)
    };
    let target = Target::AtLeast(5_000.0);
    Ok(vec![
        figure("delivered, pipelined, each with its receipt", waited).target(target),
        figure("delivered, pipelined, until the last receipt", plain.delivered).target(target),
        figure("  queued (on disk here) meanwhile", plain.queued),
    ])
}

fn syncs(disk: f64) -> String {
    format!("disk syncs ({disk:.0}/s just before)")
}

/// What messages cost with so many before them.
struct Windows {
    /// How many had been sent before.
    behind: u64,
    /// The quickest window of pipelined messages.
    pipelined: Duration,
    /// The lower quartile of messages one at a time: what one takes when nobody disturbs it.
    single: Duration,
    /// Processor time of both gateways in all windows, where the system tells.
    processor: Option<Duration>,
}

impl Windows {
    fn measure(line: &mut Line, effort: &Effort, gateways: &[Gateway; 2]) -> Outcome<Self> {
        let behind = line.sent();
        let before = process::processor_time(gateways);
        let mut pipelined = Duration::MAX;
        for _ in 0..WINDOWS {
            pipelined = pipelined.min(line.plain(WINDOW)?.delivered);
        }
        let after = process::processor_time(gateways);
        let single = line.one_at_a_time(effort.single)?;
        Ok(Self {
            behind,
            pipelined,
            single: percentile(&single, 25),
            processor: after
                .zip(before)
                .map(|(after, before)| after.saturating_sub(before)),
        })
    }

    fn growth(&self, late: &Self) -> Vec<Figure> {
        let places = format!("message {} against message {}", late.behind, self.behind);
        let figure = |name: &str, late: Duration, early: Duration| {
            Figure::new(
                &format!("{places}, {name}"),
                late.as_secs_f64() / early.as_secs_f64(),
                "times",
            )
        };
        let target = Target::AtMost(1.2);
        let mut figures = vec![
            figure("pipelined", late.pipelined, self.pipelined).target(target),
            figure("one at a time", late.single, self.single).target(target),
        ];
        if let (Some(late), Some(early)) = (late.processor, self.processor) {
            figures.push(figure("processor time", late, early).target(target));
            let each = early.as_secs_f64() * 1e6 / (WINDOWS * WINDOW) as f64;
            figures.push(Figure::new(
                "  processor time of both gateways per message",
                each,
                "us",
            ));
        }
        figures
    }
}
