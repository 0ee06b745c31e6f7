//! Opening: nothing in the folder is changed before it is known to be whole.
//!
//! The engine repairs what it opens: it cuts off and overwrites what it cannot read. So a store that was not
//! closed in order, or was touched since, is examined on a copy first; only when everything acknowledged is in
//! there is the original opened. A store closed in order and untouched since needs no examination.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, RwLock};

use sha2::{Digest, Sha256};

use super::base::{Base, Writer};
use super::engine::{Changes, Engine, EngineError};
use super::extents::ExtentFile;
use super::files::{
    beside, copy_folder, io_error, is_vacant, list, lock, make_folder, remove_folder, remove_unfinished,
    sync_folder, total_size,
};
use super::format::{Format, damage};
use super::high_water::{self, HighWater, Mark};
use super::layout::{
    CHECK_SUFFIX, CREATING_SUFFIX, ENGINE_FILE, ENGINE_FOLDER, ENGINE_SETTINGS, EXTENTS_FILE, FORMAT_FILE,
    Layout, META_KEY, SNAPSHOT_PREFIX,
};
use super::meta::Meta;
use super::{clean, scan};
use crate::sealed::{Keys, NONCE_BYTES, Place};
use crate::{OpenError, StoreOptions};

/// Free space wanted beyond the reserve to make a store, in bytes: four of the engine's segments.
const NEW_STORE_BYTES: u64 = 2 * 1024 * 1024;
/// Free space wanted beyond the copy itself to examine a store, in bytes.
const EXAMINE_BYTES: u64 = 4 * 1024 * 1024;

/// How often the lock on a store is tried: it may be held by a program that is just being started.
const LOCK_TRIES: u32 = 100;

/// Opens the store in `folder`, making it if there is none.
pub(crate) fn open(
    layout: &'static Layout,
    folder: &Path,
    key: &[u8; 32],
    options: &StoreOptions,
) -> Result<Base, OpenError> {
    if is_vacant(folder)? {
        create(layout, folder, key, options)?;
    }
    let (lock, format, keys) = unlock(layout, folder, key)?;
    let mut locks = vec![lock];
    check_settings(folder, &format)?;
    let mark = high_water::read(folder, &keys, layout.counted().len())?;
    let trusted = clean::holds(folder, &keys)?;
    let extents = extents(layout, folder)?;
    if !trusted {
        examine(layout, folder, &keys, &mark, extents.as_ref(), options)?;
    }

    clean::lift(folder)?;
    let engine_folder = folder.join(ENGINE_FOLDER);
    let file = engine_folder.join(ENGINE_FILE);
    remove_unfinished(&engine_folder)?;
    // The engine trusts what it has read to be on disk.
    File::open(&file)
        .and_then(|file| file.sync_all())
        .map_err(io_error(&file, "sync"))?;
    let engine = Engine::open(layout, &engine_folder, false).map_err(|error| verdict(folder, error))?;
    let meta = scan::state(layout, &engine, &keys, &mark)
        .and_then(|meta| scan::ends(layout, &engine, &meta).map(|()| meta))
        .map_err(|error| verdict(folder, error))?;
    let space = scan::space(layout, &engine, &keys).map_err(|error| verdict(folder, error))?;
    if let Some(file) = &extents {
        file.trim(&space).map_err(io_error(file.path(), "sync"))?;
    }
    sync_folder(&engine_folder)?;
    if format.version < layout.version {
        // Before anything is written that an older build does not know. Its lock stays: somebody may have opened it.
        let format = Format {
            version: layout.version,
            ..format
        };
        locks.push(format.replace(folder)?);
    }
    Ok(Base {
        layout,
        folder: folder.to_owned(),
        engine,
        extents,
        keys,
        begun: AtomicU64::new(meta.commit),
        published: RwLock::new(meta),
        writer: Mutex::new(Writer {
            high_water: HighWater::open(folder)?,
            space,
            failed: None,
        }),
        locks,
    })
}

