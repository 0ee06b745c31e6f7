//! From the raw document to the checked configuration.
//!
//! The order of the checks is that of the TypeScript version, and the first error wins; ours come last.

use std::collections::HashSet;

use clawchat_types::{Nick, NickError};
use serde_json::{Map, Value};

use super::document::{key, shown};
use super::mesh::{MeshSettings, mesh};
use super::metrics::{MetricsSettings, metrics};
use super::nat::{NatSettings, nat};
use super::place::{KeyPath, line_of};
use super::wake::{WakeConfig, wake};
use super::{
    ConfiguredLimits, ConfiguredPrincipal, GatewayConfig, IdentityConfig, Invalid, LegacyPeers,
    MAX_CONFIG_BYTES, MAX_LIMIT, PeerPattern, Visibility,
};

/// What every principal in the file starts with.
pub(super) const PRINCIPAL_PREFIX: &str = "stacks:";
/// The bytes some editors put in front of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub(super) fn parse(text: &[u8]) -> Result<GatewayConfig, Invalid> {
    let whole = |message: String, line| Invalid {
        message,
        key: KeyPath::default(),
        line,
    };
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_CONFIG_BYTES {
        return Err(whole(
            format!("Config is larger than {MAX_CONFIG_BYTES} bytes"),
            1,
        ));
    }
    let value: Value = serde_json::from_slice(text).map_err(|error| {
        let why = if text.starts_with(BYTE_ORDER_MARK) {
            "the text starts with a byte order mark; save it as UTF-8 without one".to_owned()
        } else {
            error.to_string()
        };
        whole(
            format!("Failed to parse gateway config: {why}"),
            error.line().max(1),
        )
    })?;
    check(value).map_err(|problem| Invalid {
        line: line_of(text, &problem.key),
        key: problem.key,
        message: problem.message,
    })
}

/// Checks a document again after it was edited. The line in the error is that of the text it would be.
pub(super) fn recheck(document: Map<String, Value>) -> Result<GatewayConfig, Invalid> {
    parse(super::document::to_text(&document).as_bytes())
}

/// What is wrong, before it is known on which line.
pub(super) struct Problem {
    key: KeyPath,
    message: String,
}

pub(super) fn problem<T>(key: KeyPath, message: impl Into<String>) -> Result<T, Problem> {
    Err(Problem {
        key,
        message: message.into(),
    })
}

fn check(value: Value) -> Result<GatewayConfig, Problem> {
    let root = KeyPath::default();
    let document = match value {
        Value::Object(document) => document,
        // To the existing validator an array is an object without a version.
        Value::Array(_) => Map::new(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return problem(root, "Config must be an object");
        }
    };
    let mut warnings = Vec::new();
    let version = document.get(key::VERSION);
    if version.and_then(Value::as_f64) != Some(1.0) {
        let message = format!("Invalid config version: {}. Expected version 1.", shown(version));
        return problem(root.key(key::VERSION), message);
    }
    let p2p_port = port(&root, document.get(key::P2P_PORT), &mut warnings)?;

    let at = root.key(key::IDENTITIES);
    let Some(entries) = document.get(key::IDENTITIES).and_then(Value::as_array) else {
        return problem(at, "identities must be an array");
    };
    if entries.is_empty() {
        return problem(at, "At least one identity must be configured");
    }
    let mut identities = Vec::with_capacity(entries.len());
    let mut principals = HashSet::new();
    let mut nicks = HashSet::new();
    for (index, entry) in entries.iter().enumerate() {
        let at = at.index(index);
        let (identity, nick_text) = identity(&at, index, entry, &mut warnings)?;
        if !principals.insert(identity.principal.as_str().to_owned()) {
            let message = format!("Duplicate principal at index {index}: {}", identity.principal);
            return problem(at.key(key::PRINCIPAL), message);
        }
        if let Some(nick) = nick_text
            && !nicks.insert(nick)
        {
            return problem(
                at.key(key::NICK),
                format!("Duplicate nickname at index {index}: {nick}"),
            );
        }
        identities.push(identity);
    }
    warn_of_principals(&identities, &mut warnings);
    let own = own_keys(&root, &document, &mut identities, &mut warnings)?;
    Ok(GatewayConfig {
        document,
        p2p_port,
        identities,
        visibility: own.visibility,
        limits: own.limits,
        legacy_peers: own.legacy_peers,
        wake: own.wake,
        nat: own.nat,
        mesh: own.mesh,
        metrics: own.metrics,
        warnings,
    })
}

