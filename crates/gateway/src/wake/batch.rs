//! The messages one wake is about, and how they are told.

use std::collections::VecDeque;

use clawchat_store::InboxEntry;
use clawchat_types::{MessageId, Nick, Principal, UnixMillis};
use serde_json::{Value, json};

use super::text;

/// Most ids told with a wake: the newest.
pub(super) const MAX_IDS: usize = 256;
/// Most senders told one by one in JSON; the others are only counted.
pub(super) const MAX_SENDERS: usize = 64;
/// Most senders named in a sentence.
const NAMED_SENDERS: usize = 3;

/// What a wake may have to know of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) arrival: u64,
    pub(super) id: MessageId,
    pub(super) from: Principal,
    pub(super) nick: Option<Nick>,
    pub(super) received_at: UnixMillis,
    /// Whether it asks for attention at once, and its sender may.
    pub(super) urgent: bool,
    /// The beginning of its text, as received.
    pub(super) text: String,
}

impl Note {
    /// Of an entry; `may_be_urgent` is asked only if its text asks for attention at once.
    pub(super) fn of(entry: &InboxEntry, may_be_urgent: impl FnOnce(&Principal) -> bool) -> Self {
        let message = &entry.message;
        let content = message.content.as_str();
        Self {
            arrival: entry.arrival,
            id: message.id,
            from: message.from,
            nick: message.from_nick.clone(),
            received_at: entry.received_at,
            urgent: text::is_urgent(content) && may_be_urgent(&message.from),
            text: text::beginning(content).to_owned(),
        }
    }

    fn who(&self) -> String {
        named(&self.from, self.nick.as_ref())
    }
}

/// Messages that one wake tells of. Holds little, however many they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    first: u64,
    count: u64,
    ids: VecDeque<MessageId>,
    senders: Vec<Sender>,
    /// Messages of senders that are only counted.
    of_others: u64,
    newest: Note,
    newest_urgent: Option<Note>,
    and_more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sender {
    principal: Principal,
    nick: Option<Nick>,
    count: u64,
}

impl Batch {
    /// With one message.
    pub(super) fn new(note: Note) -> Self {
        let mut batch = Self {
            first: note.arrival,
            count: 0,
            ids: VecDeque::new(),
            senders: Vec::new(),
            of_others: 0,
            newest: note.clone(),
            newest_urgent: None,
            and_more: false,
        };
        batch.add(note);
        batch
    }

    /// With one message more.
    pub(super) fn add(&mut self, note: Note) {
        self.first = self.first.min(note.arrival);
        self.count += 1;
        self.ids.push_back(note.id);
        if self.ids.len() > MAX_IDS {
            self.ids.pop_front();
        }
        let known = self
            .senders
            .iter()
            .position(|sender| sender.principal == note.from);
        match known {
            Some(index) => {
                let sender = &mut self.senders[index];
                sender.count += 1;
                sender.nick.clone_from(&note.nick);
            }
            None if self.senders.len() < MAX_SENDERS => self.senders.push(Sender {
                principal: note.from,
                nick: note.nick.clone(),
                count: 1,
            }),
            None => self.of_others += 1,
        }
        let newest = |known: &Note| known.arrival <= note.arrival;
        if note.urgent && self.newest_urgent.as_ref().is_none_or(newest) {
            self.newest_urgent = Some(note.clone());
        }
        if newest(&self.newest) {
            self.newest = note;
        }
    }

    /// Notes that there are messages nobody counted.
    pub(super) fn set_more(&mut self) {
        self.and_more = true;
    }

    /// The earliest arrival among them.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.newest_urgent.is_some()
    }

    /// Those that are told one by one.
    pub(super) fn senders(&self) -> impl Iterator<Item = &Principal> {
        self.senders.iter().map(|sender| &sender.principal)
    }

    /// The id of the newest message.
    pub(super) fn newest_id(&self) -> &MessageId {
        &self.newest.id
    }

    /// The message whose text is told: the newest urgent one, else the newest.
    fn told(&self) -> &Note {
        self.newest_urgent.as_ref().unwrap_or(&self.newest)
    }

    /// What an agent is told, in one line.
    pub(super) fn sentence(&self) -> String {
        let told = self.told();
        if self.count == 1 && !self.and_more {
            return format!("ClawChat from {}: {}", told.who(), text::words(&told.text));
        }
        let which = if told.urgent { "newest urgent" } else { "newest" };
        let words = text::quoted(&told.text);
        let over = if self.and_more { "more than " } else { "" };
        let count = self.count;
        if let [sender] = self.senders.as_slice() {
            let who = named(&sender.principal, sender.nick.as_ref());
            return format!("ClawChat: {over}{count} messages from {who}, the {which}: {words}");
        }
        let named_ones: Vec<String> = self
            .senders
            .iter()
            .take(NAMED_SENDERS)
            .map(|sender| {
                let who = named(&sender.principal, sender.nick.as_ref());
                format!("{who} ({})", sender.count)
            })
            .collect();
        let others = if self.senders.len() > NAMED_SENDERS || self.of_others > 0 {
            " and others"
        } else {
            ""
        };
        format!(
            "ClawChat: {over}{count} messages from {}{others}, the {which} from {}: {words}",
            named_ones.join(", "),
            told.who()
        )
    }

    /// What a program is told.
    pub(super) fn to_json(&self, identity: &Principal) -> Value {
        let told = self.told();
        let senders: Vec<Value> = self
            .senders
            .iter()
            .map(|sender| json!({ "from": sender.principal, "nick": sender.nick, "count": sender.count }))
            .collect();
        json!({
            "event": "message",
            "identity": identity,
            "from": told.from,
            "nick": told.nick,
            "count": self.count,
            "more": self.and_more,
            "id": self.newest.id,
            "ids": self.ids,
            "senders": senders,
            "urgent": self.is_urgent(),
            "text": text::one_line(&told.text),
            "summary": self.sentence(),
            "receivedAt": told.received_at,
        })
    }
}

