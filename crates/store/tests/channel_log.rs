//! What every channel log promises. One suite, run for each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/channels.rs"]
mod channels;
mod common;

use std::time::Duration;

use clawchat_store::{
    Appended, ChannelLog, ChannelQuota, HistoryFrom, LogOutcome, LogQuota, LogWrite, MAX_CHANNEL_BYTES,
    MAX_CHANNELS, MAX_CURSORS, MAX_KEYS, MemoryChannelLog, NewEntry, SledChannelLog, StoreError,
};
use clawchat_types::{NodeId, UnixMillis};

use channels::{NOW, append, appended, displayed, entry, everything, ids, name, names, options, small};

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $name() {
                super::$name(&|quota| Box::new(super::MemoryChannelLog::new(quota)));
            })*
        }
        mod sled {
            $(#[test] fn $name() {
                let folder = super::common::scratch();
                let place = folder.path().join("log");
                super::$name(&|quota| {
                    let _ = std::fs::remove_dir_all(&place);
                    let opened = super::SledChannelLog::open(&place, &super::common::KEY, super::options(quota));
                    Box::new(opened.unwrap())
                });
                // Large entries too stay out of the engine's separate files, which it never syncs.
                assert_eq!(std::fs::read_dir(place.join("sled/blobs")).unwrap().count(), 0);
            })*
        }
    };
}

contract!(
    a_new_log_is_empty,
    an_entry_reads_back_as_it_came,
    an_id_is_taken_once_in_each_channel,
    a_verified_copy_takes_the_place_of_an_unverified_one,
    pages_go_on_where_the_last_one_ended,
    pages_end_at_their_bytes_but_have_one_entry,
    history_is_ordered_by_time_and_id_and_goes_both_ways,
    the_oldest_arrivals_give_way,
    what_gave_way_is_not_taken_again,
    a_time_ahead_of_the_clock_does_not_keep_out_what_comes_later,
    old_entries_of_channels_kept_for_others_expire,
    channels_kept_for_others_give_way_first,
    an_entry_above_the_quota_is_refused,
    a_channel_no_longer_followed_shrinks,
    a_forgotten_channel_goes_on_behind_its_arrivals,
    the_quietest_channel_gives_way_to_a_new_one,
    cursors_are_kept_per_neighbour_and_channel,
    cursors_are_bounded_and_our_own_notes_stay,
    the_first_key_of_an_id_stays,
    the_oldest_key_gives_way,
    nothing_of_a_refused_batch_is_kept,
    large_entries_read_back_whole,
    a_closed_log_says_so,
);

type Make<'a> = &'a dyn Fn(LogQuota) -> Box<dyn ChannelLog>;

fn new(arrival: u64) -> Appended {
    Appended::New { arrival }
}

fn fill(log: &dyn ChannelLog, channel: &str, numbers: std::ops::RangeInclusive<u64>) {
    log.commit(numbers.map(|number| append(channel, number)).collect())
        .unwrap();
}

fn arrivals(log: &dyn ChannelLog, channel: &str) -> Vec<u64> {
    let page = log.page(channel, 0, usize::MAX, usize::MAX).unwrap();
    page.iter().map(|entry| entry.arrival).collect()
}

fn a_new_log_is_empty(make: Make<'_>) {
    let log = make(LogQuota::default());
    assert_eq!(log.channels().unwrap(), []);
    assert_eq!(log.channel("lobby").unwrap(), None);
    assert_eq!(log.page("lobby", 0, 10, 1000).unwrap(), []);
    assert_eq!(log.history("lobby", HistoryFrom::Newest, 10).unwrap(), []);
    assert_eq!(log.arrival_of("lobby", "x").unwrap(), None);
    assert_eq!(log.entry("lobby", "x").unwrap(), None);
    assert_eq!(log.cursor("peer", "lobby").unwrap(), None);
    assert_eq!(log.key_of("peer").unwrap(), None);
    assert_eq!(log.commit(Vec::new()).unwrap(), []);
}

