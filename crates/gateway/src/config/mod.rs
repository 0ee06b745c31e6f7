//! `gateway-config.json`: what the operator decided.
//!
//! Three steps: the raw JSON document, then [`GatewayConfig`], which is checked and the only form that leaves
//! this module, then the running parts that the daemon makes of it. The document is kept beside the checked
//! values, so that a rewrite keeps keys we do not know, at every level and in the order they had.
//!
//! The file is shared with the TypeScript ClawChat and is valid here exactly when it is valid there. What it
//! accepts and we cannot use (a principal that is not an address, a nickname beyond 64 characters, a port with
//! a fraction, an identity of the other network) is kept in the file and reported by
//! [`GatewayConfig::warnings`]. On top of its keys there are ours, all optional: `visibility` and `wake` (whole
//! gateway and per identity), `limits`, `legacyPeers`, `relay`, `relays`, `nat`, `metrics`, `mesh`,
//! and per identity `deniedPeers`:
//!
//! ```json
//! "legacyPeers": "bound",
//! "relay": { "serve": "contacts" },
//! "relays": ["/ip4/198.51.100.7/tcp/9000/p2p/12D3KooW…"],
//! "nat": { "mdns": true, "upnp": true, "autonat": true, "holePunching": true, "external": ["/ip4/203.0.113.5/tcp/9000"] },
//! "metrics": { "listen": "127.0.0.1:9464" },
//! "wake": {
//!   "urgentFrom": "peers",
//!   "openclaw": "/opt/openclaw/bin/openclaw",
//!   "command": ["/usr/local/bin/notify-me", "--from", "clawchat"],
//!   "webhook": { "url": "https://example.org/hook", "tokenFile": "/etc/clawchat/hook-token" }
//! }
//! ```
//!
//! `legacyPeers` is [`LegacyPeers`]: "bound" (default), "unbound" or "off". `wake` is [`WakeConfig`]: `urgentFrom` is
//! "peers" (default), "anyone", "nobody" or an array of principals; `openclaw`, `command` and `webhook` (with `url`
//! and `token` or `tokenFile`) are absent by default. In an identity's entry, `wake` replaces what it names for that
//! identity, and `null` takes it away. `relay`, `relays` and `nat` are [`NatSettings`], `metrics` is
//! [`MetricsSettings`] (docs/METRICS.md). `mesh` is [`MeshSettings`]:
//!
//! ```json
//! "mesh": {
//!   "enabled": true, "listen": "0.0.0.0:5000", "bootstrap": "https://example.org/bootstrap.json",
//!   "peers": ["wss://mesh.example.org"], "channels": ["lobby"], "keep": ["#dev", "dm:*"],
//!   "quota": { "channelMessages": 1000000, "totalBytes": 4294967296 }, "store": true, "relay": true
//! }
//! ```

mod check;
mod document;
mod edit;
mod mesh;
mod metrics;
mod nat;
mod place;
mod wake;

use std::fmt;
use std::path::{Path, PathBuf};

use clawchat_types::{Network, Nick, Principal, PrincipalError};
use serde_json::{Map, Value};

use crate::home::{self, Home, HomeError, HomeLock};

pub use self::edit::{EditError, NewIdentity};
pub use self::mesh::{LOBBY, MAX_MESH_ENTRIES, MeshQuota, MeshSettings, MeshTls};
pub use self::metrics::MetricsSettings;
pub use self::nat::{MAX_NAT_ADDRESSES, NatSettings, ServeRelay};
pub use self::place::{KeyPath, Step};
pub(crate) use self::wake::is_token;
pub use self::wake::{
    MAX_URGENT_PRINCIPALS, MAX_WAKE_ARGUMENTS, UrgentFrom, WakeConfig, Webhook, WebhookToken,
};

/// Largest configuration file read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 4 * 1024 * 1024;
/// The port used where none is given: TCP and QUIC; WebSocket listens on the next one.
pub const DEFAULT_P2P_PORT: u16 = 9000;
/// Largest value of a key under `limits`.
pub const MAX_LIMIT: u32 = 1_000_000;

/// A checked configuration.
#[derive(Clone, PartialEq)]
pub struct GatewayConfig {
    document: Map<String, Value>,
    p2p_port: u16,
    identities: Vec<IdentityConfig>,
    visibility: Visibility,
    limits: ConfiguredLimits,
    legacy_peers: LegacyPeers,
    wake: WakeConfig,
    nat: NatSettings,
    mesh: MeshSettings,
    metrics: MetricsSettings,
    warnings: Vec<String>,
}

