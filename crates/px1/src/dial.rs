//! How often an address may be dialed, whoever says that a principal is there.

use std::collections::BTreeMap;
use std::time::Duration;

use clawchat_types::{Locator, Moment, Principal};

use crate::bucket::Bucket;

/// Dials to one host in a minute, for all principals together that have never been met there.
pub const DIALS_PER_HOST: u32 = 10;
/// Dials for one principal in a minute, over all its addresses.
pub const DIALS_PER_PRINCIPAL: u32 = 20;
/// Pause after the first failure at an address, for all principals together; it doubles with each further one.
pub const DIAL_BACKOFF_FIRST: Duration = Duration::from_secs(5);
/// Longest pause.
pub const DIAL_BACKOFF_MAX: Duration = Duration::from_secs(5 * 60);

const MINUTE: Duration = Duration::from_secs(60);
/// Hosts, addresses, principals and proven places remembered, each. When one more comes, the one used longest ago is
/// forgotten.
const MAX_TRACKED: usize = 4096;
/// How long something unused is remembered.
const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);

/// Why an address is not to be dialed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The host was dialed too often for people who have not been met there. Until then: [`Moment::mono`].
    Host(Duration),
    /// The principal's addresses were dialed too often.
    Principal(Duration),
    /// Dialing this very address failed before; it rests until then.
    Resting(Duration),
}

impl Held {
    /// Until when: [`Moment::mono`].
    #[must_use]
    pub fn until(self) -> Duration {
        match self {
            Self::Host(until) | Self::Principal(until) | Self::Resting(until) => until,
        }
    }
}

/// Bounds on dialing, shared by everybody who dials.
///
/// Cards are signed by their owners, so a stranger can make us dial any address only in its own name. These bounds
/// keep that harmless: a host is dialed at most [`DIALS_PER_HOST`] times a minute for principals that were never met
/// there, a principal's addresses at most [`DIALS_PER_PRINCIPAL`] times, and an address that fails rests for everybody.
/// A principal that was met at a host is not slowed down by what others claim about that host.
#[derive(Debug, Default)]
pub struct DialGuard {
    hosts: Tracked<String, Bucket>,
    principals: Tracked<Principal, Bucket>,
    /// Of everybody together at an address, except of those who were met at that host: they have their own.
    failures: Tracked<(Option<Principal>, String), Failures>,
    proven: Tracked<(Principal, String), ()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    in_a_row: u32,
    rest_until: Duration,
}

impl DialGuard {
    /// Nothing has been dialed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to dial an address for a principal, and counts it if that is fine.
    ///
    /// # Errors
    /// [`Held`]: not now, and why.
    pub fn admit(&mut self, principal: &Principal, locator: &Locator, now: Moment) -> Result<(), Held> {
        let now = now.mono;
        let host = host(locator);
        let (proven, place) = self.place_of(principal, locator, now);
        if let Some(failures) = self.failures.touch(&place, now)
            && now < failures.rest_until
        {
            return Err(Held::Resting(failures.rest_until));
        }
        let per_minute = |limit: u32| Bucket::new(limit, MINUTE / limit);
        let of_principal = self
            .principals
            .entry(*principal, now, || per_minute(DIALS_PER_PRINCIPAL));
        if of_principal.ready_at() > now {
            return Err(Held::Principal(of_principal.ready_at()));
        }
        if !proven {
            let of_host = self.hosts.entry(host, now, || per_minute(DIALS_PER_HOST));
            if of_host.take(1, now) == 0 {
                return Err(Held::Host(of_host.ready_at()));
            }
        }
        of_principal.take(1, now);
        Ok(())
    }

    /// Nobody answered there, or somebody else than was expected. Returns until when it rests: [`Moment::mono`].
    pub fn failed(&mut self, principal: &Principal, locator: &Locator, now: Moment) -> Duration {
        let (_, place) = self.place_of(principal, locator, now.mono);
        let failures = self.failures.entry(place, now.mono, Failures::default);
        let pause = DIAL_BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(failures.in_a_row));
        failures.in_a_row = failures.in_a_row.saturating_add(1);
        failures.rest_until = now.mono.saturating_add(pause.min(DIAL_BACKOFF_MAX));
        failures.rest_until
    }

    /// The principal proved itself there.
    pub fn succeeded(&mut self, principal: &Principal, locator: &Locator, now: Moment) {
        self.failures.remove(&(None, place(locator)));
        self.failures.remove(&(Some(*principal), place(locator)));
        self.proven.entry((*principal, host(locator)), now.mono, || ());
    }

    /// Whether the principal was met at that host, and where its failures are counted.
    fn place_of(
        &mut self,
        principal: &Principal,
        locator: &Locator,
        now: Duration,
    ) -> (bool, (Option<Principal>, String)) {
        let proven = self.proven.touch(&(*principal, host(locator)), now).is_some();
        (proven, (proven.then_some(*principal), place(locator)))
    }
}

/// What is dialed first: an IP address (of IPv6 its network of 64 bits, which one person can have whole), a name, or
/// a peer.
fn host(locator: &Locator) -> String {
    match locator.ip() {
        Some(std::net::IpAddr::V6(ip)) => match ip.to_ipv4_mapped() {
            Some(ip) => ip.to_string(),
            None => ip.segments()[..4]
                .iter()
                .map(|part| format!("{part:x}:"))
                .collect(),
        },
        Some(ip) => ip.to_string(),
        None => {
            let name = locator.as_str().split('/').nth(2).unwrap_or_default();
            if locator.as_str().starts_with("/p2p/") {
                name.to_owned()
            } else {
                name.trim_end_matches('.').to_ascii_lowercase()
            }
        }
    }
}

/// The address without the peer that is said to be there, so that naming others does not make it a new one.
fn place(locator: &Locator) -> String {
    let text = locator.as_str();
    if locator.is_relayed() {
        // The relay may work and the peer behind it be away: these are different places.
        return text.to_owned();
    }
    text.split("/p2p/").next().unwrap_or(text).to_ascii_lowercase()
}

/// A map that forgets what was used longest ago.
#[derive(Debug)]
struct Tracked<K, V> {
    entries: BTreeMap<K, (Duration, V)>,
}

impl<K, V> Default for Tracked<K, V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone, V> Tracked<K, V> {
    fn touch(&mut self, key: &K, now: Duration) -> Option<&mut V> {
        let (used, value) = self.entries.get_mut(key)?;
        *used = now;
        Some(value)
    }

    fn entry(&mut self, key: K, now: Duration, new: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(&key) && self.entries.len() >= MAX_TRACKED {
            self.make_room(now);
        }
        let (used, value) = self.entries.entry(key).or_insert_with(|| (now, new()));
        *used = now;
        value
    }

    fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    fn make_room(&mut self, now: Duration) {
        self.entries
            .retain(|_, (used, _)| now < used.saturating_add(FORGET_AFTER));
        if self.entries.len() >= MAX_TRACKED {
            let oldest = self
                .entries
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
            }
        }
    }
}
