//! Where the vectors of the handshake come from: one side is a machine, the other is made by hand.

use clawchat_identity::CLOCK_SKEW_SECS;
use clawchat_testkit::{Person, START, attestation_from};
use clawchat_types::UnixSeconds;

use super::pair::{ANSWERER_NONCE, DIALER_NONCE, Raw, TOKEN, auth, credentials, mainnet_credentials, peers};
use super::vectors::{HandshakeCase, HandshakeResult, IdentityCase, Machine, Side, Step, enhex};
use super::vectors_made::check;
use crate::wire::{Control, KIND_KNOCK, KIND_NOISE, KIND_REFUSAL, Knock, clear_frame};
use crate::{Credentials, ErrorCode};

fn identity(person: Person, who: &Credentials, token: Option<&[u8]>) -> IdentityCase {
    IdentityCase {
        node_seed: enhex(*person.identity().node_key().seed()),
        attestation: enhex(who.attestation.to_bytes()),
        token: token.map(enhex),
    }
}

/// A case being made: the machine under test, and what went in and out.
struct Script {
    case: HandshakeCase,
    machine: Machine,
}

impl Script {
    fn new(side: Side, name: &str, must: &str, change: impl FnOnce(&mut HandshakeCase)) -> Self {
        let (person, ephemeral, nonce) = match side {
            Side::Initiator => (Person::Alice, [0xd0; 32], DIALER_NONCE),
            Side::Responder => (Person::Bob, [0xa0; 32], ANSWERER_NONCE),
        };
        let peers = peers();
        let mut case = HandshakeCase {
            name: name.to_owned(),
            must: must.to_owned(),
            side,
            time: START.seconds().0,
            initiator_peer: peers.initiator,
            responder_peer: peers.responder,
            ephemeral: enhex(ephemeral),
            nonce: enhex(nonce),
            identities: vec![identity(person, &credentials(person), None)],
            target: None,
            knock: None,
            refuses: Vec::new(),
            steps: Vec::new(),
            result: HandshakeResult::Session(String::new()),
        };
        change(&mut case);
        let machine = Machine::new(&case);
        Self { case, machine }
    }

    fn step(&mut self, receive: Option<Vec<u8>>) -> Vec<Vec<u8>> {
        let sent = self.machine.step(receive.as_deref(), self.case.now());
        self.case.steps.push(Step {
            receive: receive.map(enhex),
            send: sent.iter().map(enhex).collect(),
        });
        sent
    }

    /// Gives the machine a frame; the frame it answers with, if any.
    fn give(&mut self, kind: u8, body: &[u8]) -> Option<Vec<u8>> {
        self.step(Some(clear_frame(kind, body))).pop()
    }

    fn give_noise(&mut self, raw: &mut Raw, plaintext: &[u8]) -> Option<Vec<u8>> {
        let frame = raw.frame(plaintext);
        self.give(KIND_NOISE, &frame[1..])
    }

    /// Gives the machine a message, and the peer the answer there must be.
    fn exchange(&mut self, raw: &mut Raw, plaintext: &[u8]) {
        let answer = self.give_noise(raw, plaintext).unwrap();
        raw.open(&answer);
    }

    fn done(mut self) -> HandshakeCase {
        self.case.result = self.machine.result();
        self.case
    }
}

fn ok() -> Vec<u8> {
    Control::AuthOk.to_vec()
}

fn fail(code: ErrorCode) -> Vec<u8> {
    Control::AuthFail { code }.to_vec()
}

/// {n: nonce, t: 1, v: 3}
fn hello_of_version_3() -> Vec<u8> {
    [
        &[0xa3, 0x61, b'n', 0x58, 32],
        [9; 32].as_slice(),
        &[0x61, b't', 1, 0x61, b'v', 3],
    ]
    .concat()
}

