//! Whose gateways the node may trust with a little more: they are found on the local network, serve as relays, and
//! get a place at ours.

use std::collections::BTreeMap;
use std::time::Duration;

use clawchat_types::{Locator, PeerId};
use tracing::warn;

use crate::shared::Gateway;

/// How often the peer lists are looked through.
const INTERVAL: Duration = Duration::from_secs(10);
/// Contacts told to the node at most.
const MAX_CONTACTS: usize = 4096;

/// Tells the node who the contacts of all identities are, whenever that changes, until the gateway stops.
pub(crate) async fn keep(gateway: Gateway) {
    let stop = gateway.stop.clone();
    stop.run_until_cancelled(async {
        let mut told = BTreeMap::new();
        loop {
            let contacts = all(&gateway);
            if contacts != told {
                told.clone_from(&contacts);
                gateway.node.set_contacts(contacts.into_iter().collect()).await;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    })
    .await;
}

/// Peers that the operator added, or named in an access list: whoever just turned up is no contact.
fn all(gateway: &Gateway) -> BTreeMap<PeerId, Vec<Locator>> {
    let mut contacts: BTreeMap<PeerId, Vec<Locator>> = BTreeMap::new();
    for hosted in gateway.hosts.loaded() {
        let peers = match hosted.store().store().peers() {
            Ok(peers) => peers,
            Err(error) => {
                warn!(identity = %hosted.principal(), %error, "cannot read the peer list");
                continue;
            }
        };
        for peer in peers {
            let known = gateway.is_contact(&hosted, &peer);
            // Whom an address names may be where the peer is; only a session has proven it.
            let Some(id) = peer.peer_id.filter(|_| known) else {
                continue;
            };
            if contacts.len() < MAX_CONTACTS || contacts.contains_key(&id) {
                contacts.entry(id).or_default().extend(peer.locators);
            }
        }
    }
    contacts
}
