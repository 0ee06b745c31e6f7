//! `peers` and `connect`.

use std::time::Duration;

use clawchat_ipc::{ErrorCode, Request};
use clawchat_types::Principal;
use serde_json::{Value, json};

use super::Context;
use crate::args::{ConnectArgs, PeersCommand};
use crate::failure::{Failure, Outcome};
use crate::human;
use crate::link::Link;

/// What every invite begins with.
const INVITE_PREFIX: &str = "clawchat:";
/// How long asking another peer may take.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(15);

/// `peers …`.
pub(super) fn peers(context: &Context, command: PeersCommand) -> Outcome {
    match command {
        PeersCommand::List => context
            .screen
            .answer(&list(context, &mut context.link()?)?, human::peer),
        PeersCommand::Add { peer, address, alias } => {
            let request = addition(peer, address, alias)?;
            let added = context.link()?.call(context.acting(), request)?;
            context
                .screen
                .answer(&with_status("added", added), human::status_word)
        }
        PeersCommand::Resolve { who, through } => {
            let request = Request::PeerResolve {
                principal: who,
                through,
            };
            // The peer that is asked may take its time.
            let found = context
                .link()?
                .call_waiting(context.acting(), request, EXCHANGE_LIMIT)?;
            context.screen.answer(&found, human::whereabouts)
        }
        PeersCommand::Remove { who } => {
            let mut link = context.link()?;
            let principal = known(&list(context, &mut link)?, &who)?;
            link.call(
                context.acting(),
                Request::PeerRemove {
                    principal: principal.clone(),
                },
            )?;
            context.screen.answer(
                &json!({"status": "removed", "principal": principal}),
                human::status_word,
            )
        }
    }
}

/// `connect`.
pub(super) fn connect(context: &Context, args: &ConnectArgs) -> Outcome {
    if pasted_invite(&args.multiaddr).is_some() {
        return Err(Failure::usage(
            "this is an invite, not an address",
            "take it with: clawchat peers add INVITE",
        ));
    }
    let request = Request::Connect {
        multiaddr: args.multiaddr.clone(),
    };
    let answer = context.link()?.call(context.acting(), request)?;
    context.screen.answer(&answer, human::connected)
}

fn list(context: &Context, link: &mut Link) -> Outcome<Value> {
    link.call(context.acting(), Request::Peers {})
}

/// What `peers add` asks for: an invite, or a principal and where it is.
fn addition(peer: String, address: Option<String>, alias: Option<String>) -> Outcome<Request> {
    let (principal, address, invite) = match (pasted_invite(&peer), address) {
        (Some(invite), None) => (None, None, Some(invite)),
        (Some(_), Some(_)) => {
            return Err(Failure::usage(
                "an invite has its addresses in it",
                "leave ADDRESS out; put an invite that was wrapped into quotes",
            ));
        }
        (None, Some(address)) => (Some(parsed(&peer)?), Some(address), None),
        (None, None) => {
            return Err(Failure::usage(
                "ADDRESS is missing",
                "say where the peer is, as /ip4/…/tcp/…/p2p/… or host:port, or give an invite",
            ));
        }
    };
    Ok(Request::PeerAdd {
        principal,
        address,
        alias,
        invite,
    })
}

/// The invite in what somebody pasted: with spaces or quotes around it, the word "Invite" that `up` prints in front, or a
/// capital letter that a phone made.
fn pasted_invite(text: &str) -> Option<String> {
    let around = |c: char| c.is_whitespace() || "'\"`<>“”‘’".contains(c);
    let text = text.trim_matches(around);
    let text = text
        .strip_prefix("Invite")
        .map_or(text, |rest| rest.trim_start_matches([':', ' ']));
    let prefix = text.get(..INVITE_PREFIX.len())?;
    prefix
        .eq_ignore_ascii_case(INVITE_PREFIX)
        .then(|| format!("{INVITE_PREFIX}{}", &text[INVITE_PREFIX.len()..]))
}

fn parsed(principal: &str) -> Outcome<Principal> {
    principal.parse().map_err(|error| {
        Failure::new(
            ErrorCode::InvalidRequest,
            format!("{principal:?} is not a principal: {error}"),
        )
        .hint("a principal looks like stacks:ST… or stacks:SP…")
    })
}

/// The principal of a known peer, by principal or alias. The socket command itself is content with peers that
/// were never there; a person who mistyped wants to know.
fn known(peers: &Value, who: &str) -> Outcome<String> {
    let named = |peer: &&Value, field: &str| peer.get(field).and_then(Value::as_str) == Some(who);
    let peers = || peers.as_array().into_iter().flatten();
    peers()
        .find(|peer| named(peer, "principal"))
        .or_else(|| peers().find(|peer| named(peer, "alias")))
        .and_then(|peer| peer.get("principal")?.as_str())
        .map(str::to_owned)
        .ok_or_else(|| {
            Failure::new(ErrorCode::NoSuchPeer, format!("no peer {who:?}")).hint("see: clawchat peers list")
        })
}

/// An answer with a status of ours, unless it has one.
pub(super) fn with_status(status: &str, mut answer: Value) -> Value {
    match answer.as_object_mut() {
        Some(object) => {
            object.entry("status").or_insert_with(|| Value::from(status));
            answer
        }
        None => json!({"status": status}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_added_by_invite_or_by_principal_and_address() {
        let who = "stacks:ST3JJPDR32NBV4W4810F9S8AW2ESRMJHG9KPRBSM2".to_owned();
        let invite = "clawchat:abc".to_owned();
        assert!(matches!(
            addition(invite.clone(), None, None),
            Ok(Request::PeerAdd { invite: Some(_), .. })
        ));
        assert!(matches!(
            addition(who.clone(), Some("host:9000".to_owned()), None),
            Ok(Request::PeerAdd {
                principal: Some(_),
                address: Some(_),
                invite: None,
                ..
            })
        ));
        for (peer, address) in [
            (invite, Some("host:9000".to_owned())),
            (who, None),
            ("bob".to_owned(), Some("h:1".to_owned())),
        ] {
            assert_eq!(addition(peer, address, None).unwrap_err().exit(), 2);
        }
    }

    #[test]
    fn an_invite_is_found_in_what_was_pasted() {
        for text in [
            "clawchat:abc.def",
            " clawchat:abc.def\n",
            "'clawchat:abc.def'",
            "“clawchat:abc.def”",
            "<clawchat:abc.def>",
            "Clawchat:abc.def",
            "Invite     clawchat:abc.def",
            "Invite: clawchat:abc.def",
        ] {
            assert_eq!(pasted_invite(text).as_deref(), Some("clawchat:abc.def"), "{text}");
        }
        for text in ["", "stacks:ST1", "clawchat", "ünïcödé", "https://clawchat:abc"] {
            assert_eq!(pasted_invite(text), None, "{text}");
        }
    }

    #[test]
    fn peers_are_known_by_principal_first_and_by_alias() {
        let peers = json!([
            {"principal": "stacks:STA", "alias": "stacks:STB"},
            {"principal": "stacks:STB", "alias": "bob"},
        ]);
        assert_eq!(known(&peers, "stacks:STB").unwrap(), "stacks:STB");
        assert_eq!(known(&peers, "bob").unwrap(), "stacks:STB");
        assert_eq!(known(&peers, "carol").unwrap_err().exit(), 4);
        assert_eq!(known(&Value::Null, "bob").unwrap_err().exit(), 4);
    }
}
