//! Changes to a configuration. Each one is whole or does nothing, and its result is checked like a file.

use clawchat_types::{Network, Nick, Principal};
use serde_json::{Map, Value, json};

use super::document::key;
use super::{GatewayConfig, IdentityConfig, Invalid, PeerPattern, check};

/// Where the nickname stands in an identity's entry: behind the principal.
const NICK_POSITION: usize = 1;

/// An identity to be configured.
#[derive(Clone, Debug, PartialEq)]
pub struct NewIdentity {
    /// Who it is.
    pub principal: Principal,
    /// Its name on this gateway.
    pub nick: Option<Nick>,
    /// Whether the daemon unseals it at start.
    pub autoload: bool,
    /// Who may write to it from elsewhere.
    pub allowed_remote_peers: Vec<PeerPattern>,
}

impl NewIdentity {
    /// An identity with the usual settings: loaded at start, open to everybody.
    #[must_use]
    pub fn new(principal: Principal, nick: Option<Nick>) -> Self {
        Self {
            principal,
            nick,
            autoload: true,
            allowed_remote_peers: vec![PeerPattern::Any],
        }
    }

    fn to_entry(&self) -> Value {
        let mut entry = Map::new();
        entry.insert(key::PRINCIPAL.to_owned(), json!(self.principal));
        if let Some(nick) = &self.nick {
            entry.insert(key::NICK.to_owned(), json!(nick));
        }
        let allowed: Vec<String> = self
            .allowed_remote_peers
            .iter()
            .map(ToString::to_string)
            .collect();
        entry.insert(key::AUTOLOAD.to_owned(), json!(self.autoload));
        entry.insert(key::ALLOW_LOCAL.to_owned(), json!(true));
        entry.insert(key::ALLOWED.to_owned(), json!(allowed));
        entry.insert(key::WAKE.to_owned(), json!(true));
        Value::Object(entry)
    }
}

impl GatewayConfig {
    /// The first configuration of a gateway with one identity.
    ///
    /// # Errors
    /// [`EditError::Invalid`] for port 0.
    pub fn initial(p2p_port: u16, identity: &NewIdentity) -> Result<Self, EditError> {
        let mut document = Map::new();
        document.insert(key::VERSION.to_owned(), json!(1));
        document.insert(key::P2P_PORT.to_owned(), json!(p2p_port));
        document.insert(key::IDENTITIES.to_owned(), json!([identity.to_entry()]));
        Ok(check::recheck(document)?)
    }

    /// Sets the port of the P2P listeners.
    ///
    /// # Errors
    /// [`EditError::Invalid`] for port 0.
    pub fn set_p2p_port(&mut self, port: u16) -> Result<(), EditError> {
        if port == self.p2p_port {
            return Ok(());
        }
        self.edit(|document| {
            document.insert(key::P2P_PORT.to_owned(), json!(port));
        })
    }

    /// Adds an identity behind the others.
    ///
    /// # Errors
    /// [`EditError::AlreadyExists`], [`EditError::NickTaken`], [`EditError::WrongNetwork`].
    pub fn add_identity(&mut self, identity: &NewIdentity) -> Result<(), EditError> {
        self.check_addable(&identity.principal, identity.nick.as_ref())?;
        self.edit(|document| {
            if let Some(Value::Array(entries)) = document.get_mut(key::IDENTITIES) {
                entries.push(identity.to_entry());
            }
        })
    }

    /// Whether [`GatewayConfig::add_identity`] would accept this principal and nickname.
    ///
    /// # Errors
    /// Those of [`GatewayConfig::add_identity`].
    pub fn check_addable(&self, principal: &Principal, nick: Option<&Nick>) -> Result<(), EditError> {
        self.check_network(principal.network())?;
        if self.find(&principal.to_string()).is_some() {
            return Err(EditError::AlreadyExists {
                principal: *principal,
            });
        }
        self.check_nick_free(nick, None)
    }

    /// Whether identities of this network fit into this gateway.
    ///
    /// # Errors
    /// [`EditError::WrongNetwork`].
    pub fn check_network(&self, network: Network) -> Result<(), EditError> {
        match self.network() {
            Some(hosted) if hosted != network => Err(EditError::WrongNetwork {
                hosted,
                given: network,
            }),
            _ => Ok(()),
        }
    }

    /// Takes an identity out. Its folder is not touched.
    ///
    /// # Errors
    /// [`EditError::NoSuchIdentity`], [`EditError::LastIdentity`].
    pub fn remove_identity(&mut self, who: &str) -> Result<IdentityConfig, EditError> {
        let index = self.index_of(who)?;
        if self.identities.len() == 1 {
            return Err(EditError::LastIdentity);
        }
        let removed = self.identities.get(index).cloned();
        self.edit(|document| {
            if let Some(Value::Array(entries)) = document.get_mut(key::IDENTITIES) {
                entries.remove(index);
            }
        })?;
        removed.ok_or_else(|| EditError::NoSuchIdentity { who: who.to_owned() })
    }

    /// Lets a peer write to an identity: puts it into `allowedRemotePeers`, unless `*` is there, and takes it
    /// out of `deniedPeers`. Returns whether that changed anything.
    ///
    /// # Errors
    /// [`EditError::NoSuchIdentity`].
    pub fn allow(&mut self, who: &str, peer: &PeerPattern) -> Result<bool, EditError> {
        let index = self.index_of(who)?;
        let allowed = self
            .identities
            .get(index)
            .is_some_and(|identity| covers(&identity.allowed_remote_peers, peer));
        let text = peer.to_string();
        self.edit_entry(index, |entry| {
            remove_from(entry, key::DENIED, &text);
            if !allowed {
                add_to(entry, key::ALLOWED, &text);
            }
        })
    }

