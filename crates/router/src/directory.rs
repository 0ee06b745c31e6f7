//! The identities of this gateway, and what happens to a message for one of them.

use clawchat_types::{Network, Nick, Principal};

use crate::acl::Acl;

/// How far an identity shows itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// May answer and push address hints, also about itself.
    Public,
    /// Never pushes itself; answers inside authenticated sessions only.
    #[default]
    Private,
    /// Private, and unknown to whoever does not knock with a valid token first.
    Stealth,
}

/// One identity of this gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedIdentity {
    /// Who it is.
    pub principal: Principal,
    /// Its local name.
    pub nick: Option<Nick>,
    /// Who may write to it.
    pub acl: Acl,
    /// Whether its keys and store are open.
    pub loaded: bool,
    /// How far it shows itself.
    pub visibility: Visibility,
}

/// All identities of this gateway, in the order of its configuration. All are of one network, and no principal or
/// nickname occurs twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    identities: Vec<HostedIdentity>,
}

impl Directory {
    /// No identities yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an identity behind the others.
    ///
    /// # Errors
    /// [`DirectoryError`] when it clashes with one that is here.
    pub fn insert(&mut self, identity: HostedIdentity) -> Result<(), DirectoryError> {
        let principal = identity.principal;
        if self.get(&principal).is_some() {
            return Err(DirectoryError::AlreadyHosted { principal });
        }
        self.check_nick(&principal, identity.nick.as_ref())?;
        if let Some(hosted) = self.network().filter(|network| *network != principal.network()) {
            return Err(DirectoryError::OtherNetwork { principal, hosted });
        }
        self.identities.push(identity);
        Ok(())
    }

    /// Takes an identity out.
    pub fn remove(&mut self, principal: &Principal) -> Option<HostedIdentity> {
        let index = self
            .identities
            .iter()
            .position(|identity| identity.principal == *principal)?;
        Some(self.identities.remove(index))
    }

    /// Renames an identity. `Ok(false)` when it is not hosted here.
    ///
    /// # Errors
    /// [`DirectoryError::NickTaken`].
    pub fn set_nick(&mut self, principal: &Principal, nick: Option<Nick>) -> Result<bool, DirectoryError> {
        self.check_nick(principal, nick.as_ref())?;
        Ok(self.change(principal, |identity| identity.nick = nick))
    }

    /// Replaces an access list. False when the identity is not hosted here.
    pub fn set_acl(&mut self, principal: &Principal, acl: Acl) -> bool {
        self.change(principal, |identity| identity.acl = acl)
    }

    /// Notes whether an identity is open. False when it is not hosted here.
    pub fn set_loaded(&mut self, principal: &Principal, loaded: bool) -> bool {
        self.change(principal, |identity| identity.loaded = loaded)
    }

    /// Changes how far an identity shows itself. False when it is not hosted here.
    pub fn set_visibility(&mut self, principal: &Principal, visibility: Visibility) -> bool {
        self.change(principal, |identity| identity.visibility = visibility)
    }

    /// All identities.
    pub fn iter(&self) -> impl Iterator<Item = &HostedIdentity> {
        self.identities.iter()
    }

    /// The network all identities are of; `None` without identities.
    #[must_use]
    pub fn network(&self) -> Option<Network> {
        self.identities
            .first()
            .map(|identity| identity.principal.network())
    }

    /// The identity of that principal.
    #[must_use]
    pub fn get(&self, principal: &Principal) -> Option<&HostedIdentity> {
        self.identities
            .iter()
            .find(|identity| identity.principal == *principal)
    }

