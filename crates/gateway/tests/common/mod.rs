//! Real gateways in temporary homes for tests, and callers that speak JSON lines to their sockets.
//!
//! Nothing here sleeps to let something happen: whoever waits, waits for an answer or an event, or looks again
//! and again until a deadline.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary needs another part of it"
)]

mod caller;
mod rogue;

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use clawchat_gateway::admin::run_offline;
use clawchat_gateway::home::Home;
use clawchat_gateway::ipc::{Call, Secret};
use clawchat_gateway::{Gateway, GatewayOptions};
use clawchat_testkit::{Person, Stopwatch};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub(crate) use self::caller::{Caller, contents};
pub(crate) use self::rogue::{Chat, Rogue, letter};

/// No step of any test takes longer, or it fails. Of [`own_time`]: what a busy machine takes away does not count.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// How often the deadline is looked at.
const BEAT: Duration = Duration::from_millis(500);
/// How long a gateway is asked to wait for something, in milliseconds: longer than any test waits for its answer.
pub(crate) const WAIT: u64 = 1_200_000;
/// How often a condition that announces itself in no other way is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// Where ports are looked for: below those the system gives to outgoing connections, which could otherwise take
/// the port of a gateway that is down for a moment.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// Seals the keys of these homes.
pub(crate) const PASSWORD: &str = "not a secret at all";

/// Waits, but not for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    in_time(future).await.expect("this takes too long")
}

/// What comes of it within the deadline.
async fn in_time<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let watch = Stopwatch::start();
    while watch.elapsed() < DEADLINE {
        if let Ok(done) = tokio::time::timeout(BEAT, &mut future).await {
            return Some(done);
        }
    }
    None
}

/// Looks until there is something to see.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    match in_time(looking).await {
        Some(seen) => seen,
        None => panic!("not in time: {what}"),
    }
}

/// One gateway with its home. Dropped while it runs, it runs on until its test's runtime ends.
pub(crate) struct Gate {
    folder: Arc<TempDir>,
    root: PathBuf,
    port: u16,
    people: Vec<Person>,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    reloads: mpsc::Sender<()>,
    serving: JoinHandle<()>,
}

impl Gate {
    /// Hosts these people, each under their nick, and serves.
    pub(crate) async fn of(people: &[Person]) -> Self {
        let mut gate = Self::set_up(people);
        gate.start().await;
        gate
    }

    /// The same, but it does not run yet.
    pub(crate) fn set_up(people: &[Person]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("home");
        Self::set_up_at(people, folder, root)
    }

    /// The same in a given folder below `folder`.
    pub(crate) fn set_up_at(people: &[Person], folder: TempDir, root: PathBuf) -> Self {
        copy(&template(people), &root);
        Self {
            folder: Arc::new(folder),
            root,
            port: free_port(),
            people: people.to_vec(),
            running: None,
        }
    }

    /// Starts it on its port; when it runs, its socket and its ports are open.
    pub(crate) async fn start(&mut self) {
        let options = GatewayOptions {
            home: self.root.clone(),
            port: Some(self.port),
            password: Some(Secret::new(PASSWORD)),
            openclaw_wake: false,
        };
        let gateway = Gateway::start(options).await.expect("a gateway that starts");
        let (stop, stopped) = oneshot::channel();
        let (reloads, reload_requests) = mpsc::channel(1);
        let serving = tokio::spawn(gateway.run(
            async {
                // A dropped handle leaves it running until the runtime ends.
                if stopped.await.is_err() {
                    std::future::pending().await
                }
            },
            reload_requests,
        ));
        self.running = Some(Running {
            stop,
            reloads,
            serving,
        });
    }

    /// Stops it and waits until it is gone.
    pub(crate) async fn stop(&mut self) {
        let running = self.running.take().expect("it runs");
        running.stop.send(()).unwrap();
        within(running.serving).await.unwrap();
        self.let_go().await;
    }

    /// Waits until nobody holds a store of this home. A daemon that stops gives slow writes only so much time, and its
    /// process takes with it what is left of them; here they are still under way. And between its fork and its exec a
    /// program that another test starts holds all locks of this process.
    async fn let_go(&self) {
        let free = |lock: &Path| File::open(lock).is_ok_and(|lock| lock.try_lock().is_ok());
        for lock in locks(&self.root) {
            eventually("the store is let go of", async || free(&lock).then_some(())).await;
        }
    }

