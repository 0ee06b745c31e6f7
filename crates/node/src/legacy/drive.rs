//! Moves the bytes of a session of wire profile 1.0 until it is over.

use std::collections::VecDeque;
use std::future::{pending, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use clawchat_snap2p::clawchat1::{Event, FrameReader, Session};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::handle::{Command, Ends, LegacyBatch};
use crate::SessionClosed;
use crate::clock::Clock;

/// Bytes read at once.
const READ_BUFFER: usize = 32 * 1024;
/// Bytes waiting to be written beyond which the application waits.
const MAX_UNWRITTEN: usize = 256 * 1024;
/// Frames longer than this need one of the places for long frames before they are read. 64 KiB.
const LONG_FRAME: usize = 64 * 1024;
/// Long frames that arrive at a time, over all sessions. Bounds the memory they take to 256 MiB.
pub(crate) const MAX_LONG_FRAMES: usize = 16;
/// How long a long frame may take to arrive once it has a place.
const LONG_FRAME_LIMIT: Duration = Duration::from_secs(120);
/// Messages a peer may send that are none, or in another's name, before the session is closed.
const MAX_INVALID: usize = 16;
/// Questions whose answers are awaited. The application asks one for each batch it sends.
const MAX_QUESTIONS: usize = 64;
/// How long the last words may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Drives the session until it is over, and says how it ended. `stop` becoming true ends it.
pub(super) async fn drive(
    session: Session,
    io: impl AsyncRead + AsyncWrite + Unpin,
    frames: FrameReader,
    ends: Ends,
    places: Arc<Semaphore>,
    clock: Clock,
    stop: watch::Receiver<bool>,
) -> SessionClosed {
    let Ends {
        commands,
        arrivals,
        ended,
        close,
    } = ends;
    let mut driver = Driver {
        session,
        frames,
        clock,
        places,
        place: None,
        batch: LegacyBatch::default(),
        unwritten: VecDeque::new(),
        questions: VecDeque::new(),
        invalid: 0,
    };
    let closing = async {
        let mut stop = stop;
        tokio::select! {
            () = close.notified() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    };
    let reason = tokio::select! {
        reason = driver.run(io, commands, arrivals) => reason,
        () = closing => SessionClosed::ByUs,
    };
    // Nobody who still waits for an answer gets one.
    drop(driver);
    let _ = ended.send(Some(reason.clone()));
    reason
}

/// A place among the long frames: none needed, waited for, or taken.
enum Place {
    Awaited(Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>),
    Taken {
        permit: OwnedSemaphorePermit,
        until: Instant,
    },
}

struct Driver {
    session: Session,
    frames: FrameReader,
    clock: Clock,
    places: Arc<Semaphore>,
    place: Option<Place>,
    batch: LegacyBatch,
    unwritten: VecDeque<u8>,
    questions: VecDeque<([u8; 16], oneshot::Sender<()>)>,
    invalid: usize,
}

impl Driver {
    async fn run(
        &mut self,
        io: impl AsyncRead + AsyncWrite + Unpin,
        mut commands: mpsc::Receiver<Command>,
        arrivals: mpsc::Sender<LegacyBatch>,
    ) -> SessionClosed {
        let (mut reader, mut writer) = io.split();
        let mut buffer = vec![0; READ_BUFFER];
        let (mut flushed, mut was_reading) = (true, true);
        // Whether nothing can be written any more. What the peer said before it went is still read.
        let mut mute = false;
        // Frames that came with the end of the handshake.
        let mut over = self.take_frames().err();
        loop {
            self.poll_transmit();
            if mute {
                self.unwritten.clear();
            }
            if let Some(reason) = over.take() {
                if !self.batch.is_empty() {
                    let _ = arrivals.send(std::mem::take(&mut self.batch)).await;
                }
                return reason;
            }
            if self.session.is_dead() {
                return SessionClosed::Dead;
            }
            let reading = self.batch.is_empty() && !matches!(self.place, Some(Place::Awaited(_)));
            let may_ask =
                !mute && self.unwritten.len() < MAX_UNWRITTEN && self.questions.len() < MAX_QUESTIONS;
            // While nothing is read, silence is ours and not the peer's.
            let deadline = self.session.poll_timeout().filter(|_| reading);
            if reading && !was_reading {
                self.session.heard(self.clock.now());
            }
            was_reading = reading;
            tokio::select! {
                read = reader.read(&mut buffer), if reading => {
                    over = match read {
                        Ok(count) if count > 0 => {
                            self.session.heard(self.clock.now());
                            self.frames.push(buffer.get(..count).unwrap_or_default());
                            self.take_frames().err()
                        }
                        Ok(_) | Err(_) => Some(SessionClosed::ConnectionLost),
                    };
                }
                slot = arrivals.reserve(), if !self.batch.is_empty() => match slot {
                    Ok(slot) => slot.send(std::mem::take(&mut self.batch)),
                    Err(_) => return SessionClosed::ByUs,
                },
                written = write_some(&mut writer, self.unwritten.as_slices().0), if !(flushed && self.unwritten.is_empty()) => {
                    match written {
                        Ok(count) => {
                            flushed = count == 0;
                            self.unwritten.drain(..count);
                        }
                        Err(_) => (flushed, mute) = (true, true),
                    }
                }
                command = commands.recv(), if may_ask => match command {
                    Some(command) => over = self.obey(command).err(),
                    None => {
                        self.say_goodbye(&mut writer).await;
                        return SessionClosed::ByUs;
                    }
                },
                over_place = wait_for_place(&mut self.place) => over = over_place,
                () = self.clock.sleep_until(deadline) => self.session.handle_timeout(self.clock.now()),
            }
        }
    }

    async fn say_goodbye(&mut self, writer: &mut (impl AsyncWrite + Unpin)) {
        let last_words = async {
            let (front, back) = self.unwritten.as_slices();
            writer.write_all(front).await?;
            writer.write_all(back).await?;
            writer.close().await
        };
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, last_words).await;
    }

    fn obey(&mut self, command: Command) -> Result<(), SessionClosed> {
        match command {
            Command::Transmit { frames, confirm } => {
                let mut nonce = [0; 16];
                if getrandom::fill(&mut nonce).is_err() {
                    return Err(SessionClosed::ByUs);
                }
                self.unwritten.extend(frames);
                self.session.ping(nonce);
                self.questions.push_back((nonce, confirm));
            }
            Command::Pong(nonce) => self.session.pong(nonce),
        }
        Ok(())
    }

    /// Moves what the session has to say behind what is to be written.
    fn poll_transmit(&mut self) {
        let mut out = Vec::new();
        while self.session.poll_transmit(&mut out) {}
        self.unwritten.extend(out);
    }

    /// Takes every complete frame, and sees to a place for a long one that is on its way.
    fn take_frames(&mut self) -> Result<(), SessionClosed> {
        loop {
            match self.frames.next_frame() {
                Ok(Some(frame)) => self.take_frame(&frame)?,
                Ok(None) => break,
                Err(error) => return Err(SessionClosed::Protocol(error.to_string())),
            }
        }
        let long = self.frames.announced().is_some_and(|length| length > LONG_FRAME);
        match (&self.place, long) {
            (None, true) => {
                let places = Arc::clone(&self.places);
                let awaited = Box::pin(async move { places.acquire_owned().await.ok() });
                self.place = Some(Place::Awaited(awaited));
            }
            (Some(_), false) => {
                // The message keeps the place until it is stored.
                if let Some(Place::Taken { permit, .. }) = self.place.take() {
                    self.batch.place = Some(permit);
                }
            }
            (None, false) | (Some(_), true) => {}
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: &[u8]) -> Result<(), SessionClosed> {
        match self.session.handle_frame(frame, self.clock.now()) {
            Ok(Some(Event::Chat(message))) => self.batch.messages.push(message),
            Ok(Some(Event::Ping(nonce))) => self.batch.pings.push(nonce),
            Ok(Some(Event::Pong(nonce))) => self.answered(nonce.as_bytes().unwrap_or_default()),
            Ok(None) => {}
            Err(error) if !error.is_fatal() && self.invalid < MAX_INVALID => {
                self.invalid += 1;
                tracing::warn!(peer = %self.session.remote(), %error, "a message of a ClawChat 1.0 peer was dropped");
            }
            Err(error) => return Err(SessionClosed::Protocol(error.to_string())),
        }
        Ok(())
    }

    /// The peer has read everything up to this question.
    fn answered(&mut self, nonce: &[u8]) {
        let Some(index) = self.questions.iter().position(|(asked, _)| asked == nonce) else {
            return;
        };
        for (_, confirm) in self.questions.drain(..=index) {
            let _ = confirm.send(());
        }
    }
}

/// Writes some of it; flushes when there is nothing left to write. Safe to drop: what was written was returned.
async fn write_some(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(bytes).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

/// Waits for a place, or for the time to run out that a long frame may take. For ever when neither is the case.
async fn wait_for_place(place: &mut Option<Place>) -> Option<SessionClosed> {
    match place {
        None => pending().await,
        Some(Place::Awaited(awaited)) => match awaited.await {
            Some(permit) => {
                let until = Instant::now() + LONG_FRAME_LIMIT;
                *place = Some(Place::Taken { permit, until });
                None
            }
            // The node is gone.
            None => ready(Some(SessionClosed::ByUs)).await,
        },
        Some(Place::Taken { until, .. }) => {
            tokio::time::sleep_until(*until).await;
            Some(SessionClosed::Dead)
        }
    }
}

#[cfg(test)]
mod tests;
