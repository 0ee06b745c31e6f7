//! The kinds of connection to the internet a host can have, as nftables rules, and which pairs of them can meet.

use std::fmt;
use std::str::FromStr;

/// The port gateways listen on in the lab: TCP and UDP. The next one is for WebSocket.
pub(super) const PORT: u16 = 9000;
/// How far the carrier of [`Kind::Shifted`] moves ports.
const SHIFT: u16 = 20_000;
/// How long a full cone keeps a port open for its user, in minutes.
const CONE_MINUTES: u16 = 5;

/// How a host is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// An address of its own, nothing in between.
    Public,
    /// An address of its own, and a firewall that admits only answers.
    Firewall,
    /// A router that keeps the port and lets anybody answer.
    FullCone,
    /// The usual home router: it keeps the port and lets only those answer who were asked.
    PortRestricted,
    /// The same, and it forwards ports to whoever asks it to.
    Upnp,
    /// The same, but every port becomes another one, always the same.
    Shifted,
    /// Another port for each destination.
    Symmetric,
    /// A home router behind a carrier's.
    Double,
    /// A home router that carries no UDP.
    UdpBlocked,
    /// A home router that lets no TCP connection in, not even one that was asked for at the same moment.
    SynDropped,
}

/// What a router does with the port of a packet on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapping {
    /// It stays as it is.
    Kept,
    /// Another one, the same for all destinations.
    Shifted,
    /// Another one for each destination.
    PerDestination,
    /// Nothing goes out.
    Blocked,
}

/// Who may send to a port that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// Everybody.
    Open,
    /// Those it has sent to, at the port it has sent to.
    AddressAndPort,
}

impl Kind {
    /// All of them, the easy ones first.
    pub(super) const ALL: [Self; 10] = [
        Self::Public,
        Self::Firewall,
        Self::FullCone,
        Self::PortRestricted,
        Self::Upnp,
        Self::Shifted,
        Self::Symmetric,
        Self::Double,
        Self::UdpBlocked,
        Self::SynDropped,
    ];

