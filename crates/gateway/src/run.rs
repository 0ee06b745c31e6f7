//! Starting a gateway, running it, and stopping it in the right order.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clawchat_identity::Identity;
use clawchat_ipc::{BindError, CLOSE_LIMIT, ErrorCode, Failure, Secret, Server};
use clawchat_node::{Legacy, Limits, NatConfig, Node, NodeConfig, NodeEvent, RelayServe};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::addresses;
use crate::api::Api;
use crate::clock;
use crate::config::{ConfigError, ConfiguredLimits, GatewayConfig, NatSettings, ServeRelay};
use crate::contacts;
use crate::delivery::LongMessages;
use crate::hints::Hints;
use crate::home::{Home, PidFile, Purpose};
use crate::hosted::{HostError, Hosted};
use crate::hosting::{self, OpenStore, Owned};
use crate::hosts::{Hosts, legacy_policy};
use crate::mesh::MeshPlace;
use crate::metrics::{self, Tally};
use crate::peering;
use crate::sessions::Sessions;
use crate::setup::{self, Unsealed};
use crate::shared::Shared;
use crate::wake;
use crate::whereabouts::Dialable;

/// How long stopping may take in all, the local server's [`CLOSE_LIMIT`] included. What of it the steps before leave is
/// for writing out the stores.
const STOP_LIMIT: Duration = Duration::from_millis(4500);
/// How long tasks may take to notice that the gateway stops.
const TASKS_LIMIT: Duration = Duration::from_millis(500);
/// How long saying goodbye to peers may take.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);
/// Least time for writing out the stores.
const STORES_LIMIT: Duration = Duration::from_millis(1500);

const _: () = assert!(
    CLOSE_LIMIT.as_millis() + TASKS_LIMIT.as_millis() + GOODBYE_LIMIT.as_millis() + STORES_LIMIT.as_millis()
        <= STOP_LIMIT.as_millis(),
    "stopping takes longer than it may"
);

/// What a gateway is started with.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// The home folder.
    pub home: PathBuf,
    /// The P2P port, instead of the configured one. For this run only.
    pub port: Option<u16>,
    /// Opens the identities that have no `password` file of their own.
    pub password: Option<Secret>,
    /// Wake OpenClaw for messages to every identity, whatever the configuration says.
    pub openclaw_wake: bool,
}

/// A gateway that serves: its home is locked, its identities are loaded, its socket and its ports are open.
///
/// Dropping it without [`run`](Self::run) abandons everything at once; nothing acknowledged is lost by that.
#[must_use = "a gateway serves local requests only while `run` is awaited"]
pub struct Gateway {
    shared: crate::shared::Gateway,
    server: Server,
    events: mpsc::Receiver<NodeEvent>,
    /// Where metrics are served, if anywhere.
    metrics: Option<TcpListener>,
    _pid_file: PidFile,
}

/// Why a gateway did not start. Says what to do about it; nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(Failure);

impl StartError {
    /// The same for a caller: with code and hint.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        &self.0
    }
}

impl<F: Into<Failure>> From<F> for StartError {
    fn from(failure: F) -> Self {
        Self(failure.into())
    }
}

