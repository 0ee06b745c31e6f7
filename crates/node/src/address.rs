//! Between our address types and libp2p's, and which addresses are worth anything.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use clawchat_types::{Locator, NodeId, PeerId};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Most addresses kept of what one peer says about itself.
pub(crate) const MAX_PEER_LOCATORS: usize = 16;

/// The libp2p form of a peer id; `None` when the text is base58 but not a peer id.
pub(crate) fn to_libp2p(peer: &PeerId) -> Option<libp2p::PeerId> {
    peer.as_str().parse().ok()
}

/// Our form of a libp2p peer id. Ids of keys other than Ed25519 may be longer than ours allow.
pub(crate) fn from_libp2p(peer: &libp2p::PeerId) -> Option<PeerId> {
    peer.to_base58().parse().ok()
}

/// The Ed25519 key a peer id stands for; `None` for other kinds of keys. Such ids hold the key itself: the
/// identity multihash of its protobuf form.
pub(crate) fn node_id_of(peer: &libp2p::PeerId) -> Option<NodeId> {
    const ED25519: [u8; 6] = [0x00, 36, 0x08, 0x01, 0x12, 32];
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&ED25519)?;
    Some(NodeId::new(key.try_into().ok()?))
}

/// The multiaddr of a locator.
pub(crate) fn to_multiaddr(locator: &Locator) -> Option<Multiaddr> {
    locator.as_str().parse().ok()
}

/// A multiaddr of a kind we dial, as a locator that names `peer`.
pub(crate) fn to_locator(address: &Multiaddr, peer: &PeerId) -> Option<Locator> {
    let locator: Locator = address.to_string().parse().ok()?;
    Some(locator.with_peer_id(peer))
}

/// The IP address a multiaddr starts with.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// What carries a connection between two hosts. Routers treat the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Carrier {
    /// TCP, WebSocket over it not included.
    Tcp,
    /// QUIC over UDP.
    Quic,
}

impl Carrier {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Tcp, Self::Quic];

    /// What carries a connection with this address; `None` for WebSocket, for circuits, and for what we do not dial.
    pub(crate) fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter().skip(1);
        match (parts.next()?, parts.next()) {
            (Protocol::Tcp(_), None | Some(Protocol::P2p(_))) => Some(Self::Tcp),
            (Protocol::Udp(_), Some(Protocol::QuicV1)) => Some(Self::Quic),
            _ => None,
        }
        .filter(|_| !is_relayed(address))
    }
}

/// The address of this machine that packets to `remote` leave from at the moment. Nothing is sent.
pub(crate) fn local_towards(remote: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match remote {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // The port does not matter: connecting a UDP socket only looks the way up.
    socket.connect((remote, 1)).ok()?;
    let local = socket.local_addr().ok()?.ip();
    (!local.is_unspecified()).then_some(local)
}

/// Whether this machine had the address and has it no more. In doubt it has.
pub(crate) fn is_gone(local: IpAddr) -> bool {
    let bound = UdpSocket::bind((local, 0));
    bound.is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable)
}

/// Whom an IP address stands for when strangers are counted: itself, or its /64 network, since one host
/// usually has that many IPv6 addresses.
pub(crate) fn host_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => {
                let [a, b, c, d, ..] = v6.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
        },
    }
}

/// Whether a multiaddr goes through a relay.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

/// The relay a circuit address goes through, if it names one.
pub(crate) fn relay_of(address: &Multiaddr) -> Option<libp2p::PeerId> {
    let mut relay = None;
    for part in address {
        match part {
            Protocol::P2p(peer) => relay = Some(peer),
            Protocol::P2pCircuit => return relay,
            _ => {}
        }
    }
    None
}

/// A circuit address taken apart: the relay, and where it is.
pub(crate) fn relay_part(address: &Multiaddr) -> Option<(libp2p::PeerId, Multiaddr)> {
    let relay = relay_of(address)?;
    let before = |part: &Protocol<'_>| !matches!(part, Protocol::P2p(_) | Protocol::P2pCircuit);
    let at: Multiaddr = address.iter().take_while(before).collect();
    (!at.is_empty()).then_some((relay, at))
}

/// Whether a multiaddr starts with an IP address that means the same everywhere; with `on_loopback`, also one of this
/// machine.
pub(crate) fn is_public(address: &Multiaddr, on_loopback: bool) -> bool {
    ip_of(address).is_some_and(|ip| {
        let ip = ip.to_canonical();
        is_usable(ip, on_loopback)
            && match ip {
                IpAddr::V4(v4) => !(v4.is_private() || is_carrier_private(v4)),
                IpAddr::V6(v6) => !v6.is_unique_local(),
            }
    })
}

/// 100.64.0.0/10: addresses that carriers share among customers (RFC 6598).
fn is_carrier_private(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && (64..128).contains(&second)
}

