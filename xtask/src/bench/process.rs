//! What can be seen of the programs from outside: how long they take, how much memory and disk they use.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clawchat_identity::keystore;

use super::limits::median;
use crate::gateways::{Gateway, Outcome, PASSWORD};

/// The unit of `st_blocks`, in bytes.
const BLOCK_BYTES: u64 = 512;

/// The unit of times in `/proc/PID/stat`: Linux shows hundredths of a second, whatever it counts in.
const TICK: Duration = Duration::from_millis(10);

/// How long a gateway takes to start, in milliseconds: medians.
pub(super) struct Ready {
    /// From the start of the process until it serves.
    pub(super) whole: f64,
    /// What unsealing the keys takes, measured in this process with the same code.
    pub(super) keys: f64,
    /// The difference between one and the other right before it. Below zero only when others disturb the machine.
    pub(super) beyond_keys: f64,
}

pub(super) fn ready_times(gateway: &mut Gateway, count: usize) -> Outcome<Ready> {
    let identity = gateway.home().join("identities").join(gateway.principal());
    let path = identity.join("identity.enc");
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let sealed = fs::read(&path).map_err(|error| failed(&error))?;
    let (mut whole, mut keys, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let begun = Instant::now();
        keystore::open(&sealed, PASSWORD).map_err(|error| failed(&error))?;
        let unsealing = millis(begun.elapsed());
        let begun = Instant::now();
        gateway.start()?;
        let starting = millis(begun.elapsed());
        gateway.stop()?;
        keys.push(unsealing);
        whole.push(starting);
        beyond.push(starting - unsealing);
    }
    let middle = |mut values: Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Ok(Ready {
        whole: middle(whole),
        keys: middle(keys),
        beyond_keys: middle(beyond),
    })
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// How long `clawchat send` takes from the first of two gateways to the second, in milliseconds; the median.
pub(super) fn send_times(clawchat: &Path, gateways: &[Gateway; 2], count: usize) -> Outcome<f64> {
    let [from, to] = gateways;
    let took = median(count, || {
        let status = Command::new(clawchat)
            .arg("--data-dir")
            .arg(from.home())
            .args(["send", to.name(), "how long does this take?"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .map_err(|error| format!("cannot run {}: {error}", clawchat.display()))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("clawchat send ended with {status}"))
        }
    })?;
    Ok(millis(took))
}

/// The memory a process has in use, in bytes, where the system tells.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The processor time two gateways have used, where the system tells.
pub(super) fn processor_time(gateways: &[Gateway; 2]) -> Option<Duration> {
    gateways.iter().map(|gateway| threads_time(gateway.pid()?)).sum()
}

/// The processor time a process has used, with threads that have ended, to a hundredth of a second, where the system
/// tells.
pub(super) fn whole_processor_time(pid: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields behind it are counted from the third.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(TICK * u32::try_from(user + system).ok()?)
}

fn threads_time(pid: u32) -> Option<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        // A thread may end in between.
        let Ok(text) = fs::read_to_string(thread.ok()?.path().join("schedstat")) else {
            continue;
        };
        let first: u64 = text.split(' ').next()?.parse().ok()?;
        nanos += first;
    }
    Some(Duration::from_nanos(nanos))
}

/// The bytes on disk the homes of two gateways take.
pub(super) fn disk_bytes(gateways: &[Gateway; 2]) -> Outcome<[u64; 2]> {
    let [first, second] = gateways;
    let of = |gateway: &Gateway| {
        blocks(&gateway.home()).map_err(|error| format!("{}: {error}", gateway.home().display()))
    };
    Ok([of(first)?, of(second)?])
}

fn blocks(folder: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let size = entry.metadata().and_then(|found| {
            if found.is_dir() {
                blocks(&entry.path())
            } else {
                Ok(found.blocks() * BLOCK_BYTES)
            }
        });
        sum += match size {
            // A gateway at work took it away since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            size => size?,
        };
    }
    Ok(sum)
}
