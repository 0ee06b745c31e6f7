//! Message ids of ClawChat 1.0.

use clawchat_types::{MessageId, Principal};
use sha2::{Digest as _, Sha256};

/// What the ids made here are for.
const DOMAIN: &[u8] = b"clawchat-legacy-message-id-v1\0";

/// The id of a message that `from` calls `id`. Existing gateways call it 32 hexadecimal digits, which is what ours are;
/// any other text is hashed together with its sender, so that the same one gives the same id again.
pub(crate) fn message_id(from: &Principal, id: &str) -> MessageId {
    id.parse().unwrap_or_else(|_| {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(from.to_string());
        hash.update([0]);
        hash.update(id);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        MessageId::new(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_ids_stay_and_others_are_the_same_every_time() {
        let from: Principal = *clawchat_testkit::stranger(1).principal();
        let other: Principal = *clawchat_testkit::stranger(2).principal();
        let usual = "7d4cbb48149e05655ef7bb64b01062fa";
        assert_eq!(message_id(&from, usual).to_string(), usual);
        assert_eq!(message_id(&from, "msg-1"), message_id(&from, "msg-1"));
        assert_ne!(message_id(&from, "msg-1"), message_id(&from, "msg-2"));
        assert_ne!(message_id(&from, "msg-1"), message_id(&other, "msg-1"));
    }
}
