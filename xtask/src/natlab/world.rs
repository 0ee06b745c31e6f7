//! A small internet: a public segment with relays on it, and two hosts, each connected in its way.

use std::net::Ipv4Addr;

use super::igd::Igd;
use super::kind::Kind;
use super::space::{Lab, Space};
use crate::gateways::Outcome;

/// How many machines with an address of their own stand beside the two hosts.
const SERVERS: usize = 2;
/// Names of the two hosts' places.
const SITES: [&str; 2] = ["a", "b"];

/// Which of the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
}

/// The whole of it. Dropping it removes it, with everything that runs in it.
pub(super) struct World<'a> {
    lab: &'a Lab,
    prefix: String,
    net: Space,
    servers: [Space; SERVERS],
    sites: [Site; 2],
}

/// A host and what connects it.
struct Site {
    index: u8,
    /// How often it has moved.
    moves: u8,
    /// How often it got another number where it is.
    numbers: u8,
    host: Space,
    /// From the host's to the one on the public segment.
    routers: Vec<Space>,
    /// What forwards ports.
    igd: Option<Igd>,
}

/// Bytes that crossed the public segment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Crossed {
    /// From one site to the other.
    pub(super) between_sites: u64,
    /// To and from each server.
    pub(super) with_servers: [u64; SERVERS],
}

impl<'a> World<'a> {
    /// Builds one for two hosts of these kinds.
    pub(super) fn build(lab: &'a Lab, kinds: [Kind; 2]) -> Outcome<Self> {
        let prefix = lab.world();
        // Whatever was made is removed if the rest fails.
        Self::build_as(lab, &prefix, kinds).inspect_err(|_| lab.remove(&prefix))
    }

    fn build_as(lab: &'a Lab, prefix: &str, kinds: [Kind; 2]) -> Outcome<Self> {
        let [net, one, two] = lab.spaces(prefix, ["net", "relay1", "relay2"])?;
        net.ip("link add br0 type bridge\nlink set br0 up\n")?;
        let servers = [one, two];
        for (number, server) in (1..).zip(&servers) {
            let port = format!("p-r{number}");
            plug(&net, &port, server, "eth0")?;
            server.ip(&format!(
                "addr add {}/16 dev eth0\nlink set eth0 up\n",
                server_address(number)
            ))?;
        }
        let [a, b] = kinds;
        let sites = [
            Site::build(lab, prefix, &net, a, 0)?,
            Site::build(lab, prefix, &net, b, 1)?,
        ];
        net.nft(&segment_rules())?;
        Ok(Self {
            lab,
            prefix: prefix.to_owned(),
            net,
            servers,
            sites,
        })
    }

