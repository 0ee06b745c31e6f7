//! What a gateway promises to callers who use the mesh, proven with real gateways, sockets and stores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alone;
mod catching_up;
mod channels;
#[path = "../common/mod.rs"]
mod common;
mod direct;
mod hostile;
mod media;
mod secure;
mod sessions;
mod support;
