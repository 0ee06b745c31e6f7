//! Room for contacts: how many sessions peers may hold that nobody here knows.
//!
//! A list that admits everybody admits whoever makes a thousand wallets, and a connection with a session is not given up
//! for a newcomer. So sessions with strangers are the ones that end when there are too many, the oldest of the busiest
//! address first; their connections then count as unused and make room by themselves.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Of all connections, the part that sessions of strangers may hold: one in this many.
const STRANGERS_SHARE: usize = 2;
/// Of all connections, the part that is kept free of them whatever contacts hold: one in this many.
const RESERVE_SHARE: usize = 8;

/// How many sessions strangers may hold beside so many of contacts, on a gateway with so many connections.
pub(super) fn allowed(connections: usize, contacts: usize) -> usize {
    let left = connections
        .saturating_sub(connections / RESERVE_SHARE)
        .saturating_sub(contacts);
    left.min(connections / STRANGERS_SHARE)
}

/// Sessions with strangers, the oldest first. `T` is a session.
#[derive(Debug)]
pub(super) struct Crowd<T> {
    entries: VecDeque<(Option<IpAddr>, T)>,
}

impl<T> Default for Crowd<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
        }
    }
}

impl<T> Crowd<T> {
    /// One more, from that host. Those that come through relays count as one host: nobody knows where they are.
    pub(super) fn enter(&mut self, host: Option<IpAddr>, session: T) {
        self.entries.push_back((host, session));
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.entries.retain(|(_, session)| keep(session));
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes out who has to go first: the oldest of the host that has the most of them.
    pub(super) fn pop(&mut self) -> Option<T> {
        let mut per_host: HashMap<Option<IpAddr>, usize> = HashMap::new();
        for (host, _) in &self.entries {
            *per_host.entry(*host).or_default() += 1;
        }
        let busiest = per_host.values().max().copied();
        let index = self
            .entries
            .iter()
            .position(|(host, _)| per_host.get(host).copied() == busiest)?;
        self.entries.remove(index).map(|(_, session)| session)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_busiest_address_loses_its_oldest() {
        let host = |last: u8| Some(IpAddr::from([192, 0, 2, last]));
        let mut crowd = Crowd::default();
        for (session, from) in [host(1), host(2), host(2), None, host(2), None]
            .into_iter()
            .enumerate()
        {
            crowd.enter(from, session);
        }
        // Three of 2, then two each of 2 and of those behind relays, then one of each.
        let order: Vec<usize> = std::iter::from_fn(|| crowd.pop()).collect();
        assert_eq!(order, [1, 2, 3, 0, 4, 5]);
    }

    proptest! {
        #[test]
        fn there_is_always_room_for_contacts(connections in 1_usize..2000, contacts in 0_usize..2000) {
            let strangers = allowed(connections, contacts);
            prop_assert!(strangers <= connections / 2);
            prop_assert!(strangers == 0 || contacts + strangers + connections / 8 <= connections);
            // A gateway without contacts still serves strangers.
            prop_assert!(connections < 2 || allowed(connections, 0) > 0);
        }
    }
}
