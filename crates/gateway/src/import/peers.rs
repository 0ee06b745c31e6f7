//! `peers.json`.

use std::collections::BTreeMap;
use std::mem;

use clawchat_store::{MAX_ALIAS_BYTES, MAX_PEER_LOCATORS, MessageStore, PeerRecord, StoreError, Write};
use clawchat_types::{Locator, LocatorError, Principal, UnixMillis};
use serde_json::value::RawValue;

use super::record::Record;
use super::report::{Tally, Unusable, quoted};
use super::{BATCH_WRITES, Import, Owner};

/// The peers. What is known of one already is kept: the alias, and the addresses before those in the file.
pub(super) struct Peers<'a> {
    store: &'a dyn MessageStore,
    owner: &'a Owner,
    aliases: BTreeMap<String, Principal>,
    /// Changed and not yet written.
    changed: BTreeMap<Principal, PeerRecord>,
    tally: Tally,
}

impl<'a> Peers<'a> {
    /// # Errors
    /// When the known peers cannot be read.
    pub(super) fn new(store: &'a dyn MessageStore, owner: &'a Owner) -> Result<Self, StoreError> {
        let peers = store.peers()?.into_iter();
        Ok(Self {
            store,
            owner,
            aliases: peers
                .filter_map(|peer| Some((peer.alias?, peer.principal)))
                .collect(),
            changed: BTreeMap::new(),
            tally: Tally::default(),
        })
    }

    fn merge(&mut self, number: usize, raw: &RawValue) -> Result<Merged, StoreError> {
        let (record, principal) = match read(raw) {
            Ok(read) => read,
            Err(reason) => return Ok(Merged::Skipped(reason)),
        };
        if principal == self.owner.principal {
            return Ok(Merged::Skipped(Unusable("is the identity itself".to_owned())));
        }
        let known = match self.changed.remove(&principal) {
            Some(known) => Some(known),
            None => self.store.peer(&principal)?,
        };
        let before = known.clone();
        let mut peer = known.unwrap_or_else(|| PeerRecord::new(principal));
        peer.added = true;
        if peer.alias.is_none()
            && let Some(alias) = record.text("alias").filter(|alias| !alias.is_empty())
        {
            match self.usable(&alias, &principal) {
                Ok(()) => {
                    self.aliases.insert(alias.clone(), principal);
                    peer.alias = Some(alias);
                }
                Err(reason) => {
                    let remark = format!(
                        "{principal} is known without the alias {}: {reason}",
                        quoted(&alias)
                    );
                    self.tally.remarks.add(number, &remark);
                }
            }
        }
        self.add_locators(number, &record, &mut peer);
        let last_seen = record.time("lastSeen");
        if last_seen > UnixMillis(0) {
            peer.last_seen = peer.last_seen.max(Some(last_seen));
        }
        let is_new = before.as_ref() != Some(&peer);
        Ok(Merged::Peer(Box::new(peer), is_new))
    }

    /// Whether a peer may be called so: as for aliases given by the operator.
    fn usable(&self, alias: &str, principal: &Principal) -> Result<(), String> {
        if alias.len() > MAX_ALIAS_BYTES || alias.chars().any(char::is_control) {
            return Err(format!(
                "an alias has at most {MAX_ALIAS_BYTES} bytes and no control characters"
            ));
        }
        if alias.starts_with("stacks:") {
            return Err("it looks like a principal".to_owned());
        }
        match self.aliases.get(alias).filter(|holder| *holder != principal) {
            Some(holder) => Err(format!("it is that of {holder}")),
            None => Ok(()),
        }
    }

    /// The addresses stand in one text, separated by commas.
    fn add_locators(&mut self, number: usize, record: &Record, peer: &mut PeerRecord) {
        let text = record.text("address").unwrap_or_default();
        let mut left_out = 0;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match locator(part) {
                Ok(locator) if peer.locators.contains(&locator) => {}
                Ok(locator) if peer.locators.len() < MAX_PEER_LOCATORS => peer.locators.push(locator),
                Ok(_) => left_out += 1,
                Err(error) => {
                    let remark = format!("the address {} is left out: {error}", quoted(part));
                    self.tally.remarks.add(number, &remark);
                }
            }
        }
        if left_out > 0 {
            let remark = format!("{left_out} addresses are left out: {MAX_PEER_LOCATORS} are kept of a peer");
            self.tally.remarks.add(number, &remark);
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let writes = mem::take(&mut self.changed).into_values().map(Write::PutPeer);
        self.store.commit(writes.collect()).map(drop)
    }
}

impl Import for Peers<'_> {
    fn take(&mut self, number: usize, record: &RawValue) -> Result<(), StoreError> {
        match self.merge(number, record)? {
            Merged::Skipped(reason) => self.tally.skip(number, &reason),
            Merged::Peer(peer, is_new) => {
                if is_new {
                    self.tally.imported += 1;
                } else {
                    self.tally.known += 1;
                }
                self.changed.insert(peer.principal, *peer);
            }
        }
        if self.changed.len() >= BATCH_WRITES {
            self.commit()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Tally, StoreError> {
        self.commit()?;
        Ok(self.tally)
    }
}

/// A record and what is known of the peer already, in one.
enum Merged {
    Skipped(Unusable),
    /// The peer, and whether the record told anything new.
    Peer(Box<PeerRecord>, bool),
}

fn read(raw: &RawValue) -> Result<(Record, Principal), Unusable> {
    let record = Record::read(raw)?;
    let text = record.required("principal")?;
    let principal = text
        .parse()
        .map_err(|error| Unusable(format!("{} is no principal: {error}", quoted(&text))))?;
    Ok((record, principal))
}

fn locator(text: &str) -> Result<Locator, LocatorError> {
    if text.starts_with('/') {
        text.parse()
    } else {
        Locator::from_host_port(text)
    }
}
