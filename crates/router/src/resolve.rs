//! Whom a person means by the name typed as recipient.

use clawchat_types::{Network, Principal, PrincipalError};

use crate::directory::Directory;

/// Longest part of a name repeated in an error, in characters.
const MAX_SHOWN_CHARS: usize = 80;

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To an identity of this gateway, loaded or not.
    Local(Principal),
    /// To a principal of another gateway.
    Remote(Principal),
}

impl Route {
    /// The recipient.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        match self {
            Self::Local(principal) | Self::Remote(principal) => principal,
        }
    }
}

impl Directory {
    /// Finds the recipient `to` of a message of the identity `acting`: a principal, otherwise an alias among the
    /// acting identity's peers (`alias`), otherwise the nickname of an identity of this gateway.
    ///
    /// # Errors
    /// [`ResolveError`]: a name nobody has is refused at once rather than kept as a message that never leaves.
    pub fn resolve(
        &self,
        acting: &Principal,
        to: &str,
        alias: impl FnOnce(&str) -> Option<Principal>,
    ) -> Result<Route, ResolveError> {
        let principal = match to.parse() {
            Ok(principal) => principal,
            Err(error) => alias(to)
                .or_else(|| self.by_name(to).map(|identity| identity.principal))
                .ok_or_else(|| unresolved(to, error))?,
        };
        if principal.network() != acting.network() {
            return Err(ResolveError::WrongNetwork {
                principal,
                acting: acting.network(),
            });
        }
        Ok(if self.get(&principal).is_some() {
            Route::Local(principal)
        } else {
            Route::Remote(principal)
        })
    }
}

/// Why a name leads to nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// No principal, no alias, no nickname.
    #[error("nobody is known as \"{name}\"")]
    UnknownName {
        /// What was asked for, shortened.
        name: String,
    },
    /// It is meant to be a principal and is none.
    #[error("\"{text}\" is not a principal: {reason}")]
    Malformed {
        /// What was asked for, shortened.
        text: String,
        /// What is wrong with it.
        reason: PrincipalError,
    },
    /// It is of the other Stacks network.
    #[error("{principal} is a {} principal, the acting identity is a {acting} one", principal.network())]
    WrongNetwork {
        /// The recipient.
        principal: Principal,
        /// The network of the acting identity.
        acting: Network,
    },
}

impl ResolveError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::UnknownName { .. } => {
                "give a principal (stacks:S…), the alias of a peer (see \"clawchat peers list\") or the nickname of an \
                 identity of this gateway"
            }
            Self::Malformed { .. } => "copy the principal again, exactly as its owner sees it",
            Self::WrongNetwork { .. } => {
                "act as an identity of the same network (SP… is mainnet, ST… is testnet)"
            }
        }
    }
}

fn unresolved(to: &str, reason: PrincipalError) -> ResolveError {
    let shown: String = to.chars().take(MAX_SHOWN_CHARS).collect();
    if looks_like_a_principal(to) {
        ResolveError::Malformed { text: shown, reason }
    } else {
        ResolveError::UnknownName { name: shown }
    }
}

/// Starts with `stacks:` in some spelling, or is an address without it.
fn looks_like_a_principal(text: &str) -> bool {
    let prefixed = text
        .trim_start()
        .get(..7)
        .is_some_and(|start| start.eq_ignore_ascii_case("stacks:"));
    prefixed || format!("stacks:{text}").parse::<Principal>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::Acl;
    use crate::directory::{HostedIdentity, Visibility};
    use proptest::prelude::*;

    fn who(n: u8) -> Principal {
        Principal::from_hash160(Network::Testnet, [n; 20])
    }

    fn directory() -> Directory {
        let mut directory = Directory::new();
        for (n, nick, loaded) in [(1, "alice", true), (2, "bob", false)] {
            let identity = HostedIdentity {
                principal: who(n),
                nick: nick.parse().ok(),
                acl: Acl::default(),
                loaded,
                visibility: Visibility::default(),
            };
            directory.insert(identity).unwrap();
        }
        directory
    }

    fn resolve(to: &str) -> Result<Route, ResolveError> {
        let aliases = |name: &str| match name {
            "dora" => Some(who(4)),
            "bob" => Some(who(5)),
            "other" => Some(who(2)),
            _ => None,
        };
        directory().resolve(&who(1), to, aliases)
    }

    #[test]
    fn principals_come_before_aliases_and_aliases_before_nicknames() {
        assert_eq!(resolve(&who(7).to_string()), Ok(Route::Remote(who(7))));
        assert_eq!(resolve(&who(2).to_string()), Ok(Route::Local(who(2))));
        assert_eq!(resolve("dora"), Ok(Route::Remote(who(4))));
        assert_eq!(resolve("bob"), Ok(Route::Remote(who(5))));
        assert_eq!(resolve("other"), Ok(Route::Local(who(2))));
        assert_eq!(resolve("alice"), Ok(Route::Local(who(1))));
    }

    #[test]
    fn an_unknown_name_is_an_error_with_advice() {
        for name in ["nobody", "", "Alice", "alice "] {
            let error = resolve(name).unwrap_err();
            assert_eq!(
                error,
                ResolveError::UnknownName {
                    name: name.to_owned()
                }
            );
            assert!(error.hint().contains("peers list"));
        }
    }

    #[test]
    fn a_mistyped_principal_says_what_is_wrong() {
        let right = who(7).to_string();
        let mut wrong = right.clone();
        let last = wrong.pop().unwrap();
        wrong.push(if last == 'A' { 'B' } else { 'A' });
        for (text, reason) in [
            (wrong, PrincipalError::Address),
            (right.replace("stacks:", ""), PrincipalError::Prefix),
            (right.replace("stacks", "Stacks"), PrincipalError::Prefix),
            (right.to_lowercase(), PrincipalError::Address),
        ] {
            match resolve(&text) {
                Err(ResolveError::Malformed { reason: found, .. }) => {
                    assert!(
                        found == reason || found == PrincipalError::NotCanonical,
                        "{text}: {found}"
                    );
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_other_network_is_refused() {
        let mainnet = Principal::from_hash160(Network::Mainnet, [7; 20]);
        let error = resolve(&mainnet.to_string()).unwrap_err();
        assert!(matches!(error, ResolveError::WrongNetwork { .. }));
        assert!(error.to_string().contains("mainnet"));
    }

    proptest! {
        #[test]
        fn arbitrary_names_never_panic(name in ".*", tail in "[sS]tacks:.{0,60}") {
            for name in [name, tail] {
                if let Err(error) = resolve(&name) {
                    prop_assert!(error.to_string().chars().count() < MAX_SHOWN_CHARS + 200);
                }
            }
        }
    }
}
