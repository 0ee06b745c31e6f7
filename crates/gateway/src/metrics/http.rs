//! Metrics over HTTP: `GET /metrics` and nothing else, one answer per connection.
//!
//! Whoever can open a connection is a stranger, on this machine too: the request, the time and the connections at once
//! are bounded, and nothing of the request is used but its method and its path.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clawchat_ipc::{ErrorCode, Failure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use super::gather;
use crate::shared::Gateway;

/// Connections served at a time; the next one waits.
const MAX_CONNECTIONS: usize = 8;
/// Longest request: its line and its headers, in bytes.
const MAX_REQUEST_BYTES: usize = 8 * 1024;
/// How long a connection may take from beginning to end.
const CONNECTION_LIMIT: Duration = Duration::from_secs(5);
/// Pause after the system gave no connection, when it is out of file handles for example.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// The media type of the text exposition format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Listens where the configuration says.
///
/// # Errors
/// When that address is not to be had.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::new(
            ErrorCode::Network,
            format!("cannot serve metrics at {address}: {error}"),
        )
        .with_hint("choose another address for \"metrics\".\"listen\" in gateway-config.json")
    })
}

/// Answers until the gateway stops.
pub(crate) async fn serve(gateway: Gateway, listener: TcpListener) {
    let stop = gateway.stop.clone();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    stop.run_until_cancelled(async {
        // Closed only when nobody holds it any more.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!(%error, "no connection for metrics");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    continue;
                }
            };
            let (serving, stop) = (Arc::clone(&gateway), gateway.stop.clone());
            gateway.tasks.spawn(async move {
                let page = async || match gather(&serving).await {
                    Ok(page) => Ok(page.to_text()),
                    Err(error) => Err(error.to_string()),
                };
                let answering = timeout(CONNECTION_LIMIT, converse(stream, page));
                stop.run_until_cancelled(answering).await;
                drop(place);
            });
        }
    })
    .await;
}

/// Reads one request and answers it.
async fn converse(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    page: impl AsyncFnOnce() -> Result<String, String>,
) {
    let answer = match head(&mut io).await {
        Ok(head) => match asked(&head) {
            Asked::Metrics { body } => match page().await {
                Ok(text) => answer("200 OK", TEXT, "", &text, body),
                Err(error) => plain("500 Internal Server Error", "", &error),
            },
            Asked::Elsewhere => plain("404 Not Found", "", "only /metrics is served here"),
            Asked::Otherwise => plain(
                "405 Method Not Allowed",
                "Allow: GET, HEAD\r\n",
                "only GET and HEAD",
            ),
            Asked::Nonsense => plain("400 Bad Request", "", "this is no HTTP/1 request"),
        },
        Err(HeadError::TooLong) => plain(
            "431 Request Header Fields Too Large",
            "",
            &format!("a request has at most {MAX_REQUEST_BYTES} bytes"),
        ),
        Err(HeadError::Gone) => return,
    };
    // Whoever hung up does not want it.
    let _ = io.write_all(answer.as_bytes()).await;
    let _ = io.shutdown().await;
}

/// Why there is no request.
enum HeadError {
    TooLong,
    /// The connection ended before it was complete.
    Gone,
}

/// Everything up to the empty line.
async fn head(io: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, HeadError> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let count = io.read(&mut buffer).await.map_err(|_| HeadError::Gone)?;
        if count == 0 {
            return Err(HeadError::Gone);
        }
        head.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let complete = |end: &[u8]| head.windows(end.len()).any(|window| window == end);
        if complete(b"\r\n\r\n") || complete(b"\n\n") {
            return Ok(head);
        }
        if head.len() > MAX_REQUEST_BYTES {
            return Err(HeadError::TooLong);
        }
    }
}

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Metrics {
        /// Whether they are to be sent, and not only their length.
        body: bool,
    },
    Elsewhere,
    Otherwise,
    Nonsense,
}

fn asked(head: &[u8]) -> Asked {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else {
        return Asked::Nonsense;
    };
    let words: Vec<&str> = line.trim_end_matches('\r').split(' ').collect();
    let &[method, target, version] = words.as_slice() else {
        return Asked::Nonsense;
    };
    if !version.starts_with("HTTP/1.") {
        return Asked::Nonsense;
    }
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        ("GET", "/metrics") => Asked::Metrics { body: true },
        ("HEAD", "/metrics") => Asked::Metrics { body: false },
        ("GET" | "HEAD", _) => Asked::Elsewhere,
        _ => Asked::Otherwise,
    }
}

fn plain(status: &str, more: &str, text: &str) -> String {
    answer(
        status,
        "text/plain; charset=utf-8",
        more,
        &format!("{text}\n"),
        true,
    )
}

fn answer(status: &str, media_type: &str, more: &str, text: &str, body: bool) -> String {
    let length = text.len();
    let text = if body { text } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n{more}\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{text}"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::duplex;

    use super::*;

    /// What is answered to these bytes.
    async fn told(request: &[u8]) -> String {
        let (mut near, far) = duplex(64 * 1024);
        near.write_all(request).await.unwrap();
        near.shutdown().await.unwrap();
        converse(far, async || Ok("a 1\n".to_owned())).await;
        let mut text = String::new();
        near.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn metrics_are_told_and_nothing_else() {
        let told_all = told(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(told_all.starts_with("HTTP/1.1 200 OK\r\n"), "{told_all}");
        assert!(told_all.contains("\r\nContent-Length: 4\r\n"), "{told_all}");
        assert!(told_all.ends_with("\r\n\r\na 1\n"), "{told_all}");
        let head = told(b"HEAD /metrics?x=1 HTTP/1.0\n\n").await;
        assert!(
            head.contains("Content-Length: 4") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
        for (request, status) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "404"),
            (b"GET /metrics/../x HTTP/1.1\r\n\r\n", "404"),
            (b"POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n", "405"),
            (b"GET /metrics\r\n\r\n", "400"),
            (b"GET  /metrics HTTP/1.1\r\n\r\n", "400"),
            (b"GET /metrics HTTP/2\r\n\r\n", "400"),
            (b"\xff\xff\r\n\r\n", "400"),
            (b"\r\n\r\n", "400"),
        ] {
            let told = told(request).await;
            assert!(
                told.starts_with(&format!("HTTP/1.1 {status} ")),
                "{request:?}: {told}"
            );
        }
        assert_eq!(told(b"GET /metrics HTTP/1.1\r\n").await, "", "never completed");
        let endless = [b"GET /metrics HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 9000]].concat();
        assert!(told(&endless).await.starts_with("HTTP/1.1 431 "));
    }

    proptest! {
        #[test]
        fn no_request_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            asked(&bytes);
        }
    }
}
