//! Reading. What should be there and is not, is damage.

use std::collections::HashMap;
use std::sync::Arc;

use clawchat_types::UnixMillis;

use super::State;
use super::index::{Found, Index, Kind, Row, Run, id_key, place_key};
use super::layout::{arrival_in, place, trees};
use crate::channel_log::table::Channel;
use crate::channel_log::{HistoryFrom, LogEntry, PageBytes};
use crate::guarded::Base;
use crate::record::channel_v1::{BlockV1, EntryV1};
use crate::{MAX_PAGE_BYTES, StoreError};

/// Blocks held while a page of history is put together.
const HISTORY_BLOCKS: usize = 64;

/// Entries in the order of arrival.
pub(crate) fn page(
    base: &Base,
    channel: &Channel,
    after: u64,
    limit: usize,
    max_bytes: usize,
) -> Result<Vec<LogEntry>, StoreError> {
    let mut page = Vec::new();
    let mut next = after.saturating_add(1).max(channel.first);
    if channel.count == 0 || next > channel.last || limit == 0 {
        return Ok(page);
    }
    let mut bytes = PageBytes::new(max_bytes);
    let number = channel.number;
    let begin = block_key(base, number, next)?;
    let end = place(number, channel.last);
    for row in base.range(trees::BLOCKS, &place(number, begin), Some(&end))? {
        let (key, value) = row.map_err(|error| base.engine_error(error))?;
        let first = arrival_in(&key).filter(|first| *first <= next);
        let first = first.ok_or_else(|| missing(base, next))?;
        for (arrival, entry) in (first..).zip(block(base, &key, &value)?) {
            if arrival < next || arrival > channel.last {
                continue;
            }
            if page.len() >= limit || !bytes.admits(&entry.text) {
                return Ok(page);
            }
            next = arrival + 1;
            page.push(log_entry(arrival, entry));
        }
    }
    if next <= channel.last {
        return Err(missing(base, next));
    }
    Ok(page)
}

/// The arrival of an id, if an entry that has it is still kept and already on disk.
pub(crate) fn arrival_of(
    base: &Base,
    state: &State,
    channel: &Channel,
    id: &str,
) -> Result<Option<u64>, StoreError> {
    let key = id_key(channel.number, &base.keys.hide(id.as_bytes()));
    let found = state.index.find(base, &key)?;
    Ok(found
        .map(|found| found.arrival)
        .filter(|arrival| (channel.first..=channel.last).contains(arrival)))
}

/// One entry.
pub(crate) fn entry_at(base: &Base, channel: u32, arrival: u64) -> Result<LogEntry, StoreError> {
    let mut blocks = Blocks::new(base, channel);
    blocks.entry(arrival)
}

/// Entries in the order of display.
pub(crate) fn history(
    base: &Base,
    state: &State,
    channel: &Channel,
    from: HistoryFrom<'_>,
    limit: usize,
) -> Result<Vec<LogEntry>, StoreError> {
    let number = channel.number;
    let beginning = place_key(number, UnixMillis(0), "");
    // Behind every place of this channel.
    let end = place_key(number.saturating_add(1), UnixMillis(0), "");
    let (start, end, forward) = match from {
        HistoryFrom::Newest => (beginning, end, false),
        HistoryFrom::Before { time, id } => (beginning, place_key(number, time, id), false),
        // Nothing lies between a place and the same with a zero byte behind it.
        HistoryFrom::After { time, id } => {
            let mut start = place_key(number, time, id).into_vec();
            start.push(0);
            (start.into(), end, true)
        }
        HistoryFrom::Oldest => (beginning, end, true),
    };
    let mut rows = Merge::new(&state.index, start, end, forward);
    let mut blocks = Blocks::new(base, number);
    let mut bytes = PageBytes::new(MAX_PAGE_BYTES);
    let mut page: Vec<LogEntry> = Vec::new();
    while page.len() < limit
        && let Some((key, value)) = rows.next(base)?
    {
        let arrival = Found::from_value(value).arrival;
        if !(channel.first..=channel.last).contains(&arrival) {
            continue;
        }
        let entry = blocks.entry(arrival)?;
        // An entry that was replaced may have left its old place behind.
        if place_key(number, entry.time, &entry.id) != key {
            continue;
        }
        if !bytes.admits(&entry.text) {
            break;
        }
        page.push(entry);
    }
    if !forward {
        page.reverse();
    }
    Ok(page)
}

