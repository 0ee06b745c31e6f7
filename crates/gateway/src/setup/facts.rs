//! What everybody may know of an identity, kept beside its sealed keys so that no password is needed for it.

use clawchat_identity::Identity;
use clawchat_ipc::Secret;
use clawchat_types::{Nick, NodeId, Principal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{MAX_FACTS_BYTES, SetupError, unseal};
use crate::config::{EditError, GatewayConfig};
use crate::home::{self, Home, HomeError};

/// The public facts of an identity: the content of `identity.pub.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicFacts {
    /// Who it is.
    pub principal: Principal,
    /// The public half of its node key.
    pub public_key: NodeId,
}

impl PublicFacts {
    /// Those of an unsealed identity.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        Self {
            principal: *identity.principal(),
            public_key: identity.node_key().node_id(),
        }
    }

    /// `{"principal","address","publicKey","nick","displayName"}`; `nick` is null when there is none.
    #[must_use]
    pub fn to_json(&self, nick: Option<&Nick>) -> Value {
        json!({
            "principal": self.principal,
            "address": self.principal.address(),
            "publicKey": self.public_key,
            "nick": nick,
            "displayName": display_name(&self.principal, nick),
        })
    }

    pub(super) fn to_file(&self) -> Vec<u8> {
        let file = json!({
            "principal": self.principal,
            "address": self.principal.address(),
            "publicKey": self.public_key,
        });
        file.to_string().into_bytes()
    }

    /// Reads the facts of an identity. A file that is missing, damaged or about somebody else counts as none.
    pub(super) fn read(home: &Home, principal: &Principal) -> Option<Self> {
        let bytes = home::read_bounded(&home.public_facts_path(principal), MAX_FACTS_BYTES).ok()??;
        let facts: Self = serde_json::from_slice(&bytes).ok()?;
        (facts.principal == *principal).then_some(facts)
    }

    /// Writes the facts, unless they are there already.
    pub(super) fn keep(&self, home: &Home) -> Result<(), HomeError> {
        if Self::read(home, &self.principal).as_ref() == Some(self) {
            return Ok(());
        }
        home::write_atomic(&home.public_facts_path(&self.principal), &self.to_file())
    }
}

/// `stacks:ADDRESS(nick)`, or the principal alone without a nickname.
#[must_use]
pub fn display_name(principal: &Principal, nick: Option<&Nick>) -> String {
    nick.map_or_else(|| principal.to_string(), |nick| format!("{principal}({nick})"))
}

/// The public facts of an identity of the configuration, as JSON. Unseals its keys with `password` only where
/// the facts are not kept.
///
/// # Errors
/// [`EditError::NoSuchIdentity`], [`SetupError::NotAPrincipal`], and those of unsealing.
pub fn show(
    home: &Home,
    config: &GatewayConfig,
    who: &str,
    password: Option<&Secret>,
) -> Result<Value, SetupError> {
    let identity = config
        .find(who)
        .and_then(|index| config.identities().get(index))
        .ok_or_else(|| EditError::NoSuchIdentity { who: who.to_owned() })?;
    let principal = unseal::principal_of(identity)?;
    let facts = match PublicFacts::read(home, &principal) {
        Some(facts) => facts,
        None => PublicFacts::of(&unseal::open(home, &principal, password)?),
    };
    Ok(facts.to_json(identity.nick.as_ref()))
}
