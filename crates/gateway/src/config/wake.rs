//! The key `wake`: what is told of messages that arrived, and how.
//!
//! It stands at the top level for all identities, and may stand in an identity's entry: the keys given there replace
//! those of the top level for that identity, and `null` there takes one away. See `docs/WAKE.md`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;

use clawchat_ipc::Secret;
use clawchat_types::Principal;
use serde_json::{Map, Value};

use super::PeerPattern;
use super::check::{Problem, problem};
use super::document::{key, shown};
use super::place::KeyPath;

/// Most arguments of `wake.command`, the program included.
pub const MAX_WAKE_ARGUMENTS: usize = 64;
/// Most principals in `wake.urgentFrom`.
pub const MAX_URGENT_PRINCIPALS: usize = 1000;

/// The `wake` of one identity, or of the whole gateway.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct WakeConfig {
    /// `urgentFrom`: whose urgent messages wake at once.
    pub urgent_from: UrgentFrom,
    /// `openclaw`: the OpenClaw program, an absolute path. Default: `openclaw` on the daemon's `PATH`.
    pub openclaw: Option<PathBuf>,
    /// `command`: a program (a name on `PATH` or an absolute path) and its arguments. Never empty; never given to a
    /// shell.
    pub command: Option<Vec<String>>,
    /// `webhook`: where to POST.
    pub webhook: Option<Webhook>,
}

/// Whose messages may wake at once by starting with `URGENT:`, `ALERT:` or `CRITICAL:`. From others such a message is
/// like any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UrgentFrom {
    /// `"peers"`: peers the operator added to the identity's peer list.
    #[default]
    Peers,
    /// `"anyone"`: everybody who may write at all.
    Anyone,
    /// `"nobody"`.
    Nobody,
    /// These principals.
    These(Vec<PeerPattern>),
}

impl UrgentFrom {
    /// Whether `sender` may, if `is_peer` says whether the operator added it to the peer list.
    pub fn admits(&self, sender: &Principal, is_peer: impl FnOnce() -> bool) -> bool {
        match self {
            Self::Peers => is_peer(),
            Self::Anyone => true,
            Self::Nobody => false,
            Self::These(list) => list.iter().any(|pattern| pattern.matches(sender)),
        }
    }
}

/// Where to POST what arrived.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// `url`: an absolute http or https address without user and password.
    pub url: String,
    /// `token` or `tokenFile`: the bearer token.
    pub token: Option<WebhookToken>,
}

/// Shows neither token nor query, which often is one.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("url", &self.shown())
            .field("token", &self.token)
            .finish()
    }
}

impl Webhook {
    /// The address without its path and query, for logs: those may hold secrets.
    #[must_use]
    pub fn shown(&self) -> &str {
        let host = self.url.find("://").map_or(0, |at| at + 3);
        let end = self.url[host..].find(['/', '?', '#']);
        end.map_or(&self.url, |end| &self.url[..host + end])
    }
}

/// Where the bearer token of a webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookToken {
    /// In the configuration.
    Text(Secret),
    /// In this file, an absolute path; read for every call, so that it may change.
    File(PathBuf),
}

/// Checks the `wake` of `object`, if it has one. Keys it does not have are those of `base`.
pub(super) fn wake(
    at: &KeyPath,
    object: &Map<String, Value>,
    base: &WakeConfig,
    warnings: &mut Vec<String>,
) -> Result<WakeConfig, Problem> {
    let at = at.key(key::OWN_WAKE);
    let given = match object.get(key::OWN_WAKE) {
        None => return Ok(base.clone()),
        Some(Value::Object(given)) => given,
        Some(_) => return problem(at, "wake must be an object"),
    };
    let mut wake = base.clone();
    for (name, value) in given {
        match name.as_str() {
            "urgentFrom" => wake.urgent_from = urgent_from(&at.key("urgentFrom"), value, warnings)?,
            "openclaw" => wake.openclaw = or_none(value, |value| openclaw(&at.key("openclaw"), value))?,
            "command" => wake.command = or_none(value, |value| command(&at.key("command"), value))?,
            "webhook" => wake.webhook = or_none(value, |value| webhook(&at.key("webhook"), value))?,
            _ => warnings.push(format!("{at} has a key that means nothing: {}", bounded(name))),
        }
    }
    Ok(wake)
}

fn or_none<T>(value: &Value, read: impl FnOnce(&Value) -> Result<T, Problem>) -> Result<Option<T>, Problem> {
    if value.is_null() {
        return Ok(None);
    }
    read(value).map(Some)
}

