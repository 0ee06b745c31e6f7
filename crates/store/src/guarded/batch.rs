//! A batch of changes being worked out. Nothing is touched before all of it is known to be possible.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::base::{Base, IN_PIECES, PIECES_HEADER, WHOLE};
use super::engine::Changes;
use super::extents::{Extent, Space, sealed_to, slots};
use super::layout::{META_KEY, PIECE_BYTES, Tree, piece};
use super::meta::Meta;
use crate::StoreError;
use crate::record::{self, Record};
use crate::sealed::{NONCE_BYTES, Place, SEAL_BYTES};
use crate::write::MAX_RECORD_BYTES;

/// Random bytes drawn at once.
const RANDOM_BYTES: usize = 64 * NONCE_BYTES;

/// What a batch comes to.
pub(crate) struct Written {
    pub(crate) changes: Changes,
    pub(crate) meta: Meta,
    pub(crate) extents: Extents,
}

/// What it comes to in file `extents`.
#[derive(Default)]
pub(crate) struct Extents {
    /// Sealed values and their slots.
    pub(crate) values: Vec<(u32, Vec<u8>)>,
    taken: Vec<Extent>,
    /// What nothing leads to any more when the batch is on disk.
    freed: Vec<Extent>,
}

impl Extents {
    /// Lets go of what nothing leads to any more.
    pub(crate) fn settle(&self, space: &mut Space) {
        for extent in &self.freed {
            space.release(extent.slot, extent.slots());
        }
    }

    /// Lets go of what was taken: nothing came of it.
    fn give_back(&self, space: &mut Space) {
        for extent in &self.taken {
            space.release(extent.slot, extent.slots());
        }
    }
}

/// What a value of a tree is sealed to.
fn plain(tree: Tree, key: &[u8]) -> Place<'_> {
    Place {
        tree: tree.name(),
        key,
        context: &[],
    }
}

/// Changed values, and the state that goes with them.
pub(crate) struct Batch<'a> {
    base: &'a Base,
    pub(crate) meta: Meta,
    changes: Changes,
    /// The same of the trees whose values lie in extents, in clear.
    large: Changes,
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
            large: vec![BTreeMap::new(); base.layout.trees.len()],
            random: [0; RANDOM_BYTES],
            left: 0,
        }
    }

    /// What is to be written, or nothing when nothing changes. Takes the slots it needs.
    pub(crate) fn finish(mut self, space: &mut Space) -> Result<Option<Written>, StoreError> {
        let mut extents = Extents::default();
        let finished = self.finish_with(&mut extents, space);
        if !matches!(finished, Ok(Some(_))) {
            extents.give_back(space);
        }
        Ok(finished?.map(|(changes, meta)| Written {
            changes,
            meta,
            extents,
        }))
    }

    fn finish_with(
        &mut self,
        extents: &mut Extents,
        space: &mut Space,
    ) -> Result<Option<(Changes, Meta)>, StoreError> {
        for tree in self.base.layout.extents.iter().copied() {
            for (key, value) in std::mem::take(&mut self.large[tree.number()]) {
                self.place(tree, key, value, extents, space)?;
            }
        }
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
        let (value, _) = self.seal(plain(meta, META_KEY), &[&bytes])?;
        self.changes[meta.number()].insert(META_KEY.to_vec(), Some(value));
        Ok(Some((std::mem::take(&mut self.changes), self.meta.clone())))
    }

    /// Gives a value its slots, and the engine what leads there.
    fn place(
        &mut self,
        tree: Tree,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
        extents: &mut Extents,
        space: &mut Space,
    ) -> Result<(), StoreError> {
        let old = self.base.get(tree, &key)?;
        if let Some(old) = &old {
            extents.freed.push(self.base.extent(tree, &key, old)?);
            self.meta.subtract(tree, old);
        }
        let change = match value {
            Some(value) => {
                let length = value.len() + SEAL_BYTES;
                let slot = space.take(slots(length));
                let slot = slot.ok_or_else(|| self.base.failed("there are too many values"))?;
                let slot_bytes = slot.to_be_bytes();
                let place = sealed_to(tree, &key, &slot_bytes);
                let mut extent = Extent {
                    slot,
                    length: u32::try_from(length).unwrap_or(u32::MAX),
                    nonce: [0; NONCE_BYTES],
                };
                extents.taken.push(extent);
                let (sealed, nonce) = self.seal(place, &[&value])?;
                extent.nonce = nonce;
                extents.values.push((slot, sealed));
                let (leads_there, _) = self.seal(plain(tree, &key), &[&extent.to_bytes()])?;
                self.meta.add(tree, &leads_there);
                Some(leads_there)
            }
            None if old.is_none() => return Ok(()),
            None => None,
        };
        self.changes[tree.number()].insert(key, change);
        Ok(())
    }

    /// The value of a key as it will be.
    pub(crate) fn current(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(change) = self.changes[tree.number()].get(key) {
            return Ok(change.clone());
        }
        Ok(self.base.get(tree, key)?.map(|value| value.to_vec()))
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
        let changes = if self.base.layout.in_extents(tree) {
            &self.large
        } else {
            &self.changes
        };
        let changes = changes[tree.number()].range::<[u8], _>((Bound::Included(start), Bound::Included(end)));
        changes.filter(|(_, value)| value.is_some()).map(|(key, _)| key)
    }

    /// The value of a key as it will be, in a tree whose values lie in extents.
    pub(crate) fn current_in_extent(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(change) = self.large[tree.number()].get(key) {
            return Ok(change.clone());
        }
        match self.base.get(tree, key)? {
            Some(value) => self.base.in_extent(tree, key, &value).map(Some),
            None => Ok(None),
        }
    }

    /// The record of a key as it will be, in such a tree.
    pub(crate) fn current_record_in_extent<R: Record>(
        &self,
        tree: Tree,
        key: &[u8],
    ) -> Result<Option<R>, StoreError> {
        let bytes = self.current_in_extent(tree, key)?;
        bytes
            .map(|bytes| self.base.decoded(tree, record::decode(&bytes)))
            .transpose()
    }

    /// Puts a value into such a tree.
    pub(crate) fn set_in_extent(&mut self, tree: Tree, key: &[u8], value: Vec<u8>) -> Result<(), StoreError> {
        if value.len() > MAX_RECORD_BYTES {
            return Err(StoreError::TooLarge {
                what: "record",
                size: value.len(),
                limit: MAX_RECORD_BYTES,
            });
        }
        self.large[tree.number()].insert(key.to_vec(), Some(value));
        Ok(())
    }

    /// Puts a record into such a tree.
    pub(crate) fn set_record_in_extent(
        &mut self,
        tree: Tree,
        key: &[u8],
        record: &impl Record,
    ) -> Result<(), StoreError> {
        let bytes = self.base.decoded(tree, record::encode(record))?;
        self.set_in_extent(tree, key, bytes)
    }

    /// Removes a value from such a tree, if there is one.
    pub(crate) fn remove_in_extent(&mut self, tree: Tree, key: &[u8]) {
        self.large[tree.number()].insert(key.to_vec(), None);
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
            let place = Place {
                tree: self.base.layout.pieces.name(),
                key: &key,
                context: &nonce,
            };
            let (value, _) = self.seal(place, &[bytes])?;
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
        let (value, nonce) = self.seal(plain(tree, key), parts)?;
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
        place: Place<'_>,
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
        let sealed = self.base.keys.seal(&place, &nonce, parts);
        Ok((
            sealed.map_err(|_| self.base.failed("a value cannot be sealed"))?,
            nonce,
        ))
    }
}
