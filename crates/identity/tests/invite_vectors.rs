//! Invites are read, and refused for the causes, that `spec/invite.md` says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::PathBuf;

use clawchat_identity::{Invite, InviteError, personal_token, token_digest};
use clawchat_types::{Network, UnixSeconds};
use common::{integer, list, text};
use serde_json::{Value, json};

fn cases() -> Value {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/identity/invites.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn outcome(case: &Value) -> Value {
    let network = match text(case, "network") {
        "mainnet" => Network::Mainnet,
        _ => Network::Testnet,
    };
    let now = UnixSeconds(integer(case, "now"));
    let read = Invite::from_text(text(case, "invite")).and_then(|invite| invite.verify(network, now));
    let invite = match read {
        Ok(invite) => invite,
        Err(error) => return json!(cause(error)),
    };
    let principal = invite.card().principal();
    let mut outcome = json!({ "principal": principal, "card_hex": hex::encode(invite.card().to_bytes()) });
    if let Some(token) = invite.token() {
        outcome["token_hex"] = json!(hex::encode(token.as_bytes()));
        outcome["digest_hex"] = json!(hex::encode(token_digest(token.as_bytes())));
        // That of the principal it leads to, for want of another.
        outcome["personal_hex"] = json!(hex::encode(personal_token(token, principal).as_bytes()));
    }
    outcome
}

fn cause(error: InviteError) -> &'static str {
    match error {
        InviteError::Foreign => "foreign",
        InviteError::Character => "character",
        InviteError::Truncated => "truncated",
        InviteError::TooLong => "too_long",
        InviteError::Token => "token",
        InviteError::Card(_) => "card",
        InviteError::WrongNetwork { .. } => "wrong_network",
        InviteError::Expired { .. } => "expired",
        InviteError::NotYetValid { .. } => "not_yet_valid",
        InviteError::Forged(_) => "forged",
        _ => "another cause",
    }
}

#[test]
fn the_recorded_invites_are_read_and_refused() {
    let file = cases();
    for case in list(&file, "accepted") {
        assert_eq!(outcome(case), case["expected"], "{}", text(case, "name"));
    }
    for case in list(&file, "refused") {
        assert_eq!(outcome(case), case["cause"], "{}", text(case, "name"));
    }
}
