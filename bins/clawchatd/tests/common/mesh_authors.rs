//! Who writes while the line of mesh peers is in a storm: at each peer one through its local socket, whose messages the
//! peer signs, and one who is a neighbour of it, signs for itself and says a wrong time.
//!
//! Part of `mesh_storm`.

use std::cell::Cell;
use std::path::PathBuf;

use clawchat_ipc::client::{Client, ClientError};
use clawchat_ipc::{Answer, Call};
use clawchat_testkit::SeededRng;
use serde_json::{Value, json};

use crate::gateways::{ANSWER_LIMIT, Outcome, text};
use crate::mesh_guest::{Author, Guest, now};
use crate::mesh_peers::MeshPeer;
use crate::mesh_storm::{CHANNEL, Desk, PEERS, STEP_LIMIT};

/// How far the clocks of those who sign for themselves may be off, in milliseconds: an hour.
const CLOCK_OFF: u64 = 60 * 60 * 1000;
/// One message of so many is sent once more although it was acknowledged.
const REPEATED: u64 = 8;
/// The number of the message that an author writes last.
const LAST: u64 = u64::MAX;

/// One author, at one peer.
pub(crate) struct Post {
    /// Its place among the authors: two at each peer.
    place: usize,
    socket: PathBuf,
    port: u16,
    /// The name of the peer, for those who write through it.
    peer_id: String,
    /// The key, for those who sign for themselves.
    author: Option<Author>,
    seed: u64,
    /// When the storm began, in milliseconds since 1970.
    began: u64,
}

/// What became of an author's messages.
#[derive(Default)]
pub(crate) struct Sent {
    /// How many were offered, numbered from 0.
    pub(crate) offered: u64,
    /// Those that were acknowledged: number and id.
    pub(crate) acknowledged: Vec<(u64, String)>,
    /// How many were sent again though they had been acknowledged, or might have been stored.
    pub(crate) repeated: u64,
}

impl Sent {
    fn count(&self) -> u64 {
        u64::try_from(self.acknowledged.len()).unwrap_or(u64::MAX)
    }
}

impl Post {
    /// Two authors for each peer. The peers must have been started once.
    pub(crate) fn all(peers: &[MeshPeer], seed: u64) -> Vec<Self> {
        let began = now();
        (0..2 * PEERS)
            .zip(peers.iter().flat_map(|peer| [peer, peer]))
            .map(|(place, peer)| Self {
                place,
                socket: peer.socket(),
                port: peer.port(),
                peer_id: peer.peer_id().to_owned(),
                author: (place % 2 == 1).then(|| Author::new(seed ^ place as u64)),
                seed,
                began,
            })
            .collect()
    }

    /// Writes as many messages as are allowed until no more will be, whatever happens to the peer.
    pub(crate) fn write(&self, desk: &Desk) -> Sent {
        let mut sent = Sent::default();
        loop {
            let starts = self.starts(desk);
            let done = match &self.author {
                None => self
                    .through_socket(desk, &mut sent, starts)
                    .map_err(|error| error.to_string()),
                Some(author) => self.as_neighbour(desk, author, &mut sent, starts),
            };
            match done {
                Ok(true) => return sent,
                Ok(false) => {}
                Err(error) if desk.again(self.peer(), starts, &error) => {}
                Err(_) => return sent,
            }
        }
    }

    /// One more, if it writes through the socket. Its id.
    pub(crate) fn write_last(&self) -> Outcome<Option<String>> {
        if self.author.is_some() {
            return Ok(None);
        }
        let mut client =
            Client::connect(&self.socket, Some(ANSWER_LIMIT)).map_err(|error| error.to_string())?;
        let answer = client
            .call_value(&self.request(LAST))
            .map_err(|error| format!("the last message at peer {}: {error}", self.peer()))?;
        text(&answer, "id").map(Some)
    }

    /// What a message of it says: its number, and something whose length and letters depend on it.
    pub(crate) fn body(&self, number: u64) -> String {
        let mut random = SeededRng::new(self.seed ^ number.rotate_left(32) ^ self.place as u64);
        let length = if random.one_in(100) {
            40_000
        } else {
            random.below(200)
        };
        let letters =
            (0..length).map(|_| char::from(b'a' + u8::try_from(random.below(26)).unwrap_or_default()));
        format!("{} {number} {}", self.place, letters.collect::<String>())
    }

    /// Whether a message is one of its own.
    pub(crate) fn wrote(&self, sender: &str, body: &str) -> bool {
        let number = body.split(' ').nth(1).and_then(|number| number.parse().ok());
        sender == self.name() && number.is_some_and(|number| self.body(number) == body)
    }

    /// What it is called in the mesh.
    pub(crate) fn name(&self) -> &str {
        self.author.as_ref().map_or(&self.peer_id, Author::name)
    }

    fn peer(&self) -> usize {
        self.place / 2
    }

    fn starts(&self, desk: &Desk) -> u64 {
        desk.state().starts.get(self.peer()).copied().unwrap_or_default()
    }

