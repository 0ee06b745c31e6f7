//! Who is at the other end of a link.

use std::time::Duration;

use clawchat_types::Moment;

use super::link::{Link, Peer};
use super::timers::Timer;
use super::{CloseReason, LinkId, Mesh, MeshEvent, Origin, Output, Side};
use crate::frame::{FrameError, Handshake, write};

/// How long a link may stand without a handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Whose fault it is that something cannot be taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The neighbour's.
    Theirs,
    /// Maybe that of somebody behind it: existing peers do not check what they pass on.
    MaybeAnothers,
    /// Clocks differ.
    Clocks,
}

impl Mesh {
    pub(super) fn open(&mut self, id: LinkId, side: Side, origin: Origin, now: Moment) {
        self.links
            .insert(id, Link::new(side, origin, &self.config.limits));
        let at = now.mono.saturating_add(HANDSHAKE_WITHIN);
        self.timers.set(at, Timer::Handshake(id));
        if side == Side::Dialed {
            self.send(id, write::handshake(&self.config));
        }
        self.refresh_reading(id, now);
    }

    /// Ends a link that is still there.
    pub(super) fn close(&mut self, id: LinkId, why: CloseReason, now: Moment) {
        if self.links.contains_key(&id) {
            self.outputs.push_back(Output::Close { link: id, why });
            self.forget(id, now);
        }
    }

    /// Cleans up behind a link.
    pub(super) fn forget(&mut self, id: LinkId, now: Moment) {
        let Some(link) = self.links.remove(&id) else {
            return;
        };
        for name in &link.subscribed {
            self.hand_over(id, name);
            self.drop_reader(id, name, now);
        }
        self.subscriptions = self.subscriptions.saturating_sub(link.subscribed.len());
        self.is_orphaned(id, &link, now);
        if let Some(peer) = link.peer {
            self.tell(MeshEvent::Down {
                link: id,
                peer: peer.name,
            });
        }
        if let Some(asking) = link.asking {
            self.end_asking(&asking.channel, now);
        }
    }

    pub(super) fn handshake_due(&mut self, id: LinkId, now: Moment) {
        if self.links.get(&id).is_some_and(|link| link.peer.is_none()) {
            self.close(id, CloseReason::NoHandshake, now);
        }
    }

    pub(super) fn shake_hands(&mut self, id: LinkId, handshake: Handshake, now: Moment) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        let side = link.side;
        let Handshake {
            peer: name,
            key,
            capabilities,
        } = handshake;
        if let Some(peer) = &link.peer {
            // The same once more changes nothing; a link does not change hands.
            if peer.name != name || (key.is_some() && peer.key != key) {
                self.refuse_impostor(id, now);
            }
            return;
        }
        if let Origin::Key(proven) = &link.origin
            && name.as_key().is_some_and(|named| named != *proven)
        {
            self.refuse_impostor(id, now);
            return;
        }
        if name == self.config.name {
            self.close(id, CloseReason::Ourselves, now);
            return;
        }
        // The table of the driver may not know yet what another link has just told.
        let other_key = self
            .links
            .values()
            .filter_map(|link| link.peer.as_ref())
            .any(|peer| peer.name == name && key.is_some() && peer.key.is_some() && peer.key != key);
        if other_key {
            self.refuse_impostor(id, now);
            return;
        }
        if let Some(key) = key.filter(|_| name.as_key().is_none()) {
            self.outputs.push_back(Output::RememberKey {
                name: name.clone(),
                key,
            });
        }
        if side == Side::Accepted {
            self.send(id, write::handshake(&self.config));
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.peer = Some(Peer {
                name: name.clone(),
                key,
                capabilities,
            });
        }
        self.tell(MeshEvent::Up { link: id, peer: name });
        self.is_proven(id, now);
        self.greet(id, now);
    }

    /// A frame came that is no handshake, or a handshake that cannot be read, before hands were shaken.
    pub(super) fn refuse_stranger(&mut self, id: LinkId, error: Option<FrameError>, now: Moment) {
        if let Some(error) = error {
            self.send_error(id, error.answer());
            self.close(id, CloseReason::BadHandshake, now);
        } else {
            let text = write::error(write::UNAUTHORIZED, "Handshake first");
            self.complain(id, text, Fault::Theirs, now);
        }
    }

    pub(super) fn refuse_impostor(&mut self, id: LinkId, now: Moment) {
        let text = write::error(write::UNAUTHORIZED, "The peer_id belongs to another key");
        self.send_error(id, text);
        self.close(id, CloseReason::Unauthorized, now);
    }

    /// Answers what could not be taken with an error frame, as long as there is not too much of it. Then the neighbour is let
    /// go, if it can help it.
    pub(super) fn complain(&mut self, id: LinkId, error: String, fault: Fault, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let closes = match fault {
            Fault::Theirs => true,
            Fault::MaybeAnothers => link.knows_marks(),
            Fault::Clocks => false,
        };
        if link.errors.allow(now.mono) {
            self.send_error(id, error);
        } else if closes {
            self.close(id, CloseReason::TooManyErrors, now);
        }
    }

    fn send_error(&mut self, id: LinkId, text: String) {
        self.counters.errors_sent += 1;
        self.send(id, text);
    }
}
