//! Both ends of `chat/1` together: against a model, against strangers' bytes, and at their limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use clawchat_snap2p::chat::{
    ChatError, ChatEvent, ChatReceiver, ChatSender, Decision, MAX_ENVELOPE_BYTES, NackCode, QueueError,
    SignedEnvelope, WINDOW_BYTES, WINDOW_MESSAGES,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// An envelope that is its tag, made long enough.
fn envelope(tag: u64, length: usize) -> SignedEnvelope {
    let mut bytes = tag.to_be_bytes().to_vec();
    bytes.resize(length.max(8), 0);
    SignedEnvelope {
        bytes,
        signature: [0; 64],
    }
}

fn tag_of(envelope: &SignedEnvelope) -> u64 {
    u64::from_be_bytes(envelope.bytes[..8].try_into().unwrap())
}

const FOR_GOOD: Decision = Decision::Refused {
    code: NackCode::Invalid,
    retryable: false,
};
const FOR_NOW: Decision = Decision::Refused {
    code: NackCode::Busy,
    retryable: true,
};

/// One thing that happens between the two ends.
#[derive(Clone, Debug)]
enum Step {
    Queue,
    Write,
    ToReceiver(usize),
    Poll,
    /// Decide one of the messages that wait, with a decision chosen by the number.
    Decide(usize, u8),
    Answer,
    ToSender(usize),
    /// The stream breaks; what is under way is lost.
    Break,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Queue),
        4 => Just(Step::Write),
        8 => (1_usize..400).prop_map(Step::ToReceiver),
        6 => Just(Step::Poll),
        6 => (any::<usize>(), any::<u8>()).prop_map(|(which, how)| Step::Decide(which, how)),
        4 => Just(Step::Answer),
        8 => (1_usize..20).prop_map(Step::ToSender),
        1 => Just(Step::Break),
    ];
    vec(step, 0..400)
}

/// A sender's outbox, a receiver's inbox, and the stream between them.
#[derive(Default)]
struct World {
    /// Messages without a final outcome, in order.
    outbox: BTreeSet<u64>,
    /// Those queued on the present stream.
    queued: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    /// What the receiver holds, once each, in order of arrival.
    inbox: Vec<u64>,
    seen: BTreeSet<u64>,
    refused_here: BTreeSet<u64>,
    sender: ChatSender,
    receiver: ChatReceiver,
    undecided: BTreeMap<u64, u64>,
    there: VecDeque<u8>,
    back: VecDeque<u8>,
}

