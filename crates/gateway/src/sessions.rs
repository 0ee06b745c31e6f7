//! The open sessions, and how a new one is come by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawchat_node::{DialError, ErrorCode, Node, SessionHandle, SessionOpenError};
use clawchat_store::{PeerRecord, StoreError};
use clawchat_types::{Locator, PeerId, Principal};

use crate::hosted::{HostError, Hosted};
use crate::hosts::Hosts;

/// Our identity and the peer's: what a session is between.
type Pair = (Principal, Principal);

/// Sessions a pair may have at a time. More than two only a misbehaving peer opens; each may hold streams.
const MAX_SESSIONS_OF_PAIR: usize = 4;

/// Every open session of this gateway, by pair of identities. Usually one each; two for a moment when both
/// sides dial at once.
#[derive(Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<Pair, Vec<SessionHandle>>>,
    dialing: Mutex<HashMap<Pair, Arc<tokio::sync::Mutex<()>>>>,
}

/// Why there is no session with a peer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReachError {
    #[error("no address of this peer is known; add one with: clawchat peers add PRINCIPAL ADDRESS")]
    NoAddress,
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("{0}")]
    Open(#[from] SessionOpenError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Host(#[from] HostError),
}

impl ReachError {
    /// Whether the peer itself, authenticated or not, said that we may not talk to it.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Open(SessionOpenError::Refused(ErrorCode::NotAllowed)))
    }
}

impl Sessions {
    /// The newest live session between the two.
    pub(crate) fn find(&self, local: &Principal, remote: &Principal) -> Option<SessionHandle> {
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

    /// Every session, for closing those a changed rule no longer admits.
    pub(crate) fn all(&self) -> Vec<SessionHandle> {
        lock(&self.open).values().flatten().cloned().collect()
    }

    /// Keeps a session, at the cost of the oldest one when the pair has too many. Returns whether it is the first
    /// one of the pair.
    pub(crate) fn insert(&self, session: SessionHandle) -> bool {
        let mut open = lock(&self.open);
        let sessions = open.entry((*session.local(), *session.remote())).or_default();
        sessions.retain(|known| !known.is_closed());
        sessions.push(session);
        let surplus = sessions.len().saturating_sub(MAX_SESSIONS_OF_PAIR);
        for oldest in sessions.drain(..surplus) {
            oldest.close(ErrorCode::RateLimited);
        }
        sessions.len() == 1
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
    /// way; others wait for it. The second value tells whether the session is new: then the caller serves it.
    pub(crate) async fn reach(
        &self,
        node: &Node,
        hosts: &Hosts,
        hosted: &Hosted,
        remote: &Principal,
    ) -> Result<(SessionHandle, bool), ReachError> {
        let pair = (*hosted.principal(), *remote);
        let turn = Arc::clone(lock(&self.dialing).entry(pair).or_default());
        let result = {
            let _dialing = turn.lock().await;
            match self.find(&pair.0, &pair.1) {
                Some(session) => Ok((session, false)),
                None => open(node, hosts, hosted, remote)
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

async fn open(
    node: &Node,
    hosts: &Hosts,
    hosted: &Hosted,
    remote: &Principal,
) -> Result<SessionHandle, ReachError> {
    let PeerRecord {
        peer_id,
        mut locators,
        ..
    } = known(hosts, hosted, remote)?;
    let named: Vec<PeerId> = locators
        .iter()
        .filter_map(Locator::peer_id)
        .chain(peer_id.clone())
        .collect();
    // Whoever answers at an address with a refusal has not proven to be where the peer is: its access list counts only
    // if that gateway was named, or none ever was.
    let believed = |peer: &PeerId| named.is_empty() || named.contains(peer);
    let mut refusal = None;
    if let Some(peer) = peer_id.filter(|peer| node.is_connected(peer)) {
        match node
            .open_session(&peer, hosted.credentials()?, Some(*remote))
            .await
        {
            Err(error) if is_elsewhere(&error) => refusal = Some(error),
            result => return Ok(result?),
        }
        locators.retain(|locator| locator.peer_id().as_ref() != Some(&peer));
    }
    while !locators.is_empty() {
        let connected = match (node.connect(&locators).await, refusal.take()) {
            (Ok(connected), _) => connected,
            (Err(_), Some(refusal)) => return Err(refusal.into()),
            (Err(error), None) => return Err(error.into()),
        };
        let peer = connected.peer;
        match node
            .open_session(&peer, hosted.credentials()?, Some(*remote))
            .await
        {
            Err(error) if is_elsewhere(&error) => refusal = Some(error),
            Err(SessionOpenError::Refused(ErrorCode::NotAllowed)) if !believed(&peer) => {
                refusal = Some(SessionOpenError::Refused(ErrorCode::UnknownPrincipal));
            }
            result => return Ok(result?),
        }
        // Each round leaves at least the address that led here.
        locators.retain(|locator| {
            locator.peer_id().as_ref() != Some(&peer) && locator.with_peer_id(&peer) != connected.locator
        });
    }
    Err(refusal.map_or(ReachError::NoAddress, ReachError::Open))
}

/// Whether the gateway that was reached is not the one the peer is at: it may have moved, and be found at another of
/// its addresses.
fn is_elsewhere(error: &SessionOpenError) -> bool {
    matches!(
        error,
        SessionOpenError::Refused(ErrorCode::UnknownPrincipal)
            | SessionOpenError::Rejected { .. }
            | SessionOpenError::ProtocolUnsupported
            | SessionOpenError::Unreachable { .. }
    )
}

/// What is known of a peer: by the identity that wants to reach it, otherwise by another one of this gateway. Peer
/// lists are per identity, but they all speak from the same node, and a message is not to wait for an address that
/// is known here.
fn known(hosts: &Hosts, hosted: &Hosted, remote: &Principal) -> Result<PeerRecord, ReachError> {
    let own = hosted.store().store().peer(remote)?;
    let leads_there = |record: &PeerRecord| !record.locators.is_empty();
    let borrowed = || {
        let others = hosts.loaded();
        let mut records = others
            .iter()
            .filter_map(|other| other.store().store().peer(remote).ok()?);
        records.find(leads_there)
    };
    match own {
        Some(own) if leads_there(&own) => Ok(own),
        own => borrowed().or(own).ok_or(ReachError::NoAddress),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
