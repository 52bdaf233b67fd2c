//! Wiring: binds, starts one thread a worker, one for the admin port and one that takes sets in, waits for
//! the end, leaves in order.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use dataplane_core::admit::pressure::Level;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::config::{Config, Tls};
use crate::drain::{LAST_WORDS, Phase};
use crate::tls::{self, ServerSide};
use crate::trace::export;
use crate::upstream::memory::Memory;
use crate::worker::{Shared, Worker};
use crate::{admin, admission, clock, listen, probes, runtime, serve, source};

/// A data plane that runs.
#[derive(Debug)]
pub struct Handle {
    /// Where clients are served; the first is always bound.
    pub http: Vec<SocketAddr>,
    /// The same behind TLS.
    pub https: Option<SocketAddr>,
    /// The same over QUIC.
    pub quic: Option<SocketAddr>,
    pub admin: SocketAddr,
    /// Health and metrics alone.
    pub probes: Option<SocketAddr>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    busy: mpsc::Receiver<std::convert::Infallible>,
}

/// Who calls, by the set that is served: for other parts of the same process.
#[derive(Debug, Clone)]
pub struct Callers(Arc<Shared>);

/// A caller, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `None`: nobody who may call.
    pub tenant: Option<Arc<str>>,
    /// Somebody has a key.
    pub are_declared: bool,
}

impl Callers {
    /// By the SHA-256 of a key, or without one; `None` while no set is served. `is_loopback`: whoever calls
    /// is on this machine.
    pub fn find(&self, key: Option<&[u8; 32]>, is_loopback: bool) -> Option<Caller> {
        let served = self.0.tables.peek()?;
        let found = served.table.identify(key, is_loopback).ok();
        let tenant = found.map(|id| served.table.tenant(id).name.as_str().into());
        Some(Caller { tenant, are_declared: served.table.wants_keys() })
    }
}

/// Why a data plane does not start: what, where, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

/// Binds and starts. Returns once clients are accepted; what they are served arrives from the source.
pub fn start(config: Config) -> Result<Handle, StartError> {
    // Whichever caller is first decides; all of them decide alike.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    clock::now();
    let addresses = config.http.clone();
    let secured = config.tls.as_ref().map(secure).transpose()?.flatten();
    let memory = config.memory.endpoint().map(|gateway| Memory::build(&gateway, config.workers));
    let memory = memory.transpose().map_err(|error| StartError(format!("memory.url: {error}")))?;
    let mut shared = Shared::new(config, secured);
    shared.memory = memory;
    let shared = Arc::new(shared);
    let (busy, idle) = mpsc::channel(1);
    let mut http = Vec::new();
    let mut sockets: Vec<Sockets> = (0..shared.tallies.len()).map(|_| Vec::new()).collect();
    for (at, address) in addresses.iter().enumerate() {
        match bind(*address, None, &mut sockets) {
            Ok(bound) => http.push(bound),
            Err(_) if at > 0 && listen::is_taken(*address) => {
                tracing::info!(%address, "is taken; not served there");
            }
            Err(error) => return Err(error),
        }
    }
    let https = match (&shared.config.tls, &shared.tls) {
        (Some(tls), Some(side)) => match bind(tls.listen, Some(side), &mut sockets) {
            Ok(bound) => Some(bound),
            // Somebody else was faster since [`secure`] looked.
            Err(_) if !tls.is_asked_for => {
                tracing::info!(address = %tls.listen, "is taken; not served there");
                None
            }
            Err(error) => return Err(error),
        },
        _ => None,
    };
    let (quic, mut datagrams) = https.map(bind_quic).transpose()?.unzip();
    // A thread of its own beside one worker would be a switch of threads for each packet.
    let mut beside = datagrams.take_if(|_| sockets.len() == 1);
    let (admin, admin_socket) = bind_one(shared.config.admin)?;
    let (probes, probes_socket) = shared.config.probes.map(bind_one).transpose()?.unzip();
    let failed = |error: io::Error| StartError(format!("a thread could not be started: {error}"));
    let (mut threads, mut runtimes, mut workers) = (Vec::new(), Vec::new(), Vec::new());
    for (id, sockets) in sockets.into_iter().enumerate() {
        let worker = Arc::new(Worker::new(id, Arc::clone(&shared), seed()));
        workers.push(Arc::clone(&worker));
        let (busy, beside) = (busy.clone(), beside.take());
        let started = runtime::spawn(format!("worker-{id}"), move || work(worker, sockets, beside, busy));
        let (thread, handle) = started.map_err(failed)?;
        threads.push(thread);
        runtimes.push(handle);
    }
    shared.set_runtimes(runtimes);
    if let Some(datagrams) = datagrams {
        let speaking = move || speak_quic(workers, datagrams, busy);
        threads.push(runtime::spawn("quic".into(), speaking).map_err(failed)?.0);
    }
    let beside = Arc::clone(&shared);
    let watching = move || administer(beside, admin_socket, probes_socket);
    threads.push(runtime::spawn("admin".into(), watching).map_err(failed)?.0);
    let beside = Arc::clone(&shared);
    threads.push(runtime::spawn("source".into(), move || follow(beside)).map_err(failed)?.0);
    Ok(Handle { http, https, quic, admin, probes, shared, threads, busy: idle })
}

