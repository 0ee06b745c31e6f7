//! File `extents`: values that would be too large for the engine, which holds where they lie instead.
//!
//! Such a value takes slots of the file that follow each other. Slots are written only while nothing on disk leads to
//! them, and synced before the engine learns of them: a crash at any time leaves every value that the engine knows as
//! it was. Reading one costs the same wherever it lies, and leaves nothing behind in memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::files::{io_error, write_file};
use super::format::damage;
use super::layout::{EXTENTS_FILE, Tree};
use crate::OpenError;
use crate::sealed::{Keys, NONCE_BYTES, Place, SEAL_BYTES, UnsealError};
use crate::write::MAX_RECORD_BYTES;

/// Length of a slot, in bytes. Part of the format.
pub(crate) const SLOT_BYTES: usize = 4096;
/// Length of what the engine holds, in bytes: slot, length, nonce.
const EXTENT_BYTES: usize = 4 + 4 + NONCE_BYTES;

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first slot.
    pub(crate) slot: u32,
    /// Length of the sealed value, in bytes.
    pub(crate) length: u32,
    /// The nonce it was sealed with: what lay there before has another.
    pub(crate) nonce: [u8; NONCE_BYTES],
}

impl Extent {
    pub(crate) fn to_bytes(self) -> [u8; EXTENT_BYTES] {
        let mut bytes = [0; EXTENT_BYTES];
        bytes[..4].copy_from_slice(&self.slot.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_be_bytes());
        bytes[8..].copy_from_slice(&self.nonce);
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (slot, rest) = bytes.split_first_chunk::<4>()?;
        let (length, nonce) = rest.split_first_chunk::<4>()?;
        let extent = Self {
            slot: u32::from_be_bytes(*slot),
            length: u32::from_be_bytes(*length),
            nonce: nonce.try_into().ok()?,
        };
        let length = usize::try_from(extent.length).ok()?;
        (SEAL_BYTES..=MAX_RECORD_BYTES + SEAL_BYTES)
            .contains(&length)
            .then_some(extent)
    }

    pub(crate) fn slots(&self) -> u32 {
        slots(usize::try_from(self.length).unwrap_or(usize::MAX))
    }
}

/// Slots that so many bytes take.
pub(crate) fn slots(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(SLOT_BYTES)).unwrap_or(u32::MAX)
}

/// Why a value cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExtentError {
    /// It is not there any more, or it is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// The operating system cannot read it.
    #[error("{0}")]
    Failed(String),
}

/// The file.
pub(crate) struct ExtentFile {
    file: File,
    path: PathBuf,
}

impl ExtentFile {
    /// Makes the file of a new store.
    pub(crate) fn create(folder: &Path) -> Result<(), OpenError> {
        write_file(&folder.join(EXTENTS_FILE), &[])
    }

    /// Opens the file, which must be there.
    pub(crate) fn open(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(EXTENTS_FILE);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(damage(&path, "the file is missing"))
            }
            Err(error) => Err(io_error(&path, "open")(error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The value in clear, if it is the one that was put there.
    pub(crate) fn read(
        &self,
        keys: &Keys,
        tree: Tree,
        key: &[u8],
        extent: &Extent,
    ) -> Result<Vec<u8>, ExtentError> {
        let mut value = vec![0; usize::try_from(extent.length).unwrap_or_default()];
        let read = self.file.read_exact_at(&mut value, offset(extent.slot));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ExtentError::Damaged("it is shorter than it was".to_owned()),
            _ => ExtentError::Failed(error.to_string()),
        })?;
        let broken =
            || ExtentError::Damaged(format!("a value of \"{}\" is not what was written", tree.name()));
        if value.get(1..=NONCE_BYTES) != Some(&extent.nonce) {
            return Err(broken());
        }
        let slot = extent.slot.to_be_bytes();
        keys.unseal_in(&sealed_to(tree, key, &slot), value)
            .map_err(|error| match error {
                UnsealError::Newer(version) => ExtentError::Damaged(format!(
                    "a value of \"{}\" has version {version}, which only a newer clawchatd can read",
                    tree.name()
                )),
                UnsealError::Broken => broken(),
            })
    }

    /// Writes a sealed value.
    pub(crate) fn write(&self, slot: u32, value: &[u8]) -> io::Result<()> {
        self.file.write_all_at(value, offset(slot))
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives the disk back what lies behind the last slot in use.
    pub(crate) fn trim(&self, space: &Space) -> io::Result<()> {
        let end = offset(space.end());
        if self.file.metadata()?.len() > end {
            self.file.set_len(end)?;
        }
        self.file.sync_all()
    }
}

/// What a value that lies in a slot is sealed to.
pub(crate) fn sealed_to<'a>(tree: Tree, key: &'a [u8], slot: &'a [u8; 4]) -> Place<'a> {
    Place {
        tree: tree.name(),
        key,
        context: slot,
    }
}

fn offset(slot: u32) -> u64 {
    u64::from(slot) * u64::try_from(SLOT_BYTES).unwrap_or(u64::MAX)
}

/// Which slots are in use.
#[derive(Default)]
pub(crate) struct Space {
    /// A bit for each slot, the lowest first.
    words: Vec<u64>,
    /// Slots below this one are in use or free; those from it on were never used.
    end: u32,
    /// Free slots below the end.
    free: u32,
    /// Where the search for free slots goes on. What was let go of last is so used again last: somebody who reads it
    /// right now will mostly be done.
    next: u32,
}

impl Space {
    /// Takes free slots that follow each other. Nothing when there are no more numbers.
    pub(crate) fn take(&mut self, slots: u32) -> Option<u32> {
        let found = (self.free >= slots)
            .then(|| self.find(self.next, slots).or_else(|| self.find(0, slots)))
            .flatten();
        let slot = found.unwrap_or(self.end);
        self.next = slot.checked_add(slots)?;
        if self.mark(slot, slots) { Some(slot) } else { None }
    }