impl World {
    fn restart(&mut self) {
        self.sender = ChatSender::new();
        self.receiver = ChatReceiver::new();
        self.queued.clear();
        self.undecided.clear();
        self.there.clear();
        self.back.clear();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Queue => {
                if let Some(&tag) = self.outbox.difference(&self.queued).next() {
                    let envelope = envelope(tag, usize::try_from(tag * 37 % 300).unwrap());
                    if self.sender.queue(tag, envelope).is_ok() {
                        self.queued.insert(tag);
                    }
                }
            }
            Step::Write => {
                let mut out = Vec::new();
                self.sender.poll_write(&mut out);
                self.there.extend(out);
            }
            Step::ToReceiver(count) => {
                let bytes: Vec<u8> = self.there.drain(..count.min(self.there.len())).collect();
                self.receiver.handle_bytes(&bytes).unwrap();
            }
            Step::Poll => {
                if let Some((number, envelope)) = self.receiver.poll_message() {
                    self.undecided.insert(number, tag_of(&envelope));
                }
            }
            Step::Decide(which, how) => self.decide(which, how),
            Step::Answer => {
                let mut out = Vec::new();
                self.receiver.poll_write(&mut out);
                self.back.extend(out);
            }
            Step::ToSender(count) => {
                let bytes: Vec<u8> = self.back.drain(..count.min(self.back.len())).collect();
                self.sender.handle_bytes(&bytes).unwrap();
                self.take_events();
                if self.sender.is_ended() {
                    assert!(self.receiver.is_ended());
                    self.restart();
                }
            }
            Step::Break => self.restart(),
        }
    }

    /// A store takes messages in the order in which they stand in its queue: only a refusal may overtake.
    fn decide(&mut self, which: usize, how: u8) {
        let Some(&number) = self.undecided.keys().nth(which % self.undecided.len().max(1)) else {
            return;
        };
        let tag = self.undecided[&number];
        let first = self.undecided.keys().next() == Some(&number);
        let decision = match (how, first) {
            _ if self.seen.contains(&tag) => Decision::Stored,
            _ if self.refused_here.contains(&tag) => FOR_GOOD,
            (0..20, _) => FOR_NOW,
            (20..50, _) => FOR_GOOD,
            (_, true) => Decision::Stored,
            (_, false) => return,
        };
        self.undecided.remove(&number);
        assert!(self.receiver.decide(number, decision));
        assert!(!self.receiver.decide(number, decision), "decided twice");
        if decision == FOR_NOW {
            // The receiver wants to hear no more of what is behind.
            for late in self.undecided.split_off(&number).into_keys() {
                assert!(!self.receiver.decide(late, Decision::Stored));
            }
        } else if decision == FOR_GOOD {
            self.refused_here.insert(tag);
        } else if self.seen.insert(tag) {
            self.inbox.push(tag);
        }
    }

    fn take_events(&mut self) {
        while let Some(event) = self.sender.poll_event() {
            match event {
                ChatEvent::Acked { tag } => {
                    assert!(self.seen.contains(&tag), "acknowledged, but not stored: {tag}");
                    assert_eq!(self.queued.first(), Some(&tag), "events out of order");
                    self.delivered.insert(tag);
                    self.forget(tag);
                }
                ChatEvent::Nacked {
                    tag,
                    retryable: false,
                    ..
                } => {
                    assert_eq!(self.queued.first(), Some(&tag), "events out of order");
                    self.refused.insert(tag);
                    self.forget(tag);
                }
                ChatEvent::Nacked { tag, .. } => {
                    assert_eq!(self.queued.first(), Some(&tag), "events out of order");
                    assert!(self.sender.is_ended());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn forget(&mut self, tag: u64) {
        self.outbox.remove(&tag);
        self.queued.remove(&tag);
    }

    /// From here on nothing breaks and nothing new is refused.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.outbox.is_empty() {
                return;
            }
            for step in [
                Step::Queue,
                Step::Write,
                Step::ToReceiver(usize::MAX),
                Step::Poll,
                Step::Decide(0, 255),
                Step::Answer,
                Step::ToSender(usize::MAX),
            ] {
                self.step(&step);
            }
        }
        panic!("no progress: {} left", self.outbox.len());
    }
}

