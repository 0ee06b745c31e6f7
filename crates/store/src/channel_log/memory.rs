//! A channel log that forgets everything at the end of the process.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use clawchat_types::{NodeId, UnixMillis};

use super::table::{self, Channel, Oldest, Shelves, Table};
use super::write::{Appended, MAX_CURSORS, MAX_KEYS, check_batch, size};
use super::{
    ChannelInfo, ChannelLog, HistoryFrom, LogEntry, LogOutcome, LogQuota, LogWrite, NewEntry, PageBytes,
};
use crate::{MAX_PAGE_BYTES, StoreError};

/// Keeps everything in memory, for tests and throw-away peers. Behaves like
/// [`SledChannelLog`](crate::SledChannelLog) in everything but durability.
#[derive(Default)]
pub struct MemoryChannelLog {
    quota: LogQuota,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    table: Table,
    shelves: HashMap<u32, Shelf>,
    cursors: BTreeMap<(Box<str>, Box<str>), Box<str>>,
    keys: HashMap<Box<str>, NodeId>,
    /// Ids with a key, the oldest first.
    key_order: VecDeque<Box<str>>,
}

/// What is in a channel.
#[derive(Default)]
struct Shelf {
    /// The first has arrival [`Channel::first`].
    entries: VecDeque<LogEntry>,
    ids: HashMap<Box<str>, u64>,
    order: BTreeSet<(UnixMillis, Box<str>)>,
}

impl MemoryChannelLog {
    /// An empty log.
    #[must_use]
    pub fn new(quota: LogQuota) -> Self {
        Self {
            quota,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(StoreError::Closed);
        }
        Ok(state)
    }
}

impl ChannelLog for MemoryChannelLog {
    fn commit(&self, batch: Vec<LogWrite>) -> Result<Vec<LogOutcome>, StoreError> {
        let mut state = self.state()?;
        check_batch(&batch)?;
        let (mut now, mut touched) = (None, BTreeSet::new());
        let mut outcomes = Vec::with_capacity(batch.len());
        for write in batch {
            if let LogWrite::Append(entry) = &write {
                now = now.max(Some(entry.received_at));
            }
            if let LogWrite::Append(NewEntry { channel, .. }) | LogWrite::SetFollowed { channel, .. } = &write
            {
                touched.insert(channel.clone());
            }
            outcomes.push(state.apply(write, &self.quota)?);
        }
        table::trim(&mut *state, &self.quota, now, touched.iter().map(|name| &**name))?;
        state.table.settle();
        Ok(outcomes)
    }

    fn page(
        &self,
        channel: &str,
        after: u64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let state = self.state()?;
        let mut bytes = PageBytes::new(max_bytes);
        let Some((channel, shelf)) = state.find(channel) else {
            return Ok(Vec::new());
        };
        let skip = after.saturating_add(1).saturating_sub(channel.first);
        let entries = shelf
            .entries
            .iter()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX));
        Ok(entries
            .take(limit)
            .take_while(|entry| bytes.admits(&entry.text))
            .cloned()
            .collect())
    }

    fn arrival_of(&self, channel: &str, id: &str) -> Result<Option<u64>, StoreError> {
        let state = self.state()?;
        Ok(state
            .find(channel)
            .and_then(|(_, shelf)| shelf.ids.get(id).copied()))
    }

    fn entry(&self, channel: &str, id: &str) -> Result<Option<LogEntry>, StoreError> {
        let state = self.state()?;
        Ok(state
            .find(channel)
            .and_then(|(channel, shelf)| shelf.by_id(channel, id))
            .cloned())
    }

    fn history(
        &self,
        channel: &str,
        from: HistoryFrom<'_>,
        limit: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let state = self.state()?;
        let Some((channel, shelf)) = state.find(channel) else {
            return Ok(Vec::new());
        };
        let mut bytes = PageBytes::new(MAX_PAGE_BYTES);
        let mut collect = |places: &mut dyn Iterator<Item = &(UnixMillis, Box<str>)>| -> Vec<LogEntry> {
            places
                .filter_map(|(_, id)| shelf.by_id(channel, id))
                .take(limit)
                .take_while(|entry| bytes.admits(&entry.text))
                .cloned()
                .collect()
        };
        let place = |time: UnixMillis, id: &str| (time, Box::<str>::from(id));
        let mut entries = match from {
            HistoryFrom::Oldest => return Ok(collect(&mut shelf.order.iter())),
            HistoryFrom::After { time, id } => {
                let behind = (
                    std::ops::Bound::Excluded(place(time, id)),
                    std::ops::Bound::Unbounded,
                );
                return Ok(collect(&mut shelf.order.range(behind)));
            }
            HistoryFrom::Newest => collect(&mut shelf.order.iter().rev()),
            HistoryFrom::Before { time, id } => collect(&mut shelf.order.range(..place(time, id)).rev()),
        };
        entries.reverse();
        Ok(entries)
    }

    fn channels(&self) -> Result<Vec<ChannelInfo>, StoreError> {
        let state = self.state()?;
        Ok(state
            .table
            .iter()
            .map(|(name, channel)| channel.info(name))
            .collect())
    }

    fn channel(&self, name: &str) -> Result<Option<ChannelInfo>, StoreError> {
        Ok(self.state()?.table.get(name).map(|channel| channel.info(name)))
    }

    fn cursor(&self, peer: &str, channel: &str) -> Result<Option<Box<str>>, StoreError> {
        Ok(self.state()?.cursors.get(&(peer.into(), channel.into())).cloned())
    }

    fn key_of(&self, id: &str) -> Result<Option<NodeId>, StoreError> {
        Ok(self.state()?.keys.get(id).copied())
    }

    fn close(&self) -> Result<(), StoreError> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        Ok(())
    }
}

