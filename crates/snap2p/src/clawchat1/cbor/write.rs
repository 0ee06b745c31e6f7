//! Writing: shortest lengths and integers, nothing indefinite. Who writes a map gives its keys in order: shorter
//! ones first, then bytewise.

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// Appends items to a buffer.
pub(in crate::clawchat1) struct Writer(Vec<u8>);

impl Writer {
    /// Begins with a map of so many entries.
    pub(in crate::clawchat1) fn map_of(entries: usize) -> Self {
        let mut writer = Self(Vec::new());
        writer.map(entries);
        writer
    }

    pub(in crate::clawchat1) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(in crate::clawchat1) fn map(&mut self, entries: usize) {
        self.head(MAP, entries as u64);
    }

    pub(in crate::clawchat1) fn array(&mut self, items: usize) {
        self.head(ARRAY, items as u64);
    }

    /// The key of a map; its value comes next.
    pub(in crate::clawchat1) fn key(&mut self, key: &str) -> &mut Self {
        self.text(key);
        self
    }

    pub(in crate::clawchat1) fn text(&mut self, text: &str) {
        self.head(TEXT, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(in crate::clawchat1) fn bytes(&mut self, bytes: &[u8]) {
        self.head(BYTES, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Bytes in the spelling of some fields: an array of integers.
    pub(in crate::clawchat1) fn byte_array(&mut self, bytes: &[u8]) {
        self.array(bytes.len());
        for byte in bytes {
            self.unsigned(u64::from(*byte));
        }
    }

    pub(in crate::clawchat1) fn unsigned(&mut self, number: u64) {
        self.head(UNSIGNED, number);
    }

    pub(in crate::clawchat1) fn integer(&mut self, number: i64) {
        match u64::try_from(number) {
            Ok(number) => self.unsigned(number),
            // -1 - n, without overflow.
            Err(_) => self.head(NEGATIVE, number.unsigned_abs() - 1),
        }
    }

    pub(in crate::clawchat1) fn bool(&mut self, value: bool) {
        self.0.push(if value { 0xf5 } else { 0xf4 });
    }

    pub(in crate::clawchat1) fn null(&mut self) {
        self.0.push(0xf6);
    }

    pub(in crate::clawchat1) fn undefined(&mut self) {
        self.0.push(0xf7);
    }

    fn head(&mut self, major: u8, argument: u64) {
        let major = major << 5;
        let bytes = argument.to_be_bytes();
        let [.., b4, b5, b6, b7] = bytes;
        match argument {
            0..=23 => self.0.push(major | b7),
            24..=0xff => self.0.extend_from_slice(&[major | 24, b7]),
            0x100..=0xffff => self.0.extend_from_slice(&[major | 25, b6, b7]),
            0x1_0000..=0xffff_ffff => self.0.extend_from_slice(&[major | 26, b4, b5, b6, b7]),
            0x1_0000_0000.. => {
                self.0.push(major | 27);
                self.0.extend_from_slice(&bytes);
            }
        }
    }
}
