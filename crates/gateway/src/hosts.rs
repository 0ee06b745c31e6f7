//! The identities of this gateway: who is configured, who is served, and who may talk to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use clawchat_identity::{Attestation, Verified};
use clawchat_node::{Credentials, ErrorCode, Gatekeeper, LegacyPolicy};
use clawchat_router::{
    Acl, AllowEntry, Directory, HostedIdentity, Refusal, ResolveError, Route, Verdict, Visibility,
};
use clawchat_snap2p::clawchat1::Gate;
use clawchat_types::{NodeId, Principal};
use serde_json::{Value, json};
use tracing::{debug, error, warn};

use crate::clock;
use crate::config::{self, GatewayConfig, IdentityConfig, LegacyPeers, PeerPattern};
use crate::hosted::Hosted;
use crate::import::Problem;
use crate::invites::Door;
use crate::link::{self, Link};
use crate::metrics::Tally;

/// Looked at by every session and every message, changed by the operator.
pub(crate) struct Hosts {
    inner: RwLock<Inner>,
    p2p_port: u16,
    /// The key of the gateway's node, which peers of ClawChat 1.0 want attested.
    gateway_key: NodeId,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Inner {
    directory: Directory,
    /// The served ones, in the order of the configuration.
    loaded: Vec<Arc<Hosted>>,
    /// Why an identity that should be served is not, by its principal's text.
    not_loaded: BTreeMap<String, String>,
    /// Identities that deny everybody, invited or not.
    closed: BTreeSet<Principal>,
    legacy: LegacyPolicy,
    /// What of the files of the TypeScript version could not be taken over, for `status`.
    import_problems: BTreeMap<Principal, Vec<Value>>,
}

impl Hosts {
    /// Nobody served yet.
    pub(crate) fn new(config: &GatewayConfig, p2p_port: u16, gateway_key: NodeId, tally: Arc<Tally>) -> Self {
        let hosts = Self {
            inner: RwLock::default(),
            p2p_port,
            gateway_key,
            tally,
        };
        hosts.configure(config);
        hosts
    }

    /// Follows the configuration: names and access lists count from now on.
    pub(crate) fn configure(&self, config: &GatewayConfig) {
        let mut inner = self.write();
        let mut directory = Directory::new();
        for identity in config.identities().iter().filter_map(hosted_identity) {
            let principal = identity.principal;
            // Identities of the other network stay out; unsealing has said so.
            if let Err(error) = directory.insert(identity) {
                debug!(identity = %principal, %error, "an identity is left out");
            }
        }
        for hosted in &inner.loaded {
            directory.set_loaded(hosted.principal(), true);
            let nick = directory
                .get(hosted.principal())
                .and_then(|identity| identity.nick.clone());
            hosted.set_nick(nick);
        }
        inner
            .not_loaded
            .retain(|principal, _| config.find(principal).is_some());
        inner.directory = directory;
        inner.closed = config
            .identities()
            .iter()
            .filter(|identity| identity.denied_peers.contains(&PeerPattern::Any))
            .filter_map(|identity| identity.principal.get().ok())
            .collect();
        inner.legacy = legacy_policy(config);
        inner.sort();
    }

    /// The port the node listens on.
    pub(crate) fn p2p_port(&self) -> u16 {
        self.p2p_port
    }

    /// The key of the gateway's node.
    pub(crate) fn gateway_key(&self) -> &NodeId {
        &self.gateway_key
    }

    /// Whether peers of ClawChat 1.0 are talked to at all.
    pub(crate) fn speaks_legacy(&self) -> bool {
        self.read().legacy != LegacyPolicy::Off
    }

    /// Whether a session may go on under the rule for peers of ClawChat 1.0.
    pub(crate) fn keeps(&self, link: &Link) -> bool {
        match (link, self.read().legacy) {
            (Link::Legacy(_), LegacyPolicy::Off) => false,
            (Link::Legacy(session), LegacyPolicy::Bound) => session.is_bound(),
            (Link::Legacy(_), LegacyPolicy::Unbound) | (Link::Native(_), _) => true,
        }
    }

