//! Sessions while they last: serving what peers open, and keeping up with the peers we know.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use clawchat_identity::{Attestation, CLOCK_SKEW_SECS};
use clawchat_node::{ErrorCode, LegacySession, NodeEvent, SessionHandle};
use clawchat_router::{Backoff, Visibility};
use clawchat_snap2p::chat::CHAT_LABEL;
use clawchat_snap2p::px1::PX1_LABEL;
use clawchat_store::{MAX_PEER_LOCATORS, PeerRecord, StoreError};
use clawchat_types::{Locator, PeerId, Principal};
use futures::stream::{self, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::clock;
use crate::delivery::{self, hurry};
use crate::hints;
use crate::hosted::{Event, Hosted};
use crate::link::Link;
use crate::mesh;
use crate::nearer;
use crate::peer_records::PeerTurn;
use crate::reports::Reports;
use crate::sessions::ReachError;
use crate::shared::{Gateway, Shared};
use crate::whereabouts::Dialable;

/// `chat/1` streams a peer may have open in one session. One is enough for a well-behaved peer.
const MAX_CHAT_STREAMS: usize = 4;
/// `px-1` streams, likewise; the newest is answered.
const MAX_PX1_STREAMS: usize = 2;
/// Peers an identity remembers, those the operator added included; beyond it a newcomer takes the place of one that
/// only turned up.
const MAX_MET_PEERS: usize = 1024;
/// Known addresses of a peer that reported ones do not push out.
const KEPT_IN_FRONT: usize = 4;
/// Peers an identity keeps a session with: contacts first, then the most recently seen. Others are dialed when there is a message.
const MAX_KEPT_PEERS: usize = 64;
/// Dials under way at once while catching up with known peers.
const PARALLEL_DIALS: usize = 4;
/// How often the list of known peers is looked through for those without a session.
const KEEP_INTERVAL: Duration = Duration::from_secs(5);
/// The same after this machine went to another network, until as many tries were made. The network may need a moment.
const MOVED_INTERVALS: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_secs(2),
];
/// Longest life of a session before it is opened anew, however long its attestations are valid.
const LONGEST_SESSION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Shared {
    /// Whether the operator knows this peer: added it, or names it in an access list. Others only turned up.
    pub(crate) fn is_contact(&self, hosted: &Hosted, peer: &PeerRecord) -> bool {
        peer.added || self.hosts.names(hosted.principal(), &peer.principal)
    }

    /// A session from `hosted` to `remote`, served if it is new. What waits for `remote` is then tried at once;
    /// see [`Shared::reach_for_delivery`] for the one who tries it anyway.
    pub(crate) async fn reach(
        self: &Arc<Self>,
        hosted: &Arc<Hosted>,
        remote: &Principal,
    ) -> Result<Link, ReachError> {
        self.keep_up(hosted, remote, true).await
    }

    /// The same for keeping up with somebody: peers are asked where it is only if this try is worth a search.
    async fn keep_up(
        self: &Arc<Self>,
        hosted: &Arc<Hosted>,
        remote: &Principal,
        searches: bool,
    ) -> Result<Link, ReachError> {
        let session = self.open(hosted, remote, searches).await?;
        hurry(hosted, remote);
        Ok(session)
    }

    /// The same for the conversation itself: it must not hurry itself on, or a peer that takes sessions only to close
    /// them is tried without a pause.
    pub(crate) async fn reach_for_delivery(
        self: &Arc<Self>,
        hosted: &Arc<Hosted>,
        remote: &Principal,
    ) -> Result<Link, ReachError> {
        self.open(hosted, remote, true).await
    }

    async fn open(
        self: &Arc<Self>,
        hosted: &Arc<Hosted>,
        remote: &Principal,
        searches: bool,
    ) -> Result<Link, ReachError> {
        let (session, new) = self.sessions.reach(self, hosted, remote, searches).await?;
        if new {
            keep_serving(self, session.clone());
        }
        Ok(session)
    }
}

