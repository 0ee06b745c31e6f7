//! `peers`, `peer_add`, `peer_remove`, `peer_resolve`, `connect`, and who is meant by a name.

use std::sync::Arc;

use clawchat_identity::{Invite, InviteError, Verified};
use clawchat_ipc::{ErrorCode, Failure};
use clawchat_node::{DialError, ErrorCode as WireCode, SessionOpenError};
use clawchat_router::ResolveError;
use clawchat_store::{MAX_ALIAS_BYTES, MAX_PEER_LOCATORS, PeerRecord};
use clawchat_types::{Locator, PeerId, Principal};
use serde_json::{Value, json};

use super::render::{self, Way};
use super::{Api, storage};
use crate::aliases;
use crate::clock;
use crate::delivery::hurry;
use crate::hints;
use crate::hosted::Hosted;
use crate::link::{Link, protocol_name};
use crate::nearer;
use crate::peering;
use crate::sessions::{ReachError, open_with};
use crate::whereabouts::facts;

/// What to do when nobody answers at an address.
const UNREACHED: &str =
    "check the address, and that a gateway runs there: 'clawchat up' over there prints its addresses";

/// What to do when a gateway answers and does not take the proof of who we are.
const UNPROVEN: &str = "perhaps it is on the other network (SP… is mainnet, ST… is testnet), or a clock is wrong: compare 'date' on both";
/// What to do when a gateway answers and names nobody.
const UNNAMED: &str =
    "whoever is there hides from strangers: ask for an invite ('clawchat invite create' over there)";

/// What to do about somebody of the other network. A gateway is on one for good.
const OTHER_NETWORK: &str = "a gateway is on one network (SP… is mainnet, ST… is testnet); for the other one set up a \
                             second gateway: clawchat --data-dir DIR up, with or without --mainnet";

/// A peer as a caller wants it remembered.
pub(super) struct NewPeer {
    pub(super) principal: Option<Principal>,
    pub(super) address: Option<String>,
    pub(super) alias: Option<String>,
    pub(super) invite: Option<String>,
}

impl Api {
    /// Whom a recipient's text means: a principal, an alias of the identity's peers, or the nickname of a
    /// co-hosted identity.
    pub(super) fn recipient(&self, hosted: &Hosted, text: &str) -> Result<Principal, Failure> {
        self.named(hosted, text, ErrorCode::UnknownRecipient)
    }

    /// Whom the text of a known peer means.
    pub(super) fn sender(&self, hosted: &Hosted, text: &str) -> Result<Principal, Failure> {
        self.named(hosted, text, ErrorCode::NoSuchPeer)
    }

    fn named(&self, hosted: &Hosted, text: &str, unknown: ErrorCode) -> Result<Principal, Failure> {
        let known = hosted.peers().named(text);
        let route = self
            .gateway
            .hosts
            .resolve(hosted.principal(), text, |_| known)
            .map_err(|error| {
                let code = match error {
                    ResolveError::WrongNetwork { .. } => ErrorCode::WrongNetwork,
                    _ => unknown,
                };
                Failure::new(code, error.to_string()).with_hint(error.hint())
            })?;
        Ok(*route.principal())
    }

    pub(super) fn peers(&self, hosted: &Arc<Hosted>) -> Result<Value, Failure> {
        let peers = hosted.store().store().peers().map_err(|error| storage(&error))?;
        let punched = self.gateway.node.reachability().punched;
        let sessions = &self.gateway.sessions;
        // A relay is named as its owner is, if a peer of this identity is known to be there.
        let owner = |relay: &PeerId| {
            let of_record = peers.iter().find(|peer| peer.peer_id.as_ref() == Some(relay));
            let known = of_record.map(|record| record.principal);
            let connected = || {
                let mut links = sessions.with_gateway(relay);
                links.retain(|link| link.local() == hosted.principal());
                links.first().map(|link| *link.remote())
            };
            known
                .or_else(connected)
                .map_or_else(|| relay.to_string(), |principal| principal.to_string())
        };
        let way = |link: &Link| Way {
            generation: link.generation(),
            path: if link.is_relayed() {
                "relayed"
            } else if punched.contains(link.peer_id()) {
                "punched"
            } else {
                "direct"
            },
            relay: link.relay().map(owner),
        };
        Ok(peers
            .iter()
            .map(|peer| {
                let link = sessions.find(hosted.principal(), &peer.principal);
                render::peer(peer, link.as_ref().map(way))
            })
            .collect())
    }

