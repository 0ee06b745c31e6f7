//! The channel log on disk. The format is described in `spec/store.md`.
//!
//! Entries lie in blocks of up to 16 KiB, in the order of arrival. A commit of many entries so costs a few values and no
//! access at random places; see `index` for how they are found again. Blocks and index lie beside the engine, in a file of
//! their own: the engine would keep whole pages of them in memory, and take longer for those it does not have there.

mod index;
mod layout;
mod peers;
mod plan;
mod read;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use clawchat_types::{NodeId, UnixMillis};

use self::index::{Found, Index, Recent, Run, id_key, place_key};
use self::layout::{LAYOUT, arrival_in, channel_in, cursor_name, place, trees};
use self::plan::{Desk, Fresh, Plan};
use super::table::{Channel, Table};
use super::write::check_batch;
use super::{ChannelInfo, ChannelLog, HistoryFrom, LogEntry, LogOutcome, LogQuota, LogWrite};
use crate::guarded::{Base, Guarded};
use crate::record::channel_v1::{ChannelV1, CursorV1, KeyV1, RunV1};
use crate::{OpenError, StoreError, StoreOptions};

/// Entries indexed in memory alone, unless the options say otherwise. About 4 MiB of memory, and read again when
/// the log is opened.
pub const DEFAULT_RECENT_ENTRIES: usize = 16_384;

/// How a [`SledChannelLog`] is to be run.
#[derive(Clone, Debug)]
pub struct ChannelLogOptions {
    /// How its files are kept.
    pub store: StoreOptions,
    /// How much is kept.
    pub quota: LogQuota,
    /// How many entries are indexed in memory before the index on disk takes them. Default
    /// [`DEFAULT_RECENT_ENTRIES`].
    pub recent_entries: usize,
}

impl Default for ChannelLogOptions {
    fn default() -> Self {
        Self {
            store: StoreOptions::default(),
            quota: LogQuota::default(),
            recent_entries: DEFAULT_RECENT_ENTRIES,
        }
    }
}

/// The channel log of one peer on disk.
///
/// One process at a time; many threads. Dropping it closes it.
pub struct SledChannelLog {
    store: Guarded,
    quota: LogQuota,
    recent_entries: usize,
    desk: Mutex<Desk>,
    /// What is on disk.
    state: RwLock<State>,
}

/// What readers need to know.
#[derive(Default)]
pub(crate) struct State {
    table: Table,
    index: Index,
}

impl SledChannelLog {
    /// Opens the log in folder `dir`, or makes one if the folder is missing or empty. `key` seals every value; the
    /// same one must be given each time. As [`SledStore::open`](crate::SledStore::open) in everything else.
    ///
    /// # Errors
    /// [`OpenError`]; what the folder holds is as it was then.
    pub fn open(dir: &Path, key: &[u8; 32], options: ChannelLogOptions) -> Result<Self, OpenError> {
        let store = Guarded::open(&LAYOUT, dir, key, options.store)?;
        let (state, desk) = store.load(load)?;
        Ok(Self {
            store,
            quota: options.quota,
            recent_entries: options.recent_entries,
            desk: Mutex::new(desk),
            state: RwLock::new(state),
        })
    }

    /// Reads, and once more with all writing stopped should something be missing: it may just have been dropped.
    fn read<T>(&self, read: impl Fn(&Base, &State) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let guard = self.store.base()?;
        let base = guard.get()?;
        let attempt = || {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            read(base, &state)
        };
        let result = attempt();
        if !matches!(result, Err(StoreError::Damaged(_))) {
            return result;
        }
        // The writer shows its changes while it has the right to write: not before the state was let go.
        let _pause = base.pause();
        attempt()
    }

