//! What long messages leave behind. A program of its own, since it measures the memory of the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use clawchat_mesh::ws::{ClientTls, WebSockets, WsLimits};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);
const LINKS: usize = 60;
const MESSAGE_BYTES: usize = 10 * 1024 * 1024;
/// What the places for long messages may take together, with what the links and the allocator keep besides.
const MOST_BYTES: usize = 160 * 1024 * 1024;
/// What may be left when all of them are idle.
const LEFT_BYTES: usize = 50 * 1024 * 1024;

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn links_keep_no_memory_of_long_messages() {
    let limits = WsLimits {
        accepted_per_address: LINKS,
        ..WsLimits::default()
    };
    let sockets = WebSockets::new(limits, ClientTls::new(b"").unwrap());
    let mut listener = sockets
        .listen("127.0.0.1:0".parse().unwrap(), None)
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let before = resident();
    let mut links = Vec::new();
    let mut senders = Vec::new();
    for _ in 0..LINKS {
        let connect = async {
            let stream = TcpStream::connect(address).await.unwrap();
            client_async(format!("ws://{address}/"), stream).await.unwrap().0
        };
        let accept = async { listener.accept().await.open().await.unwrap() };
        let (mut client, link) = tokio::join!(connect, accept);
        let (reader, writer) = link.split();
        reader.admit_long_messages();
        links.push((reader, writer));
        // All of them at once, in pieces of a text that is there once.
        senders.push(tokio::spawn(async move {
            static PIECE: [u8; 65536] = [b'x'; 65536];
            let header = FrameHeader {
                opcode: OpCode::Data(Data::Text),
                mask: Some([0; 4]),
                ..FrameHeader::default()
            };
            let mut head = Vec::new();
            header.format(MESSAGE_BYTES as u64, &mut head).unwrap();
            let socket = client.get_mut();
            socket.write_all(&head).await.unwrap();
            for _ in 0..MESSAGE_BYTES / PIECE.len() {
                socket.write_all(&PIECE).await.unwrap();
            }
            client
        }));
    }
    let mut most = 0;
    let reading = async {
        for (reader, _) in &mut links {
            assert_eq!(reader.next().await.unwrap().as_bytes().len(), MESSAGE_BYTES);
            most = most.max(resident());
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    let mut clients = Vec::new();
    for sender in senders {
        clients.push(sender.await.unwrap());
    }
    let (most, left) = (most.saturating_sub(before), resident().saturating_sub(before));
    assert!(most < MOST_BYTES, "{} MiB at most", most >> 20);
    assert!(left < LEFT_BYTES, "{} MiB left", left >> 20);
    drop((links, clients));
}
