//! What is noted of neighbours: how far their logs are known, and their keys.

use clawchat_types::NodeId;

use super::layout::{arrival_in, cursor_name, trees};
use super::plan::Plan;
use crate::StoreError;
use crate::channel_log::LogOutcome;
use crate::channel_log::write::{MAX_CURSORS, MAX_KEYS};
use crate::guarded::Tree;
use crate::record::channel_v1::{CursorV1, KeyV1};

impl Plan<'_, '_> {
    pub(super) fn set_cursor(
        &mut self,
        peer: &str,
        channel: &str,
        id: &str,
    ) -> Result<LogOutcome, StoreError> {
        let key = self.base.keys.hide(&cursor_name(peer, channel));
        let full = self.batch.meta.count(trees::CURSORS) >= MAX_CURSORS;
        if full && self.batch.current(trees::CURSORS, &key)?.is_none() {
            // Keys are as good as random: whoever is next to this one goes.
            let victim = self.first_cursor(&key)?;
            let victim = match victim {
                Some(victim) => Some(victim),
                None => self.first_cursor(&[])?,
            };
            if let Some(victim) = victim {
                self.batch.remove(trees::CURSORS, &victim)?;
            }
        }
        let record = CursorV1 {
            peer: peer.to_owned(),
            channel: channel.to_owned(),
            id: id.to_owned(),
        };
        self.batch.set_record(trees::CURSORS, &key, &record)?;
        Ok(LogOutcome::Done)
    }

    pub(super) fn remember_key(&mut self, id: &str, key: NodeId) -> Result<LogOutcome, StoreError> {
        let hidden = self.base.keys.hide(id.as_bytes());
        if let Some(value) = self.batch.current(trees::KEYS, &hidden)? {
            let known: KeyV1 = self.base.record(trees::KEYS, &hidden, &value)?;
            let known = NodeId::new(known.key);
            return Ok(if known == key {
                LogOutcome::Done
            } else {
                LogOutcome::OtherKey(known)
            });
        }
        if self.batch.meta.count(trees::KEYS) >= MAX_KEYS
            && let Some(oldest) = self.first_there(trees::KEY_ORDER, &[])?
            && let Some(value) = self.batch.current(trees::KEY_ORDER, &oldest)?
        {
            let hidden = self.base.unseal(trees::KEY_ORDER, &oldest, &value)?;
            self.batch.remove(trees::KEY_ORDER, &oldest)?;
            self.batch.remove(trees::KEYS, &hidden)?;
        }
        let number = match self.next_key {
            Some(number) => number,
            None => {
                let last = self.base.last(trees::KEY_ORDER, &[], &[0xff; 8])?;
                last.and_then(|(key, _)| arrival_in(&key)).unwrap_or(0) + 1
            }
        };
        self.next_key = Some(number + 1);
        let record = KeyV1 {
            id: id.to_owned(),
            key: *key.as_bytes(),
            number,
        };
        self.batch.set_record(trees::KEYS, &hidden, &record)?;
        self.batch
            .set(trees::KEY_ORDER, &number.to_be_bytes(), &[&hidden], true)?;
        Ok(LogOutcome::Done)
    }

    /// The first cursor from `start` on that this batch leaves there and that is a neighbour's: notes under no name are
    /// not, so no neighbour makes them go.
    fn first_cursor(&self, start: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        for row in self.base.range(trees::CURSORS, start, None)? {
            let (key, _) = row.map_err(|error| self.base.engine_error(error))?;
            if let Some(value) = self.batch.current(trees::CURSORS, &key)? {
                let record: CursorV1 = self.base.record(trees::CURSORS, &key, &value)?;
                if !record.peer.is_empty() {
                    return Ok(Some(key.to_vec()));
                }
            }
        }
        Ok(None)
    }

    /// The first key from `start` on that this batch leaves there.
    fn first_there(&self, tree: Tree, start: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        for row in self.base.range(tree, start, None)? {
            let (key, _) = row.map_err(|error| self.base.engine_error(error))?;
            if self.batch.current(tree, &key)?.is_some() {
                return Ok(Some(key.to_vec()));
            }
        }
        Ok(None)
    }
}
