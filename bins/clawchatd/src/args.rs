//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// The ClawChat gateway daemon, in the foreground.
///
/// Logs to stderr. On stdout it prints one JSON line when it is ready to serve, `{"event":"started",…}`, and one
/// when it has ended, `{"event":"stopped"}`. SIGTERM and SIGINT end it, SIGHUP makes it read
/// gateway-config.json again. Set it up with `clawchat up` or `clawchat gateway init`.
#[derive(Debug, Parser)]
#[command(
    name = "clawchatd",
    version,
    max_term_width = 110,
    after_help = "Environment: RUST_LOG sets what is logged (default: info).\n\
                  Exit codes: 0 ended as told, 1 failed, 2 usage, 5 wrong password."
)]
pub(crate) struct Args {
    /// Home folder of the gateway [env: CLAWCHAT_DATA_DIR] [default: ~/.clawchat]
    #[arg(long, short = 'd', global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// TCP and QUIC port for this run, instead of the configured one; WebSocket takes the next one
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Read the password of the identities from this file [env: CLAWCHAT_PASSWORD_FILE]
    ///
    /// Identities with a `password` file in their folder need none.
    #[arg(long, value_name = "FILE", conflicts_with = "password_stdin")]
    pub(crate) password_file: Option<PathBuf>,
    /// Read the password of the identities from stdin, up to its end
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Wake OpenClaw for messages to every identity, whatever the configuration says
    #[arg(long)]
    pub(crate) openclaw_wake: bool,
    /// How to log
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// When it cannot start, say why on stdout too, as {"event":"failed",…}
    #[arg(long, hide = true)]
    pub(crate) report_failure: bool,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do instead of serving.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Command {
    /// Answer one request from stdin on stdout, without starting a daemon
    #[command(hide = true)]
    Offline,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn offline_takes_the_data_dir_on_either_side() {
        for line in [
            ["clawchatd", "--data-dir", "/x", "offline"],
            ["clawchatd", "offline", "--data-dir", "/x"],
        ] {
            let args = Args::try_parse_from(line).unwrap();
            assert!(matches!(args.command, Some(Command::Offline)));
            assert_eq!(args.data_dir, Some(PathBuf::from("/x")));
        }
    }

    #[test]
    fn a_password_comes_from_one_place() {
        let both = ["clawchatd", "--password-file", "/x", "--password-stdin"];
        assert!(Args::try_parse_from(both).is_err());
    }
}
