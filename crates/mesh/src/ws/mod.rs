//! WebSocket: the one carrier of the mesh that opens sockets itself, and the only part of this crate that does IO.
//!
//! [`WebSockets`] dials ([`WebSockets::dial`]) and listens ([`WebSockets::listen`]); both give a [`WsLink`], whose
//! halves belong to the tasks that read and write it. What frames mean is not known here.
//!
//! Bounded are the length of messages, before the peer has said who it is and after ([`WsLimits`]), the memory that
//! long messages of all links take together (128 MiB), what waits to be read and to be written, pings, accepted
//! connections, and the time for everything that a peer could stretch.

mod dial;
mod gate;
mod link;
mod listen;
mod places;
mod pump;
mod tls;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::channel::mpsc as batches;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use self::gate::{Gate, Opened};
use self::pump::{Ends, Pump};

pub use self::dial::DialError;
pub use self::link::{Outgoing, WsClosed, WsEnd, WsFrame, WsLink, WsReader, WsWriter};
pub use self::listen::{AcceptError, Accepted, Listener};
pub use self::tls::{ClientTls, ServerTls, TlsError, tls_complaint};

/// What strangers may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WsLimits {
    /// Longest message, in bytes. Default: 16 MiB.
    pub message_bytes: usize,
    /// Longest message before [`WsReader::admit_long_messages`], in bytes. Default: 64 KiB.
    pub first_message_bytes: usize,
    /// How long a connection may take until it is a WebSocket: name, TCP, TLS, HTTP. Default: 10 s.
    pub opening: Duration,
    /// After how long a silence a ping is sent. Default: 30 s.
    pub ping_after: Duration,
    /// After how long a silence the link is given up. Default: 60 s.
    pub dead_after: Duration,
    /// Accepted connections. Default: 256.
    pub accepted: usize,
    /// Accepted connections of one IPv4 address, or one IPv6 network of 64 bits. Default: 32. Behind a proxy all
    /// connections have the proxy's address.
    pub accepted_per_address: usize,
}

impl Default for WsLimits {
    fn default() -> Self {
        Self {
            message_bytes: 16 * 1024 * 1024,
            first_message_bytes: 64 * 1024,
            opening: Duration::from_secs(10),
            ping_after: Duration::from_secs(30),
            dead_after: Duration::from_secs(60),
            accepted: 256,
            accepted_per_address: 32,
        }
    }
}

/// What all links of a program share: limits, whom to trust, and room for long messages. Clones are the same one.
#[derive(Clone, Debug)]
pub struct WebSockets {
    limits: WsLimits,
    tls: ClientTls,
    long_messages: gate::Places,
}

impl WebSockets {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(limits: WsLimits, tls: ClientTls) -> Self {
        Self {
            limits,
            tls,
            long_messages: gate::Places::default(),
        }
    }

    /// The limits it was made with.
    #[must_use]
    pub fn limits(&self) -> &WsLimits {
        &self.limits
    }

    fn gate<S>(&self, io: S) -> (Gate<S>, Arc<Opened>) {
        let opened = Arc::new(Opened::default());
        let limits = &self.limits;
        let gate = Gate::new(
            io,
            limits.message_bytes,
            limits.first_message_bytes,
            &self.long_messages,
            Arc::clone(&opened),
        );
        (gate, opened)
    }

    /// The link over an open WebSocket. `place` is let go when it has ended.
    fn link<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        socket: WebSocketStream<Gate<S>>,
        role: Role,
        opened: Arc<Opened>,
        remote: SocketAddr,
        place: Option<places::Place>,
    ) -> WsLink {
        let end = Arc::new(OnceLock::new());
        // One batch in the channel, since every sender has a slot of its own.
        let (batches, incoming) = batches::channel(0);
        let (orders, outgoing) = mpsc::channel(1);
        let (close, closing) = oneshot::channel();
        let ends = Ends {
            batches,
            orders: outgoing,
            close: closing,
            end: Arc::clone(&end),
        };
        let pump = Pump::new(socket, role, self.limits, ends);
        tokio::spawn(async move {
            pump.run().await;
            drop(place);
        });
        WsLink {
            remote,
            reader: WsReader {
                batches: incoming,
                ready: Default::default(),
                opened,
                end,
            },
            writer: WsWriter {
                orders,
                close: Some(close),
            },
        }
    }
}
