//! Counts and digest of everything stored, changed together with it.

use super::layout::{Layout, Tree};
use crate::record::v1::MetaV1;
use crate::record::{self, RecordError};
use crate::sealed::TAG_BYTES;

/// The state of a store after a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Number of the commit.
    pub(crate) commit: u64,
    /// A number the store keeps with its state; in the store of an identity when the latest message was received.
    pub(crate) noted: u64,
    /// Entries in each tree but `meta`.
    pub(crate) counts: Vec<u64>,
    /// Exclusive or of the tags of all values outside `meta`: one lost, old or doubled value changes it.
    pub(crate) digest: [u8; TAG_BYTES],
}

impl Meta {
    pub(crate) fn empty(layout: &Layout) -> Self {
        Self {
            commit: 0,
            noted: 0,
            counts: vec![0; layout.counted().len()],
            digest: [0; TAG_BYTES],
        }
    }

    pub(crate) fn count(&self, tree: Tree) -> u64 {
        self.counts.get(tree.number()).copied().unwrap_or_default()
    }

    /// Takes a value into account.
    pub(crate) fn add(&mut self, tree: Tree, value: &[u8]) {
        self.mix(value);
        if let Some(count) = self.counts.get_mut(tree.number()) {
            *count = count.saturating_add(1);
        }
    }

    /// Takes a value out of account.
    pub(crate) fn subtract(&mut self, tree: Tree, value: &[u8]) {
        self.mix(value);
        if let Some(count) = self.counts.get_mut(tree.number()) {
            *count = count.saturating_sub(1);
        }
    }

    fn mix(&mut self, value: &[u8]) {
        if let Some(tag) = value.last_chunk::<TAG_BYTES>() {
            for (sum, byte) in self.digest.iter_mut().zip(tag) {
                *sum ^= byte;
            }
        }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, RecordError> {
        record::encode(&MetaV1 {
            commit: self.commit,
            last_received_at: self.noted,
            counts: self.counts.clone(),
            digest: self.digest,
        })
    }

    pub(crate) fn decode(layout: &Layout, bytes: &[u8]) -> Result<Self, RecordError> {
        let record: MetaV1 = record::decode(bytes)?;
        if record.counts.len() != layout.counted().len() {
            return Err(RecordError("counts other trees"));
        }
        Ok(Self {
            commit: record.commit,
            noted: record.last_received_at,
            counts: record.counts,
            digest: record.digest,
        })
    }
}
