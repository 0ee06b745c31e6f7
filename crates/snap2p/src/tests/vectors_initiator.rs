//! Where the vectors of an initiator's handshake come from.

use clawchat_testkit::Person;

use super::pair::{ANSWERER_NONCE, Raw, TOKEN, auth, credentials, mainnet_credentials};
use super::vectors::{HandshakeCase, Side, enhex};
use super::vectors_script::{
    Script, answered, bad_proofs, fail, good_proofs, hello_of_version_3, identity, ok,
};
use crate::ErrorCode;
use crate::wire::{Control, KIND_KNOCK, KIND_NOISE, KIND_REFUSAL};

pub(super) fn initiator_cases() -> Vec<HandshakeCase> {
    let mut cases = believed_and_refused();
    cases.extend(accepted());
    cases
}

fn believed_and_refused() -> Vec<HandshakeCase> {
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
            "AUTH_OK in the REFUSAL instead of message 2",
            "R1",
            KIND_REFUSAL,
            ok(),
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

/// The accepted case of each rule, as close to a refused one as the rule allows, and its neighbours.
fn accepted() -> Vec<HandshakeCase> {
    let bob = || Raw::new(Person::Bob, false);
    let wants = |person: Person| {
        let target = person.principal().to_string();
        move |case: &mut HandshakeCase| case.target = Some(target)
    };
    let carol = Raw::new(Person::Carol, false);
    let proof = [carol.auth(), ok()].concat();
    let mut cases = vec![
        answered(
            "whom it asked for answers",
            "A3",
            wants(Person::Carol),
            carol,
            &proof,
        ),
        answered(
            "AUTH_FAIL and more behind it",
            "R2",
            wants(Person::Bob),
            bob(),
            &[fail(ErrorCode::NotAllowed), ok()].concat(),
        ),
        answered(
            "a message behind AUTH_OK in its Noise message",
            "A8",
            wants(Person::Bob),
            bob(),
            &[bob().auth(), ok(), Control::Ping { nonce: 7 }.to_vec()].concat(),
        ),
    ];
    for (name, must, who) in good_proofs(Person::Bob) {
        let raw = Raw::with(who, false);
        let answer = [raw.auth(), ok()].concat();
        cases.push(answered(name, must, |_| {}, raw, &answer));
    }
    let raw = Raw::with(mainnet_credentials(Person::Bob), false);
    let answer = [raw.auth(), ok()].concat();
    cases.push(answered(
        "both of the other network",
        "A6",
        |case| case.identities = vec![identity(&mainnet_credentials(Person::Alice), None)],
        raw,
        &answer,
    ));

    let ignored = "`to` in the responder's HELLO is ignored";
    let mut script = Script::new(Side::Initiator, ignored, "H2", wants(Person::Bob));
    let mut raw = bob();
    raw.open(&script.step(None).pop().unwrap());
    let hello = raw.hello(Some(Person::Carol));
    script.exchange(&mut raw, &hello);
    script.give_noise(&mut raw, &[bob().auth(), ok()].concat());
    cases.push(script.done());

    for (name, must, body) in [
        (
            "refused in clear instead of message 4",
            "F3",
            fail(ErrorCode::AuthInvalid),
        ),
        ("AUTH_OK in the REFUSAL instead of message 4", "R1", ok()),
    ] {
        let mut script = Script::new(Side::Initiator, name, must, wants(Person::Bob));
        let mut raw = bob();
        raw.open(&script.step(None).pop().unwrap());
        let hello = raw.hello(None);
        script.exchange(&mut raw, &hello);
        script.give(KIND_REFUSAL, &body);
        cases.push(script.done());
    }
    cases
}
