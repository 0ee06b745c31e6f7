//! Our own addresses as they are shown and handed out.

use std::net::IpAddr;

use clawchat_node::Node;
use clawchat_types::Locator;

/// Addresses through relays that have a place where only a few are shown.
const RELAYED_AMONG_FEW: usize = 2;

/// Where this gateway can be reached, the address most likely to work first: its own before those through relays,
/// loopback last, TCP before QUIC before WebSocket, IPv4 before IPv6, those known to work from the internet before
/// others. Link-local addresses are left out: without their interface they lead nowhere.
pub(crate) fn of(node: &Node) -> Vec<Locator> {
    let mut locators = node.locators();
    locators.retain(|locator| !locator.ip().is_some_and(is_link_local));
    locators.sort_by_key(rank);
    locators
}

/// The first `most` of them to tell others, with room for two through relays: behind a router those are the ones that
/// work. Addresses of the machine itself only when it has no others: elsewhere they mean somebody else.
pub(crate) fn few(node: &Node, most: usize) -> Vec<Locator> {
    let mut locators = of(node);
    let is_loopback = |locator: &Locator| locator.ip().is_some_and(|ip| ip.is_loopback());
    if !locators.iter().all(is_loopback) {
        locators.retain(|locator| !is_loopback(locator));
    }
    few_of(locators, most)
}

fn few_of(locators: Vec<Locator>, most: usize) -> Vec<Locator> {
    let (relayed, direct): (Vec<Locator>, Vec<Locator>) = locators.into_iter().partition(Locator::is_relayed);
    let room = most.saturating_sub(relayed.len().min(RELAYED_AMONG_FEW));
    let mut few: Vec<Locator> = direct.into_iter().take(room).collect();
    few.extend(relayed.into_iter().take(most - few.len()));
    few.sort_by_key(rank);
    few
}

fn rank(locator: &Locator) -> (bool, bool, u8, bool) {
    let ip = locator.ip();
    let transport = match locator.as_str() {
        text if text.contains("/ws") => 2,
        text if text.contains("/quic-v1") => 1,
        _ => 0,
    };
    (
        ip.is_some_and(|ip| ip.is_loopback()),
        locator.is_relayed(),
        transport,
        ip.is_some_and(|ip| ip.is_ipv6()),
    )
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn among_a_few_there_is_room_for_relays() {
        let direct = (1..20).map(|port| format!("/ip4/192.0.2.2/tcp/{port}"));
        let peer = "12D3KooWNZypvL2Um2qCT98FhMAf6mwGzPzFy8E7JsNnM7ipEHJo";
        let relayed =
            (1..4).map(|port| format!("/ip4/192.0.2.9/tcp/{port}/p2p/{peer}/p2p-circuit/p2p/{peer}"));
        let all: Vec<Locator> = relayed.chain(direct).map(|text| text.parse().unwrap()).collect();
        let few = few_of(all.clone(), 6);
        assert_eq!(few.len(), 6);
        assert_eq!(few.iter().filter(|locator| locator.is_relayed()).count(), 2);
        assert!(few[4].is_relayed() && few[5].is_relayed());
        assert_eq!(
            few_of(all[..3].to_vec(), 6).len(),
            3,
            "relays alone may take all the room"
        );
    }

    #[test]
    fn plain_tcp_on_a_real_interface_comes_first_and_loopback_last() {
        let mut locators: Vec<Locator> = [
            "/ip4/127.0.0.1/tcp/9000",
            "/ip4/192.0.2.2/tcp/9001/ws",
            "/ip6/fd00::2/tcp/9000",
            "/ip4/192.0.2.2/udp/9000/quic-v1",
            "/ip4/192.0.2.2/tcp/9000",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        locators.sort_by_key(rank);
        let texts: Vec<&str> = locators.iter().map(Locator::as_str).collect();
        assert_eq!(
            texts,
            [
                "/ip4/192.0.2.2/tcp/9000",
                "/ip6/fd00::2/tcp/9000",
                "/ip4/192.0.2.2/udp/9000/quic-v1",
                "/ip4/192.0.2.2/tcp/9001/ws",
                "/ip4/127.0.0.1/tcp/9000",
            ]
        );
    }
}
