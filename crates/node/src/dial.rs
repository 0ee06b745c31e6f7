//! Dialing several addresses with overlap: the next one a moment after the one before, or when that failed.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use clawchat_types::{Locator, PeerId};
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::address;
use crate::error::{DialAttempt, DialError};
use crate::nat::Circuit;
use crate::node::Connected;

/// Most addresses tried for one call.
pub(crate) const MAX_ADDRESSES: usize = 16;
/// Most calls under way at the same time.
const MAX_CALLS: usize = 256;
/// How long the next address waits for the one before.
const STAGGER: Duration = Duration::from_millis(250);
/// How long a call may take.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a caller waits.
pub(crate) type Reply = oneshot::Sender<Result<Connected, DialError>>;

/// All calls under way.
#[derive(Default)]
pub(crate) struct Dials {
    calls: HashMap<u64, Call>,
    by_connection: HashMap<ConnectionId, (u64, usize)>,
    next: u64,
}

struct Call {
    reply: Reply,
    attempts: Vec<Attempt>,
    waiting: VecDeque<usize>,
    in_flight: HashMap<ConnectionId, usize>,
    next_at: Instant,
    deadline: Instant,
}

struct Attempt {
    locator: Locator,
    peer: Option<libp2p::PeerId>,
    failure: Option<Failure>,
}

/// Why one address did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is our own.
    Ourselves,
    /// Anything else, in words.
    Other(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ourselves => f.write_str("this gateway itself"),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

/// What the swarm is to do.
pub(crate) enum Task {
    /// Dial this.
    Dial(DialOpts),
    /// Dial this through a relay.
    Circuit(Circuit),
    /// Nobody wants the result of this dial any more.
    Forget(ConnectionId),
}

impl Dials {
    /// Begins a call. `ourselves` is the peer id that must not be dialed.
    pub(crate) fn begin(&mut self, locators: Vec<Locator>, ourselves: &libp2p::PeerId, reply: Reply) {
        if self.calls.len() >= MAX_CALLS {
            let _ = reply.send(Err(DialError::Busy));
            return;
        }
        let mut attempts: Vec<Attempt> = locators
            .into_iter()
            .take(MAX_ADDRESSES)
            .map(|locator| Attempt::new(locator, ourselves))
            .collect();
        // Whatever order they come in: a relay is for when nothing else works.
        attempts.sort_by_key(|attempt| attempt.locator.is_relayed());
        let waiting = attempts
            .iter()
            .enumerate()
            .filter(|(_, attempt)| attempt.failure.is_none());
        let waiting = waiting.map(|(index, _)| index).collect();
        let now = Instant::now();
        let call = Call {
            reply,
            attempts,
            waiting,
            in_flight: HashMap::new(),
            next_at: now,
            deadline: now + DIAL_TIMEOUT,
        };
        self.calls.insert(self.next, call);
        self.next += 1;
    }

    /// When [`Dials::due`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.calls.values().map(Call::next_deadline).min()
    }

    /// What is due now.
    pub(crate) fn due(&mut self) -> Vec<Task> {
        let now = Instant::now();
        let mut tasks = Vec::new();
        let over = |call: &Call| call.is_hopeless() || now >= call.deadline || call.reply.is_closed();
        let ended: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| over(call))
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            if let Some(call) = self.end(id, &mut tasks) {
                call.fail();
            }
        }
        for (id, call) in &mut self.calls {
            while now >= call.next_at || call.in_flight.is_empty() {
                let Some(index) = call.waiting.pop_front() else {
                    break;
                };
                call.next_at = now + STAGGER;
                let Some((connection, task)) = call.attempts.get(index).and_then(Attempt::task) else {
                    continue;
                };
                call.in_flight.insert(connection, index);
                self.by_connection.insert(connection, (*id, index));
                tasks.push(task);
            }
        }
        tasks
    }

    /// A dial failed.
    pub(crate) fn failed(&mut self, connection: ConnectionId, failure: Failure) {
        let Some((id, index)) = self.by_connection.remove(&connection) else {
            return;
        };
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.in_flight.remove(&connection);
        if let Some(attempt) = call.attempts.get_mut(index) {
            attempt.failure = Some(failure);
        }
        call.next_at = Instant::now();
    }

    /// A connection with `peer` came about: calls that dialed it or wanted that peer are done. If it is `relayed`,
    /// direct dials go on: the session can still move over to what comes of them.
    pub(crate) fn connected(
        &mut self,
        connection: ConnectionId,
        peer: libp2p::PeerId,
        relayed: bool,
    ) -> Vec<Task> {
        let mut tasks = Vec::new();
        let Some(name) = address::from_libp2p(&peer) else {
            return tasks;
        };
        let dialed = self.by_connection.remove(&connection);
        let satisfied: Vec<(u64, usize)> = self
            .calls
            .iter()
            .filter_map(|(id, call)| match dialed {
                Some((dialing, index)) if dialing == *id => Some((*id, index)),
                _ => call.index_of(&peer).map(|index| (*id, index)),
            })
            .collect();
        for (id, index) in satisfied {
            let mut forgotten = Vec::new();
            if let Some(call) = self.end(id, &mut forgotten) {
                forgotten.retain(|task| match task {
                    Task::Forget(dial) => !relayed || call.goes_through_relay(dial),
                    Task::Dial(_) | Task::Circuit(_) => true,
                });
                call.succeed(index, &name);
            }
            tasks.append(&mut forgotten);
        }
        tasks
    }

    /// Ends every call, because the node closes.
    pub(crate) fn close(&mut self) {
        self.by_connection.clear();
        for (_, call) in self.calls.drain() {
            let _ = call.reply.send(Err(DialError::Closed));
        }
    }

    fn end(&mut self, id: u64, tasks: &mut Vec<Task>) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        for connection in call.in_flight.keys() {
            if self.by_connection.remove(connection).is_some() {
                tasks.push(Task::Forget(*connection));
            }
        }
        Some(call)
    }
}