fn an_entry_reads_back_as_it_came(make: Make<'_>) {
    let log = make(LogQuota::default());
    let came = NewEntry {
        verified: true,
        ..entry("lobby", 1)
    };
    assert_eq!(appended(&*log, came.clone()), new(1));
    let kept = log.entry("lobby", &came.id).unwrap().unwrap();
    assert_eq!(
        (
            kept.arrival,
            &kept.id,
            kept.time,
            kept.received_at,
            kept.verified,
            &kept.text
        ),
        (1, &came.id, came.time, came.received_at, true, &came.text)
    );
    assert_eq!(log.page("lobby", 0, 10, 1000).unwrap(), [kept]);
    let info = log.channel("lobby").unwrap().unwrap();
    assert_eq!(
        (info.count, info.bytes, info.first, info.last),
        (1, came.size(), 1, 1)
    );
    assert!(!info.followed);
}

fn an_id_is_taken_once_in_each_channel(make: Make<'_>) {
    let log = make(LogQuota::default());
    let batch = vec![append("a", 1), append("b", 1), append("a", 1), append("a", 2)];
    let of = |appended| LogOutcome::Append(appended);
    assert_eq!(
        log.commit(batch).unwrap(),
        [
            of(new(1)),
            of(new(1)),
            of(Appended::Known { arrival: 1 }),
            of(new(2))
        ]
    );
    let again = NewEntry {
        text: "other".into(),
        ..entry("a", 2)
    };
    assert_eq!(appended(&*log, again), Appended::Known { arrival: 2 });
    assert_eq!(&*log.entry("a", &name(2)).unwrap().unwrap().text, "text 2 of a");
}

fn a_verified_copy_takes_the_place_of_an_unverified_one(make: Make<'_>) {
    let log = make(LogQuota::default());
    fill(&*log, "a", 1..=30);
    let verified = |text: &str, time: u64| NewEntry {
        verified: true,
        text: text.into(),
        time: UnixMillis(time),
        received_at: UnixMillis(NOW + 999),
        ..entry("a", 12)
    };
    // Its time was a lie, too.
    assert_eq!(
        appended(&*log, verified("the truth", NOW + 100)),
        Appended::Verified { arrival: 12 }
    );
    let kept = log.entry("a", &name(12)).unwrap().unwrap();
    assert_eq!(
        (&*kept.text, kept.verified, kept.received_at.0),
        ("the truth", true, NOW + 12)
    );
    assert_eq!(
        appended(&*log, verified("again", NOW)),
        Appended::Known { arrival: 12 }
    );
    assert_eq!(appended(&*log, entry("a", 12)), Appended::Known { arrival: 12 });
    assert_eq!(
        ids(&displayed(&*log, "a", 4)),
        names((1..=11).chain(13..=30).chain([12]))
    );
    assert_eq!(arrivals(&*log, "a"), (1..=30).collect::<Vec<_>>());
    // In one batch with what it replaces.
    let both = vec![
        append("b", 12),
        LogWrite::Append(NewEntry {
            channel: "b".into(),
            ..verified("new", NOW + 3)
        }),
    ];
    assert_eq!(
        log.commit(both).unwrap()[1],
        LogOutcome::Append(Appended::Verified { arrival: 1 })
    );
    assert_eq!(&*log.entry("b", &name(12)).unwrap().unwrap().text, "new");
    everything(&*log);
}

fn pages_go_on_where_the_last_one_ended(make: Make<'_>) {
    let log = make(LogQuota::default());
    fill(&*log, "a", 1..=50);
    for number in 51..=100 {
        fill(&*log, "b", number..=number);
        fill(&*log, "a", number..=number);
    }
    let mut after = 0;
    for page in 0..10 {
        let entries = log.page("a", after, 10, usize::MAX).unwrap();
        assert_eq!(ids(&entries), names(page * 10 + 1..=page * 10 + 10));
        after = entries.last().unwrap().arrival;
    }
    assert_eq!(log.page("a", after, 10, usize::MAX).unwrap(), []);
    assert_eq!(log.page("a", u64::MAX, 10, usize::MAX).unwrap(), []);
    assert_eq!(log.page("a", 0, 0, usize::MAX).unwrap(), []);
    assert_eq!(ids(&log.page("a", 73, 2, usize::MAX).unwrap()), names([74, 75]));
}

