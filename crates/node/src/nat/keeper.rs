//! Keeping places at relays: two at a time, renewed by libp2p, replaced when one is lost.
//!
//! A machine without IO: it is told what happened and says what to do.

use std::collections::HashSet;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

/// Places kept at the same time.
pub(crate) const WANTED: usize = 2;
/// Relays known at a time, the configured ones included.
const MAX_RELAYS: usize = 64;
/// Addresses kept of one relay.
const MAX_ADDRESSES: usize = 8;
/// How long connecting with a relay, or its answer, may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause after a failure; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause. Short enough that a relay that comes back is soon used again.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// The relays we know, and what we have of each.
#[derive(Default)]
pub(crate) struct Keeper {
    relays: Vec<Relay>,
    /// Whether relays are wanted at all that the operator did not name.
    needed: bool,
}

/// One relay.
struct Relay {
    peer: PeerId,
    /// Those the operator named, then those it was said to have last.
    addresses: Vec<Multiaddr>,
    /// How many of them the operator named.
    named: usize,
    /// Named by the operator: always kept.
    configured: bool,
    /// A contact that offers it, connected at the moment.
    offered: bool,
    state: State,
    failures: u32,
    not_before: Instant,
    /// The next failure is our own move's, and costs no pause.
    excused: bool,
    trouble: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Connecting {
        dial: Option<ConnectionId>,
        until: Instant,
    },
    Asking {
        listener: ListenerId,
        until: Instant,
    },
    Placed {
        listener: ListenerId,
    },
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Connect with a relay at one of these addresses, from a port we listen on; then [`Keeper::connected`].
    Connect {
        /// The relay.
        relay: PeerId,
        /// Where it is.
        addresses: Vec<Multiaddr>,
    },
    /// Give up a connection with a relay that does not answer, unless it is of use otherwise.
    Close(PeerId),
}

/// How things stand with one relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) peer: PeerId,
    pub(crate) configured: bool,
    pub(crate) placed: bool,
    pub(crate) trying: bool,
    pub(crate) trouble: Option<String>,
}

impl Keeper {
    /// Begins with the relays the operator named.
    pub(crate) fn new(configured: impl IntoIterator<Item = (PeerId, Multiaddr)>, now: Instant) -> Self {
        let mut keeper = Self::default();
        for (peer, address) in configured {
            if let Some(relay) = keeper.entry(peer, now) {
                relay.configured = true;
                relay.know(address);
                relay.named = relay.addresses.len();
            }
        }
        keeper
    }

    /// Whether relays of contacts are wanted: not while we are reachable directly.
    pub(crate) fn set_needed(&mut self, needed: bool) {
        self.needed = needed;
    }

    /// A contact offers to relay, or does not any more.
    pub(crate) fn offered(&mut self, peer: PeerId, addresses: &[Multiaddr], offers: bool, now: Instant) {
        if !offers {
            if let Some(relay) = self.find(&peer) {
                relay.offered = false;
            }
            self.tidy();
            return;
        }
        if addresses.is_empty() {
            return;
        }
        if let Some(relay) = self.entry(peer, now) {
            relay.offered = true;
            // It may have moved.
            relay.addresses.truncate(relay.named);
            addresses.iter().for_each(|address| relay.know(address.clone()));
        }
    }

    /// This machine has other addresses now: whatever happened before says nothing about the relays. Those being asked
    /// are asked again at once, and so are those whose place is lost with the old addresses.
    pub(crate) fn moved(&mut self, now: Instant) {
        for relay in &mut self.relays {
            relay.failures = 0;
            relay.not_before = now;
            relay.excused = matches!(relay.state, State::Placed { .. } | State::Asking { .. });
            if matches!(relay.state, State::Connecting { .. }) {
                relay.state = State::Idle;
            }
        }
    }

    /// The addresses known of a relay.
    pub(crate) fn addresses(&self, peer: &PeerId) -> &[Multiaddr] {
        let relay = self.relays.iter().find(|relay| relay.peer == *peer);
        relay.map_or(&[], |relay| &relay.addresses)
    }

