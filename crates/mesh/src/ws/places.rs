//! How many connections are accepted, in total and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts the connections that are open.
#[derive(Debug)]
pub(super) struct Places {
    total: usize,
    per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    /// Addresses with at least one; so at most as many as there are connections.
    by_address: HashMap<IpAddr, usize>,
}

/// A place for one connection, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Places>,
    key: IpAddr,
}

impl Places {
    pub(super) fn new(total: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            per_address,
            taken: Mutex::default(),
        })
    }

    /// A place for a connection from there, if there is one.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let key = network(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = taken.by_address.get(&key).copied().unwrap_or_default();
        if taken.total >= self.total || of_address >= self.per_address {
            return None;
        }
        taken.total += 1;
        taken.by_address.insert(key, of_address + 1);
        Some(Place {
            of: Arc::clone(self),
            key,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.key);
            }
        }
    }
}

/// What counts as one address: whoever has one of IPv6 has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_place_and_places_come_back() {
        let places = Places::new(3, 2);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = places.take(address("2001:db8::1")).unwrap();
        let _second = places.take(address("2001:db8::ffff:1")).unwrap();
        assert!(places.take(address("2001:db8::2")).is_none());
        let _third = places.take(address("192.0.2.1")).unwrap();
        assert!(places.take(address("192.0.2.2")).is_none());
        drop(first);
        let _fourth = places.take(address("::ffff:192.0.2.1")).unwrap();
        assert!(places.take(address("::ffff:192.0.2.1")).is_none());
        assert_eq!(places.taken.lock().unwrap().by_address.len(), 2);
    }
}