/// Leaves the document out: it may hold a token.
impl fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayConfig")
            .field("p2p_port", &self.p2p_port)
            .field("identities", &self.identities)
            .field("visibility", &self.visibility)
            .field("limits", &self.limits)
            .field("legacy_peers", &self.legacy_peers)
            .field("wake", &self.wake)
            .field("nat", &self.nat)
            .field("mesh", &self.mesh)
            .field("metrics", &self.metrics)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl GatewayConfig {
    /// Reads and checks a configuration text.
    ///
    /// # Errors
    /// [`Invalid`]: the first thing wrong with it, with key and line.
    pub fn parse(text: &[u8]) -> Result<Self, Invalid> {
        check::parse(text)
    }

    /// Reads and checks the configuration of a home.
    ///
    /// # Errors
    /// [`ConfigError::NotFound`] when there is none, [`ConfigError::Invalid`] when it is not valid,
    /// [`ConfigError::File`] when it cannot be read.
    pub fn load(home: &Home) -> Result<Self, ConfigError> {
        let path = home.config_path();
        match home::read_bounded(&path, MAX_CONFIG_BYTES)? {
            None => Err(ConfigError::NotFound { path }),
            Some(text) => Self::parse(&text).map_err(|invalid| ConfigError::Invalid { path, invalid }),
        }
    }

    /// Writes the configuration of a locked home: the old file or the new one is found there, whole.
    ///
    /// # Errors
    /// The IO error; the old file is then as it was.
    pub fn save(&self, lock: &HomeLock) -> Result<(), HomeError> {
        home::write_atomic(&lock.home().config_path(), self.to_text().as_bytes())
    }

    /// The text [`GatewayConfig::save`] writes: two-space indent, no newline at the end.
    #[must_use]
    pub fn to_text(&self) -> String {
        document::to_text(&self.document)
    }

    /// The port of the P2P listeners: TCP and QUIC; WebSocket takes the next one. Never 0.
    #[must_use]
    pub fn p2p_port(&self) -> u16 {
        self.p2p_port
    }

    /// The identities in the file's order. Never empty.
    #[must_use]
    pub fn identities(&self) -> &[IdentityConfig] {
        &self.identities
    }

    /// The top-level `visibility`. Default: private.
    #[must_use]
    pub fn visibility(&self) -> Visibility {
        self.visibility
    }

    /// The `limits` the operator set.
    #[must_use]
    pub fn limits(&self) -> ConfiguredLimits {
        self.limits
    }

    /// The top-level `legacyPeers`. Default: bound.
    #[must_use]
    pub fn legacy_peers(&self) -> LegacyPeers {
        self.legacy_peers
    }

    /// The top-level `wake`; [`IdentityConfig::wake`] is what counts for an identity. Default: nothing but
    /// OpenClaw, for identities with `openclawWake`.
    #[must_use]
    pub fn wake(&self) -> &WakeConfig {
        &self.wake
    }

    /// The `relay`, `relays` and `nat` of the file.
    #[must_use]
    pub fn nat(&self) -> &NatSettings {
        &self.nat
    }

    /// The `mesh` of the file.
    #[must_use]
    pub fn mesh(&self) -> &MeshSettings {
        &self.mesh
    }

    /// The `metrics` of the file. Default: served nowhere.
    #[must_use]
    pub fn metrics(&self) -> MetricsSettings {
        self.metrics
    }

    /// What is accepted in the file but not used, or not as written: one sentence each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The network of this gateway: that of the first identity whose principal is an address. Identities of
    /// the other network are not loaded.
    #[must_use]
    pub fn network(&self) -> Option<Network> {
        self.identities
            .iter()
            .find_map(|identity| identity.principal.get().ok())
            .map(|principal| principal.network())
    }

    /// The index of the identity with this principal or nickname. A principal text wins over an equal nickname.
    #[must_use]
    pub fn find(&self, who: &str) -> Option<usize> {
        let by_principal = |identity: &IdentityConfig| identity.principal.as_str() == who;
        let by_nick = |identity: &IdentityConfig| identity.nick.as_ref().is_some_and(|n| n.as_str() == who);
        self.identities
            .iter()
            .position(by_principal)
            .or_else(|| self.identities.iter().position(by_nick))
    }
}

