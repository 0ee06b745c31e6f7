//! The open sessions.

mod opening;
mod strangers;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawchat_node::ErrorCode;
use clawchat_types::{PeerId, Principal};
use tokio::sync::Notify;
use tracing::debug;

use self::strangers::Crowd;
use crate::hosted::Hosted;
use crate::link::Link;
use crate::metrics::Tally;
use crate::shared::Shared;

pub(crate) use self::opening::{Finality, ReachError, dial_again, open_again, open_with, ways};

/// Our identity and the peer's: what a session is between.
type Pair = (Principal, Principal);

/// Sessions a pair may have at a time. More than two only a misbehaving peer opens; each may hold streams.
const MAX_SESSIONS_OF_PAIR: usize = 4;

/// Open sessions, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) native: u64,
    pub(crate) legacy: u64,
    /// Of both, with peers that were no contacts when they came.
    pub(crate) strangers: u64,
}

/// Every open session of this gateway, by pair of identities. Usually one each; two for a moment when both
/// sides dial at once.
pub(crate) struct Sessions {
    open: Mutex<HashMap<Pair, Vec<Link>>>,
    dialing: Mutex<HashMap<Pair, Arc<tokio::sync::Mutex<()>>>>,
    /// A session was added.
    added: Notify,
    /// Those with peers that were no contacts when they came. Never locked while `open` is.
    strangers: Mutex<Crowd<Link>>,
    /// Connections the gateway may have.
    connections: usize,
    tally: Arc<Tally>,
}

impl Sessions {
    /// None yet, on a gateway that may have so many connections.
    pub(crate) fn new(connections: usize, tally: Arc<Tally>) -> Self {
        Self {
            open: Mutex::default(),
            dialing: Mutex::default(),
            added: Notify::new(),
            strangers: Mutex::default(),
            connections,
            tally,
        }
    }

    /// The newest live session between the two.
    pub(crate) fn find(&self, local: &Principal, remote: &Principal) -> Option<Link> {
        let open = lock(&self.open);
        open.get(&(*local, *remote))?
            .iter()
            .rev()
            .find(|session| !session.is_closed())
            .cloned()
    }

    /// The principals `local` has sessions with.
    pub(crate) fn peers_of(&self, local: &Principal) -> Vec<Principal> {
        let open = lock(&self.open);
        let mut peers: Vec<Principal> = open
            .iter()
            .filter(|((ours, _), sessions)| ours == local && sessions.iter().any(|s| !s.is_closed()))
            .map(|((_, theirs), _)| *theirs)
            .collect();
        peers.sort_unstable();
        peers
    }

    /// How many there are.
    pub(crate) fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        for link in lock(&self.open)
            .values()
            .flatten()
            .filter(|link| !link.is_closed())
        {
            match link {
                Link::Native(_) => figures.native += 1,
                Link::Legacy(_) => figures.legacy += 1,
            }
        }
        let mut strangers = lock(&self.strangers);
        strangers.retain(|link| !link.is_closed());
        figures.strangers = strangers.len() as u64;
        figures
    }

    /// Every session, for closing those a changed rule no longer admits.
    pub(crate) fn all(&self) -> Vec<Link> {
        lock(&self.open).values().flatten().cloned().collect()
    }

    /// The open sessions with this gateway.
    pub(crate) fn with_gateway(&self, peer: &PeerId) -> Vec<Link> {
        let mut links = self.all();
        links.retain(|link| link.peer_id() == peer && !link.is_closed());
        links
    }

    /// The same, as soon as there is one. Waits for ever otherwise.
    pub(crate) async fn first_with_gateway(&self, peer: &PeerId) -> Vec<Link> {
        loop {
            let mut added = pin!(self.added.notified());
            added.as_mut().enable();
            let links = self.with_gateway(peer);
            if !links.is_empty() {
                return links;
            }
            added.await;
        }
    }

    /// Keeps a session, at the cost of the oldest one when the pair has too many. Returns whether it is the first
    /// one of the pair.
    pub(crate) fn insert(&self, session: Link) -> bool {
        let mut open = lock(&self.open);
        let sessions = open.entry((*session.local(), *session.remote())).or_default();
        sessions.retain(|known| !known.is_closed());
        sessions.push(session);
        let surplus = sessions.len().saturating_sub(MAX_SESSIONS_OF_PAIR);
        for oldest in sessions.drain(..surplus) {
            self.tally.displaced_by_pair.count();
            oldest.close(ErrorCode::RateLimited);
        }
        self.added.notify_waiters();
        sessions.len() == 1
    }

    /// Ends sessions with strangers while there are so many that contacts might find no room, now that this one came.
    pub(crate) fn keep_room(&self, newcomer: &Link, is_contact: impl Fn(&Link) -> bool) {
        let stranger = !is_contact(newcomer);
        let open = self.all().iter().filter(|link| !link.is_closed()).count();
        let mut strangers = lock(&self.strangers);
        strangers.retain(|link| !link.is_closed());
        if stranger {
            strangers.enter(newcomer.host(), newcomer.clone());
        }
        loop {
            let contacts = open.saturating_sub(strangers.len());
            if strangers.len() <= strangers::allowed(self.connections, contacts) {
                return;
            }
            let Some(link) = strangers.pop() else { return };
            // It may have been added in the meantime; then it is just not counted among them any more.
            if !is_contact(&link) {
                debug!(peer = %link.remote(), "a stranger's session ends, to keep room for contacts");
                self.tally.displaced_strangers.count();
                link.close(ErrorCode::RateLimited);
            }
        }
    }

    /// Forgets sessions of the pair that have ended. Returns whether the last one went with that.
    pub(crate) fn sweep(&self, local: &Principal, remote: &Principal) -> bool {
        let mut open = lock(&self.open);
        let Some(sessions) = open.get_mut(&(*local, *remote)) else {
            return false;
        };
        sessions.retain(|known| !known.is_closed());
        let gone = sessions.is_empty();
        if gone {
            open.remove(&(*local, *remote));
        }
        gone
    }

    /// A session from `hosted` to `remote`: one that is open, or a new one. At most one dial of a pair is under
    /// way; others wait for it. `searches`: if no known address works, connected peers are asked. The second value tells whether the session is new: then the caller serves it.
    pub(crate) async fn reach(
        &self,
        gateway: &Shared,
        hosted: &Hosted,
        remote: &Principal,
        searches: bool,
    ) -> Result<(Link, bool), ReachError> {
        let pair = (*hosted.principal(), *remote);
        let turn = Arc::clone(lock(&self.dialing).entry(pair).or_default());
        let result = {
            let _dialing = turn.lock().await;
            match self.find(&pair.0, &pair.1) {
                Some(session) => Ok((session, false)),
                None => opening::open(gateway, hosted, remote, searches)
                    .await
                    .map(|session| (session, true)),
            }
        };
        drop(turn);
        let mut dialing = lock(&self.dialing);
        if dialing
            .get(&pair)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            dialing.remove(&pair);
        }
        result
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
