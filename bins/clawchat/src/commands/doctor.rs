//! `doctor`: each step from this command to another machine, with what to do where one is missing.

mod mesh;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use clawchat_ipc::{ErrorCode, Request};
use serde_json::{Value, json};

use super::Context;
use super::daemon::status_of;
use crate::failure::{Failure, Outcome};
use crate::human;
use crate::link::Link;
use crate::program;

/// Everything others could read of the data folder.
const OTHERS: u32 = 0o077;

/// `doctor`.
pub(super) fn run(context: &Context) -> Outcome {
    let mut checks = Vec::new();
    examine(context, &mut checks)?;
    let bad = checks.iter().filter(|check| check.state == State::Bad).count();
    let listed: Vec<Value> = checks.iter().map(Check::to_json).collect();
    let report = json!({ "ok": bad == 0, "checks": listed });
    context.screen.answer(&report, human::checks)?;
    if bad == 0 {
        return Ok(());
    }
    let message = format!("{bad} of {} checks failed", listed.len());
    Err(Failure::new(ErrorCode::Failed, message)
        .hint("do what the first failed check says, and run this again"))
}

/// How one step is.
struct Check {
    name: &'static str,
    state: State,
    detail: String,
    hint: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Not wrong, and worth knowing.
    Note,
    Bad,
}

impl Check {
    fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, State::Good, detail, None)
    }

    fn note(name: &'static str, detail: impl Into<String>, hint: &str) -> Self {
        Self::new(name, State::Note, detail, Some(hint.to_owned()))
    }

    fn bad(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(name, State::Bad, detail, Some(hint.into()))
    }

    fn new(name: &'static str, state: State, detail: impl Into<String>, hint: Option<String>) -> Self {
        Self {
            name,
            state,
            detail: detail.into(),
            hint,
        }
    }

    fn to_json(&self) -> Value {
        let state = match self.state {
            State::Good => "ok",
            State::Note => "note",
            State::Bad => "failed",
        };
        let mut value = json!({ "check": self.name, "state": state, "detail": self.detail });
        if let Some(hint) = &self.hint {
            value["hint"] = json!(hint);
        }
        value
    }
}

/// Goes from one step to the next, as far as it makes sense.
fn examine(context: &Context, checks: &mut Vec<Check>) -> Outcome {
    let home = &context.settings.home;
    checks.push(program_check());
    checks.push(folder_check(home));
    let mut link = Link::try_open(&context.settings.socket())?;
    if !home.join("gateway-config.json").exists() {
        // `clawchatd mesh` runs without a gateway.
        if let Some(link) = &mut link
            && let status = status_of(link, context.acting())?
            && status.get("mesh").is_some()
        {
            checks.push(Check::good("gateway", "a mesh peer by itself, without a gateway"));
            return mesh_checks(context, link, &status, checks);
        }
        let hint = "run: clawchat up";
        checks.push(Check::bad("gateway", "no gateway is set up in this folder", hint));
        return Ok(());
    }
    checks.push(Check::good("gateway", "a gateway is set up"));
    let Some(mut link) = link else {
        let hint = "run: clawchat daemon start; daemon.log in the data folder says why it ended";
        checks.push(Check::bad("daemon", "the daemon is not running", hint));
        return Ok(());
    };
    let status = status_of(&mut link, context.acting())?;
    let version = status.get("version").and_then(Value::as_str).unwrap_or("?");
    checks.push(version_check(version));
    checks.extend(identity_checks(&status));
    checks.extend(listening_checks(&status));
    checks.push(reach_check(&status));
    checks.push(peers_check(&link.call(context.acting(), Request::Peers {})?));
    checks.extend(wake_check(&status));
    mesh_checks(context, &mut link, &status, checks)
}

/// Where it takes part in the mesh.
fn mesh_checks(context: &Context, link: &mut Link, status: &Value, checks: &mut Vec<Check>) -> Outcome {
    let Some(mesh) = status.get("mesh").filter(|mesh| mesh.is_object()) else {
        return Ok(());
    };
    let store = if mesh.get("error").is_some() {
        Value::Null
    } else {
        link.call(context.acting(), Request::MeshCheck)?
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    checks.extend(mesh::checks(mesh, &store, now));
    Ok(())
}

fn program_check() -> Check {
    match program::find() {
        Ok(path) => Check::good("clawchatd", format!("{} is there", path.display())),
        Err(_) => Check::bad(
            "clawchatd",
            "the daemon's program is neither beside this one nor on PATH",
            "install it: cargo install --locked --path bins/clawchatd",
        ),
    }
}

fn folder_check(home: &Path) -> Check {
    let name = "folder";
    match fs::metadata(home) {
        Ok(found) if found.permissions().mode() & OTHERS != 0 => Check::bad(
            name,
            format!("{} can be read by other users of this machine", home.display()),
            format!("run: chmod 700 '{}'", home.display()),
        ),
        Ok(_) => Check::good(name, format!("{} is private", home.display())),
        Err(error) => Check::bad(name, format!("{}: {error}", home.display()), "run: clawchat up"),
    }
}

fn version_check(version: &str) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    if version == ours {
        return Check::good("daemon", format!("version {version} is running"));
    }
    let detail = format!("version {version} is running, this command is {ours}");
    Check::note(
        "daemon",
        detail,
        "restart it after an update: clawchat daemon stop, clawchat daemon start",
    )
}

