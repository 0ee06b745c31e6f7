//! The channels and how full they are: what every backend decides alike.

use std::collections::BTreeMap;

use clawchat_types::UnixMillis;

use super::write::{Appended, MAX_CHANNELS, NewEntry};
use super::{ChannelInfo, LogQuota};
use crate::StoreError;

/// Most entries dropped in one commit, so that none takes long.
const DROP_ENTRIES: u64 = 16_384;
/// Entries dropped from a channel before another is looked for, when all channels together are too many.
const DROP_RUN: u64 = 64;

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Channel {
    /// What its entries are filed under. Never given twice.
    pub(crate) number: u32,
    pub(crate) followed: bool,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// When the oldest entry kept was received.
    pub(crate) first_received_at: UnixMillis,
    pub(crate) last_received_at: UnixMillis,
    pub(crate) newest_time: UnixMillis,
    /// The latest time among dropped entries; what is not later is not taken again while the channel is full.
    pub(crate) dropped_time: Option<UnixMillis>,
    /// Entries up to this arrival are in the index on disk, if the backend has one.
    pub(crate) indexed: u64,
}

impl Channel {
    /// An empty channel whose arrivals follow on `floor`.
    pub(crate) fn new(number: u32, floor: u64) -> Self {
        Self {
            number,
            followed: false,
            count: 0,
            bytes: 0,
            first: floor.saturating_add(1),
            last: floor,
            first_received_at: UnixMillis(0),
            last_received_at: UnixMillis(0),
            newest_time: UnixMillis(0),
            dropped_time: None,
            indexed: floor,
        }
    }

    pub(crate) fn info(&self, name: &str) -> ChannelInfo {
        ChannelInfo {
            name: name.into(),
            followed: self.followed,
            count: self.count,
            bytes: self.bytes,
            first: self.first,
            last: self.last,
            last_received_at: self.last_received_at,
            newest_time: self.newest_time,
        }
    }

    /// Counts a new entry in. Gives its arrival.
    fn add(&mut self, entry: &NewEntry) -> u64 {
        self.last = self.last.saturating_add(1);
        if self.count == 0 {
            self.first = self.last;
            self.first_received_at = entry.received_at;
        }
        self.count += 1;
        self.bytes = self.bytes.saturating_add(entry.size());
        self.last_received_at = entry.received_at;
        self.newest_time = self.newest_time.max(entry.time);
        self.last
    }
}

/// All channels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    channels: BTreeMap<Box<str>, Channel>,
    /// What all channels count for.
    bytes: u64,
    /// What those kept for others count for.
    kept_bytes: u64,
    /// The highest number ever given to a channel.
    last_number: u32,
    /// The greatest arrival in any forgotten channel. One that is made anew goes on behind it, so that an arrival
    /// somebody still remembers is never in front of what comes.
    pub(crate) floor: u64,
    /// What changed channels were before, since the last [`settle`](Self::settle); `None` for one that was not there.
    before: BTreeMap<Box<str>, Option<Channel>>,
}

/// The oldest entry of a channel, which is to go, and when the one after it was received.
pub(crate) struct Oldest {
    pub(crate) size: u64,
    pub(crate) time: UnixMillis,
    pub(crate) received_at: UnixMillis,
    pub(crate) next_received_at: Option<UnixMillis>,
}

/// What a backend does for the decisions made here.
pub(crate) trait Shelves {
    fn table(&mut self) -> &mut Table;
    /// Takes the oldest entry out of a channel.
    fn drop_oldest(&mut self, channel: &Channel) -> Result<Oldest, StoreError>;
    /// Takes everything out of a channel that is no more in the table.
    fn drop_all(&mut self, channel: Channel) -> Result<(), StoreError>;
}

impl Table {
    /// Puts a channel in as it is.
    pub(crate) fn put(&mut self, name: Box<str>, channel: Channel) {
        self.note(&name);
        self.last_number = self.last_number.max(channel.number);
        self.count_in(&channel);
        if let Some(old) = self.channels.insert(name, channel) {
            self.count_out(&old);
        }
    }

    /// Takes a channel out.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Channel> {
        self.note(name);
        let channel = self.channels.remove(name)?;
        self.count_out(&channel);
        self.floor = self.floor.max(channel.last);
        Some(channel)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Channel> {
        self.channels.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Channel)> {
        self.channels.iter().map(|(name, channel)| (&**name, channel))
    }

