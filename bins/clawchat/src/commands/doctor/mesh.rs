//! The mesh's part of `doctor`: from the port to the clock.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Check, list, text};

/// Clocks that differ by less are no reason to speak of them, in milliseconds.
const CLOCK_TOLERANCE: u64 = 60_000;
/// A minute in milliseconds.
const MINUTE: u64 = 60_000;

/// What there is to say about the mesh's part of `status`, and about the answer to `mesh_check`.
pub(super) fn checks(mesh: &Value, store: &Value, now: u64) -> Vec<Check> {
    if let Some(error) = mesh.get("error").and_then(Value::as_str) {
        let first = mesh
            .get("hint")
            .and_then(Value::as_str)
            .unwrap_or("put that right");
        let hint = format!("{first}; then restart it: clawchat daemon stop, clawchat daemon start");
        return vec![Check::bad("mesh", format!("it did not start: {error}"), hint)];
    }
    let mut checks = vec![listening_check(mesh)];
    checks.extend(list_check(mesh, now));
    checks.extend(neighbour_checks(mesh));
    checks.push(store_check(store));
    checks.push(clock_check(mesh));
    checks
}

fn listening_check(mesh: &Value) -> Check {
    let name = "mesh port";
    let scheme = if mesh["tls"] == true { "wss" } else { "ws" };
    match mesh.get("listen").and_then(Value::as_str) {
        Some(address) => Check::good(name, format!("peers are expected at {scheme}://{address}")),
        None => Check::note(
            name,
            "peers cannot connect over WebSocket; it dials, and uses the sessions with other gateways",
            "where others are to dial this one: \"mesh\": {\"listen\": \"0.0.0.0:5000\"} in gateway-config.json; \
             clawchatd mesh listens unless it is started with --no-listen",
        ),
    }
}

fn list_check(mesh: &Value, now: u64) -> Option<Check> {
    let name = "mesh list";
    let bootstrap = mesh.get("bootstrap").filter(|bootstrap| bootstrap.is_object())?;
    let url = text(bootstrap, "url");
    let peers = bootstrap.get("peers").and_then(Value::as_u64);
    let fetched = bootstrap.get("fetchedAt").and_then(Value::as_u64).unwrap_or(now);
    let ago = now.saturating_sub(fetched) / MINUTE;
    Some(match (bootstrap.get("error").and_then(Value::as_str), peers) {
        (Some(error), peers) => {
            let older = peers.map_or_else(String::new, |peers| {
                format!("; the one of {ago} min ago, with {peers} peers, is used meanwhile")
            });
            Check::bad(
                name,
                format!("{url} cannot be fetched: {error}{older}"),
                "check the URL, and that its server runs and answers: curl the URL; it is tried again by itself",
            )
        }
        (None, None) => Check::note(name, format!("{url} is being fetched"), "look again in a moment"),
        (None, Some(0)) => Check::note(
            name,
            format!("{url} has no peers in it"),
            "whoever serves it should write some into its file",
        ),
        (None, Some(1)) => Check::good(name, format!("1 peer in {url}, fetched {ago} min ago")),
        (None, Some(peers)) => Check::good(name, format!("{peers} peers in {url}, fetched {ago} min ago")),
    })
}

fn neighbour_checks(mesh: &Value) -> Vec<Check> {
    let name = "mesh neighbours";
    let links = list(mesh, "links").iter();
    let peers: BTreeSet<&str> = links.filter_map(|link| link["peerId"].as_str()).collect();
    let connected = peers.len();
    let detail = format!("{connected} connected");
    let dialing = list(mesh, "dialing");
    let mut checks = vec![if connected > 0 {
        Check::good(name, detail)
    } else if dialing.is_empty() && mesh["bootstrap"].is_null() {
        Check::note(
            name,
            detail,
            "name some under \"mesh\".\"peers\", a list under \"mesh\".\"bootstrap\", or exchange invites with a gateway",
        )
    } else {
        Check::bad(
            name,
            detail,
            "check that the peers run, and that this machine reaches their ports",
        )
    }];
    for peer in dialing {
        if let Some(error) = peer.get("error").and_then(Value::as_str) {
            let detail = format!("{}: {error}", text(peer, "url"));
            let hint =
                "check that it runs there and that the URL is right; it is tried until it can be reached";
            checks.push(if connected > 0 {
                Check::note(name, detail, hint)
            } else {
                Check::bad(name, detail, hint)
            });
        }
    }
    checks
}

