//! A mock model server in the OpenAI dialect that is fast when it behaves and exact when it does not.
//!
//! What it is for: the upstream of tests (in this process, by [`serve`]) and of measurements (as a program of
//! its own, by [`serve_workers`]). It answers POST /v1/chat/completions, /v1/completions and /v1/embeddings,
//! GET /v1/models and /v1/models/{id}, all also without `/v1`, over HTTP/1.1 keep-alive and HTTP/2 with prior
//! knowledge on one port. GET /mock/stats and /mock/requests tell what it has seen, POST /mock/reset forgets
//! it. How it answers is scripted per request; see [`script`].
//!
//! It never calls anybody, never writes a file, and never grows beyond its named bounds.

mod answer;
mod ask;
pub mod command;
mod http1;
mod http2;
mod ledger;
mod messages;
mod render;
pub mod script;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

pub use ledger::{Answered, Cancel, Left, ModelStats, Seen, Stats};
pub use script::{BadWord, Fault, Script};

use ledger::Ledger;

/// What a mock does when a request says nothing else.
#[derive(Clone, Debug)]
pub struct MockConfig {
    pub script: Script,
    /// Names that GET /v1/models lists; every name is answered.
    pub models: Vec<String>,
    /// Keep the last requests for [`Mock::requests`] and [`Mock::answers`]; off for measurements.
    pub record: bool,
}

impl Default for MockConfig {
    fn default() -> Self {
        let models = ["mock-model", "mock-small", "mock-large"].map(str::to_owned).to_vec();
        MockConfig { script: Script::default(), models, record: true }
    }
}

/// A mock that serves on the runtime that started it, until stopped or dropped.
pub struct Mock {
    address: SocketAddr,
    shared: Arc<Shared>,
    stopping: Arc<Notify>,
    accepting: JoinHandle<()>,
}

/// What every connection of a mock sees.
pub(crate) struct Shared {
    pub(crate) config: MockConfig,
    pub(crate) ledger: Ledger,
}

/// Serves `listener` on the current tokio runtime. The error is that of asking the listener for its address.
pub fn serve(listener: TcpListener, config: MockConfig) -> io::Result<Mock> {
    let address = listener.local_addr()?;
    let shared = Arc::new(Shared { config, ledger: Ledger::new() });
    let stopping = Arc::new(Notify::new());
    let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), Arc::clone(&stopping)));
    Ok(Mock { address, shared, stopping, accepting })
}

/// Serves on a free port of loopback, as most tests want it.
pub async fn serve_here(config: MockConfig) -> io::Result<Mock> {
    serve(TcpListener::bind(("127.0.0.1", 0)).await?, config)
}

impl Mock {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn stats(&self) -> Stats {
        self.shared.ledger.stats()
    }

    /// Counters of one model, its name with the script; zeros for a model never asked for.
    pub fn model(&self, name: &str) -> ModelStats {
        self.stats().models.remove(name).unwrap_or_default()
    }

    /// The last requests, oldest first; at most 64.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.ledger.requests()
    }

    /// The last answers, in the order they ended; at most 16,384, and none where nothing is recorded.
    pub fn answers(&self) -> Vec<Answered> {
        self.shared.ledger.answers()
    }

    /// Nanoseconds since this mock started: the clock of its stats.
    pub fn now_ns(&self) -> u64 {
        self.shared.ledger.now_ns()
    }

    /// Forgets counters and recorded requests.
    pub fn reset(&self) {
        self.shared.ledger.reset();
    }

    /// Closes the listener and every connection; later connections are refused by the system.
    pub async fn stop(mut self) {
        self.stopping.notify_one();
        // Ended or panicked: either way nothing of the mock runs any more, and no socket of it is open.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A mock on threads of its own, one single-threaded runtime and one listening socket each.
pub struct Workers {
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// Binds `workers` sockets to one address (SO_REUSEPORT: the kernel spreads connections) and serves them.
pub fn serve_workers(address: SocketAddr, config: MockConfig, workers: usize) -> io::Result<Workers> {
    let first = bind(address)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(bind(address)?);
    }
    let shared = Arc::new(Shared { config, ledger: Ledger::new() });
    let (stop, stopped) = watch::channel(false);
    let mut threads = Vec::with_capacity(listeners.len());
    for (index, listener) in listeners.into_iter().enumerate() {
        let (shared, mut stopped) = (Arc::clone(&shared), stopped.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            tokio::select! {
                () = accept(listener, shared, Arc::default()) => {}
                // An error means the handle is gone, which also means: stop.
                _ = stopped.changed() => {}
            }
        };
        let thread = std::thread::Builder::new().name(format!("mock-{index}"));
        threads.push(thread.spawn(move || runtime.block_on(serving))?);
    }
    Ok(Workers { address, stop, threads })
}

impl Workers {
    /// Stops every worker and waits for it.
    pub fn stop(self) {
        // No receiver left means every worker has ended already.
        let _ = self.stop.send(true);
        for thread in self.threads {
            if thread.join().is_err() {
                eprintln!("mock: a worker panicked; its message is above");
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until it is told to stop, and then returns when every connection is closed; dropping it closes
/// them too, a moment later.
async fn accept(listener: TcpListener, shared: Arc<Shared>, stopping: Arc<Notify>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopping.notified() => {
                drop(listener);
                return connections.shutdown().await;
            }
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => on_accepted(stream, &shared, &mut connections),
                // Out of descriptors, most likely: let some connections end first.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            // A connection that panicked has said so on stderr.
            Some(_) = connections.join_next() => {}
        }
    }
}

fn on_accepted(stream: TcpStream, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    let number = shared.ledger.on_connection();
    if shared.config.script.fault == Some(Fault::Refuse)
        && shared.config.script.fault_of_request(number).is_some()
    {
        shared.ledger.on_refused();
        return reset(stream);
    }
    connections.spawn(connection(stream, Arc::clone(shared)));
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Without it a chunk may wait for the acknowledgement of the one before; a failure only costs time.
    let _ = stream.set_nodelay(true);
    let mut unread = BytesMut::new();
    while unread.len() < HTTP2_START.len() {
        match http1::read_more(&stream, &mut unread).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
    if unread.starts_with(HTTP2_START) {
        http2::serve(shared, stream, unread).await;
    } else {
        http1::serve(&shared, stream, unread).await;
    }
}

/// Closes with a TCP reset instead of an orderly end.
fn reset(stream: TcpStream) {
    reset_on_close(&stream);
    drop(stream);
}

fn reset_on_close(stream: &TcpStream) {
    // Refused only for a socket already closed, where nothing is left to reset.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// The start of the HTTP/2 preface, which begins no HTTP/1.1 request.
const HTTP2_START: &[u8] = b"PRI ";
/// What the kernel queues before accept; its own limit (4096 by default) applies too.
const BACKLOG: i32 = 4096;
/// Below the usual limit of descriptors of a container (65536), per worker.
const CONNECTIONS_MAX: usize = 16_384;
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
