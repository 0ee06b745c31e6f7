//! Messages and peers of the TypeScript ClawChat, taken over into the store of an identity.
//!
//! It keeps them in three JSON files in the identity's folder. Whenever an identity's store is opened, those that are
//! there are read into it, in batches, and then renamed to `*.imported`; nothing is deleted. A file is renamed after
//! all of it is on disk, and everything in it is known again by its id, so that an import that was interrupted is
//! simply repeated. A file that is not JSON, or no list, is left alone and reported with the place. A record that
//! cannot be stored is counted and named, and stays in the renamed file.

mod list;
mod messages;
mod owner;
mod peers;
mod record;
mod report;

use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};

use clawchat_store::{MessageStore, StoreError};
use clawchat_types::UnixMillis;
use serde_json::value::RawValue;
use tracing::{info, warn};

use self::list::ListError;
use self::messages::{Inbox, Outbox};
pub(crate) use self::owner::Owner;
use self::peers::Peers;
pub(crate) use self::report::Problem;
use self::report::Tally;
use crate::home;

/// The files of an identity in the TypeScript version. Peers come first: messages may name them by their aliases.
pub(crate) const FILES: [&str; 3] = ["peers.json", "inbox.json", "outbox.json"];
/// Largest file read, in bytes. 512 MiB: the TypeScript version cannot load a larger one either, because its runtime
/// has no longer strings.
const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;
/// Most writes that share a commit.
const BATCH_WRITES: usize = 256;
/// Most bytes that share a commit, unless one record is larger. 4 MiB.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How a file that was taken over ends.
const IMPORTED_SUFFIX: &str = "imported";

/// Takes over what the TypeScript version left in `folder`. Gives what the operator should know of, and logs it.
/// Blocks: on the disk, and for long on large files.
///
/// # Errors
/// When the store cannot be used any more. A disk that is full is only a problem: the next start goes on.
pub(crate) fn take_over(
    folder: &Path,
    store: &dyn MessageStore,
    owner: &Owner,
    now: UnixMillis,
) -> Result<Vec<Problem>, StoreError> {
    let mut problems = Vec::new();
    for name in FILES {
        let path = folder.join(name);
        let problem = match import(&path, name, store, owner, now) {
            Ok(None) => continue,
            Ok(Some(done)) => done.conclude(&path),
            Err(Obstacle::Store(error @ (StoreError::StorageFull { .. } | StoreError::TooLarge { .. }))) => {
                Some(Problem::of(&path, format!("not taken over yet: {error}")))
            }
            Err(Obstacle::Store(error)) => return Err(error),
            Err(Obstacle::File(problem)) => Some(problem),
        };
        if let Some(problem) = problem {
            warn!(identity = %owner.principal, "{problem}");
            problems.push(problem);
        }
    }
    Ok(problems)
}

/// What is taken from one file, record by record.
trait Import {
    /// Takes one record.
    fn take(&mut self, number: usize, record: &RawValue) -> Result<(), StoreError>;
    /// Writes what is left, and tells how it went.
    fn finish(self: Box<Self>) -> Result<Tally, StoreError>;
}

/// Why a file was not taken over.
enum Obstacle {
    /// It is as it was.
    File(Problem),
    /// Part of it may be in the store.
    Store(StoreError),
}

impl From<StoreError> for Obstacle {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A file that is in the store as a whole.
struct Done {
    tally: Tally,
    renamed: io::Result<PathBuf>,
}

/// Takes over one file. `None`: there is none.
fn import(
    path: &Path,
    name: &str,
    store: &dyn MessageStore,
    owner: &Owner,
    now: UnixMillis,
) -> Result<Option<Done>, Obstacle> {
    let unreadable =
        |error: &io::Error| Obstacle::File(Problem::of(path, format!("cannot be read: {error}")));
    // Asked before it is opened: opening a pipe would wait for its writer.
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    if !found.is_file() {
        return Err(Obstacle::File(Problem::of(path, "is not a file".to_owned())));
    }
    if found.len() > MAX_FILE_BYTES {
        let text = format!("is larger than {MAX_FILE_BYTES} bytes");
        return Err(Obstacle::File(Problem::of(path, text)));
    }
    let mut file = File::open(path).map_err(|error| unreadable(&error))?;
    // Nothing of a file is taken before all of it is known to be sound.
    list::each(&mut file, |_, _| Ok(())).map_err(|error| file_error(path, error))?;
    file.rewind().map_err(|error| unreadable(&error))?;
    let mut import: Box<dyn Import + '_> = match name {
        "peers.json" => Box::new(Peers::new(store, owner)?),
        "inbox.json" => Box::new(Inbox::new(store, owner, now)),
        _ => Box::new(Outbox::new(store, owner, now)?),
    };
    list::each(&mut file, |number, record| import.take(number, record))
        .map_err(|error| file_error(path, error))?;
    let tally = import.finish()?;
    let renamed = rename(path);
    Ok(Some(Done { tally, renamed }))
}

fn file_error(path: &Path, error: ListError<StoreError>) -> Obstacle {
    match error {
        ListError::Syntax { line, column, reason } => Obstacle::File(Problem::at(path, line, column, reason)),
        ListError::Io(error) => Obstacle::File(Problem::of(path, format!("cannot be read: {error}"))),
        ListError::Taker(error) => Obstacle::Store(error),
    }
}

impl Done {
    /// Logs it. Gives what is left to tell.
    fn conclude(self, path: &Path) -> Option<Problem> {
        let Tally {
            imported,
            known,
            skipped,
            remarks,
        } = &self.tally;
        let place = match &self.renamed {
            Ok(place) => place.as_path(),
            Err(_) => path,
        };
        info!(file = %place.display(), imported, known, skipped, "taken over from the TypeScript version");
        for remark in remarks.shown() {
            info!(file = %place.display(), "{remark}");
        }
        match self.renamed {
            Err(error) => Some(Problem::of(
                path,
                format!(
                    "is taken over, but cannot be renamed and will be read again at the next start: {error}"
                ),
            )),
            Ok(place) => self.tally.problem(&place),
        }
    }
}

/// Renames a file to `*.imported`, durably, over no other one.
fn rename(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut place = path.with_file_name(format!("{name}.{IMPORTED_SUFFIX}"));
    let mut number = 0_u32;
    while place.symlink_metadata().is_ok() {
        number += 1;
        place = path.with_file_name(format!("{name}.{number}.{IMPORTED_SUFFIX}"));
    }
    fs::rename(path, &place)?;
    // The rename itself worked. If the disk forgets it, the file is read once more, which changes nothing.
    if let Some(folder) = path.parent()
        && let Err(error) = home::sync_dir(folder)
    {
        warn!(%error, "the rename may not be on disk yet");
    }
    Ok(place)
}

#[cfg(test)]
mod tests;
