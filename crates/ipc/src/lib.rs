//! Typed local requests over a Unix socket: newline-delimited JSON, one request a line, one answer a line.
//!
//! [`Request`] is the closed list of commands with their fields; client and daemon build and read it with the
//! same code, so they cannot drift apart. [`Server`] accepts connections of the same user and hands each
//! [`Call`] to a [`Handler`]; [`client`] is the blocking other end, free of any async runtime; [`offline`]
//! carries a single request over any pair of pipes.
//!
//! This crate knows no identities, stores nothing and decides nothing: it turns bytes into requests and
//! answers into bytes, within named bounds. The exact protocol is `spec/ipc.md`.

pub mod client;
mod codec;
mod connection;
mod failure;
mod field;
mod handler;
mod job;
pub mod offline;
mod outgoing;
mod request;
mod secret;
mod server;

pub use crate::codec::{Answer, Call, Line, MAX_FRAME_BYTES, Rejected};
pub use crate::connection::MAX_PIPELINED;
pub use crate::failure::{ErrorCode, Failure};
pub use crate::handler::{Caller, Handler, OnWritten, Reply};
pub use crate::outgoing::WRITE_LIMIT;
pub use crate::request::{EventKind, Request};
pub use crate::secret::Secret;
pub use crate::server::{BindError, CLOSE_LIMIT, MAX_CONNECTIONS, Server};
