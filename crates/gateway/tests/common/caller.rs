//! Somebody who speaks JSON lines to a gateway's socket.

use std::collections::VecDeque;
use std::path::PathBuf;

use clawchat_testkit::Person;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::{Gate, WAIT, eventually, within};

/// Acts as one identity. Each request goes over a connection of its own.
#[derive(Clone)]
pub(crate) struct Caller {
    socket: PathBuf,
    who: String,
}

impl Caller {
    pub(super) fn new(socket: PathBuf, who: &str) -> Self {
        Self {
            socket,
            who: who.to_owned(),
        }
    }

    /// A connection for several requests.
    pub(crate) async fn connect(&self) -> Line {
        let (reader, writer) = UnixStream::connect(&self.socket)
            .await
            .expect("a gateway that serves")
            .into_split();
        Line {
            who: self.who.clone(),
            incoming: BufReader::new(reader).lines(),
            early: VecDeque::new(),
            outgoing: writer,
        }
    }

    /// The whole answer to a request.
    pub(crate) async fn ask(&self, request: Value) -> Value {
        let mut line = self.connect().await;
        line.say(request).await;
        line.hear().await
    }

    /// The data of an answer that is no error.
    pub(crate) async fn ok(&self, request: Value) -> Value {
        let mut answer = self.ask(request.clone()).await;
        assert_eq!(answer["ok"], true, "{request}: {answer}");
        answer["data"].take()
    }

    /// The code of an answer that is an error.
    pub(crate) async fn refused(&self, request: Value) -> String {
        let answer = self.ask(request.clone()).await;
        assert_eq!(answer["ok"], false, "{request}: {answer}");
        answer["code"].as_str().unwrap().to_owned()
    }

    /// Notes where somebody is to be found.
    pub(crate) async fn knows(&self, peer: Person, at: &Gate) {
        self.ok(
            json!({ "cmd": "peer_add", "principal": peer.principal().to_string(), "address": at.address() }),
        )
        .await;
    }

    /// Queues a message. Gives its id.
    pub(crate) async fn send(&self, to: impl ToString, content: &str) -> String {
        let sent = self
            .ok(json!({ "cmd": "send", "to": to.to_string(), "content": content }))
            .await;
        assert_eq!(sent["status"], "queued");
        sent["id"].as_str().unwrap().to_owned()
    }

    /// Sends a message and waits until it has arrived. Gives its id.
    pub(crate) async fn deliver(&self, to: impl ToString, content: &str) -> String {
        let sent = self.deliver_or_not(to, content).await;
        assert_eq!(sent["data"]["status"], "delivered", "{sent}");
        sent["data"]["id"].as_str().unwrap().to_owned()
    }

    /// Sends a message and waits for its fate: the whole answer.
    pub(crate) async fn deliver_or_not(&self, to: impl ToString, content: &str) -> Value {
        self.ask(json!({ "cmd": "send", "to": to.to_string(), "content": content, "wait": WAIT }))
            .await
    }

    /// Everything that has arrived.
    pub(crate) async fn inbox(&self) -> Vec<Value> {
        list(self.ok(json!({ "cmd": "inbox" })).await)
    }

    /// The texts of everything that has arrived.
    pub(crate) async fn texts(&self) -> Vec<String> {
        contents(&self.inbox().await)
    }

