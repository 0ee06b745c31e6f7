//! Opening sealed keys.

use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use clawchat_identity::Identity;
use clawchat_identity::keystore::{self, KeystoreError};
use clawchat_ipc::Secret;
use clawchat_types::Principal;

use super::{MAX_KEYSTORE_BYTES, PublicFacts, SetupError, password};
use crate::config::{EditError, GatewayConfig, IdentityConfig};
use crate::home::{self, Home, HomeLock};

/// Keystores opened at a time: each takes 128 MiB while it is.
const PARALLEL: usize = 2;

/// An identity whose keys are open.
#[derive(Debug)]
pub struct LoadedIdentity {
    /// Its index in the configuration.
    pub index: usize,
    /// Its keys.
    pub identity: Identity,
}

/// An identity whose keys stay sealed.
#[derive(Debug)]
pub struct NotLoaded {
    /// Its index in the configuration.
    pub index: usize,
    /// Who it is, as the configuration has it.
    pub principal: String,
    /// Why.
    pub reason: SetupError,
}

/// The outcome of [`unseal`]; both lists in the order of the configuration.
#[derive(Debug)]
pub struct Unsealed {
    /// The identities that can be served. Never empty.
    pub loaded: Vec<LoadedIdentity>,
    /// Those that were to be, and cannot.
    pub not_loaded: Vec<NotLoaded>,
}

/// Opens the keys of every identity that is loaded at start, at most two at a time.
///
/// Each one with the `password` file in its folder, and where there is none or it does not fit, with `given`.
///
/// # Errors
/// [`SetupError::WrongPassword`] and [`SetupError::PasswordNeeded`] of the first identity, because then most
/// likely all is wrong; [`SetupError::NothingToLoad`] when no identity has autoload; and when none can be loaded,
/// the reason of the first one. Any other failure is in [`Unsealed::not_loaded`].
pub fn unseal(
    lock: &HomeLock,
    config: &GatewayConfig,
    given: Option<&Secret>,
) -> Result<Unsealed, SetupError> {
    let wanted: Vec<(usize, &IdentityConfig)> = config
        .identities()
        .iter()
        .enumerate()
        .filter(|(_, identity)| identity.autoload)
        .collect();
    let mut opened = open_all(lock, config, &wanted, given);
    opened.sort_by_key(|(index, _)| *index);

    let mut loaded = Vec::new();
    let mut not_loaded = Vec::new();
    let mut first = true;
    for (index, result) in opened {
        let fatal = std::mem::replace(&mut first, false);
        match result {
            Ok(identity) => loaded.push(LoadedIdentity { index, identity }),
            Err(reason) if fatal && is_about_passwords(&reason) => return Err(reason),
            Err(reason) => not_loaded.push(NotLoaded {
                index,
                principal: config
                    .identities()
                    .get(index)
                    .map(|identity| identity.principal.to_string())
                    .unwrap_or_default(),
                reason,
            }),
        }
    }
    if loaded.is_empty() {
        let nothing = SetupError::NothingToLoad {
            config: lock.home().config_path(),
        };
        return Err(not_loaded
            .into_iter()
            .next()
            .map_or(nothing, |first| first.reason));
    }
    Ok(Unsealed { loaded, not_loaded })
}

/// Opens the keys of one identity, whether or not it is loaded at start: for a daemon that is running.
///
/// # Errors
/// [`EditError::NoSuchIdentity`] for an index out of range, and why it cannot be loaded.
pub fn unseal_one(
    lock: &HomeLock,
    config: &GatewayConfig,
    index: usize,
    given: Option<&Secret>,
) -> Result<Identity, SetupError> {
    let identity = config
        .identities()
        .get(index)
        .ok_or_else(|| EditError::NoSuchIdentity {
            who: index.to_string(),
        })?;
    let principal = principal_of(identity)?;
    config.check_network(principal.network())?;
    let opened = open(lock.home(), &principal, given)?;
    // The facts only spare a password later on; a disk that is full now is somebody else's error.
    let _ = PublicFacts::of(&opened).keep(lock.home());
    Ok(opened)
}

/// Opens the keys in an identity's folder.
pub(super) fn open(
    home: &Home,
    principal: &Principal,
    given: Option<&Secret>,
) -> Result<Identity, SetupError> {
    open_in(&home.identity_dir(principal), principal, given)
}

/// Opens the keys in a folder, which must be those of `expected`.
pub(super) fn open_in(
    dir: &Path,
    expected: &Principal,
    given: Option<&Secret>,
) -> Result<Identity, SetupError> {
    let path = Home::keystore_in(dir);
    let Some(sealed) = home::read_bounded(&path, MAX_KEYSTORE_BYTES)? else {
        return Err(SetupError::NoKeystore {
            principal: expected.to_string(),
            keystore: path,
        });
    };
    let kept = password::read_password_file(dir)?;
    let different = given.filter(|given| Some(*given) != kept.as_ref());
    let mut wrong = SetupError::PasswordNeeded {
        principal: expected.to_string(),
    };
    for password in kept.iter().chain(different) {
        match open_file(&path, &sealed, password, &expected.to_string()) {
            Ok(identity) if identity.principal() == expected => return Ok(identity),
            Ok(identity) => {
                return Err(SetupError::OtherIdentity {
                    keystore: path,
                    expected: *expected,
                    found: *identity.principal(),
                });
            }
            Err(error @ SetupError::WrongPassword { .. }) => wrong = error,
            Err(error) => return Err(error),
        }
    }
    Err(wrong)
}

/// Opens the bytes of a keystore file. `whose` is for the error alone.
pub(super) fn open_file(
    path: &Path,
    sealed: &[u8],
    password: &Secret,
    whose: &str,
) -> Result<Identity, SetupError> {
    keystore::open(sealed, password.expose()).map_err(|source| {
        let keystore = path.to_owned();
        if source == KeystoreError::WrongPassword {
            let principal = whose.to_owned();
            SetupError::WrongPassword { principal, keystore }
        } else {
            SetupError::Keystore { keystore, source }
        }
    })
}

/// The principal of a configured identity, if it is one.
pub(super) fn principal_of(identity: &IdentityConfig) -> Result<Principal, SetupError> {
    identity
        .principal
        .get()
        .map_err(|source| SetupError::NotAPrincipal {
            text: identity.principal.to_string(),
            source,
        })
}

type Opened = (usize, Result<Identity, SetupError>);

fn open_all(
    lock: &HomeLock,
    config: &GatewayConfig,
    wanted: &[(usize, &IdentityConfig)],
    given: Option<&Secret>,
) -> Vec<Opened> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let opened: Mutex<Vec<Opened>> = Mutex::default();
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let position = next.fetch_add(1, Ordering::Relaxed);
            let Some((index, _)) = wanted.get(position) else {
                break;
            };
            let result = unseal_one(lock, config, *index, given);
            if position == 0 && result.as_ref().is_err_and(is_about_passwords) {
                stop.store(true, Ordering::Relaxed);
            }
            opened
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((*index, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..PARALLEL.min(wanted.len()) {
            scope.spawn(work);
        }
        work();
    });
    opened.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn is_about_passwords(error: &SetupError) -> bool {
    matches!(
        error,
        SetupError::WrongPassword { .. } | SetupError::PasswordNeeded { .. }
    )
}
