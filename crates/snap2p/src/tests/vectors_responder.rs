//! Where the vectors of a responder's handshake come from.

use clawchat_testkit::Person;

use super::pair::{ANSWERER_NONCE, DIALER_NONCE, Raw, TOKEN, auth, credentials, mainnet_credentials};
use super::vectors::{HandshakeCase, Side, enhex};
use super::vectors_script::{
    Script, bad_proofs, fail, first, good_proofs, hello_of_version_3, hello_with_features, hello_with_more,
    identity, knock, ok, third, whole,
};
use crate::ErrorCode;
use crate::wire::{Control, KIND_KNOCK, KIND_NOISE, KIND_REFUSAL, Knock};

pub(super) fn responder_cases() -> Vec<HandshakeCase> {
    let mut cases = refused();
    cases.extend(refused_before_a_proof());
    cases.extend(accepted());
    cases
}

fn alice() -> Raw {
    Raw::new(Person::Alice, true)
}

fn refused() -> Vec<HandshakeCase> {
    let hello = |target| alice().hello(target);
    let stealth = |case: &mut HandshakeCase| case.identities[0].token = Some(enhex(TOKEN));
    let knocked = |nonce| Some(Knock { nonce, token: &TOKEN });
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
            knocked([9; 32]),
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
    script.give(KIND_KNOCK, &knock(DIALER_NONCE));
    let wanted = raw.hello(Some(Person::Bob));
    script.exchange(&mut raw, &wanted);
    let proof = raw.auth();
    script.give_noise(&mut raw, &proof);
    script.give_noise(&mut raw, &ok());
    cases.push(script.done());

    let mut script = Script::new(Side::Responder, "two knocks", "H4", |_| {});
    script.give(KIND_KNOCK, &knock(DIALER_NONCE));
    script.give(KIND_KNOCK, &knock(DIALER_NONCE));
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

/// What a responder refuses without having asked for, or seen, any proof.
fn refused_before_a_proof() -> Vec<HandshakeCase> {
    let small = |length| hello_with_features(DIALER_NONCE, 1, length);
    let mut knock_of_version_3 = knock(DIALER_NONCE);
    *knock_of_version_3.last_mut().unwrap() = 3;
    // {n: nonce, t: 1, v: 2, to: "bob"}
    let mut nobody = hello_with_features(DIALER_NONCE, 0, 0);
    nobody[0] += 1;
    nobody.extend_from_slice(b"\x62to\x63bob");
    // {n: nonce, t: 1, v: 2, zz: 1.5}
    let mut float = hello_with_features(DIALER_NONCE, 0, 0);
    float[0] += 1;
    float.extend_from_slice(b"\x62zz\xf9\x3e\x00");
    let hidden = |case: &mut HandshakeCase| case.identities[0].token = Some(enhex(TOKEN));
    let mut cases = vec![
        first("a feature of 33 bytes", "C1", |_| {}, None, &small(33)),
        first(
            "17 features",
            "C1",
            |_| {},
            None,
            &hello_with_features(DIALER_NONCE, 17, 1),
        ),
        first("an unknown field with a float", "C2", |_| {}, None, &float),
        first("asked for what is no principal", "H2", |_| {}, None, &nobody),
        first(
            "asked for nobody, and nobody is hosted",
            "H2",
            |case| case.identities.clear(),
            None,
            &alice().hello(None),
        ),
        first(
            "asked for nobody, and the default is hidden",
            "H2",
            hidden,
            None,
            &alice().hello(None),
        ),
    ];
    for (name, must, kind, body) in [
        ("KNOCK of version 3", "H1", KIND_KNOCK, knock_of_version_3),
        (
            "REFUSAL instead of message 1",
            "R1",
            KIND_REFUSAL,
            fail(ErrorCode::NotAllowed),
        ),
    ] {
        let mut script = Script::new(Side::Responder, name, must, |_| {});
        script.give(kind, &body);
        cases.push(script.done());
    }
    for (name, must, kind, body) in [
        (
            "AUTH_OK in the REFUSAL instead of message 3",
            "R1",
            KIND_REFUSAL,
            ok(),
        ),
        (
            "KNOCK instead of message 3",
            "F3",
            KIND_KNOCK,
            knock(DIALER_NONCE),
        ),
    ] {
        let mut script = Script::new(Side::Responder, name, must, |_| {});
        script.give_noise(&mut alice(), &alice().hello(None));
        script.give(kind, &body);
        cases.push(script.done());
    }
    let after_proof = |name: &str, must: &str| {
        let mut script = Script::new(Side::Responder, name, must, |_| {});
        let mut raw = alice();
        let (hello, proof) = (raw.hello(None), raw.auth());
        script.exchange(&mut raw, &hello);
        script.exchange(&mut raw, &proof);
        (script, raw)
    };
    let (mut script, _) = after_proof("REFUSAL instead of message 5", "R1");
    script.give(KIND_REFUSAL, &fail(ErrorCode::NotAllowed));
    cases.push(script.done());
    let (mut script, mut raw) = after_proof("AUTH_FAIL and more behind it", "R2");
    script.give_noise(&mut raw, &[fail(ErrorCode::NotAllowed), ok()].concat());
    cases.push(script.done());
    let (mut script, mut raw) = after_proof("a message behind AUTH_OK in its Noise message", "A8");
    script.give_noise(&mut raw, &[ok(), Control::Ping { nonce: 7 }.to_vec()].concat());
    cases.push(script.done());

    let (who, none) = (Person::Alice.principal(), [0xa0; 16]);
    let payload = auth(who, &none, DIALER_NONCE, ANSWERER_NONCE);
    cases.push(third(
        "AUTH without an attestation in it",
        "A1",
        |_| {},
        alice(),
        &payload,
    ));
    cases
}

/// The accepted case of each rule, as close to a refused one as the rule allows.
fn accepted() -> Vec<HandshakeCase> {
    let (hello, proof) = (alice().hello(None), alice().auth());
    let ordinary = [hello.as_slice(), &proof];
    let features = hello_with_features(DIALER_NONCE, 16, 32);
    let for_carol = alice().hello(Some(Person::Carol));
    let for_bob = alice().hello(Some(Person::Bob));
    let two = |case: &mut HandshakeCase| case.identities.push(identity(&credentials(Person::Carol), None));
    let knock = knock(DIALER_NONCE);
    let other_nonce = [0x5e; 32];
    let (who, attestation) = (
        Person::Alice.principal(),
        credentials(Person::Alice).attestation.to_bytes(),
    );
    let of_other_nonces = auth(who, &attestation, other_nonce, other_nonce);
    let hello_of_other_nonce = hello_with_features(other_nonce, 0, 0);
    let carol = || Raw::new(Person::Carol, true);
    let mut cases = vec![
        whole(
            "KNOCK where it has its place",
            "F3",
            |_| {},
            Some(&knock),
            alice(),
            ordinary,
        ),
        whole(
            "16 features of 32 bytes",
            "C1",
            |_| {},
            None,
            alice(),
            [&features, &proof],
        ),
        whole(
            "KNOCK and HELLO of version 2",
            "H1",
            |_| {},
            Some(&knock),
            alice(),
            ordinary,
        ),
        whole(
            "the second identity it hosts",
            "H2",
            two,
            None,
            alice(),
            [&for_carol, &proof],
        ),
        whole(
            "asked for nobody: the default answers",
            "H2",
            two,
            None,
            alice(),
            ordinary,
        ),
        whole(
            "asked for somebody it hosts",
            "H3",
            |_| {},
            None,
            alice(),
            [&for_bob, &proof],
        ),
        whole(
            "every message decrypts",
            "N1",
            |case| case.ephemeral = enhex([0x5c; 32]),
            None,
            alice(),
            ordinary,
        ),
        whole(
            "AUTH with the nonces of this handshake",
            "A2",
            |case| case.nonce = enhex(other_nonce),
            None,
            alice(),
            [&hello_of_other_nonce, &of_other_nonces],
        ),
        whole(
            "AUTH in the name of its attestation",
            "A3",
            |_| {},
            None,
            carol(),
            [&hello, &carol().auth()],
        ),
        whole(
            "somebody else is not admitted",
            "A7",
            |case| case.refuses.push(Person::Carol.principal().to_string()),
            None,
            alice(),
            ordinary,
        ),
    ];
    for (name, must, who) in good_proofs(Person::Alice) {
        let raw = Raw::with(who, true);
        let proof = raw.auth();
        cases.push(whole(name, must, |_| {}, None, raw, [&hello, &proof]));
    }
    let raw = Raw::with(mainnet_credentials(Person::Alice), true);
    let proof = raw.auth();
    cases.push(whole(
        "both of the other network",
        "A6",
        |case| case.identities = vec![identity(&mainnet_credentials(Person::Bob), None)],
        None,
        raw,
        [&hello, &proof],
    ));

    let mut script = Script::new(
        Side::Responder,
        "a session message right behind AUTH_OK",
        "A8",
        |_| {},
    );
    let mut raw = alice();
    let (hello, proof) = (raw.hello(None), raw.auth());
    script.exchange(&mut raw, &hello);
    script.exchange(&mut raw, &proof);
    script.give_noise(&mut raw, &ok());
    script.give_noise(&mut raw, &Control::Ping { nonce: 7 }.to_vec());
    cases.push(script.done());
    cases
}
