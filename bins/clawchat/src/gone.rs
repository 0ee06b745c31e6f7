//! Waiting until a daemon's process is gone.

use std::fs::{File, TryLockError};
use std::io::Read as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// The file a daemon keeps locked as long as it lives.
const LOCK: &str = "home.lock";
/// The file with its process id.
const PID: &str = "daemon.pid";
/// Most that is read of it, in bytes.
const MAX_PID_BYTES: u64 = 64;
/// How often the lock is looked at, where the system cannot tell when a process ends.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A daemon that is to end.
#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    home: &'a Path,
    pid: Option<Pid>,
}

impl<'a> Leaving<'a> {
    /// The daemon of this home, as it is now. Ask before telling it to stop.
    pub(crate) fn of(home: &'a Path) -> Self {
        let mut text = String::new();
        // Without a readable file there is no process to watch, only the lock.
        let _ =
            File::open(home.join(PID)).and_then(|file| file.take(MAX_PID_BYTES).read_to_string(&mut text));
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        Self { home, pid }
    }

    /// Whether its home is still taken, by it or a successor.
    pub(crate) fn holds_home(&self) -> bool {
        let Ok(file) = File::open(self.home.join(LOCK)) else {
            return false;
        };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Waits until its process has ended; whether it did within `limit`.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        // A process id is given anew: only that of the lock's holder is surely the daemon's.
        if self.holds_home()
            && let Some(ended) = self.pid.and_then(|pid| process_ended(pid, limit))
        {
            return ended;
        }
        while self.holds_home() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(LOOK_EVERY);
        }
        true
    }
}

/// Whether the process ended within `limit`; `None` where the system cannot tell.
#[cfg(target_os = "linux")]
pub(crate) fn process_ended(pid: Pid, limit: Duration) -> Option<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{PidfdFlags, pidfd_open};

    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Some(true),
        Err(_) => return None,
    };
    let limit = Timespec::try_from(limit).ok()?;
    let mut waiting = [PollFd::new(&process, PollFlags::IN)];
    poll(&mut waiting, Some(&limit)).ok().map(|ready| ready > 0)
}

/// Whether the process ended within `limit`; `None` where the system cannot tell.
#[cfg(not(target_os = "linux"))]
pub(crate) const fn process_ended(_: Pid, _: Duration) -> Option<bool> {
    None
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn an_ended_process_is_noticed_even_before_its_parent_asks() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        assert_ne!(process_ended(pid, Duration::from_millis(20)), Some(true));
        drop(child.stdin.take());
        assert_ne!(process_ended(pid, Duration::from_secs(10)), Some(false));
        child.wait().unwrap();
    }

    #[test]
    fn a_home_is_taken_while_its_lock_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let leaving = Leaving::of(folder.path());
        assert!(!leaving.holds_home());
        let lock = File::create(folder.path().join(LOCK)).unwrap();
        lock.lock().unwrap();
        assert!(leaving.holds_home());
        assert!(!leaving.wait(Duration::from_millis(20)));
        drop(lock);
        assert!(leaving.wait(Duration::from_secs(10)));
    }
}
