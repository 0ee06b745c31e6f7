//! What can go wrong with identities, and how a caller is told.

use std::path::PathBuf;

use clawchat_identity::WalletError;
use clawchat_identity::keystore::KeystoreError;
use clawchat_ipc::{ErrorCode, Failure};
use clawchat_types::{Principal, PrincipalError};

use crate::config::{ConfigError, EditError};
use crate::home::HomeError;

/// Why an identity could not be set up, changed or unsealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The home holds a gateway.
    #[error("Gateway mode already initialized: {} exists", config.display())]
    AlreadyInitialized {
        /// Its configuration.
        config: PathBuf,
    },
    /// The password does not open the keys, or the file is damaged: the seal tells no difference.
    #[error("wrong password for {principal}, or a damaged {}", keystore.display())]
    WrongPassword {
        /// Whose keys.
        principal: String,
        /// The sealed file.
        keystore: PathBuf,
    },
    /// There is no password to open or seal the keys with.
    #[error("a password is needed for the keys of {principal}")]
    PasswordNeeded {
        /// Whose keys.
        principal: String,
    },
    /// The password is shorter than the keystore format allows.
    #[error("Password must be at least 12 characters")]
    PasswordTooShort,
    /// The sealed keys are not where they belong.
    #[error("the keys of {principal} are missing: no {}", keystore.display())]
    NoKeystore {
        /// Whose keys.
        principal: String,
        /// Where they should be.
        keystore: PathBuf,
    },
    /// The file opens, but holds somebody else's keys.
    #[error("{} holds the keys of {found}, not of {expected}", keystore.display())]
    OtherIdentity {
        /// The sealed file.
        keystore: PathBuf,
        /// Whose keys should be there.
        expected: Principal,
        /// Whose keys are.
        found: Principal,
    },
    /// The keystore cannot be read, whatever the password.
    #[error("{}: {source}", keystore.display())]
    Keystore {
        /// The sealed file.
        keystore: PathBuf,
        /// Why.
        source: KeystoreError,
    },
    /// The words make no wallet.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The principal in the configuration is not an address.
    #[error("{text} is not a principal: {source}")]
    NotAPrincipal {
        /// What the configuration says.
        text: String,
        /// What is wrong with it.
        source: PrincipalError,
    },
    /// No peer of that name is known.
    #[error("no peer is known as {who}")]
    NoSuchPeer {
        /// What was asked for.
        who: String,
    },
    /// The text given for a peer is not a principal.
    #[error("{text}: {source}")]
    NotAPeer {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: PrincipalError,
    },
    /// The words belong to another principal than the one asked for.
    #[error("these words are those of {found}, not of {expected}")]
    OtherWords {
        /// Who was asked for.
        expected: Principal,
        /// Whose words they are.
        found: Principal,
    },
    /// No identity is to be loaded at start.
    #[error("no identity in {} has autoload set", config.display())]
    NothingToLoad {
        /// The configuration.
        config: PathBuf,
    },
    /// The system gives no randomness.
    #[error("the system's random number generator failed: {reason}")]
    Randomness {
        /// What it said.
        reason: String,
    },
    /// The configuration does not allow it.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// There is no configuration, or it is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file or folder could not be used.
    #[error(transparent)]
    Home(#[from] HomeError),
}

impl SetupError {
    /// What the person at the keyboard can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::AlreadyInitialized { .. } => {
                "add identities with 'clawchat gateway identity add', or choose another --data-dir".to_owned()
            }
            Self::WrongPassword { keystore, .. } => format!(
                "try again with --password-file; if the password is lost, move {} aside and run 'clawchat identity recover' with the 24 words",
                keystore.display()
            ),
            Self::PasswordNeeded { .. } => {
                "give it with --password-file FILE (or CLAWCHAT_PASSWORD_FILE), or in a file named 'password' in the identity's folder"
                    .to_owned()
            }
            Self::PasswordTooShort => "choose a longer one".to_owned(),
            Self::NoKeystore { .. } => {
                "put the file back, or run 'clawchat identity recover' with the 24 words".to_owned()
            }
            Self::OtherIdentity { .. } => "put the right file back".to_owned(),
            Self::Keystore { .. } => "restore it from a backup, or move it aside and run 'clawchat identity recover' with the 24 words".to_owned(),
            Self::Wallet(_) => "check the words and their order".to_owned(),
            Self::NotAPrincipal { .. } => "correct it in gateway-config.json".to_owned(),
            Self::NoSuchPeer { .. } | Self::NotAPeer { .. } => {
                "give a principal (stacks:ST… or stacks:SP…), or * for everybody".to_owned()
            }
            Self::OtherWords { .. } => "leave --principal out, or use the other words".to_owned(),
            Self::NothingToLoad { .. } => "set \"autoload\": true for one of them".to_owned(),
            Self::Randomness { .. } => "try again".to_owned(),
            Self::Edit(error) => error.hint(),
            Self::Config(error) => error.hint(),
            Self::Home(error) => error.hint(),
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::AlreadyInitialized { .. } => ErrorCode::AlreadyInitialized,
            Self::WrongPassword { .. } => ErrorCode::WrongPassword,
            Self::PasswordNeeded { .. } => ErrorCode::PasswordRequired,
            Self::PasswordTooShort | Self::Wallet(_) | Self::NotAPeer { .. } | Self::OtherWords { .. } => {
                ErrorCode::InvalidRequest
            }
            Self::NoSuchPeer { .. } => ErrorCode::NoSuchPeer,
            Self::NoKeystore { .. } | Self::OtherIdentity { .. } | Self::Keystore { .. } => {
                ErrorCode::StorageDamaged
            }
            Self::NotAPrincipal { .. } | Self::NothingToLoad { .. } => ErrorCode::Failed,
            Self::Randomness { .. } => ErrorCode::Internal,
            Self::Edit(error) => edit_code(error),
            Self::Config(ConfigError::NotFound { .. }) => ErrorCode::NotInitialized,
            Self::Config(ConfigError::Invalid { .. }) => ErrorCode::Failed,
            Self::Config(ConfigError::File(error)) | Self::Home(error) => home_code(error),
        }
    }
}

fn edit_code(error: &EditError) -> ErrorCode {
    match error {
        EditError::NoSuchIdentity { .. } => ErrorCode::NoSuchIdentity,
        EditError::AlreadyExists { .. } | EditError::NickTaken { .. } => ErrorCode::AlreadyExists,
        EditError::WrongNetwork { .. } => ErrorCode::WrongNetwork,
        EditError::LastIdentity => ErrorCode::Failed,
        EditError::Invalid(_) => ErrorCode::InvalidRequest,
    }
}

fn home_code(error: &HomeError) -> ErrorCode {
    match error {
        HomeError::AlreadyRunning { .. } => ErrorCode::AlreadyRunning,
        HomeError::Busy { .. } => ErrorCode::Busy,
        HomeError::Io { source, .. } if is_full(source) => ErrorCode::StorageFull,
        HomeError::NotOurs { .. }
        | HomeError::NotADirectory { .. }
        | HomeError::Shared { .. }
        | HomeError::SocketPathTooLong { .. }
        | HomeError::TooLarge { .. }
        | HomeError::NotText { .. }
        | HomeError::Io { .. } => ErrorCode::Io,
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    )
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        Self::new(error.code(), error.to_string()).with_hint(error.hint())
    }
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        SetupError::from(error).into()
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        SetupError::from(error).into()
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        SetupError::from(error).into()
    }
}
