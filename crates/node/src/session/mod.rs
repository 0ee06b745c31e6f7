//! Sessions as the application sees them, and the task that drives each.

mod handle;
mod stream;

pub use self::handle::{InboundStream, SessionHandle};
pub use self::stream::{Stream, StreamReader, StreamWriter};
