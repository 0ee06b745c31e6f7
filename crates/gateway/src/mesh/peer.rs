//! One peer of the mesh: its engine, its log, its key.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use clawchat_identity::NodeKey;
use clawchat_ipc::{ErrorCode, Failure};
use clawchat_mesh::{
    ChannelId, DEFAULT_MAX_PAYLOAD_BYTES, FrameLimits, Mesh, MeshConfig, MeshLimits, Origin, PeerName, Side,
};
use clawchat_store::{
    ChannelLog, ChannelLogHandle, ChannelLogOptions, LogQuota, LogWrite, OpenError, SledChannelLog,
    StoreError,
};
use clawchat_types::NodeId;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use super::engine::{Engine, JOINED, LEFT, OWN_NOTES};
use super::hub::Hub;
use super::port::{self, FrameReader, FrameWriter};
use super::streams::SessionLinks;
use crate::bootstrap::neighbours::ListNews;
use crate::clock;
use crate::config::{MeshQuota, MeshSettings};

/// What the key of the log is made from, besides the node key.
const LOG_KEY_DOMAIN: &[u8] = b"clawchat mesh log v1\0";
/// A day.
const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// What a peer is made of.
pub(crate) struct MeshOptions {
    /// The key it signs with; its name is that key's.
    pub(crate) key: NodeKey,
    /// The folder of its log.
    pub(crate) store: PathBuf,
    /// What the operator said.
    pub(crate) settings: MeshSettings,
}

