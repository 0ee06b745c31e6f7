//! Administration: the requests about identities and configuration, with their JSON answers.
//!
//! The same code serves a running daemon ([`apply`]) and a home where none runs ([`run_offline`]). Everything
//! here blocks, some of it on scrypt; a daemon calls it where blocking is allowed.

use clawchat_identity::{Identity, Mnemonic};
use clawchat_ipc::{Call, ErrorCode, Failure, Request, Secret};
use clawchat_types::Principal;
use serde_json::{Value, json};

use crate::config::{
    ConfigError, ConfiguredPrincipal, DEFAULT_P2P_PORT, EditError, GatewayConfig, IdentityConfig, PeerPattern,
};
use crate::home::{Home, HomeLock, Purpose};
use crate::setup::{self, AddRequest, Created, InitRequest, Origin, PublicFacts, SetupError};

/// What a running daemon has to do after [`apply`].
#[derive(Debug)]
pub enum Effect {
    /// Nothing: the request only asked.
    Nothing,
    /// Serve the configuration as it is now: access lists or names changed.
    Changed,
    /// Serve one identity more. It is the last one of the configuration.
    Added(Box<Identity>),
    /// Serve one identity less, and then call [`setup::set_aside`].
    Removed(ConfiguredPrincipal),
}

/// An administrative request that worked.
#[derive(Debug)]
pub struct Applied {
    /// The answer.
    pub result: Value,
    /// What is left to do.
    pub effect: Effect,
}

impl Applied {
    fn asked(result: Value) -> Self {
        Self {
            result,
            effect: Effect::Nothing,
        }
    }
}

/// Carries out an administrative request in a home that has a configuration. `as_` is whom the request speaks
/// for, `loaded` tells which identities are being served. The files and `config` are changed together or not at
/// all. A change is made to the file as it is now: what the operator has edited since `config` was read is kept,
/// and is in `config` afterwards.
///
/// Aliases of peers are unknown here: resolve them before `identity_allow` and `identity_deny`.
///
/// # Errors
/// What the request could not do; [`ErrorCode::Unsupported`] for requests that are none of administration.
pub fn apply(
    lock: &HomeLock,
    config: &mut GatewayConfig,
    as_: Option<&str>,
    request: Request,
    loaded: &dyn Fn(&Principal) -> bool,
) -> Result<Applied, Failure> {
    let mut current = configured(lock)?.unwrap_or_else(|| config.clone());
    let applied = perform(lock, &mut current, as_, request, loaded)?;
    if !matches!(applied.effect, Effect::Nothing) {
        *config = current;
    }
    Ok(applied)
}

