//! Where every number comes from.

use std::path::Path;
use std::sync::Arc;

use clawchat_ipc::{ErrorCode, Failure};
use clawchat_node::Reachability;

use super::page::Page;
use crate::hosted::Hosted;
use crate::shared::{Gateway, Shared};
use crate::whereabouts::Figures;

/// How the gateway stands now. Reads the stores and looks at their files, so another thread does it.
///
/// # Errors
/// When that thread fails, or there is none.
pub(crate) async fn gather(gateway: &Gateway) -> Result<Page, Failure> {
    let gateway = Arc::clone(gateway);
    tokio::task::spawn_blocking(move || {
        let mut page = Page::default();
        let hosted = gateway.hosts.loaded();
        daemon(&mut page, &gateway, &hosted);
        network(&mut page, &gateway);
        relays(&mut page, &gateway.node.reachability());
        doors(&mut page, &gateway);
        whereabouts(&mut page, &gateway, &hosted);
        messages(&mut page, &gateway, &hosted);
        stores(&mut page, &gateway, &hosted);
        wakes(&mut page, &hosted);
        page
    })
    .await
    .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))
}

fn daemon(page: &mut Page, gateway: &Shared, hosted: &[Arc<Hosted>]) {
    page.gauges(
        "clawchat_build_info",
        "The running version.",
        "version",
        [(env!("CARGO_PKG_VERSION"), 1)],
    );
    page.gauge(
        "clawchat_start_time_seconds",
        "When the daemon started, in Unix seconds.",
        gateway.started_at.0 / 1000,
    );
    page.gauge("clawchat_identities", "Identities served.", hosted.len() as u64);
}

fn network(page: &mut Page, gateway: &Shared) {
    let node = gateway.node.counters();
    page.gauge(
        "clawchat_connections",
        "Connections with gateways.",
        node.connections,
    );
    page.gauge("clawchat_gateways", "Gateways connected.", node.gateways);
    page.counters(
        "clawchat_connections_opened_total",
        "Connections that came about, by who began them.",
        "by",
        [("peer", node.accepted), ("us", node.dialed)],
    );
    page.counters(
        "clawchat_connections_failed_total",
        "Connections that did not come about: refused by a limit, broken off, too slow.",
        "by",
        [("peer", node.accept_failures), ("us", node.dial_failures)],
    );
    page.counter(
        "clawchat_handshakes_total",
        "Session handshakes that peers began.",
        node.handshakes,
    );
    page.counters(
        "clawchat_handshakes_ended_total",
        "What became of the handshakes that peers began.",
        "result",
        [
            ("session", node.handshakes_completed),
            ("failed", node.handshakes_failed),
            ("too_often", node.handshakes_too_often),
            ("too_many", node.handshakes_too_many),
        ],
    );
    let open = gateway.sessions.figures();
    page.gauges(
        "clawchat_sessions",
        "Authenticated sessions open, by protocol.",
        "protocol",
        [("snap2p/2", open.native), ("clawchat/1", open.legacy)],
    );
    page.gauge(
        "clawchat_sessions_of_strangers",
        "Sessions of them with peers that were no contacts when they came.",
        open.strangers,
    );
    page.counters(
        "clawchat_sessions_displaced_total",
        "Sessions closed to make room.",
        "reason",
        [
            ("pair", gateway.tally.displaced_by_pair.get()),
            ("strangers", gateway.tally.displaced_strangers.get()),
        ],
    );
    page.counter(
        "clawchat_streams_refused_total",
        "Streams refused: of an unknown kind, or too many of a kind in one session.",
        gateway.tally.streams_refused.get(),
    );
}

fn relays(page: &mut Page, reach: &Reachability) {
    let load = reach.serving.unwrap_or_default();
    page.gauge(
        "clawchat_relays_used",
        "Relays that hold a place for us.",
        reach.placed().count() as u64,
    );
    page.gauge(
        "clawchat_relay_places",
        "Gateways that have a place at this one.",
        load.reservations as u64,
    );
    page.gauge(
        "clawchat_relay_circuits",
        "Circuits this gateway carries for others.",
        load.circuits as u64,
    );
    page.counter(
        "clawchat_relay_refused_total",
        "Places and circuits refused to others.",
        load.refused,
    );
}

