//! Looking for a principal: a few neighbours are asked at once, their answers raced.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use clawchat_types::{Moment, Principal, UnixSeconds};

use super::{
    CARDS_WANTED, Exchange, MAX_ASKED, MAX_RESOLVES, Output, RESOLVE_FANOUT, RESOLVE_WAVE, RESOLVE_WITHIN,
};
use crate::message::Message;
use crate::rank::rank;

/// A search for one principal.
#[derive(Debug)]
pub(super) struct Search {
    /// When the card was issued that we had when we began to ask. Only a newer one is worth an answer.
    had: Option<UnixSeconds>,
    /// Neighbours to ask if those asked know nothing.
    next: VecDeque<Principal>,
    /// Neighbours asked who have not answered.
    open: usize,
    /// When the next ones are asked even if nobody answered yet.
    next_wave: Duration,
    /// When it ends.
    deadline: Duration,
    /// The asker has its answer; what comes now still goes into the book.
    answered: bool,
}

/// A question to one neighbour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) peer: Principal,
    pub(super) principal: Principal,
}

impl Exchange {
    /// Asks connected peers where a principal is: [`RESOLVE_FANOUT`] of them in parallel, more when they do not know.
    ///
    /// Ends with [`Output::Resolved`] as soon as a card arrives that is newer than what was known, else when everybody
    /// has answered or [`RESOLVE_WITHIN`] has passed: with what is known, or [`Output::NotFound`]. A search for the same
    /// principal that is under way is joined. Look into [`Exchange::lookup`] first: this is for when nothing is known, or
    /// nothing known leads there.
    pub fn resolve(&mut self, principal: Principal, now: Moment) {
        if self
            .searches
            .get(&principal)
            .is_some_and(|search| !search.answered)
        {
            return;
        }
        self.counters.resolves += 1;
        let room = self.searches.len() < MAX_RESOLVES;
        if principal == self.me || !self.enabled || !room {
            self.counters.not_found += 1;
            self.outputs.push_back(Output::NotFound { principal });
            return;
        }
        self.end_questions(&principal);
        let (seed, about) = (self.seed, principal.to_bytes());
        let mut peers: Vec<(u64, Principal)> = self
            .neighbours
            .keys()
            .filter(|peer| **peer != principal)
            .map(|peer| (rank(seed, &[&about, &peer.to_bytes()]), *peer))
            .collect();
        peers.sort_unstable();
        let search = Search {
            had: self.book.issued_at(&principal, now),
            next: peers.into_iter().take(MAX_ASKED).map(|(_, peer)| peer).collect(),
            open: 0,
            next_wave: now.mono,
            deadline: now.mono.saturating_add(RESOLVE_WITHIN),
            answered: false,
        };
        self.searches.insert(principal, search);
        self.advance(principal, now);
    }

    /// Asks a peer that just connected where it is itself: one that is private does not say so unasked, and somebody may
    /// ask us. Not if a card of it is known.
    pub(super) fn ask_itself(&mut self, peer: Principal, now: Moment) {
        let known = self.book.get(&peer, now).is_some();
        let Some(neighbour) = self.neighbours.get_mut(&peer).filter(|_| self.enabled && !known) else {
            return;
        };
        if neighbour.admitted && neighbour.record.asking.take(1, now.mono) > 0 {
            self.ask(peer, peer);
        }
    }

    /// A neighbour answered, or will not answer any more.
    pub(super) fn answer_came(&mut self, principal: Principal, now: Moment) {
        if let Some(search) = self.searches.get_mut(&principal) {
            search.open = search.open.saturating_sub(1);
        }
        self.advance(principal, now);
    }

    /// The answers that a peer owes us will not come.
    pub(super) fn give_up_on(&mut self, peer: &Principal, now: Moment) {
        let lost: Vec<(u64, Principal)> = self
            .questions
            .iter()
            .filter(|(_, question)| question.peer == *peer)
            .map(|(id, question)| (*id, question.principal))
            .collect();
        for (id, principal) in lost {
            self.questions.remove(&id);
            self.answer_came(principal, now);
        }
    }