fn store_check(store: &Value) -> Check {
    let name = "mesh store";
    match store.get("error").and_then(Value::as_str) {
        None => Check::good(name, "messages can be written to disk"),
        Some(error) => Check::bad(
            name,
            format!("messages cannot be written to disk: {error}"),
            "free some space on that disk and check who owns the folder mesh/store; then restart the daemon",
        ),
    }
}

fn clock_check(mesh: &Value) -> Check {
    let name = "mesh clock";
    let hint = "set the clock of this machine, or have it set from the network: timedatectl set-ntp true";
    let ahead = mesh["bootstrap"].get("clockAhead").and_then(Value::as_i64);
    if let Some(ahead) = ahead.filter(|ahead| ahead.unsigned_abs() > CLOCK_TOLERANCE) {
        let minutes = ahead.unsigned_abs() / MINUTE;
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        let detail = format!("the clock of the list's server is {minutes} min {side} this one");
        return Check::bad(name, detail, hint);
    }
    let refused = mesh["counters"].get("fromFuture").and_then(Value::as_u64);
    match (refused, ahead) {
        (Some(refused), _) if refused > 0 => Check::note(
            name,
            format!(
                "{refused} messages were refused because they are dated more than a day ahead of this clock"
            ),
            hint,
        ),
        (_, Some(_)) => Check::good(name, "as that of the list's server"),
        _ => Check::good(name, "no message so far was dated far ahead of it"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::State;
    use super::*;

    const NOW: u64 = 10_000_000;

    fn states(checks: &[Check], state: State) -> Vec<&'static str> {
        let found = checks.iter().filter(|check| check.state == state);
        found.map(|check| check.name).collect()
    }

    #[test]
    fn a_mesh_that_works_is_found_to_work() {
        let mesh = json!({
            "listen": "0.0.0.0:5000", "tls": true, "links": [{"peerId": "a"}, {"peerId": null}, {"peerId": "a"}],
            "dialing": [{"url": "ws://a/", "connected": true, "error": null}],
            "bootstrap": {"url": "https://x/", "peers": 3, "fetchedAt": NOW - 120_000, "error": null, "clockAhead": -900},
            "counters": {"fromFuture": 0},
        });
        let checks = checks(&mesh, &json!({"writable": true}), NOW);
        assert_eq!(states(&checks, State::Good).len(), 5);
        assert_eq!(checks[0].detail, "peers are expected at wss://0.0.0.0:5000");
        assert_eq!(checks[1].detail, "3 peers in https://x/, fetched 2 min ago");
        assert_eq!(checks[2].detail, "1 connected");
    }

    #[test]
    fn what_is_wrong_comes_with_what_to_do() {
        let mesh = json!({
            "listen": null, "links": [], "dialing": [{"url": "ws://a/", "connected": false, "error": "it cannot be reached"}],
            "bootstrap": {"url": "http://x/", "peers": null, "error": "its server did not answer in time", "clockAhead": 600_000},
        });
        let store = json!({"writable": false, "error": "No space left on device"});
        let bad = checks(&mesh, &store, NOW);
        assert_eq!(
            states(&bad, State::Bad),
            [
                "mesh list",
                "mesh neighbours",
                "mesh neighbours",
                "mesh store",
                "mesh clock"
            ]
        );
        assert_eq!(states(&bad, State::Note), ["mesh port"]);
        assert!(bad.iter().all(|check| check.hint.is_some()));
        assert!(bad.iter().any(|check| check.detail.contains("10 min ahead of")));

        let failed = checks(
            &json!({"error": "cannot listen", "code": "network"}),
            &Value::Null,
            NOW,
        );
        assert_eq!(states(&failed, State::Bad), ["mesh"]);
        let refused = json!({"listen": null, "links": [], "counters": {"fromFuture": 7}});
        let notes = checks(&refused, &json!({"writable": true}), NOW);
        assert_eq!(
            states(&notes, State::Note),
            ["mesh port", "mesh neighbours", "mesh clock"]
        );
    }
}
