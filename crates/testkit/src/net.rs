//! A network in memory: messages with latency between numbered nodes, timers, and lines that can be cut.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;

use clawchat_types::Moment;

use crate::clock::START;
use crate::random::SeededRng;

/// What happens next in a [`Net`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening<T> {
    /// A message arrives over a line that still stands.
    Message {
        /// The sender.
        from: usize,
        /// The receiver.
        to: usize,
        /// What was sent.
        payload: T,
    },
    /// A time that [`Net::wake`] asked for has come.
    Wake {
        /// Whose time.
        node: usize,
        /// What was asked to be given back.
        payload: T,
    },
}

/// A seeded network: the same calls in the same order give the same happenings. Lines keep the order of messages and lose
/// none unless they are cut: then what is under way is lost, as with a broken connection.
#[derive(Debug)]
pub struct Net<T> {
    now: Duration,
    random: SeededRng,
    latency: RangeInclusive<Duration>,
    /// By time, then in the order they were asked for.
    queue: BTreeMap<(Duration, u64), Queued<T>>,
    next: u64,
    /// Lines with a number each, so that a new line is not taken for the one before.
    lines: HashMap<(usize, usize), u64>,
    /// Who has a line to whom.
    joined: HashMap<usize, BTreeSet<usize>>,
    /// When the last message in one direction arrives.
    last: HashMap<(usize, usize), Duration>,
}

#[derive(Debug)]
struct Queued<T> {
    happening: Happening<T>,
    /// The line a message travels on.
    line: Option<u64>,
}

impl<T> Net<T> {
    /// A network without lines, its time at zero. Each message takes a random time within `latency`.
    #[must_use]
    pub fn new(seed: u64, latency: RangeInclusive<Duration>) -> Self {
        Self {
            now: Duration::ZERO,
            random: SeededRng::new(seed),
            latency,
            queue: BTreeMap::new(),
            next: 0,
            lines: HashMap::new(),
            joined: HashMap::new(),
            last: HashMap::new(),
        }
    }

    /// Its time, with the wall clock at [`START`] in the beginning.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment {
            wall: START.after(self.now),
            mono: self.now,
        }
    }

    /// A random time within the latency.
    pub fn latency(&mut self) -> Duration {
        let (least, most) = (*self.latency.start(), *self.latency.end());
        let span = most.saturating_sub(least).as_micros();
        let micros = self
            .random
            .below(u64::try_from(span).unwrap_or(u64::MAX).saturating_add(1));
        least + Duration::from_micros(micros)
    }

    /// Joins two nodes. False if they are joined already.
    pub fn join(&mut self, a: usize, b: usize) -> bool {
        if self.is_joined(a, b) {
            return false;
        }
        self.next += 1;
        self.lines.insert((a.min(b), a.max(b)), self.next);
        self.joined.entry(a).or_default().insert(b);
        self.joined.entry(b).or_default().insert(a);
        true
    }

    /// Cuts the line between two nodes; what is under way on it is lost. False if there was none.
    pub fn part(&mut self, a: usize, b: usize) -> bool {
        for (one, other) in [(a, b), (b, a)] {
            if let Some(joined) = self.joined.get_mut(&one) {
                joined.remove(&other);
            }
            self.last.remove(&(one, other));
        }
        self.lines.remove(&(a.min(b), a.max(b))).is_some()
    }

    /// Whether two nodes have a line.
    #[must_use]
    pub fn is_joined(&self, a: usize, b: usize) -> bool {
        self.lines.contains_key(&(a.min(b), a.max(b)))
    }

    /// Whom a node has a line to, in ascending order.
    #[must_use]
    pub fn joined(&self, node: usize) -> Vec<usize> {
        self.joined
            .get(&node)
            .map(|nodes| nodes.iter().copied().collect())
            .unwrap_or_default()
    }

    /// Sends a message. It is lost if there is no line.
    pub fn send(&mut self, from: usize, to: usize, payload: T) {
        let Some(line) = self.lines.get(&(from.min(to), from.max(to))).copied() else {
            return;
        };
        let arrives = self.now.saturating_add(self.latency());
        let last = self.last.entry((from, to)).or_default();
        *last = arrives.max(*last);
        let at = *last;
        self.put(at, Happening::Message { from, to, payload }, Some(line));
    }

    /// Asks for a [`Happening::Wake`] at a time of [`Moment::mono`], or now if that is past.
    pub fn wake(&mut self, node: usize, at: Duration, payload: T) {
        self.put(at.max(self.now), Happening::Wake { node, payload }, None);
    }

    /// Lets time pass until the next thing happens, but not beyond `end`. `None`: it is `end` now.
    pub fn next(&mut self, end: Duration) -> Option<Happening<T>> {
        loop {
            let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) else {
                self.now = self.now.max(end);
                return None;
            };
            let ((at, _), queued) = entry.remove_entry();
            self.now = at;
            let stands = match (&queued.happening, queued.line) {
                (Happening::Message { from, to, .. }, Some(line)) => {
                    self.lines.get(&(*from.min(to), *from.max(to))) == Some(&line)
                }
                (Happening::Message { .. } | Happening::Wake { .. }, _) => true,
            };
            if stands {
                return Some(queued.happening);
            }
        }
    }

    fn put(&mut self, at: Duration, happening: Happening<T>, line: Option<u64>) {
        self.next += 1;
        self.queue.insert((at, self.next), Queued { happening, line });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn all(net: &mut Net<u32>, end: Duration) -> Vec<u32> {
        std::iter::from_fn(|| net.next(end))
            .map(|happening| match happening {
                Happening::Message { payload, .. } | Happening::Wake { payload, .. } => payload,
            })
            .collect()
    }

    #[test]
    fn a_line_keeps_the_order_and_a_cut_loses_what_is_under_way() {
        let mut net = Net::new(1, ms(10)..=ms(90));
        assert!(net.join(1, 2) && !net.join(2, 1));
        (0..50).for_each(|number| net.send(1, 2, number));
        assert_eq!(all(&mut net, ms(1000)), (0..50).collect::<Vec<u32>>());
        assert_eq!(net.now().mono, ms(1000));
        net.send(2, 1, 7);
        assert!(net.part(1, 2) && net.join(1, 2));
        net.send(2, 1, 8);
        net.send(2, 3, 9);
        assert_eq!(all(&mut net, ms(2000)), [8]);
        assert_eq!(net.joined(2), [1]);
    }

    #[test]
    fn the_same_seed_gives_the_same_times() {
        let run = |seed| {
            let mut net = Net::new(seed, ms(1)..=ms(1000));
            for to in 1..20_u32 {
                net.join(0, to as usize);
                net.send(0, to as usize, to);
            }
            net.wake(0, ms(500), 99);
            all(&mut net, ms(5000))
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn nothing_happens_after_the_end_of_a_step() {
        let mut net = Net::new(1, ms(1)..=ms(1));
        net.wake(4, ms(10), 1);
        assert_eq!(net.next(ms(9)), None);
        assert_eq!(net.next(ms(10)), Some(Happening::Wake { node: 4, payload: 1 }));
    }
}
