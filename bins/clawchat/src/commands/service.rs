//! `service install|uninstall|status`.

use std::env;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use clawchat_ipc::ErrorCode;
use serde_json::{Value, json};

use super::{Context, daemon};
use crate::args::{InstallArgs, ServiceCommand, UninstallArgs, WhichArgs};
use crate::failure::{Failure, Outcome};
use crate::human;
use crate::link::Link;
use crate::render;
use crate::service::{self, Facts, Folders, Platform, Refusal, Unit};

/// How long a service that was just started is waited for.
const SERVE_LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked whether it serves.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Where systemd keeps whose services run without a login: a file for each.
const LINGER_FOLDER: &str = "/var/lib/systemd/linger";

/// `service …`.
pub(super) fn service(context: &Context, command: ServiceCommand) -> Outcome {
    match command {
        ServiceCommand::Install(args) => install(context, &args),
        ServiceCommand::Uninstall(args) => uninstall(context, &args),
        ServiceCommand::Status(args) => status(context, &args),
    }
}

fn install(context: &Context, args: &InstallArgs) -> Outcome {
    let unit = unit(context, &args.which)?;
    let facts = service::facts_for(&context.settings, &unit.name)?;
    if args.print {
        return render::raw(unit.platform.unit_text(&facts)?.as_bytes());
    }
    service::check(&facts, daemon::passwords_are_kept(&context.settings.home))?;
    let text = new_text(&unit, &facts, args.force)?;
    if !args.no_enable {
        refuse_other_daemon(context, &unit)?;
    }
    if let Some(text) = &text {
        unit.write(text)?;
    }
    let written = text.is_some();
    let mut answer = json!({
        "status": "installed",
        "platform": unit.platform.as_str(),
        "name": unit.name,
        "unit": unit.path.to_string_lossy(),
        "dataDir": facts.home,
        "written": written,
        "logs": unit.log_command(&facts.home),
    });
    let mut add = |name: &str, value: Value| {
        if let Some(answer) = answer.as_object_mut() {
            answer.insert(name.to_owned(), value);
        }
    };
    let mut warnings = Vec::new();
    if args.no_enable {
        add("next", Value::from(unit.enabling_command()));
    } else {
        unit.enable(written)
            .map_err(|refusal| not_enabled(&unit, written, &refusal))?;
        let serves = wait_until_it_serves(context, &unit, &facts)?;
        if !serves {
            warnings.push(format!(
                "the daemon does not answer yet; see: {}",
                unit.log_command(&facts.home)
            ));
        }
        add("enabled", Value::Bool(true));
        add("running", Value::Bool(serves));
    }
    if unit.platform == Platform::Systemd {
        add("linger", Value::from(lingers()));
    }
    let answer = context.screen.with_warnings(answer, &warnings);
    context.screen.answer(&answer, human::service_installed)
}

fn uninstall(context: &Context, args: &UninstallArgs) -> Outcome {
    let unit = unit(context, &args.which)?;
    let Some(text) = unit.read()? else {
        let answer =
            json!({"status": "not_installed", "name": unit.name, "unit": unit.path.to_string_lossy()});
        return context.screen.answer(&answer, human::service_uninstalled);
    };
    if Facts::of_unit(&text).is_none() && !args.force {
        let message = format!(
            "{} was not written by clawchat service install",
            unit.path.display()
        );
        return Err(Failure::new(ErrorCode::Failed, message)
            .named("foreign_unit")
            .hint("remove it by hand, or with --force"));
    }
    let mut warnings = Vec::new();
    if let Err(refusal) = unit.disable() {
        warnings.push(format!(
            "`{}` failed ({}); if the daemon still runs: clawchat daemon stop",
            refusal.command, refusal.reason
        ));
    }
    unit.remove()?;
    unit.forget();
    let answer = json!({"status": "uninstalled", "name": unit.name, "unit": unit.path.to_string_lossy()});
    let answer = context.screen.with_warnings(answer, &warnings);
    context.screen.answer(&answer, human::service_uninstalled)
}

fn status(context: &Context, args: &WhichArgs) -> Outcome {
    let unit = unit(context, args)?;
    let text = unit.read()?;
    let facts = text.as_deref().and_then(Facts::of_unit);
    let condition = unit.condition();
    let installed = text.is_some();
    let up_to_date = text
        .zip(facts.as_ref())
        .is_some_and(|(text, facts)| is_up_to_date(&unit, &text, facts));
    let mut answer = json!({
        "installed": installed,
        "platform": unit.platform.as_str(),
        "name": unit.name,
        "unit": unit.path.to_string_lossy(),
        "enabled": condition.enabled,
        "active": condition.active,
        "upToDate": up_to_date,
    });
    if let (Some(facts), Some(answer)) = (facts, answer.as_object_mut()) {
        answer.insert("logs".to_owned(), Value::from(unit.log_command(&facts.home)));
        answer.insert("dataDir".to_owned(), Value::from(facts.home));
        answer.insert("program".to_owned(), Value::from(facts.program));
        answer.insert("passwordFile".to_owned(), Value::from(facts.password_file));
    }
    context.screen.answer(&answer, human::service_status)
}

