//! Command lines that cannot be read, and the help that was asked for.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::error::{Error, ErrorKind};

use crate::args::OutputFormat;
use crate::failure::{EXIT_USAGE, Failure};
use crate::render::{self, Screen};

/// Commands whose next word is a name of the mesh.
const NAMES: [(&str, &[&str]); 2] = [
    ("channel", &["join", "leave", "send", "history", "members"]),
    ("dm", &["send", "history"]),
];

/// A word in the place of a name of the mesh that clap reads as one of our short flags with something behind it:
/// `-dev` is `-d ev`, and `-help-wanted` prints help. Whoever means a name has to say so.
pub(crate) fn ambiguous_name(words: &[OsString]) -> Option<Failure> {
    let words: Vec<&str> = words.iter().map_while(|word| OsStr::to_str(word)).collect();
    let found = words
        .windows(3)
        .take_while(|three| three[0] != "--")
        .find(|three| {
            let mut commands = NAMES.iter();
            let is_command =
                commands.any(|(command, verbs)| *command == three[0] && verbs.contains(&three[1]));
            let flag = three[2]
                .strip_prefix(['-'])
                .and_then(|word| word.strip_prefix(['d', 'h', 'V']));
            is_command && flag.is_some_and(|rest| !rest.is_empty())
        })?;
    let (command, verb, word) = (found[0], found[1], found[2]);
    Some(Failure::usage(
        format!("{word:?} may be a name or a flag"),
        format!(
            "a name goes behind --: clawchat {command} {verb} -- {word}; a folder goes behind -d and a space"
        ),
    ))
}

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
    fn a_name_that_looks_like_a_flag_is_asked_about() {
        let said = |line: &str| ambiguous_name(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for line in [
            "clawchat channel join -dev",
            "clawchat -d /x channel send -hello text",
            "clawchat dm history -Vz1nl6TsPqYqWvIbCrVpmxGfNa8bVLrYyXDzQ0uYqlE",
        ] {
            let failure = said(line).unwrap_or_else(|| panic!("{line}")).json();
            assert_eq!(failure["code"], "usage");
            assert!(failure["hint"].as_str().unwrap().contains(" -- -"), "{failure}");
        }
        for line in [
            "clawchat channel join -- -dev",
            "clawchat channel join lobby -d/x",
            "clawchat channel join -d /x lobby",
            "clawchat channel join -h",
            "clawchat channel join --help",
            "clawchat channel list -dmesh",
            "clawchat -- channel join -dev",
        ] {
            assert!(said(line).is_none(), "{line}");
        }
    }

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
