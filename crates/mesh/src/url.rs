//! Where a peer listens: `ws://` and `wss://` addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Longest address of a peer, in bytes.
pub const MAX_URL_BYTES: usize = 2048;
/// Longest host name (RFC 1035), in bytes.
const MAX_NAME_BYTES: usize = 253;
/// Longest part of a host name between dots (RFC 1035), in bytes.
const MAX_LABEL_BYTES: usize = 63;

/// The WebSocket address of a peer. `http` and `https` mean `ws` and `wss`, as the existing peers take them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WsUrl {
    secure: bool,
    host: Host,
    port: u16,
    /// Path and query, from `/` on.
    target: Box<str>,
}

/// The machine that an address names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// By number.
    Address(IpAddr),
    /// By name, in lower case.
    Name(Box<str>),
}

/// Which machines an address taken from a stranger may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every one: the operator named the address, or whoever told it is on this machine.
    Everywhere,
    /// Not this machine itself, not the link's own addresses (cloud metadata lives there), nothing that is not one
    /// machine. Private networks are allowed: meshes live in them.
    Elsewhere,
}

impl WsUrl {
    /// Whether TLS is spoken there.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The machine.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The TCP port: 80 and 443 when the address names none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What is asked for there: path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl Host {
    /// Whether this is the machine we are on, as far as the name itself says so.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.to_canonical().is_loopback(),
            Self::Name(name) => &**name == "localhost" || name.ends_with(".localhost"),
        }
    }
}

impl FromStr for Host {
    type Err = WsUrlError;

    /// A name, an IPv4 address, or an IPv6 address in brackets.
    fn from_str(text: &str) -> Result<Self, WsUrlError> {
        if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            let address = inner.parse::<Ipv6Addr>().map_err(|_| WsUrlError::BadHost)?;
            return Ok(Self::Address(address.into()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        // `127.1` and `0x7f000001` are addresses to some resolvers, and names to nobody.
        let last = name.rsplit('.').next().unwrap_or_default();
        let number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
        if name.len() > MAX_NAME_BYTES || number || !name.split('.').all(label) {
            return Err(WsUrlError::BadHost);
        }
        Ok(Self::Name(name.to_ascii_lowercase().into()))
    }
}

impl Reach {
    /// Whether that machine may be connected to.
    #[must_use]
    pub fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Elsewhere => match address.to_canonical() {
                IpAddr::V4(address) => {
                    !(address.is_loopback()
                        || address.is_link_local()
                        || address.is_multicast()
                        || address.is_broadcast()
                        || address.octets()[0] == 0)
                }
                IpAddr::V6(address) => {
                    !(address.is_loopback()
                        || address.is_unspecified()
                        || address.is_unicast_link_local()
                        || address.is_multicast())
                }
            },
        }
    }
}

impl FromStr for WsUrl {
    type Err = WsUrlError;

    fn from_str(text: &str) -> Result<Self, WsUrlError> {
        if text.len() > MAX_URL_BYTES {
            return Err(WsUrlError::TooLong { bytes: text.len() });
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(WsUrlError::BadCharacter);
        }
        let (scheme, rest) = text.split_once("://").ok_or(WsUrlError::BadScheme)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(WsUrlError::BadScheme),
        };
        if rest.contains('#') {
            return Err(WsUrlError::Fragment);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(WsUrlError::Credentials);
        }
        // The colons of an IPv6 address stand before its bracket.
        let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority.get(after_bracket..).and_then(|tail| tail.find(':')) {
            Some(colon) => {
                let (host, port) = authority.split_at(after_bracket + colon);
                (host, &port[1..])
            }
            None => (authority, ""),
        };
        let port = match port {
            "" if secure => 443,
            "" => 80,
            port if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().map_err(|_| WsUrlError::BadPort)?
            }
            _ => return Err(WsUrlError::BadPort),
        };
        if port == 0 {
            return Err(WsUrlError::BadPort);
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            secure,
            host: host.parse()?,
            port,
            target: format!("{slash}{target}").into(),
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for WsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        let usual = if self.secure { 443 } else { 80 };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != usual {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.target)
    }
}

