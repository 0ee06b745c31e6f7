//! One simulated gateway: the real PX-1 machine, the real dial guard, access list and retry plan, and what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use clawchat_px1::{BookConfig, Card, DialGuard, Exchange, Visibility};
use clawchat_router::{Acl, Backoff, Directory, HostedIdentity, Verdict, Visibility as Shown};
use clawchat_types::{Locator, Principal};

use super::cards::Holder;

/// Most contacts a peer has, those that added it included.
const MAX_CONTACTS: usize = 24;

pub(super) struct Peer {
    pub(super) holder: Holder,
    pub(super) exchange: Exchange,
    pub(super) guard: DialGuard,
    /// Whom it hosts, and who is admitted.
    directory: Directory,
    pub(super) online: bool,
    /// Where it is now.
    pub(super) locator: Locator,
    /// Its card of now.
    pub(super) card: Arc<Card>,
    /// Whom it wants to be connected to, and when it tries again.
    pub(super) contacts: BTreeMap<usize, Backoff>,
    pub(super) dialing: BTreeSet<usize>,
    /// The earliest wake-up asked for.
    pub(super) timer: Option<Duration>,
    /// How many times it came online.
    pub(super) life: u64,
    /// Messages sent in this window.
    pub(super) sent: u64,
}

impl Peer {
    pub(super) fn new(
        holder: Holder,
        card: Arc<Card>,
        locator: Locator,
        config: BookConfig,
        seed: u64,
    ) -> Self {
        Self {
            exchange: exchange(holder.principal(), config, seed),
            directory: directory(holder.principal()),
            holder,
            guard: DialGuard::new(),
            online: false,
            locator,
            card,
            contacts: BTreeMap::new(),
            dialing: BTreeSet::new(),
            timer: None,
            life: 0,
            sent: 0,
        }
    }

    pub(super) fn principal(&self) -> Principal {
        self.holder.principal()
    }

    /// Whether its access list admits somebody, asked as the gateway asks when a session begins.
    pub(super) fn admits(&self, other: &Principal) -> bool {
        matches!(
            self.directory.inbound(other, &self.principal()),
            Verdict::Deliver { .. }
        )
    }

    pub(super) fn befriend(&mut self, other: usize) {
        if self.contacts.len() < MAX_CONTACTS {
            self.contacts.entry(other).or_default();
        }
    }

    /// A new process: everything it learned is gone.
    pub(super) fn restart(&mut self, config: BookConfig, seed: u64) {
        self.exchange = exchange(self.principal(), config, seed);
        self.guard = DialGuard::new();
        self.dialing.clear();
        self.timer = None;
        self.contacts.values_mut().for_each(Backoff::reset);
    }
}

/// One identity with the access list that a new one has.
fn directory(principal: Principal) -> Directory {
    let mut directory = Directory::new();
    // Alone, it clashes with nobody.
    let _ = directory.insert(HostedIdentity {
        principal,
        nick: None,
        acl: Acl::default(),
        loaded: true,
        visibility: Shown::Public,
    });
    directory
}

fn exchange(principal: Principal, config: BookConfig, seed: u64) -> Exchange {
    Exchange::new(principal, Visibility::Public, config, seed)
}
