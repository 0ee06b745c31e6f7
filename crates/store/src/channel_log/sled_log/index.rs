//! Finding entries by id and by place in the order of display.
//!
//! A row leads from a key to an arrival. What came lately is kept in memory, and read again from the blocks when
//! the log is opened. When that is much it is written as a run: rows sorted by key in chunks, never changed again.
//! Each run has a filter in memory that says which ids it has certainly not. So a new entry costs no access to the
//! disk at a random place, however many there are. Rows of entries that were dropped stay until their run is the
//! oldest and many are: then it is folded into the next one.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use clawchat_types::UnixMillis;

use super::layout::{BLOCK_BYTES, channel_in, chunk_key, trees};
use crate::StoreError;
use crate::guarded::{Base, Batch};
use crate::record::channel_v1::RunV1;
use crate::sealed::HIDDEN_BYTES;

/// Bits of the filter for each id: about one in two thousand absent ones is looked for in vain. There are sixty runs in
/// a log of a million, and looking means to read from a random place.
const FILTER_BITS: usize = 16;
/// How many of those bits are set for an id.
const FILTER_PROBES: u64 = 8;

/// The two kinds of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// channel, hidden id → arrival.
    Id,
    /// channel, time, id → arrival.
    Place,
}

/// Rows by key. The value is the arrival and, in its lowest bit, whether the entry was verified.
pub(crate) type Rows = BTreeMap<Box<[u8]>, u64>;
/// One of them.
pub(crate) type Row = (Box<[u8]>, u64);

/// The same, borrowed.
pub(crate) type KeyValue<'a> = (&'a [u8], u64);

/// Rows in memory.
#[derive(Default)]
pub(crate) struct Recent {
    ids: Rows,
    places: Rows,
}

/// A run on disk.
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) entries: u64,
    filter: Vec<u8>,
    ids: Vec<Vec<u8>>,
    places: Vec<Vec<u8>>,
    /// The last place of each channel.
    ends: Vec<Vec<u8>>,
}

/// Everything there is to look in.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) recent: Recent,
    /// The oldest first.
    pub(crate) runs: Vec<Arc<Run>>,
}

/// Where an entry was when it was indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) arrival: u64,
    pub(crate) verified: bool,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Id => 0,
            Self::Place => 1,
        }
    }
}

impl Found {
    fn to_value(self) -> u64 {
        self.arrival << 1 | u64::from(self.verified)
    }

    pub(crate) fn from_value(value: u64) -> Self {
        Self {
            arrival: value >> 1,
            verified: value & 1 == 1,
        }
    }
}

/// The key of an id.
pub(crate) fn id_key(channel: u32, hidden: &[u8; HIDDEN_BYTES]) -> Box<[u8]> {
    [channel.to_be_bytes().as_slice(), hidden].concat().into()
}

/// The key of a place.
pub(crate) fn place_key(channel: u32, time: UnixMillis, id: &str) -> Box<[u8]> {
    [
        channel.to_be_bytes().as_slice(),
        &time.0.to_be_bytes(),
        id.as_bytes(),
    ]
    .concat()
    .into()
}

