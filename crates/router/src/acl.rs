//! Access lists: who may write to an identity.

use clawchat_types::Principal;

/// An entry of an access list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `*`: everybody.
    Any,
    /// This principal only.
    Only(Principal),
}

impl Pattern {
    fn covers(&self, peer: &Principal) -> bool {
        match self {
            Self::Any => true,
            Self::Only(principal) => principal == peer,
        }
    }
}

/// Who may write to one identity.
///
/// `denied` wins over everything. From elsewhere a peer must be covered by `allowed`; identities of the same
/// gateway are let in by `allow_local` instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// Whether other identities of this gateway may write (`allowLocal`).
    pub allow_local: bool,
    /// Who may write from other gateways (`allowedRemotePeers`). Empty: nobody.
    pub allowed: Vec<Pattern>,
    /// Who may not, wherever from (`deniedPeers`).
    pub denied: Vec<Pattern>,
}

impl Acl {
    /// Whether a principal of another gateway may write.
    #[must_use]
    pub fn admits_remote(&self, peer: &Principal) -> bool {
        !self.denies(peer) && self.allowed.iter().any(|pattern| pattern.covers(peer))
    }

    /// Whether another identity of this gateway may write.
    #[must_use]
    pub fn admits_local(&self, peer: &Principal) -> bool {
        self.allow_local && !self.denies(peer)
    }

    fn denies(&self, peer: &Principal) -> bool {
        self.denied.iter().any(|pattern| pattern.covers(peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawchat_types::Network;
    use proptest::prelude::*;

    fn principal(byte: u8) -> Principal {
        Principal::from_hash160(Network::Testnet, [byte; 20])
    }

    #[test]
    fn an_empty_list_admits_nobody_and_a_star_everybody() {
        let mut acl = Acl::default();
        assert!(!acl.admits_remote(&principal(1)));
        acl.allowed.push(Pattern::Any);
        assert!(acl.admits_remote(&principal(1)));
    }

    #[test]
    fn the_local_switch_says_nothing_about_remote_peers_and_the_list_nothing_about_local_ones() {
        let local = Acl {
            allow_local: true,
            ..Acl::default()
        };
        assert!(local.admits_local(&principal(1)) && !local.admits_remote(&principal(1)));
        let remote = Acl {
            allowed: vec![Pattern::Only(principal(1))],
            ..Acl::default()
        };
        assert!(!remote.admits_local(&principal(1)) && remote.admits_remote(&principal(1)));
        assert!(!remote.admits_remote(&principal(2)));
    }

    proptest! {
        #[test]
        fn denied_wins_over_everything(peer in 0u8..4, allowed in prop::collection::vec(0u8..5, 0..4), denied in prop::collection::vec(0u8..5, 0..4)) {
            let patterns = |list: &[u8]| -> Vec<Pattern> {
                list.iter().map(|&n| if n == 4 { Pattern::Any } else { Pattern::Only(principal(n)) }).collect()
            };
            let acl = Acl { allow_local: true, allowed: patterns(&allowed), denied: patterns(&denied) };
            let listed = |list: &[u8]| list.contains(&peer) || list.contains(&4);
            prop_assert_eq!(acl.admits_remote(&principal(peer)), listed(&allowed) && !listed(&denied));
            prop_assert_eq!(acl.admits_local(&principal(peer)), !listed(&denied));
        }
    }
}