    pub(super) async fn peer_add(&self, hosted: &Arc<Hosted>, new: NewPeer) -> Result<Value, Failure> {
        let invite = new
            .invite
            .as_deref()
            .map(|text| read_invite(hosted, text))
            .transpose()?;
        let (principal, locators) = match (&invite, new.principal) {
            (Some(invite), _) => (*invite.card().principal(), invite.card().locators().to_vec()),
            (None, Some(principal)) => (
                principal,
                new.address
                    .as_deref()
                    .map(addresses)
                    .transpose()?
                    .unwrap_or_default(),
            ),
            (None, None) => {
                return Err(Failure::invalid(
                    "\"principal\" is missing (or give an \"invite\")",
                ));
            }
        };
        if principal.network() != hosted.principal().network() {
            return Err(Failure::new(
                ErrorCode::WrongNetwork,
                format!(
                    "{principal} is on {}, this identity on {}",
                    principal.network(),
                    hosted.principal().network()
                ),
            )
            .with_hint(OTHER_NETWORK));
        }
        if principal == *hosted.principal() {
            return Err(match invite {
                Some(_) => Failure::invalid("this is the identity's own invite")
                    .with_hint("paste it on the other machine: clawchat peers add INVITE"),
                None => {
                    Failure::invalid("this is the identity's own principal; messages to oneself need no peer")
                }
            });
        }
        let turn = hosted.peers().turn().await;
        if let Some(alias) = &new.alias {
            check_alias(hosted, &principal, alias)?;
        }
        let known = hosted
            .store()
            .store()
            .peer(&principal)
            .map_err(|error| storage(&error))?;
        let mut record = known.unwrap_or_else(|| PeerRecord::new(principal));
        // An invite that is taken again says where the peer is now; what it is called here stays.
        record.alias = new.alias.or(record.alias.filter(|_| invite.is_some()));
        if let Some(invite) = &invite {
            hosted.whereabouts().learn(facts(invite.card()));
            aliases::take_alias(&mut record, invite.card(), clock::now().seconds());
            record.knock = invite.token().copied().or(record.knock);
        }
        record.added = true;
        record.last_seen = Some(clock::now());
        // What the operator says now is tried first.
        if !locators.is_empty() && !self.is_met_there(hosted, &record, &locators) {
            // Perhaps the peer moved: the gateway it was last met at is no longer the one to ask first.
            record.peer_id = None;
        }
        let learned = std::mem::replace(&mut record.locators, locators);
        peering::merge(&mut record.locators, learned);
        record.locators.truncate(MAX_PEER_LOCATORS);
        turn.put(record.clone()).await.map_err(|error| storage(&error))?;
        drop(turn);
        self.greet(hosted, principal);
        nearer::look_again(&self.gateway);
        let mut value = render::peer(&record, None);
        if let Some(object) = value.as_object_mut() {
            object.remove("connected");
        }
        Ok(value)
    }

    /// Whether a peer has a session with us from the gateway it is known to be at, and none of the addresses says that it
    /// is at another one.
    fn is_met_there(&self, hosted: &Hosted, record: &PeerRecord, locators: &[Locator]) -> bool {
        let link = self.gateway.sessions.find(hosted.principal(), &record.principal);
        link.is_some_and(|link| {
            let here = |peer: &PeerId| peer == link.peer_id();
            record.peer_id.as_ref().is_some_and(here)
                && locators
                    .iter()
                    .filter_map(Locator::peer_id)
                    .all(|peer| here(&peer))
        })
    }

