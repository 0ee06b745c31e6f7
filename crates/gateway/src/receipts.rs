//! Who waits for the fate of an outgoing message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use clawchat_types::MessageId;
use tokio::sync::oneshot;

/// How sending a message ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Stored durably at the other side.
    Delivered,
    /// Read by a gateway whose protocol has no receipts.
    Sent {
        /// Why even that is not certain.
        doubt: Option<String>,
    },
    /// Given up.
    Failed {
        /// Why, for people.
        reason: String,
        /// Whether the other side refused us, rather than not being there.
        refused: bool,
    },
}

/// The open waits of one identity, by message id. One entry per waiting request, so the IPC limits bound it.
#[derive(Clone, Default)]
pub(crate) struct Receipts {
    waiting: Arc<Mutex<HashMap<MessageId, oneshot::Sender<Fate>>>>,
}

impl Receipts {
    /// Starts waiting for `id`. Call before the message is queued, so that no answer can be missed.
    pub(crate) fn expect(&self, id: MessageId) -> Receipt {
        let (tell, told) = oneshot::channel();
        self.lock().insert(id, tell);
        Receipt {
            id,
            told,
            receipts: self.clone(),
        }
    }

    /// Tells whoever waits for `id`.
    pub(crate) fn settle(&self, id: MessageId, fate: Fate) {
        if let Some(waiting) = self.lock().remove(&id) {
            // The waiter may have given up just now.
            let _ = waiting.send(fate);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<MessageId, oneshot::Sender<Fate>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One wait; dropping it gives it up.
pub(crate) struct Receipt {
    id: MessageId,
    told: oneshot::Receiver<Fate>,
    receipts: Receipts,
}

impl Receipt {
    /// The fate, when it is known. `None` if the gateway stops first.
    pub(crate) async fn fate(&mut self) -> Option<Fate> {
        (&mut self.told).await.ok()
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.receipts.lock().remove(&self.id);
    }
}
