//! One identity while it is served: its keys, its store and whoever waits for something of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clawchat_identity::{Attestation, Identity, NodeKey, Verified};
use clawchat_snap2p::Credentials;
use clawchat_store::{Outcome, StoreError, StoreHandle, Write};
use clawchat_types::{MessageId, Nick, NodeId, OutboundStatus, Principal, UnixMillis, UnixSeconds};
use serde_json::Value;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::claims::Claims;
use crate::clock;
use crate::delivery::Conversation;
use crate::invite::Shown;
use crate::invites::{Invites, InvitesFileError};
use crate::metrics::Counter;
use crate::peer_records::PeerRecords;
use crate::receipts::Receipts;
use crate::wake;
use crate::whereabouts::Whereabouts;

/// How long an attestation made for sessions is valid. Those in invites last longer: a stolen node key is useless once
/// the last invite made before the theft has expired.
const ATTESTATION_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// State changes and peer events a subscriber may be behind before it is told that it missed some.
const EVENT_BACKLOG: usize = 1024;

/// Something that happened to an identity, for subscribers. Arriving messages are not here: they are read from
/// the store, so that none can be missed.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// An outgoing message changed its state.
    State {
        id: MessageId,
        to: Principal,
        status: OutboundStatus,
        last_error: Option<String>,
    },
    /// The first session with a peer came about, or the last one ended.
    Peer { principal: Principal, connected: bool },
}

/// Counts sent messages whose fate is settled, since the identity is served.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) delivered: Counter,
    /// To peers that give no receipts.
    pub(crate) sent: Counter,
    pub(crate) failed: Counter,
}

impl Settled {
    fn count(&self, status: OutboundStatus) {
        match status {
            OutboundStatus::Delivered => self.delivered.count(),
            OutboundStatus::Sent => self.sent.count(),
            OutboundStatus::Failed => self.failed.count(),
            OutboundStatus::Pending => {}
        }
    }
}

/// A served identity.
pub(crate) struct Hosted {
    principal: Principal,
    identity: Identity,
    node_key: Arc<NodeKey>,
    attestation: Mutex<Attestation<Verified>>,
    /// The same for the key of the gateway's node, once it was needed.
    legacy_attestation: Mutex<Option<Attestation<Verified>>>,
    nick: Mutex<Option<Nick>>,
    invite: Mutex<Option<Shown>>,
    invites: Invites,
    store: StoreHandle,
    arrivals: watch::Sender<u64>,
    events: broadcast::Sender<Event>,
    receipts: Receipts,
    conversations: Mutex<BTreeMap<Principal, Arc<Conversation>>>,
    claims: Mutex<Claims>,
    peers: PeerRecords,
    whereabouts: Arc<Whereabouts>,
    wakes: wake::Board,
    settled: Settled,
    stop: CancellationToken,
}

impl Hosted {
    /// Starts serving `identity` out of `store`, open to whom `invites` let in. Ends with `stop`.
    ///
    /// # Errors
    /// When the system gives no randomness for the attestation, or the store cannot be read.
    pub(crate) fn new(
        identity: Identity,
        nick: Option<Nick>,
        store: StoreHandle,
        invites: Invites,
        stop: CancellationToken,
    ) -> Result<Self, HostError> {
        let latest = store.store().inbox_count()?;
        let attestation = attest(&identity)?;
        let peers = PeerRecords::of(store.clone())?;
        let seed = u64::from_le_bytes(clock::random()?);
        let whereabouts = Arc::new(Whereabouts::new(*identity.principal(), seed));
        Ok(Self {
            principal: *identity.principal(),
            node_key: Arc::new(identity.node_key().clone()),
            attestation: Mutex::new(attestation),
            legacy_attestation: Mutex::default(),
            nick: Mutex::new(nick),
            invite: Mutex::default(),
            invites,
            identity,
            store,
            arrivals: watch::Sender::new(latest),
            events: broadcast::Sender::new(EVENT_BACKLOG),
            receipts: Receipts::default(),
            conversations: Mutex::default(),
            claims: Mutex::default(),
            peers,
            whereabouts,
            wakes: wake::Board::default(),
            settled: Settled::default(),
            stop,
        })
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn node_key(&self) -> &NodeKey {
        &self.node_key
    }

    pub(crate) fn node_id(&self) -> NodeId {
        self.node_key.node_id()
    }

    pub(crate) fn nick(&self) -> Option<Nick> {
        lock(&self.nick).clone()
    }

    pub(crate) fn set_nick(&self, nick: Option<Nick>) {
        *lock(&self.nick) = nick;
    }

    /// The invite shown last.
    pub(crate) fn invite(&self) -> MutexGuard<'_, Option<Shown>> {
        lock(&self.invite)
    }

    /// The tokens it handed out, and whom they let in.
    pub(crate) fn invites(&self) -> &Invites {
        &self.invites
    }

    pub(crate) fn store(&self) -> &StoreHandle {
        &self.store
    }

    pub(crate) fn receipts(&self) -> &Receipts {
        &self.receipts
    }

    /// Ends when the identity is no longer served.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// What a peer is shown in a session: renewed once half its life is over, so that a session always starts
    /// with hours to spare.
    ///
    /// # Errors
    /// When the system gives no randomness for a new one and the old one is half over.
    pub(crate) fn credentials(&self) -> Result<Credentials, HostError> {
        let mut attestation = lock(&self.attestation);
        if is_due(&attestation, clock::now().seconds()) {
            *attestation = attest(&self.identity)?;
        }
        Ok(Credentials {
            node_key: Arc::clone(&self.node_key),
            attestation: attestation.clone(),
        })
    }