    /// The identity a person means: the text of its principal, or its nickname with exactly these letters.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&HostedIdentity> {
        match name.parse() {
            Ok(principal) => self.get(&principal),
            Err(_) => self
                .identities
                .iter()
                .find(|identity| identity.nick.as_ref().is_some_and(|n| n.as_str() == name)),
        }
    }

    /// The identity that acts when nobody is named.
    #[must_use]
    pub fn first_loaded(&self) -> Option<&HostedIdentity> {
        self.identities.iter().find(|identity| identity.loaded)
    }

    /// The identity that acts for a request: the one named, or the first one loaded.
    ///
    /// # Errors
    /// [`NoSuchIdentity`].
    pub fn acting(&self, name: Option<&str>) -> Result<&HostedIdentity, NoSuchIdentity> {
        match name {
            None => self.first_loaded().ok_or(NoSuchIdentity::NoneLoaded),
            Some(name) => match self.by_name(name) {
                None => Err(NoSuchIdentity::Unknown {
                    name: name.to_owned(),
                }),
                Some(identity) if !identity.loaded => Err(NoSuchIdentity::NotLoaded {
                    name: name.to_owned(),
                }),
                Some(identity) => Ok(identity),
            },
        }
    }

    /// What happens to a message that an authenticated remote principal sends.
    #[must_use]
    pub fn inbound(&self, from: &Principal, to: &Principal) -> Verdict {
        self.verdict(from, to, |identity| identity.acl.admits_remote(from))
    }

    /// What happens to a message from one identity of this gateway to another, or to itself, which is always
    /// allowed.
    #[must_use]
    pub fn local(&self, from: &Principal, to: &Principal) -> Verdict {
        self.verdict(from, to, |identity| from == to || identity.acl.admits_local(from))
    }

    fn verdict(
        &self,
        from: &Principal,
        to: &Principal,
        admits: impl FnOnce(&HostedIdentity) -> bool,
    ) -> Verdict {
        if from.network() != to.network() {
            return Verdict::Refuse(Refusal::WrongNetwork);
        }
        match self.get(to) {
            None => Verdict::Refuse(Refusal::UnknownRecipient),
            Some(identity) if !identity.loaded => Verdict::Refuse(Refusal::NotLoaded),
            Some(identity) if !admits(identity) => Verdict::Refuse(Refusal::NotAllowed),
            Some(identity) => Verdict::Deliver {
                identity: identity.principal,
            },
        }
    }

    fn change(&mut self, principal: &Principal, change: impl FnOnce(&mut HostedIdentity)) -> bool {
        let found = self
            .identities
            .iter_mut()
            .find(|identity| identity.principal == *principal);
        found.map(change).is_some()
    }

    fn check_nick(&self, principal: &Principal, nick: Option<&Nick>) -> Result<(), DirectoryError> {
        let Some(nick) = nick else { return Ok(()) };
        let holder = self
            .identities
            .iter()
            .find(|identity| identity.nick.as_ref() == Some(nick));
        match holder {
            Some(holder) if holder.principal != *principal => Err(DirectoryError::NickTaken {
                nick: nick.clone(),
                principal: holder.principal,
            }),
            Some(_) | None => Ok(()),
        }
    }
}

/// What to do with a message. There is no third way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs into the inbox of this identity.
    Deliver {
        /// The recipient.
        identity: Principal,
    },
    /// It is not taken.
    Refuse(Refusal),
}

/// Why a message is not taken. What a stranger is told may say less: an identity that is not loaded is as unknown to
/// it as one that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The recipient's access list does not let the sender write.
    #[error("the recipient does not accept messages from this principal")]
    NotAllowed,
    /// The recipient is not hosted here.
    #[error("the recipient is not hosted at this gateway")]
    UnknownRecipient,
    /// Sender and recipient are of different Stacks networks.
    #[error("sender and recipient belong to different networks (SP… is mainnet, ST… is testnet)")]
    WrongNetwork,
    /// The recipient is hosted here, but not open at the moment.
    #[error("the recipient's identity is not loaded")]
    NotLoaded,
}

/// Why an identity cannot be added or renamed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// It is here already.
    #[error("{principal} is hosted here already")]
    AlreadyHosted {
        /// The identity.
        principal: Principal,
    },
    /// The nickname means somebody else.
    #[error("the nickname \"{nick}\" belongs to {principal}")]
    NickTaken {
        /// The nickname.
        nick: Nick,
        /// Whose it is.
        principal: Principal,
    },
    /// Identities of different networks cannot share a gateway.
    #[error("{principal} is a {} identity, this gateway hosts {hosted} identities", principal.network())]
    OtherNetwork {
        /// The identity.
        principal: Principal,
        /// The network of this gateway.
        hosted: Network,
    },
}

