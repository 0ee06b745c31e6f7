//! `wss://`.

use std::time::Duration;

use clawchat_mesh::Reach;
use clawchat_mesh::ws::{
    AcceptError, ClientTls, DialError, Listener, ServerTls, TlsError, WebSockets, WsLimits, WsLink,
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedKey, DnType, IsCa, KeyPair, date_time_ymd,
    generate_simple_self_signed,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::helpers::{dialer, soon, text};

#[tokio::test]
async fn a_listener_with_a_certificate_is_reached_by_those_who_trust_it() {
    let CertifiedKey { cert, key_pair } =
        generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let tls = ServerTls::new(cert.pem().as_bytes(), key_pair.serialize_pem().as_bytes()).unwrap();
    let trusting = WebSockets::new(
        WsLimits::default(),
        ClientTls::new(cert.pem().as_bytes()).unwrap(),
    );
    let address = "127.0.0.1:0".parse().unwrap();
    let mut listener = trusting.listen(address, Some(tls)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("wss://{host}:{port}").parse().unwrap();
        let accept = async { listener.accept().await.open().await.unwrap() };
        let dial = trusting.dial(&url, Reach::Everywhere);
        let (dialed, accepted) = soon(async { tokio::join!(dial, accept) }).await;
        let ((_reader, mut writer), (mut reader, _writer)) = (dialed.unwrap().split(), accepted.split());
        soon(writer.send(vec![text(&"x".repeat(60_000))])).await.unwrap();
        assert_eq!(soon(reader.next()).await.unwrap().as_bytes().len(), 60_000);
    }
    // Nobody vouches for it.
    let url = format!("wss://localhost:{port}").parse().unwrap();
    let accept = async { listener.accept().await.open().await };
    let dialer = dialer();
    let (dialed, accepted) = soon(async { tokio::join!(dialer.dial(&url, Reach::Everywhere), accept) }).await;
    assert!(matches!(dialed, Err(DialError::Tls(_))), "{dialed:?}");
    assert!(accepted.is_err());
}

#[test]
fn what_is_no_certificate_is_refused() {
    let CertifiedKey { cert, key_pair } = generate_simple_self_signed(["a".to_owned()]).unwrap();
    let other = generate_simple_self_signed(["a".to_owned()]).unwrap().key_pair;
    let (cert, key) = (cert.pem(), key_pair.serialize_pem());
    assert_eq!(
        ServerTls::new(b"", key.as_bytes()).err(),
        Some(TlsError::BadCertificate)
    );
    assert_eq!(ServerTls::new(cert.as_bytes(), b"").err(), Some(TlsError::BadKey));
    let mixed = ServerTls::new(cert.as_bytes(), other.serialize_pem().as_bytes()).err();
    assert!(matches!(mixed, Some(TlsError::Unusable(_))), "{mixed:?}");
    let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    assert!(ClientTls::new(broken.as_bytes()).is_err());
    for none in ["{}", "\n", &key] {
        assert_eq!(
            ClientTls::new(none.as_bytes()).err(),
            Some(TlsError::BadCertificate),
            "{none}"
        );
    }
}

/// Somebody who signs certificates.
struct Authority {
    certificate: Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap(),
            key,
        }
    }

    /// What a host of that name shows, in these years.
    fn signs(&self, name: &str, from: i32, to: i32, is_ca: IsCa) -> ServerTls {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        params.is_ca = is_ca;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.certificate, &self.key).unwrap();
        ServerTls::new(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    fn trusting(&self, limits: WsLimits) -> WebSockets {
        WebSockets::new(limits, ClientTls::new(self.certificate.pem().as_bytes()).unwrap())
    }
}

/// Dials a listener by that name.
async fn dialed(
    sockets: &WebSockets,
    listener: &mut Listener,
    host: &str,
) -> (Result<WsLink, DialError>, Result<WsLink, AcceptError>) {
    let port = listener.local_addr().unwrap().port();
    let url = format!("wss://{host}:{port}").parse().unwrap();
    let accept = async { listener.accept().await.open().await };
    soon(async { tokio::join!(sockets.dial(&url, Reach::Everywhere), accept) }).await
}