/// What a listener's connections are secured with; `None` where somebody else listens already and nobody
/// asked for this one.
fn secure(tls: &Tls) -> Result<Option<Arc<ServerSide>>, StartError> {
    if !tls.is_asked_for && listen::is_taken(tls.listen) {
        tracing::info!(address = %tls.listen, "is taken; not served there");
        return Ok(None);
    }
    let files = tls.files.clone().ok_or("its files are not named; set tls.cert and tls.key".to_owned());
    let side = files.and_then(ServerSide::open);
    side.map(Some).map_err(|what| StartError(format!("TLS: {what}")))
}

/// A worker's, each with what its connections are secured with.
type Sockets = Vec<(std::net::TcpListener, Option<Arc<ServerSide>>)>;

/// One socket for each worker; says where.
fn bind(
    address: SocketAddr,
    tls: Option<&Arc<ServerSide>>,
    sockets: &mut [Sockets],
) -> Result<SocketAddr, StartError> {
    let failed = |error: io::Error| cannot_listen(address, &error);
    if listen::is_taken(address) {
        return Err(failed(io::ErrorKind::AddrInUse.into()));
    }
    let bound = listen::bind(address, sockets.len()).map_err(failed)?;
    let at = bound[0].local_addr().map_err(failed)?;
    bound.into_iter().zip(sockets).for_each(|(socket, own)| own.push((socket, tls.cloned())));
    Ok(at)
}

/// A socket for one thread; says where.
fn bind_one(address: SocketAddr) -> Result<(SocketAddr, std::net::TcpListener), StartError> {
    let mut sockets = [Sockets::new()];
    let bound = bind(address, None, &mut sockets)?;
    let [mut sockets] = sockets;
    let (socket, _) = sockets.pop().expect("one socket was asked for");
    Ok((bound, socket))
}

/// QUIC's socket, at the port of its TCP twin: clients that know one know the other.
fn bind_quic(https: SocketAddr) -> Result<(SocketAddr, UdpSocket), StartError> {
    let bound = serve::quic::bind(https).map_err(|error| cannot_listen(https, &error))?;
    Ok((https, bound))
}

impl Handle {
    /// A set of resources is served.
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready()
    }

    /// Who calls.
    pub fn callers(&self) -> Callers {
        Callers(Arc::clone(&self.shared))
    }

    /// Until `POST /drain` on the admin port.
    pub async fn asked_to_leave(&self) {
        let mut phases = self.shared.phases();
        let _ = phases.wait_for(|phase| *phase >= Phase::Leaving).await;
    }

    /// Leaves in order and ends all threads. `hurry`: a future whose end cuts every wait short.
    pub async fn drain(mut self, hurry: impl Future<Output = ()>) {
        let times = self.shared.config.drain;
        tokio::pin!(hurry);
        self.shared.enter(Phase::Leaving);
        tracing::info!(
            delay_ms = times.delay.as_millis() as u64,
            "leaving: not ready any more, still serving"
        );
        let in_hurry = tokio::select! { () = sleep(times.delay) => false, () = &mut hurry => true };
        self.shared.enter(Phase::Draining);
        tracing::info!(grace_ms = times.grace.as_millis() as u64, "draining: no new connections");
        let grace = if in_hurry { Duration::ZERO } else { times.grace };
        let is_done = tokio::select! {
            done = timeout(grace, self.busy.recv()) => done.is_ok(),
            () = &mut hurry, if !in_hurry => false,
        };
        self.shared.enter(Phase::Closing);
        if !is_done && timeout(LAST_WORDS + LAST_WORDS, self.busy.recv()).await.is_err() {
            tracing::warn!("some connections did not end in time and are cut");
        }
        let threads = std::mem::take(&mut self.threads);
        let joined =
            tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        if timeout(LAST_WORDS, joined).await.is_err() {
            tracing::warn!("a thread did not end in time");
        }
        tracing::info!("out");
    }
}

