//! One function per kind of answer. Fields that are not there are left out.

use std::fmt::Write as _;

use serde_json::Value;

use super::channels::mesh_place;
use super::{clean, clock, columns, date_time, indented, quoted};

/// What a nickname-less or unknown thing is shown as.
const NOTHING: &str = "-";

/// One message received, as a paragraph.
pub(crate) fn inbound(message: &Value) -> String {
    let when = number(message, "receivedAt")
        .or_else(|| number(message, "timestamp"))
        .unwrap_or(0);
    let mut head = format!("{}  from {}", date_time(when), sender(message));
    let _ = write!(head, "  id {}", text(message, "id"));
    paragraph(head, message)
}

/// One message sent, as a paragraph.
pub(crate) fn outbound(message: &Value) -> String {
    let when = number(message, "timestamp").unwrap_or(0);
    let mut head = format!(
        "{}  to {}  {}",
        date_time(when),
        text(message, "to"),
        text(message, "status")
    );
    let _ = write!(head, "  id {}", text(message, "id"));
    if let Some(error) = message.get("lastError").and_then(Value::as_str) {
        let attempts = number(message, "attempts").unwrap_or(0);
        let _ = write!(head, "  ({}; attempts: {attempts})", clean(error));
    }
    paragraph(head, message)
}

/// One message received, in a line where the text allows: for following along.
pub(crate) fn line(message: &Value) -> String {
    let when = number(message, "receivedAt")
        .or_else(|| number(message, "timestamp"))
        .unwrap_or(0);
    format!(
        "{} {} [{}]: {}",
        clock(when),
        sender(message),
        text(message, "id"),
        indented(&content(message), "    ")
    )
}

/// What became of a message just sent.
pub(crate) fn receipt(receipt: &Value) -> String {
    format!("{}  {}", text(receipt, "status"), text(receipt, "id"))
}

/// `{"status": …}`, and whom it is about.
pub(crate) fn status_word(answer: &Value) -> String {
    let mut words = text(answer, "status").replace('_', " ");
    if let Some(principal) = answer.get("principal").and_then(Value::as_str) {
        let _ = write!(words, "  {}", clean(principal));
    }
    words
}

/// One line per known peer.
pub(crate) fn peer(peers: &Value) -> String {
    let mut rows = Vec::new();
    for peer in list(peers) {
        let seen = match number(peer, "lastSeen") {
            Some(when) if when > 0 => format!("seen {}", date_time(when)),
            _ => "never seen".to_owned(),
        };
        let connected = peer.get("connected").and_then(Value::as_bool).unwrap_or(false);
        let mut row = vec![
            optional(peer, "alias"),
            text(peer, "principal"),
            if connected { "connected".to_owned() } else { seen },
            first_address(peer),
        ];
        if let Some(name) = peer.get("displayName").and_then(Value::as_str) {
            row.push(quoted(name));
        }
        rows.push(row);
    }
    if rows.is_empty() {
        return "No peers yet. Exchange invites: clawchat invite create, clawchat peers add INVITE"
            .to_owned();
    }
    columns(&rows)
}

/// `peers resolve`: one address a line.
pub(crate) fn whereabouts(found: &Value) -> String {
    let addresses = list(found.get("multiaddrs").unwrap_or(&Value::Null));
    let lines: Vec<&str> = addresses.filter_map(Value::as_str).collect();
    if lines.is_empty() {
        return "No connected peer knows where it is. With an invite from it: clawchat peers add INVITE"
            .to_owned();
    }
    lines.join("\n")
}

/// `doctor`: one step a line, with what to do.
pub(crate) fn checks(report: &Value) -> String {
    let mut lines = Vec::new();
    for check in list(report.get("checks").unwrap_or(&Value::Null)) {
        let mark = match text(check, "state").as_str() {
            "ok" => "ok    ",
            "note" => "note  ",
            _ => "FAILED",
        };
        lines.push(format!(
            "{mark}  {}: {}",
            text(check, "check"),
            text(check, "detail")
        ));
        if let Some(hint) = check.get("hint").and_then(Value::as_str) {
            lines.push(format!("        {}", clean(hint)));
        }
    }
    lines.join("\n")
}

/// The first of a peer's addresses, and how many more there are.
fn first_address(peer: &Value) -> String {
    let all = optional(peer, "address");
    match all.split_once(',') {
        Some((first, more)) => format!("{first} (+{} more)", more.split(',').count()),
        None => all,
    }
}

