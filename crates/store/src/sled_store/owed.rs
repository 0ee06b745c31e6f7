//! What is still to be delivered: whose, and until when. It is kept in memory, and on disk as a bit for each message, so
//! that many messages which come or go in one commit change one value.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use clawchat_types::Principal;

use super::layout::{first_number, last_number, trees};
use crate::StoreError;
use crate::guarded::Base;
use crate::record;
use crate::record::v1::{OutboxV1, StateV1};
use crate::sealed::HIDDEN_BYTES;

/// Positions in one page. Part of the format. A commit changes one page or two; larger ones would cost it more.
const PAGE_POSITIONS: u64 = 1024;
/// Length of a page, in bytes.
const PAGE_BYTES: usize = 128;
/// Length of the key of one message in format 1, in bytes.
const SINGLE_KEY_BYTES: usize = HIDDEN_BYTES + 8;

/// A message still to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwedMessage {
    pub(crate) to: Principal,
    pub(crate) sequence: u64,
    pub(crate) expires_at: u64,
    /// Whether it has entries of its own in trees `pending` and `expiry`, as format 1 made them, and no bit in a page.
    pub(crate) single: bool,
    /// Whether it has a state. Always so if it is `single`.
    pub(crate) noted: bool,
}

/// What one commit changes: the message by position, or nothing when it is not owed any more.
pub(crate) type OwedChanges = BTreeMap<u64, Option<OwedMessage>>;

/// All messages still to be delivered that are known to be on disk.
#[derive(Default)]
pub(crate) struct Owed {
    messages: BTreeMap<u64, OwedMessage>,
    recipients: BTreeMap<Principal, BTreeSet<u64>>,
    expiries: BTreeSet<(u64, u64)>,
}

impl Owed {
    /// Reads what is owed, of either format. Every message is either owed or has a state, or that is damage.
    pub(crate) fn load(base: &Base) -> Result<Self, StoreError> {
        let mut owed = Self::default();
        let mut without_state = 0;
        let mut add = |position, single| {
            let (message, has_state) = owed_message(base, position, single)?;
            without_state += u64::from(!has_state);
            if let Some(message) = message {
                owed.insert(position, message);
            }
            Ok::<(), StoreError>(())
        };
        for row in base.range(trees::PENDING, &[], None)? {
            let (key, value) = row.map_err(|error| base.engine_error(error))?;
            let content = base.unseal(trees::PENDING, &key, &value)?;
            match (key.len(), last_number(&key), first_number(&key)) {
                (SINGLE_KEY_BYTES, Some(position), _) => add(position, true)?,
                (8, _, Some(number)) => {
                    let page = Page::read(base, content)?;
                    for position in page.positions(number) {
                        add(position, false)?;
                    }
                }
                (_, _, _) => return Err(base.damage("an index has a key of the wrong length")),
            }
        }
        let states = base.durable(trees::OUTBOX_STATE);
        if states.checked_add(without_state) != Some(base.durable(trees::OUTBOX)) {
            return Err(base.damage("the states of some messages are missing"));
        }
        Ok(owed)
    }

    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn get(&self, position: u64) -> Option<&OwedMessage> {
        self.messages.get(&position)
    }

    /// Takes over what a commit changed.
    pub(crate) fn change(&mut self, changes: OwedChanges) {
        for (position, change) in changes {
            self.remove(position);
            if let Some(message) = change {
                self.insert(position, message);
            }
        }
    }

    /// Positions of what is owed to somebody.
    pub(crate) fn to(
        &self,
        recipient: &Principal,
        positions: RangeInclusive<u64>,
    ) -> impl Iterator<Item = u64> {
        let all = self.recipients.get(recipient).filter(|_| !positions.is_empty());
        all.into_iter()
            .flat_map(move |all| all.range(positions.clone()).copied())
    }

    /// To whom something is owed.
    pub(crate) fn recipients(&self) -> impl Iterator<Item = (&Principal, &BTreeSet<u64>)> {
        self.recipients.iter()
    }

    /// Times of expiry with positions, in order, from one behind `after` to the time `end` inclusive.
    pub(crate) fn expiring(&self, after: (u64, u64), end: u64) -> impl Iterator<Item = (u64, u64)> {
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let times = self.expiries.range(behind).copied();
        times.take_while(move |(time, _)| *time <= end)
    }