/// One worker: its sockets until draining, then its connections until they end or time is up.
/// `datagrams`: where QUIC is served by this worker alone.
async fn work(worker: Arc<Worker>, sockets: Sockets, datagrams: Option<UdpSocket>, busy: listen::Busy) {
    let watching = tokio::spawn(watch(Arc::clone(&worker)));
    let alone = vec![Arc::clone(&worker)];
    let speaking = datagrams.map(|datagrams| tokio::spawn(speak_quic(alone, datagrams, busy.clone())));
    let accepting: Vec<_> = sockets
        .into_iter()
        .map(|(socket, tls)| tokio::spawn(listen::accept(Arc::clone(&worker), socket, tls, busy.clone())))
        .collect();
    for accept in accepting {
        match accept.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a listener stopped"),
            Err(error) => tracing::error!(%error, "a listener stopped"),
        }
    }
    // Connections hold what is left of `busy`; when they are gone, so is the sender.
    let others = busy.downgrade();
    drop(busy);
    let mut phases = worker.shared.phases();
    let _ = phases.wait_for(|phase| *phase >= Phase::Closing).await;
    let gone = async {
        while others.upgrade().is_some() {
            tokio::task::yield_now().await;
            sleep(BUSY_LOOK).await;
        }
    };
    let _ = timeout(LAST_WORDS + LAST_WORDS, gone).await;
    if let Some(speaking) = speaking {
        let _ = timeout(LAST_WORDS + LAST_WORDS, speaking).await;
    }
    watching.abort();
}

/// QUIC's endpoint, beside the workers that its connections are given to.
async fn speak_quic(workers: Vec<Arc<Worker>>, datagrams: UdpSocket, busy: listen::Busy) {
    if let Err(error) = serve::quic::serve(workers, datagrams, busy).await {
        tracing::error!(%error, "QUIC is not served");
    }
}

/// Measures, ten times a second, by how much this worker's tasks run late: the sign of a processor with more
/// to do than it can. Where it is pressed, also who has how much under way.
async fn watch(worker: Arc<Worker>) {
    loop {
        let due = tokio::time::Instant::now() + WATCH_EVERY;
        tokio::time::sleep_until(due).await;
        // The timer itself is right to a millisecond.
        worker.ledger.on_late(due.elapsed().saturating_sub(TIMER_SLACK));
        if worker.ledger.level() > Level::Green {
            admission::look(&worker);
        }
    }
}

/// The ports of admin and probes, beside everything else: they answer while workers are busy and while a
/// large set is built.
async fn administer(
    shared: Arc<Shared>,
    admin: std::net::TcpListener,
    probes: Option<std::net::TcpListener>,
) {
    let mut phases = shared.phases();
    match tokio::net::TcpListener::from_std(admin) {
        Ok(listener) => drop(tokio::spawn(admin::serve(Arc::clone(&shared), listener))),
        Err(error) => tracing::error!(%error, "the admin port could not be opened"),
    }
    match probes.map(tokio::net::TcpListener::from_std).transpose() {
        Ok(Some(listener)) => drop(tokio::spawn(probes::serve(Arc::clone(&shared), listener))),
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "the port of probes could not be opened"),
    }
    if let Some(traces) = shared.traces.clone() {
        // Ends by itself, once what is left was sent.
        export::run(Arc::clone(&shared), traces).await;
    }
    let _ = phases.wait_for(|phase| *phase >= Phase::Closing).await;
}

/// Takes sets in: reading and building them is the only long work without an await there is.
async fn follow(shared: Arc<Shared>) {
    let mut phases = shared.phases();
    let sweeping = tokio::spawn(sweep(Arc::clone(&shared)));
    let reading = tokio::spawn(tls::follow(Arc::clone(&shared)));
    let expiring = tokio::spawn(expire(Arc::clone(&shared)));
    let following = tokio::spawn(source::follow(shared));
    let _ = phases.wait_for(|phase| *phase >= Phase::Closing).await;
    following.abort();
    reading.abort();
    expiring.abort();
    sweeping.abort();
}

/// Forgets runs that nobody asked for any more. Not on a worker: it looks at all of them.
async fn sweep(shared: Arc<Shared>) {
    loop {
        sleep(SWEEP_EVERY).await;
        shared.sessions.sweep(clock::unix_seconds());
    }
}

/// Forgets adapters that registered themselves and fell silent.
async fn expire(shared: Arc<Shared>) {
    loop {
        sleep(EXPIRE_EVERY).await;
        let Some(served) = shared.tables.peek() else { continue };
        let places = served.upstreams.iter().filter_map(|upstream| upstream.dialled());
        let expired = places.map(|dialled| dialled.expire(clock::now())).sum();
        shared.registry.on_expired(expired);
    }
}

/// Different for each worker and start; for lots and ids, never for secrets.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> StartError {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there; stop it or choose another port".into(),
        _ => error.to_string(),
    };
    StartError(format!("cannot listen on {address}: {what}"))
}

/// Runs are kept for an hour: a minute more does not matter.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// They are not asked from the moment on; this is when it is counted.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
const BUSY_LOOK: Duration = Duration::from_millis(10);
const WATCH_EVERY: Duration = Duration::from_millis(100);
const TIMER_SLACK: Duration = Duration::from_millis(1);
