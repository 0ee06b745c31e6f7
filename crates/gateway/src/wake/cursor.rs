//! How far each way of waking has come, in a file of the identity's folder: `wake.json`.
//!
//! It holds one object with an arrival number for every way that is on, such as `{"openclaw":17,"webhook":12}`: of the
//! messages up to there, nothing is left to be told. A way without a number begins with what arrives next.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Way;
use crate::home::{self, HomeError};

/// Largest file read, in bytes.
const MAX_BYTES: u64 = 4096;
/// Its name in the identity's folder.
const NAME: &str = "wake.json";

/// Arrival numbers.
pub(super) type Cursors = BTreeMap<Way, u64>;

/// The file in the folder of an identity.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// Reads the file; none is as good as an empty one. Blocks.
///
/// # Errors
/// When it cannot be read. One that is not as expected is `None`.
pub(super) fn read(path: &Path) -> Result<Option<Cursors>, HomeError> {
    let Some(bytes) = home::read_bounded(path, MAX_BYTES)? else {
        return Ok(Some(Cursors::new()));
    };
    Ok(parse(&bytes))
}

fn parse(bytes: &[u8]) -> Option<Cursors> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let object = value.as_object()?;
    Way::ALL
        .into_iter()
        .filter_map(|way| Some((way, object.get(way.name())?)))
        .map(|(way, arrival)| Some((way, arrival.as_u64()?)))
        .collect()
}

/// Replaces the file. Blocks until it is on disk.
///
/// # Errors
/// The IO error; the old file is then as it was.
pub(super) fn write(path: &Path, cursors: &Cursors) -> Result<(), HomeError> {
    let object: serde_json::Map<String, Value> = cursors
        .iter()
        .map(|(way, arrival)| (way.name().to_owned(), Value::from(*arrival)))
        .collect();
    home::write_atomic(path, Value::Object(object).to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        assert_eq!(read(&path).unwrap(), Some(Cursors::new()));
        let cursors = Cursors::from([(Way::OpenClaw, 17), (Way::Webhook, u64::MAX)]);
        write(&path, &cursors).unwrap();
        assert_eq!(read(&path).unwrap(), Some(cursors));
        assert_eq!(parse(br#"{"openclaw":-1}"#), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }
    }
}
