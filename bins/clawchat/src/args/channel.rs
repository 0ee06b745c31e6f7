//! `channel …` and `dm …`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::values;

/// `channel …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ChannelCommand {
    /// Follow a channel, also after restarts
    Join {
        /// Name: lobby, #dev, any text of at most 256 bytes
        name: String,
    },
    /// Follow it no longer
    Leave {
        /// Name of the channel
        name: String,
    },
    /// The channels followed here, and those kept for others
    List,
    /// Publish in a channel that is followed here; answers once it is stored
    Send {
        /// Name of the channel
        name: String,
        /// The text; `-` reads it from stdin
        #[arg(required_unless_present = "file")]
        text: Option<String>,
        /// What goes with it.
        #[command(flatten)]
        extra: FileArgs,
    },
    /// Messages of a channel, oldest first: the newest ones, or those before or after a message
    History {
        /// Name of the channel
        name: String,
        /// Which part.
        #[command(flatten)]
        part: HistoryArgs,
    },
    /// Who has written in a channel, and which connected peers follow it
    ///
    /// Those further away who only read cannot be known: peers tell their neighbours alone what they follow.
    Members {
        /// Name of the channel
        name: String,
    },
    /// Write the file of a message into a folder, after checking its hash; an existing file stays as it is
    Save {
        /// Id of the message
        #[arg(value_name = "MSG-ID", allow_hyphen_values = true)]
        message: String,
        /// The folder [default: the current one]
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Channel of the message, in case several have one of that id
        #[arg(long, value_name = "NAME")]
        channel: Option<String>,
    },
}

/// `dm …`.
#[derive(Debug, Subcommand)]
pub(crate) enum DmCommand {
    /// Publish in the channel of the two of you; answers once it is stored here
    Send {
        /// Mesh peer id, principal, peer alias or nickname
        #[arg(allow_hyphen_values = true)]
        who: String,
        /// The text; `-` reads it from stdin
        #[arg(required_unless_present = "file")]
        text: Option<String>,
        /// What goes with it.
        #[command(flatten)]
        extra: FileArgs,
    },
    /// Messages of the two of you, oldest first
    History {
        /// Mesh peer id, principal, peer alias or nickname
        #[arg(allow_hyphen_values = true)]
        who: String,
        /// Which part.
        #[command(flatten)]
        part: HistoryArgs,
    },
}

/// What a mesh message carries beside its text.
#[derive(Debug, ClapArgs)]
pub(crate) struct FileArgs {
    /// Structured data beside the text: one JSON document
    #[arg(long, value_name = "JSON", value_parser = values::json)]
    pub(crate) payload: Option<serde_json::Value>,
    /// Send this small file with it; `channel save` takes it out at the other side
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Which messages of a history.
#[derive(Debug, ClapArgs)]
pub(crate) struct HistoryArgs {
    /// At most this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Those right before this message
    #[arg(
        long,
        value_name = "MSG-ID",
        conflicts_with = "after",
        allow_hyphen_values = true
    )]
    pub(crate) before: Option<String>,
    /// Those right after this message
    #[arg(long, value_name = "MSG-ID", allow_hyphen_values = true)]
    pub(crate) after: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    #[test]
    fn names_of_the_mesh_may_begin_with_a_dash() {
        // A peer id is base64url, so one in 64 does.
        let id = "-z1nl6TsPqYqWvIbCrVpmxGfNa8bVLrYyXDzQ0uYqlE";
        let args =
            Args::try_parse_from(["clawchat", "dm", "send", id, "hi", "--file", "x", "--json"]).unwrap();
        assert!(args.global.json);
        let Command::Dm(DmCommand::Send { who, text, extra }) = args.command else {
            panic!("dm send")
        };
        assert_eq!((who.as_str(), text.as_deref()), (id, Some("hi")));
        assert!(extra.file.is_some());
        for line in [
            &["clawchat", "dm", "history", id, "--limit", "3"][..],
            &["clawchat", "channel", "history", "lobby", "--after", "-1"],
            &["clawchat", "channel", "save", "-1", "--to", "x"],
            &["clawchat", "watch", "--channel", "lobby", "--from", id],
        ] {
            assert!(Args::try_parse_from(line).is_ok(), "{line:?}");
        }
    }
}
