//! The `px-1` streams with a peer: ours, on which we ask and tell, and the peer's.

use std::sync::Arc;

use bytes::Bytes;
use clawchat_node::{ErrorCode, SessionHandle, Stream, StreamError};
use clawchat_snap2p::px1::{End, Message, MessageReader, PX1_LABEL, Px1Error, encode};
use tokio::sync::mpsc;
use tracing::debug;

use super::Whereabouts;
use crate::hosted::Hosted;

/// Asks and tells over a stream that is opened when there is something to say, and over another one where the peer ended
/// it, until the session is not ours to use any more or the peer does not want to hear.
pub(super) async fn speak(
    whereabouts: Arc<Whereabouts>,
    hosted: Arc<Hosted>,
    session: SessionHandle,
    mut messages: mpsc::Receiver<Message>,
) {
    let stop = hosted.stop().clone();
    let speaking = async {
        while let Some(first) = messages.recv().await {
            let Ok(stream) = session.open_stream(PX1_LABEL).await else {
                return;
            };
            let conversing = converse(
                &whereabouts,
                &hosted,
                &session,
                stream,
                End::Opener,
                Some(first),
                &mut messages,
            );
            if conversing.await == Ended::ForGood {
                return;
            }
        }
    };
    tokio::select! {
        _ = stop.run_until_cancelled(speaking) => {}
        _ = session.closed() => {}
    }
}

/// Hears what a peer asks and tells on its stream, and answers there.
pub(super) async fn answer(
    whereabouts: &Whereabouts,
    hosted: &Hosted,
    session: &SessionHandle,
    stream: Stream,
    mut messages: mpsc::Receiver<Message>,
) {
    converse(
        whereabouts,
        hosted,
        session,
        stream,
        End::Acceptor,
        None,
        &mut messages,
    )
    .await;
}

/// How a stream ended.
#[derive(PartialEq, Eq)]
enum Ended {
    /// There may be another one.
    ForNow,
    /// The peer does not want to hear, or does not speak this.
    ForGood,
}

/// Moves messages both ways until the stream ends.
async fn converse(
    whereabouts: &Whereabouts,
    hosted: &Hosted,
    session: &SessionHandle,
    stream: Stream,
    end: End,
    first: Option<Message>,
    messages: &mut mpsc::Receiver<Message>,
) -> Ended {
    let (mut reader, mut writer) = stream.split();
    let mut incoming = MessageReader::new(end);
    let writing = async {
        let mut next = first;
        loop {
            let message = match next.take() {
                Some(message) => message,
                None => match messages.recv().await {
                    Some(message) => message,
                    None => return,
                },
            };
            // What cannot be written is not worth ending the conversation for.
            if let Ok(frame) = encode(&message)
                && writer.write_all(Bytes::from(frame)).await.is_err()
            {
                return;
            }
        }
    };
    let reading = async {
        loop {
            match reader.read().await {
                Some(Ok(bytes)) => hear(whereabouts, hosted, session, &mut incoming, &bytes).await?,
                Some(Err(StreamError::Reset(ErrorCode::StreamRefused))) => return Ok(Ended::ForGood),
                Some(Err(_)) | None => return Ok::<Ended, Px1Error>(Ended::ForNow),
            }
        }
    };
    let read = tokio::select! {
        () = writing => None,
        result = reading => Some(result),
    };
    match read {
        None => {
            writer.finish();
            Ended::ForNow
        }
        Some(Ok(ended)) => ended,
        // The session is about more than addresses: it stays.
        Some(Err(error)) => {
            debug!(peer = %session.remote(), %error, "a peer broke the exchange of addresses");
            whereabouts.malformed.count();
            writer.reset(ErrorCode::ProtocolViolation);
            Ended::ForGood
        }
    }
}

async fn hear(
    whereabouts: &Whereabouts,
    hosted: &Hosted,
    session: &SessionHandle,
    incoming: &mut MessageReader,
    bytes: &[u8],
) -> Result<(), Px1Error> {
    let result = incoming.handle_bytes(bytes);
    while let Some(message) = incoming.next_message() {
        whereabouts.heard(hosted, session.remote(), message).await;
    }
    result
}