    /// When [`Keeper::due`] has something to do, if nothing else happens.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let short = self.short();
        self.relays
            .iter()
            .filter_map(|relay| match relay.state {
                State::Connecting { until, .. } | State::Asking { until, .. } => Some(until),
                State::Idle => (short && self.is_wanted(relay)).then_some(relay.not_before),
                State::Placed { .. } => None,
            })
            .min()
    }

    /// What is due.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Task> {
        let mut tasks = Vec::new();
        for relay in &mut self.relays {
            match relay.state {
                State::Connecting { until, .. } | State::Asking { until, .. } if now >= until => {
                    relay.failed("it does not answer".to_owned(), now);
                    tasks.push(Task::Close(relay.peer));
                }
                State::Idle | State::Connecting { .. } | State::Asking { .. } | State::Placed { .. } => {}
            }
        }
        while self.short() {
            let next = self
                .relays
                .iter()
                .enumerate()
                .filter(|(_, relay)| relay.state == State::Idle && self.is_wanted(relay))
                .filter(|(_, relay)| now >= relay.not_before)
                .min_by_key(|(index, relay)| (relay.failures, !relay.configured, *index))
                .map(|(index, _)| index);
            let Some(relay) = next.and_then(|index| self.relays.get_mut(index)) else {
                break;
            };
            relay.state = State::Connecting {
                dial: None,
                until: now + STEP_TIMEOUT,
            };
            tasks.push(Task::Connect {
                relay: relay.peer,
                addresses: relay.addresses.clone(),
            });
        }
        tasks
    }

    /// The dial that belongs to [`Task::Connect`].
    pub(crate) fn dialing(&mut self, peer: &PeerId, connection: ConnectionId) {
        if let Some(Relay {
            state: State::Connecting { dial, .. },
            ..
        }) = self.find(peer)
        {
            *dial = Some(connection);
        }
    }

    /// A connection with a relay came about. Gives the address to ask for a place at, if it waits for that.
    pub(crate) fn connected(&mut self, peer: &PeerId, at: Option<&Multiaddr>) -> Option<Multiaddr> {
        let relay = self.find(peer)?;
        if !matches!(relay.state, State::Connecting { .. }) {
            return None;
        }
        if let Some(at) = at.filter(|at| relay.addresses.contains(at)) {
            return Some(at.clone());
        }
        relay.addresses.first().cloned()
    }

    /// The place was asked for; what becomes of it shows on this listener.
    pub(crate) fn asking(&mut self, peer: &PeerId, listener: ListenerId, now: Instant) {
        if let Some(relay) = self.find(peer) {
            relay.state = State::Asking {
                listener,
                until: now + STEP_TIMEOUT,
            };
        }
    }

    /// A dial failed. Says whether it was one of ours.
    pub(crate) fn dial_failed(&mut self, connection: ConnectionId, reason: &str, now: Instant) -> bool {
        let ours = |relay: &&mut Relay| matches!(relay.state, State::Connecting { dial, .. } if dial == Some(connection));
        match self.relays.iter_mut().find(ours) {
            Some(relay) => {
                relay.failed(reason.to_owned(), now);
                true
            }
            None => false,
        }
    }

    /// The relay gave us the place, or renewed it. Says whether that is news.
    pub(crate) fn placed(&mut self, peer: &PeerId) -> bool {
        let Some(relay) = self.find(peer) else {
            return false;
        };
        if let State::Asking { listener, .. } = relay.state {
            relay.state = State::Placed { listener };
            relay.failures = 0;
            relay.trouble = None;
            return true;
        }
        false
    }

    /// The listener of a place is gone: refused, or lost. Gives the relay if it was one of ours.
    pub(crate) fn lost(&mut self, listener: ListenerId, reason: String, now: Instant) -> Option<PeerId> {
        let of = |relay: &&mut Relay| matches!(relay.state, State::Asking { listener: at, .. } | State::Placed { listener: at } if at == listener);
        let relay = self.relays.iter_mut().find(of)?;
        relay.failed(reason, now);
        let peer = relay.peer;
        self.tidy();
        Some(peer)
    }

    /// The relays we rely on: those we have a place at, or are about to.
    pub(crate) fn in_use(&self) -> HashSet<PeerId> {
        let used = self.relays.iter().filter(|relay| relay.state != State::Idle);
        used.map(|relay| relay.peer).collect()
    }

    /// Whether we have a place at this relay.
    pub(crate) fn has_place(&self, peer: &PeerId) -> bool {
        let placed = |relay: &Relay| matches!(relay.state, State::Placed { .. });
        self.relays
            .iter()
            .any(|relay| relay.peer == *peer && placed(relay))
    }

    /// How things stand, in the order the relays became known.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let standing = |relay: &Relay| Standing {
            peer: relay.peer,
            configured: relay.configured,
            placed: matches!(relay.state, State::Placed { .. }),
            trying: matches!(relay.state, State::Connecting { .. } | State::Asking { .. }),
            trouble: relay.trouble.clone(),
        };
        self.relays.iter().map(standing).collect()
    }

    /// Whether fewer places are kept, or being got, than wanted.
    fn short(&self) -> bool {
        self.relays
            .iter()
            .filter(|relay| relay.state != State::Idle)
            .count()
            < WANTED
    }

    fn is_wanted(&self, relay: &Relay) -> bool {
        relay.configured || (relay.offered && self.needed)
    }

    fn find(&mut self, peer: &PeerId) -> Option<&mut Relay> {
        self.relays.iter_mut().find(|relay| relay.peer == *peer)
    }

    fn entry(&mut self, peer: PeerId, now: Instant) -> Option<&mut Relay> {
        if let Some(index) = self.relays.iter().position(|relay| relay.peer == peer) {
            return self.relays.get_mut(index);
        }
        if self.relays.len() >= MAX_RELAYS {
            return None;
        }
        self.relays.push(Relay {
            peer,
            addresses: Vec::new(),
            named: 0,
            configured: false,
            offered: false,
            state: State::Idle,
            failures: 0,
            not_before: now,
            excused: false,
            trouble: None,
        });
        self.relays.last_mut()
    }

    /// Forgets relays that nobody offers any more.
    fn tidy(&mut self) {
        self.relays
            .retain(|relay| relay.configured || relay.offered || relay.state != State::Idle);
    }
}