/// Who answered at an address.
pub(crate) fn connected(answer: &Value) -> String {
    format!("connected  {}", text(answer, "principal"))
}

/// One identity in full.
pub(crate) fn identity(identity: &Value) -> String {
    let mut rows = Vec::new();
    for (name, field) in [
        ("Principal", "principal"),
        ("Address", "address"),
        ("Public key", "publicKey"),
        ("Nickname", "nick"),
        ("Shown as", "displayName"),
        ("Status", "status"),
    ] {
        row(&mut rows, name, identity.get(field));
    }
    with_words(columns(&rows), identity)
}

/// The identities a gateway hosts.
pub(crate) fn identities(answer: &Value) -> String {
    let mut rows = Vec::new();
    for identity in list(answer.get("identities").unwrap_or(&Value::Null)) {
        let flag = |name: &str| identity.get(name).and_then(Value::as_bool).unwrap_or(false);
        let peers: Vec<String> = list(identity.get("allowedRemotePeers").unwrap_or(&Value::Null))
            .filter_map(Value::as_str)
            .map(|peer| clean(peer).into_owned())
            .collect();
        let peers = match peers.as_slice() {
            [] => "nobody remote may write".to_owned(),
            [all] if all == "*" => "everyone may write".to_owned(),
            some => format!("may write: {}", some.join(", ")),
        };
        let loaded = if flag("loaded") { "loaded" } else { "not loaded" };
        let autoload = if flag("autoload") {
            "autoload"
        } else {
            "no autoload"
        };
        rows.push(vec![
            optional(identity, "nick"),
            text(identity, "principal"),
            loaded.to_owned(),
            autoload.to_owned(),
            peers,
        ]);
    }
    if rows.is_empty() {
        "No identities.".to_owned()
    } else {
        columns(&rows)
    }
}

/// A gateway just set up.
pub(crate) fn initialized(answer: &Value) -> String {
    let mut rows = Vec::new();
    for (name, field) in [
        ("Principal", "principal"),
        ("Nickname", "nick"),
        ("Network", "network"),
        ("Port", "p2pPort"),
    ] {
        row(&mut rows, name, answer.get(field));
    }
    let body = format!("The gateway is set up.\n{}", columns(&rows));
    format!(
        "{}Start it with: clawchat daemon start\n",
        with_words(body, answer)
    )
}

/// A daemon just started.
pub(crate) fn started(answer: &Value) -> String {
    let mut rows = Vec::new();
    row(&mut rows, "Principal", answer.get("principal"));
    row(&mut rows, "Peer id", answer.get("peerId"));
    addresses(&mut rows, answer);
    format!(
        "The daemon is running (process {}).\n{}",
        text(answer, "pid"),
        columns(&rows)
    )
}

/// What the daemon is doing.
pub(crate) fn daemon_status(answer: &Value) -> String {
    if answer.get("running").and_then(Value::as_bool) != Some(true) {
        return "The daemon is not running. Start it with: clawchat daemon start".to_owned();
    }
    let mut rows = Vec::new();
    for (name, field) in [
        ("Version", "version"),
        ("Principal", "principal"),
        ("Peer id", "peerId"),
        ("Port", "p2pPort"),
    ] {
        row(&mut rows, name, answer.get(field));
    }
    addresses(&mut rows, answer);
    let reach = answer.get("nat").and_then(|nat| nat.get("summary"));
    row(&mut rows, "Reachable", reach);
    row(&mut rows, "Received", answer.get("inboxCount"));
    row(&mut rows, "Sent", answer.get("outboxCount"));
    for (index, identity) in list(answer.get("loadedIdentities").unwrap_or(&Value::Null)).enumerate() {
        let label = if index == 0 { "Identities" } else { "" };
        rows.push(vec![
            label.to_owned(),
            format!("{}  {}", optional(identity, "nick"), text(identity, "principal")),
        ]);
    }
    for (index, problem) in import_problems(answer).into_iter().enumerate() {
        let label = if index == 0 { "Import" } else { "" };
        rows.push(vec![label.to_owned(), clean(&problem).into_owned()]);
    }
    let connected: Vec<&Value> = list(answer.get("connectedPeers").unwrap_or(&Value::Null)).collect();
    // A mesh peer by itself has no such peers.
    if connected.is_empty() && (answer.get("connectedPeers").is_some() || answer.get("mesh").is_none()) {
        rows.push(vec!["Connected".to_owned(), "to nobody".to_owned()]);
    }
    for (index, peer) in connected.into_iter().enumerate() {
        let label = if index == 0 { "Connected" } else { "" };
        rows.push(vec![label.to_owned(), shown(peer)]);
    }
    mesh_place(&mut rows, answer.get("mesh").unwrap_or(&Value::Null));
    wakes(&mut rows, answer.get("wake").unwrap_or(&Value::Null));
    format!("The daemon is running.\n{}", columns(&rows))
}

