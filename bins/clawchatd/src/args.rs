//! What can be said on the command line.

use std::net::IpAddr;
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
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Run a peer of the OpenClaw Messaging mesh by itself: no wallet, no password, no identities
    ///
    /// Follows the channel lobby unless others are named. While it runs, `clawchat channel …`, `clawchat dm …` and
    /// `clawchat watch --channel …` talk to it through the home folder.
    #[command(
        after_help = "Flags come before these variables, as in the original mesh peer: MESH_BOOTSTRAP_URL (list of \
                            peers to dial), PORT or MESH_PEER_PORT, HOST, MESH_STORE_PATH (a folder), MESH_KEY_DIR."
    )]
    Mesh(MeshArgs),
    /// The list where peers of the mesh find each other
    #[command(subcommand, arg_required_else_help = true)]
    Bootstrap(BootstrapCommand),
    /// Answer one request from stdin on stdout, without starting a daemon
    #[command(hide = true)]
    Offline,
}

/// `mesh`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct MeshArgs {
    /// WebSocket port for other peers; 0 takes a free one [env: PORT, MESH_PEER_PORT] [default: 5000]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Address to listen on [env: HOST] [default: 0.0.0.0]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) host: Option<String>,
    /// Listen nowhere; only dial
    #[arg(long, conflicts_with_all = ["port", "host"])]
    pub(crate) no_listen: bool,
    /// HTTP or HTTPS URL of a list of peers [env: MESH_BOOTSTRAP_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) bootstrap: Option<String>,
    /// WebSocket URL of a peer to dial, ws:// or wss://; can be given several times
    #[arg(long, value_name = "URL")]
    pub(crate) peer: Vec<String>,
    /// Certificate to show, PEM, with those it was signed by behind it: peers come over wss:// then, not ws://
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "no_listen")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// Private key of that certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Certificates of authorities, PEM, trusted besides the usual ones for wss:// peers and an https:// list
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
    /// Channel to follow instead of lobby; can be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) channel: Vec<String>,
    /// Store this channel for others without following it; a * at the end stands for anything [default: dm:*]
    #[arg(long, value_name = "PATTERN")]
    pub(crate) keep: Vec<String>,
    /// Keep no messages for peers that were away
    #[arg(long)]
    pub(crate) no_store: bool,
    /// Pass no messages on
    #[arg(long)]
    pub(crate) no_relay: bool,
}

/// `bootstrap …`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BootstrapCommand {
    /// Serve a list of peers over HTTP: GET /bootstrap.json, the same at /, and /status
    ///
    /// The file is read again when it changes. While it is broken, or gone, the last good list is served; the log,
    /// /status and the header X-Bootstrap-Fault say what is wrong.
    Serve(BootstrapServeArgs),
}

/// `bootstrap serve`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BootstrapServeArgs {
    /// TCP port to serve it on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 4000)]
    pub(crate) port: u16,
    /// Address to serve it on
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    pub(crate) host: IpAddr,
    /// The list; an empty one is served until this file exists
    #[arg(long, value_name = "FILE", default_value = "bootstrap.json")]
    pub(crate) file: PathBuf,
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
