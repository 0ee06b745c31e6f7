//! Whether a message may be taken, and what it is worth.

use std::sync::Arc;
use std::time::Duration;

use clawchat_identity::verify_node_signature;
use clawchat_types::{NodeId, UnixMillis};

use super::Message;
use super::time::read_time;

/// How far ahead of our clock the timestamp of a live message may be.
pub const MAX_TIME_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// How far ahead of our clock the timestamp of a message may be that we send live: the receiver's clock may be behind.
const MAX_TIME_AHEAD_SENT: Duration = Duration::from_secs(12 * 60 * 60);

/// How a message reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// By itself, as a frame.
    Live,
    /// In the answer to a question of ours.
    Asked,
}

/// What is known about the sender of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The sender's name is a public key, and that key signed the message.
    Verified,
    /// Anybody may have written it.
    Unverified,
}

/// A message that was checked: its signature holds, or it may go without. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    message: Message,
    trust: Trust,
    text: Arc<str>,
    time: UnixMillis,
}

impl Checked {
    fn new(message: Message, trust: Trust, time: UnixMillis) -> Self {
        let text = message.to_text().into();
        Self(Arc::new(Inner {
            message,
            trust,
            text,
            time,
        }))
    }

    /// A message of ours, with a signature just made or rightly without one.
    pub(super) fn signed(message: Message) -> Self {
        let proven = message.signature().is_some() && message.sender().as_key().is_some();
        let trust = if proven {
            Trust::Verified
        } else {
            Trust::Unverified
        };
        let time = read_time(message.timestamp()).unwrap_or_default();
        Self::new(message, trust, time)
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.0.message
    }

    /// Whether its sender is proven.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.0.trust
    }

    /// Its text: what is sent, stored and synced.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.0.text
    }

    /// Its place in the order of display: its timestamp, or when it arrived if that is no time.
    #[must_use]
    pub fn time(&self) -> UnixMillis {
        self.0.time
    }
}

/// Whether a message may be sent live. Not one whose sender's name is a key and whose signature was lost, and not one from
/// the future: they would rightly be refused.
pub(crate) fn may_go_live(message: &Message, verified: bool, now: UnixMillis) -> bool {
    let time = read_time(message.timestamp());
    let is_near = time.is_none_or(|time| time <= now.after(MAX_TIME_AHEAD_SENT));
    is_near && (verified || message.sender().as_key().is_none())
}

/// Checks a message against the rules of trust.
///
/// `key_of` tells the key an opaque name used in a handshake before.
///
/// # Errors
/// [`Refusal`].
pub fn check(
    message: Message,
    came: Came,
    key_of: &dyn Fn(&str) -> Option<NodeId>,
    now: UnixMillis,
) -> Result<Checked, Refusal> {
    let own_key = message.sender().as_key();
    let key = own_key.or_else(|| key_of(message.sender().as_str()));
    match (message.signature(), &key) {
        (Some(signature), Some(key)) => {
            verify_node_signature(key, message.signing_text().as_bytes(), signature)
                .map_err(|_| Refusal::InvalidSignature)?;
        }
        (None, Some(_)) if own_key.is_some() && came == Came::Live => return Err(Refusal::InvalidSignature),
        // An opaque name, or a peer that keeps no signatures.
        (None, Some(_)) | (Some(_) | None, None) => {}
    }
    let time = read_time(message.timestamp());
    if came == Came::Live && time.is_some_and(|time| time > now.after(MAX_TIME_AHEAD)) {
        return Err(Refusal::FromTheFuture);
    }
    let proven = own_key.is_some() && message.signature().is_some();
    let trust = if proven {
        Trust::Verified
    } else {
        Trust::Unverified
    };
    Ok(Checked::new(message, trust, time.unwrap_or(now)))
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Its signature is missing where one must be, or does not hold.
    #[error("the signature does not hold")]
    InvalidSignature,
    /// Its time is more than [`MAX_TIME_AHEAD`] ahead.
    #[error("the timestamp is too far in the future")]
    FromTheFuture,
}
