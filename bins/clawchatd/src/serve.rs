//! Serving until told to stop.

use clawchat_gateway::{Gateway, GatewayOptions};
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
