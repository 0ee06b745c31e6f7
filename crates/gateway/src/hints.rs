//! Address hints (PX-1) exchanged with peers of ClawChat 1.0: what they ask, what they tell, and what we tell them.
//!
//! A hint is an address to try and nothing more; who is there is proven by dialing. Only gateways that have a session
//! with an identity here are answered and listened to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clawchat_node::{Px1Error, Px1Request};
use clawchat_px1::Book;
use clawchat_router::{Verdict, Visibility};
use clawchat_snap2p::clawchat1::px1::{Message, PeerInfo};
use clawchat_types::{Locator, Moment, PeerId, Principal};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::link::Link;
use crate::shared::Gateway;
use crate::{addresses, clock};

/// How long a hint or a question may be ahead of the session that it needs: existing gateways send their first hints
/// while the handshake is still on its way.
const SESSION_LIMIT: Duration = Duration::from_secs(5);
/// Addresses shown for a principal.
const MAX_SHOWN: usize = clawchat_px1::MAX_HINTS_PER_PRINCIPAL;

/// What peers said, for as long as the gateway runs.
pub(crate) struct Hints {
    book: Mutex<Book>,
    started: Instant,
}

impl Default for Hints {
    fn default() -> Self {
        Self {
            book: Mutex::default(),
            started: Instant::now(),
        }
    }
}

impl Hints {
    /// Where others say that somebody can be reached, what was heard last first.
    pub(crate) fn about(&self, principal: &Principal) -> Vec<Locator> {
        let now = self.now();
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let hints = book.lookup(principal, now);
        hints
            .into_iter()
            .take(MAX_SHOWN)
            .map(|hint| hint.locator.clone())
            .collect()
    }

    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn learn(&self, principal: Principal, locators: Vec<Locator>, source: Principal) {
        let now = self.now();
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        // The one named first is looked at first.
        for locator in locators.into_iter().rev() {
            book.learn(principal, locator, source, None, now);
        }
    }

    fn now(&self) -> Moment {
        Moment {
            wall: clock::now(),
            mono: self.started.elapsed(),
        }
    }
}

/// Handles what a gateway sent, once it has a session here.
pub(crate) fn answer(gateway: &Gateway, request: Px1Request) {
    let gateway = Arc::clone(gateway);
    let stop = gateway.stop.clone();
    let tasks = gateway.tasks.clone();
    tasks.spawn(async move {
        let handling = async {
            let session = gateway.sessions.first_with_gateway(request.peer());
            match timeout(SESSION_LIMIT, session).await {
                Ok(links) => handle(&gateway, request, &links),
                Err(_) => {
                    gateway.tally.hints.without_session.count();
                    debug!(peer = %request.peer(), "PX-1 from a gateway without a session");
                }
            }
        };
        stop.run_until_cancelled(handling).await;
    });
}

fn handle(gateway: &Gateway, request: Px1Request, links: &[Link]) {
    match request.message() {
        Message::ResolveRequest {
            principal,
            request_id,
        } => {
            let response = Message::ResolveResponse {
                request_id: request_id.clone(),
                peer: ours(gateway, principal, links),
                error: None,
            };
            request.answer(response);
        }
        Message::Push { peers } => {
            // The gateway speaks for one identity; which of several is all the same to a hint.
            if let Some(source) = links.first().map(Link::remote) {
                for peer in peers {
                    learn(gateway, peer, source);
                }
            }
        }
        Message::ResolveResponse { .. } => {}
    }
}

/// What is told about one of our identities to those who may write to it. About others nothing is told.
fn ours(gateway: &Gateway, principal: &str, askers: &[Link]) -> Option<PeerInfo> {
    let principal: Principal = principal.parse().ok()?;
    gateway.hosts.find(&principal)?;
    let shown = gateway.hosts.visibility(&principal)? != Visibility::Stealth;
    let admitted = askers.iter().any(|asker| {
        let verdict = gateway.hosts.inbound_verdict(asker.remote(), &principal);
        matches!(verdict, Verdict::Deliver { .. })
    });
    let peer = askers.first()?.peer_id();
    (shown && admitted).then(|| about_us(gateway, &principal, peer))
}

/// Notes what a peer says about somebody else, or about itself.
fn learn(gateway: &Gateway, peer: &PeerInfo, source: &Principal) {
    let counts = &gateway.tally.hints;
    let Ok(principal) = peer.principal.parse::<Principal>() else {
        counts.refused.count();
        return;
    };
    if principal.network() != source.network() || gateway.hosts.is_configured(&principal) {
        counts.refused.count();
        return;
    }
    counts.taken.count();
    gateway.hints.learn(principal, locators(peer), *source);
}

/// The addresses of a hint that can be used.
fn locators(peer: &PeerInfo) -> Vec<Locator> {
    let parsed = peer
        .multiaddrs
        .iter()
        .filter_map(|text| text.parse::<Locator>().ok());
    match peer.peer_id.as_ref().and_then(|id| id.parse::<PeerId>().ok()) {
        Some(id) => parsed
            .map(|locator| locator.with_peer_id(&id))
            .filter(|locator| locator.peer_id().as_ref() == Some(&id))
            .collect(),
        None => parsed.collect(),
    }
}

/// Tells a gateway that just opened or took a session of ClawChat 1.0 where our identity is, if that is public.
pub(crate) fn introduce(gateway: &Gateway, link: &Link) {
    let visibility = gateway.hosts.visibility(link.local());
    if !matches!((link, visibility), (Link::Legacy(_), Some(Visibility::Public))) {
        return;
    }
    let gateway = Arc::clone(gateway);
    let (local, peer) = (*link.local(), link.peer_id().clone());
    let tasks = gateway.tasks.clone();
    tasks.spawn(async move {
        let ourselves = vec![about_us(&gateway, &local, &peer)];
        if let Err(error) = gateway.node.px1_push(&peer, ourselves).await {
            debug!(%peer, %error, "a gateway was not told our address");
        }
    });
}

/// Asks a peer of ClawChat 1.0 where somebody is, and notes the answer.
pub(crate) async fn ask(gateway: &Gateway, through: &Link, principal: &Principal) -> Result<(), Px1Error> {
    if let Some(found) = gateway.node.px1_resolve(through.peer_id(), principal).await? {
        learn(gateway, &found, through.remote());
    }
    Ok(())
}

/// What a gateway is told about an identity of ours. Addresses of this machine's own only when it runs here too.
fn about_us(gateway: &Gateway, principal: &Principal, asker: &PeerId) -> PeerInfo {
    let is_loopback = |locator: &Locator| locator.ip().is_some_and(|ip| ip.is_loopback());
    let beside_us = gateway.node.peer_locators(asker).iter().any(is_loopback);
    let multiaddrs = addresses::of(&gateway.node)
        .into_iter()
        .filter(|locator| beside_us || !is_loopback(locator))
        .map(|locator| locator.as_str().to_owned())
        .collect();
    PeerInfo {
        principal: principal.to_string(),
        multiaddrs,
        last_seen: clock::now(),
        peer_id: Some(gateway.node.peer_id().to_string()),
    }
}
