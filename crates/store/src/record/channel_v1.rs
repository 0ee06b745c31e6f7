//! Records of the channel log as its format version 1 writes them. Frozen, as those in [`v1`](super::v1).

use bincode::{Decode, Encode};

/// A value of tree `blocks`.
#[derive(Encode, Decode)]
pub(crate) struct BlockV1 {
    pub(crate) entries: Vec<EntryV1>,
}

/// An entry. Its arrival is that of the block and its place in it.
#[derive(Clone, Encode, Decode)]
pub(crate) struct EntryV1 {
    pub(crate) time: u64,
    pub(crate) received_at: u64,
    pub(crate) verified: bool,
    pub(crate) id: Box<str>,
    pub(crate) text: std::sync::Arc<str>,
}

/// A value of tree `channels`.
#[derive(Encode, Decode)]
pub(crate) struct ChannelV1 {
    pub(crate) name: String,
    /// Nobody can read it any more; its blocks are being removed.
    pub(crate) forgotten: bool,
    pub(crate) followed: bool,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) first_received_at: u64,
    pub(crate) last_received_at: u64,
    pub(crate) newest_time: u64,
    pub(crate) dropped_time: Option<u64>,
    pub(crate) indexed: u64,
}

/// A value of tree `runs`.
#[derive(Encode, Decode)]
pub(crate) struct RunV1 {
    /// Entries indexed in it.
    pub(crate) entries: u64,
    /// Which ids may be in it.
    pub(crate) filter: Vec<u8>,
    /// First key of each chunk of ids.
    pub(crate) ids: Vec<Vec<u8>>,
    /// First key of each chunk of places.
    pub(crate) places: Vec<Vec<u8>>,
    /// Last place of each channel, in order.
    pub(crate) ends: Vec<Vec<u8>>,
}

/// A value of tree `cursors`.
#[derive(Encode, Decode)]
pub(crate) struct CursorV1 {
    pub(crate) peer: String,
    pub(crate) channel: String,
    pub(crate) id: String,
}

/// A value of tree `keys`.
#[derive(Encode, Decode)]
pub(crate) struct KeyV1 {
    pub(crate) id: String,
    pub(crate) key: [u8; 32],
    /// Its number in tree `key_order`.
    pub(crate) number: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Record, decode, encode};

    fn block() -> BlockV1 {
        BlockV1 {
            entries: vec![EntryV1 {
                time: 1_700_000_000_000,
                received_at: 5,
                verified: true,
                id: "m1".into(),
                text: "{}".into(),
            }],
        }
    }

    fn channel() -> ChannelV1 {
        ChannelV1 {
            name: "#dev".to_owned(),
            forgotten: false,
            followed: true,
            count: 2,
            bytes: 300,
            first: 7,
            last: 8,
            first_received_at: 5,
            last_received_at: 6,
            newest_time: 9,
            dropped_time: Some(4),
            indexed: 3,
        }
    }

    fn run() -> RunV1 {
        RunV1 {
            entries: 1,
            filter: vec![0xff, 0x01],
            ids: vec![vec![1, 2]],
            places: vec![vec![3]],
            ends: vec![vec![4], vec![5]],
        }
    }

    fn cursor() -> CursorV1 {
        CursorV1 {
            peer: "p".to_owned(),
            channel: "c".to_owned(),
            id: "i".to_owned(),
        }
    }

    fn key() -> KeyV1 {
        KeyV1 {
            id: "k".to_owned(),
            key: [8; 32],
            number: 251,
        }
    }

    fn written(record: &impl Record) -> String {
        hex::encode(encode(record).unwrap())
    }

    /// What is on people's disks. A change here needs a new version of the record.
    #[test]
    fn records_are_written_as_they_always_were() {
        assert_eq!(
            written(&block()),
            "01fd0068e5cf8b01000005 01 02 6d31 02 7b7d".replace(' ', "")
        );
        let channel = written(&channel());
        assert_eq!(
            channel,
            "04 23646576 00 01 02 fb2c01 07 08 05 06 09 01 04 03".replace(' ', "")
        );
        assert_eq!(
            written(&run()),
            "01 02ff01 01020102 010103 0201040105".replace(' ', "")
        );
        assert_eq!(written(&cursor()), "0170 0163 0169".replace(' ', ""));
        assert_eq!(written(&key()), format!("016b{}fbfb00", "08".repeat(32)));
    }

    #[test]
    fn records_survive_the_round_trip_and_no_change_of_length() {
        fn check<R: Record>(record: &R) {
            let bytes = encode(record).unwrap();
            let read: R = decode(&bytes).unwrap();
            assert_eq!(encode(&read).unwrap(), bytes);
            for length in 0..bytes.len() {
                assert!(decode::<R>(&bytes[..length]).is_err(), "cut at {length}");
            }
            assert!(decode::<R>(&[bytes.as_slice(), &[0]].concat()).is_err());
        }
        check(&block());
        check(&channel());
        check(&run());
        check(&cursor());
        check(&key());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode::<BlockV1>(&bytes);
            let _ = decode::<ChannelV1>(&bytes);
            let _ = decode::<RunV1>(&bytes);
            let _ = decode::<CursorV1>(&bytes);
            let _ = decode::<KeyV1>(&bytes);
        }
    }
}
