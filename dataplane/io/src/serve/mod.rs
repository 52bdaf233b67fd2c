//! Clients' connections: bytes to requests, answers to bytes. Which protocol it is shows in the first bytes.

pub mod answer;
pub mod arriving;
mod ask;
pub mod atp;
mod completions;
mod count;
mod flood;
pub mod guard;
pub mod headers;
pub mod health;
pub mod hops;
mod http;
mod intake;
pub mod mcp;
pub mod memory;
mod models;
mod pump;
pub mod quic;
mod unsent;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proto_core::identity::Identity;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use self::atp::Seats;

use self::answer::AnswerBody;
use self::arriving::Arriving;
use self::guard::{Guarded, HEAD_WAIT, PREFIX_BYTES, Stage};
use crate::drain::{LAST_WORDS, Phase};
use crate::listen::Busy;
use crate::tls::{self, ServerSide, Verified};
use crate::worker::Worker;

/// What requests of one connection share.
#[derive(Debug)]
pub struct Peer {
    pub worker: Arc<Worker>,
    pub stage: Arc<Stage>,
    /// The listener is bound to loopback: whoever calls is on this machine.
    pub is_loopback: bool,
    /// Where it is, as far as this end can see.
    pub address: IpAddr,
    /// Requests overlap on it, as HTTP/2 and HTTP/3 have it.
    pub is_h2: bool,
    /// Whom its certificate names, where it showed one.
    pub verified: Option<Arc<Verified>>,
    /// The connection counts as open while anybody has this; `None` where its carrier counts it.
    pub opened: Option<Opened>,
}

impl Peer {
    pub fn identity(&self) -> Option<&Identity> {
        self.verified.as_ref().map(|verified| &verified.identity)
    }

    /// The same as text.
    pub fn identity_name(&self) -> Option<Arc<str>> {
        self.verified.as_ref().map(|verified| Arc::clone(&verified.name))
    }
}

/// Serves one connection to its end; behind TLS where `tls` says with what.
pub async fn connection(
    worker: Arc<Worker>,
    stream: TcpStream,
    is_loopback: bool,
    tls: Option<Arc<ServerSide>>,
    busy: Busy,
) {
    let opened = Opened::new(&worker, busy);
    // One that is gone already asks nothing.
    let Ok(address) = stream.peer_addr().map(|address| address.ip()) else { return };
    // Answers leave when they are written, not when more might follow.
    let _ = stream.set_nodelay(true);
    let Some(side) = tls else {
        return over(&worker, stream, (is_loopback, address), None, opened).await;
    };
    let mut phases = worker.shared.phases();
    let secured = tokio::select! {
        biased;
        secured = tls::accept(&side, stream) => secured,
        // Who has said nothing yet loses nothing.
        _ = phases.wait_for(|phase| *phase >= Phase::Draining) => None,
    };
    drop(phases);
    if let Some((stream, verified)) = secured {
        over(&worker, stream, (is_loopback, address), verified, opened).await;
    }
}

/// Serves what is spoken over `stream`.
async fn over<I>(
    worker: &Arc<Worker>,
    mut stream: I,
    (is_loopback, address): (bool, IpAddr),
    verified: Option<Arc<Verified>>,
    opened: Opened,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut prefix = [0; PREFIX_BYTES];
    let mut phases = worker.shared.phases();
    let first = tokio::select! {
        biased;
        first = timeout(HEAD_WAIT, read_prefix(&mut stream, &mut prefix)) => first,
        // Who has said nothing yet loses nothing.
        _ = phases.wait_for(|phase| *phase >= Phase::Draining) => return,
    };
    let Ok(Ok(read)) = first else {
        worker.tally.connections_cut_slow.one();
        return;
    };
    drop(phases);
    if read == 0 {
        return;
    }
    let is_h2 = &prefix[..read] == PREFACE;
    let stage = Arc::new(Stage::new(is_h2));
    let io = Guarded::new(stream, &prefix[..read], Arc::clone(&stage), Arc::clone(worker));
    let own = Arc::clone(&stage);
    let peer = Arc::new(Peer {
        worker: Arc::clone(worker),
        stage,
        is_loopback,
        address,
        is_h2,
        verified: verified.clone(),
        opened: Some(opened),
    });
    if is_h2 {
        // On the heap until it is answered: the stream's task would carry its room to the answer's end.
        let service =
            service_fn(move |request: Request<Incoming>| Box::pin(serve_one(Arc::clone(&peer), request)));
        let connection = http2_settings().serve_connection(TokioIo::new(io), service);
        until_drained(worker, &own, connection, retired(verified.as_deref()), |connection| {
            connection.graceful_shutdown()
        })
        .await;
    } else {
        let service = service_fn(move |request: Request<Incoming>| serve_one(Arc::clone(&peer), request));
        let connection = http1_settings().serve_connection(TokioIo::new(io), service).with_upgrades();
        until_drained(worker, &own, connection, retired(verified.as_deref()), |connection| {
            connection.graceful_shutdown()
        })
        .await;
    }
}

