//! The ways of waking, and what each needs.

use std::ffi::OsString;
use std::time::Duration;

use clawchat_types::Principal;

use super::batch::Batch;
use super::process::Program;
use super::webhook;
use crate::config::Webhook;

/// How long a program may run. OpenClaw itself takes some seconds to start, and gives up after 30.
const PROGRAM_LIMIT: Duration = Duration::from_secs(35);
/// How long a webhook may take to answer.
const WEBHOOK_LIMIT: Duration = Duration::from_secs(15);
/// What a thread that calls a webhook may take beyond its limit, as when a disk does not answer.
const GRACE: Duration = Duration::from_secs(5);

/// A way of waking. Each one that is on is told of every message, and tried again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    OpenClaw,
    Command,
    Webhook,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::OpenClaw, Self::Command, Self::Webhook];

    /// Its name in files, in the status and in logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OpenClaw => "openclaw",
            Self::Command => "command",
            Self::Webhook => "webhook",
        }
    }
}

/// What a way does it with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Means {
    /// The OpenClaw program: a name or a path.
    OpenClaw(OsString),
    /// A program and its arguments.
    Command(Vec<String>),
    /// Whom to call.
    Webhook(Webhook),
}

impl Means {
    /// Wakes.
    ///
    /// # Errors
    /// Why it did not work.
    pub(super) async fn wake(self, identity: Principal, batch: Batch) -> Result<(), Failed> {
        let json = || batch.to_json(&identity).to_string();
        match self {
            Self::OpenClaw(program) => {
                let mode = if batch.is_urgent() {
                    "now"
                } else {
                    "next-heartbeat"
                };
                let sentence = batch.sentence();
                let arguments = ["system", "event", "--text", &sentence, "--mode", mode];
                let program = Program {
                    program,
                    arguments: arguments.into_iter().map(OsString::from).collect(),
                    input: Vec::new(),
                };
                program.run(PROGRAM_LIMIT).await
            }
            Self::Command(words) => {
                let mut words = words.into_iter().map(OsString::from);
                let program = Program {
                    program: words.next().unwrap_or_default(),
                    arguments: words.collect(),
                    input: (json() + "\n").into_bytes(),
                };
                program.run(PROGRAM_LIMIT).await
            }
            Self::Webhook(hook) => {
                let (body, key) = (json(), *batch.newest_id());
                let call =
                    tokio::task::spawn_blocking(move || webhook::post(&hook, &body, &key, WEBHOOK_LIMIT));
                match tokio::time::timeout(WEBHOOK_LIMIT + GRACE, call).await {
                    Ok(Ok(result)) => result,
                    Ok(Err(_)) | Err(_) => Err(Failed::new("the call did not come to an end".to_owned())),
                }
            }
        }
    }
}

/// Why a wake did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// In our own words; may be logged.
    pub(super) reason: String,
    /// In the program's words. They may repeat a message: for the operator's eyes, not for the log.
    pub(super) said: Option<String>,
}

impl Failed {
    pub(super) fn new(reason: String) -> Self {
        Self { reason, said: None }
    }

    /// For the status.
    pub(super) fn in_full(&self) -> String {
        match &self.said {
            Some(said) => format!("{}: {said}", self.reason),
            None => self.reason.clone(),
        }
    }
}
