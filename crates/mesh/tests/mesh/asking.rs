//! Question by question: what is asked, what is remembered, and what neighbours may tell unasked.

use std::time::Duration;

use clawchat_mesh::{FrameLimits, LinkId, MeshEvent, Message, Origin, Output, StoredAs, receive};

use crate::one::{NOW, One};

const OURS: &str = r#""relay":true,"store":true,"arrival_order":true"#;

fn text(id: &str) -> String {
    let sender = "author".parse().unwrap();
    let message = Message::draft("lobby".parse().unwrap(), sender, "x", None, NOW, id).unwrap();
    message.unsigned().unwrap().text().to_string()
}

fn page(ids: &[&str], rest: &str) -> String {
    let texts: Vec<String> = ids.iter().map(|id| text(id)).collect();
    format!(
        "{{\"type\":\"sync_response\",\"channel_id\":\"lobby\",\"messages\":[{}]{rest}}}",
        texts.join(",")
    )
}

/// Behind which messages a link was asked since last looked.
fn asked(one: &mut One, link: LinkId) -> Vec<String> {
    let sent = one.take_sent(link);
    let after = |text: &String| {
        let (_, rest) = text.split_once("\"after_message_id\":")?;
        Some(rest.split_once(',')?.0.trim_matches('"').to_owned())
    };
    sent.iter().filter_map(after).collect()
}

fn cursor(one: &One, name: &str) -> Option<String> {
    let met = Origin::Place("anywhere".into());
    let key = (name.parse().unwrap(), met, "lobby".parse().unwrap());
    one.log.cursors.get(&key).map(ToString::to_string)
}

fn levels(one: &One) -> usize {
    one.events
        .iter()
        .filter(|event| matches!(event, MeshEvent::Level { .. }))
        .count()
}

#[test]
fn pages_are_asked_until_there_is_no_more_and_the_place_is_remembered() {
    let mut one = One::opaque();
    one.follow("lobby");
    let link = one.neighbour(1, "p", OURS);
    assert_eq!(asked(&mut one, link), ["null"]);
    one.get(link, &page(&["a", "b"], ",\"more\":true"));
    assert_eq!(asked(&mut one, link), ["b"]);
    assert_eq!(cursor(&one, "p").as_deref(), Some("a:b"));
    one.get(link, &page(&["c"], ",\"more\":false"));
    assert_eq!((asked(&mut one, link).len(), levels(&one)), (0, 1));
    let status = &one.mesh.links()[0];
    assert_eq!((status.level, status.behind), (1, 0));
    // On the next link it goes on from there.
    one.mesh.link_closed(link, one.now);
    one.run();
    let link = one.neighbour(2, "p", OURS);
    assert_eq!(asked(&mut one, link), ["c"]);
    // An empty page without `more` is the end as well.
    one.get(link, &page(&[], ""));
    assert_eq!(levels(&one), 2);
    // Nobody asked for this.
    one.get(link, &page(&["z"], ",\"more\":false"));
    assert_eq!(one.log.ids("lobby"), ["a", "b", "c"]);
}