fn port(root: &KeyPath, value: Option<&Value>, warnings: &mut Vec<String>) -> Result<u16, Problem> {
    let at = root.key(key::P2P_PORT);
    let Some(number) = value.and_then(Value::as_f64) else {
        return problem(at, "p2pPort must be a number");
    };
    if !(1.0..=65535.0).contains(&number) {
        let message = format!("Invalid p2pPort: {}. Must be between 1 and 65535.", shown(value));
        return problem(at, message);
    }
    let whole = number.trunc();
    if whole < number {
        warnings.push(format!("p2pPort {number} has a fraction; port {whole} is used"));
    }
    // In range: checked above.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(whole as u16)
}

/// The identity at `index`, and its nickname as the file has it.
fn identity<'a>(
    at: &KeyPath,
    index: usize,
    entry: &'a Value,
    warnings: &mut Vec<String>,
) -> Result<(IdentityConfig, Option<&'a str>), Problem> {
    let say = |what: &str| format!("Identity at index {index}: {what}");
    let entry = match entry {
        Value::Object(entry) => entry,
        // To the existing validator an array is an object without a principal.
        Value::Array(_) => {
            return problem(
                at.key(key::PRINCIPAL),
                say("principal must be a non-empty string"),
            );
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return problem(at.clone(), format!("Identity at index {index} must be an object"));
        }
    };
    let principal = match entry.get(key::PRINCIPAL).and_then(Value::as_str) {
        Some(text) if text.starts_with(PRINCIPAL_PREFIX) => ConfiguredPrincipal::new(text),
        Some(text) if !text.is_empty() => {
            let message = say(&format!("principal must start with \"stacks:\" (got: {text})"));
            return problem(at.key(key::PRINCIPAL), message);
        }
        _ => {
            return problem(
                at.key(key::PRINCIPAL),
                say("principal must be a non-empty string"),
            );
        }
    };
    let nick_text = match entry.get(key::NICK) {
        None => None,
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        Some(_) => return problem(at.key(key::NICK), say("nick must be a non-empty string")),
    };
    let nick = match nick_text.map(|text| text.parse::<Nick>()) {
        None => None,
        Some(Ok(nick)) => Some(nick),
        Some(Err(error @ NickError::TooLong)) => {
            warnings.push(say(&format!("nick is not used: {error}")));
            None
        }
        Some(Err(_)) => {
            let message = "nick must contain only letters, numbers, underscores, and hyphens";
            return problem(at.key(key::NICK), say(message));
        }
    };
    let switch = |name: &'static str| match entry.get(name) {
        Some(Value::Bool(value)) => Ok(*value),
        _ => problem(at.key(name), say(&format!("{name} must be a boolean"))),
    };
    let autoload = switch(key::AUTOLOAD)?;
    let allow_local = switch(key::ALLOW_LOCAL)?;
    let openclaw_wake = switch(key::WAKE)?;
    let allowed = entry.get(key::ALLOWED);
    let Some(allowed) = allowed.and_then(Value::as_array) else {
        return problem(at.key(key::ALLOWED), say("allowedRemotePeers must be an array"));
    };
    let allowed_remote_peers = patterns(&at.key(key::ALLOWED), index, allowed, true, warnings)?;
    let identity = IdentityConfig {
        principal,
        nick,
        autoload,
        allow_local,
        allowed_remote_peers,
        denied_peers: Vec::new(),
        openclaw_wake,
        visibility: Visibility::default(),
        wake: WakeConfig::default(),
    };
    Ok((identity, nick_text.map(String::as_str)))
}

