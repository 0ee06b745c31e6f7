//! Reading. What should be there and is not, is damage.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use clawchat_types::{MessageId, Principal, UnixMillis};

use super::layout::{last_number, trees};
use super::owed::Owed;
use crate::guarded::{Base, Bytes, Tree};
use crate::record;
use crate::record::v1::{ConversationV1, InboxV1, OutboxV1, StateV1};
use crate::record::v2::PeerV2;
use crate::store::PageBudget;
use crate::{AttemptState, InboxEntry, OutboxEntry, PeerRecord, StoreError};

/// Messages still to be delivered that are looked up at a time.
const LOOK_AHEAD: usize = 64;

fn read(owed: &RwLock<Owed>) -> RwLockReadGuard<'_, Owed> {
    owed.read().unwrap_or_else(PoisonError::into_inner)
}

impl Base {
    pub(crate) fn inbox(&self, after: u64, limit: usize) -> Result<Vec<InboxEntry>, StoreError> {
        let mut page = Vec::new();
        let mut budget = PageBudget::default();
        for numbered in self.numbered(trees::INBOX, after, limit)? {
            let (arrival, value) = numbered?;
            let entry = self.inbox_entry(arrival, &value)?;
            if !budget.admits(&entry.message, entry.proof.as_ref()) {
                break;
            }
            page.push(entry);
        }
        Ok(page)
    }

    pub(crate) fn outbox(
        &self,
        owed: &RwLock<Owed>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        let mut page = Vec::new();
        let mut budget = PageBudget::default();
        for numbered in self.numbered(trees::OUTBOX, after, limit)? {
            let (position, value) = numbered?;
            let entry = self.outbox_entry(owed, position, &value)?;
            if !budget.admits(&entry.message, None) {
                break;
            }
            page.push(entry);
        }
        Ok(page)
    }

