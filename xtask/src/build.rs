//! Running cargo, and finding what it built.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{TaskResult, say};

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// How the binaries are compiled.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// Quick to build.
    Dev,
    /// Quick to run.
    Release,
}

/// The folder given, or that of freshly built programs.
pub(crate) fn binaries_or(folder: Option<&Path>, profile: Profile) -> Result<PathBuf, String> {
    folder.map_or_else(|| binaries(profile), |folder| Ok(folder.to_owned()))
}

/// Builds `clawchatd` and `clawchat` and returns the folder that holds them.
pub(crate) fn binaries(profile: Profile) -> Result<PathBuf, String> {
    let mut arguments = vec![
        "build",
        "--locked",
        "--package",
        "clawchatd",
        "--package",
        "clawchat",
    ];
    if profile == Profile::Release {
        arguments.push("--release");
    }
    cargo(&arguments, &[])?;
    Ok(target_folder()?.join(if profile == Profile::Release {
        "release"
    } else {
        "debug"
    }))
}

/// Where everything goes that is made, not written.
pub(crate) fn target_folder() -> Result<PathBuf, String> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    Ok(metadata.target_directory.into_std_path_buf())
}

/// Runs cargo in the workspace, showing its output.
pub(crate) fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> TaskResult {
    say(&format!("$ cargo {}", arguments.join(" ")));
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root())
        .status()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo {} failed", arguments.join(" ")))
    }
}