/// What could not be taken over from the TypeScript version, if a status or a `started` event tells of any: a sentence
/// for each file, with the place.
pub(crate) fn import_problems(answer: &Value) -> Vec<String> {
    let problems = answer.get("importProblems").unwrap_or(&Value::Null);
    list(problems)
        .map(|problem| {
            let place: String = ["line", "column"]
                .iter()
                .filter_map(|name| problem.get(name).and_then(Value::as_u64))
                .map(|number| format!(":{number}"))
                .collect();
            format!(
                "{}{place}: {}",
                optional(problem, "file"),
                optional(problem, "error")
            )
        })
        .collect()
}

/// How waking agents goes, if anybody was to be woken.
fn wakes(rows: &mut Vec<Vec<String>>, wake: &Value) {
    let count = |name| number(wake, name).unwrap_or(0);
    let (sent, failed) = (count("sent"), count("failed"));
    if sent + failed > 0 {
        let mut words = format!("{sent} sent, {failed} failed");
        if let Some(error) = wake.get("lastError").and_then(Value::as_str) {
            let _ = write!(words, " ({})", clean(error));
        }
        rows.push(vec!["Wakes".to_owned(), words]);
    }
    for pause in list(wake.get("paused").unwrap_or(&Value::Null)) {
        let until = clock(number(pause, "until").unwrap_or(0));
        let words = format!("paused for {} until {until}", text(pause, "peer"));
        rows.push(vec![String::new(), words]);
    }
}

/// A gateway that is up.
pub(crate) fn up(answer: &Value) -> String {
    let mut rows = Vec::new();
    row(&mut rows, "Principal", answer.get("principal"));
    row(&mut rows, "Nickname", answer.get("nick"));
    few_addresses(&mut rows, answer);
    row(&mut rows, "Password", answer.get("passwordFile"));
    row(&mut rows, "Invite", answer.get("invite"));
    with_words(format!("ClawChat is up.\n{}", columns(&rows)), answer)
}

fn paragraph(mut head: String, message: &Value) -> String {
    if let Some(answered) = message.get("replyTo").and_then(Value::as_str) {
        let _ = write!(head, "  re {}", clean(answered));
    }
    let content = content(message);
    if !content.is_empty() {
        let _ = write!(head, "\n    {}", indented(&content, "    "));
    }
    if let Some(payload) = message.get("payload").filter(|payload| !payload.is_null()) {
        let _ = write!(head, "\n    payload {}", clean(&payload.to_string()));
    }
    head
}

fn sender(message: &Value) -> String {
    let principal = text(message, "from");
    let nick = message.get("fromNick").and_then(Value::as_str);
    let mut sender = match nick {
        Some(nick) if !nick.is_empty() => format!("{} ({principal})", clean(nick)),
        _ => principal,
    };
    if let Some(name) = message.get("fromDisplayName").and_then(Value::as_str)
        && nick != Some(name)
    {
        let _ = write!(sender, " {}", quoted(name));
    }
    sender
}

