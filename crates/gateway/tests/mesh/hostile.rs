//! Gateways with a session and no manners.

use bytes::{BufMut as _, Bytes, BytesMut};
use clawchat_node::Stream;
use clawchat_testkit::Person;
use serde_json::{Value, json};

use crate::common::{Rogue, within};
use crate::support::Peer;

const LABEL: &str = "mesh/1";

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_link_and_forged_messages_go_nowhere() {
    let bob = Peer::start(Person::Bob, &[]).await;
    let alice = Peer::start(Person::Alice, &[&bob]).await;
    alice.with_neighbours(1).await;
    let rogue = Rogue::new(Person::Dave.identity()).await;
    let session = rogue.session(&bob.gate, Person::Bob).await;

    let garbage = [
        // Lengths of 4 GiB, and of more than a first frame may have.
        Bytes::from_static(&[0xff; 4]),
        Bytes::from_static(&[0x00, 0x10, 0x00, 0x00, b'{']),
        // No JSON, no object, no handshake.
        frame("null"),
        frame("{\"type\":"),
        frame("{\"type\":\"subscribe\",\"channel_id\":\"lobby\"}"),
        frame("{\"type\":\"handshake\",\"version\":2,\"peer_id\":\"x\"}"),
    ];
    for bytes in garbage {
        let mut stream = session.open_stream(LABEL).await.unwrap();
        // The gateway may have ended it before everything is written.
        let _ = stream.write_all(bytes).await;
        stream.finish();
        within(async { while let Some(Ok(_)) = stream.read().await {} }).await;
    }

    let mut link = Link::open(session.open_stream(LABEL).await.unwrap()).await;
    let forged = json!({
        "type": "message", "message_id": "forged", "channel_id": "lobby", "sender_id": alice.name().await,
        "body": "I am Alice", "timestamp": "2026-11-21T09:30:12.000Z",
    });
    link.say(&forged).await;
    let answer = link.hear_until("error").await;
    assert!(
        answer["message"].as_str().unwrap().contains("ignature"),
        "{answer}"
    );
    let mut opaque = forged.clone();
    opaque["message_id"] = json!("opaque");
    opaque["sender_id"] = json!("dave");
    opaque["body"] = json!("I am whoever I say");
    link.say(&opaque).await;
    // Nobody asked for this.
    let mut unasked = opaque.clone();
    unasked["message_id"] = json!("unasked");
    link.say(&json!({ "type": "sync_response", "channel_id": "lobby", "messages": [unasked] }))
        .await;
    bob.bodies_once("lobby", 1).await;
    alice.send("lobby", "I am Alice indeed").await;
    let history = {
        bob.bodies_once("lobby", 2).await;
        bob.history("lobby").await
    };
    let shown: Vec<(&Value, &Value)> = history
        .iter()
        .map(|message| (&message["body"], &message["verified"]))
        .collect();
    assert_eq!(
        shown,
        [
            (&json!("I am whoever I say"), &json!(false)),
            (&json!("I am Alice indeed"), &json!(true))
        ]
    );
    assert_eq!(alice.bodies_once("lobby", 2).await.len(), 2);
}

/// A link to a gateway, hands shaken.
struct Link {
    stream: Stream,
    buffer: BytesMut,
}

impl Link {
    async fn open(stream: Stream) -> Self {
        let mut link = Self {
            stream,
            buffer: BytesMut::new(),
        };
        link.say(&json!({ "type": "handshake", "version": 1, "peer_id": "dave",
                          "capabilities": { "relay": true, "store": true } }))
            .await;
        link.hear_until("handshake").await;
        link
    }

    async fn say(&mut self, value: &Value) {
        within(self.stream.write_all(frame(&value.to_string())))
            .await
            .unwrap();
    }

    /// Passes over frames until there is one of that type.
    async fn hear_until(&mut self, kind: &str) -> Value {
        loop {
            while self.buffer.len() < 4 || self.buffer.len() < 4 + length(&self.buffer) {
                let bytes = within(self.stream.read())
                    .await
                    .expect("the link stands")
                    .unwrap();
                self.buffer.extend_from_slice(&bytes);
            }
            let frame = self.buffer.split_to(4 + length(&self.buffer));
            let value: Value = serde_json::from_slice(&frame[4..]).unwrap();
            if value["type"] == kind {
                return value;
            }
        }
    }
}

fn length(buffer: &[u8]) -> usize {
    u32::from_be_bytes(buffer[..4].try_into().unwrap()) as usize
}

fn frame(text: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u32(text.len() as u32);
    bytes.put_slice(text.as_bytes());
    bytes.freeze()
}
