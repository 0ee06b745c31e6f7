//! Sessions as the application sees them, and the task that drives each.

mod drive;
mod handle;
pub(crate) mod handshake;
pub(crate) mod refusal;
mod shared;
mod stream;
pub(crate) mod task;

pub use self::handle::{InboundStream, SessionHandle};
pub use self::stream::{Stream, StreamReader, StreamWriter};

/// Sessions over any pipe, for tests.
#[cfg(test)]
pub(crate) mod testing {
    use std::sync::Arc;

    use clawchat_snap2p::{Answerer, Credentials, Dialer, Gatekeeper, HANDSHAKE_DEADLINE, PeerPair};
    use futures::{AsyncRead, AsyncWrite};
    use tokio::sync::watch;

    use super::handshake::{self, Native};
    use super::shared::{Place, Shared};
    use super::{SessionHandle, drive};
    use crate::clock::Clock;

    /// Both ends of a session between two ends of a pipe, each driven by a task.
    pub(crate) async fn connect<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        mut near: Io,
        mut far: Io,
        local: Credentials,
        gatekeeper: impl Gatekeeper + Send + Sync + 'static,
    ) -> (SessionHandle, SessionHandle) {
        let clock = Clock::start();
        let peers = PeerPair {
            initiator: "near".to_owned(),
            responder: "far".to_owned(),
        };
        let entropy = || handshake::entropy().unwrap();
        let dialer = Dialer::new(local, &peers, None, None, entropy(), clock.now());
        let answerer = Answerer::new(&peers, entropy(), clock.now());
        let answerer = Native::Answer(Box::new(answerer), Arc::new(gatekeeper));
        let (dialed, answered) = tokio::join!(
            handshake::run(
                Native::Dial(Box::new(dialer)),
                &mut near,
                clock,
                HANDSHAKE_DEADLINE
            ),
            handshake::run(answerer, &mut far, clock, HANDSHAKE_DEADLINE),
        );
        let start = |(session, frames), io| {
            let shared = Arc::new(Shared::new(
                session,
                Place {
                    peer: "far".parse().unwrap(),
                    relayed: false,
                    host: None,
                    relay: None,
                },
            ));
            let handle = SessionHandle::new(Arc::clone(&shared), clock);
            let (going_on, stop) = watch::channel(false);
            tokio::spawn(async move {
                drive::drive(&shared, io, frames, clock, stop).await;
                drop(going_on);
            });
            handle
        };
        (start(dialed.unwrap(), near), start(answered.unwrap(), far))
    }
}
