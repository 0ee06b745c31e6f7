//! What strangers cost: memory and places, measured in a gateway with a process of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clawchat_testkit::Person::{Alice, Bob};
use clawchat_testkit::Stopwatch;
use clawchat_types::Locator;
use futures::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::raw::Raw;
use super::support::{Gateway, is_timeout, legacy_attestation, within};
use crate::Limits;
use crate::dial::DIAL_TIMEOUT;
use crate::swarm::Protocol;

/// Most memory that one unauthenticated connection may take, in bytes.
const MEMORY_EACH: u64 = 64 * 1024;
/// Names what the child process does.
const CHILD: &str = "tests::crowds::a_gateway_by_itself";

/// A gateway in a process of its own.
struct Lonely {
    process: Child,
    locator: Locator,
}

impl Lonely {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD, "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let locator = lines
            .map_while(Result::ok)
            // With one thread for tests, as on a machine of one core, the name of the test begins the same line.
            .find_map(|line| line.split_once("listening ")?.1.parse().ok())
            .expect("the child tells where it listens");
        Self { process, locator }
    }

    /// Its resident memory, in bytes.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }

    fn socket(&self) -> String {
        let mut words = self.locator.as_str().split('/').skip(2);
        let (ip, port) = (words.next().unwrap(), words.nth(1).unwrap());
        format!("{ip}:{port}")
    }
}

/// Sees to it that this process, and those it starts, may have so many files open.
fn allow_open_files(count: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < count) {
        let raised = Rlimit {
            current: Some(count),
            maximum,
        };
        setrlimit(Resource::Nofile, raised).expect("room for a thousand sockets");
    }
}

impl Drop for Lonely {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the tests beside it, in a process of its own"]
async fn a_gateway_by_itself() {
    // Room for everybody, so that what is measured is what one of them takes.
    let limits = Limits {
        connections: 1000,
        strangers_per_ip: 1000,
        pending_inbound: 256,
        stranger_timeout: Duration::from_secs(8),
        ..Limits::default()
    };
    let bob = Gateway::start_with(&[Bob], limits).await;
    println!("listening {}", bob.over("tcp")[0].as_str());
    std::io::stdout().flush().unwrap();
    let until_alone = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    until_alone.await.unwrap().unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_in_the_handshake_takes_little_memory_and_is_cut_off() {
    const STRANGERS: u8 = 120;
    const WARM_UP: u8 = 20;
    let lonely = Lonely::start();
    // As much of a frame as is taken from a stranger, and the last byte never comes.
    let mut half = 4096_u32.to_be_bytes().to_vec();
    half.resize(4 + 4095, 0x60);
    let mut strangers = Vec::new();
    let mut before = 0;
    for seed in 0..STRANGERS {
        if seed == WARM_UP {
            before = lonely.memory();
        }
        let mut raw = Raw::try_connect(seed, &lonely.locator).await.expect("room");
        let mut substream = raw.open_for(Protocol::Legacy).await.unwrap();
        raw.run(substream.write_all(&half)).await.unwrap();
        raw.run(substream.flush()).await.unwrap();
        strangers.push((raw, substream));
    }
    let each = lonely.memory().saturating_sub(before) / u64::from(STRANGERS - WARM_UP);
    println!("{each} bytes for each stranger");
    assert!(each <= MEMORY_EACH, "{each} bytes for each stranger");
    for (mut raw, substream) in strangers {
        raw.closed().await;
        drop(substream);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_at_once_from_one_address_keep_nobody_out() {
    const SOCKETS: u64 = 1000;
    allow_open_files(SOCKETS + 200);
    // A dial may take only so long, and both ends of it are on this machine: one that lost most of its time to others
    // says nothing.
    for _ in 0..10 {
        let lonely = Lonely::start();
        let before = lonely.memory();
        let mut silent = Vec::new();
        for _ in 0..SOCKETS {
            silent.push(within(TcpStream::connect(lonely.socket())).await.unwrap());
        }
        let alice = Gateway::start(&[Alice]).await;
        let watch = Stopwatch::start();
        let connected = match within(alice.node.connect(std::slice::from_ref(&lonely.locator))).await {
            Ok(connected) => connected,
            Err(error) if is_timeout(&error) && watch.elapsed() < DIAL_TIMEOUT / 2 => continue,
            Err(error) => panic!("{error}"),
        };
        let local = legacy_attestation(Alice, Alice);
        let session = within(alice.node.open_legacy_session(&connected.peer, local))
            .await
            .unwrap();
        assert_eq!(*session.remote(), Bob.principal());
        let each = lonely.memory().saturating_sub(before) / SOCKETS;
        assert!(each <= MEMORY_EACH, "{each} bytes for each connection");
        return;
    }
    panic!("this machine is too busy");
}
