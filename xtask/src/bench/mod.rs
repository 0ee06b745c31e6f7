//! `cargo xtask bench`: what the gateways do on this machine, beside what they should do and what the machine allows.

mod figure;
mod limits;
mod process;
mod traffic;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use self::figure::{Figure, Target, table};
use self::limits::Limits;
use self::traffic::{Line, Plain};
use crate::build::{self, Profile};
use crate::gateways::{Gateway, Outcome, pair};
use crate::{TaskResult, say};

/// Messages of one measured window when looking for growth.
const WINDOW: u64 = 5_000;
/// Messages before the first window.
const EARLY: u64 = 1_000;
/// How long a gateway is left alone before its memory is looked at.
const IDLE: Duration = Duration::from_secs(3);

/// What to measure, and how thoroughly.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Less of everything: under a minute
    #[arg(long)]
    quick: bool,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
    /// How many messages are in the inbox when its influence is measured [default: 100000, with --quick 20000]
    #[arg(long, value_name = "N")]
    inbox: Option<u64>,
    /// How the programs are compiled
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// Take clawchatd and clawchat from this folder instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// How much of what.
struct Effort {
    /// Messages sent in a row, each with its receipt.
    pipelined: u64,
    /// Messages sent one after the other's receipt.
    single: u64,
    /// Messages in the inbox at the end.
    inbox: u64,
    /// Repetitions of whatever starts a process.
    processes: usize,
    /// How long filling the inbox may take.
    filling: Duration,
}

pub(crate) fn run(options: &Options) -> TaskResult {
    let folder = build::binaries_or(options.programs.as_deref(), options.profile)?;
    let mut effort = Effort {
        pipelined: 20_000,
        single: 1_000,
        inbox: 100_000,
        processes: 15,
        filling: Duration::from_secs(90),
    };
    if options.quick {
        effort = Effort {
            pipelined: 5_000,
            single: 300,
            inbox: 20_000,
            processes: 5,
            filling: Duration::from_secs(20),
        };
    }
    effort.inbox = options.inbox.unwrap_or(effort.inbox).max(EARLY + 2 * WINDOW);
    let begun = Instant::now();
    say("measuring what the machine allows");
    let limits = limits::measure()?;
    let mut figures = starting(&folder, &effort, &limits)?;
    figures.extend(talking(&folder, &effort, &limits)?);
    let text = if options.json {
        let figures: Vec<_> = figures.iter().map(Figure::to_json).collect();
        json!({ "machine": limits.to_json(), "figures": figures }).to_string()
    } else {
        format!("{limits}\n{}", table(&figures))
    };
    say(&format!("measured in {:.0} s", begun.elapsed().as_secs_f64()));
    writeln!(std::io::stdout(), "{text}").map_err(|error| format!("cannot print: {error}"))
}

/// What it takes to start a gateway.
fn starting(folder: &Path, effort: &Effort, limits: &Limits) -> Outcome<Vec<Figure>> {
    say("starting and stopping a gateway");
    let mut gateway = Gateway::set_up(&folder.join("clawchatd"), "solo")?;
    let ready = process::ready_times(&mut gateway, effort.processes)?;
    let mut figures = vec![
        Figure::new(
            "clawchatd ready after its keys are unsealed",
            ready.beyond_keys,
            "ms",
        )
        .target(Target::AtMost(150.0))
        .beside("process starts", ready.beyond_keys / limits.spawn_ms),
        Figure::new("  from its start, with a sealed key", ready.whole, "ms")
            .beside("the unsealing", ready.whole / ready.keys),
    ];
    gateway.start()?;
    thread::sleep(IDLE);
    figures.extend(memory("idle memory of clawchatd, fresh", &gateway));
    Ok(figures)
}