/// What is worth keeping of the addresses a peer reports over a connection that comes from `seen`: at most
/// [`MAX_PEER_LOCATORS`], each an IP address others can use, none that names somebody else.
pub(crate) fn usable_of_peer(addresses: &[Multiaddr], peer: &PeerId, seen: Option<IpAddr>) -> Vec<Locator> {
    let loopback = seen.is_some_and(|ip| ip.is_loopback());
    let mut kept: Vec<Locator> = Vec::new();
    for address in addresses {
        let usable = ip_of(address).is_some_and(|ip| is_usable(ip, loopback));
        let Some(locator) = to_locator(address, peer).filter(|_| usable) else {
            continue;
        };
        if locator.peer_id().as_ref() == Some(peer) && !kept.contains(&locator) {
            kept.push(locator);
        }
        if kept.len() == MAX_PEER_LOCATORS {
            break;
        }
    }
    kept
}

/// Whether an address means anything to another host, or, with `loopback`, to another program on this one.
pub(crate) fn is_usable(ip: IpAddr, loopback: bool) -> bool {
    if ip.is_unspecified() || ip.is_multicast() || (ip.is_loopback() && !loopback) {
        return false;
    }
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PEER: &str = "12D3KooWNZypvL2Um2qCT98FhMAf6mwGzPzFy8E7JsNnM7ipEHJo";
    const OTHER: &str = "12D3KooWMtEfANQF1StYpRmm8JyGExkcEjR4Rkj8Ktp1jUEnqqRw";

    fn filtered(addresses: &[&str], seen: &str) -> Vec<String> {
        let addresses: Vec<Multiaddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        usable_of_peer(&addresses, &PEER.parse().unwrap(), Some(seen.parse().unwrap()))
            .iter()
            .map(|locator| {
                locator
                    .as_str()
                    .trim_end_matches(&format!("/p2p/{PEER}"))
                    .to_owned()
            })
            .collect()
    }

    #[test]
    fn a_peer_cannot_point_at_loopback_or_at_somebody_else() {
        let reported = [
            "/ip4/127.0.0.1/tcp/9000",
            "/ip4/0.0.0.0/tcp/9000",
            "/ip4/169.254.1.1/tcp/9000",
            "/ip4/224.0.0.1/tcp/9000",
            "/ip6/fe80::1/tcp/9000",
            "/ip4/192.168.1.2/tcp/9000",
            "/ip4/192.168.1.2/tcp/9000",
            "/dns/example.org/tcp/9000",
            "/ip4/192.168.1.2/udp/9000/quic-v1",
            &format!("/ip4/192.168.1.3/tcp/9000/p2p/{OTHER}"),
            "/ip4/192.168.1.2/sctp/9000",
        ];
        let kept = ["/ip4/192.168.1.2/tcp/9000", "/ip4/192.168.1.2/udp/9000/quic-v1"];
        assert_eq!(filtered(&reported, "192.168.1.2"), kept);
        assert_eq!(filtered(&reported[..2], "127.0.0.1"), ["/ip4/127.0.0.1/tcp/9000"]);
        let many: Vec<String> = (1..100)
            .map(|port| format!("/ip4/192.0.2.1/tcp/{port}"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(filtered(&many, "192.0.2.1").len(), MAX_PEER_LOCATORS);
    }

    #[test]
    fn what_carries_a_connection_shows_in_its_address() {
        let carrier = |text: &str| Carrier::of(&text.parse().unwrap());
        assert_eq!(carrier("/ip4/192.0.2.1/tcp/9000"), Some(Carrier::Tcp));
        assert_eq!(
            carrier(&format!("/ip6/2001:db8::1/tcp/9000/p2p/{PEER}")),
            Some(Carrier::Tcp)
        );
        assert_eq!(
            carrier(&format!("/ip4/192.0.2.1/udp/9000/quic-v1/p2p/{PEER}")),
            Some(Carrier::Quic)
        );
        assert_eq!(carrier("/ip4/192.0.2.1/tcp/9001/ws"), None);
        assert_eq!(carrier("/ip4/192.0.2.1/udp/9000"), None);
        assert_eq!(
            carrier(&format!("/ip4/192.0.2.1/tcp/9000/p2p/{OTHER}/p2p-circuit")),
            None
        );
        assert_eq!(carrier("/ip4/192.0.2.1"), None);
    }

    #[test]
    fn packets_to_this_machine_leave_from_it() {
        let loopback: IpAddr = Ipv4Addr::LOCALHOST.into();
        assert_eq!(local_towards(loopback), Some(loopback));
        assert!(!is_gone(loopback));
        assert!(is_gone("203.0.113.77".parse().unwrap()));
    }

    #[test]
    fn strangers_of_one_ipv6_network_are_one_host() {
        let host = |text: &str| host_of(text.parse().unwrap());
        assert_eq!(host("2001:db8:1:2:3::4"), host("2001:db8:1:2:ffff::1"));
        assert_ne!(host("2001:db8:1:2::1"), host("2001:db8:1:3::1"));
        assert_eq!(host("::ffff:192.0.2.1"), host("192.0.2.1"));
    }

    proptest! {
        #[test]
        fn reported_addresses_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(address) = Multiaddr::try_from(bytes) {
                let _ = usable_of_peer(&[address], &PEER.parse().unwrap(), None);
            }
        }
    }
}
