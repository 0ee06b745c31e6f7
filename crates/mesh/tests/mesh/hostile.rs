//! Neighbours that mean no good, and logs that fail.

use std::time::Duration;

use clawchat_identity::NodeKey;
use clawchat_mesh::{
    Came, CloseReason, Frame, FrameLimits, LinkId, MAX_BODY_BYTES, MeshEvent, MeshLimits, Message, Output,
    Side, StoredAs, receive,
};
use clawchat_mesh::{PeerName, check, read_frame};
use proptest::prelude::*;

use crate::one::{NOW, One};

fn message(channel: &str, id: &str, body: &str) -> String {
    let sender = "author".parse().unwrap();
    Message::draft(channel.parse().unwrap(), sender, body, None, NOW, id)
        .unwrap()
        .to_text()
}

#[test]
fn a_hundred_thousand_subscriptions_are_a_thousand() {
    let mut one = One::opaque();
    one.follow("lobby");
    let (link, other) = (one.neighbour(1, "greedy", ""), one.neighbour(2, "modest", ""));
    one.take_sent(link);
    for number in 0..100_000 {
        one.get(
            link,
            &format!("{{\"type\":\"subscribe\",\"channel_id\":\"channel-{number}\"}}"),
        );
    }
    assert_eq!(one.mesh.links()[0].subscriptions, 1000);
    assert_eq!(
        one.take_sent(link),
        [r#"{"type":"error","code":"rate_limited","message":"Too many subscriptions"}"#]
    );
    assert!(one.closed.is_empty());
    // Read no faster than anybody else; the others are not touched.
    assert!(one.paused.contains(&link) && !one.paused.contains(&other));
    one.get(other, r#"{"type":"subscribe","channel_id":"lobby"}"#);
    assert_eq!(one.mesh.links()[1].subscriptions, 1);
    one.pass(Duration::from_secs(60));
    assert!(one.paused.is_empty());
    // Unsubscribing makes room.
    one.get(link, r#"{"type":"unsubscribe","channel_id":"channel-7"}"#);
    one.get(link, r#"{"type":"subscribe","channel_id":"lobby"}"#);
    assert_eq!(one.mesh.links()[0].subscriptions, 1000);
}

#[test]
fn what_another_may_have_sent_does_not_cost_an_old_neighbour_its_link() {
    let mut one = One::opaque();
    one.follow("lobby");
    let old = one.neighbour(1, "old", "");
    let ours = one.neighbour(2, "ours", r#""arrival_order":true"#);
    for link in [old, ours] {
        one.take_sent(link);
        for number in 0..100 {
            let text = message("lobby", &number.to_string(), "x");
            one.get(link, &text.replace("\"x\"", "5"));
            one.get(link, &text.replace("\"timestamp\":\"2", "\"timestamp\":\"4"));
        }
        assert_eq!(one.take_sent(link).len(), 20);
    }
    // Ours would not have passed it on.
    assert!(!one.closed.contains_key(&old));
    assert_eq!(one.closed.get(&ours), Some(&CloseReason::TooManyErrors));
    one.get(old, &message("lobby", "good", "x"));
    assert_eq!(one.log.ids("lobby"), ["good"]);
}

#[test]
fn garbage_is_answered_for_a_while() {
    let mut one = One::opaque();
    let (link, other) = (one.neighbour(1, "mad", ""), one.neighbour(2, "sane", ""));
    one.take_sent(link);
    for _ in 0..20 {
        one.get(link, "garbage");
    }
    assert_eq!(one.take_sent(link).len(), 20);
    assert!(one.closed.is_empty());
    one.get(link, "garbage");
    assert_eq!(one.closed.get(&link), Some(&CloseReason::TooManyErrors));
    one.get(link, "garbage");
    assert!(one.take_sent(link).is_empty() && !one.closed.contains_key(&other));
}

#[test]
fn who_does_not_shake_hands_is_let_go() {
    let mut one = One::opaque();
    for side in [Side::Accepted, Side::Dialed] {
        let link = one.open(10 + side as u64, side);
        one.pass(Duration::from_millis(9999));
        assert!(!one.closed.contains_key(&link));
        one.pass(Duration::from_millis(1));
        assert_eq!(one.closed.get(&link), Some(&CloseReason::NoHandshake));
    }
}

#[test]
fn a_replay_of_thousands_changes_nothing() {
    let mut one = One::opaque();
    one.follow("lobby");
    let link = one.neighbour(1, "p", "");
    let texts: Vec<String> = (0..3000)
        .map(|number| message("lobby", &number.to_string(), "x"))
        .collect();
    for _ in 0..3 {
        texts.iter().for_each(|text| one.get(link, text));
    }
    assert_eq!(one.log.ids("lobby").len(), 3000);
    assert_eq!(one.mesh.counters().duplicates, 6000);
    let stored = one
        .events
        .iter()
        .filter(|event| matches!(event, MeshEvent::Stored { .. }))
        .count();
    assert_eq!(stored, 3000);
}

#[test]
fn a_reader_that_never_reads_costs_a_window() {
    let mut one = One::opaque();
    one.follow("lobby");
    let reader = one.neighbour(1, "reader", "");
    let writer = one.neighbour(2, "writer", "");
    let fine = one.neighbour(3, "fine", "");
    for link in [reader, fine] {
        one.get(link, r#"{"type":"subscribe","channel_id":"lobby"}"#);
    }
    one.stuck.insert(reader);
    one.take_sent(reader);
    one.take_sent(fine);
    let body = "x".repeat(10_000);
    for number in 0..2000 {
        one.get(writer, &message("lobby", &number.to_string(), &body));
    }
    one.get(reader, r#"{"type":"ping"}"#);
    let sent: usize = one.take_sent(reader).iter().map(String::len).sum();
    let window = MeshLimits::default().window_bytes;
    assert!(sent >= window && sent < window + 20_000, "{sent}");
    assert_eq!(one.take_sent(fine).len(), 2000);
    // When it reads again it gets the rest, in order, from the log where memory has it no more.
    one.stuck.clear();
    one.mesh.written(reader, sent, one.now);
    one.run();
    let rest = one.take_sent(reader);
    assert!(one.log.pages > 0);
    let ids: Vec<String> = rest
        .iter()
        .map(|text| Message::from_text(text).unwrap().id().to_owned())
        .collect();
    let first: usize = ids[0].parse().unwrap();
    assert_eq!(
        ids,
        (first..2000).map(|number| number.to_string()).collect::<Vec<_>>()
    );
}

#[test]
fn sync_requests_are_answered_one_at_a_time() {
    let mut one = One::opaque();
    one.follow("lobby");
    let writer = one.neighbour(2, "writer", "");
    let body = "x".repeat(1000);
    for number in 0..2000 {
        one.get(writer, &message("lobby", &number.to_string(), &body));
    }
    let link = one.neighbour(1, "p", "");
    one.take_sent(link);
    one.stuck.insert(link);
    for _ in 0..50 {
        one.get(
            link,
            r#"{"type":"sync_request","channel_id":"lobby","limit":500}"#,
        );
    }
    let sent = one.take_sent(link);
    assert_eq!(sent.len(), 1, "the next when this one is written");
    assert!(sent[0].len() > 500_000 && sent[0].len() < 1_100_000);
    assert!(one.paused.contains(&link));
    one.stuck.clear();
    one.mesh.written(link, sent[0].len(), one.now);
    one.run();
    assert_eq!(one.take_sent(link).len(), 49);
    assert!(!one.paused.contains(&link));
}

#[test]
fn what_is_too_long_is_refused() {
    let mut one = One::opaque();
    one.follow("lobby");
    let link = one.neighbour(1, "p", "");
    one.take_sent(link);
    let long = message("lobby", "1", &"x".repeat(MAX_BODY_BYTES - 2));
    let payload = format!("\"{}\"", "x".repeat(1024 * 1024));
    let with_payload =
        message("lobby", "2", "").replace("\"body\":\"\"", &format!("\"body\":\"\",\"payload\":{payload}"));
    for text in [
        long.replace("\"xx", "\"xxx"),
        with_payload,
        message("lobby", &"i".repeat(128), "").replace("\"ii", "\"iii"),
        message("lobby", "3", "").replace("lobby", &"c".repeat(257)),
        format!(
            "{{\"type\":\"sync_response\",\"channel_id\":\"lobby\",\"messages\":[{}0]}}",
            "0,".repeat(1000)
        ),
    ] {
        one.get(link, &text);
        assert_eq!(
            one.take_sent(link),
            [r#"{"type":"error","code":"invalid_message","message":"Too long"}"#]
        );
    }
    assert!(one.log.channels.is_empty());
    one.get(link, &long);
    assert_eq!(one.log.ids("lobby"), ["1"]);
}

#[test]
fn channels_nobody_follows_are_passed_on_and_not_stored() {
    let mut one = One::opaque();
    let (from, to, other) = (
        one.neighbour(1, "from", ""),
        one.neighbour(2, "to", ""),
        one.neighbour(3, "other", ""),
    );
    one.get(from, &message("#far", "0", "nobody wants it"));
    one.get(to, r##"{"type":"subscribe","channel_id":"#far"}"##);
    one.take_sent(to);
    let text = message("#far", "1", "x");
    for link in [from, other, to] {
        one.get(link, &text);
    }
    assert_eq!(one.take_sent(to), [text]);
    assert!(one.log.channels.is_empty());
    assert_eq!(
        (one.mesh.counters().passed_on, one.mesh.counters().duplicates),
        (1, 1)
    );
    // A reader that falls behind misses some: nothing is stored.
    one.stuck.insert(to);
    let body = "x".repeat(100_000);
    for number in 0..200 {
        one.get(from, &message("#far", &format!("big-{number}"), &body));
    }
    let sent: usize = one.take_sent(to).iter().map(String::len).sum();
    one.stuck.clear();
    one.mesh.written(to, sent, one.now);
    one.run();
    let counters = one.mesh.counters();
    assert!(counters.missed > 50 && counters.missed < 200, "{counters:?}");
    assert!(one.take_sent(to).last().unwrap().contains("big-199"));
}

#[test]
fn channels_are_kept_for_others() {
    let mut one = One::opaque();
    one.mesh.keep(vec!["#dev".to_owned(), "dm:*".to_owned()], one.now);
    let link = one.neighbour(1, "p", "");
    assert!(
        one.take_sent(link)
            .contains(&r##"{"type":"subscribe","channel_id":"#dev"}"##.to_owned())
    );
    one.get(link, &message("dm:a:b", "1", "x"));
    one.get(link, &message("#other", "2", "x"));
    assert_eq!(one.log.channels.len(), 1);
    assert_eq!(
        one.take_sent(link),
        [r#"{"type":"subscribe","channel_id":"dm:a:b"}"#]
    );
    one.mesh.keep(Vec::new(), one.now);
    one.run();
    assert_eq!(one.take_sent(link).len(), 2, "unsubscribed from both");
    one.get(link, &message("dm:a:b", "3", "x"));
    assert_eq!(one.log.ids("dm:a:b"), ["1"]);
}

#[test]
fn channels_kept_for_nobody_make_room() {
    let mut one = One::opaque();
    one.mesh.keep(vec!["dm:*".to_owned()], one.now);
    let watcher = one.neighbour(9, "watcher", "");
    one.take_sent(watcher);
    for round in 0..3 {
        let link = one.neighbour(round, "p", "");
        for number in 0..1000 {
            one.get(
                link,
                &format!("{{\"type\":\"subscribe\",\"channel_id\":\"dm:{round}:{number}\"}}"),
            );
        }
        assert_eq!(one.take_sent(watcher).len(), 1000);
        one.mesh.link_closed(link, one.now);
        one.run();
        assert_eq!(one.take_sent(watcher).len(), 1000, "unsubscribed again");
    }
}

#[test]
fn a_log_that_fails_is_asked_again_and_nothing_is_lost() {
    let mut one = One::opaque();
    one.follow("lobby");
    let link = one.neighbour(1, "p", "");
    one.take_sent(link);
    let get = |one: &mut One, id: &str| {
        let text = message("lobby", id, "x");
        let frame = receive(text.as_bytes(), &FrameLimits::default(), &|_| None, one.now.wall);
        one.mesh.received(link, frame, one.now);
    };
    get(&mut one, "1");
    let ours = Message::draft(
        "lobby".parse().unwrap(),
        "me".parse().unwrap(),
        "x",
        None,
        NOW,
        "own",
    )
    .unwrap();
    let published = one.mesh.publish(ours.unsigned().unwrap(), one.now).unwrap();
    let batch = |one: &mut One| match one.mesh.poll_output() {
        Some(Output::Append { ticket, entries }) => Some((ticket, entries)),
        None => None,
        other => panic!("{other:?}"),
    };
    let (ticket, entries) = batch(&mut one).unwrap();
    assert_eq!(entries.len(), 1);
    one.mesh.store_failed(ticket, one.now);
    assert!(batch(&mut one).is_none(), "not at once");
    one.now.mono += Duration::from_secs(1);
    one.mesh.handle_timeout(one.now);
    let (ticket, entries) = batch(&mut one).unwrap();
    assert_eq!(entries.len(), 2);
    one.mesh.store_failed(ticket, one.now);
    assert!(matches!(
        one.mesh.poll_output(),
        Some(Output::Event(MeshEvent::PublishFailed { ticket })) if ticket == published
    ));
    one.now.mono += Duration::from_secs(2);
    one.mesh.handle_timeout(one.now);
    let (ticket, entries) = batch(&mut one).unwrap();
    assert_eq!(entries[0].message().id(), "1");
    one.mesh
        .stored(ticket, vec![StoredAs::New { arrival: 1 }], one.now);
    assert!(matches!(
        one.mesh.poll_output(),
        Some(Output::Event(MeshEvent::Stored { arrival: 1, .. }))
    ));
    // Nobody is read from while too much waits.
    for number in 0..9000 {
        get(&mut one, &format!("n{number}"));
    }
    let mut paused = false;
    let (mut ticket, mut count) = (None, 0);
    while let Some(output) = one.mesh.poll_output() {
        match output {
            Output::Pause { link: LinkId(1) } => paused = true,
            Output::Append { ticket: at, entries } => (ticket, count) = (Some(at), entries.len()),
            other => panic!("{other:?}"),
        }
    }
    assert!(paused && count == 1, "{count}");
    one.paused.insert(link);
    one.mesh
        .stored(ticket.unwrap(), vec![StoredAs::New { arrival: 2 }], one.now);
    one.run();
    one.pass(Duration::from_secs(10));
    assert!(one.paused.is_empty());
    assert_eq!(one.log.ids("lobby").len(), 8999);
}

#[test]
fn hands_and_rounds_go_on_without_answers() {
    let mut one = One::opaque();
    one.follow("lobby");
    let link = one.neighbour(1, "silent", r#""store":true"#);
    let asked = |one: &mut One| {
        let sent = one.take_sent(link);
        sent.iter().filter(|text| text.contains("sync_request")).count()
    };
    assert_eq!(asked(&mut one), 1);
    one.pass(Duration::from_secs(31));
    assert_eq!(asked(&mut one), 0, "in the next round");
    one.pass(Duration::from_secs(45));
    assert_eq!(asked(&mut one), 1);
}

proptest! {
    #[test]
    fn every_message_comes_back_from_its_text(
        body in "\\PC{0,20}|[\"\\\\\u{0}-\u{1f}]{0,9}",
        id in "\\PC{1,20}",
        payload in prop::option::of(prop::sample::select(vec!["{}", "[1.0,{\"b\":1,\"a\":2}]", "0", "\"\\ud800\"", "{\"2\":0,\"1\":0}"])),
        seed in any::<u8>(),
    ) {
        let key = NodeKey::from_seed([seed; 32]);
        let name = PeerName::of_key(&key.node_id());
        let draft = Message::draft("lobby".parse().unwrap(), name, &body, payload, NOW, &id).unwrap();
        let signed = draft.sign(&key).unwrap();
        let text = signed.text().to_string();
        let Ok(Frame::Message(read)) = read_frame(text.as_bytes(), &FrameLimits::default(), NOW) else {
            panic!("{text}");
        };
        prop_assert_eq!(&*read, signed.message());
        prop_assert_eq!(read.body(), body);
        prop_assert_eq!(check(*read, Came::Live, &|_| None, NOW).unwrap(), signed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_frame_is_a_panic(frames in prop::collection::vec((0_u64..3, frame()), 1..40)) {
        let mut one = One::opaque();
        one.follow("lobby");
        one.neighbour(0, "a", r#""store":true,"arrival_order":true"#);
        one.neighbour(1, "b", r#""store":true"#);
        one.open(2, Side::Dialed);
        for (link, bytes) in frames {
            one.get_bytes(LinkId(link), &bytes);
            one.pass(Duration::from_secs(3));
        }
    }
}

/// Something like a frame.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "\"type\"",
        "\"message\"",
        "\"handshake\"",
        "\"subscribe\"",
        "\"unsubscribe\"",
        "\"sync_request\"",
        "\"sync_response\"",
        "\"error\"",
        "\"ping\"",
        "\"channel_id\"",
        "\"lobby\"",
        "\"message_id\"",
        "\"sender_id\"",
        "\"body\"",
        "\"payload\"",
        "\"timestamp\"",
        "\"messages\"",
        "\"more\"",
        "\"last\"",
        "true",
        "false",
        "null",
        "1",
        "-1e9",
        "\"version\"",
        "\"peer_id\"",
        "\"x\"",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\\ud800",
        "\u{fffd}",
    ]);
    let pair = (word.clone(), word.clone()).prop_map(|(key, value)| format!("{key}:{value}"));
    let object = prop::collection::vec(pair, 0..9).prop_map(|pairs| format!("{{{}}}", pairs.join(",")));
    let typed = (
        prop::sample::select(vec!["message", "sync_request", "sync_response", "subscribe", "unsubscribe", "handshake"]),
        prop::collection::vec(object.clone(), 0..3),
        prop::sample::select(vec!["\"a\"", "\"b\"", "null", "3"]),
        any::<bool>(),
    )
        .prop_map(|(kind, objects, id, more)| {
            format!(
                "{{\"type\":\"{kind}\",\"version\":1,\"peer_id\":{id},\"channel_id\":\"lobby\",\"message_id\":{id},\"sender_id\":\"s\",\
                 \"body\":\"b\",\"messages\":[{}],\"more\":{more},\"last\":{id},\"after_message_id\":{id}}}",
                objects.join(",")
            )
        });
    prop_oneof![
        typed.prop_map(String::into_bytes),
        object.prop_map(String::into_bytes),
        prop::collection::vec(word, 0..12).prop_map(|words| words.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..40),
    ]
}
