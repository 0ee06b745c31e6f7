//! The key `mesh`: this gateway's place in the OpenClaw Messaging mesh.

use std::net::SocketAddr;
use std::path::PathBuf;

use clawchat_mesh::{ChannelId, WsUrl};
use serde_json::{Map, Value};

use super::check::{Problem, problem};
use super::document::{key, shown};
use super::place::KeyPath;

/// Most entries of `mesh.peers`, of `mesh.channels` and of `mesh.keep`.
pub const MAX_MESH_ENTRIES: usize = 256;
/// The channel followed where none is named.
pub const LOBBY: &str = "lobby";
/// All channels of two.
const DIRECT: &str = "dm:*";
/// Largest `mesh.payloadLimit`, in bytes: what a message may have must fit into a frame.
const MAX_PAYLOAD_LIMIT: u64 = 8 * 1024 * 1024;

/// The `mesh` of the file. All of it counts from the next start of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeshSettings {
    /// `enabled`: whether the gateway takes part in the mesh. Default: no.
    pub enabled: bool,
    /// `listen`: where peers of the mesh may connect over WebSocket. Default: nowhere; the port is of no use to those
    /// who only dial, and gateways that know each other need none.
    pub listen: Option<SocketAddr>,
    /// `tls`: what is shown to those who connect, where they are to come over `wss://`. Default: nothing, they come over
    /// `ws://`, or through a proxy that speaks TLS.
    pub tls: Option<MeshTls>,
    /// `trust`: a file of certificates in PEM format, of authorities trusted besides the usual ones (Mozilla's) when
    /// dialing `wss://` and when fetching the list from `https://`. Default: none.
    pub trust: Option<PathBuf>,
    /// `bootstrap`: an HTTP or HTTPS URL of a list of peers. Default: none.
    pub bootstrap: Option<String>,
    /// `peers`: WebSocket URLs that are always dialed. Default: none.
    pub peers: Vec<String>,
    /// `channels`: followed from the first start that finds them here; whoever leaves one has left it. Default: lobby.
    pub channels: Vec<ChannelId>,
    /// `keep`: channels stored for others without being followed, and so passed on to those who come later; a `*` at the
    /// end stands for anything. Default: `dm:*`, without which direct messages reach neighbours only.
    pub keep: Vec<String>,
    /// `store`: whether messages are kept for those who were away. Default: yes.
    pub store: bool,
    /// `relay`: whether messages are passed on. Default: yes.
    pub relay: bool,
    /// `payloadLimit`: largest payload of a message, in bytes. `None`: the mesh's own limit.
    pub payload_limit: Option<u64>,
    /// `quota`: how much may be stored.
    pub quota: MeshQuota,
}

/// The `mesh.tls` of the file: two files in PEM format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshTls {
    /// `certificate`: the certificate, with those it was signed by behind it.
    pub certificate: PathBuf,
    /// `key`: its private key.
    pub key: PathBuf,
}

/// The `mesh.quota` of the file. `None`: the built-in value. What is over a limit goes, oldest arrival first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeshQuota {
    /// `channelMessages`: messages of one channel that is followed.
    pub channel_messages: Option<u64>,
    /// `channelBytes`: bytes of one channel that is followed.
    pub channel_bytes: Option<u64>,
    /// `channelDays`: days that messages of a followed channel are kept.
    pub channel_days: Option<u64>,
    /// `othersMessages`: messages of one channel that is kept for others.
    pub others_messages: Option<u64>,
    /// `othersBytes`: bytes of one channel that is kept for others.
    pub others_bytes: Option<u64>,
    /// `othersDays`: days that messages of such a channel are kept.
    pub others_days: Option<u64>,
    /// `totalBytes`: bytes of all channels together.
    pub total_bytes: Option<u64>,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: None,
            tls: None,
            trust: None,
            bootstrap: None,
            peers: Vec::new(),
            channels: lobby(),
            keep: vec![DIRECT.to_owned()],
            store: true,
            relay: true,
            payload_limit: None,
            quota: MeshQuota::default(),
        }
    }
}

