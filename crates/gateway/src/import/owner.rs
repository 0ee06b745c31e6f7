//! Whose messages and peers are taken over.

use std::collections::BTreeMap;

use clawchat_types::{Nick, Principal};

use crate::config::GatewayConfig;

/// The identity whose folder it is, and whom it may name.
pub(crate) struct Owner {
    /// Who.
    pub(super) principal: Principal,
    /// What it is called.
    pub(super) nick: Option<Nick>,
    /// The identities of this gateway by their nicknames: messages between them may be addressed so.
    pub(super) names: BTreeMap<String, Principal>,
}

impl Owner {
    /// An identity of this configuration.
    pub(crate) fn of(config: &GatewayConfig, principal: &Principal) -> Self {
        let mut owner = Self {
            principal: *principal,
            nick: None,
            names: BTreeMap::new(),
        };
        for identity in config.identities() {
            let (Ok(found), Some(nick)) = (identity.principal.get(), &identity.nick) else {
                continue;
            };
            if found == *principal {
                owner.nick = Some(nick.clone());
            }
            owner.names.entry(nick.as_str().to_owned()).or_insert(found);
        }
        owner
    }
}