async fn serve_one(peer: Arc<Peer>, request: Request<Incoming>) -> Result<Response<AnswerBody>, Infallible> {
    Ok(http::serve(peer, request.map(Arriving::Hyper)).await)
}

/// Counts a connection's end, however it ends, and keeps the process until then.
#[derive(Debug)]
pub struct Opened {
    worker: Arc<Worker>,
    _busy: Busy,
}

impl Opened {
    pub fn new(worker: &Arc<Worker>, busy: Busy) -> Opened {
        Opened { worker: Arc::clone(worker), _busy: busy }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.worker.tally.connections_closed.one();
        if std::thread::panicking() {
            self.worker.tally.panics.one();
        }
    }
}

/// Reads until HTTP/2's preface and a request line can be told apart: the first byte that differs decides.
async fn read_prefix(
    stream: &mut (impl AsyncRead + Unpin),
    prefix: &mut [u8; PREFIX_BYTES],
) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < PREFIX_BYTES {
        let read = stream.read(&mut prefix[filled..]).await?;
        filled += read;
        if read == 0 || prefix[..filled] != PREFACE[..filled] {
            break;
        }
    }
    Ok(filled)
}

/// Until a certificate is trusted no more.
pub(in crate::serve) async fn retired(verified: Option<&Verified>) {
    match verified {
        Some(verified) => verified.retired().await,
        None => std::future::pending().await,
    }
}

/// Polls a connection; once draining begins, the connection is idle for long, or its peer is trusted no more,
/// asks it to finish, once closing begins gives it a moment.
async fn until_drained<C>(
    worker: &Worker,
    stage: &Stage,
    connection: C,
    retired: impl Future<Output = ()>,
    finish: impl Fn(Pin<&mut C>),
) where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let mut retired = pin!(retired);
    let mut is_retired = false;
    let mut phases = worker.shared.phases();
    {
        let mut draining = pin!(phases.wait_for(|phase| *phase >= Phase::Draining));
        let mut is_watching = false;
        let ended = poll_fn(|cx| {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(ended));
            }
            is_retired = retired.as_mut().poll(cx).is_ready();
            if stage.is_idle() || is_retired {
                return Poll::Ready(None);
            }
            // The watch wakes this very task once a change of phase: registered once while serving, so that
            // no watch is polled for a request, and again with each change after that.
            if !is_watching || worker.shared.is_past(Phase::Leaving) {
                is_watching = true;
                return draining.as_mut().poll(cx).map(|_| None);
            }
            Poll::Pending
        });
        if let Some(ended) = ended.await {
            return log_end(ended);
        }
    }
    finish(connection.as_mut());
    let closing = async {
        // A sender that is gone means the process is ending: the same.
        let closing = phases.wait_for(|phase| *phase >= Phase::Closing);
        if is_retired {
            let _ = timeout(RETIRED_WAIT, closing).await;
        } else {
            let _ = closing.await;
        }
    };
    tokio::select! {
        biased;
        ended = connection.as_mut() => return log_end(ended),
        () = closing => {}
    }
    // Relays notice when they are polled, and say why they end.
    match timeout(LAST_WORDS, connection).await {
        Ok(ended) => log_end(ended),
        Err(_) => tracing::warn!("a connection did not end in time and was closed"),
    }
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended");
    }
}

fn http1_settings() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Deadlines are the guard's.
    builder.half_close(false).keep_alive(true).max_buf_size(HTTP1_HEAD_BYTES).timer(TokioTimer::new());
    builder.header_read_timeout(None);
    builder
}

fn http2_settings() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        // For WebSockets on a stream (RFC 8441).
        .enable_connect_protocol()
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HTTP2_HEADER_BYTES)
        .max_send_buf_size(HTTP2_SEND_BYTES)
        .max_pending_accept_reset_streams(HTTP2_RESETS_MAX)
        .max_local_error_reset_streams(Some(HTTP2_LOCAL_RESETS_MAX))
        .keep_alive_interval(HTTP2_PING_EVERY)
        .keep_alive_timeout(HTTP2_PING_WAIT);
    builder
}

/// For answers under way to a peer that is trusted no more. With the time in which that is noticed it is less
/// than half a minute.
const RETIRED_WAIT: Duration = Duration::from_secs(15);
const PREFACE: &[u8] = b"PRI ";
/// Of a request line and its headers.
const HTTP1_HEAD_BYTES: usize = 64 * 1024;
/// Requests at once on one connection.
const HTTP2_STREAMS_MAX: u32 = 100;
/// A prompt of common size in one flight.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What all streams of one connection may have sent unread.
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const HTTP2_HEADER_BYTES: u32 = 16 * 1024;
/// Of answers, per stream, that a client has not taken yet.
const HTTP2_SEND_BYTES: usize = 64 * 1024;
const HTTP2_RESETS_MAX: usize = 20;
const HTTP2_LOCAL_RESETS_MAX: usize = 100;
const HTTP2_PING_EVERY: std::time::Duration = std::time::Duration::from_secs(20);
const HTTP2_PING_WAIT: std::time::Duration = std::time::Duration::from_secs(10);
