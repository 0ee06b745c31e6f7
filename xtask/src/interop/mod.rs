//! `cargo xtask interop`: our programs beside peers that share no code with them, of ClawChat 1.0 and of the mesh.

mod identities;
mod install;
mod mesh;
mod peer;
mod px1;
mod restarts;
mod stage;
mod strangers;
mod talk;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use self::install::Installed;
use self::stage::Stage;
use crate::build::{self, Profile};
use crate::gateways::Outcome;
use crate::{TaskResult, say};

pub(crate) use self::install::{NotInstalled, install};
pub(crate) use self::peer::{LastLines, Peer};

/// Which scenarios, with which programs.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only the scenarios of these names
    #[arg(value_name = "SCENARIO")]
    only: Vec<String>,
    /// Say which scenarios there are, and run none
    #[arg(long)]
    list: bool,
    /// How many run at the same time [default: the processors of this machine]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// How the programs are compiled
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
    /// Take clawchatd and clawchat from this folder instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Something programs of two kinds do with each other.
struct Scenario {
    name: &'static str,
    about: &'static str,
    /// Returns what was proven.
    play: fn(&Stage<'_>) -> Outcome<String>,
}

/// All of them, the longest first.
const SCENARIOS: [Scenario; 23] = [
    Scenario {
        name: "downgrade",
        about: "somebody who spoke snap2p/2 before comes with clawchat/1",
        play: identities::downgrade,
    },
    Scenario {
        name: "peer-returns",
        about: "a peer is killed while messages for it wait, and comes back as itself",
        play: restarts::peer_returns,
    },
    Scenario {
        name: "liars",
        about: "false names, borrowed attestations and the wrong network",
        play: strangers::liars,
    },
    Scenario {
        name: "we-return",
        about: "our gateway is killed and stopped with messages on their way, in and out",
        play: restarts::we_return,
    },
    Scenario {
        name: "px1-public",
        about: "a public gateway tells where it is",
        play: px1::public,
    },
    Scenario {
        name: "unbound",
        about: "a peer whose attestation is of another node key, with legacyPeers \"unbound\"",
        play: strangers::unbound,
    },
    Scenario {
        name: "access-list",
        about: "identities that admit the caller, and identities that do not",
        play: identities::access_list,
    },
    Scenario {
        name: "pieces",
        about: "frames in pieces of 1 and 7 bytes",
        play: talk::pieces,
    },
    Scenario {
        name: "both-ways",
        about: "texts of every kind in both directions of one session",
        play: talk::both_ways,
    },
    Scenario {
        name: "dialed",
        about: "a peer dials us and sends 100 messages",
        play: talk::dialed,
    },
    Scenario {
        name: "dialing",
        about: "we dial a peer and send 100 messages",
        play: talk::dialing,
    },
    Scenario {
        name: "other-identity",
        about: "a message for somebody a peer does not answer as",
        play: identities::other_identity,
    },
    Scenario {
        name: "px1",
        about: "where others are: asked, told and pushed",
        play: px1::exchange,
    },
    Scenario {
        name: "off",
        about: "legacyPeers \"off\"",
        play: strangers::off,
    },
    Scenario {
        name: "mesh-we-were-away",
        about: "mesh: what was said while our peer was away",
        play: mesh::away::we_were_away,
    },
    Scenario {
        name: "mesh-bootstrap",
        about: "mesh: peers of both kinds find each other through our list",
        play: mesh::meeting::bootstrap,
    },
    Scenario {
        name: "mesh-gateway",
        about: "mesh: a gateway that takes part, and direct messages",
        play: mesh::talk::gateway,
    },
    Scenario {
        name: "mesh-they-were-away",
        about: "mesh: what was said while another peer was away, kept by ours through a kill",
        play: mesh::away::they_were_away,
    },
    Scenario {
        name: "mesh-returns",
        about: "mesh: links that break are made again, from either side",
        play: mesh::meeting::returns,
    },
    Scenario {
        name: "mesh-relay",
        about: "mesh: two other peers that only know ours",
        play: mesh::talk::relay,
    },
    Scenario {
        name: "mesh-lobby",
        about: "mesh: signed and unsigned messages in both directions, and forged ones",
        play: mesh::talk::lobby,
    },
    Scenario {
        name: "mesh-garbage",
        about: "mesh: frames that are none",
        play: mesh::talk::garbage,
    },
    Scenario {
        name: "mesh-handshake",
        about: "mesh: who says what first, dialing and dialed, with keys and without",
        play: mesh::meeting::handshake,
    },
];

pub(crate) fn run(options: &Options) -> TaskResult {
    if options.list {
        for scenario in &SCENARIOS {
            say(&format!("{:19} {}", scenario.name, scenario.about));
        }
        return Ok(());
    }
    if let Some(unknown) = options
        .only
        .iter()
        .find(|name| SCENARIOS.iter().all(|scenario| scenario.name != **name))
    {
        return Err(format!("there is no scenario {unknown:?}; --list shows them"));
    }
    let installed = install().map_err(|reason| reason.to_string())?;
    let programs = build::binaries_or(options.programs.as_deref(), options.profile)?;
    let scenarios: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| options.only.is_empty() || options.only.iter().any(|name| name == scenario.name))
        .collect();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    play(
        &scenarios,
        &programs,
        &installed,
        options.jobs.unwrap_or(processors),
    )
}

/// All scenarios, unless this machine has no Node or no way to the packages.
pub(crate) fn run_where_possible() -> TaskResult {
    let installed = match install() {
        Ok(installed) => installed,
        Err(NotInstalled::Missing(reason)) => {
            say(&format!(
                "skipped: the run with a ClawChat 1.0 peer and a mesh peer ({reason})"
            ));
            return Ok(());
        }
        Err(NotInstalled::Failed(reason)) => return Err(reason),
    };
    let programs = build::binaries(Profile::Dev)?;
    let scenarios: Vec<&Scenario> = SCENARIOS.iter().collect();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    play(&scenarios, &programs, &installed, processors)
}

fn play(scenarios: &[&Scenario], programs: &Path, installed: &Installed, jobs: usize) -> TaskResult {
    let begun = Instant::now();
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    // Lines of one scenario stay together.
    let printing = Mutex::new(());
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, scenarios.len().max(1)) {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = match perform(scenario, programs, installed) {
                        Ok(report) => report,
                        Err(report) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            report
                        }
                    };
                    let _turn = printing.lock();
                    say(&report);
                }
            });
        }
    });
    let (failed, all) = (failed.into_inner(), scenarios.len());
    let took = begun.elapsed().as_secs_f64();
    if failed > 0 {
        return Err(format!("{failed} of {all} scenarios failed, in {took:.0} s"));
    }
    say(&format!("{all} scenarios with other peers passed in {took:.0} s"));
    Ok(())
}

/// Plays one scenario; what it proved, or why it failed and what everybody printed last.
fn perform(scenario: &Scenario, programs: &Path, installed: &Installed) -> Outcome<String> {
    let begun = Instant::now();
    let stage = Stage::new(programs, installed)?;
    let outcome = (scenario.play)(&stage);
    let took = begun.elapsed().as_secs_f64();
    match outcome {
        Ok(proven) => Ok(format!("ok     {:19} {took:4.1} s  {proven}", scenario.name)),
        Err(reason) => Err(format!(
            "FAILED {:19} {took:4.1} s  {reason}\n{}",
            scenario.name,
            stage.last_lines()
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        let names: HashSet<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
    }
}
