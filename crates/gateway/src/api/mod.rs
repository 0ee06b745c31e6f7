//! Answers to local requests.

mod channels;
mod identities;
mod invites;
mod messages;
mod peers;
mod reading;
mod render;
mod status;
mod subscribe;

pub(crate) use self::identities::reloaded;

use std::sync::Arc;

use clawchat_ipc::{Call, Caller, ErrorCode, Failure, Handler, Reply, Request};
use clawchat_store::StoreError;
use serde_json::{Value, json};

use crate::addresses;
use crate::hosted::Hosted;
use crate::metrics;
use crate::shared::Gateway;

/// The daemon's side of the socket.
pub(crate) struct Api {
    gateway: Gateway,
}

impl Api {
    pub(crate) fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }

    /// The identity a request acts as: the one named, else the first that is loaded.
    fn acting(&self, who: Option<&str>) -> Result<Arc<Hosted>, Failure> {
        match who {
            Some(who) => self
                .gateway
                .hosts
                .by_name(who)
                .ok_or_else(|| self.not_acting(who)),
            None => self.gateway.hosts.first().ok_or_else(|| {
                Failure::new(ErrorCode::NoSuchIdentity, "no identity is loaded")
                    .with_hint("see 'clawchat gateway identity list' for the reasons")
            }),
        }
    }

    /// Why nobody can act as `who`.
    fn not_acting(&self, who: &str) -> Failure {
        match self.gateway.hosts.why_absent(who) {
            Some(reason) => Failure::new(
                ErrorCode::NoSuchIdentity,
                format!("{who} is configured here but not loaded: {reason}"),
            )
            .with_hint("once that is put right, 'clawchat daemon reload' loads it"),
            None => Failure::new(ErrorCode::NoSuchIdentity, format!("Identity not found: {who}"))
                .with_hint("see 'clawchat gateway identity list'"),
        }
    }

    async fn answer(&self, call: Call) -> Result<Reply, Failure> {
        let who = call.acting.as_deref();
        let reply = match call.request {
            Request::Send {
                to,
                content,
                payload,
                reply_to,
                wait,
                expires,
            } => {
                let draft = messages::Draft {
                    to,
                    content,
                    payload,
                    reply_to,
                    expires,
                };
                self.send(&self.acting(who)?, draft, wait).await?.into()
            }
            Request::Reply {
                reply_to,
                content,
                payload,
                wait,
                expires,
            } => self
                .reply(&self.acting(who)?, reply_to, content, payload, wait, expires)
                .await?
                .into(),
            Request::Ask {
                to,
                content,
                payload,
                timeout,
            } => {
                let draft = messages::Draft {
                    to,
                    content,
                    payload,
                    reply_to: None,
                    expires: None,
                };
                self.ask(&self.acting(who)?, draft, timeout).await?.into()
            }
            Request::Recv {
                since,
                timeout,
                from,
                limit,
                unread,
                after,
            } => {
                let wanted = reading::Wanted {
                    since,
                    from,
                    limit,
                    unread,
                    after,
                };
                self.recv(&self.acting(who)?, wanted, timeout).await?
            }
            Request::Inbox { after, limit } => self.inbox(&self.acting(who)?, after, limit).await?.into(),
            Request::Outbox { after, limit } => self.outbox(&self.acting(who)?, after, limit).await?.into(),
            request @ Request::Subscribe { .. } if is_of_channels(&request) => {
                self.channels(who, request).await?.into()
            }
            Request::Subscribe {
                after, from, events, ..
            } => self.subscribe(&self.acting(who)?, after, from.as_deref(), &events)?,
            Request::Peers => self.peers(&self.acting(who)?)?.into(),
            Request::PeerAdd {
                principal,
                address,
                alias,
                invite,
            } => {
                let entry = peers::NewPeer {
                    principal,
                    address,
                    alias,
                    invite,
                };
                self.peer_add(&self.acting(who)?, entry).await?.into()
            }
            Request::PeerRemove { principal } => {
                self.peer_remove(&self.acting(who)?, &principal).await?.into()
            }
            Request::PeerResolve { principal, through } => self
                .peer_resolve(&self.acting(who)?, &principal, through.as_deref())
                .await?
                .into(),
            Request::Connect { multiaddr } => self.connect(&self.acting(who)?, &multiaddr).await?.into(),
            Request::Status => self.status(who).await?.into(),
            Request::Metrics { text } => {
                let page = metrics::gather(&self.gateway).await?;
                if text {
                    json!({ "text": page.to_text() })
                } else {
                    json!({ "metrics": page.to_json() })
                }
                .into()
            }
            Request::Multiaddrs => json!(addresses::of(&self.gateway.node)).into(),
            Request::Stop => {
                self.gateway.stop_requested.cancel();
                json!({ "status": "stopping" }).into()
            }
            request @ (Request::Reload
            | Request::IdentityList
            | Request::IdentityAdd { .. }
            | Request::IdentityRemove { .. }
            | Request::IdentityAllow { .. }
            | Request::IdentityDeny { .. }
            | Request::IdentityShow { .. }
            | Request::IdentitySetNick { .. }
            | Request::IdentityClearNick { .. }
            | Request::IdentityCreate { .. }
            | Request::IdentityRecover { .. }
            | Request::GatewayInit { .. }
            | Request::GatewaySet { .. }) => self.administer(who, request).await?.into(),
            Request::InviteCreate { expires, uses } => self
                .invite_create(&self.acting(who)?, expires, uses)
                .await?
                .into(),
            Request::InviteList => Self::invite_list(&*self.acting(who)?).into(),
            Request::InviteRevoke { invite } => self.invite_revoke(&self.acting(who)?, &invite).await?.into(),
            request @ (Request::ChannelJoin { .. }
            | Request::ChannelLeave { .. }
            | Request::ChannelList
            | Request::ChannelSend { .. }
            | Request::ChannelHistory { .. }
            | Request::ChannelMembers { .. }
            | Request::MeshCheck
            | Request::ChannelSave { .. }
            | Request::DmSend { .. }
            | Request::DmHistory { .. }) => self.channels(who, request).await?.into(),
        };
        Ok(match reply {
            Answer::Reply(reply) => reply,
            Answer::Value(value) => Reply::ok(value),
        })
    }
}

