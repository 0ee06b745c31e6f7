//! Where peers are, as far as peers tell (PX-1 between native gateways, `spec/px1.md`).
//!
//! Each identity has an exchange of its own: what one learns is never told in the name of another. This drives it: who
//! is connected, what they say over `px-1` streams, cards verified, questions asked for whoever has a message to
//! deliver.

mod cards;
mod dialable;
mod streams;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clawchat_node::{SessionHandle, Stream};
use clawchat_px1::{BookConfig, Card, Counters, Exchange, Output, RESOLVE_WITHIN, Unverified, Visibility};
use clawchat_snap2p::px1::Message;
use clawchat_types::{Locator, Moment, Principal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tracing::debug;

use self::cards::OwnCard;
pub(crate) use self::cards::facts;
pub(crate) use self::dialable::Dialable;
use crate::delivery::hurry;
use crate::hosted::Hosted;
use crate::metrics::Counter;
use crate::shared::Gateway;
use crate::{aliases, clock, nearer};

/// How often it is looked whether our own card still says what is true.
const OWN_CARD_INTERVAL: Duration = Duration::from_secs(60);
/// Messages that may wait for one peer. It is given up as a neighbour when it reads none.
const MAX_WAITING_MESSAGES: usize = 32;
/// How much longer than the exchange somebody waits for the end of a search.
const GRACE: Duration = Duration::from_secs(1);

/// What one identity knows and asks about where others are.
pub(crate) struct Whereabouts {
    exchange: Mutex<Exchange>,
    /// There may be something to do.
    changed: Notify,
    voices: Mutex<HashMap<Principal, Voice>>,
    /// Who waits for the end of a search. As many as there are conversations and requests.
    searches: Mutex<HashMap<Principal, Vec<Waiting>>>,
    /// Streams broken off because what came over them was no PX-1.
    malformed: Counter,
    started: Instant,
}

/// How an exchange stands, in numbers.
pub(crate) struct Figures {
    /// Cards in the book.
    pub(crate) cards: u64,
    /// Memory of the book, in bytes.
    pub(crate) bytes: u64,
    pub(crate) counters: Counters,
    /// Streams that were no PX-1.
    pub(crate) malformed: u64,
}

/// Where somebody waits for the end of a search.
type Waiting = oneshot::Sender<Option<Arc<Card>>>;

/// Our ends of the streams with a peer.
struct Voice {
    session: SessionHandle,
    /// What we ask and tell.
    ours: mpsc::Sender<Message>,
    /// Our answers, while the peer has a stream of its own.
    answers: Option<mpsc::Sender<Message>>,
}

impl Whereabouts {
    /// Of `me`, with nothing known yet. `seed` should be random.
    pub(crate) fn new(me: Principal, seed: u64) -> Self {
        let exchange = Exchange::new(me, Visibility::default(), BookConfig::default(), seed);
        Self {
            exchange: Mutex::new(exchange),
            changed: Notify::new(),
            voices: Mutex::default(),
            searches: Mutex::default(),
            malformed: Counter::default(),
            started: Instant::now(),
        }
    }

    /// A native session with a peer began, or a newer one took the place of another.
    pub(crate) fn connected(
        self: &Arc<Self>,
        gateway: &Gateway,
        hosted: &Arc<Hosted>,
        session: &SessionHandle,
    ) {
        let remote = *session.remote();
        // When one of several sessions ends, the streams of the one that is left go on.
        if !self.speaks_over(session) {
            let (ours, messages) = mpsc::channel(MAX_WAITING_MESSAGES);
            let voice = Voice {
                session: session.clone(),
                ours,
                answers: None,
            };
            lock(&self.voices).insert(remote, voice);
            let speaking = streams::speak(Arc::clone(self), Arc::clone(hosted), session.clone(), messages);
            gateway.tasks.spawn(speaking);
        }
        let admitted = gateway.hosts.admits(&remote, hosted.principal());
        self.with(|exchange, now| exchange.connected(remote, admitted, now));
    }

    /// Whether this session is the one over which a peer is asked and told.
    fn speaks_over(&self, session: &SessionHandle) -> bool {
        let voices = lock(&self.voices);
        let voice = voices.get(session.remote());
        voice.is_some_and(|voice| voice.session.is_same(session) && !voice.ours.is_closed())
    }

    /// The rules changed: for everybody connected it is looked at again whether `admits` says yes.
    pub(crate) fn rules_changed(&self, admits: impl Fn(&Principal) -> bool) {
        // Held, so that nobody leaves meanwhile and is noted as connected.
        let voices = lock(&self.voices);
        for (peer, voice) in &*voices {
            if !voice.ours.is_closed() {
                let admitted = admits(peer);
                self.with(|exchange, now| exchange.connected(*peer, admitted, now));
            }
        }
    }

    /// The last native session with a peer ended.
    pub(crate) fn disconnected(&self, remote: &Principal) {
        lock(&self.voices).remove(remote);
        self.with(|exchange, now| exchange.disconnected(remote, now));
    }

    /// Serves the stream of a peer that asks and tells, until it ends.
    pub(crate) async fn listen(self: Arc<Self>, hosted: Arc<Hosted>, session: SessionHandle, stream: Stream) {
        let (answers, messages) = mpsc::channel(MAX_WAITING_MESSAGES);
        match lock(&self.voices).get_mut(session.remote()) {
            // Of several sessions the peer may take another one for the newest.
            Some(voice) => voice.answers = Some(answers),
            None => return,
        }
        let stop = hosted.stop().clone();
        stop.run_until_cancelled(streams::answer(&self, &hosted, &session, stream, messages))
            .await;
    }

    /// A peer said something.
    async fn heard(&self, hosted: &Hosted, peer: &Principal, message: Message) {
        let unverified = self.with(|exchange, now| exchange.received(peer, cards::to_exchange(message), now));
        if let Some(unverified) = unverified {
            let checked = cards::verified(hosted.principal().network(), unverified.cards()).await;
            for (_, card) in &checked {
                if let Err(error) = aliases::note_card(hosted, card).await {
                    debug!(%error, "cannot note what a peer calls itself");
                }
            }
            let good = checked.into_iter().map(|(facts, _)| facts).collect();
            self.note(unverified, good);
        }
    }

    fn note(&self, unverified: Unverified, good: Vec<Arc<Card>>) {
        self.with(|exchange, now| exchange.verified(unverified, good, now));
    }

    /// Takes in a card that came in an invite.
    pub(crate) fn learn(&self, card: Card) {
        self.with(|exchange, now| exchange.learn(Arc::new(card), now));
    }

    /// Where a principal says it is, as far as is known here.
    pub(crate) fn known(&self, principal: &Principal) -> Vec<Locator> {
        let now = self.now();
        let exchange = lock(&self.exchange);
        let known = exchange.lookup(principal, now);
        known.map_or_else(Vec::new, |known| known.card.locators.clone())
    }

    /// Asks the connected peers where a principal is. `None` when none of them knows.
    pub(crate) async fn resolve(&self, principal: &Principal) -> Option<Arc<Card>> {
        let (tell, told) = oneshot::channel();
        lock(&self.searches).entry(*principal).or_default().push(tell);
        self.with(|exchange, now| exchange.resolve(*principal, now));
        let found = tokio::time::timeout(RESOLVE_WITHIN + GRACE, told).await;
        found.ok().and_then(Result::ok).flatten()
    }

    /// Our addresses may have changed, or the rules.
    pub(crate) fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Counts for metrics.
    pub(crate) fn figures(&self) -> Figures {
        let exchange = lock(&self.exchange);
        Figures {
            cards: exchange.book().len() as u64,
            bytes: exchange.book().memory() as u64,
            counters: exchange.counters(),
            malformed: self.malformed.get(),
        }
    }

    /// Counts for `status`.
    pub(crate) fn summary(&self) -> serde_json::Value {
        let exchange = lock(&self.exchange);
        let counters = exchange.counters();
        serde_json::json!({
            "cards": exchange.book().len(),
            "questions": counters.questions,
            "pushes": counters.pushes,
            "forged": counters.cards_forged,
            "limited": counters.questions_limited + counters.pushes_limited + counters.cards_limited,
        })
    }

    /// Does something with the exchange, and sees to what follows from it.
    fn with<T>(&self, act: impl FnOnce(&mut Exchange, Moment) -> T) -> T {
        let now = self.now();
        let result = act(&mut lock(&self.exchange), now);
        self.changed.notify_one();
        result
    }

    fn now(&self) -> Moment {
        Moment {
            wall: clock::now(),
            mono: self.started.elapsed(),
        }
    }

    /// Does what the exchange wants done.
    fn drain(&self, gateway: &Gateway, hosted: &Hosted) {
        while let Some(output) = { lock(&self.exchange).poll_output() } {
            match output {
                Output::Send { to, message } => self.send(&to, cards::to_wire(message)),
                Output::Resolved { card } => {
                    let principal = card.principal;
                    self.found(&principal, Some(&card));
                }
                Output::NotFound { principal } => self.found(&principal, None),
                // Somebody may be waited for there.
                Output::Learned { card } => {
                    hurry(hosted, &card.principal);
                    nearer::look_again(gateway);
                }
            }
        }
    }

    fn send(&self, to: &Principal, message: Message) {
        let is_answer = matches!(message, Message::Found { .. });
        let sent = {
            let voices = lock(&self.voices);
            let voice = voices.get(to);
            let channel = voice.and_then(|voice| {
                if is_answer {
                    voice.answers.as_ref()
                } else {
                    Some(&voice.ours)
                }
            });
            channel.is_some_and(|channel| channel.try_send(message).is_ok())
        };
        if !sent && !is_answer {
            debug!(peer = %to, "a peer takes no part in the exchange of addresses");
            let now = self.now();
            lock(&self.exchange).disconnected(to, now);
        }
    }

    fn found(&self, principal: &Principal, card: Option<&Arc<Card>>) {
        let waiting = lock(&self.searches).remove(principal).unwrap_or_default();
        for waiting in waiting {
            // It may have given up.
            let _ = waiting.send(card.cloned());
        }
    }
}

/// Keeps the exchange of an identity going until it is no longer served.
pub(crate) async fn run(gateway: Gateway, hosted: Arc<Hosted>) {
    let stop = hosted.stop().clone();
    stop.run_until_cancelled(async {
        let whereabouts = hosted.whereabouts();
        let mut own = OwnCard::default();
        let mut policy = None;
        loop {
            let visibility = gateway.hosts.px1_visibility(hosted.principal());
            let card = own.renewed(&gateway, &hosted, visibility);
            let due = {
                let now = whereabouts.now();
                let mut exchange = lock(&whereabouts.exchange);
                if policy.replace(visibility) != Some(visibility) {
                    exchange.set_policy(visibility, visibility.px1_by_default(), now);
                }
                if let Some(card) = card {
                    exchange.set_own(card, now);
                }
                exchange.handle_timeout(now);
                exchange.poll_timeout()
            };
            whereabouts.drain(&gateway, &hosted);
            let look_again = Instant::now() + OWN_CARD_INTERVAL;
            let at = due.map_or(look_again, |due| look_again.min(whereabouts.started + due));
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = whereabouts.changed.notified() => {}
            }
        }
    })
    .await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