    /// Listens on another port from the next start on.
    pub(crate) fn move_house(&mut self) {
        self.port = free_port();
    }

    /// What SIGHUP does.
    pub(crate) async fn hang_up(&self) {
        let running = self.running.as_ref().expect("it runs");
        running.reloads.send(()).await.unwrap();
    }

    /// Whoever speaks for this person at the gateway's socket.
    pub(crate) fn caller(&self, person: Person) -> Caller {
        assert!(self.people.contains(&person), "{person:?} is hosted here");
        self.caller_as(&person.principal().to_string())
    }

    /// The same for anybody hosted here.
    pub(crate) fn caller_as(&self, who: &str) -> Caller {
        Caller::new(self.root.join("clawchat.sock"), who)
    }

    /// The home folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where somebody hosted here has its messages.
    pub(crate) fn store_of(&self, person: Person) -> PathBuf {
        Home::at(&self.root).store_dir(&person.principal())
    }

    /// `host:port`, without a peer id.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The same over IPv6, for callers that are to come from another address than those of [`Gate::address`]. `None` on
    /// a machine without IPv6.
    pub(crate) fn address_v6(&self) -> Option<String> {
        let there = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        there.then(|| format!("/ip6/::1/tcp/{}", self.port))
    }

    /// The configuration file, changed by hand.
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Value)) {
        edit(&Home::at(&self.root).config_path(), change);
    }

    /// Carries out one administrative request while it does not run.
    pub(crate) fn offline(&self, request: Value) -> Value {
        offline(&self.root, request)
    }
}

/// Two gateways, the people of the first knowing where those of the second are. Not the other way round.
pub(crate) async fn pair(here: &[Person], there: &[Person]) -> (Gate, Gate) {
    let (a, b) = tokio::join!(Gate::of(here), Gate::of(there));
    for person in here {
        for peer in there {
            a.caller(*person).knows(*peer, &b).await;
        }
    }
    (a, b)
}

/// The files that stand for the right to use a store, below this folder.
fn locks(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // What goes away meanwhile is no store.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(locks(&entry.path()));
        } else if entry.file_name() == "format" {
            found.push(entry.path());
        }
    }
    found
}

fn offline(root: &Path, request: Value) -> Value {
    let call = Call::from_value(request).expect("a request");
    run_offline(&Home::at(root), call).expect("it is carried out")
}

/// A home with these people. Sealing keys is slow, so every home is made once and copied.
fn template(people: &[Person]) -> PathBuf {
    static MADE: LazyLock<Mutex<HashMap<Vec<Person>, TempDir>>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap();
    let home = made.entry(people.to_vec()).or_insert_with(|| {
        let folder = tempfile::tempdir().unwrap();
        for (index, person) in people.iter().enumerate() {
            let cmd = if index == 0 {
                "gateway_init"
            } else {
                "identity_add"
            };
            offline(
                folder.path(),
                json!({ "cmd": cmd, "nick": person.nick(), "password": PASSWORD,
                    "mnemonic": person.mnemonic().expose_words() }),
            );
        }
        keep_to_itself(&Home::at(folder.path()).config_path());
        folder
    });
    home.path().to_owned()
}

/// The same people are hosted in many tests at once, and where multicast works their gateways would find each other
/// on the local network and deliver to another test.
fn keep_to_itself(config: &Path) {
    edit(config, |config| {
        config["nat"] = json!({ "mdns": false, "upnp": false })
    });
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

/// Copies a folder with everything in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// A port P with P, P/udp and P+1 free at the moment, and given to no other gateway of this process.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id() % 10_000).unwrap() * 2;
    for _ in 0..1000 {
        let step = NEXT.fetch_add(2, Ordering::Relaxed);
        let port = PORTS.start + (spread + step) % (PORTS.end - PORTS.start);
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
            && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port + 1)).is_ok()
            && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
        if free {
            return port;
        }
    }
    panic!("no free port");
}
