//! Real gateways on the machines of the lab.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::kind::PORT;
use super::space::Space;
use super::world::{Side, World};
use crate::gateways::{Gateway, Outcome, PASSWORD, text};
use crate::storm;

/// How long a gateway may take to know how others reach it.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// The programs that are put to the test.
#[derive(Clone)]
pub(super) struct Programs {
    clawchatd: PathBuf,
    clawchat: PathBuf,
}

impl Programs {
    pub(super) fn of(folder: &Path) -> Self {
        Self {
            clawchatd: folder.join("clawchatd"),
            clawchat: folder.join("clawchat"),
        }
    }
}

/// How two gateways are connected at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path_ {
    Direct,
    Punched,
    Relayed,
}

/// A gateway on one of the machines.
pub(super) struct Member<'a> {
    gateway: Gateway,
    programs: Programs,
    world: &'a World<'a>,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    Server(usize),
    Site(Side),
}
