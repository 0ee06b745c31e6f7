//! Messages out of the pieces of a stream.

use std::collections::VecDeque;

use super::message::{Message, Px1Error, check_frame, decode};
use crate::prefixed::FrameBuffer;

/// Which end of a `px-1` stream is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// We opened it: we ask and tell, and read answers.
    Opener,
    /// The peer opened it: we read questions and pushes.
    Acceptor,
}

/// Cuts the bytes of one stream into messages, and refuses those that only the other end may send.
///
/// Holds at most one unfinished frame, and of that only what has arrived.
#[derive(Debug)]
pub struct MessageReader {
    end: End,
    buffer: FrameBuffer,
    messages: VecDeque<Message>,
}

impl MessageReader {
    /// A reader at one end of a new stream.
    #[must_use]
    pub fn new(end: End) -> Self {
        Self {
            end,
            buffer: FrameBuffer::default(),
            messages: VecDeque::new(),
        }
    }

    /// Takes bytes of the stream. Take the messages out with [`MessageReader::next_message`] before more bytes come.
    ///
    /// # Errors
    /// [`Px1Error`]: the stream is to be reset. Messages before the bad one can still be taken.
    pub fn handle_bytes(&mut self, mut bytes: &[u8]) -> Result<(), Px1Error> {
        while let Some(body) = self.buffer.next_frame(&mut bytes, check_frame)? {
            let message = decode(&body)?;
            let for_us = match self.end {
                End::Opener => !message.is_of_opener(),
                End::Acceptor => message.is_of_opener(),
            };
            if !for_us {
                return Err(Px1Error::UnexpectedMessage { kind: message.kind() });
            }
            self.messages.push_back(message);
        }
        Ok(())
    }

    /// The next complete message.
    pub fn next_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clawchat_testkit::Person;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::{MAX_CARDS, MAX_FRAME_BYTES, MAX_WANTED, encode};
    use super::*;
    use crate::cbor::EncodingError;

    fn cards(least: usize) -> impl Strategy<Value = Vec<Arc<[u8]>>> {
        vec(vec(any::<u8>(), 1..400).prop_map(Arc::from), least..8)
    }

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            (
                any::<u64>(),
                1..=MAX_WANTED,
                prop::sample::select(&Person::ALL[..])
            )
                .prop_map(|(id, max, person)| Message::Resolve {
                    id,
                    principal: person.principal(),
                    max
                }),
            (any::<u64>(), cards(0)).prop_map(|(id, cards)| Message::Found { id, cards }),
            cards(1).prop_map(|cards| Message::Push { cards }),
        ]
    }

    #[test]
    fn what_cannot_be_read_is_not_written() {
        let card = |bytes: usize| -> Arc<[u8]> { vec![7; bytes].into() };
        let push = |cards: Vec<Arc<[u8]>>| encode(&Message::Push { cards });
        let bad = Err(Px1Error::Malformed(EncodingError::BadValue { field: "c" }));
        assert_eq!(push(vec![]), bad);
        assert_eq!(push(vec![card(0)]), bad);
        assert_eq!(push(vec![card(16 * 1024 + 1)]), bad);
        assert_eq!(push(vec![card(1); MAX_CARDS + 1]), bad);
        assert!(push(vec![card(16 * 1024); 3]).is_ok());
        assert!(matches!(
            push(vec![card(16 * 1024); 4]),
            Err(Px1Error::FrameTooLong { bytes }) if bytes > MAX_FRAME_BYTES
        ));
        for max in [0, MAX_WANTED + 1] {
            let principal = Person::Bob.principal();
            let error = encode(&Message::Resolve {
                id: 1,
                principal,
                max,
            });
            assert_eq!(
                error,
                Err(Px1Error::Malformed(EncodingError::BadValue { field: "m" }))
            );
        }
    }

    #[test]
    fn an_announced_length_is_refused_before_the_body() {
        let mut reader = MessageReader::new(End::Acceptor);
        assert_eq!(
            reader.handle_bytes(&65_537_u32.to_be_bytes()),
            Err(Px1Error::FrameTooLong { bytes: 65_537 })
        );
        let mut reader = MessageReader::new(End::Acceptor);
        assert_eq!(reader.handle_bytes(&65_536_u32.to_be_bytes()), Ok(()));
    }

    proptest! {
        #[test]
        fn messages_survive_the_wire_in_any_pieces(messages in vec(message(), 1..6), piece in 1_usize..300) {
            for end in [End::Opener, End::Acceptor] {
                let mut reader = MessageReader::new(end);
                let ours: Vec<Message> =
                    messages.iter().filter(|message| message.is_of_opener() == (end == End::Acceptor)).cloned().collect();
                let bytes: Vec<u8> = ours.iter().flat_map(|message| encode(message).unwrap()).collect();
                let mut read = Vec::new();
                for piece in bytes.chunks(piece) {
                    reader.handle_bytes(piece).unwrap();
                    read.extend(std::iter::from_fn(|| reader.next_message()));
                }
                prop_assert_eq!(read, ours);
            }
        }

        #[test]
        fn the_wrong_end_is_refused(message in message()) {
            let end = if message.is_of_opener() { End::Opener } else { End::Acceptor };
            let mut reader = MessageReader::new(end);
            prop_assert_eq!(
                reader.handle_bytes(&encode(&message).unwrap()),
                Err(Px1Error::UnexpectedMessage { kind: message.kind() })
            );
        }

        #[test]
        fn damaged_messages_never_panic_and_what_is_read_is_written_alike(
            message in message(), at in any::<prop::sample::Index>(), with in any::<u8>(), keep in any::<prop::sample::Index>(),
        ) {
            let mut body = encode(&message).unwrap().split_off(4);
            prop_assert!(decode(&body[..keep.index(body.len())]).is_err());
            let at = at.index(body.len());
            body[at] = with;
            if let Ok(read) = decode(&body) {
                let again = encode(&read).unwrap();
                // Only a field that nobody knows can be in one and not in the other.
                prop_assert!(again[4..] == body || again.len() - 4 < body.len());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
            let mut reader = MessageReader::new(End::Acceptor);
            let _ = reader.handle_bytes(&bytes);
        }
    }
}
