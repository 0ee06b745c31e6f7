//! Talking to the daemon, and to the offline stand-in where none runs.

use std::io;
use std::path::Path;
use std::time::Duration;

use clawchat_ipc::client::{Client, ClientError, Subscription};
use clawchat_ipc::{Call, ErrorCode, Request};
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::offline;
use crate::settings::Settings;

/// How long an answer may take that nobody asked to wait for.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How much longer than asked for a waiting answer may take, for the way there and back.
const GRACE: Duration = Duration::from_secs(30);

/// A connection to a running daemon.
#[derive(Debug)]
pub(crate) struct Link {
    client: Client,
}

impl Link {
    /// Connects to the daemon of a home.
    ///
    /// # Errors
    /// When none is running, or it cannot be talked to.
    pub(crate) fn open(home: &Path, socket: &Path) -> Outcome<Self> {
        Self::try_open(socket)?.ok_or_else(|| Failure::not_running(home))
    }

    /// The same; `None` when none is running.
    ///
    /// # Errors
    /// When one is, but cannot be talked to.
    pub(crate) fn try_open(socket: &Path) -> Outcome<Option<Self>> {
        match Client::connect(socket, Some(ANSWER_LIMIT)) {
            Ok(client) => Ok(Some(Self { client })),
            Err(ClientError::NotRunning { .. }) => Ok(None),
            Err(ClientError::Io(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                let message = format!("{} is too long for the path of a socket", socket.display());
                Err(Failure::new(ErrorCode::Io, message).hint("choose a shorter folder with --data-dir"))
            }
            Err(error) => Err(failure(error)),
        }
    }

    /// Asks something that is answered at once.
    ///
    /// # Errors
    /// What the daemon says, or why it says nothing.
    pub(crate) fn call(&mut self, acting: Option<&str>, request: Request) -> Outcome<Value> {
        self.call_within(acting, request, ANSWER_LIMIT)
    }

    /// Asks something whose answer may take as long as `wait`.
    ///
    /// # Errors
    /// As [`Link::call`].
    pub(crate) fn call_waiting(
        &mut self,
        acting: Option<&str>,
        request: Request,
        wait: Duration,
    ) -> Outcome<Value> {
        self.call_within(acting, request, wait.saturating_add(GRACE))
    }

    /// Tells the daemon to stop. That it leaves without an answer is an answer too.
    ///
    /// # Errors
    /// When it refuses.
    pub(crate) fn stop(mut self) -> Outcome {
        match self.client.call(&Call::new(Request::Stop {})) {
            Ok(_) | Err(ClientError::Closed | ClientError::NotRunning { .. }) => Ok(()),
            Err(error) => Err(failure(error)),
        }
    }

    /// Follows the daemon's events on this connection.
    ///
    /// # Errors
    /// When the request cannot be sent.
    pub(crate) fn subscribe(self, acting: Option<&str>, request: Request) -> Outcome<Events> {
        let call = Call::new(request).acting(acting.map(str::to_owned));
        self.client.subscribe(&call).map(Events).map_err(failure)
    }

    fn call_within(&mut self, acting: Option<&str>, request: Request, limit: Duration) -> Outcome<Value> {
        let call = Call::new(request).acting(acting.map(str::to_owned));
        self.client.set_limit(Some(limit));
        self.client.call(&call).map_err(|error| {
            let late = matches!(error, ClientError::Timeout { .. });
            // Nobody asked to wait this long: it failed, rather than that a wait ran out.
            if late {
                failure(error).exit_as(1)
            } else {
                failure(error)
            }
        })
    }
}

/// What a daemon tells its followers.
#[derive(Debug)]
pub(crate) struct Events(Subscription);

impl Events {
    /// The next event; `None` when the daemon ends the stream.
    ///
    /// # Errors
    /// When the daemon refuses the subscription or goes away.
    pub(crate) fn next_event(&mut self) -> Outcome<Option<Value>> {
        self.0.next().transpose().map_err(failure)
    }
}

/// Asks the daemon of a home if one runs, else a `clawchatd` run for this one request.
///
/// # Errors
/// What the answer says, or why there is none.
pub(crate) fn admin(settings: &Settings, acting: Option<&str>, request: Request) -> Outcome<Value> {
    match Link::try_open(&settings.socket())? {
        Some(mut link) => link.call(acting, request),
        None => offline::ask(
            &settings.home,
            &Call::new(request).acting(acting.map(str::to_owned)),
        ),
    }
}

/// Why a request has no answer, in our words.
pub(crate) fn failure(error: ClientError) -> Failure {
    let gone = matches!(error, ClientError::Closed);
    let failure = Failure::from_daemon(error.into_failure());
    if !gone {
        return failure;
    }
    Failure::new(ErrorCode::NotRunning, "the daemon went away before it answered")
        .hint("see daemon.log; start it with: clawchat daemon start")
}
