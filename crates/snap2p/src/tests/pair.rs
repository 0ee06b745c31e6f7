//! Two machines that talk to each other, and a peer made by hand that says what no machine of ours would.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use clawchat_testkit::{Clock, Person, attestation};
use clawchat_types::{Moment, Network, Principal};
use snow::{HandshakeState, TransportState};

use crate::handshake::noise;
use crate::wire::{Auth, Control, Hello, KIND_NOISE, Parser, clear_frame, read_one};
use crate::{
    Answerer, Credentials, Dialer, ErrorCode, FrameReader, Gatekeeper, HandshakeEntropy, HandshakeError,
    MAX_FRAME, PeerPair, Session, SessionEvent, StreamId,
};

pub(super) const DIALER_NONCE: [u8; 32] = [0xd1; 32];
pub(super) const ANSWERER_NONCE: [u8; 32] = [0xa1; 32];
pub(super) const TOKEN: [u8; 16] = [0x70; 16];

static CREDENTIALS: LazyLock<Vec<(Person, Credentials)>> = LazyLock::new(|| {
    let of = |person: Person| {
        let identity = person.identity();
        let node_key = Arc::new(identity.node_key().clone());
        (
            person,
            Credentials {
                node_key,
                attestation: attestation(&identity),
            },
        )
    };
    Person::ALL.into_iter().map(of).collect()
});

pub(super) fn credentials(person: Person) -> Credentials {
    let (_, credentials) = CREDENTIALS.iter().find(|(other, _)| *other == person).unwrap();
    credentials.clone()
}

pub(super) fn mainnet_credentials(person: Person) -> Credentials {
    let identity = person.identity_on(Network::Mainnet);
    let node_key = Arc::new(identity.node_key().clone());
    Credentials {
        node_key,
        attestation: attestation(&identity),
    }
}

pub(super) fn peers() -> PeerPair {
    PeerPair {
        initiator: Person::Alice.peer_id().to_string(),
        responder: Person::Bob.peer_id().to_string(),
    }
}

pub(super) fn entropy(ephemeral: u8, nonce: [u8; 32]) -> HandshakeEntropy {
    HandshakeEntropy {
        ephemeral: [ephemeral; 32],
        nonce,
    }
}

pub(super) struct Hosted {
    pub(super) credentials: Credentials,
    /// The token it must be knocked with.
    pub(super) token: Option<Vec<u8>>,
}

/// Hosts some identities, the first of which is the default, and refuses some peers.
#[derive(Default)]
pub(super) struct Gate {
    pub(super) hosted: Vec<Hosted>,
    pub(super) refuses: Vec<Principal>,
}

impl Gate {
    pub(super) fn of(people: &[Person]) -> Self {
        let hosted = people.iter().map(|person| Hosted {
            credentials: credentials(*person),
            token: None,
        });
        Self {
            hosted: hosted.collect(),
            refuses: Vec::new(),
        }
    }

    pub(super) fn stealth(person: Person) -> Self {
        let mut gate = Self::of(&[person]);
        gate.hosted[0].token = Some(TOKEN.to_vec());
        gate
    }
}

impl Gatekeeper for Gate {
    fn credentials_for(&self, target: Option<&Principal>, knock: Option<&[u8]>) -> Option<Credentials> {
        let wanted = |hosted: &&Hosted| target.is_none_or(|target| target == hosted.credentials.principal());
        let hosted = self.hosted.iter().find(wanted)?;
        let shown = hosted.token.is_none() || hosted.token.as_deref() == knock;
        shown.then(|| hosted.credentials.clone())
    }

    fn admit(&self, _local: &Principal, remote: &Principal, _knock: Option<&[u8]>) -> Result<(), ErrorCode> {
        if self.refuses.contains(remote) {
            Err(ErrorCode::NotAllowed)
        } else {
            Ok(())
        }
    }
}