impl Recent {
    pub(crate) fn add(&mut self, id: Box<[u8]>, place: Box<[u8]>, found: Found) {
        // A later arrival, or the same one verified.
        let value = found.to_value();
        let old = self.ids.entry(id).or_default();
        *old = value.max(*old);
        let old = self.places.entry(place).or_default();
        *old = value.max(*old);
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn get(&self, id: &[u8]) -> Option<Found> {
        self.ids.get(id).copied().map(Found::from_value)
    }

    pub(crate) fn rows(&self, kind: Kind) -> &Rows {
        match kind {
            Kind::Id => &self.ids,
            Kind::Place => &self.places,
        }
    }

    fn rows_mut(&mut self, kind: Kind) -> &mut Rows {
        match kind {
            Kind::Id => &mut self.ids,
            Kind::Place => &mut self.places,
        }
    }

    /// Takes rows over, of which those already here are as good.
    pub(crate) fn absorb(&mut self, other: Self) {
        for (kind, rows) in [(Kind::Id, other.ids), (Kind::Place, other.places)] {
            for (key, value) in rows {
                self.merge(kind, key, value);
            }
        }
    }

    pub(crate) fn merge(&mut self, kind: Kind, key: Box<[u8]>, value: u64) {
        let old = self.rows_mut(kind).entry(key).or_default();
        *old = value.max(*old);
    }

    /// The rows here and those of another, in order, each once.
    pub(crate) fn merged<'a>(
        &'a self,
        other: &'a Self,
        kind: Kind,
    ) -> impl Iterator<Item = KeyValue<'a>> + use<'a> {
        let (mut left, mut right) = (
            self.rows(kind).iter().peekable(),
            other.rows(kind).iter().peekable(),
        );
        std::iter::from_fn(move || {
            let order = match (left.peek(), right.peek()) {
                (Some((left, _)), Some((right, _))) => left.cmp(right),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            let (key, value) = match order {
                Ordering::Less => left.next()?,
                Ordering::Greater => right.next()?,
                Ordering::Equal => left.next()?.max(right.next()?),
            };
            Some((&**key, *value))
        })
    }
}

/// Whether a row leads somewhere.
pub(crate) fn is_alive(key: &[u8], value: u64, alive: impl Fn(u32, u64) -> bool) -> bool {
    let channel = channel_in(key);
    channel.is_some_and(|channel| alive(channel, Found::from_value(value).arrival))
}

impl Index {
    /// What is known of an id: of the latest entry that had it.
    pub(crate) fn find(&self, base: &Base, id: &[u8]) -> Result<Option<Found>, StoreError> {
        if let Some(found) = self.recent.get(id) {
            return Ok(Some(found));
        }
        for run in self.runs.iter().rev() {
            if run.may_have(id)
                && let Some(number) = run.chunk_of(Kind::Id, id)
            {
                let bytes = run.chunk_bytes(base, Kind::Id, number)?;
                for row in rows(&bytes) {
                    let (key, value) = row.ok_or_else(|| undecodable(base))?;
                    if key >= id {
                        if key == id {
                            return Ok(Some(Found::from_value(value)));
                        }
                        break;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Ids in all runs.
    pub(crate) fn entries(&self) -> u64 {
        self.runs.iter().map(|run| run.entries).sum()
    }
}

impl Run {
    /// Writes rows as a run.
    pub(crate) fn write<'a, I>(
        batch: &mut Batch<'_>,
        number: u64,
        rows: impl Fn(Kind) -> I,
    ) -> Result<Self, StoreError>
    where
        I: Iterator<Item = KeyValue<'a>>,
    {
        let entries = rows(Kind::Id).count();
        let mut filter = vec![0; (entries * FILTER_BITS).div_ceil(8).max(8)];
        for (id, _) in rows(Kind::Id) {
            for (byte, bit) in probes(id, filter.len()) {
                if let Some(byte) = filter.get_mut(byte) {
                    *byte |= bit;
                }
            }
        }
        let run = Self {
            number,
            entries: u64::try_from(entries).unwrap_or(u64::MAX),
            filter,
            ids: write_chunks(batch, number, Kind::Id, rows(Kind::Id))?,
            places: write_chunks(batch, number, Kind::Place, rows(Kind::Place))?,
            ends: ends(rows(Kind::Place)),
        };
        let record = RunV1 {
            entries: run.entries,
            filter: run.filter.clone(),
            ids: run.ids.clone(),
            places: run.places.clone(),
            ends: run.ends.clone(),
        };
        batch.set_record_in_extent(trees::RUNS, &number.to_be_bytes(), &record)?;
        Ok(run)
    }

    pub(crate) fn from_record(number: u64, record: RunV1) -> Self {
        Self {
            number,
            entries: record.entries,
            filter: record.filter,
            ids: record.ids,
            places: record.places,
            ends: record.ends,
        }
    }

    /// Removes the run from the disk.
    pub(crate) fn remove(&self, batch: &mut Batch<'_>) {
        batch.remove_in_extent(trees::RUNS, &self.number.to_be_bytes());
        for kind in [Kind::Id, Kind::Place] {
            for (number, _) in (0..).zip(self.fences(kind)) {
                batch.remove_in_extent(trees::INDEX, &chunk_key(self.number, kind.code(), number));
            }
        }
    }

    /// The first keys of the chunks.
    pub(crate) fn fences(&self, kind: Kind) -> &[Vec<u8>] {
        match kind {
            Kind::Id => &self.ids,
            Kind::Place => &self.places,
        }
    }

    /// The chunk in which a key would be; none if it would be before all of them.
    pub(crate) fn chunk_of(&self, kind: Kind, key: &[u8]) -> Option<usize> {
        self.fences(kind)
            .partition_point(|fence| fence.as_slice() <= key)
            .checked_sub(1)
    }

    /// The last place of the channel a key belongs to, if the run has any of it.
    pub(crate) fn end_of(&self, key: &[u8]) -> Option<&[u8]> {
        let channel = channel_in(key)?;
        let at = self
            .ends
            .binary_search_by_key(&Some(channel), |end| channel_in(end))
            .ok()?;
        self.ends.get(at).map(Vec::as_slice)
    }

    /// The rows of a chunk, in order.
    pub(crate) fn chunk(&self, base: &Base, kind: Kind, number: usize) -> Result<Vec<Row>, StoreError> {
        decode_rows(&self.chunk_bytes(base, kind, number)?).ok_or_else(|| undecodable(base))
    }

    fn chunk_bytes(&self, base: &Base, kind: Kind, number: usize) -> Result<Vec<u8>, StoreError> {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let key = chunk_key(self.number, kind.code(), number);
        let value = base.get(trees::INDEX, &key)?;
        let value = value.ok_or_else(|| base.damage("a part of the index is missing"))?;
        base.in_extent(trees::INDEX, &key, &value)
    }

    fn may_have(&self, id: &[u8]) -> bool {
        probes(id, self.filter.len())
            .all(|(byte, bit)| self.filter.get(byte).is_some_and(|found| found & bit != 0))
    }
}

/// The bits of the filter that stand for an id: byte and mask. The hidden id is as good as random.
fn probes(id: &[u8], bytes: usize) -> impl Iterator<Item = (usize, u8)> {
    let word = |at: usize| {
        let bytes = id.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_be_bytes)
    };
    let (first, step) = (word(4), word(12) | 1);
    let bits = u64::try_from(bytes.max(1)).unwrap_or(u64::MAX).saturating_mul(8);
    (0..FILTER_PROBES).map(move |probe| {
        let bit = first.wrapping_add(step.wrapping_mul(probe)) % bits;
        (usize::try_from(bit / 8).unwrap_or(usize::MAX), 1 << (bit % 8))
    })
}

/// The last key of each channel.
fn ends<'a>(rows: impl Iterator<Item = KeyValue<'a>>) -> Vec<Vec<u8>> {
    let mut ends: Vec<Vec<u8>> = Vec::new();
    for (key, _) in rows {
        match ends.last_mut() {
            Some(end) if channel_in(end) == channel_in(key) => key.clone_into(end),
            Some(_) | None => ends.push(key.to_vec()),
        }
    }
    ends
}

/// Writes rows in chunks. Gives the first key of each.
fn write_chunks<'a>(
    batch: &mut Batch<'_>,
    run: u64,
    kind: Kind,
    rows: impl Iterator<Item = KeyValue<'a>>,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut fences: Vec<Vec<u8>> = Vec::new();
    let mut chunk = Vec::with_capacity(BLOCK_BYTES);
    let mut write = |chunk: &mut Vec<u8>, number: usize| {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let key = chunk_key(run, kind.code(), number);
        batch.set_in_extent(
            trees::INDEX,
            &key,
            std::mem::replace(chunk, Vec::with_capacity(BLOCK_BYTES)),
        )
    };
    for (key, value) in rows {
        if !chunk.is_empty() && chunk.len() + key.len() + 9 > BLOCK_BYTES {
            write(&mut chunk, fences.len() - 1)?;
        }
        if chunk.is_empty() {
            fences.push(key.to_vec());
        }
        chunk.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
        chunk.extend_from_slice(key);
        chunk.extend_from_slice(&value.to_be_bytes());
    }
    if !chunk.is_empty() {
        write(&mut chunk, fences.len() - 1)?;
    }
    Ok(fences)
}

fn undecodable(base: &Base) -> StoreError {
    base.damage("a part of the index cannot be decoded")
}

/// Rows as they stand in a chunk: length of the key, key, value.
fn decode_rows(bytes: &[u8]) -> Option<Vec<Row>> {
    rows(bytes)
        .map(|row| row.map(|(key, value)| (key.into(), value)))
        .collect()
}

/// The same one after the other; nothing where they cannot be decoded, which is the end.
fn rows(bytes: &[u8]) -> impl Iterator<Item = Option<KeyValue<'_>>> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest.filter(|bytes| !bytes.is_empty())?;
        let row = split_row(bytes);
        rest = row.map(|(_, rest)| rest);
        Some(row.map(|(row, _)| row))
    })
}

