//! Opening a connection to a peer.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{WebSockets, WsLink, pump, tls_complaint};
use crate::url::{Host, Reach, WsUrl};

/// How many addresses of one name are tried.
const MAX_ADDRESSES: usize = 4;

impl WebSockets {
    /// Connects to a peer. `reach` says which machines it may be, whatever the name turns out to mean.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial(&self, url: &WsUrl, reach: Reach) -> Result<WsLink, DialError> {
        timeout(self.limits.opening, self.connect(url, reach))
            .await
            .map_err(|_| DialError::TimedOut)?
    }

    async fn connect(&self, url: &WsUrl, reach: Reach) -> Result<WsLink, DialError> {
        let addresses = addresses(url, reach).await?;
        // One that does not answer leaves time for the others.
        let share = self.limits.opening / u32::try_from(addresses.len()).unwrap_or(1).max(1);
        let mut failed = DialError::TimedOut;
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Refused only on a socket that is already broken.
                    let _ = stream.set_nodelay(true);
                    return self.greet(url, stream, address).await;
                }
                Ok(Err(error)) => failed = DialError::Unreachable(error.kind()),
                Err(_) => failed = DialError::TimedOut,
            }
        }
        Err(failed)
    }

    async fn greet(&self, url: &WsUrl, stream: TcpStream, address: SocketAddr) -> Result<WsLink, DialError> {
        if !url.is_secure() {
            return self.upgrade(url, stream, address).await;
        }
        let name = match url.host() {
            Host::Address(address) => ServerName::IpAddress((*address).into()),
            Host::Name(name) => ServerName::try_from(name.to_string()).map_err(|_| DialError::UnknownHost)?,
        };
        let stream = self.tls.0.connect(name, stream).await.map_err(DialError::tls)?;
        self.upgrade(url, stream, address).await
    }

    async fn upgrade<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        url: &WsUrl,
        stream: S,
        address: SocketAddr,
    ) -> Result<WsLink, DialError> {
        let (stream, opened) = self.gate(stream);
        let (socket, _) = client_async_with_config(url.to_string(), stream, Some(pump::config(&self.limits)))
            .await
            .map_err(|error| DialError::http(&error))?;
        Ok(self.link(socket, Role::Client, opened, address, None))
    }
}

/// The addresses a URL leads to, as far as they may be connected to.
async fn addresses(url: &WsUrl, reach: Reach) -> Result<Vec<SocketAddr>, DialError> {
    let all: Vec<IpAddr> = match url.host() {
        Host::Address(address) => vec![*address],
        Host::Name(name) => lookup_host((&**name, url.port()))
            .await
            .map_err(|_| DialError::UnknownHost)?
            .map(|address| address.ip())
            .collect(),
    };
    let allowed: Vec<SocketAddr> = all
        .iter()
        .filter(|address| reach.allows(**address))
        .take(MAX_ADDRESSES)
        .map(|address| SocketAddr::new(*address, url.port()))
        .collect();
    match (all.is_empty(), allowed.is_empty()) {
        (true, _) => Err(DialError::UnknownHost),
        (false, true) => Err(DialError::NotAllowed),
        (false, false) => Ok(allowed),
    }
}

/// Why there is no connection to a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name has no address.
    #[error("its host is not known")]
    UnknownHost,
    /// It leads to this machine or to none, and came from somebody who may not send us there.
    #[error("its address leads back to this machine or to no machine")]
    NotAllowed,
    /// Nobody listens there, or there is no way.
    #[error("it cannot be reached ({0})")]
    Unreachable(io::ErrorKind),
    /// It took too long.
    #[error("it did not answer in time")]
    TimedOut,
    /// It is not who it should be, or TLS failed otherwise; with what to do.
    #[error("it is not trusted: {0}")]
    Tls(String),
    /// It answers HTTP, but not with a WebSocket.
    #[error("it answered with HTTP status {0}")]
    Status(u16),
    /// It does not speak WebSocket.
    #[error("it does not speak WebSocket")]
    NotWebSocket,
}

impl DialError {
    fn tls(error: io::Error) -> Self {
        match tls_complaint(&error) {
            Some(complaint) => Self::Tls(complaint),
            None if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            ) =>
            {
                Self::Tls(
                    "it ended the connection instead of speaking TLS; where there is none, use ws://"
                        .to_owned(),
                )
            }
            None => Self::Unreachable(error.kind()),
        }
    }

    fn http(error: &Error) -> Self {
        match error {
            Error::Http(response) => Self::Status(response.status().as_u16()),
            Error::Io(error) => Self::Unreachable(error.kind()),
            _ => Self::NotWebSocket,
        }
    }
}
