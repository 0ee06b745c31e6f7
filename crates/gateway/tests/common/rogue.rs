//! Somebody with a node of their own and no manners.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clawchat_identity::{Attestation, CardDetails, ContactCard, Identity, Invite, NodeKey, Verified};
use clawchat_node::{
    Credentials, ErrorCode, Gatekeeper, Legacy, LegacyPolicy, LegacySession, NatConfig, Node, NodeConfig,
    NodeEvent, SessionHandle, SessionOpenError, Stream, StreamError,
};
use clawchat_snap2p::chat::{CHAT_LABEL, ChatEvent, ChatSender, SignedEnvelope, seal_envelope};
use clawchat_snap2p::clawchat1;
use clawchat_testkit::{Person, SeededRng, attestation_from};
use clawchat_types::{
    Content, InviteToken, Locator, Message, MessageId, PeerId, Principal, UnixMillis, UnixSeconds,
};
use tokio::sync::mpsc;

use super::{Gate, eventually, within};

/// How long its card is good for.
const CARD_LIFE: Duration = Duration::from_secs(3600);

/// A node with one identity that does whatever a test tells it.
pub(crate) struct Rogue {
    pub(crate) node: Node,
    pub(crate) events: mpsc::Receiver<NodeEvent>,
    identity: Identity,
    credentials: Credentials,
    door: Arc<Door>,
}

impl Rogue {
    /// Starts a node. Everybody may open sessions with it.
    pub(crate) async fn new(identity: Identity) -> Self {
        Self::reporting(identity, Vec::new()).await
    }

    /// The same, with addresses that it says are its own.
    pub(crate) async fn reporting(identity: Identity, external: Vec<Locator>) -> Self {
        let nat = NatConfig {
            external,
            ..NatConfig::off()
        };
        Self::start(identity, nat, None).await
    }

    /// Somebody who is reached through these relays, and shows itself to whoever knocks with `token`.
    pub(crate) async fn hidden_behind(identity: Identity, relays: Vec<Locator>, token: InviteToken) -> Self {
        let nat = NatConfig {
            relays,
            ..NatConfig::off()
        };
        Self::start(identity, nat, Some(token)).await
    }

    async fn start(identity: Identity, nat: NatConfig, token: Option<InviteToken>) -> Self {
        let credentials = credentials(&identity);
        let mut config = NodeConfig::loopback(*identity.node_key().seed());
        config.nat = nat;
        let door = Arc::new(Door {
            credentials: credentials.clone(),
            token,
            refusals: AtomicU32::new(0),
        });
        config.legacy = Some(Legacy {
            gate: Arc::clone(&door) as _,
            network: identity.network(),
            policy: LegacyPolicy::Bound,
        });
        let (node, events) = Node::start(config, Arc::clone(&door) as _).await.expect("a node");
        Self {
            node,
            events,
            identity,
            credentials,
            door,
        }
    }

    /// The next sessions that are asked for are refused, as many as that.
    pub(crate) fn refuse(&self, sessions: u32) {
        self.door.refusals.store(sessions, Ordering::SeqCst);
    }

    /// How many of them have not been asked for yet.
    pub(crate) fn refusals_left(&self) -> u32 {
        self.door.refusals.load(Ordering::SeqCst)
    }

    /// Its invite, with these addresses.
    pub(crate) fn invite(&self, locators: Vec<Locator>) -> String {
        let (attestation, token) = (self.credentials.attestation.clone(), self.door.token);
        let seconds = now().seconds();
        let details = CardDetails {
            locators,
            ..CardDetails::default()
        };
        let card = ContactCard::create(self.key(), attestation, details, seconds, CARD_LIFE);
        Invite::new(card.unwrap(), token).to_text()
    }

    pub(crate) fn principal(&self) -> Principal {
        *self.identity.principal()
    }

    pub(crate) fn key(&self) -> &NodeKey {
        self.identity.node_key()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        self.node.locators()[0].as_str().to_owned()
    }

    pub(crate) async fn dial(&self, gate: &Gate) -> PeerId {
        let locator = [Locator::from_host_port(&gate.address()).unwrap()];
        // On a busy machine one dial may take longer than it may.
        let connected = eventually("a connection", async || self.node.connect(&locator).await.ok());
        connected.await.peer
    }

    /// A session with somebody hosted by a connected gateway.
    pub(crate) async fn open(
        &self,
        peer: &PeerId,
        target: Person,
    ) -> Result<SessionHandle, SessionOpenError> {
        within(
            self.node
                .open_session(peer, self.credentials.clone(), Some(target.principal()), None),
        )
        .await
    }

    /// The same for any principal, knocking first if there is something to knock with.
    pub(crate) async fn ask_for(
        &self,
        peer: &PeerId,
        target: Principal,
        knock: Option<InviteToken>,
    ) -> Result<SessionHandle, SessionOpenError> {
        let credentials = self.credentials.clone();
        within(self.node.open_session(peer, credentials, Some(target), knock)).await
    }