/// Why nobody can act for a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoSuchIdentity {
    /// No identity has that principal or nickname.
    #[error("Identity not found: {name}")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The identity is hosted here, but not open.
    #[error("Identity not loaded: {name}")]
    NotLoaded {
        /// What was asked for.
        name: String,
    },
    /// No identity is open.
    #[error("no identity is loaded")]
    NoneLoaded,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::AllowEntry;

    fn who(n: u8) -> Principal {
        Principal::from_hash160(Network::Testnet, [n; 20])
    }

    fn identity(n: u8, nick: &str) -> HostedIdentity {
        HostedIdentity {
            principal: who(n),
            nick: nick.parse().ok(),
            acl: Acl::new(true, vec![AllowEntry::Principal(who(9))], vec![who(8)]),
            loaded: true,
            visibility: Visibility::default(),
        }
    }

    fn directory() -> Directory {
        let mut directory = Directory::new();
        directory.insert(identity(1, "alice")).unwrap();
        directory.insert(identity(2, "bob")).unwrap();
        directory
            .insert(HostedIdentity {
                loaded: false,
                ..identity(3, "carol")
            })
            .unwrap();
        directory
    }

    #[test]
    fn a_remote_message_goes_to_the_identity_it_names() {
        assert_eq!(
            directory().inbound(&who(9), &who(2)),
            Verdict::Deliver { identity: who(2) }
        );
    }

    #[test]
    fn every_refusal_has_its_reason() {
        let mainnet = Principal::from_hash160(Network::Mainnet, [9; 20]);
        for (from, to, refusal) in [
            (who(7), who(1), Refusal::NotAllowed),
            (who(8), who(1), Refusal::NotAllowed),
            (who(9), who(7), Refusal::UnknownRecipient),
            (who(9), who(3), Refusal::NotLoaded),
            (mainnet, who(1), Refusal::WrongNetwork),
            (who(9), mainnet, Refusal::WrongNetwork),
        ] {
            assert_eq!(
                directory().inbound(&from, &to),
                Verdict::Refuse(refusal),
                "{from} to {to}"
            );
        }
    }

    #[test]
    fn co_hosted_identities_obey_the_list_as_well() {
        let mut directory = directory();
        assert_eq!(
            directory.local(&who(1), &who(2)),
            Verdict::Deliver { identity: who(2) }
        );
        directory.set_acl(&who(2), Acl::new(true, vec![AllowEntry::Any], vec![who(1)]));
        assert_eq!(
            directory.local(&who(1), &who(2)),
            Verdict::Refuse(Refusal::NotAllowed)
        );
        directory.set_acl(&who(2), Acl::new(false, vec![AllowEntry::Any], vec![]));
        assert_eq!(
            directory.local(&who(1), &who(2)),
            Verdict::Refuse(Refusal::NotAllowed)
        );
        assert_eq!(
            directory.local(&who(1), &who(3)),
            Verdict::Refuse(Refusal::NotLoaded)
        );
    }

    #[test]
    fn a_note_to_self_is_always_allowed() {
        let mut directory = directory();
        directory.set_acl(&who(1), Acl::new(false, vec![], vec![who(1)]));
        assert_eq!(
            directory.local(&who(1), &who(1)),
            Verdict::Deliver { identity: who(1) }
        );
    }

    #[test]
    fn identities_are_found_by_principal_and_by_exact_nickname() {
        let directory = directory();
        assert_eq!(directory.by_name("bob").map(|i| i.principal), Some(who(2)));
        assert_eq!(
            directory.by_name(&who(2).to_string()).map(|i| i.principal),
            Some(who(2))
        );
        assert_eq!(directory.by_name("Bob"), None);
        assert_eq!(directory.by_name(""), None);
    }

    #[test]
    fn the_acting_identity_is_the_named_one_or_the_first_loaded() {
        let mut directory = directory();
        assert_eq!(directory.acting(None).unwrap().principal, who(1));
        directory.set_loaded(&who(1), false);
        assert_eq!(directory.acting(None).unwrap().principal, who(2));
        assert_eq!(
            directory.acting(Some("nobody")).unwrap_err().to_string(),
            "Identity not found: nobody"
        );
        assert!(matches!(
            directory.acting(Some("carol")),
            Err(NoSuchIdentity::NotLoaded { .. })
        ));
        assert_eq!(Directory::new().acting(None), Err(NoSuchIdentity::NoneLoaded));
    }

    #[test]
    fn clashes_are_refused_and_change_nothing() {
        let mut directory = directory();
        let mainnet = Principal::from_hash160(Network::Mainnet, [4; 20]);
        let before = directory.clone();
        assert!(matches!(
            directory.insert(identity(1, "other")),
            Err(DirectoryError::AlreadyHosted { .. })
        ));
        assert!(matches!(
            directory.insert(identity(4, "bob")),
            Err(DirectoryError::NickTaken { .. })
        ));
        let foreign = HostedIdentity {
            principal: mainnet,
            ..identity(4, "dora")
        };
        assert!(matches!(
            directory.insert(foreign),
            Err(DirectoryError::OtherNetwork { .. })
        ));
        assert!(directory.set_nick(&who(1), "bob".parse().ok()).is_err());
        assert_eq!(directory, before);
        assert_eq!(directory.set_nick(&who(1), "alice".parse().ok()), Ok(true));
        assert_eq!(directory.set_nick(&who(5), None), Ok(false));
        assert_eq!(directory.remove(&who(2)).map(|i| i.principal), Some(who(2)));
        assert_eq!(directory.get(&who(2)), None);
    }
}