/// Handles what the network reports, until the gateway stops.
pub(crate) async fn run(gateway: Gateway, mut events: mpsc::Receiver<NodeEvent>) {
    let stop = gateway.stop.clone();
    stop.run_until_cancelled(async {
        let mut reports = Reports::default();
        let mut reported = String::new();
        loop {
            let due = reports.next_due();
            let event = tokio::select! {
                event = events.recv() => event,
                () = until(due) => {
                    let peers = reports.take_due(Instant::now());
                    peers.iter().for_each(|peer| note_sessions_with(&gateway, peer));
                    continue;
                }
            };
            let Some(event) = event else { return };
            match event {
                NodeEvent::Session(session) => adopt(&gateway, Link::Native(session)),
                NodeEvent::LegacySession(session) => adopt_legacy(&gateway, session),
                NodeEvent::Px1(request) => hints::answer(&gateway, request),
                NodeEvent::ListenersChanged => tell_whereabouts(&gateway),
                // Now the peer's own addresses are known. It may say so as often as it likes; once in a while is
                // worth a write.
                NodeEvent::PeerIdentified { peer } => {
                    let at_once = reports.came(peer.clone(), Instant::now());
                    if at_once {
                        note_sessions_with(&gateway, &peer);
                    }
                }
                NodeEvent::Moved => moved(&gateway),
                NodeEvent::Upgraded { .. } => nearer::look_again(&gateway),
                NodeEvent::Neighbour { peer } => nearer::greet(&gateway, &peer),
                NodeEvent::ReachabilityChanged => {
                    nearer::report(&gateway, &mut reported);
                    tell_whereabouts(&gateway);
                }
                _ => {}
            }
        }
    })
    .await;
}

/// Waits for that time, or for ever.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// This machine went to another network: whoever cannot be reached is tried again.
fn moved(gateway: &Gateway) {
    gateway.moves.send_modify(|count| *count = count.wrapping_add(1));
    for hosted in gateway.hosts.loaded() {
        let waiting: Vec<Principal> = hosted.conversations().keys().copied().collect();
        waiting.iter().for_each(|remote| hurry(&hosted, remote));
    }
}

/// Our addresses changed: cards are made anew if need be.
fn tell_whereabouts(gateway: &Gateway) {
    for hosted in gateway.hosts.loaded() {
        hosted.whereabouts().look_again();
    }
}

fn note_sessions_with(gateway: &Gateway, peer: &PeerId) {
    let sessions = gateway.sessions.all();
    for session in sessions.into_iter().filter(|session| session.peer_id() == peer) {
        gateway.tasks.spawn(note(Arc::clone(gateway), session));
    }
}

/// Keeps a session that came about without a conversation asking for it; what waits for the peer is tried now.
pub(crate) fn adopt(gateway: &Gateway, session: Link) {
    let (local, remote) = (*session.local(), *session.remote());
    keep_serving(gateway, session);
    if let Some(hosted) = gateway.hosts.find(&local) {
        hurry(&hosted, &remote);
    }
}

/// Keeps a session of ClawChat 1.0 that a peer opened, unless it turned out meanwhile that the peer speaks the native
/// protocol.
fn adopt_legacy(gateway: &Gateway, session: LegacySession) {
    if gateway.hosts.is_pinned(session.remote()) {
        session.close();
        return;
    }
    adopt(gateway, Link::Legacy(session));
}

/// Keeps a session and serves it until it ends.
fn keep_serving(gateway: &Gateway, session: Link) {
    let Some(hosted) = gateway.hosts.find(session.local()) else {
        session.close(ErrorCode::UnknownPrincipal);
        return;
    };
    let first = gateway.sessions.insert(session.clone());
    // Whoever takes back a permission closes the sessions that are there. This one may have been on its way.
    if !is_still_welcome(gateway, &hosted, &session) {
        session.close(ErrorCode::NotAllowed);
    }
    let is_contact = |link: &Link| gateway.hosts.is_contact(link.remote());
    gateway.sessions.keep_room(&session, is_contact);
    gateway
        .tasks
        .spawn(serve(Arc::clone(gateway), hosted, session, first));
}

/// Whether a session would be let in now, if a peer opened it.
pub(crate) fn is_still_welcome(gateway: &Gateway, hosted: &Hosted, session: &Link) -> bool {
    let (local, remote) = (session.local(), session.remote());
    let hidden = gateway.hosts.visibility(local) == Some(Visibility::Stealth);
    let known = !hidden || hosted.invites().is_member(remote);
    session.is_outbound() || known && gateway.hosts.admits(remote, local)
}

