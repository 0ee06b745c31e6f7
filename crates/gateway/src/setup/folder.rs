//! Steps on the folders of identities that can be taken back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use clawchat_types::Principal;

use crate::home::{self, Home, HomeError, STAGING_PREFIX};

/// A folder that is being prepared beside its place. Removed when dropped before it is published.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
    published: bool,
}

impl Staged {
    pub(super) fn new(home: &Home) -> Result<Self, HomeError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{STAGING_PREFIX}{}-{number}", process::id());
        let staged = Self {
            path: home.identities_dir().join(name),
            published: false,
        };
        home::create_dir(&staged.path)?;
        Ok(staged)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file of the folder.
    pub(super) fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<(), HomeError> {
        home::write_atomic(&self.path.join(name), bytes)
    }

    /// Puts the folder into its place, which must be vacant.
    pub(super) fn publish(mut self, home: &Home, principal: &Principal) -> Result<Step, HomeError> {
        let place = home.identity_dir(principal);
        move_folder(&self.path, &place)?;
        self.published = true;
        Ok(Step::Published(place))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            discard(&self.path);
        }
    }
}

/// What was done to an identity's folder, until the configuration is written too.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing.
    Nothing,
    /// A new folder was put in place.
    Published(PathBuf),
    /// A folder was moved.
    Moved { from: PathBuf, to: PathBuf },
    /// Files were renamed to make room for others of that name: old name, new name.
    SetAside(Vec<(PathBuf, PathBuf)>),
    /// One after the other.
    Both(Box<Self>, Box<Self>),
}

impl Step {
    /// Takes the step back, as far as the disk allows. Only what the step itself made is deleted.
    pub(super) fn undo(self) {
        match self {
            Self::Nothing => {}
            Self::Published(path) => discard(&path),
            Self::Moved { from, to } => {
                let _ = fs::rename(to, from);
            }
            Self::SetAside(renamed) => {
                for (name, aside) in renamed {
                    let _ = fs::rename(aside, name);
                }
            }
            Self::Both(first, second) => {
                second.undo();
                first.undo();
            }
        }
    }
}

/// Renames a folder, durably.
pub(super) fn move_folder(from: &Path, to: &Path) -> Result<(), HomeError> {
    if let Some(parent) = to.parent() {
        home::create_dir(parent)?;
    }
    fs::rename(from, to).map_err(|error| HomeError::io(to, "create", error))?;
    for parent in [to.parent(), from.parent()].into_iter().flatten() {
        home::sync_dir(parent)?;
    }
    Ok(())
}

/// Renames those of the files that exist to `<name>.<ms>.old`.
pub(super) fn set_aside_files(files: &[PathBuf]) -> Result<Step, HomeError> {
    let mut renamed = Vec::new();
    for file in files.iter().filter(|file| file.exists()) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let aside = file.with_file_name(format!("{name}.{}.old", unix_millis()));
        if let Err(error) = fs::rename(file, &aside) {
            Step::SetAside(renamed).undo();
            return Err(HomeError::io(file, "rename", error));
        }
        renamed.push((file.clone(), aside));
    }
    Ok(Step::SetAside(renamed))
}

/// The folder of an identity: in its place, otherwise the newest among the removed ones.
pub(super) fn find(home: &Home, principal: &Principal) -> Option<PathBuf> {
    let place = home.identity_dir(principal);
    if place.exists() {
        return Some(place);
    }
    let prefix = format!("{principal}-");
    let removed = fs::read_dir(home.removed_dir()).ok()?;
    removed
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let removed_at: u128 = name.to_str()?.strip_prefix(&prefix)?.parse().ok()?;
            Some((removed_at, entry.path()))
        })
        .max()
        .map(|(_, path)| path)
}

/// Moves a folder that [`find`] found into its place.
pub(super) fn restore(home: &Home, principal: &Principal, found: &Path) -> Result<Step, HomeError> {
    let place = home.identity_dir(principal);
    if found == place {
        return Ok(Step::Nothing);
    }
    move_folder(found, &place)?;
    Ok(Step::Moved {
        from: found.to_owned(),
        to: place,
    })
}

/// Milliseconds since 1970, to tell folders and files of one name apart.
pub(super) fn unix_millis() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis()
}

fn discard(path: &Path) {
    let _ = fs::remove_dir_all(path);
    if let Some(parent) = path.parent() {
        // Only if it is empty, so only if we made it or nobody needs it.
        let _ = fs::remove_dir(parent);
    }
}
