//! The application's end of a session.

use std::net::IpAddr;
use std::sync::Arc;

use clawchat_snap2p::{ErrorCode, StreamId};
use clawchat_types::{NodeId, PeerId, Principal};

use super::shared::Shared;
use crate::clock::Clock;
use crate::{SessionClosed, Stream, StreamError};

/// An authenticated session between one of our identities and a peer's principal.
///
/// Cheap to clone; every clone means the same session. It ends when the peer or the connection ends it, when
/// [`close`](Self::close) is called, or when the last handle *and* the last stream of it are dropped: whoever
/// wants to keep a session, keeps a handle. In that last case, what was written to finished streams is still
/// delivered, for up to 5 s. Idle sessions are kept alive and watched by the session's own pings.
#[derive(Clone)]
pub struct SessionHandle {
    owner: Arc<Owner>,
}

/// Shared by all handles and streams of a session; the session ends with it.
pub(super) struct Owner {
    pub(super) shared: Arc<Shared>,
    clock: Clock,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

impl SessionHandle {
    pub(super) fn new(shared: Arc<Shared>, clock: Clock) -> Self {
        Self {
            owner: Arc::new(Owner { shared, clock }),
        }
    }

    /// Our identity in this session.
    #[must_use]
    pub fn local(&self) -> &Principal {
        &self.shared().parties.local
    }

    /// The peer's principal, as proven by its attestation.
    #[must_use]
    pub fn remote(&self) -> &Principal {
        &self.shared().parties.remote
    }

    /// The peer's node key, which its attestation binds to the principal.
    #[must_use]
    pub fn remote_node(&self) -> &NodeId {
        &self.shared().parties.remote_node
    }

    /// The peer's attestation in its canonical encoding: worth storing as proof.
    #[must_use]
    pub fn remote_attestation(&self) -> &[u8] {
        &self.shared().parties.attestation
    }

    /// The gateway at the other end.
    #[must_use]
    pub fn peer_id(&self) -> &PeerId {
        &self.shared().parties.place.peer
    }

    /// Whether this side opened the session.
    #[must_use]
    pub fn is_outbound(&self) -> bool {
        self.shared().parties.outbound
    }

    /// Whether its connection goes through a relay. Stays so: a session does not change its connection.
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        self.shared().parties.place.relayed
    }

    /// The IP address at the other end of its connection, of IPv6 the network of 64 bits. `None` through a relay, where
    /// it is not to be seen.
    #[must_use]
    pub fn host(&self) -> Option<IpAddr> {
        self.shared().parties.place.host
    }

    /// The gateway that relays it; `None` when none does, or when the connection does not tell which.
    #[must_use]
    pub fn relay(&self) -> Option<&PeerId> {
        self.shared().parties.place.relay.as_ref()
    }

    /// Says that an answer of the peer's application is overdue. The peer is asked for a sign of life at once, and the
    /// session ends if none comes within 12 s, sooner than without doubt.
    pub fn doubt(&self) {
        self.shared().doubt(self.owner.clock.now());
    }

    /// Whether both handles mean the same session.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self.shared(), other.shared())
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared().closed().is_some()
    }

    /// Waits for the end of the session and says how it came. Safe to drop.
    pub async fn closed(&self) -> SessionClosed {
        let mut ended = self.shared().ended();
        let reason = ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        reason.unwrap_or(SessionClosed::ConnectionLost)
    }

    /// Opens a stream. It is usable at once; a peer that does not want it resets it. The label says what it
    /// is for: at most 64 visible ASCII characters, no spaces. Safe to drop.
    ///
    /// # Errors
    /// [`StreamError::Refused`] when too many streams are open or the label cannot be one,
    /// [`StreamError::SessionClosed`] when the session has ended.
    pub async fn open_stream(&self, label: &str) -> Result<Stream, StreamError> {
        let (id, signals) = self.shared().open(label)?;
        Ok(Stream::new(
            Arc::clone(&self.owner),
            id,
            signals,
            label.to_owned(),
        ))
    }

    /// The next stream the peer opens; `None` once the session has ended. Safe to drop: nothing is lost.
    /// With several callers each stream goes to one of them.
    pub async fn accept(&self) -> Option<InboundStream> {
        let mut ended = self.shared().ended();
        loop {
            if self.is_closed() {
                return None;
            }
            if let Some((id, label)) = self.shared().take_arrival() {
                return Some(InboundStream {
                    owner: Arc::clone(&self.owner),
                    id,
                    label,
                    decided: false,
                });
            }
            tokio::select! {
                () = self.shared().arrival() => {}
                _ = ended.wait_for(Option::is_some) => {}
            }
        }
    }

    /// Ends the session at once, telling the peer `code`; usually [`ErrorCode::NoError`]. Bytes that were
    /// written but not sent yet are dropped: to deliver everything, finish the streams and drop the handles.
    pub fn close(&self, code: ErrorCode) {
        self.shared().close(code);
    }

    fn shared(&self) -> &Shared {
        &self.owner.shared
    }
}

impl std::fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionHandle")
            .field("local", self.local())
            .field("remote", self.remote())
            .field("outbound", &self.is_outbound())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// A stream the peer wants to open. Dropping it refuses it with [`ErrorCode::StreamRefused`].
#[must_use = "dropping it refuses the stream"]
pub struct InboundStream {
    owner: Arc<Owner>,
    id: StreamId,
    label: String,
    decided: bool,
}

impl InboundStream {
    /// What the stream is for, in the peer's words: at most 64 visible ASCII characters, perhaps none.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Takes the stream.
    #[must_use]
    pub fn accept(mut self) -> Stream {
        self.decided = true;
        let signals = self.owner.shared.accept(self.id);
        Stream::new(
            Arc::clone(&self.owner),
            self.id,
            signals,
            std::mem::take(&mut self.label),
        )
    }

    /// Refuses the stream, telling the peer why.
    pub fn refuse(mut self, code: ErrorCode) {
        self.decided = true;
        self.owner.shared.refuse(self.id, code);
    }
}

impl Drop for InboundStream {
    fn drop(&mut self) {
        if !self.decided {
            self.owner.shared.refuse(self.id, ErrorCode::StreamRefused);
        }
    }
}

impl std::fmt::Debug for InboundStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InboundStream")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}
