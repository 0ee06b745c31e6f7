//! `completions` and `man`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Args;
use crate::failure::{Failure, Outcome};
use crate::render;

/// Prints a completion script.
pub(super) fn completions(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "clawchat", &mut script);
    render::raw(&script)
}

/// Prints the manual page: the program, then each command.
pub(super) fn man() -> Outcome {
    let mut page = Vec::new();
    clap_mangen::Man::new(Args::command())
        .render(&mut page)
        .map_err(|error| {
            Failure::new(
                clawchat_ipc::ErrorCode::Internal,
                format!("cannot write the manual page: {error}"),
            )
        })?;
    render::raw(&page)
}
