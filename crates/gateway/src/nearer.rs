//! Going over to better ways: from relays to direct connections, and to contacts nearby.

use std::sync::Arc;
use std::time::Duration;

use clawchat_node::{ErrorCode, SessionHandle};
use clawchat_types::{PeerId, Principal};
use tracing::{debug, info};

use crate::hosted::Hosted;
use crate::link::Link;
use crate::peering;
use crate::reach_words;
use crate::sessions;
use crate::shared::Gateway;

/// How long a session through a relay stays beside its successor, so that what is under way in it gets through.
/// Whatever does not is sent again over the other one, and taken once.
const LINGER: Duration = Duration::from_secs(5);

/// A direct connection with `peer` came about: sessions that we opened through a relay are opened anew over it. Those
/// the peer opened are the peer's to move.
pub(crate) fn go_over(gateway: &Gateway, peer: PeerId) {
    for link in gateway.sessions.with_gateway(&peer) {
        let Link::Native(session) = &link else { continue };
        if session.is_relayed()
            && session.is_outbound()
            && let Some(hosted) = gateway.hosts.find(link.local())
        {
            let (gateway, peer) = (Arc::clone(gateway), peer.clone());
            gateway
                .tasks
                .clone()
                .spawn(async move { replace(&gateway, &hosted, &peer, &link).await });
        }
    }
}

/// A session through a relay began: if the direct connection came about while it was being opened, nobody says so again.
pub(crate) fn go_over_if_direct(gateway: &Gateway, session: &SessionHandle) {
    let is_punched = || {
        let reachability = gateway.node.reachability();
        reachability.punched.contains(session.peer_id())
    };
    if session.is_relayed() && session.is_outbound() && is_punched() {
        go_over(gateway, session.peer_id().clone());
    }
}

async fn replace(gateway: &Gateway, hosted: &Hosted, peer: &PeerId, old: &Link) {
    let (node, hosts) = (&gateway.node, &gateway.hosts);
    match sessions::open_with(node, hosts, hosted, peer, Some(*old.remote())).await {
        Ok(new) => {
            info!(peer = %old.remote(), "connected directly now, no longer through a relay");
            peering::adopt(gateway, new);
        }
        Err(error) => {
            debug!(peer = %old.remote(), %error, "the session stays with the relay");
            return;
        }
    }
    let _ = gateway.stop.run_until_cancelled(tokio::time::sleep(LINGER)).await;
    old.close(ErrorCode::NoError);
}

/// A contact turned up on the local network: everybody here who knows it opens a session.
pub(crate) fn greet(gateway: &Gateway, peer: &PeerId) {
    for hosted in gateway.hosts.loaded() {
        let known = hosted.store().store().peers().unwrap_or_default();
        let there = known
            .into_iter()
            .filter(|record| record.peer_id.as_ref() == Some(peer));
        for remote in there.map(|record| record.principal).collect::<Vec<Principal>>() {
            if gateway.sessions.find(hosted.principal(), &remote).is_none() {
                let (gateway, hosted) = (Arc::clone(gateway), Arc::clone(&hosted));
                gateway.tasks.clone().spawn(async move {
                    if let Err(error) = gateway.reach(&hosted, &remote).await {
                        debug!(peer = %remote, %error, "a neighbour takes no session");
                    }
                });
            }
        }
    }
}

/// Logs how the gateway is reached, when that is another way than `reported`.
pub(crate) fn report(gateway: &Gateway, reported: &mut String) {
    let words = reach_words::summary(&gateway.node.reachability());
    if words != *reported {
        info!("{words}");
        *reported = words;
    }
}
