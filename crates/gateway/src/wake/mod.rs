//! Waking agents: telling OpenClaw, a program or a webhook that messages arrived (`docs/WAKE.md`).
//!
//! A wake is a hint and the inbox is the truth: what to tell is read from the store, behind a cursor, and a wake that
//! fails is tried again until it succeeds or the messages are read. Nothing here is on the way of a message: one task
//! for each identity follows the arrivals and reads them in pages. When and what to tell is decided in [`queue`],
//! [`batch`], [`guard`] and [`text`], which know neither clock nor store; [`engine`] drives them, [`process`] and
//! [`webhook`] do the telling.

mod batch;
mod board;
mod cursor;
mod engine;
mod guard;
mod process;
mod queue;
mod settings;
mod text;
mod way;
mod webhook;

pub(crate) use self::board::Board;
pub(crate) use self::engine::start;
pub(crate) use self::settings::Settings;
use self::way::{Failed, Means, Way};