fn pages_end_at_their_bytes_but_have_one_entry(make: Make<'_>) {
    let log = make(LogQuota::default());
    fill(&*log, "a", 10..=40);
    let length = entry("a", 10).text.len();
    assert_eq!(log.page("a", 0, 10, length * 3).unwrap().len(), 3);
    assert_eq!(log.page("a", 0, 10, length * 3 - 1).unwrap().len(), 2);
    assert_eq!(log.page("a", 0, 10, 0).unwrap().len(), 1);
}

fn history_is_ordered_by_time_and_id_and_goes_both_ways(make: Make<'_>) {
    let log = make(LogQuota::default());
    let channel = "a".into();
    log.commit(vec![LogWrite::SetFollowed {
        channel,
        followed: true,
    }])
    .unwrap();
    // Times go back and forth, many are equal, some are the last there are.
    let time = |number: u64| match number % 10 {
        9 => u64::MAX,
        8 => 0,
        _ => number * 7919 % 50,
    };
    for batch in 0..10 {
        let entries = (batch * 10..batch * 10 + 10).map(|number| {
            LogWrite::Append(NewEntry {
                time: UnixMillis(time(number)),
                ..entry("a", number)
            })
        });
        log.commit(entries.chain([append("b", batch)]).collect()).unwrap();
    }
    let mut expected: Vec<(u64, String)> = (0..100).map(|number| (time(number), name(number))).collect();
    expected.sort();
    let expected: Vec<String> = expected.into_iter().map(|(_, id)| id).collect();
    for step in [1, 3, 7, 100, 1000] {
        assert_eq!(ids(&displayed(&*log, "a", step)), expected);
    }
    // A place need not have an entry.
    let before = HistoryFrom::Before {
        time: UnixMillis(1),
        id: "",
    };
    assert_eq!(ids(&log.history("a", before, 3).unwrap()), names([78, 88, 98]));
    assert_eq!(
        ids(&log.history("b", HistoryFrom::Oldest, 2).unwrap()),
        names([0, 1])
    );
}

fn the_oldest_arrivals_give_way(make: Make<'_>) {
    let log = make(small());
    log.commit(vec![LogWrite::SetFollowed {
        channel: "mine".into(),
        followed: true,
    }])
    .unwrap();
    for number in 1..=100 {
        fill(&*log, "mine", number..=number);
        fill(&*log, "theirs", number..=number);
    }
    assert_eq!(arrivals(&*log, "mine"), (61..=100).collect::<Vec<_>>());
    assert_eq!(arrivals(&*log, "theirs"), (81..=100).collect::<Vec<_>>());
    fill(&*log, "mine", 101..=200);
    assert_eq!(arrivals(&*log, "mine"), (161..=200).collect::<Vec<_>>());
    assert_eq!(log.arrival_of("mine", &name(160)).unwrap(), None);
    assert_eq!(log.arrival_of("mine", &name(161)).unwrap(), Some(161));
    everything(&*log);
    // By bytes.
    for number in 201..=210 {
        let large = NewEntry {
            text: "x".repeat(5_000).into(),
            ..entry("mine", number)
        };
        assert_eq!(appended(&*log, large), new(number));
    }
    assert_eq!(arrivals(&*log, "mine"), [208, 209, 210]);
    everything(&*log);
}

fn what_gave_way_is_not_taken_again(make: Make<'_>) {
    let log = make(small());
    fill(&*log, "theirs", 1..=30);
    assert_eq!(appended(&*log, entry("theirs", 10)), Appended::TooOld);
    assert_eq!(
        appended(&*log, entry("theirs", 11)),
        Appended::Known { arrival: 11 }
    );
    let late = NewEntry {
        time: UnixMillis(NOW + 5),
        ..entry("theirs", 99)
    };
    assert_eq!(appended(&*log, late), Appended::TooOld);
    assert_eq!(appended(&*log, entry("theirs", 31)), new(31));
}

