//! A peer as existing ones are: in the order of timestamps, without signatures in a sync, one page a connection.

use std::collections::{BTreeMap, BTreeSet};

use clawchat_mesh::Side;
use clawchat_types::UnixMillis;
use serde_json::{Value, json};

pub(crate) struct OldPeer {
    name: String,
    channels: BTreeSet<String>,
    store: Vec<Value>,
    links: BTreeMap<usize, Neighbour>,
    sent: Vec<(usize, String)>,
    /// Sync requests it got: channel and the id behind which.
    pub(crate) asked: Vec<(String, Value)>,
    /// Messages it gave in answer.
    pub(crate) served: usize,
}

#[derive(Default)]
struct Neighbour {
    dialed: bool,
    wants: BTreeSet<String>,
}

impl OldPeer {
    pub(crate) fn new(name: &str, channels: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            channels: channels.iter().map(|name| (*name).to_owned()).collect(),
            store: Vec::new(),
            links: BTreeMap::new(),
            sent: Vec::new(),
            asked: Vec::new(),
            served: 0,
        }
    }

    pub(crate) fn take_sent(&mut self) -> Vec<(usize, String)> {
        std::mem::take(&mut self.sent)
    }

    fn send(&mut self, to: usize, frame: &Value) {
        self.sent.push((to, frame.to_string()));
    }

    pub(crate) fn open(&mut self, to: usize, side: Side) {
        let dialed = side == Side::Dialed;
        self.links.insert(
            to,
            Neighbour {
                dialed,
                ..Neighbour::default()
            },
        );
        if dialed {
            self.greet(to);
        }
    }

    pub(crate) fn close(&mut self, to: usize) {
        self.links.remove(&to);
    }

    fn greet(&mut self, to: usize) {
        let name = self.name.clone();
        self.send(
            to,
            &json!({"type":"handshake","version":1,"peer_id":name,"capabilities":{"relay":true,"store":true}}),
        );
    }

    pub(crate) fn publish(&mut self, id: &str, channel: &str, body: &str, now: UnixMillis) {
        let timestamp = crate::one::iso(now);
        let message = json!({"type":"message","message_id":id,"channel_id":channel,"sender_id":self.name,"body":body,"timestamp":timestamp});
        self.store.push(message.clone());
        self.relay(&message, None);
    }

    fn relay(&mut self, message: &Value, from: Option<usize>) {
        let channel = message["channel_id"].as_str().unwrap();
        let to: Vec<usize> = self
            .links
            .iter()
            .filter(|(to, link)| Some(**to) != from && link.wants.contains(channel))
            .map(|(to, _)| *to)
            .collect();
        for to in to {
            self.send(to, message);
        }
    }

    fn knows(&self, id: &Value) -> bool {
        self.store.iter().any(|message| message["message_id"] == *id)
    }

    pub(crate) fn frame(&mut self, from: usize, text: &str, _now: UnixMillis) {
        let frame: Value = serde_json::from_str(text).unwrap();
        let channel = frame["channel_id"].as_str().unwrap_or_default().to_owned();
        match frame["type"].as_str().unwrap() {
            "handshake" => {
                if !self.links[&from].dialed {
                    self.greet(from);
                }
                for channel in self.channels.clone() {
                    self.send(from, &json!({"type":"subscribe","channel_id":channel}));
                    if frame["capabilities"]["store"] == true {
                        self.send(from, &json!({"type":"sync_request","channel_id":channel,"after_message_id":null,"limit":100}));
                    }
                }
            }
            "subscribe" => {
                self.links.get_mut(&from).unwrap().wants.insert(channel);
            }
            "message" if self.knows(&frame["message_id"]) => {}
            "message" => {
                self.store.push(frame.clone());
                self.relay(&frame, Some(from));
            }
            "sync_request" => {
                self.asked
                    .push((channel.clone(), frame["after_message_id"].clone()));
                let messages = self.page(&channel, &frame["after_message_id"], &frame["limit"]);
                self.served += messages.len();
                self.send(
                    from,
                    &json!({"type":"sync_response","channel_id":channel,"messages":messages}),
                );
            }
            "sync_response" => {
                for message in frame["messages"].as_array().unwrap() {
                    if !self.knows(&message["message_id"]) {
                        self.store.push(message.clone());
                    }
                }
            }
            "error" => panic!("{} got {text}", self.name),
            _ => {}
        }
    }

    fn page(&self, channel: &str, after: &Value, limit: &Value) -> Vec<Value> {
        let text = |message: &Value| message["timestamp"].as_str().unwrap().to_owned();
        let mut all: Vec<&Value> = self
            .store
            .iter()
            .filter(|message| message["channel_id"] == channel)
            .collect();
        all.sort_by_key(|message| text(message));
        if !after.is_null() {
            let Some(at) = all.iter().find(|message| message["message_id"] == *after) else {
                return Vec::new();
            };
            let time = text(at);
            all.retain(|message| text(message) > time);
        }
        let limit = limit.as_u64().unwrap_or(100).min(500) as usize;
        all.into_iter()
            .take(limit)
            .map(|message| {
                let mut message = message.clone();
                message.as_object_mut().unwrap().remove("signature");
                message
            })
            .collect()
    }

    pub(crate) fn ids(&self, channel: &str) -> Vec<String> {
        self.store
            .iter()
            .filter(|message| message["channel_id"] == channel)
            .map(|message| message["message_id"].as_str().unwrap().to_owned())
            .collect()
    }
}
