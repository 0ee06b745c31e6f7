//! New identities, and old ones that come back.

use clawchat_identity::keystore;
use clawchat_identity::{Identity, Mnemonic, Wallet};
use clawchat_ipc::Secret;
use clawchat_types::{Network, Nick, Principal};

use super::folder::{self, Staged, Step};
use super::{
    AddRequest, Created, InitRequest, Origin, PublicFacts, SetupError, change, legacy, password, unseal,
};
use crate::config::{DEFAULT_P2P_PORT, GatewayConfig, NewIdentity};
use crate::home::{self, Home, HomeLock};

/// Makes a home a gateway: its first identity and its configuration.
///
/// # Errors
/// [`SetupError::AlreadyInitialized`] when there is a configuration; what is wrong with the password, the words
/// or the port; the IO error. Nothing is left behind then.
pub fn init(lock: &HomeLock, request: InitRequest) -> Result<(GatewayConfig, Created), SetupError> {
    let home = lock.home();
    if home.config_path().exists() {
        return Err(SetupError::AlreadyInitialized {
            config: home.config_path(),
        });
    }
    let migrates = request.migrate && request.mnemonic.is_none() && home.legacy_keystore_path().exists();
    let keys = if migrates {
        legacy::take_over(home, request.network, request.password.as_ref())?
    } else {
        let drawn = match &request.password {
            Some(_) => None,
            None => Some(password::generate_password()?),
        };
        let request = NewKeys {
            network: request.network.unwrap_or(Network::Testnet),
            nick: request.nick.as_ref(),
            mnemonic: request.mnemonic.as_ref(),
            password: drawn.as_ref().or(request.password.as_ref()),
            keep_password: drawn.is_some(),
        };
        new_keys(home, &request)?
    };
    let nick = request.nick.or_else(|| own_nick(&keys.identity));
    let entry = NewIdentity::new(*keys.identity.principal(), nick.clone());
    let written = GatewayConfig::initial(request.port, &entry)
        .map_err(SetupError::from)
        .and_then(|config| Ok(config.save(lock).map(|()| config)?));
    let config = keys.step.keep_if(written)?;
    if migrates {
        legacy::rename_originals(home);
    }
    Ok((config, keys.outcome.created(keys.identity, nick)))
}

/// Makes a home of the single-identity layout a gateway, as [`init`] does. Returns whether it was one; a home that has
/// a configuration, or no identity at its top, is left alone.
///
/// # Errors
/// Those of [`init`].
pub fn migrate(lock: &HomeLock, password: Option<&Secret>) -> Result<bool, SetupError> {
    let home = lock.home();
    if home.config_path().exists() || !home.legacy_keystore_path().exists() {
        return Ok(false);
    }
    let request = InitRequest {
        port: DEFAULT_P2P_PORT,
        nick: None,
        network: None,
        password: password.cloned(),
        mnemonic: None,
        migrate: true,
    };
    init(lock, request).map(|_| true)
}

/// Adds an identity to a gateway: a new one, one recovered from its words, or one whose keys are in the home.
///
/// # Errors
/// What [`GatewayConfig::check_addable`] says, checked before any key is made; what is wrong with the password
/// or the words; the IO error. Nothing is changed then.
pub fn add_identity(
    lock: &HomeLock,
    config: &mut GatewayConfig,
    request: AddRequest,
) -> Result<Created, SetupError> {
    let home = lock.home();
    if let Some(network) = request.network {
        config.check_network(network)?;
    }
    let network = request
        .network
        .or(request.principal.map(|principal| principal.network()))
        .or_else(|| config.network())
        .unwrap_or(Network::Testnet);
    config.check_network(network)?;
    let wanted = wanted_principal(&request, network)?;
    if let Some(principal) = &wanted {
        config.check_addable(principal, request.nick.as_ref())?;
    } else {
        config.check_nick_free(request.nick.as_ref(), None)?;
    }
    let keys = match (&request.principal, &request.mnemonic) {
        (Some(principal), None) => existing_keys(home, principal, request.password.as_ref())?,
        _ => new_keys(
            home,
            &NewKeys {
                network,
                nick: request.nick.as_ref(),
                mnemonic: request.mnemonic.as_ref(),
                password: request.password.as_ref(),
                keep_password: false,
            },
        )?,
    };
    // The name sealed with existing keys is a proposal: another identity may have it by now.
    let nick = request
        .nick
        .or_else(|| own_nick(&keys.identity).filter(|nick| config.check_nick_free(Some(nick), None).is_ok()));
    let entry = NewIdentity {
        principal: *keys.identity.principal(),
        nick: nick.clone(),
        autoload: request.autoload,
        allowed_remote_peers: request.allowed_remote_peers,
    };
    let written = change::edit(lock, config, |config| config.add_identity(&entry));
    keys.step.keep_if(written)?;
    Ok(keys.outcome.created(keys.identity, nick))
}

