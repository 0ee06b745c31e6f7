//! The layout from before gateways: one identity at the top of the home.

use std::fs;
use std::io;
use std::path::PathBuf;

use clawchat_ipc::Secret;
use clawchat_types::Network;

use super::create::{Keys, Outcome};
use super::folder::{self, Staged, Step};
use super::{MAX_KEYSTORE_BYTES, Origin, PublicFacts, SetupError, password, unseal};
use crate::config::EditError;
use crate::home::{self, Home, HomeError};
use crate::import;

/// What a file that was taken over is called afterwards.
const MIGRATED_SUFFIX: &str = ".migrated";

/// Copies the identity at the top of the home into a folder of its own, with its messages and peers, which are imported
/// there when the identity is first served. The originals stay.
pub(super) fn take_over(
    home: &Home,
    network: Option<Network>,
    given: Option<&Secret>,
) -> Result<Keys, SetupError> {
    let path = home.legacy_keystore_path();
    let whose = "the identity found in this folder";
    let Some(sealed) = home::read_bounded(&path, MAX_KEYSTORE_BYTES)? else {
        return Err(SetupError::NoKeystore {
            principal: whose.to_owned(),
            keystore: path,
        });
    };
    let kept = match given {
        Some(_) => None,
        None => password::read_password_file(home.root())?,
    };
    let password = given
        .or(kept.as_ref())
        .ok_or_else(|| SetupError::PasswordNeeded {
            principal: whose.to_owned(),
        })?;
    let identity = unseal::open_file(&path, &sealed, password, whose)?;
    if let Some(given) = network
        && given != identity.network()
    {
        let hosted = identity.network();
        return Err(EditError::WrongNetwork { hosted, given }.into());
    }
    let staged = Staged::new(home)?;
    for name in belongings() {
        staged.copy(&home.root().join(name))?;
    }
    staged.write(Home::KEYSTORE, &sealed)?;
    staged.write(Home::PUBLIC_FACTS, &PublicFacts::of(&identity).to_file())?;
    let aside = match home.identity_dir(identity.principal()) {
        place if place.exists() => {
            let aside =
                home.removed_dir()
                    .join(format!("{}-{}", identity.principal(), folder::unix_millis()));
            folder::move_folder(&place, &aside)?;
            Step::Moved {
                from: place,
                to: aside,
            }
        }
        _ => Step::Nothing,
    };
    let step = match staged.publish(home, identity.principal()) {
        Ok(step) => Step::Both(Box::new(aside), Box::new(step)),
        Err(error) => {
            aside.undo();
            return Err(error.into());
        }
    };
    let outcome = Outcome {
        origin: Origin::Migrated,
        password_generated: false,
    };
    Ok(Keys {
        identity,
        outcome,
        step,
    })
}

/// Renames what was taken over. The gateway works without it, so a failure is none.
pub(super) fn rename_originals(home: &Home) {
    let files = [home.legacy_keystore_path()]
        .into_iter()
        .chain(belongings().map(|name| home.root().join(name)));
    for file in files.filter(|file| file.exists()) {
        let mut renamed = file.clone().into_os_string();
        renamed.push(MIGRATED_SUFFIX);
        let _ = fs::rename(&file, PathBuf::from(renamed));
    }
}

/// What else of the old layout belongs to the identity: what it received, sent and knew, and its password if that is kept.
fn belongings() -> impl Iterator<Item = &'static str> {
    import::FILES.into_iter().chain([Home::PASSWORD])
}

impl Staged {
    /// Copies a file of any size into the folder, under its own name, if it exists.
    fn copy(&self, from: &std::path::Path) -> Result<(), HomeError> {
        let Some(name) = from.file_name() else {
            return Ok(());
        };
        match home::copy_private(from, &self.path().join(name)) {
            Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}
