//! What comes in over a link.

use std::time::Duration;

use clawchat_types::Moment;

use super::append::From;
use super::channel::Recent;
use super::handshake::Fault;
use super::timers::Timer;
use super::{LinkId, Mesh, MeshEvent, Output, PublishError, PublishTicket};
use crate::frame::{Content, Received, write};
use crate::message::{Checked, Refusal};

impl Mesh {
    pub(super) fn take(&mut self, id: LinkId, frame: Received, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        self.counters.frames += 1;
        let messages = match &frame.content {
            Content::Response(response) => response.entries.len() + response.unreadable,
            Content::Handshake(_)
            | Content::Impostor
            | Content::Subscribe(_)
            | Content::Unsubscribe(_)
            | Content::Message(_)
            | Content::Refused(_)
            | Content::Request(_)
            | Content::Error
            | Content::Ping
            | Content::Nothing
            | Content::Bad(_) => 1,
        };
        let units = u64::try_from(messages.max(1)).unwrap_or(u64::MAX);
        let kib = u64::try_from(frame.bytes / 1024).unwrap_or(u64::MAX);
        let reading = &mut link.reading;
        reading.not_before = reading
            .messages
            .take(units, now.mono)
            .max(reading.bytes.take(kib, now.mono));
        let is_neighbour = link.peer.is_some();
        self.take_content(id, frame.content, is_neighbour, now);
        self.refresh_reading(id, now);
    }

    fn take_content(&mut self, id: LinkId, content: Content, is_neighbour: bool, now: Moment) {
        match content {
            Content::Handshake(handshake) => self.shake_hands(id, handshake, now),
            Content::Impostor => self.refuse_impostor(id, now),
            Content::Bad(error) if !is_neighbour => self.refuse_stranger(id, Some(error), now),
            _ if !is_neighbour => self.refuse_stranger(id, None, now),
            Content::Bad(error) => {
                self.counters.refused += 1;
                let fault = if error.may_be_another_s() {
                    Fault::MaybeAnothers
                } else {
                    Fault::Theirs
                };
                self.complain(id, error.answer(), fault, now);
            }
            Content::Subscribe(channel) => self.subscribe(id, channel, now),
            Content::Unsubscribe(channel) => self.unsubscribe(id, &channel, now),
            Content::Message(message) => self.take_live(id, message, now),
            Content::Refused(why) => {
                self.refused(id, why);
                self.counters.from_future += u64::from(why == Refusal::FromTheFuture);
                let (said, fault) = match why {
                    Refusal::InvalidSignature => ("Invalid signature", Fault::MaybeAnothers),
                    Refusal::FromTheFuture => ("Timestamp too far in the future", Fault::Clocks),
                };
                self.complain(id, write::error(write::INVALID_MESSAGE, said), fault, now);
            }
            Content::Request(request) => self.asked(id, request, now),
            Content::Response(response) => self.answered(id, response, now),
            Content::Error => self.counters.errors_received += 1,
            // Who does not read gets no answers either.
            Content::Ping if self.has_room(id) => self.send(id, write::pong()),
            Content::Ping => {}
            Content::Nothing => {}
        }
    }

    pub(super) fn refused(&mut self, link: LinkId, why: Refusal) {
        self.counters.refused += 1;
        self.tell(MeshEvent::Refused { link, why });
    }

    fn take_live(&mut self, id: LinkId, message: Checked, now: Moment) {
        let name = message.message().channel().clone();
        self.note_live(id, &message, now);
        self.keep_channel(&name, now);
        if self.is_logged(&name) {
            self.append(message, From::Link(id));
        } else if self.config.relay {
            self.pass_on(id, message);
        }
    }

    /// Passes on a message of a channel that is not stored here, if another neighbour subscribed to it.
    fn pass_on(&mut self, id: LinkId, message: Checked) {
        let name = message.message().channel().clone();
        let Some(channel) = self.channels.get(&name) else {
            return;
        };
        if !channel.readers.keys().any(|reader| *reader != id) {
            return;
        }
        let mark = self.seen.mark(&message);
        if self.seen.is_known(mark, message.trust()) {
            self.counters.duplicates += 1;
            return;
        }
        self.seen.add(mark, message.trust());
        self.counters.passed_on += 1;
        let recent = Recent {
            arrival: channel.last + 1,
            message,
            from: Some(id),
        };
        self.ring.push(&mut self.channels, &name, recent);
        self.wake_readers(&name);
    }

    pub(super) fn publish_ours(&mut self, message: Checked) -> Result<PublishTicket, PublishError> {
        if !self.is_logged(message.message().channel()) {
            return Err(PublishError::NotFollowed);
        }
        if self.appends.is_full() {
            return Err(PublishError::Busy);
        }
        self.next += 1;
        let ticket = PublishTicket(self.next);
        if !self.append(message, From::Us(ticket)) {
            return Err(PublishError::Known);
        }
        Ok(ticket)
    }

    /// Whether a link is read from: not when it is too fast, when the log is behind, or when its own questions wait.
    pub(super) fn refresh_reading(&mut self, id: LinkId, now: Moment) {
        let full = self.appends.is_full();
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let too_fast = link.reading.not_before > now.mono;
        let pause = too_fast || full || link.has_waiting_question();
        if too_fast {
            self.timers.set(link.reading.not_before, Timer::Reading(id));
        }
        if pause != link.reading.paused {
            link.reading.paused = pause;
            self.outputs.push_back(if pause {
                Output::Pause { link: id }
            } else {
                Output::Resume { link: id }
            });
        }
    }

    pub(super) fn read_all_again(&mut self, now: Moment) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for id in links {
            self.refresh_reading(id, now);
            self.ask_next(id, now);
        }
    }
}

/// A time around `base`, by up to `part` sooner or later.
pub(super) const fn spread(base: Duration, part: Duration, random: u64) -> Duration {
    let width = part.as_millis() as u64;
    match random.checked_rem(width.saturating_mul(2)) {
        Some(more) => base
            .saturating_sub(part)
            .saturating_add(Duration::from_millis(more)),
        None => base,
    }
}
