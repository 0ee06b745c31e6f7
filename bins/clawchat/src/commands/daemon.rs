//! `daemon start|stop|status|metrics|reload`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use clawchat_ipc::{ErrorCode, Request, Secret};
use serde_json::{Value, json};

use super::Context;
use super::peers::with_status;
use crate::args::StartArgs;
use crate::failure::{Failure, Outcome};
use crate::gone::Leaving;
use crate::human;
use crate::link::Link;
use crate::program::{self, Launch};
use crate::settings::Settings;

/// How long a daemon may take to finish. It promises 5 s.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Largest configuration looked at for passwords, in bytes.
const MAX_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// `daemon start`.
pub(super) fn start(context: &Context, args: &StartArgs) -> Outcome {
    let settings = &context.settings;
    refuse_second(settings)?;
    let launch = Launch {
        port: args.port,
        openclaw_wake: args.openclaw_wake,
        password: password_for(settings)?,
    };
    if args.foreground {
        return Err(program::become_daemon(&settings.home, &launch));
    }
    let event = program::start(&settings.home, &launch)?;
    let warnings = human::import_problems(&event);
    let answer = with_status("started", without_event(event));
    let answer = context.screen.with_warnings(answer, &warnings);
    context.screen.answer(&answer, human::started)
}

/// `daemon stop`.
pub(super) fn stop(context: &Context) -> Outcome {
    let home = &context.settings.home;
    let leaving = Leaving::of(home);
    let status = match Link::try_open(&context.settings.socket())? {
        Some(link) => {
            link.stop()?;
            "stopped"
        }
        // It may be on its way out already: its socket goes first.
        None if leaving.holds_home() => "stopped",
        None => "not_running",
    };
    if status == "stopped" && !leaving.wait(STOP_LIMIT) {
        let message = format!("the daemon did not end within {} s", STOP_LIMIT.as_secs());
        return Err(Failure::new(ErrorCode::Failed, message).hint("see daemon.log; end it with kill"));
    }
    context
        .screen
        .answer(&json!({"status": status}), human::status_word)
}

/// `daemon status`.
pub(super) fn status(context: &Context) -> Outcome {
    let answer = match Link::try_open(&context.settings.socket())? {
        Some(mut link) => running(status_of(&mut link, context.acting())?),
        None => json!({"running": false}),
    };
    context.screen.answer(&answer, human::daemon_status)
}

/// `daemon metrics`.
pub(super) fn metrics(context: &Context) -> Outcome {
    let text = context.screen.is_text();
    let answer = context.link()?.call(None, Request::Metrics { text })?;
    context.screen.answer(&answer, human::metrics)
}

/// `daemon reload`.
pub(super) fn reload(context: &Context) -> Outcome {
    let answer = context.link()?.call(None, Request::Reload {})?;
    context
        .screen
        .answer(&with_status("reloaded", answer), human::status_word)
}

/// The daemon's status, as that identity sees it.
///
/// # Errors
/// When there is no such identity: the socket command itself answers `unknown` for compatibility.
pub(super) fn status_of(link: &mut Link, acting: Option<&str>) -> Outcome<Value> {
    let status = link.call(acting, Request::Status {})?;
    match acting {
        Some(who) if status.get("principal").and_then(Value::as_str) == Some("unknown") => Err(Failure::new(
            ErrorCode::NoSuchIdentity,
            format!("no identity {who:?} is loaded"),
        )
        .hint("see: clawchat gateway identity list")),
        _ => Ok(status),
    }
}

/// The status of a daemon, marked as running.
fn running(mut status: Value) -> Value {
    if let Some(object) = status.as_object_mut() {
        object.insert("running".to_owned(), Value::Bool(true));
    }
    status
}

/// What a daemon is started with for this home: the password only where one is needed.
///
/// # Errors
/// When a password is needed and there is none.
pub(super) fn password_for(settings: &Settings) -> Outcome<Option<Secret>> {
    match settings.password.given()? {
        Some(password) => Ok(Some(password)),
        None if passwords_are_kept(&settings.home) => Ok(None),
        None => settings.password.existing("this gateway's identities").map(Some),
    }
}

fn refuse_second(settings: &Settings) -> Outcome {
    let Some(mut link) = Link::try_open(&settings.socket())? else {
        return Ok(());
    };
    let status = link.call(None, Request::Status {}).unwrap_or_default();
    let mut failure = Failure::new(
        ErrorCode::AlreadyRunning,
        format!("a daemon is already running for {}", settings.home.display()),
    )
    .hint("use it, or stop it with: clawchat daemon stop");
    if let Some(pid) = status.get("pid") {
        failure = failure.detail("pid", pid.clone());
    }
    Err(failure)
}

/// Whether every identity that is loaded at start has a `password` file. Also true when the configuration
/// cannot be read: the daemon then says what is wrong with it. Without one, the identity may be at the top of the folder,
/// in the layout from before gateways.
pub(super) fn passwords_are_kept(home: &Path) -> bool {
    let path = home.join("gateway-config.json");
    if !path.exists() && home.join("identity.enc").exists() {
        return home.join("password").exists();
    }
    let small = fs::metadata(&path).is_ok_and(|found| found.len() <= MAX_CONFIG_BYTES);
    let config: Value = match fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
        Ok(Ok(config)) if small => config,
        _ => return true,
    };
    let identities = config.get("identities").and_then(Value::as_array);
    identities.into_iter().flatten().all(|identity| {
        let autoload = identity.get("autoload").and_then(Value::as_bool).unwrap_or(true);
        let principal = identity
            .get("principal")
            .and_then(Value::as_str)
            .unwrap_or_default();
        !autoload || home.join("identities").join(principal).join("password").exists()
    })
}

/// The facts of a `started` event.
fn without_event(event: Value) -> Value {
    let Value::Object(mut facts) = event else {
        return json!({});
    };
    facts.remove("event");
    Value::Object(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_asked_for_only_when_an_identity_to_load_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        assert!(
            passwords_are_kept(home),
            "the daemon tells that there is no gateway"
        );
        fs::write(home.join("identity.enc"), "x").unwrap();
        assert!(!passwords_are_kept(home), "the old layout");
        fs::write(home.join("password"), "x").unwrap();
        assert!(passwords_are_kept(home));
        let config = json!({"identities": [
            {"principal": "stacks:STA", "autoload": true}, {"principal": "stacks:STB", "autoload": false},
        ]});
        fs::write(home.join("gateway-config.json"), config.to_string()).unwrap();
        assert!(!passwords_are_kept(home));
        fs::create_dir_all(home.join("identities/stacks:STA")).unwrap();
        fs::write(home.join("identities/stacks:STA/password"), "x").unwrap();
        assert!(passwords_are_kept(home));
        fs::write(home.join("gateway-config.json"), "{").unwrap();
        assert!(passwords_are_kept(home));
    }
}