fn perform(
    lock: &HomeLock,
    config: &mut GatewayConfig,
    as_: Option<&str>,
    request: Request,
    loaded: &dyn Fn(&Principal) -> bool,
) -> Result<Applied, Failure> {
    match request {
        Request::GatewayInit { .. } => Err(SetupError::AlreadyInitialized {
            config: lock.home().config_path(),
        }
        .into()),
        Request::GatewaySet { port } => {
            setup::set_port(lock, config, port)?;
            Ok(changed(
                json!({ "status": "changed", "p2pPort": config.p2p_port() }),
            ))
        }
        Request::IdentityList => Ok(Applied::asked(list(config, loaded))),
        Request::IdentityAdd {
            nick,
            principal,
            autoload,
            allow_peers,
            password,
            mnemonic,
        } => {
            let request = AddRequest {
                nick,
                principal,
                network: None,
                autoload: autoload.unwrap_or(true),
                allowed_remote_peers: peer_list(&allow_peers)?,
                password,
                mnemonic: mnemonic.as_ref().map(words).transpose()?,
            };
            let created = setup::add_identity(lock, config, request)?;
            Ok(Applied {
                result: added(&created),
                effect: Effect::Added(Box::new(created.identity)),
            })
        }
        Request::IdentityCreate {
            nick,
            network,
            password,
        } => {
            let request = AddRequest {
                nick,
                network,
                password,
                ..AddRequest::default()
            };
            let (changed, created) = setup::create(lock, Some(config.clone()), request)?;
            *config = changed;
            Ok(made(created))
        }
        Request::IdentityRecover {
            mnemonic,
            nick,
            network,
            password,
        } => {
            let request = AddRequest {
                nick,
                network,
                password,
                ..AddRequest::default()
            };
            let (changed, created) = setup::recover(lock, Some(config.clone()), words(&mnemonic)?, request)?;
            *config = changed;
            Ok(made(created))
        }
        Request::IdentityRemove { who } => {
            let principal = setup::remove(lock, config, &who)?;
            Ok(Applied {
                result: json!({ "status": "removed", "principal": principal.as_str() }),
                effect: Effect::Removed(principal),
            })
        }
        Request::IdentityAllow { who, peer } => {
            let index = setup::allow(lock, config, &who, &peer)?;
            Ok(changed(access(config, index, "allowed", &peer)))
        }
        Request::IdentityDeny { who, peer } => {
            let index = setup::deny(lock, config, &who, &peer)?;
            Ok(changed(access(config, index, "denied", &peer)))
        }
        Request::IdentityShow { password } => {
            let shown = setup::show(lock.home(), config, &acting(config, as_)?, password.as_ref())?;
            Ok(Applied::asked(shown))
        }
        Request::IdentitySetNick { nick, password } => {
            let who = acting(config, as_)?;
            let index = setup::set_nick(lock, config, &who, &nick)?;
            Ok(changed(named(lock, config, index, password.as_ref())))
        }
        Request::IdentityClearNick { password } => {
            let who = acting(config, as_)?;
            let index = setup::clear_nick(lock, config, &who)?;
            Ok(changed(named(lock, config, index, password.as_ref())))
        }
        Request::Send { .. }
        | Request::Recv { .. }
        | Request::Inbox { .. }
        | Request::Outbox { .. }
        | Request::Ask { .. }
        | Request::Reply { .. }
        | Request::Subscribe { .. }
        | Request::Peers
        | Request::PeerAdd { .. }
        | Request::PeerRemove { .. }
        | Request::PeerResolve { .. }
        | Request::Connect { .. }
        | Request::Status
        | Request::Metrics { .. }
        | Request::Multiaddrs
        | Request::Stop
        | Request::Reload
        | Request::InviteCreate { .. }
        | Request::InviteList
        | Request::ChannelJoin { .. }
        | Request::ChannelLeave { .. }
        | Request::ChannelList
        | Request::ChannelSend { .. }
        | Request::ChannelHistory { .. }
        | Request::ChannelMembers { .. }
        | Request::MeshCheck
        | Request::ChannelSave { .. }
        | Request::DmSend { .. }
        | Request::DmHistory { .. }
        | Request::InviteRevoke { .. } => Err(Failure::new(
            ErrorCode::Unsupported,
            format!("{} is no administrative command", request.command()),
        )),
    }
}

