//! Gateways for tests: a node on loopback ports of the system's choice, with people of the testkit hosted.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::pin::pin;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clawchat_identity::{Attestation, Identity, NodeKey, Verified};
use clawchat_node::{
    Credentials, DialError, ErrorCode, Gatekeeper, Legacy, LegacyPolicy, LegacySession, Limits, NatConfig,
    Node, NodeConfig, NodeEvent, SessionHandle, SessionOpenError, Stream,
};
use clawchat_snap2p::clawchat1::Gate;
use clawchat_testkit::{Person, Stopwatch, attestation_from};
use clawchat_types::{Locator, Network, PeerId, Principal, UnixSeconds};
use tokio::sync::mpsc;

/// No step of any test takes longer, or it fails. Of [`own_time`](clawchat_testkit::own_time): what a busy machine
/// takes away does not count.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// How often the deadline is looked at.
const BEAT: Duration = Duration::from_millis(500);

/// Waits, but not for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let watch = Stopwatch::start();
    while watch.elapsed() < DEADLINE {
        if let Ok(done) = tokio::time::timeout(BEAT, &mut future).await {
            return done;
        }
    }
    panic!("this takes too long");
}

/// The time.
pub(crate) fn now() -> UnixSeconds {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    UnixSeconds(i64::try_from(now.as_secs()).expect("a clock before the end of time"))
}

/// What an identity proves itself with, as of now.
pub(crate) fn credentials_of(identity: &Identity) -> Credentials {
    let now = now();
    let seed = *identity.node_key().seed();
    Credentials {
        node_key: Arc::new(NodeKey::from_seed(seed)),
        attestation: attestation_from(identity, now),
    }
}

/// The same for somebody of the testkit.
pub(crate) fn credentials(person: Person) -> Credentials {
    credentials_of(&person.identity())
}

/// Who is hosted, the first one by default, and who is kept out.
#[derive(Default)]
pub(crate) struct Hosted {
    people: Vec<Credentials>,
    /// Their attestations for the key of the gateway, which is the first one's.
    legacy: Vec<Attestation<Verified>>,
    refused: Mutex<HashSet<Principal>>,
}

impl Hosted {
    pub(crate) fn new(people: &[Person]) -> Self {
        Self {
            people: people.iter().map(|person| credentials(*person)).collect(),
            legacy: people
                .iter()
                .map(|person| legacy_attestation(*person, people[0]))
                .collect(),
            refused: Mutex::default(),
        }
    }
}

impl Gatekeeper for Hosted {
    fn credentials_for(&self, target: Option<&Principal>, _: Option<&[u8]>) -> Option<Credentials> {
        let mut people = self.people.iter();
        match target {
            None => people.next(),
            Some(target) => people.find(|hosted| hosted.principal() == target),
        }
        .cloned()
    }

    fn admit(&self, _: &Principal, remote: &Principal, _: Option<&[u8]>) -> Result<(), ErrorCode> {
        let refused = self.refused.lock().expect("not poisoned").contains(remote);
        if refused {
            Err(ErrorCode::NotAllowed)
        } else {
            Ok(())
        }
    }
}

impl Gate for Hosted {
    fn answer_as(&self, caller: &Principal) -> Result<Attestation<Verified>, ErrorCode> {
        let mut hosted = self.legacy.iter();
        let admitting = hosted.find(|hosted| self.admit(hosted.principal(), caller, None).is_ok());
        admitting.cloned().ok_or(ErrorCode::NotAllowed)
    }
}

/// What somebody shows peers of wire profile 1.0: that the key of `gateway` speaks for them.
pub(crate) fn legacy_attestation(person: Person, gateway: Person) -> Attestation<Verified> {
    let identity = person.identity();
    let key = gateway.identity().node_key().node_id();
    let (wallet, network) = (identity.wallet(), identity.network());
    Attestation::create(wallet, network, &key, now(), Duration::from_secs(3600), [7; 32])
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) node: Node,
    pub(crate) events: mpsc::Receiver<NodeEvent>,
    hosted: Arc<Hosted>,
    people: Vec<Person>,
}

