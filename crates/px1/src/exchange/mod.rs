//! PX-1 of one identity: events in, messages and findings out.

mod neighbour;
mod push;
mod resolve;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use clawchat_types::{Moment, Principal};

use self::neighbour::{Neighbour, Record};
use self::resolve::{Question, Search};
use crate::address_book::{AddressBook, BookConfig, Known, Learned};
use crate::bucket::Bucket;
use crate::card::Card;
use crate::counters::Counters;
use crate::message::{CARD_OVERHEAD_BYTES, MAX_CARD_BYTES_PER_MESSAGE, MAX_CARDS_PER_MESSAGE, Message};
use crate::visibility::Visibility;

/// Least time between two pushes to one neighbour. What changes in the meantime goes into the next one.
pub const PUSH_INTERVAL: Duration = Duration::from_secs(7);
/// Neighbours that are told a card of somebody else when it is new.
pub const FORWARD_FANOUT: usize = 6;
/// Neighbours asked at once in a search.
pub const RESOLVE_FANOUT: usize = 8;
/// Most neighbours asked in one search.
pub const MAX_ASKED: usize = 24;
/// Time after which the next neighbours are asked although the first have not answered.
pub const RESOLVE_WAVE: Duration = Duration::from_secs(1);
/// Time after which a search ends with what is known.
pub const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
/// Most searches at once; one more finds nothing.
pub const MAX_RESOLVES: usize = 256;
/// Questions one peer may ask at once; one more comes back every [`QUESTIONS_REFILL`]. We keep to it too.
pub const QUESTIONS_BURST: u32 = 32;
/// Time in which one question comes back.
pub const QUESTIONS_REFILL: Duration = Duration::from_secs(1);

/// Pushes read from one peer at once; one more comes back every [`PUSHES_REFILL`].
const PUSHES_BURST: u32 = 8;
/// Less than [`PUSH_INTERVAL`], because a network may bunch them.
const PUSHES_REFILL: Duration = Duration::from_secs(4);
/// Cards that one peer can make us verify at once by pushing; one more comes back every [`CARDS_REFILL`].
const CARDS_BURST: u32 = 512;
const CARDS_REFILL: Duration = Duration::from_millis(200);
/// Pushes sent at once to all neighbours together; one more comes back every [`PACE_REFILL`], 48 a minute.
const PACE_BURST: u32 = 16;
const PACE_REFILL: Duration = Duration::from_millis(1250);
/// Cards waiting to be told to one neighbour.
const MAX_PENDING: usize = 512;
/// Cards asked for in one question.
const CARDS_WANTED: u8 = 4;
/// Connected peers.
const MAX_NEIGHBOURS: usize = 4096;
/// Peers remembered after they left, so that connecting again gives no new allowances.
const MAX_RECORDS: usize = 1024;
/// How often the book and the records are looked through for what is over.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What the machine wants done, or found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To be sent to a connected peer. If that fails, [`Exchange::disconnected`] is all that has to follow.
    Send {
        /// The peer.
        to: Principal,
        /// What to send.
        message: Message,
    },
    /// A search found a card.
    Resolved {
        /// The card.
        card: Arc<Card>,
    },
    /// A search ended without one.
    NotFound {
        /// Who was looked for.
        principal: Principal,
    },
    /// A newer card than before is in the book, whatever brought it. A good moment to dial whoever is waited for.
    Learned {
        /// The card.
        card: Arc<Card>,
    },
}

/// Cards from a peer, to be verified by the caller: then they go to [`Exchange::verified`].
#[derive(Debug)]
#[must_use = "verify the cards and hand them to Exchange::verified; a question may be waiting for them"]
pub struct Unverified {
    peer: Principal,
    /// The principal and the question these cards answer; `None` for pushed ones.
    answers: Option<Principal>,
    cards: Vec<Arc<[u8]>>,
}

impl Unverified {
    /// Who sent them.
    #[must_use]
    pub fn peer(&self) -> &Principal {
        &self.peer
    }

    /// The cards, as bytes.
    #[must_use]
    pub fn cards(&self) -> &[Arc<[u8]>] {
        &self.cards
    }
}

