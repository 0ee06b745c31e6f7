//! The ClawChat 1.0 peer that other gateways are played by: Node, and the packages it needs.

use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{build, say};

/// The files of the peer, beside its installed packages.
const FILES: [&str; 3] = ["package.json", "package-lock.json", "peer.mjs"];
/// The one that says which packages are installed.
const LOCKFILE: &str = "package-lock.json";
/// The oldest Node the peer's packages run on.
const OLDEST_NODE: u32 = 20;
/// What npm's complaints contain when the registry cannot be reached.
const OFFLINE: [&str; 8] = [
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ENETUNREACH",
    "EHOSTUNREACH",
    "ETIMEDOUT",
    "ENOTCACHED",
];

/// The peer, ready to run.
pub(crate) struct Installed {
    folder: PathBuf,
}

/// Why the peer cannot be run.
#[derive(Debug)]
pub(crate) enum NotInstalled {
    /// Something this machine lacks: Node, npm, or a way to the registry. One sentence.
    Missing(String),
    /// Anything else. One sentence.
    Failed(String),
}

impl fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(reason) | Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl Installed {
    /// The command that runs the peer, without arguments of its own.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("node");
        command.arg(self.folder.join("peer.mjs"));
        command
    }
}

/// Installs the peer's packages under the target folder, once for every lockfile: later runs need no network.
pub(crate) fn install() -> Result<Installed, NotInstalled> {
    check_node()?;
    version_of("npm")?;
    let source = build::root().join("xtask/interop/clawchat-peer");
    let lockfile = fs::read(source.join(LOCKFILE)).map_err(|error| failed(&source.join(LOCKFILE), &error))?;
    let shelf = build::target_folder()
        .map_err(NotInstalled::Failed)?
        .join("interop");
    let folder = shelf.join(name_of(&lockfile));
    if !folder.is_dir() {
        // Whole or not at all: another run may be installing the same.
        let draft = shelf.join(format!("{}.{}", name_of(&lockfile), std::process::id()));
        copy(&source, &draft)?;
        let installed = npm_ci(&draft).and_then(|()| {
            fs::rename(&draft, &folder)
                .or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error) })
                .map_err(|error| failed(&folder, &error))
        });
        // Still there only when something went wrong, or the other run was quicker.
        let _ = fs::remove_dir_all(&draft);
        installed?;
    }
    copy(&source, &folder)?;
    Ok(Installed { folder })
}

fn check_node() -> Result<(), NotInstalled> {
    let version = version_of("node")?;
    let major = version.trim_start_matches('v').split('.').next();
    match major.and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major >= OLDEST_NODE => Ok(()),
        _ => Err(NotInstalled::Missing(format!(
            "the ClawChat 1.0 peer needs Node {OLDEST_NODE} or later, and node is {version}"
        ))),
    }
}

fn version_of(program: &str) -> Result<String, NotInstalled> {
    let missing = |reason: &dyn fmt::Display| {
        NotInstalled::Missing(format!(
            "{program} cannot be run ({reason}); the ClawChat 1.0 peer needs Node {OLDEST_NODE} or later with npm"
        ))
    };
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| missing(&error))?;
    if !output.status.success() {
        return Err(missing(&output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A name for what is installed from this lockfile.
fn name_of(lockfile: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    lockfile.hash(&mut hasher);
    format!("clawchat-peer-{:016x}", hasher.finish())
}

fn copy(source: &Path, target: &Path) -> Result<(), NotInstalled> {
    fs::create_dir_all(target).map_err(|error| failed(target, &error))?;
    for name in FILES {
        let (from, to) = (source.join(name), target.join(name));
        let text = fs::read(&from).map_err(|error| failed(&from, &error))?;
        // A peer that runs at the moment may be reading it.
        if fs::read(&to).is_ok_and(|present| present == text) {
            continue;
        }
        fs::write(&to, text).map_err(|error| failed(&to, &error))?;
    }
    Ok(())
}

fn npm_ci(folder: &Path) -> Result<(), NotInstalled> {
    say("$ npm ci --ignore-scripts (the packages of the ClawChat 1.0 peer, 75 MB, once)");
    let output = Command::new("npm")
        .args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefer-offline",
            // A machine that cannot reach the registry is to say so soon.
            "--fetch-retries=1",
            "--fetch-timeout=60000",
        ])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| NotInstalled::Failed(format!("cannot run npm: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    if OFFLINE.iter().any(|code| complaint.contains(code)) {
        return Err(NotInstalled::Missing(
            "npm cannot reach its registry for the packages of the ClawChat 1.0 peer".to_owned(),
        ));
    }
    Err(NotInstalled::Failed(format!(
        "npm ci ended with {}:\n{complaint}",
        output.status
    )))
}

fn failed(path: &Path, error: &std::io::Error) -> NotInstalled {
    NotInstalled::Failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_lockfile_is_another_folder() {
        assert_eq!(name_of(b"one"), name_of(b"one"));
        assert_ne!(name_of(b"one"), name_of(b"two"));
    }

    #[test]
    fn the_source_of_the_peer_is_complete() {
        let source = build::root().join("xtask/interop/clawchat-peer");
        for name in FILES {
            assert!(source.join(name).is_file(), "{name}");
        }
    }
}
