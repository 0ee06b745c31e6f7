//! From writes to changed values. Nothing is touched before the whole batch is known to be possible.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use clawchat_types::UnixMillis;

use super::State;
use super::index::{Found, Kind, Recent, Run, id_key, is_alive, place_key};
use super::layout::{BLOCK_BYTES, arrival_in, place, trees};
use crate::StoreError;
use crate::channel_log::table::{self, Channel, Oldest, Shelves, Table};
use crate::channel_log::write::size;
use crate::channel_log::{Appended, LogOutcome, LogQuota, LogWrite, NewEntry};
use crate::guarded::{Base, Batch};
use crate::record::channel_v1::{BlockV1, ChannelV1, EntryV1};

/// What an entry takes in a block beside its id and text, in bytes. An estimate from above.
const ENTRY_BYTES: usize = 32;
/// A block this long is not continued by a later commit, in bytes.
const LONG_BLOCK_BYTES: usize = BLOCK_BYTES * 3 / 4;
/// Most blocks of forgotten channels removed in one commit.
const FORGET_BLOCKS: usize = 1024;

/// What only the writer uses, from one commit to the next.
#[derive(Default)]
pub(crate) struct Desk {
    /// The channels as they will be when everything begun is done.
    pub(crate) table: Table,
    /// First arrival and length of each channel's last block, where known.
    tails: HashMap<u32, (u64, usize)>,
    /// Forgotten channels whose blocks are still there.
    pub(crate) forgotten: BTreeSet<u32>,
}

impl Desk {
    /// Undoes a plan that came to nothing.
    pub(crate) fn take_back(&mut self, floor: u64, forgotten: BTreeSet<u32>) {
        self.table.take_back(floor);
        self.tails.clear();
        self.forgotten = forgotten;
    }
}

/// A batch being worked out.
pub(crate) struct Plan<'a, 'b> {
    pub(super) base: &'b Base,
    quota: &'a LogQuota,
    state: &'a State,
    desk: &'a mut Desk,
    pub(super) batch: Batch<'b>,
    /// What is new in the index.
    fresh: Recent,
    /// New entries not yet in blocks, by channel, in order, and the arrival of the first.
    pending: BTreeMap<u32, (u64, Vec<EntryV1>)>,
    /// Blocks that entries are being dropped from, by channel: key and what is left.
    heads: HashMap<u32, (u64, VecDeque<Met>)>,
    /// The latest time of receipt in this batch.
    now: Option<UnixMillis>,
    touched: BTreeSet<Box<str>>,
    pub(super) next_key: Option<u64>,
}

/// What is to be known of an entry that may be dropped.
struct Met {
    size: u64,
    time: UnixMillis,
    received_at: UnixMillis,
}

/// What changes in memory once a plan is on disk.
pub(crate) struct Fresh {
    pub(crate) rows: Recent,
    /// A run that takes the place of everything recent, and how many of the oldest runs it takes in.
    pub(crate) run: Option<(Arc<Run>, usize)>,
}

impl<'a, 'b> Plan<'a, 'b> {
    pub(crate) fn new(base: &'b Base, quota: &'a LogQuota, state: &'a State, desk: &'a mut Desk) -> Self {
        Self {
            base,
            quota,
            state,
            desk,
            batch: Batch::new(base),
            fresh: Recent::default(),
            pending: BTreeMap::new(),
            heads: HashMap::new(),
            now: None,
            touched: BTreeSet::new(),
            next_key: None,
        }
    }

