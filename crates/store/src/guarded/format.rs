//! File `format`: which format the store has, and whose key opens it.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::files::{beside, io_error, sync_folder, write_file};
use super::layout::{CREATING_SUFFIX, FORMAT_FILE};
use crate::sealed::{HIDDEN_BYTES, Keys};
use crate::{Damage, OpenError};

/// What the file starts with in every version.
const MAGIC: &[u8; 8] = b"CCSTORE\n";
/// Length of the file in versions 1 and 2, in bytes: magic, version, salt, key check, settings' hash, own hash.
const LENGTH: usize = 8 + 4 + 16 + HIDDEN_BYTES + 32 + 32;
/// The longest such file read, in bytes; a later version may be longer.
const MAX_LENGTH: u64 = 4096;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Which format the rest has.
    pub(crate) version: u32,
    /// Makes this store's keys different from every other's.
    pub(crate) salt: [u8; 16],
    /// [`Keys::check`] of the right key.
    pub(crate) key_check: [u8; HIDDEN_BYTES],
    /// SHA-256 of the engine's settings file, which the engine itself hardly checks.
    pub(crate) settings: [u8; 32],
}

impl Format {
    pub(crate) fn write(&self, folder: &Path) -> Result<(), OpenError> {
        write_file(&folder.join(FORMAT_FILE), &self.to_bytes())
    }

    /// Puts the file in the place of the one that is there: either is whole at any time. The new one, locked.
    pub(crate) fn replace(&self, folder: &Path) -> Result<File, OpenError> {
        let path = folder.join(FORMAT_FILE);
        let new = beside(&path, CREATING_SUFFIX);
        write_file(&new, &self.to_bytes())?;
        let lock = File::open(&new).map_err(io_error(&new, "open"))?;
        lock.lock().map_err(io_error(&new, "lock"))?;
        fs::rename(&new, &path).map_err(io_error(&path, "replace"))?;
        sync_folder(folder)?;
        Ok(lock)
    }

    /// Reads the file and the keys, or says what is wrong with them. `newest`: the highest version that can be read.
    pub(crate) fn read(
        file: &mut File,
        folder: &Path,
        store_key: &[u8; 32],
        purpose: &[u8],
        newest: u32,
    ) -> Result<(Self, Keys), OpenError> {
        let path = folder.join(FORMAT_FILE);
        let mut bytes = Vec::new();
        file.take(MAX_LENGTH)
            .read_to_end(&mut bytes)
            .map_err(io_error(&path, "read"))?;
        let format = Self::from_bytes(&bytes, newest).map_err(|error| match error {
            FormatError::Newer(found) => OpenError::NewerFormat {
                path: path.clone(),
                found,
                supported: newest,
            },
            FormatError::Broken => damage(&path, "its checksum is wrong"),
        })?;
        let keys = Keys::derive(store_key, purpose, &format.salt);
        if keys.check() != &format.key_check {
            return Err(OpenError::WrongKey {
                path: folder.to_owned(),
            });
        }
        Ok((format, keys))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.key_check);
        bytes.extend_from_slice(&self.settings);
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        bytes.extend_from_slice(&hash);
        bytes
    }

    fn from_bytes(bytes: &[u8], newest: u32) -> Result<Self, FormatError> {
        let (body, hash) = bytes.split_last_chunk::<32>().ok_or(FormatError::Broken)?;
        let mut rest = body.strip_prefix(MAGIC).ok_or(FormatError::Broken)?;
        let mut take = |length: usize| {
            let (taken, left) = rest.split_at_checked(length).ok_or(FormatError::Broken)?;
            rest = left;
            Ok(taken)
        };
        let version = u32::from_be_bytes(array(take(4)?)?);
        let whole: [u8; 32] = Sha256::digest(body).into();
        if whole != *hash {
            // A later version may check itself differently, but only a whole file of ours can be damaged.
            let newer = version > newest && bytes.len() != LENGTH;
            return Err(if newer {
                FormatError::Newer(version)
            } else {
                FormatError::Broken
            });
        }
        if version > newest {
            return Err(FormatError::Newer(version));
        }
        let format = Self {
            version,
            salt: array(take(16)?)?,
            key_check: array(take(HIDDEN_BYTES)?)?,
            settings: array(take(32)?)?,
        };
        if version == 0 || !rest.is_empty() {
            return Err(FormatError::Broken);
        }
        Ok(format)
    }
}

/// Why the file cannot be used.
#[derive(Debug, PartialEq, Eq)]
enum FormatError {
    Newer(u32),
    Broken,
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], FormatError> {
    bytes.try_into().map_err(|_| FormatError::Broken)
}

/// Shorthand for a damage verdict.
pub(crate) fn damage(path: &Path, what: impl Into<String>) -> OpenError {
    OpenError::Damaged(Damage {
        path: path.to_owned(),
        what: what.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn format() -> Format {
        Format {
            version: 1,
            salt: [1; 16],
            key_check: [2; 16],
            settings: [3; 32],
        }
    }

    /// The same file as a later version would write it.
    fn newer(version: u32, extra: usize) -> Vec<u8> {
        let mut bytes = format().to_bytes();
        bytes.truncate(LENGTH - 32);
        bytes.extend(std::iter::repeat_n(9, extra));
        bytes[8..12].copy_from_slice(&version.to_be_bytes());
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        bytes.extend_from_slice(&hash);
        bytes
    }

    #[test]
    fn it_reads_what_it_wrote() {
        assert_eq!(Format::from_bytes(&format().to_bytes(), 1), Ok(format()));
        assert_eq!(format().to_bytes().len(), LENGTH);
    }

    #[test]
    fn a_later_version_is_not_taken_for_damage() {
        assert_eq!(Format::from_bytes(&newer(2, 0), 1), Err(FormatError::Newer(2)));
        assert_eq!(Format::from_bytes(&newer(7, 100), 1), Err(FormatError::Newer(7)));
        assert_eq!(Format::from_bytes(&newer(0, 0), 1), Err(FormatError::Broken));
    }

    #[test]
    fn every_flip_and_every_cut_is_noticed() {
        let bytes = format().to_bytes();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(Format::from_bytes(&flipped, 1).is_err(), "byte {at}");
            assert!(Format::from_bytes(&bytes[..at], 1).is_err(), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Format::from_bytes(&bytes, 1).is_err());
            let _ = Format::from_bytes(&[MAGIC.as_slice(), &bytes].concat(), 1);
        }
    }
}