proptest! {
    #[test]
    fn every_message_arrives_once_and_in_order(count in 1_u64..60, steps in steps()) {
        let mut world = World { outbox: (1..=count).collect(), ..World::default() };
        for step in &steps {
            world.step(step);
        }
        world.settle();
        prop_assert!(world.inbox.is_sorted(), "{:?}", world.inbox);
        let stored: BTreeSet<u64> = world.inbox.iter().copied().collect();
        prop_assert_eq!(stored.len(), world.inbox.len());
        prop_assert_eq!(&stored, &world.delivered);
        prop_assert!(stored.is_disjoint(&world.refused));
        prop_assert_eq!(stored.len() + world.refused.len(), usize::try_from(count).unwrap());
    }

    #[test]
    fn a_receiver_survives_any_bytes(chunks in vec(vec(any::<u8>(), 0..60), 0..20), length in 0_u8..40) {
        let mut receiver = ChatReceiver::new();
        for chunk in chunks {
            // A plausible length field lets some of it reach the parser.
            let _ = receiver.handle_bytes(&[0, 0, 0, length]).and_then(|()| receiver.handle_bytes(&chunk));
            while let Some((number, _)) = receiver.poll_message() {
                receiver.decide(number, Decision::Stored);
            }
            receiver.poll_write(&mut Vec::new());
        }
    }

    #[test]
    fn a_sender_survives_any_bytes(chunks in vec(vec(any::<u8>(), 0..60), 0..20), length in 0_u8..40, queued in 0_u64..5) {
        let mut sender = ChatSender::new();
        for tag in 0..queued {
            sender.queue(tag, envelope(tag, 8)).unwrap();
        }
        sender.poll_write(&mut Vec::new());
        let mut events = 0;
        for chunk in chunks {
            let _ = sender.handle_bytes(&[0, 0, 0, length]).and_then(|()| sender.handle_bytes(&chunk));
            while sender.poll_event().is_some() {
                events += 1;
            }
        }
        prop_assert!(events <= queued);
    }

    #[test]
    fn a_changed_byte_is_a_violation_or_another_message(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut sender = ChatSender::new();
        for tag in 0..3 {
            sender.queue(tag, envelope(tag, 40)).unwrap();
        }
        let mut stream = Vec::new();
        sender.poll_write(&mut stream);
        let at = at.index(stream.len());
        stream[at] = byte;
        let mut receiver = ChatReceiver::new();
        let result = receiver.handle_bytes(&stream);
        prop_assert_eq!(receiver.handle_bytes(&[]), result);
        let mut numbers = Vec::new();
        while let Some((number, _)) = receiver.poll_message() {
            numbers.push(number);
        }
        prop_assert!(numbers.iter().copied().eq(1..=numbers.len() as u64));
        prop_assert!(result.is_err() || numbers.len() <= 3);
    }
}

fn written(sender: &mut ChatSender) -> Vec<u8> {
    let mut out = Vec::new();
    while sender.poll_write(&mut out) {}
    out
}

#[test]
fn the_window_is_counted_in_messages() {
    let mut sender = ChatSender::new();
    for tag in 0..WINDOW_MESSAGES as u64 {
        sender.queue(tag, envelope(tag, 8)).unwrap();
    }
    assert!(!sender.can_queue(8));
    assert_eq!(sender.queue(999, envelope(999, 8)), Err(QueueError::WindowFull));
    assert_eq!(sender.in_flight(), WINDOW_MESSAGES);

    let mut receiver = ChatReceiver::new();
    receiver.handle_bytes(&written(&mut sender)).unwrap();
    assert_eq!(receiver.undecided(), WINDOW_MESSAGES);
    let (number, _) = receiver.poll_message().unwrap();
    assert!(receiver.decide(number, Decision::Stored));
    let mut answer = Vec::new();
    assert!(receiver.poll_write(&mut answer));
    sender.handle_bytes(&answer).unwrap();
    // The event takes the message's place until somebody has seen it.
    assert!(!sender.can_queue(8));
    assert_eq!(sender.poll_event(), Some(ChatEvent::Acked { tag: 0 }));
    sender.queue(999, envelope(999, 8)).unwrap();
    receiver.handle_bytes(&written(&mut sender)).unwrap();
    assert_eq!(receiver.undecided(), WINDOW_MESSAGES);
}

#[test]
fn the_window_is_counted_in_bytes_but_one_message_always_goes() {
    let mut sender = ChatSender::new();
    sender.queue(1, envelope(1, MAX_ENVELOPE_BYTES)).unwrap();
    assert!(!sender.can_queue(0));
    let large = written(&mut sender);
    let mut receiver = ChatReceiver::new();
    receiver.handle_bytes(&large).unwrap();
    assert_eq!(
        receiver.poll_message().map(|(number, e)| (number, e.bytes.len())),
        Some((1, MAX_ENVELOPE_BYTES))
    );

    // As many as the sender allows itself, the receiver takes.
    let (mut sender, mut receiver) = (ChatSender::new(), ChatReceiver::new());
    let mut count = 0_u64;
    while sender.can_queue(100_000) {
        sender.queue(count, envelope(count, 100_000)).unwrap();
        count += 1;
    }
    assert_eq!(count, WINDOW_BYTES as u64 / 100_000);
    while sender.can_queue(8) {
        sender.queue(count, envelope(count, 8)).unwrap();
        count += 1;
    }
    receiver.handle_bytes(&written(&mut sender)).unwrap();
    assert_eq!(receiver.undecided() as u64, count);
}

