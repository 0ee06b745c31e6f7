//! `bootstrap …`: clawchatd does it, in this process's place.

use std::ffi::OsStr;

use super::Context;
use crate::args::BootstrapServeArgs;
use crate::failure::Failure;
use crate::program;

/// `bootstrap serve`. Returns only to say why it cannot.
pub(super) fn serve(context: &Context, args: &BootstrapServeArgs) -> Failure {
    let (port, host) = (args.port.to_string(), args.host.to_string());
    let arguments: [&OsStr; 8] = [
        "bootstrap".as_ref(),
        "serve".as_ref(),
        "--port".as_ref(),
        port.as_ref(),
        "--host".as_ref(),
        host.as_ref(),
        "--file".as_ref(),
        args.file.as_os_str(),
    ];
    match program::command(&context.settings.home, &arguments) {
        Ok(command) => program::become_program(command),
        Err(failure) => failure,
    }
}
