//! Taking identities into service and out of it, while the gateway runs.

use std::sync::Arc;

use clawchat_identity::Identity;
use clawchat_ipc::{ErrorCode, Failure, Secret};
use clawchat_node::ErrorCode as WireCode;
use clawchat_store::{SledStore, StoreHandle, StoreOptions};
use clawchat_types::{Nick, Principal};
use serde_json::Value;
use tracing::{info, warn};

use crate::config::GatewayConfig;
use crate::home::{Home, HomeLock};
use crate::hosted::{HostError, Hosted};
use crate::import::Problem;
use crate::invites::Invites;
use crate::shared::Gateway;
use crate::{api, clock, delivery, hosts, import, peering, setup, wake, whereabouts};

/// What only one request at a time may change: the home folder, and the configuration read from it.
pub(crate) struct Owned {
    pub(crate) lock: HomeLock,
    pub(crate) config: GatewayConfig,
    /// What the daemon was started with, for identities that are loaded later.
    pub(crate) password: Option<Secret>,
}

/// An identity's store, and what of the files of the TypeScript version could not be taken over into it.
pub(crate) struct OpenStore {
    pub(crate) store: StoreHandle,
    pub(crate) invites: Invites,
    pub(crate) import_problems: Vec<Problem>,
}

/// Opens an identity's store, and takes over what the TypeScript version left beside it. Blocks: on the disk, and
/// longer for a large store.
pub(crate) fn open_store(
    home: &Home,
    config: &GatewayConfig,
    identity: &Identity,
) -> Result<OpenStore, HostError> {
    let principal = identity.principal();
    let invites = Invites::load(home.invites_path(principal))?;
    let folder = home.store_dir(principal);
    let store = SledStore::open(&folder, &identity.store_key(), StoreOptions::default())?;
    let owner = import::Owner::of(config, principal);
    let import_problems = import::take_over(&home.identity_dir(principal), &store, &owner, clock::now())?;
    Ok(OpenStore {
        store: StoreHandle::start(Arc::new(store))?,
        invites,
        import_problems,
    })
}

/// What the configuration calls an identity.
pub(crate) fn nick_of(config: &GatewayConfig, principal: &Principal) -> Option<Nick> {
    let index = config.find(&principal.to_string())?;
    config.identities().get(index)?.nick.clone()
}

/// Whether the configuration says that an identity is served from the start.
pub(crate) fn is_autoload(config: &GatewayConfig, principal: &Principal) -> bool {
    let index = config.find(&principal.to_string());
    index
        .and_then(|index| config.identities().get(index))
        .is_some_and(|identity| identity.autoload)
}

/// Serves one identity more. A failure is remembered and shown in `status`.
pub(crate) async fn host(
    gateway: &Gateway,
    config: &GatewayConfig,
    identity: Identity,
) -> Result<(), HostError> {
    let principal = *identity.principal();
    let result = try_host(gateway, config, identity).await;
    match &result {
        Ok(()) => info!(identity = %principal, "serving"),
        Err(error) => {
            warn!(identity = %principal, %error, "cannot serve an identity");
            gateway
                .hosts
                .set_not_loaded(principal.to_string(), error.to_string());
        }
    }
    result
}

async fn try_host(gateway: &Gateway, config: &GatewayConfig, identity: Identity) -> Result<(), HostError> {
    let principal = *identity.principal();
    let (home, configured) = (gateway.home.clone(), config.clone());
    let (identity, opened) = tokio::task::spawn_blocking(move || {
        let opened = open_store(&home, &configured, &identity);
        (identity, opened)
    })
    .await
    .map_err(std::io::Error::other)?;
    let OpenStore {
        store,
        invites,
        import_problems,
    } = opened?;
    let nick = nick_of(config, &principal);
    let hosted = Arc::new(Hosted::new(
        identity,
        nick,
        store,
        invites,
        gateway.stop.child_token(),
    )?);
    gateway.hosts.set_import_problems(&principal, &import_problems);
    gateway.hosts.insert(Arc::clone(&hosted));
    start(gateway, &hosted)
}

/// Starts the tasks of an identity that is hosted.
pub(crate) fn start(gateway: &Gateway, hosted: &Arc<Hosted>) -> Result<(), HostError> {
    wake::start(gateway, hosted);
    delivery::start(gateway, hosted)?;
    gateway
        .tasks
        .spawn(peering::keep(Arc::clone(gateway), Arc::clone(hosted)));
    gateway
        .tasks
        .spawn(whereabouts::run(Arc::clone(gateway), Arc::clone(hosted)));
    // Co-hosted identities may have waited for this one.
    for other in gateway.hosts.loaded() {
        delivery::hurry(&other, hosted.principal());
    }
    Ok(())
}