    pub(crate) fn apply(&mut self, write: LogWrite) -> Result<LogOutcome, StoreError> {
        Ok(match write {
            LogWrite::Append(entry) => {
                self.now = self.now.max(Some(entry.received_at));
                self.touched.insert(entry.channel.clone());
                LogOutcome::Append(self.append(entry)?)
            }
            LogWrite::SetFollowed { channel, followed } => {
                self.touched.insert(channel.clone());
                if table::set_followed(self, &channel, followed)? {
                    LogOutcome::Done
                } else {
                    LogOutcome::Append(Appended::ChannelFull)
                }
            }
            LogWrite::SetCursor { peer, channel, id } => self.set_cursor(&peer, &channel, &id)?,
            LogWrite::RememberKey { id, key } => self.remember_key(&id, key)?,
            LogWrite::Forget { channel } => {
                if table::forget(self, &channel)? {
                    LogOutcome::Done
                } else {
                    LogOutcome::NotFound
                }
            }
            LogWrite::Expire { now } => {
                self.store_pending()?;
                let names: Vec<Box<str>> = self.desk.table.iter().map(|(name, _)| name.into()).collect();
                let names = names.iter().map(|name| &**name);
                let (entries, more) = table::trim(self, self.quota, Some(now), names)?;
                LogOutcome::Expired { entries, more }
            }
        })
    }

    /// All changes, on disk and in memory.
    pub(crate) fn finish(mut self, recent_entries: usize) -> Result<(Batch<'b>, Fresh), StoreError> {
        self.store_pending()?;
        let touched = std::mem::take(&mut self.touched);
        let names = touched.iter().map(|name| &**name);
        let (quota, now) = (self.quota, self.now);
        table::trim(&mut self, quota, now, names)?;
        self.remove_forgotten()?;
        let run = if self.state.index.recent.len() + self.fresh.len() >= recent_entries.max(1) {
            Some(self.write_run(recent_entries)?)
        } else {
            None
        };
        let changed: Vec<(Box<str>, Channel)> = self
            .desk
            .table
            .changed()
            .filter_map(|(name, channel)| Some((name.into(), channel?.clone())))
            .collect();
        for (name, channel) in changed {
            self.set_channel(&name, &channel, false)?;
        }
        // The table changes with the channels alone, so a plan that changes nothing stays one.
        self.batch.meta.noted = self.desk.table.floor;
        Ok((
            self.batch,
            Fresh {
                rows: self.fresh,
                run,
            },
        ))
    }

    fn append(&mut self, entry: NewEntry) -> Result<Appended, StoreError> {
        let hidden = self.base.keys.hide(entry.id.as_bytes());
        if let Some(channel) = self.desk.table.get(&entry.channel).cloned() {
            let key = id_key(channel.number, &hidden);
            let found = match self.fresh.get(&key) {
                Some(found) => Some(found),
                None => self.state.index.find(self.base, &key)?,
            };
            if let Some(found) = found.filter(|found| found.arrival >= channel.first) {
                let arrival = found.arrival;
                if found.verified || !entry.verified {
                    return Ok(Appended::Known { arrival });
                }
                return self.replace(&channel, arrival, key, entry);
            }
        }
        if let Some(refusal) = self.desk.table.refusal(&entry, self.quota) {
            return Ok(refusal);
        }
        if !table::provide(self, &entry.channel)? {
            return Ok(Appended::ChannelFull);
        }
        let (Some(arrival), Some(channel)) =
            (self.desk.table.add(&entry), self.desk.table.get(&entry.channel))
        else {
            return Ok(Appended::ChannelFull);
        };
        let number = channel.number;
        let found = Found {
            arrival,
            verified: entry.verified,
        };
        let place = place_key(number, entry.time, &entry.id);
        self.fresh.add(id_key(number, &hidden), place, found);
        let (_, pending) = self
            .pending
            .entry(number)
            .or_insert_with(|| (arrival, Vec::new()));
        pending.push(record(entry));
        Ok(Appended::New { arrival })
    }

