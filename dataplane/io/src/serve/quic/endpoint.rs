//! The UDP port: every first datagram is answered with a Retry until its sender has shown that the address is
//! its own (RFC 9000 section 8.1.2), so that nothing is kept for, and hardly anything is sent to, an address
//! that somebody else wrote. Whoever proved it goes to a worker, in turn.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::counts::{Counts, Refused};
use super::{connection, settings};
use crate::drain::{LAST_WORDS, Phase};
use crate::listen::Busy;
use crate::tls::ServerSide;
use crate::worker::Worker;

/// The socket of an endpoint.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // As much as the system gives: a burst that finds no room is sent again, later and slower.
    let _ = socket.set_recv_buffer_size(SOCKET_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Serves a socket until the end; `workers` are all there are. Where there is one, on its thread.
pub async fn serve(workers: Vec<Arc<Worker>>, socket: UdpSocket, busy: Busy) -> io::Result<()> {
    let is_loopback = socket.local_addr()?.ip().is_loopback();
    let shared = Arc::clone(&workers[0].shared);
    let tls = Arc::clone(shared.tls.as_ref().expect("where QUIC is served there is TLS"));
    let mut config = settings::server(tls.quic(settings::PROTOCOLS)).map_err(io::Error::other)?;
    let mut changes = tls.changes();
    let runtime = Arc::new(TokioRuntime);
    let endpoint = Endpoint::new(EndpointConfig::default(), Some(config.clone()), socket, runtime)?;
    let mut phases = shared.phases();
    let mut lobby = Lobby {
        workers,
        tls: Arc::clone(&tls),
        is_loopback,
        half_open: Arc::new(Semaphore::new(HALF_OPEN_MAX)),
        next: 0,
    };
    {
        let draining = phases.wait_for(|phase| *phase >= Phase::Draining);
        tokio::pin!(draining);
        loop {
            tokio::select! {
                biased;
                _ = &mut draining => break,
                Ok(()) = changes.changed() => renew(&endpoint, &mut config, &tls),
                Some(incoming) = endpoint.accept() => lobby.on_incoming(incoming, &busy),
                else => break,
            }
        }
    }
    drop(busy);
    // Connections there are go on, and end themselves; others are told to look elsewhere.
    {
        let closing = phases.wait_for(|phase| *phase >= Phase::Closing);
        tokio::pin!(closing);
        loop {
            tokio::select! {
                biased;
                _ = &mut closing => break,
                Some(incoming) = endpoint.accept() => {
                    shared.quic.on_refused(Refused::Draining);
                    incoming.refuse();
                }
                else => break,
            }
        }
    }
    endpoint.set_server_config(None);
    let _ = timeout(LAST_WORDS + LAST_WORDS, endpoint.wait_idle()).await;
    Ok(())
}

/// New keys for connections to come.
fn renew(endpoint: &Endpoint, config: &mut ServerConfig, tls: &ServerSide) {
    match settings::crypto(tls.quic(settings::PROTOCOLS)) {
        Ok(crypto) => {
            config.crypto = crypto;
            endpoint.set_server_config(Some(config.clone()));
        }
        Err(error) => tracing::error!(%error, "QUIC goes on with the keys it has"),
    }
}

/// Who wants to come in.
struct Lobby {
    workers: Vec<Arc<Worker>>,
    tls: Arc<ServerSide>,
    is_loopback: bool,
    /// Handshakes that may be under way.
    half_open: Arc<Semaphore>,
    next: u64,
}

impl Lobby {
    fn on_incoming(&mut self, incoming: Incoming, busy: &Busy) {
        if !incoming.remote_address_validated() {
            match incoming.retry() {
                Ok(()) => self.counts().on_retry(),
                Err(error) => error.into_incoming().ignore(),
            }
            return;
        }
        let Ok(place) = Arc::clone(&self.half_open).try_acquire_owned() else {
            self.counts().on_refused(Refused::Crowded);
            incoming.refuse();
            return;
        };
        let at = self.next;
        self.next = self.next.wrapping_add(1);
        // Less than the number of workers, which is one.
        let worker = Arc::clone(&self.workers[(at % self.workers.len() as u64) as usize]);
        let shared = Arc::clone(&worker.shared);
        let door = connection::Door { worker, tls: Arc::clone(&self.tls), is_loopback: self.is_loopback };
        let serving = connection::serve(door, incoming, place, busy.clone());
        match self.workers.len() {
            // This thread's.
            1 => drop(tokio::spawn(serving)),
            _ => shared.spawn_at(at, serving),
        }
    }

    fn counts(&self) -> &Counts {
        &self.workers[0].shared.quic
    }
}

/// Handshakes at once: each takes some 50 KiB, and few of those who mean it take a second.
const HALF_OPEN_MAX: usize = 256;
/// A tenth of a second of a gigabit.
const SOCKET_BYTES: usize = 4 * 1024 * 1024;
