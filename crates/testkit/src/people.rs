//! The people of every test: fixed keys, the same as in the shared test vectors.

use std::time::Duration;

use clawchat_identity::{Attestation, Identity, Mnemonic, Nickname, Verified};
use clawchat_types::{Network, PeerId, Principal, UnixSeconds};

use crate::clock::START;
use crate::random::SeededRng;

/// How long an attestation made here lasts.
const ATTESTATION_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Somebody with fixed keys. Public test data: never use them for anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Person {
    /// First identity of the gateway "alice" in the shared vectors.
    Alice,
    /// Second identity of the same gateway.
    Alice2,
    /// The gateway "bob" of the shared vectors.
    Bob,
    /// Somebody else.
    Carol,
    /// Somebody nobody knows.
    Dave,
}

impl Person {
    /// Everybody.
    pub const ALL: [Self; 5] = [Self::Alice, Self::Alice2, Self::Bob, Self::Carol, Self::Dave];

    /// Their identity on the test network, with their nick.
    #[must_use]
    pub fn identity(self) -> Identity {
        self.identity_on(Network::Testnet)
    }

    /// Their identity on a network, with their nick.
    #[must_use]
    pub fn identity_on(self, network: Network) -> Identity {
        let facts = self.facts();
        let nick: Nickname = facts.nick.parse().expect("a fixed nick");
        Identity::recover(&self.mnemonic(), network, Some(nick), facts.node_seed)
            .expect("a fixed seed phrase")
    }

    /// Their seed phrase.
    #[must_use]
    pub fn mnemonic(self) -> Mnemonic {
        self.facts().words.parse().expect("a fixed seed phrase")
    }

    /// Their principal on the test network.
    #[must_use]
    pub fn principal(self) -> Principal {
        self.facts().principal.parse().expect("a fixed principal")
    }

    /// The libp2p peer id of a gateway whose first identity is theirs.
    #[must_use]
    pub fn peer_id(self) -> PeerId {
        self.facts().peer_id.parse().expect("a fixed peer id")
    }

