//! Accepting connections of peers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::{HOST, ORIGIN};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::places::{Place, Places};
use super::{ServerTls, WebSockets, WsLink, pump};

/// Pause after the system gave no connection, when it is out of file handles for example.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// What somebody is told for whom there is no place.
const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A port where peers are expected.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    tls: Option<ServerTls>,
    sockets: WebSockets,
    places: Arc<Places>,
}

/// A connection that is not a WebSocket yet. It holds its place among the accepted ones.
#[derive(Debug)]
pub struct Accepted {
    stream: TcpStream,
    remote: SocketAddr,
    tls: Option<ServerTls>,
    sockets: WebSockets,
    place: Place,
}

impl WebSockets {
    /// Listens, with TLS if `tls` is given. Port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn listen(&self, address: SocketAddr, tls: Option<ServerTls>) -> io::Result<Listener> {
        Ok(Listener {
            listener: TcpListener::bind(address).await?,
            tls,
            sockets: self.clone(),
            places: Places::new(self.limits.accepted, self.limits.accepted_per_address),
        })
    }
}

impl Listener {
    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection there is a place for. To be opened by a task of its own. Nothing is lost when the future
    /// is dropped.
    pub async fn accept(&mut self) -> Accepted {
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => match self.places.take(remote.ip()) {
                    Some(place) => {
                        return Accepted {
                            stream,
                            remote,
                            tls: self.tls.clone(),
                            sockets: self.sockets.clone(),
                            place,
                        };
                    }
                    None => {
                        tracing::debug!(%remote, "no place for another mesh connection");
                        if self.tls.is_none() {
                            // As much as the socket takes at once, which is all of it.
                            let _ = stream.try_write(NO_PLACE);
                        }
                    }
                },
                Err(error) => {
                    tracing::debug!(%error, "no mesh connection");
                    sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    }
}

impl Accepted {
    /// The address at the other end.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Makes a WebSocket of it. Pages of other sites in somebody's browser are refused: a browser sends them here
    /// without asking that person.
    ///
    /// # Errors
    /// [`AcceptError`].
    pub async fn open(self) -> Result<WsLink, AcceptError> {
        timeout(self.sockets.limits.opening, self.greet())
            .await
            .map_err(|_| AcceptError::TimedOut)?
    }

    async fn greet(self) -> Result<WsLink, AcceptError> {
        let Self {
            stream,
            remote,
            tls,
            sockets,
            place,
        } = self;
        // Refused only on a socket that is already broken.
        let _ = stream.set_nodelay(true);
        match tls {
            None => upgrade(&sockets, stream, remote, place).await,
            Some(tls) => {
                let stream = tls.0.accept(stream).await.map_err(|_| AcceptError::Tls)?;
                upgrade(&sockets, stream, remote, place).await
            }
        }
    }
}

async fn upgrade<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    sockets: &WebSockets,
    stream: S,
    remote: SocketAddr,
    place: Place,
) -> Result<WsLink, AcceptError> {
    let (stream, opened) = sockets.gate(stream);
    let socket = accept_hdr_async_with_config(stream, same_site, Some(pump::config(&sockets.limits)))
        .await
        .map_err(|_| AcceptError::NotWebSocket)?;
    Ok(sockets.link(socket, Role::Server, opened, remote, Some(place)))
}

fn same_site(request: &Request, response: Response) -> Result<Response, ErrorResponse> {
    let headers = request.headers();
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(response);
    };
    let site = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match (site, host) {
        (Some((_, site)), Some(host)) if site.eq_ignore_ascii_case(host) => Ok(response),
        _ => {
            let mut refusal = ErrorResponse::new(Some("pages of other sites are not served\n".to_owned()));
            *refusal.status_mut() = StatusCode::FORBIDDEN;
            Err(refusal)
        }
    }
}

/// Why a connection did not become a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// It took too long.
    #[error("it did not open a WebSocket in time")]
    TimedOut,
    /// TLS failed.
    #[error("it does not speak TLS as it should")]
    Tls,
    /// It does not speak WebSocket, or comes from a page of another site.
    #[error("it does not ask for a WebSocket as it should")]
    NotWebSocket,
}
