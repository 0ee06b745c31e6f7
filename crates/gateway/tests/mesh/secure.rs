//! TLS: peers that come over `wss://`, and a list over `https://`, with an authority of one's own.

use std::fs;
use std::path::Path;

use clawchat_testkit::Person;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::common::{eventually, free_port};
use crate::support::Peer;

/// Writes an authority's certificate, and what a host called `name` shows; the place of the first, and of the others.
fn certificates(folder: &Path, name: &str) -> (Value, Value) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let host = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let host = host.signed_by(&key, &authority, &authority_key).unwrap();
    let write = |name: &str, text: String| {
        fs::write(folder.join(name), text).unwrap();
        json!(folder.join(name))
    };
    let tls =
        json!({ "certificate": write("host.pem", host.pem()), "key": write("key.pem", key.serialize_pem()) });
    (write("authority.pem", authority.pem()), tls)
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_with_an_authority_of_their_own_talk_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (trust, tls) = certificates(folder.path(), "localhost");
    let port = free_port();
    let listen = json!({ "enabled": true, "listen": format!("127.0.0.1:{port}"), "tls": tls });
    let mut bob = Peer::with(Person::Bob, port, listen);
    bob.gate.start().await;
    let url = format!("wss://localhost:{port}");
    let dial = |trust: &Value| json!({ "enabled": true, "peers": [url], "trust": trust });
    let mut carol = Peer::with(Person::Carol, 0, dial(&trust));
    carol.gate.start().await;
    carol.with_neighbours(1).await;
    let links = carol.links().await;
    assert_eq!(links[0]["address"], format!("{url}/"), "{links:?}");
    carol.send("lobby", "over tls").await;
    assert_eq!(bob.bodies_once("lobby", 1).await, ["over tls"]);
    bob.send("lobby", "and back").await;
    carol.bodies_once("lobby", 2).await;

    // Without that authority there is no link, and the operator is told.
    let mut stranger = Peer::with(Person::Dave, 0, dial(&Value::Null));
    stranger.gate.start().await;
    let said = eventually("the reason", async || {
        let status = stranger.ok(json!({ "cmd": "status" })).await;
        let error = status["mesh"]["dialing"][0]["error"].as_str()?;
        Some(error.to_owned())
    })
    .await;
    assert!(said.contains("no authority that is trusted here"), "{said}");
    assert!(stranger.links().await.is_empty());
}
