//! What must be so before a unit is written: a gateway to serve, a password it can read, paths a unit can name.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{self, Component, Path, PathBuf};

use clawchat_ipc::ErrorCode;

use super::Facts;
use crate::failure::{Failure, Outcome};
use crate::password::{self, PasswordSource};
use crate::program;
use crate::settings::Settings;

/// `PATH` when nothing of the shell's can be used.
const DEFAULT_SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Most that is kept of the shell's `PATH`, in bytes.
const MAX_SEARCH_PATH_BYTES: usize = 4096;
/// Permissions of everybody but the owner.
const OTHERS: u32 = 0o077;
/// Permission of everybody to write.
const ALL_WRITE: u32 = 0o002;

/// What the unit of this gateway is written from.
///
/// # Errors
/// When there is no `clawchatd`, the password is given in a way a service cannot use, or a unit cannot name a path.
pub(crate) fn facts_for(settings: &Settings, name: &str) -> Outcome<Facts> {
    let password_file = match &settings.password {
        PasswordSource::Ask => None,
        PasswordSource::File(file) if file != Path::new("-") => Some(absolute(file)?),
        PasswordSource::File(_) | PasswordSource::Given(_) => {
            return Err(Failure::usage(
                "a service reads its password from a file, at every start",
                "put it into a file only you can read (chmod 600) and use --password-file FILE",
            ));
        }
    };
    Ok(Facts {
        name: name.to_owned(),
        program: program_path()?,
        home: text(&settled(&settings.home))?,
        password_file: password_file.as_deref().map(text).transpose()?,
        search_path: search_path(env::var_os("PATH").as_deref()),
    })
}

/// The path of `clawchatd` as units name it.
///
/// # Errors
/// When there is none, or no unit can name it.
pub(crate) fn program_path() -> Outcome<String> {
    text(&absolute(&program::find()?)?)
}

/// Whether a service could serve this gateway. `kept`: every identity keeps its own password.
///
/// # Errors
/// What is missing.
pub(crate) fn check(facts: &Facts, kept: bool) -> Outcome {
    let config = Path::new(&facts.home).join("gateway-config.json");
    if !config.is_file() {
        let message = format!("there is no gateway in {}", facts.home);
        return Err(Failure::new(ErrorCode::NotInitialized, message)
            .hint("create one with: clawchat up; or name another --data-dir"));
    }
    match &facts.password_file {
        Some(file) => check_password_file(Path::new(file)),
        None if kept => Ok(()),
        None => Err(Failure::new(
            ErrorCode::PasswordRequired,
            "a service cannot ask for a password, and not every identity here keeps its own",
        )
        .hint("put it into a file only you can read (chmod 600) and use --password-file FILE")),
    }
}

fn check_password_file(file: &Path) -> Outcome {
    let found = fs::metadata(file).map_err(|error| Failure::file("read", file, &error))?;
    if !found.is_file() {
        let message = format!("{} is not a file", file.display());
        return Err(Failure::new(ErrorCode::Failed, message)
            .hint("the service reads it at every start: name a file that stays"));
    }
    let mode = found.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        let message = format!(
            "other users of this machine can get at the password in {} (its mode is {mode:04o})",
            file.display()
        );
        return Err(Failure::new(ErrorCode::NotAllowed, message)
            .named("password_file_open")
            .hint(format!("chmod 600 '{}'", file.display())));
    }
    // Only whether there is one: the daemon reads it itself.
    password::from_file(file).map(drop)
}

fn absolute(path: &Path) -> Outcome<PathBuf> {
    path::absolute(path)
        .map(|path| settled(&path))
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display()), "name another file"))
}

/// The same without `..`, whose meaning may change. Links stay: they are how upgrades and operators move things.
fn settled(path: &Path) -> PathBuf {
    if path.components().any(|part| part == Component::ParentDir) {
        fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
    } else {
        path.to_owned()
    }
}

/// A path as units can name it.
fn text(path: &Path) -> Outcome<String> {
    path.to_str()
        .filter(|path| nameable(path))
        .map(str::to_owned)
        .ok_or_else(|| {
            let message = format!("no service can be told the path {path:?}");
            Failure::new(ErrorCode::Failed, message)
                .hint("use a path in UTF-8 and without control characters")
        })
}

/// Whether unit files and property lists can hold this text.
fn nameable(text: &str) -> bool {
    !text.contains(|letter: char| letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}'))
}

/// What of a shell's `PATH` a service may use: folders that are there, named from the root, once each, and in which
/// not everybody may put programs.
fn search_path(shells: Option<&OsStr>) -> String {
    let mut kept: Vec<String> = Vec::new();
    let mut bytes = 0;
    for folder in shells.map(env::split_paths).into_iter().flatten() {
        let Some(name) = folder.to_str().filter(|name| nameable(name)) else {
            continue;
        };
        let safe = fs::metadata(&folder)
            .is_ok_and(|found| found.is_dir() && found.permissions().mode() & ALL_WRITE == 0);
        if !folder.is_absolute() || !safe || kept.iter().any(|known| known == name) {
            continue;
        }
        bytes += name.len() + 1;
        if bytes > MAX_SEARCH_PATH_BYTES {
            break;
        }
        kept.push(name.to_owned());
    }
    if kept.is_empty() {
        return DEFAULT_SEARCH_PATH.to_owned();
    }
    kept.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_shells_path_only_safe_folders_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (good, open) = (folder.path().join("a b"), folder.path().join("open"));
        fs::create_dir(&good).unwrap();
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
        let (good, open) = (good.to_str().unwrap(), open.to_str().unwrap());
        let path = format!("{good}:.::bin:{open}:/no/such/folder:{good}:/usr/bin");
        assert_eq!(search_path(Some(OsStr::new(&path))), format!("{good}:/usr/bin"));
        assert_eq!(search_path(Some(OsStr::new(open))), DEFAULT_SEARCH_PATH);
        assert_eq!(search_path(None), DEFAULT_SEARCH_PATH);
    }

    #[test]
    fn a_path_that_breaks_lines_is_refused() {
        for bad in ["/a\nExecStartPre=/bin/sh", "/a\u{1b}", "/a\u{7f}", "/\u{ffff}"] {
            assert!(text(Path::new(bad)).is_err(), "{bad:?}");
        }
        assert_eq!(text(Path::new("/é 🦀%$\"")).unwrap(), "/é 🦀%$\"");
    }
}
