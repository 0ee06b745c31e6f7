//! Two machines and no network, a peer that tries every hole, and the recorded frames of existing gateways.

mod frames;
mod pair;
mod parsers;
mod recorded;
mod scripts;
mod sessions;
mod vectors;
mod vectors_handshake;
mod vectors_made;
