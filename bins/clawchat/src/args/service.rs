//! `service …`.

use clap::{Args as ClapArgs, Subcommand};

use crate::service::Platform;

/// `service …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Write the unit, and start the daemon now and at every login
    ///
    /// A service can ask nobody for a password: name a file with --password-file, unless every identity keeps its
    /// own. Run again it changes nothing; a unit with other contents is replaced with --force alone.
    Install(InstallArgs),
    /// Stop the service and remove its unit; the data folder is not touched
    Uninstall(UninstallArgs),
    /// Whether the service is installed, enabled, running and as this version would write it
    Status(WhichArgs),
}

/// Which service.
#[derive(Debug, ClapArgs)]
pub(crate) struct WhichArgs {
    /// Name of the unit [default: clawchatd, or one made from the data folder if that is not ~/.clawchat]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Whose unit [default: launchd on macOS, else systemd]
    #[arg(long, value_enum, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
}

/// `service install`.
#[derive(Debug, ClapArgs)]
pub(crate) struct InstallArgs {
    /// Which service.
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// Write the unit, but neither enable nor start it
    #[arg(long)]
    pub(crate) no_enable: bool,
    /// Replace a unit with other contents, and take over this shell's PATH
    #[arg(long)]
    pub(crate) force: bool,
    /// Print the unit and change nothing; the data folder and the password file need not exist
    #[arg(long, conflicts_with_all = ["no_enable", "force"])]
    pub(crate) print: bool,
}

/// `service uninstall`.
#[derive(Debug, ClapArgs)]
pub(crate) struct UninstallArgs {
    /// Which service.
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// Remove a unit that was not written by this command, too
    #[arg(long)]
    pub(crate) force: bool,
}
