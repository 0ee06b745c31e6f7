//! Asking the router again to forward our ports.
//!
//! libp2p looks for a router once, when it starts, and keeps for ever what it found then. But gateways start before
//! their router does, machines change networks, and many routers get another address every night. So from time to time,
//! and whenever this machine's addresses changed, another search begins beside what is there, and what it finds takes
//! its place.
//!
//! libp2p also asks for every private address of this machine, and takes those with the same port for one another. So
//! it only hears of the address that the way to the internet begins with.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::{ListenerId, PortUse};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, ExpiredListenAddr, FromSwarm, NetworkBehaviour, NewListenAddr, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::upnp::{self, Event};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, Sleep};

use crate::address;

/// How long after a change of this machine's addresses a search begins: some come back at once.
const SETTLE: Duration = Duration::from_secs(1);
/// How long after that one the next begins. Twice as long each time from then on.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// The longest of these pauses: for so long we may tell an address that the router has lost.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// Addresses of this machine that are kept.
const MAX_LISTENING: usize = 64;
/// Addresses that a search hears of: it has room for 10 requests.
const MAX_TOLD: usize = 8;
/// Forwarded addresses that are kept.
const MAX_FORWARDED: usize = 16;
/// Nobody is there, so the way there is the one to everybody whom no other way leads to.
const ANYWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// What a behaviour of this crate tells the swarm.
type Told = ToSwarm<Event, <dummy::ConnectionHandler as libp2p::swarm::ConnectionHandler>::FromBehaviour>;

/// A client of the router's that searches again.
pub(crate) struct Remapped<B = upnp::tokio::Behaviour> {
    search: fn() -> B,
    way_out: fn() -> Option<IpAddr>,
    /// The last search that found something.
    current: Option<B>,
    /// The one that is under way.
    next: Option<B>,
    listening: Vec<(ListenerId, Multiaddr)>,
    /// What the router forwards to us.
    forwarded: Vec<Forwarded>,
    pause: Duration,
    timer: Pin<Box<Sleep>>,
    queue: VecDeque<Told>,
}

struct Forwarded {
    local: Multiaddr,
    external: Multiaddr,
}

impl Remapped {
    /// Searches as soon as this machine has a private address.
    pub(crate) fn new() -> Self {
        Self::with(upnp::tokio::Behaviour::default, || {
            address::local_towards(ANYWHERE.into())
        })
    }
}

impl<B> Remapped<B> {
    fn with(search: fn() -> B, way_out: fn() -> Option<IpAddr>) -> Self {
        Self {
            search,
            way_out,
            current: None,
            next: None,
            listening: Vec::new(),
            forwarded: Vec::new(),
            pause: FIRST_PAUSE,
            timer: Box::pin(tokio::time::sleep(FIRST_PAUSE)),
            queue: VecDeque::new(),
        }
    }

    /// Something changed: the next search begins soon.
    fn hurry(&mut self) {
        self.pause = FIRST_PAUSE;
        let soon = Instant::now() + SETTLE;
        if soon < self.timer.deadline() {
            self.timer.as_mut().reset(soon);
        }
    }

    /// An address of this machine came, or is gone.
    fn listens(&mut self, listener: ListenerId, address: &Multiaddr, added: bool) {
        // The others need no router, or get no port from one.
        if !address::ip_of(address).is_some_and(|ip| matches!(ip, IpAddr::V4(ip) if ip.is_private())) {
            return;
        }
        let entry = (listener, address.clone());
        self.listening.retain(|known| *known != entry);
        if added && self.listening.len() < MAX_LISTENING {
            self.listening.push(entry);
        } else if !added {
            self.expire(|known| known.local == *address);
        }
        self.hurry();
    }

    /// What the router does not forward any more.
    fn expire(&mut self, is_gone: impl Fn(&Forwarded) -> bool) {
        let (gone, left) = std::mem::take(&mut self.forwarded).into_iter().partition(is_gone);
        self.forwarded = left;
        let gone: Vec<Forwarded> = gone;
        for Forwarded { local, external } in gone {
            self.queue
                .push_back(ToSwarm::ExternalAddrExpired(external.clone()));
            self.queue
                .push_back(ToSwarm::GenerateEvent(Event::ExpiredExternalAddr {
                    local_addr: local,
                    external_addr: external,
                }));
        }
    }

