//! Every bound of the protocol, in one place (spec/snap2p-2.md, section "Limits").

use std::ops::RangeInclusive;
use std::time::Duration;

/// Name of the libp2p substream protocol, and of the version spoken on it.
pub const PROTOCOL: &str = "/snap2p/2.0.0";
/// The only version in a HELLO or KNOCK that is answered.
pub(crate) const VERSION: u64 = 2;

/// Largest frame, in bytes: its kind byte and its body, without the two length bytes.
pub const MAX_FRAME: usize = 65_535;
/// Largest frame accepted before authentication is complete, in bytes; a stranger can make us hold no more.
pub const MAX_PRE_AUTH_FRAME: usize = 4 * 1024;
/// Bytes in front of a frame's body: length (2) and kind (1).
pub(crate) const FRAME_HEAD: usize = 3;
/// Bytes an encrypted Noise message is longer than its plaintext.
pub(crate) const TAG_BYTES: usize = 16;
/// Largest plaintext of one Noise message, in bytes: a frame less its kind byte and the tag.
pub(crate) const MAX_PLAINTEXT: usize = MAX_FRAME - 1 - TAG_BYTES;

/// Time from the first step until both sides must have accepted.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// A peer that sent nothing for this long is asked for a sign of life.
pub const PING_AFTER: Duration = Duration::from_secs(30);
/// A peer that sent nothing for this long after a PING is dead.
pub const PONG_WITHIN: Duration = Duration::from_secs(20);
/// The same after a PING that was sent because an answer was overdue. Longer than what is buffered on the way takes over a
/// slow line.
pub const PONG_WITHIN_WHEN_DOUBTED: Duration = Duration::from_secs(12);

/// Length of an invite token, in bytes.
pub const TOKEN_BYTES: RangeInclusive<usize> = 16..=32;
/// Most capabilities in one HELLO.
pub(crate) const MAX_CAPABILITIES: usize = 16;
/// Longest capability, in bytes of text.
pub(crate) const MAX_CAPABILITY_BYTES: usize = 32;

/// Most streams of one session at a time, counted over both directions.
pub const MAX_STREAMS: usize = 64;
/// Longest stream label, in bytes.
pub const MAX_LABEL_BYTES: usize = 64;
/// Most bytes in one DATA message.
pub const MAX_DATA_BYTES: usize = 16 * 1024;
/// Credit of each direction of a new stream, in bytes: what a reader may have to hold for one stream.
pub const INITIAL_WINDOW: usize = 256 * 1024;
/// Consumed bytes that are granted again with one WINDOW.
pub(crate) const WINDOW_STEP: usize = INITIAL_WINDOW / 4;
/// Most credit a peer may have granted and we not used, in bytes. More is a violation.
pub(crate) const MAX_CREDIT: u64 = (1 << 31) - 1;
/// Bytes of one stream that [`crate::Session::write`] holds until the peer grants credit.
pub const MAX_SEND_BUFFER: usize = 256 * 1024;
/// Chunks of one stream handed out and not consumed; behind them, bytes are collected into large chunks, so
/// that a peer's tiny DATA messages cannot cost more than their bytes.
pub(crate) const MAX_LOOSE_CHUNKS: usize = 64;
/// Control messages waiting to be sent. A peer that causes more without reading them is cut off.
pub(crate) const MAX_QUEUED_CONTROL: usize = 1024;
