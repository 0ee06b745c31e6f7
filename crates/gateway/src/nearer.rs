//! Going over to better ways: from relays to direct connections, and to contacts nearby.

use std::future;
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
/// The pause after the first try to leave a relay that came to nothing; it doubles with each further one. Often several
/// direct connections come about at once, and all but one end again at once.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A direct connection came about with somebody who was reached through a relay.
pub(crate) fn upgraded(gateway: &Gateway) {
    gateway
        .upgrades
        .send_modify(|count| *count = count.wrapping_add(1));
}

/// Opens a session anew once there is a direct connection, and closes it, if it goes through a relay and we opened it.
/// Those the peer opened are the peer's to move. Returns when that is done; never, for any other session.
pub(crate) async fn leave_relay(gateway: &Gateway, hosted: &Hosted, link: &Link) {
    let Link::Native(session) = link else {
        return future::pending().await;
    };
    if !session.is_relayed() || !session.is_outbound() {
        return future::pending().await;
    }
    let mut upgrades = gateway.upgrades.subscribe();
    let mut pause = FIRST_PAUSE;
    loop {
        // What happens from here on is seen below.
        upgrades.mark_unchanged();
        if !is_direct(gateway, session) {
            pause = FIRST_PAUSE;
            // The sender is as old as the gateway.
            let _ = upgrades.changed().await;
            continue;
        }
        if moved(gateway, hosted, session).await {
            break;
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
    tokio::time::sleep(LINGER).await;
    session.close(ErrorCode::NoError);
}

/// Whether there is a direct connection beside the session's own.
fn is_direct(gateway: &Gateway, session: &SessionHandle) -> bool {
    gateway.node.reachability().punched.contains(session.peer_id())
}

/// Whether there is a session of the same two that needs no relay; opens one if need be.
async fn moved(gateway: &Gateway, hosted: &Hosted, old: &SessionHandle) -> bool {
    let (peer, remote) = (old.peer_id(), *old.remote());
    let others = gateway.sessions.with_gateway(peer);
    let same_two = |link: &&Link| link.local() == old.local() && *link.remote() == remote;
    if others.iter().filter(same_two).any(|link| !link.is_relayed()) {
        return true;
    }
    match sessions::open_again(gateway, hosted, peer, &remote).await {
        Ok(new) if new.is_relayed() => {
            debug!(peer = %remote, "the direct connection ended before it was used");
            new.close(ErrorCode::NoError);
            false
        }
        Ok(new) => {
            info!(peer = %remote, "connected directly now, no longer through a relay");
            peering::adopt(gateway, new);
            true
        }
        Err(error) => {
            debug!(peer = %remote, %error, "the session stays with the relay for now");
            false
        }
    }
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
