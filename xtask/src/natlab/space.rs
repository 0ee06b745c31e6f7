//! Network namespaces: made under names of this run, entered by threads, and gone with the value, whatever happens.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::gateways::Outcome;

/// What the names of all our namespaces start with; the process follows.
const PREFIX: &str = "clawlab-";
/// Where iproute2 keeps namespaces.
const NAMESPACES: &str = "/run/netns";
/// The programs it takes, and the Debian packages that have them.
const TOOLS: [(&str, &str); 3] = [("ip", "iproute2"), ("bridge", "iproute2"), ("nft", "nftables")];
/// Between two looks at something that is being waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The namespaces of this run. Dropping it removes them and ends what runs in them.
pub(super) struct Lab {
    prefix: String,
    worlds: AtomicUsize,
    interrupted: &'static AtomicBool,
    /// Names of what is there.
    made: Mutex<Vec<String>>,
}

/// Why there can be no lab here.
pub(super) enum Unfit {
    /// This machine, or this user, cannot do it.
    Missing(String),
    /// It should work and does not.
    Failed(String),
}

impl Lab {
    /// Checks that there can be one, and removes what a killed run left.
    pub(super) fn open(interrupted: &'static AtomicBool) -> Result<Self, Unfit> {
        for (tool, package) in TOOLS {
            let there = Command::new(tool)
                .arg("-V")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if there.is_err() {
                return Err(Unfit::Missing(format!(
                    "{tool} is not installed; the package {package} has it"
                )));
            }
        }
        if !is_root() {
            return Err(Unfit::Missing(
                "it takes root to make network namespaces".to_owned(),
            ));
        }
        remove_leftovers().map_err(Unfit::Failed)?;
        let lab = Self {
            prefix: format!("{PREFIX}{}-", std::process::id()),
            worlds: AtomicUsize::new(0),
            interrupted,
            made: Mutex::default(),
        };
        lab.try_out().map_err(Unfit::Missing)?;
        Ok(lab)
    }

    /// Whether the kernel has what the lab is made of.
    fn try_out(&self) -> Outcome {
        let [space] = self.spaces(&self.world(), ["try"])?;
        space.ip("link add br0 type bridge\n")?;
        space.ip("link add one type veth peer name two\n")?;
        space.nft(
            "table ip lab { chain out { type nat hook postrouting priority srcnat; masquerade fully-random; }; }\n\
             table bridge lab { chain cross { type filter hook forward priority filter; }; }\n",
        )
    }

    /// A prefix for the namespaces of another world.
    pub(super) fn world(&self) -> String {
        let number = self.worlds.fetch_add(1, Ordering::Relaxed);
        format!("{}{number}-", self.prefix)
    }

    /// New namespaces of a world, without IPv6 and without anything in them but loopback.
    pub(super) fn spaces<const N: usize>(&self, world: &str, names: [&str; N]) -> Outcome<[Space; N]> {
        names
            .iter()
            .map(|name| self.space(world, name))
            .collect::<Outcome<Vec<_>>>()?
            .try_into()
            .map_err(|_| "miscounted namespaces".to_owned())
    }

    /// One such.
    pub(super) fn space(&self, world: &str, name: &str) -> Outcome<Space> {
        self.check()?;
        let space = Space {
            name: format!("{world}{name}"),
        };
        if let Ok(mut made) = self.made.lock() {
            made.push(space.name.clone());
        }
        run(Command::new("ip").args(["netns", "add", &space.name]), "")?;
        space.run(|| {
            for setting in ["all/disable_ipv6", "default/disable_ipv6"] {
                set(&format!("ipv6/conf/{setting}"), "1")?;
            }
            for setting in ["all/rp_filter", "default/rp_filter"] {
                set(&format!("ipv4/conf/{setting}"), "0")?;
            }
            set("bridge/bridge-nf-call-iptables", "0")
        })?;
        space.ip("link set lo up\n")?;
        Ok(space)
    }

    /// Removes the namespaces of a world.
    pub(super) fn remove(&self, world: &str) {
        let names: Vec<String> = match self.made.lock() {
            Ok(mut made) => made.extract_if(.., |name| name.starts_with(world)).collect(),
            Err(_) => return,
        };
        for name in names {
            remove(&name);
        }
    }

