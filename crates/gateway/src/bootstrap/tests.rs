//! Serving and living by a list, over real sockets of this machine.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clawchat_mesh::bootstrap::{ListError, MAX_LIST_BYTES};
use clawchat_mesh::ws::{ClientTls, WebSockets, WsLimits};
use clawchat_mesh::{PeerName, Reach};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::fetch::{FetchError, fetch};
use super::neighbours::{self, ListNews, ListUrl, Source, Trusted};
use super::{BootstrapOptions, BootstrapServer};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
const LOCAL: &str = "127.0.0.1:0";

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("took too long")
}

fn list(entries: &[(&str, String)]) -> String {
    let entries: Vec<String> = entries
        .iter()
        .map(|(name, url)| format!(r#"{{"peer_id":"{name}","ws_url":"{url}"}}"#))
        .collect();
    format!(r#"{{"version":1,"peers":[{}]}}"#, entries.join(","))
}

/// A server of that list, and its file.
async fn serving(text: &str) -> (SocketAddr, PathBuf, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bootstrap.json");
    fs::write(&file, text).unwrap();
    let options = BootstrapOptions {
        listen: LOCAL.parse().unwrap(),
        file: file.clone(),
    };
    let server = BootstrapServer::start(&options).await.unwrap();
    let port = u16::try_from(server.started()["port"].as_u64().unwrap()).unwrap();
    tokio::spawn(server.run(std::future::pending()));
    (SocketAddr::from(([127, 0, 0, 1], port)), file, folder)
}

/// What is answered to a request without a body.
async fn told(address: SocketAddr, line: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn the_list_is_served_as_it_stands_in_the_file_and_a_broken_one_never() {
    let good = list(&[("a", "ws://a.example:5000".to_owned())]);
    let (address, file, _folder) = serving(&good).await;
    for line in ["GET /bootstrap.json", "GET /", "GET /bootstrap.json?x=1"] {
        let answer = told(address, line).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains("\r\nAccess-Control-Allow-Origin: *\r\n"),
            "{answer}"
        );
        assert!(answer.contains("\r\nContent-Type: application/json"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{good}")), "{answer}");
    }
    assert!(told(address, "HEAD /").await.ends_with("\r\n\r\n"));
    assert!(told(address, "GET /other").await.starts_with("HTTP/1.1 404 "));
    assert!(told(address, "POST /").await.starts_with("HTTP/1.1 405 "));
    let asked = told(address, "OPTIONS /bootstrap.json").await;
    assert!(
        asked.starts_with("HTTP/1.1 204 ") && asked.contains("Access-Control-Allow-Origin: *"),
        "{asked}"
    );

    let next = list(&[("b", "wss://b.example".to_owned())]);
    fs::write(&file, &next).unwrap();
    assert!(told(address, "GET /").await.ends_with(&next));
    fs::write(&file, "{\"version\":1,\"peers\":[").unwrap();
    let answer = told(address, "GET /").await;
    assert!(
        answer.ends_with(&next) && answer.contains("\r\nX-Bootstrap-Fault: "),
        "{answer}"
    );
    let status = told(address, "GET /status").await;
    assert!(status.contains(r#""peers":1,"current":false"#), "{status}");
    fs::write(&file, &good).unwrap();
    let answer = told(address, "GET /").await;
    assert!(
        answer.ends_with(&good) && !answer.contains("X-Bootstrap-Fault"),
        "{answer}"
    );
}

/// Answers every connection with that, as often as it is asked.
async fn answering(answer: String) -> SocketAddr {
    let listener = TcpListener::bind(LOCAL).await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = answer.replace("{here}", &format!("http://{address}"));
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

async fn fetched(address: SocketAddr) -> Result<usize, FetchError> {
    let url = ListUrl::parse(&format!("http://{address}/bootstrap.json")).unwrap();
    let fetched = soon(tokio::task::spawn_blocking(move || {
        fetch(&url, &Trusted::new(b""))
    }))
    .await
    .unwrap()?;
    Ok(fetched.list.peers.len())
}

#[tokio::test]
async fn a_list_is_fetched_through_a_redirect_and_within_bounds() {
    let (address, _file, _folder) = serving(&list(&[("a", "ws://a.example".to_owned())])).await;
    assert_eq!(fetched(address).await.unwrap(), 1);
    let moved = |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    let once = answering(moved(&format!("http://{address}/"))).await;
    assert_eq!(fetched(once).await.unwrap(), 1);
    let circle = answering(moved("{here}/again")).await;
    assert!(matches!(fetched(circle).await, Err(FetchError::Redirects)));
    let missing = answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
    assert!(matches!(fetched(missing).await, Err(FetchError::Status(404))));
    let body = "<html>";
    let other = answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    assert!(matches!(
        fetched(other).await,
        Err(FetchError::NotAList(ListError::NotJson))
    ));
    // A million entries, whether its length is told or not.
    let million = "{\"peer_id\":\"a\",\"ws_url\":\"ws://a\"},".repeat(1_000_000);
    for head in [
        format!("Content-Length: {}", million.len()),
        "Connection: close".to_owned(),
    ] {
        let endless = answering(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{million}")).await;
        let error = fetched(endless).await.unwrap_err();
        assert!(
            matches!(error, FetchError::NotAList(ListError::TooLong)),
            "{error:?}"
        );
    }
    let full = list(&[("a", format!("ws://a.example/{}", "x".repeat(900)))]);
    assert!(full.len() < MAX_LIST_BYTES);
}

#[test]
fn a_list_leads_to_this_machine_only_if_it_is_on_it() {
    for (url, reach) in [
        ("http://127.0.0.1:4000/bootstrap.json", Reach::Everywhere),
        ("http://localhost:4000", Reach::Everywhere),
        ("https://[::1]/", Reach::Everywhere),
        ("https://example.org/bootstrap.json", Reach::Elsewhere),
        ("http://192.168.1.2:4000/", Reach::Elsewhere),
    ] {
        assert_eq!(ListUrl::parse(url).unwrap().reach(), reach, "{url}");
    }
    for url in ["ws://127.0.0.1", "ftp://a", "http://", "http://me:secret@a/"] {
        assert!(ListUrl::parse(url).is_err(), "{url}");
    }
}

fn sockets() -> WebSockets {
    WebSockets::new(WsLimits::default(), ClientTls::new(b"").unwrap())
}

#[tokio::test]
async fn peers_of_the_list_are_dialed_and_dialed_again_and_we_are_not() {
    let mut listener = sockets().listen(LOCAL.parse().unwrap(), None).await.unwrap();
    let own = sockets().listen(LOCAL.parse().unwrap(), None).await.unwrap();
    let linked = sockets().listen(LOCAL.parse().unwrap(), None).await.unwrap();
    let url = |address: SocketAddr| format!("ws://{address}");
    let text = list(&[
        ("me", url(own.local_addr().unwrap())),
        ("linked", url(linked.local_addr().unwrap())),
        ("gone", "ws://127.0.0.1:1".to_owned()),
        ("there", url(listener.local_addr().unwrap())),
    ]);
    let (address, _file, _folder) = serving(&text).await;
    let (events, mut dialed) = mpsc::channel(16);
    let list = ListUrl::parse(&format!("http://{address}/")).unwrap();
    let run = move |link: clawchat_mesh::ws::WsLink, label: String| {
        let events = events.clone();
        async move {
            let (mut reader, _writer) = link.split();
            events.send(label).await.unwrap();
            while reader.next().await.is_some() {}
        }
    };
    let there: Arc<HashSet<PeerName>> = Arc::new(["linked".parse().unwrap()].into());
    let connected = move || {
        let there = Arc::clone(&there);
        async move { (*there).clone() }
    };
    let news = ListNews::default();
    let source = Source {
        list,
        trusted: Trusted::new(b""),
        news: news.clone(),
    };
    let keeping = tokio::spawn(neighbours::keep(
        source,
        "me".parse().unwrap(),
        sockets(),
        run,
        connected,
    ));
    for _ in 0..2 {
        let link = soon(async { listener.accept().await.open().await.unwrap() }).await;
        let label = soon(dialed.recv()).await.unwrap();
        assert_eq!(label, format!("ws://{}/", listener.local_addr().unwrap()));
        drop(link);
    }
    for mut never in [own, linked] {
        let early = tokio::time::timeout(Duration::from_millis(100), never.accept()).await;
        assert!(early.is_err());
    }
    let state = news.now();
    assert_eq!((state.peers, state.error), (Some(4), None));
    assert!(state.fetched_at.is_some());
    keeping.abort();
}

#[tokio::test]
async fn a_link_that_panics_gives_its_place_back() {
    let mut listener = sockets().listen(LOCAL.parse().unwrap(), None).await.unwrap();
    let there = format!("ws://{}", listener.local_addr().unwrap());
    let (address, _file, _folder) = serving(&list(&[("there", there)])).await;
    let (events, mut dialed) = mpsc::channel(16);
    let run = move |_link: clawchat_mesh::ws::WsLink, label: String| {
        let events = events.clone();
        async move {
            events.send(label).await.unwrap();
            panic!("this link is served badly");
        }
    };
    let source = Source {
        list: ListUrl::parse(&format!("http://{address}/")).unwrap(),
        trusted: Trusted::new(b""),
        news: ListNews::default(),
    };
    let nobody = || async { HashSet::new() };
    let own = "me".parse().unwrap();
    let keeping = tokio::spawn(neighbours::keep(source, own, sockets(), run, nobody));
    for _ in 0..2 {
        let _link = soon(async { listener.accept().await.open().await.unwrap() }).await;
        soon(dialed.recv()).await.unwrap();
    }
    keeping.abort();
}
