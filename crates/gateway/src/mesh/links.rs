//! Links over WebSocket: listening for peers, dialing them, and dialing them again.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clawchat_ipc::{ErrorCode, Failure};
use clawchat_mesh::ws::{
    ClientTls, Listener, Outgoing, ServerTls, TlsError, WebSockets, WsFrame, WsLimits, WsLink, WsReader,
    WsWriter,
};
use clawchat_mesh::{Origin, PeerName, Reach, Side, WsUrl};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::hub::Input;
use super::peer::{MeshPeer, MeshStartError};
use super::port::{FrameReader, FrameWriter};
use crate::bootstrap::neighbours::{self, ListUrl, Source, Trusted};
use crate::clock;
use crate::config::MeshTls;
use crate::home::read_bounded;

/// First pause before a peer is dialed again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause, jitter not counted.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A link that stood for this long begins with the first pause again.
const STOOD_WELL: Duration = Duration::from_secs(30);
/// Largest file of certificates or of a key, in bytes.
const MAX_PEM_FILE_BYTES: u64 = 1024 * 1024;
/// What to do about a file that is not what it should be.
const CORRECT_FILES: &str = "correct \"mesh\".\"tls\" or \"trust\" in gateway-config.json, \
                             or --tls-certificate, --tls-key or --trust of clawchatd mesh";
/// WebSocket's code for an end without a fault (RFC 6455, section 7.4.1).
const CLOSE_NORMAL: u16 = 1000;

/// Listens and dials as the configuration says. Gives the address it listens on.
///
/// # Errors
/// The address is not to be had, or the configuration holds one that is none.
pub(crate) async fn start(peer: &Arc<MeshPeer>) -> Result<Option<SocketAddr>, Failure> {
    let trusted = match &peer.settings.trust {
        None => Vec::new(),
        Some(path) => pem(path)?,
    };
    let tls = ClientTls::new(&trusted).map_err(|error| unusable(peer.settings.trust.as_deref(), &error))?;
    let sockets = WebSockets::new(WsLimits::default(), tls);
    let listening = match peer.settings.listen {
        None => None,
        Some(address) => {
            let refused = |error: std::io::Error| MeshStartError::Listen {
                address: address.to_string(),
                reason: error.to_string(),
            };
            let tls = peer.settings.tls.as_ref().map(server_tls).transpose()?;
            let listener = sockets.listen(address, tls).await.map_err(refused)?;
            let actual = listener.local_addr().map_err(refused)?;
            peer.spawn(accept(Arc::clone(peer), listener));
            info!(address = %actual, "listening for peers of the mesh");
            Some(actual)
        }
    };
    for text in &peer.settings.peers {
        let url: WsUrl = text
            .parse()
            .map_err(|error| Failure::invalid(format!("mesh.peers: {text}: {error}")))?;
        peer.dialed(&url.to_string(), None);
        peer.spawn(keep(Arc::clone(peer), sockets.clone(), url, Reach::Everywhere));
    }
    if let Some(text) = &peer.settings.bootstrap {
        let list = ListUrl::parse(text)
            .map_err(|error| Failure::invalid(format!("mesh.bootstrap: {text}: {error}")))?;
        let (serving, asking) = (Arc::clone(peer), Arc::clone(peer));
        let source = Source {
            list,
            trusted: Trusted::new(&trusted),
            news: peer.list_news.clone(),
        };
        peer.spawn(neighbours::keep(
            source,
            peer.name().clone(),
            sockets,
            move |link, label| {
                let peer = Arc::clone(&serving);
                async move { run(&peer, link, Side::Dialed, &label).await }
            },
            move || {
                let peer = Arc::clone(&asking);
                async move { linked(&peer).await }
            },
        ));
    }
    Ok(listening)
}

/// The peers with whom there is a link.
async fn linked(peer: &MeshPeer) -> HashSet<PeerName> {
    let status = peer.hub.ask(|answer| Input::Status { answer }).await;
    let links = status.map(|status| status.links).unwrap_or_default();
    links.into_iter().filter_map(|(link, _)| link.peer).collect()
}

fn server_tls(files: &MeshTls) -> Result<ServerTls, Failure> {
    let key = Zeroizing::new(pem(&files.key)?);
    ServerTls::new(&pem(&files.certificate)?, &key)
        .map_err(|error| unusable(Some(&files.certificate), &error))
}

