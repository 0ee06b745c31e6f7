//! `clawchatd`: the gateway daemon, in the foreground.
//!
//! Reads the command line, starts the log, turns signals into wishes, and leaves the rest to the gateway.

mod args;
mod failure;
mod logging;
mod offline;
mod output;
mod serve;
mod settings;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use clawchat_gateway::GatewayOptions;
use rustix::fs::Mode;

use crate::args::{Args, Command};
use crate::failure::{ErrorCode, Failure};

/// How long threads that still compute may keep the process after everything is written out.
const LAST_THREADS: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let args = Args::parse();
    // The database engine chooses the modes of its files itself: nothing of ours is for other users.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    logging::start(args.log_format);
    let ended = match args.command {
        Some(Command::Offline) => return offline::run(&args),
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ErrorCode::Internal, format!("cannot start the runtime: {error}")))?;
    let ended = runtime.block_on(serve::serve(options));
    runtime.shutdown_timeout(LAST_THREADS);
    ended
}
