//! Connections that dialed us and are not through their libp2p handshake yet.
//!
//! libp2p lets a behaviour refuse a newcomer at this stage, but not drop one who is already in: whoever opens
//! connections and stays silent would fill the places and keep honest peers out. So the transport itself
//! drops the oldest one of the busiest host as soon as there are too many.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::future::{AbortHandle, Abortable};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportEvent};
use libp2p::{Multiaddr, PeerId, Transport, TransportError};

use crate::address;

type Output = (PeerId, StreamMuxerBox);

/// A transport that admits every newcomer and drops the oldest unfinished one instead.
pub(crate) struct Gate {
    inner: Boxed<Output>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Who is in the handshake, oldest first.
struct Waiting {
    entries: VecDeque<Entry>,
    limit: usize,
    next: u64,
}

struct Entry {
    id: u64,
    host: Option<IpAddr>,
    abort: AbortHandle,
}

/// A place among the waiting, given back when dropped.
struct Place {
    id: u64,
    waiting: Arc<Mutex<Waiting>>,
}

impl Gate {
    /// At most `limit` connections in the handshake.
    pub(crate) fn new(inner: Boxed<Output>, limit: usize) -> Self {
        let waiting = Waiting {
            entries: VecDeque::new(),
            limit: limit.max(1),
            next: 0,
        };
        Self {
            inner,
            waiting: Arc::new(Mutex::new(waiting)),
        }
    }
}

impl Waiting {
    fn enter(&mut self, host: Option<IpAddr>, abort: AbortHandle) -> u64 {
        while self.entries.len() >= self.limit {
            self.drop_one();
        }
        let id = self.next;
        self.next += 1;
        self.entries.push_back(Entry { id, host, abort });
        id
    }

    fn drop_one(&mut self) {
        let of_host = |host| self.entries.iter().filter(|entry| entry.host == host).count();
        let busiest = self.entries.iter().map(|entry| of_host(entry.host)).max();
        let victim = self
            .entries
            .iter()
            .position(|entry| Some(of_host(entry.host)) == busiest);
        if let Some(entry) = victim.and_then(|index| self.entries.remove(index)) {
            tracing::debug!(host = ?entry.host, "unfinished connection dropped for a newcomer");
            entry.abort.abort();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entries.retain(|entry| entry.id != self.id);
    }
}

impl Transport for Gate {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = Pin<Box<dyn Future<Output = io::Result<Output>> + Send>>;
    type Dial = <Boxed<Output> as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        self.inner.dial(address, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let event = std::task::ready!(Pin::new(&mut self.inner).poll(cx));
        let host = match &event {
            TransportEvent::Incoming { send_back_addr, .. } => {
                address::ip_of(send_back_addr).map(address::host_of)
            }
            TransportEvent::NewAddress { .. }
            | TransportEvent::AddressExpired { .. }
            | TransportEvent::ListenerClosed { .. }
            | TransportEvent::ListenerError { .. } => None,
        };
        let waiting = &self.waiting;
        Poll::Ready(event.map_upgrade(|upgrade| {
            let (abort, registration) = AbortHandle::new_pair();
            let id = waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .enter(host, abort);
            let place = Place {
                id,
                waiting: Arc::clone(waiting),
            };
            let upgrade: Self::ListenerUpgrade = Box::pin(async move {
                let result = Abortable::new(upgrade, registration).await;
                drop(place);
                result.unwrap_or_else(|_| Err(io::Error::other("dropped for a newcomer")))
            });
            upgrade
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_host_loses_its_oldest_connection() {
        let mut waiting = Waiting {
            entries: VecDeque::new(),
            limit: 4,
            next: 0,
        };
        let (quiet, busy) = ("192.0.2.1".parse().ok(), "192.0.2.2".parse().ok());
        let mut handles = Vec::new();
        for host in [quiet, busy, busy, busy, busy, busy] {
            let (abort, _registration) = AbortHandle::new_pair();
            handles.push(abort.clone());
            waiting.enter(host, abort);
        }
        let aborted: Vec<bool> = handles.iter().map(AbortHandle::is_aborted).collect();
        assert_eq!(aborted, [false, true, true, false, false, false]);
        assert_eq!(waiting.entries.len(), 4);
    }
}
