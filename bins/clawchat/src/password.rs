//! Where passwords and recovery words come from: a flag, a file, or the keyboard.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use clawchat_ipc::{ErrorCode, Secret};

use crate::failure::{Failure, Outcome};
use crate::render;

/// Longest password or list of words read from a file, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// How often a new password may be mistyped.
const ATTEMPTS: u32 = 3;

/// Where a password would come from, should one be needed.
#[derive(Debug, Clone)]
pub(crate) enum PasswordSource {
    /// Given on the command line.
    Given(Secret),
    /// In a file.
    File(PathBuf),
    /// Nowhere yet: the keyboard, if there is one.
    Ask,
}

impl PasswordSource {
    /// The password, if it was given by flag, file or environment. Asks nobody.
    ///
    /// # Errors
    /// When the file cannot be read or holds no password.
    pub(crate) fn given(&self) -> Outcome<Option<Secret>> {
        match self {
            Self::Given(secret) => Ok(Some(secret.clone())),
            Self::File(path) => from_file(path).map(Some),
            Self::Ask => Ok(None),
        }
    }

    /// The password of something that exists, asking for it if need be. `whose` completes "Password of …".
    ///
    /// # Errors
    /// As [`Self::given`]; without a terminal, a failure that names the flag.
    pub(crate) fn existing(&self, whose: &str) -> Outcome<Secret> {
        match self.given()? {
            Some(secret) => Ok(secret),
            None => {
                require_terminal()?;
                ask(&format!("Password of {whose}: "))
            }
        }
    }

    /// A password for something new, asking for it twice if need be.
    ///
    /// # Errors
    /// As [`Self::existing`]; a failure when it was mistyped too often.
    pub(crate) fn new_one(&self) -> Outcome<Secret> {
        if let Some(secret) = self.given()? {
            return Ok(secret);
        }
        require_terminal()?;
        for _ in 0..ATTEMPTS {
            let first = ask("New password (at least 12 characters): ")?;
            if ask("The same again: ")? == first {
                return Ok(first);
            }
            render::warn("The two differ.");
        }
        Err(
            Failure::new(ErrorCode::Failed, "the two passwords differed too often")
                .hint("put it into a file and use --password-file FILE"),
        )
    }
}

/// A secret from a file; `-` is stdin. One line end behind it is not part of it.
pub(crate) fn from_file(path: &Path) -> Outcome<Secret> {
    let file_error = |error: io::Error| Failure::file("read", path, &error);
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(MAX_SECRET_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(file_error)?;
    } else {
        let file = File::open(path).map_err(file_error)?;
        file.take(MAX_SECRET_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(file_error)?;
    }
    if text.len() as u64 > MAX_SECRET_BYTES {
        let message = format!("{} is larger than {MAX_SECRET_BYTES} bytes", path.display());
        return Err(Failure::new(ErrorCode::TooLarge, message).hint("name the file that holds the secret"));
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        let message = format!("{} is empty", path.display());
        return Err(Failure::new(ErrorCode::Failed, message).hint("name the file that holds the secret"));
    }
    Ok(Secret::new(text))
}

/// Asks at the terminal without showing what is typed.
pub(crate) fn ask(prompt: &str) -> Outcome<Secret> {
    rpassword::prompt_password(prompt)
        .map(Secret::new)
        .map_err(|error| {
            Failure::new(ErrorCode::Io, format!("cannot read from the terminal: {error}"))
                .hint("use --password-file FILE")
        })
}

/// Whether somebody could be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal()
}

fn require_terminal() -> Outcome {
    if can_ask() {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::PasswordRequired,
        "a password is needed and there is no terminal to ask for it",
    )
    .hint("give it with --password-file FILE or CLAWCHAT_PASSWORD_FILE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_behind_a_password_is_not_part_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (text, password) in [
            ("correct horse", "correct horse"),
            ("correct horse\n", "correct horse"),
            ("correct horse\r\n", "correct horse"),
            (" correct horse \n\n", " correct horse \n"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(from_file(&path).unwrap().expose(), password);
        }
    }

    #[test]
    fn a_file_without_a_password_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        assert!(from_file(&path).unwrap_err().text().contains("password"));
        for bytes in [&b""[..], b"\n", b"\xff\xfe", &[b'a'; 70_000]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(from_file(&path).is_err());
        }
    }
}
