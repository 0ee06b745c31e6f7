//! What can be typed: flags, commands, and how their values are checked.
//!
//! Parsing decides shape only (numbers, durations, JSON, spelling). Names of identities, peers and messages
//! go to the daemon as typed, which alone knows them.

mod channel;
mod service;
mod values;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

pub(crate) use crate::args::channel::{ChannelCommand, DmCommand, FileArgs, HistoryArgs};
pub(crate) use crate::args::service::{InstallArgs, ServiceCommand, UninstallArgs, WhichArgs};
pub(crate) use crate::args::values::{Millis, OutputFormat};

/// Peers an invite can be limited to: more are not let in by all invites of an identity together.
const MAX_USES: u64 = 1024;

/// Talk to other agents and people, end to end encrypted, peer to peer.
///
/// Start with `clawchat up`: it creates an identity, starts the daemon and prints the invite to share.
/// On a terminal answers are for people; elsewhere, or with --json, each is one JSON document.
#[derive(Debug, Parser)]
#[command(
    name = "clawchat",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 110,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 the daemon is not running, 4 no such identity, peer, channel\nor message,\n5 refused, 6 timed out waiting."
)]
pub(crate) struct Args {
    /// Flags that work with every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that work with every command.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Global {
    /// Home folder of the gateway [env: CLAWCHAT_DATA_DIR] [default: ~/.clawchat]
    #[arg(
        long,
        short = 'd',
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub(crate) data_dir: Option<PathBuf>,
    /// How to answer [env: CLAWCHAT_OUTPUT] [default: text on a terminal, else json]
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    pub(crate) output: Option<OutputFormat>,
    /// Same as --output json
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Act as this identity: its principal or nickname [env: CLAWCHAT_AS] [default: the first loaded]
    #[arg(
        long = "as",
        global = true,
        value_name = "WHO",
        help_heading = "Global options"
    )]
    pub(crate) acting: Option<String>,
    /// Read the password from this file [env: CLAWCHAT_PASSWORD_FILE] [default: ask on a terminal]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) password_file: Option<PathBuf>,
    /// The password itself; other users of this machine can see it, prefer --password-file
    #[arg(long, global = true, value_name = "PASSWORD", help_heading = "Global options")]
    pub(crate) password: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create what is missing, start the daemon, print where others reach you
    Up(UpArgs),
    /// Set up the gateway and the identities it hosts
    #[command(subcommand, arg_required_else_help = true)]
    Gateway(GatewayCommand),
    /// One identity: its wallet and nickname
    #[command(subcommand, arg_required_else_help = true)]
    Identity(IdentityCommand),
    /// Start, stop and ask the daemon
    #[command(subcommand, arg_required_else_help = true)]
    Daemon(DaemonCommand),
    /// Run the daemon as a service of this user: systemd, or launchd on macOS
    ///
    /// While the service runs, `clawchat daemon start` says already_running. `clawchat daemon stop` stops it until
    /// the next login or start of the service; only a daemon that failed is started again.
    #[command(subcommand, arg_required_else_help = true)]
    Service(ServiceCommand),
    /// Who you write to, and where they are
    #[command(subcommand, arg_required_else_help = true)]
    Peers(PeersCommand),
    /// Invites: one line that leads others to you
    #[command(subcommand, arg_required_else_help = true)]
    Invite(InviteCommand),
    /// Connect to a peer by its multiaddr, and say who answers
    Connect(ConnectArgs),
    /// Send a message
    Send(SendArgs),
    /// Messages received, oldest first
    Recv(RecvArgs),
    /// Every message received
    Inbox,
    /// Every message sent, and how far it got
    Outbox,
    /// Send a message and wait for the reply
    Ask(AskArgs),
    /// Reply to a message received
    Reply(ReplyArgs),
    /// Follow new messages until interrupted, one a line
    Watch(WatchArgs),
    /// Channels of the mesh: join, write, read
    #[command(subcommand, arg_required_else_help = true)]
    Channel(ChannelCommand),
    /// Direct messages over the mesh, signed but readable by the peers that carry them
    #[command(subcommand, arg_required_else_help = true)]
    Dm(DmCommand),
    /// The list where peers of the mesh find each other
    #[command(subcommand, arg_required_else_help = true)]
    Bootstrap(BootstrapCommand),
    /// Two gateways and one conversation, in temporary folders on this machine
    Demo,
    /// Check each step from here to other machines, and say what to do where one is missing
    Doctor,
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page (roff)
    Man,
}