    /// Puts a verified entry where one is that may not be.
    fn replace(
        &mut self,
        channel: &Channel,
        arrival: u64,
        key: Box<[u8]>,
        entry: NewEntry,
    ) -> Result<Appended, StoreError> {
        self.store_pending()?;
        let (first, mut entries) = self.block(channel.number, arrival)?;
        let missing = || {
            self.base
                .damage(format!("arrival {arrival} of a channel is missing"))
        };
        let index = usize::try_from(arrival - first).map_err(|_| missing())?;
        let old = entries.get_mut(index).ok_or_else(missing)?;
        let (before, after) = (size(&old.id, &old.text), entry.size());
        let place_there = place_key(channel.number, entry.time, &entry.id);
        let (name, time) = (entry.channel.clone(), entry.time);
        *old = EntryV1 {
            received_at: old.received_at,
            ..record(entry)
        };
        self.set_block(channel.number, first, entries)?;
        self.batch
            .set(trees::REPLACED, &place(channel.number, arrival), &[], false)?;
        self.desk.table.change(&name, |channel| {
            channel.bytes = channel.bytes.saturating_sub(before).saturating_add(after);
            channel.newest_time = channel.newest_time.max(time);
        });
        let found = Found {
            arrival,
            verified: true,
        };
        self.fresh.add(key, place_there, found);
        Ok(Appended::Verified { arrival })
    }

    /// Puts new entries into blocks: behind those of the last block, if that is short.
    fn store_pending(&mut self) -> Result<(), StoreError> {
        for (channel, (first, entries)) in std::mem::take(&mut self.pending) {
            let (mut begin, mut block) = (first, Vec::new());
            if let Some((tail, length)) = self.tail(channel, first)?
                && length + entries.first().map_or(0, length_of) <= BLOCK_BYTES
            {
                (begin, block) = self.block_at(channel, tail)?;
            }
            let mut length: usize = block.iter().map(length_of).sum();
            for entry in entries {
                let more = length_of(&entry);
                if !block.is_empty() && length + more > BLOCK_BYTES {
                    let count = u64::try_from(block.len()).unwrap_or(u64::MAX);
                    self.set_block(channel, begin, std::mem::take(&mut block))?;
                    (begin, length) = (begin + count, 0);
                }
                length += more;
                block.push(entry);
            }
            self.set_block(channel, begin, block)?;
            self.desk.tails.insert(channel, (begin, length));
        }
        Ok(())
    }

    /// The last block of a channel, if it ends right before `next` and may be continued: its key and length.
    fn tail(&mut self, channel: u32, next: u64) -> Result<Option<(u64, usize)>, StoreError> {
        if let Some(tail) = self.desk.tails.get(&channel) {
            return Ok(Some(*tail).filter(|(_, length)| *length <= LONG_BLOCK_BYTES));
        }
        let rows = self
            .base
            .last(trees::BLOCKS, &place(channel, 0), &place(channel, next))?;
        let Some(first) = rows.and_then(|(key, _)| arrival_in(&key)) else {
            return Ok(None);
        };
        let key = place(channel, first);
        let block: Option<BlockV1> = self.batch.current_record_in_extent(trees::BLOCKS, &key)?;
        let Some(BlockV1 { entries }) = block else {
            return Ok(None);
        };
        let end = first + u64::try_from(entries.len()).unwrap_or(u64::MAX);
        let length = entries.iter().map(length_of).sum();
        Ok((end == next && length <= LONG_BLOCK_BYTES).then_some((first, length)))
    }

    /// The block an arrival is in: its first arrival and its entries.
    fn block(&self, channel: u32, arrival: u64) -> Result<(u64, Vec<EntryV1>), StoreError> {
        let last = self
            .batch
            .last_key(trees::BLOCKS, &place(channel, 0), &place(channel, arrival))?;
        let key = last.and_then(|key| arrival_in(&key)).ok_or_else(|| {
            self.base
                .damage(format!("arrival {arrival} of a channel is missing"))
        })?;
        self.block_at(channel, key)
    }

    fn block_at(&self, channel: u32, first: u64) -> Result<(u64, Vec<EntryV1>), StoreError> {
        let key = place(channel, first);
        let block: Option<BlockV1> = self.batch.current_record_in_extent(trees::BLOCKS, &key)?;
        let block = block.ok_or_else(|| {
            self.base
                .damage(format!("arrival {first} of a channel is missing"))
        })?;
        Ok((first, block.entries))
    }

