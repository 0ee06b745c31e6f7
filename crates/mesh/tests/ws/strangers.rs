//! What those can do who mean no good.

use std::time::Duration;

use clawchat_mesh::ws::{AcceptError, WsEnd, WsLimits};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};

use crate::helpers::{
    Attention, Pair, asked, dialed_by_library, dialed_by_raw, join_listener, listener, soon, text,
};

const MIB: usize = 1024 * 1024;

/// What the library's client is told: the texts, and the code of the close frame.
async fn told(client: &mut WebSocketStream<TcpStream>) -> (Vec<String>, Option<CloseCode>) {
    let mut texts = Vec::new();
    loop {
        match soon(client.next()).await {
            Some(Ok(Message::Text(text))) => texts.push(text.to_string()),
            Some(Ok(Message::Close(frame))) => return (texts, frame.map(|frame| frame.code)),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return (texts, None),
        }
    }
}

#[tokio::test]
async fn a_message_of_50_megabytes_gets_an_error_frame_and_a_close() {
    let (mut reader, _writer, client) = dialed_by_library(WsLimits::default()).await;
    reader.admit_long_messages();
    let (mut sink, stream) = client.split();
    // It sends all of it before it listens, and another link is served meanwhile.
    let sending = tokio::spawn(async move {
        let sent = sink.send(Message::text("x".repeat(50 * MIB))).await;
        (sink, sent)
    });
    assert!(soon(reader.next()).await.is_none());
    assert_eq!(reader.end(), Some(WsEnd::TooLong));
    let (sink, _) = soon(sending).await.unwrap();
    let mut client = stream.reunite(sink).unwrap();
    let (texts, code) = told(&mut client).await;
    assert_eq!(
        texts,
        [r#"{"type":"error","code":"invalid_message","message":"Message longer than 16777216 bytes"}"#]
    );
    assert_eq!(code, Some(CloseCode::Size));
}

#[tokio::test]
async fn before_the_peer_said_who_it_is_long_messages_are_refused_and_later_ones_wait() {
    let (mut reader, _writer, mut client) = dialed_by_library(WsLimits::default()).await;
    soon(client.send(Message::text("x".repeat(70_000))))
        .await
        .unwrap();
    assert!(soon(reader.next()).await.is_none());
    assert_eq!(reader.end(), Some(WsEnd::TooLong));
    assert_eq!(told(&mut client).await.1, Some(CloseCode::Size));

    let (mut reader, _writer, mut client) = dialed_by_library(WsLimits::default()).await;
    soon(client.send(Message::text("who I am"))).await.unwrap();
    soon(client.send(Message::text("x".repeat(70_000))))
        .await
        .unwrap();
    assert_eq!(soon(reader.next()).await.unwrap().as_bytes(), b"who I am");
    let early = tokio::time::timeout(Duration::from_millis(100), reader.next()).await;
    assert!(early.is_err());
    reader.admit_long_messages();
    assert_eq!(soon(reader.next()).await.unwrap().as_bytes().len(), 70_000);
}

#[tokio::test]
async fn a_message_in_endless_pieces_is_refused_too() {
    let (mut reader, _writer, mut client) = dialed_by_library(WsLimits::default()).await;
    reader.admit_long_messages();
    let ending = tokio::spawn(async move {
        assert!(soon(reader.next()).await.is_none());
        reader.end()
    });
    for number in 0..1000 {
        let kind = if number == 0 { Data::Text } else { Data::Continue };
        let piece = Frame::message("x".repeat(60_000), OpCode::Data(kind), false);
        if client.send(Message::Frame(piece)).await.is_err() {
            break;
        }
    }
    assert_eq!(ending.await.unwrap(), Some(WsEnd::TooLong));
}

#[tokio::test]
async fn long_messages_of_all_links_together_are_bounded() {
    let (mut listener, url) = listener(WsLimits::default()).await;
    let mut links = Vec::new();
    for _ in 0..6 {
        let (reader, writer, client) = join_listener(&mut listener, &url).await;
        reader.admit_long_messages();
        links.push((reader, writer, client));
    }
    let mut clients = Vec::new();
    let mut readers = Vec::new();
    for (reader, writer, mut client) in links {
        readers.push((reader, writer));
        clients.push(tokio::spawn(async move {
            client.send(Message::text("x".repeat(3 * MIB))).await.unwrap();
            client
        }));
    }
    // Four are kept, as if their reader were slow: the others are not read.
    let mut kept = Vec::new();
    let mut waiting = readers;
    while kept.len() < 4 {
        for position in (0..waiting.len()).rev() {
            if let Ok(frame) =
                tokio::time::timeout(Duration::from_millis(20), waiting[position].0.next()).await
            {
                kept.push((frame.unwrap(), waiting.remove(position)));
            }
        }
    }
    assert_eq!(kept.len(), 4);
    for (reader, _) in &mut waiting {
        let early = tokio::time::timeout(Duration::from_millis(100), reader.next()).await;
        assert!(early.is_err());
    }
    // Short messages of others are not held up.
    let (mut reader, _writer, mut client) = join_listener(&mut listener, &url).await;
    soon(client.send(Message::text("short"))).await.unwrap();
    assert_eq!(soon(reader.next()).await.unwrap().as_bytes(), b"short");
    kept.clear();
    for (reader, _) in &mut waiting {
        assert_eq!(soon(reader.next()).await.unwrap().as_bytes().len(), 3 * MIB);
    }
    for client in clients {
        soon(client).await.unwrap();
    }
}

#[tokio::test]
async fn whoever_never_reads_holds_up_nobody_but_itself() {
    let (_reader, mut writer, _socket) = dialed_by_raw(WsLimits::default()).await;
    let stuck = tokio::spawn(async move {
        for _ in 0..1000 {
            writer.send(vec![text(&"x".repeat(MIB))]).await.unwrap();
        }
    });
    let mut pair = Pair::open(WsLimits::default()).await;
    for _ in 0..100 {
        soon(pair.dialed.1.send(vec![text("x")])).await.unwrap();
        assert_eq!(soon(pair.accepted.0.next()).await.unwrap().as_bytes(), b"x");
    }
    assert!(!stuck.is_finished());
    stuck.abort();
}

#[tokio::test]
async fn whoever_reads_slowly_is_not_dead_and_whoever_never_reads_is() {
    let limits = WsLimits {
        ping_after: Duration::from_millis(500),
        dead_after: Duration::from_secs(5),
        ..WsLimits::default()
    };
    for _ in 0..10 {
        let (mut reader, mut writer, mut socket) = dialed_by_raw(limits).await;
        let attention = Attention::watch();
        let sending = tokio::spawn(async move { writer.send(vec![text(&"x".repeat(60 * MIB))]).await });
        let mut buffer = vec![0; MIB];
        let begun = tokio::time::Instant::now();
        // It takes twice as long as silence may, and says nothing.
        while begun.elapsed() < limits.dead_after * 2 && reader.end().is_none() {
            let read = soon(socket.read_exact(&mut buffer)).await;
            assert!(read.is_ok() || reader.end().is_some(), "{read:?}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        // Both ends share this thread.
        if let Some(end) = reader.end() {
            attention.excuses(&end, limits);
            continue;
        }
        // Now it reads no more.
        assert!(soon(reader.next()).await.is_none());
        assert_eq!(reader.end(), Some(WsEnd::Silent));
        assert!(soon(sending).await.unwrap().is_err());
        return;
    }
    panic!("this machine is too busy");
}

#[tokio::test]
async fn a_link_whose_peer_never_reads_can_be_closed() {
    let limits = WsLimits {
        accepted: 1,
        ..WsLimits::default()
    };
    let (mut listener, url) = listener(limits).await;
    let (mut reader, mut writer, client) = join_listener(&mut listener, &url).await;
    let sent = tokio::time::timeout(
        Duration::from_millis(300),
        writer.send(vec![text(&"x".repeat(30 * MIB))]),
    );
    assert!(sent.await.is_err());
    writer.close(1001, "");
    assert!(soon(reader.next()).await.is_none());
    assert_eq!(reader.end(), Some(WsEnd::ClosedHere));
    // The place is free once the goodbye was given up, while the other side still holds its socket.
    let address = listener.local_addr().unwrap();
    let opened = tokio::spawn(async move { listener.accept().await.open().await });
    soon(async { while !asked(address, "").await.1.starts_with("HTTP/1.1 101 ") {} }).await;
    soon(opened).await.unwrap().unwrap();
    drop(client);
}

#[tokio::test]
async fn garbage_ends_the_link_with_the_code_for_it() {
    for (bytes, end, code) in [
        // A reserved opcode; a frame without mask; a text that is not UTF-8; a ping that is too long.
        (&[0x83, 0x80, 0, 0, 0, 0][..], WsEnd::Broken, 1002u16),
        (&[0x81, 0x01, b'x'], WsEnd::Broken, 1002),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], WsEnd::Broken, 1007),
        (&[0x89, 0xfe, 0xff, 0xff, 0, 0, 0, 0], WsEnd::Broken, 1002),
    ] {
        let (mut reader, _writer, mut socket) = dialed_by_raw(WsLimits::default()).await;
        socket.write_all(bytes).await.unwrap();
        assert!(soon(reader.next()).await.is_none());
        assert_eq!(reader.end(), Some(end), "{bytes:?}");
        let mut told = Vec::new();
        soon(socket.read_to_end(&mut told)).await.unwrap();
        assert_eq!(told[0], 0x88, "{bytes:?}: {told:?}");
        assert_eq!(u16::from_be_bytes([told[2], told[3]]), code, "{bytes:?}");
    }
}

#[tokio::test]
async fn pings_without_end_end_the_link() {
    let (mut reader, _writer, mut socket) = dialed_by_raw(WsLimits::default()).await;
    let ping = [0x89, 0x80, 0, 0, 0, 0];
    for _ in 0..10_000 {
        if socket.write_all(&ping).await.is_err() {
            break;
        }
    }
    assert!(soon(reader.next()).await.is_none());
    assert_eq!(reader.end(), Some(WsEnd::Broken));
}

#[tokio::test]
async fn a_connection_that_breaks_is_lost() {
    let (mut reader, _writer, socket) = dialed_by_raw(WsLimits::default()).await;
    drop(socket);
    assert!(soon(reader.next()).await.is_none());
    assert_eq!(reader.end(), Some(WsEnd::Lost));
}

#[tokio::test]
async fn one_address_has_so_many_places_and_gets_them_back() {
    let limits = WsLimits {
        accepted_per_address: 2,
        ..WsLimits::default()
    };
    let (mut listener, url) = listener(limits).await;
    let address = listener.local_addr().unwrap();
    let first = join_listener(&mut listener, &url).await;
    let _second = join_listener(&mut listener, &url).await;
    let accepting = tokio::spawn(async move { (listener.accept().await, listener) });
    let (_socket, head) = asked(address, "").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    drop(first);
    // Its place is free when the goodbye is over.
    let opened = tokio::spawn(async move {
        let (accepted, _listener) = accepting.await.unwrap();
        accepted.open().await.unwrap()
    });
    soon(async {
        loop {
            let (_socket, head) = asked(address, "").await;
            if head.starts_with("HTTP/1.1 101 ") {
                break;
            }
        }
    })
    .await;
    soon(opened).await.unwrap();
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let (mut listener, _) = listener(WsLimits::default()).await;
    let address = listener.local_addr().unwrap();
    for (origin, opened) in [
        (format!("http://{address}"), true),
        ("https://evil.example".to_owned(), false),
        ("null".to_owned(), false),
    ] {
        let more = format!("Origin: {origin}\r\n");
        let accept = async { listener.accept().await.open().await };
        let ((_socket, head), link) = soon(async { tokio::join!(asked(address, &more), accept) }).await;
        if opened {
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            link.unwrap();
        } else {
            assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
            assert_eq!(link.err(), Some(AcceptError::NotWebSocket));
        }
    }
}

#[tokio::test]
async fn whoever_does_not_ask_in_time_is_not_waited_for() {
    let limits = WsLimits {
        opening: Duration::from_millis(100),
        ..WsLimits::default()
    };
    let (mut listener, _) = listener(limits).await;
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let accepted = soon(listener.accept()).await;
    assert_eq!(soon(accepted.open()).await.err(), Some(AcceptError::TimedOut));
}
