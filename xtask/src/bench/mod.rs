//! `cargo xtask bench`: what the gateways do on this machine, beside what they should do and what the machine allows.

mod figure;
mod legacy;
mod limits;
mod mesh;
mod process;
mod talk;
mod traffic;
mod wake;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use serde_json::json;

use self::figure::{Figure, Target, table};
use self::limits::Limits;
use crate::build::{self, Profile};
use crate::gateways::{Gateway, Outcome};
use crate::{TaskResult, say};

/// How long a gateway is left alone before its memory is looked at.
const IDLE: Duration = Duration::from_secs(3);

/// What to measure, and how thoroughly.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these parts
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Less of everything: a minute or two
    #[arg(long)]
    quick: bool,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
    /// How many messages are in the inbox when its influence is measured [default: 100000, with --quick 20000]
    #[arg(long, value_name = "N")]
    inbox: Option<u64>,
    /// How many messages are in the log of a mesh peer when their influence is measured [default: 1000000, with --quick
    /// 20000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10_000..=1_000_000))]
    stored: Option<u64>,
    /// How the programs are compiled
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// Take clawchatd and clawchat from this folder instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Starting and stopping a gateway
    Start,
    /// Messages between two gateways, and the command line
    Talk,
    /// Waking OpenClaw
    Wake,
    /// Messages to a ClawChat 1.0 peer
    Legacy,
    /// Messages in a channel of the mesh
    Mesh,
}

/// How much of what.
struct Effort {
    /// Messages sent in a row, each with its receipt.
    pipelined: u64,
    /// Messages sent one after the other's receipt.
    single: u64,
    /// Messages in the inbox at the end.
    inbox: u64,
    /// Messages to a ClawChat 1.0 peer.
    legacy: u64,
    /// Wakes that are timed.
    wakes: usize,
    /// Messages sent in a row to a channel of the mesh.
    mesh: u64,
    /// Messages in the log of a mesh peer at the end.
    mesh_stored: u64,
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
        legacy: 10_000,
        wakes: 8,
        mesh: 10_000,
        mesh_stored: 1_000_000,
        processes: 15,
        filling: Duration::from_secs(90),
    };
    if options.quick {
        effort = Effort {
            pipelined: 5_000,
            single: 300,
            inbox: 20_000,
            legacy: 3_000,
            wakes: 4,
            mesh: 3_000,
            mesh_stored: 20_000,
            processes: 5,
            filling: Duration::from_secs(20),
        };
    }
    effort.inbox = options.inbox.unwrap_or(effort.inbox);
    effort.mesh_stored = options.stored.unwrap_or(effort.mesh_stored);
    let begun = Instant::now();
    say("measuring what the machine allows");
    let limits = limits::measure()?;
    let mut figures = Vec::new();
    for part in Part::value_variants() {
        if options.parts.is_empty() || options.parts.contains(part) {
            figures.extend(match part {
                Part::Start => starting(&folder, &effort, &limits)?,
                Part::Talk => talk::measure(&folder, &effort, &limits)?,
                Part::Wake => wake::measure(&folder, &effort)?,
                Part::Legacy => legacy::measure(&folder, &effort)?,
                Part::Mesh => mesh::measure(&folder, &effort)?,
            });
        }
    }
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
    let idle = memory("idle memory of clawchatd, fresh", &gateway);
    figures.extend(idle.map(|figure| figure.target(Target::AtMost(30.0))));
    Ok(figures)
}

/// A figure of the memory a gateway has in use, where the system tells.
fn memory(name: &str, gateway: &Gateway) -> Option<Figure> {
    let bytes = process::resident_bytes(gateway.pid()?)?;
    Some(Figure::new(name, bytes as f64 / 1e6, "MB"))
}