    /// Whether any identity here knows that this peer speaks SNaP2P 2: then it is never talked to over ClawChat 1.0
    /// again, so that nobody can talk us into that.
    pub(crate) fn is_pinned(&self, peer: &Principal) -> bool {
        self.loaded().iter().any(|hosted| {
            let record = hosted.store().store().peer(peer).ok().flatten();
            record.and_then(|record| record.protocol_pin) >= Some(link::NATIVE)
        })
    }

    /// Whether an identity may be shown to others without an invite.
    pub(crate) fn visibility(&self, principal: &Principal) -> Option<Visibility> {
        Some(self.read().directory.get(principal)?.visibility)
    }

    /// Whether our access list admits a peer.
    pub(crate) fn admits(&self, peer: &Principal, local: &Principal) -> bool {
        matches!(self.inbound_verdict(peer, local), Verdict::Deliver { .. })
    }

    /// How much an identity gives away, as PX-1 knows it. Nobody that is not configured gives anything away.
    pub(crate) fn px1_visibility(&self, principal: &Principal) -> clawchat_px1::Visibility {
        match self.visibility(principal) {
            Some(Visibility::Public) => clawchat_px1::Visibility::Public,
            Some(Visibility::Private) => clawchat_px1::Visibility::Private,
            Some(Visibility::Stealth) | None => clawchat_px1::Visibility::Stealth,
        }
    }

    /// Serves an identity from now on.
    pub(crate) fn insert(&self, hosted: Arc<Hosted>) {
        let mut inner = self.write();
        inner.not_loaded.remove(&hosted.principal().to_string());
        inner
            .loaded
            .retain(|known| known.principal() != hosted.principal());
        inner.directory.set_loaded(hosted.principal(), true);
        inner.loaded.push(hosted);
        inner.sort();
    }

    /// Serves an identity no longer.
    pub(crate) fn remove(&self, principal: &Principal) -> Option<Arc<Hosted>> {
        let mut inner = self.write();
        let index = inner
            .loaded
            .iter()
            .position(|hosted| hosted.principal() == principal)?;
        inner.import_problems.remove(principal);
        Some(inner.loaded.remove(index))
    }

    /// Notes why an identity is not served.
    pub(crate) fn set_not_loaded(&self, principal: String, reason: String) {
        self.write().not_loaded.insert(principal, reason);
    }

    /// The identities that are not served, with the reasons.
    pub(crate) fn not_loaded(&self) -> Vec<Value> {
        let inner = self.read();
        inner
            .not_loaded
            .iter()
            .map(|(principal, reason)| json!({ "principal": principal, "reason": reason }))
            .collect()
    }

    /// Notes what could not be taken over from the TypeScript version when an identity's store was opened.
    pub(crate) fn set_import_problems(&self, principal: &Principal, problems: &[Problem]) {
        let problems = problems
            .iter()
            .map(|problem| problem.to_json(principal))
            .collect();
        self.write().import_problems.insert(*principal, problems);
    }

    /// The same of all identities, in the order of principals.
    pub(crate) fn import_problems(&self) -> Vec<Value> {
        self.read().import_problems.values().flatten().cloned().collect()
    }

    /// All reasons in one sentence, for when nobody can be served.
    pub(crate) fn why_none(&self) -> String {
        let inner = self.read();
        let reasons: Vec<String> = inner
            .not_loaded
            .iter()
            .map(|(principal, reason)| format!("{principal}: {reason}"))
            .collect();
        format!("no identity can be served: {}", reasons.join("; "))
    }

    /// The served identities, in the order of the configuration.
    pub(crate) fn loaded(&self) -> Vec<Arc<Hosted>> {
        self.read().loaded.clone()
    }

