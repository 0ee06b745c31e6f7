//! The few CBOR items control messages are written in, without going through a serializer.

pub(super) const MAJOR_UINT: u8 = 0;
pub(super) const MAJOR_BYTES: u8 = 2;
const MAJOR_TEXT: u8 = 3;
const MAJOR_ARRAY: u8 = 4;
const MAJOR_MAP: u8 = 5;

/// A field's value.
pub(super) enum Value<'a> {
    Uint(u64),
    Bytes(&'a [u8]),
    Text(&'a str),
    Texts(&'a [String]),
}

/// Appends a map. The keys must come in the bytewise order of their encodings: by length, then by letter.
pub(super) fn write_map(out: &mut Vec<u8>, entries: &[(&str, Value<'_>)]) {
    write_head(out, MAJOR_MAP, entries.len() as u64);
    for (key, value) in entries {
        write_text(out, key);
        match value {
            Value::Uint(number) => write_head(out, MAJOR_UINT, *number),
            Value::Bytes(bytes) => {
                write_head(out, MAJOR_BYTES, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Value::Text(text) => write_text(out, text),
            Value::Texts(texts) => {
                write_head(out, MAJOR_ARRAY, texts.len() as u64);
                texts.iter().for_each(|text| write_text(out, text));
            }
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_head(out, MAJOR_TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Major type and argument in the shortest form.
fn write_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    match argument {
        0..=23 => out.push(major | bytes[7]),
        24..=0xff => out.extend_from_slice(&[major | 24, bytes[7]]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        0x1_0000_0000.. => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

/// The argument of a head of this major type, if it is in the shortest form.
pub(super) fn read_head(bytes: &[u8], major: u8) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first >> 5 != major {
        return None;
    }
    let (width, least) = match first & 0x1f {
        short @ 0..=23 => return Some((short.into(), rest)),
        24 => (1, 24),
        25 => (2, 1 << 8),
        26 => (4, 1 << 16),
        27 => (8, 1 << 32),
        _ => return None,
    };
    let (number, rest) = rest.split_at_checked(width)?;
    let number = number
        .iter()
        .fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    (number >= least).then_some((number, rest))
}
