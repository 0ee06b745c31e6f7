//! One module per group of commands. Each command turns its arguments into requests and answers.

mod bootstrap;
mod channel;
mod channel_watch;
mod daemon;
mod demo;
mod doctor;
mod extras;
mod invite;
mod messages;
mod peers;
mod service;
mod setup;
mod up;
mod watch;

use crate::args::{BootstrapCommand, Command, DaemonCommand};
use crate::failure::Outcome;
use crate::link::Link;
use crate::render::Screen;
use crate::settings::Settings;

/// What a command works with.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// Where, as whom, in which format.
    pub(crate) settings: Settings,
    /// Where answers go.
    pub(crate) screen: Screen,
}

impl Context {
    /// The running daemon.
    ///
    /// # Errors
    /// When none is running.
    pub(crate) fn link(&self) -> Outcome<Link> {
        Link::open(&self.settings.home, &self.settings.socket())
    }

    /// Who acts, if that was said.
    pub(crate) fn acting(&self) -> Option<&str> {
        self.settings.acting.as_deref()
    }
}

/// Runs a command to its end.
///
/// # Errors
/// Why it failed; nothing has been said about it yet.
pub(crate) fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Up(args) => up::run(context, &args),
        Command::Gateway(command) => setup::gateway(context, command),
        Command::Identity(command) => setup::identity(context, command),
        Command::Daemon(DaemonCommand::Start(args)) => daemon::start(context, &args),
        Command::Daemon(DaemonCommand::Stop) => daemon::stop(context),
        Command::Daemon(DaemonCommand::Status) => daemon::status(context),
        Command::Daemon(DaemonCommand::Metrics) => daemon::metrics(context),
        Command::Daemon(DaemonCommand::Reload) => daemon::reload(context),
        Command::Service(command) => service::service(context, command),
        Command::Peers(command) => peers::peers(context, command),
        Command::Invite(command) => invite::invite(context, command),
        Command::Connect(args) => peers::connect(context, &args),
        Command::Send(args) => messages::send(context, args),
        Command::Recv(args) => messages::recv(context, &args),
        Command::Inbox => messages::inbox(context),
        Command::Outbox => messages::outbox(context),
        Command::Ask(args) => messages::ask(context, args),
        Command::Reply(args) => messages::reply(context, args),
        Command::Watch(args) => watch::run(context, &args),
        Command::Channel(command) => channel::channel(context, command),
        Command::Dm(command) => channel::dm(context, command),
        Command::Bootstrap(BootstrapCommand::Serve(args)) => Err(bootstrap::serve(context, &args)),
        Command::Demo => demo::run(context),
        Command::Doctor => doctor::run(context),
        Command::Completions(args) => extras::completions(args.shell),
        Command::Man => extras::man(),
    }
}
