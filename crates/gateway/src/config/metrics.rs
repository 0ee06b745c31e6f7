//! The key `metrics`: where the counters of the daemon are served.

use std::net::SocketAddr;

use serde_json::{Map, Value};

use super::check::{Problem, problem};
use super::document::{key, shown};
use super::place::KeyPath;

/// The `metrics` of the file. Counts from the next start of the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricsSettings {
    /// `metrics.listen`: where `GET /metrics` is answered, over HTTP. Default: nowhere.
    pub listen: Option<SocketAddr>,
}

/// Checks the key.
pub(super) fn metrics(
    root: &KeyPath,
    document: &Map<String, Value>,
    warnings: &mut Vec<String>,
) -> Result<MetricsSettings, Problem> {
    let at = root.key(key::METRICS);
    let given = match document.get(key::METRICS) {
        None => return Ok(MetricsSettings::default()),
        Some(Value::Object(given)) => given,
        Some(_) => return problem(at, "metrics must be an object"),
    };
    for name in given
        .keys()
        .filter(|name| !["listen", "remote"].contains(&name.as_str()))
    {
        let name: String = name.chars().take(64).collect();
        warnings.push(format!("{at} has a key that means nothing: {name}"));
    }
    let remote = match given.get("remote") {
        None => false,
        Some(Value::Bool(remote)) => *remote,
        Some(_) => return problem(at.key("remote"), "remote must be a boolean"),
    };
    let Some(value) = given.get("listen") else {
        return Ok(MetricsSettings::default());
    };
    let parsed = value.as_str().and_then(|text| text.parse::<SocketAddr>().ok());
    let Some(listen) = parsed.filter(|address| address.port() > 0) else {
        let message = format!(
            "listen must be an IP address and a port, such as \"127.0.0.1:9464\" (got: {})",
            shown(Some(value))
        );
        return problem(at.key("listen"), message);
    };
    if !listen.ip().is_loopback() && !remote {
        let message = format!(
            "listen must be an address of this machine alone, such as \"127.0.0.1:9464\" (got: {listen}); \
             \"remote\": true lets other machines read the metrics, without a password"
        );
        return problem(at.key("listen"), message);
    }
    Ok(MetricsSettings { listen: Some(listen) })
}
