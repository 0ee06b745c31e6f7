//! The mesh: how fast messages of one channel reach peers that store them, how fast one that was away catches up, and
//! whether a peer with a long log has more work or needs more memory.

use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use clawchat_identity::{NodeKey, verify_node_signature};
use clawchat_ipc::client::Client;
use clawchat_ipc::{Call, Line};
use clawchat_testkit::SeededRng;
use serde_json::json;

use super::figure::{Figure, Target};
use super::limits::{percentile, scattered_read};
use super::{Effort, IDLE, process};
use crate::gateways::Outcome;
use crate::mesh_guest::{Author, Guest, masked, now};
use crate::mesh_peers::MeshPeer;
use crate::say;

/// The channel of all messages.
const CHANNEL: &str = "lobby";
/// Bytes of text in each message.
const MESSAGE_BYTES: usize = 100;
/// The same in messages without a signature that are to be as long as those with one.
const UNSIGNED_BYTES: usize = MESSAGE_BYTES + 80;
/// Times that messages are sent to the same peers; the quickest is the least disturbed by others on this machine.
const ROUNDS: u64 = 3;
/// Messages of the short log that a long one is compared with.
const SHORT: u64 = 1_000;
/// Messages of a page.
const PAGE: u64 = 500;
/// Pages of each log that are timed, in all rounds.
const PAGES: u64 = 2_000;
/// Rounds in which they are: the ratio of two logs is that of the middle one.
const PAGE_ROUNDS: u64 = 5;
/// Pages of each log that are read before, so that programs and links are warm.
const WARM_PAGES: u64 = 50;
/// Pages of each log that are timed when each comes after other work.
const COLD_PAGES: u64 = 500;
/// Memory that such other work goes through on each processor, in bytes: several times what is near to it.
const OTHER_WORK_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of memory that a processor fetches at once.
const LINE_BYTES: usize = 64;
/// Bytes that a message takes in a log, and that are read of it for a page.
const STORED_BYTES: u64 = 450;
/// Links over which a long log is filled: a peer reads 10,000 messages a second of each.
const FILLING_LINKS: u64 = 4;
/// Messages written to one of them at once.
const FILLING_STEP: u64 = 500;
/// Signatures verified to see how fast that goes.
const VERIFICATIONS: u32 = 2_000;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(1_800);

/// What it takes to distribute messages.
pub(super) fn measure(folder: &Path, effort: &Effort) -> Outcome<Vec<Figure>> {
    let program = folder.join("clawchatd");
    let mut figures = Vec::new();
    for (subscribers, hops) in [(1, 1), (3, 1), (10, 1), (1, 2)] {
        say(&format!("the mesh: {subscribers} subscribers, {hops} hops away"));
        let mut tree = Tree::grow(&program, subscribers, hops)?;
        let verified = verifications_per_second();
        let (mut best, mut least) = (Duration::MAX, None);
        for _ in 0..ROUNDS {
            let before = tree.processor_time();
            best = best.min(tree.publish(effort.mesh)?);
            let used = tree
                .processor_time()
                .zip(before)
                .map(|(after, before)| after - before);
            least = used.map(|used| used.min(least.unwrap_or(used)));
        }
        let rate = effort.mesh as f64 / best.as_secs_f64();
        let beside = format!("signatures one processor verifies ({verified:.0}/s just before)");
        let name = format!("mesh: {subscribers} subscribers, {hops} hops, until the last has all");
        let figure = Figure::new(&name, rate, "msg/s");
        figures.push(match (subscribers, hops) {
            (1, 1) => figure
                .target(Target::AtLeast(5_000.0))
                .beside(&beside, rate / verified),
            (1, _) => figure.beside(&beside, rate / verified),
            _ => figure,
        });
        if subscribers > 1 {
            let deliveries = rate * f64::from(subscribers);
            let figure = Figure::new("  deliveries in all", deliveries, "msg/s")
                .beside(&beside, deliveries / verified);
            figures.push(if subscribers == 10 {
                figure.target(Target::AtLeast(20_000.0))
            } else {
                figure
            });
        }
        // All peers share this machine: whoever else uses it slows them down, but hardly makes them work more.
        figures.extend(least.map(|used| {
            let deliveries = effort.mesh as f64 * f64::from(subscribers * hops);
            let each = used.as_secs_f64() * 1e6 / deliveries;
            Figure::new("  processor time of all peers for one delivery", each, "us")
                .beside("verifying a signature", each * verified / 1e6)
        }));
        if (subscribers, hops) == (1, 1) {
            say("the mesh: catching up");
            let behind = tree.published;
            let took = tree.late_comer(&program)?;
            figures.push(
                Figure::new(
                    &format!("mesh: catching up with {behind}, from the start of the process"),
                    behind as f64 / took.as_secs_f64(),
                    "msg/s",
                )
                .beside(&beside, behind as f64 / took.as_secs_f64() / verified),
            );
        }
    }
    figures.extend(growth(&program, effort)?);
    Ok(figures)
}