/// Carries out one request in a home where no daemon runs, under the home's lock.
///
/// A home that does not exist is created by the requests that set it up, and by no other.
///
/// # Errors
/// [`ErrorCode::AlreadyRunning`] when a daemon holds the home, [`ErrorCode::NotRunning`] for requests that need
/// one, [`ErrorCode::NotInitialized`] where there is no configuration yet, and what the request could not do.
pub fn run_offline(home: &Home, call: Call) -> Result<Value, Failure> {
    match call.request {
        Request::Status => Ok(json!({ "running": false })),
        Request::Stop => Ok(json!({ "status": "not_running" })),
        Request::GatewayInit {
            port,
            nick,
            network,
            password,
            mnemonic,
            migrate,
        } => set_up(home, |lock| {
            let request = InitRequest {
                port: port.unwrap_or(DEFAULT_P2P_PORT),
                nick,
                network,
                password,
                mnemonic: mnemonic.as_ref().map(words).transpose()?,
                migrate: migrate.unwrap_or(true),
            };
            let (config, created) = setup::init(lock, request)?;
            Ok(initialized(lock.home(), &config, &created))
        }),
        Request::IdentityCreate {
            nick,
            network,
            password,
        } => set_up(home, |lock| {
            let request = AddRequest {
                nick,
                network,
                password,
                ..AddRequest::default()
            };
            let (_, created) = setup::create(lock, configured(lock)?, request)?;
            Ok(made(created).result)
        }),
        Request::IdentityRecover {
            mnemonic,
            nick,
            network,
            password,
        } => set_up(home, |lock| {
            let request = AddRequest {
                nick,
                network,
                password,
                ..AddRequest::default()
            };
            let (_, created) = setup::recover(lock, configured(lock)?, words(&mnemonic)?, request)?;
            Ok(made(created).result)
        }),
        request @ (Request::GatewaySet { .. }
        | Request::IdentityList
        | Request::IdentityAdd { .. }
        | Request::IdentityRemove { .. }
        | Request::IdentityAllow { .. }
        | Request::IdentityDeny { .. }
        | Request::IdentityShow { .. }
        | Request::IdentitySetNick { .. }
        | Request::IdentityClearNick { .. }) => administer(home, call.acting.as_deref(), request),
        Request::Send { .. }
        | Request::Recv { .. }
        | Request::Inbox { .. }
        | Request::Outbox { .. }
        | Request::Ask { .. }
        | Request::Reply { .. }
        | Request::Subscribe { .. }
        | Request::Peers
        | Request::PeerAdd { .. }
        | Request::PeerRemove { .. }
        | Request::PeerResolve { .. }
        | Request::Connect { .. }
        | Request::Metrics { .. }
        | Request::Multiaddrs
        | Request::Reload
        | Request::InviteCreate { .. }
        | Request::InviteList
        | Request::ChannelJoin { .. }
        | Request::ChannelLeave { .. }
        | Request::ChannelList
        | Request::ChannelSend { .. }
        | Request::ChannelHistory { .. }
        | Request::ChannelMembers { .. }
        | Request::MeshCheck
        | Request::ChannelSave { .. }
        | Request::DmSend { .. }
        | Request::DmHistory { .. }
        | Request::InviteRevoke { .. } => Err(Failure::new(
            ErrorCode::NotRunning,
            format!("{} needs a running daemon", call.request.command()),
        )
        .with_hint("start it with 'clawchat daemon start'")),
    }
}

/// A request that needs a configuration to be there.
fn administer(home: &Home, as_: Option<&str>, request: Request) -> Result<Value, Failure> {
    if !home.exists() {
        let path = home.config_path();
        return Err(ConfigError::NotFound { path }.into());
    }
    let lock = home.lock(Purpose::Request)?;
    let mut config = GatewayConfig::load(home)?;
    let applied = apply(&lock, &mut config, as_, request, &|_| false)?;
    if let Effect::Removed(principal) = &applied.effect
        && let Ok(principal) = principal.get()
    {
        setup::set_aside(&lock, &principal)?;
    }
    Ok(applied.result)
}

/// A request that may create the home. If it fails, a home it created is gone again.
fn set_up(home: &Home, work: impl FnOnce(&HomeLock) -> Result<Value, Failure>) -> Result<Value, Failure> {
    let lock = home.lock(Purpose::Request)?;
    let result = work(&lock);
    if result.is_err() {
        lock.abandon();
    }
    result
}

