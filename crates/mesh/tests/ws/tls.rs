//! `wss://`.

use clawchat_mesh::Reach;
use clawchat_mesh::ws::{ClientTls, DialError, ServerTls, TlsError, WebSockets, WsLimits};
use rcgen::{CertifiedKey, generate_simple_self_signed};

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
}