/// A HELLO of this version, and {zz: [null]} in it.
fn hello_with_more(nonce: [u8; 32]) -> Vec<u8> {
    let more = [0x61, b't', 1, 0x61, b'v', 2, 0x62, b'z', b'z', 0x81, 0xf6];
    [&[0xa4, 0x61, b'n', 0x58, 32], nonce.as_slice(), &more].concat()
}

fn dated(person: Person, issued_at: i64) -> Credentials {
    let attestation = attestation_from(&person.identity(), UnixSeconds(issued_at));
    Credentials {
        attestation,
        ..credentials(person)
    }
}

/// Attestations that must not be believed, each with the node key its holder really has.
fn bad_proofs(person: Person) -> Vec<(&'static str, &'static str, Credentials)> {
    let start = START.seconds().0;
    let day = 24 * 60 * 60;
    let stolen = Credentials {
        node_key: credentials(Person::Dave).node_key,
        ..credentials(person)
    };
    vec![
        ("attestation of another node key", "A4", stolen),
        (
            "expired attestation",
            "A5",
            dated(person, start - day - CLOCK_SKEW_SECS),
        ),
        (
            "attestation of the future",
            "A5",
            dated(person, start + CLOCK_SKEW_SECS + 1),
        ),
        (
            "attestation of the other network",
            "A6",
            mainnet_credentials(person),
        ),
    ]
}

/// The case of a responder that gets message 1 with this payload, behind an optional KNOCK.
fn first(
    name: &str,
    must: &str,
    setup: impl FnOnce(&mut HandshakeCase),
    knock: Option<Knock<'_>>,
    hello: &[u8],
) -> HandshakeCase {
    let mut script = Script::new(Side::Responder, name, must, setup);
    if let Some(knock) = knock {
        script.give(KIND_KNOCK, &Control::Knock(knock).to_vec());
    }
    let mut raw = Raw::new(Person::Alice, true);
    script.give_noise(&mut raw, hello);
    script.done()
}

/// The case of a responder that gets this payload in message 3, and AUTH_OK if it answers.
fn third(
    name: &str,
    must: &str,
    setup: impl FnOnce(&mut HandshakeCase),
    mut raw: Raw,
    payload: &[u8],
) -> HandshakeCase {
    let mut script = Script::new(Side::Responder, name, must, setup);
    let hello = raw.hello(None);
    script.exchange(&mut raw, &hello);
    script.give_noise(&mut raw, payload);
    if script.case.steps[1].send[0].len() > 400 {
        script.give_noise(&mut raw, &ok());
    }
    script.done()
}