/// A dialer, an answerer, and every frame that went between them.
pub(super) struct Pair {
    pub(super) dialer: Dialer,
    pub(super) answerer: Answerer,
    pub(super) gate: Gate,
    pub(super) clock: Clock,
    pub(super) from_dialer: Vec<Vec<u8>>,
    pub(super) from_answerer: Vec<Vec<u8>>,
}

pub(super) type Outcome = Result<Session, HandshakeError>;

impl Pair {
    pub(super) fn new(who: Credentials, target: Option<Person>, knock: Option<&[u8]>, gate: Gate) -> Self {
        let clock = Clock::new();
        let target = target.map(Person::principal);
        let now = clock.now();
        Self {
            dialer: Dialer::new(who, &peers(), target, knock, entropy(0xd0, DIALER_NONCE), now),
            answerer: Answerer::new(&peers(), entropy(0xa0, ANSWERER_NONCE), now),
            gate,
            clock,
            from_dialer: Vec::new(),
            from_answerer: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> (Outcome, Outcome) {
        self.step_until_quiet();
        (self.dialer.finish(), self.answerer.finish())
    }

    pub(super) fn step_until_quiet(&mut self) {
        for _ in 0..10 {
            while let Some(frame) = self.dialer.poll_frame() {
                self.answerer
                    .handle_frame(&frame[2..], self.clock.now(), &self.gate);
                self.from_dialer.push(frame);
            }
            while let Some(frame) = self.answerer.poll_frame() {
                self.dialer.handle_frame(&frame[2..], self.clock.now());
                self.from_answerer.push(frame);
            }
        }
    }
}

/// The code both sides agree on, seen from the one that refused and the one that was refused.
pub(super) fn refusal(refused: Outcome, refuser: Outcome) -> ErrorCode {
    let refuser = refuser.unwrap_err();
    assert!(!matches!(refuser, HandshakeError::Refused { .. }), "{refuser:?}");
    let code = refuser.wire_code();
    assert_eq!(refused.unwrap_err(), HandshakeError::Refused { code });
    code
}

/// Alice's and Bob's session.
pub(super) fn sessions() -> (Session, Session, Clock) {
    let pair = Pair::new(credentials(Person::Alice), None, None, Gate::of(&[Person::Bob]));
    let clock = pair.clock.clone();
    let (alice, bob) = pair.run();
    (alice.unwrap(), bob.unwrap(), clock)
}

/// Moves every frame of `from` to `to`; how many there were.
pub(super) fn carry(from: &mut Session, to: &mut Session, now: Moment) -> usize {
    let mut reader = FrameReader::new();
    reader.set_limit(MAX_FRAME);
    let mut frames = 0;
    let mut bytes = Vec::new();
    while from.poll_transmit(&mut bytes) {
        reader.push(&bytes);
        bytes.clear();
        while let Some(frame) = reader.next_frame().unwrap() {
            frames += 1;
            let _ = to.handle_frame(&frame, now);
        }
    }
    frames
}

pub(super) fn events(session: &mut Session) -> Vec<SessionEvent> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

/// Opens a stream and has it accepted; both know the same id.
pub(super) fn open(from: &mut Session, to: &mut Session, now: Moment) -> StreamId {
    let id = from.open("test").unwrap();
    carry(from, to, now);
    assert!(events(to).contains(&SessionEvent::Opened {
        id,
        label: "test".to_owned()
    }));
    to.accept(id);
    id
}

/// A peer made by hand: Noise of our own, and whatever messages a test wants.
pub(super) struct Raw {
    pub(super) noise: Option<HandshakeState>,
    pub(super) transport: Option<TransportState>,
    who: Credentials,
    initiator: bool,
}

impl Raw {
    pub(super) fn new(person: Person, initiator: bool) -> Self {
        Self::with(credentials(person), initiator)
    }

    pub(super) fn with(who: Credentials, initiator: bool) -> Self {
        let entropy = if initiator {
            entropy(0xd0, DIALER_NONCE)
        } else {
            entropy(0xa0, ANSWERER_NONCE)
        };
        let noise = noise::start(initiator, &who.node_key, &peers(), &entropy).unwrap();
        Self {
            noise: Some(noise),
            transport: None,
            who,
            initiator,
        }
    }

    pub(super) fn hello(&self, target: Option<Person>) -> Vec<u8> {
        let nonce = if self.initiator {
            DIALER_NONCE
        } else {
            ANSWERER_NONCE
        };
        let target = target.map(Person::principal);
        Control::Hello(Hello {
            nonce,
            target,
            capabilities: Vec::new(),
        })
        .to_vec()
    }

    pub(super) fn auth(&self) -> Vec<u8> {
        auth(
            *self.who.principal(),
            &self.who.attestation.to_bytes(),
            DIALER_NONCE,
            ANSWERER_NONCE,
        )
    }

    /// The next handshake or transport message with this plaintext, as a frame without its length.
    pub(super) fn frame(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let message = match (&mut self.noise, &mut self.transport) {
            (Some(noise), _) => noise::write(noise, plaintext).unwrap(),
            (None, Some(transport)) => noise::seal(transport, plaintext).unwrap(),
            (None, None) => Vec::new(),
        };
        self.turn();
        clear_frame(KIND_NOISE, &message)[2..].to_vec()
    }

    /// The plaintext of the machine's frame (with its length).
    pub(super) fn open(&mut self, frame: &[u8]) -> Vec<u8> {
        let plaintext = match (&mut self.noise, &mut self.transport) {
            (Some(noise), _) => noise::read(noise, &frame[3..]).unwrap(),
            (None, Some(transport)) => noise::unseal(transport, &frame[3..]).unwrap(),
            (None, None) => Vec::new(),
        };
        self.turn();
        plaintext
    }

    fn turn(&mut self) {
        if self
            .noise
            .as_ref()
            .is_some_and(HandshakeState::is_handshake_finished)
        {
            self.transport = self
                .noise
                .take()
                .and_then(|noise| noise.into_transport_mode().ok());
        }
    }
}

/// A session of Bob's, and the hand-made other end of it in Alice's name.
pub(super) fn raw_and_session() -> (Raw, Session, Clock) {
    let clock = Clock::new();
    let mut raw = Raw::new(Person::Alice, true);
    let mut bob = Answerer::new(&peers(), entropy(0xa0, ANSWERER_NONCE), clock.now());
    let gate = Gate::of(&[Person::Bob]);
    let hello = raw.hello(None);
    bob.handle_frame(&raw.frame(&hello), clock.now(), &gate);
    raw.open(&bob.poll_frame().unwrap());
    let auth = raw.auth();
    bob.handle_frame(&raw.frame(&auth), clock.now(), &gate);
    raw.open(&bob.poll_frame().unwrap());
    bob.handle_frame(&raw.frame(&Control::AuthOk.to_vec()), clock.now(), &gate);
    (raw, bob.finish().unwrap(), clock)
}

/// An AUTH that says whatever a test wants.
pub(super) fn auth(
    principal: Principal,
    attestation: &[u8],
    initiator_nonce: [u8; 32],
    responder_nonce: [u8; 32],
) -> Vec<u8> {
    Control::Auth(Auth {
        principal,
        attestation,
        initiator_nonce,
        responder_nonce,
    })
    .to_vec()
}

impl Raw {
    /// The control messages the session has to send, each encoded.
    pub(super) fn replies(&mut self, session: &mut Session) -> Vec<Vec<u8>> {
        let mut replies = Vec::new();
        let mut frame = Vec::new();
        while session.poll_transmit(&mut frame) {
            let plaintext = self.open(&frame);
            replies.extend(Parser::new(&plaintext).map(|message| message.unwrap().to_vec()));
            frame.clear();
        }
        replies
    }
}

/// The code of a last message that is a GOODBYE.
pub(super) fn goodbye(replies: &[Vec<u8>]) -> Option<ErrorCode> {
    match read_one(replies.last()?) {
        Ok(Control::Goodbye { code }) => Some(code),
        _ => None,
    }
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
