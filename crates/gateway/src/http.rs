//! A small HTTP/1 server for pages that are small too: one answer per connection.
//!
//! Whoever can open a connection is a stranger, on this machine too: the request, the time and the connections at once
//! are bounded, and nothing of a request is used but its method and its path.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

/// Longest request: its line and its headers, in bytes.
const MAX_REQUEST_BYTES: usize = 8 * 1024;
/// How long a connection may take from beginning to end.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// What is read and thrown away behind a request, in bytes: a connection closed with unread bytes in it is reset, and
/// the answer lost.
const MAX_DRAINED_BYTES: usize = 64 * 1024;
/// Pause after the system gave no connection, when it is out of file handles for example.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// Without what follows a `?`.
    pub(crate) path: String,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// GET, or HEAD: the answer is the same, and the body of the latter is not sent.
    Get,
    Options,
    Other,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Number and words.
    pub(crate) status: &'static str,
    pub(crate) media_type: &'static str,
    /// More headers. What cannot stand in one is replaced.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl Answer {
    /// 200, with a page.
    pub(crate) fn page(media_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status: "200 OK",
            media_type,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// A sentence.
    pub(crate) fn plain(status: &'static str, sentence: &str) -> Self {
        Self {
            status,
            media_type: "text/plain; charset=utf-8",
            headers: Vec::new(),
            body: format!("{sentence}\n").into(),
        }
    }

    /// With one more header.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn head(&self) -> String {
        let mut head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
            self.status,
            self.media_type,
            self.body.len()
        );
        for (name, value) in &self.headers {
            let value = value.replace(|letter: char| !matches!(letter, ' '..='~'), "?");
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("Cache-Control: no-store\r\nConnection: close\r\n\r\n");
        head
    }
}

/// Answers requests until dropped, `most` at a time; the next one waits.
pub(crate) async fn serve<P, F>(listener: TcpListener, most: usize, page: P)
where
    P: Fn(Asked) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send,
{
    let places = Arc::new(Semaphore::new(most));
    // Those that are being answered end with this.
    let mut connections = JoinSet::new();
    // Closed only when nobody holds it any more.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "no connection for a request");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                continue;
            }
        };
        let page = page.clone();
        connections.spawn(async move {
            let _ = timeout(CONNECTION_LIMIT, converse(stream, page)).await;
            drop(place);
        });
    }
}

/// Reads one request and answers it.
async fn converse<P, F>(mut io: impl AsyncRead + AsyncWrite + Unpin, page: P)
where
    P: FnOnce(Asked) -> F,
    F: Future<Output = Answer>,
{
    let (answer, whole) = match head(&mut io).await {
        Ok(head) => match asked(&head) {
            Some((asked, whole)) => (page(asked).await, whole),
            None => (
                Answer::plain("400 Bad Request", "this is no HTTP/1 request"),
                true,
            ),
        },
        Err(HeadError::TooLong) => (
            Answer::plain(
                "431 Request Header Fields Too Large",
                &format!("a request has at most {MAX_REQUEST_BYTES} bytes"),
            ),
            true,
        ),
        Err(HeadError::Gone) => return,
    };
    // Whoever hung up does not want it.
    let _ = io.write_all(answer.head().as_bytes()).await;
    if whole {
        let _ = io.write_all(&answer.body).await;
    }
    let _ = io.shutdown().await;
    let mut rest = [0; 1024];
    let mut drained = 0;
    while drained < MAX_DRAINED_BYTES {
        match io.read(&mut rest).await {
            Ok(count) if count > 0 => drained += count,
            Ok(_) | Err(_) => return,
        }
    }
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

/// The request, and whether the body of its answer is wanted. `None` when it is no HTTP/1.
fn asked(head: &[u8]) -> Option<(Asked, bool)> {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line).ok()?;
    let words: Vec<&str> = line.trim_end_matches('\r').split(' ').collect();
    let &[method, target, version] = words.as_slice() else {
        return None;
    };
    if !version.starts_with("HTTP/1.") {
        return None;
    }
    let asked = Asked {
        method: match method {
            "GET" | "HEAD" => Method::Get,
            "OPTIONS" => Method::Options,
            _ => Method::Other,
        },
        path: target.split('?').next().unwrap_or_default().to_owned(),
    };
    Some((asked, method != "HEAD"))
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
        converse(far, async |asked: Asked| {
            match (asked.method, asked.path.as_str()) {
                (Method::Get, "/a") => Answer::page("text/plain", "a 1\n").with("X-Note", "line\r\nX: y"),
                (method, path) => Answer::plain("404 Not Found", &format!("{method:?} {path}")),
            }
        })
        .await;
        let mut text = String::new();
        near.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_page_is_told_with_its_headers() {
        let whole = told(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\n"), "{whole}");
        assert!(whole.contains("\r\nContent-Length: 4\r\n"), "{whole}");
        assert!(whole.contains("\r\nX-Note: line??X: y\r\n"), "{whole}");
        assert!(whole.ends_with("\r\n\r\na 1\n"), "{whole}");
        let head = told(b"HEAD /a?x=1 HTTP/1.0\n\n").await;
        assert!(
            head.contains("Content-Length: 4") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }

    #[tokio::test]
    async fn other_requests_are_answered_or_refused() {
        for (request, status, words) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "404", "Get /"),
            (b"OPTIONS /a HTTP/1.1\r\n\r\n", "404", "Options /a"),
            (
                b"POST /a HTTP/1.1\r\nContent-Length: 9\r\n\r\n{}",
                "404",
                "Other /a",
            ),
            (b"GET /a\r\n\r\n", "400", ""),
            (b"GET  /a HTTP/1.1\r\n\r\n", "400", ""),
            (b"GET /a HTTP/2\r\n\r\n", "400", ""),
            (b"\xff\xff\r\n\r\n", "400", ""),
            (b"\r\n\r\n", "400", ""),
        ] {
            let told = told(request).await;
            assert!(
                told.starts_with(&format!("HTTP/1.1 {status} ")) && told.contains(words),
                "{request:?}: {told}"
            );
        }
        assert_eq!(told(b"GET /a HTTP/1.1\r\n").await, "", "never completed");
        let endless = [b"GET /a HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 9000]].concat();
        assert!(told(&endless).await.starts_with("HTTP/1.1 431 "));
    }

    proptest! {
        #[test]
        fn no_request_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            asked(&bytes);
        }
    }
}
