//! Small helpers for files and folders.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::layout::UNFINISHED_SUFFIX;
use crate::OpenError;

/// Deepest folder looked into below a store.
const MAX_DEPTH: usize = 4;
/// Pause between two tries to lock a file.
pub(crate) const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Names the file in an operating system error.
pub(crate) fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    move |error| OpenError::Io {
        path: path.to_owned(),
        action,
        detail: error.to_string(),
    }
}

/// Makes a folder only its owner can look into.
pub(crate) fn make_folder(path: &Path) -> Result<(), OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io_error(path, "make the folder"))
}

/// Makes names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), OpenError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error(path, "sync the folder"))
}

/// Writes a new file, durably up to its name.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(io_error(path, "write"))
}

/// Removes a folder of ours with everything in it, if it is there.
pub(crate) fn remove_folder(path: &Path) -> Result<(), OpenError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path, "remove")(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a file of ours, if it is there.
pub(crate) fn remove_file(path: &Path) -> Result<(), OpenError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path, "remove")(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The folder's path with something added to its name.
pub(crate) fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    folder.with_file_name(name)
}

/// Whether there is nothing at this path, or a folder without entries.
pub(crate) fn is_vacant(folder: &Path) -> Result<bool, OpenError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io_error(folder, "look into the folder")(error)),
    }
}

/// Locks a file for this instance alone; `false` when another one holds it at every try. One that lets go may do so late,
/// and a program that is being started holds for a moment all that its parent holds.
pub(crate) fn lock(file: &File, tries: u32) -> io::Result<bool> {
    for _ in 0..tries {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

/// All files below a folder, by relative path, in order.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, OpenError> {
    fn visit(root: &Path, inner: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(root.join(inner))? {
            let entry = entry?;
            let path = inner.join(entry.file_name());
            if !entry.file_type()?.is_dir() {
                found.push(path);
            } else if depth < MAX_DEPTH {
                visit(root, &path, depth + 1, found)?;
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    visit(folder, Path::new(""), 0, &mut found).map_err(io_error(folder, "look into the folder"))?;
    found.sort();
    Ok(found)
}

/// Bytes of all files below a folder.
pub(crate) fn total_size(folder: &Path) -> Result<u64, OpenError> {
    let mut total: u64 = 0;
    for path in list(folder)? {
        let path = folder.join(path);
        total = total.saturating_add(fs::metadata(&path).map_err(io_error(&path, "look at"))?.len());
    }
    Ok(total)
}

/// What would show that a file was touched: name, length, inode, and times of change.
pub(crate) fn fingerprint(folder: &Path, skip: &str) -> Result<Vec<u8>, OpenError> {
    let mut text = Vec::new();
    for name in list(folder)? {
        if name == Path::new(skip) {
            continue;
        }
        let path = folder.join(&name);
        let meta = fs::symlink_metadata(&path).map_err(io_error(&path, "look at"))?;
        let name = name.to_string_lossy();
        text.extend_from_slice(
            format!(
                "{name}\0{} {} {}.{} {}.{}\n",
                meta.len(),
                meta.ino(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime(),
                meta.ctime_nsec()
            )
            .as_bytes(),
        );
    }
    Ok(text)
}

/// When the file, or the youngest file of the folder, last changed: seconds and nanoseconds.
pub(crate) fn changed_at(path: &Path) -> Result<(i64, i64), OpenError> {
    let meta = fs::symlink_metadata(path).map_err(io_error(path, "look at"))?;
    Ok((meta.ctime(), meta.ctime_nsec()))
}

/// Copies a folder, without the engine's unfinished files.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<(), OpenError> {
    make_folder(to)?;
    for name in list(from)? {
        if name.to_string_lossy().ends_with(UNFINISHED_SUFFIX) {
            continue;
        }
        let (source, target) = (from.join(&name), to.join(&name));
        if let Some(parent) = target.parent() {
            make_folder(parent)?;
        }
        fs::copy(&source, &target).map_err(io_error(&source, "copy"))?;
    }
    Ok(())
}

/// Removes the engine's unfinished files: it writes them anew, but trips over half-written ones.
pub(crate) fn remove_unfinished(folder: &Path) -> Result<(), OpenError> {
    for name in list(folder)? {
        if name.to_string_lossy().ends_with(UNFINISHED_SUFFIX) {
            remove_file(&folder.join(name))?;
        }
    }
    Ok(())
}
