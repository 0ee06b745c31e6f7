//! Whether and how a gateway takes part in the mesh.

use std::sync::Arc;

use clawchat_identity::NodeKey;
use clawchat_ipc::Failure;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::links;
use super::peer::{MeshOptions, MeshPeer};
use super::requests::no_mesh;
use crate::config::GatewayConfig;
use crate::home::Home;

/// A gateway's place in the mesh. What goes wrong there does not keep messages from being served.
pub(crate) enum MeshPlace {
    /// The configuration does not want it.
    Off,
    /// It does, but it did not work.
    Failed(Failure),
    /// It takes part.
    Running(Arc<MeshPeer>),
}

impl MeshPlace {
    /// What the configuration wants; the gateway's own key is its name in the mesh.
    pub(crate) async fn start(
        home: &Home,
        config: &GatewayConfig,
        key: &NodeKey,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let settings = config.mesh().clone();
        if !settings.enabled {
            return Self::Off;
        }
        let options = MeshOptions {
            key: key.clone(),
            store: home.mesh_dir().join("store"),
            settings,
        };
        let (own_tasks, own_stop) = (tasks.clone(), stop.clone());
        let started =
            tokio::task::spawn_blocking(move || MeshPeer::start(options, &own_tasks, &own_stop)).await;
        let started = match started {
            Ok(started) => started.map_err(Failure::from),
            Err(error) => Err(Failure::new(clawchat_ipc::ErrorCode::Internal, error.to_string())),
        };
        let started = match started {
            Ok(peer) => links::start(&peer).await.map(|address| {
                peer.listens_on(address);
                peer
            }),
            Err(failure) => Err(failure),
        };
        match started {
            Ok(peer) => {
                info!(peer = %peer.name(), "taking part in the mesh");
                Self::Running(peer)
            }
            Err(failure) => {
                warn!(error = %failure, "this gateway takes no part in the mesh");
                Self::Failed(failure)
            }
        }
    }

    /// The peer.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn running(&self) -> Result<&Arc<MeshPeer>, Failure> {
        match self {
            Self::Off => Err(no_mesh()),
            Self::Failed(failure) => Err(failure.clone()),
            Self::Running(peer) => Ok(peer),
        }
    }

    /// The mesh's part of `status`; `None` where it is off.
    pub(crate) async fn status(&self) -> Option<Value> {
        match self {
            Self::Off => None,
            Self::Failed(failure) => Some(json!({
                "error": failure.message, "code": failure.code.as_str(), "hint": failure.hint,
            })),
            Self::Running(peer) => peer.status().await.ok(),
        }
    }

    /// Writes out its log.
    pub(crate) async fn close(&self, deadline: Instant) {
        let Self::Running(peer) = self else { return };
        match tokio::time::timeout_at(deadline, peer.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the messages of the mesh were not closed cleanly"),
            Err(_) => {
                warn!("the messages of the mesh were not closed in time; what was acknowledged is on disk")
            }
        }
    }
}
