//! The home folder: where a gateway keeps everything, who may open it, and how files in it are written.
//!
//! Layout (folders 0700, files 0600):
//!
//! ```text
//! gateway-config.json                        what the operator decided
//! identities/<principal>/identity.enc        the sealed keys of one identity
//! identities/<principal>/identity.pub.json   its public facts, readable without the password
//! identities/<principal>/password            its password, if the operator keeps it here
//! identities/<principal>/store/              its messages and peers
//! identities/<principal>/*.json.imported     what the TypeScript version kept, taken over into the store
//! mesh/store/                                messages of the mesh's channels
//! mesh/keys/                                 the key of a mesh peer that runs by itself
//! identities/removed/<principal>-<ms>/       identities taken out of service; never deleted by us
//! daemon.pid  clawchat.sock  daemon.log  home.lock
//! ```
//!
//! One program owns a home at a time: whoever holds its [`HomeLock`].

mod files;
mod lock;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clawchat_types::Principal;

pub(crate) use self::files::copy_private;
pub use self::files::{read_bounded, read_text_bounded, sync_dir, write_atomic};
pub use self::lock::{HomeLock, PidFile, Purpose};

/// Longest path of a Unix socket, in bytes (`sun_path` less its terminator).
pub const MAX_SOCKET_PATH_BYTES: usize = 107;
/// Permission bits of our folders.
pub const DIR_MODE: u32 = 0o700;
/// Permission bits of our files.
pub const FILE_MODE: u32 = 0o600;

const CONFIG: &str = "gateway-config.json";
const IDENTITIES: &str = "identities";
/// How the names of folders of identities still being prepared begin.
pub(crate) const STAGING_PREFIX: &str = ".new-";
/// Set on folders like `/tmp`, where everybody may create files.
const STICKY_BIT: u32 = 0o1000;
/// Names by which an existing folder is known to be a ClawChat home.
const MARKS: [&str; 4] = [CONFIG, IDENTITIES, Home::KEYSTORE, lock::LOCK];

