//! A mesh peer that runs by itself: no wallet, no password, no identities.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clawchat_ipc::{BindError, Call, Caller, ErrorCode, Failure, Handler, Reply, Request, Server};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::keys;
use super::links;
use super::peer::{MeshOptions, MeshPeer};
use super::requests::NoNames;
use crate::config::MeshSettings;
use crate::home::{DIR_MODE, Home};

/// How long the tasks may take to end.
const TASKS_LIMIT: Duration = Duration::from_secs(1);
/// How long stopping may take in all.
const STOP_LIMIT: Duration = Duration::from_millis(4500);

/// What a mesh peer by itself is started with.
#[derive(Clone, Debug)]
pub struct MeshDaemonOptions {
    /// The home folder: of the socket, and of what has no folder of its own.
    pub home: PathBuf,
    /// The folder of the key; `mesh/keys` in the home unless given.
    pub keys: Option<PathBuf>,
    /// The folder of the messages; `mesh/store` in the home unless given.
    pub store: Option<PathBuf>,
    /// Everything else. `enabled` is not looked at.
    pub settings: MeshSettings,
}

/// A mesh peer by itself, with a local socket for requests about channels.
#[must_use = "it serves local requests only while `run` is awaited"]
pub struct MeshDaemon {
    peer: Arc<MeshPeer>,
    server: Option<Server>,
    tasks: TaskTracker,
    stop: CancellationToken,
    stop_requested: CancellationToken,
    started: Value,
}

impl MeshDaemon {
    /// Reads or makes the key, opens the messages, listens and dials. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Why it cannot start.
    pub async fn start(options: MeshDaemonOptions) -> Result<Self, Failure> {
        let home = Home::at(&options.home);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (own_tasks, own_stop, own_home) = (tasks.clone(), stop.clone(), home.clone());
        let opened = tokio::task::spawn_blocking(move || open(&own_home, options, &own_tasks, &own_stop));
        let peer = opened
            .await
            .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))??;
        let listening = links::start(&peer).await?;
        peer.listens_on(listening);
        let server = match home.socket().map_err(Failure::from).and_then(|path| {
            Server::bind(&path).map_err(|error| {
                let code = match error {
                    BindError::AlreadyRunning { .. } => ErrorCode::AlreadyRunning,
                    _ => ErrorCode::Io,
                };
                Failure::new(code, error.to_string())
            })
        }) {
            Ok(server) => Some(server),
            // Several peers may run with one home, each with messages and a key of its own.
            Err(failure) => {
                warn!(error = %failure, "no local requests are served; name another folder with --data-dir");
                None
            }
        };
        let mut started = json!({
            "event": "started", "pid": std::process::id(), "peerId": peer.name().as_str(),
            "publicKey": clawchat_mesh::public_key_pem(&peer.node_id()),
            "channels": peer.settings.channels.iter().map(clawchat_mesh::ChannelId::as_str).collect::<Vec<_>>(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        if let Some(address) = listening {
            started["listen"] = json!(address.to_string());
            started["port"] = json!(address.port());
        }
        if server.is_some() {
            started["socket"] = json!(home.socket_path());
        }
        Ok(Self {
            peer,
            server,
            tasks,
            stop,
            stop_requested: CancellationToken::new(),
            started,
        })
    }

    /// What it tells whoever started it: `{"event":"started","pid","peerId","publicKey","channels","listen"?,"port"?,
    /// "socket"?,"version"}`.
    #[must_use]
    pub fn started(&self) -> Value {
        self.started.clone()
    }

    /// Serves until `stop` is ready or somebody sends the `stop` command.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let handler = MeshApi {
            peer: Arc::clone(&self.peer),
            stop_requested: self.stop_requested.clone(),
        };
        let closing = self.stop_requested.clone();
        let serving = self
            .server
            .map(|server| tokio::spawn(server.serve(handler, closing.cancelled_owned())));
        tokio::select! {
            () = stop => {}
            () = self.stop_requested.cancelled() => {}
        }
        info!("stopping");
        let deadline = Instant::now() + STOP_LIMIT;
        self.stop_requested.cancel();
        if let Some(serving) = serving
            && serving.await.is_err()
        {
            warn!("the local server ended badly");
        }
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(TASKS_LIMIT, self.tasks.wait())
            .await
            .is_err()
        {
            warn!("some tasks did not end in time");
        }
        match tokio::time::timeout_at(deadline, self.peer.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the messages were not closed cleanly"),
            Err(_) => warn!("the messages were not closed in time; what was acknowledged is on disk"),
        }
    }
}

impl std::fmt::Debug for MeshDaemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshDaemon")
            .field("peer", self.peer.name())
            .finish_non_exhaustive()
    }
}

/// Blocks on the disk.
fn open(
    home: &Home,
    options: MeshDaemonOptions,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Arc<MeshPeer>, Failure> {
    let unusable = |error: std::io::Error| {
        Failure::new(ErrorCode::Io, format!("{}: {error}", home.root().display()))
            .with_hint("name another folder with --data-dir")
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(home.root())
        .map_err(unusable)?;
    let keys = options.keys.unwrap_or_else(|| home.mesh_dir().join("keys"));
    let store = options.store.unwrap_or_else(|| home.mesh_dir().join("store"));
    let options = MeshOptions {
        key: keys::load_or_make(&keys)?,
        store,
        settings: options.settings,
    };
    Ok(MeshPeer::start(options, tasks, stop)?)
}

/// Answers to local requests.
struct MeshApi {
    peer: Arc<MeshPeer>,
    stop_requested: CancellationToken,
}

impl MeshApi {
    async fn answer(&self, call: Call) -> Result<Reply, Failure> {
        match call.request {
            Request::Status => {
                let mesh = self.peer.status().await?;
                Ok(Reply::ok(json!({
                    "running": true, "peerId": self.peer.name().as_str(), "mesh": mesh, "loadedIdentities": [],
                    "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(),
                })))
            }
            Request::Stop => {
                self.stop_requested.cancel();
                Ok(Reply::ok(json!({ "status": "stopping" })))
            }
            request => match self.peer.answer(request, &NoNames).await {
                Err(failure) if failure.code == ErrorCode::Unsupported => Err(Failure::new(
                    ErrorCode::Unsupported,
                    "this is a mesh peer by itself: it has channels, and no identities",
                )
                .with_hint("for identities and encrypted messages run a gateway: clawchat up")),
                answer => answer,
            },
        }
    }
}

impl Handler for MeshApi {
    async fn handle(&self, _caller: Caller, call: Call) -> Reply {
        self.answer(call).await.unwrap_or_else(Reply::failure)
    }
}
