//! Unread messages on their way to a caller: nobody else gets them meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use clawchat_store::{InboxEntry, StoreError, Write};

use crate::hosted::Hosted;

/// What every claim of one identity together has taken.
#[derive(Default)]
pub(crate) struct Claims {
    /// Arrivals of messages that some claim holds.
    taken: BTreeSet<u64>,
    /// How many claims have let go of some so far.
    released: u64,
}

/// Entries found, and how far was looked.
pub(crate) struct Scanned {
    pub(crate) entries: Vec<InboxEntry>,
    /// The last arrival looked at, whether or not it is among the entries. `None`: there was nothing.
    pub(crate) last: Option<u64>,
}

impl From<Vec<InboxEntry>> for Scanned {
    fn from(entries: Vec<InboxEntry>) -> Self {
        let last = entries.last().map(|entry| entry.arrival);
        Self { entries, last }
    }
}

/// The messages one caller is about to get. Dropped before they are read, they are there for others again.
pub(crate) struct Claim {
    hosted: Arc<Hosted>,
    /// In order.
    arrivals: Vec<u64>,
    read: bool,
}

impl Claim {
    /// One without messages.
    pub(crate) fn new(hosted: &Arc<Hosted>) -> Self {
        Self {
            hosted: Arc::clone(hosted),
            arrivals: Vec::new(),
            read: false,
        }
    }

    /// Looks at up to `limit` unread messages behind `after`, and takes up to `most` of those that are wanted and not
    /// taken.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn page(
        &mut self,
        after: u64,
        limit: usize,
        most: usize,
        wants: impl Fn(&InboxEntry) -> bool,
    ) -> Result<Scanned, StoreError> {
        let store = self.hosted.store().store();
        let released = self.hosted.claims().released;
        let mut page = store.unread(after, limit)?;
        let mut claims = self.hosted.claims();
        if claims.released != released {
            // What was read since then is still on this page, and no longer among what is taken.
            page = store.unread(after, limit)?;
        }
        let mut page = Scanned::from(page);
        page.entries
            .retain(|entry| wants(entry) && !claims.taken.contains(&entry.arrival));
        page.entries.truncate(most);
        for entry in &page.entries {
            claims.taken.insert(entry.arrival);
            self.arrivals.push(entry.arrival);
        }
        Ok(page)
    }

    /// Lets go of what it took from `arrival` on.
    pub(crate) fn give_back_from(&mut self, arrival: u64) {
        let kept = self.arrivals.partition_point(|taken| *taken < arrival);
        let given_back = self.arrivals.split_off(kept);
        release(&self.hosted, &given_back);
        self.hosted.look_again();
    }

    /// Notes that the caller has them.
    pub(crate) async fn mark_read(mut self) {
        // Whether or not that is noted, waking others for what a caller has would only repeat it.
        self.read = true;
        if self.arrivals.is_empty() {
            return;
        }
        let marks = Write::MarkRead(self.arrivals.clone());
        if let Err(error) = self.hosted.store().submit(marks).await {
            tracing::warn!(identity = %self.hosted.principal(), %error, "cannot mark messages as read");
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.arrivals.is_empty() {
            return;
        }
        release(&self.hosted, &self.arrivals);
        if !self.read {
            self.hosted.look_again();
        }
    }
}

fn release(hosted: &Hosted, arrivals: &[u64]) {
    let mut claims = hosted.claims();
    claims.released = claims.released.wrapping_add(1);
    for arrival in arrivals {
        claims.taken.remove(arrival);
    }
}

#[cfg(test)]
mod tests {
    use clawchat_store::{MemoryStore, OutboundDraft, StoreHandle};
    use clawchat_testkit::stranger;
    use clawchat_types::{Content, MessageId, UnixMillis};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::invites::Invites;

    async fn inbox_of(messages: u8) -> Arc<Hosted> {
        let (identity, sender) = (stranger(1), stranger(2));
        let store = StoreHandle::start(Arc::new(MemoryStore::new())).unwrap();
        for number in 1..=messages {
            let draft = OutboundDraft {
                id: MessageId::new([number; 16]),
                from: *sender.principal(),
                to: *identity.principal(),
                timestamp: UnixMillis(1),
                from_nick: None,
                content_type: "text/plain".to_owned(),
                content: Content::new("hello").unwrap(),
                payload: None,
                reply_to: None,
                expires_at: UnixMillis(u64::MAX),
            };
            let write = Write::AppendInbound {
                message: draft.into_message(u64::from(number)),
                proof: None,
                received_at: UnixMillis(1),
            };
            store.submit(write).await.unwrap();
        }
        Arc::new(
            Hosted::new(
                identity,
                None,
                store,
                Invites::default(),
                CancellationToken::new(),
            )
            .unwrap(),
        )
    }

    /// What a new claim gets of everything.
    fn take(hosted: &Arc<Hosted>, most: usize) -> (Claim, Vec<u64>) {
        let mut claim = Claim::new(hosted);
        let page = claim.page(0, 100, most, |_| true).unwrap();
        (claim, page.entries.iter().map(|entry| entry.arrival).collect())
    }

    #[tokio::test]
    async fn a_message_is_claimed_once_until_it_is_given_back() {
        let hosted = inbox_of(4).await;
        let (first, arrivals) = take(&hosted, 2);
        assert_eq!(arrivals, [1, 2]);
        let (mut second, arrivals) = take(&hosted, 9);
        assert_eq!(arrivals, [3, 4]);
        let mut woken = hosted.arrivals();
        drop(take(&hosted, 9));
        assert!(!woken.has_changed().unwrap(), "nothing was given back");
        second.give_back_from(4);
        assert!(woken.has_changed().unwrap());
        woken.mark_unchanged();
        first.mark_read().await;
        assert!(!woken.has_changed().unwrap(), "what was read is not there again");
        drop(second);
        assert!(woken.has_changed().unwrap());
        assert_eq!(take(&hosted, 9).1, [3, 4]);
    }
}