    /// What the search in use says is passed on as far as it is news.
    fn of_current(&mut self, told: Told) {
        match &told {
            ToSwarm::GenerateEvent(Event::NewExternalAddr {
                local_addr,
                external_addr,
            }) => {
                self.forwarded.retain(|known| known.external != *external_addr);
                if self.forwarded.len() >= MAX_FORWARDED {
                    return;
                }
                self.forwarded.push(Forwarded {
                    local: local_addr.clone(),
                    external: external_addr.clone(),
                });
            }
            ToSwarm::GenerateEvent(Event::ExpiredExternalAddr { external_addr, .. }) => {
                let before = self.forwarded.len();
                self.forwarded.retain(|known| known.external != *external_addr);
                if self.forwarded.len() == before {
                    return;
                }
                self.hurry();
            }
            _ => {}
        }
        self.queue.push_back(told);
    }

    /// What the search under way says. Once the router has forwarded something to it, it is the one in use. That it found
    /// nothing is only worth saying when the one in use has nothing either.
    fn of_next(&mut self, told: Told) {
        match &told {
            ToSwarm::ExternalAddrConfirmed(address) => {
                self.current = self.next.take();
                let router = address::ip_of(address);
                self.queue.push_back(told);
                self.expire(|known| address::ip_of(&known.external) != router);
            }
            ToSwarm::GenerateEvent(Event::GatewayNotFound | Event::NonRoutableGateway) => {
                self.next = None;
                if self.forwarded.is_empty() {
                    self.queue.push_back(told);
                }
            }
            _ => {}
        }
    }
}

impl<B: NetworkBehaviour> Remapped<B> {
    /// Begins a search, and gives up the one that was under way.
    fn begin(&mut self) {
        self.timer.as_mut().reset(Instant::now() + self.pause);
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
        if self.listening.is_empty() {
            return;
        }
        let way_out = (self.way_out)();
        let leads_out = |(_, address): &&(ListenerId, Multiaddr)| address::ip_of(address) == way_out;
        let mut search = (self.search)();
        let mut tell = |(listener_id, addr): &(ListenerId, Multiaddr)| {
            let listener_id = *listener_id;
            search.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }));
        };
        if self.listening.iter().any(|known| leads_out(&known)) {
            self.listening
                .iter()
                .filter(leads_out)
                .take(MAX_TOLD)
                .for_each(&mut tell);
        } else {
            self.listening.iter().take(MAX_TOLD).for_each(&mut tell);
        }
        self.next = Some(search);
    }
}

