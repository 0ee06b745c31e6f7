//! Changes that need no keys: only the configuration, or the place of a folder.

use clawchat_types::{Nick, Principal, PrincipalError};

use super::{SetupError, folder};
use crate::config::{ConfiguredPrincipal, EditError, GatewayConfig, PeerPattern};
use crate::home::HomeLock;

/// Takes an identity out of the configuration. Call [`set_aside`] once nobody uses its folder any more.
///
/// # Errors
/// [`EditError::NoSuchIdentity`], [`EditError::LastIdentity`], and the IO error; nothing is changed then.
pub fn remove(
    lock: &HomeLock,
    config: &mut GatewayConfig,
    who: &str,
) -> Result<ConfiguredPrincipal, SetupError> {
    edit(lock, config, |config| config.remove_identity(who)).map(|removed| removed.principal)
}

/// Moves the folder of a removed identity to `identities/removed/<principal>-<ms>`. Its keys and messages stay
/// there; adding the identity again brings them back. Does nothing when there is no folder.
///
/// # Errors
/// The IO error.
pub fn set_aside(lock: &HomeLock, principal: &Principal) -> Result<(), SetupError> {
    let home = lock.home();
    let place = home.identity_dir(principal);
    if !place.exists() {
        return Ok(());
    }
    let aside = home
        .removed_dir()
        .join(format!("{principal}-{}", folder::unix_millis()));
    Ok(folder::move_folder(&place, &aside)?)
}

/// Lets a peer write to an identity; see [`GatewayConfig::allow`]. `peer`: a principal, `*`, or the nickname of
/// an identity of this gateway. Returns whose list it is.
///
/// # Errors
/// [`EditError::NoSuchIdentity`], [`SetupError::NoSuchPeer`], [`SetupError::NotAPeer`], and the IO error.
pub fn allow(
    lock: &HomeLock,
    config: &mut GatewayConfig,
    who: &str,
    peer: &str,
) -> Result<usize, SetupError> {
    let index = index_of(config, who)?;
    let peer = peer_pattern(config, peer)?;
    edit(lock, config, |config| config.allow(who, &peer))?;
    Ok(index)
}

/// Takes that back; see [`GatewayConfig::deny`].
///
/// # Errors
/// Those of [`allow`].
pub fn deny(lock: &HomeLock, config: &mut GatewayConfig, who: &str, peer: &str) -> Result<usize, SetupError> {
    let index = index_of(config, who)?;
    let peer = peer_pattern(config, peer)?;
    edit(lock, config, |config| config.deny(who, &peer))?;
    Ok(index)
}

/// Sets the P2P port of the configuration. A running daemon keeps the one it has.
///
/// # Errors
/// [`EditError::Invalid`] for port 0, and the IO error.
pub fn set_port(lock: &HomeLock, config: &mut GatewayConfig, port: u16) -> Result<(), SetupError> {
    edit(lock, config, |config| config.set_p2p_port(port))
}

/// Names an identity. The name is kept in the configuration, which wins over the one sealed with the keys, so
/// no password is needed.
///
/// # Errors
/// [`EditError::NoSuchIdentity`], [`EditError::NickTaken`], and the IO error.
pub fn set_nick(
    lock: &HomeLock,
    config: &mut GatewayConfig,
    who: &str,
    nick: &Nick,
) -> Result<usize, SetupError> {
    let index = index_of(config, who)?;
    edit(lock, config, |config| config.set_nick(who, Some(nick)))?;
    Ok(index)
}

/// Takes the name of an identity away.
///
/// # Errors
/// [`EditError::NoSuchIdentity`] and the IO error.
pub fn clear_nick(lock: &HomeLock, config: &mut GatewayConfig, who: &str) -> Result<usize, SetupError> {
    let index = index_of(config, who)?;
    edit(lock, config, |config| config.set_nick(who, None))?;
    Ok(index)
}

/// Changes a copy, writes it, and only then lets the caller see it.
pub(super) fn edit<T>(
    lock: &HomeLock,
    config: &mut GatewayConfig,
    change: impl FnOnce(&mut GatewayConfig) -> Result<T, EditError>,
) -> Result<T, SetupError> {
    let mut changed = config.clone();
    let outcome = change(&mut changed)?;
    if changed != *config {
        changed.save(lock)?;
        *config = changed;
    }
    Ok(outcome)
}

fn index_of(config: &GatewayConfig, who: &str) -> Result<usize, EditError> {
    config
        .find(who)
        .ok_or_else(|| EditError::NoSuchIdentity { who: who.to_owned() })
}

fn peer_pattern(config: &GatewayConfig, peer: &str) -> Result<PeerPattern, SetupError> {
    if peer == "*" {
        return Ok(PeerPattern::Any);
    }
    match peer.parse() {
        Ok(principal) => Ok(PeerPattern::Principal(principal)),
        Err(PrincipalError::Prefix) => config
            .find(peer)
            .and_then(|index| config.identities().get(index))
            .and_then(|identity| identity.principal.get().ok())
            .map(PeerPattern::Principal)
            .ok_or_else(|| SetupError::NoSuchPeer { who: peer.to_owned() }),
        Err(source) => Err(SetupError::NotAPeer {
            text: peer.to_owned(),
            source,
        }),
    }
}
