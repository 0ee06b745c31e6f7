//! Where the vectors of handshakes come from: every hole of the protocol, tried from both sides.

use clawchat_testkit::{Person, START};
use clawchat_types::Network;

use super::pair::{ALICES_NONCE, BOBS_NONCE, auth, auth_with, hello, node, proof, proof_of};
use super::scripts::{HandshakeCase, HandshakeResult, IdentityCase, Side, Step, play, result};
use super::vectors::check;
use crate::ErrorCode;
use crate::clawchat1::message::{Auth, AuthFail, Hello, Message, PingNonce, StreamData};
use crate::clawchat1::{FrameError, HandshakeError, MAX_PRE_AUTH_FRAME, frame};
use crate::tests::vectors::{enhex, unhex};

/// Bob answers Alice, who says what a test wants.
fn responder(name: &str, must: &str, receive: Vec<Vec<u8>>) -> HandshakeCase {
    let step = |body: Vec<u8>| Step {
        receive: Some(enhex(frame(&body))),
        ..Step::default()
    };
    HandshakeCase {
        name: name.to_owned(),
        must: must.to_owned(),
        side: Side::Responder,
        time: START.seconds().0,
        network: Network::Testnet,
        local_key: node(Person::Bob),
        remote_key: Some(node(Person::Alice)),
        unbound: false,
        nonce: enhex(BOBS_NONCE),
        identities: vec![IdentityCase {
            attestation: enhex(proof(Person::Bob).to_bytes()),
            refuses: Vec::new(),
        }],
        steps: receive.into_iter().map(step).collect(),
        result: HandshakeResult::Refuses(String::new()),
    }
}

/// Bob dials Alice.
fn initiator(name: &str, must: &str, receive: Vec<Vec<u8>>) -> HandshakeCase {
    let mut case = responder(name, must, receive);
    case.side = Side::Initiator;
    case.steps.insert(0, Step::default());
    case
}

fn said_hello(change: impl FnOnce(&mut Hello)) -> Vec<u8> {
    let mut hello = hello();
    change(&mut hello);
    Message::Hello(hello).encode()
}

fn said_auth(change: impl FnOnce(&mut Auth)) -> Vec<u8> {
    let mut auth = auth();
    change(&mut auth);
    Message::Auth(auth).encode()
}

/// HELLO and AUTH with somebody's proof, and AUTH_OK.
fn said_with(person: Person, network: Network, key: Person) -> Vec<Vec<u8>> {
    let proof = proof_of(person, network, &node(key));
    vec![
        said_hello(|hello| hello.node_public_key = *node(key).as_bytes()),
        Message::Auth(auth_with(&proof)).encode(),
        ok(),
    ]
}

fn ok() -> Vec<u8> {
    Message::AuthOk.encode()
}

fn all() -> Vec<Vec<u8>> {
    vec![said_hello(|_| {}), said_auth(|_| {}), ok()]
}

fn ping() -> Vec<u8> {
    Message::Ping(PingNonce::from([7; 16])).encode()
}

/// A HELLO with one key's value replaced, or another key.
fn edited(message: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    let text = hex::encode(message);
    assert!(text.contains(from), "{text}");
    hex::decode(text.replacen(from, to, 1)).unwrap()
}

fn session() -> HandshakeResult {
    HandshakeResult::Session(Person::Alice.principal().to_string())
}

fn refuses(code: ErrorCode) -> HandshakeResult {
    HandshakeResult::Refuses(code.to_string())
}

/// What is expected, and what is made of it when it is played.
fn made(case: HandshakeCase, expected: HandshakeResult) -> HandshakeCase {
    let (steps, outcome) = play(&case);
    let result = result(outcome);
    assert_eq!(result, expected, "{}", case.name);
    HandshakeCase {
        steps,
        result,
        ..case
    }
}

