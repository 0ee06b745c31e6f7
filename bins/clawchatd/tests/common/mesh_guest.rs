//! A neighbour in the mesh that the test itself is: a WebSocket of its own, frames as they are written, and messages
//! signed by a key of the test's.
//!
//! Shared by the tests of this program and by `cargo xtask`, which includes this file.
#![allow(dead_code, reason = "each user needs another part of it")]

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, SystemTime};

use clawchat_identity::NodeKey;
use clawchat_mesh::{ChannelId, Message, PeerName};
use clawchat_types::UnixMillis;
use serde_json::{Value, json};

use crate::gateways::Outcome;

/// How long a frame may take.
const FRAME_LIMIT: Duration = Duration::from_secs(120);
/// Between two signs of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// Longest header of a frame from a client, in bytes.
const HEADER_BYTES: usize = 14;
/// Longest answer to the opening request, in bytes.
const MAX_ANSWER: usize = 16 * 1024;
/// RFC 6455, section 5.2: the last frame of a message.
const FIN: u8 = 0x80;
/// A frame with a mask, as all of a client have.
const MASKED: u8 = 0x80;
/// A frame that goes on with the text before.
const MORE: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A link to a peer.
pub(crate) struct Guest {
    reader: BufReader<TcpStream>,
}

impl Guest {
    /// Opens a WebSocket to a port of this machine. Nothing is said yet.
    pub(crate) fn dial(port: u16) -> Outcome<Self> {
        let open = || -> io::Result<Self> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(FRAME_LIMIT))?;
            stream.set_write_timeout(Some(FRAME_LIMIT))?;
            let request = format!(
                "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            );
            stream.write_all(request.as_bytes())?;
            let mut reader = BufReader::with_capacity(256 * 1024, stream);
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                reader.read_exact(&mut byte)?;
                answer.extend(byte);
                if answer.len() > MAX_ANSWER {
                    break;
                }
            }
            if answer.starts_with(b"HTTP/1.1 101 ") {
                Ok(Self { reader })
            } else {
                let answer = String::from_utf8_lossy(&answer).into_owned();
                Err(io::Error::other(format!("it answered {answer:?}")))
            }
        };
        open().map_err(|error| format!("no WebSocket to port {port}: {error}"))
    }

    /// The same, and both have said who they are. `name` is ours.
    pub(crate) fn greet(port: u16, name: &str) -> Outcome<Self> {
        let mut guest = Self::dial(port)?;
        guest.send(&handshake(name))?;
        guest.wait_for(|frame| frame["type"] == "handshake")?;
        Ok(guest)
    }

    /// Sends one text.
    pub(crate) fn send(&self, text: &str) -> Outcome {
        self.send_bytes(&masked(text))
    }

    /// Sends bytes as they are, frames or not.
    pub(crate) fn send_bytes(&self, bytes: &[u8]) -> Outcome {
        self.reader.get_ref().write_all(bytes).map_err(failed)
    }

    /// Lets the peer hear from it for as long as that lives, however long nobody reads here: whoever is silent for a
    /// minute is given up.
    pub(crate) fn stays(&self) -> Outcome {
        let mut writer = self.writer()?;
        let sign = masked(r#"{"type":"ping"}"#);
        thread::spawn(move || {
            while writer.write_all(&sign).is_ok() {
                thread::sleep(SIGN_OF_LIFE);
            }
        });
        Ok(())
    }

    /// The writing end by itself, for whoever writes and reads at once.
    pub(crate) fn writer(&self) -> Outcome<TcpStream> {
        self.reader.get_ref().try_clone().map_err(failed)
    }

    /// The next text; `None` when the other side has closed. Pings are answered.
    pub(crate) fn next_text(&mut self) -> Outcome<Option<String>> {
        match self.next_message() {
            Ok(text) => Ok(text),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The next frame of the mesh; `None` when the other side has closed.
    pub(crate) fn next(&mut self) -> Outcome<Option<Value>> {
        let Some(text) = self.next_text()? else {
            return Ok(None);
        };
        let frame = serde_json::from_str(&text);
        frame.map(Some).map_err(|error| format!("{error}: {text:?}"))
    }

    /// Reads until a frame is the one, and gives that.
    pub(crate) fn wait_for(&mut self, mut is_it: impl FnMut(&Value) -> bool) -> Outcome<Value> {
        loop {
            match self.next()? {
                None => return Err("the peer closed the link".to_owned()),
                Some(frame) if is_it(&frame) => return Ok(frame),
                Some(_) => {}
            }
        }
    }

    fn next_message(&mut self) -> io::Result<Option<String>> {
        // Long texts come in pieces.
        let mut text = Vec::new();
        loop {
            let mut head = [0; 2];
            self.reader.read_exact(&mut head)?;
            let [kind, length] = head;
            let length = match length {
                126 => {
                    let mut bytes = [0; 2];
                    self.reader.read_exact(&mut bytes)?;
                    u64::from(u16::from_be_bytes(bytes))
                }
                127 => {
                    let mut bytes = [0; 8];
                    self.reader.read_exact(&mut bytes)?;
                    u64::from_be_bytes(bytes)
                }
                length => u64::from(length),
            };
            let mut payload = Vec::new();
            (&mut self.reader).take(length).read_to_end(&mut payload)?;
            match kind {
                TEXT | MORE => text.extend(payload),
                _ if kind == FIN | TEXT || kind == FIN | MORE => {
                    text.extend(payload);
                    return String::from_utf8(text).map(Some).map_err(io::Error::other);
                }
                _ if kind == FIN | CLOSE => return Ok(None),
                _ if kind == FIN | PING => {
                    let mut answer = header(PONG, payload.len());
                    answer.extend(payload);
                    self.reader.get_ref().write_all(&answer)?;
                }
                _ if kind == FIN | PONG => {}
                other => return Err(io::Error::other(format!("a frame of kind {other:#x}"))),
            }
        }
    }
}

/// Our handshake: we keep nothing, and know how ours catch up.
pub(crate) fn handshake(name: &str) -> String {
    let capabilities = json!({ "relay": false, "store": false, "arrival_order": true });
    json!({ "type": "handshake", "version": 1, "peer_id": name, "capabilities": capabilities }).to_string()
}

/// A text as a frame. The mask is zero: it is there for proxies, not for peers.
pub(crate) fn masked(text: &str) -> Vec<u8> {
    let mut frame = header(TEXT, text.len());
    frame.extend(text.as_bytes());
    frame
}

/// The header of a frame of that many bytes, with a mask of zeros.
pub(crate) fn header(kind: u8, length: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES + length);
    header.push(FIN | kind);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ 0..126), _) => header.push(MASKED | length),
        (_, Ok(length)) => {
            header.push(MASKED | 126);
            header.extend(length.to_be_bytes());
        }
        _ => {
            header.push(MASKED | 127);
            header.extend((length as u64).to_be_bytes());
        }
    }
    header.extend([0; 4]);
    header
}

/// Somebody with a key.
pub(crate) struct Author {
    key: NodeKey,
    name: PeerName,
}

impl Author {
    /// The author of a number.
    pub(crate) fn new(seed: u64) -> Self {
        let mut bytes = [0x5a; 32];
        for (to, from) in bytes.iter_mut().zip(seed.to_le_bytes()) {
            *to = from;
        }
        let key = NodeKey::from_seed(bytes);
        let name = PeerName::of_key(&key.node_id());
        Self { key, name }
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_str()
    }

    /// A signed message as a frame of the mesh. `time` is milliseconds since 1970, whatever the clock says.
    pub(crate) fn message(&self, channel: &str, id: &str, body: &str, time: u64) -> Outcome<String> {
        let channel: ChannelId = channel.parse().map_err(|error| format!("{channel:?}: {error}"))?;
        Message::draft(channel, self.name.clone(), body, None, UnixMillis(time), id)
            .and_then(|draft| draft.sign(&self.key))
            .map(|message| message.text().to_string())
            .map_err(|error| error.to_string())
    }
}

/// The clock, in milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn failed(error: io::Error) -> String {
    format!("the link: {error}")
}