fn responder_cases() -> Vec<HandshakeCase> {
    let alice = || Raw::new(Person::Alice, true);
    let hello = |target| alice().hello(target);
    let stealth = |case: &mut HandshakeCase| case.identities[0].token = Some(enhex(TOKEN));
    let knock = |nonce| Some(Knock { nonce, token: &TOKEN });
    let mut cases = vec![
        third("answers and is believed", "A1", |_| {}, alice(), &alice().auth()),
        first(
            "asked for somebody it does not host",
            "H3",
            |_| {},
            None,
            &hello(Some(Person::Carol)),
        ),
        first(
            "hidden, and nobody knocked",
            "H3",
            stealth,
            None,
            &hello(Some(Person::Bob)),
        ),
        first(
            "hidden, and a wrong token",
            "H3",
            stealth,
            Some(Knock {
                nonce: DIALER_NONCE,
                token: &[1; 16],
            }),
            &hello(Some(Person::Bob)),
        ),
        first(
            "hidden, and the knock of another handshake",
            "H4",
            stealth,
            knock([9; 32]),
            &hello(Some(Person::Bob)),
        ),
        first("HELLO of version 3", "H1", |_| {}, None, &hello_of_version_3()),
        first(
            "unknown message type in message 1",
            "C3",
            |_| {},
            None,
            &[0xa1, 0x61, b't', 0x18, 0x40],
        ),
        first("AUTH in message 1", "C4", |_| {}, None, &alice().auth()),
        first(
            "HELLO with a key twice",
            "C1",
            |_| {},
            None,
            &[0xa2, 0x61, b't', 1, 0x61, b't', 1],
        ),
        first(
            "HELLO with a long integer",
            "C1",
            |_| {},
            None,
            &[0xa1, 0x61, b't', 0x18, 1],
        ),
        third(
            "not admitted",
            "A7",
            |case| case.refuses.push(Person::Alice.principal().to_string()),
            alice(),
            &alice().auth(),
        ),
    ];

    let mut script = Script::new(Side::Responder, "hidden, and a valid knock", "H4", stealth);
    let mut raw = alice();
    script.give(
        KIND_KNOCK,
        &Control::Knock(Knock {
            nonce: DIALER_NONCE,
            token: &TOKEN,
        })
        .to_vec(),
    );
    let wanted = raw.hello(Some(Person::Bob));
    script.exchange(&mut raw, &wanted);
    let proof = raw.auth();
    script.give_noise(&mut raw, &proof);
    script.give_noise(&mut raw, &ok());
    cases.push(script.done());

    let mut script = Script::new(Side::Responder, "two knocks", "H4", |_| {});
    script.give(
        KIND_KNOCK,
        &Control::Knock(Knock {
            nonce: DIALER_NONCE,
            token: &TOKEN,
        })
        .to_vec(),
    );
    script.give(
        KIND_KNOCK,
        &Control::Knock(Knock {
            nonce: DIALER_NONCE,
            token: &TOKEN,
        })
        .to_vec(),
    );
    cases.push(script.done());

    let mut script = Script::new(Side::Responder, "unknown fields in HELLO", "C2", |_| {});
    let mut raw = alice();
    script.exchange(&mut raw, &hello_with_more(DIALER_NONCE));
    script.give_noise(&mut raw, &proof);
    script.give_noise(&mut raw, &ok());
    cases.push(script.done());

    let (who, proof) = (
        Person::Alice.principal(),
        credentials(Person::Alice).attestation.to_bytes(),
    );
    let mut damaged = proof.clone();
    let signature = damaged
        .windows(4)
        .position(|key| key == [0x63, b's', b'i', b'g'])
        .unwrap()
        + 10;
    damaged[signature] ^= 1;
    for (name, must, payload) in [
        (
            "AUTH with another initiator nonce",
            "A2",
            auth(who, &proof, [9; 32], ANSWERER_NONCE),
        ),
        (
            "AUTH with another responder nonce",
            "A2",
            auth(who, &proof, DIALER_NONCE, [9; 32]),
        ),
        (
            "AUTH in another name than its attestation",
            "A3",
            auth(Person::Carol.principal(), &proof, DIALER_NONCE, ANSWERER_NONCE),
        ),
        (
            "attestation nobody signed",
            "A5",
            auth(who, &damaged, DIALER_NONCE, ANSWERER_NONCE),
        ),
        ("AUTH_OK without AUTH", "C4", ok()),
    ] {
        cases.push(third(name, must, |_| {}, alice(), &payload));
    }
    for (name, must, who) in bad_proofs(Person::Alice) {
        let raw = Raw::with(who, true);
        let payload = raw.auth();
        cases.push(third(name, must, |_| {}, raw, &payload));
    }

    for (name, must, kind, body) in [
        (
            "message 3 that does not decrypt",
            "N1",
            KIND_NOISE,
            vec![0x55; 200],
        ),
        (
            "refused instead of message 3",
            "R1",
            KIND_REFUSAL,
            fail(ErrorCode::VersionUnsupported),
        ),
        ("a frame of unknown kind", "F3", 9, Vec::new()),
    ] {
        let mut script = Script::new(Side::Responder, name, must, |_| {});
        script.give_noise(&mut alice(), &hello(None));
        script.give(kind, &body);
        cases.push(script.done());
    }
    for (name, must, last) in [
        (
            "refused by the initiator after its own proof",
            "R2",
            fail(ErrorCode::AuthInvalid),
        ),
        (
            "a stream before AUTH_OK",
            "A8",
            Control::Open { id: 1, label: "" }.to_vec(),
        ),
    ] {
        let mut script = Script::new(Side::Responder, name, must, |_| {});
        let mut raw = alice();
        script.exchange(&mut raw, &hello(None));
        let proof = raw.auth();
        script.exchange(&mut raw, &proof);
        script.give_noise(&mut raw, &last);
        cases.push(script.done());
    }
    cases
}

