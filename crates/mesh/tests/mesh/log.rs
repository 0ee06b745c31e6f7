//! A channel log in memory, as a driver would have one on disk.

use std::collections::{BTreeMap, HashMap};

use clawchat_mesh::{After, ChannelId, Checked, Origin, PageEntry, PeerName, StoredAs, Trust};

#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) channels: BTreeMap<ChannelId, Vec<Checked>>,
    places: HashMap<(ChannelId, String), usize>,
    pub(crate) cursors: HashMap<(PeerName, Origin, ChannelId), Box<str>>,
    /// How often pages were read.
    pub(crate) pages: usize,
}

impl Log {
    pub(crate) fn append(&mut self, entries: &[Checked]) -> Vec<StoredAs> {
        entries.iter().map(|entry| self.append_one(entry)).collect()
    }

    fn append_one(&mut self, entry: &Checked) -> StoredAs {
        let channel = entry.message().channel();
        let records = self.channels.entry(channel.clone()).or_default();
        let key = (channel.clone(), entry.message().id().to_owned());
        if let Some(place) = self.places.get(&key) {
            let arrival = *place as u64 + 1;
            let known = &mut records[*place];
            if known.trust() == Trust::Unverified && entry.trust() == Trust::Verified {
                *known = entry.clone();
                return StoredAs::Verified { arrival };
            }
            return StoredAs::Known { arrival };
        }
        self.places.insert(key, records.len());
        records.push(entry.clone());
        StoredAs::New {
            arrival: records.len() as u64,
        }
    }

    pub(crate) fn page(
        &mut self,
        channel: &ChannelId,
        after: &After,
        limit: usize,
        max_bytes: usize,
    ) -> Option<Vec<PageEntry>> {
        self.pages += 1;
        let start = match after {
            After::Oldest => 0,
            After::Arrival(arrival) => *arrival as usize,
            After::Id(id) => self.places.get(&(channel.clone(), id.to_string()))? + 1,
        };
        let mut bytes = 0;
        let records = self.channels.get(channel).map_or(&[][..], Vec::as_slice);
        let entries = records
            .iter()
            .enumerate()
            .skip(start)
            .take(limit)
            .take_while(|(place, entry)| {
                bytes += entry.text().len();
                *place == start || bytes <= max_bytes
            })
            .map(|(place, entry)| PageEntry {
                arrival: place as u64 + 1,
                id: entry.message().id().into(),
                verified: entry.trust() == Trust::Verified,
                text: entry.text().clone(),
            })
            .collect();
        Some(entries)
    }

    pub(crate) fn ids(&self, channel: &str) -> Vec<String> {
        let records = self.channels.get(&channel.parse().unwrap());
        records.map_or(Vec::new(), |records| {
            records
                .iter()
                .map(|entry| entry.message().id().to_owned())
                .collect()
        })
    }
}
