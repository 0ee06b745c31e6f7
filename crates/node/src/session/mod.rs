//! Sessions as the application sees them, and the task that drives each.

mod drive;
mod handle;
mod handshake;
mod shared;
mod stream;
pub(crate) mod task;

pub use self::handle::{InboundStream, SessionHandle};
pub use self::stream::{Stream, StreamReader, StreamWriter};