/// `up`.
#[derive(Debug, ClapArgs)]
pub(crate) struct UpArgs {
    /// TCP and QUIC port, kept in the configuration; WebSocket takes the next one
    #[arg(long, value_name = "PORT", value_parser = values::port)]
    pub(crate) port: Option<u16>,
    /// Nickname of the identity
    #[arg(long, value_name = "NICK")]
    pub(crate) nick: Option<String>,
    /// A mainnet identity (SP…) instead of a testnet one (ST…)
    #[arg(long)]
    pub(crate) mainnet: bool,
}

/// Testnet or mainnet.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct NetworkArgs {
    /// Testnet addresses, ST… (the default)
    #[arg(long, conflicts_with = "mainnet")]
    pub(crate) testnet: bool,
    /// Mainnet addresses, SP…
    #[arg(long)]
    pub(crate) mainnet: bool,
}

/// `gateway …`.
#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Create the gateway's configuration and its first identity
    Init(InitArgs),
    /// The identities this gateway hosts, and who may write to them
    #[command(subcommand, arg_required_else_help = true)]
    Identity(HostedCommand),
}

/// `gateway init`.
#[derive(Debug, ClapArgs)]
pub(crate) struct InitArgs {
    /// TCP and QUIC port; WebSocket takes the next one
    #[arg(long, value_name = "PORT", value_parser = values::port, default_value_t = 9000)]
    pub(crate) port: u16,
    /// Nickname of the first identity
    #[arg(long, value_name = "NICK")]
    pub(crate) nick: Option<String>,
    /// Which network's addresses.
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Leave a single-identity folder of an older version alone
    #[arg(long)]
    pub(crate) no_migrate: bool,
}

/// `gateway identity …`.
#[derive(Debug, Subcommand)]
pub(crate) enum HostedCommand {
    /// Host one more identity: a new one, or one whose folder is here already
    Add(HostedAddArgs),
    /// List the identities
    List,
    /// Stop hosting an identity (its folder stays)
    Remove {
        /// Principal or nickname
        who: String,
    },
    /// Let a peer write to an identity
    Allow {
        /// Principal or nickname of the identity
        who: String,
        /// Principal of the peer, or * for everyone
        peer: String,
    },
    /// Refuse a peer's messages to an identity
    Deny {
        /// Principal or nickname of the identity
        who: String,
        /// Principal of the peer, or * for everyone
        peer: String,
    },
}

/// `gateway identity add`.
#[derive(Debug, ClapArgs)]
pub(crate) struct HostedAddArgs {
    /// Nickname, for --as and for others to see
    #[arg(long, value_name = "NICK")]
    pub(crate) nick: Option<String>,
    /// Host this identity, whose folder is here already, instead of creating one
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) principal: Option<String>,
    /// Do not load it when the daemon starts
    #[arg(long)]
    pub(crate) no_autoload: bool,
    /// Who may write to it: principals separated by commas, or * (the default) for everyone
    #[arg(long, value_name = "PEERS", value_delimiter = ',')]
    pub(crate) allow_peers: Option<Vec<String>>,
}

/// `identity …`.
#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// Create a wallet and identity
    Create {
        /// Nickname
        #[arg(long, value_name = "NICK")]
        nick: Option<String>,
        /// Which network's addresses.
        #[command(flatten)]
        network: NetworkArgs,
        /// Take these words instead of new ones.
        #[command(flatten)]
        words: WordsArgs,
    },
    /// Bring an identity back from its 24 words
    Recover {
        /// Nickname
        #[arg(long, value_name = "NICK")]
        nick: Option<String>,
        /// Which network's addresses.
        #[command(flatten)]
        network: NetworkArgs,
        /// The words.
        #[command(flatten)]
        words: WordsArgs,
    },
    /// Show who you are
    Show,
    /// Go by a nickname
    SetNick {
        /// The nickname
        name: String,
    },
    /// Go by no nickname
    ClearNick,
}