    /// Tries to reach a peer in the background, so that what waits for it goes out now.
    fn greet(&self, hosted: &Arc<Hosted>, principal: Principal) {
        // The other identities find the peer through this one.
        for other in self.gateway.hosts.loaded() {
            hurry(&other, &principal);
        }
        let (gateway, hosted) = (Arc::clone(&self.gateway), Arc::clone(hosted));
        self.gateway.tasks.spawn(async move {
            let stop = hosted.stop().clone();
            let reached = stop.run_until_cancelled(gateway.reach(&hosted, &principal)).await;
            if let Some(Err(error)) = reached {
                tracing::debug!(peer = %principal, %error, "not reached yet");
            }
        });
    }

    pub(super) async fn peer_remove(&self, hosted: &Arc<Hosted>, who: &str) -> Result<Value, Failure> {
        let Ok(principal) = self.sender(hosted, who) else {
            return Ok(json!({ "removed": false }));
        };
        let turn = hosted.peers().turn().await;
        let removed = turn.remove(principal).await.map_err(|error| storage(&error))?;
        Ok(json!({ "removed": removed, "principal": principal }))
    }

    pub(super) async fn peer_resolve(
        &self,
        hosted: &Arc<Hosted>,
        who: &str,
        through: Option<&str>,
    ) -> Result<Value, Failure> {
        if let Some(through) = through {
            self.ask_for_addresses(hosted, who, through).await?;
        }
        let principal = self.sender(hosted, who)?;
        let record = hosted
            .store()
            .store()
            .peer(&principal)
            .map_err(|error| storage(&error))?;
        let record = record.unwrap_or_else(|| PeerRecord::new(principal));
        let mut multiaddrs = record.locators;
        let mut told = hosted.whereabouts().known(&principal);
        if told.is_empty() && multiaddrs.is_empty() {
            let found = hosted.whereabouts().resolve(&principal).await;
            told = found.map_or_else(Vec::new, |card| card.locators.clone());
        }
        for hint in told.into_iter().chain(self.gateway.hints.about(&principal)) {
            if !multiaddrs.contains(&hint) {
                multiaddrs.push(hint);
            }
        }
        if multiaddrs.is_empty() {
            return Ok(Value::Null);
        }
        let peer_id = record
            .peer_id
            .or_else(|| multiaddrs.iter().find_map(Locator::peer_id));
        let mut value = json!({
            "principal": principal,
            "multiaddrs": multiaddrs,
            "lastSeen": record.last_seen,
        });
        if let Some(peer_id) = peer_id {
            value["peerId"] = json!(peer_id);
        }
        Ok(value)
    }

    /// Asks a connected peer where somebody is.
    async fn ask_for_addresses(&self, hosted: &Arc<Hosted>, who: &str, through: &str) -> Result<(), Failure> {
        let relay = self.sender(hosted, through)?;
        let Some(link) = self.gateway.sessions.find(hosted.principal(), &relay) else {
            return Err(Failure::new(ErrorCode::Network, "Not connected to relay peer")
                .with_hint("connect to it first ('clawchat connect MULTIADDR'), or leave --through out"));
        };
        let principal = self.sender(hosted, who)?;
        if let Link::Native(_) = link {
            // The question goes to others that are connected too; the newest answer counts.
            hosted.whereabouts().resolve(&principal).await;
            return Ok(());
        }
        hints::ask(&self.gateway, &link, &principal)
            .await
            .map_err(|error| {
                Failure::new(ErrorCode::Network, format!("{relay} was asked in vain: {error}"))
                    .with_hint("leave --through out to see what is known here")
            })
    }

