//! Telling neighbours what is new: on connect and on change, in batches, each at its own pace.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use clawchat_types::{Moment, Principal};

use super::{Exchange, FORWARD_FANOUT, Output, PUSH_INTERVAL};
use crate::card::Card;
use crate::message::{CARD_OVERHEAD_BYTES, MAX_CARD_BYTES_PER_MESSAGE, MAX_CARDS_PER_MESSAGE, Message};
use crate::rank::rank;

impl Exchange {
    /// Our own card, if it is there, still good, and may be told unasked.
    fn own_public(&self, now: Moment) -> Option<&Arc<Card>> {
        let own = self.own.as_ref()?;
        (self.enabled && self.visibility.may_push_itself() && own.is_current(now)).then_some(own)
    }

    /// Every neighbour is to be told our own card, if it may be told.
    pub(super) fn announce(&mut self, now: Moment) {
        if self.own_public(now).is_none() {
            return;
        }
        for neighbour in self.neighbours.values_mut() {
            // One place among many that wait; a peer that cannot be told that much asks.
            if !neighbour.tell(self.me) {
                self.counters.forwards_dropped += 1;
            }
        }
    }

    /// A new neighbour is to be told our own card and what changed last.
    pub(super) fn introduce(&mut self, peer: Principal, now: Moment) {
        if !self.enabled {
            return;
        }
        let mut news: Vec<(Reverse<Duration>, u64, Principal)> = Vec::new();
        let (seed, peer_bytes) = (self.seed, peer.to_bytes());
        if self
            .neighbours
            .get(&peer)
            .is_some_and(|neighbour| neighbour.admitted)
        {
            news.extend(
                self.book
                    .iter(now)
                    .filter(|known| known.card.shareable && known.card.principal != peer)
                    .map(|known| {
                        let principal = known.card.principal;
                        let order = rank(seed, &[&peer_bytes, &principal.to_bytes()]);
                        (Reverse(known.learned_at), order, principal)
                    }),
            );
        }
        let most = MAX_CARDS_PER_MESSAGE - 1;
        if news.len() > most {
            news.select_nth_unstable(most);
            news.truncate(most);
        }
        news.sort_unstable();
        let own = self.own_public(now).map(|_| self.me);
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        for principal in own
            .into_iter()
            .chain(news.into_iter().map(|(_, _, principal)| principal))
        {
            neighbour.tell(principal);
        }
    }

    /// A few neighbours are to be told a card that just came from `source`.
    pub(super) fn forward(&mut self, card: &Card, source: &Principal) {
        if !self.enabled || !card.shareable {
            return;
        }
        let (seed, about) = (self.seed, card.principal.to_bytes());
        let issued_at = card.issued_at.0.to_be_bytes();
        let mut targets: Vec<(u64, Principal)> = self
            .neighbours
            .iter()
            .filter(|(peer, neighbour)| neighbour.admitted && *peer != source && **peer != card.principal)
            .map(|(peer, _)| (rank(seed, &[&about, &issued_at, &peer.to_bytes()]), *peer))
            .collect();
        if targets.len() > FORWARD_FANOUT {
            targets.select_nth_unstable(FORWARD_FANOUT);
            targets.truncate(FORWARD_FANOUT);
        }
        for (_, peer) in targets {
            let told = self
                .neighbours
                .get_mut(&peer)
                .is_some_and(|neighbour| neighbour.tell(card.principal));
            if !told {
                self.counters.forwards_dropped += 1;
            }
        }
    }

    /// Sends what is due, to those who wait longest first.
    pub(super) fn flush(&mut self, now: Moment) {
        let mut due: Vec<(Duration, Principal)> = self
            .neighbours
            .iter()
            .filter(|(_, neighbour)| neighbour.is_waiting() && neighbour.record.next_push <= now.mono)
            .map(|(peer, neighbour)| (neighbour.record.next_push, *peer))
            .collect();
        due.sort_unstable();
        for (_, peer) in due {
            if self.pace.ready_at() > now.mono {
                return;
            }
            let cards = self.next_batch(&peer, now);
            let Some(neighbour) = self.neighbours.get_mut(&peer).filter(|_| !cards.is_empty()) else {
                continue;
            };
            self.pace.take(1, now.mono);
            neighbour.record.next_push = now.mono.saturating_add(PUSH_INTERVAL);
            self.counters.pushes_sent += 1;
            self.outputs.push_back(Output::Send {
                to: peer,
                message: Message::Push { cards },
            });
        }
    }

    /// When [`Exchange::flush`] has something to do.
    pub(super) fn next_flush(&self) -> Option<Duration> {
        let waiting = self
            .neighbours
            .values()
            .filter(|neighbour| neighbour.is_waiting());
        let next = waiting.map(|neighbour| neighbour.record.next_push).min()?;
        Some(next.max(self.pace.ready_at()))
    }

    /// As many of the cards waiting for a neighbour as one message carries.
    fn next_batch(&mut self, peer: &Principal, now: Moment) -> Vec<Arc<[u8]>> {
        let mut cards: Vec<Arc<[u8]>> = Vec::new();
        let mut room = MAX_CARD_BYTES_PER_MESSAGE;
        while cards.len() < MAX_CARDS_PER_MESSAGE {
            let Some(neighbour) = self.neighbours.get_mut(peer) else {
                break;
            };
            let Some(principal) = neighbour.next_pending() else {
                break;
            };
            let admitted = neighbour.admitted;
            let Some(bytes) = self.may_tell(&principal, admitted, now) else {
                continue;
            };
            let taken = bytes.len() + CARD_OVERHEAD_BYTES;
            if taken > room && !cards.is_empty() {
                if let Some(neighbour) = self.neighbours.get_mut(peer) {
                    neighbour.put_back(principal);
                }
                break;
            }
            // One that fits no message at all is left out.
            if taken <= room {
                room -= taken;
                cards.push(bytes);
            }
        }
        cards
    }

    /// The card of a principal, if it may be told unasked.
    fn may_tell(&self, principal: &Principal, admitted: bool, now: Moment) -> Option<Arc<[u8]>> {
        if *principal == self.me {
            return self.own_public(now).map(|own| Arc::clone(&own.bytes));
        }
        let known = self
            .book
            .get(principal, now)
            .filter(|_| self.enabled && admitted)?;
        known.card.shareable.then(|| Arc::clone(&known.card.bytes))
    }
}
