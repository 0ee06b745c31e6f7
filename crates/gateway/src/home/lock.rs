//! The lock of a home folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use super::{FILE_MODE, Home, HomeError, files};

/// The file the lock is taken on. Its content says who holds it; the lock itself is the system's.
pub(super) const LOCK: &str = "home.lock";
/// How long a command waits for another one to finish with the home.
const WAIT_LIMIT: Duration = Duration::from_secs(5);
/// How often it looks. The system offers no lock with a deadline.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Largest pid or lock file read, in bytes.
const MAX_PID_FILE_BYTES: u64 = 64;

/// What a home is locked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A daemon, for its whole life. Others are told so at once.
    Daemon,
    /// One short request. Others wait for it.
    Request,
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Request => "request",
        }
    }
}

/// Proof that this process owns the home. Functions that change files in it ask for it.
#[derive(Debug)]
pub struct HomeLock {
    home: Home,
    file: File,
    created_root: bool,
}

impl HomeLock {
    pub(super) fn acquire(home: &Home, purpose: Purpose) -> Result<Self, HomeError> {
        let deadline = Instant::now() + WAIT_LIMIT;
        let mut seen_daemon = false;
        let mut created_root = false;
        loop {
            created_root |= home.prepare()?;
            if let Some(file) = try_lock(home)? {
                let mut lock = Self {
                    home: home.clone(),
                    file,
                    created_root,
                };
                lock.sign(purpose);
                files::remove_leftovers(home);
                return Ok(lock);
            }
            let (pid, by_daemon) = holder(home);
            // Whoever has just taken the lock may not have signed yet: believe only the second look.
            if by_daemon && seen_daemon {
                return Err(HomeError::AlreadyRunning {
                    path: home.root().to_owned(),
                    pid: pid.or_else(|| home.recorded_pid()),
                });
            }
            seen_daemon = by_daemon;
            if Instant::now() >= deadline {
                return Err(HomeError::Busy {
                    path: home.root().to_owned(),
                    pid,
                });
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// The home that is locked.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Writes `daemon.pid` with this process's id; the file is removed when the returned value is dropped.
    ///
    /// # Errors
    /// The IO error of writing it.
    pub fn write_pid(&self) -> Result<PidFile, HomeError> {
        let path = self.home.pid_path();
        files::write_atomic(&path, process::id().to_string().as_bytes())?;
        Ok(PidFile { path })
    }

    /// Undoes [`Home::prepare`] after a failed first setup: removes the lock file and the folder, if this
    /// lock created the folder and nothing else is in it.
    pub(crate) fn abandon(self) {
        if !self.created_root {
            return;
        }
        let root = self.home.root();
        let only_the_lock =
            fs::read_dir(root).is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name() == LOCK));
        if only_the_lock {
            // A waiter that gets the lock of the removed file notices and starts again.
            let _ = fs::remove_file(root.join(LOCK));
            let _ = fs::remove_dir(root);
        }
    }

    /// Notes who holds the lock. Only for others to read: on a full disk the home can still be looked at.
    fn sign(&mut self, purpose: Purpose) {
        let line = format!("{} {}\n", process::id(), purpose.word());
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        // Over the old line first: that needs no new block.
        let _ = self
            .file
            .rewind()
            .and_then(|()| self.file.write_all(line.as_bytes()))
            .and_then(|()| self.file.set_len(length));
    }
}

/// `daemon.pid` while its daemon lives.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A file that is gone already is what we want.
        let _ = fs::remove_file(&self.path);
    }
}

pub(super) fn read_pid(path: &Path) -> Option<u32> {
    let text = files::read_text_bounded(path, MAX_PID_FILE_BYTES).ok()??;
    text.split_whitespace().next()?.parse().ok()
}

fn holder(home: &Home) -> (Option<u32>, bool) {
    let path = home.root().join(LOCK);
    let text = files::read_text_bounded(&path, MAX_PID_FILE_BYTES)
        .ok()
        .flatten()
        .unwrap_or_default();
    let mut words = text.split_whitespace();
    let pid = words.next().and_then(|pid| pid.parse().ok());
    (pid, words.next() == Some(Purpose::Daemon.word()))
}

/// The locked file, or `None` when somebody else holds the lock or has just replaced the file.
fn try_lock(home: &Home) -> Result<Option<File>, HomeError> {
    let path = home.root().join(LOCK);
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(&path);
    let file = match open {
        Ok(file) => file,
        // The folder was removed under us by a setup that failed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(HomeError::io(&path, "open", error)),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(HomeError::io(&path, "lock", error)),
    }
    let same = match (file.metadata(), fs::metadata(&path)) {
        (Ok(held), Ok(named)) => held.ino() == named.ino() && held.dev() == named.dev(),
        _ => false,
    };
    Ok(same.then_some(file))
}