/// The entries of an access list; `any` says whether `*` may stand in it.
fn patterns(
    at: &KeyPath,
    index: usize,
    entries: &[Value],
    any: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<PeerPattern>, Problem> {
    let list = if any { key::ALLOWED } else { key::DENIED };
    let mut patterns = Vec::with_capacity(entries.len());
    for (position, entry) in entries.iter().enumerate() {
        let say = |what: &str| format!("Identity at index {index}: {list}[{position}] {what}");
        let text = match entry.as_str() {
            Some(text) if !text.is_empty() => text,
            _ => return problem(at.index(position), say("must be a non-empty string")),
        };
        let fits = text.starts_with(PRINCIPAL_PREFIX) || (any && text == "*");
        if !fits {
            let star = if any { "\"*\" or " } else { "" };
            let message = say(&format!("must be {star}a principal starting with \"stacks:\""));
            return problem(at.index(position), message);
        }
        let pattern = PeerPattern::new(text);
        if let PeerPattern::Nobody(text) = &pattern {
            warnings.push(say(&format!("matches nobody: {text} is not a principal")));
        }
        patterns.push(pattern);
    }
    Ok(patterns)
}

fn warn_of_principals(identities: &[IdentityConfig], warnings: &mut Vec<String>) {
    let network = identities
        .iter()
        .find_map(|identity| identity.principal.get().ok())
        .map(|principal| principal.network());
    for (index, identity) in identities.iter().enumerate() {
        match identity.principal.get() {
            Err(error) => warnings.push(format!(
                "Identity at index {index} cannot be loaded: {}: {error}",
                identity.principal
            )),
            Ok(principal) if Some(principal.network()) != network => warnings.push(format!(
                "Identity at index {index} cannot be loaded: {principal} is of the {}, this gateway is not",
                principal.network()
            )),
            Ok(_) => {}
        }
    }
}

/// The top-level keys that only we have.
struct OwnKeys {
    visibility: Visibility,
    limits: ConfiguredLimits,
    legacy_peers: LegacyPeers,
    wake: WakeConfig,
    nat: NatSettings,
    mesh: MeshSettings,
    metrics: MetricsSettings,
}

/// Checks the keys that only we have, and puts those of identities into `identities`.
fn own_keys(
    root: &KeyPath,
    document: &Map<String, Value>,
    identities: &mut [IdentityConfig],
    warnings: &mut Vec<String>,
) -> Result<OwnKeys, Problem> {
    let visibility = visibility(root, document)?.unwrap_or_default();
    let limits = limits(root, document)?;
    let legacy_peers = legacy_peers(root, document)?;
    let wake = wake(root, document, &WakeConfig::default(), warnings)?;
    let nat = nat(root, document, visibility == Visibility::Stealth, warnings)?;
    let mesh = mesh(root, document, warnings)?;
    let metrics = metrics(root, document, warnings)?;
    let entries = document.get(key::IDENTITIES).and_then(Value::as_array);
    for (index, (entry, identity)) in entries.into_iter().flatten().zip(identities).enumerate() {
        let at = root.key(key::IDENTITIES).index(index);
        let Value::Object(entry) = entry else { continue };
        identity.visibility = self::visibility(&at, entry)?.unwrap_or(visibility);
        identity.wake = self::wake(&at, entry, &wake, warnings)?;
        identity.denied_peers = match entry.get(key::DENIED) {
            None => Vec::new(),
            Some(Value::Array(denied)) => patterns(&at.key(key::DENIED), index, denied, false, warnings)?,
            Some(_) => {
                let message = format!("Identity at index {index}: deniedPeers must be an array");
                return problem(at.key(key::DENIED), message);
            }
        };
    }
    Ok(OwnKeys {
        visibility,
        limits,
        legacy_peers,
        wake,
        nat,
        mesh,
        metrics,
    })
}

fn legacy_peers(root: &KeyPath, document: &Map<String, Value>) -> Result<LegacyPeers, Problem> {
    let Some(value) = document.get(key::LEGACY_PEERS) else {
        return Ok(LegacyPeers::default());
    };
    match value.as_str() {
        Some("bound") => Ok(LegacyPeers::Bound),
        Some("unbound") => Ok(LegacyPeers::Unbound),
        Some("off") => Ok(LegacyPeers::Off),
        _ => {
            let message = format!(
                "legacyPeers must be \"bound\", \"unbound\" or \"off\" (got: {})",
                shown(Some(value))
            );
            problem(root.key(key::LEGACY_PEERS), message)
        }
    }
}

fn visibility(at: &KeyPath, object: &Map<String, Value>) -> Result<Option<Visibility>, Problem> {
    let Some(value) = object.get(key::VISIBILITY) else {
        return Ok(None);
    };
    match value.as_str() {
        Some("public") => Ok(Some(Visibility::Public)),
        Some("private") => Ok(Some(Visibility::Private)),
        Some("stealth") => Ok(Some(Visibility::Stealth)),
        _ => {
            let message = format!(
                "visibility must be \"public\", \"private\" or \"stealth\" (got: {})",
                shown(Some(value))
            );
            problem(at.key(key::VISIBILITY), message)
        }
    }
}

fn limits(root: &KeyPath, document: &Map<String, Value>) -> Result<ConfiguredLimits, Problem> {
    let at = root.key(key::LIMITS);
    let limits = match document.get(key::LIMITS) {
        None => return Ok(ConfiguredLimits::default()),
        Some(Value::Object(limits)) => limits,
        Some(_) => return problem(at, "limits must be an object"),
    };
    let limit = |name: &'static str| {
        let Some(value) = limits.get(name) else {
            return Ok(None);
        };
        match value.as_u64().map(u32::try_from) {
            Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => Ok(Some(limit)),
            _ => {
                let message = format!("{name} must be a whole number between 1 and {MAX_LIMIT}");
                problem(at.key(name), message)
            }
        }
    };
    Ok(ConfiguredLimits {
        connections: limit("connections")?,
        connections_per_peer: limit("connectionsPerPeer")?,
        connections_per_ip: limit("connectionsPerIp")?,
        pending_connections: limit("pendingConnections")?,
    })
}
