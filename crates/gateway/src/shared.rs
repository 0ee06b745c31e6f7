//! What every part of a running gateway can reach.

use std::sync::Arc;

use clawchat_node::Node;
use clawchat_types::UnixMillis;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::delivery::LongMessages;
use crate::hints::Hints;
use crate::home::Home;
use crate::hosting::Owned;
use crate::hosts::Hosts;
use crate::mesh::MeshPlace;
use crate::metrics::Tally;
use crate::sessions::Sessions;
use crate::wake;
use crate::whereabouts::Dialable;

/// The running parts. One per gateway, shared by all its tasks.
pub(crate) struct Shared {
    /// Where the gateway's files are.
    pub(crate) home: Home,
    /// The right to change them.
    pub(crate) owned: Arc<Mutex<Owned>>,
    /// The identities served.
    pub(crate) hosts: Arc<Hosts>,
    /// The network.
    pub(crate) node: Node,
    /// The open sessions.
    pub(crate) sessions: Sessions,
    /// Where others say that somebody can be reached.
    pub(crate) hints: Hints,
    /// What the configuration says about waking agents.
    pub(crate) wakes: wake::Settings,
    /// Which of the addresses that others told are dialed.
    pub(crate) dialable: Dialable,
    /// The place in the mesh.
    pub(crate) mesh: MeshPlace,
    /// Counts how often this machine went to another network: then peers are dialed again at once.
    pub(crate) moves: watch::Sender<u64>,
    /// Counts what may let a session leave its relay: direct connections beside one, and addresses learned.
    pub(crate) ways: watch::Sender<u64>,
    /// Memory for long messages while they arrive.
    pub(crate) long_messages: LongMessages,
    /// Counts what happens.
    pub(crate) tally: Arc<Tally>,
    /// When the gateway started.
    pub(crate) started_at: UnixMillis,
    /// Every task of the gateway, so that stopping can wait for them.
    pub(crate) tasks: TaskTracker,
    /// Ends when the gateway stops.
    pub(crate) stop: CancellationToken,
    /// Asks the daemon to stop: the `stop` command.
    pub(crate) stop_requested: CancellationToken,
}

/// The running parts, as tasks hold them.
pub(crate) type Gateway = Arc<Shared>;
