//! What stands between a socket and the WebSocket library: it sees how long frames are before their bytes are read.
//!
//! The library refuses frames above one fixed length. That is not enough against strangers: hundreds of links that
//! each send almost the longest frame would fill the memory, and so would links that did not even say who they are.
//! So the headers that go by are read here. A message longer than [`SMALL_BYTES`] goes on only when one of the
//! [`Places`] for long messages is free, which all links share; until then the socket is not read. Behind a long
//! message nothing goes by until [`Gate::pass_on`], so that whoever took it can let go of the buffer it came in.
//!
//! It is there before the HTTP head has come, and lets that by on its own: so the library never
//! reads a frame that was not looked at.

use std::io::{self, Cursor};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;
use tokio_util::sync::PollSemaphore;

/// Messages up to this length need no place, in bytes.
pub(super) const SMALL_BYTES: usize = 64 * 1024;
/// Messages up to this length need a middle place, longer ones a large place as well, in bytes.
const MIDDLE_BYTES: usize = 2 * 1024 * 1024;
/// Messages of middle length that all links together may be receiving and holding.
const MIDDLE_PLACES: usize = 32;
/// The same for longer ones. With the greatest length there is (16 MiB) these are 64 MiB, as the middle ones are.
const LARGE_PLACES: usize = 4;
/// What is read from the socket at once, in bytes, unless it is the inside of a long frame.
const BUFFER_BYTES: usize = 16 * 1024;
/// Longest head of an HTTP request or answer, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Longest payload of a ping, a pong or a close frame (RFC 6455 §5.5), in bytes.
const MAX_CONTROL_BYTES: u64 = 125;

/// The places for long messages. Whoever needs both kinds takes the middle one first, so nobody waits in a circle.
#[derive(Clone, Debug)]
pub(super) struct Places {
    middle: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// The places of one message: free again when the last clone is gone.
#[derive(Debug)]
pub(super) struct Held {
    _middle: OwnedSemaphorePermit,
    _large: Option<OwnedSemaphorePermit>,
}

/// Whether long messages may come: known to the link's owner, once the peer has said who it is.
#[derive(Debug, Default)]
pub(super) struct Opened {
    flag: AtomicBool,
    waiting: AtomicWaker,
}

/// Why nothing more is read from this socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A message is longer than allowed.
    TooLong {
        /// What was allowed, in bytes.
        limit: usize,
    },
    /// A control frame or the HTTP head is longer than there can be.
    Broken,
}

/// Finds the empty line that ends an HTTP head, exactly as the library's parser does: lines may end without `\r`, and
/// empty ones in front do not count.
#[derive(Debug, Default)]
struct Head {
    length: usize,
    line: Line,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    /// Nothing but line ends so far.
    #[default]
    Before,
    Inside,
    /// Behind a line end.
    Begins,
    /// Behind a line end and `\r`.
    Ends,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gate<S> {
    io: S,
    buffer: Box<[u8]>,
    /// What of the buffer was read and not handed out.
    start: usize,
    end: usize,
    /// Where the HTTP head is, while it has not gone by.
    head: Option<Head>,
    /// How many bytes may go by before the next header must be looked at.
    admitted: u64,
    /// Announced payload of the unfinished message, in bytes.
    message: u64,
    /// A whole message went by.
    heard: bool,
    /// The message that goes by is a long one, and its last frame is admitted.
    shut: bool,
    /// When the places were given.
    since: Option<Instant>,
    middle: Option<OwnedSemaphorePermit>,
    large: Option<OwnedSemaphorePermit>,
    middle_places: PollSemaphore,
    large_places: PollSemaphore,
    waiting: bool,
    opened: Arc<Opened>,
    limit: usize,
    first_limit: usize,
    verdict: Option<Verdict>,
    deaf: bool,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            middle: Arc::new(Semaphore::new(MIDDLE_PLACES)),
            large: Arc::new(Semaphore::new(LARGE_PLACES)),
        }
    }
}

impl Opened {
    pub(super) fn open(&self) {
        self.flag.store(true, Ordering::Release);
        self.waiting.wake();
    }

    fn is_open(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }
}