    /// Waits until so many messages have arrived. Gives their texts.
    pub(crate) async fn texts_once(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} messages"), async || {
            let texts = self.texts().await;
            (texts.len() >= count).then_some(texts)
        })
        .await
    }

    /// One message of the outbox.
    pub(crate) async fn sent(&self, id: &str) -> Value {
        let outbox = list(self.ok(json!({ "cmd": "outbox" })).await);
        let found = outbox.into_iter().find(|entry| entry["id"] == id);
        found.expect("a message in the outbox")
    }

    /// Waits until a message of the outbox is as wanted.
    pub(crate) async fn sent_once(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let looking = async {
            loop {
                last = self.sent(id).await;
                if wanted(&last) {
                    return;
                }
                tokio::time::sleep(super::LOOK_AGAIN).await;
            }
        };
        let result = super::in_time(looking).await;
        assert!(result.is_some(), "it stays {last}");
        last
    }

    /// Waits until a try of a message has failed and the message is queued for the next. Gives `lastError`.
    pub(crate) async fn waiting(&self, id: &str) -> String {
        // The next try may have begun before anybody looks.
        let failed = |entry: &Value| !entry["lastError"].is_null() && entry["status"] == "pending";
        let entry = self.sent_once(id, failed).await;
        entry["lastError"].as_str().unwrap().to_owned()
    }

    /// Follows events; `more` are further fields of the request.
    pub(crate) async fn subscribe(&self, more: Value) -> Line {
        let mut line = self.connect().await;
        let mut request = json!({ "cmd": "subscribe", "id": "subscription" });
        for (key, value) in more.as_object().unwrap() {
            request[key] = value.clone();
        }
        line.say(request).await;
        // The subscription stands once a later request of the connection is answered.
        line.say(json!({ "cmd": "multiaddrs", "id": "after" })).await;
        loop {
            let heard = line.hear_new().await;
            if heard["id"] == "after" {
                return line;
            }
            line.early.push_back(heard);
        }
    }

    /// What the gateway has counted: the sample of a metric with this word in its label, or the one without a label.
    pub(crate) async fn metric(&self, name: &str, word: &str) -> u64 {
        let answer = self.ok(json!({ "cmd": "metrics" })).await;
        let metrics = list(answer["metrics"].clone());
        let metric = metrics.into_iter().find(|metric| metric["name"] == name);
        let samples = list(metric.expect("a metric of that name")["samples"].clone());
        let labelled = |sample: &Value| match sample["labels"].as_object() {
            Some(labels) => labels.values().any(|value| value == word),
            None => word.is_empty(),
        };
        let sample = samples
            .into_iter()
            .find(labelled)
            .expect("a sample of that label");
        sample["value"].as_u64().unwrap()
    }

    /// Waits until the gateway has counted at least so many.
    pub(crate) async fn counted(&self, name: &str, word: &str, least: u64) -> u64 {
        eventually(&format!("{least} of {name} {word}"), async || {
            let count = self.metric(name, word).await;
            (count >= least).then_some(count)
        })
        .await
    }

    /// The peers this identity has a session with.
    pub(crate) async fn connected(&self) -> Vec<String> {
        let status = self.ok(json!({ "cmd": "status" })).await;
        list(status["connectedPeers"].clone())
            .iter()
            .map(|peer| peer.as_str().unwrap().to_owned())
            .collect()
    }
}

/// One connection to a socket.
pub(crate) struct Line {
    who: String,
    incoming: Lines<BufReader<OwnedReadHalf>>,
    /// Heard already, but not by the test.
    early: VecDeque<Value>,
    outgoing: OwnedWriteHalf,
}

impl Line {
    /// Sends a request, as the caller's identity unless it says otherwise.
    pub(crate) async fn say(&mut self, mut request: Value) {
        if request["as"].is_null() {
            request["as"] = json!(self.who);
        }
        let line = format!("{request}\n");
        within(self.outgoing.write_all(line.as_bytes())).await.unwrap();
    }

    /// The next line.
    pub(crate) async fn hear(&mut self) -> Value {
        if let Some(line) = self.early.pop_front() {
            return line;
        }
        self.hear_new().await
    }

    async fn hear_new(&mut self) -> Value {
        let line = within(self.incoming.next_line()).await.unwrap();
        serde_json::from_str(&line.expect("a line")).unwrap()
    }

    /// The beginning of the next line, which stays unread.
    pub(crate) async fn hear_a_bit(&mut self) {
        let read = within(self.incoming.get_mut().fill_buf()).await.unwrap();
        assert!(!read.is_empty());
    }

    /// Whether the daemon closes the connection, perhaps after the event that says so.
    pub(crate) async fn ends(&mut self) -> bool {
        loop {
            match within(self.incoming.next_line()).await {
                Ok(None) | Err(_) => return true,
                Ok(Some(line)) if line.contains("\"end\"") => {}
                Ok(Some(_)) => return false,
            }
        }
    }

    /// Passes over lines until there is a wanted one.
    pub(crate) async fn hear_until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.hear().await;
            if wanted(&line) {
                return line;
            }
        }
    }
}

/// The texts of messages.
pub(crate) fn contents(messages: &[Value]) -> Vec<String> {
    messages
        .iter()
        .map(|message| message["content"].as_str().unwrap().to_owned())
        .collect()
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        other => panic!("not a list: {other}"),
    }
}