fn both(name: &str, must: &str, receive: &[Vec<u8>], expected: &HandshakeResult) -> [HandshakeCase; 2] {
    [
        made(responder(name, must, receive.to_vec()), expected.clone()),
        made(
            initiator(&format!("{name}, dialed"), must, receive.to_vec()),
            expected.clone(),
        ),
    ]
}

#[test]
fn vectors_of_the_handshake() {
    use ErrorCode::{AuthExpired, AuthInvalid, NotAllowed, ProtocolViolation, Timeout, VersionUnsupported};
    let mut cases = Vec::new();
    let mut add = |name: &str, must: &str, receive: &[Vec<u8>], expected: HandshakeResult| {
        cases.extend(both(name, must, receive, &expected));
    };
    let invalid = || refuses(AuthInvalid);
    let violation = || refuses(ProtocolViolation);

    add(
        "a field nobody knows",
        "C2",
        &[
            edited(said_hello(|_| {}), "a5", "a66178820102"),
            said_auth(|_| {}),
            ok(),
        ],
        session(),
    );
    add(
        "byte strings in the attestation",
        "C2",
        &[
            said_hello(|_| {}),
            edited(
                said_auth(|_| {}),
                &in_ints(node(Person::Alice).as_bytes()),
                &format!("5820{}", node(Person::Alice)),
            ),
            ok(),
        ],
        session(),
    );
    add(
        "a HELLO without a nonce",
        "C2",
        &[edited(said_hello(|_| {}), "656e6f6e6365", "656e6f6e6378")],
        violation(),
    );
    add(
        "an AUTH without an attestation",
        "C2",
        &[
            said_hello(|_| {}),
            edited(
                said_auth(|_| {}),
                "6b6174746573746174696f6e",
                "6b6174746573746174696f78",
            ),
        ],
        violation(),
    );
    add(
        "an unknown type",
        "C3",
        &[unhex("a164747970651863")],
        refuses(VersionUnsupported),
    );
    add(
        "a type that is no number",
        "C3",
        &[unhex("a164747970656133")],
        refuses(VersionUnsupported),
    );
    add("no CBOR", "C1", &[unhex("ff")], violation());

    add("version 1", "H1", &all(), session());
    add(
        "version 2",
        "H1",
        &[edited(
            said_hello(|_| {}),
            "6776657273696f6e01",
            "6776657273696f6e02",
        )],
        refuses(VersionUnsupported),
    );
    add("in order", "H2", &all(), session());
    add("AUTH first", "H2", &[said_auth(|_| {})], violation());
    add(
        "HELLO twice",
        "H2",
        &[said_hello(|_| {}), said_hello(|_| {})],
        violation(),
    );
    add(
        "AUTH twice",
        "H2",
        &[said_hello(|_| {}), said_auth(|_| {}), said_auth(|_| {})],
        violation(),
    );
    add("AUTH_OK first", "H2", &[ok()], violation());
    let early = Message::StreamData(StreamData {
        stream_id: 0,
        fin: false,
        data: [0xa0].as_slice().into(),
    })
    .encode();
    add(
        "a message before AUTH_OK",
        "H2",
        &[said_hello(|_| {}), said_auth(|_| {}), early],
        violation(),
    );
    add(
        "nonces of 8 bytes",
        "H3",
        &[
            said_hello(|hello| hello.nonce = vec![1; 8]),
            said_auth(|auth| auth.session_nonce = vec![1; 8]),
            ok(),
        ],
        session(),
    );
    add(
        "nonces of 64 bytes",
        "H3",
        &[
            said_hello(|hello| hello.nonce = vec![1; 64]),
            said_auth(|auth| auth.session_nonce = vec![1; 64]),
            ok(),
        ],
        session(),
    );
    add(
        "another nonce",
        "H3",
        &[
            said_hello(|_| {}),
            said_auth(|auth| auth.session_nonce = BOBS_NONCE.to_vec()),
        ],
        invalid(),
    );
    add(
        "part of the nonce",
        "H3",
        &[
            said_hello(|_| {}),
            said_auth(|auth| auth.session_nonce = ALICES_NONCE[..8].to_vec()),
        ],
        invalid(),
    );
    add(
        "a nonce of 7 bytes",
        "H3",
        &[said_hello(|hello| hello.nonce = vec![1; 7])],
        violation(),
    );
    add("the attested principal", "H4", &all(), session());
    add(
        "another principal",
        "H4",
        &[
            said_hello(|_| {}),
            said_auth(|auth| auth.principal = Person::Carol.principal().to_string()),
        ],
        invalid(),
    );
    add(
        "the principal in lower case",
        "H4",
        &[
            said_hello(|_| {}),
            said_auth(|auth| auth.principal = auth.principal.to_lowercase()),
        ],
        invalid(),
    );
    add("the attested key", "H5", &all(), session());
    add(
        "another key in HELLO",
        "H5",
        &[
            said_hello(|hello| hello.node_public_key = *node(Person::Carol).as_bytes()),
            said_auth(|_| {}),
        ],
        invalid(),
    );
    add("the key of the connection", "H6", &all(), session());
    add(
        "a replayed attestation",
        "H6",
        &said_with(Person::Carol, Network::Testnet, Person::Carol)[..2],
        invalid(),
    );
    add(
        "a further identity of the gateway",
        "H7",
        &said_with(Person::Carol, Network::Testnet, Person::Alice),
        HandshakeResult::Session(Person::Carol.principal().to_string()),
    );
    add(
        "another's attestation with a new principal",
        "H7",
        &[
            said_hello(|_| {}),
            said_auth(|auth| {
                auth.principal = Person::Carol.principal().to_string();
                auth.attestation.principal.clone_from(&auth.principal);
            }),
        ],
        invalid(),
    );
    add(
        "an attestation that was made longer",
        "H7",
        &[
            said_hello(|_| {}),
            said_auth(|auth| auth.attestation.expires_at += 1),
        ],
        invalid(),
    );
    add(
        "an attestation of version 2",
        "H7",
        &[said_hello(|_| {}), said_auth(|auth| auth.attestation.version = 2)],
        refuses(VersionUnsupported),
    );
    add(
        "an attestation for another purpose",
        "H7",
        &[
            said_hello(|_| {}),
            said_auth(|auth| auth.attestation.domain = "snap2p-aliascard-v1".to_owned()),
        ],
        invalid(),
    );
    add("the same network", "H8", &all(), session());
    add(
        "the other network",
        "H8",
        &said_with(Person::Alice, Network::Mainnet, Person::Alice)[..2],
        invalid(),
    );
    add(
        "a PING",
        "H10",
        &[ping(), said_hello(|_| {}), said_auth(|_| {}), ok()],
        session(),
    );
    add("17 PINGs", "H10", &vec![ping(); 17], violation());
    let fail = |code, reason: &str| {
        Message::AuthFail(AuthFail {
            code,
            reason: reason.to_owned(),
        })
        .encode()
    };
    let refused = |code: ErrorCode| HandshakeResult::Refused(code.to_string());
    add(
        "a refusal by name",
        "H11",
        &[fail(1, "ERR_NOT_ALLOWED")],
        refused(NotAllowed),
    );
    add(
        "a refusal by number",
        "H11",
        &[fail(2, "too late, sorry")],
        refused(AuthExpired),
    );
    add(
        "a refusal without anything",
        "H11",
        &[unhex("a1647479706504")],
        refused(ErrorCode::Other(u16::MAX)),
    );
    add(
        "messages behind a refusal",
        "H11",
        &[[said_auth(|_| {})].as_slice(), &all()].concat(),
        violation(),
    );

    let mut one = |case: HandshakeCase, expected: HandshakeResult| cases.push(made(case, expected));
    let replay = || said_with(Person::Carol, Network::Testnet, Person::Carol);
    let mut case = responder("an unbound peer where that is taken", "H6", replay());
    case.unbound = true;
    one(
        case,
        HandshakeResult::Unbound(Person::Carol.principal().to_string()),
    );
    let mut case = responder("a bound peer where that need not be", "H6", all());
    case.unbound = true;
    one(case, session());
    let mut case = responder("a connection without a node key", "H6", all()[..2].to_vec());
    case.remote_key = None;
    one(case, invalid());
    let day = 86_400;
    let mut case = responder("expired five minutes ago", "H7", all()[..2].to_vec());
    case.time += day + 300;
    // Bob's own is a new one.
    let fresh =
        clawchat_testkit::attestation_from(&Person::Bob.identity(), clawchat_types::UnixSeconds(case.time));
    case.identities[0].attestation = enhex(fresh.to_bytes());
    one(case.clone(), refuses(AuthExpired));
    case.name = "expired less than five minutes ago".to_owned();
    case.steps = responder("", "", all()).steps;
    case.time -= 1;
    one(case, session());
    let mut case = responder(
        "issued more than five minutes from now",
        "H7",
        all()[..2].to_vec(),
    );
    case.time -= 301;
    case.identities.clear();
    one(case, refuses(AuthExpired));

    let mut case = responder("nobody admits it", "H9", all()[..2].to_vec());
    case.identities[0].refuses = vec![Person::Alice.principal()];
    let carol = proof_of(Person::Carol, Network::Testnet, &node(Person::Bob));
    one(case.clone(), refuses(NotAllowed));
    case.name = "the second identity admits it".to_owned();
    case.steps = responder("", "", all()).steps;
    case.identities.push(IdentityCase {
        attestation: enhex(carol.to_bytes()),
        refuses: Vec::new(),
    });
    one(case, session());

    let mut case = responder("in time", "H12", all());
    case.steps[2].wait = 14;
    one(case, session());
    let mut case = responder("silence", "H12", all());
    case.steps[2].wait = 15;
    one(case, refuses(Timeout));
    check("handshake.json", &cases);
}

