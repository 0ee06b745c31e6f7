//! Peers that use the holes of wire profile 1.0: each is tried over a real connection, and closed here.

use clawchat_identity::{Attestation, Identity, Verified};
use clawchat_snap2p::clawchat1::{
    Binding, Channel, ChatMessage, Dialer, Event, FrameReader, HandshakeError, MAX_FRAME, Session,
    encode_chat, frame,
};
use clawchat_testkit::Person::{Alice, Bob, Carol, Dave};
use clawchat_testkit::stranger;
use clawchat_types::{Moment, Network, NodeId, Principal, UnixMillis};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use std::time::Duration;

use super::raw::Raw;
use super::support::{Gateway, now, within, works};
use crate::swarm::{Protocol, Substream};
use crate::{ErrorCode, LegacyPolicy, LegacySession, NodeEvent, SessionClosed};

/// Seed of the liar's libp2p key.
const SEED: u8 = 9;

/// Somebody with a libp2p node of their own who lies in one point.
struct Liar {
    raw: Raw,
    /// What they show.
    attestation: Attestation<Verified>,
    /// The node key they pretend to have on this connection.
    pretended: NodeId,
    /// The principal they put into AUTH instead of the attested one; texts of the same length.
    in_auth: Option<Principal>,
}

/// A session the liar got.
struct Foothold {
    substream: Substream,
    session: Session,
    frames: FrameReader,
}

fn attest(identity: &Identity, key: NodeId) -> Attestation<Verified> {
    let (wallet, network) = (identity.wallet(), identity.network());
    Attestation::create(wallet, network, &key, now(), Duration::from_secs(3600), [7; 32])
}

fn own_key() -> NodeId {
    clawchat_identity::NodeKey::from_seed([SEED; 32]).node_id()
}

fn moment() -> Moment {
    Moment {
        wall: UnixMillis(u64::try_from(now().0).unwrap() * 1000),
        mono: Duration::ZERO,
    }
}

impl Liar {
    /// Who tells the truth so far.
    async fn new(identity: &Identity, to: &Gateway) -> Self {
        Self {
            raw: Raw::connect(SEED, to).await,
            attestation: attest(identity, own_key()),
            pretended: own_key(),
            in_auth: None,
        }
    }

    /// Tries to get a session.
    async fn enter(&mut self) -> Result<Foothold, HandshakeError> {
        let mut substream = self.raw.open_for(Protocol::Legacy).await.unwrap();
        let channel = Channel {
            local: self.pretended,
            remote: Some(Bob.identity().node_key().node_id()),
        };
        let mut dialer = Dialer::new(
            self.attestation.clone(),
            channel,
            Binding::Optional,
            [3; 16],
            moment(),
        );
        let mut frames = FrameReader::new();
        let mut buffer = vec![0; 4096];
        while !dialer.is_done() {
            while let Some(mut bytes) = dialer.poll_frame() {
                self.lie(&mut bytes);
                let _ = self.raw.run(substream.write_all(&bytes)).await;
                let _ = self.raw.run(substream.flush()).await;
            }
            match frames.next_frame().unwrap() {
                Some(frame) => dialer.handle_frame(&frame, moment()),
                None if dialer.is_done() => {}
                None => match self.raw.run(substream.read(&mut buffer)).await {
                    Ok(count) if count > 0 => frames.push(&buffer[..count]),
                    _ => return Err(HandshakeError::Timeout),
                },
            }
        }
        let session = dialer.finish()?;
        Ok(Foothold {
            substream,
            session,
            frames,
        })
    }

    fn lie(&self, bytes: &mut [u8]) {
        let Some(claimed) = self.in_auth else { return };
        let (claimed, attested) = (claimed.to_string(), self.attestation.principal().to_string());
        assert_eq!(claimed.len(), attested.len());
        // AUTH names the principal before the attestation does.
        if let Some(at) = bytes
            .windows(attested.len())
            .position(|window| window == attested.as_bytes())
        {
            bytes[at..at + claimed.len()].copy_from_slice(claimed.as_bytes());
        }
    }

    async fn send(&mut self, foothold: &mut Foothold, bytes: &[u8]) {
        let _ = self.raw.run(foothold.substream.write_all(bytes)).await;
        let _ = self.raw.run(foothold.substream.flush()).await;
    }

