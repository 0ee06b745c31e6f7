//! Locators: where a gateway can be dialed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::PeerId;

/// Longest locator text, in bytes.
pub const MAX_LOCATOR_BYTES: usize = 512;
/// Most protocol parts in one locator; a relayed WebSocket address has seven.
const MAX_PARTS: usize = 12;

/// An address to try: a libp2p multiaddr (`/ip4/192.0.2.1/tcp/9000/p2p/12D3KooW…`).
///
/// Checked for the protocols ClawChat dials (`ip4 ip6 dns dns4 dns6 tcp udp quic-v1 ws wss tls p2p
/// p2p-circuit`), their arguments and its length. It is a hint: who answers there is proven by a handshake.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locator(String);

impl Locator {
    /// The multiaddr text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The gateway expected there: the last `/p2p/…` part, if the locator names one.
    #[must_use]
    pub fn peer_id(&self) -> Option<PeerId> {
        match self.parts().last()? {
            ("p2p", Some(id)) => id.parse().ok(),
            _ => None,
        }
    }

    /// The IP address dialed first, if it is one and not a name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.parts().next()? {
            ("ip4", Some(ip)) => ip.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            ("ip6", Some(ip)) => ip.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    }

    /// Whether it leads through a relay.
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        self.parts().any(|(name, _)| name == "p2p-circuit")
    }

    /// The same place, naming the gateway expected there. Unchanged when it names one already.
    #[must_use]
    pub fn with_peer_id(&self, peer: &PeerId) -> Self {
        if self.peer_id().is_some() {
            self.clone()
        } else {
            Self(format!("{}/p2p/{peer}", self.0))
        }
    }

    /// Reads `host:port` (IPv6 in brackets) as a TCP address.
    ///
    /// # Errors
    /// [`LocatorError::HostPort`] when it is not a host and a port from 1 to 65535.
    pub fn from_host_port(text: &str) -> Result<Self, LocatorError> {
        let (host, port) = text.rsplit_once(':').ok_or(LocatorError::HostPort)?;
        let port: u16 = port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or(LocatorError::HostPort)?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match (bare, host.parse::<Ipv4Addr>()) {
            (Some(ip), _) => format!(
                "ip6/{}",
                ip.parse::<Ipv6Addr>().map_err(|_| LocatorError::HostPort)?
            ),
            (None, Ok(ip)) => format!("ip4/{ip}"),
            (None, Err(_)) if is_host_name(host) => format!("dns/{host}"),
            (None, Err(_)) => return Err(LocatorError::HostPort),
        };
        format!("/{host}/tcp/{port}").parse()
    }

    /// The protocol parts with their arguments. Only called on checked text.
    fn parts(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let mut words = self.0.split('/').skip(1);
        std::iter::from_fn(move || {
            let name = words.next()?;
            Some((name, if takes_argument(name) { words.next() } else { None }))
        })
    }
}

impl FromStr for Locator {
    type Err = LocatorError;

    fn from_str(text: &str) -> Result<Self, LocatorError> {
        if text.len() > MAX_LOCATOR_BYTES {
            return Err(LocatorError::TooLong);
        }
        let mut words = text.strip_prefix('/').ok_or(LocatorError::NoSlash)?.split('/');
        let mut parts = 0;
        while let Some(name) = words.next() {
            parts += 1;
            if parts > MAX_PARTS {
                return Err(LocatorError::TooLong);
            }
            let argument = if takes_argument(name) {
                Some(words.next().ok_or_else(|| LocatorError::argument(name, ""))?)
            } else {
                None
            };
            check_part(name, argument, parts == 1)?;
        }
        Ok(Self(text.to_owned()))
    }
}

fn takes_argument(name: &str) -> bool {
    matches!(
        name,
        "ip4" | "ip6" | "dns" | "dns4" | "dns6" | "tcp" | "udp" | "p2p" | "sni"
    )
}

fn check_part(name: &str, argument: Option<&str>, first: bool) -> Result<(), LocatorError> {
    let argument = argument.unwrap_or_default();
    let good = match name {
        "ip4" => argument.parse::<Ipv4Addr>().is_ok(),
        "ip6" => argument.parse::<Ipv6Addr>().is_ok(),
        "dns" | "dns4" | "dns6" | "sni" => is_host_name(argument),
        "tcp" | "udp" => argument
            .parse::<u16>()
            .is_ok_and(|port| port > 0 && !argument.starts_with('+')),
        "p2p" => argument.parse::<PeerId>().is_ok(),
        "quic-v1" | "ws" | "wss" | "tls" | "p2p-circuit" => true,
        other => {
            return Err(LocatorError::Protocol {
                name: other.chars().take(32).collect(),
            });
        }
    };
    if !good {
        return Err(LocatorError::argument(name, argument));
    }
    if first && !matches!(name, "ip4" | "ip6" | "dns" | "dns4" | "dns6" | "p2p") {
        return Err(LocatorError::NoHost);
    }
    Ok(())
}