/// Creates an identity, and a gateway with the default port around it if there is none.
///
/// # Errors
/// Those of [`init`] and [`add_identity`].
pub fn create(
    lock: &HomeLock,
    config: Option<GatewayConfig>,
    request: AddRequest,
) -> Result<(GatewayConfig, Created), SetupError> {
    match config {
        Some(mut config) => {
            let created = add_identity(lock, &mut config, request)?;
            Ok((config, created))
        }
        None => {
            let password = request.password.ok_or_else(password_needed)?;
            let request = InitRequest {
                port: DEFAULT_P2P_PORT,
                nick: request.nick,
                network: request.network,
                password: Some(password),
                mnemonic: request.mnemonic,
                migrate: false,
            };
            init(lock, request)
        }
    }
}

/// [`create`] from 24 words. Where the identity is configured already, but its sealed keys are missing, they
/// are made again under the new password.
///
/// # Errors
/// Those of [`create`].
pub fn recover(
    lock: &HomeLock,
    config: Option<GatewayConfig>,
    mnemonic: Mnemonic,
    request: AddRequest,
) -> Result<(GatewayConfig, Created), SetupError> {
    if let Some(config) = &config {
        let network = request.network.or(config.network()).unwrap_or(Network::Testnet);
        let principal = Wallet::from_mnemonic(&mnemonic)?.principal(network);
        let entry = config
            .find(&principal.to_string())
            .and_then(|index| config.identities().get(index));
        if let Some(entry) = entry
            && !lock.home().keystore_path(&principal).exists()
        {
            let request = NewKeys {
                network,
                nick: entry.nick.as_ref(),
                mnemonic: Some(&mnemonic),
                password: request.password.as_ref(),
                keep_password: false,
            };
            let keys = new_keys(lock.home(), &request)?;
            return Ok((
                config.clone(),
                keys.outcome.created(keys.identity, entry.nick.clone()),
            ));
        }
    }
    let request = AddRequest {
        mnemonic: Some(mnemonic),
        ..request
    };
    create(lock, config, request)
}

/// Keys on the disk that no configuration names yet.
pub(super) struct Keys {
    pub(super) identity: Identity,
    pub(super) outcome: Outcome,
    pub(super) step: Step,
}

#[derive(Clone, Copy)]
pub(super) struct Outcome {
    pub(super) origin: Origin,
    pub(super) password_generated: bool,
}

impl Outcome {
    fn created(self, identity: Identity, nick: Option<Nick>) -> Created {
        Created {
            identity,
            nick,
            origin: self.origin,
            password_generated: self.password_generated,
        }
    }
}

impl Step {
    /// Keeps what was done if what followed worked, and takes it back if not.
    fn keep_if<T>(self, result: Result<T, SetupError>) -> Result<T, SetupError> {
        if result.is_err() {
            self.undo();
        }
        result
    }
}

struct NewKeys<'a> {
    network: Network,
    nick: Option<&'a Nick>,
    mnemonic: Option<&'a Mnemonic>,
    password: Option<&'a Secret>,
    /// Whether the password is kept in a file beside the keys.
    keep_password: bool,
}

