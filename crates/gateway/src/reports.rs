//! When the addresses that peers report are noted: at once, and those that follow soon after when a pause is over.

use std::collections::HashMap;
use std::time::Duration;

use clawchat_types::PeerId;
use tokio::time::Instant;

/// How often the addresses a peer reports are noted at most.
const PAUSE: Duration = Duration::from_secs(60);
/// Peers whose pauses are kept. Those beyond are noted whenever they report something.
const MAX_PAUSES: usize = 4096;

/// The peers whose addresses were noted less than a pause ago.
#[derive(Default)]
pub(crate) struct Reports(HashMap<PeerId, Report>);

struct Report {
    pause_ends: Instant,
    /// The peer reported something during the pause.
    again: bool,
}

impl Reports {
    /// A peer reported addresses. Returns whether to note them now; otherwise it is done when the pause is over.
    pub(crate) fn came(&mut self, peer: PeerId, now: Instant) -> bool {
        self.0.retain(|_, report| report.again || now < report.pause_ends);
        if let Some(report) = self.0.get_mut(&peer) {
            report.again = true;
            return false;
        }
        if self.0.len() < MAX_PAUSES {
            self.0.insert(peer, Report::noted(now));
        }
        true
    }

    /// When the next pause is over during which something was reported.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let waiting = self.0.values().filter(|report| report.again);
        waiting.map(|report| report.pause_ends).min()
    }

    /// Whose addresses are to be noted because such a pause is over.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<PeerId> {
        let mut due = Vec::new();
        for (peer, report) in &mut self.0 {
            if report.again && report.pause_ends <= now {
                *report = Report::noted(now);
                due.push(peer.clone());
            }
        }
        due
    }
}

impl Report {
    fn noted(now: Instant) -> Self {
        Self {
            pause_ends: now + PAUSE,
            again: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use clawchat_testkit::Person::{Alice, Bob};

    use super::*;

    #[test]
    fn what_a_peer_reports_during_the_pause_is_noted_once_when_it_is_over() {
        let (moving, quiet) = (Alice.peer_id(), Bob.peer_id());
        let mut reports = Reports::default();
        let start = Instant::now();
        assert!(reports.came(moving.clone(), start));
        assert!(reports.came(quiet.clone(), start));
        assert_eq!(reports.next_due(), None, "all is noted");
        for part in [4, 3, 2] {
            assert!(!reports.came(moving.clone(), start + PAUSE / part), "not so soon");
        }
        assert_eq!(reports.next_due(), Some(start + PAUSE));
        assert!(reports.take_due(start + PAUSE / 2).is_empty());
        // It came a little late, and what is waited for is not forgotten over another report.
        let noted = start + PAUSE + Duration::from_millis(5);
        assert!(!reports.came(moving.clone(), noted));
        assert_eq!(reports.take_due(noted), std::slice::from_ref(&moving));
        assert!(reports.take_due(noted).is_empty());
        // That begins the next pause.
        assert_eq!(reports.next_due(), None);
        assert!(!reports.came(moving.clone(), noted + PAUSE / 2));
        assert_eq!(reports.next_due(), Some(noted + PAUSE));
        assert_eq!(reports.take_due(noted + PAUSE), std::slice::from_ref(&moving));
        // Whoever reports nothing more is forgotten.
        assert!(reports.came(quiet, noted + PAUSE * 3));
        assert_eq!(reports.0.len(), 1);
        assert!(reports.came(moving, noted + PAUSE * 3));
    }
}