impl Head {
    /// How many of these bytes, which follow those of the call before, belong to the head, if it ends here.
    fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (position, byte) in bytes.iter().enumerate() {
            self.length += 1;
            self.line = match (self.line, byte) {
                (Line::Before, b'\r' | b'\n') => Line::Before,
                (Line::Begins | Line::Ends, b'\n') => return Some(position + 1),
                (Line::Inside, b'\n') => Line::Begins,
                (Line::Begins, b'\r') => Line::Ends,
                _ => Line::Inside,
            };
        }
        None
    }
}

impl<S> Gate<S> {
    /// `limit` is the longest message, `first_limit` the longest before [`Opened::open`], in bytes.
    pub(super) fn new(io: S, limit: usize, first_limit: usize, places: &Places, opened: Arc<Opened>) -> Self {
        Self {
            io,
            buffer: vec![0; BUFFER_BYTES].into(),
            start: 0,
            end: 0,
            head: Some(Head::default()),
            admitted: 0,
            message: 0,
            heard: false,
            shut: false,
            since: None,
            middle: None,
            large: None,
            middle_places: PollSemaphore::new(Arc::clone(&places.middle)),
            large_places: PollSemaphore::new(Arc::clone(&places.large)),
            waiting: false,
            opened,
            limit,
            first_limit: first_limit.min(limit),
            verdict: None,
            deaf: false,
        }
    }

    /// Whether the peer takes nothing any more. What is written goes nowhere then, without an error: the library would
    /// not read on after one, and what the peer said before it left is still to be read.
    pub(super) fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Why reading ended, if it was decided here.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Since when a long message has been on its way with everything it needs.
    pub(super) fn long_since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether a long message waits for others, and not for its sender.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// The places of the message that just went by, if it is a long one. [`Self::pass_on`] is owed then.
    pub(super) fn take_places(&mut self) -> Option<Held> {
        Some(Held {
            _middle: self.middle.take()?,
            _large: self.large.take(),
        })
    }

    /// Lets go by what stands behind a long message.
    pub(super) fn pass_on(&mut self) {
        self.shut = false;
        self.since = None;
        self.middle = None;
        self.large = None;
    }

    /// The socket, for what is not WebSocket any more.
    pub(super) fn socket(&mut self) -> &mut S {
        &mut self.io
    }