impl MeshSettings {
    /// Whether a text is a URL that can be dialed: `ws://` or `wss://`.
    #[must_use]
    pub fn is_ws_url(text: &str) -> bool {
        is_url(text, &["ws://", "wss://"])
    }

    /// Whether a text is a URL a list can be fetched from: `http://` or `https://`.
    #[must_use]
    pub fn is_http_url(text: &str) -> bool {
        is_url(text, &["http://", "https://"])
    }
}

/// The lobby alone.
fn lobby() -> Vec<ChannelId> {
    LOBBY.parse().into_iter().collect()
}

/// What can be dialed can be fetched from, but for the scheme.
fn is_url(text: &str, schemes: &[&str]) -> bool {
    schemes.iter().any(|scheme| text.starts_with(scheme)) && text.parse::<WsUrl>().is_ok()
}

/// Checks the key.
pub(super) fn mesh(
    root: &KeyPath,
    document: &Map<String, Value>,
    warnings: &mut Vec<String>,
) -> Result<MeshSettings, Problem> {
    let mut settings = MeshSettings::default();
    let at = root.key(key::MESH);
    let given = match document.get(key::MESH) {
        None => return Ok(settings),
        Some(Value::Object(given)) => given,
        Some(_) => return problem(at, "mesh must be an object"),
    };
    for (name, value) in given {
        match name.as_str() {
            "enabled" => settings.enabled = switch(&at, "enabled", value)?,
            "store" => settings.store = switch(&at, "store", value)?,
            "relay" => settings.relay = switch(&at, "relay", value)?,
            "listen" => settings.listen = listen(&at.key("listen"), value)?,
            "tls" => settings.tls = tls(&at.key("tls"), value, warnings)?,
            "trust" => settings.trust = file(&at.key("trust"), value)?,
            "bootstrap" => {
                let what = "an http:// or https:// URL, or null";
                settings.bootstrap = match value {
                    Value::Null => None,
                    value => Some(text(
                        &at.key("bootstrap"),
                        value,
                        what,
                        MeshSettings::is_http_url,
                    )?),
                };
            }
            "peers" => {
                let what = "a ws:// or wss:// URL";
                settings.peers = texts(&at.key("peers"), value, what, MeshSettings::is_ws_url)?;
            }
            "channels" => {
                let what = "a channel's name of 1 to 256 bytes";
                let is_channel = |name: &str| name.parse::<ChannelId>().is_ok();
                settings.channels = texts(&at.key("channels"), value, what, is_channel)?
                    .iter()
                    .filter_map(|name| name.parse().ok())
                    .collect();
            }
            "keep" => {
                let what = "a channel's name of 1 to 256 bytes, perhaps with a * at its end";
                let is_pattern = |name: &str| name.parse::<ChannelId>().is_ok();
                settings.keep = texts(&at.key("keep"), value, what, is_pattern)?;
            }
            "payloadLimit" => {
                let limit = number(&at, "payloadLimit", value, MAX_PAYLOAD_LIMIT)?;
                settings.payload_limit = Some(limit);
            }
            "quota" => settings.quota = quota(&at.key("quota"), value, warnings)?,
            other => warnings.push(means_nothing(&at, other)),
        }
    }
    Ok(settings)
}

fn tls(at: &KeyPath, value: &Value, warnings: &mut Vec<String>) -> Result<Option<MeshTls>, Problem> {
    let given = match value {
        Value::Null => return Ok(None),
        Value::Object(given) => given,
        _ => {
            return problem(
                at.clone(),
                "tls must be an object with \"certificate\" and \"key\"",
            );
        }
    };
    let (mut certificate, mut key) = (None, None);
    for (name, value) in given {
        match name.as_str() {
            "certificate" => certificate = file(&at.key("certificate"), value)?,
            "key" => key = file(&at.key("key"), value)?,
            other => warnings.push(means_nothing(at, other)),
        }
    }
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(MeshTls { certificate, key })),
        _ => problem(at.clone(), "tls must have both \"certificate\" and \"key\""),
    }
}

