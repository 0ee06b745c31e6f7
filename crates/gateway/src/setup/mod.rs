//! Identities in a home folder: making them, taking them over, naming them, unsealing them.
//!
//! Functions that change something ask for the [`HomeLock`](crate::home::HomeLock) and are whole or do nothing: new keys are prepared
//! beside the place they belong, the configuration is written last, and what was prepared for a step that then
//! failed is taken away again. Keys that were in use are never deleted, only moved aside. All of this blocks:
//! on the disk, and on scrypt for about a third of a second and 128 MiB per sealed identity.

mod change;
mod create;
mod error;
mod facts;
mod folder;
mod legacy;
mod password;
mod unseal;

use clawchat_identity::{Identity, Mnemonic};
use clawchat_ipc::Secret;
use clawchat_types::{Network, Nick, Principal};

use crate::config::PeerPattern;

pub use self::change::{allow, clear_nick, deny, remove, set_aside, set_nick, set_port};
pub use self::create::{add_identity, create, init, migrate, recover};
pub use self::error::SetupError;
pub use self::facts::{PublicFacts, display_name, show};
pub use self::password::{GENERATED_PASSWORD_CHARS, generate_password, write_password_file};
pub use self::unseal::{LoadedIdentity, NotLoaded, Unsealed, unseal, unseal_one};

/// Largest sealed keystore read, in bytes.
pub const MAX_KEYSTORE_BYTES: u64 = 64 * 1024;
/// Largest `password` file read, in bytes.
pub const MAX_PASSWORD_FILE_BYTES: u64 = 4 * 1024;
/// Largest `identity.pub.json` read, in bytes.
pub const MAX_FACTS_BYTES: u64 = 4 * 1024;

/// What [`init`] makes.
#[derive(Clone, Debug)]
pub struct InitRequest {
    /// The port of the P2P listeners.
    pub port: u16,
    /// Name of the first identity.
    pub nick: Option<Nick>,
    /// Its network. `None`: that of an identity that is taken over, otherwise testnet.
    pub network: Option<Network>,
    /// Seals its keys, or opens those that are taken over. `None`: the `password` file of a folder that is
    /// taken over, otherwise a new password is drawn and kept in a file beside the keys.
    pub password: Option<Secret>,
    /// Recover it from these words instead of drawing new ones. Then nothing is taken over.
    pub mnemonic: Option<Mnemonic>,
    /// Whether an identity of the single-identity layout found in the folder is taken over.
    pub migrate: bool,
}

/// What [`add_identity`], [`create()`] and [`recover`] make.
#[derive(Clone, Debug)]
pub struct AddRequest {
    /// Its name. `None`: for an identity that exists, the one sealed with its keys.
    pub nick: Option<Nick>,
    /// An identity whose keys are in the home already, perhaps among the removed ones.
    pub principal: Option<Principal>,
    /// Its network. `None`: that of the gateway, otherwise testnet.
    pub network: Option<Network>,
    /// Whether the daemon unseals it at start.
    pub autoload: bool,
    /// Who may write to it from elsewhere.
    pub allowed_remote_peers: Vec<PeerPattern>,
    /// Seals its keys, or opens those that exist. `None`: its `password` file.
    pub password: Option<Secret>,
    /// Recover it from these words instead of drawing new ones.
    pub mnemonic: Option<Mnemonic>,
}

impl Default for AddRequest {
    /// A new identity, loaded at start, open to everybody.
    fn default() -> Self {
        Self {
            nick: None,
            principal: None,
            network: None,
            autoload: true,
            allowed_remote_peers: vec![PeerPattern::Any],
            password: None,
            mnemonic: None,
        }
    }
}

/// Where an identity that was set up came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Drawn just now: its owner has not seen the words yet.
    New,
    /// Made from words its owner had.
    Recovered,
    /// Its keys were in the home already.
    Existing,
    /// Taken over from the single-identity layout.
    Migrated,
}

/// An identity that was set up, unsealed.
#[derive(Debug)]
pub struct Created {
    /// Its keys.
    pub identity: Identity,
    /// Its name in the configuration.
    pub nick: Option<Nick>,
    /// Where it came from.
    pub origin: Origin,
    /// Whether its password was drawn here and is in its `password` file.
    pub password_generated: bool,
}