    /// Ends searches whose time is over, and asks more neighbours where the first ones are slow.
    pub(super) fn advance_all(&mut self, now: Moment) {
        let due: Vec<Principal> = self
            .searches
            .iter()
            .filter(|(_, search)| search.next_time() <= now.mono)
            .map(|(principal, _)| *principal)
            .collect();
        for principal in due {
            self.advance(principal, now);
        }
    }

    /// When [`Exchange::advance_all`] has something to do.
    pub(super) fn next_advance(&self) -> Option<Duration> {
        self.searches.values().map(Search::next_time).min()
    }

    /// Ends every search without an answer.
    pub(super) fn end_searches(&mut self, now: Moment) {
        let all: Vec<Principal> = self.searches.keys().copied().collect();
        for principal in all {
            self.finish(principal, now);
        }
    }

    fn advance(&mut self, principal: Principal, now: Moment) {
        let Some(search) = self.searches.get_mut(&principal) else {
            return;
        };
        let newest = self
            .book
            .get(&principal, now)
            .map(|known| Arc::clone(&known.card));
        if !search.answered
            && let Some(card) = newest
            && Some(card.issued_at) > search.had
        {
            search.answered = true;
            self.counters.resolved += 1;
            self.outputs.push_back(Output::Resolved { card });
        }
        let over = search.open == 0 && (search.answered || search.next.is_empty());
        if over || search.deadline <= now.mono {
            self.finish(principal, now);
            return;
        }
        let slow = search.next_wave <= now.mono;
        if !search.answered && (search.open == 0 || slow) {
            self.ask_next(principal, now);
        }
    }

    /// Asks the next few neighbours.
    fn ask_next(&mut self, principal: Principal, now: Moment) {
        let mut asked = 0;
        while asked < RESOLVE_FANOUT {
            let Some(search) = self.searches.get_mut(&principal) else {
                return;
            };
            let Some(peer) = search.next.pop_front() else {
                break;
            };
            // Somebody of whom we have asked enough would not answer.
            let Some(neighbour) = self.neighbours.get_mut(&peer) else {
                continue;
            };
            if neighbour.record.asking.take(1, now.mono) == 0 {
                continue;
            }
            asked += 1;
            search.open += 1;
            self.ask(peer, principal);
        }
        let Some(search) = self.searches.get_mut(&principal) else {
            return;
        };
        search.next_wave = now.mono.saturating_add(RESOLVE_WAVE);
        if search.open == 0 && search.next.is_empty() {
            self.finish(principal, now);
        }
    }

    fn ask(&mut self, peer: Principal, principal: Principal) {
        let id = self.next_question;
        self.next_question += 1;
        self.questions.insert(id, Question { peer, principal });
        self.counters.questions_sent += 1;
        self.outputs.push_back(Output::Send {
            to: peer,
            message: Message::Resolve {
                id,
                principal,
                max: CARDS_WANTED,
            },
        });
    }

    fn finish(&mut self, principal: Principal, now: Moment) {
        self.end_questions(&principal);
        let unanswered = self
            .searches
            .remove(&principal)
            .is_some_and(|search| !search.answered);
        if !unanswered {
            return;
        }
        // What was known is still the best guess if nobody knew better.
        let output = match self.book.get(&principal, now).filter(|_| self.enabled) {
            Some(known) => {
                self.counters.resolved += 1;
                Output::Resolved {
                    card: Arc::clone(&known.card),
                }
            }
            None => {
                self.counters.not_found += 1;
                Output::NotFound { principal }
            }
        };
        self.outputs.push_back(output);
    }

    fn end_questions(&mut self, principal: &Principal) {
        self.questions
            .retain(|_, question| question.principal != *principal);
    }
}

impl Search {
    fn next_time(&self) -> Duration {
        if self.answered || self.next.is_empty() {
            self.deadline
        } else {
            self.deadline.min(self.next_wave)
        }
    }
}