async fn serve(gateway: Gateway, hosted: Arc<Hosted>, session: Link, first: bool) {
    let remote = *session.remote();
    // Perhaps it came by an invite: that it did must not be forgotten once anything was taken from it.
    if let Err(error) = hosted.invites().settled().await {
        warn!(identity = %hosted.principal(), peer = %remote, %error, "a session ends: its invite cannot be noted");
        session.close(ErrorCode::RateLimited);
    }
    if first {
        info!(identity = %hosted.principal(), peer = %remote, "connected");
        hosted.announce(Event::Peer {
            principal: remote,
            connected: true,
        });
    }
    gateway.tasks.spawn(note(Arc::clone(&gateway), session.clone()));
    hints::introduce(&gateway, &session);
    if let Link::Native(session) = &session {
        hosted.whereabouts().connected(&gateway, &hosted, session);
        mesh::connected(&gateway, session);
    }
    let stop = hosted.stop().clone();
    tokio::select! {
        () = receive(&gateway, &hosted, &session) => {}
        () = tokio::time::sleep(proven_for(&session)) => {
            // The peer shows a newer attestation in the next session.
            debug!(peer = %remote, "the peer's attestation expired during the session");
            session.close(ErrorCode::AuthExpired);
        }
        () = nearer::leave_relay(&gateway, &hosted, &session) => {}
        () = stop.cancelled() => session.close(ErrorCode::NoError),
    }
    let gone = gateway.sessions.sweep(hosted.principal(), &remote);
    match gateway.sessions.find(hosted.principal(), &remote) {
        Some(Link::Native(left)) => hosted.whereabouts().connected(&gateway, &hosted, &left),
        Some(Link::Legacy(_)) | None => hosted.whereabouts().disconnected(&remote),
    }
    if gone {
        info!(identity = %hosted.principal(), peer = %remote, "disconnected");
        hosted.announce(Event::Peer {
            principal: remote,
            connected: false,
        });
        if let Err(error) = seen(&hosted, &remote).await {
            debug!(identity = %hosted.principal(), %error, "cannot note when a peer was last seen");
        }
    }
}

/// Notes that a known peer was here until now.
async fn seen(hosted: &Hosted, remote: &Principal) -> Result<(), StoreError> {
    let turn = hosted.peers().turn().await;
    if let Some(mut record) = hosted.store().store().peer(remote)? {
        record.last_seen = Some(clock::now());
        turn.put(record).await?;
    }
    Ok(())
}

/// How long the attestation the session rests on is still good.
fn proven_for(session: &Link) -> Duration {
    let expiry = Attestation::from_bytes(session.remote_attestation()).map_or(0, |attestation| {
        attestation.expires_at().0.saturating_add(CLOCK_SKEW_SECS)
    });
    let left = expiry.saturating_sub(clock::now().seconds().0);
    Duration::from_secs(u64::try_from(left).unwrap_or(0)).min(LONGEST_SESSION)
}

/// Takes what the peer sends until the session ends.
async fn receive(gateway: &Gateway, hosted: &Arc<Hosted>, session: &Link) {
    match session {
        Link::Native(session) => accept_streams(gateway, hosted, session).await,
        Link::Legacy(session) => {
            let receiving =
                delivery::receive_legacy(Arc::clone(gateway), Arc::clone(hosted), session.clone());
            receiving.await;
        }
    }
}

/// Takes streams until the session ends.
async fn accept_streams(gateway: &Gateway, hosted: &Arc<Hosted>, session: &SessionHandle) {
    let (mut chats, mut exchanges) = (JoinSet::new(), JoinSet::new());
    while let Some(inbound) = session.accept().await {
        while chats.try_join_next().is_some() || exchanges.try_join_next().is_some() {}
        if inbound.label() == PX1_LABEL && exchanges.len() < MAX_PX1_STREAMS {
            let whereabouts = Arc::clone(hosted.whereabouts());
            let stream = inbound.accept();
            exchanges.spawn(whereabouts.listen(Arc::clone(hosted), session.clone(), stream));
        } else if inbound.label() == CHAT_LABEL && chats.len() < MAX_CHAT_STREAMS {
            let stream = inbound.accept();
            chats.spawn(delivery::receive(
                Arc::clone(gateway),
                Arc::clone(hosted),
                session.clone(),
                stream,
            ));
        } else if inbound.label() == mesh::MESH_LABEL {
            mesh::accept(gateway, session, inbound);
        } else {
            debug!(peer = %session.remote(), label = inbound.label(), "a stream was refused");
            gateway.tally.streams_refused.count();
            inbound.refuse(ErrorCode::StreamRefused);
        }
    }
}

