//! The wiring: from settings to a gateway that serves, and back to nothing.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::backend::{Backend, OneFile, Redis};
use crate::clock;
use crate::config::{Config, Keeper};
use crate::index::{self, Index};
use crate::serve::guard::{Guarded, Stage};
use crate::serve::{self, Gateway};
use crate::store::changes::EVICTED_MAX;
use crate::store::{FILE, FileClosed, Store, StoreFault};
use crate::telemetry::Metrics;
use crate::writer::{Clock, Closed, Writer};

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    #[error("cannot use the data folder {path}: {why}")]
    DataDir { path: String, why: String },
    #[error("{0}")]
    Store(#[from] StoreFault),
    #[error("cannot listen on {address}: {why}; choose another address")]
    Listen { address: SocketAddr, why: io::ErrorKind },
    #[error("{0}")]
    Internal(String),
}

/// A gateway that is bound and open, and does not serve yet.
pub struct Bound {
    gateway: Arc<Gateway>,
    listener: TcpListener,
    address: SocketAddr,
    closed: Closed,
    index_closed: index::Closed,
    file_closed: FileClosed,
}

/// Opens the store and binds. Nothing is answered before [`Bound::serve`].
pub async fn bind(config: Config) -> Result<Bound, StartFault> {
    bind_with(config, None).await
}

/// The same with a clock of one's own.
pub async fn bind_at(config: Config, clock: Clock) -> Result<Bound, StartFault> {
    bind_with(config, Some(clock)).await
}

async fn bind_with(config: Config, clock: Option<Clock>) -> Result<Bound, StartFault> {
    let metrics = Metrics::new().map_err(|error| StartFault::Internal(error.to_string()))?;
    let listen = |error: io::Error| StartFault::Listen { address: config.listen, why: error.kind() };
    let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let ours = clock.clone().unwrap_or_else(|| Arc::new(clock::wall));
    create(&config.data_dir).map_err(|error| StartFault::DataDir {
        path: config.data_dir.display().to_string(),
        why: error.to_string(),
    })?;
    let opened = match &config.keeper {
        Keeper::File => open_file(&config, Arc::clone(&ours), &metrics).await?,
        Keeper::Redis(server) => {
            let (folder, secret) = (&config.data_dir, config.secret.clone());
            let opened = Redis::open((**server).clone(), clock, secret, folder, &metrics).await?;
            let (redis, closed, index_closed) = opened;
            // There is no file: this one counts as closed.
            let file_closed = oneshot::channel().1;
            Opened { backend: Backend::Redis(redis), closed, index_closed, file_closed }
        }
    };
    let Opened { backend, closed, index_closed, file_closed } = opened;
    let is_loopback = address.ip().is_loopback();
    let watches = Mutex::new(HashMap::new());
    let gateway = Arc::new(Gateway { config, backend, clock: ours, metrics, is_loopback, watches });
    Ok(Bound { gateway, listener, address, closed, index_closed, file_closed })
}

/// A backend, and what ends when it is closed: whoever changes it, its index, its file.
struct Opened {
    backend: Backend,
    closed: Closed,
    index_closed: index::Closed,
    file_closed: FileClosed,
}

async fn open_file(config: &Config, clock: Clock, metrics: &Metrics) -> Result<Opened, StartFault> {
    let (folder, secret) = (config.data_dir.clone(), config.secret.clone());
    let opened = tokio::task::spawn_blocking(move || Store::open(&folder, secret)).await;
    let (store, file_closed) = opened.map_err(|error| StartFault::Internal(error.to_string()))??;
    let store = Arc::new(store);
    let (writer, closed) = Writer::start(Arc::clone(&store), Arc::clone(&clock), metrics.failed.clone())
        .map_err(|error| StartFault::Internal(format!("no thread for the writer: {error}")))?;
    let followed: Arc<Store> = Arc::clone(&store);
    let (index, index_closed) = Index::start(followed, &config.data_dir, metrics)
        .map_err(|error| StartFault::Internal(format!("no thread for the search index: {error}")))?;
    let backend = Backend::File(OneFile { store, writer, index, clock });
    Ok(Opened { backend, closed, index_closed, file_closed })
}

/// Makes the folder and those above it; its own content is for its owner only.
fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        std::fs::create_dir_all(above)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        // Another process of this user was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

impl Bound {
    /// With the port the system chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who keeps items, for people: the file, or an address without its secrets.
    pub fn keeper(&self) -> String {
        match &self.gateway.config.keeper {
            Keeper::File => self.gateway.config.data_dir.join(FILE).display().to_string(),
            Keeper::Redis(server) => server.shown().to_owned(),
        }
    }