impl Gateway {
    /// Locks the home, opens identities and stores, listens. Must be called within a tokio runtime.
    ///
    /// An identity that cannot be loaded is left out and shown in `status` with its reason, as long as one can;
    /// but a wrong password for the first one is an error.
    ///
    /// # Errors
    /// [`StartError`]: the folder is in use or unusable, the configuration invalid, no identity can be
    /// loaded, or a port or the socket is not to be had.
    pub async fn start(options: GatewayOptions) -> Result<Self, StartError> {
        let (given, openclaw_wake) = (options.port, options.openclaw_wake);
        let opened = tokio::task::spawn_blocking(move || open(&options))
            .await
            .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))??;
        let Opened {
            owned,
            identities,
            not_loaded,
            pid_file,
        } = opened;
        let config = owned.config.clone();
        let home = owned.lock.home().clone();
        let socket = home.socket()?;
        let port = given.unwrap_or(config.p2p_port());

        // The node's key is that of the first identity, as in the TypeScript version: so its peer id stays.
        let Some(key) = identities
            .first()
            .map(|(identity, _)| identity.node_key().clone())
        else {
            return Err(Failure::new(ErrorCode::NoSuchIdentity, "no identity can be loaded").into());
        };
        let tally = Arc::new(Tally::default());
        let hosts = Arc::new(Hosts::new(&config, port, key.node_id(), Arc::clone(&tally)));
        let stop = CancellationToken::new();
        let mut hosted = Vec::new();
        let mut only_room_is_missing = not_loaded.is_empty();
        for (identity, store) in identities {
            let principal = *identity.principal();
            match store.and_then(|opened| {
                hosts.set_import_problems(&principal, &opened.import_problems);
                let nick = hosting::nick_of(&config, &principal);
                Hosted::new(identity, nick, opened.store, opened.invites, stop.child_token())
            }) {
                Ok(identity) => hosted.push(Arc::new(identity)),
                Err(error) => {
                    only_room_is_missing &= matches!(
                        error,
                        HostError::Open(clawchat_store::OpenError::StorageFull { .. })
                    );
                    warn!(identity = %principal, %error, "cannot serve an identity");
                    hosts.set_not_loaded(principal.to_string(), error.to_string());
                }
            }
        }
        for (principal, reason) in not_loaded {
            warn!(identity = %principal, %reason, "cannot load an identity");
            hosts.set_not_loaded(principal, reason);
        }
        if hosted.is_empty() {
            return Err(nobody_to_serve(&hosts, only_room_is_missing).into());
        }
        for identity in &hosted {
            hosts.insert(Arc::clone(identity));
        }

        let mut node_config = NodeConfig::new(*key.seed(), port);
        node_config.limits = limits(config.limits());
        let connections = node_config.limits.connections;
        node_config.nat = nat(config.nat());
        let gate: Arc<Hosts> = Arc::clone(&hosts);
        node_config.legacy = config.network().map(|network| Legacy {
            gate,
            network,
            policy: legacy_policy(&config),
        });
        let gatekeeper: Arc<Hosts> = Arc::clone(&hosts);
        let (node, events) = Node::start(node_config, gatekeeper).await.map_err(|error| {
            Failure::new(ErrorCode::Network, error.to_string())
                .with_hint("choose another port with --port, or with \"p2pPort\" in gateway-config.json")
        })?;
        let metrics = match config.metrics().listen {
            Some(address) => Some(metrics::bind(address).await?),
            None => None,
        };
        let server = Server::bind(&socket).map_err(|error| no_socket(&error))?;
        let tasks = TaskTracker::new();
        let mesh = MeshPlace::start(&home, &config, &key, &tasks, &stop).await;
        let shared = Arc::new(Shared {
            home,
            owned: Arc::new(Mutex::new(owned)),
            hosts,
            node,
            sessions: Sessions::new(connections, Arc::clone(&tally)),
            hints: Hints::default(),
            dialable: Dialable::default(),
            wakes: wake::Settings::new(&config, openclaw_wake),
            moves: watch::Sender::new(0),
            ways: watch::Sender::new(0),
            long_messages: LongMessages::default(),
            mesh,
            tally,
            started_at: clock::now(),
            tasks,
            stop,
            stop_requested: CancellationToken::new(),
        });
        for identity in &hosted {
            hosting::start(&shared, identity)
                .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
        }
        Ok(Self {
            shared,
            server,
            events,
            metrics,
            _pid_file: pid_file,
        })
    }

    /// What the daemon tells whoever started it: `{"event":"started","pid","principal","peerId","p2pPort",
    /// "multiaddrs","loadedIdentities"}`.
    #[must_use]
    pub fn started(&self) -> Value {
        let hosts = &self.shared.hosts;
        let mut started = json!({
            "event": "started",
            "pid": std::process::id(),
            "principal": hosts.first().map(|hosted| *hosted.principal()),
            "peerId": self.shared.node.peer_id(),
            "p2pPort": hosts.p2p_port(),
            "multiaddrs": addresses::of(&self.shared.node),
            "loadedIdentities": hosts.loaded().iter().map(|hosted| hosted.summary()).collect::<Vec<_>>(),
            "notLoaded": hosts.not_loaded(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        let problems = hosts.import_problems();
        if !problems.is_empty() {
            started["importProblems"] = json!(problems);
        }
        started
    }

    /// Serves until `stop` is ready or somebody sends the `stop` command, then stops in order: no new local
    /// requests, deliveries parked, peers told, stores written out. Takes less than five seconds for that.
    /// Each item of `reloads` makes the gateway read its configuration again; stopping does not wait for that.
    pub async fn run(self, stop: impl Future<Output = ()>, reloads: mpsc::Receiver<()>) {
        let Self {
            shared,
            server,
            events,
            metrics,
            _pid_file,
        } = self;
        if let Some(listener) = metrics {
            shared.tasks.spawn(metrics::serve(Arc::clone(&shared), listener));
        }
        shared.tasks.spawn(peering::run(Arc::clone(&shared), events));
        shared.tasks.spawn(contacts::keep(Arc::clone(&shared)));
        shared.tasks.spawn(follow(Arc::clone(&shared), reloads));
        let closing = shared.stop_requested.clone();
        let serving = tokio::spawn(server.serve(Api::new(Arc::clone(&shared)), closing.cancelled_owned()));
        tokio::select! {
            () = stop => {}
            () = shared.stop_requested.cancelled() => {}
        }
        info!("stopping");
        let deadline = Instant::now() + STOP_LIMIT;
        shared.stop_requested.cancel();
        if serving.await.is_err() {
            warn!("the local server ended badly");
        }
        shutdown(&shared, deadline).await;
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("home", &self.shared.home.root())
            .finish_non_exhaustive()
    }
}

/// What is read from the home before anything is served.
struct Opened {
    owned: Owned,
    /// Keys and stores, in the order of the configuration.
    identities: Vec<(Identity, Result<OpenStore, HostError>)>,
    /// Who stays out, and why.
    not_loaded: Vec<(String, String)>,
    pid_file: PidFile,
}

/// Takes the home and opens what is in it. Blocks, mostly on opening keys.
fn open(options: &GatewayOptions) -> Result<Opened, StartError> {
    let home = Home::at(&options.home);
    if !home.exists() {
        return Err(ConfigError::NotFound {
            path: home.config_path(),
        }
        .into());
    }
    let lock = home.lock(Purpose::Daemon)?;
    refuse_another(&home)?;
    if setup::migrate(&lock, options.password.as_ref())? {
        info!("the identity of the old single-identity layout was taken over");
    }
    let config = GatewayConfig::load(&home)?;
    for warning in config.warnings() {
        warn!("{warning}");
    }
    let Unsealed { loaded, not_loaded } = setup::unseal(&lock, &config, options.password.as_ref())?;
    let identities = loaded
        .into_iter()
        .map(|loaded| {
            let store = hosting::open_store(&home, &config, &loaded.identity);
            (loaded.identity, store)
        })
        .collect();
    let not_loaded = not_loaded
        .into_iter()
        .map(|entry| (entry.principal, entry.reason.to_string()))
        .collect();
    let pid_file = lock.write_pid()?;
    let owned = Owned {
        lock,
        config,
        password: options.password.clone(),
    };
    Ok(Opened {
        owned,
        identities,
        not_loaded,
        pid_file,
    })
}

/// Fails when another daemon serves this home. Ours is kept out by the lock of the home; one of the TypeScript version
/// knows no lock, but answers at the socket, and would write over what is taken over from under it.
fn refuse_another(home: &Home) -> Result<(), StartError> {
    let path = home.socket_path();
    if UnixStream::connect(&path).is_err() {
        return Ok(());
    }
    Err(no_socket(&BindError::AlreadyRunning { path }).into())
}

/// Why there is no local socket, and what to do.
fn no_socket(error: &BindError) -> Failure {
    let (code, hint) = match error {
        BindError::AlreadyRunning { .. } => (
            ErrorCode::AlreadyRunning,
            "stop it with 'clawchat daemon stop', or choose another --data-dir",
        ),
        BindError::NotASocket { .. } => (ErrorCode::Io, "move that file away, or choose another --data-dir"),
        BindError::PathTooLong { .. } => (ErrorCode::Io, "choose a --data-dir with a shorter path"),
        _ => (
            ErrorCode::Io,
            "check that you may write to that folder and that its disk is not full",
        ),
    };
    Failure::new(code, error.to_string()).with_hint(hint)
}

/// Why there is no gateway without identities, and what to do.
fn nobody_to_serve(hosts: &Hosts, only_room_is_missing: bool) -> Failure {
    let (code, hint) = if only_room_is_missing {
        (
            ErrorCode::StorageFull,
            "the messages are still there; free some space on that disk and start again",
        )
    } else {
        (
            ErrorCode::StorageDamaged,
            "the messages are still there; see the log for each identity's reason",
        )
    };
    Failure::new(code, hosts.why_none()).with_hint(hint)
}

/// The node's limits with what the operator set.
fn limits(configured: ConfiguredLimits) -> Limits {
    let defaults = Limits::default();
    let or =
        |set: Option<u32>, default: usize| set.map_or(default, |set| usize::try_from(set).unwrap_or(default));
    Limits {
        connections: or(configured.connections, defaults.connections),
        connections_per_peer: or(configured.connections_per_peer, defaults.connections_per_peer),
        strangers_per_ip: or(configured.connections_per_ip, defaults.strangers_per_ip),
        pending_inbound: or(configured.pending_connections, defaults.pending_inbound),
        ..defaults
    }
}

/// The operator's settings for being reached, in the node's words.
fn nat(configured: &NatSettings) -> NatConfig {
    NatConfig {
        mdns: configured.mdns,
        upnp: configured.upnp,
        autonat: configured.autonat,
        hole_punching: configured.hole_punching,
        relays: configured.relays.clone(),
        relay_serve: match configured.relay_serve {
            ServeRelay::Off => RelayServe::Off,
            ServeRelay::Contacts => RelayServe::Contacts,
            ServeRelay::Anyone => RelayServe::Anyone,
        },
        external: configured.external.clone(),
        ..NatConfig::default()
    }
}

/// Reads the configuration again whenever that is wanted, until the gateway stops.
async fn follow(gateway: crate::shared::Gateway, mut reloads: mpsc::Receiver<()>) {
    let stop = gateway.stop_requested.clone();
    stop.run_until_cancelled(async {
        while let Some(()) = reloads.recv().await {
            if let Err(failure) = hosting::reload(&gateway).await {
                warn!(error = %failure, "the configuration was not reloaded; the old one stays");
            }
        }
    })
    .await;
}

async fn shutdown(shared: &Shared, deadline: Instant) {
    shared.stop.cancel();
    shared.tasks.close();
    if tokio::time::timeout(TASKS_LIMIT, shared.tasks.wait())
        .await
        .is_err()
    {
        warn!("some tasks did not end in time");
    }
    shared.node.close(GOODBYE_LIMIT).await;
    shared.mesh.close(deadline).await;
    let closing = shared.hosts.loaded().into_iter().map(|hosted| async move {
        if let Err(error) = hosted.store().close().await {
            warn!(identity = %hosted.principal(), %error, "the store was not closed cleanly");
        }
    });
    if tokio::time::timeout_at(deadline, futures::future::join_all(closing))
        .await
        .is_err()
    {
        warn!("the stores were not closed in time; what was acknowledged is on disk");
    }
}
