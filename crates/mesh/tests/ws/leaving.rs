//! Peers that say something and leave: it is heard.

use std::io::Write as _;

use clawchat_mesh::ws::{WsEnd, WsLimits};
use futures::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

use super::helpers::{dialed_by_library, dialed_by_raw, soon, text};

/// Frames of one letter, as a client sends them, under the mask 0.
fn frames(letters: &[u8]) -> Vec<u8> {
    let frame = |letter: &u8| [0x81, 0x81, 0, 0, 0, 0, *letter];
    letters.iter().flat_map(frame).collect()
}

#[tokio::test]
async fn what_a_peer_said_before_its_connection_broke_is_read() {
    let said = b"abcdefghij";
    for pinged in [false, true] {
        let (mut reader, mut writer, socket) = dialed_by_raw(WsLimits::default()).await;
        // With something it did not read its end is a reset.
        soon(writer.send(vec![text("welcome")])).await.unwrap();
        // All of it happens before the link's task, on this same thread, looks at its socket again.
        let mut socket = socket.into_std().unwrap();
        // In one piece: what waits to be sent goes with a socket that ends so.
        let ping = pinged.then_some([0x89, 0x80, 0, 0, 0, 0]);
        let words = [ping.as_slice().as_flattened(), &frames(said)].concat();
        assert_eq!(socket.write(&words).unwrap(), words.len());
        drop(socket);
        let sending = writer.send(vec![text("to nobody")]);
        let reading = async {
            for letter in said {
                let frame = reader.next().await;
                let frame =
                    frame.unwrap_or_else(|| panic!("{} is lost: {:?}", *letter as char, reader.end()));
                assert_eq!(frame.as_bytes(), [*letter]);
            }
            assert!(reader.next().await.is_none());
        };
        let (sent, ()) = soon(async { tokio::join!(sending, reading) }).await;
        assert!(sent.is_err(), "nobody took it");
        assert_eq!(reader.end(), Some(WsEnd::Lost));
    }
}

#[tokio::test]
async fn what_a_peer_said_before_it_closed_waits_for_a_slow_reader() {
    let (mut reader, _writer, mut client) = dialed_by_library(WsLimits::default()).await;
    // Each is taken by itself: the answer to a ping says that it was.
    for number in 0..10 {
        soon(client.send(Message::text(number.to_string())))
            .await
            .unwrap();
        soon(client.send(Message::Ping("".into()))).await.unwrap();
        assert!(matches!(soon(client.next()).await, Some(Ok(Message::Pong(_)))));
    }
    soon(client.close(None)).await.unwrap();
    while let Some(Ok(_)) = soon(client.next()).await {}
    for number in 0..10 {
        let frame = soon(reader.next()).await;
        let frame = frame.unwrap_or_else(|| panic!("{number} is lost: {:?}", reader.end()));
        assert_eq!(frame.as_bytes(), number.to_string().as_bytes());
    }
    assert!(soon(reader.next()).await.is_none());
    assert_eq!(reader.end(), Some(WsEnd::Closed { code: None }));
}
