//! `bootstrap serve`: the list over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use clawchat_ipc::{ErrorCode, Failure};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::file::ListFile;
use crate::http::{self, Answer, Asked, Method};

/// Requests answered at a time; the next one waits.
const MAX_CONNECTIONS: usize = 128;
/// How often the file is looked at while nobody asks, so that a broken one is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Pages in browsers may read the list.
const ANY_ORIGIN: (&str, &str) = ("Access-Control-Allow-Origin", "*");

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct BootstrapOptions {
    /// Where requests are answered. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The list.
    pub file: PathBuf,
}

/// Serves a list of peers: `GET /bootstrap.json`, the same at `/`, and `/status`.
#[derive(Debug)]
#[must_use = "it answers only while `run` is awaited"]
pub struct BootstrapServer {
    listener: TcpListener,
    address: SocketAddr,
    file: Arc<Mutex<ListFile>>,
}

impl BootstrapServer {
    /// Reads the list and listens. A file that is not there yet counts as an empty list. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// The file is broken, or the address cannot be had.
    pub async fn start(options: &BootstrapOptions) -> Result<Self, Failure> {
        let file = ListFile::open(&options.file).map_err(|fault| {
            Failure::new(ErrorCode::Failed, format!("{}: {fault}", options.file.display())).with_hint(
                "it should hold {\"version\":1,\"peers\":[{\"peer_id\":\"…\",\"ws_url\":\"ws://host:5000\"}]}",
            )
        })?;
        let refused = |error: std::io::Error| {
            Failure::new(
                ErrorCode::Network,
                format!("cannot serve the list at {}: {error}", options.listen),
            )
            .with_hint("choose another port with --port")
        };
        let listener = TcpListener::bind(options.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self {
            listener,
            address,
            file: Arc::new(Mutex::new(file)),
        })
    }

    /// What it tells whoever started it: `{"event":"started","url","port","file","peers","pid","version"}`.
    #[must_use]
    pub fn started(&self) -> Value {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "event": "started", "url": format!("http://{}/bootstrap.json", self.address), "port": self.address.port(),
            "file": file.path(), "peers": file.peers(), "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
        })
    }

    /// Answers until `stop` is ready.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let asked = Arc::clone(&self.file);
        let serving = http::serve(self.listener, MAX_CONNECTIONS, move |request| {
            let file = Arc::clone(&asked);
            async move { answer(&request, &mut file.lock().unwrap_or_else(PoisonError::into_inner)) }
        });
        let looking = async {
            loop {
                sleep(LOOK_EVERY).await;
                self.file.lock().unwrap_or_else(PoisonError::into_inner).refresh();
            }
        };
        tokio::select! {
            () = serving => {}
            () = looking => {}
            () = stop => {}
        }
    }
}

/// Looking at a file of at most 1 MiB does not keep the other requests waiting for long.
fn answer(asked: &Asked, file: &mut ListFile) -> Answer {
    let json = "application/json; charset=utf-8";
    let answer = match (asked.method, asked.path.as_str()) {
        (Method::Get, "/" | "/bootstrap.json") => {
            file.refresh();
            let answer = Answer::page(json, file.text());
            match file.fault() {
                Some(fault) => answer.with("X-Bootstrap-Fault", fault),
                None => answer,
            }
        }
        (Method::Get, "/status") => {
            file.refresh();
            let since = file
                .since()
                .and_then(|since| since.duration_since(UNIX_EPOCH).ok());
            let status = json!({
                "peers": file.peers(), "current": file.fault().is_none(), "fault": file.fault(),
                "readAt": since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            });
            Answer::page(json, format!("{status}\n"))
        }
        (Method::Options, _) => Answer {
            status: "204 No Content",
            media_type: "text/plain",
            headers: vec![("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS".to_owned())],
            body: Default::default(),
        },
        (Method::Get, _) => Answer::plain("404 Not Found", "the list is at /bootstrap.json"),
        (Method::Other, _) => {
            Answer::plain("405 Method Not Allowed", "only GET and HEAD").with("Allow", "GET, HEAD, OPTIONS")
        }
    };
    answer.with(ANY_ORIGIN.0, ANY_ORIGIN.1)
}