/// Makes a store beside its place and moves it there when it is complete, so that one which is there at all is
/// whole.
fn create(layout: &Layout, folder: &Path, key: &[u8; 32], options: &StoreOptions) -> Result<(), OpenError> {
    let parent = match folder.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    make_folder(parent)?;
    require_space(
        parent,
        options,
        options.reserve_bytes.saturating_add(NEW_STORE_BYTES),
    )?;
    let staging = beside(folder, CREATING_SUFFIX);
    remove_folder(&staging)?;
    let engine_folder = staging.join(ENGINE_FOLDER);
    make_folder(&engine_folder)?;

    let mut random = [0; 16 + NONCE_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| io_error(folder, "draw random bytes for")(io::Error::other(error.to_string())))?;
    let mut salt = [0; 16];
    salt.copy_from_slice(&random[..16]);
    let keys = Keys::derive(key, layout.label, &salt);
    let meta = Meta::empty(layout);
    let mut nonce = [0; NONCE_BYTES];
    nonce.copy_from_slice(&random[16..]);
    fill(layout, &engine_folder, &keys, &meta, &nonce).map_err(|error| match error {
        EngineError::Full => full(folder, options, NEW_STORE_BYTES),
        EngineError::Damaged(_)
        | EngineError::Extents(_)
        | EngineError::Snapshot
        | EngineError::Failed(_) => {
            io_error(&engine_folder, "make the database")(io::Error::other(error.to_string()))
        }
    })?;

    HighWater::create(&staging, &keys, &meta)?;
    if !layout.extents.is_empty() {
        ExtentFile::create(&staging)?;
    }
    let format = Format {
        version: layout.version,
        salt,
        key_check: *keys.check(),
        settings: hash_settings(&staging)?,
    };
    format.write(&staging)?;
    clean::leave(&staging, &keys)?;
    sync_folder(&engine_folder)?;
    sync_folder(&staging)?;
    fs::rename(&staging, folder).map_err(io_error(folder, "make the folder"))?;
    sync_folder(parent)
}

/// Puts the first state into a new database.
fn fill(
    layout: &Layout,
    folder: &Path,
    keys: &Keys,
    meta: &Meta,
    nonce: &[u8; NONCE_BYTES],
) -> Result<(), EngineError> {
    let engine = Engine::open(layout, folder, true)?;
    let place = Place {
        tree: layout.meta().name(),
        key: META_KEY,
        context: &[],
    };
    let bytes = meta
        .encode()
        .map_err(|error| EngineError::Failed(error.0.to_owned()))?;
    let value = keys
        .seal(&place, nonce, &[&bytes])
        .map_err(|_| EngineError::Failed("the first value cannot be sealed".to_owned()))?;
    let mut changes: Changes = vec![BTreeMap::new(); layout.trees.len()];
    changes[layout.meta().number()].insert(META_KEY.to_vec(), Some(value));
    engine.apply(&changes)?;
    if engine.close() {
        Ok(())
    } else {
        Err(EngineError::Failed("it cannot be closed".to_owned()))
    }
}

/// Reads file `format` and holds its lock.
fn unlock(layout: &Layout, folder: &Path, key: &[u8; 32]) -> Result<(File, Format, Keys), OpenError> {
    let path = folder.join(FORMAT_FILE);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damage(&path, "the file is missing"));
        }
        Err(error) => return Err(io_error(&path, "open")(error)),
    };
    if !lock(&file, LOCK_TRIES).map_err(io_error(&path, "lock"))? {
        return Err(OpenError::InUse {
            path: folder.to_owned(),
        });
    }
    let (format, keys) = Format::read(&mut file, folder, key, layout.label, layout.version)?;
    Ok((file, format, keys))
}