    /// Asks whether everything was read, and waits for the answer. `false`: the session is over.
    async fn is_heard(&mut self, foothold: &mut Foothold, nonce: u8) -> bool {
        foothold.session.ping([nonce; 16]);
        let mut out = Vec::new();
        foothold.session.poll_transmit(&mut out);
        self.send(foothold, &out).await;
        let mut buffer = vec![0; 4096];
        loop {
            while let Some(frame) = foothold.frames.next_frame().unwrap() {
                if let Ok(Some(Event::Pong(_))) = foothold.session.handle_frame(&frame, moment()) {
                    return true;
                }
            }
            match self.raw.run(foothold.substream.read(&mut buffer)).await {
                Ok(count) if count > 0 => foothold.frames.push(&buffer[..count]),
                _ => return false,
            }
        }
    }
}

fn letter(from: Principal, content: &str) -> Vec<u8> {
    let message = ChatMessage {
        id: "7d4cbb48149e05655ef7bb64b01062fa".to_owned(),
        from: from.to_string(),
        nick: None,
        content: content.to_owned(),
        timestamp: UnixMillis(0),
    };
    encode_chat(&message).unwrap()
}

/// Takes everything that arrives, until the session is over.
async fn take_all(session: LegacySession) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(batch) = session.receive().await {
        texts.extend(batch.messages.iter().map(|message| message.content.clone()));
        session.dealt_with(batch).await;
    }
    texts
}

