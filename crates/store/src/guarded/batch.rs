//! A batch of changes being worked out. Nothing is touched before all of it is known to be possible.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::base::{Base, IN_PIECES, PIECES_HEADER, WHOLE};
use super::engine::Changes;
use super::layout::{META_KEY, PIECE_BYTES, Tree, piece};
use super::meta::Meta;
use crate::StoreError;
use crate::record::{self, Record};
use crate::sealed::{NONCE_BYTES, Place};
use crate::write::MAX_RECORD_BYTES;

/// Random bytes drawn at once.
const RANDOM_BYTES: usize = 64 * NONCE_BYTES;

/// Changed values, and the state that goes with them.
pub(crate) struct Batch<'a> {
    base: &'a Base,
    pub(crate) meta: Meta,
    changes: Changes,
    random: [u8; RANDOM_BYTES],
    /// Random bytes not yet used.
    left: usize,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(base: &'a Base) -> Self {
        Self {
            base,
            meta: base.published(),
            changes: vec![BTreeMap::new(); base.layout.trees.len()],
            random: [0; RANDOM_BYTES],
            left: 0,
        }
    }

    /// The changes and the state after them, or nothing when nothing changes.
    pub(crate) fn finish(mut self) -> Result<Option<(Changes, Meta)>, StoreError> {
        if self.changes.iter().all(BTreeMap::is_empty) {
            return Ok(None);
        }
        self.meta.commit = self
            .meta
            .commit
            .checked_add(1)
            .ok_or_else(|| self.base.failed("commit number"))?;
        let meta = self.base.layout.meta();
        let bytes = self.base.decoded(meta, self.meta.encode())?;
        let (value, _) = self.seal(meta, META_KEY, &[], &[&bytes])?;
        self.changes[meta.number()].insert(META_KEY.to_vec(), Some(value));
        Ok(Some((self.changes, self.meta)))
    }

    /// The value of a key as it will be.
    pub(crate) fn current(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(change) = self.changes[tree.number()].get(key) {
            return Ok(change.clone());
        }
        Ok(self.base.get(tree, key)?.map(|value| value.to_vec()))
    }

    /// The record of a key as it will be. It may lie in pieces.
    pub(crate) fn current_large<R: Record>(&self, tree: Tree, key: &[u8]) -> Result<Option<R>, StoreError> {
        let Some(value) = self.current(tree, key)? else {
            return Ok(None);
        };
        let pieces = self.base.layout.pieces;
        let piece_at = |key: &[u8]| self.current(pieces, key);
        self.base.large_from(tree, key, &value, piece_at).map(Some)
    }

    /// The last key from `start` to `end` inclusive of those that are there or come. Keys that go are not passed
    /// over.
    pub(crate) fn last_key(
        &self,
        tree: Tree,
        start: &[u8],
        end: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let there = self.base.last(tree, start, end)?.map(|(key, _)| key.to_vec());
        let coming = self.new_keys(tree, start, end).next_back().cloned();
        Ok(there.max(coming))
    }

    /// Keys from `start` to `end` inclusive that this batch puts.
    pub(crate) fn new_keys(
        &self,
        tree: Tree,
        start: &[u8],
        end: &[u8],
    ) -> impl DoubleEndedIterator<Item = &Vec<u8>> {
        let changes =
            self.changes[tree.number()].range::<[u8], _>((Bound::Included(start), Bound::Included(end)));
        changes.filter(|(_, value)| value.is_some()).map(|(key, _)| key)
    }

    pub(crate) fn set_record(
        &mut self,
        tree: Tree,
        key: &[u8],
        record: &impl Record,
    ) -> Result<(), StoreError> {
        let bytes = self.base.decoded(tree, record::encode(record))?;
        self.set(tree, key, &[&bytes], false).map(|_| ())
    }

    /// Puts a record into one value, or into pieces.
    pub(crate) fn set_large(
        &mut self,
        tree: Tree,
        key: &[u8],
        record: &impl Record,
        fresh: bool,
    ) -> Result<(), StoreError> {
        let bytes = self.base.decoded(tree, record::encode(record))?;
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(StoreError::TooLarge {
                what: "record",
                size: bytes.len(),
                limit: MAX_RECORD_BYTES,
            });
        }
        if bytes.len() <= PIECE_BYTES {
            return self.set(tree, key, &[&[WHOLE], &bytes], fresh).map(|_| ());
        }
        let (start, rest) = bytes.split_at(PIECE_BYTES);
        let pieces = u32::try_from(rest.len().div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
        let mut header = Vec::with_capacity(PIECES_HEADER);
        header.push(IN_PIECES);
        header.extend_from_slice(&pieces.to_be_bytes());
        header.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        let nonce = self.set(tree, key, &[&header, start], fresh)?;
        for (bytes, number) in rest.chunks(PIECE_BYTES).zip(0..) {
            let key = piece(tree, key, number);
            let (value, _) = self.seal(self.base.layout.pieces, &key, &nonce, &[bytes])?;
            self.put(self.base.layout.pieces, &key, value, fresh)?;
        }
        Ok(())
    }

    /// Removes the pieces of a record, if it lies in any. Its main value stays.
    pub(crate) fn remove_pieces(&mut self, tree: Tree, key: &[u8]) -> Result<(), StoreError> {
        let Some(value) = self.current(tree, key)? else {
            return Ok(());
        };
        for number in 0..self.base.head(tree, key, &value)?.pieces {
            self.remove(self.base.layout.pieces, &piece(tree, key, number))?;
        }
        Ok(())
    }

    /// Seals and puts a value. `fresh`: there is certainly none yet. Gives its nonce.
    pub(crate) fn set(
        &mut self,
        tree: Tree,
        key: &[u8],
        parts: &[&[u8]],
        fresh: bool,
    ) -> Result<[u8; NONCE_BYTES], StoreError> {
        let (value, nonce) = self.seal(tree, key, &[], parts)?;
        self.put(tree, key, value, fresh)?;
        Ok(nonce)
    }

    fn put(&mut self, tree: Tree, key: &[u8], value: Vec<u8>, fresh: bool) -> Result<(), StoreError> {
        if !fresh && let Some(old) = self.current(tree, key)? {
            self.meta.subtract(tree, &old);
        }
        self.meta.add(tree, &value);
        self.changes[tree.number()].insert(key.to_vec(), Some(value));
        Ok(())
    }

    /// Removes a value. Whether there was one.
    pub(crate) fn remove(&mut self, tree: Tree, key: &[u8]) -> Result<bool, StoreError> {
        let Some(old) = self.current(tree, key)? else {
            return Ok(false);
        };
        self.meta.subtract(tree, &old);
        self.changes[tree.number()].insert(key.to_vec(), None);
        Ok(true)
    }

    fn seal(
        &mut self,
        tree: Tree,
        key: &[u8],
        context: &[u8],
        parts: &[&[u8]],
    ) -> Result<(Vec<u8>, [u8; NONCE_BYTES]), StoreError> {
        if self.left < NONCE_BYTES {
            getrandom::fill(&mut self.random)
                .map_err(|error| self.base.failed(format!("no randomness: {error}")))?;
            self.left = RANDOM_BYTES;
        }
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&self.random[self.left - NONCE_BYTES..self.left]);
        self.left -= NONCE_BYTES;
        let place = Place {
            tree: tree.name(),
            key,
            context,
        };
        let sealed = self.base.keys.seal(&place, &nonce, parts);
        Ok((
            sealed.map_err(|_| self.base.failed("a value cannot be sealed"))?,
            nonce,
        ))
    }
}