/// What the configuration says of one identity.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct IdentityConfig {
    /// Who it is.
    pub principal: ConfiguredPrincipal,
    /// Its name on this gateway. Wins over the one sealed with its keys.
    pub nick: Option<Nick>,
    /// Whether the daemon unseals it at start.
    pub autoload: bool,
    /// Whether other identities of this gateway may write to it.
    pub allow_local: bool,
    /// Who may write to it from elsewhere. Empty: nobody.
    pub allowed_remote_peers: Vec<PeerPattern>,
    /// Who may not, whatever `allowed_remote_peers` says. Ours (`deniedPeers`); default empty.
    pub denied_peers: Vec<PeerPattern>,
    /// Whether a message to it wakes OpenClaw.
    pub openclaw_wake: bool,
    /// How much of it strangers may learn. Ours; default: the gateway's `visibility`.
    pub visibility: Visibility,
    /// What else is told of messages to it. Ours; default: the gateway's `wake`.
    pub wake: WakeConfig,
}

/// A principal as the configuration has it: any text behind `stacks:`, so perhaps not an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredPrincipal {
    text: String,
    parsed: Result<Principal, PrincipalError>,
}

impl ConfiguredPrincipal {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            parsed: text.parse(),
        }
    }

    /// The text in the file.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The principal, or why it is none; such an identity cannot be loaded.
    ///
    /// # Errors
    /// What the parser of principals says.
    pub fn get(&self) -> Result<Principal, PrincipalError> {
        self.parsed
    }
}

impl fmt::Display for ConfiguredPrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An entry of an access list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerPattern {
    /// `*`: everybody.
    Any,
    /// One peer.
    Principal(Principal),
    /// A text the file may hold but no principal equals, such as `stacks:*`. Matches nobody.
    Nobody(String),
}

impl PeerPattern {
    /// Reads an entry as the file may hold it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        if text == "*" {
            return Self::Any;
        }
        text.parse()
            .map_or_else(|_| Self::Nobody(text.to_owned()), Self::Principal)
    }

    /// Whether it covers this peer.
    #[must_use]
    pub fn matches(&self, peer: &Principal) -> bool {
        match self {
            Self::Any => true,
            Self::Principal(principal) => principal == peer,
            Self::Nobody(_) => false,
        }
    }
}

impl fmt::Display for PeerPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Principal(principal) => principal.fmt(f),
            Self::Nobody(text) => f.write_str(text),
        }
    }
}

/// How much of an identity strangers may learn (SNaP2P, "Visibility").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// May answer and push hints, also about itself.
    Public,
    /// Never pushes itself; answers only inside authenticated sessions.
    #[default]
    Private,
    /// Like private, and a knock with a valid invite must come first.
    Stealth,
}

/// Whether sessions of the TypeScript ClawChat's protocol are allowed (`spec/clawchat-1.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LegacyPeers {
    /// `bound`: yes, if the connection proves the node key that the peer's wallet attests.
    #[default]
    Bound,
    /// `unbound`: also without that proof, for peers behind relays that replace it. Whoever has seen a peer's
    /// attestation can then pose as that peer.
    Unbound,
    /// `off`: no.
    Off,
}

/// The `limits` of the file. `None`: the built-in value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfiguredLimits {
    /// `connections`: connections at a time. Sessions with peers that are no contacts may hold half of them.
    pub connections: Option<u32>,
    /// `connectionsPerPeer`: of those, with one PeerId.
    pub connections_per_peer: Option<u32>,
    /// `connectionsPerIp`: of those, from one address.
    pub connections_per_ip: Option<u32>,
    /// `pendingConnections`: connections still being set up.
    pub pending_connections: Option<u32>,
}

/// The first thing wrong with a configuration text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", self.place())]
pub struct Invalid {
    /// What is wrong, in the words of the TypeScript version where it has words for it.
    pub message: String,
    /// The key it is wrong at; empty for the whole document or a text that is not JSON.
    pub key: KeyPath,
    /// The line of that key, or of what should hold it. Counted from 1.
    pub line: usize,
}

impl Invalid {
    fn place(&self) -> String {
        if self.key.is_empty() {
            format!(" (line {})", self.line)
        } else {
            format!(" ({}, line {})", self.key, self.line)
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The home has none yet.
    #[error("Gateway config not found at {}. Run 'clawchat gateway init' to create one.", path.display())]
    NotFound {
        /// Where it would be.
        path: PathBuf,
    },
    /// It is not valid.
    #[error("{}: {invalid}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        invalid: Invalid,
    },
    /// It could not be read.
    #[error(transparent)]
    File(#[from] HomeError),
}

impl ConfigError {
    /// What the person at the keyboard can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NotFound { .. } => "run 'clawchat gateway init' or 'clawchat up'".to_owned(),
            Self::Invalid { path, invalid } => {
                format!("correct line {} of {}", invalid.line, Path::display(path))
            }
            Self::File(error) => error.hint(),
        }
    }
}
