//! Links over sessions with other gateways: a stream `mesh/1` carries frames, each behind its length in four bytes.
//!
//! Two gateways need one link, however many sessions their identities have. The gateway whose PeerId sorts first opens
//! it, so that they do not both do it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use clawchat_mesh::{MAX_FIRST_FRAME_BYTES, MAX_FRAME_BYTES, Origin, Side};
use clawchat_node::{ErrorCode, InboundStream, SessionHandle, Stream, StreamReader, StreamWriter};
use clawchat_types::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::names::key_of;
use super::peer::MeshPeer;
use super::port::{FrameReader, FrameWriter};
use crate::clock;
use crate::link::Link;
use crate::shared::Gateway;

/// What the streams are for.
pub(crate) const MESH_LABEL: &str = "mesh/1";
/// Links that one gateway may open at a time. The second one is there while the first has not ended yet.
const MAX_LINKS_OF_GATEWAY: usize = 2;
/// First pause before a link is opened again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause: for gateways that take no part in the mesh.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// A link that stood for this long begins with the first pause again.
const STOOD_WELL: Duration = Duration::from_secs(10);
/// Bytes of the length in front of a frame.
const LENGTH: usize = 4;
/// Frames longer than this wait for a place before they are read, in bytes.
const LONG_FRAME: usize = 256 * 1024;
/// Long frames that may arrive at a time, over all links: 128 MiB.
const LONG_FRAMES: usize = 8;
/// How long a long frame may take to arrive.
const LONG_FRAME_LIMIT: Duration = Duration::from_secs(60);
/// Bytes written at once, unless a frame has more.
const WRITE_BYTES: usize = 128 * 1024;

/// Which gateways have links over sessions.
pub(crate) struct SessionLinks {
    /// Gateways we open a link to, or have one open with.
    opened: Mutex<HashSet<PeerId>>,
    accepted: Mutex<HashMap<PeerId, usize>>,
    long_frames: Arc<Semaphore>,
}

impl Default for SessionLinks {
    fn default() -> Self {
        Self {
            opened: Mutex::default(),
            accepted: Mutex::default(),
            long_frames: Arc::new(Semaphore::new(LONG_FRAMES)),
        }
    }
}

impl SessionLinks {
    /// Whether the link with that gateway was nobody's business yet, and is the caller's now.
    fn claim(&self, remote: &PeerId) -> bool {
        lock(&self.opened).insert(remote.clone())
    }
}

/// A session began: a link with that gateway is kept up as long as there are sessions with it, if that is for us to do.
pub(crate) fn connected(gateway: &Gateway, session: &SessionHandle) {
    let Ok(peer) = gateway.mesh.running() else { return };
    let remote = session.peer_id().clone();
    if gateway.node.peer_id().as_str() >= remote.as_str() {
        return;
    }
    if !peer.session_links.claim(&remote) {
        return;
    }
    let (gateway, peer) = (Arc::clone(gateway), Arc::clone(peer));
    Arc::clone(&peer).spawn(async move {
        loop {
            keep(&gateway, &peer, &remote).await;
            lock(&peer.session_links.opened).remove(&remote);
            // A session that began a moment ago found the gateway taken.
            if native_session(&gateway, &remote).is_none() || !peer.session_links.claim(&remote) {
                return;
            }
        }
    });
}

/// Takes a stream that a gateway opened, and runs its link. It ends by itself with the session.
pub(crate) fn accept(gateway: &Gateway, session: &SessionHandle, inbound: InboundStream) {
    let remote = session.peer_id().clone();
    let place = gateway
        .mesh
        .running()
        .ok()
        .and_then(|peer| Some((Arc::clone(peer), Place::take(peer, &remote)?)));
    let Some((peer, place)) = place else {
        debug!(%remote, "a link of the mesh was refused");
        inbound.refuse(ErrorCode::StreamRefused);
        return;
    };
    let stream = inbound.accept();
    Arc::clone(&peer).spawn(async move {
        run(&peer, stream, Side::Accepted, &remote).await;
        drop(place);
    });
}

async fn keep(gateway: &Gateway, peer: &Arc<MeshPeer>, remote: &PeerId) {
    let mut pause = FIRST_PAUSE;
    loop {
        // The next session begins this anew.
        let Some(session) = native_session(gateway, remote) else {
            return;
        };
        let since = Instant::now();
        match session.open_stream(MESH_LABEL).await {
            Ok(stream) => run(peer, stream, Side::Dialed, remote).await,
            Err(error) => debug!(%remote, %error, "a link of the mesh cannot be opened"),
        }
        if since.elapsed() >= STOOD_WELL {
            pause = FIRST_PAUSE;
        }
        let jitter = Duration::from_millis(clock::jitter() % 1000);
        if rested(pause + jitter, session.closed()).await {
            pause = (pause * 2).min(LONGEST_PAUSE);
        } else {
            pause = FIRST_PAUSE;
        }
    }
}

