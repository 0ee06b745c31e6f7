//! File `format`: which format the store has, and whose key opens it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::files::{io_error, write_file};
use super::layout::FORMAT_FILE;
use crate::sealed::{HIDDEN_BYTES, Keys};
use crate::{Damage, OpenError};

/// What the file starts with in every version.
const MAGIC: &[u8; 8] = b"CCSTORE\n";
/// The format this build writes, and the newest it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Length of the file in version 1, in bytes: magic, version, salt, key check, settings' hash, own hash.
const LENGTH: usize = 8 + 4 + 16 + HIDDEN_BYTES + 32 + 32;
/// The longest such file read, in bytes; a later version may be longer.
const MAX_LENGTH: u64 = 4096;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
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

    /// Reads the file and the keys, or says what is wrong with them.
    pub(crate) fn read(
        file: &mut File,
        folder: &Path,
        store_key: &[u8; 32],
        purpose: &[u8],
    ) -> Result<(Self, Keys), OpenError> {
        let path = folder.join(FORMAT_FILE);
        let mut bytes = Vec::new();
        file.take(MAX_LENGTH)
            .read_to_end(&mut bytes)
            .map_err(io_error(&path, "read"))?;
        let format = Self::from_bytes(&bytes).map_err(|error| match error {
            FormatError::Newer(found) => OpenError::NewerFormat {
                path: path.clone(),
                found,
                supported: FORMAT_VERSION,
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
        bytes.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.key_check);
        bytes.extend_from_slice(&self.settings);
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        bytes.extend_from_slice(&hash);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
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
            let newer = version > FORMAT_VERSION && bytes.len() != LENGTH;
            return Err(if newer {
                FormatError::Newer(version)
            } else {
                FormatError::Broken
            });
        }
        if version > FORMAT_VERSION {
            return Err(FormatError::Newer(version));
        }
        let format = Self {
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
        assert_eq!(Format::from_bytes(&format().to_bytes()), Ok(format()));
        assert_eq!(format().to_bytes().len(), LENGTH);
    }

    #[test]
    fn a_later_version_is_not_taken_for_damage() {
        assert_eq!(Format::from_bytes(&newer(2, 0)), Err(FormatError::Newer(2)));
        assert_eq!(Format::from_bytes(&newer(7, 100)), Err(FormatError::Newer(7)));
        assert_eq!(Format::from_bytes(&newer(0, 0)), Err(FormatError::Broken));
    }

    #[test]
    fn every_flip_and_every_cut_is_noticed() {
        let bytes = format().to_bytes();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(Format::from_bytes(&flipped).is_err(), "byte {at}");
            assert!(Format::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Format::from_bytes(&bytes).is_err());
            let _ = Format::from_bytes(&[MAGIC.as_slice(), &bytes].concat());
        }
    }
}