impl Relay {
    fn know(&mut self, address: Multiaddr) {
        if !self.addresses.contains(&address) && self.addresses.len() < MAX_ADDRESSES {
            self.addresses.push(address);
        }
    }

    fn failed(&mut self, reason: String, now: Instant) {
        self.state = State::Idle;
        self.trouble = Some(reason);
        if std::mem::take(&mut self.excused) {
            self.not_before = now;
            return;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(8));
        self.not_before = now + pause.min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lab {
        keeper: Keeper,
        now: Instant,
        relays: Vec<PeerId>,
    }

    fn address(index: usize) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{}", 9000 + index).parse().unwrap()
    }

    impl Lab {
        fn new(configured: usize) -> Self {
            let relays: Vec<PeerId> = (0..configured).map(|_| PeerId::random()).collect();
            let named = relays
                .iter()
                .enumerate()
                .map(|(index, peer)| (*peer, address(index)));
            let now = Instant::now();
            Self {
                keeper: Keeper::new(named, now),
                now,
                relays,
            }
        }

        /// Those it wants to connect with now.
        fn wanted(&mut self) -> Vec<PeerId> {
            let tasks = self.keeper.due(self.now).into_iter();
            tasks
                .filter_map(|task| match task {
                    Task::Connect { relay, .. } => Some(relay),
                    Task::Close(_) => None,
                })
                .collect()
        }

        fn place(&mut self, peer: PeerId) -> ListenerId {
            assert!(self.keeper.connected(&peer, None).is_some());
            let listener = ListenerId::next();
            self.keeper.asking(&peer, listener, self.now);
            assert!(self.keeper.placed(&peer));
            listener
        }

        fn pass_to_deadline(&mut self) {
            self.now = self.keeper.next_deadline().unwrap();
        }
    }

    #[test]
    fn two_places_are_kept_and_a_lost_one_is_replaced_at_once() {
        let mut lab = Lab::new(3);
        let [first, second, third] = lab.relays[..] else {
            panic!("three")
        };
        assert_eq!(lab.wanted(), [first, second]);
        let listener = lab.place(first);
        lab.place(second);
        assert_eq!(lab.wanted(), []);
        assert_eq!(lab.keeper.next_deadline(), None);
        assert_eq!(lab.keeper.lost(listener, "gone".to_owned(), lab.now), Some(first));
        assert_eq!(lab.wanted(), [third]);
        assert_eq!(lab.keeper.in_use(), HashSet::from([second, third]));
    }

