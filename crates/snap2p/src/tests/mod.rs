//! Two machines and no network: every rule of the specification from both sides.

mod credit;
mod handshake;
mod hostile;
mod pair;
mod sessions;
mod vectors;
mod vectors_handshake;
mod vectors_made;