#[test]
fn a_neighbour_tells_where_we_stand() {
    let mut one = One::opaque();
    one.follow("lobby");
    let link = one.neighbour(1, "p", OURS);
    // Not while we are asking: what we ask for goes further.
    one.get(link, &page(&[], ",\"more\":false,\"last\":\"early\""));
    assert_eq!(levels(&one), 1, "the first answer, whatever it says");
    asked(&mut one, link);
    one.get(link, &text("live"));
    one.get(link, &page(&[], ",\"more\":false,\"last\":\"live\""));
    assert_eq!(cursor(&one, "p").as_deref(), Some("a:live"));
    // There is something that could not come live.
    one.get(link, &page(&[], ",\"more\":true,\"last\":\"other\""));
    assert_eq!(asked(&mut one, link), ["other"]);
    assert_eq!(one.mesh.links()[0].behind, 1);
    // More of that while we are asking: once more, then.
    one.get(link, &page(&["n"], ",\"more\":true"));
    assert_eq!(asked(&mut one, link), ["n"]);
    one.get(link, &page(&["m"], ",\"more\":false"));
    assert_eq!(levels(&one), 2);
    // Someone who does not know marks tells nothing.
    let old = one.neighbour(2, "old", r#""store":true"#);
    one.get(old, &page(&[], ""));
    asked(&mut one, old);
    one.get(old, &page(&[], ",\"more\":true,\"last\":\"x\""));
    assert!(asked(&mut one, old).is_empty() && cursor(&one, "old").is_none());
}

#[test]
fn a_hint_while_a_question_is_under_way_is_not_forgotten() {
    let mut one = One::opaque();
    one.follow("lobby");
    one.follow("other");
    let link = one.neighbour(1, "p", OURS);
    assert_eq!(asked(&mut one, link), ["null"]);
    one.get(link, &page(&["a"], ",\"more\":true"));
    // The other channel has its turn; a hint comes before ours has it again.
    assert_eq!(asked(&mut one, link), ["null"]);
    one.get(link, &page(&[], ",\"more\":true,\"last\":\"q\""));
    one.get(
        link,
        r#"{"type":"sync_response","channel_id":"other","messages":[],"more":false}"#,
    );
    assert_eq!(asked(&mut one, link), ["a"]);
    one.get(link, &page(&["b"], ",\"more\":false"));
    assert_eq!(asked(&mut one, link), ["b"], "once more");
    one.get(link, &page(&["c"], ",\"more\":false"));
    assert!(asked(&mut one, link).is_empty());
    assert_eq!(one.mesh.links()[0].level, 2);
}

#[test]
fn a_neighbour_that_makes_no_sense_is_left_until_the_next_round() {
    let mut one = One::opaque();
    one.follow("lobby");
    let link = one.neighbour(1, "p", OURS);
    asked(&mut one, link);
    for _ in 0..4 {
        one.get(link, &page(&[], ",\"more\":true"));
    }
    assert_eq!(asked(&mut one, link).len(), 3);
    let nothing = r#"{"type":"sync_response","channel_id":"lobby","messages":[1,{},null],"more":true}"#;
    one.get(link, nothing);
    assert!(asked(&mut one, link).is_empty());
    assert_eq!(levels(&one), 0);
    one.pass(Duration::from_secs(80));
    assert_eq!(asked(&mut one, link).len(), 1);
    one.get(link, nothing);
    assert!(asked(&mut one, link).is_empty());
}

#[test]
fn four_neighbours_are_asked_for_a_channel_at_once() {
    let mut one = One::opaque();
    one.follow("lobby");
    let links: Vec<LinkId> = (0..7)
        .map(|number| one.neighbour(number, &format!("p{number}"), OURS))
        .collect();
    let questions = |one: &mut One| -> usize { links.iter().map(|link| asked(one, *link).len()).sum() };
    assert_eq!(questions(&mut one), 4);
    one.get(links[0], &page(&[], ",\"more\":false"));
    one.mesh.link_closed(links[1], one.now);
    one.run();
    assert_eq!(questions(&mut one), 2);
    // One that does not answer makes room, too.
    one.pass(Duration::from_secs(30));
    assert_eq!(questions(&mut one), 1);
}

#[test]
fn answers_are_pages_in_the_order_of_arrival() {
    let mut one = One::opaque();
    one.follow("lobby");
    let author = one.neighbour(3, "author", "");
    for id in ["d", "c", "b", "a"] {
        one.get(author, &text(id));
    }
    let (ours, old) = (
        one.neighbour(1, "ours", r#""arrival_order":true"#),
        one.neighbour(2, "old", ""),
    );
    one.sent.clear();
    let ask = |after: &str| {
        format!(
            "{{\"type\":\"sync_request\",\"channel_id\":\"lobby\",\"after_message_id\":{after},\"limit\":3}}"
        )
    };
    for (link, after, answer) in [
        (ours, "null", page(&["d", "c", "b"], ",\"more\":true")),
        (ours, "\"b\"", page(&["a"], ",\"more\":false")),
        (ours, "\"a\"", page(&[], ",\"more\":false")),
        (ours, "\"unknown\"", page(&["d", "c", "b"], ",\"more\":true")),
        (old, "null", page(&["d", "c", "b"], "")),
        (old, "\"b\"", page(&["a"], "")),
        (old, "\"unknown\"", page(&[], "")),
    ] {
        one.get(link, &ask(after));
        assert_eq!(one.take_sent(link), [answer], "{after}");
    }
    assert_eq!(one.mesh.counters().served, 11);
}

#[test]
fn what_a_neighbour_is_told_follows_what_it_was_sent() {
    let mut one = One::opaque();
    one.follow("lobby");
    let (ours, author) = (one.neighbour(1, "ours", OURS), one.neighbour(2, "author", ""));
    one.get(ours, r#"{"type":"subscribe","channel_id":"lobby"}"#);
    one.get(author, &text("1"));
    one.pass(Duration::from_secs(2));
    one.take_sent(ours);
    // It has not asked, so it is told nothing; now it asks.
    one.get(ours, r#"{"type":"sync_request","channel_id":"lobby"}"#);
    assert_eq!(one.take_sent(ours), [page(&["1"], ",\"more\":false")]);
    for id in ["2", "3"] {
        one.get(author, &text(id));
    }
    assert_eq!(one.take_sent(ours), [text("2"), text("3")]);
    // What it brings itself counts, too, and does not come back.
    one.get(ours, &text("4"));
    one.pass(Duration::from_secs(1));
    assert_eq!(one.take_sent(ours), [page(&[], ",\"more\":false,\"last\":\"4\"")]);
    one.pass(Duration::from_secs(5));
    assert!(one.take_sent(ours).is_empty(), "once");
}

#[test]
fn what_entered_the_log_by_another_door_is_fed_all_the_same() {
    let mut one = One::opaque();
    one.follow("lobby");
    let (reader, author) = (one.neighbour(1, "reader", ""), one.neighbour(2, "author", ""));
    one.get(reader, r#"{"type":"subscribe","channel_id":"lobby"}"#);
    one.take_sent(reader);
    one.get(author, &text("1"));
    for id in ["2", "3"] {
        let message = Message::from_text(&text(id)).unwrap().unsigned().unwrap();
        one.log.append(&[message]);
    }
    one.get(author, &text("4"));
    one.get(author, &text("5"));
    let all: Vec<String> = ["1", "2", "3", "4", "5"].iter().map(|id| text(id)).collect();
    assert_eq!(one.take_sent(reader), all);
}

#[test]
fn a_place_is_remembered_after_what_came_up_to_it() {
    let mut one = One::opaque();
    one.follow("lobby");
    let link = one.neighbour(1, "p", OURS);
    let get = |one: &mut One, text: &str| {
        let frame = receive(text.as_bytes(), &FrameLimits::default(), &|_| None, one.now.wall);
        one.mesh.received(link, frame, one.now);
    };
    get(&mut one, &page(&["a", "b"], ",\"more\":false"));
    let output = one.mesh.poll_output();
    let Some(Output::Append { ticket, entries }) = output else {
        panic!("what comes is stored first, not {output:?}");
    };
    assert_eq!(entries.len(), 2);
    assert!(
        one.mesh.poll_output().is_none(),
        "and nothing is remembered or told before it is"
    );
    let outcomes = vec![StoredAs::New { arrival: 1 }, StoredAs::New { arrival: 2 }];
    one.mesh.stored(ticket, outcomes, one.now);
    let outputs: Vec<Output> = std::iter::from_fn(|| one.mesh.poll_output()).collect();
    assert!(matches!(
        outputs[0],
        Output::Event(MeshEvent::Stored { arrival: 1, .. })
    ));
    assert!(matches!(&outputs[2], Output::SaveCursor { cursor, .. } if &**cursor == "a:b"));
    assert!(matches!(outputs[3], Output::Event(MeshEvent::Level { .. })));
}

#[test]
fn an_id_too_long_for_a_cursor_is_not_remembered() {
    let mut one = One::opaque();
    one.follow("lobby");
    let link = one.neighbour(1, "p", OURS);
    let (fits, long) = ("f".repeat(126), "l".repeat(127));
    one.get(link, &page(&[&fits, &long], ",\"more\":true"));
    assert_eq!(cursor(&one, "p"), None);
    one.get(link, &page(&[&long, &fits], ",\"more\":false"));
    assert_eq!(cursor(&one, "p"), Some(format!("a:{fits}")));
}

#[test]
fn a_question_the_log_could_not_answer_is_answered_later_and_not_with_nothing() {
    let mut one = One::opaque();
    one.follow("lobby");
    let author = one.neighbour(1, "author", "");
    one.get(author, &text("a"));
    let link = one.neighbour(2, "p", OURS);
    one.take_sent(link);
    let question = r#"{"type":"sync_request","channel_id":"lobby","after_message_id":null,"limit":10}"#;
    let frame = receive(
        question.as_bytes(),
        &FrameLimits::default(),
        &|_| None,
        one.now.wall,
    );
    one.mesh.received(link, frame, one.now);
    for _ in 0..3 {
        let ticket = std::iter::from_fn(|| one.mesh.poll_output()).find_map(|output| match output {
            Output::ReadPage { ticket, .. } => Some(ticket),
            _ => None,
        });
        one.mesh.store_failed(ticket.expect("the log is asked"), one.now);
        let next = one.mesh.poll_output();
        assert!(
            next.is_none(),
            "neither an answer nor another try at once: {next:?}"
        );
        one.now.mono += Duration::from_secs(1);
        one.mesh.handle_timeout(one.now);
    }
    one.run();
    let sent = one.take_sent(link);
    let answers = sent
        .iter()
        .filter(|text| text.contains("sync_response"))
        .collect::<Vec<_>>();
    assert_eq!(answers.len(), 1, "{sent:?}");
    assert!(answers[0].contains(&text("a")), "{sent:?}");
}
