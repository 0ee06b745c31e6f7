//! `invite_create`, `invite_list`, `invite_revoke`.

use std::sync::Arc;
use std::time::Duration;

use clawchat_identity::{Invite, InviteError};
use clawchat_ipc::{ErrorCode, Failure};
use clawchat_node::ErrorCode as WireCode;
use clawchat_router::{Verdict, Visibility};
use clawchat_types::Principal;
use serde_json::{Value, json};

use super::Api;
use crate::clock;
use crate::hosted::Hosted;
use crate::invite;
use crate::invites::{Entry, InvitesFileError, MAX_INVITES, MAX_MEMBERS};

/// Shortest life of an invite. One minute.
const SHORTEST: Duration = Duration::from_secs(60);
/// Longest life of an invite, and with it of the attestation in it. 90 days.
const LONGEST: Duration = Duration::from_secs(90 * 24 * 60 * 60);

impl Api {
    /// A stealth identity's invite always holds a token, another's when there is something to limit.
    pub(super) async fn invite_create(
        &self,
        hosted: &Arc<Hosted>,
        expires: Option<Duration>,
        uses: Option<u64>,
    ) -> Result<Value, Failure> {
        let life = expires.unwrap_or(invite::LIFETIME);
        if !(SHORTEST..=LONGEST).contains(&life) {
            return Err(Failure::invalid("an invite is good for 1 minute to 90 days")
                .with_hint("for example: --expires 7d"));
        }
        let most = u64::try_from(MAX_MEMBERS).unwrap_or(u64::MAX);
        if uses.is_some_and(|uses| uses == 0 || uses > most) {
            return Err(Failure::invalid(format!(
                "an invite can be limited to 1 to {MAX_MEMBERS} uses"
            )));
        }
        let stealth = self.gateway.hosts.visibility(hosted.principal()) == Some(Visibility::Stealth);
        let with_token = stealth || expires.is_some() || uses.is_some();
        let made = invite::make(&self.gateway, hosted, life, with_token)
            .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
        let now = clock::now();
        let expires_at = now.after(life);
        let mut answer = json!({ "invite": made.to_text(), "expiresAt": expires_at });
        if let Some(token) = made.token() {
            let entry = invite::entry(token, now, expires_at, uses)
                .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
            answer["id"] = json!(entry.id);
            if let Some(uses) = uses {
                answer["uses"] = json!(uses);
            }
            if !hosted.invites().add(entry, now) {
                return Err(Failure::new(
                    ErrorCode::Failed,
                    format!("this identity has {MAX_INVITES} invites already"),
                )
                .with_hint("see 'clawchat invite list', and revoke some: 'clawchat invite revoke ID'"));
            }
            hosted
                .invites()
                .settled()
                .await
                .map_err(|error| unwritten(&error))?;
        }
        Ok(answer)
    }

    pub(super) fn invite_list(hosted: &Hosted) -> Value {
        let now = clock::now();
        hosted
            .invites()
            .list()
            .iter()
            .map(|entry| {
                let mut value = listed(entry);
                value["state"] = json!(if entry.is_expired(now) {
                    "expired"
                } else if entry.is_used_up() {
                    "used-up"
                } else {
                    "open"
                });
                value
            })
            .collect()
    }

    /// Sessions with those who have no other way in end.
    pub(super) async fn invite_revoke(&self, hosted: &Arc<Hosted>, which: &str) -> Result<Value, Failure> {
        let line = Invite::from_text(which);
        let token = match &line {
            Ok(line) => match line.token() {
                Some(token) => Some(token),
                None => {
                    return Err(Failure::new(
                        ErrorCode::InvalidRequest,
                        "this invite has no token, so nothing can be taken back: it only says where the identity is",
                    )
                    .with_hint("to keep somebody out: clawchat gateway identity deny WHO PRINCIPAL"));
                }
            },
            Err(InviteError::Foreign) => None,
            Err(error) => return Err(Failure::invalid(error.to_string())),
        };
        let Some(revoked) = hosted.invites().revoke(which.trim(), token) else {
            return Err(
                Failure::new(ErrorCode::NoSuchInvite, "this identity has no such invite")
                    .with_hint("see 'clawchat invite list'; one that expired unused is forgotten"),
            );
        };
        let hosts = &self.gateway.hosts;
        let stealth = hosts.visibility(hosted.principal()) == Some(Visibility::Stealth);
        for session in self.gateway.sessions.all() {
            let (local, remote) = (session.local(), session.remote());
            let came_by_it = revoked.members.iter().any(|member| member.principal == *remote);
            if local != hosted.principal() || !came_by_it || hosted.invites().is_member(remote) {
                continue;
            }
            let refused = matches!(hosts.inbound_verdict(remote, local), Verdict::Refuse(_));
            if (stealth || refused) && !session.is_outbound() {
                session.close(WireCode::NotAllowed);
            }
        }
        let admits = |peer: &Principal| hosts.admits(peer, hosted.principal());
        hosted.whereabouts().rules_changed(admits);
        // For those that are here it counts already, whatever the disk says.
        hosted
            .invites()
            .settled()
            .await
            .map_err(|error| unwritten(&error))?;
        let mut answer = listed(&revoked);
        answer["status"] = json!("revoked");
        Ok(answer)
    }
}

fn listed(entry: &Entry) -> Value {
    let members: Vec<Value> = entry
        .members
        .iter()
        .map(|member| json!(member.principal))
        .collect();
    let mut value = json!({
        "id": entry.id,
        "createdAt": entry.created_at,
        "expiresAt": entry.expires_at,
        "used": entry.members.len(),
        "usedBy": members,
    });
    if let Some(uses) = entry.uses {
        value["uses"] = json!(uses);
    }
    value
}

fn unwritten(error: &InvitesFileError) -> Failure {
    Failure::new(ErrorCode::Io, format!("the invites cannot be written: {error}"))
        .with_hint("free some space on that disk, or look at the rights of that folder, and try again")
}