/// Notes who the peer is and where it says it can be reached.
async fn note(gateway: Gateway, session: Link) {
    let Some(hosted) = gateway.hosts.find(session.local()) else {
        return;
    };
    if let Err(error) = try_note(&gateway, &hosted, &session).await {
        warn!(identity = %hosted.principal(), %error, "cannot note a peer");
    }
}

async fn try_note(gateway: &Gateway, hosted: &Hosted, session: &Link) -> Result<(), StoreError> {
    let turn = hosted.peers().turn().await;
    let Some(mut record) = record_of(hosted, &turn, session.remote()).await? else {
        return Ok(());
    };
    let before = record.clone();
    record.attestation = Some(session.remote_attestation().to_vec());
    record.node_id = Some(*session.remote_node());
    record.peer_id = Some(session.peer_id().clone());
    record.protocol_pin = record.protocol_pin.max(Some(session.generation()));
    let mut reported = gateway.node.peer_locators(session.peer_id());
    if !gateway.is_contact(hosted, &record) {
        reported = Dialable::worth_keeping(reported, &gateway.node.locators());
    }
    merge(&mut record.locators, reported);
    if record != before {
        record.last_seen = Some(clock::now());
        turn.put(record).await?;
    }
    Ok(())
}

/// Notes the address that led to a peer, so that it is the first to be tried the next time.
pub(crate) async fn note_way(
    hosted: &Hosted,
    remote: &Principal,
    peer: &PeerId,
    way: &Locator,
) -> Result<(), StoreError> {
    let turn = hosted.peers().turn().await;
    let Some(mut record) = record_of(hosted, &turn, remote).await? else {
        return Ok(());
    };
    if put_first(&mut record.locators, peer, way) {
        turn.put(record).await?;
    }
    Ok(())
}

/// Puts the address that worked in front, as it was written. Returns whether that changed anything.
fn put_first(known: &mut Vec<Locator>, peer: &PeerId, way: &Locator) -> bool {
    match known.iter().position(|known| known.with_peer_id(peer) == *way) {
        Some(0) => return false,
        Some(place) => known[..=place].rotate_right(1),
        None => {
            known.insert(0, way.clone());
            known.truncate(MAX_PEER_LOCATORS);
        }
    }
    true
}

/// What is remembered of a peer, which may be nothing yet. `None` when there is no room for one more.
async fn record_of(
    hosted: &Hosted,
    turn: &PeerTurn<'_>,
    remote: &Principal,
) -> Result<Option<PeerRecord>, StoreError> {
    Ok(match hosted.store().store().peer(remote)? {
        Some(record) => Some(record),
        None if make_room(hosted, turn).await? => Some(PeerRecord::new(*remote)),
        None => None,
    })
}