    fn write(
        &self,
        base: &Base,
        desk: &mut Desk,
        batch: Vec<LogWrite>,
    ) -> Result<Vec<LogOutcome>, StoreError> {
        let turn = base.turn()?;
        self.store.check_space(batch.iter().map(LogWrite::size).sum())?;
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let mut plan = Plan::new(base, &self.quota, &state, desk);
        let outcomes = batch
            .into_iter()
            .map(|write| plan.apply(write))
            .collect::<Result<Vec<_>, _>>()?;
        let (changes, fresh) = plan.finish(self.recent_entries)?;
        drop(state);
        turn.commit(changes, || self.show(&desk.table, fresh))?;
        Ok(outcomes)
    }

    /// Shows readers what is on disk now.
    fn show(&self, table: &Table, fresh: Fresh) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.table.follow(table);
        match fresh.run {
            Some((run, folded)) => {
                state.index.recent = Recent::default();
                state.index.runs.drain(..folded);
                state.index.runs.push(run);
            }
            None => state.index.recent.absorb(fresh.rows),
        }
    }
}

impl ChannelLog for SledChannelLog {
    fn commit(&self, batch: Vec<LogWrite>) -> Result<Vec<LogOutcome>, StoreError> {
        let guard = self.store.base()?;
        let base = guard.get()?;
        check_batch(&batch)?;
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let (floor, forgotten) = (desk.table.floor, desk.forgotten.clone());
        let result = self.write(base, &mut desk, batch);
        if result.is_ok() {
            desk.table.settle();
        } else {
            desk.take_back(floor, forgotten);
        }
        result
    }

    fn page(
        &self,
        channel: &str,
        after: u64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        self.read(|base, state| match state.table.get(channel) {
            Some(channel) => read::page(base, channel, after, limit, max_bytes),
            None => Ok(Vec::new()),
        })
    }

    fn arrival_of(&self, channel: &str, id: &str) -> Result<Option<u64>, StoreError> {
        self.read(|base, state| match state.table.get(channel) {
            Some(channel) => read::arrival_of(base, state, channel, id),
            None => Ok(None),
        })
    }

    fn entry(&self, channel: &str, id: &str) -> Result<Option<LogEntry>, StoreError> {
        self.read(|base, state| {
            let Some(channel) = state.table.get(channel) else {
                return Ok(None);
            };
            let Some(arrival) = read::arrival_of(base, state, channel, id)? else {
                return Ok(None);
            };
            read::entry_at(base, channel.number, arrival).map(Some)
        })
    }

    fn history(
        &self,
        channel: &str,
        from: HistoryFrom<'_>,
        limit: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        self.read(|base, state| match state.table.get(channel) {
            Some(channel) => read::history(base, state, channel, from, limit),
            None => Ok(Vec::new()),
        })
    }

    fn channels(&self) -> Result<Vec<ChannelInfo>, StoreError> {
        self.read(|_, state| {
            let channels = state.table.iter();
            Ok(channels.map(|(name, channel)| channel.info(name)).collect())
        })
    }

    fn channel(&self, name: &str) -> Result<Option<ChannelInfo>, StoreError> {
        self.read(|_, state| Ok(state.table.get(name).map(|channel| channel.info(name))))
    }

    fn cursor(&self, peer: &str, channel: &str) -> Result<Option<Box<str>>, StoreError> {
        self.read(|base, _| {
            let key = base.keys.hide(&cursor_name(peer, channel));
            let Some(value) = base.get(trees::CURSORS, &key)? else {
                return Ok(None);
            };
            let record: CursorV1 = base.record(trees::CURSORS, &key, &value)?;
            Ok(Some(record.id.into()))
        })
    }

    fn key_of(&self, id: &str) -> Result<Option<NodeId>, StoreError> {
        self.read(|base, _| {
            let key = base.keys.hide(id.as_bytes());
            let Some(value) = base.get(trees::KEYS, &key)? else {
                return Ok(None);
            };
            let record: KeyV1 = base.record(trees::KEYS, &key, &value)?;
            Ok(Some(NodeId::new(record.key)))
        })
    }

