//! Where passwords come from.

use std::path::Path;

use clawchat_ipc::Secret;
use clawchat_types::Principal;
use zeroize::Zeroizing;

use super::{MAX_PASSWORD_FILE_BYTES, SetupError};
use crate::home::{self, Home, HomeError, HomeLock};

/// Length of a generated password: 24 characters of 6 random bits each.
pub const GENERATED_PASSWORD_CHARS: usize = 24;

/// 64 characters that need no escaping in a URL, a shell or JSON.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Draws a password of [`GENERATED_PASSWORD_CHARS`] random URL-safe characters.
///
/// # Errors
/// [`SetupError::Randomness`].
pub fn generate_password() -> Result<Secret, SetupError> {
    let bytes: Zeroizing<[u8; GENERATED_PASSWORD_CHARS]> = random()?;
    let text: String = bytes
        .iter()
        .filter_map(|byte| ALPHABET.get(usize::from(byte % 64)).copied())
        .map(char::from)
        .collect();
    Ok(Secret::new(text))
}

/// Keeps the password of an identity in its folder (0600), where the daemon finds it by itself.
///
/// # Errors
/// The IO error, for one when the identity has no folder.
pub fn write_password_file(
    lock: &HomeLock,
    principal: &Principal,
    password: &Secret,
) -> Result<(), HomeError> {
    home::write_atomic(
        &lock.home().password_path(principal),
        password.expose().as_bytes(),
    )
}

/// The password in an identity's folder, without the white space around it, `None` when there is no such file.
pub(super) fn read_password_file(dir: &Path) -> Result<Option<Secret>, HomeError> {
    let text = home::read_text_bounded(&Home::password_in(dir), MAX_PASSWORD_FILE_BYTES)?;
    Ok(text.map(Zeroizing::new).map(|text| {
        // JavaScript's trim, which wrote and read these files before us, counts the byte order mark too.
        Secret::new(text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}'))
    }))
}

/// `N` random bytes.
pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, SetupError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| SetupError::Randomness {
        reason: error.to_string(),
    })?;
    Ok(bytes)
}