    fn set_block(&mut self, channel: u32, first: u64, entries: Vec<EntryV1>) -> Result<(), StoreError> {
        let key = place(channel, first);
        // It may be the one that entries are being dropped from.
        self.heads.remove(&channel);
        self.batch
            .set_record_in_extent(trees::BLOCKS, &key, &BlockV1 { entries })
    }

    fn remove_block(&mut self, channel: u32, first: u64) {
        self.batch.remove_in_extent(trees::BLOCKS, &place(channel, first));
        if self
            .desk
            .tails
            .get(&channel)
            .is_some_and(|(tail, _)| *tail == first)
        {
            self.desk.tails.remove(&channel);
        }
    }

    /// Removes some blocks of forgotten channels.
    fn remove_forgotten(&mut self) -> Result<(), StoreError> {
        let mut left = FORGET_BLOCKS;
        while left > 0
            && let Some(channel) = self.desk.forgotten.first().copied()
        {
            let mut rows =
                self.base
                    .range(trees::BLOCKS, &place(channel, 0), Some(&place(channel, u64::MAX)))?;
            let mut done = false;
            while left > 0 && !done {
                match rows.next() {
                    Some(row) => {
                        let (key, _) = row.map_err(|error| self.base.engine_error(error))?;
                        let Some(first) = arrival_in(&key) else { break };
                        self.remove_block(channel, first);
                        left -= 1;
                    }
                    None => done = true,
                }
            }
            if !done {
                break;
            }
            // Blocks that this very batch put there are not in those rows: the next one sees them.
            let (start, end) = (place(channel, 0), place(channel, u64::MAX));
            if self.batch.new_keys(trees::BLOCKS, &start, &end).next().is_some() {
                break;
            }
            self.batch.remove(trees::CHANNELS, &channel.to_be_bytes())?;
            self.desk.forgotten.remove(&channel);
        }
        Ok(())
    }

    /// Writes everything recent as a run, together with what is alive in the oldest run when much is dead.
    fn write_run(&mut self, recent_entries: usize) -> Result<(Arc<Run>, usize), StoreError> {
        let mut rows = std::mem::take(&mut self.fresh);
        let ranges: HashMap<u32, (u64, u64)> = self
            .desk
            .table
            .iter()
            .map(|(_, channel)| (channel.number, (channel.first, channel.last)))
            .collect();
        let alive = |channel: u32, arrival: u64| {
            ranges
                .get(&channel)
                .is_some_and(|(first, last)| *first <= arrival && arrival <= *last)
        };
        let (runs, live) = (&self.state.index.runs, ranges.values());
        let live: u64 = live.map(|(first, last)| (last + 1).saturating_sub(*first)).sum();
        let spare = u64::try_from(recent_entries.saturating_mul(2)).unwrap_or(u64::MAX);
        let mut folded = 0;
        if let Some(oldest) = runs.first()
            && self.state.index.entries() > live.saturating_mul(2).saturating_add(spare)
        {
            for kind in [Kind::Id, Kind::Place] {
                for number in 0..oldest.fences(kind).len() {
                    for (key, value) in oldest.chunk(self.base, kind, number)? {
                        if is_alive(&key, value, alive) {
                            rows.merge(kind, key, value);
                        }
                    }
                }
            }
            oldest.remove(&mut self.batch);
            folded = 1;
        }
        let number = runs.last().map_or(1, |run| run.number + 1);
        let recent = &self.state.index.recent;
        let run = Run::write(&mut self.batch, number, |kind| {
            let rows = rows.merged(recent, kind);
            rows.filter(|(key, value)| is_alive(key, *value, alive))
        })?;
        for row in self.base.range(trees::REPLACED, &[], None)? {
            let (key, _) = row.map_err(|error| self.base.engine_error(error))?;
            self.batch.remove(trees::REPLACED, &key)?;
        }
        let (start, end) = (place(0, 0), place(u32::MAX, u64::MAX));
        let coming: Vec<Vec<u8>> = self
            .batch
            .new_keys(trees::REPLACED, &start, &end)
            .cloned()
            .collect();
        for key in coming {
            self.batch.remove(trees::REPLACED, &key)?;
        }
        let names: Vec<Box<str>> = self
            .desk
            .table
            .iter()
            .filter(|(_, channel)| channel.indexed < channel.last)
            .map(|(name, _)| name.into())
            .collect();
        for name in names {
            self.desk
                .table
                .change(&name, |channel| channel.indexed = channel.last);
        }
        Ok((Arc::new(run), folded))
    }