    /// The first served identity: who acts when nobody is named.
    pub(crate) fn first(&self) -> Option<Arc<Hosted>> {
        self.read().loaded.first().cloned()
    }

    /// The served identity of this principal.
    pub(crate) fn find(&self, principal: &Principal) -> Option<Arc<Hosted>> {
        self.read()
            .loaded
            .iter()
            .find(|hosted| hosted.principal() == principal)
            .cloned()
    }

    /// The served identity of this principal text or nickname.
    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Hosted>> {
        let principal = self.read().directory.by_name(name)?.principal;
        self.find(&principal)
    }

    /// Why a configured identity of this principal text or nickname is not served. `None`: none is configured, or it
    /// is served.
    pub(crate) fn why_absent(&self, name: &str) -> Option<String> {
        let inner = self.read();
        let configured = inner.directory.by_name(name);
        let text = configured.map_or_else(|| name.to_owned(), |identity| identity.principal.to_string());
        if let Some(reason) = inner.not_loaded.get(&text) {
            return Some(reason.clone());
        }
        let principal = configured?.principal;
        let served = inner.loaded.iter().any(|hosted| *hosted.principal() == principal);
        (!served).then(|| "\"autoload\" is not set in gateway-config.json".to_owned())
    }

    /// Whether an identity of this gateway, served or not, has this principal.
    pub(crate) fn is_configured(&self, principal: &Principal) -> bool {
        self.read().directory.get(principal).is_some()
    }

    /// Whether the access list of `local` admits `remote` by name.
    pub(crate) fn names(&self, local: &Principal, remote: &Principal) -> bool {
        let inner = self.read();
        let acl = inner.directory.get(local).map(|identity| &identity.acl);
        acl.is_some_and(|acl| {
            acl.allowed().contains(&AllowEntry::Principal(*remote)) && !acl.denied().contains(remote)
        })
    }

    /// Whether anybody here knows a peer: the operator added it to a peer list or named it in an access list, an invite
    /// let it in, or it is one of our own. Whoever just turned up is no contact.
    pub(crate) fn is_contact(&self, peer: &Principal) -> bool {
        let added = |hosted: &Hosted| {
            let record = hosted.store().store().peer(peer).ok().flatten();
            record.is_some_and(|record| record.added)
        };
        let known = |hosted: &Arc<Hosted>| {
            self.names(hosted.principal(), peer) || hosted.invites().is_member(peer) || added(hosted)
        };
        self.is_configured(peer) || self.loaded().iter().any(known)
    }

    /// Whether a message from another gateway reaches `to`.
    pub(crate) fn inbound_verdict(&self, from: &Principal, to: &Principal) -> Verdict {
        self.read().inbound_verdict(from, to)
    }

    /// Whether a message between two identities of this gateway reaches `to`.
    pub(crate) fn local_verdict(&self, from: &Principal, to: &Principal) -> Verdict {
        self.read().directory.local(from, to)
    }