impl State {
    fn find(&self, name: &str) -> Option<(&Channel, &Shelf)> {
        let channel = self.table.get(name)?;
        Some((channel, self.shelves.get(&channel.number)?))
    }

    fn apply(&mut self, write: LogWrite, quota: &LogQuota) -> Result<LogOutcome, StoreError> {
        Ok(match write {
            LogWrite::Append(entry) => LogOutcome::Append(self.append(entry, quota)?),
            LogWrite::SetFollowed { channel, followed } => {
                if table::set_followed(self, &channel, followed)? {
                    LogOutcome::Done
                } else {
                    LogOutcome::Append(Appended::ChannelFull)
                }
            }
            LogWrite::SetCursor { peer, channel, id } => {
                let place = (peer, channel);
                let full = u64::try_from(self.cursors.len()).unwrap_or(u64::MAX) >= MAX_CURSORS;
                if full && !self.cursors.contains_key(&place) {
                    // Notes under no name are not a neighbour's, so no neighbour makes them go.
                    let victim = self.cursors.keys().find(|(peer, _)| !peer.is_empty()).cloned();
                    victim.and_then(|victim| self.cursors.remove(&victim));
                }
                self.cursors.insert(place, id);
                LogOutcome::Done
            }
            LogWrite::RememberKey { id, key } => self.remember_key(id, key),
            LogWrite::Forget { channel } => {
                if table::forget(self, &channel)? {
                    LogOutcome::Done
                } else {
                    LogOutcome::NotFound
                }
            }
            LogWrite::Expire { now } => {
                let names: Vec<Box<str>> = self.table.iter().map(|(name, _)| name.into()).collect();
                let (entries, more) = table::trim(self, quota, Some(now), names.iter().map(|name| &**name))?;
                LogOutcome::Expired { entries, more }
            }
        })
    }

    fn append(&mut self, entry: NewEntry, quota: &LogQuota) -> Result<Appended, StoreError> {
        let known = self.find(&entry.channel).and_then(|(channel, shelf)| {
            let known = shelf.by_id(channel, &entry.id)?;
            Some((channel.number, channel.first, known.clone()))
        });
        if let Some((number, first, known)) = known {
            let arrival = known.arrival;
            if known.verified || !entry.verified {
                return Ok(Appended::Known { arrival });
            }
            let (old, new) = (size(&known.id, &known.text), entry.size());
            self.table.change(&entry.channel, |channel| {
                channel.bytes = channel.bytes.saturating_sub(old).saturating_add(new);
                channel.newest_time = channel.newest_time.max(entry.time);
            });
            if let Some(shelf) = self.shelves.get_mut(&number) {
                shelf.order.remove(&(known.time, known.id));
                shelf.order.insert((entry.time, entry.id.clone()));
                let place = usize::try_from(arrival - first).ok();
                if let Some(place) = place.and_then(|place| shelf.entries.get_mut(place)) {
                    *place = LogEntry {
                        received_at: known.received_at,
                        ..entry_at(arrival, entry)
                    };
                }
            }
            return Ok(Appended::Verified { arrival });
        }
        if let Some(refusal) = self.table.refusal(&entry, quota) {
            return Ok(refusal);
        }
        if !table::provide(self, &entry.channel)? {
            return Ok(Appended::ChannelFull);
        }
        let (Some(arrival), Some(channel)) = (self.table.add(&entry), self.table.get(&entry.channel)) else {
            return Ok(Appended::ChannelFull);
        };
        let shelf = self.shelves.entry(channel.number).or_default();
        shelf.ids.insert(entry.id.clone(), arrival);
        shelf.order.insert((entry.time, entry.id.clone()));
        shelf.entries.push_back(entry_at(arrival, entry));
        Ok(Appended::New { arrival })
    }

    fn remember_key(&mut self, id: Box<str>, key: NodeId) -> LogOutcome {
        match self.keys.get(&id) {
            Some(known) if *known == key => return LogOutcome::Done,
            Some(known) => return LogOutcome::OtherKey(*known),
            None => {}
        }
        if u64::try_from(self.keys.len()).unwrap_or(u64::MAX) >= MAX_KEYS
            && let Some(oldest) = self.key_order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        self.keys.insert(id.clone(), key);
        self.key_order.push_back(id);
        LogOutcome::Done
    }
}

impl Shelves for State {
    fn table(&mut self) -> &mut Table {
        &mut self.table
    }

    fn drop_oldest(&mut self, channel: &Channel) -> Result<Oldest, StoreError> {
        let shelf = self.shelves.get_mut(&channel.number).ok_or(StoreError::Closed)?;
        let entry = shelf.entries.pop_front().ok_or(StoreError::Closed)?;
        shelf.ids.remove(&entry.id);
        let oldest = Oldest {
            size: size(&entry.id, &entry.text),
            time: entry.time,
            received_at: entry.received_at,
            next_received_at: shelf.entries.front().map(|next| next.received_at),
        };
        shelf.order.remove(&(entry.time, entry.id));
        Ok(oldest)
    }

    fn drop_all(&mut self, channel: Channel) -> Result<(), StoreError> {
        self.shelves.remove(&channel.number);
        Ok(())
    }
}

impl Shelf {
    fn by_id(&self, channel: &Channel, id: &str) -> Option<&LogEntry> {
        let place = self.ids.get(id)?.checked_sub(channel.first)?;
        self.entries.get(usize::try_from(place).ok()?)
    }
}

/// A new entry in its place.
fn entry_at(arrival: u64, entry: NewEntry) -> LogEntry {
    LogEntry {
        arrival,
        id: entry.id,
        time: entry.time,
        received_at: entry.received_at,
        verified: entry.verified,
        text: entry.text,
    }
}
