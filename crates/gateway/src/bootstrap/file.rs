//! The file of a list: read again when it changes, the last good list kept when it breaks.

use std::fs::{self, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clawchat_mesh::bootstrap::{self, MAX_LIST_BYTES};
use serde_json::Value;
use tracing::{info, warn};

/// What is served while there never was a file.
const EMPTY: &[u8] = b"{\"version\":1,\"peers\":[]}\n";
/// A file changed so recently may change again without its time changing, so it is read again.
const UNSETTLED: Duration = Duration::from_secs(2);

/// A list and the file it is in.
#[derive(Debug)]
pub(super) struct ListFile {
    path: PathBuf,
    /// The last good one.
    text: Bytes,
    peers: usize,
    /// When that one was read; `None` while there was none.
    since: Option<SystemTime>,
    /// What is wrong with the file as it is now.
    fault: Option<String>,
    seen: Option<Seen>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl ListFile {
    /// Reads it. A file that is not there yet is an empty list; one that cannot be read or is no list is an error,
    /// since somebody is there to read it.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let mut file = Self {
            path: path.to_owned(),
            text: Bytes::from_static(EMPTY),
            peers: 0,
            since: None,
            fault: None,
            seen: None,
        };
        if path.exists() {
            read(path)?;
            file.refresh();
            if let Some(fault) = file.fault {
                return Err(fault);
            }
        } else {
            warn!(file = %path.display(), "there is no such file yet; an empty list is served until there is");
        }
        Ok(file)
    }

    /// Reads it again if it has changed.
    pub(super) fn refresh(&mut self) {
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            // That it was never there was said at the start.
            Err(_) if self.since.is_none() => return,
            Err(error) => return self.broken(error.to_string()),
        };
        let seen = Some(Seen::of(&metadata));
        let settled = metadata
            .modified()
            .is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > UNSETTLED));
        if seen == self.seen && settled {
            return;
        }
        match read(&self.path) {
            Ok((text, peers)) => {
                if self.since.is_none() || self.fault.is_some() || text != self.text {
                    info!(file = %self.path.display(), peers, "serving this list");
                    self.since = Some(SystemTime::now());
                }
                self.text = text;
                self.peers = peers;
                self.fault = None;
            }
            Err(fault) => self.broken(fault),
        }
        self.seen = seen;
    }

    /// The last good list, as it stands in the file.
    pub(super) fn text(&self) -> Bytes {
        self.text.clone()
    }

    /// How many peers are in it.
    pub(super) fn peers(&self) -> usize {
        self.peers
    }

    /// When it was read first.
    pub(super) fn since(&self) -> Option<SystemTime> {
        self.since
    }

    /// What is wrong with the file now, if anything: then the list is an older one.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn broken(&mut self, fault: String) {
        if self.fault.as_deref() != Some(&fault) {
            warn!(file = %self.path.display(), %fault, "the list is broken; the last good one is served");
        }
        self.fault = Some(fault);
    }
}

impl Seen {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// The text of a list in which every entry can be used, and how many there are.
fn read(path: &Path) -> Result<(Bytes, usize), String> {
    let limit = MAX_LIST_BYTES as u64 + 1;
    let mut text = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut text))
        .map_err(|error| error.to_string())?;
    let list = bootstrap::read(&text).map_err(|error| error.to_string())?;
    // Existing peers stop at the first entry that is wrong, so there must be none.
    if list.left_out > 0 {
        return Err(match wrong_entry(&text) {
            Some(number) => format!("entry {number} of \"peers\" has no usable peer_id or ws_url"),
            None => "there are too many peers in it".to_owned(),
        });
    }
    Ok((text.into(), list.peers.len()))
}

/// The first entry that cannot be used, counted from 0.
fn wrong_entry(text: &[u8]) -> Option<usize> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let document: Value = serde_json::from_slice(text).ok()?;
    document.get("peers")?.as_array()?.iter().position(|entry| {
        let alone = serde_json::json!({"version": 1, "peers": [entry]}).to_string();
        bootstrap::read(alone.as_bytes()).is_ok_and(|list| list.left_out > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> String {
        let entry = |name: &&str| format!(r#"{{"peer_id":"{name}","ws_url":"ws://{name}.example:5000"}}"#);
        let entries: Vec<String> = names.iter().map(entry).collect();
        format!(r#"{{"version":1,"peers":[{}],"extra":true}}"#, entries.join(","))
    }

    #[test]
    fn a_change_is_seen_and_a_broken_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bootstrap.json");
        fs::write(&path, list(&["a"])).unwrap();
        let mut file = ListFile::open(&path).unwrap();
        assert_eq!((file.peers(), file.text()), (1, list(&["a"]).into()));
        fs::write(&path, list(&["b"])).unwrap();
        file.refresh();
        assert_eq!(file.text(), Bytes::from(list(&["b"])));
        let since = file.since();
        for broken in [
            "{",
            "",
            r#"{"version":2,"peers":[]}"#,
            r#"{"version":1,"peers":[{"peer_id":"a","ws_url":"ws://a"},{"peer_id":"x"}]}"#,
        ] {
            fs::write(&path, broken).unwrap();
            file.refresh();
            assert!(file.fault().is_some(), "{broken}");
            assert_eq!((file.text(), file.since()), (list(&["b"]).into(), since));
        }
        assert_eq!(
            file.fault(),
            Some("entry 1 of \"peers\" has no usable peer_id or ws_url")
        );
        fs::remove_file(&path).unwrap();
        file.refresh();
        assert!(file.fault().is_some());
        assert_eq!(file.peers(), 1);
        fs::write(&path, list(&["c", "d"])).unwrap();
        file.refresh();
        assert_eq!((file.fault(), file.peers()), (None, 2));
    }

    #[test]
    fn a_file_may_come_later_but_must_not_be_broken_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bootstrap.json");
        let mut file = ListFile::open(&path).unwrap();
        assert_eq!(file.text(), Bytes::from_static(EMPTY));
        file.refresh();
        assert_eq!(file.fault(), None);
        fs::write(&path, list(&["a"])).unwrap();
        file.refresh();
        assert_eq!(file.peers(), 1);
        fs::write(&path, "nonsense").unwrap();
        assert!(ListFile::open(&path).is_err());
    }
}