impl Attempt {
    fn new(locator: Locator, ourselves: &libp2p::PeerId) -> Self {
        let named = locator.peer_id();
        let peer = named.as_ref().and_then(address::to_libp2p);
        let multiaddr = address::to_multiaddr(&locator);
        let no_relay = |address| address::is_relayed(address) && address::relay_part(address).is_none();
        let failure = if peer.as_ref() == Some(ourselves) {
            Some(Failure::Ourselves)
        } else if named.is_some() && peer.is_none() {
            Some(Failure::Other("its peer id is not valid".to_owned()))
        } else if multiaddr.is_none() {
            Some(Failure::Other("this is not an address libp2p knows".to_owned()))
        } else if multiaddr.as_ref().is_some_and(no_relay) {
            Some(Failure::Other(
                "it does not name its relay and where that is".to_owned(),
            ))
        } else if locator.is_relayed() && peer.is_none() {
            Some(Failure::Other(
                "it does not name the gateway behind the relay".to_owned(),
            ))
        } else {
            None
        };
        Self {
            locator,
            peer,
            failure,
        }
    }

    fn task(&self) -> Option<(ConnectionId, Task)> {
        let opts = self.opts()?;
        let connection = opts.connection_id();
        let address = address::to_multiaddr(&self.locator)?;
        Some((
            connection,
            match address::relay_part(&address) {
                Some((relay, at)) => Task::Circuit(Circuit { opts, relay, at }),
                None => Task::Dial(opts),
            },
        ))
    }

    /// A new source port each time: sharing the listening port makes two dials to one address collide.
    fn opts(&self) -> Option<DialOpts> {
        let address = address::to_multiaddr(&self.locator)?;
        Some(match self.peer {
            Some(peer) => DialOpts::peer_id(peer)
                .condition(PeerCondition::Always)
                .addresses(vec![address])
                .allocate_new_port()
                .build(),
            None => DialOpts::unknown_peer_id()
                .address(address)
                .allocate_new_port()
                .build(),
        })
    }
}

impl Call {
    fn next_deadline(&self) -> Instant {
        if self.is_hopeless() {
            return Instant::now();
        }
        if self.waiting.is_empty() {
            self.deadline
        } else {
            self.deadline.min(self.next_at)
        }
    }

    fn is_hopeless(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    fn goes_through_relay(&self, dial: &ConnectionId) -> bool {
        let attempt = self
            .in_flight
            .get(dial)
            .and_then(|index| self.attempts.get(*index));
        attempt.is_some_and(|attempt| attempt.locator.is_relayed())
    }

    fn index_of(&self, peer: &libp2p::PeerId) -> Option<usize> {
        self.attempts
            .iter()
            .position(|attempt| attempt.peer.as_ref() == Some(peer))
    }

    fn succeed(self, index: usize, peer: &PeerId) {
        if let Some(attempt) = self.attempts.into_iter().nth(index) {
            let locator = attempt.locator.with_peer_id(peer);
            let _ = self.reply.send(Ok(Connected {
                peer: peer.clone(),
                locator,
            }));
        }
    }

    fn fail(self) {
        let only_us = self
            .attempts
            .iter()
            .all(|attempt| attempt.failure == Some(Failure::Ourselves));
        let mut attempts = self.attempts.into_iter().map(|attempt| DialAttempt {
            reason: match attempt.failure {
                Some(failure) => failure.to_string(),
                None => format!("no answer within {} s", DIAL_TIMEOUT.as_secs()),
            },
            locator: attempt.locator,
        });
        let error = match attempts.next() {
            None => DialError::NoAddresses,
            Some(first) if only_us => DialError::Ourselves {
                locator: first.locator,
            },
            Some(first) => DialError::Failed {
                attempts: std::iter::once(first).chain(attempts).collect(),
            },
        };
        let _ = self.reply.send(Err(error));
    }
}

/// Puts a failed dial into words.
pub(crate) fn failure(error: &libp2p::swarm::DialError) -> Failure {
    use libp2p::swarm::DialError as Swarm;
    Failure::Other(match error {
        // The swarm strikes out addresses it listens on itself.
        Swarm::LocalPeerId { .. } | Swarm::NoAddresses => return Failure::Ourselves,
        Swarm::WrongPeerId { obtained, .. } => format!("another gateway answers there: {obtained}"),
        Swarm::Denied { cause } => root_cause(cause),
        Swarm::Transport(errors) => errors
            .first()
            .map_or_else(|| error.to_string(), |(_, error)| root_cause(error)),
        Swarm::DialPeerConditionFalse(_) | Swarm::Aborted => error.to_string(),
    })
}

/// The innermost error: the one that says what happened.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    use libp2p::relay::outbound::hop::ConnectError as Circuit;
    let mut cause = error;
    loop {
        match cause.downcast_ref::<Circuit>() {
            Some(Circuit::NoReservation) => return "the peer has no place at this relay".to_owned(),
            Some(Circuit::ConnectionFailed) => return "the relay cannot reach the peer any more".to_owned(),
            Some(Circuit::ResourceLimitExceeded) => return "the relay is full".to_owned(),
            Some(Circuit::PermissionDenied) => return "the relay refuses".to_owned(),
            Some(Circuit::Unsupported) => return "this gateway is no relay".to_owned(),
            Some(Circuit::Io(_) | Circuit::Protocol(_)) | None => {}
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return cause.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