    /// What they call themselves.
    #[must_use]
    pub fn nick(self) -> &'static str {
        self.facts().nick
    }

    fn facts(self) -> Facts {
        match self {
            Self::Alice => Facts {
                nick: "alice",
                words: "script legal jacket execute void plate brisk strong wisdom property crouch cactus \
                        valid mule eyebrow toe stairs rain priority cave broccoli poem when like",
                node_seed: [
                    0xad, 0xba, 0x56, 0x1c, 0x11, 0x9d, 0x79, 0x2e, 0x9b, 0xc7, 0xb4, 0x0e, 0xc4, 0x54, 0x60,
                    0x8d, 0x1c, 0x78, 0x52, 0x03, 0x7e, 0x54, 0x03, 0x0b, 0x7e, 0x76, 0x99, 0x42, 0x39, 0xb6,
                    0x2f, 0x87,
                ],
                principal: "stacks:ST3YZM3S1P75KA4B60HDZEX9496TTATN5PVD94DFF",
                peer_id: "12D3KooWNZypvL2Um2qCT98FhMAf6mwGzPzFy8E7JsNnM7ipEHJo",
            },
            Self::Alice2 => Facts {
                nick: "alice2",
                words: "impose lock fox inherit shed pluck uncover boost dress clump aspect bachelor \
                        desk replace spell six tape arctic country print solid boring bracket office",
                node_seed: [
                    0x84, 0x05, 0x1c, 0x91, 0x68, 0x33, 0xad, 0xf5, 0xa3, 0xf8, 0xd3, 0xe3, 0xaf, 0xde, 0x76,
                    0x74, 0x13, 0x67, 0xfc, 0xbb, 0x62, 0xaf, 0x30, 0x18, 0x44, 0x65, 0x6f, 0x29, 0x9c, 0x7f,
                    0x8b, 0xeb,
                ],
                principal: "stacks:STYVBQC2MG7BX4H0PCZWM8THCFV9EB3NSX83S0Z4",
                peer_id: "12D3KooWNU9dDmmJAMFP2ijo8mSRk7vtAe4opZGzPcvBUgu1MXcg",
            },
            Self::Bob => Facts {
                nick: "bob",
                words: "despair hole session network emotion fold basic cry bonus bubble genre fun \
                        arrow join trigger fashion capable label safe shift spell easily lounge win",
                node_seed: [
                    0x9a, 0x74, 0x37, 0xbc, 0x3d, 0x2e, 0x04, 0x85, 0x12, 0x37, 0xb4, 0xd9, 0x97, 0x28, 0x9e,
                    0x59, 0x50, 0xc0, 0xac, 0xc3, 0x1f, 0x6a, 0x9f, 0x5d, 0x8b, 0x48, 0x87, 0xd7, 0xec, 0x48,
                    0xb0, 0x3d,
                ],
                principal: "stacks:ST3JJPDR32NBV4W4810F9S8AW2ESRMJHG9KPRBSM2",
                peer_id: "12D3KooWEcKpSWJcaZEmui8eoD1RFUGBKW3kLJWYTHz2r7RCPgtW",
            },
            Self::Carol => Facts {
                nick: "carol",
                words: "lottery card either icon disorder stem change category dream artist powder key \
                        toward high witness strong fever nerve surprise panther project jeans stairs chimney",
                node_seed: [
                    0xb0, 0xb3, 0xa9, 0xa2, 0x7a, 0xd5, 0xe7, 0xea, 0x51, 0xe2, 0x8f, 0xcb, 0x32, 0xa9, 0xba,
                    0xa9, 0x23, 0xa3, 0xcf, 0xea, 0xe4, 0x17, 0x39, 0xf9, 0xbf, 0x37, 0xd6, 0x76, 0x47, 0xc2,
                    0xc9, 0xb3,
                ],
                principal: "stacks:ST1QSS5BRVP84J5W6M5GA9WEY9FVMSFQ2N7FAK6R7",
                peer_id: "12D3KooWLdmyGksmbXf4WSrXGRPr2uEAugaoTwBb3fm7sEHNMkhb",
            },
            Self::Dave => Facts {
                nick: "dave",
                words: "crumble pause labor ticket butter seed filter silver hole boat believe resource \
                        island stool city wolf manage camp broom vehicle regular evil useful cousin",
                node_seed: [
                    0x21, 0x3d, 0x23, 0x71, 0xac, 0xb0, 0x30, 0xbf, 0xaa, 0xdf, 0xf3, 0x13, 0xa3, 0xfb, 0x4b,
                    0xbc, 0x7a, 0xf5, 0x3f, 0xc1, 0xe4, 0x06, 0xcb, 0xab, 0xa7, 0x36, 0x55, 0xd0, 0x07, 0x47,
                    0x7c, 0x78,
                ],
                principal: "stacks:ST1JM10QT2RKDAH6ZS9X1EXVJ53V5ZPVN9KVMPXMG",
                peer_id: "12D3KooWAubNhnns2R1mP6o9Kq2GajPbcax4FGUiM3djCkSjQrWn",
            },
        }
    }
}

struct Facts {
    nick: &'static str,
    words: &'static str,
    node_seed: [u8; 32],
    principal: &'static str,
    peer_id: &'static str,
}

/// As many further identities as a test needs: the same number gives the same one, without a nick, on the test
/// network.
#[must_use]
pub fn stranger(number: u64) -> Identity {
    let mut random = SeededRng::new(number);
    Identity::generate(Network::Testnet, None, random.bytes(), random.bytes()).expect("a wallet key")
}

/// A day's attestation of an identity's node key, issued at [`START`].
#[must_use]
pub fn attestation(identity: &Identity) -> Attestation<Verified> {
    attestation_from(identity, START.seconds())
}

/// A day's attestation of an identity's node key, issued at a given time.
#[must_use]
pub fn attestation_from(identity: &Identity, issued_at: UnixSeconds) -> Attestation<Verified> {
    let nonce = *identity.node_key().node_id().as_bytes();
    identity.attest(issued_at, ATTESTATION_TTL, nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_who_the_vectors_say() {
        for person in Person::ALL {
            assert_eq!(*person.identity().principal(), person.principal(), "{person:?}");
            assert_eq!(person.identity_on(Network::Mainnet).network(), Network::Mainnet);
            assert_eq!(person.peer_id().as_str().len(), 52);
        }
    }

    #[test]
    fn strangers_differ_and_stay_the_same() {
        assert_eq!(stranger(1).principal(), stranger(1).principal());
        assert_ne!(stranger(1).principal(), stranger(2).principal());
    }

    #[test]
    fn attestations_hold_at_the_start_of_the_clock() {
        let attestation = attestation(&Person::Bob.identity());
        assert!(attestation.is_current(START.seconds()));
    }
}
