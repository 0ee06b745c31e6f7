//! Flags, environment and defaults, combined once.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{self, Path, PathBuf};

use clawchat_gateway::ipc::Secret;

use crate::args::Args;
use crate::failure::{self, ErrorCode, Failure};

/// Name of the folder under the user's home that is used when nothing else is said.
const DEFAULT_FOLDER: &str = ".clawchat";
/// Longest password read, in bytes.
const MAX_PASSWORD_BYTES: u64 = 64 * 1024;

/// The home folder, absolute: the flag, else `CLAWCHAT_DATA_DIR`, else `~/.clawchat`.
///
/// # Errors
/// When there is no home folder.
pub(crate) fn home(args: &Args, environment: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Failure> {
    let variable = |name: &str| {
        environment(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let folder = args
        .data_dir
        .clone()
        .or_else(|| variable("CLAWCHAT_DATA_DIR"))
        .or_else(|| variable("HOME").map(|home| home.join(DEFAULT_FOLDER)))
        .ok_or_else(|| failure::usage("HOME is not set", "name the folder with --data-dir DIR"))?;
    path::absolute(&folder)
        .map_err(|error| failure::usage(format!("{}: {error}", folder.display()), "name another folder"))
}

/// The password that was given, if any: by file, by `CLAWCHAT_PASSWORD_FILE`, or on stdin.
///
/// # Errors
/// When it cannot be read, or is empty.
pub(crate) fn password(
    args: &Args,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Secret>, Failure> {
    if args.password_stdin {
        return read(io::stdin().lock(), Path::new("stdin")).map(Some);
    }
    let named = || {
        environment("CLAWCHAT_PASSWORD_FILE")
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let Some(path) = args.password_file.clone().or_else(named) else {
        return Ok(None);
    };
    let file = File::open(&path).map_err(|error| failure::unreadable(&path, &error))?;
    read(file, &path).map(Some)
}

/// One line end behind a password is not part of it.
fn read(from: impl Read, name: &Path) -> Result<Secret, Failure> {
    let mut text = String::new();
    from.take(MAX_PASSWORD_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| failure::unreadable(name, &error))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() || text.len() as u64 > MAX_PASSWORD_BYTES {
        return Err(
            Failure::new(ErrorCode::Failed, format!("{} holds no password", name.display()))
                .with_hint("name the file that holds it"),
        );
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn args(line: &[&str]) -> Args {
        Args::try_parse_from([&["clawchatd"], line].concat()).unwrap()
    }

    #[test]
    fn the_home_is_the_flag_then_the_environment_then_the_default() {
        let all = |name: &str| Some(OsString::from(if name == "HOME" { "/home/me" } else { "/env" }));
        let only_home = |name: &str| (name == "HOME").then(|| OsString::from("/home/me"));
        assert_eq!(
            home(&args(&["--data-dir", "/flag"]), all).unwrap(),
            Path::new("/flag")
        );
        assert_eq!(home(&args(&[]), all).unwrap(), Path::new("/env"));
        assert_eq!(
            home(&args(&[]), only_home).unwrap(),
            Path::new("/home/me/.clawchat")
        );
        assert!(home(&args(&[]), |_| None).is_err());
    }

    #[test]
    fn a_password_file_is_read_without_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "correct horse\n").unwrap();
        let name = path.to_str().unwrap();
        let given = password(&args(&["--password-file", name]), |_| None).unwrap();
        assert_eq!(given.unwrap().expose(), "correct horse");
        let from_environment = password(&args(&[]), |_| Some(OsString::from(name))).unwrap();
        assert_eq!(from_environment.unwrap().expose(), "correct horse");
        assert!(password(&args(&[]), |_| None).unwrap().is_none());
        std::fs::write(&path, "\n").unwrap();
        assert!(password(&args(&["--password-file", name]), |_| None).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(password(&args(&["--password-file", name]), |_| None).is_err());
    }
}