    /// This number is not given to a channel.
    pub(crate) fn reserve(&mut self, number: u32) {
        self.last_number = self.last_number.max(number);
    }

    /// The channels changed since the last [`settle`](Self::settle).
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&str, Option<&Channel>)> {
        self.before
            .iter()
            .map(|(name, before)| (name, before, self.channels.get(name)))
            .filter(|(_, before, now)| before.as_ref() != *now)
            .map(|(name, _, now)| (&**name, now))
    }

    /// Forgets what was before the changes.
    pub(crate) fn settle(&mut self) {
        self.before.clear();
    }

    /// Takes all changes since the last [`settle`](Self::settle) back.
    pub(crate) fn take_back(&mut self, floor: u64) {
        for (name, before) in std::mem::take(&mut self.before) {
            self.remove(&name);
            if let Some(channel) = before {
                self.put(name, channel);
            }
        }
        self.floor = floor;
        self.settle();
    }

    /// Takes over the changes of another table that was equal to this one.
    pub(crate) fn follow(&mut self, other: &Self) {
        for (name, channel) in other.changed() {
            self.remove(name);
            if let Some(channel) = channel {
                self.put(name.into(), channel.clone());
            }
        }
        self.last_number = other.last_number;
        self.floor = other.floor;
        self.settle();
    }

    fn note(&mut self, name: &str) {
        if !self.before.contains_key(name) {
            self.before.insert(name.into(), self.channels.get(name).cloned());
        }
    }

    /// Changes a channel and keeps the sums right.
    pub(crate) fn change<T>(&mut self, name: &str, change: impl FnOnce(&mut Channel) -> T) -> Option<T> {
        self.note(name);
        let channel = self.channels.get_mut(name)?;
        let (bytes, kept) = (channel.bytes, kept(channel));
        let result = change(channel);
        self.bytes = self.bytes.saturating_sub(bytes).saturating_add(channel.bytes);
        let now = self::kept(channel);
        self.kept_bytes = self.kept_bytes.saturating_sub(kept).saturating_add(now);
        Some(result)
    }

    /// Counts a new entry in. Gives its arrival.
    pub(crate) fn add(&mut self, entry: &NewEntry) -> Option<u64> {
        self.change(&entry.channel, |channel| channel.add(entry))
    }

    /// Why an entry that is not there yet is not taken, if it is not.
    pub(crate) fn refusal(&self, entry: &NewEntry, quota: &LogQuota) -> Option<Appended> {
        let absent = Channel::new(0, 0);
        let channel = self.channels.get(&entry.channel).unwrap_or(&absent);
        let (limits, size) = (quota.of(channel.followed), entry.size());
        let total = self.bytes.saturating_add(size);
        let room = channel.followed || total.saturating_sub(self.kept_bytes) <= quota.total_bytes;
        if limits.entries == 0 || size > limits.bytes || size > quota.total_bytes || !room {
            return Some(Appended::ChannelFull);
        }
        if limits
            .age
            .is_some_and(|age| entry.time.after(age) < entry.received_at)
        {
            return Some(Appended::TooOld);
        }
        let full = channel.count >= limits.entries
            || channel.bytes.saturating_add(size) > limits.bytes
            || total > quota.total_bytes;
        let late = channel.dropped_time.is_some_and(|dropped| entry.time <= dropped);
        (full && late).then_some(Appended::TooOld)
    }

    fn count_in(&mut self, channel: &Channel) {
        self.bytes = self.bytes.saturating_add(channel.bytes);
        self.kept_bytes = self.kept_bytes.saturating_add(kept(channel));
    }

    fn count_out(&mut self, channel: &Channel) {
        self.bytes = self.bytes.saturating_sub(channel.bytes);
        self.kept_bytes = self.kept_bytes.saturating_sub(kept(channel));
    }

    /// The channel that gives way when all together are too many: the one with the oldest entry among those kept
    /// for others, and only when there is none, among those followed.
    fn giving_way(&self) -> Option<Box<str>> {
        self.channels
            .iter()
            .filter(|(_, channel)| channel.count > 0)
            .min_by_key(|(_, channel)| (channel.followed, channel.first_received_at))
            .map(|(name, _)| name.clone())
    }

    /// The channel kept for others that was quiet for longest.
    fn quietest(&self) -> Option<Box<str>> {
        self.channels
            .iter()
            .filter(|(_, channel)| !channel.followed)
            .min_by_key(|(_, channel)| channel.last_received_at)
            .map(|(name, _)| name.clone())
    }
}

