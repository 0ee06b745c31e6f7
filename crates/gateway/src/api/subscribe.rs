//! `subscribe`: events as they happen, without a gap.

use std::sync::Arc;

use clawchat_ipc::{EventKind, Failure, Reply};
use clawchat_types::Principal;
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;

use super::{Answer, Api, render};
use crate::aliases::DisplayNames;
use crate::hosted::{Event, Hosted};

/// Lines waiting for a slow subscriber. Messages are read from the store as it catches up, so none is lost.
const LINES: usize = 64;
/// Messages read from the store at a time.
const PAGE: usize = 64;

impl Api {
    /// Lines (`id` at their top level belongs to the request): `{"event":"message","message":{…}}`, `{"event":"state","message":{"id","to","status","lastError"?}}`,
    /// `{"event":"peer","principal","connected"}`, and `{"event":"missed"}` when state or peer events were lost
    /// because the subscriber was too slow.
    pub(super) fn subscribe(
        &self,
        hosted: &Arc<Hosted>,
        after: Option<u64>,
        from: Option<&str>,
        kinds: &[EventKind],
    ) -> Result<Answer, Failure> {
        let from = from.map(|from| self.sender(hosted, from)).transpose()?;
        let wants = |kind: EventKind| kinds.is_empty() || kinds.contains(&kind);
        let feed = Feed {
            messages: wants(EventKind::Message),
            states: wants(EventKind::State),
            peers: wants(EventKind::Peer),
            from,
            cursor: after.unwrap_or_else(|| *hosted.arrivals().borrow()),
            hosted: Arc::clone(hosted),
        };
        // From this moment on, not from when the task first runs: the next request may cause events already.
        let events = hosted.events();
        let (lines, reply) = mpsc::channel(LINES);
        self.gateway.tasks.spawn(async move {
            let stop = feed.hosted.stop().clone();
            stop.run_until_cancelled(feed.run(events, lines)).await;
        });
        Ok(Answer::Reply(Reply::Stream(reply)))
    }
}

struct Feed {
    messages: bool,
    states: bool,
    peers: bool,
    from: Option<Principal>,
    cursor: u64,
    hosted: Arc<Hosted>,
}

impl Feed {
    /// Runs until the subscriber is gone or the store cannot be read.
    async fn run(mut self, mut events: broadcast::Receiver<Event>, lines: mpsc::Sender<Value>) {
        let mut arrivals = self.hosted.arrivals();
        loop {
            arrivals.borrow_and_update();
            if self.messages && !self.catch_up(&lines).await {
                return;
            }
            let line = tokio::select! {
                changed = arrivals.changed() => if changed.is_ok() { continue } else { return },
                event = events.recv() => match event {
                    Ok(event) => self.line(&event),
                    Err(RecvError::Lagged(_)) => Some(json!({ "event": "missed" })),
                    Err(RecvError::Closed) => return,
                },
                () = lines.closed() => return,
            };
            if let Some(line) = line
                && lines.send(line).await.is_err()
            {
                return;
            }
        }
    }

    /// Sends every message behind the cursor. Returns whether to go on.
    async fn catch_up(&mut self, lines: &mpsc::Sender<Value>) -> bool {
        loop {
            let page = match self.hosted.store().store().inbox(self.cursor, PAGE) {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(identity = %self.hosted.principal(), %error, "a subscription ends");
                    return false;
                }
            };
            if page.is_empty() {
                return true;
            }
            // Names change, and so are looked up again for every page.
            let hosted = Arc::clone(&self.hosted);
            let mut names = DisplayNames::of(&hosted);
            for entry in &page {
                self.cursor = entry.arrival;
                if self.from.is_some_and(|from| from != entry.message.from) {
                    continue;
                }
                let line = json!({ "event": "message", "message": render::inbox_entry(entry, &mut names) });
                if lines.send(line).await.is_err() {
                    return false;
                }
            }
            // With few of them wanted, nothing above may ever wait.
            tokio::task::yield_now().await;
        }
    }

    fn line(&self, event: &Event) -> Option<Value> {
        match event {
            Event::State {
                id,
                to,
                status,
                last_error,
            } if self.states => {
                let mut message = json!({ "id": id, "to": to, "status": status });
                if let Some(error) = last_error {
                    message["lastError"] = json!(error);
                }
                Some(json!({ "event": "state", "message": message }))
            }
            Event::Peer { principal, connected } if self.peers => {
                Some(json!({ "event": "peer", "principal": principal, "connected": connected }))
            }
            Event::State { .. } | Event::Peer { .. } => None,
        }
    }
}
