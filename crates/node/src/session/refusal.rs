//! The answer to a session there is no room for.

use std::io;
use std::time::Duration;

use clawchat_snap2p::{ErrorCode, MAX_PRE_AUTH_FRAME, refusal};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::swarm::Substream;

/// Refusals being told at a time, in all. Whoever comes beyond that is dropped without a word.
const MAX_REFUSALS: usize = 256;
/// How long telling one may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes read of a peer that was refused: its first frames, which it may have sent before it knew.
const MAX_UNREAD: u64 = 4 * MAX_PRE_AUTH_FRAME as u64;

/// Refusals under way. Dropping it drops them.
#[derive(Default)]
pub(crate) struct Refusals {
    tasks: JoinSet<()>,
}

impl Refusals {
    /// Tells the peer that there is no room for its session now.
    pub(crate) fn refuse(&mut self, substream: Substream) {
        while self.tasks.try_join_next().is_some() {}
        if self.tasks.len() < MAX_REFUSALS {
            self.tasks.spawn(async {
                let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refuse(substream)).await;
            });
        }
    }
}

async fn refuse(mut io: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    io.write_all(&refusal(ErrorCode::RateLimited)).await?;
    io.close().await?;
    // A substream that is dropped unread can break under the peer's first write, before it has read this.
    futures::io::copy(io.take(MAX_UNREAD), &mut futures::io::sink()).await?;
    Ok(())
}
