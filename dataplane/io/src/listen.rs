//! Sockets: bound once per worker, so that the kernel spreads connections and no worker hands one to another.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::drain::Phase;
use crate::serve;
use crate::tls::ServerSide;
use crate::worker::Worker;

/// One address, as many sockets as there are workers. Port 0 picks a free one, the same for all.
pub fn bind(address: SocketAddr, sockets: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let first = open(address)?;
    let bound = first.local_addr()?;
    let rest = (1..sockets).map(|_| open(bound));
    std::iter::once(Ok(first)).chain(rest).collect()
}

fn open(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether somebody else serves at `address`: sharing a port is for the workers of one process.
pub fn is_taken(address: SocketAddr) -> bool {
    let bound = std::net::TcpListener::bind(address);
    address.port() != 0 && bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Held by whatever must be done before the process may end.
pub type Busy = mpsc::Sender<std::convert::Infallible>;

/// Accepts on one socket until draining begins. Connections are tasks of this worker's runtime.
/// `tls`: with what they are secured.
pub async fn accept(
    worker: Arc<Worker>,
    listener: std::net::TcpListener,
    tls: Option<Arc<ServerSide>>,
    busy: Busy,
) -> io::Result<()> {
    let is_loopback = listener.local_addr()?.ip().is_loopback();
    let listener = TcpListener::from_std(listener)?;
    let mut phases = worker.shared.phases();
    let draining = phases.wait_for(|phase| *phase >= Phase::Draining);
    tokio::pin!(draining);
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = &mut draining => break,
        };
        match accepted {
            Ok((stream, _)) => admit(&worker, stream, is_loopback, tls.clone(), &busy),
            Err(error) => {
                // Out of file descriptors, most likely: waiting is the only way to get some back.
                tracing::warn!(%error, "accept failed; trying again shortly");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    Ok(())
}

fn admit(
    worker: &Arc<Worker>,
    stream: TcpStream,
    is_loopback: bool,
    tls: Option<Arc<ServerSide>>,
    busy: &Busy,
) {
    if !may_open(worker) {
        worker.tally.connections_refused.one();
        return;
    }
    worker.tally.connections_opened.one();
    tokio::spawn(serve::connection(Arc::clone(worker), stream, is_loopback, tls, busy.clone()));
}

/// Whether a worker takes another connection: its part of all, and only while it has the memory.
pub fn may_open(worker: &Worker) -> bool {
    let shared = &worker.shared;
    let connections_max = u64::from(shared.config.limits.connections) / shared.tallies.len() as u64;
    let open = worker.tally.connections_opened.value() - worker.tally.connections_closed.value();
    open < connections_max.max(1) && worker.ledger.level().may_connect()
}

/// Connections the kernel holds for us between two accepts.
const BACKLOG: i32 = 4096;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
