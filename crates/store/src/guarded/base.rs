//! An open store: the engine, the keys, and values in clear.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use super::engine::{Bytes, Engine, EngineError, Rows};
use super::extents::{Extent, ExtentFile, Space};
use super::high_water::HighWater;
use super::layout::{EXTENTS_FILE, Layout, PIECE_BYTES, Tree, piece};
use super::meta::Meta;
use crate::record::{self, Record, RecordError};
use crate::sealed::{Keys, NONCE_BYTES, Place, UnsealError};
use crate::write::MAX_RECORD_BYTES;
use crate::{Damage, StoreError};

/// First byte of a record that lies in one value.
pub(crate) const WHOLE: u8 = 0;
/// First byte of a record whose rest lies in tree `pieces`.
pub(crate) const IN_PIECES: u8 = 1;
/// What stands before the first piece: kind, number of further pieces, length of the record.
pub(crate) const PIECES_HEADER: usize = 1 + 4 + 8;

/// Everything an open store consists of.
pub(crate) struct Base {
    pub(crate) layout: &'static Layout,
    pub(crate) folder: PathBuf,
    pub(crate) engine: Engine,
    /// What is too large for it, if the layout has such trees.
    pub(crate) extents: Option<ExtentFile>,
    pub(crate) keys: Keys,
    /// What is durable. Reads show nothing beyond it.
    pub(crate) published: RwLock<Meta>,
    /// Number of the latest commit whose changes the engine may show.
    pub(crate) begun: AtomicU64,
    pub(crate) writer: Mutex<Writer>,
    /// Hold the lock on the store's folder.
    pub(crate) locks: Vec<File>,
}

/// What only one writer at a time uses.
pub(crate) struct Writer {
    pub(crate) high_water: HighWater,
    /// Which slots of the extents are in use.
    pub(crate) space: Space,
    /// Why writing stopped, if it did.
    pub(crate) failed: Option<String>,
}

/// A record that may lie in pieces, as far as its main value tells.
pub(crate) struct Head {
    /// The record, or its beginning.
    pub(crate) start: Vec<u8>,
    /// Further pieces.
    pub(crate) pieces: u32,
    /// Length of the record, in bytes.
    length: u64,
    /// What the pieces are sealed to.
    nonce: [u8; NONCE_BYTES],
}

impl Base {
    pub(crate) fn published(&self) -> Meta {
        self.published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn durable(&self, tree: Tree) -> u64 {
        self.published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .count(tree)
    }

    /// What is durable, if the engine shows nothing else. Nothing was written between two calls that give the same
    /// commit.
    pub(crate) fn at_rest(&self) -> Option<Meta> {
        let meta = self.published();
        (self.begun.load(Ordering::SeqCst) == meta.commit).then_some(meta)
    }

    pub(crate) fn damage(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged(Damage {
            path: self.engine.path().to_owned(),
            what: what.into(),
        })
    }

    pub(crate) fn engine_error(&self, error: EngineError) -> StoreError {
        match error {
            EngineError::Damaged(what) => self.damage(what),
            EngineError::Extents(what) => StoreError::Damaged(Damage {
                path: self.folder.join(EXTENTS_FILE),
                what,
            }),
            EngineError::Snapshot => self.damage(error.to_string()),
            EngineError::Full => self.failed("the disk is full"),
            EngineError::Failed(reason) => self.failed(reason),
        }
    }

    pub(crate) fn failed(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Failed {
            path: self.folder.clone(),
            reason: reason.into(),
        }
    }

    pub(crate) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.engine
            .get(tree, key)
            .map_err(|error| self.engine_error(error))
    }

    pub(crate) fn range(&self, tree: Tree, start: &[u8], end: Option<&[u8]>) -> Result<Rows, StoreError> {
        self.engine
            .range(tree, start, end)
            .map_err(|error| self.engine_error(error))
    }

    /// The last entry from `start` to `end` inclusive.
    pub(crate) fn last(
        &self,
        tree: Tree,
        start: &[u8],
        end: &[u8],
    ) -> Result<Option<(Bytes, Bytes)>, StoreError> {
        self.engine
            .last(tree, start, end)
            .map_err(|error| self.engine_error(error))
    }

    /// The value in clear, if it is the one that was put there.
    pub(crate) fn unseal(&self, tree: Tree, key: &[u8], value: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.unseal_with(tree, key, &[], value)
    }

