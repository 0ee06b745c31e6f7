//! Command lines that cannot be read, and the help that was asked for.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::error::{Error, ErrorKind};

use crate::args::OutputFormat;
use crate::failure::{EXIT_USAGE, Failure};
use crate::render::{self, Screen};

/// Says what clap has to say: help and version on stdout, mistakes on stderr. People at a terminal get clap's
/// own explanation with its colours, everybody else a single line.
pub(crate) fn answer(error: &Error, format: OutputFormat) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let text = error.render();
        let told = if io::stdout().is_terminal() {
            render::raw(text.ansi().to_string().as_bytes())
        } else {
            render::raw(text.to_string().as_bytes())
        };
        return told.map_or_else(|failure| ExitCode::from(failure.exit()), |()| ExitCode::SUCCESS);
    }
    if format == OutputFormat::Text && io::stderr().is_terminal() {
        render::warn(error.render().ansi().to_string().trim_end());
    } else {
        Screen::new(format).failure(&failure(error));
    }
    ExitCode::from(EXIT_USAGE)
}

fn failure(error: &Error) -> Failure {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::usage("a command is missing", "see: clawchat --help");
    }
    let text = error.render().to_string();
    let (what, rest) = text.split_once("\n\nUsage:").unwrap_or((&text, ""));
    let what = one_line(what.split("\n\nFor more information").next().unwrap_or(what));
    let what = what.strip_prefix("error: ").unwrap_or(&what).to_owned();
    let usage = rest.split("\n\n").next().map(one_line).unwrap_or_default();
    let hint = if usage.is_empty() {
        "see: clawchat --help".to_owned()
    } else {
        format!("usage: {usage}")
    };
    Failure::usage(what, hint)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Args;

    #[test]
    fn mistakes_become_one_line_and_a_hint() {
        let said = |line: &[&str]| failure(&Args::try_parse_from(line).unwrap_err()).json();
        let missing = said(&["clawchat", "send", "bob"]);
        assert_eq!(missing["code"], "usage");
        assert_eq!(
            missing["error"],
            "the following required arguments were not provided: <TEXT>"
        );
        assert!(
            missing["hint"]
                .as_str()
                .unwrap()
                .starts_with("usage: clawchat send"),
            "{missing}"
        );
        let unknown = said(&["clawchat", "snd"]);
        assert!(
            unknown["error"]
                .as_str()
                .unwrap()
                .starts_with("unrecognized subcommand 'snd'"),
            "{unknown}"
        );
        assert_eq!(said(&["clawchat"])["error"], "a command is missing");
        let value = said(&["clawchat", "send", "bob", "hi", "--wait", "soon"]);
        assert!(value["error"].as_str().unwrap().contains("soon"), "{value}");
    }
}