fn a_time_ahead_of_the_clock_does_not_keep_out_what_comes_later(make: Make<'_>) {
    let log = make(small());
    for number in 1..=30 {
        let ahead = NewEntry {
            time: UnixMillis(NOW + 80_000_000),
            ..entry("theirs", number)
        };
        assert_eq!(appended(&*log, ahead), new(number));
    }
    assert_eq!(appended(&*log, entry("theirs", 31)), new(31));
}

fn old_entries_of_channels_kept_for_others_expire(make: Make<'_>) {
    let log = make(small());
    let follow = LogWrite::SetFollowed {
        channel: "mine".into(),
        followed: true,
    };
    log.commit(vec![follow]).unwrap();
    fill(&*log, "mine", 1..=5);
    fill(&*log, "theirs", 1..=5);
    let now = UnixMillis(NOW + 1_000_004);
    assert_eq!(
        log.commit(vec![LogWrite::Expire { now }]).unwrap(),
        [LogOutcome::Expired {
            entries: 3,
            more: false
        }]
    );
    assert_eq!(arrivals(&*log, "theirs"), [4, 5]);
    assert_eq!(arrivals(&*log, "mine"), [1, 2, 3, 4, 5]);
    // It does not come back by another way.
    let back = NewEntry {
        received_at: now,
        ..entry("theirs", 1)
    };
    assert_eq!(appended(&*log, back), Appended::TooOld);
    everything(&*log);
}

fn channels_kept_for_others_give_way_first(make: Make<'_>) {
    let large = |channel: &str, number: u64| NewEntry {
        text: "x".repeat(900).into(),
        ..entry(channel, number)
    };
    let log = make(LogQuota {
        total_bytes: 15_000,
        ..small()
    });
    let follow = LogWrite::SetFollowed {
        channel: "mine".into(),
        followed: true,
    };
    log.commit(vec![follow]).unwrap();
    for number in 1..=10 {
        assert_eq!(appended(&*log, large("theirs", number)), new(number));
    }
    for number in 1..=15 {
        assert_eq!(appended(&*log, large("mine", number)), new(number));
    }
    assert_eq!(arrivals(&*log, "theirs"), []);
    assert_eq!(arrivals(&*log, "mine"), (1..=15).collect::<Vec<_>>());
    assert_eq!(appended(&*log, large("theirs", 11)), Appended::ChannelFull);
    assert_eq!(appended(&*log, large("mine", 16)), new(16));
    assert_eq!(arrivals(&*log, "mine"), (2..=16).collect::<Vec<_>>());
    everything(&*log);
}

fn an_entry_above_the_quota_is_refused(make: Make<'_>) {
    let log = make(LogQuota {
        kept: ChannelQuota {
            entries: 5,
            bytes: 1000,
            age: Some(Duration::from_secs(1)),
        },
        ..LogQuota::default()
    });
    let large = NewEntry {
        text: "x".repeat(1000).into(),
        ..entry("a", 1)
    };
    assert_eq!(appended(&*log, large), Appended::ChannelFull);
    assert_eq!(log.channels().unwrap(), []);
}

fn a_channel_no_longer_followed_shrinks(make: Make<'_>) {
    let log = make(small());
    let follow = |followed| LogWrite::SetFollowed {
        channel: "mine".into(),
        followed,
    };
    log.commit(vec![follow(true)]).unwrap();
    fill(&*log, "mine", 1..=40);
    assert_eq!(log.commit(vec![follow(false)]).unwrap(), [LogOutcome::Done]);
    assert_eq!(arrivals(&*log, "mine"), (21..=40).collect::<Vec<_>>());
    // An empty one is forgotten.
    let other = |followed| LogWrite::SetFollowed {
        channel: "other".into(),
        followed,
    };
    log.commit(vec![other(true)]).unwrap();
    assert!(log.channel("other").unwrap().unwrap().followed);
    log.commit(vec![other(false)]).unwrap();
    assert_eq!(log.channel("other").unwrap(), None);
}

