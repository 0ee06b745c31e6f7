//! Names of services, and where their units lie.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Platform, Unit, launchd};
use crate::failure::{Failure, Outcome};

/// Name of the service of the default home folder, and what other names start with.
const NAME: &str = "clawchatd";
/// Name of the default home folder under the user's.
const DEFAULT_FOLDER: &str = ".clawchat";
/// Longest name that can be given, in characters.
const MAX_NAME_CHARS: usize = 64;
/// How much of a folder's name is taken into that of its service, in characters.
const MAX_FOLDER_CHARS: usize = 24;

/// Where the user's own files lie.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    home: PathBuf,
    /// `XDG_CONFIG_HOME`, or what it stands for.
    config: PathBuf,
}

impl Folders {
    /// As the environment says.
    ///
    /// # Errors
    /// When `HOME` is not set.
    pub(crate) fn from_environment() -> Outcome<Self> {
        let folder = |name: &str| {
            env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let home = folder("HOME")
            .ok_or_else(|| Failure::usage("HOME is not set", "a service belongs to a user: set HOME"))?;
        let config = folder("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        Ok(Self { home, config })
    }

    /// The home folder of a gateway that is used when nothing else is said.
    pub(crate) fn default_gateway(&self) -> PathBuf {
        self.home.join(DEFAULT_FOLDER)
    }

    /// The service of that name.
    pub(crate) fn unit(&self, platform: Platform, name: &str) -> Unit {
        let path = match platform {
            Platform::Systemd => self.config.join(format!("systemd/user/{name}.service")),
            Platform::Launchd => {
                let label = launchd::label(name);
                self.home.join(format!("Library/LaunchAgents/{label}.plist"))
            }
        };
        Unit {
            platform,
            name: name.to_owned(),
            path,
        }
    }
}

/// The name of a gateway's service: the one that was given, else one that follows from its home folder alone.
///
/// # Errors
/// A usage failure for a name no unit can have.
pub(crate) fn name_for(given: Option<&str>, gateway: &Path, default: &Path) -> Outcome<String> {
    if let Some(name) = given {
        return checked(name).map(str::to_owned);
    }
    // One folder has one name, whatever links lead to it.
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let gateway = real(gateway);
    if gateway == real(default) {
        return Ok(NAME.to_owned());
    }
    let folder = gateway.file_name().unwrap_or_default().to_string_lossy();
    let mut words = String::new();
    for letter in folder.chars() {
        if letter.is_ascii_alphanumeric() {
            words.push(letter.to_ascii_lowercase());
        } else if !words.is_empty() && !words.ends_with('-') {
            words.push('-');
        }
        if words.len() == MAX_FOLDER_CHARS {
            break;
        }
    }
    let words = words.trim_end_matches('-');
    let sum = checksum(gateway.as_os_str().as_encoded_bytes());
    Ok(if words.is_empty() {
        format!("{NAME}-{sum:08x}")
    } else {
        format!("{NAME}-{words}-{sum:08x}")
    })
}

fn checked(name: &str) -> Outcome<&str> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if name.len() <= MAX_NAME_CHARS
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(allowed)
        && !name.ends_with(".service")
    {
        return Ok(name);
    }
    Err(Failure::usage(
        format!("{name:?} cannot be the name of a service"),
        format!("letters, digits, '-', '_' and '.', at most {MAX_NAME_CHARS}, without .service"),
    ))
}

/// FNV-1a of 64 bits, folded to 32: tells a user's few folders apart, and is the same for ever.
fn checksum(bytes: &[u8]) -> u32 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let sum = bytes
        .iter()
        .fold(OFFSET, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(PRIME));
    let [a, b, c, d, e, f, g, h] = sum.to_be_bytes();
    u32::from_be_bytes([a ^ e, b ^ f, c ^ g, d ^ h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_follows_from_the_folder_alone() {
        let name =
            |gateway: &str| name_for(None, Path::new(gateway), Path::new("/home/me/.clawchat")).unwrap();
        assert_eq!(name("/home/me/.clawchat"), "clawchatd");
        assert_eq!(name("/home/me/.clawchat-bob"), "clawchatd-clawchat-bob-b284476b");
        assert_eq!(name("/"), "clawchatd-29622bb2");
        let (one, two) = (name("/a/Bob's Gateway é"), name("/b/Bob's Gateway é"));
        assert!(one.starts_with("clawchatd-bob-s-gateway-"), "{one}");
        assert_ne!(one, two);
        let long = name(&format!("/{}", "x".repeat(200)));
        assert!(checked(&long).is_ok(), "{long}");
    }

    #[test]
    fn one_folder_has_one_name() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let default = Path::new("/home/me/.clawchat");
        assert_eq!(
            name_for(None, &real, default).unwrap(),
            name_for(None, &link, default).unwrap()
        );
        assert_eq!(name_for(None, &real, &link).unwrap(), "clawchatd");
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["", "a/b", "..", ".x", "-x", "a b", "a\n", "é", "x@y", "x.service"] {
            assert!(checked(name).is_err(), "{name:?}");
        }
        assert!(checked(&"x".repeat(MAX_NAME_CHARS + 1)).is_err());
        assert!(checked("bobs-gateway_2.1").is_ok());
    }
}
