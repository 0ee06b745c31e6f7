//! The gateway as a service of the user: what its unit says, where it lies, and the manager that runs it.
//!
//! A unit carries the facts it was written from in a comment, so that a later run can tell a unit of its own from
//! one that was changed by hand, without reading unit files as their managers do.

mod facts;
mod launchd;
mod place;
mod preconditions;
mod systemd;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Outcome};

pub(crate) use crate::service::facts::Facts;
pub(crate) use crate::service::place::{Folders, name_for};
pub(crate) use crate::service::preconditions::{check, facts_for, program_path};

/// Largest unit file that is read, in bytes. Ours have about 4,000.
const MAX_UNIT_BYTES: u64 = 256 * 1024;

/// Who runs services of a user here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Platform {
    /// A systemd user unit
    Systemd,
    /// A launchd agent (macOS)
    Launchd,
}

/// One service: its unit file and its name for the manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Who runs it.
    pub(crate) platform: Platform,
    /// Its name, without `.service`; launchd's label is made from it.
    pub(crate) name: String,
    /// Its unit file.
    pub(crate) path: PathBuf,
}

/// What the manager says about a service. `None`: it could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Condition {
    /// Whether it starts at login.
    pub(crate) enabled: Option<bool>,
    /// Whether its process runs.
    pub(crate) active: Option<bool>,
    /// Whether the manager has given up on it.
    pub(crate) failed: bool,
}

/// A command of the manager that did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The command as typed.
    pub(crate) command: String,
    /// What it said.
    pub(crate) reason: String,
    /// Whether there is no manager to ask, rather than one that refuses.
    pub(crate) unreachable: bool,
}

impl Platform {
    /// The one of this system.
    pub(crate) const fn here() -> Self {
        if cfg!(target_os = "macos") {
            Self::Launchd
        } else {
            Self::Systemd
        }
    }

    /// As it stands in answers.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Launchd => "launchd",
        }
    }

    /// The unit's text.
    ///
    /// # Errors
    /// When the manager cannot run a program of that path.
    pub(crate) fn unit_text(self, facts: &Facts) -> Outcome<String> {
        match self {
            Self::Systemd => systemd::unit_text(facts),
            Self::Launchd => Ok(launchd::unit_text(facts)),
        }
    }
}

impl Unit {
    /// What the unit file holds; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(&self) -> Outcome<Option<String>> {
        let failed = |error: io::Error| Failure::file("read", &self.path, &error);
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_UNIT_BYTES)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        // What is no text or longer is somebody else's, and only compared.
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Puts the unit file in its place, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, text: &str) -> Outcome {
        let failed = |error: io::Error| Failure::file("write", &self.path, &error);
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(failed)?;
        let mut file = tempfile::Builder::new()
            .prefix(".clawchat-")
            .tempfile_in(folder)
            .map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Takes the unit file away, and what enabling it left behind.
    ///
    /// # Errors
    /// When the file stays.
    pub(crate) fn remove(&self) -> Outcome {
        if self.platform == Platform::Systemd
            && let Some(link) = systemd::enabled_link(self)
        {
            // Mostly gone already: the manager removes it when it can be asked.
            let _ = fs::remove_file(link);
        }
        fs::remove_file(&self.path).map_err(|error| Failure::file("remove", &self.path, &error))
    }

    /// What the manager says.
    pub(crate) fn condition(&self) -> Condition {
        match self.platform {
            Platform::Systemd => systemd::condition(self),
            Platform::Launchd => launchd::condition(self),
        }
    }

    /// Has the manager read the unit, start it now and at every login. `changed`: it is not the one that runs.
    ///
    /// # Errors
    /// The first command that did not work.
    pub(crate) fn enable(&self, changed: bool) -> Result<(), Refusal> {
        match self.platform {
            Platform::Systemd => systemd::enable(self, changed),
            Platform::Launchd => launchd::enable(self, changed),
        }
    }

    /// Has the manager stop it, and not start it again.
    ///
    /// # Errors
    /// The command that did not work.
    pub(crate) fn disable(&self) -> Result<(), Refusal> {
        match self.platform {
            Platform::Systemd => systemd::disable(self),
            Platform::Launchd => launchd::disable(self),
        }
    }

    /// Tells the manager that the unit file has gone.
    pub(crate) fn forget(&self) {
        match self.platform {
            Platform::Systemd => systemd::forget(self),
            // It was forgotten when it was stopped.
            Platform::Launchd => (),
        }
    }

    /// What a person types to enable it.
    pub(crate) fn enabling_command(&self) -> String {
        match self.platform {
            Platform::Systemd => systemd::enabling_command(self),
            Platform::Launchd => launchd::enabling_command(self),
        }
    }

    /// What a person types to read the daemon's log.
    pub(crate) fn log_command(&self, home: &str) -> String {
        match self.platform {
            Platform::Systemd => format!("journalctl --user -u {} -e", self.name),
            Platform::Launchd => format!("tail {}", launchd::log_path(home)),
        }
    }
}

/// Runs a command of the manager.
///
/// # Errors
/// When it cannot be run, or ends with another status than 0.
fn run(program: &str, arguments: &[&str]) -> Result<String, Refusal> {
    let command = format!("{program} {}", arguments.join(" "));
    let output = match Command::new(program).args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            return Err(Refusal {
                command,
                reason: error.to_string(),
                unreachable: true,
            });
        }
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(Refusal {
        command,
        reason: if said.is_empty() {
            output.status.to_string()
        } else {
            said
        },
        unreachable: false,
    })
}

#[cfg(test)]
mod tests;