fn doors(page: &mut Page, gateway: &Shared) {
    let doors = &gateway.tally.doors;
    page.counters(
        "clawchat_sessions_refused_total",
        "Handshakes refused by a rule.",
        "reason",
        [
            ("nobody", doors.nobody.get()),
            ("not_allowed", doors.not_allowed.get()),
        ],
    );
    page.counters(
        "clawchat_knocks_total",
        "Handshakes that began with the token of an invite.",
        "result",
        [
            ("opened", doors.knocks_opened.get()),
            ("refused", doors.knocks_refused.get()),
        ],
    );
}

fn whereabouts(page: &mut Page, gateway: &Shared, hosted: &[Arc<Hosted>]) {
    let figures: Vec<Figures> = hosted
        .iter()
        .map(|hosted| hosted.whereabouts().figures())
        .collect();
    let sum = |count: fn(&Figures) -> u64| figures.iter().map(count).sum::<u64>();
    page.gauge(
        "clawchat_px1_cards",
        "Contact cards in the address books.",
        sum(|f| f.cards),
    );
    page.gauge(
        "clawchat_px1_book_bytes",
        "Memory of the address books, in bytes, roughly.",
        sum(|f| f.bytes),
    );
    page.counters(
        "clawchat_px1_received_total",
        "PX-1 messages from peers.",
        "kind",
        [
            ("question", sum(|f| f.counters.questions)),
            ("push", sum(|f| f.counters.pushes)),
            ("unasked_answer", sum(|f| f.counters.answers_unasked)),
        ],
    );
    page.counters(
        "clawchat_px1_dropped_total",
        "PX-1 messages from peers that were not looked at.",
        "reason",
        [
            ("questions_too_often", sum(|f| f.counters.questions_limited)),
            ("pushes_too_often", sum(|f| f.counters.pushes_limited)),
            ("off", sum(|f| f.counters.ignored)),
            ("malformed", sum(|f| f.malformed)),
        ],
    );
    page.counter(
        "clawchat_px1_answered_total",
        "Questions answered with a card.",
        sum(|f| f.counters.answered),
    );
    page.counters(
        "clawchat_px1_cards_received_total",
        "Contact cards from peers, by what became of them.",
        "result",
        [
            ("new", sum(|f| f.counters.cards_new)),
            ("known", sum(|f| f.counters.cards_known)),
            ("stale", sum(|f| f.counters.cards_stale)),
            ("expired", sum(|f| f.counters.cards_expired)),
            ("invalid", sum(|f| f.counters.cards_forged)),
            ("own", sum(|f| f.counters.cards_own)),
            ("unasked", sum(|f| f.counters.cards_unasked)),
            ("not_shareable", sum(|f| f.counters.cards_not_shareable)),
            ("too_many", sum(|f| f.counters.cards_limited)),
            ("no_room", sum(|f| f.counters.cards_no_room)),
        ],
    );
    page.counters(
        "clawchat_px1_sent_total",
        "PX-1 messages to peers.",
        "kind",
        [
            ("question", sum(|f| f.counters.questions_sent)),
            ("push", sum(|f| f.counters.pushes_sent)),
        ],
    );
    page.counter(
        "clawchat_px1_forwards_dropped_total",
        "Cards not passed on because too many waited for that peer.",
        sum(|f| f.counters.forwards_dropped),
    );
    page.counters(
        "clawchat_px1_searches_total",
        "Searches for principals, by how they ended.",
        "result",
        [
            ("found", sum(|f| f.counters.resolved)),
            ("not_found", sum(|f| f.counters.not_found)),
        ],
    );
    let held = gateway.dialable.held();
    page.counters(
        "clawchat_dials_held_total",
        "Addresses told by peers that were not dialed.",
        "reason",
        [
            ("private", held.private),
            ("host", held.host),
            ("principal", held.principal),
            ("resting", held.resting),
        ],
    );
    let hints = &gateway.tally.hints;
    page.gauge(
        "clawchat_hints",
        "Unsigned addresses told by peers of ClawChat 1.0 that are remembered.",
        gateway.hints.len() as u64,
    );
    page.counters(
        "clawchat_hints_received_total",
        "Principals that peers of ClawChat 1.0 told addresses of.",
        "result",
        [("taken", hints.taken.get()), ("refused", hints.refused.get())],
    );
    page.counter(
        "clawchat_hints_without_session_total",
        "Exchanges of addresses with gateways of ClawChat 1.0 dropped because they have no session here.",
        hints.without_session.get(),
    );
}