fn a_forgotten_channel_goes_on_behind_its_arrivals(make: Make<'_>) {
    let log = make(LogQuota::default());
    fill(&*log, "a", 1..=40);
    fill(&*log, "b", 1..=3);
    let forget = || LogWrite::Forget { channel: "a".into() };
    // Also what came in the same batch.
    let outcomes = log.commit(vec![append("a", 41), forget(), forget()]).unwrap();
    assert_eq!(outcomes[1..], [LogOutcome::Done, LogOutcome::NotFound]);
    assert_eq!(log.channel("a").unwrap(), None);
    assert_eq!(log.page("a", 0, 10, 1000).unwrap(), []);
    assert_eq!(log.entry("a", &name(7)).unwrap(), None);
    fill(&*log, "a", 5..=6);
    assert_eq!(arrivals(&*log, "a"), [42, 43]);
    assert_eq!(arrivals(&*log, "b"), [1, 2, 3]);
    everything(&*log);
}

fn the_quietest_channel_gives_way_to_a_new_one(make: Make<'_>) {
    let log = make(LogQuota::default());
    let channel = name(0).into();
    log.commit(vec![LogWrite::SetFollowed {
        channel,
        followed: true,
    }])
    .unwrap();
    let most = u64::try_from(MAX_CHANNELS).unwrap();
    for start in (0..most).step_by(2000) {
        let batch = (start..start + 2000).map(|number| append(&name(number), number));
        log.commit(batch.collect()).unwrap();
    }
    assert_eq!(log.channels().unwrap().len(), MAX_CHANNELS);
    // The first one is older, but followed.
    // It begins behind everything the forgotten one had.
    assert_eq!(appended(&*log, entry("new", most)), new(2));
    assert_eq!(log.channels().unwrap().len(), MAX_CHANNELS);
    assert_eq!(log.channel(&name(1)).unwrap(), None);
    assert_eq!(arrivals(&*log, &name(0)), [1]);
    assert_eq!(arrivals(&*log, &name(2)), [1]);
}

fn cursors_are_kept_per_neighbour_and_channel(make: Make<'_>) {
    let log = make(LogQuota::default());
    let set = |peer: &str, channel: &str, id: &str| LogWrite::SetCursor {
        peer: peer.into(),
        channel: channel.into(),
        id: id.into(),
    };
    let batch = vec![set("p", "ab", "1"), set("pa", "b", "2"), set("p", "ab", "3")];
    assert_eq!(log.commit(batch).unwrap(), [LogOutcome::Done; 3]);
    assert_eq!(log.cursor("p", "ab").unwrap().as_deref(), Some("3"));
    assert_eq!(log.cursor("pa", "b").unwrap().as_deref(), Some("2"));
    assert_eq!(log.cursor("p", "b").unwrap(), None);
}

fn remember(id: &str, key: u8) -> LogWrite {
    LogWrite::RememberKey {
        id: id.into(),
        key: NodeId::new([key; 32]),
    }
}

fn cursors_are_bounded_and_our_own_notes_stay(make: Make<'_>) {
    let log = make(small());
    let set = |peer: String, channel: &str| LogWrite::SetCursor {
        peer: peer.into(),
        channel: channel.into(),
        id: "here".into(),
    };
    let notes = 20;
    let own: Vec<LogWrite> = (0..notes)
        .map(|number| set(String::new(), &name(number)))
        .collect();
    log.commit(own).unwrap();
    // Somebody shows one name after the other.
    let peers = MAX_CURSORS + 1000;
    let mut next = 0;
    while next < peers {
        let end = (next + 1024).min(peers);
        let writes = (next..end).map(|number| set(format!("peer {number}"), "lobby"));
        log.commit(writes.collect()).unwrap();
        next = end;
    }
    let known = |peer: &str, channel: &str| log.cursor(peer, channel).unwrap().is_some();
    let of_peers = (0..peers)
        .filter(|number| known(&format!("peer {number}"), "lobby"))
        .count() as u64;
    assert_eq!(of_peers + notes, MAX_CURSORS);
    assert!((0..notes).all(|number| known("", &name(number))));
    assert!(
        known(&format!("peer {}", peers - 1), "lobby"),
        "the newest is there"
    );
    // One that is there is moved, and nobody goes for it.
    log.commit(vec![set(format!("peer {}", peers - 1), "lobby")])
        .unwrap();
    let again = (0..peers)
        .filter(|number| known(&format!("peer {number}"), "lobby"))
        .count() as u64;
    assert_eq!(again, of_peers);
}

