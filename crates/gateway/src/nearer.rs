//! Going over to better ways: from relays to direct connections, and to contacts nearby.

use std::future;
use std::sync::Arc;
use std::time::Duration;

use clawchat_node::{ErrorCode, SessionHandle};
use clawchat_types::{Locator, PeerId, Principal};
use tokio::time::Instant;
use tracing::{debug, info};

use crate::hosted::Hosted;
use crate::link::Link;
use crate::peering;
use crate::reach_words;
use crate::sessions;
use crate::shared::{Gateway, Shared};

/// How long a session through a relay stays beside its successor, so that what is under way in it gets through.
/// Whatever does not is sent again over the other one, and taken once.
const LINGER: Duration = Duration::from_secs(5);
/// The pause after the first try to leave a relay that came to nothing; it doubles with each further one. Often several
/// direct connections come about at once, and all but one end again at once.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long after a session through a relay began another connection is tried: a hole that could not be punched may be
/// punched now, or the peer reached directly. Twice as long each time from then on.
const FIRST_RETRY: Duration = Duration::from_secs(60);
/// The longest time between two of these tries.
const LONGEST_RETRY: Duration = Duration::from_secs(60 * 60);

/// Something may let a session leave its relay: a direct connection came about, or an address was learned.
pub(crate) fn look_again(gateway: &Shared) {
    gateway.ways.send_modify(|count| *count = count.wrapping_add(1));
}

/// Opens a session anew once there is a direct connection, and closes it, if it goes through a relay and we opened it.
/// Those the peer opened are the peer's to move. Tries to bring a direct connection about, too. Returns when that is
/// done; never, for any other session.
pub(crate) async fn leave_relay(gateway: &Gateway, hosted: &Hosted, link: &Link) {
    let Link::Native(session) = link else {
        return future::pending().await;
    };
    if !session.is_relayed() || !session.is_outbound() {
        return future::pending().await;
    }
    let mut news = gateway.ways.subscribe();
    let mut tries = Tries::new(sessions::ways(gateway, hosted, session.remote()));
    let mut pause = FIRST_PAUSE;
    loop {
        // What happens from here on is seen below.
        news.mark_unchanged();
        if is_direct(gateway, session) {
            if moved(gateway, hosted, session).await {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
            continue;
        }
        pause = FIRST_PAUSE;
        let due = tokio::select! {
            // The sender is as old as the gateway.
            _ = news.changed() => false,
            () = tokio::time::sleep_until(tries.next_at) => true,
        };
        let remote = session.remote();
        let ways = tries.worth_dialing(sessions::ways(gateway, hosted, remote), due);
        if let Err(error) = sessions::dial_again(gateway, hosted, remote, ways).await {
            debug!(peer = %remote, %error, "no better way than the relay");
        }
    }
    tokio::time::sleep(LINGER).await;
    session.close(ErrorCode::NoError);
}

/// What was tried to reach a peer without the relay, and when that is tried again.
struct Tries {
    ways: Vec<Locator>,
    pause: Duration,
    next_at: Instant,
}

impl Tries {
    /// These were tried when the session was opened.
    fn new(ways: Vec<Locator>) -> Self {
        Self {
            ways,
            pause: FIRST_RETRY,
            next_at: Instant::now() + FIRST_RETRY,
        }
    }

    /// Which of the addresses that are known now are dialed: all of them when it is time, which may punch a hole;
    /// otherwise direct ones that were not known before.
    fn worth_dialing(&mut self, ways: Vec<Locator>, due: bool) -> Vec<Locator> {
        let before = std::mem::replace(&mut self.ways, ways);
        if due {
            self.pause = LONGEST_RETRY.min(self.pause * 2);
            self.next_at = Instant::now() + self.pause;
            return self.ways.clone();
        }
        let is_new = |way: &&Locator| !way.is_relayed() && !before.contains(way);
        self.ways.iter().filter(is_new).cloned().collect()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(texts: &[&str]) -> Vec<Locator> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    const KNOWN: &str = "/ip4/192.0.2.1/tcp/1";
    const NEW: &str = "/ip4/192.0.2.2/tcp/1";
    const CIRCUIT: &str =
        "/ip4/192.0.2.9/tcp/1/p2p/12D3KooWNZypvL2Um2qCT98FhMAf6mwGzPzFy8E7JsNnM7ipEHJo/p2p-circuit";

    #[test]
    fn a_new_address_is_tried_once_and_everything_after_growing_pauses() {
        let mut tries = Tries::new(ways(&[KNOWN]));
        let all = || ways(&[KNOWN, NEW, CIRCUIT]);
        assert_eq!(tries.worth_dialing(all(), false), ways(&[NEW]));
        assert!(tries.worth_dialing(all(), false).is_empty());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let before = Instant::now();
            assert_eq!(tries.worth_dialing(all(), true), all());
            pauses.push(tries.pause);
            assert!(tries.next_at >= before + tries.pause);
        }
        assert_eq!(pauses[..2], [2 * FIRST_RETRY, 4 * FIRST_RETRY]);
        assert_eq!(pauses.last(), Some(&LONGEST_RETRY));
        assert!(tries.worth_dialing(ways(&[]), true).is_empty());
    }
}