    /// Dials and opens a session the way of ClawChat 1.0.
    pub(crate) async fn legacy_session(&self, gate: &Gate) -> Result<LegacySession, SessionOpenError> {
        let peer = self.dial(gate).await;
        let local = self.credentials.attestation.clone();
        within(self.node.open_legacy_session(&peer, local)).await
    }

    /// Dials and opens a session.
    pub(crate) async fn session(&self, gate: &Gate, target: Person) -> SessionHandle {
        let peer = self.dial(gate).await;
        self.open(&peer, target).await.unwrap()
    }

    /// Dials, opens a session and a chat in it.
    pub(crate) async fn chat(&self, gate: &Gate, target: Person) -> Chat {
        Chat::open(&self.session(gate, target).await).await
    }

    /// The next session that somebody opens here.
    pub(crate) async fn visitor(&mut self) -> SessionHandle {
        within(async {
            loop {
                if let NodeEvent::Session(session) = self.events.recv().await.expect("the node runs") {
                    return session;
                }
            }
        })
        .await
    }

    /// A letter in its own name, and signed by it.
    pub(crate) fn letter(&self, number: u64, to: Person, text: &str) -> SignedEnvelope {
        let message = letter(number, self.principal(), to.principal(), text);
        seal_envelope(&message, self.key()).unwrap()
    }
}

/// A `chat/1` stream whose sender follows the protocol as far as the test does.
pub(crate) struct Chat {
    pub(crate) stream: Stream,
    sender: ChatSender,
}

impl Chat {
    pub(crate) async fn open(session: &SessionHandle) -> Self {
        Self::try_open(session).await.unwrap()
    }

    /// The same in a session that may have ended.
    pub(crate) async fn try_open(session: &SessionHandle) -> Result<Self, StreamError> {
        Ok(Self {
            stream: session.open_stream(CHAT_LABEL).await?,
            sender: ChatSender::new(),
        })
    }

    /// The bytes of a message frame, not sent.
    pub(crate) fn frame(&mut self, envelope: SignedEnvelope) -> Vec<u8> {
        let (mut sender, mut bytes) = (ChatSender::new(), Vec::new());
        sender.queue(0, envelope).unwrap();
        while sender.poll_write(&mut bytes) {}
        bytes
    }

    /// Sends one envelope and waits for what becomes of it.
    pub(crate) async fn put(&mut self, envelope: SignedEnvelope) -> Result<ChatEvent, StreamError> {
        self.sender.queue(0, envelope).unwrap();
        let mut bytes = Vec::new();
        while self.sender.poll_write(&mut bytes) {}
        within(async {
            self.stream.write_all(bytes.into()).await?;
            loop {
                if let Some(event) = self.sender.poll_event() {
                    return Ok(event);
                }
                let read = self.stream.read().await.unwrap_or(Err(StreamError::Finished))?;
                self.sender.handle_bytes(&read).unwrap();
            }
        })
        .await
    }
}

/// A message as an honest sender writes it.
pub(crate) fn letter(number: u64, from: Principal, to: Principal, text: &str) -> Message {
    let now = now();
    Message {
        id: MessageId::new(SeededRng::new(number).bytes()),
        from,
        to,
        from_nick: None,
        content_type: "text/plain".to_owned(),
        content: Content::new(text).unwrap(),
        payload: None,
        reply_to: None,
        timestamp: now,
        sequence: number + 1,
        expires_at: now.after(Duration::from_secs(3600)),
    }
}

fn credentials(identity: &Identity) -> Credentials {
    let seconds = UnixSeconds(i64::try_from(now().0 / 1000).unwrap());
    Credentials {
        node_key: Arc::new(NodeKey::from_seed(*identity.node_key().seed())),
        attestation: attestation_from(identity, seconds),
    }
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMillis(u64::try_from(since.as_millis()).unwrap())
}

/// Lets everybody in who knows the token, if there is one, but for those it is told to refuse.
struct Door {
    credentials: Credentials,
    token: Option<InviteToken>,
    refusals: AtomicU32,
}

impl Gatekeeper for Door {
    fn credentials_for(&self, _: Option<&Principal>, knock: Option<&[u8]>) -> Option<Credentials> {
        let welcome = self.token.is_none_or(|token| knock == Some(token.as_bytes()));
        welcome.then(|| self.credentials.clone())
    }

    fn admit(&self, _: &Principal, _: &Principal, _: Option<&[u8]>) -> Result<(), ErrorCode> {
        let refuse = |left: u32| left.checked_sub(1);
        match self
            .refusals
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse)
        {
            Ok(_) => Err(ErrorCode::RateLimited),
            Err(_) => Ok(()),
        }
    }
}

impl clawchat1::Gate for Door {
    fn answer_as(&self, _: &Principal) -> Result<Attestation<Verified>, ErrorCode> {
        Ok(self.credentials.attestation.clone())
    }
}
