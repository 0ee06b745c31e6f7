//! Whom to dial and when: no clock, no sockets.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use clawchat_mesh::{PeerName, WsUrl};

/// First pause before a peer is dialed again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause, jitter not counted.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A link that stood for this long was not a failure, however it ended.
pub(super) const STOOD_WELL: Duration = Duration::from_secs(30);

/// The peers of a list, and which of them are links or are to be.
#[derive(Debug, Default)]
pub(super) struct Rota {
    /// As many as were listed, and those that are linked still.
    places: BTreeMap<WsUrl, Place>,
}

#[derive(Debug)]
struct Place {
    peer: PeerName,
    /// Dialed or linked at the moment.
    busy: bool,
    /// No longer listed: gone when the link ends.
    leaving: bool,
    failures: u32,
    not_before: Duration,
}

impl Rota {
    /// Takes a new list in place of the last one. What is linked stays.
    pub(super) fn list(&mut self, peers: Vec<(PeerName, WsUrl)>) {
        let mut listed: HashMap<WsUrl, PeerName> = peers.into_iter().map(|(peer, url)| (url, peer)).collect();
        self.places.retain(|url, place| {
            let peer = listed.remove(url);
            place.leaving = peer.is_none();
            if let Some(peer) = peer {
                place.peer = peer;
            }
            place.busy || !place.leaving
        });
        for (url, peer) in listed {
            let place = Place {
                peer,
                busy: false,
                leaving: false,
                failures: 0,
                not_before: Duration::ZERO,
            };
            self.places.insert(url, place);
        }
    }

    /// Whom to dial now, so that `wanted` of the list are linked, whoever opened the link: `connected` are all peers
    /// that are. Those that failed least come first, among equals `seed` decides.
    pub(super) fn next(
        &mut self,
        wanted: usize,
        connected: &HashSet<PeerName>,
        seed: u64,
        now: Duration,
    ) -> Vec<WsUrl> {
        let linked = |place: &Place| place.busy || connected.contains(&place.peer);
        let count = self.places.values().filter(|place| linked(place)).count();
        let mut free: Vec<(u32, u64, &WsUrl)> = self
            .places
            .iter()
            .filter(|(_, place)| !linked(place) && place.not_before <= now)
            .zip(1..)
            .map(|((url, place), number)| (place.failures, shuffled(seed, number), url))
            .collect();
        free.sort_unstable();
        let chosen: Vec<WsUrl> = free
            .into_iter()
            .take(wanted.saturating_sub(count))
            .map(|(_, _, url)| url.clone())
            .collect();
        for url in &chosen {
            if let Some(place) = self.places.get_mut(url) {
                place.busy = true;
            }
        }
        chosen
    }

    /// A peer that [`Self::next`] named is not linked any more, or never was; it `stood` for that long.
    pub(super) fn ended(&mut self, url: &WsUrl, stood: Duration, seed: u64, now: Duration) {
        let Some(place) = self.places.get_mut(url) else {
            return;
        };
        if place.leaving {
            self.places.remove(url);
            return;
        }
        place.busy = false;
        if stood >= STOOD_WELL {
            place.failures = 0;
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1 << place.failures.min(16))
            .min(LONGEST_PAUSE);
        place.not_before = now + jittered(pause, seed);
        place.failures = place.failures.saturating_add(1);
    }

    /// When somebody may be dialed again who had to wait.
    pub(super) fn next_time(&self, now: Duration) -> Option<Duration> {
        self.places
            .values()
            .filter(|place| !place.busy && place.not_before > now)
            .map(|place| place.not_before)
            .min()
    }
}

/// Between three quarters and five quarters of it.
pub(super) fn jittered(pause: Duration, seed: u64) -> Duration {
    let spread = u32::try_from(seed % 512).unwrap_or(256);
    pause * (768 + spread) / 1024
}