impl Gateway {
    /// Hosts these people; the first one's node key names the gateway.
    pub(crate) async fn start(people: &[Person]) -> Self {
        Self::start_with(people, Limits::default()).await
    }

    /// The same with limits.
    pub(crate) async fn start_with(people: &[Person], limits: Limits) -> Self {
        Self::start_as(people, limits, LegacyPolicy::default()).await
    }

    /// The same with means to be reached.
    pub(crate) async fn start_reachable(people: &[Person], nat: NatConfig, limits: Limits) -> Self {
        let config = NodeConfig {
            nat,
            limits,
            ..config(people[0])
        };
        Self::start_configured(people, config).await
    }

    /// The same with a configuration, without wire profile 1.0.
    pub(crate) async fn start_configured(people: &[Person], config: NodeConfig) -> Self {
        let hosted = Arc::new(Hosted::new(people));
        let (node, events) = Node::start(config, Arc::clone(&hosted) as _)
            .await
            .expect("free ports");
        Self {
            node,
            events,
            hosted,
            people: people.to_vec(),
        }
    }

    /// The same with a rule for peers of wire profile 1.0.
    pub(crate) async fn start_as(people: &[Person], limits: Limits, policy: LegacyPolicy) -> Self {
        let hosted = Arc::new(Hosted::new(people));
        let gate = Arc::clone(&hosted);
        let config = NodeConfig {
            limits,
            legacy: Some(Legacy {
                gate,
                network: Network::Testnet,
                policy,
            }),
            ..config(people[0])
        };
        let (node, events) = Node::start(config, Arc::clone(&hosted) as _)
            .await
            .expect("free ports");
        assert_eq!(node.skipped(), []);
        Self {
            node,
            events,
            hosted,
            people: people.to_vec(),
        }
    }

    /// Admits a person no more.
    pub(crate) fn refuse(&self, person: Person) {
        self.hosted
            .refused
            .lock()
            .expect("not poisoned")
            .insert(person.principal());
    }

    /// Where it listens, by transport: `tcp`, `quic-v1` or `ws`.
    pub(crate) fn over(&self, transport: &str) -> Vec<Locator> {
        let of_kind = |locator: &Locator| {
            let text = locator.as_str();
            text.contains(&format!("/{transport}/")) && (transport != "tcp" || !text.contains("/ws/"))
        };
        let found: Vec<Locator> = self.node.locators().into_iter().filter(of_kind).collect();
        assert!(
            !found.is_empty(),
            "listens on {transport}: {:?}",
            self.node.locators()
        );
        found
    }

    /// The socket address of its TCP listener.
    pub(crate) fn socket(&self) -> SocketAddr {
        let locator = self.over("tcp").remove(0);
        let mut words = locator.as_str().split('/').skip(2);
        let (ip, port) = (words.next().expect("an IP"), words.nth(1).expect("a port"));
        format!("{ip}:{port}").parse().expect("a socket address")
    }

    /// Connects to another gateway over TCP.
    pub(crate) async fn connect(&self, to: &Self) -> PeerId {
        within(async {
            loop {
                match self.node.connect(&to.over("tcp")).await {
                    Ok(connected) => return connected.peer,
                    // The machine is busy: a dial may take only so long.
                    Err(error) if is_timeout(&error) => {}
                    Err(error) => panic!("no connection: {error}"),
                }
            }
        })
        .await
    }

    /// Opens a session as its first person with the first person of another gateway.
    pub(crate) async fn session(&self, to: &Self) -> SessionHandle {
        let peer = self.connect(to).await;
        self.open(&peer, Some(to.people[0])).await.expect("a session")
    }

    /// Opens a session as its first person with a connected peer.
    pub(crate) async fn open(
        &self,
        peer: &PeerId,
        target: Option<Person>,
    ) -> Result<SessionHandle, SessionOpenError> {
        let target = target.map(Person::principal);
        within(
            self.node
                .open_session(peer, credentials(self.people[0]), target, None),
        )
        .await
    }

