//! What `daemon status` says of the wakes of one identity.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clawchat_types::{Principal, UnixMillis};
use serde_json::{Value, json};

use super::Way;

/// Counts since the identity is served, way by way.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<BTreeMap<Way, Tally>>);

#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Whether it is on.
    pub(super) on: bool,
    pub(super) sent: u64,
    /// Failed tries.
    pub(super) failed: u64,
    /// Why the last one failed, until one succeeds.
    pub(super) last_error: Option<String>,
    pub(super) retry_at: Option<UnixMillis>,
    pub(super) paused: Vec<(Principal, UnixMillis)>,
}

impl Board {
    /// Changes what is noted of a way.
    pub(super) fn note(&self, way: Way, change: impl FnOnce(&mut Tally)) {
        change(self.lock().entry(way).or_default());
    }

    /// How many tries worked, and how many did not.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let ways = self.lock();
        let total = |count: fn(&Tally) -> u64| ways.values().map(count).sum::<u64>();
        (total(|tally| tally.sent), total(|tally| tally.failed))
    }

    /// `{"sent","failed","lastError"?,"paused":[{"peer","until","way"}],"ways":{"openclaw":{"sent","failed",
    /// "lastError"?,"retryAt"?},…}}`: totals, and the same for every way that is on.
    pub(crate) fn to_json(&self) -> Value {
        let ways = self.lock();
        let total = |count: fn(&Tally) -> u64| ways.values().map(count).sum::<u64>();
        let on = || ways.iter().filter(|(_, tally)| tally.on);
        let paused: Vec<Value> = on()
            .flat_map(|(way, tally)| {
                tally
                    .paused
                    .iter()
                    .map(|(peer, until)| json!({ "peer": peer, "until": until, "way": way.name() }))
            })
            .collect();
        let mut value = json!({
            "sent": total(|tally| tally.sent),
            "failed": total(|tally| tally.failed),
            "paused": paused,
            "ways": on().map(|(way, tally)| (way.name().to_owned(), tally.to_json())).collect::<serde_json::Map<_, _>>(),
        });
        if let Some((way, error)) = on().find_map(|(way, tally)| Some((way, tally.last_error.as_ref()?))) {
            value["lastError"] = json!(format!("{}: {error}", way.name()));
        }
        value
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Way, Tally>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn to_json(&self) -> Value {
        let mut value = json!({ "sent": self.sent, "failed": self.failed });
        if let Some(error) = &self.last_error {
            value["lastError"] = json!(error);
        }
        if let Some(at) = self.retry_at {
            value["retryAt"] = json!(at);
        }
        value
    }
}