/// Serves an identity no longer: its sessions end, its store is closed.
pub(crate) async fn unhost(gateway: &Gateway, principal: &Principal) {
    let Some(hosted) = gateway.hosts.remove(principal) else {
        return;
    };
    hosted.stop().cancel();
    for session in gateway.sessions.all() {
        if session.local() == principal {
            session.close(WireCode::UnknownPrincipal);
        }
    }
    if let Err(error) = hosted.store().close().await {
        warn!(identity = %principal, %error, "the store was not closed cleanly");
    }
    info!(identity = %principal, "no longer served");
}

/// Makes access lists and nicknames count: sessions that are no longer admitted end, and what was refused before is
/// not tried again by itself, but what waits is.
pub(crate) fn apply(gateway: &Gateway, config: &GatewayConfig) {
    gateway.hosts.configure(config);
    gateway.node.set_legacy(hosts::legacy_policy(config));
    gateway.wakes.configure(config);
    for session in gateway.sessions.all() {
        if !gateway.hosts.keeps(&session) {
            session.close(WireCode::VersionUnsupported);
        }
        // A peer we wrote to first stays reachable; its messages are refused one by one.
        if let Some(hosted) = gateway.hosts.find(session.local())
            && !peering::is_still_welcome(gateway, &hosted, &session)
        {
            session.close(WireCode::NotAllowed);
        }
    }
    for hosted in gateway.hosts.loaded() {
        let admits = |peer: &Principal| gateway.hosts.admits(peer, hosted.principal());
        hosted.whereabouts().rules_changed(admits);
        hosted.whereabouts().look_again();
        let waiting: Vec<Principal> = hosted.conversations().keys().copied().collect();
        for remote in waiting {
            delivery::hurry(&hosted, &remote);
        }
    }
}

/// Reads the configuration again and follows it. An invalid file changes nothing.
pub(crate) async fn reload(gateway: &Gateway) -> Result<Value, Failure> {
    let mut owned = gateway.owned.clone().lock_owned().await;
    let config = GatewayConfig::load(&gateway.home)?;
    for warning in config.warnings() {
        warn!("{warning}");
    }
    if config.p2p_port() != owned.config.p2p_port() {
        warn!(
            port = config.p2p_port(),
            "the port changes with the next start of the daemon"
        );
    }
    if config.nat() != owned.config.nat() {
        warn!("relay, relays and nat change with the next start of the daemon");
    }
    if config.mesh() != owned.config.mesh() {
        warn!("mesh changes with the next start of the daemon");
    }
    if config.metrics() != owned.config.metrics() {
        warn!("metrics change with the next start of the daemon");
    }
    if config.network() != owned.config.network() {
        return Err(Failure::new(
            ErrorCode::WrongNetwork,
            "the configuration is for another network now",
        )
        .with_hint("restart the daemon to change the network"));
    }
    let gone: Vec<Principal> = gateway
        .hosts
        .loaded()
        .iter()
        .map(|hosted| *hosted.principal())
        .filter(|principal| config.find(&principal.to_string()).is_none())
        .collect();
    for principal in gone {
        unhost(gateway, &principal).await;
    }
    apply(gateway, &config);
    let missing: Vec<usize> = config
        .identities()
        .iter()
        .enumerate()
        .filter(|(_, identity)| identity.autoload)
        .filter(|(_, identity)| {
            identity
                .principal
                .get()
                .is_ok_and(|p| gateway.hosts.find(&p).is_none())
        })
        .map(|(index, _)| index)
        .collect();
    owned.config = config.clone();
    let (owned, opened) = tokio::task::spawn_blocking(move || {
        let opened: Vec<_> = missing
            .into_iter()
            .map(|index| {
                (
                    index,
                    setup::unseal_one(&owned.lock, &owned.config, index, owned.password.as_ref()),
                )
            })
            .collect();
        (owned, opened)
    })
    .await
    .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
    for (index, identity) in opened {
        match identity {
            // A failure is logged and shown in `status`; the other identities are served all the same.
            Ok(identity) => drop(host(gateway, &config, identity).await),
            Err(error) => {
                let principal = config.identities()[index].principal.to_string();
                warn!(identity = %principal, %error, "cannot load an identity");
                gateway.hosts.set_not_loaded(principal, error.to_string());
            }
        }
    }
    drop(owned);
    info!("configuration reloaded");
    Ok(api::reloaded(
        gateway.hosts.loaded().len(),
        &gateway.hosts.not_loaded(),
    ))
}
