//! `cargo xtask soak`: two gateways talk, or with `--mesh` three mesh peers in a line, while they are killed again and
//! again; nothing may be lost or doubled.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use crate::build::{self, Profile};
use crate::storm::{self, Plan};
use crate::{TaskResult, mesh_storm, say};

/// How long and how hard.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A line of three mesh peers instead of two gateways
    #[arg(long)]
    mesh: bool,
    /// Messages to be acknowledged in all, the same number by each author [default: 10000, with --mesh 5000]
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// How many times a gateway or a peer is killed
    #[arg(long, value_name = "N", default_value_t = 50)]
    kills: u64,
    /// How many times the line of mesh peers is cut
    #[arg(long, value_name = "N", default_value_t = 30, requires = "mesh")]
    cuts: u64,
    /// Repeats the choices of an earlier run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How the gateways are compiled
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// Take clawchatd from this folder instead of building it
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> TaskResult {
    let folder = build::binaries_or(options.programs.as_deref(), options.profile)?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seed = options.seed.unwrap_or(now.as_secs());
    if options.mesh {
        return mesh(&folder, options, seed);
    }
    let plan = Plan {
        messages: options.messages.unwrap_or(10_000),
        kills: options.kills,
        seed,
    };
    say(&format!(
        "soak: {} messages, {} kills, --seed {seed}",
        plan.messages, plan.kills
    ));
    let begun = Instant::now();
    let summary = storm::run(&folder.join("clawchatd"), &plan, &say)?;
    say(&format!(
        "soak passed in {:.0} s, {} kills: {} messages were acknowledged and all of them arrived once and in order; \
         {} more were offered as a kill came, and {} messages arrived in all",
        begun.elapsed().as_secs_f64(),
        summary.kills,
        summary.queued,
        summary.in_doubt,
        summary.arrived,
    ));
    Ok(())
}

fn mesh(folder: &Path, options: &Options, seed: u64) -> TaskResult {
    let plan = mesh_storm::Plan {
        messages: options.messages.unwrap_or(5_000),
        kills: options.kills,
        cuts: options.cuts,
        seed,
    };
    say(&format!(
        "soak: {} messages on a line of three mesh peers, {} kills, {} cuts, --seed {seed}",
        plan.messages, plan.kills, plan.cuts
    ));
    let begun = Instant::now();
    let summary = mesh_storm::run(&folder.join("clawchatd"), &plan, &say)?;
    say(&format!(
        "soak passed in {:.0} s, {} kills, {} cuts: {} messages were acknowledged ({} sent more than once), {} more were \
         offered as a kill came, and all three peers have the same {} messages, each once and in the same order",
        begun.elapsed().as_secs_f64(),
        summary.kills,
        summary.cuts,
        summary.acknowledged,
        summary.repeated,
        summary.in_doubt,
        summary.stored,
    ));
    Ok(())
}
