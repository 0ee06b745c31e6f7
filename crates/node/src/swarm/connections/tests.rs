//! Who has to go, and who stays.

use super::*;
use crate::{RelayLimits, RelayServe};

struct Table {
    connections: Connections,
    last: usize,
}

impl Table {
    fn new(limits: Limits) -> Self {
        Self {
            connections: Connections::new(
                limits,
                Arc::new(Policy::new(RelayServe::Anyone, RelayLimits::default())),
                false,
            ),
            last: 0,
        }
    }

    fn dialed_in(&mut self, peer: PeerId, ip: &str) -> Result<ConnectionId, ConnectionDenied> {
        self.last += 1;
        let id = ConnectionId::new_unchecked(self.last);
        let remote: Multiaddr = format!("/ip4/{ip}/tcp/{}", 1000 + self.last).parse().unwrap();
        let local: Multiaddr = "/ip4/127.0.0.1/tcp/9000".parse().unwrap();
        self.connections
            .handle_established_inbound_connection(id, peer, &local, &remote)?;
        self.connections.known.get_mut(&id).unwrap().established = true;
        Ok(id)
    }

    fn called_through(&mut self, relay: PeerId, peer: PeerId) -> ConnectionId {
        self.last += 1;
        let id = ConnectionId::new_unchecked(self.last);
        let local = format!("/ip4/192.0.2.2/tcp/1/p2p/{relay}/p2p-circuit")
            .parse()
            .unwrap();
        let remote = format!("/p2p/{peer}").parse().unwrap();
        self.connections
            .handle_established_inbound_connection(id, peer, &local, &remote)
            .unwrap();
        self.connections.known.get_mut(&id).unwrap().established = true;
        id
    }

    fn with_session(&mut self, peer: PeerId, ip: &str) -> ConnectionId {
        let id = self.dialed_in(peer, ip).unwrap();
        self.connections.session_began(id);
        id
    }

    fn evicted(&mut self) -> Vec<ConnectionId> {
        self.connections.closing.drain(..).map(|(_, id)| id).collect()
    }
}

#[tokio::test]
async fn a_newcomer_replaces_the_oldest_stranger_and_never_a_session() {
    let mut table = Table::new(Limits {
        connections: 3,
        ..Limits::default()
    });
    let friend = table.with_session(PeerId::random(), "192.0.2.1");
    let first = table.dialed_in(PeerId::random(), "192.0.2.2").unwrap();
    let second = table.dialed_in(PeerId::random(), "192.0.2.3").unwrap();
    table.dialed_in(PeerId::random(), "192.0.2.4").unwrap();
    assert_eq!(table.evicted(), [first]);
    table.connections.session_began(second);
    let fourth = table.with_session(PeerId::random(), "192.0.2.5");
    assert_eq!(table.evicted().len(), 1);
    assert!(table.dialed_in(PeerId::random(), "192.0.2.6").is_err());
    assert!(
        [friend, second, fourth]
            .iter()
            .all(|id| !table.connections.known[id].closing)
    );
}

#[tokio::test]
async fn one_address_holds_few_strangers_and_one_peer_few_connections() {
    let mut table = Table::new(Limits {
        strangers_per_ip: 2,
        connections_per_peer: 2,
        ..Limits::default()
    });
    let first = table.dialed_in(PeerId::random(), "192.0.2.1").unwrap();
    table.dialed_in(PeerId::random(), "192.0.2.2").unwrap();
    table.dialed_in(PeerId::random(), "192.0.2.1").unwrap();
    table.dialed_in(PeerId::random(), "192.0.2.1").unwrap();
    assert_eq!(table.evicted(), [first]);

    let peer = PeerId::random();
    let oldest = table.with_session(peer, "192.0.2.7");
    table.with_session(peer, "192.0.2.8");
    assert!(table.dialed_in(peer, "192.0.2.9").is_err());
    table.connections.session_ended(oldest);
    let newest = table.dialed_in(peer, "192.0.2.9").unwrap();
    assert_eq!(table.evicted(), [oldest]);
    assert_eq!(table.connections.best(&peer), Some(newest));
}

#[tokio::test]
async fn direct_connections_come_before_relayed_ones() {
    let mut table = Table::new(Limits::default());
    let peer = PeerId::random();
    let direct = table.dialed_in(peer, "192.0.2.1").unwrap();
    let relayed = table.called_through(PeerId::random(), peer);
    assert!(table.connections.is_relayed(relayed) && !table.connections.is_relayed(direct));
    assert_eq!(table.connections.best(&peer), Some(direct));
    table.connections.close(direct);
    assert_eq!(table.connections.best(&peer), Some(relayed));
}

#[tokio::test]
async fn what_carries_something_for_somebody_is_no_stranger() {
    let mut table = Table::new(Limits::default());
    let peer = PeerId::random();
    let id = table.dialed_in(peer, "192.0.2.1").unwrap();
    let is_stranger = |table: &Table| table.connections.is_stranger(&table.connections.known[&id]);
    assert!(is_stranger(&table));
    table.connections.rely_on(HashSet::from([peer]));
    assert!(!is_stranger(&table));
    table.connections.rely_on(HashSet::new());
    assert!(is_stranger(&table));

    let circuit = table.called_through(peer, PeerId::random());
    assert!(!is_stranger(&table));
    table.connections.close(circuit);
    assert!(is_stranger(&table));
}