/// Where the 24 words come from.
#[derive(Debug, ClapArgs)]
pub(crate) struct WordsArgs {
    /// File with the 24 words; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "mnemonic")]
    pub(crate) mnemonic_file: Option<PathBuf>,
    /// The 24 words themselves; other users of this machine can see them, prefer --mnemonic-file
    #[arg(long, value_name = "WORDS")]
    pub(crate) mnemonic: Option<String>,
}

/// `daemon …`.
#[derive(Debug, Subcommand)]
pub(crate) enum DaemonCommand {
    /// Start the daemon; returns when it serves
    Start(StartArgs),
    /// Stop the daemon; returns when it is gone
    Stop,
    /// What the daemon is doing
    Status,
    /// What the daemon has counted; as text in the form Prometheus reads
    Metrics,
    /// Read gateway-config.json again, without dropping a session
    Reload,
}

/// `bootstrap …`.
#[derive(Debug, Subcommand)]
pub(crate) enum BootstrapCommand {
    /// Serve a list of peers over HTTP, in the foreground: GET /bootstrap.json, the same at /, and /status
    ///
    /// The file is read again when it changes. While it is broken, or gone, the last good list is served; the log,
    /// /status and the header X-Bootstrap-Fault say what is wrong. Prints one JSON line when it serves.
    Serve(BootstrapServeArgs),
}

/// `bootstrap serve`.
#[derive(Debug, ClapArgs)]
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

/// `daemon start`.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct StartArgs {
    /// Stay in the foreground, log to stderr
    #[arg(long)]
    pub(crate) foreground: bool,
    /// TCP and QUIC port for this run, instead of the configured one
    #[arg(long, value_name = "PORT", value_parser = values::port)]
    pub(crate) port: Option<u16>,
    /// Wake OpenClaw for messages to every identity, whatever the configuration says
    #[arg(long)]
    pub(crate) openclaw_wake: bool,
}

/// `peers …`.
#[derive(Debug, Subcommand)]
pub(crate) enum PeersCommand {
    /// List known peers
    List,
    /// Take an invite: remember who gave it, and connect
    ///
    /// Without an invite: a principal, and where it is.
    Add {
        /// The peer's principal, stacks:S…, or the invite it gave you, clawchat:…
        #[arg(value_name = "PRINCIPAL|INVITE")]
        peer: String,
        /// Full multiaddr with /p2p/…, or host:port; an invite has it in it
        address: Option<String>,
        /// A short name for it
        #[arg(long, value_name = "ALIAS")]
        alias: Option<String>,
    },
    /// Show where a peer can be reached; if nothing is known, connected peers are asked
    Resolve {
        /// Principal or alias
        who: String,
        /// A connected peer to ask first
        #[arg(long, value_name = "PEER")]
        through: Option<String>,
    },
    /// Forget a peer (messages stay)
    Remove {
        /// Principal or alias
        who: String,
    },
}

/// `invite …`.
#[derive(Debug, Subcommand)]
pub(crate) enum InviteCommand {
    /// Print an invite: `clawchat peers add INVITE` takes it
    ///
    /// With --expires or --uses, and always for a stealth identity, it holds a token: whoever has the line is let in,
    /// whatever the access list says, so hand it to those alone you mean. Such an invite can be revoked.
    Create {
        /// How long it is good for, such as 12h or 30d: 1 minute to 90 days [default: 7d]
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        expires: Option<Millis>,
        /// How many peers it lets in, 1 to 1024 [default: any number]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_USES))]
        uses: Option<u64>,
        /// Draw the QR code too, terminal or not (on stderr)
        #[arg(long, conflicts_with = "no_qr")]
        qr: bool,
        /// Draw no QR code
        #[arg(long)]
        no_qr: bool,
    },
    /// The invites with a token, and whom they let in
    List,
    /// Make an invite useless, also for those it let in
    Revoke {
        /// Its id in `invite list`, or the invite itself
        invite: String,
    },
}

/// `connect`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ConnectArgs {
    /// Full multiaddr with /p2p/…, or host:port
    pub(crate) multiaddr: String,
}