    /// What a peer of ClawChat 1.0 is shown: there the attested key must be the one of the connection, which is that of
    /// the gateway's node, whichever of its identities speaks. A wallet may attest several keys.
    ///
    /// # Errors
    /// As [`Hosted::credentials`].
    pub(crate) fn legacy_attestation(
        &self,
        gateway_key: &NodeId,
    ) -> Result<Attestation<Verified>, HostError> {
        let mut kept = lock(&self.legacy_attestation);
        if let Some(attestation) = &*kept
            && !is_due(attestation, clock::now().seconds())
        {
            return Ok(attestation.clone());
        }
        let (wallet, network) = (self.identity.wallet(), self.identity.network());
        let now = clock::now().seconds();
        let attestation = Attestation::create(
            wallet,
            network,
            gateway_key,
            now,
            ATTESTATION_LIFETIME,
            clock::random()?,
        );
        *kept = Some(attestation.clone());
        Ok(attestation)
    }

    /// Writes arriving messages into the inbox and announces them. Goes on when the caller is dropped, such as with a
    /// session that ends: what is stored must be announced.
    ///
    /// # Errors
    /// As [`StoreHandle::submit_all`]; nothing is stored then.
    pub(crate) async fn append(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        messages: Vec<Write>,
    ) -> Result<(), StoreError> {
        let hosted = Arc::clone(self);
        let storing = tasks.spawn(async move {
            for outcome in hosted.store.submit_all(messages).await? {
                if let Outcome::Appended { arrival, .. } = outcome {
                    hosted.arrived(arrival);
                }
            }
            Ok(())
        });
        storing.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Announces that the inbox now reaches to `arrival`.
    fn arrived(&self, arrival: u64) {
        self.arrivals.send_if_modified(|latest| {
            let newer = arrival > *latest;
            *latest = (*latest).max(arrival);
            newer
        });
    }

    /// Wakes whoever waits for messages: some that were taken are there again.
    pub(crate) fn look_again(&self) {
        self.arrivals.send_modify(|_| {});
    }

    /// Follows the latest arrival number.
    pub(crate) fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    /// Tells subscribers; nobody listening is fine.
    pub(crate) fn announce(&self, event: Event) {
        if let Event::State { status, .. } = &event {
            self.settled.count(*status);
        }
        let _ = self.events.send(event);
    }

    /// How many messages came to an end.
    pub(crate) fn settled(&self) -> &Settled {
        &self.settled
    }

    /// Follows state and peer events.
    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// The conversations that have something to deliver or a stream open.
    pub(crate) fn conversations(&self) -> MutexGuard<'_, BTreeMap<Principal, Arc<Conversation>>> {
        lock(&self.conversations)
    }

    /// The unread messages that are on their way to callers.
    pub(crate) fn claims(&self) -> MutexGuard<'_, Claims> {
        lock(&self.claims)
    }

    /// Whom it knows, and the turn to change that.
    pub(crate) fn peers(&self) -> &PeerRecords {
        &self.peers
    }

    /// How the wakes went.
    pub(crate) fn wakes(&self) -> &wake::Board {
        &self.wakes
    }

    /// Where others are, as far as peers tell.
    pub(crate) fn whereabouts(&self) -> &Arc<Whereabouts> {
        &self.whereabouts
    }

    /// Principal and nickname, as `loadedIdentities` shows them.
    pub(crate) fn summary(&self) -> Value {
        let mut summary = serde_json::json!({ "principal": self.principal });
        if let Some(nick) = self.nick() {
            summary["nick"] = Value::from(nick.as_str());
        }
        summary
    }
}

impl std::fmt::Debug for Hosted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hosted({})", self.principal)
    }
}

/// Why an identity cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error("the system gives no random numbers: {0}")]
    Randomness(#[from] getrandom::Error),
    #[error(transparent)]
    Store(#[from] clawchat_store::StoreError),
    #[error("the contact card cannot be made: {0}")]
    Card(#[from] clawchat_identity::CardError),
    #[error(transparent)]
    OwnCard(#[from] crate::invite::MakeError),
    #[error(transparent)]
    Open(#[from] clawchat_store::OpenError),
    #[error(transparent)]
    Invites(#[from] InvitesFileError),
    #[error("cannot start the store's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// How far ahead of now wall-clock arithmetic may go; keeps `UnixMillis` sums readable.
pub(crate) fn in_future(duration: Duration) -> UnixMillis {
    clock::now().after(duration)
}

/// Whether an attestation is to be made anew: half of its life is over, or it was made while the clock was ahead, and
/// nobody would believe it yet.
fn is_due(attestation: &Attestation<Verified>, now: UnixSeconds) -> bool {
    let half = i64::try_from(ATTESTATION_LIFETIME.as_secs() / 2).unwrap_or(i64::MAX);
    let left = attestation.expires_at().0.saturating_sub(now.0);
    left < half || attestation.issued_at() > now
}

fn attest(identity: &Identity) -> Result<Attestation<Verified>, HostError> {
    Ok(identity.attest(clock::now().seconds(), ATTESTATION_LIFETIME, clock::random()?))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use clawchat_testkit::stranger;

    use super::*;

    #[test]
    fn an_attestation_is_made_anew_when_it_is_half_over_or_the_clock_was_set_back() {
        let made = UnixSeconds(1_767_225_600);
        let attestation = stranger(1).attest(made, ATTESTATION_LIFETIME, [1; 32]);
        let day = i64::try_from(ATTESTATION_LIFETIME.as_secs()).unwrap();
        for (later, due) in [
            (-400 * day, true),
            (-1, true),
            (0, false),
            (day / 2, false),
            (day / 2 + 1, true),
            (400 * day, true),
        ] {
            assert_eq!(
                is_due(&attestation, UnixSeconds(made.0 + later)),
                due,
                "{later} s"
            );
        }
    }
}