/// The key of the block an arrival is in.
fn block_key(base: &Base, channel: u32, arrival: u64) -> Result<u64, StoreError> {
    let row = base.last(trees::BLOCKS, &place(channel, 0), &place(channel, arrival))?;
    row.and_then(|(key, _)| arrival_in(&key))
        .ok_or_else(|| missing(base, arrival))
}

/// The entries of a block.
pub(crate) fn block(base: &Base, key: &[u8], value: &[u8]) -> Result<Vec<EntryV1>, StoreError> {
    let block: BlockV1 = base.record_in_extent(trees::BLOCKS, key, value)?;
    Ok(block.entries)
}

fn missing(base: &Base, arrival: u64) -> StoreError {
    base.damage(format!("arrival {arrival} of a channel is missing"))
}

fn log_entry(arrival: u64, entry: EntryV1) -> LogEntry {
    LogEntry {
        arrival,
        id: entry.id,
        time: UnixMillis(entry.time),
        received_at: UnixMillis(entry.received_at),
        verified: entry.verified,
        text: entry.text,
    }
}

/// Single entries of a channel. Those next to each other in the order of display mostly share a block.
struct Blocks<'a> {
    base: &'a Base,
    channel: u32,
    held: HashMap<u64, Vec<EntryV1>>,
    last: u64,
}

impl<'a> Blocks<'a> {
    fn new(base: &'a Base, channel: u32) -> Self {
        Self {
            base,
            channel,
            held: HashMap::new(),
            last: 0,
        }
    }

    fn entry(&mut self, arrival: u64) -> Result<LogEntry, StoreError> {
        let within = |first: &u64, held: &HashMap<u64, Vec<EntryV1>>| {
            let index = arrival
                .checked_sub(*first)
                .and_then(|index| usize::try_from(index).ok());
            index.and_then(|index| held.get(first)?.get(index)).cloned()
        };
        if let Some(entry) = within(&self.last, &self.held) {
            return Ok(log_entry(arrival, entry));
        }
        let first = block_key(self.base, self.channel, arrival)?;
        if !self.held.contains_key(&first) {
            if self.held.len() >= HISTORY_BLOCKS {
                self.held.clear();
            }
            let key = place(self.channel, first);
            let value = self.base.get(trees::BLOCKS, &key)?;
            let value = value.ok_or_else(|| missing(self.base, arrival))?;
            self.held.insert(first, block(self.base, &key, &value)?);
        }
        self.last = first;
        let entry = within(&first, &self.held).ok_or_else(|| missing(self.base, arrival))?;
        Ok(log_entry(arrival, entry))
    }
}

/// The places from `start` to before `end`, in order or in reverse, each once, from memory and all runs.
struct Merge<'a> {
    start: Box<[u8]>,
    end: Box<[u8]>,
    forward: bool,
    recent: Box<dyn Iterator<Item = (&'a Box<[u8]>, &'a u64)> + 'a>,
    next_recent: Option<Row>,
    sources: Vec<Source>,
    last: Option<Box<[u8]>>,
}

/// A run that is being read.
struct Source {
    run: Arc<Run>,
    /// Rows still to come of the chunk that was read, the next one last.
    rows: Vec<Row>,
    /// The next chunk to read.
    chunk: Option<usize>,
}