/// The paths of one home folder. Cheap to clone; does no IO by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The sealed keys in an identity's folder.
    pub(crate) const KEYSTORE: &'static str = "identity.enc";
    /// The public facts in an identity's folder.
    pub(crate) const PUBLIC_FACTS: &'static str = "identity.pub.json";
    /// The password in an identity's folder.
    pub(crate) const PASSWORD: &'static str = "password";

    /// The home at `root`, whether or not it exists yet.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `gateway-config.json`.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.root.join(CONFIG)
    }

    /// `daemon.pid`: the process id of the running daemon, in decimal.
    #[must_use]
    pub fn pid_path(&self) -> PathBuf {
        self.root.join("daemon.pid")
    }

    /// `daemon.log`: what a daemon started in the background logs.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.root.join("daemon.log")
    }

    /// `clawchat.sock`. [`Home::socket`] also checks that the system can bind it.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        self.root.join("clawchat.sock")
    }

    /// `mesh`, the folder of the mesh: its messages, and the key of a peer without identities.
    #[must_use]
    pub fn mesh_dir(&self) -> PathBuf {
        self.root.join("mesh")
    }

    /// `identities`, the folder of all identities.
    #[must_use]
    pub fn identities_dir(&self) -> PathBuf {
        self.root.join(IDENTITIES)
    }

    /// The folder of one identity.
    #[must_use]
    pub fn identity_dir(&self, principal: &Principal) -> PathBuf {
        self.identities_dir().join(principal.to_string())
    }

    /// The sealed keys of one identity.
    #[must_use]
    pub fn keystore_path(&self, principal: &Principal) -> PathBuf {
        Self::keystore_in(&self.identity_dir(principal))
    }

    /// The public facts of one identity, readable without its password.
    #[must_use]
    pub fn public_facts_path(&self, principal: &Principal) -> PathBuf {
        self.identity_dir(principal).join(Self::PUBLIC_FACTS)
    }

    /// The file an operator may keep the password of one identity in.
    #[must_use]
    pub fn password_path(&self, principal: &Principal) -> PathBuf {
        Self::password_in(&self.identity_dir(principal))
    }

    /// The database folder of one identity.
    #[must_use]
    pub fn store_dir(&self, principal: &Principal) -> PathBuf {
        self.identity_dir(principal).join("store")
    }

    /// What was handed out of invites of one identity.
    #[must_use]
    pub fn invites_path(&self, principal: &Principal) -> PathBuf {
        self.identity_dir(principal).join("invites.json")
    }

    /// Where the folders of removed identities go.
    #[must_use]
    pub fn removed_dir(&self) -> PathBuf {
        self.identities_dir().join("removed")
    }

    /// The sealed keys of a ClawChat from before gateways: at the top of the home.
    #[must_use]
    pub fn legacy_keystore_path(&self) -> PathBuf {
        self.root.join(Self::KEYSTORE)
    }

    /// The socket path, if the system can bind it.
    ///
    /// # Errors
    /// [`HomeError::SocketPathTooLong`] beyond [`MAX_SOCKET_PATH_BYTES`].
    pub fn socket(&self) -> Result<PathBuf, HomeError> {
        let path = self.socket_path();
        let bytes = path.as_os_str().len();
        if bytes > MAX_SOCKET_PATH_BYTES {
            return Err(HomeError::SocketPathTooLong { path, bytes });
        }
        Ok(path)
    }

    /// Whether the folder exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.root.exists()
    }

    /// Creates the folder (0700) if it is missing, and otherwise makes sure that it is ours alone.
    ///
    /// A home that others may enter is closed to them. Returns whether the folder was created.
    ///
    /// # Errors
    /// [`HomeError::NotOurs`], [`HomeError::NotADirectory`], [`HomeError::Shared`] for a folder open to others
    /// that is not a home yet (such as `/tmp`), and the IO errors of creating it.
    pub fn prepare(&self) -> Result<bool, HomeError> {
        match fs::metadata(&self.root) {
            Ok(found) => {
                self.check_ours(&found)?;
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_dir(&self.root)?;
                if let Some(parent) = self.root.parent() {
                    // Somebody else's folder may be closed to us for reading; then the system decides.
                    let _ = sync_dir(parent);
                }
                Ok(true)
            }
            Err(error) => Err(HomeError::io(&self.root, "open", error)),
        }
    }

    /// Takes the home for one purpose, creating the folder if it is missing. The lock is held until the
    /// returned value is dropped, and freed by the system if the process dies.
    ///
    /// Waits up to 5 s for another short request to finish, never for a daemon.
    ///
    /// # Errors
    /// [`HomeError::AlreadyRunning`] when a daemon holds it, [`HomeError::Busy`] when a request does for
    /// longer than that, and everything [`Home::prepare`] reports.
    pub fn lock(&self, purpose: Purpose) -> Result<HomeLock, HomeError> {
        HomeLock::acquire(self, purpose)
    }

    /// The process id in `daemon.pid`, if the file is there and holds one. The process may be gone.
    #[must_use]
    pub fn recorded_pid(&self) -> Option<u32> {
        lock::read_pid(&self.pid_path())
    }

    /// The sealed keys in the folder of an identity, wherever that is.
    pub(crate) fn keystore_in(dir: &Path) -> PathBuf {
        dir.join(Self::KEYSTORE)
    }

    /// The password in the folder of an identity.
    pub(crate) fn password_in(dir: &Path) -> PathBuf {
        dir.join(Self::PASSWORD)
    }

    fn check_ours(&self, found: &fs::Metadata) -> Result<(), HomeError> {
        let path = self.root.clone();
        if !found.is_dir() {
            return Err(HomeError::NotADirectory { path });
        }
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(HomeError::NotOurs {
                path,
                owner: found.uid(),
            });
        }
        if found.mode() & 0o077 == 0 {
            return Ok(());
        }
        let entries = fs::read_dir(&path).map_err(|error| HomeError::io(&path, "read", error))?;
        let is_home = MARKS.iter().any(|mark| path.join(mark).exists());
        let is_empty = entries.take(1).count() == 0;
        if found.mode() & STICKY_BIT != 0 || path.parent().is_none() || !(is_home || is_empty) {
            return Err(HomeError::Shared { path });
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(DIR_MODE))
            .map_err(|error| HomeError::io(&path, "set the permissions of", error))
    }
}

