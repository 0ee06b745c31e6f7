//! Two machines and no network: every rule of the specification from both sides.

mod credit;
mod handshake;
mod hostile;
// The vectors of chat/1 are held to the same.
#[path = "../../tests/marks/mod.rs"]
pub(crate) mod marks;
mod pair;
mod sessions;
pub(crate) mod vectors;
mod vectors_initiator;
mod vectors_made;
mod vectors_responder;
mod vectors_script;
mod vectors_session;
