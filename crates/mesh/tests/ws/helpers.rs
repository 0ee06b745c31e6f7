//! Two ends of a link, and raw sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clawchat_mesh::ws::{ClientTls, Listener, Outgoing, WebSockets, WsEnd, WsLimits, WsReader, WsWriter};
use clawchat_mesh::{Reach, WsUrl};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::{WebSocketStream, client_async};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a raw socket holds that nobody has read.
const RAW_BUFFER_BYTES: u32 = 64 * 1024;

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("took too long")
}

pub(crate) fn text(text: &str) -> Outgoing {
    text.to_owned().into()
}

pub(crate) fn url(address: SocketAddr) -> WsUrl {
    format!("ws://{address}").parse().unwrap()
}

pub(crate) fn sockets(limits: WsLimits) -> WebSockets {
    WebSockets::new(limits, ClientTls::new(b"").unwrap())
}

pub(crate) fn dialer() -> WebSockets {
    sockets(WsLimits::default())
}

pub(crate) async fn listener(limits: WsLimits) -> (Listener, WsUrl) {
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = sockets(limits).listen(address, None).await.unwrap();
    let url = url(listener.local_addr().unwrap());
    (listener, url)
}

/// A link, from both ends.
pub(crate) struct Pair {
    pub(crate) dialed: (WsReader, WsWriter),
    pub(crate) accepted: (WsReader, WsWriter),
}

impl Pair {
    /// The accepting end has these limits, the other the usual ones.
    pub(crate) async fn open(limits: WsLimits) -> Self {
        let (mut listener, url) = listener(limits).await;
        let dialer = dialer();
        let accept = async { listener.accept().await.open().await };
        let (dialed, accepted) =
            soon(async { tokio::join!(dialer.dial(&url, Reach::Everywhere), accept) }).await;
        Self {
            dialed: dialed.unwrap().split(),
            accepted: accepted.unwrap().split(),
        }
    }
}

/// An accepted link, and the library's own client at the other end of it.
pub(crate) async fn dialed_by_library(limits: WsLimits) -> (WsReader, WsWriter, WebSocketStream<TcpStream>) {
    let (mut listener, url) = listener(limits).await;
    let (reader, writer, client) = join_listener(&mut listener, &url).await;
    (reader, writer, client)
}

pub(crate) async fn join_listener(
    listener: &mut Listener,
    url: &WsUrl,
) -> (WsReader, WsWriter, WebSocketStream<TcpStream>) {
    let address = listener.local_addr().unwrap();
    let connect = async {
        let stream = TcpStream::connect(address).await.unwrap();
        client_async(url.to_string(), stream).await.unwrap().0
    };
    let accept = async { listener.accept().await.open().await.unwrap() };
    let (client, link) = soon(async { tokio::join!(connect, accept) }).await;
    let (reader, writer) = link.split();
    (reader, writer, client)
}

/// An accepted link, and a socket at the other end of it that has asked for a WebSocket and got it.
pub(crate) async fn dialed_by_raw(limits: WsLimits) -> (WsReader, WsWriter, TcpStream) {
    let (mut listener, _) = listener(limits).await;
    let address = listener.local_addr().unwrap();
    let accept = async { listener.accept().await.open().await.unwrap() };
    let (socket, link) = soon(async { tokio::join!(asked(address, ""), accept) }).await;
    assert!(socket.1.starts_with("HTTP/1.1 101 "), "{}", socket.1);
    let (reader, writer) = link.split();
    (reader, writer, socket.0)
}

/// How long at a time this thread is away. It is the thread of both ends of a link: meanwhile neither hears the other.
pub(crate) struct Attention {
    /// In microseconds.
    longest: Arc<AtomicU64>,
    watching: JoinHandle<()>,
}

impl Attention {
    pub(crate) fn watch() -> Self {
        const BEAT: Duration = Duration::from_millis(5);
        let longest = Arc::new(AtomicU64::new(0));
        let noted = Arc::clone(&longest);
        let mut last = Instant::now();
        let watching = tokio::spawn(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                let late = last.elapsed().saturating_sub(BEAT).as_micros();
                noted.fetch_max(u64::try_from(late).unwrap(), Ordering::Relaxed);
                last = Instant::now();
            }
        });
        Self { longest, watching }
    }

    /// A link ended that should have stood. That says nothing if this thread was away for long.
    pub(crate) fn excuses(&self, end: &WsEnd, limits: WsLimits) {
        let away = Duration::from_micros(self.longest.load(Ordering::Relaxed));
        let long = (limits.dead_after - limits.ping_after) / 4;
        assert!(
            away > long,
            "{end:?}, though this thread was away for {away:?} at most"
        );
    }
}

impl Drop for Attention {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Asks for a WebSocket, with more headers; the socket, and the head of the answer.
pub(crate) async fn asked(address: SocketAddr, more: &str) -> (TcpStream, String) {
    // With a small buffer: the system makes room for tens of megabytes, and what lies there nobody waits for.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RAW_BUFFER_BYTES).unwrap();
    let mut socket = socket.connect(address).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    );
    let _ = socket.write_all(request.as_bytes()).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match soon(socket.read_u8()).await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    (socket, String::from_utf8(head).unwrap())
}

/// Somebody who answers every connection with that, whatever it says.
pub(crate) async fn answering(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
            let _ = stream.read(&mut request).await;
        }
    });
    address
}
