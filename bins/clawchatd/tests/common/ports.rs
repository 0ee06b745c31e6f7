//! Ports for gateways of tests.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Where ports are looked for: below those the system gives to outgoing connections, which could otherwise take
/// the port of a gateway that is down for a moment.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// How many pairs of ports are tried.
const ATTEMPTS: u16 = 200;

/// A port that is free for TCP and UDP, and the next one for TCP: what a gateway listens on. `None` if there is none.
/// What is free now is not taken before the gateway starts, so this process gives no pair twice until it has given
/// them all, however many tests look for one at once; where it begins is chance, for other processes do the same.
pub(crate) fn free_pair() -> Option<u16> {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let random = RandomState::new().build_hasher().finish();
        AtomicU16::new(u16::try_from(random % u64::from(pairs())).unwrap_or_default())
    });
    (0..ATTEMPTS)
        .map(|_| PORTS.start + 2 * (NEXT.fetch_add(1, Ordering::Relaxed) % pairs()))
        .find(|port| is_free(*port))
}

fn pairs() -> u16 {
    (PORTS.end - PORTS.start) / 2
}

fn is_free(port: u16) -> bool {
    let any = Ipv4Addr::UNSPECIFIED;
    let tcp = [port, port + 1].map(|port| TcpListener::bind((any, port)));
    tcp.iter().all(Result::is_ok) && UdpSocket::bind((any, port)).is_ok()
}