/// PX-1 of one local identity.
///
/// What one identity learns is never told in the name of another: each has an exchange of its own.
///
/// The caller reports who is connected ([`Exchange::connected`]) and what they say ([`Exchange::received`]), verifies the
/// cards it is handed, calls [`Exchange::handle_timeout`] when [`Exchange::poll_timeout`] says so, and after each of
/// these drains [`Exchange::poll_output`].
#[derive(Debug)]
pub struct Exchange {
    me: Principal,
    visibility: Visibility,
    /// Whether we take part at all.
    enabled: bool,
    seed: u64,
    own: Option<Arc<Card>>,
    book: AddressBook,
    neighbours: BTreeMap<Principal, Neighbour>,
    /// Of peers that left, with the time when they did.
    records: BTreeMap<Principal, (Duration, Record)>,
    searches: BTreeMap<Principal, Search>,
    questions: BTreeMap<u64, Question>,
    next_question: u64,
    /// Pushes to all neighbours together.
    pace: Bucket,
    next_sweep: Duration,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Exchange {
    /// The exchange of `me`, with an empty book and nobody connected.
    ///
    /// It is on if `visibility` says so by default. `seed` decides whom news are told and which cards go when there is no
    /// room: it should be random and secret, so that nobody can aim at either.
    #[must_use]
    pub fn new(me: Principal, visibility: Visibility, config: BookConfig, seed: u64) -> Self {
        Self {
            me,
            visibility,
            enabled: visibility.px1_by_default(),
            seed,
            own: None,
            book: AddressBook::new(config, seed),
            neighbours: BTreeMap::new(),
            records: BTreeMap::new(),
            searches: BTreeMap::new(),
            questions: BTreeMap::new(),
            next_question: 1,
            pace: Bucket::new(PACE_BURST, PACE_REFILL),
            next_sweep: Duration::ZERO,
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Changes how much is given away, and whether PX-1 is spoken at all. Switched off, nothing is asked, answered,
    /// told or listened to; the book stays.
    pub fn set_policy(&mut self, visibility: Visibility, enabled: bool, now: Moment) {
        self.visibility = visibility;
        self.enabled = enabled;
        if enabled {
            self.announce(now);
            self.flush(now);
        } else {
            self.end_searches(now);
            for neighbour in self.neighbours.values_mut() {
                neighbour.forget_pending();
            }
        }
    }

    /// Our own card is another one now. A public identity tells every neighbour.
    pub fn set_own(&mut self, card: Option<Arc<Card>>, now: Moment) {
        let own = card.filter(|card| card.principal == self.me);
        if own != self.own {
            self.own = own;
            self.announce(now);
            self.flush(now);
        }
    }

    /// A peer is connected: a native session exists that both sides can use for PX-1.
    ///
    /// `admitted` says whether our access list admits it. A session that we began may be with somebody it does not:
    /// such a peer can be asked, but learns nothing from us, except from a public identity its own card. Calling this
    /// again for a connected peer changes only that.
    pub fn connected(&mut self, peer: Principal, admitted: bool, now: Moment) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.admitted = admitted;
            return;
        }
        if peer == self.me || self.neighbours.len() >= MAX_NEIGHBOURS {
            return;
        }
        let record = self
            .records
            .remove(&peer)
            .map_or(Record::new(), |(_, record)| record);
        self.neighbours.insert(peer, Neighbour::new(admitted, record));
        self.schedule_sweep(now);
        self.introduce(peer, now);
        self.ask_itself(peer, now);
        self.flush(now);
    }

    /// A peer is not connected any more.
    pub fn disconnected(&mut self, peer: &Principal, now: Moment) {
        let Some(neighbour) = self.neighbours.remove(peer) else {
            return;
        };
        if self.records.len() >= MAX_RECORDS {
            let oldest = self
                .records
                .iter()
                .min_by_key(|(_, (left, _))| *left)
                .map(|(peer, _)| *peer);
            if let Some(oldest) = oldest {
                self.records.remove(&oldest);
            }
        }
        self.records.insert(*peer, (now.mono, neighbour.record));
        self.schedule_sweep(now);
        self.give_up_on(peer, now);
    }

    /// A connected peer sent a message. What comes back is to be verified and handed to [`Exchange::verified`].
    pub fn received(&mut self, peer: &Principal, message: Message, now: Moment) -> Option<Unverified> {
        if !self.enabled || !self.neighbours.contains_key(peer) {
            self.counters.ignored += 1;
            return None;
        }
        match message {
            Message::Resolve { id, principal, max } => {
                self.question(peer, id, &principal, max, now);
                None
            }
            Message::Found { id, cards } => self.answer(*peer, id, cards, now),
            Message::Push { cards } => self.pushed(*peer, cards, now),
        }
    }

    /// The verdict on cards from [`Exchange::received`]: `good` are those that hold.
    pub fn verified(&mut self, batch: Unverified, good: Vec<Arc<Card>>, now: Moment) {
        self.schedule_sweep(now);
        let forged = batch.cards.len().saturating_sub(good.len());
        self.counters.cards_forged += forged as u64;
        for card in good {
            self.accept(&batch, card, now);
        }
        if let Some(principal) = batch.answers {
            self.answer_came(principal, now);
        }
        self.flush(now);
    }

    /// Takes in a verified card that did not come from a peer: out of an invite, from the disk, out of a handshake.
    /// True if it is newer than what was known.
    pub fn learn(&mut self, card: Arc<Card>, now: Moment) -> bool {
        self.schedule_sweep(now);
        if card.principal == self.me {
            return false;
        }
        let newer = self.book.learn(&card, self.me, false, now) == Learned::Newer;
        if newer {
            self.counters.cards_new += 1;
            let me = self.me;
            self.forward(&card, &me);
            self.outputs.push_back(Output::Learned { card });
            self.flush(now);
        }
        newer
    }

    /// The newest card known of a principal, unless its time is over.
    #[must_use]
    pub fn lookup(&self, principal: &Principal, now: Moment) -> Option<&Known> {
        self.book.get(principal, now)
    }

    /// Drops what is known of a principal.
    pub fn forget(&mut self, principal: &Principal) -> bool {
        self.book.forget(principal)
    }

    /// The book.
    #[must_use]
    pub fn book(&self) -> &AddressBook {
        &self.book
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The next thing to do or to know.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Exchange::handle_timeout`] is due: [`Moment::mono`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let work = !self.book.is_empty() || !self.records.is_empty();
        let sweep = work.then_some(self.next_sweep);
        [self.next_flush(), self.next_advance(), sweep]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what time has made due.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.advance_all(now);
        self.flush(now);
        if self.next_sweep <= now.mono {
            self.next_sweep = now.mono.saturating_add(SWEEP_EVERY);
            self.book.expire(now);
            self.records.retain(|_, (_, record)| !record.is_spent(now.mono));
        }
    }

    fn schedule_sweep(&mut self, now: Moment) {
        if self.book.is_empty() && self.records.is_empty() {
            self.next_sweep = now.mono.saturating_add(SWEEP_EVERY);
        }
    }

    fn question(&mut self, peer: &Principal, id: u64, principal: &Principal, max: u8, now: Moment) {
        self.counters.questions += 1;
        let Some(neighbour) = self.neighbours.get_mut(peer) else {
            return;
        };
        if neighbour.record.questions.take(1, now.mono) == 0 {
            self.counters.questions_limited += 1;
            return;
        }
        let admitted = neighbour.admitted;
        let card = if *principal == self.me {
            let own = self.own.as_ref().filter(|own| own.is_current(now));
            own.filter(|_| admitted || self.visibility == Visibility::Public)
        } else {
            let known = self.book.get(principal, now).filter(|_| admitted);
            known.map(|known| &known.card).filter(|card| card.tellable)
        };
        let fits = |card: &&Arc<Card>| {
            max > 0 && card.bytes.len() + CARD_OVERHEAD_BYTES <= MAX_CARD_BYTES_PER_MESSAGE
        };
        let cards: Vec<Arc<[u8]>> = card
            .filter(fits)
            .map(|card| Arc::clone(&card.bytes))
            .into_iter()
            .collect();
        self.counters.answered += cards.len() as u64;
        self.outputs.push_back(Output::Send {
            to: *peer,
            message: Message::Found { id, cards },
        });
    }

    fn answer(&mut self, peer: Principal, id: u64, cards: Vec<Arc<[u8]>>, now: Moment) -> Option<Unverified> {
        let asked = self.questions.get(&id).filter(|question| question.peer == peer);
        let Some(principal) = asked.map(|question| question.principal) else {
            self.counters.answers_unasked += 1;
            return None;
        };
        self.questions.remove(&id);
        let new = self.unknown(&peer, cards, usize::from(CARDS_WANTED), now);
        if new.is_empty() {
            self.answer_came(principal, now);
            return None;
        }
        Some(Unverified {
            peer,
            answers: Some(principal),
            cards: new,
        })
    }

    fn pushed(&mut self, peer: Principal, cards: Vec<Arc<[u8]>>, now: Moment) -> Option<Unverified> {
        self.counters.pushes += 1;
        let neighbour = self.neighbours.get_mut(&peer)?;
        if neighbour.record.pushes.take(1, now.mono) == 0 {
            self.counters.pushes_limited += 1;
            return None;
        }
        let mut new = self.unknown(&peer, cards, MAX_CARDS_PER_MESSAGE, now);
        let wanted = u32::try_from(new.len()).unwrap_or(u32::MAX);
        let allowed = self
            .neighbours
            .get_mut(&peer)?
            .record
            .cards
            .take(wanted, now.mono);
        self.counters.cards_limited += u64::from(wanted - allowed);
        new.truncate(allowed as usize);
        (!new.is_empty()).then_some(Unverified {
            peer,
            answers: None,
            cards: new,
        })
    }

    /// Of the first `most` cards a peer sent, those that are not in the book.
    fn unknown(
        &mut self,
        peer: &Principal,
        cards: Vec<Arc<[u8]>>,
        most: usize,
        now: Moment,
    ) -> Vec<Arc<[u8]>> {
        self.counters.cards_limited += cards.len().saturating_sub(most) as u64;
        let mut new = Vec::new();
        for bytes in cards.into_iter().take(most) {
            if self.own.as_ref().is_some_and(|own| own.bytes == bytes) {
                self.counters.cards_own += 1;
            } else if let Some(principal) = self.book.heard_again(&bytes, now) {
                self.counters.cards_known += 1;
                if let Some(neighbour) = self.neighbours.get_mut(peer) {
                    neighbour.knows(&principal);
                }
            } else if !new.contains(&bytes) {
                new.push(bytes);
            }
        }
        new
    }

    /// Takes in one verified card, if it belongs here.
    fn accept(&mut self, batch: &Unverified, card: Arc<Card>, now: Moment) {
        let peer = batch.peer;
        if !batch.cards.contains(&card.bytes) {
            self.counters.cards_forged += 1;
            return;
        }
        if card.principal == self.me {
            self.counters.cards_own += 1;
            return;
        }
        if batch.answers.is_some_and(|asked| asked != card.principal) {
            self.counters.cards_unasked += 1;
            return;
        }
        let tellable = card.shareable || (card.tellable && batch.answers.is_some());
        if !tellable && card.principal != peer {
            self.counters.cards_not_shareable += 1;
            return;
        }
        let hearsay = batch.answers.is_none() && card.principal != peer;
        let learned = self.book.learn(&card, peer, hearsay, now);
        match learned {
            Learned::Newer | Learned::Known => {
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.knows(&card.principal);
                }
            }
            Learned::Stale | Learned::Expired | Learned::NoRoom => {}
        }
        match learned {
            Learned::Newer => {
                self.counters.cards_new += 1;
                self.forward(&card, &peer);
                self.outputs.push_back(Output::Learned { card });
            }
            Learned::Known => self.counters.cards_known += 1,
            Learned::Stale => self.counters.cards_stale += 1,
            Learned::Expired => self.counters.cards_expired += 1,
            Learned::NoRoom => self.counters.cards_no_room += 1,
        }
    }
}
