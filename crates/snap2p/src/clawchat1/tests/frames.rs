//! Frames cut anywhere, in every size, at a bounded cost.

use proptest::prelude::*;

use crate::clawchat1::{FrameError, FrameReader, MAX_FRAME, MAX_PRE_AUTH_FRAME, frame};

#[test]
fn frames_are_cut_wherever_the_bytes_are_split() {
    let bytes = [frame(b"one"), frame(b""), frame(b"three")].concat();
    for step in 1..=bytes.len() {
        let mut reader = FrameReader::new();
        let mut frames = Vec::new();
        for piece in bytes.chunks(step) {
            reader.push(piece);
            while let Some(frame) = reader.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(frames, [b"one".to_vec(), Vec::new(), b"three".to_vec()]);
        assert_eq!(reader.buffered(), 0);
    }
}

#[test]
fn a_strangers_frame_is_refused_at_its_header() {
    for announced in [MAX_PRE_AUTH_FRAME + 1, MAX_FRAME + 1, u32::MAX as usize] {
        let mut reader = FrameReader::new();
        let header = u32::try_from(announced).unwrap().to_be_bytes();
        reader.push(&header[..3]);
        assert_eq!(reader.next_frame(), Ok(None));
        reader.push(&header[3..]);
        let error = FrameError::TooLong {
            length: announced,
            limit: MAX_PRE_AUTH_FRAME,
        };
        assert_eq!(reader.next_frame(), Err(error));
        reader.push(&[0; 100]);
        assert_eq!(reader.next_frame(), Err(error));
        assert_eq!(reader.buffered(), 0);
    }
}

#[test]
fn the_limit_is_raised_between_two_frames_of_one_push() {
    let long = frame(&[7; MAX_PRE_AUTH_FRAME + 1]);
    let mut reader = FrameReader::new();
    reader.push(&[frame(&[0; MAX_PRE_AUTH_FRAME]), long].concat());
    assert_eq!(reader.next_frame().unwrap().unwrap().len(), MAX_PRE_AUTH_FRAME);
    reader.set_limit(usize::MAX);
    assert_eq!(reader.next_frame().unwrap().unwrap(), [7; MAX_PRE_AUTH_FRAME + 1]);
    assert_eq!(reader.announced(), None);
}

#[test]
fn the_largest_frame_arrives_in_small_pieces() {
    let mut reader = FrameReader::new();
    reader.set_limit(MAX_FRAME);
    let bytes = frame(&vec![0xee; MAX_FRAME]);
    for piece in bytes.chunks(1400) {
        assert_eq!(reader.next_frame(), Ok(None));
        reader.push(piece);
    }
    assert_eq!(reader.next_frame().unwrap().unwrap().len(), MAX_FRAME);
    assert_eq!(reader.buffered(), 0);
}

#[test]
fn many_small_frames_arrive_in_one_push() {
    let mut reader = FrameReader::new();
    let bytes = frame(b"1").repeat(500_000);
    reader.push(&bytes);
    // Some of them are taken only after more has arrived.
    for _ in 0..250_000 {
        assert!(reader.next_frame().unwrap().is_some());
        reader.push(&[]);
    }
    for _ in 0..250_000 {
        assert!(reader.next_frame().unwrap().is_some());
    }
    assert_eq!(reader.next_frame(), Ok(None));
}

#[test]
fn what_is_announced_is_told_until_it_is_there() {
    let mut reader = FrameReader::new();
    reader.push(&[0, 0, 0]);
    assert_eq!(reader.announced(), None);
    reader.push(&[3, 1, 2]);
    assert_eq!((reader.next_frame(), reader.announced()), (Ok(None), Some(3)));
    reader.push(&[3, 0]);
    assert_eq!(reader.announced(), None);
    assert_eq!(reader.next_frame(), Ok(Some(vec![1, 2, 3])));
    assert_eq!(reader.buffered(), 1);
}

/// Bytes of which many are headers of short frames.
fn mostly_zero() -> impl Strategy<Value = u8> {
    any::<u16>().prop_map(|bits| if bits < 0xc000 { 0 } else { bits.to_be_bytes()[1] })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_never_pile_up(
        pieces in prop::collection::vec(prop::collection::vec(mostly_zero(), 0..400), 0..20),
        limit in 0_usize..5000,
    ) {
        let mut reader = FrameReader::new();
        reader.set_limit(limit);
        for piece in pieces {
            reader.push(&piece);
            while let Ok(Some(frame)) = reader.next_frame() {
                prop_assert!(frame.len() <= limit);
            }
            prop_assert!(reader.buffered() < 4 + limit.max(1));
        }
    }

    #[test]
    fn frames_survive_any_cutting(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
        step in 1_usize..700,
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|body| frame(body)).collect();
        let mut reader = FrameReader::new();
        let mut read = Vec::new();
        for piece in bytes.chunks(step) {
            reader.push(piece);
            while let Some(frame) = reader.next_frame().unwrap() {
                read.push(frame);
            }
        }
        prop_assert_eq!(read, frames);
    }
}