/// A peer, those that follow the channel through it, and perhaps one between them.
struct Tree {
    root: MeshPeer,
    /// The one between them.
    relay: Option<MeshPeer>,
    leaves: Vec<MeshPeer>,
    author: Author,
    published: u64,
}

impl Tree {
    fn grow(program: &Path, leaves: u32, hops: u32) -> Outcome<Self> {
        let root = MeshPeer::started(program, "root", &[])?;
        let relay = (hops > 1)
            .then(|| dialing(program, "relay", root.port()))
            .transpose()?;
        let port = relay.as_ref().unwrap_or(&root).port();
        let leaves = (0..leaves)
            .map(|number| dialing(program, &format!("leaf {number}"), port))
            .collect::<Outcome<_>>()?;
        let mut tree = Self {
            root,
            relay,
            leaves,
            author: Author::new(1),
            published: 0,
        };
        // All links stand when the first message is everywhere.
        tree.publish(1)?;
        Ok(tree)
    }

    /// Sends messages to the root over a link of its own. How long until every leaf has stored the last.
    fn publish(&mut self, count: u64) -> Outcome<Duration> {
        let time = now();
        let mut frames = Vec::new();
        for number in self.published..self.published + count {
            let body = format!("{number:0MESSAGE_BYTES$}");
            let text = self
                .author
                .message(CHANNEL, &format!("message-{number}"), &body, time + number)?;
            frames.extend(masked(&text));
        }
        let link = Guest::greet(self.root.port(), self.author.name())?;
        self.published += count;
        let peers = self.leaves.iter().chain(&self.relay);
        let arrivals = peers
            .map(|peer| Arrival::expect(peer, self.published))
            .collect::<Outcome<Vec<_>>>()?;
        let begun = Instant::now();
        let mut writer = link.writer()?;
        let writing = thread::spawn(move || writer.write_all(&frames));
        arrivals.into_iter().try_for_each(Arrival::wait)?;
        let took = begun.elapsed();
        match writing.join() {
            Ok(Ok(())) => Ok(took),
            Ok(Err(error)) => Err(format!("the link to the root: {error}")),
            Err(_) => Err("the writer panicked".to_owned()),
        }
    }

    /// The processor time all peers have used, where the system tells.
    fn processor_time(&self) -> Option<Duration> {
        let peers = self.leaves.iter().chain(&self.relay).chain([&self.root]);
        peers.map(|peer| process::whole_processor_time(peer.pid()?)).sum()
    }

    /// Starts another leaf. How long until it has everything.
    fn late_comer(&self, program: &Path) -> Outcome<Duration> {
        let begun = Instant::now();
        let peer = dialing(program, "late", self.root.port())?;
        Arrival::expect(&peer, self.published)?.wait()?;
        Ok(begun.elapsed())
    }
}

fn dialing(program: &Path, name: &str, port: u16) -> Outcome<MeshPeer> {
    let mut peer = MeshPeer::prepare(program, name)?;
    peer.dials(port);
    peer.start()?;
    Ok(peer)
}

/// Hears when a peer has stored so many messages, and nothing of those before.
struct Arrival {
    client: Client,
    who: String,
}

impl Arrival {
    fn expect(peer: &MeshPeer, number: u64) -> Outcome<Self> {
        let who = peer.name().to_owned();
        let request = json!({ "cmd": "subscribe", "channels": [CHANNEL], "after": number.saturating_sub(1) });
        let call = Call::from_value(request).map_err(|error| error.to_string())?;
        let mut client = peer.connect()?;
        client.set_limit(Some(LIMIT));
        client.send(&call).map_err(|error| format!("{who}: {error}"))?;
        Ok(Self { client, who })
    }

    fn wait(mut self) -> Outcome {
        loop {
            match self.client.receive_line() {
                Ok(Line::Event(event)) if event["event"] == "channel_message" => return Ok(()),
                Ok(Line::Event(_)) => {}
                Ok(Line::Answer(answer)) => {
                    answer
                        .result
                        .map_err(|failure| format!("{}: {failure}", self.who))?;
                }
                Err(error) => return Err(format!("{}: {error}", self.who)),
            }
        }
    }
}