fn configured(lock: &HomeLock) -> Result<Option<GatewayConfig>, ConfigError> {
    match GatewayConfig::load(lock.home()) {
        Ok(config) => Ok(Some(config)),
        Err(ConfigError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whom a request about "the identity" means: `as`, otherwise the first that is loaded at start.
fn acting(config: &GatewayConfig, as_: Option<&str>) -> Result<String, EditError> {
    if let Some(who) = as_ {
        return Ok(who.to_owned());
    }
    let mut identities = config.identities().iter();
    let first = identities.clone().find(|identity| identity.autoload);
    first
        .or_else(|| identities.next())
        .map(|identity| identity.principal.to_string())
        .ok_or_else(|| EditError::NoSuchIdentity { who: String::new() })
}

fn words(secret: &Secret) -> Result<Mnemonic, Failure> {
    let normalized = zeroize::Zeroizing::new(
        secret
            .expose()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .to_lowercase(),
    );
    normalized.parse().map_err(|error| {
        Failure::invalid(format!("not a recovery phrase: {error}"))
            .with_hint("give the 24 English words in their order, separated by spaces")
    })
}

fn peer_list(texts: &[String]) -> Result<Vec<PeerPattern>, Failure> {
    if texts.is_empty() {
        return Ok(vec![PeerPattern::Any]);
    }
    texts
        .iter()
        .map(|text| match PeerPattern::new(text.trim()) {
            PeerPattern::Nobody(text) => Err(Failure::invalid(format!(
                "allowPeers: {text} is neither a principal nor \"*\""
            ))
            .with_hint("give principals (stacks:ST… or stacks:SP…), or * for everybody")),
            pattern @ (PeerPattern::Any | PeerPattern::Principal(_)) => Ok(pattern),
        })
        .collect()
}

fn initialized(home: &Home, config: &GatewayConfig, created: &Created) -> Value {
    let principal = created.identity.principal();
    let mut result = json!({
        "status": "initialized",
        "principal": principal,
        "address": principal.address(),
        "nick": created.nick,
        "network": principal.network(),
        "p2pPort": config.p2p_port(),
        "mnemonic": created.identity.mnemonic().expose_words(),
    });
    if created.password_generated {
        put(&mut result, "passwordFile", json!(home.password_path(principal)));
    }
    if created.origin == Origin::Migrated {
        put(&mut result, "migrated", json!(true));
    }
    result
}

fn added(created: &Created) -> Value {
    let mut result = json!({
        "status": "added",
        "principal": created.identity.principal(),
        "nick": created.nick,
    });
    show_new_words(created, &mut result);
    result
}

fn made(created: Created) -> Applied {
    let mut result = PublicFacts::of(&created.identity).to_json(created.nick.as_ref());
    show_new_words(&created, &mut result);
    Applied {
        result,
        effect: Effect::Added(Box::new(created.identity)),
    }
}

/// Words drawn just now are shown this once; whoever brought words has them.
fn show_new_words(created: &Created, result: &mut Value) {
    if created.origin == Origin::New {
        put(
            result,
            "mnemonic",
            json!(created.identity.mnemonic().expose_words()),
        );
    }
}

fn changed(result: Value) -> Applied {
    Applied {
        result,
        effect: Effect::Changed,
    }
}

fn access(config: &GatewayConfig, index: usize, status: &str, peer: &str) -> Value {
    let mut result = json!({ "status": status, "peer": peer });
    if let Some(identity) = config.identities().get(index) {
        put(&mut result, "principal", json!(identity.principal.as_str()));
        put(&mut result, "nick", json!(identity.nick));
        put(
            &mut result,
            "allowedRemotePeers",
            texts(&identity.allowed_remote_peers),
        );
        put(&mut result, "deniedPeers", texts(&identity.denied_peers));
    }
    result
}

/// The facts of an identity whose name has changed. That worked, so without password and kept facts the answer
/// only lacks the public key.
fn named(lock: &HomeLock, config: &GatewayConfig, index: usize, password: Option<&Secret>) -> Value {
    let Some(identity) = config.identities().get(index) else {
        return Value::Null;
    };
    let who = identity.principal.as_str();
    setup::show(lock.home(), config, who, password).unwrap_or_else(|_| match identity.principal.get() {
        Ok(principal) => json!({
            "principal": principal,
            "address": principal.address(),
            "publicKey": null,
            "nick": identity.nick,
            "displayName": setup::display_name(&principal, identity.nick.as_ref()),
        }),
        Err(_) => json!({ "principal": who, "nick": identity.nick }),
    })
}

fn list(config: &GatewayConfig, loaded: &dyn Fn(&Principal) -> bool) -> Value {
    let entry = |identity: &IdentityConfig| {
        json!({
            "principal": identity.principal.as_str(),
            "nick": identity.nick,
            "autoload": identity.autoload,
            "allowLocal": identity.allow_local,
            "allowedRemotePeers": texts(&identity.allowed_remote_peers),
            "deniedPeers": texts(&identity.denied_peers),
            "openclawWake": identity.openclaw_wake,
            "loaded": identity.principal.get().is_ok_and(|principal| loaded(&principal)),
        })
    };
    json!({ "identities": config.identities().iter().map(entry).collect::<Vec<_>>() })
}

fn texts(patterns: &[PeerPattern]) -> Value {
    patterns
        .iter()
        .map(|pattern| Value::from(pattern.to_string()))
        .collect()
}

fn put(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(object) = object {
        object.insert(key.to_owned(), value);
    }
}