/// What stands in a file that the configuration names.
fn pem(path: &Path) -> Result<Vec<u8>, Failure> {
    read_bounded(path, MAX_PEM_FILE_BYTES)
        .map_err(|error| Failure::new(ErrorCode::Io, error.to_string()))?
        .ok_or_else(|| Failure::new(ErrorCode::Io, format!("there is no {}", path.display())))
        .map_err(|failure| failure.with_hint(CORRECT_FILES))
}

fn unusable(path: Option<&Path>, error: &TlsError) -> Failure {
    let place = path.map_or_else(String::new, |path| format!("{}: ", path.display()));
    Failure::new(ErrorCode::Failed, format!("{place}{error}")).with_hint(CORRECT_FILES)
}

/// Takes connections until the peer stops.
async fn accept(peer: Arc<MeshPeer>, mut listener: Listener) {
    loop {
        let accepted = listener.accept().await;
        let serving = Arc::clone(&peer);
        peer.spawn(async move {
            let remote = accepted.remote();
            match accepted.open().await {
                Ok(link) => run(&serving, link, Side::Accepted, &remote.to_string()).await,
                Err(error) => debug!(%remote, %error, "a connection did not become a link of the mesh"),
            }
        });
    }
}

/// Keeps a link with a peer: dials, and dials again with growing pauses.
async fn keep(peer: Arc<MeshPeer>, sockets: WebSockets, url: WsUrl, reach: Reach) {
    let mut pause = FIRST_PAUSE;
    // Once for each time it goes away: it is tried for as long as this runs.
    let mut told = false;
    loop {
        let since = Instant::now();
        match sockets.dial(&url, reach).await {
            Ok(link) => {
                told = false;
                peer.dialed(&url.to_string(), None);
                run(&peer, link, Side::Dialed, &url.to_string()).await;
            }
            Err(error) => {
                if std::mem::replace(&mut told, true) {
                    debug!(%url, %error, "a peer of the mesh still cannot be reached");
                } else {
                    warn!(%url, %error, "a peer of the mesh cannot be reached; it is tried until it can");
                }
                peer.dialed(&url.to_string(), Some(error.to_string()));
            }
        }
        if since.elapsed() >= STOOD_WELL {
            pause = FIRST_PAUSE;
        }
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn run(peer: &MeshPeer, link: WsLink, side: Side, label: &str) {
    let origin = Origin::Place(match side {
        Side::Dialed => label.into(),
        Side::Accepted => network(link.remote().ip()).into(),
    });
    let (reader, writer) = link.split();
    let writer = Writer(Some(writer));
    peer.run_link(Reader(reader), writer, side, origin, label).await;
}

/// Whose address that is: one machine's, or, of IPv6, that of a network of 64 bits, in which machines change theirs.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// Between three quarters and five quarters of it.
fn jittered(pause: Duration) -> Duration {
    let spread = u32::try_from(clock::jitter() % 512).unwrap_or(256);
    pause * (768 + spread) / 1024
}

struct Reader(WsReader);

impl FrameReader for Reader {
    type Frame = Frame;

    async fn next(&mut self) -> Option<Frame> {
        self.0.next().await.map(Frame)
    }

    fn try_next(&mut self) -> Option<Frame> {
        self.0.try_next().map(Frame)
    }

    fn admit_long_frames(&mut self) {
        self.0.admit_long_messages();
    }
}

struct Frame(WsFrame);

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Nothing once it was closed.
struct Writer(Option<WsWriter>);

impl FrameWriter for Writer {
    async fn write(&mut self, texts: &[Arc<str>]) -> bool {
        let Some(writer) = &mut self.0 else { return false };
        let messages = texts
            .iter()
            .map(|text| Outgoing::from(Arc::clone(text)))
            .collect();
        writer.send(messages).await.is_ok()
    }

    async fn close(&mut self) {
        if let Some(writer) = self.0.take() {
            writer.close(CLOSE_NORMAL, "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_by_its_address_or_network() {
        for (address, network_of) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(network(address.parse().unwrap()), network_of);
        }
    }

    #[test]
    fn pauses_are_spread() {
        for _ in 0..1000 {
            let pause = jittered(Duration::from_secs(4));
            assert!((3000..=5000).contains(&pause.as_millis()), "{pause:?}");
        }
    }
}