    /// An error once somebody has interrupted this run.
    pub(super) fn check(&self) -> Outcome {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".to_owned());
        }
        Ok(())
    }

    /// Looks until `look` finds something, until the deadline.
    pub(super) fn until<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut() -> Outcome<Option<T>>,
    ) -> Outcome<Option<T>> {
        loop {
            self.check()?;
            if let Some(found) = look()? {
                return Ok(Some(found));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.remove(&self.prefix);
    }
}

/// One namespace: a machine of its own as far as the network is concerned.
#[derive(Clone)]
pub(super) struct Space {
    name: String,
}

impl Space {
    /// What `ip netns` calls it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Does something in it: sockets made and programs started in `work` belong to it from then on.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
        let path = Path::new(NAMESPACES).join(&self.name);
        let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        // Only the thread is moved, and it ends with the work.
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&file).map_err(|error| format!("cannot enter {}: {error}", self.name))?;
                work()
            });
            thread
                .join()
                .map_err(|_| format!("something in {} panicked", self.name))?
        })
    }

    /// Commands of `ip`, one a line.
    pub(super) fn ip(&self, commands: &str) -> Outcome {
        run(
            Command::new("ip").args(["-n", &self.name, "-batch", "-"]),
            commands,
        )
        .map(drop)
    }

    /// Commands of `nft`, all of them or none.
    pub(super) fn nft(&self, commands: &str) -> Outcome {
        self.run(|| run(Command::new("nft").args(["-f", "-"]), commands).map(drop))
    }

    /// What `nft` answers, as JSON.
    pub(super) fn ask_nft(&self, arguments: &[&str]) -> Outcome<serde_json::Value> {
        let answer = self.run(|| run(Command::new("nft").arg("-j").args(arguments), ""))?;
        serde_json::from_str(&answer).map_err(|error| format!("nft printed {answer:?}: {error}"))
    }

    /// Sends on what is not for itself.
    pub(super) fn forward(&self) -> Outcome {
        self.run(|| set("ipv4/ip_forward", "1"))
    }
}

#[cfg(target_os = "linux")]
fn enter(namespace: &File) -> Outcome {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| error.to_string())
}

#[cfg(not(target_os = "linux"))]
fn enter(_namespace: &File) -> Outcome {
    Err("only Linux has network namespaces".to_owned())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // Owned by whoever looks.
    cfg!(target_os = "linux") && fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A network setting of the namespace this thread is in. One that this kernel does not have needs no setting.
fn set(setting: &str, value: &str) -> Outcome {
    let path = Path::new("/proc/sys/net").join(setting);
    match fs::write(&path, value) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", path.display()))
        }
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Removes the namespaces of runs that are over.
fn remove_leftovers() -> Outcome {
    let entries = match fs::read_dir(NAMESPACES) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{NAMESPACES}: {error}")),
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if owner(&name).is_some_and(|pid| !is_a_run(pid)) {
            remove(&name);
        }
    }
    Ok(())
}

/// The process that made a namespace of that name, if it is one of a lab.
fn owner(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

/// Whether that process is another run, and not somebody who got its number later.
fn is_a_run(pid: u32) -> bool {
    let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    pid != std::process::id() && name(&pid.to_string()).is_some_and(|theirs| name("self") == Some(theirs))
}

/// Ends what runs in a namespace and removes it. What is gone already is gone.
fn remove(name: &str) {
    let running = run(Command::new("ip").args(["netns", "pids", name]), "").unwrap_or_default();
    for pid in running
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .filter_map(rustix::process::Pid::from_raw)
    {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let _ = run(Command::new("ip").args(["netns", "delete", name]), "");
}

/// Runs a program to its end; what it printed, or what it complained about.
fn run(command: &mut Command, input: &str) -> Outcome<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| format!("cannot run {program}: {error}");
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Dropped at once, so that the program sees the end. One that has ended says itself why.
    if let Some(mut stdin) = process.stdin.take() {
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = process.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let arguments: Vec<_> = command.get_args().map(|text| text.to_string_lossy()).collect();
    Err(format!(
        "{program} {}: {}\n{input}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_whose_they_are() {
        assert_eq!(owner("clawlab-123-0-net"), Some(123));
        for other in ["clawlab-123", "clawlab--net", "clawlab-x-net", "home-123-0", ""] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn a_process_that_is_gone_or_something_else_is_no_run() {
        assert!(!is_a_run(1));
        assert!(!is_a_run(u32::MAX));
        assert!(!is_a_run(std::process::id()));
    }
}