    /// What the namespaces of this world start with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The lab it stands in.
    pub(super) fn lab(&self) -> &'a Lab {
        self.lab
    }

    /// A machine that has an address of its own: 0 or 1.
    pub(super) fn server(&self, index: usize) -> (&Space, Ipv4Addr) {
        let [one, two] = &self.servers;
        if index == 0 {
            (one, server_address(1))
        } else {
            (two, server_address(2))
        }
    }

    /// One of the two hosts.
    pub(super) fn host(&self, side: Side) -> &Space {
        &self.site(side).host
    }

    /// The address others see that host at.
    pub(super) fn address(&self, side: Side) -> Ipv4Addr {
        self.site(side).public_address()
    }

    fn site(&self, side: Side) -> &Site {
        let [a, b] = &self.sites;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    /// Nothing passes between a site and the public segment until [`World::heal`].
    pub(super) fn cut(&self, side: Side) -> Outcome {
        self.cut_port(&port(self.site(side).index))
    }

    /// Nothing passes between a server and the public segment until [`World::heal`].
    pub(super) fn cut_server(&self, index: usize) -> Outcome {
        self.cut_port(&format!("p-r{}", index + 1))
    }

    fn cut_port(&self, port: &str) -> Outcome {
        self.net.nft(&format!(
            "add rule bridge lab cut iifname \"{port}\" drop\nadd rule bridge lab cut oifname \"{port}\" drop\n"
        ))
    }

    /// Nothing passes from one site to the other until [`World::heal`]; servers are reached as before.
    pub(super) fn cut_between(&self) -> Outcome {
        let [a, b] = [0, 1].map(port);
        self.net.nft(&format!(
            "add rule bridge lab cut iifname \"{a}\" oifname \"{b}\" drop\n\
             add rule bridge lab cut iifname \"{b}\" oifname \"{a}\" drop\n"
        ))
    }

    /// Everything passes again.
    pub(super) fn heal(&self) -> Outcome {
        self.net.nft("flush chain bridge lab cut\n")
    }

    /// The host goes to another network: it and its router have other addresses from now on.
    pub(super) fn roam(&mut self, side: Side) -> Outcome {
        let [a, b] = &mut self.sites;
        let site = match side {
            Side::A => a,
            Side::B => b,
        };
        site.moves += 1;
        site.address()
    }

    /// The host's router gets another address on the public segment. Inside nothing changes.
    pub(super) fn renumber(&mut self, side: Side) -> Outcome {
        let [a, b] = &mut self.sites;
        let site = match side {
            Side::A => a,
            Side::B => b,
        };
        site.numbers += 1;
        let router = site.routers.last().ok_or("there is no router")?;
        router.ip(&format!(
            "addr flush dev wan\naddr add {}/16 dev wan\n",
            site.public_address()
        ))
    }

    /// What has crossed the public segment so far.
    pub(super) fn crossed(&self) -> Outcome<Crossed> {
        let answer = self
            .net
            .ask_nft(&["list", "counters", "table", "bridge", "lab"])?;
        let bytes = |name: &str| {
            answer["nftables"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|entry| &entry["counter"])
                .find(|counter| counter["name"] == name)
                .and_then(|counter| counter["bytes"].as_u64())
                .ok_or_else(|| format!("no counter {name} in {answer}"))
        };
        Ok(Crossed {
            between_sites: bytes("sites")?,
            with_servers: [bytes("server1")?, bytes("server2")?],
        })
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        self.lab.remove(&self.prefix);
    }
}

impl Site {
    fn build(lab: &Lab, world: &str, net: &Space, kind: Kind, index: usize) -> Outcome<Self> {
        let name = SITES.get(index).copied().unwrap_or_default();
        let host = lab.space(world, &format!("{name}-host"))?;
        let routers = (0..kind.routers())
            .map(|number| lab.space(world, &format!("{name}-router{number}")))
            .collect::<Outcome<Vec<_>>>()?;
        let mut site = Self {
            index: u8::try_from(index).unwrap_or_default(),
            moves: 0,
            numbers: 0,
            host,
            routers,
            igd: None,
        };
        // From the segment inwards.
        let mut outer = (net, port(site.index));
        for router in site.routers.iter().rev() {
            let (space, plug_name) = &outer;
            plug(space, plug_name, router, "wan")?;
            router.forward()?;
            router.nft(&kind.router_rules())?;
            outer = (router, "lan".to_owned());
        }
        let (space, plug_name) = &outer;
        plug(space, plug_name, &site.host, "eth0")?;
        site.host.nft(&kind.host_rules())?;
        site.address()?;
        if let (Kind::Upnp, Some(router)) = (kind, site.routers.first()) {
            site.igd = Some(Igd::start(lab, router)?);
        }
        Ok(site)
    }