    /// Whom a text means; see [`Directory::resolve`].
    pub(crate) fn resolve(
        &self,
        acting: &Principal,
        text: &str,
        alias: impl FnOnce(&str) -> Option<Principal>,
    ) -> Result<Route, ResolveError> {
        self.read().directory.resolve(acting, text, alias)
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gatekeeper for Hosts {
    /// Served identities answer by name, and the first that is not stealth answers for the gateway. A stealth identity
    /// answers whoever knocks with a token it gave out.
    fn credentials_for(&self, target: Option<&Principal>, knock: Option<&[u8]>) -> Option<Credentials> {
        let hosted = {
            let inner = self.read();
            let stealth = |hosted: &Hosted| {
                inner
                    .directory
                    .get(hosted.principal())
                    .is_none_or(|identity| identity.visibility == Visibility::Stealth)
            };
            let (asked, hidden) = match target {
                Some(target) => {
                    let asked = inner.loaded.iter().find(|hosted| hosted.principal() == target);
                    (asked, asked.is_some_and(|hosted| stealth(hosted)))
                }
                None => (inner.loaded.iter().find(|hosted| !stealth(hosted)), false),
            };
            // A knock is looked at whoever is asked for, so that the time it takes tells nothing.
            let opens = match (knock, asked.or(inner.loaded.first())) {
                (Some(knock), Some(hosted)) => inner.opens(hosted, knock),
                (Some(_) | None, _) => false,
            };
            let doors = &self.tally.doors;
            if knock.is_some() {
                if opens {
                    &doors.knocks_opened
                } else {
                    &doors.knocks_refused
                }
                .count();
            }
            let found = asked.filter(|_| !hidden || opens).cloned();
            if found.is_none() {
                doors.nobody.count();
            }
            found
        }?;
        hosted
            .credentials()
            .inspect_err(|error| error!(identity = %hosted.principal(), %error, "cannot prove who we are"))
            .ok()
    }

    /// Whom an invite let in is admitted as if the access list named it; whoever is denied is not.
    fn admit(&self, local: &Principal, remote: &Principal, knock: Option<&[u8]>) -> Result<(), ErrorCode> {
        let inner = self.read();
        let Some(hosted) = inner.loaded.iter().find(|hosted| hosted.principal() == local) else {
            self.tally.doors.not_allowed.count();
            return Err(ErrorCode::NotAllowed);
        };
        let knocked = !inner.is_kept_out(remote, local)
            && knock.is_some_and(|knock| hosted.invites().admit(knock, remote, clock::now()));
        let listed = matches!(inner.inbound_verdict(remote, local), Verdict::Deliver { .. });
        let stealth = inner
            .directory
            .get(local)
            .is_none_or(|identity| identity.visibility == Visibility::Stealth);
        if listed && (knocked || !stealth) {
            Ok(())
        } else {
            self.tally.doors.not_allowed.count();
            Err(ErrorCode::NotAllowed)
        }
    }
}

impl Gate for Hosts {
    /// The first identity whose access list admits the caller: this protocol has no way to say which one is meant.
    fn answer_as(&self, caller: &Principal) -> Result<Attestation<Verified>, ErrorCode> {
        if self.is_pinned(caller) {
            warn!(peer = %caller, "a peer that has spoken SNaP2P 2 before came over ClawChat 1.0 and was refused");
            self.tally.doors.not_allowed.count();
            return Err(ErrorCode::VersionUnsupported);
        }
        let admitting = self.loaded().into_iter().find(|hosted| {
            let shown = self.visibility(hosted.principal()) != Some(Visibility::Stealth);
            shown
                && matches!(
                    self.inbound_verdict(caller, hosted.principal()),
                    Verdict::Deliver { .. }
                )
        });
        let Some(hosted) = admitting else {
            self.tally.doors.not_allowed.count();
            return Err(ErrorCode::NotAllowed);
        };
        hosted.legacy_attestation(&self.gateway_key).map_err(|error| {
            error!(identity = %hosted.principal(), %error, "cannot prove who we are");
            ErrorCode::NotAllowed
        })
    }
}

impl Inner {
    /// What the access list says, and who came by an invite: it counts like an entry of that list.
    fn inbound_verdict(&self, from: &Principal, to: &Principal) -> Verdict {
        let listed = self.directory.inbound(from, to);
        let invited = || {
            let hosted = self.loaded.iter().find(|hosted| hosted.principal() == to);
            hosted.is_some_and(|hosted| hosted.invites().is_member(from))
        };
        match listed {
            Verdict::Refuse(Refusal::NotAllowed) if !self.is_kept_out(from, to) && invited() => {
                Verdict::Deliver { identity: *to }
            }
            verdict => verdict,
        }
    }

    /// Whether the operator keeps `from` out expressly, or everybody.
    fn is_kept_out(&self, from: &Principal, to: &Principal) -> bool {
        let denied = self
            .directory
            .get(to)
            .is_none_or(|identity| identity.acl.denied().contains(from));
        denied || self.closed.contains(to) || from.network() != to.network()
    }

    /// Whether a knock opens this identity: the token is one of its invites, or was given to somebody who is not kept
    /// out.
    fn opens(&self, hosted: &Hosted, knock: &[u8]) -> bool {
        match hosted.invites().door(knock, clock::now()) {
            Some(Door::Invite) => true,
            Some(Door::Member(member)) => !self.is_kept_out(&member, hosted.principal()),
            None => false,
        }
    }

    /// Puts the served identities into the order of the configuration.
    fn sort(&mut self) {
        let order: Vec<Principal> = self.directory.iter().map(|identity| identity.principal).collect();
        self.loaded
            .sort_by_key(|hosted| order.iter().position(|principal| principal == hosted.principal()));
    }
}

/// What the configuration says of peers of ClawChat 1.0.
pub(crate) fn legacy_policy(config: &GatewayConfig) -> LegacyPolicy {
    match config.legacy_peers() {
        LegacyPeers::Bound => LegacyPolicy::Bound,
        LegacyPeers::Unbound => LegacyPolicy::Unbound,
        LegacyPeers::Off => LegacyPolicy::Off,
    }
}

/// What the configuration says of an identity; `None` for one whose principal is no address.
fn hosted_identity(identity: &IdentityConfig) -> Option<HostedIdentity> {
    // A list that denies everybody admits nobody; otherwise principals are denied one by one.
    let nobody = identity.denied_peers.contains(&PeerPattern::Any);
    let allowed = identity
        .allowed_remote_peers
        .iter()
        .filter(|_| !nobody)
        .filter_map(|pattern| match pattern {
            PeerPattern::Any => Some(AllowEntry::Any),
            PeerPattern::Principal(principal) => Some(AllowEntry::Principal(*principal)),
            PeerPattern::Nobody(_) => None,
        });
    let denied = identity.denied_peers.iter().filter_map(|pattern| match pattern {
        PeerPattern::Principal(principal) => Some(*principal),
        PeerPattern::Any | PeerPattern::Nobody(_) => None,
    });
    Some(HostedIdentity {
        principal: identity.principal.get().ok()?,
        nick: identity.nick.clone(),
        acl: Acl::new(
            identity.allow_local && !nobody,
            allowed.collect(),
            denied.collect(),
        ),
        loaded: false,
        visibility: match identity.visibility {
            config::Visibility::Public => Visibility::Public,
            config::Visibility::Private => Visibility::Private,
            config::Visibility::Stealth => Visibility::Stealth,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_that_is_configured_but_not_served_has_a_reason() {
        let (first, second) = (clawchat_testkit::stranger(1), clawchat_testkit::stranger(2));
        let identity = |identity: &clawchat_identity::Identity, nick: &str, autoload: bool| {
            json!({ "principal": identity.principal(), "nick": nick, "autoload": autoload, "allowLocal": true,
                    "allowedRemotePeers": ["*"], "openclawWake": false })
        };
        let identities = [
            identity(&first, "first", true),
            identity(&second, "second", false),
        ];
        let config = json!({ "version": 1, "p2pPort": 9000, "identities": identities });
        let config = GatewayConfig::parse(config.to_string().as_bytes()).unwrap();
        let hosts = Hosts::new(&config, 9000, first.node_key().node_id(), Arc::default());
        hosts.set_not_loaded(first.principal().to_string(), "no password".to_owned());
        let principal = first.principal().to_string();
        for name in ["first", principal.as_str()] {
            assert_eq!(hosts.why_absent(name).as_deref(), Some("no password"));
        }
        assert!(hosts.why_absent("second").unwrap().contains("autoload"));
        assert_eq!(hosts.why_absent("third"), None);
    }
}