    /// Opens a session of wire profile 1.0 as its first person with another gateway.
    pub(crate) async fn open_legacy(&self, to: &Self) -> Result<LegacySession, SessionOpenError> {
        let peer = self.connect(to).await;
        let local = legacy_attestation(self.people[0], self.people[0]);
        within(self.node.open_legacy_session(&peer, local)).await
    }

    /// The next session of wire profile 1.0 that a peer opens.
    pub(crate) async fn inbound_legacy(&mut self) -> LegacySession {
        let event = self
            .event(|event| matches!(event, NodeEvent::LegacySession(_)))
            .await;
        let NodeEvent::LegacySession(session) = event else {
            panic!("just looked")
        };
        session
    }

    /// The next session a peer opens.
    pub(crate) async fn inbound(&mut self) -> SessionHandle {
        let event = self.event(|event| matches!(event, NodeEvent::Session(_))).await;
        let NodeEvent::Session(session) = event else {
            panic!("just looked")
        };
        session
    }

    /// The next event of a kind; others are passed over.
    pub(crate) async fn event(&mut self, wanted: impl Fn(&NodeEvent) -> bool) -> NodeEvent {
        within(async {
            loop {
                let event = self.events.recv().await.expect("the node runs");
                if wanted(&event) {
                    return event;
                }
            }
        })
        .await
    }
}

/// Whether a call failed because nobody answered in time.
pub(crate) fn is_timeout(error: &DialError) -> bool {
    let DialError::Failed { attempts } = error else {
        return false;
    };
    let timeout = |reason: &str| reason.contains("no answer within") || reason.contains("Timeout");
    attempts.iter().all(|attempt| timeout(&attempt.reason))
}

/// A port P with P, P/udp and P+1 free at the moment, and given to no other test of this process. It is not among those
/// that the system gives away by itself.
pub(crate) fn free_port() -> u16 {
    const PORTS: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id() % 5_000).expect("a small number") * 2;
    for _ in 0..1000 {
        let port = 12_000 + (spread + NEXT.fetch_add(2, Ordering::Relaxed)) % PORTS;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).is_ok()
            && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if free {
            return port;
        }
    }
    panic!("no free port");
}

/// The configuration of a test gateway.
pub(crate) fn config(person: Person) -> NodeConfig {
    NodeConfig::loopback(*person.identity().node_key().seed())
}

/// Accepts one stream and sends back what comes, until the peer finishes.
pub(crate) async fn echo_one(session: &SessionHandle) {
    let mut stream = session.accept().await.expect("a stream").accept();
    while let Some(bytes) = stream.read().await {
        stream
            .write_all(bytes.expect("an unbroken stream"))
            .await
            .expect("an unbroken stream");
    }
    stream.finish();
}

/// Sends something over a session and gets it back.
pub(crate) async fn works(ours: &SessionHandle, theirs: &SessionHandle) {
    let echo = async {
        let mut stream = ours.open_stream("echo").await.unwrap();
        stream.write_all("hello".into()).await.unwrap();
        stream.finish();
        assert_eq!(read_all(&mut stream).await, b"hello");
    };
    within(async { tokio::join!(echo, echo_one(theirs)) }).await;
}

/// Everything until the peer finishes.
pub(crate) async fn read_all(stream: &mut Stream) -> Vec<u8> {
    within(async {
        let mut all = Vec::new();
        while let Some(bytes) = stream.read().await {
            all.extend_from_slice(&bytes.expect("an unbroken stream"));
        }
        all
    })
    .await
}

/// Reads exactly so many bytes.
pub(crate) async fn read_exactly(stream: &mut Stream, count: usize) -> Vec<u8> {
    within(async {
        let mut all = Vec::new();
        while all.len() < count {
            let bytes = stream.read().await.expect("more to come");
            all.extend_from_slice(&bytes.expect("an unbroken stream"));
        }
        assert_eq!(all.len(), count);
        all
    })
    .await
}