impl<B> NetworkBehaviour for Remapped<B>
where
    B: NetworkBehaviour<ConnectionHandler = dummy::ConnectionHandler, ToSwarm = Event>,
{
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }) => {
                self.listens(listener_id, addr, true);
            }
            FromSwarm::ExpiredListenAddr(ExpiredListenAddr { listener_id, addr }) => {
                self.listens(listener_id, addr, false);
            }
            // Nothing else concerns a router.
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(told) = self.queue.pop_front() {
                return Poll::Ready(told);
            }
            if let Some(Poll::Ready(told)) = self.current.as_mut().map(|current| current.poll(cx)) {
                self.of_current(told);
            } else if let Some(Poll::Ready(told)) = self.next.as_mut().map(|next| next.poll(cx)) {
                self.of_next(told);
            } else if self.timer.as_mut().poll(cx).is_ready() {
                self.begin();
            } else {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::task::noop_waker_ref;

    use super::super::recorder::{Heard, Recorder};
    use super::*;

    const WAY_OUT: &str = "192.168.1.10";

    /// What searches find, in their order, and what they were told. One list for each test's thread.
    type Script = Vec<Vec<Told>>;

    thread_local! {
        static SCRIPT: Mutex<Script> = const { Mutex::new(Vec::new()) };
        static TOLD: Mutex<Vec<Heard>> = const { Mutex::new(Vec::new()) };
    }

    /// A search, as the script says.
    fn search() -> Recorder {
        let recorder = Recorder::new(SCRIPT.with(|script| {
            let mut script = script.lock().unwrap();
            if script.is_empty() {
                Vec::new()
            } else {
                script.remove(0)
            }
        }));
        TOLD.with(|told| told.lock().unwrap().push(Arc::clone(&recorder.heard)));
        recorder
    }

    fn machine(script: Script) -> Remapped<Recorder> {
        SCRIPT.with(|all| *all.lock().unwrap() = script);
        TOLD.with(|told| told.lock().unwrap().clear());
        Remapped::with(search, || WAY_OUT.parse().ok())
    }

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn forwards(external: &str) -> Vec<Told> {
        let (local_addr, external_addr) = (at("/ip4/192.168.1.10/tcp/9000"), at(external));
        vec![
            ToSwarm::ExternalAddrConfirmed(external_addr.clone()),
            ToSwarm::GenerateEvent(Event::NewExternalAddr {
                local_addr,
                external_addr,
            }),
        ]
    }

    fn lost(external: &str) -> Told {
        ToSwarm::GenerateEvent(Event::ExpiredExternalAddr {
            local_addr: at("/ip4/192.168.1.10/tcp/9000"),
            external_addr: at(external),
        })
    }

    fn nothing() -> Vec<Told> {
        vec![ToSwarm::GenerateEvent(Event::GatewayNotFound)]
    }

    /// What it says now, in words.
    fn said(machine: &mut Remapped<Recorder>) -> Vec<String> {
        let mut cx = Context::from_waker(noop_waker_ref());
        let mut said = Vec::new();
        while let Poll::Ready(told) = machine.poll(&mut cx) {
            said.push(match told {
                ToSwarm::ExternalAddrConfirmed(address) => format!("confirmed {address}"),
                ToSwarm::ExternalAddrExpired(address) => format!("expired {address}"),
                ToSwarm::GenerateEvent(Event::NewExternalAddr { external_addr, .. }) => {
                    format!("new {external_addr}")
                }
                ToSwarm::GenerateEvent(Event::ExpiredExternalAddr { external_addr, .. }) => {
                    format!("lost {external_addr}")
                }
                ToSwarm::GenerateEvent(event) => format!("{event:?}"),
                other => format!("{other:?}"),
            });
        }
        said
    }

    fn listen(machine: &mut Remapped<Recorder>, addr: &str, added: bool) {
        let (addr, listener_id) = (&at(addr), ListenerId::next());
        // Listeners are told apart by their addresses here.
        let entry = machine.listening.iter().find(|(_, known)| known == addr);
        let listener_id = entry.map_or(listener_id, |(known, _)| *known);
        machine.on_swarm_event(if added {
            FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr })
        } else {
            FromSwarm::ExpiredListenAddr(ExpiredListenAddr { listener_id, addr })
        });
    }

    fn told() -> Vec<Vec<String>> {
        let heard = |one: &Heard| one.lock().unwrap().clone();
        TOLD.with(|told| told.lock().unwrap().iter().map(heard).collect())
    }

    const OURS: &str = "/ip4/192.168.1.10/tcp/9000";
    const THEIRS: &str = "/ip4/198.51.100.7/tcp/9000";
    const OTHER: &str = "/ip4/198.51.100.8/tcp/9000";

    #[tokio::test(start_paused = true)]
    async fn a_router_that_starts_later_than_we_do_is_found() {
        let mut machine = machine(vec![nothing(), nothing(), forwards(THEIRS)]);
        listen(&mut machine, OURS, true);
        assert!(said(&mut machine).is_empty());
        tokio::time::advance(SETTLE).await;
        assert_eq!(said(&mut machine), ["GatewayNotFound"]);
        tokio::time::advance(FIRST_PAUSE).await;
        assert_eq!(said(&mut machine), ["GatewayNotFound"]);
        tokio::time::advance(FIRST_PAUSE).await;
        assert!(said(&mut machine).is_empty(), "the pauses grow");
        tokio::time::advance(FIRST_PAUSE).await;
        assert_eq!(
            said(&mut machine),
            [format!("confirmed {THEIRS}"), format!("new {THEIRS}")]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn another_address_of_the_router_takes_the_place_of_the_last() {
        let mut machine = machine(vec![
            forwards(THEIRS),
            nothing(),
            forwards(THEIRS),
            forwards(OTHER),
        ]);
        listen(&mut machine, OURS, true);
        tokio::time::advance(SETTLE).await;
        assert_eq!(said(&mut machine).len(), 2);
        tokio::time::advance(FIRST_PAUSE).await;
        assert!(
            said(&mut machine).is_empty(),
            "a search that fails is not believed at once"
        );
        tokio::time::advance(2 * FIRST_PAUSE).await;
        assert_eq!(
            said(&mut machine),
            [format!("confirmed {THEIRS}"), format!("new {THEIRS}")],
            "nothing is lost meanwhile"
        );
        tokio::time::advance(4 * FIRST_PAUSE).await;
        assert_eq!(
            said(&mut machine),
            [
                format!("confirmed {OTHER}"),
                format!("expired {THEIRS}"),
                format!("lost {THEIRS}"),
                format!("new {OTHER}")
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_router_gave_up_is_said_once_and_searched_for_at_once() {
        let mut first = forwards(THEIRS);
        first.extend([lost(OTHER), lost(THEIRS), lost(THEIRS)]);
        let mut machine = machine(vec![first, forwards(OTHER)]);
        listen(&mut machine, OURS, true);
        tokio::time::advance(SETTLE).await;
        assert_eq!(
            said(&mut machine)[2..],
            [format!("lost {THEIRS}")],
            "nobody knew the other one"
        );
        tokio::time::advance(SETTLE).await;
        assert_eq!(
            said(&mut machine),
            [format!("confirmed {OTHER}"), format!("new {OTHER}")]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn on_another_network_the_last_one_is_forgotten_at_once() {
        let mut machine = machine(vec![forwards(THEIRS), nothing()]);
        listen(&mut machine, OURS, true);
        tokio::time::advance(SETTLE).await;
        said(&mut machine);
        listen(&mut machine, OURS, false);
        listen(&mut machine, "/ip4/10.0.0.3/tcp/9000", true);
        assert_eq!(
            said(&mut machine),
            [format!("expired {THEIRS}"), format!("lost {THEIRS}")]
        );
        tokio::time::advance(SETTLE).await;
        assert_eq!(said(&mut machine), ["GatewayNotFound"]);
        assert_eq!(told()[1], ["/ip4/10.0.0.3/tcp/9000"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_search_hears_only_of_the_way_out_and_of_so_many_addresses() {
        let mut machine = machine(Vec::new());
        for address in [
            "/ip4/127.0.0.1/tcp/9000",
            "/ip4/11.7.1.1/tcp/9000",
            "/ip6/fd00::1/tcp/9000",
        ] {
            listen(&mut machine, address, true);
        }
        tokio::time::advance(LONGEST_PAUSE).await;
        said(&mut machine);
        assert!(told().is_empty(), "no router is needed");

        for address in ["/ip4/172.17.0.1/tcp/9000", "/ip4/172.17.0.1/udp/9000/quic-v1"] {
            listen(&mut machine, address, true);
        }
        tokio::time::advance(SETTLE).await;
        said(&mut machine);
        assert_eq!(told()[0].len(), 2, "nothing better is known");
        for port in 9000..9000 + u16::try_from(2 * MAX_LISTENING).unwrap() {
            listen(&mut machine, &format!("/ip4/{WAY_OUT}/tcp/{port}"), true);
        }
        assert_eq!(machine.listening.len(), MAX_LISTENING);
        tokio::time::advance(SETTLE).await;
        said(&mut machine);
        assert_eq!(told()[1].len(), MAX_TOLD);
        assert!(told()[1].iter().all(|address| address.contains(WAY_OUT)));
    }
}
