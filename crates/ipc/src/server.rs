//! The listening side: a socket only its owner can use.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::codec::Answer;
use crate::connection::{self, Channel};
use crate::failure::{ErrorCode, Failure};
use crate::handler::{Caller, Handler};

/// Connections served at once; the next one gets one error line (`busy`) and is closed.
pub const MAX_CONNECTIONS: usize = 128;
/// How long running requests may take when the server is asked to stop.
pub const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Pause after a failed accept, such as when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest socket path, in bytes: the system's limit less the closing zero.
const MAX_PATH_BYTES: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A bound socket. Dropping it removes the socket file, unless another one took its place.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    file: SocketFile,
}

impl Server {
    /// Binds the socket `path`, mode 0600, creating its folder with mode 0700 if it is missing. A socket left
    /// behind by a daemon that is gone is replaced. Must be called inside a tokio runtime.
    ///
    /// Two daemons starting at the same moment are kept apart by the lock on the home folder, not here.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, BindError> {
        let path = path.as_ref();
        let failed = |source| BindError::Io {
            path: path.to_owned(),
            source,
        };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        if path.as_os_str().len() > MAX_PATH_BYTES {
            return Err(BindError::PathTooLong {
                path: path.to_owned(),
            });
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed)?;
        check_replaceable(path)?;
        let listener = bind_privately(folder, path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let file = SocketFile::of(path).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self { listener, file })
    }

    /// Where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Answers requests until `stop` completes. Then no connection and no request is taken any more; requests that
    /// [wait](crate::Request::waits) and streams end at once, the others have [`CLOSE_LIMIT`] to finish and be
    /// written. The socket file is gone when this returns.
    pub async fn serve<H: Handler>(self, handler: H, stop: impl Future<Output = ()>) {
        let Self { listener, file } = self;
        let handler = Arc::new(handler);
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(ended) = connections.join_next() => report(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => match admit(&stream, connections.len(), file.uid) {
                        Ok(caller) => {
                            connections.spawn(connection::serve(stream, caller, Arc::clone(&handler), stopped.clone()));
                        }
                        Err(failure) => turn_away(&stream, failure),
                    },
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a local connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        drop(file);
        stopping.send_replace(true);
        let all_done = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        if timeout(CLOSE_LIMIT, all_done).await.is_err() {
            tracing::warn!("local requests were cut off because they took too long to finish");
            connections.shutdown().await;
        }
    }
}

/// Why a socket cannot be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody answers there.
    #[error("a daemon is running already: {} answers", path.display())]
    AlreadyRunning {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket is in the way. It was left alone.
    #[error("{} is in the way and is not a socket; move it away", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The path does not fit into a socket address.
    #[error("the path {} is too long for a socket (at most {MAX_PATH_BYTES} bytes); use a shorter data folder", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The folder cannot be created or written to.
    #[error("cannot listen on {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn check_replaceable(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Io {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(BindError::AlreadyRunning {
            path: path.to_owned(),
        }),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(failed(error)),
    }
}

/// Binds inside a fresh folder nobody else can enter and moves the socket to its place once its mode is right:
/// there is no moment in which somebody else could connect.
fn bind_privately(folder: &Path, path: &Path) -> io::Result<StdUnixListener> {
    // Shorter than any socket name in use, because the length of the path is limited.
    let private = folder.join(format!(".s{}", std::process::id()));
    match fs::remove_dir_all(&private) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    DirBuilder::new().mode(0o700).create(&private)?;
    let bound = || {
        let socket = private.join("s");
        let listener = StdUnixListener::bind(&socket)?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
        fs::rename(&socket, path)?;
        Ok(listener)
    };
    let bound = bound();
    let removed = fs::remove_dir_all(&private);
    bound.and_then(|listener| removed.map(|()| listener))
}

/// The socket file, known by its inode so that only our own is ever removed.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
    /// Who we are: the owner of what we just created.
    uid: u32,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            inode: (found.dev(), found.ino()),
            uid: found.uid(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// Whether a process of user `caller` may use the socket of user `owner`: the owner, and root, who may anything.
fn may_connect(owner: u32, caller: u32) -> bool {
    caller == owner || caller == 0
}

fn admit(stream: &UnixStream, open: usize, owner: u32) -> Result<Caller, Failure> {
    let credentials = stream.peer_cred().map_err(|error| {
        Failure::new(
            ErrorCode::NotAllowed,
            format!("cannot tell who is calling: {error}"),
        )
    })?;
    let caller = Caller {
        uid: credentials.uid(),
        pid: credentials.pid(),
    };
    if !may_connect(owner, caller.uid) {
        tracing::warn!(caller.uid, "refused a local connection of another user");
        return Err(Failure::new(
            ErrorCode::NotAllowed,
            "this daemon belongs to another user",
        ));
    }
    if open >= MAX_CONNECTIONS {
        let message = format!("{MAX_CONNECTIONS} connections are open, which is the limit");
        return Err(
            Failure::new(ErrorCode::Busy, message).with_hint("close one, or send several requests over one")
        );
    }
    Ok(caller)
}

/// One line into the empty buffer of a fresh socket: it fits or the caller is gone.
fn turn_away(stream: &UnixStream, failure: Failure) {
    let mut line = Vec::new();
    let answer = Answer {
        id: None,
        result: Err(failure),
    };
    answer.append_line(&mut line);
    if let Err(error) = stream.try_write(&line) {
        tracing::debug!(%error, "a refused caller did not wait for the reason");
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a local connection ended by a panic");
    }
}

impl Channel for UnixStream {
    fn is_gone(&self) -> bool {
        let mut sockets = [PollFd::new(self, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut sockets, Some(&now)).is_ok()
            && sockets
                .iter()
                .any(|socket| socket.revents().intersects(PollFlags::HUP | PollFlags::ERR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_and_root_may_connect() {
        assert!(may_connect(1000, 1000));
        assert!(may_connect(1000, 0));
        assert!(may_connect(0, 0));
        assert!(!may_connect(1000, 1001));
        assert!(!may_connect(0, 1000));
    }
}