fn is_host_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Locator {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Locator {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Why a text is not a locator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocatorError {
    /// A multiaddr starts with `/`.
    #[error("an address starts with \"/\" (/ip4/192.0.2.1/tcp/9000/p2p/12D3KooW…), or is host:port")]
    NoSlash,
    /// Not `host:port`.
    #[error("expected host:port with a port from 1 to 65535, for example 192.0.2.1:9000")]
    HostPort,
    /// Longer than [`MAX_LOCATOR_BYTES`] or of too many parts.
    #[error("the address is longer than {MAX_LOCATOR_BYTES} bytes or {MAX_PARTS} parts")]
    TooLong,
    /// The first part is not an IP address, a DNS name or a peer.
    #[error("the address does not start with a host: /ip4/…, /ip6/…, /dns/… or /p2p/…")]
    NoHost,
    /// A protocol ClawChat does not dial.
    #[error("\"/{name}\" is not a protocol this gateway can dial")]
    Protocol {
        /// The part's name, shortened.
        name: String,
    },
    /// A part whose argument is missing or wrong.
    #[error("\"{argument}\" is not a valid argument of /{name}")]
    Argument {
        /// The part's name.
        name: String,
        /// What stood there, shortened.
        argument: String,
    },
}

impl LocatorError {
    fn argument(name: &str, argument: &str) -> Self {
        Self::Argument {
            name: name.to_owned(),
            argument: argument.chars().take(64).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PEER: &str = "12D3KooWNZypvL2Um2qCT98FhMAf6mwGzPzFy8E7JsNnM7ipEHJo";

    #[test]
    fn the_addresses_gateways_use_are_read() {
        for text in [
            format!("/ip4/127.0.0.1/tcp/9000/p2p/{PEER}"),
            format!("/ip4/127.0.0.1/tcp/9001/ws/p2p/{PEER}"),
            format!("/ip6/::1/udp/9000/quic-v1/p2p/{PEER}"),
            format!("/dns4/gw.example.org/tcp/443/tls/ws/p2p/{PEER}"),
            format!("/ip4/192.0.2.1/tcp/9000/p2p/{PEER}/p2p-circuit/p2p/{PEER}"),
            "/dns/localhost/tcp/1".to_owned(),
        ] {
            let locator: Locator = text.parse().unwrap();
            assert_eq!(locator.as_str(), text);
            assert_eq!(locator.peer_id().is_some(), text.ends_with(PEER));
            assert_eq!(locator.is_relayed(), text.contains("circuit"));
        }
    }

    #[test]
    fn broken_addresses_say_what_is_wrong() {
        for text in [
            "",
            "nonsense",
            "/",
            "//",
            "/ip4",
            "/ip4/",
            "/ip4/300.1.1.1/tcp/1",
            "/ip4/1.2.3.4/tcp/0",
            "/ip4/1.2.3.4/tcp/65536",
            "/ip4/1.2.3.4/tcp/+80",
            "/tcp/9000",
            "/unix/tmp",
            "/ip4/1.2.3.4/tcp/9/p2p/0OIl",
            "/ip4/1.2.3.4/tcp/9/",
            "/dns/a b/tcp/1",
        ] {
            let error = text.parse::<Locator>().unwrap_err();
            assert!(!error.to_string().is_empty(), "{text}");
        }
    }

    #[test]
    fn host_and_port_become_a_tcp_address() {
        let text = |s: &str| Locator::from_host_port(s).map(|l| l.to_string());
        assert_eq!(text("127.0.0.1:9000").unwrap(), "/ip4/127.0.0.1/tcp/9000");
        assert_eq!(text("[::1]:9000").unwrap(), "/ip6/::1/tcp/9000");
        assert_eq!(
            text("gw.example.org:9000").unwrap(),
            "/dns/gw.example.org/tcp/9000"
        );
        for bad in [
            "host",
            "host:",
            ":1",
            "host:0",
            "host:70000",
            "::1:9000",
            "a b:1",
            "/ip4/1.2.3.4/tcp/1:2",
        ] {
            assert_eq!(text(bad), Err(LocatorError::HostPort), "{bad}");
        }
    }

    #[test]
    fn a_peer_id_is_added_once() {
        let peer: PeerId = PEER.parse().unwrap();
        let bare: Locator = "/ip4/127.0.0.1/tcp/9000".parse().unwrap();
        let full = bare.with_peer_id(&peer);
        assert_eq!(full.peer_id(), Some(peer.clone()));
        assert_eq!(full.with_peer_id(&peer), full);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_accepted_text_is_bounded(text in ".*", path in "(/[a-z0-9.:-]{0,12}){0,14}") {
            for text in [text, path] {
                if let Ok(locator) = text.parse::<Locator>() {
                    prop_assert!(locator.as_str().len() <= MAX_LOCATOR_BYTES);
                    let _ = (locator.peer_id(), locator.ip(), locator.is_relayed());
                }
                let _ = Locator::from_host_port(&text);
            }
        }
    }
}
