//! The key of a mesh peer that runs by itself: two PEM files, as the original keeps them.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clawchat_identity::NodeKey;
use clawchat_ipc::{ErrorCode, Failure};
use clawchat_mesh::{MAX_PEM_BYTES, PeerName, private_key_pem, public_key_pem, read_private_key_pem};
use zeroize::Zeroizing;

use crate::clock;
use crate::home::{DIR_MODE, FILE_MODE, read_bounded, sync_dir};

/// The private key, PKCS#8.
const PRIVATE: &str = "key.pem";
/// The public key, SPKI.
const PUBLIC: &str = "pub.pem";

/// Reads the key in a folder, or makes one there.
///
/// # Errors
/// What stands there is no key, or the folder cannot be used.
pub(super) fn load_or_make(folder: &Path) -> Result<NodeKey, Failure> {
    let path = folder.join(PRIVATE);
    let limit = u64::try_from(MAX_PEM_BYTES).unwrap_or(u64::MAX);
    let found = read_bounded(&path, limit).map_err(|error| failed(&error.to_string(), &path))?;
    if let Some(bytes) = found {
        let bytes = Zeroizing::new(bytes);
        let text = std::str::from_utf8(&bytes).map_err(|error| failed(&error.to_string(), &path))?;
        return read_private_key_pem(text).map_err(|error| {
            Failure::new(ErrorCode::Failed, format!("{}: {error}", path.display()))
                .with_hint("an Ed25519 key in PKCS#8 is expected; move that file away to have a new one made")
        });
    }
    make(folder).map_err(|error| failed(&error.to_string(), folder))
}

fn make(folder: &Path) -> io::Result<NodeKey> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(folder)?;
    let key = loop {
        let seed = Zeroizing::new(clock::random::<32>().map_err(io::Error::other)?);
        let key = NodeKey::from_seed(*seed);
        // A name that begins with a dash is taken for an option by command lines; one in 64 would.
        if !PeerName::of_key(&key.node_id()).as_str().starts_with('-') {
            break key;
        }
    };
    // The public half first: with the private one the pair is complete.
    put(&folder.join(PUBLIC), public_key_pem(&key.node_id()).as_bytes())?;
    put(&folder.join(PRIVATE), private_key_pem(&key).as_bytes())?;
    sync_dir(folder).map_err(io::Error::other)?;
    Ok(key)
}

/// Writes a file whole, in place of an older one.
fn put(path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("pem.new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&draft)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

fn failed(reason: &str, path: &Path) -> Failure {
    Failure::new(
        ErrorCode::Io,
        format!("the key of the mesh in {}: {reason}", path.display()),
    )
    .with_hint("check that folder, its owner and its permissions, or name another one with MESH_KEY_DIR")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a/b");
        let made = load_or_make(&place).unwrap();
        assert_eq!(load_or_make(&place).unwrap().node_id(), made.node_id());
        let public = fs::read_to_string(place.join(PUBLIC)).unwrap();
        assert_eq!(public, public_key_pem(&made.node_id()));
        fs::write(place.join(PRIVATE), "nonsense").unwrap();
        assert!(load_or_make(&place).is_err());
        assert_eq!(fs::read_to_string(place.join(PRIVATE)).unwrap(), "nonsense");
    }
}