/// Creates a folder and its missing parents, 0700. An existing folder is left as it is.
///
/// # Errors
/// The IO error, with the path.
pub fn create_dir(path: &Path) -> Result<(), HomeError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(path)
        .map_err(|error| HomeError::io(path, "create", error))
}

/// Why the home folder, or a file in it, could not be used. The text says what happened and names the path;
/// [`HomeError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// A daemon owns this home.
    #[error("a daemon is already running for {}{}", path.display(), pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    AlreadyRunning {
        /// The home folder.
        path: PathBuf,
        /// The daemon's process id, if it could be read.
        pid: Option<u32>,
    },
    /// Another request has held this home for too long.
    #[error("{} is in use by another command{}", path.display(), pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Busy {
        /// The home folder.
        path: PathBuf,
        /// The other command's process id, if it could be read.
        pid: Option<u32>,
    },
    /// The folder belongs to another user.
    #[error("{} belongs to another user (uid {owner})", path.display())]
    NotOurs {
        /// The home folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Something else has the name of the folder.
    #[error("{} is not a folder", path.display())]
    NotADirectory {
        /// The path found.
        path: PathBuf,
    },
    /// The folder is open to other users and holds other things.
    #[error("{} is open to other users and is not a ClawChat folder", path.display())]
    Shared {
        /// The folder.
        path: PathBuf,
    },
    /// The system cannot bind a socket at a path this long.
    #[error("the socket path {} has {bytes} bytes; the system allows {MAX_SOCKET_PATH_BYTES}", path.display())]
    SocketPathTooLong {
        /// The socket path.
        path: PathBuf,
        /// Its length, in bytes.
        bytes: usize,
    },
    /// A file is larger than anything we would have written there.
    #[error("{} is larger than {max_bytes} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        max_bytes: u64,
    },
    /// A file that must hold text does not.
    #[error("{} is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}: {}", path.display(), reason(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl HomeError {
    pub(crate) fn io(path: &Path, doing: &'static str, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            doing,
            source,
        }
    }

    /// What the person at the keyboard can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::AlreadyRunning { .. } => "use it, or stop it with 'clawchat daemon stop'".to_owned(),
            Self::Busy { .. } => "wait for it to finish and try again".to_owned(),
            Self::NotOurs { .. } => "run as that user, or choose another folder with --data-dir".to_owned(),
            Self::NotADirectory { .. } => "choose a folder with --data-dir".to_owned(),
            Self::Shared { path } => format!(
                "choose a folder of its own, such as --data-dir {}",
                path.join("clawchat").display()
            ),
            Self::SocketPathTooLong { .. } => {
                "choose a folder with a shorter path with --data-dir".to_owned()
            }
            Self::TooLarge { .. } | Self::NotText { .. } => {
                "look at the file, and move it aside if it is not what it should be".to_owned()
            }
            Self::Io { path, source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                format!("check who owns {} and what its permissions are", path.display())
            }
            Self::Io { source, .. } => known(source)
                .map_or("see the reason above; nothing was changed", |(_, _, hint)| hint)
                .to_owned(),
        }
    }
}

/// What the system reports, in words, and what to do about it.
const KNOWN: [(io::ErrorKind, &str, &str); 5] = [
    (
        io::ErrorKind::PermissionDenied,
        "permission denied",
        "check its owner and permissions",
    ),
    (
        io::ErrorKind::ReadOnlyFilesystem,
        "the file system is read-only",
        "choose another folder with --data-dir, or mount it writable",
    ),
    (
        io::ErrorKind::StorageFull,
        "the disk is full",
        "free some space on that disk and try again; nothing was changed",
    ),
    (
        io::ErrorKind::QuotaExceeded,
        "the disk quota is used up",
        "free some space on that disk and try again; nothing was changed",
    ),
    (
        io::ErrorKind::NotFound,
        "no such file or folder",
        "check that the path is right",
    ),
];

fn known(error: &io::Error) -> Option<(io::ErrorKind, &'static str, &'static str)> {
    KNOWN.into_iter().find(|(kind, _, _)| *kind == error.kind())
}

fn reason(error: &io::Error) -> String {
    known(error).map_or_else(|| error.to_string(), |(_, words, _)| words.to_owned())
}