fn identity_checks(status: &Value) -> Vec<Check> {
    let name = "identities";
    let loaded = list(status, "loadedIdentities").len();
    let mut checks = vec![Check::good(name, format!("{loaded} served"))];
    for missing in list(status, "notLoaded") {
        let detail = format!(
            "{} is not served: {}",
            text(missing, "principal"),
            text(missing, "reason")
        );
        checks.push(Check::bad(
            name,
            detail,
            "put that right, and run: clawchat daemon reload",
        ));
    }
    for problem in human::import_problems(status) {
        checks.push(Check::bad(
            "import",
            problem,
            "repair that file, and restart the daemon",
        ));
    }
    checks
}

fn listening_checks(status: &Value) -> Vec<Check> {
    let name = "listening";
    let addresses = list(status, "multiaddrs");
    let mut checks = vec![if addresses.is_empty() {
        Check::bad(
            name,
            "no address to listen on",
            "check that the machine has a network interface",
        )
    } else {
        let port = status.get("p2pPort").and_then(Value::as_u64).unwrap_or_default();
        Check::good(name, format!("on port {port}, {} addresses", addresses.len()))
    }];
    for skipped in list(status, "skippedTransports") {
        let detail = format!(
            "not over {}: {}",
            text(skipped, "transport"),
            text(skipped, "reason")
        );
        checks.push(Check::note(
            name,
            detail,
            "free that port, or choose another with --port",
        ));
    }
    checks
}

fn reach_check(status: &Value) -> Check {
    let name = "reachable";
    let nat = status.get("nat").unwrap_or(&Value::Null);
    let summary = nat.get("summary").and_then(Value::as_str);
    let word = text(nat, "reachability");
    let detail = summary.map_or_else(|| word.clone(), str::to_owned);
    match word.as_str() {
        "public" | "mapped" | "relayed" => Check::good(name, detail),
        "none" => Check::bad(
            name,
            detail,
            "forward the port in the router, turn on UPnP there, or list a relay under \"relays\" in gateway-config.json",
        ),
        _ => Check::note(name, detail, "it becomes known once a peer is connected"),
    }
}

fn peers_check(peers: &Value) -> Check {
    let name = "peers";
    let all = peers.as_array().map(Vec::as_slice).unwrap_or_default();
    let connected = all.iter().filter(|peer| peer["connected"] == true).count();
    let added: Vec<&Value> = all.iter().filter(|peer| peer["added"] == true).collect();
    let detail = format!("{connected} of {} connected", all.len());
    if all.is_empty() {
        return Check::note(
            name,
            "none yet",
            "exchange invites: clawchat invite create, clawchat peers add INVITE",
        );
    }
    if connected == 0 && !added.is_empty() {
        let hint = "check that they run and that their addresses are right: clawchat peers list, clawchat connect ADDRESS";
        return Check::bad(name, detail, hint);
    }
    Check::good(name, detail)
}

fn wake_check(status: &Value) -> Option<Check> {
    let wake = status.get("wake")?;
    let error = wake.get("lastError").and_then(Value::as_str)?;
    let failed = wake.get("failed").and_then(Value::as_u64).unwrap_or_default();
    let sent = wake.get("sent").and_then(Value::as_u64).unwrap_or_default();
    let detail = format!("{sent} wakes worked, {failed} failed, the last because: {error}");
    Some(Check::note("wake", detail, "see docs/WAKE.md"))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let found = value.get(name).and_then(Value::as_array);
    found.map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value, name: &str) -> String {
    let found = value.get(name).and_then(Value::as_str);
    found.unwrap_or("?").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_comes_with_what_to_do() {
        let status = json!({
            "loadedIdentities": [{}], "notLoaded": [{"principal": "stacks:STB", "reason": "no password"}],
            "multiaddrs": [], "nat": {"reachability": "none", "summary": "not reachable"},
        });
        let mut checks = identity_checks(&status);
        checks.extend(listening_checks(&status));
        checks.push(reach_check(&status));
        checks.push(peers_check(&json!([{"connected": false, "added": true}])));
        let bad: Vec<_> = checks.iter().filter(|check| check.state == State::Bad).collect();
        assert_eq!(bad.len(), 4);
        assert!(bad.iter().all(|check| check.hint.is_some()));
    }

    #[test]
    fn a_gateway_that_nobody_knows_yet_is_not_wrong() {
        let status = json!({
            "loadedIdentities": [{}], "multiaddrs": ["/ip4/192.0.2.1/tcp/9000"], "nat": {"reachability": "unknown"},
            "wake": {"sent": 0, "failed": 0},
        });
        let mut checks = identity_checks(&status);
        checks.extend(listening_checks(&status));
        checks.push(reach_check(&status));
        checks.push(peers_check(&json!([])));
        checks.extend(wake_check(&status));
        assert!(checks.iter().all(|check| check.state != State::Bad));
    }
}
