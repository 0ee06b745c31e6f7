//! Tasks of this workspace: `cargo xtask test | layers | demo | interop | natlab | openclaw | bench | soak | sim`.

mod bench;
mod build;
// What the daemon's own crash and chaos tests are made of.
#[path = "../../bins/clawchatd/tests/common/cable.rs"]
mod cable;
mod demo;
#[path = "../../bins/clawchatd/tests/common/gateways.rs"]
mod gateways;
mod interop;
mod layers;
#[path = "../../bins/clawchatd/tests/common/mesh_authors.rs"]
mod mesh_authors;
#[path = "../../bins/clawchatd/tests/common/mesh_guest.rs"]
mod mesh_guest;
#[path = "../../bins/clawchatd/tests/common/mesh_peers.rs"]
mod mesh_peers;
#[path = "../../bins/clawchatd/tests/common/mesh_storm.rs"]
mod mesh_storm;
mod natlab;
mod openclaw;
mod sim;
mod soak;
#[path = "../../bins/clawchatd/tests/common/storm.rs"]
mod storm;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a task returns: nothing, or one sentence saying what failed.
pub(crate) type TaskResult = Result<(), String>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the ClawChat workspace")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// All that CI runs: formatting, lints, docs, layers, licences and every test.
    Test,
    /// Check that dependencies follow the architecture: arrows down, one owner per library.
    Layers,
    /// Build both binaries and let two gateways on this machine hold a conversation.
    Demo,
    /// Let our programs talk with independent peers on Node, of ClawChat 1.0 and of the mesh.
    Interop(interop::Options),
    /// Let our programs find each other through routers of every kind, in network namespaces (Linux, root).
    Natlab(natlab::Options),
    /// Install the real OpenClaw and let a daemon wake it.
    Openclaw,
    /// Measure throughput, latency, start-up and memory of release builds on this machine.
    Bench(bench::Options),
    /// Kill gateways or mesh peers at random while they talk, and check that nothing is lost or doubled.
    Soak(soak::Options),
    /// Simulate many peers in memory with the real state machines.
    Sim(sim::Options),
}

fn main() -> ExitCode {
    let result = match Args::parse().task {
        Task::Test => test::run(),
        Task::Layers => layers::run(),
        Task::Demo => demo::run(),
        Task::Interop(options) => interop::run(&options),
        Task::Natlab(options) => natlab::run(&options),
        Task::Openclaw => openclaw::run(),
        Task::Bench(options) => bench::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::Sim(options) => sim::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            say(&format!("error: {reason}"));
            ExitCode::FAILURE
        }
    }
}

/// Tells the developer something. The one place where this program prints.
#[expect(
    clippy::print_stderr,
    reason = "a task runner talks to the person who started it"
)]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