    /// Serves until `shutdown` ends, then lets requests under way finish, and closes the store.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), String> {
        let Bound { gateway, listener, mut closed, index_closed, file_closed, .. } = self;
        let (stop, stopping) = watch::channel(false);
        let mut connections = JoinSet::new();
        let sweeper = tokio::spawn(sweep(Arc::clone(&gateway)));
        let failed = tokio::select! {
            () = shutdown => false,
            () = accept(&gateway, &listener, &mut connections, &stopping) => false,
            // The writer ends by itself only where it panicked: nothing could be stored any more.
            _ = &mut closed => true,
        };
        drop(listener);
        stop.send_replace(true);
        let all = async { while connections.join_next().await.is_some() {} };
        if timeout(GRACE, all).await.is_err() {
            tracing::warn!("requests that did not end in time were cut");
            connections.shutdown().await;
        }
        sweeper.abort();
        // The last handle of the writer goes with the gateway; it writes what waits and closes the store.
        let _ = sweeper.await;
        drop(gateway);
        if failed {
            return Err("the writer ended; the log says why".into());
        }
        // An error means that it has ended already.
        let _ = closed.await;
        if timeout(GRACE, index_closed).await.is_err() {
            tracing::warn!("the search index did not end in time; it is looked through at the next start");
        }
        // A read that nobody waits for any more may still hold the file on a thread of its own.
        if timeout(GRACE, file_closed).await.is_err() {
            tracing::warn!("a read did not end in time; the store's file is still open");
        }
        Ok(())
    }
}

async fn accept(
    gateway: &Arc<Gateway>,
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    stopping: &watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("this semaphore is never closed");
        // Those that ended are forgotten, or the set would grow.
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(Arc::clone(gateway), stream, place, stopping.clone()));
            }
            Err(error) => {
                // Out of file descriptors, most likely: waiting is the only way to get some back.
                tracing::warn!(%error, "accept failed; trying again shortly");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    mut stopping: watch::Receiver<bool>,
) {
    // Answers leave when they are written; a failure only costs latency.
    let _ = stream.set_nodelay(true);
    let open = Open::new(&gateway, place);
    let stage = Arc::new(Stage::default());
    let io = TokioIo::new(Guarded::new(stream, Arc::clone(&stage)));
    let calls = Arc::clone(&gateway);
    let service = service_fn(move |request| {
        let (gateway, stage) = (Arc::clone(&calls), Arc::clone(&stage));
        async move {
            stage.turn();
            let answer = serve::serve(&gateway, request).await;
            stage.turn();
            answer
        }
    });
    let mut builder = http1::Builder::new();
    // Deadlines are the guard's.
    builder.timer(TokioTimer::new()).header_read_timeout(None);
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX).half_close(false);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    // A sender that is gone means the same.
    let stopped = async { drop(stopping.wait_for(|stopping| *stopping).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
        if cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut) {
            gateway.metrics.connections_cut.inc();
        }
        tracing::debug!(%error, "a connection ended");
    }
    drop(open);
}

/// Counts a connection and holds its place until it ends, however it ends.
struct Open {
    gateway: Arc<Gateway>,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(gateway: &Arc<Gateway>, place: OwnedSemaphorePermit) -> Open {
        gateway.metrics.connections.inc();
        Open { gateway: Arc::clone(gateway), _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gateway.metrics.connections.dec();
    }
}

/// Removes what has expired, so that it takes no room while nobody writes.
async fn sweep(gateway: Arc<Gateway>) {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(fault) = sweep_once(&gateway).await {
            tracing::warn!(%fault, "expired items were not removed; trying again later");
        }
    }
}

async fn sweep_once(gateway: &Gateway) -> Result<(), StoreFault> {
    for (tenant, _) in gateway.backend.accounts().await? {
        let tenant: Arc<str> = tenant.into();
        loop {
            let removed = gateway.backend.sweep(Arc::clone(&tenant)).await?;
            gateway.metrics.expired.inc_by(removed as u64);
            if removed < EVICTED_MAX {
                break;
            }
        }
    }
    Ok(())
}

/// Open at once: each may hold a body of a megabyte.
const CONNECTIONS_MAX: usize = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Of a request line and its headers: the longest place and a key fit many times.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Common clients send fifteen.
const HEADERS_MAX: usize = 64;
/// For requests under way when the gateway stops: longer than a body may take.
const GRACE: Duration = Duration::from_secs(35);
/// Expired items cannot be read anyway.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