    fn close(&self) -> Result<(), StoreError> {
        self.store.close();
        Ok(())
    }
}

/// Reads what is kept in memory.
fn load(base: &Base) -> Result<(State, Desk), StoreError> {
    let (mut state, mut desk) = (State::default(), Desk::default());
    for row in base.range(trees::CHANNELS, &[], None)? {
        let (key, value) = row.map_err(|error| base.engine_error(error))?;
        let number = channel_in(&key).ok_or_else(|| base.damage("a channel has no number"))?;
        let record: ChannelV1 = base.record(trees::CHANNELS, &key, &value)?;
        if record.forgotten {
            desk.forgotten.insert(number);
            // Its number is not given again while its blocks are there.
            desk.table.reserve(number);
            state.table.reserve(number);
            continue;
        }
        let (name, channel) = channel(number, record);
        desk.table.put(name.clone(), channel.clone());
        state.table.put(name, channel);
    }
    let floor = base.published().noted;
    for table in [&mut desk.table, &mut state.table] {
        table.floor = floor;
        table.settle();
    }
    for row in base.range(trees::RUNS, &[], None)? {
        let (key, value) = row.map_err(|error| base.engine_error(error))?;
        let number = arrival_in(&key).ok_or_else(|| base.damage("a run has no number"))?;
        let record: RunV1 = base.record_in_extent(trees::RUNS, &key, &value)?;
        state.index.runs.push(Arc::new(Run::from_record(number, record)));
    }
    let State { table, index } = &mut state;
    for (_, channel) in table.iter() {
        let mut after = channel.indexed;
        loop {
            let page = read::page(base, channel, after, LOAD_ENTRIES, LOAD_BYTES)?;
            let Some(last) = page.last() else { break };
            after = last.arrival;
            for entry in &page {
                add(base, &mut index.recent, channel.number, entry);
            }
        }
    }
    let numbers: std::collections::HashMap<u32, &Channel> = table
        .iter()
        .map(|(_, channel)| (channel.number, channel))
        .collect();
    for row in base.range(trees::REPLACED, &[], None)? {
        let (key, value) = row.map_err(|error| base.engine_error(error))?;
        base.unseal(trees::REPLACED, &key, &value)?;
        let (Some(number), Some(arrival)) = (channel_in(&key), arrival_in(&key)) else {
            return Err(base.damage("a replaced entry has no place"));
        };
        let kept = numbers.get(&number).is_some_and(|channel| {
            (channel.first..=channel.last).contains(&arrival) && key.as_ref() == place(number, arrival)
        });
        if kept {
            let entry = read::entry_at(base, number, arrival)?;
            add(base, &mut index.recent, number, &entry);
        }
    }
    Ok((state, desk))
}

/// Entries read at once while opening.
const LOAD_ENTRIES: usize = 4096;
/// Bytes of text read at once while opening, except for a single larger one. 1 MiB.
const LOAD_BYTES: usize = 1024 * 1024;

fn add(base: &Base, recent: &mut Recent, channel: u32, entry: &LogEntry) {
    let id = id_key(channel, &base.keys.hide(entry.id.as_bytes()));
    let found = Found {
        arrival: entry.arrival,
        verified: entry.verified,
    };
    recent.add(id, place_key(channel, entry.time, &entry.id), found);
}

fn channel(number: u32, record: ChannelV1) -> (Box<str>, Channel) {
    let channel = Channel {
        number,
        followed: record.followed,
        count: record.count,
        bytes: record.bytes,
        first: record.first,
        last: record.last,
        first_received_at: UnixMillis(record.first_received_at),
        last_received_at: UnixMillis(record.last_received_at),
        newest_time: UnixMillis(record.newest_time),
        dropped_time: record.dropped_time.map(UnixMillis),
        indexed: record.indexed,
    };
    (record.name.into(), channel)
}
