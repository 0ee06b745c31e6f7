//! File `clean`: the store was closed in order, and this is how its files looked then. While it holds, the files
//! need no examination.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::files::{changed_at, fingerprint, list, remove_file, sync_folder, write_file};
use super::layout::CLEAN_FILE;
use crate::OpenError;
use crate::sealed::Keys;

/// What the file starts with.
const MAGIC: &[u8; 8] = b"CCCLEAN\n";
/// How often the file is written anew until the clock has moved on.
const TRIES: u32 = 20;
/// Pause between the tries. File systems tell times in steps of up to 10 ms.
const PAUSE: Duration = Duration::from_millis(3);

/// Leaves the mark, or leaves it out when the files cannot be told from ones touched right now.
pub(crate) fn leave(folder: &Path, keys: &Keys) -> Result<(), OpenError> {
    let look = fingerprint(folder, CLEAN_FILE)?;
    let mut youngest = (0, 0);
    for name in list(folder)? {
        youngest = youngest.max(changed_at(&folder.join(name))?);
    }
    let path = folder.join(CLEAN_FILE);
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&keys.sum_file(b"clean", &look));
    for _ in 0..TRIES {
        write_file(&path, &bytes)?;
        // Whoever changes a file from now on gives it a time that is not in the fingerprint.
        if changed_at(&path)? > youngest {
            return sync_folder(folder);
        }
        thread::sleep(PAUSE);
    }
    remove_file(&path)
}

/// Whether the mark is there and the files look as they did.
pub(crate) fn holds(folder: &Path, keys: &Keys) -> Result<bool, OpenError> {
    let path = folder.join(CLEAN_FILE);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(64).read_to_end(&mut bytes));
    if read.is_err() {
        return Ok(false);
    }
    let sum = keys.sum_file(b"clean", &fingerprint(folder, CLEAN_FILE)?);
    Ok(bytes.strip_prefix(MAGIC).is_some_and(|found| found == sum))
}

/// Removes the mark, durably, before the files are changed.
pub(crate) fn lift(folder: &Path) -> Result<(), OpenError> {
    let path = folder.join(CLEAN_FILE);
    if fs::exists(&path).unwrap_or(true) {
        remove_file(&path)?;
        sync_folder(folder)?;
    }
    Ok(())
}