fn new_keys(home: &Home, request: &NewKeys<'_>) -> Result<Keys, SetupError> {
    let password = request.password.ok_or_else(password_needed)?;
    keystore::check_password(password.expose()).map_err(|_| SetupError::PasswordTooShort)?;
    let node_seed = password::random()?;
    let nick = request.nick.cloned().map(Into::into);
    let (identity, origin) = match request.mnemonic {
        Some(words) => (
            Identity::recover(words, request.network, nick, *node_seed)?,
            Origin::Recovered,
        ),
        None => (
            Identity::generate(request.network, nick, *password::random()?, *node_seed)?,
            Origin::New,
        ),
    };
    let outcome = Outcome {
        origin,
        password_generated: request.keep_password,
    };
    if let Some(found) = folder::find(home, identity.principal()) {
        return reuse_folder(home, identity, password, &found, outcome);
    }
    let staged = Staged::new(home)?;
    let place = home.identity_dir(identity.principal());
    staged.write(Home::KEYSTORE, &seal(home, &identity, password)?)?;
    staged.write(Home::PUBLIC_FACTS, &PublicFacts::of(&identity).to_file())?;
    if request.keep_password {
        staged.write(Home::PASSWORD, password.expose().as_bytes())?;
    }
    debug_assert!(!place.exists(), "looked for above");
    let step = staged.publish(home, identity.principal())?;
    Ok(Keys {
        identity,
        outcome,
        step,
    })
}

/// The owner of the words gets the folder that is there back, with its messages. If the password opens its keys
/// they stay as they are; otherwise they are set aside and sealed anew.
fn reuse_folder(
    home: &Home,
    identity: Identity,
    password: &Secret,
    found: &std::path::Path,
    outcome: Outcome,
) -> Result<Keys, SetupError> {
    let principal = *identity.principal();
    match unseal::open_in(found, &principal, Some(password)) {
        Ok(identity) => {
            let step = folder::restore(home, &principal, found)?;
            Ok(Keys {
                identity,
                outcome,
                step,
            })
        }
        Err(SetupError::Home(error)) => Err(error.into()),
        Err(_) => {
            let sealed = seal(home, &identity, password)?;
            let restored = folder::restore(home, &principal, found)?;
            let files = [
                home.keystore_path(&principal),
                home.password_path(&principal),
                home.public_facts_path(&principal),
            ];
            let aside = match folder::set_aside_files(&files) {
                Ok(aside) => aside,
                Err(error) => {
                    restored.undo();
                    return Err(error.into());
                }
            };
            let step = Step::Both(Box::new(restored), Box::new(aside));
            let written = home::write_atomic(&home.keystore_path(&principal), &sealed)
                .and_then(|()| PublicFacts::of(&identity).keep(home))
                .map_err(SetupError::from);
            if let Err(error) = written {
                step.undo();
                return Err(error);
            }
            Ok(Keys {
                identity,
                outcome,
                step,
            })
        }
    }
}

fn existing_keys(home: &Home, principal: &Principal, password: Option<&Secret>) -> Result<Keys, SetupError> {
    let found = folder::find(home, principal).unwrap_or_else(|| home.identity_dir(principal));
    let identity = unseal::open_in(&found, principal, password)?;
    let step = folder::restore(home, principal, &found)?;
    // As at start: the facts only spare a password later on.
    let _ = PublicFacts::of(&identity).keep(home);
    let outcome = Outcome {
        origin: Origin::Existing,
        password_generated: false,
    };
    Ok(Keys {
        identity,
        outcome,
        step,
    })
}

/// The principal an add request is about, if that can be told before keys are drawn.
fn wanted_principal(request: &AddRequest, network: Network) -> Result<Option<Principal>, SetupError> {
    let Some(words) = &request.mnemonic else {
        return Ok(request.principal);
    };
    let found = Wallet::from_mnemonic(words)?.principal(network);
    match request.principal {
        Some(expected) if expected != found => Err(SetupError::OtherWords { expected, found }),
        _ => Ok(Some(found)),
    }
}

fn seal(home: &Home, identity: &Identity, password: &Secret) -> Result<Vec<u8>, SetupError> {
    let (salt, iv) = (password::random()?, password::random()?);
    keystore::seal(identity, password.expose(), *salt, *iv).map_err(|source| SetupError::Keystore {
        keystore: home.keystore_path(identity.principal()),
        source,
    })
}

/// The name sealed with the keys, if it is one a configuration can hold.
fn own_nick(identity: &Identity) -> Option<Nick> {
    identity.nick()?.as_str().parse().ok()
}

fn password_needed() -> SetupError {
    SetupError::PasswordNeeded {
        principal: "a new identity".to_owned(),
    }
}
