//! The peers that other programs are played by, of ClawChat 1.0 and of the mesh: Node, and the packages they need.

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

/// What is to be installed.
struct Source {
    /// Its folder beside this program's sources.
    name: &'static str,
    /// What it is, for people.
    title: &'static str,
    /// What its packages take.
    size: &'static str,
}

const CLAWCHAT_PEER: Source = Source {
    name: "clawchat-peer",
    title: "the ClawChat 1.0 peer",
    size: "75 MB",
};
const MESH_PEER: Source = Source {
    name: "mesh-peer",
    title: "the mesh peer",
    size: "0.2 MB",
};

/// The peers, ready to run.
pub(crate) struct Installed {
    clawchat: PathBuf,
    mesh: PathBuf,
}

/// Why a peer cannot be run.
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
    /// The command that runs the ClawChat 1.0 peer, without arguments of its own.
    pub(crate) fn command(&self) -> Command {
        node(&self.clawchat)
    }

    /// The command that runs the mesh peer, without arguments of its own.
    pub(crate) fn mesh_command(&self) -> Command {
        node(&self.mesh)
    }
}

fn node(folder: &Path) -> Command {
    let mut command = Command::new("node");
    command.arg(folder.join("peer.mjs"));
    command
}

/// Installs the peers' packages under the target folder, once for every lockfile: later runs need no network.
pub(crate) fn install() -> Result<Installed, NotInstalled> {
    check_node()?;
    version_of("npm")?;
    Ok(Installed {
        clawchat: install_one(&CLAWCHAT_PEER)?,
        mesh: install_one(&MESH_PEER)?,
    })
}

fn install_one(what: &Source) -> Result<PathBuf, NotInstalled> {
    let source = build::root().join("xtask/interop").join(what.name);
    let lockfile = fs::read(source.join(LOCKFILE)).map_err(|error| failed(&source.join(LOCKFILE), &error))?;
    let shelf = build::target_folder()
        .map_err(NotInstalled::Failed)?
        .join("interop");
    let folder = shelf.join(name_of(what, &lockfile));
    if !folder.is_dir() {
        // Whole or not at all: another run may be installing the same.
        let draft = shelf.join(format!("{}.{}", name_of(what, &lockfile), std::process::id()));
        copy(&source, &draft)?;
        let installed = npm_ci(what, &draft).and_then(|()| {
            fs::rename(&draft, &folder)
                .or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error) })
                .map_err(|error| failed(&folder, &error))
        });
        // Still there only when something went wrong, or the other run was quicker.
        let _ = fs::remove_dir_all(&draft);
        installed?;
    }
    copy(&source, &folder)?;
    Ok(folder)
}

fn check_node() -> Result<(), NotInstalled> {
    let version = version_of("node")?;
    let major = version.trim_start_matches('v').split('.').next();
    match major.and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major >= OLDEST_NODE => Ok(()),
        _ => Err(NotInstalled::Missing(format!(
            "the peers need Node {OLDEST_NODE} or later, and node is {version}"
        ))),
    }
}

fn version_of(program: &str) -> Result<String, NotInstalled> {
    let missing = |reason: &dyn fmt::Display| {
        NotInstalled::Missing(format!(
            "{program} cannot be run ({reason}); the peers need Node {OLDEST_NODE} or later with npm"
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
fn name_of(what: &Source, lockfile: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    lockfile.hash(&mut hasher);
    format!("{}-{:016x}", what.name, hasher.finish())
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

fn npm_ci(what: &Source, folder: &Path) -> Result<(), NotInstalled> {
    let Source { title, size, .. } = what;
    say(&format!(
        "$ npm ci --ignore-scripts (the packages of {title}, {size}, once)"
    ));
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
        return Err(NotInstalled::Missing(format!(
            "npm cannot reach its registry for the packages of {title}"
        )));
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
        let name = |lockfile: &[u8]| name_of(&CLAWCHAT_PEER, lockfile);
        assert_eq!(name(b"one"), name(b"one"));
        assert_ne!(name(b"one"), name(b"two"));
        assert_ne!(name(b"one"), name_of(&MESH_PEER, b"one"));
    }

    #[test]
    fn the_sources_of_the_peers_are_complete() {
        for what in [&CLAWCHAT_PEER, &MESH_PEER] {
            let source = build::root().join("xtask/interop").join(what.name);
            for name in FILES {
                assert!(source.join(name).is_file(), "{} {name}", what.name);
            }
        }
    }
}