impl Handler for Api {
    async fn handle(&self, _caller: Caller, call: Call) -> Reply {
        self.answer(call).await.unwrap_or_else(Reply::failure)
    }
}

/// Most requests answer with a value, a few with more.
enum Answer {
    Value(Value),
    Reply(Reply),
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// Whether a subscription is one to channels of the mesh.
fn is_of_channels(request: &Request) -> bool {
    matches!(request, Request::Subscribe { channels, .. } if !channels.is_empty())
}

/// What a caller is told when the store does not do its part.
pub(crate) fn storage(error: &StoreError) -> Failure {
    let code = match error {
        StoreError::TooLarge { .. } => ErrorCode::TooLarge,
        StoreError::StorageFull { .. } => ErrorCode::StorageFull,
        StoreError::Damaged(_) => ErrorCode::StorageDamaged,
        StoreError::Closed => return Failure::stopping(),
        _ => ErrorCode::Io,
    };
    let failure = Failure::new(code, error.to_string());
    match error {
        StoreError::TooLarge { .. } => failure.with_hint("send less in one message"),
        StoreError::StorageFull { .. } => {
            failure.with_hint("free some space on that disk and try again; nothing was written")
        }
        StoreError::Damaged(_) => failure.with_hint(
            "stop the daemon, then restore that store folder from a backup, or move it away to start with an empty one",
        ),
        _ => failure.with_hint(
            "restart the daemon ('clawchat daemon stop', then 'clawchat daemon start'); its log tells more",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_of_a_store_comes_with_advice() {
        let path = std::path::PathBuf::from("/store");
        let failures = [
            StoreError::TooLarge {
                what: "record",
                size: 2,
                limit: 1,
            },
            StoreError::StorageFull {
                path: path.clone(),
                free: 1,
                needed: 2,
            },
            StoreError::Damaged(clawchat_store::Damage {
                path: path.clone(),
                what: "gone".to_owned(),
            }),
            StoreError::Failed {
                path,
                reason: "io".to_owned(),
            },
            StoreError::Closed,
        ];
        let codes = failures.iter().map(storage).map(|failure| {
            assert!(failure.hint.is_some(), "{failure}");
            failure.code
        });
        assert_eq!(
            codes.collect::<Vec<_>>(),
            [
                ErrorCode::TooLarge,
                ErrorCode::StorageFull,
                ErrorCode::StorageDamaged,
                ErrorCode::Io,
                ErrorCode::NotRunning,
            ]
        );
    }
}
