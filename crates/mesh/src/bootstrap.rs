//! The bootstrap list: where to find peers.

use std::collections::HashSet;

use crate::PeerName;
use crate::frame::{Capabilities, capabilities};
use crate::json::{elements, fields, unquote};
use crate::random::next;
use crate::url::WsUrl;

/// Longest list read, in bytes.
pub const MAX_LIST_BYTES: usize = 1024 * 1024;
/// Most entries taken from a list; the rest is left.
pub const MAX_LIST_PEERS: usize = 10_000;

/// A list of peers, version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The peers that can be read.
    pub peers: Vec<Entry>,
    /// Entries left out because they cannot be read or are too many.
    pub left_out: usize,
}

/// A peer that can be dialed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it calls itself.
    pub peer: PeerName,
    /// Where it listens.
    pub url: WsUrl,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// Reads a list. Unknown fields are ignored, entries that are wrong are left out.
///
/// # Errors
/// [`ListError`] when it is no list of version 1.
pub fn read(bytes: &[u8]) -> Result<List, ListError> {
    if bytes.len() > MAX_LIST_BYTES {
        return Err(ListError::TooLong);
    }
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let [version, peers] = fields(text, &["version", "peers"]).map_err(|_| ListError::NotJson)?;
    // A string would be another type, however it looks.
    if version.and_then(|version| version.parse::<f64>().ok()) != Some(1.0) {
        return Err(ListError::Version);
    }
    let entries = elements(peers.unwrap_or_default()).ok_or(ListError::Peers)?;
    let mut list = List {
        peers: Vec::new(),
        left_out: 0,
    };
    for value in entries {
        match entry(value).filter(|_| list.peers.len() < MAX_LIST_PEERS) {
            Some(entry) => list.peers.push(entry),
            None => list.left_out += 1,
        }
    }
    Ok(list)
}

/// Up to `count` peers of a list, drawn with `seed`: each URL and each name once, never `own`.
#[must_use]
pub fn choose(list: &List, own: &PeerName, count: usize, seed: u64) -> Vec<Entry> {
    let mut left: Vec<&Entry> = list.peers.iter().collect();
    let mut chosen = Vec::new();
    let (mut urls, mut names) = (HashSet::new(), HashSet::new());
    let mut state = seed;
    while chosen.len() < count && !left.is_empty() {
        let place = usize::try_from(next(&mut state)).unwrap_or_default() % left.len();
        let entry = left.swap_remove(place);
        if entry.peer != *own && !urls.contains(&entry.url) && names.insert(&entry.peer) {
            urls.insert(&entry.url);
            chosen.push(entry.clone());
        }
    }
    chosen
}

/// An entry that can be dialed.
fn entry(value: &str) -> Option<Entry> {
    let [peer, url, said] = fields(value, &["peer_id", "ws_url", "capabilities"]).ok()?;
    let peer = unquote(peer?).filter(|peer| peer.whole)?;
    let said = match said {
        None | Some("null") => Capabilities::default(),
        Some(value) if value.starts_with('{') => capabilities(value),
        Some(_) => return None,
    };
    Some(Entry {
        peer: peer.text.parse().ok()?,
        url: unquote(url?)?.text.parse().ok()?,
        capabilities: said,
    })
}

/// Why a text is no bootstrap list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// Longer than [`MAX_LIST_BYTES`].
    #[error("the list is longer than {MAX_LIST_BYTES} bytes")]
    TooLong,
    /// Not a JSON object.
    #[error("the list is not a JSON object")]
    NotJson,
    /// Another version, or none.
    #[error("the list's \"version\" is not 1")]
    Version,
    /// `peers` is no array.
    #[error("the list's \"peers\" is not an array")]
    Peers,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::url::MAX_URL_BYTES;

    #[test]
    fn a_drawing_takes_each_peer_once_and_never_ourselves() {
        let text = r#"{"version":1,"peers":[{"peer_id":"me","ws_url":"ws://h/1"},{"peer_id":"a","ws_url":"ws://h/2"},
            {"peer_id":"a","ws_url":"ws://h/3"},{"peer_id":"b","ws_url":"ws://h/2"},{"peer_id":"c","ws_url":"WSS://h:1/4"}]}"#;
        let list = read(text.as_bytes()).unwrap();
        assert_eq!((list.peers.len(), list.left_out), (5, 0));
        let own = "me".parse().unwrap();
        for seed in 0..50 {
            let chosen = choose(&list, &own, 9, seed);
            assert!(
                chosen.len() >= 2 && chosen.iter().all(|entry| entry.peer != own),
                "{chosen:?}"
            );
            for (place, entry) in chosen.iter().enumerate() {
                let others = chosen.iter().skip(place + 1);
                assert!(
                    others
                        .clone()
                        .all(|other| other.url != entry.url && other.peer != entry.peer)
                );
            }
            assert_eq!(choose(&list, &own, 1, seed).len(), 1);
        }
        let firsts: HashSet<_> = (0..50)
            .map(|seed| choose(&list, &own, 1, seed)[0].peer.clone())
            .collect();
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn a_list_is_bounded() {
        let entry = r#"{"peer_id":"p","ws_url":"ws://h/"},"#;
        let many = MAX_LIST_PEERS + 5;
        let text = format!("{{\"version\":1,\"peers\":[{}null]}}", entry.repeat(many));
        let list = read(text.as_bytes()).unwrap();
        assert_eq!((list.peers.len(), list.left_out), (MAX_LIST_PEERS, 6));
        assert_eq!(read(&vec![b' '; MAX_LIST_BYTES + 1]), Err(ListError::TooLong));
        let long = format!("ws://h/{}", "x".repeat(MAX_URL_BYTES));
        for url in [
            "",
            "ws://",
            "ws:///x",
            "ws://h/#f",
            "ws://h h",
            "ws://é",
            "ws://h:65536",
            "file://h",
            long.as_str(),
        ] {
            let text = format!(r#"{{"version":1,"peers":[{{"peer_id":"p","ws_url":"{url}"}}]}}"#);
            assert_eq!(read(text.as_bytes()).unwrap().left_out, 1, "{url}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in r#"[\[\]{}":,a-z0-9]{0,64}"#) {
            let _ = (read(&bytes), read(text.as_bytes()));
            let _ = read(format!("{{\"version\":1,\"peers\":[{text}]}}").as_bytes());
        }
    }
}