/// Old daemons let contents through that are not text.
fn content(message: &Value) -> String {
    match message.get("content") {
        Some(Value::String(content)) => content.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn addresses(rows: &mut Vec<Vec<String>>, answer: &Value) {
    for (index, address) in list(answer.get("multiaddrs").unwrap_or(&Value::Null)).enumerate() {
        rows.push(vec![
            if index == 0 {
                "Addresses".to_owned()
            } else {
                String::new()
            },
            shown(address),
        ]);
    }
}

/// The addresses others can use over TCP and QUIC, without those of this machine or its own wire alone. All of
/// them when that leaves none.
fn few_addresses(rows: &mut Vec<Vec<String>>, answer: &Value) {
    let elsewhere = |address: &&Value| {
        let text = address.as_str().unwrap_or_default();
        !["/ip4/127.", "/ip6/::1/", "/ip6/fe80:"]
            .iter()
            .any(|near| text.starts_with(near))
            && !text.contains("/ws")
    };
    let all = answer.get("multiaddrs").unwrap_or(&Value::Null);
    let few: Vec<&Value> = list(all).filter(elsewhere).collect();
    if few.is_empty() {
        return addresses(rows, answer);
    }
    for (index, address) in few.into_iter().enumerate() {
        rows.push(vec![
            if index == 0 {
                "Addresses".to_owned()
            } else {
                String::new()
            },
            shown(address),
        ]);
    }
}

fn with_words(mut text: String, answer: &Value) -> String {
    if let Some(words) = answer.get("mnemonic").and_then(Value::as_str) {
        let _ = write!(
            text,
            "\nRecovery words. Write them down and keep them safe: they are the only way back to this identity.\n  {}\n\n",
            clean(words)
        );
    }
    text
}

fn row(rows: &mut Vec<Vec<String>>, name: &str, value: Option<&Value>) {
    if let Some(value) = value.filter(|value| !value.is_null()) {
        rows.push(vec![name.to_owned(), shown(value)]);
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => clean(text).into_owned(),
        Value::Null => NOTHING.to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            clean(&value.to_string()).into_owned()
        }
    }
}

pub(super) fn text(object: &Value, name: &str) -> String {
    object.get(name).map_or_else(|| NOTHING.to_owned(), shown)
}

fn optional(object: &Value, name: &str) -> String {
    match object.get(name).and_then(Value::as_str) {
        Some(text) if !text.is_empty() => clean(text).into_owned(),
        _ => NOTHING.to_owned(),
    }
}

pub(super) fn number(object: &Value, name: &str) -> Option<u64> {
    object.get(name).and_then(Value::as_u64)
}

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_received_message_is_a_paragraph() {
        let message = json!({
            "id": "00ff", "from": "stacks:STA", "fromNick": "al\u{1b}ice", "to": "stacks:STB",
            "content": "two\nlines\u{7}", "timestamp": 0, "receivedAt": 1_795_253_412_000_u64, "status": "delivered",
            "payload": {"a": 1}, "replyTo": "aa",
        });
        assert_eq!(
            inbound(&message),
            "2026-11-21 09:30:12Z  from al·ice (stacks:STA)  id 00ff  re aa\n    two\n    lines·\n    payload {\"a\":1}"
        );
        assert_eq!(
            line(&message),
            "09:30:12Z al·ice (stacks:STA) [00ff]: two\n    lines·"
        );
    }

    #[test]
    fn a_name_somebody_chose_stands_in_quotes_behind_the_principal() {
        let mut message = json!({
            "id": "00ff", "from": "stacks:STA", "fromDisplayName": "Zo\u{eb}", "content": "hi", "receivedAt": 0,
        });
        assert_eq!(line(&message), "00:00:00Z stacks:STA \"Zoë\" [00ff]: hi");
        message["fromNick"] = json!("zoe");
        assert_eq!(line(&message), "00:00:00Z zoe (stacks:STA) \"Zoë\" [00ff]: hi");
        assert!(inbound(&message).contains("from zoe (stacks:STA) \"Zoë\"  id 00ff"));
        message["fromDisplayName"] = json!("zoe");
        assert_eq!(
            line(&message),
            "00:00:00Z zoe (stacks:STA) [00ff]: hi",
            "said once"
        );
        // A daemon of another version may let through what ours does not.
        message["fromDisplayName"] = json!("x\" (stacks:STB)\u{1b}[2J\u{202e}\n");
        assert_eq!(
            line(&message),
            "00:00:00Z zoe (stacks:STA) \"x' (stacks:STB)·[2J··\" [00ff]: hi"
        );
        message["fromDisplayName"] = json!(7);
        assert_eq!(line(&message), "00:00:00Z zoe (stacks:STA) [00ff]: hi");
    }

    #[test]
    fn a_sent_message_tells_why_it_waits() {
        let message = json!({
            "id": "00ff", "from": "stacks:STA", "to": "stacks:STB", "content": "hi", "timestamp": 0,
            "status": "pending", "attempts": 3, "lastError": "unreachable",
        });
        assert_eq!(
            outbound(&message),
            "1970-01-01 00:00:00Z  to stacks:STB  pending  id 00ff  (unreachable; attempts: 3)\n    hi"
        );
    }

    #[test]
    fn a_stopped_and_a_running_daemon() {
        assert!(daemon_status(&json!({"running": false})).starts_with("The daemon is not running."));
        let running = daemon_status(&json!({
            "running": true, "principal": "stacks:STA", "peerId": "12D3", "p2pPort": 9000, "multiaddrs": ["/a", "/b"],
            "connectedPeers": [], "inboxCount": 1, "outboxCount": 2, "version": "0.1.0",
            "nat": {"reachability": "relayed", "summary": "reachable through one relay"},
            "loadedIdentities": [{"principal": "stacks:STA", "nick": "alice"}, {"principal": "stacks:STB"}],
        }));
        assert_eq!(
            running,
            "The daemon is running.\n\
             Version     0.1.0\n\
             Principal   stacks:STA\n\
             Peer id     12D3\n\
             Port        9000\n\
             Addresses   /a\n            /b\n\
             Reachable   reachable through one relay\n\
             Received    1\n\
             Sent        2\n\
             Identities  alice  stacks:STA\n            -  stacks:STB\n\
             Connected   to nobody\n"
        );
    }

    #[test]
    fn wakes_are_shown_once_there_are_some() {
        let status = |wake: Value| daemon_status(&json!({"running": true, "wake": wake}));
        assert!(!status(json!({"sent": 0, "failed": 0, "paused": []})).contains("Wakes"));
        let shown = status(json!({
            "sent": 2, "failed": 1, "lastError": "openclaw: ended", "paused": [{"peer": "stacks:STB", "until": 0}],
        }));
        assert!(
            shown.contains("Wakes      2 sent, 1 failed (openclaw: ended)\n"),
            "{shown}"
        );
        assert!(shown.contains("paused for stacks:STB until "), "{shown}");
    }

    #[test]
    fn hosted_identities_and_peers_are_tables() {
        let hosted = json!({"identities": [
            {"principal": "stacks:STA", "nick": "alice", "autoload": true, "allowedRemotePeers": ["*"], "loaded": true},
            {"principal": "stacks:STB", "nick": null, "autoload": false, "allowedRemotePeers": [], "loaded": false},
        ]});
        assert_eq!(
            identities(&hosted),
            "alice  stacks:STA  loaded      autoload     everyone may write\n\
             -      stacks:STB  not loaded  no autoload  nobody remote may write\n"
        );
        let peers = json!([{"principal": "stacks:STB", "address": "/a", "alias": "bob", "lastSeen": 0, "connected": true}]);
        assert_eq!(peer(&peers), "bob  stacks:STB  connected  /a\n");
        let peers = json!([{"principal": "stacks:STB", "address": "/a,/b,/c", "connected": true}]);
        assert_eq!(peer(&peers), "-  stacks:STB  connected  /a (+2 more)\n");
        assert!(peer(&json!([])).starts_with("No peers yet."));
    }

    #[test]
    fn up_shows_the_addresses_others_can_use() {
        let mut answer = json!({"principal": "stacks:STA", "multiaddrs": [
            "/ip4/10.0.0.1/tcp/9001/ws/p2p/x", "/ip4/127.0.0.1/tcp/9000/p2p/x", "/ip6/fe80::1/tcp/9000/p2p/x",
            "/ip4/10.0.0.1/tcp/9000/p2p/x",
        ]});
        assert_eq!(
            up(&answer),
            "ClawChat is up.\nPrincipal  stacks:STA\nAddresses  /ip4/10.0.0.1/tcp/9000/p2p/x\n"
        );
        answer["multiaddrs"] = json!(["/ip4/127.0.0.1/tcp/9000/p2p/x"]);
        assert!(up(&answer).ends_with("Addresses  /ip4/127.0.0.1/tcp/9000/p2p/x\n"));
    }

    #[test]
    fn answers_of_another_version_are_shown_as_far_as_they_go() {
        for view in [
            inbound,
            outbound,
            line,
            receipt,
            identity,
            identities,
            initialized,
            started,
            daemon_status,
            up,
            peer,
        ] {
            for odd in [
                json!(null),
                json!([]),
                json!({"multiaddrs": 3}),
                json!({"running": true, "nick": {}}),
            ] {
                let _ = view(&odd);
            }
        }
    }
}