/// What a message carries beside its text.
#[derive(Debug, ClapArgs)]
pub(crate) struct ExtraArgs {
    /// Structured data beside the text: one JSON document
    #[arg(long, value_name = "JSON", value_parser = values::json)]
    pub(crate) payload: Option<serde_json::Value>,
    /// Give up when not delivered after this long, such as 30s, 10m, 12h, 7d [default: 7d]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) expires: Option<Millis>,
}

/// `send`.
#[derive(Debug, ClapArgs)]
pub(crate) struct SendArgs {
    /// Principal, peer alias, or nickname of an identity hosted here
    pub(crate) to: String,
    /// The text; `-` reads it from stdin
    pub(crate) text: String,
    /// Payload and expiry.
    #[command(flatten)]
    pub(crate) extra: ExtraArgs,
    /// Id of the message this one answers
    #[arg(long, value_name = "ID")]
    pub(crate) reply_to: Option<String>,
    /// Wait until it is stored at the other side, at most this many seconds (else exit 6; it stays queued)
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub(crate) wait: Option<Millis>,
}

/// `recv`.
#[derive(Debug, ClapArgs)]
pub(crate) struct RecvArgs {
    /// Only what arrived here after this time, in Unix milliseconds
    #[arg(long, value_name = "MS")]
    pub(crate) since: Option<u64>,
    /// Wait at most this many seconds for at least one message
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub(crate) timeout: Option<Millis>,
    /// Only from this sender: principal or peer alias
    #[arg(long, value_name = "PEER")]
    pub(crate) from: Option<String>,
    /// At most this many, the oldest
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Only what no earlier --unread returned, and mark it read
    #[arg(long)]
    pub(crate) unread: bool,
}

/// `ask`.
#[derive(Debug, ClapArgs)]
pub(crate) struct AskArgs {
    /// Principal, peer alias, or nickname of an identity hosted here
    pub(crate) to: String,
    /// The question; `-` reads it from stdin
    pub(crate) text: String,
    /// Structured data beside the text: one JSON document
    #[arg(long, value_name = "JSON", value_parser = values::json)]
    pub(crate) payload: Option<serde_json::Value>,
    /// Wait at most this many seconds for the reply
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds, default_value = "60")]
    pub(crate) timeout: Millis,
}

/// `reply`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ReplyArgs {
    /// Id of the message to answer
    pub(crate) id: String,
    /// The text; `-` reads it from stdin
    pub(crate) text: String,
    /// Payload and expiry.
    #[command(flatten)]
    pub(crate) extra: ExtraArgs,
    /// Wait until it is stored at the other side, at most this many seconds (else exit 6; it stays queued)
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub(crate) wait: Option<Millis>,
}

/// `watch`.
#[derive(Debug, ClapArgs)]
pub(crate) struct WatchArgs {
    /// Only from this sender: principal or peer alias; in a channel: mesh peer id, principal or alias
    #[arg(long, value_name = "PEER", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// Messages of this channel of the mesh, instead of those to the identity
    #[arg(long, value_name = "NAME")]
    pub(crate) channel: Option<String>,
}

/// `completions`.
#[derive(Debug, ClapArgs)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
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
    fn global_flags_are_taken_before_and_after_the_command() {
        for line in [
            ["clawchat", "--as", "bob", "peers", "list"],
            ["clawchat", "peers", "--as", "bob", "list"],
            ["clawchat", "peers", "list", "--as", "bob"],
        ] {
            let args = Args::try_parse_from(line).unwrap();
            assert_eq!(args.global.acting.as_deref(), Some("bob"));
        }
    }

    #[test]
    fn a_lone_dash_is_a_text_and_an_unknown_flag_is_not() {
        assert!(Args::try_parse_from(["clawchat", "send", "bob", "-"]).is_ok());
        assert!(Args::try_parse_from(["clawchat", "send", "bob", "--urgent"]).is_err());
        assert!(Args::try_parse_from(["clawchat", "send", "bob", "--", "--urgent"]).is_ok());
    }

    #[test]
    fn both_networks_or_both_sources_of_words_are_refused() {
        assert!(Args::try_parse_from(["clawchat", "gateway", "init", "--testnet", "--mainnet"]).is_err());
        let both = [
            "clawchat",
            "identity",
            "recover",
            "--mnemonic",
            "a",
            "--mnemonic-file",
            "b",
        ];
        assert!(Args::try_parse_from(both).is_err());
    }
}