/// The engine's settings are as they were written once.
fn check_settings(folder: &Path, format: &Format) -> Result<(), OpenError> {
    for name in [ENGINE_FILE, ENGINE_SETTINGS] {
        let path = folder.join(ENGINE_FOLDER).join(name);
        if !fs::exists(&path).map_err(io_error(&path, "look at"))? {
            return Err(damage(&path, "the file is missing"));
        }
    }
    if hash_settings(folder)? != format.settings {
        let path = folder.join(ENGINE_FOLDER).join(ENGINE_SETTINGS);
        return Err(damage(&path, "it is not what was written"));
    }
    Ok(())
}

fn hash_settings(folder: &Path) -> Result<[u8; 32], OpenError> {
    let path = folder.join(ENGINE_FOLDER).join(ENGINE_SETTINGS);
    let bytes = fs::read(&path).map_err(io_error(&path, "read"))?;
    Ok(Sha256::digest(&bytes).into())
}

/// Opens file `extents`, if the layout has one.
fn extents(layout: &Layout, folder: &Path) -> Result<Option<ExtentFile>, OpenError> {
    let open = || ExtentFile::open(folder);
    (!layout.extents.is_empty()).then(open).transpose()
}

/// Opens a copy of the database and looks whether everything acknowledged is in it.
fn examine(
    layout: &Layout,
    folder: &Path,
    keys: &Keys,
    mark: &Mark,
    extents: Option<&ExtentFile>,
    options: &StoreOptions,
) -> Result<(), OpenError> {
    let copy = beside(folder, CHECK_SUFFIX);
    remove_folder(&copy)?;
    let source = folder.join(ENGINE_FOLDER);
    require_space(
        folder,
        options,
        total_size(&source)?.saturating_add(EXAMINE_BYTES),
    )?;
    tracing::info!(store = %folder.display(), "examining a store that was not closed in order");
    let result = copy_folder(&source, &copy).and_then(|()| {
        let engine = Engine::open(layout, &copy, false).map_err(|error| verdict(folder, error))?;
        let sound = scan::state(layout, &engine, keys, mark)
            .and_then(|meta| scan::everything(layout, &engine, keys, extents, &meta));
        engine.close();
        sound.map_err(|error| verdict(folder, error))
    });
    let removed = remove_folder(&copy);
    result.and(removed)
}

fn verdict(folder: &Path, error: EngineError) -> OpenError {
    let path = folder.join(ENGINE_FOLDER).join(ENGINE_FILE);
    match error {
        EngineError::Damaged(what) => damage(&path, what),
        EngineError::Extents(what) => damage(&folder.join(EXTENTS_FILE), what),
        EngineError::Snapshot => damage(&snapshot(folder).unwrap_or(path), error.to_string()),
        EngineError::Full => OpenError::Io {
            path,
            action: "open",
            detail: "the disk is full; free some space".to_owned(),
        },
        EngineError::Failed(detail) => OpenError::Io {
            path,
            action: "open",
            detail,
        },
    }
}

/// The engine's snapshot, the latest if there are several.
fn snapshot(folder: &Path) -> Option<PathBuf> {
    let names = list(&folder.join(ENGINE_FOLDER)).ok()?;
    let latest = names
        .into_iter()
        .rfind(|name| name.to_string_lossy().starts_with(SNAPSHOT_PREFIX))?;
    Some(folder.join(ENGINE_FOLDER).join(latest))
}

fn require_space(folder: &Path, options: &StoreOptions, needed: u64) -> Result<(), OpenError> {
    let free = (options.free_space)(folder).map_err(io_error(folder, "ask for the free space of"))?;
    if free < needed {
        return Err(OpenError::StorageFull {
            path: folder.to_owned(),
            free,
            needed,
        });
    }
    Ok(())
}

fn full(folder: &Path, options: &StoreOptions, needed: u64) -> OpenError {
    let free = folder
        .parent()
        .and_then(|parent| (options.free_space)(parent).ok())
        .unwrap_or_default();
    OpenError::StorageFull {
        path: folder.to_owned(),
        free,
        needed,
    }
}