    fn acknowledged(&self, desk: &Desk, sent: &Sent) {
        desk.change(|state| {
            if let Some(count) = state.acknowledged.get_mut(self.place) {
                *count = sent.count();
            }
        });
    }

    /// Waits for something to do. `None`: the peer was killed meanwhile, or nothing more is to be done.
    fn allowed(&self, desk: &Desk, sent: &Sent, starts: u64) -> Outcome<Option<u64>> {
        desk.wait_for("no more messages", STEP_LIMIT * 4, |state| {
            let over = state.writing_over || state.starts.get(self.peer()) != Some(&starts);
            (over || state.allowed > sent.count()).then_some((!over).then_some(state.allowed))
        })
    }

    /// Over one connection to the local socket. None is offered twice. True when it is done.
    fn through_socket(&self, desk: &Desk, sent: &mut Sent, starts: u64) -> Result<bool, ClientError> {
        let mut client = Client::connect(&self.socket, Some(ANSWER_LIMIT))?;
        loop {
            match self.allowed(desk, sent, starts) {
                Ok(Some(allowed)) => {
                    let missing = allowed.saturating_sub(sent.count());
                    let offered = Cell::new(sent.offered);
                    let calls = (sent.offered..sent.offered + missing).filter_map(|number| {
                        offered.set(number + 1);
                        Call::from_value(self.request(number)).ok()
                    });
                    let result = client.pipeline(calls, |answer| match stored(&answer) {
                        Ok(entry) => {
                            sent.acknowledged.push(entry);
                            self.acknowledged(desk, sent);
                        }
                        Err(reason) => desk.accuse(format!("author {}: {reason}", self.place)),
                    });
                    sent.offered = offered.get();
                    result?;
                }
                Ok(None) => return Ok(desk.state().writing_over),
                Err(reason) => {
                    desk.accuse(reason);
                    return Ok(true);
                }
            }
        }
    }

    /// Over a link for each round: what the peer has not in its log is sent, perhaps again, and some of the rest too.
    /// True when it is done.
    fn as_neighbour(&self, desk: &Desk, author: &Author, sent: &mut Sent, starts: u64) -> Outcome<bool> {
        loop {
            let Some(allowed) = self.allowed(desk, sent, starts)? else {
                return Ok(desk.state().writing_over);
            };
            let link = Guest::greet(self.port, author.name())?;
            let (first, before) = (sent.count(), sent.offered);
            for number in first..allowed {
                let mut random = SeededRng::new(self.seed ^ number ^ (self.place as u64) << 40);
                if random.one_in(REPEATED) && number > 0 {
                    link.send(&self.message(author, random.below(number))?)?;
                    sent.repeated += 1;
                }
                sent.repeated += u64::from(number < before);
                sent.offered = sent.offered.max(number + 1);
                link.send(&self.message(author, number)?)?;
            }
            // The peer's own followers tell what is in its log; a link has no acknowledgements.
            let ids: Vec<String> = (first..allowed).map(|number| self.id(number)).collect();
            let all = desk.wait_for("a neighbour's messages are not stored", STEP_LIMIT, |state| {
                let seen = state.seen.get(self.peer())?;
                let all = ids.iter().all(|id| seen.contains_key(id));
                let killed = state.starts.get(self.peer()) != Some(&starts);
                (all || killed || state.writing_over).then_some(all)
            });
            match all {
                Ok(true) => {
                    sent.acknowledged.extend((first..allowed).zip(ids));
                    self.acknowledged(desk, sent);
                }
                Ok(false) => return Ok(desk.state().writing_over),
                Err(reason) => {
                    desk.accuse(format!("author {}: {reason}", self.place));
                    return Ok(true);
                }
            }
        }
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{}-{number}", self.place, self.seed)
    }

    /// The same text whenever it is made: its time is off by up to an hour, to either side.
    fn message(&self, author: &Author, number: u64) -> Outcome<String> {
        let mut random = SeededRng::new(self.seed.rotate_left(17) ^ number ^ (self.place as u64) << 48);
        let time = self.began + random.below(2 * CLOCK_OFF) - CLOCK_OFF;
        author.message(CHANNEL, &self.id(number), &self.body(number), time)
    }

    fn request(&self, number: u64) -> Value {
        json!({ "cmd": "channel_send", "id": number, "channel": CHANNEL, "body": self.body(number) })
    }
}

/// The number and id of an answer that says that a message is stored.
fn stored(answer: &Answer) -> Outcome<(u64, String)> {
    let number = answer
        .id
        .as_ref()
        .and_then(Value::as_u64)
        .ok_or("an answer without the id of its request")?;
    let data = answer
        .result
        .as_ref()
        .map_err(|failure| format!("message {number} was refused: {failure}"))?;
    if data["status"] != "sent" {
        return Err(format!("message {number} was answered with {data}"));
    }
    Ok((number, text(data, "id")?))
}