/// A peer with a long log beside one with a short one.
fn growth(program: &Path, effort: &Effort) -> Outcome<Vec<Figure>> {
    say(&format!(
        "the mesh: a log of {} messages beside one of {SHORT}",
        effort.mesh_stored
    ));
    let (short, long) = (
        MeshPeer::started(program, "short", &[])?,
        MeshPeer::started(program, "long", &[])?,
    );
    fill(&short, SHORT)?;
    let begun = Instant::now();
    fill(&long, effort.mesh_stored)?;
    let filling = effort.mesh_stored as f64 / begun.elapsed().as_secs_f64();
    let times = |places| page_times(&short, &long, effort, places);
    let (same, anywhere, cold) = (
        times(Places::Same)?,
        times(Places::Anywhere)?,
        times(Places::AfterOtherWork)?,
    );
    let read = |messages: u64| scattered_read(PAGE * STORED_BYTES, messages * STORED_BYTES);
    let (read_short, read_long) = (
        read(SHORT)?.as_secs_f64(),
        read(effort.mesh_stored)?.as_secs_f64(),
    );
    let places = format!("with {} stored against {SHORT}", effort.mesh_stored);
    let mut figures = vec![
        Figure::new(
            &format!("mesh: {} unsigned messages stored", effort.mesh_stored),
            filling,
            "msg/s",
        ),
        Figure::new("mesh: a page of 500 that was read before, p50", same.long, "us"),
        Figure::new(&format!("  {places}, in turns"), same.ratio, "times").target(Target::AtMost(1.2)),
        Figure::new("mesh: a page of 500 anywhere, p50", anywhere.long, "us").beside(
            "plain reads of as much, anywhere in a file of that size",
            anywhere.long / 1e6 / read_long,
        ),
        // The short log stays near the processor while nothing else is done, as no log does in use.
        Figure::new(&format!("  {places}, in turns"), anywhere.ratio, "times")
            .target(Target::AtMost(1.2))
            .beside(
                "what plain reads take longer in that file than in a short one",
                anywhere.ratio / (read_long / read_short),
            ),
        Figure::new(
            "mesh: a page of 500 anywhere, each after other work on all processors, p50",
            cold.long,
            "us",
        ),
        Figure::new(&format!("  {places}, in turns"), cold.ratio, "times"),
    ];
    thread::sleep(IDLE);
    let memory = long.pid().and_then(process::resident_bytes);
    figures.extend(memory.map(|bytes| {
        let name = format!("memory of the mesh peer with {} stored", effort.mesh_stored);
        Figure::new(&name, bytes as f64 / 1e6, "MB").target(Target::AtMost(60.0))
    }));
    Ok(figures)
}

/// Which pages are asked for.
#[derive(Clone, Copy)]
enum Places {
    /// Three, again and again.
    Same,
    /// Any. The store keeps no blocks in memory, of a short log as little as of a long one: both lie in the system's cache
    /// of files.
    Anywhere,
    /// Any, but before each the processors did something else, which leaves nothing of either log near to them.
    AfterOtherWork,
}

/// How long a page takes.
struct PageTimes {
    /// Of the long log, in microseconds; the median of all.
    long: f64,
    /// How much longer that of the long log takes, by the medians of the middle round.
    ratio: f64,
}

fn page_times(short: &MeshPeer, long: &MeshPeer, effort: &Effort, places: Places) -> Outcome<PageTimes> {
    let mut random = SeededRng::new(1);
    let mut logs = [
        (Guest::greet(short.port(), "reader")?, SHORT - PAGE - 1),
        // Links that fill it are not read at the same pace: not everything is where its number says.
        (Guest::greet(long.port(), "reader")?, effort.mesh_stored / 2),
    ];
    let pages = match places {
        Places::Same | Places::Anywhere => PAGES,
        Places::AfterOtherWork => COLD_PAGES,
    };
    let (mut all, mut ratios) = (Vec::new(), Vec::new());
    for round in 0..PAGE_ROUNDS {
        let warm = if round == 0 { WARM_PAGES } else { 0 };
        let mut times = [Vec::new(), Vec::new()];
        // In turns, so that whatever else the machine does touches both alike; and each comes first as often.
        for number in 0..warm + pages / PAGE_ROUNDS {
            let order = if number % 2 == 0 { [0, 1] } else { [1, 0] };
            for which in order {
                let (link, end) = &mut logs[which];
                let after = match places {
                    Places::Same => *end / 2 * (number % 3),
                    Places::Anywhere => random.below(*end),
                    Places::AfterOtherWork => {
                        other_work();
                        random.below(*end)
                    }
                };
                let took = page(link, after)?;
                if number >= warm {
                    times[which].push(took);
                }
            }
        }
        let [short, long] = &mut times;
        short.sort_unstable();
        long.sort_unstable();
        ratios.push(percentile(long, 50).as_secs_f64() / percentile(short, 50).as_secs_f64());
        all.append(long);
    }
    all.sort_unstable();
    ratios.sort_unstable_by(f64::total_cmp);
    Ok(PageTimes {
        long: percentile(&all, 50).as_secs_f64() * 1e6,
        ratio: ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN),
    })
}

