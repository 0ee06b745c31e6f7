//! `clawchatd offline`: one request from stdin, its answer on stdout, no daemon.

use std::env;
use std::io;
use std::process::ExitCode;

use clawchat_gateway::home::Home;
use clawchat_gateway::{admin, ipc};

use crate::args::Args;
use crate::failure::{self, ErrorCode, Failure};
use crate::output;
use crate::settings;

/// Answers the request. Whether it worked is in the answer, and in the exit code.
pub(crate) fn run(args: &Args) -> ExitCode {
    let home = match settings::home(args, |name| env::var_os(name)) {
        Ok(home) => Home::at(home),
        Err(failure) => return ended(&failure, args),
    };
    let mut refused = None;
    let answered = ipc::offline::answer(io::stdin().lock(), io::stdout().lock(), |call| {
        let result = admin::run_offline(&home, call);
        refused = result.as_ref().err().map(failure::exit_code);
        result
    });
    match (answered, refused) {
        (Ok(()), None) => ExitCode::SUCCESS,
        (Ok(()), Some(code)) => ExitCode::from(code),
        (Err(error), _) => {
            let failure = Failure::new(
                ErrorCode::Io,
                format!("cannot read the request or write the answer: {error}"),
            )
            .with_hint("this command is for clawchat's own use: one JSON line on stdin");
            ended(&failure, args)
        }
    }
}

fn ended(failure: &Failure, args: &Args) -> ExitCode {
    output::failure(failure, args.log_format, false);
    ExitCode::from(failure::exit_code(failure))
}
