//! A server on a temporary socket with a handler of the test's choosing.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clawchat_ipc::{Call, Caller, Handler, Reply, Request, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// No answer of a test takes longer, unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server that runs until it is dropped or closed.
pub struct Daemon {
    pub path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
    runtime: Runtime,
    _folder: TempDir,
}

impl Daemon {
    pub fn start(handler: impl Handler) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clawchat.sock");
        let runtime = Runtime::new().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = {
            let _inside = runtime.enter();
            Server::bind(&path).unwrap()
        };
        let task = runtime.spawn(server.serve(handler, async {
            let _ = stopped.await;
        }));
        Self {
            path,
            stop: Some(stop),
            task: Some(task),
            runtime,
            _folder: folder,
        }
    }

    pub fn connect(&self) -> Wire {
        Wire::new(UnixStream::connect(&self.path).unwrap())
    }

    /// Asks the server to stop, without waiting.
    pub fn request_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Stops the server and waits until it has.
    pub fn close(&mut self) {
        self.request_stop();
        if let Some(task) = self.task.take() {
            self.runtime.block_on(task).unwrap();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.close();
        }
    }
}

/// A raw connection.
pub struct Wire {
    pub socket: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Wire {
    pub fn new(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(socket.try_clone().unwrap());
        Self { socket, reader }
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    pub fn send(&mut self, request: &Value) {
        self.write(format!("{request}\n"));
    }

    /// The next line; `None` when the connection is closed.
    pub fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub fn expect(&mut self) -> Value {
        self.line().expect("the connection closed instead of answering")
    }

    pub fn call(&mut self, request: &Value) -> Value {
        self.send(request);
        self.expect()
    }

    /// Shows that the connection still works, and that nothing else was left to read on it.
    pub fn assert_alive(&mut self) {
        let answer = self.call(&json!({"cmd": "multiaddrs", "id": "alive?"}));
        assert_eq!(answer["id"], "alive?", "{answer}");
    }
}

/// A handler made of a closure.
pub struct With<F>(pub F);

impl<F, R> Handler for With<F>
where
    F: Fn(Caller, Call) -> R + Send + Sync + 'static,
    R: Future<Output = Reply> + Send,
{
    fn handle(&self, caller: Caller, call: Call) -> impl Future<Output = Reply> + Send {
        (self.0)(caller, call)
    }
}

/// Answers everything with the command's name at once, but a waiting `recv` never.
pub fn echo() -> impl Handler {
    Arc::new(With(|_, call: Call| async move {
        match &call.request {
            Request::Recv { .. } if call.request.waits() => std::future::pending().await,
            request => Reply::ok(json!(request.command())),
        }
    }))
}