    /// The one address of this place on the public segment.
    fn public_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(11, 7, 1 + self.index + 2 * self.moves, 1 + self.numbers)
    }

    /// Gives everybody the addresses of this place, and takes away those of the last one.
    fn address(&self) -> Outcome {
        let public = format!("{}/16", self.public_address());
        // Every home uses the same private range, and the next home another one.
        let home = |host: u8| format!("192.168.{}.{host}", 1 + self.moves);
        let carrier = |host: u8| format!("100.{}.0.{host}", 64 + self.moves);
        let set = |space: &Space, interface: &str, address: &str, gateway: Option<String>| {
            let mut commands = format!(
                "addr flush dev {interface}\naddr add {address} dev {interface}\nlink set {interface} up\n"
            );
            if let Some(gateway) = gateway {
                commands.push_str(&format!("route add default via {gateway}\n"));
            }
            space.ip(&commands)
        };
        let inside = |router: &Space| set(router, "lan", &format!("{}/24", home(1)), None);
        let host = || set(&self.host, "eth0", &format!("{}/24", home(10)), Some(home(1)));
        match self.routers.as_slice() {
            [] => set(&self.host, "eth0", &public, None),
            [router] => {
                set(router, "wan", &public, None)?;
                inside(router)?;
                host()
            }
            [router, outer, ..] => {
                set(outer, "wan", &public, None)?;
                set(outer, "lan", &format!("{}/16", carrier(1)), None)?;
                set(router, "wan", &format!("{}/16", carrier(10)), Some(carrier(1)))?;
                inside(router)?;
                host()
            }
        }
    }
}

/// Where a site is plugged into the public segment.
fn port(site: u8) -> String {
    SITES
        .get(usize::from(site))
        .map_or_else(String::new, |name| format!("p-{name}"))
}

fn server_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(11, 7, 0, number)
}

/// A cable between two namespaces. Where it ends on a bridge it becomes a port of it.
fn plug(outer: &Space, outer_name: &str, inner: &Space, inner_name: &str) -> Outcome {
    outer.ip(&format!(
        "link add {outer_name} type veth peer name {inner_name} netns {}\n",
        inner.name()
    ))?;
    if outer_name.starts_with("p-") {
        outer.ip(&format!("link set {outer_name} master br0 up\n"))
    } else {
        Ok(())
    }
}

/// Counts what crosses the segment, and can cut a site off. The internet carries no multicast: without that rule
/// everybody on the segment would be a neighbour of everybody else.
fn segment_rules() -> String {
    let [a, b] = [0, 1].map(port);
    let mut rules =
        "table bridge lab {\n  counter sites { }\n  counter server1 { }\n  counter server2 { }\n  \
                     chain cut {\n    type filter hook forward priority filter - 10; policy accept;\n  }\n  \
                     chain count {\n    type filter hook forward priority filter; policy accept;\n    \
                     ip daddr 224.0.0.0/4 drop\n"
            .to_owned();
    for (from, to) in [(&a, &b), (&b, &a)] {
        rules.push_str(&format!(
            "    ether type ip iifname \"{from}\" oifname \"{to}\" counter name \"sites\"\n"
        ));
    }
    for server in 1..=SERVERS {
        rules.push_str(&format!(
            "    ether type ip iifname \"p-r{server}\" counter name \"server{server}\"\n    \
             ether type ip oifname \"p-r{server}\" counter name \"server{server}\"\n"
        ));
    }
    rules.push_str("  }\n}\n");
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segment_counts_both_directions_and_all_servers() {
        let rules = segment_rules();
        assert!(rules.contains("iifname \"p-a\" oifname \"p-b\" counter name \"sites\""));
        assert!(rules.contains("iifname \"p-b\" oifname \"p-a\" counter name \"sites\""));
        assert_eq!(rules.matches("counter name \"server").count(), 2 * SERVERS);
        assert!(rules.contains("ip daddr 224.0.0.0/4 drop"));
        assert_eq!(rules.matches('{').count(), rules.matches('}').count());
    }

    #[test]
    fn server_addresses_are_public_ones() {
        assert!(!server_address(1).is_private());
        assert_ne!(server_address(1), server_address(2));
    }
}