impl fmt::Debug for WsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not the address of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WsUrlError {
    /// Longer than [`MAX_URL_BYTES`].
    #[error("an address of {bytes} bytes is too long (at most {MAX_URL_BYTES})")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// A space, a control character, or one that is not ASCII.
    #[error("an address holds visible ASCII characters only")]
    BadCharacter,
    /// Not `ws://…` or `wss://…`.
    #[error("an address begins with ws:// or wss://")]
    BadScheme,
    /// A part behind `#`, which no WebSocket address has.
    #[error("an address has no part behind #")]
    Fragment,
    /// `user:password@`: addresses are shown in logs and lists.
    #[error("an address holds no user and no password")]
    Credentials,
    /// Neither a host name nor an IP address.
    #[error("an address names a host, an IPv4 address or an IPv6 address in brackets")]
    BadHost,
    /// Not a port.
    #[error("a port is a number from 1 to 65535")]
    BadPort,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<String, WsUrlError> {
        text.parse::<WsUrl>().map(|url| url.to_string())
    }

    #[test]
    fn addresses_have_one_spelling() {
        for (text, shown) in [
            ("ws://127.0.0.1:5000", "ws://127.0.0.1:5000/"),
            ("WS://Example.ORG:80", "ws://example.org/"),
            ("wss://example.org./mesh?a=b", "wss://example.org/mesh?a=b"),
            ("http://[::1]:8080?x", "ws://[::1]:8080/?x"),
            ("https://a_b.example:443/", "wss://a_b.example/"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(shown));
            assert_eq!(read(shown).as_deref(), Ok(shown));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, error) in [
            ("", WsUrlError::BadScheme),
            ("not a url", WsUrlError::BadCharacter),
            ("ftp://127.0.0.1/", WsUrlError::BadScheme),
            ("ws://", WsUrlError::BadHost),
            ("ws://:5000", WsUrlError::BadHost),
            ("ws://a..b", WsUrlError::BadHost),
            ("ws://127.1", WsUrlError::BadHost),
            ("ws://0x7f000001", WsUrlError::BadHost),
            ("ws://[fe80::1%25eth0]/", WsUrlError::BadHost),
            ("ws://::1/", WsUrlError::BadPort),
            ("ws://a:0", WsUrlError::BadPort),
            ("ws://a:65536", WsUrlError::BadPort),
            ("ws://a:+1", WsUrlError::BadPort),
            ("ws://me:secret@a/", WsUrlError::Credentials),
            ("ws://a/#frag", WsUrlError::Fragment),
            ("ws://a\r\nb/", WsUrlError::BadCharacter),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
        let long = format!("ws://a/{}", "x".repeat(MAX_URL_BYTES));
        assert!(matches!(read(&long), Err(WsUrlError::TooLong { .. })));
    }

    #[test]
    fn strangers_lead_us_to_other_machines_only() {
        for here in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.1.1",
        ] {
            let address = here.parse().unwrap();
            assert!(!Reach::Elsewhere.allows(address), "{here}");
            assert!(Reach::Everywhere.allows(address), "{here}");
        }
        for elsewhere in ["10.0.0.1", "192.168.1.1", "203.0.113.5", "2001:db8::1", "fd00::1"] {
            assert!(Reach::Elsewhere.allows(elsewhere.parse().unwrap()), "{elsewhere}");
        }
    }

    #[test]
    fn a_name_can_say_that_it_is_this_machine() {
        for (host, here) in [
            ("localhost", true),
            ("LocalHost.", true),
            ("a.localhost", true),
            ("127.0.0.2", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("localhost.example", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(host.parse::<Host>().unwrap().is_loopback(), here, "{host}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_read_again(text in "(ws|wss|http)://[a-z0-9.:@\\[\\]%/?#_-]{0,40}") {
            if let Ok(url) = text.parse::<WsUrl>() {
                prop_assert_eq!(url.to_string().parse::<WsUrl>(), Ok(url));
            }
        }

        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            let _ = text.parse::<WsUrl>();
        }
    }
}