fn urgent_from(at: &KeyPath, value: &Value, warnings: &mut Vec<String>) -> Result<UrgentFrom, Problem> {
    let entries = match value {
        Value::Null => return Ok(UrgentFrom::default()),
        Value::String(text) if text == "peers" => return Ok(UrgentFrom::Peers),
        Value::String(text) if text == "anyone" => return Ok(UrgentFrom::Anyone),
        Value::String(text) if text == "nobody" => return Ok(UrgentFrom::Nobody),
        Value::Array(entries) => entries,
        Value::String(_) | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            let message = format!(
                "urgentFrom must be \"peers\", \"anyone\", \"nobody\" or an array of principals (got: {})",
                bounded(&shown(Some(value)))
            );
            return problem(at.clone(), message);
        }
    };
    if entries.len() > MAX_URGENT_PRINCIPALS {
        let message = format!("urgentFrom has more than {MAX_URGENT_PRINCIPALS} principals");
        return problem(at.clone(), message);
    }
    let mut list = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let Some(text) = entry
            .as_str()
            .filter(|text| text.starts_with(super::check::PRINCIPAL_PREFIX))
        else {
            let message = format!("urgentFrom[{index}] must be a principal starting with \"stacks:\"");
            return problem(at.index(index), message);
        };
        let pattern = PeerPattern::new(text);
        if let PeerPattern::Nobody(text) = &pattern {
            warnings.push(format!(
                "{at}[{index}] matches nobody: {} is not a principal",
                bounded(text)
            ));
        }
        list.push(pattern);
    }
    Ok(UrgentFrom::These(list))
}

fn openclaw(at: &KeyPath, value: &Value) -> Result<PathBuf, Problem> {
    absolute(value).map_or_else(|| problem(at.clone(), "openclaw must be an absolute path"), Ok)
}

fn command(at: &KeyPath, value: &Value) -> Result<Vec<String>, Problem> {
    let say = "command must be an array of a program and its arguments";
    let Some(entries) = value.as_array().filter(|entries| !entries.is_empty()) else {
        return problem(at.clone(), say);
    };
    if entries.len() > MAX_WAKE_ARGUMENTS {
        let message = format!("command has more than {MAX_WAKE_ARGUMENTS} entries");
        return problem(at.clone(), message);
    }
    let mut words = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let Some(word) = entry.as_str().filter(|word| !word.contains('\0')) else {
            return problem(
                at.index(index),
                format!("command[{index}] must be a string without NUL"),
            );
        };
        words.push(word.to_owned());
    }
    let program = &words[0];
    if program.is_empty() || (program.contains('/') && !program.starts_with('/')) {
        let message = "command[0] must be a program's name or its absolute path";
        return problem(at.index(0), message);
    }
    Ok(words)
}

fn webhook(at: &KeyPath, value: &Value) -> Result<Webhook, Problem> {
    let Some(object) = value.as_object() else {
        return problem(at.clone(), "webhook must be an object with \"url\"");
    };
    let url = object.get("url").and_then(Value::as_str).unwrap_or_default();
    // The address itself is not repeated: it may hold a secret.
    if let Err(why) = check_url(url) {
        return problem(at.key("url"), format!("webhook.url {why}"));
    }
    let token = match (object.get("token"), object.get("tokenFile")) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            let message = "webhook must not have both token and tokenFile";
            return problem(at.key("tokenFile"), message);
        }
        (Some(token), None) => match token.as_str() {
            Some(token) if is_token(token) => Some(WebhookToken::Text(Secret::new(token))),
            _ => {
                let message = "webhook.token must be visible ASCII characters without spaces";
                return problem(at.key("token"), message);
            }
        },
        (None, Some(path)) => match absolute(path) {
            Some(path) => Some(WebhookToken::File(path)),
            None => {
                let message = "webhook.tokenFile must be an absolute path";
                return problem(at.key("tokenFile"), message);
            }
        },
    };
    Ok(Webhook {
        url: url.to_owned(),
        token,
    })
}

fn check_url(url: &str) -> Result<(), &'static str> {
    let Ok(uri) = ureq::http::Uri::from_str(url) else {
        return Err("must be an http or https address");
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("must be an http or https address");
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err("must not hold a user or password; use token or tokenFile")
        }
        Some(authority) if !authority.host().is_empty() => Ok(()),
        Some(_) | None => Err("must name a host"),
    }
}

/// Whether a text can stand in the header `Authorization: Bearer …`.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn absolute(value: &Value) -> Option<PathBuf> {
    let path = value
        .as_str()
        .filter(|path| path.starts_with('/') && !path.contains('\0'))?;
    Some(PathBuf::from(path))
}

/// A text of the file as far as an error message repeats it.
fn bounded(text: &str) -> String {
    const MOST: usize = 80; // characters
    text.chars().take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_token_and_no_query() {
        let webhook = Webhook {
            url: "https://example.org/hook/s3cret?key=s3cret".to_owned(),
            token: Some(WebhookToken::Text(Secret::new("s3cret"))),
        };
        assert_eq!(webhook.shown(), "https://example.org");
        assert!(!format!("{webhook:?}").contains("s3cret"));
    }

    #[test]
    fn a_url_is_http_with_a_host_and_without_a_password() {
        for good in [
            "http://localhost:1/x",
            "https://example.org",
            "http://[::1]:8080/?a=b",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/x",
            "example.org",
            "ftp://x/",
            "http://",
            "http://a:b@c/",
            "http://a b/",
            "file:///etc",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