/// What it takes to deliver messages.
fn talking(folder: &Path, effort: &Effort, limits: &Limits) -> Outcome<Vec<Figure>> {
    let mut gateways = pair(&folder.join("clawchatd"))?;
    let [alice, bob] = &gateways;
    let mut line = Line::open(alice, bob)?;
    let disk_before = process::disk_bytes(&gateways)?;
    // The first message opens the session.
    line.one_at_a_time(20)?;

    say("one message at a time");
    let single = line.one_at_a_time(effort.single)?;
    let mut figures = latencies(&single, limits);
    let mut sent = 20 + effort.single;
    sent += line.fill(EARLY.saturating_sub(sent), effort.filling)?;
    let early = sent;
    let (early_window, early_single) = window(&mut line, effort)?;
    sent += WINDOW + effort.single;

    say("many at a time");
    let pipelined = line.waited(effort.pipelined)?;
    sent += effort.pipelined;
    let rate = per_second(effort.pipelined, pipelined);
    figures.push(
        Figure::new("delivered, pipelined, each with its receipt", rate, "msg/s")
            .target(Target::AtLeast(5_000.0))
            .beside("disk syncs", rate / limits.syncs_per_second),
    );
    let rate = per_second(WINDOW, early_window.delivered);
    figures.push(
        Figure::new("delivered, pipelined, until the last receipt", rate, "msg/s")
            .target(Target::AtLeast(5_000.0))
            .beside("disk syncs", rate / limits.syncs_per_second),
    );
    let rate = per_second(WINDOW, early_window.queued);
    figures.push(
        Figure::new("  queued (on disk here) meanwhile", rate, "msg/s")
            .beside("disk syncs", rate / limits.syncs_per_second),
    );

    say("filling the inbox");
    let missing = effort.inbox.saturating_sub(sent + WINDOW);
    sent += line.fill(missing, effort.filling)?;
    let late = sent;
    let (late_window, late_single) = window(&mut line, effort)?;
    sent += WINDOW + effort.single;
    let growth = |name: &str, late_time: Duration, early_time: Duration| {
        let name = format!("message {late} against message {early}, {name}");
        let ratio = late_time.as_secs_f64() / early_time.as_secs_f64();
        Figure::new(&name, ratio, "times").target(Target::AtMost(1.2))
    };
    figures.push(growth("pipelined", late_window.delivered, early_window.delivered));
    figures.push(growth("one at a time", late_single, early_single));

    say("the command line");
    let took = process::send_times(&folder.join("clawchat"), &gateways, 3 * effort.processes)?;
    sent += u64::try_from(3 * effort.processes).unwrap_or_default();
    figures.push(
        Figure::new("clawchat send, the whole process", took, "ms")
            .target(Target::AtMost(15.0))
            .beside("process starts", took / limits.spawn_ms),
    );
    drop(line);
    thread::sleep(IDLE);
    figures.extend(memory("memory of the sender afterwards", alice));
    figures.extend(memory("memory of the receiver afterwards", bob));
    gateways.iter_mut().try_for_each(Gateway::stop)?;
    let disk_after = process::disk_bytes(&gateways)?;
    for (who, (after, before)) in ["sender", "receiver"]
        .iter()
        .zip(disk_after.iter().zip(disk_before))
    {
        let each = after.saturating_sub(before) as f64 / sent as f64;
        figures.push(Figure::new(
            &format!("disk per message at the {who}"),
            each,
            "bytes",
        ));
    }
    Ok(figures)
}

/// One window of pipelined messages, and the median of single ones behind it.
fn window(line: &mut Line, effort: &Effort) -> Outcome<(Plain, Duration)> {
    let pipelined = line.plain(WINDOW)?;
    let single = line.one_at_a_time(effort.single)?;
    Ok((pipelined, limits::percentile(&single, 50)))
}

fn latencies(single: &[Duration], limits: &Limits) -> Vec<Figure> {
    let figure = |percent: usize| {
        let took = limits::percentile(single, percent).as_secs_f64() * 1000.0;
        let name = format!("one message to its receipt, p{percent}");
        Figure::new(&name, took, "ms").beside("disk syncs", took * limits.syncs_per_second / 1000.0)
    };
    vec![figure(50).target(Target::AtMost(3.0)), figure(95), figure(99)]
}

fn memory(name: &str, gateway: &Gateway) -> Option<Figure> {
    let bytes = process::resident_bytes(gateway.pid()?)?;
    let figure = Figure::new(name, bytes as f64 / 1e6, "MB");
    Some(if name.starts_with("idle") {
        figure.target(Target::AtMost(30.0))
    } else {
        figure
    })
}

fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
