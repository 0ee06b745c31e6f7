//! Several links with the same neighbour: one of them is fed and asked, the others wait in case it ends.
//!
//! A handshake proves nothing, so only a link whose carrier has proven the key ([`super::Origin::Key`]) can make others wait.
//! Somebody else who shows that name then waits instead of the neighbour, who has its messages over the proven link.

use clawchat_types::Moment;

use super::link::Link;
use super::{LinkId, Mesh};
use crate::frame::write;
use crate::{ChannelId, PeerName};

impl Mesh {
    /// The proven link that makes this one wait.
    fn elder(&self, link: &Link, id: LinkId) -> Option<LinkId> {
        let elder = self.proven.get(&link.peer.as_ref()?.name)?;
        (*elder != id).then_some(*elder)
    }

    /// Whether a link is not fed with a channel, because its neighbour is over another one and can ask for what is lost
    /// when that one ends.
    pub(super) fn is_fed_elsewhere(&self, id: LinkId, name: &ChannelId) -> bool {
        if self.proven.is_empty() || !self.config.store {
            return false;
        }
        let link = self.links.get(&id).filter(|link| link.knows_marks());
        let elder = link.and_then(|link| self.elder(link, id));
        elder.is_some_and(|elder| {
            let channel = self.channels.get(name);
            channel.is_some_and(|channel| channel.is_logged() && channel.readers.contains_key(&elder))
        })
    }

    /// Whether a link is not asked, because its neighbour is asked over another one.
    pub(super) fn is_asked_elsewhere(&self, id: LinkId) -> bool {
        let elder = self.links.get(&id).and_then(|link| self.elder(link, id));
        let elder = elder.and_then(|elder| self.links.get(&elder));
        elder.is_some_and(Link::stores)
    }

    /// Hands were shaken. A link whose carrier has proven the name makes the others of that name wait.
    pub(super) fn is_proven(&mut self, id: LinkId, now: Moment) {
        let Some(name) = self.links.get(&id).and_then(Link::proven_name).cloned() else {
            return;
        };
        if self.proven.contains_key(&name) {
            return;
        }
        self.proven.insert(name.clone(), id);
        for other in self.links_of(&name) {
            if self.is_asked_elsewhere(other) {
                self.stop_asking(other, now);
            }
        }
    }

    /// A link is not fed with a channel any more: those that waited because of it go on behind what it was given. What of
    /// that was lost on the way the neighbour has to ask for; until it has, it is not told that it has everything.
    pub(super) fn hand_over(&mut self, id: LinkId, name: &ChannelId) {
        let neighbour = self.proven.iter().find(|(_, elder)| **elder == id);
        let Some(neighbour) = neighbour.map(|(neighbour, _)| neighbour.clone()) else {
            return;
        };
        if !self.config.store || !self.is_logged(name) {
            return;
        }
        let Some((position, at)) = self.channels.get(name).and_then(|channel| {
            let reader = channel.readers.get(&id)?;
            Some((reader.position, reader.at.clone()))
        }) else {
            return;
        };
        for other in self.links_of(&neighbour) {
            if other == id || !self.links.get(&other).is_some_and(Link::knows_marks) {
                continue;
            }
            let channel = self.channels.get_mut(name);
            let Some(reader) = channel.and_then(|channel| channel.readers.get_mut(&other)) else {
                continue;
            };
            if reader.position < position {
                reader.position = position;
                reader.at.clone_from(&at);
            }
            reader.hinted = true;
            self.send(other, write::sync_response(name, &[], Some(true), None));
        }
    }

    /// A link is gone: the next one of that name that is proven takes its part, else all of that name are on their own. They
    /// are asked from where it stood.
    pub(super) fn is_orphaned(&mut self, id: LinkId, link: &Link, now: Moment) {
        let Some(name) = link.proven_name() else {
            return;
        };
        if self.proven.get(name) != Some(&id) {
            return;
        }
        self.proven.remove(name);
        let others = self.links_of(name);
        let is_next = |other: &&LinkId| {
            self.links
                .get(other)
                .is_some_and(|link| link.proven_name().is_some())
        };
        if let Some(next) = others.iter().find(is_next) {
            self.proven.insert(name.clone(), *next);
        }
        let logged: Vec<ChannelId> = self
            .channels
            .iter()
            .filter(|(_, channel)| channel.is_logged())
            .map(|(name, _)| name.clone())
            .collect();
        for other in others {
            for channel in &logged {
                let stood = link.catching.get(channel);
                self.go_on_asking(other, channel, stood);
                self.want(other, channel.clone());
            }
            self.ask_next(other, now);
        }
        for channel in &logged {
            self.wake_readers(channel);
        }
    }

    /// The links on which somebody calls itself that.
    fn links_of(&self, name: &PeerName) -> Vec<LinkId> {
        let links = self.links.iter();
        links
            .filter(|(_, link)| link.is_peer(name))
            .map(|(id, _)| *id)
            .collect()
    }
}

impl Link {
    /// The neighbour's name, if the carrier has proven it.
    fn proven_name(&self) -> Option<&PeerName> {
        let peer = self.peer.as_ref()?;
        self.origin.proves(&peer.name).then_some(&peer.name)
    }

    /// Whether the neighbour answers questions.
    pub(super) fn stores(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.capabilities.store)
    }
}