/// A number that looks random for each `number` (SplitMix64).
fn shuffled(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerName {
        name.parse().unwrap()
    }

    fn url(name: &str) -> WsUrl {
        format!("ws://{name}.example").parse().unwrap()
    }

    fn rota(count: usize) -> Rota {
        let mut rota = Rota::default();
        rota.list(names(count));
        rota
    }

    fn names(count: usize) -> Vec<(PeerName, WsUrl)> {
        (0..count)
            .map(|number| (peer(&format!("p{number}")), url(&format!("p{number}"))))
            .collect()
    }

    const NOBODY: fn() -> HashSet<PeerName> = HashSet::new;
    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn no_more_are_dialed_than_wanted_and_those_linked_by_others_count() {
        let mut rota = rota(20);
        let connected: HashSet<PeerName> = [peer("p3"), peer("p4"), peer("stranger")].into();
        let chosen = rota.next(8, &connected, 7, NOW);
        assert_eq!(chosen.len(), 6);
        assert!(!chosen.contains(&url("p3")) && !chosen.contains(&url("p4")));
        assert!(rota.next(8, &connected, 8, NOW).is_empty());
        // Whoever connected to us has gone.
        assert_eq!(rota.next(8, &NOBODY(), 9, NOW).len(), 2);
    }

    #[test]
    fn different_seeds_choose_different_peers() {
        let choices: HashSet<Vec<WsUrl>> = (0..50)
            .map(|seed| rota(50).next(8, &NOBODY(), seed, NOW))
            .collect();
        assert!(choices.len() > 40);
    }

    #[test]
    fn pauses_grow_to_half_a_minute_and_shrink_when_a_link_stood() {
        let mut rota = rota(1);
        let mut now = NOW;
        let mut pauses = Vec::new();
        for seed in 0..9 {
            assert_eq!(rota.next(8, &NOBODY(), seed, now).len(), 1);
            rota.ended(&url("p0"), Duration::ZERO, seed * 100, now);
            let next = rota.next_time(now).unwrap();
            pauses.push((next - now).as_millis());
            assert!(
                rota.next(8, &NOBODY(), seed, next - Duration::from_millis(1))
                    .is_empty()
            );
            now = next;
        }
        for (pause, plain) in pauses.iter().zip([1, 2, 4, 8, 16, 30, 30, 30, 30]) {
            assert!((750 * plain..=1250 * plain).contains(pause), "{pauses:?}");
        }
        assert_eq!(rota.next(8, &NOBODY(), 0, now).len(), 1);
        rota.ended(&url("p0"), STOOD_WELL, 0, now);
        assert!(rota.next_time(now).unwrap() < now + Duration::from_secs(2));
    }

    #[test]
    fn those_that_answer_are_preferred_to_those_that_do_not() {
        let mut rota = rota(3);
        for dead in rota.next(2, &NOBODY(), 1, NOW) {
            rota.ended(&dead, Duration::ZERO, 0, NOW);
        }
        let later = NOW + Duration::from_secs(60);
        let first = rota.next(1, &NOBODY(), 2, later);
        assert_eq!(first.len(), 1);
        assert_eq!(rota.places.get(&first[0]).unwrap().failures, 0);
    }

    #[test]
    fn a_new_list_adds_and_removes_but_breaks_no_link() {
        let mut rota = rota(3);
        let chosen = rota.next(8, &NOBODY(), 1, NOW);
        assert_eq!(chosen.len(), 3);
        rota.ended(&url("p0"), Duration::ZERO, 0, NOW);
        rota.list(vec![(peer("p1"), url("p1")), (peer("new"), url("new"))]);
        assert_eq!(rota.places.len(), 3, "p2 is linked");
        assert_eq!(rota.next(8, &NOBODY(), 1, NOW), [url("new")]);
        rota.ended(&url("p2"), Duration::ZERO, 0, NOW);
        assert_eq!(rota.places.len(), 2);
    }
}