fn file(at: &KeyPath, value: &Value) -> Result<Option<PathBuf>, Problem> {
    if value.is_null() {
        return Ok(None);
    }
    let is_path = |path: &str| path.starts_with('/') && !path.contains('\0');
    text(at, value, "an absolute path", is_path).map(|path| Some(path.into()))
}

fn quota(at: &KeyPath, value: &Value, warnings: &mut Vec<String>) -> Result<MeshQuota, Problem> {
    let Some(given) = value.as_object() else {
        return problem(at.clone(), "quota must be an object");
    };
    let mut quota = MeshQuota::default();
    for (name, value) in given {
        let (name, limit) = match name.as_str() {
            "channelMessages" => ("channelMessages", &mut quota.channel_messages),
            "channelBytes" => ("channelBytes", &mut quota.channel_bytes),
            "channelDays" => ("channelDays", &mut quota.channel_days),
            "othersMessages" => ("othersMessages", &mut quota.others_messages),
            "othersBytes" => ("othersBytes", &mut quota.others_bytes),
            "othersDays" => ("othersDays", &mut quota.others_days),
            "totalBytes" => ("totalBytes", &mut quota.total_bytes),
            other => {
                warnings.push(means_nothing(at, other));
                continue;
            }
        };
        // Beyond 2^53 other readers of the file lose digits.
        *limit = Some(number(at, name, value, 1 << 53)?);
    }
    Ok(quota)
}

fn switch(at: &KeyPath, name: &'static str, value: &Value) -> Result<bool, Problem> {
    match value.as_bool() {
        Some(value) => Ok(value),
        None => problem(at.key(name), format!("{name} must be a boolean")),
    }
}

fn number(at: &KeyPath, name: &'static str, value: &Value, most: u64) -> Result<u64, Problem> {
    match value.as_u64() {
        Some(number) if (1..=most).contains(&number) => Ok(number),
        _ => problem(
            at.key(name),
            format!("{name} must be a whole number between 1 and {most}"),
        ),
    }
}

fn listen(at: &KeyPath, value: &Value) -> Result<Option<SocketAddr>, Problem> {
    let address = match value {
        Value::Null => return Ok(None),
        value => value.as_str().and_then(|text| text.parse().ok()),
    };
    if address.is_none() {
        let message = format!(
            "listen must be an address and a port such as \"0.0.0.0:5000\", or null (got: {})",
            shown(Some(value))
        );
        return problem(at.clone(), message);
    }
    Ok(address)
}

fn text(at: &KeyPath, value: &Value, what: &str, good: impl Fn(&str) -> bool) -> Result<String, Problem> {
    match value.as_str() {
        Some(text) if good(text) => Ok(text.to_owned()),
        _ => problem(at.clone(), format!("{at} must be {what}")),
    }
}

fn texts(
    at: &KeyPath,
    value: &Value,
    what: &str,
    good: impl Fn(&str) -> bool,
) -> Result<Vec<String>, Problem> {
    let Some(entries) = value.as_array() else {
        return problem(at.clone(), format!("{at} must be an array"));
    };
    if entries.len() > MAX_MESH_ENTRIES {
        return problem(
            at.clone(),
            format!("{at} has more than {MAX_MESH_ENTRIES} entries"),
        );
    }
    let mut list = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let entry = text(&at.index(index), entry, what, &good)?;
        if !list.contains(&entry) {
            list.push(entry);
        }
    }
    Ok(list)
}

fn means_nothing(at: &KeyPath, name: &str) -> String {
    let name: String = name.chars().take(64).collect();
    format!("{at} has a key that means nothing: {name}")
}