fn the_first_key_of_an_id_stays(make: Make<'_>) {
    let log = make(LogQuota::default());
    let known = NodeId::new([1; 32]);
    let outcomes = log
        .commit(vec![
            remember("a", 1),
            remember("a", 1),
            remember("a", 2),
            remember("b", 2),
        ])
        .unwrap();
    assert_eq!(
        outcomes,
        [
            LogOutcome::Done,
            LogOutcome::Done,
            LogOutcome::OtherKey(known),
            LogOutcome::Done
        ]
    );
    assert_eq!(
        log.commit(vec![remember("a", 2)]).unwrap(),
        [LogOutcome::OtherKey(known)]
    );
    assert_eq!(log.key_of("a").unwrap(), Some(known));
}

fn the_oldest_key_gives_way(make: Make<'_>) {
    let log = make(LogQuota::default());
    for start in (0..MAX_KEYS + 2).step_by(2000) {
        let end = (start + 2000).min(MAX_KEYS + 2);
        log.commit((start..end).map(|number| remember(&name(number), 1)).collect())
            .unwrap();
    }
    assert_eq!(log.key_of(&name(0)).unwrap(), None);
    assert_eq!(log.key_of(&name(1)).unwrap(), None);
    assert!(log.key_of(&name(2)).unwrap().is_some());
    assert!(log.key_of(&name(MAX_KEYS + 1)).unwrap().is_some());
}

fn nothing_of_a_refused_batch_is_kept(make: Make<'_>) {
    let log = make(LogQuota::default());
    let bad = append(&"x".repeat(MAX_CHANNEL_BYTES + 1), 2);
    let refused = log.commit(vec![append("a", 1), bad]);
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    assert_eq!(log.channels().unwrap(), []);
}

fn large_entries_read_back_whole(make: Make<'_>) {
    let log = make(LogQuota::default());
    let lengths = [
        5_000, 6_000, 6_100, 6_144, 7_000, 100_000, 3_000_000, 10, 20_000, 10,
    ];
    for (length, number) in lengths.into_iter().zip(1..) {
        let large = NewEntry {
            text: "abcdefg".repeat(length / 7 + 1)[..length].into(),
            ..entry("a", number)
        };
        assert_eq!(appended(&*log, large), new(number));
    }
    let page = log.page("a", 0, 100, usize::MAX).unwrap();
    let found: Vec<usize> = page.iter().map(|entry| entry.text.len()).collect();
    assert_eq!(found, lengths);
    // A small one takes a large one's place, and the other way round.
    for (number, length) in [(6, 10), (8, 50_000)] {
        let other = NewEntry {
            text: "z".repeat(length).into(),
            verified: true,
            ..entry("a", number)
        };
        assert_eq!(appended(&*log, other), Appended::Verified { arrival: number });
        let kept = log.entry("a", &name(number)).unwrap().unwrap();
        assert_eq!(kept.text.len(), length);
    }
    log.commit(vec![LogWrite::Forget { channel: "a".into() }])
        .unwrap();
    log.commit(vec![append("b", 1)]).unwrap();
}

fn a_closed_log_says_so(make: Make<'_>) {
    let log = make(LogQuota::default());
    log.close().unwrap();
    log.close().unwrap();
    assert_eq!(log.commit(vec![append("a", 1)]), Err(StoreError::Closed));
    assert_eq!(log.page("a", 0, 1, 1), Err(StoreError::Closed));
    assert_eq!(log.channels(), Err(StoreError::Closed));
}
