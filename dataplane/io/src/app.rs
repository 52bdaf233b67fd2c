//! Wiring: binds, starts one thread a worker and one for everything else, waits for the end, leaves in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::drain::{LAST_WORDS, Phase};
use crate::worker::{Shared, Worker};
use crate::{admin, clock, listen, runtime, source};

/// A data plane that runs.
#[derive(Debug)]
pub struct Handle {
    /// Where clients are served; the first is always bound.
    pub http: Vec<SocketAddr>,
    pub admin: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    busy: mpsc::Receiver<std::convert::Infallible>,
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
    let shared = Arc::new(Shared::new(config));
    let (busy, idle) = mpsc::channel(1);
    let mut http = Vec::new();
    let mut sockets: Vec<Vec<std::net::TcpListener>> =
        (0..shared.tallies.len()).map(|_| Vec::new()).collect();
    for (at, address) in addresses.iter().enumerate() {
        if listen::is_taken(*address) {
            if at == 0 {
                return Err(cannot_listen(*address, &io::ErrorKind::AddrInUse.into()));
            }
            tracing::info!(%address, "is taken; not served there");
            continue;
        }
        let bound = listen::bind(*address, sockets.len()).map_err(|error| cannot_listen(*address, &error))?;
        http.push(bound[0].local_addr().map_err(|error| cannot_listen(*address, &error))?);
        bound.into_iter().zip(&mut sockets).for_each(|(socket, own)| own.push(socket));
    }
    if listen::is_taken(shared.config.admin) {
        return Err(cannot_listen(shared.config.admin, &io::ErrorKind::AddrInUse.into()));
    }
    let admin =
        listen::bind(shared.config.admin, 1).map_err(|error| cannot_listen(shared.config.admin, &error))?;
    let admin_address = admin[0].local_addr().map_err(|error| cannot_listen(shared.config.admin, &error))?;
    let failed = |error: io::Error| StartError(format!("a thread could not be started: {error}"));
    let mut threads = Vec::new();
    for (id, sockets) in sockets.into_iter().enumerate() {
        let worker = Arc::new(Worker::new(id, Arc::clone(&shared), seed()));
        let busy = busy.clone();
        threads.push(
            runtime::spawn(format!("worker-{id}"), move || work(worker, sockets, busy)).map_err(failed)?,
        );
    }
    let beside = Arc::clone(&shared);
    let admin = admin.into_iter().next().expect("one socket was asked for");
    threads.push(runtime::spawn("control".into(), move || control(beside, admin)).map_err(failed)?);
    Ok(Handle { http, admin: admin_address, shared, threads, busy: idle })
}

impl Handle {
    /// A set of resources is served.
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready()
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
async fn work(worker: Arc<Worker>, sockets: Vec<std::net::TcpListener>, busy: listen::Busy) {
    let accepting: Vec<_> = sockets
        .into_iter()
        .map(|socket| tokio::spawn(listen::accept(Arc::clone(&worker), socket, busy.clone())))
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
}

async fn control(shared: Arc<Shared>, admin: std::net::TcpListener) {
    let mut phases = shared.phases();
    match tokio::net::TcpListener::from_std(admin) {
        Ok(listener) => drop(tokio::spawn(admin::serve(Arc::clone(&shared), listener))),
        Err(error) => tracing::error!(%error, "the admin port could not be opened"),
    }
    let following = tokio::spawn(source::follow(shared));
    let _ = phases.wait_for(|phase| *phase >= Phase::Closing).await;
    following.abort();
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

const BUSY_LOOK: Duration = Duration::from_millis(10);
