use proptest::prelude::*;

use super::super::batch::tests::{note, sender};
use super::super::guard::{MAX_WAKES, PAUSE};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The wake that is due.
fn wake(queue: &mut Queue, now: Duration) -> Batch {
    match queue.next(now) {
        Next::Wake(batch) => *batch,
        other => panic!("{other:?} instead of a wake at {now:?}"),
    }
}

#[test]
fn the_first_wakes_at_once_and_the_rest_together_after_a_rest() {
    let mut queue = Queue::default();
    assert_eq!(queue.next(at(0)), Next::Wait(None));
    queue.add(note(1, 1, "a"), at(0));
    assert_eq!(queue.settled(1), 0);
    let first = wake(&mut queue, at(0));
    assert!(first.sentence().ends_with(": a"));
    queue.add(note(2, 1, "b"), at(10));
    queue.add(note(3, 1, "c"), at(20));
    assert_eq!(queue.next(at(20)), Next::Wait(None), "one at a time");
    queue.finished(true, at(100), 0);
    assert_eq!(queue.settled(3), 1);
    assert_eq!(queue.next(at(100)), Next::Wait(Some(at(1100))));
    assert!(wake(&mut queue, at(1100)).sentence().contains("2 messages from"));
    queue.finished(true, at(1200), 0);
    assert_eq!(queue.settled(3), 3);
}

#[test]
fn urgent_ones_do_not_rest() {
    let mut queue = Queue::default();
    queue.add(note(1, 1, "a"), at(0));
    wake(&mut queue, at(0));
    queue.finished(true, at(100), 0);
    queue.add(note(2, 1, "b"), at(110));
    queue.add(note(3, 1, "URGENT: c"), at(120));
    assert!(wake(&mut queue, at(120)).is_urgent());
}

#[test]
fn failures_are_tried_again_ever_more_slowly_until_the_messages_are_read() {
    let mut queue = Queue::default();
    queue.add(note(7, 1, "a"), at(0));
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..12 {
        wake(&mut queue, now);
        queue.finished(false, now, 0);
        assert_eq!(queue.settled(9), 6);
        let Next::Wait(Some(then)) = queue.next(now) else {
            panic!("no retry")
        };
        waits.push((then - now).as_secs());
        now = then;
        let look = Next::LookAgain { after: 6, from: None };
        assert_eq!(queue.next(now), look);
        queue.add(note(7, 1, "a"), now);
        queue.looked_again(false);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    wake(&mut queue, now);
    queue.finished(false, now, 255);
    now += 2 * LAST_RETRY;
    queue.next(now);
    queue.looked_again(false);
    assert_eq!(queue.next(now), Next::Wait(None), "it was read");
    assert_eq!(queue.settled(9), 9);
    queue.add(note(10, 1, "b"), now);
    wake(&mut queue, now);
    queue.finished(false, now, 0);
    assert_eq!(
        queue.next(now),
        Next::Wait(Some(now + FIRST_RETRY)),
        "a new story"
    );
}

#[test]
fn news_make_the_next_try_earlier_but_not_immediate() {
    let mut queue = Queue {
        failures: 20,
        ..Queue::default()
    };
    queue.add(note(1, 1, "a"), at(0));
    wake(&mut queue, at(0));
    queue.finished(false, at(0), 0);
    assert_eq!(queue.next(at(0)), Next::Wait(Some(LAST_RETRY)));
    queue.add(note(2, 1, "b"), at(5));
    assert_eq!(queue.next(at(5)), Next::Wait(Some(FRESH_RETRY)));
    assert_eq!(queue.next(FRESH_RETRY), Next::LookAgain { after: 0, from: None });
}

#[test]
fn a_failure_takes_along_what_arrived_meanwhile() {
    let mut queue = Queue::default();
    queue.add(note(5, 1, "a"), at(0));
    wake(&mut queue, at(0));
    queue.add(note(6, 1, "b"), at(1));
    queue.finished(false, at(2), 0);
    assert_eq!(queue.next(at(1002)), Next::LookAgain { after: 4, from: None });
    queue.add(note(5, 1, "a"), at(1002));
    queue.add(note(6, 1, "b"), at(1002));
    queue.looked_again(true);
    let batch = wake(&mut queue, at(1002));
    assert!(
        batch.sentence().contains("more than 2 messages"),
        "{}",
        batch.sentence()
    );
}

#[test]
fn a_peer_that_wakes_too_often_pauses_and_is_told_of_once_at_the_end() {
    let mut queue = Queue::default();
    let mut now = at(0);
    let mut arrival = 0;
    for _ in 0..MAX_WAKES {
        arrival += 1;
        assert!(!queue.add(note(arrival, 1, "ping"), now));
        wake(&mut queue, now);
        queue.finished(true, now, 0);
        now += SECOND;
    }
    let began = now;
    assert!(queue.add(note(21, 1, "ping"), now), "the pause begins");
    assert!(
        !queue.add(note(22, 1, "URGENT: ping"), now),
        "and is mentioned once"
    );
    assert_eq!(queue.paused().collect::<Vec<_>>(), [(&sender(1), now + PAUSE)]);
    assert_eq!(queue.next(now), Next::Wait(Some(now + PAUSE)));
    queue.add(note(23, 2, "hello"), now);
    assert!(
        wake(&mut queue, now).sentence().ends_with("hello"),
        "others wake as ever"
    );
    queue.finished(true, now, 0);
    assert_eq!(queue.settled(23), 20);
    now = began + PAUSE;
    let again = Next::LookAgain {
        after: 20,
        from: Some(sender(1)),
    };
    assert_eq!(queue.next(now), again);
    queue.add(note(21, 1, "ping"), now);
    queue.add(note(22, 1, "URGENT: ping"), now);
    queue.looked_again(false);
    assert!(wake(&mut queue, now).sentence().contains("2 messages from"));
    queue.finished(true, now, 0);
    assert_eq!((queue.paused().count(), queue.settled(23)), (0, 23));
}

#[derive(Clone, Debug)]
enum Step {
    Arrive { from: u8, urgent: bool },
    Finish { success: bool },
    Read,
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4_u8, any::<bool>()).prop_map(|(from, urgent)| Step::Arrive { from, urgent }),
        4 => any::<bool>().prop_map(|success| Step::Finish { success }),
        1 => Just(Step::Read),
        3 => (0..3000_u64).prop_map(|millis| Step::Pass { millis }),
    ]
}

