//! The identities of one gateway: who is meant by a name, and whether a message reaches them.

use clawchat_types::{Nick, Principal, PrincipalError};

use crate::acl::Acl;

/// How much of an identity strangers may learn (SNaP2P v0.1, "Visibility").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// May answer and push hints, also about itself.
    Public,
    /// Never pushes itself; answers only inside authenticated sessions.
    #[default]
    Private,
    /// As private, and a knock with a valid invite must come first; without it the identity is not there.
    Stealth,
}

/// A configured identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Who it is.
    pub principal: Principal,
    /// Its name on this gateway.
    pub nick: Option<Nick>,
    /// Who may write to it.
    pub acl: Acl,
    /// Who may know of it.
    pub visibility: Visibility,
}

/// The identities a gateway is configured with, in the operator's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    hosts: Vec<Host>,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes into the inbox of this identity.
    Deliver {
        /// Whose inbox.
        identity: Principal,
    },
    /// It does not.
    Refuse(Refusal),
}

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The recipient's access list does not admit the sender.
    #[error("refused by the recipient's access list (not_allowed)")]
    NotAllowed,
    /// No such identity here.
    #[error("the recipient is not hosted here")]
    UnknownRecipient,
    /// Sender and recipient are on different Stacks networks.
    #[error("sender and recipient are on different Stacks networks")]
    WrongNetwork,
}

/// Why a text names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    /// It starts like a principal but is none.
    #[error("\"{text}\" is not a principal: {error}")]
    Malformed {
        /// The text, shortened.
        text: String,
        /// What is wrong with it.
        error: PrincipalError,
    },
    /// Neither a peer's alias nor the nickname of an identity here.
    #[error("nobody is known as \"{text}\"")]
    NoSuchName {
        /// The text, shortened.
        text: String,
    },
}

impl Directory {
    /// A directory of these identities; the first is the default one.
    #[must_use]
    pub fn new(hosts: Vec<Host>) -> Self {
        Self { hosts }
    }

    /// The identities in the operator's order.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The identity of this principal.
    #[must_use]
    pub fn host(&self, principal: &Principal) -> Option<&Host> {
        self.hosts.iter().find(|host| host.principal == *principal)
    }

    /// The identity of this principal text or nickname (case counts). A principal wins over an equal nickname.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Host> {
        match name.parse() {
            Ok(principal) => self.host(&principal),
            Err(_) => self
                .hosts
                .iter()
                .find(|host| host.nick.as_ref().is_some_and(|nick| nick.as_str() == name)),
        }
    }

    /// Whether a message from another gateway reaches `to`.
    #[must_use]
    pub fn inbound(&self, from: &Principal, to: &Principal) -> Verdict {
        self.verdict(from, to, |acl| acl.admits_remote(from))
    }

    /// Whether a message between two identities of this gateway reaches `to`. To oneself it always does.
    #[must_use]
    pub fn local(&self, from: &Principal, to: &Principal) -> Verdict {
        self.verdict(from, to, |acl| from == to || acl.admits_local(from))
    }

    fn verdict(&self, from: &Principal, to: &Principal, admits: impl FnOnce(&Acl) -> bool) -> Verdict {
        let Some(host) = self.host(to) else {
            return Verdict::Refuse(Refusal::UnknownRecipient);
        };
        if from.network() != to.network() {
            return Verdict::Refuse(Refusal::WrongNetwork);
        }
        if admits(&host.acl) {
            Verdict::Deliver { identity: *to }
        } else {
            Verdict::Refuse(Refusal::NotAllowed)
        }
    }

    /// Whom a text means, in this order: a principal, the alias of a peer (`aliases`, asked only if needed), the
    /// nickname of an identity here.
    ///
    /// # Errors
    /// [`UnknownName`]; never a guess.
    pub fn resolve(
        &self,
        text: &str,
        aliases: impl FnOnce() -> Vec<(String, Principal)>,
    ) -> Result<Principal, UnknownName> {
        match text.parse() {
            Ok(principal) => return Ok(principal),
            Err(PrincipalError::Prefix) => {}
            Err(error) => {
                return Err(UnknownName::Malformed {
                    text: shortened(text),
                    error,
                });
            }
        }
        if let Some((_, principal)) = aliases().into_iter().find(|(alias, _)| alias == text) {
            return Ok(principal);
        }
        self.by_name(text)
            .map(|host| host.principal)
            .ok_or_else(|| UnknownName::NoSuchName {
                text: shortened(text),
            })
    }
}

