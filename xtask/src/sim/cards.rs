//! Real identities and real signed cards, each verified once for all peers of the simulation.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use clawchat_identity::{Attestation, CardDetails, ContactCard, Identity, Verified};
use clawchat_px1::{Card, PUBLIC_CAPABILITY};
use clawchat_testkit::stranger;
use clawchat_types::{Locator, Network, Principal, UnixSeconds};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Who a peer is.
pub(super) struct Holder {
    identity: Identity,
    attestation: Attestation<Verified>,
}

impl Holder {
    pub(super) fn new(number: usize, now: UnixSeconds) -> Self {
        let identity = stranger(number as u64);
        let attestation = identity.attest(now, 7 * DAY, [7; 32]);
        Self {
            identity,
            attestation,
        }
    }

    pub(super) fn principal(&self) -> Principal {
        *self.identity.principal()
    }
}

/// Every card ever issued, found again by where its bytes are: peers hand the same bytes around.
#[derive(Default)]
pub(super) struct Cards {
    verified: HashMap<usize, Arc<Card>>,
}

impl Cards {
    /// Signs a card as a gateway would, and verifies it as every receiver would.
    pub(super) fn issue(
        &mut self,
        holder: &Holder,
        locator: Locator,
        now: UnixSeconds,
    ) -> Result<Arc<Card>, String> {
        let details = CardDetails {
            locators: vec![locator],
            capabilities: ["chat/1", "px-1", PUBLIC_CAPABILITY].map(str::to_owned).to_vec(),
            alias: None,
        };
        let attestation = holder.attestation.clone();
        let signed = ContactCard::create(holder.identity.node_key(), attestation, details, now, DAY);
        let bytes: Arc<[u8]> = signed.map_err(|error| error.to_string())?.to_bytes().into();
        let read = ContactCard::from_bytes(&bytes).and_then(|card| card.verify(Network::Testnet, now));
        let read = read.map_err(|error| error.to_string())?;
        let card = Arc::new(Card {
            principal: *read.principal(),
            issued_at: read.issued_at(),
            expires_at: read.expires_at(),
            locators: read.locators().to_vec(),
            peer_id: None,
            shareable: read.capabilities().iter().any(|word| word == PUBLIC_CAPABILITY),
            tellable: read.capabilities().iter().any(|word| word == PUBLIC_CAPABILITY),
            bytes: Arc::clone(&bytes),
        });
        self.verified.insert(place(&bytes), Arc::clone(&card));
        Ok(card)
    }

    /// The verdict on bytes from a peer.
    pub(super) fn verify(&self, bytes: &Arc<[u8]>) -> Option<Arc<Card>> {
        self.verified.get(&place(bytes)).map(Arc::clone)
    }
}

fn place(bytes: &Arc<[u8]>) -> usize {
    bytes.as_ptr().addr()
}