fn messages(page: &mut Page, gateway: &Shared, hosted: &[Arc<Hosted>]) {
    let letters = &gateway.tally.letters;
    page.counters(
        "clawchat_messages_received_total",
        "Messages from other gateways, by what became of them.",
        "result",
        [
            ("stored", letters.stored.get()),
            ("known", letters.known.get()),
            ("invalid", letters.invalid.get()),
            ("expired", letters.expired.get()),
            ("not_allowed", letters.not_allowed.get()),
            ("unknown_recipient", letters.unknown_recipient.get()),
            ("not_stored", letters.not_stored.get()),
        ],
    );
    page.counter(
        "clawchat_chat_broken_total",
        "Chat streams broken off because the peer broke the protocol or was too slow.",
        gateway.tally.chat_broken.get(),
    );
    let sum = |count: fn(&Hosted) -> u64| hosted.iter().map(|hosted| count(hosted)).sum::<u64>();
    page.counters(
        "clawchat_messages_sent_total",
        "Messages of ours whose fate is settled.",
        "result",
        [
            ("delivered", sum(|hosted| hosted.settled().delivered.get())),
            ("sent", sum(|hosted| hosted.settled().sent.get())),
            ("failed", sum(|hosted| hosted.settled().failed.get())),
        ],
    );
    page.gauge(
        "clawchat_conversations",
        "Recipients with messages to deliver, or a stream open.",
        sum(|hosted| hosted.conversations().len() as u64),
    );
    page.gauge(
        "clawchat_long_messages",
        "Messages above 64 KiB arriving at the moment.",
        gateway.long_messages.arriving() as u64,
    );
}

fn stores(page: &mut Page, gateway: &Shared, hosted: &[Arc<Hosted>]) {
    // A store that cannot be read says so where it is used; here it counts as empty.
    let sum = |count: fn(&Hosted) -> u64| hosted.iter().map(|hosted| count(hosted)).sum::<u64>();
    page.gauges(
        "clawchat_stored_messages",
        "Messages in the stores.",
        "box",
        [
            (
                "inbox",
                sum(|hosted| hosted.store().store().inbox_count().unwrap_or_default()),
            ),
            (
                "unread",
                sum(|hosted| hosted.store().store().unread_count().unwrap_or_default()),
            ),
            (
                "outbox",
                sum(|hosted| hosted.store().store().outbox_count().unwrap_or_default()),
            ),
        ],
    );
    page.gauge(
        "clawchat_store_queue",
        "Requests waiting to be written.",
        sum(|hosted| hosted.store().waiting() as u64),
    );
    page.gauge(
        "clawchat_store_bytes",
        "Size of the stores on disk, in bytes.",
        hosted
            .iter()
            .map(|hosted| size_of(&gateway.home.store_dir(hosted.principal()), FOLDER_DEPTH))
            .sum(),
    );
}

/// Folders in each other that are looked into.
const FOLDER_DEPTH: u32 = 4;

/// Bytes of all files of a folder. What cannot be looked at counts nothing.
fn size_of(folder: &Path, depth: u32) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() && depth > 0 => size_of(&entry.path(), depth - 1),
        Ok(data) if data.is_file() => data.len(),
        Ok(_) | Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

fn wakes(page: &mut Page, hosted: &[Arc<Hosted>]) {
    let (mut sent, mut failed) = (0, 0);
    for hosted in hosted {
        let totals = hosted.wakes().totals();
        sent += totals.0;
        failed += totals.1;
    }
    page.counters(
        "clawchat_wakes_total",
        "Tries to wake an agent.",
        "result",
        [("sent", sent), ("failed", failed)],
    );
}
