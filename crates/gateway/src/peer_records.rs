//! The peers an identity knows: their records change one at a time, and their aliases are found without the disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clawchat_store::{Outcome, PeerRecord, StoreError, StoreHandle, Write};
use clawchat_types::Principal;

/// The peers of one identity, as far as they are not in its store alone.
pub(crate) struct PeerRecords {
    store: StoreHandle,
    changes: tokio::sync::Mutex<()>,
    /// Aliases and whom they mean; as many as there are peers in the store.
    aliases: Mutex<BTreeMap<String, Principal>>,
}

impl PeerRecords {
    /// Those in `store`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn of(store: StoreHandle) -> Result<Self, StoreError> {
        let peers = store.store().peers()?;
        let aliases = peers
            .into_iter()
            .filter_map(|peer| Some((peer.alias?, peer.principal)))
            .collect();
        Ok(Self {
            store,
            changes: tokio::sync::Mutex::default(),
            aliases: Mutex::new(aliases),
        })
    }

    /// Whom an alias means.
    pub(crate) fn named(&self, alias: &str) -> Option<Principal> {
        self.aliases().get(alias).copied()
    }

    /// The turn to change records: from reading one until its change is written.
    pub(crate) async fn turn(&self) -> PeerTurn<'_> {
        PeerTurn {
            records: self,
            _turn: self.changes.lock().await,
        }
    }

    /// Makes `principal` known by `alias` and no other.
    fn rename(&self, principal: &Principal, alias: Option<String>) {
        let mut aliases = self.aliases();
        aliases.retain(|_, holder| holder != principal);
        if let Some(alias) = alias {
            aliases.insert(alias, *principal);
        }
    }

    fn aliases(&self) -> MutexGuard<'_, BTreeMap<String, Principal>> {
        self.aliases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to change records; nobody else does meanwhile.
pub(crate) struct PeerTurn<'a> {
    records: &'a PeerRecords,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

impl PeerTurn<'_> {
    /// Remembers a peer; replaces the whole record.
    ///
    /// # Errors
    /// As [`StoreHandle::submit`].
    pub(crate) async fn put(&self, record: PeerRecord) -> Result<(), StoreError> {
        let (principal, alias) = (record.principal, record.alias.clone());
        self.write(principal, alias, Write::PutPeer(record)).await?;
        Ok(())
    }

    /// Forgets a peer. Returns whether it was known.
    ///
    /// # Errors
    /// As [`StoreHandle::submit`].
    pub(crate) async fn remove(&self, principal: Principal) -> Result<bool, StoreError> {
        let outcome = self.write(principal, None, Write::RemovePeer(principal)).await?;
        Ok(outcome == Outcome::Done)
    }

    async fn write(
        &self,
        principal: Principal,
        alias: Option<String>,
        write: Write,
    ) -> Result<Outcome, StoreError> {
        // Before the write: it is not taken back when whoever waits for it goes away.
        self.records.rename(&principal, alias);
        let result = self.records.store.submit(write).await;
        if result.is_err() {
            let kept = self.records.store.store().peer(&principal).ok().flatten();
            self.records.rename(&principal, kept.and_then(|peer| peer.alias));
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clawchat_store::MemoryStore;

    use super::*;

    const ALICE: &str = "stacks:ST1PQHQKV0RJXZFY1DGX8MNSNYVE3VGZJSRTPGZGM";
    const BOB: &str = "stacks:ST2CY5V39NHDPWSXMW9QDT3HC3GD6Q6XX4CFRK9AG";

    fn peer(principal: &str, alias: Option<&str>) -> PeerRecord {
        PeerRecord {
            alias: alias.map(str::to_owned),
            ..PeerRecord::new(principal.parse().unwrap())
        }
    }

    #[tokio::test]
    async fn aliases_follow_the_records() {
        let store = StoreHandle::start(Arc::new(MemoryStore::new())).unwrap();
        store
            .submit(Write::PutPeer(peer(ALICE, Some("ally"))))
            .await
            .unwrap();
        let records = PeerRecords::of(store.clone()).unwrap();
        let principal = |text: &str| text.parse::<Principal>().ok();
        assert_eq!(records.named("ally"), principal(ALICE));

        let turn = records.turn().await;
        turn.put(peer(ALICE, Some("alice"))).await.unwrap();
        turn.put(peer(BOB, Some("bob"))).await.unwrap();
        assert_eq!(records.named("ally"), None);
        assert_eq!(records.named("alice"), principal(ALICE));
        assert!(turn.remove(principal(BOB).unwrap()).await.unwrap());
        assert!(!turn.remove(principal(BOB).unwrap()).await.unwrap());
        assert_eq!(records.named("bob"), None);
        assert_eq!(store.store().peers().unwrap().len(), 1);

        let long = "x".repeat(clawchat_store::MAX_ALIAS_BYTES + 1);
        assert!(turn.put(peer(ALICE, Some(&long))).await.is_err());
        assert_eq!(records.named(&long), None);
        assert_eq!(records.named("alice"), principal(ALICE));
    }
}
