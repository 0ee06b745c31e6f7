//! Serving until told to stop.

use clawchat_gateway::{
    BootstrapOptions, BootstrapServer, Gateway, GatewayOptions, MeshDaemon, MeshDaemonOptions,
};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::{ErrorCode, Failure};
use crate::output;

/// Wishes to reload that wait while one is carried out; further ones are met by it.
const RELOADS: usize = 1;

/// Starts the gateway and serves until SIGTERM, SIGINT or the `stop` command.
///
/// # Errors
/// Why it could not start.
pub(crate) async fn serve(options: GatewayOptions) -> Result<(), Failure> {
    let mut stop = Stop::watch()?;
    let gateway = tokio::select! {
        started = Gateway::start(options) => started.map_err(|error| error.failure().clone())?,
        () = stop.wanted() => {
            output::event(&json!({"event": "stopped"}));
            return Ok(());
        }
    };
    let reloads = reloads()?;
    let started = gateway.started();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), principal = %started["principal"], port = %started["p2pPort"], "serving");
    output::event(&started);
    gateway.run(stop.wanted(), reloads).await;
    tracing::info!("stopped");
    output::event(&json!({"event": "stopped"}));
    Ok(())
}

/// The same for a mesh peer by itself. It has no configuration to read again.
///
/// # Errors
/// Why it could not start.
pub(crate) async fn serve_mesh(options: MeshDaemonOptions) -> Result<(), Failure> {
    let mut stop = Stop::watch()?;
    // A hangup means nothing here; it must not end the daemon either.
    let _hangups = listen(SignalKind::hangup())?;
    let daemon = tokio::select! {
        started = MeshDaemon::start(options) => started?,
        () = stop.wanted() => {
            output::event(&json!({"event": "stopped"}));
            return Ok(());
        }
    };
    let started = daemon.started();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), peer = %started["peerId"], listen = %started["listen"], "serving");
    output::event(&started);
    daemon.run(stop.wanted()).await;
    tracing::info!("stopped");
    output::event(&json!({"event": "stopped"}));
    Ok(())
}

/// Serves a list of peers.
///
/// # Errors
/// Why it could not start.
pub(crate) async fn serve_list(options: BootstrapOptions) -> Result<(), Failure> {
    let mut stop = Stop::watch()?;
    // It looks at its file by itself.
    let _hangups = listen(SignalKind::hangup())?;
    let server = BootstrapServer::start(&options).await?;
    let started = server.started();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), url = %started["url"], peers = %started["peers"], "serving");
    output::event(&started);
    server.run(stop.wanted()).await;
    tracing::info!("stopped");
    output::event(&json!({"event": "stopped"}));
    Ok(())
}

/// The signals that end a daemon.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn watch() -> Result<Self, Failure> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn wanted(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT"),
        }
    }
}

/// One item for every SIGHUP; several in a row count as one.
fn reloads() -> Result<mpsc::Receiver<()>, Failure> {
    let mut hangup = listen(SignalKind::hangup())?;
    let (sender, receiver) = mpsc::channel(RELOADS);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match sender.try_send(()) {
                Ok(()) | Err(mpsc::error::TrySendError::Full(())) => {}
                Err(mpsc::error::TrySendError::Closed(())) => return,
            }
        }
    });
    Ok(receiver)
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind)
        .map_err(|error| Failure::new(ErrorCode::Internal, format!("cannot watch for signals: {error}")))
}