impl<'a> Merge<'a> {
    fn new(index: &'a Index, start: Box<[u8]>, end: Box<[u8]>, forward: bool) -> Self {
        let mut recent: Box<dyn Iterator<Item = (&'a Box<[u8]>, &'a u64)> + 'a> = if start < end {
            let rows = index.recent.rows(Kind::Place).range(start.clone()..end.clone());
            if forward {
                Box::new(rows)
            } else {
                Box::new(rows.rev())
            }
        } else {
            Box::new(std::iter::empty())
        };
        let next_recent = recent.next().map(|(key, value)| (key.clone(), *value));
        let sources = index.runs.iter().filter_map(|run| {
            // `start` names the channel; `end` may be the beginning of the next.
            let latest = run.end_of(&start).filter(|latest| *latest >= &*start)?;
            let chunk = if forward {
                Some(run.chunk_of(Kind::Place, &start).unwrap_or(0))
            } else {
                run.chunk_of(Kind::Place, latest.min(&end))
            };
            Some(Source {
                run: Arc::clone(run),
                rows: Vec::new(),
                chunk,
            })
        });
        Self {
            sources: sources.collect(),
            start,
            end,
            forward,
            recent,
            next_recent,
            last: None,
        }
    }

    fn next(&mut self, base: &Base) -> Result<Option<Row>, StoreError> {
        loop {
            let Some((key, value)) = self.next_of_all(base)? else {
                return Ok(None);
            };
            if self.last.as_ref() != Some(&key) {
                self.last = Some(key.clone());
                return Ok(Some((key, value)));
            }
        }
    }

    /// The next row of all sources. Of equal ones, that in memory first, then that of the latest run.
    fn next_of_all(&mut self, base: &Base) -> Result<Option<Row>, StoreError> {
        loop {
            let mut best: Option<(usize, bool)> = None;
            let mut best_key: Option<&[u8]> = self.next_recent.as_ref().map(|(key, _)| &**key);
            for (number, source) in self.sources.iter().enumerate().rev() {
                let Some((key, unread)) = source.bound(&self.start, &self.end, self.forward) else {
                    continue;
                };
                let before = match best_key {
                    None => true,
                    // A chunk whose rows may lie as early as the best one has to be read.
                    Some(best) if unread => (key <= best) == self.forward || key == best,
                    Some(best) => key != best && (key < best) == self.forward,
                };
                if before {
                    best = Some((number, unread));
                    best_key = Some(key);
                }
            }
            let Some((number, unread)) = best else {
                let row = self.next_recent.take();
                self.next_recent = self.recent.next().map(|(key, value)| (key.clone(), *value));
                return Ok(row);
            };
            let Some(source) = self.sources.get_mut(number) else {
                return Ok(None);
            };
            if !unread {
                return Ok(source.rows.pop());
            }
            source.read(base, &self.start, &self.end, self.forward)?;
        }
    }
}

impl Source {
    /// The next row's key, or a key that it cannot lie before, and whether it has to be read first.
    fn bound<'s>(&'s self, start: &'s [u8], end: &'s [u8], forward: bool) -> Option<(&'s [u8], bool)> {
        if let Some((key, _)) = self.rows.last() {
            return Some((key, false));
        }
        let chunk = self.chunk?;
        let fences = self.run.fences(Kind::Place);
        let fence = fences.get(chunk)?.as_slice();
        if forward {
            (fence < end).then_some((fence.max(start), true))
        } else {
            let next = fences.get(chunk + 1).map_or(end, |next| next.as_slice());
            let latest = self.run.end_of(start)?;
            (next > start).then_some((next.min(end).min(latest), true))
        }
    }

    fn read(&mut self, base: &Base, start: &[u8], end: &[u8], forward: bool) -> Result<(), StoreError> {
        let Some(chunk) = self.chunk else {
            return Ok(());
        };
        self.rows = self.run.chunk(base, Kind::Place, chunk)?;
        self.rows.retain(|(key, _)| start <= &**key && &**key < end);
        if forward {
            self.rows.reverse();
            self.chunk = Some(chunk + 1);
        } else {
            self.chunk = chunk.checked_sub(1);
        }
        Ok(())
    }
}