    fn set_channel(&mut self, name: &str, channel: &Channel, forgotten: bool) -> Result<(), StoreError> {
        let record = ChannelV1 {
            name: name.to_owned(),
            forgotten,
            followed: channel.followed,
            count: channel.count,
            bytes: channel.bytes,
            first: channel.first,
            last: channel.last,
            first_received_at: channel.first_received_at.0,
            last_received_at: channel.last_received_at.0,
            newest_time: channel.newest_time.0,
            dropped_time: channel.dropped_time.map(|time| time.0),
            indexed: channel.indexed,
        };
        self.batch
            .set_record(trees::CHANNELS, &channel.number.to_be_bytes(), &record)
    }
}

impl Shelves for Plan<'_, '_> {
    fn table(&mut self) -> &mut Table {
        &mut self.desk.table
    }

    fn drop_oldest(&mut self, channel: &Channel) -> Result<Oldest, StoreError> {
        let number = channel.number;
        let (key, mut left) = match self.heads.remove(&number) {
            Some(head) => head,
            None => self.head(number, channel.first)?,
        };
        let missing = || {
            self.base
                .damage(format!("arrival {} of a channel is missing", channel.first))
        };
        let met = left.pop_front().ok_or_else(missing)?;
        let mut next_received_at = left.front().map(|next| next.received_at);
        if left.is_empty() {
            self.remove_block(number, key);
            if channel.count > 1 {
                let head = self.head(number, channel.first + 1)?;
                next_received_at = head.1.front().map(|next| next.received_at);
                self.heads.insert(number, head);
            }
        } else {
            self.heads.insert(number, (key, left));
        }
        Ok(Oldest {
            size: met.size,
            time: met.time,
            received_at: met.received_at,
            next_received_at,
        })
    }

    fn drop_all(&mut self, channel: Channel) -> Result<(), StoreError> {
        self.store_pending()?;
        self.heads.remove(&channel.number);
        self.desk.tails.remove(&channel.number);
        self.set_channel("", &channel, true)?;
        self.desk.forgotten.insert(channel.number);
        Ok(())
    }
}

impl Plan<'_, '_> {
    /// The block an arrival is in, as far as dropping needs it, from that arrival on.
    fn head(&self, channel: u32, arrival: u64) -> Result<(u64, VecDeque<Met>), StoreError> {
        let (key, entries) = self.block(channel, arrival)?;
        let skip = usize::try_from(arrival - key).unwrap_or(usize::MAX);
        let left = entries.iter().skip(skip).map(|entry| Met {
            size: size(&entry.id, &entry.text),
            time: UnixMillis(entry.time),
            received_at: UnixMillis(entry.received_at),
        });
        Ok((key, left.collect()))
    }
}

fn record(entry: NewEntry) -> EntryV1 {
    EntryV1 {
        time: entry.time.0,
        received_at: entry.received_at.0,
        verified: entry.verified,
        id: entry.id,
        text: entry.text,
    }
}

fn length_of(entry: &EntryV1) -> usize {
    entry.id.len() + entry.text.len() + ENTRY_BYTES
}
