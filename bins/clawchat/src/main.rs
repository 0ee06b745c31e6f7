//! `clawchat`: the command line of a ClawChat gateway.
//!
//! Thin on purpose: each command becomes requests to the daemon's socket, or one offline request to a
//! `clawchatd` that is run for it. This program opens no keys and no database, links no networking stack and
//! starts no async runtime.

mod args;
mod commands;
mod failure;
mod gone;
mod human;
mod interrupt;
mod link;
mod offline;
mod password;
mod program;
mod qr;
mod render;
mod service;
mod settings;
mod usage;

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, OutputFormat};
use crate::commands::Context;
use crate::failure::Failure;
use crate::password::PasswordSource;
use crate::render::Screen;
use crate::settings::Settings;

fn main() -> ExitCode {
    let words: Vec<OsString> = env::args_os().collect();
    let terminal = io::stdout().is_terminal();
    let format = || settings::format_of_words(&words, |name| env::var_os(name), terminal);
    if let Some(failure) = usage::ambiguous_name(&words) {
        return ended(&failure, format());
    }
    let args = match Args::try_parse_from(&words) {
        Ok(args) => args,
        Err(error) => return usage::answer(&error, format()),
    };
    let settings = match Settings::resolve(&args.global, |name| env::var_os(name), terminal) {
        Ok(settings) => settings,
        Err(failure) => return ended(&failure, format()),
    };
    if matches!(settings.password, PasswordSource::Given(_)) {
        render::warn(
            "warning: --password is visible to other users of this machine; prefer --password-file FILE",
        );
    }
    let format = settings.format;
    let context = Context {
        screen: Screen::new(format),
        settings,
    };
    match commands::run(&context, args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ended(&failure, format),
    }
}

fn ended(failure: &Failure, format: OutputFormat) -> ExitCode {
    Screen::new(format).failure(failure);
    ExitCode::from(failure.exit())
}