    /// As it is named on the command line and in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Firewall => "firewall",
            Self::FullCone => "full-cone",
            Self::PortRestricted => "port-restricted",
            Self::Upnp => "upnp",
            Self::Shifted => "shifted",
            Self::Symmetric => "symmetric",
            Self::Double => "double",
            Self::UdpBlocked => "udp-blocked",
            Self::SynDropped => "syn-dropped",
        }
    }

    /// How many routers are between the host and the public segment.
    pub(super) fn routers(self) -> usize {
        match self {
            Self::Public | Self::Firewall => 0,
            Self::FullCone
            | Self::PortRestricted
            | Self::Upnp
            | Self::Shifted
            | Self::Symmetric
            | Self::UdpBlocked
            | Self::SynDropped => 1,
            Self::Double => 2,
        }
    }

    pub(super) fn mapping(self, udp: bool) -> Mapping {
        match self {
            Self::Public | Self::Firewall | Self::FullCone | Self::PortRestricted => Mapping::Kept,
            Self::Upnp | Self::Double | Self::SynDropped => Mapping::Kept,
            Self::Shifted => Mapping::Shifted,
            Self::Symmetric => Mapping::PerDestination,
            Self::UdpBlocked if udp => Mapping::Blocked,
            Self::UdpBlocked => Mapping::Kept,
        }
    }

    /// Of the ports that gateways listen on, once they have asked for what can be asked for.
    pub(super) fn filter(self) -> Filter {
        match self {
            Self::Public | Self::FullCone | Self::Upnp => Filter::Open,
            Self::Firewall
            | Self::PortRestricted
            | Self::Shifted
            | Self::Symmetric
            | Self::Double
            | Self::UdpBlocked
            | Self::SynDropped => Filter::AddressAndPort,
        }
    }

    /// Whether anybody can begin a conversation with it who knows its address.
    pub(super) fn is_public(self) -> bool {
        matches!(self, Self::Public | Self::Upnp)
    }

    /// What it is like for those who ask for nothing.
    pub(super) fn unasked(self) -> Self {
        if self == Self::Upnp {
            Self::PortRestricted
        } else {
            self
        }
    }

    /// Whether the two can speak without anybody in between once a third has told each about the other.
    pub(super) fn can_meet(self, other: Self) -> bool {
        [true, false]
            .into_iter()
            .any(|udp| self.can_meet_over(other, udp))
    }

    fn can_meet_over(self, other: Self, udp: bool) -> bool {
        let mappings = [self.mapping(udp), other.mapping(udp)];
        if mappings.contains(&Mapping::Blocked) {
            return false;
        }
        // With TCP the first packet of one side has to get in.
        if !udp && self == Self::SynDropped && other == Self::SynDropped {
            return false;
        }
        let guessed = |mapping: Mapping, other: Self| {
            mapping != Mapping::PerDestination || other.filter() == Filter::Open
        };
        let [ours, theirs] = mappings;
        // Nobody can send to a port that is chosen for each destination; but from there one can, to open ones.
        guessed(ours, other) && guessed(theirs, self)
    }

    /// Rules of the host itself, whose way out is `eth0`.
    pub(super) fn host_rules(self) -> String {
        let guard = match self {
            Self::Firewall => {
                "iifname \"eth0\" ct state established,related accept\n    iifname \"eth0\" drop"
            }
            Self::Public
            | Self::FullCone
            | Self::PortRestricted
            | Self::Upnp
            | Self::Shifted
            | Self::Symmetric
            | Self::Double
            | Self::UdpBlocked
            | Self::SynDropped => "",
        };
        format!(
            "flush ruleset\ntable ip lab {{\n  chain input {{\n    type filter hook input priority filter; policy accept;\n    {guard}\n  }}\n}}\n"
        )
    }

    /// Rules of a router between `lan` and `wan`.
    pub(super) fn router_rules(self) -> String {
        let mut forward = String::new();
        let mut more = String::new();
        let mut out = "oifname \"wan\" masquerade".to_owned();
        match self {
            Self::Public | Self::Firewall | Self::PortRestricted | Self::Double => {}
            Self::Upnp => forward.push_str("    iifname \"wan\" ct status dnat accept\n"),
            Self::FullCone => {
                forward.push_str("    iifname \"wan\" ct status dnat accept\n");
                for protocol in ["udp", "tcp"] {
                    forward.push_str(&format!(
                        "    oifname \"wan\" update @{protocol}_users {{ {protocol} sport : ip saddr . {protocol} sport }}\n"
                    ));
                    more.push_str(&format!(
                        "  map {protocol}_users {{\n    type inet_service : ipv4_addr . inet_service\n    size 4096\n    \
                         flags dynamic,timeout\n    timeout {CONE_MINUTES}m\n  }}\n  chain {protocol}_in {{\n    \
                         type nat hook prerouting priority dstnat\n    \
                         iifname \"wan\" dnat ip to {protocol} dport map @{protocol}_users\n  }}\n"
                    ));
                }
            }
            Self::Shifted => {
                let mut shifted = String::new();
                for (protocol, port) in [("udp", PORT), ("tcp", PORT), ("tcp", PORT + 1)] {
                    shifted.push_str(&format!(
                        "oifname \"wan\" {protocol} sport {port} masquerade to :{}\n    ",
                        port + SHIFT
                    ));
                }
                out.insert_str(0, &shifted);
            }
            Self::Symmetric => out.push_str(" fully-random"),
            Self::UdpBlocked => forward.push_str("    meta l4proto udp drop\n"),
            Self::SynDropped => {
                forward.push_str("    iifname \"wan\" tcp flags & (syn | ack) == syn drop\n");
            }
        }
        // What nobody asked for gets no answer either: a reset or an ICMP error would end what it belongs to.
        format!(
            "flush ruleset\n\
             table ip lab {{\n\
             {more}  chain input {{\n    type filter hook input priority filter; policy accept;\n    \
             iifname \"wan\" ct state established,related accept\n    iifname \"wan\" drop\n  }}\n  \
             chain forward {{\n    type filter hook forward priority filter; policy accept;\n\
             {forward}    iifname \"wan\" ct state established,related accept\n    iifname \"wan\" drop\n  }}\n  \
             chain out {{\n    type nat hook postrouting priority srcnat;\n    {out}\n  }}\n}}\n"
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
                format!("there is no kind {text:?}; there are {}", names.join(", "))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("home".parse::<Kind>().unwrap_err().contains("port-restricted"));
    }

    #[test]
    fn only_symmetric_routers_need_a_relay_and_not_with_everybody() {
        for one in Kind::ALL {
            for other in Kind::ALL {
                assert_eq!(one.can_meet(other), other.can_meet(one), "{one} {other}");
                let pair = [one, other];
                let symmetric = pair.iter().position(|kind| *kind == Kind::Symmetric);
                let partner = symmetric.map(|index| pair[1 - index]);
                let expected = partner.is_none_or(|partner| partner.filter() == Filter::Open);
                assert_eq!(one.can_meet(other), expected, "{one} {other}");
            }
        }
    }

    #[test]
    fn without_udp_and_without_connections_from_outside_a_call_from_inside_remains() {
        assert!(Kind::UdpBlocked.can_meet(Kind::SynDropped));
        assert!(Kind::SynDropped.can_meet(Kind::SynDropped));
        assert!(!Kind::SynDropped.can_meet_over(Kind::SynDropped, false));
        assert!(!Kind::UdpBlocked.can_meet(Kind::Symmetric));
    }

    #[test]
    fn every_router_admits_only_answers_and_gives_none_itself() {
        for kind in Kind::ALL {
            let rules = kind.router_rules();
            assert_eq!(
                rules.matches("iifname \"wan\" drop").count(),
                2,
                "{kind}: {rules}"
            );
            assert_eq!(rules.matches('{').count(), rules.matches('}').count());
            assert!(rules.contains("masquerade"), "{kind}");
        }
    }

    #[test]
    fn rules_of_the_kinds_differ_where_the_kinds_do() {
        let home = Kind::PortRestricted.router_rules();
        assert!(!home.contains("dnat ip") && !home.contains("random") && !home.contains(":29000"));
        assert_eq!(Kind::Double.router_rules(), home);
        assert!(!home.contains("dnat"));
        assert!(Kind::Upnp.router_rules().contains("ct status dnat accept"));
        let cone = Kind::FullCone.router_rules();
        assert!(cone.contains("update @udp_users { udp sport : ip saddr . udp sport }"));
        assert!(cone.contains("dnat ip to tcp dport map @tcp_users"));
        assert!(
            Kind::Shifted
                .router_rules()
                .contains("udp sport 9000 masquerade to :29000")
        );
        assert!(Kind::Symmetric.router_rules().contains("masquerade fully-random"));
        assert!(Kind::UdpBlocked.router_rules().contains("meta l4proto udp drop"));
        assert!(
            Kind::SynDropped
                .router_rules()
                .contains("(syn | ack) == syn drop")
        );
        assert!(Kind::Firewall.host_rules().contains("iifname \"eth0\" drop"));
        assert!(!Kind::Public.host_rules().contains("drop"));
    }
}
