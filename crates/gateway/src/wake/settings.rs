//! What the configuration says about wakes, for those who follow it.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clawchat_types::Principal;
use tokio::sync::watch;

use super::{Means, Way};
use crate::config::{GatewayConfig, UrgentFrom};

/// OpenClaw's program where the configuration names none.
const OPENCLAW: &str = "openclaw";

/// The wake settings of all identities, as the configuration is now.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Wake OpenClaw for everybody, whatever the configuration says: `--openclaw-wake`.
    openclaw_always: bool,
    current: watch::Sender<BTreeMap<Principal, IdentitySettings>>,
}

/// The wake settings of one identity.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct IdentitySettings {
    /// The ways that are on.
    pub(super) ways: BTreeMap<Way, Means>,
    pub(super) urgent_from: UrgentFrom,
}

impl Settings {
    /// Those of `config`.
    pub(crate) fn new(config: &GatewayConfig, openclaw_always: bool) -> Self {
        let settings = Self {
            openclaw_always,
            current: watch::Sender::default(),
        };
        settings.configure(config);
        settings
    }

    /// Follows the configuration.
    pub(crate) fn configure(&self, config: &GatewayConfig) {
        let identities = config.identities().iter().filter_map(|identity| {
            let wake = &identity.wake;
            let openclaw = (identity.openclaw_wake || self.openclaw_always).then(|| {
                let path = wake.openclaw.as_ref();
                Means::OpenClaw(path.map_or_else(|| OsString::from(OPENCLAW), |path| path.clone().into()))
            });
            let ways = [
                (Way::OpenClaw, openclaw),
                (Way::Command, wake.command.clone().map(Means::Command)),
                (Way::Webhook, wake.webhook.clone().map(Means::Webhook)),
            ];
            let settings = IdentitySettings {
                ways: ways
                    .into_iter()
                    .filter_map(|(way, means)| Some((way, means?)))
                    .collect(),
                urgent_from: wake.urgent_from.clone(),
            };
            Some((identity.principal.get().ok()?, settings))
        });
        self.current.send_replace(identities.collect());
    }

    /// Follows the settings.
    pub(super) fn follow(&self) -> watch::Receiver<BTreeMap<Principal, IdentitySettings>> {
        self.current.subscribe()
    }
}