    /// Looks at headers in the buffer, up to the first that is incomplete or has to wait.
    fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.waiting = false;
        while !self.shut {
            // While the head goes by, all that was looked at is admitted.
            let Some(rest) = usize::try_from(self.admitted)
                .ok()
                .and_then(|admitted| self.buffer.get(self.start..self.end)?.get(admitted..))
                .filter(|rest| !rest.is_empty())
            else {
                return Ok(());
            };
            if let Some(head) = &mut self.head {
                let Some(end) = head.find_end(rest) else {
                    self.admitted += rest.len() as u64;
                    if head.length > MAX_HEAD_BYTES {
                        return Err(self.refuse(Verdict::Broken));
                    }
                    return Ok(());
                };
                self.admitted += end as u64;
                self.head = None;
                return Ok(());
            }
            let mut cursor = Cursor::new(rest);
            let (header, length) = match FrameHeader::parse(&mut cursor) {
                Ok(Some(parsed)) => parsed,
                Ok(None) => return Ok(()),
                // The library finds the same, and says what it is.
                Err(_) => {
                    self.admitted = u64::MAX;
                    return Ok(());
                }
            };
            let head = cursor.position();
            if self.admitted > 0 && self.message.saturating_add(length) > SMALL_BYTES as u64 {
                // First what stands in front of it: whoever asks for more than that has taken all of it, so the next
                // message to be taken is the long one.
                return Ok(());
            }
            if !self.admit(&header, length, cx)? {
                self.waiting = true;
                return Ok(());
            }
            self.admitted = self.admitted.saturating_add(head).saturating_add(length);
        }
        Ok(())
    }

    /// Whether this frame may go by; `false` says not yet.
    fn admit(&mut self, header: &FrameHeader, length: u64, cx: &mut Context<'_>) -> io::Result<bool> {
        if matches!(header.opcode, OpCode::Control(_)) {
            if length > MAX_CONTROL_BYTES {
                return Err(self.refuse(Verdict::Broken));
            }
            return Ok(true);
        }
        let total = self.message.saturating_add(length);
        let is_open = self.opened.is_open();
        let limit = if is_open || self.heard {
            self.limit
        } else {
            self.first_limit
        };
        if total > limit as u64 {
            return Err(self.refuse(Verdict::TooLong { limit }));
        }
        if total > self.first_limit as u64 && !is_open {
            self.opened.waiting.register(cx.waker());
            // It may have been opened before it knew whom to wake.
            if !self.opened.is_open() {
                return Ok(false);
            }
        }
        if total > SMALL_BYTES as u64 && !self.places(total, cx) {
            return Ok(false);
        }
        self.message = if header.is_final { 0 } else { total };
        if header.is_final {
            self.heard = true;
            self.shut = self.middle.is_some();
        }
        Ok(true)
    }

    /// Whether a message of that length has its places now.
    fn places(&mut self, total: u64, cx: &mut Context<'_>) -> bool {
        if self.middle.is_none() {
            match self.middle_places.poll_acquire(cx) {
                Poll::Ready(permit) => self.middle = permit,
                Poll::Pending => return false,
            }
        }
        if total > MIDDLE_BYTES as u64 && self.large.is_none() {
            match self.large_places.poll_acquire(cx) {
                Poll::Ready(permit) => self.large = permit,
                Poll::Pending => return false,
            }
        }
        self.since.get_or_insert_with(Instant::now);
        true
    }

    fn refuse(&mut self, verdict: Verdict) -> io::Error {
        self.verdict = Some(verdict);
        io::ErrorKind::InvalidData.into()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            this.look(cx)?;
            let buffered = this.buffer.get(this.start..this.end).unwrap_or_default();
            let admitted = usize::try_from(this.admitted).unwrap_or(usize::MAX);
            let count = buffered.len().min(admitted).min(out.remaining());
            if count > 0 {
                out.put_slice(buffered.get(..count).unwrap_or_default());
                this.start += count;
                this.admitted -= count as u64;
                return Poll::Ready(Ok(()));
            }
            if this.waiting || (this.shut && admitted == 0) {
                return Poll::Pending;
            }
            if buffered.is_empty() && admitted >= BUFFER_BYTES {
                // The inside of a long frame is not copied twice.
                let count = admitted.min(out.remaining());
                let mut part = ReadBuf::new(out.initialize_unfilled_to(count));
                ready!(Pin::new(&mut this.io).poll_read(cx, &mut part))?;
                let count = part.filled().len();
                out.advance(count);
                this.admitted -= count as u64;
                return Poll::Ready(Ok(()));
            }
            this.buffer.copy_within(this.start..this.end, 0);
            this.end -= this.start;
            this.start = 0;
            let mut part = ReadBuf::new(this.buffer.get_mut(this.end..).unwrap_or_default());
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut part))?;
            match part.filled().len() {
                0 => return Poll::Ready(Ok(())),
                count => this.end += count,
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.deaf {
            match ready!(Pin::new(&mut self.io).poll_write(cx, bytes)) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(_) => self.deaf = true,
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.deaf {
            self.deaf = ready!(Pin::new(&mut self.io).poll_flush(cx)).is_err();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker_ref;
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// Gives its bytes in pieces of that length, and then nothing more.
    struct Pieces {
        bytes: Vec<u8>,
        given: usize,
        piece: usize,
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let end = self.bytes.len().min(self.given + self.piece.min(out.remaining()));
            out.put_slice(&self.bytes[self.given..end]);
            self.given = end;
            Poll::Ready(Ok(()))
        }
    }

    fn gate(bytes: Vec<u8>, piece: usize) -> Gate<Pieces> {
        let pieces = Pieces {
            bytes,
            given: 0,
            piece,
        };
        let opened = Arc::new(Opened::default());
        opened.open();
        Gate::new(pieces, 1 << 20, SMALL_BYTES, &Places::default(), opened)
    }

    /// What comes through before it ends, waits or refuses.
    fn through(gate: &mut Gate<Pieces>) -> (Vec<u8>, Poll<bool>) {
        let mut cx = Context::from_waker(noop_waker_ref());
        let mut all = Vec::new();
        loop {
            let mut room = [0; 700];
            let mut out = ReadBuf::new(&mut room);
            match Pin::new(&mut *gate).poll_read(&mut cx, &mut out) {
                Poll::Ready(Ok(())) if out.filled().is_empty() => return (all, Poll::Ready(true)),
                Poll::Ready(Ok(())) => all.extend_from_slice(out.filled()),
                Poll::Ready(Err(_)) => return (all, Poll::Ready(false)),
                Poll::Pending => return (all, Poll::Pending),
            }
        }
    }

    fn frame(length: usize, last: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        Frame::message(vec![7; length], OpCode::Data(Data::Binary), last)
            .format(&mut bytes)
            .unwrap();
        bytes
    }

    #[test]
    fn the_head_goes_by_alone_whatever_its_line_ends() {
        for head in [
            HEAD,
            b"GET / HTTP/1.1\nHost: a\n\n",
            b"\r\n\nGET / HTTP/1.1\r\nHost: a\n\r\n",
        ] {
            let mut cx = Context::from_waker(noop_waker_ref());
            let mut gate = gate([head, &frame(3, true)].concat(), 1000);
            let mut room = [0; 700];
            let mut out = ReadBuf::new(&mut room);
            assert!(Pin::new(&mut gate).poll_read(&mut cx, &mut out).is_ready());
            assert_eq!(out.filled(), head);
            assert_eq!(through(&mut gate), (frame(3, true), Poll::Ready(true)));
        }
        let endless = [
            b"GET / HTTP/1.1\r\nA: ",
            vec![b'a'; MAX_HEAD_BYTES * 2].as_slice(),
        ]
        .concat();
        let mut gate = gate(endless, 1000);
        assert_eq!(through(&mut gate).1, Poll::Ready(false));
        assert_eq!(gate.verdict(), Some(Verdict::Broken));
    }

    #[test]
    fn nothing_goes_by_behind_a_long_message_until_it_was_taken() {
        let (long, short) = (frame(SMALL_BYTES + 1, true), frame(9, true));
        for piece in [1, 100, 20_000] {
            let all = [HEAD, &short, &long].concat();
            let mut gate = gate([&all, short.as_slice()].concat(), piece);
            let (before, ended) = through(&mut gate);
            assert!(before == all);
            assert_eq!(ended, Poll::Pending);
            assert!(gate.take_places().is_some());
            gate.pass_on();
            assert_eq!(through(&mut gate), (short.clone(), Poll::Ready(true)));
            assert!(gate.take_places().is_none());
        }
    }

    #[test]
    fn a_message_too_long_is_refused_before_its_bytes_whole_or_in_pieces() {
        let piece = frame(SMALL_BYTES / 2, false);
        let pieces: Vec<u8> = std::iter::repeat_n(piece.as_slice(), 33)
            .collect::<Vec<_>>()
            .concat();
        let whole = frame((1 << 20) + 1, true);
        for (bytes, most) in [(whole, 0), (pieces, piece.len() * 32)] {
            let mut gate = gate([HEAD, &bytes].concat(), 5000);
            let (came, ended) = through(&mut gate);
            assert_eq!(ended, Poll::Ready(false));
            assert!(came.len() <= HEAD.len() + most, "{}", came.len());
            assert_eq!(gate.verdict(), Some(Verdict::TooLong { limit: 1 << 20 }));
        }
    }

    #[test]
    fn a_control_frame_cannot_be_long() {
        let mut ping = vec![0x89, 126, 0x10, 0];
        ping.resize(5000, 0);
        let mut gate = gate([HEAD, &ping].concat(), 1000);
        assert_eq!(through(&mut gate).1, Poll::Ready(false));
        assert_eq!(gate.verdict(), Some(Verdict::Broken));
    }

    proptest! {
        #[test]
        fn frames_go_by_unchanged_however_they_come(
            lengths in prop::collection::vec((0usize..2000, any::<bool>()), 0..20),
            piece in 1usize..3000,
        ) {
            let frames: Vec<u8> = lengths.iter().flat_map(|(length, last)| frame(*length, *last)).collect();
            let all = [HEAD, &frames].concat();
            prop_assert_eq!(through(&mut gate(all.clone(), piece)), (all, Poll::Ready(true)));
        }

        #[test]
        fn arbitrary_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..3000), piece in 1usize..500) {
            let all = [HEAD, &bytes].concat();
            let (came, _) = through(&mut gate(all.clone(), piece));
            prop_assert!(all.starts_with(&came));
        }
    }
}