#[test]
fn the_log_tells_the_holes_apart() {
    let alice = || node(Person::Alice);
    let carol = || node(Person::Carol);
    for (receive, error) in [
        (
            vec![
                said_hello(|_| {}),
                said_auth(|auth| auth.principal = "stacks:\u{202e}mallory".to_owned()),
            ],
            HandshakeError::AnotherPrincipal {
                claimed: "stacks:?mallory".to_owned(),
                attested: Person::Alice.principal(),
            },
        ),
        (
            vec![
                said_hello(|hello| hello.node_public_key = *carol().as_bytes()),
                said_auth(|_| {}),
            ],
            HandshakeError::AnotherKey {
                named: carol(),
                attested: alice(),
            },
        ),
        (
            said_with(Person::Carol, Network::Testnet, Person::Carol)[..2].to_vec(),
            HandshakeError::Unbound {
                attested: carol(),
                connection: Some(alice()),
            },
        ),
        (
            said_with(Person::Alice, Network::Mainnet, Person::Alice)[..2].to_vec(),
            HandshakeError::WrongNetwork {
                expected: Network::Testnet,
            },
        ),
        (
            vec![vec![0; MAX_PRE_AUTH_FRAME + 1]],
            HandshakeError::Frame(FrameError::TooLong {
                length: MAX_PRE_AUTH_FRAME + 1,
                limit: MAX_PRE_AUTH_FRAME,
            }),
        ),
    ] {
        let case = responder("", "", receive);
        assert_eq!(play(&case).1.unwrap_err(), error);
    }
}

/// Bytes as an array of integers, in hexadecimal.
fn in_ints(bytes: &[u8]) -> String {
    let mut writer = crate::clawchat1::cbor::Writer::map_of(0);
    writer.byte_array(bytes);
    hex::encode(&writer.into_bytes()[1..])
}
