//! `cargo xtask soak`: two gateways talk while they are killed again and again; nothing may be lost or doubled.

use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use crate::build::{self, Profile};
use crate::storm::{self, Plan};
use crate::{TaskResult, say};

/// How long and how hard.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Messages to be acknowledged in all, half of them each way
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    messages: u64,
    /// How many times a gateway is killed
    #[arg(long, value_name = "N", default_value_t = 50)]
    kills: u64,
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
    let plan = Plan {
        messages: options.messages,
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
