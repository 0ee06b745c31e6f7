//! What an exchange has seen, in numbers.

/// Events since an [`crate::Exchange`] was made. For metrics; nothing is decided by them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Questions received.
    pub questions: u64,
    /// Questions of them not answered because their peer asked too much.
    pub questions_limited: u64,
    /// Questions of them answered with a card.
    pub answered: u64,
    /// Pushes received.
    pub pushes: u64,
    /// Pushes of them not read because their peer pushed too much.
    pub pushes_limited: u64,
    /// Messages of any kind dropped because PX-1 is off or their sender is not connected.
    pub ignored: u64,
    /// Answers to no question of ours.
    pub answers_unasked: u64,
    /// Cards taken in.
    pub cards_new: u64,
    /// Cards received that were here already.
    pub cards_known: u64,
    /// Cards received of which a newer one was here.
    pub cards_stale: u64,
    /// Cards received whose time was over.
    pub cards_expired: u64,
    /// Cards received that did not hold.
    pub cards_forged: u64,
    /// Cards received about ourselves.
    pub cards_own: u64,
    /// Cards in answers about somebody else than was asked for.
    pub cards_unasked: u64,
    /// Cards received from another than their owner, who does not let others pass them on.
    pub cards_not_shareable: u64,
    /// Cards not looked at because their peer pushed too many.
    pub cards_limited: u64,
    /// Cards for which there was no room.
    pub cards_no_room: u64,
    /// Cards not passed on because too many were waiting for that neighbour.
    pub forwards_dropped: u64,
    /// Pushes sent.
    pub pushes_sent: u64,
    /// Questions sent.
    pub questions_sent: u64,
    /// Searches begun.
    pub resolves: u64,
    /// Searches of them that found a card.
    pub resolved: u64,
    /// Searches of them that found none.
    pub not_found: u64,
}
