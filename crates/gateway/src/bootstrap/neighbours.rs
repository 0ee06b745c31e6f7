//! Living by a list: fetch it, keep links with some of the peers in it, fetch it again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clawchat_mesh::bootstrap::{self, List};
use clawchat_mesh::ws::{WebSockets, WsLink};
use clawchat_mesh::{PeerName, WsUrl};
use clawchat_types::UnixMillis;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use super::fetch::{FetchError, Fetched, fetch};
pub(crate) use super::fetch::{ListUrl, Trusted};
use super::rota::{Rota, jittered};
use crate::clock;

/// Links kept with peers of the list.
const NEIGHBOURS: usize = 8;
/// Peers of the list that are tried before it is fetched again; drawn from a longer one.
const MAX_CANDIDATES: usize = 64;
/// When the list is fetched again: this and up to as much later.
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// The same while nobody is linked at all.
const REFRESH_ALONE: Duration = Duration::from_secs(30);
/// First pause after the list could not be fetched; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often it is looked whether somebody of the list is missing, when nothing else happens.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where a list comes from, and how that is going.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Where it is.
    pub(crate) list: ListUrl,
    /// Who may vouch for its server.
    pub(crate) trusted: Trusted,
    /// For the operator; written here.
    pub(crate) news: ListNews,
}

/// How fetching a list is going. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListNews(Arc<Mutex<ListState>>);

/// The newest of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListState {
    /// Peers on the list fetched last; `None` before there was one.
    pub(crate) peers: Option<usize>,
    /// When it was fetched.
    pub(crate) fetched_at: Option<UnixMillis>,
    /// Why the newest attempt failed, if it did.
    pub(crate) error: Option<String>,
    /// How far the clock of the list's server was ahead of ours then, in milliseconds, if it told.
    pub(crate) clock_ahead: Option<i64>,
}

impl ListNews {
    /// What is known now.
    pub(crate) fn now(&self) -> ListState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fetched(&self, fetched: &Fetched) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        *state = ListState {
            peers: Some(fetched.list.peers.len()),
            fetched_at: Some(now),
            error: None,
            clock_ahead: fetched.date.and_then(|date| {
                let (date, now) = (i64::try_from(date.0).ok()?, i64::try_from(now.0).ok()?);
                date.checked_sub(now)
            }),
        };
    }

    fn failed(&self, error: &FetchError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).error = Some(error.to_string());
    }
}

/// Fetches the list and keeps links until dropped. `run` serves a link until it ends; `connected` says with whom there
/// is one, whoever opened it.
pub(crate) async fn keep<R, RF, C, CF>(
    source: Source,
    own: PeerName,
    sockets: WebSockets,
    run: R,
    connected: C,
) where
    R: Fn(WsLink, String) -> RF + Clone + Send + 'static,
    RF: Future<Output = ()> + Send,
    C: Fn() -> CF,
    CF: Future<Output = HashSet<PeerName>>,
{
    let epoch = Instant::now();
    let mut rota = Rota::default();
    let mut links: JoinSet<Duration> = JoinSet::new();
    // Whom a task links with: it cannot say that itself when it panics.
    let mut linking: HashMap<Id, WsUrl> = HashMap::new();
    let mut fetching: Option<JoinHandle<Result<Fetched, FetchError>>> = None;
    let (mut fetch_at, mut fetch_alone_at) = (epoch, epoch);
    let mut failures = 0;
    loop {
        let there = connected().await;
        let now = Instant::now();
        let due = if there.is_empty() {
            fetch_at.min(fetch_alone_at)
        } else {
            fetch_at
        };
        if fetching.is_none() && due <= now {
            let Source { list, trusted, .. } = source.clone();
            fetching = Some(tokio::task::spawn_blocking(move || fetch(&list, &trusted)));
        }
        for url in rota.next(NEIGHBOURS, &there, clock::jitter(), now - epoch) {
            let (sockets, run, reach) = (sockets.clone(), run.clone(), source.list.reach());
            let dialed = url.clone();
            let task = links.spawn(async move {
                match sockets.dial(&url, reach).await {
                    Ok(link) => {
                        let since = Instant::now();
                        run(link, url.to_string()).await;
                        since.elapsed()
                    }
                    Err(error) => {
                        debug!(%url, %error, "a peer of the list cannot be reached");
                        Duration::ZERO
                    }
                }
            });
            linking.insert(task.id(), dialed);
        }
        let mut wake = now + LOOK_EVERY;
        if let Some(time) = rota.next_time(now - epoch) {
            wake = wake.min(epoch + time);
        }
        if fetching.is_none() {
            wake = wake.min(due);
        }
        tokio::select! {
            Some(ended) = links.join_next_with_id(), if !links.is_empty() => {
                let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
                let url = linking.remove(&id);
                let stood = ended.map(|(_, stood)| stood).unwrap_or_else(|error| {
                    let url = url.as_ref().map(WsUrl::to_string).unwrap_or_default();
                    error!(url, %error, "a link with a peer of the list ended badly");
                    Duration::ZERO
                });
                if let Some(url) = url {
                    rota.ended(&url, stood, clock::jitter(), epoch.elapsed());
                }
            }
            fetched = finished(&mut fetching) => {
                fetching = None;
                let now = Instant::now();
                match fetched {
                    Ok(fetched) => {
                        source.news.fetched(&fetched);
                        let list = fetched.list;
                        if failures > 0 || list.left_out > 0 {
                            info!(peers = list.peers.len(), left_out = list.left_out, "fetched the list of peers");
                        }
                        failures = 0;
                        rota.list(candidates(&list, &own));
                        let later = 1.0 + fraction(clock::jitter());
                        (fetch_at, fetch_alone_at) = (now + REFRESH.mul_f64(later), now + REFRESH_ALONE.mul_f64(later));
                    }
                    Err(error) => {
                        source.news.failed(&error);
                        if failures == 0 {
                            warn!(%error, "the list of peers cannot be fetched; tried again until it can");
                        }
                        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
                        failures += 1;
                        fetch_at = now + jittered(pause, clock::jitter());
                        fetch_alone_at = fetch_at;
                    }
                }
            }
            () = sleep_until(wake) => {}
        }
    }
}

/// What a fetch came to; waits for ever where there is none.
async fn finished(
    fetching: &mut Option<JoinHandle<Result<Fetched, FetchError>>>,
) -> Result<Fetched, FetchError> {
    match fetching {
        Some(handle) => handle
            .await
            .unwrap_or_else(|error| Err(FetchError::Unreachable(error.to_string()))),
        None => std::future::pending().await,
    }
}

/// The peers that are tried.
fn candidates(list: &List, own: &PeerName) -> Vec<(PeerName, WsUrl)> {
    bootstrap::choose(list, own, MAX_CANDIDATES, clock::jitter())
        .into_iter()
        .map(|entry| (entry.peer, entry.url))
        .collect()
}

/// Somewhere from 0 to 1.
fn fraction(random: u64) -> f64 {
    f64::from(u32::try_from(random % 1024).unwrap_or_default()) / 1024.0
}