/// Waits before a link is opened again. With another session it may go on at once: the gateway may have been started
/// anew, and take part now. Says whether the pause came to its end.
async fn rested<T>(pause: Duration, closed: impl Future<Output = T>) -> bool {
    tokio::select! {
        biased;
        _ = closed => false,
        () = sleep(pause) => true,
    }
}

/// The newest session with a gateway that can carry a link.
fn native_session(gateway: &Gateway, remote: &PeerId) -> Option<SessionHandle> {
    let sessions = gateway.sessions.with_gateway(remote);
    sessions.into_iter().rev().find_map(|link| match link {
        Link::Native(session) => Some(session),
        Link::Legacy(_) => None,
    })
}

async fn run(peer: &MeshPeer, stream: Stream, side: Side, remote: &PeerId) {
    let (reader, writer) = stream.split();
    let reader = Reader {
        stream: reader,
        buffer: BytesMut::new(),
        limit: MAX_FIRST_FRAME_BYTES,
        long_frames: Arc::clone(&peer.session_links.long_frames),
        place: None,
    };
    // The session was encrypted to this PeerId, which spells the key that the gateway signs with in the mesh.
    let label = format!("/p2p/{remote}");
    let origin = key_of(remote).map_or_else(|| Origin::Place(label.clone().into()), Origin::Key);
    peer.run_link(reader, Writer(writer), side, origin, label).await;
}

/// A place among the links a gateway may open.
struct Place {
    peer: Arc<MeshPeer>,
    remote: PeerId,
}

impl Place {
    fn take(peer: &Arc<MeshPeer>, remote: &PeerId) -> Option<Self> {
        let mut accepted = lock(&peer.session_links.accepted);
        let count = accepted.entry(remote.clone()).or_default();
        if *count >= MAX_LINKS_OF_GATEWAY {
            return None;
        }
        *count += 1;
        Some(Self {
            peer: Arc::clone(peer),
            remote: remote.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut accepted = lock(&self.peer.session_links.accepted);
        if let Some(count) = accepted.get_mut(&self.remote) {
            *count -= 1;
            if *count == 0 {
                accepted.remove(&self.remote);
            }
        }
    }
}

struct Reader {
    stream: StreamReader,
    buffer: BytesMut,
    limit: usize,
    long_frames: Arc<Semaphore>,
    /// For the long frame that is arriving.
    place: Option<(OwnedSemaphorePermit, Instant)>,
}

/// One frame, with its place if it is long.
struct Frame {
    bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl FrameReader for Reader {
    type Frame = Frame;

    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(length) = frame_length(&self.buffer) {
                if length > self.limit {
                    debug!(length, "a frame of the mesh is too long");
                    return None;
                }
                if self.buffer.len() >= LENGTH + length {
                    return Some(self.take(length));
                }
                if length > LONG_FRAME && self.place.is_none() {
                    let place = Arc::clone(&self.long_frames).acquire_owned().await.ok()?;
                    self.place = Some((place, Instant::now() + LONG_FRAME_LIMIT));
                    self.buffer.reserve(LENGTH + length - self.buffer.len());
                }
            }
            let reading = self.stream.read();
            let read = match &self.place {
                None => reading.await,
                Some((_, deadline)) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    timeout(left, reading).await.ok()?
                }
            };
            self.buffer.extend_from_slice(&read?.ok()?);
        }
    }

    fn try_next(&mut self) -> Option<Frame> {
        let length = frame_length(&self.buffer)?;
        let is_here = length <= self.limit.min(LONG_FRAME) && self.buffer.len() >= LENGTH + length;
        is_here.then(|| self.take(length))
    }

    fn admit_long_frames(&mut self) {
        self.limit = MAX_FRAME_BYTES;
    }
}

impl Reader {
    /// The frame of that length that the buffer begins with.
    fn take(&mut self, length: usize) -> Frame {
        let mut frame = self.buffer.split_to(LENGTH + length).freeze();
        let bytes = frame.split_off(LENGTH);
        let place = self.place.take().map(|(place, _)| place);
        Frame { bytes, _place: place }
    }
}

struct Writer(StreamWriter);

impl FrameWriter for Writer {
    async fn write(&mut self, texts: &[Arc<str>]) -> bool {
        let mut together = BytesMut::new();
        for text in texts {
            let Ok(length) = u32::try_from(text.len()) else {
                return false;
            };
            together.reserve(LENGTH + text.len());
            together.put_u32(length);
            together.put_slice(text.as_bytes());
            if together.len() >= WRITE_BYTES && self.0.write_all(together.split().freeze()).await.is_err() {
                return false;
            }
        }
        together.is_empty() || self.0.write_all(together.freeze()).await.is_ok()
    }

    async fn close(&mut self) {
        self.0.finish();
    }
}

fn frame_length(buffer: &[u8]) -> Option<usize> {
    let length: [u8; LENGTH] = buffer.get(..LENGTH)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_pause_ends_with_its_session() {
        assert!(rested(Duration::from_millis(1), pending::<()>()).await);
        assert!(!rested(LONGEST_PAUSE, ready(())).await);
    }
}