fn kept(channel: &Channel) -> u64 {
    if channel.followed { 0 } else { channel.bytes }
}

/// Makes a channel if it is not there. Whether it is there now.
pub(crate) fn provide(shelves: &mut impl Shelves, name: &str) -> Result<bool, StoreError> {
    if shelves.table().channels.contains_key(name) {
        return Ok(true);
    }
    if shelves.table().channels.len() >= MAX_CHANNELS {
        let Some(quietest) = shelves.table().quietest() else {
            return Ok(false);
        };
        forget(shelves, &quietest)?;
    }
    let table = shelves.table();
    let Some(number) = table.last_number.checked_add(1) else {
        return Ok(false);
    };
    let channel = Channel::new(number, table.floor);
    table.put(name.into(), channel);
    Ok(true)
}

/// Follows a channel, or stops. Whether the channel is there or need not be.
pub(crate) fn set_followed(
    shelves: &mut impl Shelves,
    name: &str,
    followed: bool,
) -> Result<bool, StoreError> {
    if followed && !provide(shelves, name)? {
        return Ok(false);
    }
    shelves
        .table()
        .change(name, |channel| channel.followed = followed);
    if shelves
        .table()
        .get(name)
        .is_some_and(|channel| !channel.followed && channel.count == 0)
    {
        forget(shelves, name)?;
    }
    Ok(true)
}

/// Forgets a channel. Whether there was one.
pub(crate) fn forget(shelves: &mut impl Shelves, name: &str) -> Result<bool, StoreError> {
    let Some(channel) = shelves.table().remove(name) else {
        return Ok(false);
    };
    shelves.drop_all(channel)?;
    Ok(true)
}

/// Drops what is beyond its quota or age, in the channels named and in all together, the oldest first. How many
/// entries, and whether some are left that should go.
pub(crate) fn trim<'a>(
    shelves: &mut impl Shelves,
    quota: &LogQuota,
    now: Option<UnixMillis>,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<(u64, bool), StoreError> {
    let mut left = DROP_ENTRIES;
    for name in names {
        while left > 0
            && let Some(channel) = shelves.table().get(name).filter(|channel| channel.count > 0)
            && is_over(channel, quota, now)
        {
            drop_oldest(shelves, name)?;
            left -= 1;
        }
    }
    while left > 0 && shelves.table().bytes > quota.total_bytes {
        let Some(name) = shelves.table().giving_way() else {
            break;
        };
        for _ in 0..DROP_RUN.min(left) {
            if shelves.table().bytes > quota.total_bytes && drop_oldest(shelves, &name)? {
                left -= 1;
            }
        }
    }
    Ok((DROP_ENTRIES - left, left == 0))
}

fn is_over(channel: &Channel, quota: &LogQuota, now: Option<UnixMillis>) -> bool {
    let limits = quota.of(channel.followed);
    let aged = now
        .zip(limits.age)
        .is_some_and(|(now, age)| channel.first_received_at.after(age) < now);
    channel.count > limits.entries || channel.bytes > limits.bytes || aged
}

/// Drops the oldest entry of a channel. Whether there was one.
fn drop_oldest(shelves: &mut impl Shelves, name: &str) -> Result<bool, StoreError> {
    let Some(channel) = shelves.table().get(name).filter(|channel| channel.count > 0) else {
        return Ok(false);
    };
    let channel = channel.clone();
    let oldest = shelves.drop_oldest(&channel)?;
    shelves.table().change(name, |channel| {
        channel.count -= 1;
        channel.first += 1;
        channel.bytes = channel.bytes.saturating_sub(oldest.size);
        // A time ahead of the clock must not keep out what comes later.
        let time = oldest.time.min(oldest.received_at);
        channel.dropped_time = Some(channel.dropped_time.map_or(time, |before| before.max(time)));
        channel.first_received_at = oldest.next_received_at.unwrap_or(UnixMillis(0));
    });
    Ok(true)
}
