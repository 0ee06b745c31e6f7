//! What a simulation measures, and how it is told.

use std::time::Duration;

use crate::TaskResult;

/// How long each line of the table is, in simulated time.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// The table's head.
pub(super) const HEAD: &str = "  from   online   links   resolved   from own book   messages/peer/min: mean  99 %   most   kB/peer/min   cards in book   kB of book";

/// One stretch of simulated time.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    pub(super) from: Duration,
    pub(super) online: usize,
    pub(super) links: f64,
    /// Searches that could succeed: their target stayed where it was.
    pub(super) searches: u64,
    pub(super) resolved: u64,
    /// Of them, those whose answer was in the asker's own book.
    pub(super) at_once: u64,
    /// Messages sent by each peer.
    pub(super) sent: Vec<u64>,
    pub(super) pushes: u64,
    pub(super) questions: u64,
    pub(super) answers: u64,
    pub(super) bytes: u64,
    /// Cards that had to be verified.
    pub(super) verified: u64,
    pub(super) book_cards: f64,
    pub(super) book_bytes: f64,
}

#[derive(Default)]
pub(super) struct Figures {
    windows: Vec<Window>,
}

impl Figures {
    /// Takes a window in; its line of the table.
    pub(super) fn add(&mut self, mut window: Window) -> String {
        window.sent.sort_unstable();
        let at = |part: usize| window.sent.get(part).copied().unwrap_or_default() as f64;
        let last = window.sent.len().saturating_sub(1);
        let line = format!(
            "{:>4} s {:>8} {:>7.1} {:>8.2} % {:>13.2} % {:>24.1} {:>5.0} {:>6.0} {:>13.0} {:>15.0} {:>12.0}",
            window.from.as_secs(),
            window.online,
            window.links,
            window.percent(),
            percent(window.at_once, window.searches),
            window.messages(),
            per_minute(at(last * 99 / 100)),
            per_minute(at(last)),
            per_minute(window.bytes as f64) / window.peers() / 1000.0,
            window.book_cards,
            window.book_bytes / 1000.0,
        );
        self.windows.push(window);
        line
    }

    pub(super) fn summary(&self) -> String {
        let first = match self.reached(99.0) {
            Some(first) => format!(
                "99 % of searches succeed after {} s; {:.2} % of all searches since then, {:.2} % in the worst {} s",
                first.as_secs(),
                self.percent_since(first),
                self.worst_since(first),
                WINDOW.as_secs()
            ),
            None => "99 % of searches never succeeded".to_owned(),
        };
        let minutes = self.windows.len() as f64 * WINDOW.as_secs_f64() / 60.0;
        let peers = self.windows.last().map_or(1.0, Window::peers);
        let each =
            |count: fn(&Window) -> u64| self.windows.iter().map(count).sum::<u64>() as f64 / minutes / peers;
        format!(
            "{first}\nsent by each peer in a minute: {:.1} messages ({:.1} pushes, {:.1} questions, {:.1} answers), {:.0} kB; \
             cards to verify: {:.0}",
            self.messages(),
            each(|window| window.pushes),
            each(|window| window.questions),
            each(|window| window.answers),
            each(|window| window.bytes) / 1000.0,
            each(|window| window.verified),
        )
    }

    pub(super) fn verdict(&self, percent: f64, within: Duration, messages: f64) -> TaskResult {
        let Some(first) = self.reached(percent).filter(|first| *first <= within) else {
            return Err(format!(
                "less than {percent} % of searches succeed after {} s",
                within.as_secs()
            ));
        };
        if self.percent_since(first) < percent {
            return Err(format!("{percent} % were reached, but not held"));
        }
        if self.messages() > messages {
            return Err(format!("more than {messages} messages a minute from each peer"));
        }
        Ok(())
    }

    /// The end of the first window in which so many searches succeeded, as in the two that follow.
    fn reached(&self, percent: f64) -> Option<Duration> {
        let enough = |windows: &&[Window]| windows.iter().all(|window| window.percent() >= percent);
        let three = self.windows.windows(3).find(enough)?;
        three.first().map(|window| window.from + WINDOW)
    }

    fn since(&self, first: Duration) -> impl Iterator<Item = &Window> {
        self.windows.iter().filter(move |window| window.from >= first)
    }

    fn percent_since(&self, first: Duration) -> f64 {
        let sum = |count: fn(&Window) -> u64| self.since(first).map(count).sum::<u64>();
        percent(sum(|window| window.resolved), sum(|window| window.searches))
    }

    fn worst_since(&self, first: Duration) -> f64 {
        self.since(first).map(Window::percent).fold(100.0, f64::min)
    }

    fn messages(&self) -> f64 {
        let all: f64 = self.windows.iter().map(Window::messages).sum();
        all / self.windows.len().max(1) as f64
    }
}

impl Window {
    fn percent(&self) -> f64 {
        percent(self.resolved, self.searches)
    }

    fn peers(&self) -> f64 {
        self.sent.len().max(1) as f64
    }

    /// Messages sent by each peer in a minute, on average.
    fn messages(&self) -> f64 {
        per_minute(self.sent.iter().sum::<u64>() as f64) / self.peers()
    }
}

fn percent(part: u64, of: u64) -> f64 {
    part as f64 * 100.0 / of.max(1) as f64
}

fn per_minute(in_window: f64) -> f64 {
    in_window * 60.0 / WINDOW.as_secs_f64()
}