/// Names come from outside and end up in messages and logs.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::Pattern;
    use clawchat_types::Network;
    use proptest::prelude::*;

    fn principal(byte: u8) -> Principal {
        Principal::from_hash160(Network::Testnet, [byte; 20])
    }

    fn directory() -> Directory {
        let host = |byte: u8, nick: &str, acl: Acl| Host {
            principal: principal(byte),
            nick: Some(nick.parse().unwrap()),
            acl,
            visibility: Visibility::Private,
        };
        let open = Acl {
            allow_local: true,
            allowed: vec![Pattern::Any],
            denied: vec![],
        };
        let closed = Acl {
            allow_local: false,
            allowed: vec![Pattern::Only(principal(9))],
            denied: vec![],
        };
        Directory::new(vec![host(1, "alice", open), host(2, "vault", closed)])
    }

    #[test]
    fn a_message_reaches_the_identity_it_names_and_no_other() {
        let directory = directory();
        let deliver = |byte| Verdict::Deliver {
            identity: principal(byte),
        };
        assert_eq!(directory.inbound(&principal(9), &principal(1)), deliver(1));
        assert_eq!(directory.inbound(&principal(9), &principal(2)), deliver(2));
        assert_eq!(
            directory.inbound(&principal(8), &principal(2)),
            Verdict::Refuse(Refusal::NotAllowed)
        );
        assert_eq!(
            directory.inbound(&principal(9), &principal(3)),
            Verdict::Refuse(Refusal::UnknownRecipient)
        );
    }

    #[test]
    fn co_hosted_identities_obey_the_recipients_list_too() {
        let directory = directory();
        assert_eq!(
            directory.local(&principal(2), &principal(1)),
            Verdict::Deliver {
                identity: principal(1)
            }
        );
        assert_eq!(
            directory.local(&principal(1), &principal(2)),
            Verdict::Refuse(Refusal::NotAllowed)
        );
        assert_eq!(
            directory.local(&principal(2), &principal(2)),
            Verdict::Deliver {
                identity: principal(2)
            }
        );
    }

    #[test]
    fn networks_do_not_mix() {
        let stranger = Principal::from_hash160(Network::Mainnet, [9; 20]);
        assert_eq!(
            directory().inbound(&stranger, &principal(1)),
            Verdict::Refuse(Refusal::WrongNetwork)
        );
    }

    #[test]
    fn a_name_is_a_principal_then_an_alias_then_a_nickname() {
        let directory = directory();
        let aliases = || {
            vec![
                ("bob".to_owned(), principal(7)),
                ("alice".to_owned(), principal(6)),
            ]
        };
        assert_eq!(
            directory.resolve(&principal(5).to_string(), Vec::new),
            Ok(principal(5))
        );
        assert_eq!(directory.resolve("bob", aliases), Ok(principal(7)));
        assert_eq!(directory.resolve("alice", aliases), Ok(principal(6)));
        assert_eq!(directory.resolve("alice", Vec::new), Ok(principal(1)));
        assert_eq!(
            directory.by_name("vault").map(|host| host.principal),
            Some(principal(2))
        );
        assert!(matches!(
            directory.resolve("Alice", Vec::new),
            Err(UnknownName::NoSuchName { .. })
        ));
        assert!(matches!(
            directory.resolve("stacks:ST1", Vec::new),
            Err(UnknownName::Malformed { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_text_resolves_or_is_refused_in_bounded_words(text in ".{0,300}") {
            if let Err(error) = directory().resolve(&text, Vec::new) {
                prop_assert!(error.to_string().chars().count() < 300);
                prop_assert!(!error.to_string().chars().any(char::is_control));
            }
        }
    }
}