#[test]
fn an_answer_gives_the_bytes_back() {
    let (mut sender, mut receiver) = (ChatSender::new(), ChatReceiver::new());
    for tag in 1..10 {
        sender.queue(tag, envelope(tag, 8)).unwrap();
        sender.queue(100 + tag, envelope(tag, 600_000)).unwrap();
        assert!(!sender.can_queue(600_000));
        receiver.handle_bytes(&written(&mut sender)).unwrap();
        while let Some((number, _)) = receiver.poll_message() {
            assert!(receiver.decide(number, Decision::Stored));
        }
        let mut answer = Vec::new();
        receiver.poll_write(&mut answer);
        sender.handle_bytes(&answer).unwrap();
        assert_eq!(sender.poll_event(), Some(ChatEvent::Acked { tag }));
        assert_eq!(sender.poll_event(), Some(ChatEvent::Acked { tag: 100 + tag }));
    }
}

#[test]
fn an_envelope_nobody_would_take_is_not_queued() {
    let mut sender = ChatSender::new();
    let bytes = MAX_ENVELOPE_BYTES + 1;
    assert_eq!(
        sender.queue(1, envelope(1, bytes)),
        Err(QueueError::TooLarge { bytes })
    );
    assert_eq!(sender.in_flight(), 0);
}

#[test]
fn output_comes_in_bounded_pieces() {
    let mut sender = ChatSender::new();
    sender.queue(1, envelope(1, 1_000_000)).unwrap();
    let mut total = 0;
    loop {
        let mut out = Vec::new();
        if !sender.poll_write(&mut out) {
            break;
        }
        assert!(out.len() <= 64 * 1024);
        total += out.len();
        if total < 1_000_000 {
            // Not sent yet, so there is nothing to acknowledge.
            assert_eq!(sender.in_flight(), 1);
        }
    }
    assert!(total > 1_000_000);
}

#[test]
fn only_polled_messages_can_be_decided() {
    let (mut sender, mut receiver) = (ChatSender::new(), ChatReceiver::new());
    sender.queue(1, envelope(1, 8)).unwrap();
    receiver.handle_bytes(&written(&mut sender)).unwrap();
    for number in [0, 1, 2, u64::MAX] {
        assert!(!receiver.decide(number, Decision::Stored), "{number}");
    }
    receiver.poll_message().unwrap();
    assert!(receiver.decide(1, Decision::Stored));
    assert!(!receiver.decide(1, FOR_NOW));
    assert!(!receiver.is_ended());
}

#[test]
fn an_error_stays() {
    let mut sender = ChatSender::new();
    sender.queue(1, envelope(1, 8)).unwrap();
    let error = ChatError::FrameTooLong {
        bytes: 0xffff_ffff,
        limit: 1024,
    };
    assert_eq!(sender.handle_bytes(&[0xff; 4]), Err(error));
    assert_eq!(sender.handle_bytes(&[]), Err(error));
    assert_eq!(sender.queue(2, envelope(2, 8)), Err(QueueError::Ended));
    assert!(!sender.poll_write(&mut Vec::new()));
}

#[test]
fn contents_are_not_shown() {
    let envelope = SignedEnvelope {
        bytes: b"secret".to_vec(),
        signature: [0; 64],
    };
    assert_eq!(format!("{envelope:?}"), "SignedEnvelope(6 bytes)");
}
