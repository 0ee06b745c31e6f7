//! File `high-water`: how far acknowledged writes went, kept apart from the engine, which cannot tell a file that
//! lost its end from one that never had it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::files::{io_error, write_file};
use super::format::damage;
use super::layout::HIGH_WATER_FILE;
use super::meta::Meta;
use crate::OpenError;
use crate::sealed::Keys;

/// What a slot starts with.
const MAGIC: &[u8; 8] = b"CCMARK1\n";
/// Distance of the two slots, in bytes: a write that is cut short ruins one at most.
const SLOT_STEP: usize = 4096;
/// Length of the file, in bytes.
const LENGTH: usize = 2 * SLOT_STEP;
/// What a slot holds before the counts, in bytes: magic, commit, digest.
const HEAD: usize = 8 + 8 + 16;
/// Length of the checksum at the end of a slot, in bytes.
const SUM: usize = 32;

/// The file, open for writing.
pub(crate) struct HighWater {
    file: File,
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) commit: u64,
    pub(crate) digest: [u8; 16],
    pub(crate) counts: Vec<u64>,
}

impl HighWater {
    /// Makes the file of a new store.
    pub(crate) fn create(folder: &Path, keys: &Keys, meta: &Meta) -> Result<(), OpenError> {
        let mut bytes = vec![0; LENGTH];
        let mark = encode(keys, meta);
        for slot in bytes.chunks_mut(SLOT_STEP) {
            slot[..mark.len()].copy_from_slice(&mark);
        }
        write_file(&folder.join(HIGH_WATER_FILE), &bytes)
    }

    pub(crate) fn open(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(HIGH_WATER_FILE);
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(io_error(&path, "open"))?;
        Ok(Self { file })
    }

    /// Raises the mark, durably. The slots take turns.
    pub(crate) fn raise(&self, keys: &Keys, meta: &Meta) -> io::Result<()> {
        self.write(usize::from(meta.commit % 2 == 1), keys, meta)?;
        self.file.sync_data()
    }

    /// Brings both slots up to date, so that either is proof enough.
    pub(crate) fn settle(&self, keys: &Keys, meta: &Meta) -> io::Result<()> {
        self.write(0, keys, meta)?;
        self.write(1, keys, meta)?;
        self.file.sync_all()
    }

    fn write(&self, slot: usize, keys: &Keys, meta: &Meta) -> io::Result<()> {
        let offset = u64::try_from(slot * SLOT_STEP).map_err(io::Error::other)?;
        self.file.write_all_at(&encode(keys, meta), offset)
    }
}

/// Reads the higher of the marks that are whole.
pub(crate) fn read(folder: &Path, keys: &Keys, counted: usize) -> Result<Mark, OpenError> {
    let path = folder.join(HIGH_WATER_FILE);
    let mut bytes = Vec::new();
    match File::open(&path) {
        Ok(file) => {
            let limit = u64::try_from(LENGTH + 1).unwrap_or(u64::MAX);
            file.take(limit)
                .read_to_end(&mut bytes)
                .map_err(io_error(&path, "read"))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damage(&path, "the file is missing"));
        }
        Err(error) => return Err(io_error(&path, "open")(error)),
    }
    if bytes.len() != LENGTH {
        return Err(damage(
            &path,
            format!("it has {} bytes instead of {LENGTH}", bytes.len()),
        ));
    }
    let marks = bytes
        .chunks(SLOT_STEP)
        .filter_map(|slot| decode(keys, counted, slot));
    marks
        .max_by_key(|mark| mark.commit)
        .ok_or_else(|| damage(&path, "its checksums are wrong"))
}

fn encode(keys: &Keys, meta: &Meta) -> Vec<u8> {
    let mut slot = Vec::with_capacity(HEAD + 8 * meta.counts.len() + SUM);
    slot.extend_from_slice(MAGIC);
    slot.extend_from_slice(&meta.commit.to_be_bytes());
    slot.extend_from_slice(&meta.digest);
    for count in &meta.counts {
        slot.extend_from_slice(&count.to_be_bytes());
    }
    let sum = keys.sum_file(b"high-water", &slot);
    slot.extend_from_slice(&sum);
    slot
}

fn decode(keys: &Keys, counted: usize, slot: &[u8]) -> Option<Mark> {
    let length = HEAD + 8 * counted;
    let body = slot.get(..length)?;
    if !body.starts_with(MAGIC) || slot.get(length..length + SUM)? != keys.sum_file(b"high-water", body) {
        return None;
    }
    let counts = body.get(HEAD..)?.chunks_exact(8);
    Some(Mark {
        commit: u64::from_be_bytes(body.get(8..16)?.try_into().ok()?),
        digest: body.get(16..32)?.try_into().ok()?,
        counts: counts
            .filter_map(|bytes| bytes.try_into().ok().map(u64::from_be_bytes))
            .collect(),
    })
}