/// The service that is meant.
fn unit(context: &Context, which: &WhichArgs) -> Outcome<Unit> {
    let folders = Folders::from_environment()?;
    let name = service::name_for(
        which.name.as_deref(),
        &context.settings.home,
        &folders.default_gateway(),
    )?;
    Ok(folders.unit(which.platform.unwrap_or(Platform::here()), &name))
}

/// What is to be written; `None` when it is there already. The `PATH` a unit was installed with is no difference:
/// every shell has another one.
fn new_text(unit: &Unit, facts: &Facts, force: bool) -> Outcome<Option<String>> {
    let text = unit.platform.unit_text(facts)?;
    let Some(found) = unit.read()? else {
        return Ok(Some(text));
    };
    if force {
        return Ok((found != text).then_some(text));
    }
    let with_its_path = Facts::of_unit(&found).map(|old| Facts {
        search_path: old.search_path,
        ..facts.clone()
    });
    if let Some(same) = with_its_path
        && unit.platform.unit_text(&same)? == found
    {
        return Ok(None);
    }
    let message = format!("{} exists with other contents", unit.path.display());
    Err(Failure::new(ErrorCode::AlreadyExists, message)
        .hint("see what it would be with --print, replace it with --force, or choose another --name"))
}

/// Whether this version would write the unit like that, for the daemon it would start itself.
fn is_up_to_date(unit: &Unit, text: &str, facts: &Facts) -> bool {
    facts.name == unit.name
        && service::program_path().is_ok_and(|program| program == facts.program)
        && unit.platform.unit_text(facts).is_ok_and(|same| same == text)
}

/// A daemon that was started by hand keeps the service from starting.
fn refuse_other_daemon(context: &Context, unit: &Unit) -> Outcome {
    let running = Link::try_open(&context.settings.socket())?.is_some();
    if !running || unit.condition().active == Some(true) {
        return Ok(());
    }
    let message = format!(
        "a daemon that is not this service is running for {}",
        context.settings.home.display()
    );
    Err(Failure::new(ErrorCode::AlreadyRunning, message).hint(
        "stop it with: clawchat daemon stop; then install again, or write the unit alone with --no-enable",
    ))
}

/// Whether it answers in time.
///
/// # Errors
/// When it has ended and is not tried again.
fn wait_until_it_serves(context: &Context, unit: &Unit, facts: &Facts) -> Outcome<bool> {
    let deadline = Instant::now() + SERVE_LIMIT;
    loop {
        if Link::try_open(&context.settings.socket())?.is_some() {
            return Ok(true);
        }
        if unit.condition().failed {
            let message = format!(
                "{} is installed and enabled, but the daemon did not start",
                unit.name
            );
            return Err(Failure::new(ErrorCode::Failed, message)
                .named("service_failed")
                .hint(format!("see: {}", unit.log_command(&facts.home)))
                .detail("unit", Value::from(unit.path.to_string_lossy())));
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn not_enabled(unit: &Unit, written: bool, refusal: &Refusal) -> Failure {
    let state = if written { "is written" } else { "is in place" };
    let message = format!(
        "{} {state}, but not enabled: `{}` failed: {}",
        unit.path.display(),
        refusal.command,
        refusal.reason
    );
    let command = unit.enabling_command();
    let failure = Failure::new(ErrorCode::Failed, message)
        .detail("unit", Value::from(unit.path.to_string_lossy()))
        .detail("written", Value::Bool(written))
        .detail("next", Value::from(command.clone()));
    if refusal.unreachable {
        failure.named("no_service_manager").hint(format!(
            "in a login session of this user run: {command}; without one, start it with: clawchat daemon start"
        ))
    } else {
        failure
            .named("service_not_enabled")
            .hint(format!("when that is mended run: {command}"))
    }
}

/// Whether the user's services run without a login; `None` when the user's name is unknown.
fn lingers() -> Option<bool> {
    let user = env::var_os("USER").or_else(|| env::var_os("LOGNAME"))?;
    let user = Path::new(&user).file_name()?;
    Some(Path::new(LINGER_FOLDER).join(user).exists())
}