/// Two gateways in a native session, to see that nobody else is hurt.
async fn bystanders() -> (Gateway, Gateway) {
    (Gateway::start(&[Alice]).await, Gateway::start(&[Bob]).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_tells_the_truth_gets_in() {
    let mut bob = Gateway::start(&[Bob]).await;
    let mut honest = Liar::new(&Dave.identity(), &bob).await;
    let mut foothold = honest.enter().await.unwrap();
    let session = bob.inbound_legacy().await;
    assert_eq!(*session.remote(), Dave.principal());
    let taking = tokio::spawn(take_all(session));
    honest
        .send(&mut foothold, &letter(Dave.principal(), "hello"))
        .await;
    assert!(honest.is_heard(&mut foothold, 1).await);
    drop(foothold);
    honest.raw.run(async {}).await;
    let texts = honest.raw.run(taking).await.unwrap();
    assert_eq!(texts, ["hello"]);
}

/// A peer of 1.0 does not send again what it was able to write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_something_and_hangs_up_at_once_is_heard() {
    const TIMES: u8 = 20;
    let mut bob = Gateway::start(&[Bob]).await;
    let mut hasty = Liar::new(&Dave.identity(), &bob).await;
    for time in 0..TIMES {
        let content = format!("number {time}");
        let mut foothold = hasty.enter().await.unwrap();
        hasty
            .send(&mut foothold, &letter(Dave.principal(), &content))
            .await;
        drop(foothold);
        let session = hasty.raw.run(bob.inbound_legacy()).await;
        let texts = hasty.raw.run(take_all(session)).await;
        assert_eq!(texts, [content]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_principal_in_auth_than_in_the_attestation_is_refused() {
    let (alice, mut bob) = bystanders().await;
    let ours = alice.session(&bob).await;
    let theirs = bob.inbound().await;
    let mut liar = Liar::new(&Dave.identity(), &bob).await;
    let victims = [Alice.principal(), Carol.principal(), Bob.principal()];
    let length = Dave.principal().to_string().len();
    liar.in_auth = victims
        .into_iter()
        .find(|victim| victim.to_string().len() == length);
    assert!(liar.in_auth.is_some());
    let refused = liar.enter().await.err().unwrap();
    assert_eq!(refused.wire_code(), ErrorCode::AuthInvalid, "{refused}");
    works(&ours, &theirs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_attestation_from_another_peer_id_is_refused() {
    let bob = Gateway::start(&[Bob]).await;
    let mut liar = Liar::new(&Dave.identity(), &bob).await;
    // Public data, as Alice shows it to everybody she talks to.
    let key = Alice.identity().node_key().node_id();
    liar.attestation = attest(&Alice.identity(), key);
    liar.pretended = key;
    let refused = liar.enter().await.err().unwrap();
    assert_eq!(refused.wire_code(), ErrorCode::AuthInvalid, "{refused}");

    // Only an operator who chose that lets it pass, and then the session says so.
    let mut careless = Gateway::start_as(&[Bob], crate::Limits::default(), LegacyPolicy::Unbound).await;
    liar.raw = Raw::connect(SEED, &careless).await;
    let _foothold = liar.enter().await.unwrap();
    let session = liar.raw.run(careless.inbound_legacy()).await;
    assert_eq!(*session.remote(), Alice.principal());
    assert!(!session.is_bound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attestation_of_the_other_network_is_refused() {
    let bob = Gateway::start(&[Bob]).await;
    let mut liar = Liar::new(&Dave.identity_on(Network::Mainnet), &bob).await;
    let refused = liar.enter().await.err().unwrap();
    assert_eq!(refused.wire_code(), ErrorCode::AuthInvalid, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_in_another_name_are_dropped_and_in_the_end_their_sender_too() {
    let mut bob = Gateway::start(&[Bob]).await;
    let mut liar = Liar::new(&Dave.identity(), &bob).await;
    let mut foothold = liar.enter().await.unwrap();
    let session = bob.inbound_legacy().await;
    let taking = tokio::spawn(take_all(session.clone()));
    liar.send(&mut foothold, &letter(Alice.principal(), "from Alice, honestly"))
        .await;
    liar.send(&mut foothold, &letter(Dave.principal(), "from Dave"))
        .await;
    assert!(liar.is_heard(&mut foothold, 1).await, "one lie is only dropped");
    for _ in 0..40 {
        liar.send(&mut foothold, &letter(Alice.principal(), "again"))
            .await;
    }
    assert!(!liar.is_heard(&mut foothold, 2).await);
    assert!(matches!(
        within(session.closed()).await,
        SessionClosed::Protocol(_)
    ));
    assert_eq!(taking.await.unwrap(), ["from Dave"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_too_long_or_junk_end_their_own_session_only() {
    let (alice, mut bob) = bystanders().await;
    let ours = alice.session(&bob).await;
    let theirs = bob.inbound().await;
    let too_long = u32::try_from(MAX_FRAME + 1).unwrap().to_be_bytes().to_vec();
    let junk: Vec<Vec<u8>> = vec![
        too_long.clone(),
        vec![0xff; 70_000],
        frame(&[]),
        frame(&vec![0x81; 100_000]),
        frame(&vec![0x5a; MAX_FRAME]),
        // An indefinite map of junk keys, as long as it may be.
        frame(&[&[0xbf][..], &vec![0x60; MAX_FRAME - 1]].concat()),
    ];
    for (number, bytes) in junk.into_iter().enumerate() {
        let mut liar = Liar::new(&stranger(number as u64), &bob).await;
        // Before the handshake.
        let mut substream = liar.raw.open_for(Protocol::Legacy).await.unwrap();
        let _ = liar.raw.run(substream.write_all(&bytes)).await;
        let _ = liar.raw.run(substream.flush()).await;
        let mut answer = Vec::new();
        let _ = liar.raw.run(substream.read_to_end(&mut answer)).await;
        assert!(
            answer.len() < 100,
            "junk {number} is answered with {} bytes",
            answer.len()
        );
        // And in a session.
        let mut foothold = liar.enter().await.unwrap();
        let session = bob.inbound_legacy().await;
        liar.send(&mut foothold, &bytes).await;
        let mut answer = Vec::new();
        let _ = liar.raw.run(foothold.substream.read_to_end(&mut answer)).await;
        let closed = liar.raw.run(session.closed()).await;
        assert!(
            matches!(closed, SessionClosed::Protocol(_)),
            "junk {number}: {closed}"
        );
    }
    works(&ours, &theirs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn px1_junk_reaches_nobody() {
    let mut bob = Gateway::start(&[Bob]).await;
    let mut raw = Raw::connect(SEED, &bob).await;
    let junk = [
        vec![0xff; 5000],
        frame(&[0xa0]),
        frame(&vec![0x60; 40_000]),
        frame(&[]),
    ];
    for bytes in junk {
        let mut substream = raw.open_for(Protocol::LegacyPx1).await.unwrap();
        let _ = raw.run(substream.write_all(&bytes)).await;
        let _ = raw.run(substream.close()).await;
        let mut answer = Vec::new();
        let _ = raw.run(substream.read_to_end(&mut answer)).await;
        assert!(answer.is_empty());
    }
    while let Ok(event) = bob.events.try_recv() {
        assert!(!matches!(event, NodeEvent::Px1(_)));
    }
}