#[tokio::test]
async fn an_authority_of_one_s_own_is_enough_and_what_is_wrong_comes_with_what_to_do() {
    let (ours, other) = (Authority::new(), Authority::new());
    let sockets = ours.trusting(WsLimits::default());
    let address = "127.0.0.1:0".parse().unwrap();
    let ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for (shown, said) in [
        (ours.signs("localhost", 2020, 2120, IsCa::NoCa), &[][..]),
        (
            other.signs("localhost", 2020, 2120, IsCa::NoCa),
            &["no authority that is trusted here", "--trust"],
        ),
        (
            ours.signs("elsewhere.example", 2020, 2120, IsCa::NoCa),
            &[
                "for another name",
                "elsewhere.example",
                "use that name in the URL",
            ],
        ),
        (
            ours.signs("localhost", 2020, 2021, IsCa::NoCa),
            &["has expired", "renewed"],
        ),
        (
            ours.signs("localhost", 2100, 2120, IsCa::NoCa),
            &["not valid yet", "clock"],
        ),
        (ours.signs("localhost", 2020, 2120, ca), &["CA:TRUE", "CA:FALSE"]),
    ] {
        let mut listener = sockets.listen(address, Some(shown)).await.unwrap();
        let (dialed, accepted) = dialed(&sockets, &mut listener, "localhost").await;
        if said.is_empty() {
            assert!(dialed.is_ok() && accepted.is_ok(), "{dialed:?} {accepted:?}");
            continue;
        }
        let error = dialed.unwrap_err();
        assert!(matches!(error, DialError::Tls(_)), "{error:?}");
        let error = error.to_string();
        for part in said {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(matches!(accepted, Err(AcceptError::Tls)), "{accepted:?}");
    }
    // Somebody who does not speak TLS at all.
    let mut plain = sockets.listen(address, None).await.unwrap();
    let (dialed, accepted) = dialed(&sockets, &mut plain, "localhost").await;
    let error = dialed.unwrap_err().to_string();
    assert!(error.contains("TLS"), "{error}");
    assert!(accepted.is_err());
}

#[tokio::test]
async fn a_stranger_who_never_ends_his_greeting_loses_his_place() {
    let authority = Authority::new();
    let limits = WsLimits {
        opening: Duration::from_millis(200),
        accepted: 1,
        ..WsLimits::default()
    };
    let sockets = authority.trusting(limits);
    let shown = authority.signs("localhost", 2020, 2120, IsCa::NoCa);
    let address = "127.0.0.1:0".parse().unwrap();
    let mut listener = sockets.listen(address, Some(shown)).await.unwrap();
    let mut stranger = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    // The head of a record that never comes.
    stranger.write_all(&[0x16, 3, 1, 0x3f, 0xff]).await.unwrap();
    let accepted = soon(async { listener.accept().await.open().await }).await;
    assert!(matches!(accepted, Err(AcceptError::TimedOut)), "{accepted:?}");
    assert_eq!(soon(stranger.read(&mut [0; 64])).await.unwrap_or(0), 0);
    // His place was the only one.
    let patient = authority.trusting(WsLimits::default());
    soon(async {
        loop {
            match dialed(&patient, &mut listener, "localhost").await {
                (Ok(_), Ok(_)) => return,
                // So little time is not enough for everybody on a busy machine.
                (_, Err(AcceptError::TimedOut)) => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;

    // The same the other way: a listener that says nothing.
    let silent = tokio::net::TcpListener::bind(address).await.unwrap();
    let url = format!("wss://{}", silent.local_addr().unwrap()).parse().unwrap();
    let dialed = soon(sockets.dial(&url, Reach::Everywhere)).await;
    assert!(matches!(dialed, Err(DialError::TimedOut)), "{dialed:?}");
}