    /// The durable values behind `after` of a tree numbered without gaps.
    fn numbered(
        &self,
        tree: Tree,
        after: u64,
        limit: usize,
    ) -> Result<impl Iterator<Item = Result<(u64, Vec<u8>), StoreError>> + '_, StoreError> {
        let last = self
            .durable(tree)
            .min(after.saturating_add(u64::try_from(limit).unwrap_or(u64::MAX)));
        let first = after.saturating_add(1);
        let mut rows = self.range(tree, &first.to_be_bytes(), Some(&last.to_be_bytes()))?;
        Ok((first..=last).map(move |number| match rows.next() {
            Some(Ok((key, value))) if key.as_ref() == number.to_be_bytes() => Ok((number, value.to_vec())),
            Some(Err(error)) => Err(self.engine_error(error)),
            Some(Ok(_)) | None => {
                Err(self.damage(format!("number {number} of \"{}\" is missing", tree.name())))
            }
        }))
    }

    pub(crate) fn arrival_at(&self, time: UnixMillis) -> Result<u64, StoreError> {
        let meta = self.published();
        let (mut low, mut high) = (0, meta.count(trees::INBOX));
        if meta.noted <= time.0 {
            return Ok(high);
        }
        // Entries up to `low` are old enough, those from `high + 1` on are not.
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let key = middle.to_be_bytes();
            let head = self.head(trees::INBOX, &key, &self.present(trees::INBOX, middle)?)?;
            if self.decoded(trees::INBOX, record::decode_received_at(&head.start))? <= time {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(low)
    }

    pub(crate) fn inbox_by_id(&self, id: &MessageId) -> Result<Vec<InboxEntry>, StoreError> {
        let durable = self.durable(trees::INBOX);
        let end = [id.as_bytes().as_slice(), &[0xff; 16]].concat();
        let mut arrivals = Vec::new();
        for row in self.range(trees::INBOX_IDS, id.as_bytes(), Some(&end))? {
            let (key, value) = row.map_err(|error| self.engine_error(error))?;
            arrivals.push(self.number(trees::INBOX_IDS, &key, &value)?);
        }
        arrivals.retain(|arrival| *arrival <= durable);
        arrivals.sort_unstable();
        arrivals
            .into_iter()
            .map(|arrival| self.inbox_at(arrival))
            .collect()
    }

    pub(crate) fn unread(&self, after: u64, limit: usize) -> Result<Vec<InboxEntry>, StoreError> {
        let durable = self.durable(trees::INBOX);
        let first = after.saturating_add(1);
        let mut page = Vec::new();
        if first > durable {
            return Ok(page);
        }
        let mut budget = PageBudget::default();
        let rows = self.range(trees::UNREAD, &first.to_be_bytes(), Some(&durable.to_be_bytes()))?;
        for row in rows.take(limit) {
            let (key, value) = row.map_err(|error| self.engine_error(error))?;
            self.unseal(trees::UNREAD, &key, &value)?;
            let entry = self.inbox_at(self.key_number(&key)?)?;
            if !budget.admits(&entry.message, entry.proof.as_ref()) {
                break;
            }
            page.push(entry);
        }
        Ok(page)
    }

    pub(crate) fn outbox_by_id(
        &self,
        owed: &RwLock<Owed>,
        id: &MessageId,
    ) -> Result<Option<OutboxEntry>, StoreError> {
        let Some(value) = self.get(trees::OUTBOX_IDS, id.as_bytes())? else {
            return Ok(None);
        };
        let position = self.number(trees::OUTBOX_IDS, id.as_bytes(), &value)?;
        if position > self.durable(trees::OUTBOX) {
            return Ok(None);
        }
        self.outbox_at(owed, position).map(Some)
    }

    pub(crate) fn pending(
        &self,
        owed: &RwLock<Owed>,
        to: &Principal,
        after: u64,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        let durable = self.durable(trees::OUTBOX);
        self.open_entries(owed, after, limit, |owed, after| {
            let positions = after.saturating_add(1)..=durable;
            let found = owed.to(to, positions).take(LOOK_AHEAD);
            found.map(|position| (position, position)).collect()
        })
    }

    pub(crate) fn has_pending(&self, owed: &RwLock<Owed>, to: &Principal) -> bool {
        let durable = self.durable(trees::OUTBOX);
        read(owed).to(to, 0..=durable).next().is_some()
    }

    pub(crate) fn due_expiries(
        &self,
        owed: &RwLock<Owed>,
        now: UnixMillis,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        let durable = self.durable(trees::OUTBOX);
        self.open_entries(owed, (0, 0), limit, |owed, after| {
            let found = owed.expiring(after, now.0);
            let found = found.filter(|(_, position)| *position <= durable);
            let found = found.take(LOOK_AHEAD);
            found.map(|place| (place, place.1)).collect()
        })
    }

    /// Messages still to be delivered, a few at a time: `next` says where they are, behind such a place, each with its
    /// position.
    fn open_entries<P: Copy>(
        &self,
        owed: &RwLock<Owed>,
        mut after: P,
        limit: usize,
        next: impl Fn(&Owed, P) -> Vec<(P, u64)>,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        let mut page = Vec::new();
        let mut budget = PageBudget::default();
        loop {
            let found = next(&read(owed), after);
            if found.is_empty() {
                return Ok(page);
            }
            for (place, position) in found {
                if page.len() >= limit {
                    return Ok(page);
                }
                after = place;
                let entry = self.outbox_at(owed, position)?;
                // It may have been delivered since it was found.
                if !entry.is_open() {
                    continue;
                }
                if !budget.admits(&entry.message, None) {
                    return Ok(page);
                }
                page.push(entry);
            }
        }
    }

    pub(crate) fn pending_recipients(&self, owed: &RwLock<Owed>) -> Vec<Principal> {
        let durable = self.durable(trees::OUTBOX);
        let owed = read(owed);
        // The first message may be on its way to being shown.
        let shown = owed
            .recipients()
            .filter(|(_, positions)| positions.first().is_some_and(|first| *first <= durable));
        shown.map(|(recipient, _)| *recipient).collect()
    }

    pub(crate) fn pending_count(&self, owed: &RwLock<Owed>, to: &Principal) -> u64 {
        let durable = self.durable(trees::OUTBOX);
        let count = read(owed).to(to, 0..=durable).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    pub(crate) fn attempt_state(&self, to: &Principal) -> Result<Option<AttemptState>, StoreError> {
        let Some(conversation) = self.conversation(to)? else {
            return Ok(None);
        };
        self.decoded(trees::CONVERSATIONS, record::attempt_state(conversation))
    }

    fn conversation(&self, to: &Principal) -> Result<Option<ConversationV1>, StoreError> {
        let key = self.keys.hide(&to.to_bytes());
        let Some(value) = self.get(trees::CONVERSATIONS, &key)? else {
            return Ok(None);
        };
        self.record(trees::CONVERSATIONS, &key, &value).map(Some)
    }

    pub(crate) fn next_expiry(&self, owed: &RwLock<Owed>) -> Option<UnixMillis> {
        let durable = self.durable(trees::OUTBOX);
        let owed = read(owed);
        let mut expiring = owed.expiring((0, 0), u64::MAX);
        let next = expiring.find(|(_, position)| *position <= durable);
        next.map(|(time, _)| UnixMillis(time))
    }

    pub(crate) fn peers(&self) -> Result<Vec<PeerRecord>, StoreError> {
        let before = self.at_rest();
        let mut peers = Vec::new();
        for row in self.range(trees::PEERS, &[], None)? {
            let (key, value) = row.map_err(|error| self.engine_error(error))?;
            peers.extend(self.peer_record(&key, value)?);
        }
        // Their number is known only if nobody wrote meanwhile.
        if let (Some(before), Some(after)) = (before, self.at_rest())
            && before.commit == after.commit
            && u64::try_from(peers.len()) != Ok(after.count(trees::PEERS))
        {
            return Err(self.damage("peers are missing"));
        }
        peers.sort_by_key(|peer| peer.principal);
        Ok(peers)
    }

    pub(crate) fn peer(&self, principal: &Principal) -> Result<Option<PeerRecord>, StoreError> {
        let key = self.keys.hide(&principal.to_bytes());
        match self.get(trees::PEERS, &key)? {
            Some(value) => self.peer_record(&key, value),
            None => Ok(None),
        }
    }

    /// A peer whose main value was `value` a moment ago. Peers are the records that change: one in pieces may be
    /// replaced while it is put together.
    fn peer_record(&self, key: &[u8], mut value: Bytes) -> Result<Option<PeerRecord>, StoreError> {
        loop {
            let record: Result<PeerV2, _> = self.large(trees::PEERS, key, &value);
            let error = match record.and_then(|record| self.decoded(trees::PEERS, record::peer(record))) {
                Ok(peer) => return Ok(Some(peer)),
                Err(error) => error,
            };
            match self.get(trees::PEERS, key)? {
                Some(current) if current == value => return Err(error),
                Some(current) => value = current,
                None => return Ok(None),
            }
        }
    }

    /// A value that must be there.
    fn present(&self, tree: Tree, number: u64) -> Result<Vec<u8>, StoreError> {
        match self.get(tree, &number.to_be_bytes())? {
            Some(value) => Ok(value.to_vec()),
            None => Err(self.damage(format!("number {number} of \"{}\" is missing", tree.name()))),
        }
    }

    fn inbox_at(&self, arrival: u64) -> Result<InboxEntry, StoreError> {
        self.inbox_entry(arrival, &self.present(trees::INBOX, arrival)?)
    }

    fn inbox_entry(&self, arrival: u64, value: &[u8]) -> Result<InboxEntry, StoreError> {
        let key = arrival.to_be_bytes();
        let record: InboxV1 = self.large(trees::INBOX, &key, value)?;
        let unread = match self.get(trees::UNREAD, &key)? {
            Some(value) => self.unseal(trees::UNREAD, &key, &value).map(|_| true)?,
            None => false,
        };
        self.decoded(trees::INBOX, record::inbox_entry(arrival, record, unread))
    }

    fn outbox_at(&self, owed: &RwLock<Owed>, position: u64) -> Result<OutboxEntry, StoreError> {
        self.outbox_entry(owed, position, &self.present(trees::OUTBOX, position)?)
    }

    fn outbox_entry(
        &self,
        owed: &RwLock<Owed>,
        position: u64,
        value: &[u8],
    ) -> Result<OutboxEntry, StoreError> {
        let key = position.to_be_bytes();
        let record: OutboxV1 = self.large(trees::OUTBOX, &key, value)?;
        let is_noted = read(owed).get(position).is_none_or(|owed| owed.noted);
        let state = if is_noted {
            let state = self.present(trees::OUTBOX_STATE, position)?;
            self.record(trees::OUTBOX_STATE, &key, &state)?
        } else {
            StateV1::first(&record.message)
        };
        self.decoded(trees::OUTBOX, record::outbox_entry(position, record, state))
    }

    fn key_number(&self, key: &[u8]) -> Result<u64, StoreError> {
        last_number(key).ok_or_else(|| self.damage("an index has a key of the wrong length"))
    }
}
