//! The application's end of a session.

use clawchat_snap2p::ErrorCode;
use clawchat_types::{NodeId, PeerId, Principal};

use crate::{SessionClosed, Stream, StreamError};

/// An authenticated session between one of our identities and a peer's principal.
///
/// Cheap to clone; every clone means the same session. It ends when the peer or the connection ends it, when
/// [`close`](Self::close) is called, or when the last handle *and* the last stream of it are dropped: whoever
/// wants to keep a session, keeps a handle. Idle sessions are kept alive and watched by the session's pings.
#[derive(Clone)]
pub struct SessionHandle {}

impl SessionHandle {
    /// Our identity in this session.
    #[must_use]
    pub fn local(&self) -> &Principal {
        todo!()
    }

    /// The peer's principal, as proven by its attestation.
    #[must_use]
    pub fn remote(&self) -> &Principal {
        todo!()
    }

    /// The peer's node key, which its attestation binds to the principal.
    #[must_use]
    pub fn remote_node(&self) -> &NodeId {
        todo!()
    }

    /// The peer's attestation in its canonical encoding: worth storing as proof.
    #[must_use]
    pub fn remote_attestation(&self) -> &[u8] {
        todo!()
    }

    /// The gateway at the other end.
    #[must_use]
    pub fn peer_id(&self) -> &PeerId {
        todo!()
    }

    /// Whether this side opened the session.
    #[must_use]
    pub fn is_outbound(&self) -> bool {
        todo!()
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        todo!()
    }

    /// Waits for the end of the session and says how it came. Safe to drop.
    pub async fn closed(&self) -> SessionClosed {
        todo!()
    }

    /// Opens a stream. It is usable at once; a peer that does not want it resets it. Safe to drop.
    ///
    /// # Errors
    /// [`StreamError::Refused`] when too many streams are open or the label is longer than 64 bytes,
    /// [`StreamError::SessionClosed`] when the session has ended.
    pub async fn open_stream(&self, _label: &str) -> Result<Stream, StreamError> {
        todo!()
    }

    /// The next stream the peer opens; `None` once the session has ended. Safe to drop: nothing is lost.
    /// With several callers each stream goes to one of them.
    pub async fn accept(&self) -> Option<InboundStream> {
        todo!()
    }

    /// Ends the session: what was written so far is still sent, then the peer is told `code`. Returns at
    /// once; [`closed`](Self::closed) tells when it is done.
    pub fn close(&self, _code: ErrorCode) {
        todo!()
    }
}

impl std::fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionHandle").finish_non_exhaustive()
    }
}

/// A stream the peer wants to open. Dropping it refuses it.
#[must_use = "dropping it refuses the stream"]
#[derive(Debug)]
pub struct InboundStream {}

impl InboundStream {
    /// What the stream is for, in the peer's words (at most 64 bytes).
    #[must_use]
    pub fn label(&self) -> &str {
        todo!()
    }

    /// Takes the stream.
    pub fn accept(self) -> Stream {
        todo!()
    }

    /// Refuses the stream, telling the peer why.
    pub fn refuse(self, _code: ErrorCode) {
        todo!()
    }
}