/// A peer of the mesh that runs.
pub(crate) struct MeshPeer {
    pub(super) hub: Arc<Hub>,
    pub(super) settings: MeshSettings,
    pub(super) session_links: SessionLinks,
    /// How fetching the list of peers is going.
    pub(super) list_news: ListNews,
    /// The peers that are always dialed, and why there is no link with them, if that is known.
    pub(super) dialing: Mutex<BTreeMap<String, Option<String>>>,
    listening: OnceLock<SocketAddr>,
    key: NodeKey,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Why a peer did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeshStartError {
    /// Its log cannot be opened.
    #[error("the mesh's messages: {0}")]
    Open(#[from] OpenError),
    /// Its log cannot be read.
    #[error("the mesh's messages: {0}")]
    Store(#[from] StoreError),
    /// The system has no thread, or no randomness.
    #[error("the mesh cannot start: {0}")]
    System(#[from] io::Error),
    /// Something stands where the log's folder should be.
    #[error("{} is a file; messages of the mesh are kept in a folder", path.display())]
    NotAFolder {
        /// What stands there.
        path: PathBuf,
    },
    /// Nobody can connect where it should listen.
    #[error("cannot listen for peers of the mesh on {address}: {reason}")]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        reason: String,
    },
}

impl From<MeshStartError> for Failure {
    fn from(error: MeshStartError) -> Self {
        let (code, hint) = match &error {
            MeshStartError::Open(OpenError::StorageFull { .. }) => (
                ErrorCode::StorageFull,
                "free some space on that disk and start again",
            ),
            MeshStartError::Open(OpenError::InUse { .. }) => (
                ErrorCode::AlreadyRunning,
                "stop the other one, or give this one a folder of its own (MESH_STORE_PATH)",
            ),
            MeshStartError::Open(_) | MeshStartError::Store(_) => (
                ErrorCode::StorageDamaged,
                "nothing was overwritten: restore that folder from a backup, or move it away to start with an empty one",
            ),
            MeshStartError::System(_) => (ErrorCode::Internal, "see the log"),
            MeshStartError::NotAFolder { .. } => (
                ErrorCode::Io,
                "name a folder with MESH_STORE_PATH; the database file of the original cannot be taken over",
            ),
            MeshStartError::Listen { .. } => (ErrorCode::Network, "choose another address or port"),
        };
        Self::new(code, error.to_string()).with_hint(hint)
    }
}

impl MeshPeer {
    /// Opens the log, restores the channels and starts the engine. Links are opened by others. Blocks on the disk for
    /// a moment.
    pub(crate) fn start(
        options: MeshOptions,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>, MeshStartError> {
        let MeshOptions { key, store, settings } = options;
        if store.exists() && !store.is_dir() {
            return Err(MeshStartError::NotAFolder { path: store });
        }
        let mut log_key = Zeroizing::new([0_u8; 32]);
        let mut hash = Sha256::new();
        hash.update(LOG_KEY_DOMAIN);
        hash.update(key.seed().as_slice());
        log_key.copy_from_slice(&hash.finalize());
        let quota = quota(&settings.quota);
        let options = ChannelLogOptions {
            quota,
            ..ChannelLogOptions::default()
        };
        let log = SledChannelLog::open(&store, &log_key, options)?;
        let log: Arc<dyn ChannelLog> = Arc::new(log);
        Self::with_log(log, key, settings, tasks, stop)
    }

    /// The same with a log of the caller's.
    pub(crate) fn with_log(
        log: Arc<dyn ChannelLog>,
        key: NodeKey,
        settings: MeshSettings,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>, MeshStartError> {
        let name = PeerName::of_key(&key.node_id());
        let log = ChannelLogHandle::start(log)?;
        let limits = FrameLimits {
            payload_bytes: settings
                .payload_limit
                .and_then(|limit| usize::try_from(limit).ok())
                .unwrap_or(DEFAULT_MAX_PAYLOAD_BYTES),
        };
        let config = MeshConfig {
            name: name.clone(),
            key: Some(key.node_id()),
            store: settings.store,
            relay: settings.relay,
            limits: MeshLimits::default(),
        };
        let seed = clock::random()
            .map(u64::from_le_bytes)
            .map_err(io::Error::other)?;
        let (hub, inputs) = Hub::new(name, log, limits);
        let mut mesh = Mesh::new(config, seed);
        let followed = restore(&hub, &mut mesh, &settings)?;
        let engine = Engine::new(Arc::clone(&hub), mesh, inputs, followed);
        tasks.spawn(engine.run(stop.clone()));
        Ok(Arc::new(Self {
            hub,
            settings,
            session_links: SessionLinks::default(),
            list_news: ListNews::default(),
            dialing: Mutex::default(),
            listening: OnceLock::new(),
            key,
            tasks: tasks.clone(),
            stop: stop.clone(),
        }))
    }

    /// What it is called in the mesh.
    pub(crate) fn name(&self) -> &PeerName {
        &self.hub.name
    }

    /// Where peers can connect to it over WebSocket, once that is settled.
    pub(super) fn listening(&self) -> Option<SocketAddr> {
        self.listening.get().copied()
    }

    /// Settles it.
    pub(super) fn listens_on(&self, address: Option<SocketAddr>) {
        if let Some(address) = address {
            // Settled once, at the start.
            let _ = self.listening.set(address);
        }
    }

    /// Notes how dialing a peer went: why not, or that a link stands.
    pub(super) fn dialed(&self, url: &str, error: Option<String>) {
        let mut dialing = self.dialing.lock().unwrap_or_else(PoisonError::into_inner);
        dialing.insert(url.to_owned(), error);
    }

    /// The key it signs with.
    pub(super) fn key(&self) -> &NodeKey {
        &self.key
    }

    /// The public half of it.
    pub(crate) fn node_id(&self) -> NodeId {
        self.key.node_id()
    }

    /// Runs a link until it ends or the peer stops. Safe to drop: the link ends then.
    pub(crate) async fn run_link<R: FrameReader, W: FrameWriter>(
        &self,
        reader: R,
        writer: W,
        side: Side,
        origin: Origin,
        label: impl Into<Arc<str>>,
    ) {
        port::run(Arc::clone(&self.hub), reader, writer, side, origin, label.into()).await;
    }

    /// Runs something beside it until the peer stops.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// Writes out the log. The engine has to have ended.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.hub.log.close().await
    }
}

/// Tells the machine what is in the log, and follows what the configuration wants followed and nobody has left since.
/// Gives the channels that are followed.
fn restore(hub: &Hub, mesh: &mut Mesh, settings: &MeshSettings) -> Result<HashSet<ChannelId>, StoreError> {
    let log = hub.log.log();
    let now = hub.now();
    let mut followed = HashSet::new();
    for info in log.channels()? {
        let Ok(channel) = info.name.parse::<ChannelId>() else {
            continue;
        };
        mesh.restore(channel.clone(), info.last, info.followed, now);
        if info.followed {
            followed.insert(channel);
        }
    }
    mesh.keep(settings.keep.clone(), now);
    let mut writes = Vec::new();
    for channel in &settings.channels {
        let left = log.cursor(OWN_NOTES, channel.as_str())?.as_deref() == Some(LEFT);
        if !left && !followed.contains(channel) && mesh.follow(channel.clone(), now) {
            followed.insert(channel.clone());
            writes.push(LogWrite::SetFollowed {
                channel: channel.as_str().into(),
                followed: true,
            });
            writes.push(LogWrite::SetCursor {
                peer: OWN_NOTES.into(),
                channel: channel.as_str().into(),
                id: JOINED.into(),
            });
        }
    }
    if !writes.is_empty() {
        log.commit(writes)?;
    }
    Ok(followed)
}

fn quota(configured: &MeshQuota) -> LogQuota {
    let mut quota = LogQuota::default();
    let days = |days: Option<u64>| {
        let days = u32::try_from(days?).unwrap_or(u32::MAX);
        Some(DAY.saturating_mul(days))
    };
    quota.followed.entries = configured.channel_messages.unwrap_or(quota.followed.entries);
    quota.followed.bytes = configured.channel_bytes.unwrap_or(quota.followed.bytes);
    quota.followed.age = days(configured.channel_days).or(quota.followed.age);
    quota.kept.entries = configured.others_messages.unwrap_or(quota.kept.entries);
    quota.kept.bytes = configured.others_bytes.unwrap_or(quota.kept.bytes);
    quota.kept.age = days(configured.others_days).or(quota.kept.age);
    quota.total_bytes = configured.total_bytes.unwrap_or(quota.total_bytes);
    quota
}