    #[test]
    fn the_only_relay_is_tried_again_with_growing_pauses_that_have_an_end() {
        let mut lab = Lab::new(1);
        let relay = lab.relays[0];
        let mut last = Duration::ZERO;
        for round in 0..20 {
            assert_eq!(lab.wanted(), [relay], "round {round}");
            let dial = ConnectionId::new_unchecked(round);
            lab.keeper.dialing(&relay, dial);
            assert!(lab.keeper.dial_failed(dial, "refused", lab.now));
            let before = lab.now;
            lab.pass_to_deadline();
            let pause = lab.now - before;
            assert!(pause >= last && pause <= LONGEST_PAUSE);
            last = pause;
        }
        assert_eq!(last, LONGEST_PAUSE);
    }

    #[test]
    fn after_a_move_every_relay_is_asked_at_once() {
        let mut lab = Lab::new(3);
        let [placed, connecting, failed] = lab.relays[..] else {
            panic!("three")
        };
        assert_eq!(lab.wanted(), [placed, connecting]);
        let listener = lab.place(placed);
        let dial = ConnectionId::new_unchecked(7);
        lab.keeper.dialing(&connecting, dial);
        assert!(lab.keeper.dial_failed(dial, "refused", lab.now));
        assert_eq!(lab.wanted(), [failed]);

        lab.keeper.moved(lab.now);
        assert!(lab.keeper.has_place(&placed), "until the connection is gone");
        assert_eq!(lab.wanted(), [connecting]);
        assert_eq!(
            lab.keeper.lost(listener, "moved".to_owned(), lab.now),
            Some(placed)
        );
        assert_eq!(lab.wanted(), [placed]);
        let listener = lab.place(placed);
        lab.keeper.lost(listener, "gone".to_owned(), lab.now);
        assert_eq!(lab.wanted(), [failed], "only one failure is excused");
    }

    #[test]
    fn a_relay_that_says_nothing_is_given_up() {
        let mut lab = Lab::new(1);
        let relay = lab.relays[0];
        assert_eq!(lab.wanted(), [relay]);
        lab.pass_to_deadline();
        assert_eq!(lab.keeper.due(lab.now), [Task::Close(relay)]);
        assert!(lab.keeper.standings()[0].trouble.is_some());
        lab.pass_to_deadline();
        assert_eq!(lab.wanted(), [relay]);
        lab.place(relay);
        assert_eq!(lab.keeper.standings()[0].trouble, None);
        assert!(lab.keeper.has_place(&relay));
    }

    #[test]
    fn a_relay_that_moved_is_asked_where_it_is_now_and_where_the_operator_says() {
        let mut lab = Lab::new(1);
        let (named, contact) = (lab.relays[0], PeerId::random());
        for place in 0..3 * MAX_ADDRESSES {
            for relay in [named, contact] {
                let at = [100 + place, 200 + place].map(address);
                lab.keeper.offered(relay, &at, true, lab.now);
            }
        }
        let last = [99, 199].map(|before| address(before + 3 * MAX_ADDRESSES));
        assert_eq!(lab.keeper.addresses(&contact), last);
        let [first, second] = last;
        assert_eq!(lab.keeper.addresses(&named), [address(0), first, second]);
    }

    #[test]
    fn relays_of_contacts_are_used_when_needed_and_after_the_configured_ones() {
        let mut lab = Lab::new(1);
        let contact = PeerId::random();
        lab.keeper.offered(contact, &[address(7)], true, lab.now);
        assert_eq!(lab.wanted(), [lab.relays[0]]);
        lab.keeper.set_needed(true);
        assert_eq!(lab.wanted(), [contact]);
        let listener = lab.place(contact);
        lab.keeper.offered(contact, &[], false, lab.now);
        assert!(lab.keeper.has_place(&contact), "a place stays while it lasts");
        lab.keeper.lost(listener, "gone".to_owned(), lab.now);
        assert_eq!(lab.keeper.standings().len(), 1);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut lab = Lab::new(0);
        for _ in 0..1000 {
            let addresses: Vec<Multiaddr> = (0..100).map(address).collect();
            lab.keeper.offered(PeerId::random(), &addresses, true, lab.now);
        }
        assert_eq!(lab.keeper.relays.len(), MAX_RELAYS);
        assert!(
            lab.keeper
                .relays
                .iter()
                .all(|relay| relay.addresses.len() == MAX_ADDRESSES)
        );
    }
}