/// The case of an initiator that gets this HELLO, and this plaintext behind its own proof.
fn answered(
    name: &str,
    must: &str,
    setup: impl FnOnce(&mut HandshakeCase),
    mut raw: Raw,
    answer: &[u8],
) -> HandshakeCase {
    let mut script = Script::new(Side::Initiator, name, must, setup);
    let message = script.step(None).pop().unwrap();
    raw.open(&message);
    let hello = raw.hello(None);
    script.exchange(&mut raw, &hello);
    script.give_noise(&mut raw, answer);
    script.done()
}

fn initiator_cases() -> Vec<HandshakeCase> {
    let bob = || Raw::new(Person::Bob, false);
    let proof = [bob().auth(), ok()].concat();
    let wants_bob = |case: &mut HandshakeCase| case.target = Some(Person::Bob.principal().to_string());
    let mut cases = vec![
        answered("dials and is believed", "A1", wants_bob, bob(), &proof),
        answered("without a target", "H2", |_| {}, bob(), &proof),
        answered(
            "knocks first",
            "H4",
            |case| case.knock = Some(enhex(TOKEN)),
            bob(),
            &proof,
        ),
        answered(
            "refused in the encrypted channel",
            "R2",
            wants_bob,
            bob(),
            &fail(ErrorCode::NotAllowed),
        ),
        answered("AUTH without AUTH_OK", "A8", wants_bob, bob(), &bob().auth()),
        answered(
            "unknown message type instead of AUTH",
            "C3",
            wants_bob,
            bob(),
            &[0xa1, 0x61, b't', 0x18, 0x40],
        ),
    ];
    let carol = Raw::new(Person::Carol, false);
    let other = [carol.auth(), ok()].concat();
    cases.push(answered("somebody else answers", "A3", wants_bob, carol, &other));

    let (who, attestation) = (
        Person::Bob.principal(),
        credentials(Person::Bob).attestation.to_bytes(),
    );
    let replayed = [auth(who, &attestation, [9; 32], ANSWERER_NONCE), ok()].concat();
    cases.push(answered(
        "the proof of another handshake",
        "A2",
        wants_bob,
        bob(),
        &replayed,
    ));
    for (name, must, who) in bad_proofs(Person::Bob) {
        let raw = Raw::with(who, false);
        let answer = [raw.auth(), ok()].concat();
        cases.push(answered(name, must, |_| {}, raw, &answer));
    }

    let mut script = Script::new(Side::Initiator, "HELLO of version 3", "H1", wants_bob);
    let mut raw = bob();
    raw.open(&script.step(None).pop().unwrap());
    script.give_noise(&mut raw, &hello_of_version_3());
    cases.push(script.done());
    for (name, must, kind, body) in [
        (
            "refused instead of message 2",
            "R1",
            KIND_REFUSAL,
            fail(ErrorCode::UnknownPrincipal),
        ),
        (
            "message 2 that does not decrypt",
            "N1",
            KIND_NOISE,
            vec![0x55; 200],
        ),
        ("KNOCK instead of message 2", "F3", KIND_KNOCK, Vec::new()),
    ] {
        let mut script = Script::new(Side::Initiator, name, must, wants_bob);
        script.step(None);
        script.give(kind, &body);
        cases.push(script.done());
    }
    cases
}

#[test]
fn vectors_of_the_handshake() {
    let cases: Vec<HandshakeCase> = responder_cases().into_iter().chain(initiator_cases()).collect();
    check("handshake.json", &cases);
}
