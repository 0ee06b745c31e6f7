//! Reading with a limit, and writing whole files or nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{FILE_MODE, Home, HomeError, STAGING_PREFIX};

/// How files that are still being written end.
const TEMP_SUFFIX: &str = ".tmp";

/// The bytes of a file, `None` when there is none. Never holds more than `max_bytes`.
///
/// # Errors
/// [`HomeError::TooLarge`] beyond `max_bytes`, [`HomeError::Io`] when it cannot be read.
pub fn read_bounded(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, HomeError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(HomeError::io(path, "open", error)),
    };
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| HomeError::io(path, "read", error))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > max_bytes {
        return Err(HomeError::TooLarge {
            path: path.to_owned(),
            max_bytes,
        });
    }
    Ok(Some(bytes))
}

/// [`read_bounded`], as text.
///
/// # Errors
/// Those of [`read_bounded`], and [`HomeError::NotText`].
pub fn read_text_bounded(path: &Path, max_bytes: u64) -> Result<Option<String>, HomeError> {
    read_bounded(path, max_bytes)?
        .map(|bytes| {
            String::from_utf8(bytes).map_err(|_| HomeError::NotText {
                path: path.to_owned(),
            })
        })
        .transpose()
}

/// Replaces a file by `bytes`, on disk when this returns, readable by its owner alone.
///
/// Whatever happens meanwhile, a reader finds either the old file or the new one, whole: the bytes go to a
/// temporary file in the same folder, which is synced and renamed, and the folder is synced. On failure the
/// temporary file is removed.
///
/// # Errors
/// [`HomeError::Io`], naming `path`. The old file is then as it was.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let temp = temp_path(path);
    let written = write_new(&temp, bytes).and_then(|()| fs::rename(&temp, path));
    if let Err(error) = written {
        // Whether the temporary file exists at all depends on what failed.
        let _ = fs::remove_file(&temp);
        return Err(HomeError::io(path, "write", error));
    }
    path.parent().map_or(Ok(()), sync_dir)
}

/// Copies a file to a new one, on disk when this returns, readable by its owner alone. On failure there is none.
pub(crate) fn copy_private(from: &Path, to: &Path) -> Result<(), HomeError> {
    let mut source = File::open(from).map_err(|error| HomeError::io(from, "open", error))?;
    let copied = create_new(to).and_then(|mut file| {
        io::copy(&mut source, &mut file)?;
        file.sync_all()
    });
    copied.map_err(|error| {
        let _ = fs::remove_file(to);
        HomeError::io(to, "write", error)
    })
}

/// Makes renames and removals inside a folder durable.
///
/// # Errors
/// [`HomeError::Io`].
pub fn sync_dir(dir: &Path) -> Result<(), HomeError> {
    // The parent of a bare file name is the empty path.
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| HomeError::io(dir, "sync", error))
}

/// Removes what a killed process left half written. Only with the home's lock: it is then nobody's.
pub(super) fn remove_leftovers(home: &Home) {
    for entry in entries(home.root()) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(TEMP_SUFFIX) {
            let _ = fs::remove_file(entry.path());
        }
    }
    for entry in entries(&home.identities_dir()) {
        // An identity nobody has been told of yet.
        if entry.file_name().to_string_lossy().starts_with(STAGING_PREFIX) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
}

fn temp_path(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}-{number}{TEMP_SUFFIX}", process::id()))
}
