//! Lists that are fetched over TLS, from servers of this machine.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clawchat_mesh::bootstrap::ListError;
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::fetch::{FetchError, Fetched, ListUrl, Trusted, fetch_within};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
const LIST: &str = r#"{"version":1,"peers":[{"peer_id":"a","ws_url":"wss://a.example"}]}"#;

/// Somebody who signs certificates.
struct Authority {
    certificate: Certificate,
    key: KeyPair,
}

/// What a server does with a request.
#[derive(Clone)]
enum Server {
    Answers(String),
    /// Says nothing at all, not even its certificate.
    IsSilent,
    /// Answers, and then adds a byte now and then, for ever.
    Dribbles(String),
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap(),
            key,
        }
    }

    fn trusted(&self) -> Trusted {
        Trusted::new(self.certificate.pem().as_bytes())
    }

    /// A server with a certificate for that name, good in these years. Its port.
    async fn serves(&self, name: &str, years: (i32, i32), server: Server) -> u16 {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.certificate, &self.key).unwrap();
        listen(&certificate, &key, server).await
    }
}

async fn listen(certificate: &Certificate, key: &KeyPair, server: Server) -> u16 {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                if matches!(server, Server::IsSilent) {
                    sleep(PATIENCE).await;
                }
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let _ = stream.read(&mut [0; 4096]).await;
                match server {
                    Server::IsSilent => {}
                    Server::Answers(answer) => {
                        let _ = stream.write_all(answer.as_bytes()).await;
                        let _ = stream.shutdown().await;
                    }
                    Server::Dribbles(answer) => {
                        let _ = stream.write_all(answer.as_bytes()).await;
                        while stream.write_all(b" ").await.is_ok() && stream.flush().await.is_ok() {
                            sleep(Duration::from_millis(20)).await;
                        }
                    }
                }
            });
        }
    });
    port
}

fn answer(body: &str) -> Server {
    let length = body.len();
    Server::Answers(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

async fn fetched(port: u16, trusted: &Trusted, limit: Duration) -> Result<Fetched, FetchError> {
    let list = ListUrl::parse(&format!("https://localhost:{port}/bootstrap.json")).unwrap();
    let trusted = trusted.clone();
    let fetching = tokio::task::spawn_blocking(move || fetch_within(&list, &trusted, limit));
    timeout(PATIENCE, fetching).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_list_comes_over_tls_from_a_server_that_a_trusted_authority_vouches_for() {
    let (ours, other) = (Authority::new(), Authority::new());
    let good = (2020, 2120);
    let port = ours.serves("localhost", good, answer(LIST)).await;
    let list = fetched(port, &ours.trusted(), PATIENCE).await.unwrap().list;
    assert_eq!(list.peers.len(), 1);

    let expect = async |port: u16, trusted: &Trusted, parts: &[&str]| {
        let error = fetched(port, trusted, PATIENCE).await.unwrap_err();
        assert!(matches!(error, FetchError::Tls(_)), "{error:?}");
        let said = error.to_string();
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
    };
    // To Mozilla's authorities it is a stranger, and so it is to others that were named.
    let unknown = ["no authority that is trusted here", "mesh", "--trust"];
    expect(port, &Trusted::new(b""), &unknown).await;
    expect(port, &other.trusted(), &unknown).await;
    let port = ours.serves("elsewhere.example", good, answer(LIST)).await;
    expect(port, &ours.trusted(), &["for another name", "elsewhere.example"]).await;
    let port = ours.serves("localhost", (2020, 2021), answer(LIST)).await;
    expect(port, &ours.trusted(), &["has expired", "renewed"]).await;
    let port = ours.serves("localhost", (2100, 2120), answer(LIST)).await;
    expect(port, &ours.trusted(), &["not valid yet", "clock"]).await;

    // One that signed its certificate itself is trusted if that very certificate is named.
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let own = params.self_signed(&key).unwrap();
    let port = listen(&own, &key, answer(LIST)).await;
    expect(port, &ours.trusted(), &unknown).await;
    let trusted = Trusted::new(own.pem().as_bytes());
    assert!(fetched(port, &trusted, PATIENCE).await.is_ok());
}

#[tokio::test]
async fn bounds_hold_over_tls() {
    let ours = Authority::new();
    let trusted = ours.trusted();
    let serves = async |server: Server| ours.serves("localhost", (2020, 2120), server).await;
    let million = "{\"peer_id\":\"a\",\"ws_url\":\"ws://a\"},".repeat(1_000_000);
    let error = fetched(serves(answer(&million)).await, &trusted, PATIENCE).await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, FetchError::NotAList(ListError::TooLong)),
        "{error:?}"
    );

    // What is asked for over TLS is not taken without it.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://{}/", plain.local_addr().unwrap());
    let moved = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    let error = fetched(serves(Server::Answers(moved)).await, &trusted, PATIENCE).await;
    assert!(matches!(error, Err(FetchError::Insecure)), "{error:?}");
    let nobody = timeout(Duration::from_millis(50), plain.accept()).await;
    assert!(nobody.is_err(), "it was asked in the clear");

    let limit = Duration::from_millis(500);
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".to_owned();
    for server in [
        Server::IsSilent,
        Server::Dribbles("HTTP/1.1 200 OK\r\nX:".to_owned()),
        Server::Dribbles(head),
    ] {
        let port = serves(server).await;
        let since = Instant::now();
        let error = fetched(port, &trusted, limit).await.unwrap_err();
        assert!(matches!(error, FetchError::TimedOut), "{error:?}");
        assert!(since.elapsed() < PATIENCE / 4, "{:?}", since.elapsed());
    }
    // A port where nobody is.
    let closed = plain.local_addr().unwrap().port();
    drop(plain);
    let error = fetched(closed, &trusted, PATIENCE).await.unwrap_err();
    let refused = ErrorKind::ConnectionRefused.to_string();
    assert!(error.to_string().to_lowercase().contains(&refused), "{error}");
}

#[tokio::test]
async fn the_clock_of_the_server_is_noted() {
    let ours = Authority::new();
    let length = LIST.len();
    for (date, time) in [
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777_000)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", None),
        ("Sun, 32 Nov 1994 08:49:37 GMT", None),
        ("now", None),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: {length}\r\n\r\n{LIST}");
        let port = ours
            .serves("localhost", (2020, 2120), Server::Answers(answer))
            .await;
        let fetched = fetched(port, &ours.trusted(), PATIENCE).await.unwrap();
        assert_eq!(fetched.date.map(|date| date.0), time, "{date}");
    }
}