    fn unseal_with(
        &self,
        tree: Tree,
        key: &[u8],
        context: &[u8],
        value: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let place = Place {
            tree: tree.name(),
            key,
            context,
        };
        self.keys.unseal(&place, value).map_err(|error| match error {
            UnsealError::Newer(version) => self.damage(format!(
                "a value in \"{}\" has version {version}, which only a newer clawchatd can read",
                tree.name()
            )),
            UnsealError::Broken => {
                self.damage(format!("a value in \"{}\" is not what was written", tree.name()))
            }
        })
    }

    /// Where a value lies that is in an extent.
    pub(crate) fn extent(&self, tree: Tree, key: &[u8], value: &[u8]) -> Result<Extent, StoreError> {
        Extent::from_bytes(&self.unseal(tree, key, value)?)
            .ok_or_else(|| self.damage(format!("a value in \"{}\" leads nowhere", tree.name())))
    }

    /// A value that is in an extent.
    pub(crate) fn in_extent(&self, tree: Tree, key: &[u8], value: &[u8]) -> Result<Vec<u8>, StoreError> {
        let extent = self.extent(tree, key, value)?;
        let file = self.extents.as_ref();
        let file = file.ok_or_else(|| self.failed("there are no extents"))?;
        file.read(&self.keys, tree, key, &extent)
            .map_err(|error| self.engine_error(error.into()))
    }

    /// A record that is in an extent.
    pub(crate) fn record_in_extent<R: Record>(
        &self,
        tree: Tree,
        key: &[u8],
        value: &[u8],
    ) -> Result<R, StoreError> {
        let bytes = self.in_extent(tree, key, value)?;
        self.decoded(tree, record::decode(&bytes))
    }

    /// A small record.
    pub(crate) fn record<R: Record>(&self, tree: Tree, key: &[u8], value: &[u8]) -> Result<R, StoreError> {
        let bytes = self.unseal(tree, key, value)?;
        self.decoded(tree, record::decode(&bytes))
    }

    /// A number alone.
    pub(crate) fn number(&self, tree: Tree, key: &[u8], value: &[u8]) -> Result<u64, StoreError> {
        let bytes = self.unseal(tree, key, value)?;
        let bytes = bytes
            .try_into()
            .map_err(|_| self.damage("a number has the wrong length"))?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// A record that may lie in pieces.
    pub(crate) fn large<R: Record>(&self, tree: Tree, key: &[u8], value: &[u8]) -> Result<R, StoreError> {
        let head = self.head(tree, key, value)?;
        let mut bytes = head.start;
        for number in 0..head.pieces {
            let key = piece(tree, key, number);
            let value = self.get(self.layout.pieces, &key)?;
            let value = value.ok_or_else(|| self.damage("a piece of a large message is missing"))?;
            bytes.extend_from_slice(&self.unseal_with(self.layout.pieces, &key, &head.nonce, &value)?);
        }
        if u64::try_from(bytes.len()) != Ok(head.length) {
            return Err(self.damage("a large message has the wrong length"));
        }
        self.decoded(tree, record::decode(&bytes))
    }

    /// The main value of a record that may lie in pieces.
    pub(crate) fn head(&self, tree: Tree, key: &[u8], value: &[u8]) -> Result<Head, StoreError> {
        let bytes = self.unseal(tree, key, value)?;
        let wrong = || self.damage("a record has no proper beginning");
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(value.get(1..=NONCE_BYTES).ok_or_else(wrong)?);
        match bytes.split_first().ok_or_else(wrong)? {
            (&WHOLE, start) => {
                let length = u64::try_from(start.len()).unwrap_or(u64::MAX);
                Ok(Head {
                    start: start.to_vec(),
                    pieces: 0,
                    length,
                    nonce,
                })
            }
            (&IN_PIECES, rest) => {
                let (pieces, rest) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
                let (length, start) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
                let (pieces, length) = (u32::from_be_bytes(*pieces), u64::from_be_bytes(*length));
                let most = u32::try_from(MAX_RECORD_BYTES / PIECE_BYTES + 1).unwrap_or(u32::MAX);
                if pieces > most {
                    return Err(wrong());
                }
                Ok(Head {
                    start: start.to_vec(),
                    pieces,
                    length,
                    nonce,
                })
            }
            (_, _) => Err(wrong()),
        }
    }

    pub(crate) fn decoded<R>(&self, tree: Tree, result: Result<R, RecordError>) -> Result<R, StoreError> {
        result.map_err(|RecordError(what)| self.damage(format!("a record in \"{}\" {what}", tree.name())))
    }
}