    pub(super) async fn connect(&self, hosted: &Arc<Hosted>, address: &str) -> Result<Value, Failure> {
        let locator = address_of(address)?;
        let connected = self.gateway.node.connect(&[locator]).await.map_err(|error| {
            let (code, hint) = match error {
                DialError::Ourselves { .. } => (
                    ErrorCode::InvalidRequest,
                    "give the address of another gateway; identities of this one need no connection",
                ),
                _ => (ErrorCode::Network, UNREACHED),
            };
            Failure::new(code, error.to_string()).with_hint(hint)
        })?;
        let (node, hosts) = (&self.gateway.node, &self.gateway.hosts);
        let link = open_with(node, hosts, hosted, &connected.peer, None)
            .await
            .map_err(|error| match error {
                ReachError::NotAllowed => Failure::new(
                    ErrorCode::NotAllowed,
                    format!("the peer refused the session: {}", WireCode::NotAllowed),
                )
                .with_hint("ask its owner to allow you: clawchat gateway identity allow WHO PRINCIPAL"),
                ReachError::Host(error) => Failure::new(ErrorCode::Internal, error.to_string()),
                ReachError::LegacyOff => Failure::new(ErrorCode::NotAllowed, error.to_string()).with_hint(
                    "set \"legacyPeers\" to \"bound\" in gateway-config.json, and 'clawchat daemon reload'",
                ),
                error => {
                    let hint = match error {
                        ReachError::Open(SessionOpenError::Refused(WireCode::AuthInvalid)) => UNPROVEN,
                        ReachError::Unknown => UNNAMED,
                        _ => UNREACHED,
                    };
                    Failure::new(ErrorCode::Network, error.to_string()).with_hint(hint)
                }
            })?;
        let (principal, generation) = (*link.remote(), link.generation());
        peering::adopt(&self.gateway, link);
        Ok(json!({
            "connected": true,
            "principal": principal,
            "peerId": connected.peer,
            "protocol": protocol_name(generation),
        }))
    }
}

/// One address: a multiaddr or `host:port`.
fn address_of(text: &str) -> Result<Locator, Failure> {
    let parsed = if text.starts_with('/') {
        text.parse()
    } else {
        Locator::from_host_port(text)
    };
    parsed.map_err(|error| Failure::invalid(format!("\"{}\": {error}", shortened(text))))
}

/// Addresses separated by commas, at most as many as are kept for a peer.
fn addresses(text: &str) -> Result<Vec<Locator>, Failure> {
    let mut locators = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let locator = address_of(part)?;
        if !locators.contains(&locator) {
            locators.push(locator);
        }
        if locators.len() > MAX_PEER_LOCATORS {
            return Err(Failure::invalid(format!(
                "more than {MAX_PEER_LOCATORS} addresses for one peer"
            )));
        }
    }
    if locators.is_empty() {
        return Err(Failure::invalid(
            "\"address\" is empty: give a multiaddr or host:port",
        ));
    }
    Ok(locators)
}

fn read_invite(hosted: &Hosted, text: &str) -> Result<Invite<Verified>, Failure> {
    let network = hosted.principal().network();
    Invite::from_text(text)
        .and_then(|invite| invite.verify(network, clock::now().seconds()))
        .map_err(|error| {
            let (code, hint) = match error {
                InviteError::WrongNetwork { .. } => (ErrorCode::WrongNetwork, OTHER_NETWORK),
                InviteError::Expired { .. } | InviteError::NotYetValid { .. } | InviteError::Forged(_) => (
                    ErrorCode::NotAllowed,
                    "ask for a new one: 'clawchat invite create' prints it",
                ),
                _ => (
                    ErrorCode::InvalidRequest,
                    "copy the whole line once more, from 'clawchat:' to its end",
                ),
            };
            Failure::new(code, error.to_string()).with_hint(hint)
        })
}

/// An alias must not be mistaken for a principal, and means one peer.
fn check_alias(hosted: &Hosted, principal: &Principal, alias: &str) -> Result<(), Failure> {
    if alias.is_empty() || alias.len() > MAX_ALIAS_BYTES || alias.chars().any(char::is_control) {
        return Err(Failure::invalid(format!(
            "an alias has 1 to {MAX_ALIAS_BYTES} bytes and no control characters"
        )));
    }
    if alias.starts_with("stacks:") {
        return Err(Failure::invalid("an alias cannot look like a principal"));
    }
    match hosted.peers().named(alias).filter(|holder| holder != principal) {
        Some(holder) => Err(Failure::new(
            ErrorCode::AlreadyExists,
            format!("the alias \"{alias}\" belongs to {holder}"),
        )
        .with_hint("choose another alias, or remove that peer first")),
        None => Ok(()),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).filter(|c| !c.is_control()).collect()
}
