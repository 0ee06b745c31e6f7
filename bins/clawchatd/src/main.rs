//! `clawchatd`: the gateway daemon, in the foreground.
//!
//! Reads the command line, starts the log, turns signals into wishes, and leaves the rest to the gateway.

mod args;
mod failure;
mod logging;
mod mesh;
mod offline;
mod output;
mod serve;
mod settings;

use std::env;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use clawchat_gateway::{BootstrapOptions, GatewayOptions};
use rustix::fs::Mode;

use crate::args::{Args, BootstrapCommand, Command, MeshArgs};
use crate::failure::{ErrorCode, Failure};

/// How long threads that still compute may keep the process after everything is written out.
const LAST_THREADS: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let args = Args::parse();
    // The database engine chooses the modes of its files itself: nothing of ours is for other users.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    logging::start(args.log_format);
    let ended = match &args.command {
        Some(Command::Offline) => return offline::run(&args),
        Some(Command::Mesh(mesh)) => mesh_peer(&args, mesh),
        Some(Command::Bootstrap(BootstrapCommand::Serve(list))) => run(serve::serve_list(BootstrapOptions {
            listen: SocketAddr::new(list.host, list.port),
            file: list.file.clone(),
        })),
        None => daemon(&args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(&failure, args.log_format, args.report_failure);
            ExitCode::from(failure::exit_code(&failure))
        }
    }
}

fn daemon(args: &Args) -> Result<(), Failure> {
    let options = GatewayOptions {
        home: settings::home(args, |name| env::var_os(name))?,
        port: args.port,
        password: settings::password(args, |name| env::var_os(name))?,
        openclaw_wake: args.openclaw_wake,
    };
    run(serve::serve(options))
}

fn mesh_peer(args: &Args, mesh: &MeshArgs) -> Result<(), Failure> {
    let variable = |name: &str| env::var_os(name);
    let options = mesh::options(settings::home(args, variable)?, mesh, variable)?;
    run(serve::serve_mesh(options))
}

fn run(serving: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ErrorCode::Internal, format!("cannot start the runtime: {error}")))?;
    let ended = runtime.block_on(serving);
    runtime.shutdown_timeout(LAST_THREADS);
    ended
}
