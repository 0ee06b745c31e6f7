//! A cable between two peers: a TCP proxy that can be cut at any moment, in the middle of whatever goes over it.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::gateways::Outcome;

/// Connections to its port go on to another one. Dropped, it is cut for good.
pub(crate) struct Cable {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Connections end at once.
    unplugged: bool,
    /// No more connections are taken.
    over: bool,
    /// Both ends of those that stand, and of some that have ended.
    streams: Vec<TcpStream>,
}

impl Cable {
    /// One that leads to a port of this machine.
    pub(crate) fn to(port: u16) -> Outcome<Self> {
        let failed = |error: io::Error| format!("a cable to port {port}: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let state = Arc::new(Mutex::new(State::default()));
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut state = lock(&serving);
                if state.over {
                    break;
                }
                if !state.unplugged {
                    // One that leads nowhere just ends.
                    let _ = connect(&mut state, stream, port);
                }
            }
        });
        Ok(Self { address, state })
    }

    /// Where it begins.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends all that goes over it, and whatever is tried until it is plugged in again.
    pub(crate) fn cut(&self) {
        let mut state = lock(&self.state);
        state.unplugged = true;
        for stream in state.streams.drain(..) {
            // Fails for one that has ended.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Connections stand again.
    pub(crate) fn plug_in(&self) {
        lock(&self.state).unplugged = false;
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.cut();
        lock(&self.state).over = true;
        // Wakes the one that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets two streams be one connection.
fn connect(state: &mut State, near: TcpStream, port: u16) -> io::Result<()> {
    let far = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
        state.streams.push(stream.try_clone()?);
    }
    for (mut from, mut to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        thread::spawn(move || {
            // However it ends, both ends shall know.
            let _ = io::copy(&mut from, &mut to);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}