#[tokio::test]
async fn those_who_come_through_relays_are_one_host() {
    let mut table = Table::new(Limits {
        strangers_per_ip: 2,
        ..Limits::default()
    });
    let direct = table.dialed_in(PeerId::random(), "192.0.2.1").unwrap();
    let first = table.called_through(PeerId::random(), PeerId::random());
    table.called_through(PeerId::random(), PeerId::random());
    table.called_through(PeerId::random(), PeerId::random());
    assert_eq!(table.evicted(), [first]);
    assert!(!table.connections.known[&direct].closing);
}

#[tokio::test]
async fn where_peers_send_us_is_public_or_not_dialed() {
    let mut table = Table::new(Limits::default());
    let id = ConnectionId::new_unchecked(77);
    let dial = |connections: &mut Connections, text: &str| {
        let addresses = ["/ip4/198.51.100.1/tcp/9".parse().unwrap(), text.parse().unwrap()];
        connections
            .handle_pending_outbound_connection(id, None, &addresses, Endpoint::Dialer)
            .is_ok()
    };
    let connections = &mut table.connections;
    for inside in [
        "/ip4/127.0.0.1/tcp/9",
        "/ip4/10.0.0.1/tcp/9",
        "/dns/localhost/tcp/9",
    ] {
        assert!(!dial(connections, inside), "{inside}");
    }
    assert!(dial(connections, "/ip4/198.51.100.2/udp/9/quic-v1"));
    connections.begin_dial(id);
    assert!(dial(connections, "/ip4/127.0.0.1/tcp/9"));
}

#[tokio::test]
async fn silence_is_ended_after_a_while() {
    let mut table = Table::new(Limits {
        stranger_timeout: std::time::Duration::from_millis(20),
        ..Limits::default()
    });
    let friend = table.with_session(PeerId::random(), "192.0.2.1");
    let silent = table.dialed_in(PeerId::random(), "192.0.2.2").unwrap();
    let closed = std::future::poll_fn(|cx| table.connections.poll(cx)).await;
    let ToSwarm::CloseConnection {
        connection: CloseConnection::One(id),
        ..
    } = closed
    else {
        panic!("something else happened")
    };
    assert_eq!(id, silent);
    assert!(!table.connections.known[&friend].closing);
}

#[tokio::test]
async fn who_is_to_be_punched_over_tcp_is_also_called_back() {
    let mut table = Table::new(Limits::default());
    let peer = PeerId::random();
    let addresses: Vec<Multiaddr> = (0..100)
        .map(|port| format!("/ip4/198.51.100.1/tcp/{}", 9000 + port).parse().unwrap())
        .collect();
    let punch = |table: &mut Table, id: usize, addresses: &[Multiaddr], role: Endpoint| {
        let id = ConnectionId::new_unchecked(id);
        table
            .connections
            .handle_pending_outbound_connection(id, Some(peer), addresses, role)
            .map(drop)
    };
    let quic: Multiaddr = "/ip4/198.51.100.1/udp/9000/quic-v1".parse().unwrap();
    punch(&mut table, 1, &[quic], Endpoint::Listener).unwrap();
    punch(&mut table, 2, &addresses, Endpoint::Dialer).unwrap();
    assert!(table.connections.calls.is_empty());
    punch(&mut table, 3, &addresses, Endpoint::Listener).unwrap();
    punch(&mut table, 4, &addresses, Endpoint::Listener).unwrap();
    assert_eq!(table.connections.calls.len(), 1, "one call at a time");
    let call = table.connections.calls.pop_front().unwrap().connection_id();
    table.connections.leave(call);
    punch(&mut table, 5, &addresses, Endpoint::Listener).unwrap();
    assert_eq!(table.connections.calls.len(), 1);
    let private = ["/ip4/192.168.1.1/tcp/9000".parse().unwrap()];
    assert!(punch(&mut table, 6, &private, Endpoint::Listener).is_err());
}

#[tokio::test]
async fn only_connections_from_an_address_that_is_gone_are_closed() {
    let mut table = Table::new(Limits::default());
    let near = table.with_session(PeerId::random(), "127.0.0.1");
    assert_eq!(table.connections.close_moved(|local| !local.is_loopback()), 0);
    assert_eq!(table.connections.close_moved(|local| local.is_loopback()), 1);
    assert_eq!(table.evicted(), [near]);
}

#[tokio::test]
async fn what_somebody_left_behind_is_closed_and_nothing_else() {
    let mut table = Table::new(Limits::default());
    let (moved, other) = (PeerId::random(), PeerId::random());
    let old = table.with_session(moved, "192.0.2.1");
    table.with_session(moved, "192.0.2.2");
    table.with_session(other, "192.0.2.1");
    let left = HashSet::from(["192.0.2.1".parse().unwrap()]);
    table.connections.close_from(&moved, &left);
    assert_eq!(table.evicted(), [old]);
}