    /// Notes that slots are in use. Whether they were free.
    pub(crate) fn mark(&mut self, slot: u32, slots: u32) -> bool {
        let Some(end) = slot.checked_add(slots) else {
            return false;
        };
        if end > self.end {
            self.free += end - self.end;
            self.end = end;
            self.words.resize(index(end).0 + 1, 0);
        }
        if (slot..end).any(|slot| self.is_taken(slot)) {
            return false;
        }
        for slot in slot..end {
            let (word, bit) = index(slot);
            if let Some(word) = self.words.get_mut(word) {
                *word |= bit;
            }
        }
        self.free -= slots;
        true
    }

    /// Lets go of slots in use.
    pub(crate) fn release(&mut self, slot: u32, slots: u32) {
        for slot in slot..slot.saturating_add(slots) {
            let (word, bit) = index(slot);
            if let Some(word) = self.words.get_mut(word)
                && *word & bit != 0
            {
                *word &= !bit;
                self.free += 1;
            }
        }
    }

    /// The slot behind the last one in use.
    pub(crate) fn end(&self) -> u32 {
        (0..self.end)
            .rev()
            .find(|slot| self.is_taken(*slot))
            .map_or(0, |slot| slot + 1)
    }

    fn is_taken(&self, slot: u32) -> bool {
        let (word, bit) = index(slot);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// The first of free slots that follow each other, from a slot on.
    fn find(&self, from: u32, slots: u32) -> Option<u32> {
        let (mut slot, mut run) = (from, 0);
        while slot < self.end {
            let (word, bit) = index(slot);
            let word = self.words.get(word).copied().unwrap_or_default();
            if bit == 1 && word == u64::MAX {
                (slot, run) = (slot + u64::BITS, 0);
                continue;
            }
            run = if word & bit == 0 { run + 1 } else { 0 };
            slot += 1;
            if run == slots {
                return Some(slot - slots);
            }
        }
        None
    }
}

/// The word of a slot and its bit there.
fn index(slot: u32) -> (usize, u64) {
    let word = usize::try_from(slot / u64::BITS).unwrap_or(usize::MAX);
    (word, 1 << (slot % u64::BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn slots_are_given_once_and_used_again(steps in proptest::collection::vec((1_u32..70, any::<bool>(), any::<prop::sample::Index>()), 1..200)) {
            let (mut space, mut held, mut model) = (Space::default(), Vec::new(), BTreeSet::new());
            let mut most = 0;
            for (slots, release, which) in steps {
                if release && !held.is_empty() {
                    let (slot, slots): (u32, u32) = held.swap_remove(which.index(held.len()));
                    space.release(slot, slots);
                    model.retain(|taken| !(slot..slot + slots).contains(taken));
                } else {
                    let slot = space.take(slots).unwrap();
                    for slot in slot..slot + slots {
                        prop_assert!(model.insert(slot), "slot {slot} given twice");
                    }
                    held.push((slot, slots));
                    most = most.max(model.len());
                    prop_assert!(!space.mark(slot, 1));
                }
                prop_assert_eq!(space.end(), model.last().map_or(0, |last| last + 1));
                prop_assert_eq!(space.end as usize - space.free as usize, model.len());
            }
            // One after the other, holes of the right length are always found.
            for (slot, slots) in held.drain(..) {
                space.release(slot, slots);
            }
            let end = space.end;
            for _ in 0..end {
                space.take(1).unwrap();
            }
            prop_assert_eq!(space.end, end);
            prop_assert_eq!(space.take(1), Some(end));
        }

        #[test]
        fn arbitrary_extents_are_refused_or_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(extent) = Extent::from_bytes(&bytes) {
                prop_assert_eq!(extent.to_bytes().to_vec(), bytes);
                prop_assert!(extent.length as usize <= MAX_RECORD_BYTES + SEAL_BYTES);
            }
        }
    }

    #[test]
    fn an_extent_is_read_as_it_was_written() {
        let extent = Extent {
            slot: 7,
            length: 4097,
            nonce: [9; NONCE_BYTES],
        };
        assert_eq!(Extent::from_bytes(&extent.to_bytes()), Some(extent));
        assert_eq!(extent.slots(), 2);
        assert_eq!(Extent::from_bytes(&extent.to_bytes()[..19]), None);
    }
}
