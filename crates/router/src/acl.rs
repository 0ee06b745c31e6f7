//! Access lists.

use std::fmt;
use std::str::FromStr;

use clawchat_types::{Principal, PrincipalError};

/// One entry of an access list: a principal, or `*` for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AllowEntry {
    /// `*`: every principal of the same network.
    Any,
    /// This principal.
    Principal(Principal),
}

impl FromStr for AllowEntry {
    type Err = PrincipalError;

    fn from_str(text: &str) -> Result<Self, PrincipalError> {
        if text == "*" {
            Ok(Self::Any)
        } else {
            text.parse().map(Self::Principal)
        }
    }
}

impl fmt::Display for AllowEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Principal(principal) => principal.fmt(f),
        }
    }
}

/// Who may write to one identity.
///
/// Whoever is denied stays out, whatever else the list says, whether it is a remote principal or an identity of the
/// same gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    allow_local: bool,
    allowed: Vec<AllowEntry>,
    denied: Vec<Principal>,
}

/// What a new identity has: everybody may write, local and remote.
impl Default for Acl {
    fn default() -> Self {
        Self::new(true, vec![AllowEntry::Any], Vec::new())
    }
}

impl Acl {
    /// A list. `allow_local` is for identities of the same gateway, `allowed` for everybody else; an empty `allowed`
    /// lets no remote principal in.
    #[must_use]
    pub fn new(allow_local: bool, allowed: Vec<AllowEntry>, denied: Vec<Principal>) -> Self {
        Self {
            allow_local,
            allowed,
            denied,
        }
    }

    /// Whether identities of the same gateway may write.
    #[must_use]
    pub fn allow_local(&self) -> bool {
        self.allow_local
    }

    /// Which remote principals may write.
    #[must_use]
    pub fn allowed(&self) -> &[AllowEntry] {
        &self.allowed
    }

    /// Who may never write.
    #[must_use]
    pub fn denied(&self) -> &[Principal] {
        &self.denied
    }

    /// Whether this principal of another gateway may write.
    #[must_use]
    pub fn admits_remote(&self, from: &Principal) -> bool {
        !self.denied.contains(from)
            && self.allowed.iter().any(|entry| match entry {
                AllowEntry::Any => true,
                AllowEntry::Principal(principal) => principal == from,
            })
    }

    /// Whether this identity of the same gateway may write.
    #[must_use]
    pub fn admits_local(&self, from: &Principal) -> bool {
        self.allow_local && !self.denied.contains(from)
    }

    /// Lets somebody write: takes back a denial and adds the entry if nothing covers it yet. `*` adds itself and
    /// keeps denials of single principals. Returns whether anything changed.
    pub fn allow(&mut self, entry: AllowEntry) -> bool {
        let denials = self.denied.len();
        if let AllowEntry::Principal(principal) = entry {
            self.denied.retain(|denied| *denied != principal);
        }
        let covered = self.allowed.contains(&entry) || self.allowed.contains(&AllowEntry::Any);
        if !covered {
            self.allowed.push(entry);
        }
        !covered || self.denied.len() != denials
    }

    /// Keeps somebody out: removes the entry, and where `*` or local access would still let the principal in, denies
    /// it expressly. `*` removes itself alone: who is listed by name may still write. Returns whether anything changed.
    pub fn deny(&mut self, entry: AllowEntry) -> bool {
        let before = (self.allowed.len(), self.denied.len());
        self.allowed.retain(|allowed| *allowed != entry);
        if let AllowEntry::Principal(principal) = entry
            && (self.admits_remote(&principal) || self.admits_local(&principal))
        {
            self.denied.push(principal);
        }
        (self.allowed.len(), self.denied.len()) != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawchat_types::Network;
    use proptest::prelude::*;

    fn who(n: u8) -> Principal {
        Principal::from_hash160(Network::Testnet, [n; 20])
    }

    fn listed(n: u8) -> AllowEntry {
        AllowEntry::Principal(who(n))
    }

    #[test]
    fn a_listed_principal_and_a_star_admit_and_an_empty_list_does_not() {
        assert!(Acl::new(true, vec![listed(1)], vec![]).admits_remote(&who(1)));
        assert!(!Acl::new(true, vec![listed(1)], vec![]).admits_remote(&who(2)));
        assert!(Acl::default().admits_remote(&who(2)));
        assert!(!Acl::new(true, vec![], vec![]).admits_remote(&who(1)));
    }

    #[test]
    fn a_denied_principal_stays_out_locally_and_remotely() {
        let acl = Acl::new(true, vec![AllowEntry::Any, listed(1)], vec![who(1)]);
        assert!(!acl.admits_remote(&who(1)));
        assert!(!acl.admits_local(&who(1)));
        assert!(acl.admits_local(&who(2)));
    }

    #[test]
    fn allow_local_is_about_local_identities_only() {
        let acl = Acl::new(false, vec![AllowEntry::Any], vec![]);
        assert!(!acl.admits_local(&who(1)));
        assert!(acl.admits_remote(&who(1)));
    }

    #[test]
    fn denying_everybody_keeps_those_listed_by_name() {
        let mut acl = Acl::new(true, vec![AllowEntry::Any, listed(1)], vec![]);
        assert!(acl.deny(AllowEntry::Any));
        assert!(acl.admits_remote(&who(1)));
        assert!(!acl.admits_remote(&who(2)));
        assert!(!acl.deny(AllowEntry::Any));
    }

    #[test]
    fn entries_are_read_and_written() {
        assert_eq!("*".parse::<AllowEntry>().unwrap().to_string(), "*");
        assert_eq!(who(1).to_string().parse::<AllowEntry>().unwrap(), listed(1));
        for bad in ["", "stacks:*", "**", " *"] {
            assert!(bad.parse::<AllowEntry>().is_err(), "{bad:?}");
        }
    }

    fn acls() -> impl Strategy<Value = Acl> {
        let entry = prop_oneof![Just(AllowEntry::Any), (0..6u8).prop_map(listed)];
        (
            any::<bool>(),
            prop::collection::vec(entry, 0..6),
            prop::collection::vec((0..6u8).prop_map(who), 0..4),
        )
            .prop_map(|(local, allowed, denied)| Acl::new(local, allowed, denied))
    }

    proptest! {
        #[test]
        fn allow_admits_exactly_one_more_and_deny_takes_it_back(mut acl in acls(), n in 0..6u8) {
            let others = |acl: &Acl| {
                (0..8).filter(|m| *m != n).map(|m| (acl.admits_remote(&who(m)), acl.admits_local(&who(m))))
                    .collect::<Vec<_>>()
            };
            let before = others(&acl);
            acl.allow(listed(n));
            prop_assert!(acl.admits_remote(&who(n)));
            prop_assert!(!acl.allow(listed(n)));
            acl.deny(listed(n));
            prop_assert!(!acl.admits_remote(&who(n)) && !acl.admits_local(&who(n)));
            prop_assert!(!acl.deny(listed(n)));
            prop_assert_eq!(others(&acl), before);
        }
    }
}