    fn insert(&mut self, position: u64, message: OwedMessage) {
        self.recipients.entry(message.to).or_default().insert(position);
        self.expiries.insert((message.expires_at, position));
        self.messages.insert(position, message);
    }

    fn remove(&mut self, position: u64) {
        let Some(message) = self.messages.remove(&position) else {
            return;
        };
        self.expiries.remove(&(message.expires_at, position));
        if let Some(positions) = self.recipients.get_mut(&message.to) {
            positions.remove(&position);
            if positions.is_empty() {
                self.recipients.remove(&message.to);
            }
        }
    }
}

/// What an index says is owed, unless its state says that it is not; and whether it has a state.
fn owed_message(base: &Base, position: u64, single: bool) -> Result<(Option<OwedMessage>, bool), StoreError> {
    let key = position.to_be_bytes();
    let (to, sequence, expires_at, has_state) = match base.get(trees::OUTBOX_STATE, &key)? {
        Some(value) => {
            let state: StateV1 = base.record(trees::OUTBOX_STATE, &key, &value)?;
            let status = base.decoded(trees::OUTBOX_STATE, record::status(state.status))?;
            if !crate::model::is_open(status) {
                return Ok((None, true));
            }
            (state.to, state.sequence, state.expires_at, true)
        }
        None => {
            let value = base.get(trees::OUTBOX, &key)?;
            let value = value.ok_or_else(|| base.damage(format!("message {position} is missing")))?;
            let OutboxV1 { message } = base.large(trees::OUTBOX, &key, &value)?;
            (message.to, message.sequence, message.expires_at, false)
        }
    };
    let message = OwedMessage {
        to: base.decoded(trees::OUTBOX, record::principal(&to))?,
        sequence,
        expires_at,
        single,
        noted: has_state,
    };
    Ok((Some(message), has_state))
}

/// A bit for each of [`PAGE_POSITIONS`] positions: whether that message is owed. The lowest bit of a byte comes first.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Page([u8; PAGE_BYTES]);

impl Page {
    pub(crate) const EMPTY: Self = Self([0; PAGE_BYTES]);

    /// The number of the page a position is on.
    pub(crate) fn of(position: u64) -> u64 {
        position / PAGE_POSITIONS
    }

    pub(crate) fn read(base: &Base, bytes: Vec<u8>) -> Result<Self, StoreError> {
        let bytes = bytes.try_into();
        bytes
            .map(Self)
            .map_err(|_| base.damage("a page of what is to be delivered has the wrong length"))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn set(&mut self, position: u64, owed: bool) {
        let at = position % PAGE_POSITIONS;
        let byte = usize::try_from(at / 8).ok().and_then(|byte| self.0.get_mut(byte));
        if let Some(byte) = byte {
            let bit = 1 << (at % 8);
            *byte = if owed { *byte | bit } else { *byte & !bit };
        }
    }

    /// The positions of the page with this number whose bits are set.
    fn positions(&self, number: u64) -> impl Iterator<Item = u64> {
        let first = number.saturating_mul(PAGE_POSITIONS);
        (0_u64..).zip(&self.0).flat_map(move |(byte, bits)| {
            (0..8_u64)
                .filter(move |bit| bits & (1 << bit) != 0)
                .map(move |bit| first.saturating_add(byte * 8 + bit))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_page_gives_back_what_was_set(number in 0_u64..1 << 40, bits in proptest::collection::btree_set(0..PAGE_POSITIONS, 0..80), cleared in 0..PAGE_POSITIONS) {
            let mut page = Page::EMPTY;
            let mut expected: BTreeSet<u64> = bits.iter().map(|bit| number * PAGE_POSITIONS + bit).collect();
            for position in &expected {
                prop_assert_eq!(Page::of(*position), number);
                page.set(*position, true);
            }
            let cleared = number * PAGE_POSITIONS + cleared;
            page.set(cleared, false);
            expected.remove(&cleared);
            let found: BTreeSet<u64> = page.positions(number).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_on_disk_stays_readable() {
        let mut page = Page::EMPTY;
        for position in [1024, 1025, 1032, 2047] {
            page.set(position, true);
        }
        let mut expected = [0; 128];
        (expected[0], expected[1], expected[127]) = (3, 1, 128);
        assert_eq!(page.bytes(), expected);
        assert_eq!(Page::of(2047), 1);
    }
}