/// Goes through as much memory as a busy machine does in a few milliseconds, on as many threads as there are processors.
fn other_work() {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                let mut memory = vec![1_u8; OTHER_WORK_BYTES];
                for byte in memory.iter_mut().step_by(LINE_BYTES) {
                    *byte = byte.wrapping_add(1);
                }
                std::hint::black_box(&memory);
            });
        }
    });
}

/// Gives a peer so many messages, of somebody without a key: nothing is measured here that they could slow down.
fn fill(peer: &MeshPeer, count: u64) -> Outcome {
    let links = if count > SHORT { FILLING_LINKS } else { 1 };
    let links = (0..links)
        .map(|_| Guest::greet(peer.port(), "filler"))
        .collect::<Outcome<Vec<_>>>()?;
    let arrival = Arrival::expect(peer, count)?;
    let mut number = 0;
    for link in links.iter().cycle() {
        if number == count {
            break;
        }
        let mut frames = Vec::new();
        let step = FILLING_STEP.min(count - number);
        for number in number..number + step {
            let message = json!({
                "type": "message", "message_id": id(number), "channel_id": CHANNEL, "sender_id": "filler",
                "body": words(number), "timestamp": "2026-01-01T00:00:00.000Z",
            });
            frames.extend(masked(&message.to_string()));
        }
        link.send_bytes(&frames)?;
        number += step;
    }
    arrival.wait()
}

/// A text of its own for each number, about as compressible as what people write.
fn words(number: u64) -> String {
    const WORDS: &str = "the of and to in that is was for with his as it on be at by this had not are but from or have an \
        they which one you were all her she there would their we him been has when who will no more if out so what up said \
        about than its into them can only other time new some could these two may first then do any like my now over such \
        our man me even most made after also well did many before must years through where much way should back people \
        because good each those just between world still long make under thought last being both while head state never";
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut random = SeededRng::new(number);
    let mut text = String::with_capacity(UNSIGNED_BYTES + 16);
    while text.len() < UNSIGNED_BYTES {
        let word = random.below(words.len() as u64);
        text.push_str(
            words
                .get(usize::try_from(word).unwrap_or_default())
                .copied()
                .unwrap_or_default(),
        );
        text.push(' ');
    }
    text.truncate(UNSIGNED_BYTES);
    text
}

/// As random as an id of the mesh.
fn id(number: u64) -> String {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{mixed:016x}-{number:08x}-4a5b-8c7d")
}

/// Asks for a page behind a message. How long until it was there.
fn page(link: &mut Guest, after: u64) -> Outcome<Duration> {
    let request = json!({
        "type": "sync_request", "channel_id": CHANNEL, "after_message_id": id(after), "limit": PAGE,
    });
    let begun = Instant::now();
    link.send(&request.to_string())?;
    loop {
        let text = link.next_text()?.ok_or("the peer closed the link")?;
        let took = begun.elapsed();
        // What is said about live messages has none.
        let messages = text.matches("\"message_id\"").count() as u64;
        if text.starts_with("{\"type\":\"sync_response\"") && messages > 0 {
            return if messages == PAGE {
                Ok(took)
            } else {
                Err(format!("a page of {messages} messages"))
            };
        }
    }
}

/// How many signatures one thread verifies: every peer has to, once for each message.
fn verifications_per_second() -> f64 {
    let key = NodeKey::from_seed([3; 32]);
    let text = [b'x'; 300];
    let signature = key.sign(&text);
    let node = key.node_id();
    let begun = Instant::now();
    for _ in 0..VERIFICATIONS {
        let verified = verify_node_signature(&node, &text, &signature);
        std::hint::black_box(verified.is_ok());
    }
    f64::from(VERIFICATIONS) / begun.elapsed().as_secs_f64()
}