/// Makes sure that one more peer can be remembered, if need be at the cost of the one that turned up longest ago and
/// has nothing waiting for it. Returns whether there is room.
async fn make_room(hosted: &Hosted, turn: &PeerTurn<'_>) -> Result<bool, StoreError> {
    let store = hosted.store().store();
    let peers = store.peers()?;
    if peers.len() < MAX_MET_PEERS {
        return Ok(true);
    }
    let mut met: Vec<PeerRecord> = peers.into_iter().filter(|peer| !peer.added).collect();
    met.sort_by_key(|peer| peer.last_seen);
    for peer in met {
        if !store.has_pending(&peer.principal)? {
            turn.remove(peer.principal).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes in the addresses a peer reports. The first few known ones stay in front: what the operator gave, or what
/// worked. Behind them the reported ones push out what was learned longest ago, so that a peer that moved is found.
pub(crate) fn merge(known: &mut Vec<Locator>, reported: Vec<Locator>) {
    let older = known.split_off(known.len().min(KEPT_IN_FRONT));
    for locator in reported.into_iter().chain(older) {
        if !known.contains(&locator) && known.len() < MAX_PEER_LOCATORS {
            known.push(locator);
        }
    }
}

/// Keeps sessions with the peers `hosted` knows: dials them at start, and again with growing pauses after a
/// session was lost, so that what waits on either side flows as soon as both are there.
pub(crate) async fn keep(gateway: Gateway, hosted: Arc<Hosted>) {
    let stop = hosted.stop().clone();
    stop.run_until_cancelled(async {
        let mut tries: HashMap<Principal, Backoff> = HashMap::new();
        let mut moves = gateway.moves.subscribe();
        let mut hasty = [].iter();
        loop {
            let due = due_peers(&gateway, &hosted, &mut tries);
            let results: Vec<(Principal, bool)> = stream::iter(due)
                .map(|remote| {
                    let (gateway, hosted) = (&gateway, &hosted);
                    let searches = tries.get(&remote).is_none_or(Backoff::searches);
                    async move {
                        let reached = gateway.keep_up(hosted, &remote, searches).await;
                        (remote, reached.is_ok())
                    }
                })
                .buffer_unordered(PARALLEL_DIALS)
                .collect()
                .await;
            for (remote, reached) in results {
                if reached {
                    tries.remove(&remote);
                } else {
                    tries
                        .entry(remote)
                        .or_default()
                        .after_failure(clock::now(), clock::jitter());
                }
            }
            let pause = *hasty.next().unwrap_or(&KEEP_INTERVAL);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = moves.changed() => {
                    hasty = MOVED_INTERVALS.iter();
                    // Sessions that began elsewhere are about to end.
                    tokio::time::sleep(*hasty.next().unwrap_or(&KEEP_INTERVAL)).await;
                }
            }
            if hasty.len() > 0 {
                tries.clear();
            }
        }
    })
    .await;
}

/// The peers to dial now, and a clean-up of the notes about others.
fn due_peers(gateway: &Gateway, hosted: &Hosted, tries: &mut HashMap<Principal, Backoff>) -> Vec<Principal> {
    let mut peers = match hosted.store().store().peers() {
        Ok(peers) => peers,
        Err(error) => {
            warn!(identity = %hosted.principal(), %error, "cannot read the peer list");
            return Vec::new();
        }
    };
    peers.retain(|peer| !peer.locators.is_empty() && !gateway.hosts.is_configured(&peer.principal));
    // Whoever just turned up does not take the place of a contact.
    let known = |peer: &PeerRecord| gateway.is_contact(hosted, peer);
    // A hidden identity does not show itself to whom it let in once and shut out again.
    if gateway.hosts.visibility(hosted.principal()) == Some(Visibility::Stealth) {
        peers.retain(|peer| known(peer) || hosted.invites().is_member(&peer.principal));
    }
    peers.sort_by_key(|peer| std::cmp::Reverse((known(peer), peer.last_seen, peer.principal)));
    peers.truncate(MAX_KEPT_PEERS);
    tries.retain(|principal, _| peers.iter().any(|peer| peer.principal == *principal));
    let now = clock::now();
    peers
        .into_iter()
        .map(|peer| peer.principal)
        .filter(|principal| gateway.sessions.find(hosted.principal(), principal).is_none())
        .filter(|principal| tries.get(principal).is_none_or(|backoff| backoff.is_due(now)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locators(ports: std::ops::Range<u16>) -> Vec<Locator> {
        ports
            .map(|port| format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap())
            .collect()
    }

    #[test]
    fn what_worked_last_is_tried_first_and_nothing_known_is_lost_by_that() {
        let peer: PeerId = "12D3KooWNZypvL2Um2qCT98FhMAf6mwGzPzFy8E7JsNnM7ipEHJo"
            .parse()
            .unwrap();
        let all = locators(1..6);
        let mut known = all.clone();
        // It was dialed by an address that names nobody; the way back names who answered.
        assert!(put_first(&mut known, &peer, &all[3].with_peer_id(&peer)));
        assert_eq!(
            known,
            [&all[3], &all[0], &all[1], &all[2], &all[4]].map(Clone::clone)
        );
        assert!(
            !put_first(&mut known, &peer, &all[3].with_peer_id(&peer)),
            "it is first already"
        );
        let told = locators(9..10).remove(0).with_peer_id(&peer);
        assert!(put_first(&mut known, &peer, &told));
        assert_eq!((known.len(), &known[0]), (6, &told));
        let mut full = locators(20..100);
        full.truncate(MAX_PEER_LOCATORS);
        assert!(put_first(&mut full, &peer, &told));
        assert_eq!((full.len(), &full[0]), (MAX_PEER_LOCATORS, &told));
    }

    #[test]
    fn a_peer_that_moves_again_and_again_stays_reachable_and_its_list_bounded() {
        let mut known = locators(1..3);
        for move_number in 1..20 {
            let reported = locators(move_number * 100..move_number * 100 + 6);
            merge(&mut known, reported.clone());
            assert!(known.len() <= MAX_PEER_LOCATORS);
            assert_eq!(
                known[..2],
                locators(1..3),
                "what the operator gave stays in front"
            );
            assert!(reported.iter().all(|locator| known.contains(locator)));
        }
    }
}