/// The first row, and the bytes behind it.
fn split_row(bytes: &[u8]) -> Option<(KeyValue<'_>, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (key, rest) = rest.split_at_checked(usize::from(*length))?;
    let (value, rest) = rest.split_first_chunk::<8>()?;
    Some(((key, u64::from_be_bytes(*value)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_filter_knows_what_is_in_it_and_little_else() {
        let id = |number: u64| -> Vec<u8> {
            use sha2::Digest as _;
            let hash = sha2::Sha256::digest(number.to_be_bytes());
            [&[0, 0, 0, 1], &hash[..16]].concat()
        };
        let mut filter = vec![0; 1000 * FILTER_BITS / 8];
        for number in 0..1000 {
            for (byte, bit) in probes(&id(number), filter.len()) {
                filter[byte] |= bit;
            }
        }
        let run = Run {
            number: 1,
            entries: 1000,
            filter,
            ids: Vec::new(),
            places: Vec::new(),
            ends: Vec::new(),
        };
        assert!((0..1000).all(|number| run.may_have(&id(number))));
        let wrong = (1000..11_000).filter(|number| run.may_have(&id(*number))).count();
        assert!(wrong < 20, "{wrong} of 10,000");
    }

    proptest! {
        #[test]
        fn arbitrary_rows_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_rows(&bytes);
        }
    }
}