proptest! {
    /// Whatever happens: one wake at a time, never too many for one peer, and in the end every message was told
    /// or read.
    #[test]
    fn nothing_is_lost_and_nothing_piles_up(steps in proptest::collection::vec(step(), 1..300)) {
        let peers: Vec<Principal> = (0..4).map(sender).collect();
        let mut queue = Queue::default();
        let mut now = at(0);
        let mut inbox: Vec<(Note, bool)> = Vec::new(); // and whether it is unread
        let mut told: Vec<bool> = Vec::new();
        let mut running: Option<Vec<usize>> = None;
        let mut wakes: Vec<Vec<Duration>> = vec![Vec::new(); 4];
        let ending = (0..80).flat_map(|_| [Step::Finish { success: true }, Step::Pass { millis: 20_000 }]);
        for step in steps.into_iter().chain(ending) {
            match step {
                Step::Arrive { from, urgent } => {
                    let mut note = note(inbox.len() as u64 + 1, 1, if urgent { "URGENT: x" } else { "x" });
                    note.from = peers[usize::from(from)];
                    inbox.push((note.clone(), true));
                    told.push(false);
                    queue.add(note, now);
                }
                Step::Finish { success } => if let Some(messages) = running.take() {
                    if success {
                        messages.iter().for_each(|index| told[*index] = true);
                    }
                    queue.finished(success, now, 7);
                },
                Step::Read => inbox.iter_mut().for_each(|(_, unread)| *unread = false),
                Step::Pass { millis } => now += at(millis),
            }
            for turn in 0.. {
                prop_assert!(turn < 20, "it never rests");
                match queue.next(now) {
                    Next::Wake(batch) => {
                        prop_assert!(running.is_none(), "two at a time");
                        for peer in batch.senders() {
                            let index = peers.iter().position(|known| known == peer).unwrap();
                            wakes[index].push(now);
                        }
                        let json = batch.to_json(&peers[0]);
                        let ids: Vec<String> = json["ids"].as_array().unwrap().iter()
                            .map(|id| id.as_str().unwrap().to_owned()).collect();
                        let messages = (0..inbox.len())
                            .filter(|index| ids.contains(&inbox[*index].0.id.to_string())).collect();
                        running = Some(messages);
                    }
                    Next::LookAgain { after, from } => {
                        for (note, unread) in &inbox {
                            if *unread && note.arrival > after && from.is_none_or(|from| from == note.from) {
                                queue.add(note.clone(), now);
                            }
                        }
                        queue.looked_again(false);
                    }
                    Next::Wait(_) => break,
                }
            }
        }
        for times in wakes {
            for window in times.windows(MAX_WAKES + 1) {
                prop_assert!(window[MAX_WAKES] - window[0] >= at(60_000), "too many wakes");
            }
        }
        prop_assert_eq!(queue.settled(inbox.len() as u64), inbox.len() as u64);
        for (index, (_, unread)) in inbox.iter().enumerate() {
            prop_assert!(told[index] || !unread, "message {index} was never told");
        }
    }
}
