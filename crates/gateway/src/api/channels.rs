//! Channels and direct messages of the mesh.

use std::sync::Arc;

use clawchat_ipc::{ErrorCode, Failure, Reply, Request};
use clawchat_mesh::PeerName;
use clawchat_types::PeerId;

use super::{Api, storage};
use crate::hosted::Hosted;
use crate::mesh::{self, PeerNames};

impl Api {
    /// Answers a request about channels, if this gateway takes part in the mesh.
    pub(super) async fn channels(&self, who: Option<&str>, request: Request) -> Result<Reply, Failure> {
        let names = Names {
            api: self,
            acting: self.acting(who)?,
        };
        self.gateway.mesh.running()?.answer(request, &names).await
    }
}

/// The peers, aliases and nicknames of an identity.
struct Names<'a> {
    api: &'a Api,
    acting: Arc<Hosted>,
}

impl PeerNames for Names<'_> {
    /// Whoever it is has its gateway's key for a name in the mesh: the PeerId holds it.
    fn peer_of(&self, who: &str) -> Result<Option<PeerName>, Failure> {
        let principal = match self.api.recipient(&self.acting, who) {
            Ok(principal) => principal,
            Err(failure) if failure.code == ErrorCode::UnknownRecipient => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let gateway = &self.api.gateway;
        if gateway.hosts.is_configured(&principal) {
            return Err(Failure::new(
                ErrorCode::UnknownRecipient,
                format!("{who} is hosted on this gateway"),
            )
            .with_hint("identities of one gateway reach each other with: clawchat send"));
        }
        let connected = gateway.sessions.find(self.acting.principal(), &principal);
        let known = || -> Result<Option<PeerId>, Failure> {
            let record = self.acting.store().store().peer(&principal);
            let record = record.map_err(|error| storage(&error))?;
            Ok(record.and_then(|record| {
                let named = record.locators.iter().find_map(clawchat_types::Locator::peer_id);
                record.peer_id.or(named)
            }))
        };
        let peer = match connected {
            Some(link) => Some(link.peer_id().clone()),
            None => known()?,
        };
        match peer.as_ref().and_then(mesh::key_of) {
            Some(key) => Ok(Some(PeerName::of_key(&key))),
            None => Err(Failure::new(
                ErrorCode::UnknownRecipient,
                format!("the gateway of {who} is not known yet, and so its name in the mesh is not"),
            )
            .with_hint("connect to it once (clawchat connect MULTIADDR), or give its mesh peer id")),
        }
    }
}