    /// Takes that back: removes the peer from `allowedRemotePeers` and puts it into `deniedPeers`, so that neither a
    /// `*`, nor being hosted here too, nor an invite lets it in. Denying `*` removes the `*`; peers allowed by name
    /// stay allowed. Returns whether that changed anything.
    ///
    /// # Errors
    /// [`EditError::NoSuchIdentity`].
    pub fn deny(&mut self, who: &str, peer: &PeerPattern) -> Result<bool, EditError> {
        let index = self.index_of(who)?;
        let text = peer.to_string();
        self.edit_entry(index, |entry| {
            remove_from(entry, key::ALLOWED, &text);
            if *peer != PeerPattern::Any {
                add_to(entry, key::DENIED, &text);
            }
        })
    }

    /// Names an identity, or takes its name away. Returns whether that changed anything.
    ///
    /// # Errors
    /// [`EditError::NoSuchIdentity`], [`EditError::NickTaken`].
    pub fn set_nick(&mut self, who: &str, nick: Option<&Nick>) -> Result<bool, EditError> {
        let index = self.index_of(who)?;
        self.check_nick_free(nick, Some(index))?;
        self.edit_entry(index, |entry| match nick {
            None => {
                entry.shift_remove(key::NICK);
            }
            Some(nick) if entry.contains_key(key::NICK) => {
                entry.insert(key::NICK.to_owned(), json!(nick));
            }
            Some(nick) => {
                entry.shift_insert(NICK_POSITION.min(entry.len()), key::NICK.to_owned(), json!(nick));
            }
        })
    }

    fn index_of(&self, who: &str) -> Result<usize, EditError> {
        self.find(who)
            .ok_or_else(|| EditError::NoSuchIdentity { who: who.to_owned() })
    }

    /// Whether no identity but `except` has this nickname.
    pub(crate) fn check_nick_free(
        &self,
        nick: Option<&Nick>,
        except: Option<usize>,
    ) -> Result<(), EditError> {
        let Some(nick) = nick else { return Ok(()) };
        let taken = |(index, identity): (usize, &IdentityConfig)| {
            Some(index) != except && identity.nick.as_ref() == Some(nick)
        };
        if self.identities.iter().enumerate().any(taken) {
            return Err(EditError::NickTaken { nick: nick.clone() });
        }
        Ok(())
    }

    fn edit_entry(
        &mut self,
        index: usize,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<bool, EditError> {
        let before = self.document.clone();
        self.edit(|document| {
            let entries = document.get_mut(key::IDENTITIES);
            if let Some(Value::Object(entry)) = entries.and_then(|entries| entries.get_mut(index)) {
                change(entry);
            }
        })?;
        Ok(self.document != before)
    }

    fn edit(&mut self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), EditError> {
        let mut document = self.document.clone();
        change(&mut document);
        *self = check::recheck(document)?;
        Ok(())
    }
}

fn covers(list: &[PeerPattern], peer: &PeerPattern) -> bool {
    list.iter()
        .any(|pattern| *pattern == PeerPattern::Any || pattern == peer)
}

fn add_to(entry: &mut Map<String, Value>, list: &str, text: &str) {
    if let Value::Array(items) = entry.entry(list).or_insert_with(|| json!([]))
        && !items.iter().any(|item| item == text)
    {
        items.push(json!(text));
    }
}

fn remove_from(entry: &mut Map<String, Value>, list: &str, text: &str) {
    if let Some(Value::Array(items)) = entry.get_mut(list) {
        items.retain(|item| item != text);
    }
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// Nobody of that name or principal is configured.
    #[error("Identity not found: {who}")]
    NoSuchIdentity {
        /// What was asked for.
        who: String,
    },
    /// The identity is configured already.
    #[error("Identity {principal} already exists in config")]
    AlreadyExists {
        /// Who.
        principal: Principal,
    },
    /// Another identity of this gateway has that nickname.
    #[error("the nickname {nick} is taken by another identity of this gateway")]
    NickTaken {
        /// The nickname.
        nick: Nick,
    },
    /// Identities of different networks cannot authenticate to each other's peers.
    #[error("this gateway is on the {hosted}; an identity of the {given} cannot share it")]
    WrongNetwork {
        /// The gateway's network.
        hosted: Network,
        /// That of the identity.
        given: Network,
    },
    /// A gateway has at least one identity.
    #[error("Cannot remove last identity. At least one identity is required.")]
    LastIdentity,
    /// The result would not be a valid configuration.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl EditError {
    /// What the person at the keyboard can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NoSuchIdentity { .. } => "see 'clawchat gateway identity list'".to_owned(),
            Self::AlreadyExists { .. } => {
                "it is there already; 'clawchat gateway identity list' shows it".to_owned()
            }
            Self::NickTaken { .. } => "choose another nickname".to_owned(),
            Self::WrongNetwork { hosted, given } => format!(
                "use an identity of the {hosted}, or a second gateway with its own --data-dir for the {given}"
            ),
            Self::LastIdentity => "add another identity first".to_owned(),
            Self::Invalid(_) => "see the reason above; nothing was changed".to_owned(),
        }
    }
}
