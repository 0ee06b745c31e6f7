//! How a session with a peer is come by: which addresses are tried, and which protocol is spoken there.

use clawchat_identity::personal_token;
use clawchat_node::{DialError, ErrorCode, Node, SessionOpenError};
use clawchat_store::{PeerRecord, StoreError};
use clawchat_types::{InviteToken, Locator, PeerId, Principal};
use tracing::debug;

use crate::hosted::{HostError, Hosted};
use crate::hosts::Hosts;
use crate::link::{self, Link};
use crate::peering;
use crate::shared::Shared;

/// Why there is no session with a peer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReachError {
    #[error(
        "no address of this peer is known, here or to connected peers; with an invite from it: clawchat peers add INVITE"
    )]
    NoAddress,
    #[error("{0}")]
    Dial(#[from] DialError),
    /// The peer itself, authenticated or not, said that we may not talk to it.
    #[error("refused by the recipient's access list (not_allowed)")]
    NotAllowed,
    // A stranger's gateway does not tell an unknown identity from a hidden one, and neither do we.
    #[error("the gateway at that address does not know this principal")]
    Unknown,
    /// The same, and it was shown what an invite gave us.
    #[error(
        "the gateway at that address does not know this principal, or the invite that led there is used up, expired or \
         revoked: ask for a new one ('clawchat invite create' over there prints it)"
    )]
    InviteUnknown,
    /// Each of its addresses was dialed too often in vain, by us or for somebody else who claims to be there.
    #[error("the addresses it was met at rest after failures; what waits goes out when one works again")]
    Resting,
    #[error("{0}")]
    Open(SessionOpenError),
    /// ClawChat 1.0 has no way to name the identity that is meant.
    #[error(
        "the gateway at that address speaks ClawChat 1.0, where only its first identity can be reached: {actual}"
    )]
    AnswersAs {
        actual: Principal,
        /// Whether this is the gateway the peer is known to be at.
        believed: bool,
    },
    #[error(
        "the gateway at that address offers ClawChat 1.0 only, but this peer has spoken SNaP2P 2 before; \
         if it really went back, remove the peer and add it again"
    )]
    Pinned,
    #[error(
        "the gateway at that address offers ClawChat 1.0 only, which \"legacyPeers\" in gateway-config.json turns off"
    )]
    LegacyOff,
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Host(#[from] HostError),
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finality {
    /// Later, or elsewhere.
    Retry,
    /// It cannot.
    Final {
        /// Whether the peer refused us.
        refused: bool,
    },
}

impl ReachError {
    pub(crate) fn finality(&self) -> Finality {
        match self {
            Self::NotAllowed => Finality::Final { refused: true },
            Self::AnswersAs { believed: true, .. } => Finality::Final { refused: false },
            Self::AnswersAs { believed: false, .. }
            | Self::NoAddress
            | Self::Dial(_)
            | Self::Unknown
            | Self::InviteUnknown
            | Self::Resting
            | Self::Open(_)
            | Self::Pinned
            | Self::LegacyOff
            | Self::Store(_)
            | Self::Host(_) => Finality::Retry,
        }
    }

    /// Whether the addresses that were tried are to rest: nobody answered there, or somebody else. A refusal by the peer
    /// itself is not their fault, nor is what goes wrong here.
    fn is_of_addresses(&self) -> bool {
        matches!(self, Self::Dial(_)) || self.is_elsewhere()
    }

    /// Whether the gateway that was reached is not the one the peer is at: it may have moved, and be found at another
    /// of its addresses.
    fn is_elsewhere(&self) -> bool {
        matches!(
            self,
            Self::Unknown
                | Self::InviteUnknown
                | Self::AnswersAs { .. }
                | Self::Pinned
                | Self::LegacyOff
                | Self::Open(
                    SessionOpenError::Rejected { .. }
                        | SessionOpenError::ProtocolUnsupported
                        | SessionOpenError::Unreachable { .. }
                )
        )
    }
}

impl From<SessionOpenError> for ReachError {
    fn from(error: SessionOpenError) -> Self {
        match error {
            SessionOpenError::Refused(ErrorCode::NotAllowed) => Self::NotAllowed,
            SessionOpenError::Refused(ErrorCode::UnknownPrincipal) => Self::Unknown,
            other => Self::Open(other),
        }
    }
}

/// Opens a session from `hosted` to `remote`: at one of the addresses that are known, otherwise where other peers say
/// that it is, or, if it `searches`, where they say when they are asked.
pub(super) async fn open(
    gateway: &Shared,
    hosted: &Hosted,
    remote: &Principal,
    searches: bool,
) -> Result<Link, ReachError> {
    let token = Token::of(hosted, remote)?;
    let (locators, error) = match known(&gateway.hosts, hosted, remote) {
        Ok(record) => {
            let locators = record.locators.clone();
            match at_known(gateway, hosted, record, token.as_ref()).await {
                Err(error) if error.finality() == Finality::Retry => (locators, error),
                result => return result,
            }
        }
        Err(ReachError::NoAddress) => (Vec::new(), ReachError::NoAddress),
        Err(error) => return Err(error),
    };
    for source in [Source::Known, Source::Asked, Source::Hints] {
        if matches!(source, Source::Asked) && !searches {
            continue;
        }
        let mut told = source.about(gateway, hosted, remote).await;
        told.retain(|locator| !locators.contains(locator));
        let told = gateway.dialable.among(remote, told, &gateway.node.locators());
        if told.is_empty() {
            continue;
        }
        // What nobody has signed may lead to anybody.
        let token = token.as_ref().filter(|_| source.is_signed());
        let result = at(gateway, hosted, remote, None, told.clone(), token).await;
        match result {
            Ok(link) => return Ok(link),
            Err(error) if error.is_of_addresses() => gateway.dialable.failed(remote, &told),
            Err(_) => {}
        }
    }
    Err(error)
}

/// The addresses where `remote` may be, as far as is known without asking anybody.
pub(crate) fn ways(gateway: &Shared, hosted: &Hosted, remote: &Principal) -> Vec<Locator> {
    let mut ways =
        known(&gateway.hosts, hosted, remote).map_or_else(|_| Vec::new(), |record| record.locators);
    let mut told = hosted.whereabouts().known(remote);
    told.retain(|locator| !ways.contains(locator));
    ways.append(&mut told);
    ways
}

/// Dials some of those addresses although `remote` is connected. The bounds hold that hold for what others told, except
/// for what is known of a contact.
pub(crate) async fn dial_again(
    gateway: &Shared,
    hosted: &Hosted,
    remote: &Principal,
    ways: Vec<Locator>,
) -> Result<(), DialError> {
    let given = known(&gateway.hosts, hosted, remote)
        .ok()
        .filter(|record| gateway.is_contact(hosted, record))
        .map_or_else(Vec::new, |record| record.locators);
    let (mut ways, told): (Vec<_>, Vec<_>) = ways.into_iter().partition(|way| given.contains(way));
    let told = gateway.dialable.among(remote, told, &gateway.node.locators());
    ways.extend(told.iter().cloned());
    if ways.is_empty() {
        return Ok(());
    }
    let dialed = gateway.node.connect_again(&ways).await;
    if dialed.is_err() {
        gateway.dialable.failed(remote, &told);
    }
    dialed.map(drop)
}

/// Opens another session with `remote` at the gateway it has proven to be at, over the best connection there is.
pub(crate) async fn open_again(
    gateway: &Shared,
    hosted: &Hosted,
    peer: &PeerId,
    remote: &Principal,
) -> Result<Link, ReachError> {
    let token = Token::of(hosted, remote)?;
    open_knocking(
        &gateway.node,
        &gateway.hosts,
        hosted,
        peer,
        remote,
        token.as_ref(),
    )
    .await
}

/// Tries what the peer list says. Of a peer that only turned up that is what it said itself, which may be anything, so
/// the bounds hold that hold for cards.
async fn at_known(
    gateway: &Shared,
    hosted: &Hosted,
    record: PeerRecord,
    token: Option<&Token>,
) -> Result<Link, ReachError> {
    let (remote, peer_id) = (record.principal, record.peer_id.clone());
    let connected = peer_id
        .as_ref()
        .is_some_and(|peer| gateway.node.is_connected(peer));
    if gateway.is_contact(hosted, &record) || connected || record.locators.is_empty() {
        return at(gateway, hosted, &remote, peer_id, record.locators, token).await;
    }
    let due = gateway.dialable.now(&remote, record.locators);
    if due.is_empty() {
        return Err(ReachError::Resting);
    }
    let result = at(gateway, hosted, &remote, peer_id, due.clone(), token).await;
    if result.as_ref().is_err_and(ReachError::is_of_addresses) {
        gateway.dialable.failed(&remote, &due);
    }
    result
}

/// Who says where somebody is, besides the peer list: in the order in which they are believed.
#[derive(Clone, Copy)]
enum Source {
    /// Its own contact card, as far as it is known here.
    Known,
    /// The same, after the connected peers were asked.
    Asked,
    /// Unsigned hints of ClawChat 1.0 peers.
    Hints,
}

impl Source {
    /// Whether the peer itself says so.
    fn is_signed(self) -> bool {
        match self {
            Self::Known | Self::Asked => true,
            Self::Hints => false,
        }
    }

    async fn about(self, gateway: &Shared, hosted: &Hosted, remote: &Principal) -> Vec<Locator> {
        match self {
            Self::Known => hosted.whereabouts().known(remote),
            Self::Asked => match hosted.whereabouts().resolve(remote).await {
                Some(card) => card.locators.clone(),
                None => Vec::new(),
            },
            Self::Hints => gateway.hints.about(remote),
        }
    }
}

/// Tries addresses until somebody there proves to be `remote`. `token` is shown to gateways that are named in them.
async fn at(
    gateway: &Shared,
    hosted: &Hosted,
    remote: &Principal,
    peer_id: Option<PeerId>,
    mut locators: Vec<Locator>,
    token: Option<&Token>,
) -> Result<Link, ReachError> {
    let (node, hosts) = (&gateway.node, &*gateway.hosts);
    let named: Vec<PeerId> = locators
        .iter()
        .filter_map(Locator::peer_id)
        .chain(peer_id.clone())
        .collect();
    // Whoever answers at an address with a refusal has not proven to be where the peer is: what it says counts only
    // if that gateway was named, or none ever was.
    let believed = |peer: &PeerId| named.is_empty() || named.contains(peer);
    let knock = |peer: &PeerId| token.filter(|_| named.contains(peer));
    let mut refusal = None;
    if let Some(peer) = peer_id.filter(|peer| node.is_connected(peer)) {
        match open_knocking(node, hosts, hosted, &peer, remote, knock(&peer)).await {
            Err(error) if error.is_elsewhere() => refusal = Some(error),
            result => return result,
        }
        locators.retain(|locator| locator.peer_id().as_ref() != Some(&peer));
    }
    while !locators.is_empty() {
        let connected = match (node.connect(&locators).await, refusal.take()) {
            (Ok(connected), _) => connected,
            (Err(_), Some(refusal)) => return Err(refusal),
            (Err(error), None) => return Err(error.into()),
        };
        let peer = connected.peer;
        match open_knocking(node, hosts, hosted, &peer, remote, knock(&peer)).await {
            Err(ReachError::AnswersAs { actual, .. }) => {
                let believed = believed(&peer);
                refusal = Some(ReachError::AnswersAs { actual, believed });
            }
            Err(error) if error.is_elsewhere() => refusal = Some(error),
            Err(ReachError::NotAllowed) if !believed(&peer) => refusal = Some(ReachError::Unknown),
            Ok(link) => {
                gateway.dialable.reached(remote, &connected.locator);
                if let Err(error) = peering::note_way(hosted, remote, &peer, &connected.locator).await {
                    debug!(peer = %remote, %error, "cannot note which address worked");
                }
                return Ok(link);
            }
            Err(error) => return Err(error),
        }
        // Each round leaves at least the address that led here.
        locators.retain(|locator| {
            locator.peer_id().as_ref() != Some(&peer) && locator.with_peer_id(&peer) != connected.locator
        });
    }
    Err(refusal.unwrap_or(ReachError::NoAddress))
}

/// Opens a session with a connected gateway: a native one, or one of ClawChat 1.0 if it offers nothing else and the
/// operator and what we know of the peer allow it. `target` is who has to answer; without one, whoever does.
pub(crate) async fn open_with(
    node: &Node,
    hosts: &Hosts,
    hosted: &Hosted,
    peer: &PeerId,
    target: Option<Principal>,
) -> Result<Link, ReachError> {
    match open_native(node, hosted, peer, target, None).await {
        Err(ReachError::Open(SessionOpenError::ProtocolUnsupported)) => {}
        result => return result,
    }
    if !hosts.speaks_legacy() {
        return Err(ReachError::LegacyOff);
    }
    if target.is_some_and(|target| hosts.is_pinned(&target)) {
        return Err(ReachError::Pinned);
    }
    let local = hosted.legacy_attestation(hosts.gateway_key())?;
    let session = node.open_legacy_session(peer, local).await?;
    let actual = *session.remote();
    let refusal = if target.is_some_and(|target| target != actual) {
        ReachError::AnswersAs {
            actual,
            believed: false,
        }
    } else if hosts.is_pinned(&actual) {
        ReachError::Pinned
    } else {
        return Ok(Link::Legacy(session));
    };
    session.close();
    Err(refusal)
}

/// The same with somebody who may be hidden from those who do not knock.
async fn open_knocking(
    node: &Node,
    hosts: &Hosts,
    hosted: &Hosted,
    peer: &PeerId,
    remote: &Principal,
    token: Option<&Token>,
) -> Result<Link, ReachError> {
    let Some(token) = token else {
        return open_with(node, hosts, hosted, peer, Some(*remote)).await;
    };
    for knock in token.knocks() {
        let result = open_native(node, hosted, peer, Some(*remote), Some(knock)).await;
        if !matches!(result, Err(ReachError::Unknown)) {
            return result;
        }
    }
    Err(ReachError::InviteUnknown)
}

async fn open_native(
    node: &Node,
    hosted: &Hosted,
    peer: &PeerId,
    target: Option<Principal>,
    knock: Option<InviteToken>,
) -> Result<Link, ReachError> {
    let opened = node
        .open_session(peer, hosted.credentials()?, target, knock)
        .await;
    Ok(Link::Native(opened?))
}

/// What a peer's invite gave us to knock with.
struct Token {
    invite: InviteToken,
    personal: InviteToken,
    /// Whether the peer has let us in before.
    known_there: bool,
}

impl Token {
    /// That of a peer of `hosted` itself: what another identity here was given is not for it.
    fn of(hosted: &Hosted, remote: &Principal) -> Result<Option<Self>, ReachError> {
        let record = hosted.store().store().peer(remote)?;
        Ok(record.and_then(|record| {
            let invite = record.knock?;
            Some(Self {
                invite,
                personal: personal_token(&invite, hosted.principal()),
                known_there: record.protocol_pin >= Some(link::NATIVE),
            })
        }))
    }

    /// The invite's own token counts until it has let us in, the personal one from then on. Whether it has, the peer
    /// knows better than we do: its answer may have been lost.
    fn knocks(&self) -> [InviteToken; 2] {
        if self.known_there {
            [self.personal, self.invite]
        } else {
            [self.invite, self.personal]
        }
    }
}

/// What is known of a peer: by the identity that wants to reach it, otherwise by another one of this gateway. Peer
/// lists are per identity, but they all speak from the same node, and a message is not to wait for an address that
/// is known here.
fn known(hosts: &Hosts, hosted: &Hosted, remote: &Principal) -> Result<PeerRecord, ReachError> {
    let own = hosted.store().store().peer(remote)?;
    let leads_there = |record: &PeerRecord| !record.locators.is_empty();
    let borrowed = || {
        let others = hosts.loaded();
        let mut records = others
            .iter()
            .filter_map(|other| other.store().store().peer(remote).ok()?);
        records.find(leads_there)
    };
    match own {
        Some(own) if leads_there(&own) => Ok(own),
        own => borrowed().or(own).ok_or(ReachError::NoAddress),
    }
}