fn named(principal: &Principal, nick: Option<&Nick>) -> String {
    match nick {
        Some(nick) => format!("{principal}({nick})"),
        None => principal.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::LazyLock;

    use clawchat_testkit::stranger;

    use super::*;

    /// A message of sender number `from`.
    pub(in crate::wake) fn note(arrival: u64, from: u8, text: &str) -> Note {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&arrival.to_be_bytes());
        Note {
            arrival,
            id: MessageId::new(id),
            from: sender(from),
            nick: (from % 2 == 1).then(|| format!("nick{from}").parse().unwrap()),
            received_at: UnixMillis(arrival),
            urgent: text::is_urgent(text),
            text: text.to_owned(),
        }
    }

    pub(in crate::wake) fn sender(number: u8) -> Principal {
        // Making keys takes its time.
        static SENDERS: LazyLock<Vec<Principal>> =
            LazyLock::new(|| (0..=100).map(|number| *stranger(number).principal()).collect());
        SENDERS[usize::from(number)]
    }

    fn batch(notes: &[Note]) -> Batch {
        let mut batch = Batch::new(notes[0].clone());
        notes[1..].iter().for_each(|note| batch.add(note.clone()));
        batch
    }

    #[test]
    fn one_message_is_told_in_the_words_of_the_typescript_version() {
        let one = sender(1);
        assert_eq!(
            batch(&[note(1, 1, "hello")]).sentence(),
            format!("ClawChat from {one}(nick1): hello")
        );
        assert_eq!(
            batch(&[note(1, 2, "hi\n# there")]).sentence(),
            format!("ClawChat from {}: \"hi⏎# there\"", sender(2))
        );
    }

    #[test]
    fn several_are_counted_and_the_newest_is_told() {
        let (one, two) = (sender(1), sender(2));
        let of_one = [note(1, 1, "a"), note(2, 1, "b"), note(3, 1, "c")];
        assert_eq!(
            batch(&of_one).sentence(),
            format!("ClawChat: 3 messages from {one}(nick1), the newest: \"c\"")
        );
        let of_two = [note(1, 1, "ALERT: fire"), note(2, 2, "b"), note(3, 1, "c")];
        assert_eq!(
            batch(&of_two).sentence(),
            format!(
                "ClawChat: 3 messages from {one}(nick1) (2), {two} (1), the newest urgent from {one}(nick1): \"ALERT: fire\""
            )
        );
        let json = batch(&of_two).to_json(&two);
        assert_eq!((&json["count"], &json["urgent"]), (&json!(3), &json!(true)));
        assert_eq!(json["ids"].as_array().unwrap().len(), 3);
        assert_eq!(json["id"], json["ids"][2]);
        assert_eq!(json["senders"][0]["count"], 2);
        assert_eq!(json["text"], "ALERT: fire");
    }

    #[test]
    fn however_many_they_are_little_is_told() {
        let notes: Vec<Note> = (1..=100)
            .map(|from| note(1, from, &"\n\"long ".repeat(500)))
            .collect();
        let mut all = Batch::new(notes[0].clone());
        for arrival in 2..=5000 {
            let mut note = notes[arrival % notes.len()].clone();
            note.arrival = arrival as u64;
            all.add(note);
        }
        all.set_more();
        assert!(
            all.sentence()
                .starts_with("ClawChat: more than 5000 messages from ")
        );
        assert!(all.sentence().contains(" and others, "), "{}", all.sentence());
        assert!(all.sentence().chars().count() < 1500);
        let json = all.to_json(&sender(1));
        assert_eq!(json["ids"].as_array().unwrap().len(), MAX_IDS);
        assert_eq!(json["senders"].as_array().unwrap().len(), MAX_SENDERS);
        assert!(json.to_string().len() < 32 * 1024);
    }
}
