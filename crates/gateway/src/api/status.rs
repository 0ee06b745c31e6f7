//! `status`: how the daemon is.

use clawchat_ipc::{ErrorCode, Failure};
use clawchat_router::Visibility;
use serde_json::{Value, json};

use super::{Api, storage};
use crate::{addresses, invite, reach_words};

impl Api {
    /// As in the TypeScript version an unknown `as` is no error here: its principal reads `unknown` and its
    /// counts are zero.
    pub(super) async fn status(&self, who: Option<&str>) -> Result<Value, Failure> {
        let gateway = &self.gateway;
        let acting = match who {
            Some(who) => gateway.hosts.by_name(who),
            None => gateway.hosts.first(),
        };
        let mut value = json!({
            "running": true,
            "principal": "unknown",
            "peerId": gateway.node.peer_id(),
            "p2pPort": gateway.hosts.p2p_port(),
            "multiaddrs": addresses::of(&gateway.node),
            "connectedPeers": [],
            "inboxCount": 0,
            "outboxCount": 0,
            "loadedIdentities": gateway.hosts.loaded().iter().map(|hosted| hosted.summary()).collect::<Vec<_>>(),
            "notLoaded": gateway.hosts.not_loaded(),
            "skippedTransports": gateway.node.skipped().iter().map(|skipped| json!({
                "transport": skipped.transport.to_string(), "reason": skipped.reason,
            })).collect::<Vec<_>>(),
            "nat": reach_words::value(&gateway.node.reachability()),
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
        });
        if let Some(mesh) = gateway.mesh.status().await {
            value["mesh"] = mesh;
        }
        let problems = gateway.hosts.import_problems();
        if !problems.is_empty() {
            value["importProblems"] = json!(problems);
        }
        if let Some(hosted) = acting {
            let store = hosted.store().store();
            let count =
                |result: Result<u64, clawchat_store::StoreError>| result.map_err(|error| storage(&error));
            value["principal"] = json!(hosted.principal());
            value["connectedPeers"] = json!(gateway.sessions.peers_of(hosted.principal()));
            value["inboxCount"] = json!(count(store.inbox_count())?);
            value["unreadCount"] = json!(count(store.unread_count())?);
            value["outboxCount"] = json!(count(store.outbox_count())?);
            value["px1"] = hosted.whereabouts().summary();
            value["wake"] = hosted.wakes().to_json();
            // Nobody comes to a stealth identity without a token, and a token is made when it is asked for.
            if gateway.hosts.visibility(hosted.principal()) != Some(Visibility::Stealth) {
                let line = invite::of(gateway, &hosted);
                let line = line.map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
                value["invite"] = json!(line);
            }
        }
        Ok(value)
    }
}
