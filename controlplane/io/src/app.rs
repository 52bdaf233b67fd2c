//! The wiring: from settings to a control plane that serves, and back to nothing.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use controlplane_core::intent::{Intent, Refusal};
use prometheus::IntCounter;
use proto_core::parse::{Mistake, Source, documents};
use proto_core::sync::MESSAGE_BYTES_MAX;
use proto_rpc::admin::operations_server::OperationsServer;
use proto_rpc::admin::resources_server::ResourcesServer;
use proto_rpc::control::sync_server::SyncServer;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Server, server::Router};

use crate::api::REQUEST_BYTES_MAX;
use crate::api::operations::OperationsService;
use crate::api::resources::ResourcesService;
use crate::auth::{Gate, Role, Tokens};
use crate::config::Config;
use crate::data_dir;
use crate::http::{self, View};
use crate::listen::Bound;
use crate::metrics::Metrics;
use crate::planes::Planes;
use crate::publish::SyncService;
use crate::shutdown::{Stop, Stopping};
use crate::source::FileSource;
use crate::store::embedded::Embedded;
use crate::tls::ServerSide;
use crate::token::Token;
use crate::writer::{WriteFault, Writer};

/// A control plane that serves.
#[derive(Debug)]
pub struct Handle {
    /// gRPC, with the port the system chose where 0 was asked for.
    pub grpc_addr: SocketAddr,
    /// HTTP: health and metrics.
    pub http_addr: SocketAddr,
    /// The file whose content an operator sends.
    pub operator_token_path: PathBuf,
    /// The file whose content a data plane sends.
    pub dataplane_token_path: PathBuf,
    writer: Writer,
    stop: Stop,
    tasks: JoinSet<Result<(), String>>,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    #[error("{0}")]
    Config(String),
    #[error("cannot use the data folder {path}: {why}")]
    DataDir { path: String, why: String },
    #[error("cannot listen on {address}: {why}; is another control plane running?")]
    Listen { address: SocketAddr, why: String },
    #[error("{0}")]
    Store(#[from] WriteFault),
    #[error("the first resources have mistakes:\n{}", told(.0))]
    Seed(Vec<Mistake>),
    #[error("{0}")]
    Internal(String),
}

fn told(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Binds, opens the store and serves on the current runtime until [`Handle::shutdown`]. `seed`: documents
/// (file name, content) that are applied where the store has never held anything.
pub async fn start(config: Config, seed: Option<Vec<(String, Vec<u8>)>>) -> Result<Handle, StartFault> {
    config.check().map_err(StartFault::Config)?;
    let tls = config.tls.clone().map(ServerSide::open).transpose().map_err(StartFault::Config)?;
    let (tokens, store) = open(&config).await?;
    let writer = Writer::start(Box::new(store)).await?;
    let started = assemble(config, tls, tokens, &writer, seed).await;
    if started.is_err() {
        // Whoever mends the cause and starts again finds the store free.
        writer.close().await;
    }
    started
}

async fn assemble(
    config: Config,
    tls: Option<ServerSide>,
    tokens: Arc<Tokens>,
    writer: &Writer,
    seed: Option<Vec<(String, Vec<u8>)>>,
) -> Result<Handle, StartFault> {
    if let Some(seed) = seed {
        plant(writer, seed).await?;
    }
    let metrics = Arc::new(Metrics::new().map_err(|error| StartFault::Internal(error.to_string()))?);
    let mut source = config.resources.clone().map(FileSource::new);
    if let Some(source) = &mut source
        && let Some(outcome) = source.reconcile(writer).await
    {
        // Before the ports are open, so that the first data plane is told the file's set, not an older one.
        metrics.applied(outcome);
    }
    let listen = async |address, connections_max| {
        let bound = Bound::new(address, connections_max).await;
        bound.map_err(|error| StartFault::Listen { address, why: error.to_string() })
    };
    let grpc = listen(config.grpc, GRPC_CONNECTIONS_MAX).await?;
    let http = listen(config.http, HTTP_CONNECTIONS_MAX).await?;
    let (stop, stopping) = Stop::new();
    let planes = Arc::new(Planes::default());
    let services = Services { config: &config, tokens: Arc::clone(&tokens), writer, planes: &planes };
    let router = services.router(&metrics, &stopping).await?;
    let mut handle = Handle {
        grpc_addr: grpc.address(),
        http_addr: http.address(),
        operator_token_path: tokens.operator.path().to_owned(),
        dataplane_token_path: tokens.dataplane.path().to_owned(),
        writer: writer.clone(),
        stop,
        tasks: JoinSet::new(),
    };
    let retired = metrics.tls_retired.clone();
    serve_grpc(&mut handle.tasks, router, grpc, tls.map(|side| (side, retired)), &stopping);
    let view = View { writer: writer.clone(), planes, metrics };
    if let Some(source) = source {
        let (View { writer, metrics, .. }, until) = (view.clone(), stopping.clone());
        handle.tasks.spawn(async move {
            source.watch(writer, &metrics, until).await;
            Ok(())
        });
    }
    handle.tasks.spawn(async move {
        http::serve(http, view, stopping).await.map_err(|error| format!("the HTTP server failed: {error}"))
    });
    tracing::info!(grpc = %handle.grpc_addr, http = %handle.http_addr, "control plane serves");
    Ok(handle)
}

/// With TLS or without; a task for the port, and one for the files.
fn serve_grpc(
    tasks: &mut JoinSet<Result<(), String>>,
    router: Router,
    port: Bound,
    tls: Option<(ServerSide, IntCounter)>,
    stopping: &Stopping,
) {
    let failed = |error: tonic::transport::Error| format!("the gRPC server failed: {error}");
    let until = stopping.clone();
    let until = async move { until.wait().await };
    let Some((tls, retired)) = tls else {
        let serving = router.serve_with_incoming_shutdown(port.into_stream(), until);
        tasks.spawn(async move { serving.await.map_err(failed) });
        return;
    };
    let serving = router.serve_with_incoming_shutdown(tls.secure(port, retired), until);
    tasks.spawn(async move { serving.await.map_err(failed) });
    let until = stopping.clone();
    tasks.spawn(async move {
        tls.follow(until).await;
        Ok(())
    });
}

/// Serves until `shutdown` ends, or a part of it fails.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), StartFault> {
    let mut handle = start(config, None).await?;
    let failed = tokio::select! {
        () = shutdown => None,
        why = handle.failed() => Some(why),
    };
    handle.shutdown().await;
    failed.map_or(Ok(()), |why| Err(StartFault::Internal(why)))
}

impl Handle {
    /// Waits until a part of it failed, and says why. Never ends while it serves.
    pub async fn failed(&mut self) -> String {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Ok(()))) => return "a part of the control plane ended by itself".into(),
                Some(Ok(Err(why))) => return why,
                Some(Err(error)) => return format!("a part of the control plane was stopped: {error}"),
                None => std::future::pending().await,
            }
        }
    }

    /// Ends every stream, lets calls finish for up to [`DRAIN_MAX`], closes the store.
    pub async fn shutdown(mut self) {
        self.stop.stop();
        let drained = timeout(DRAIN_MAX, async { while self.tasks.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!(
                seconds = DRAIN_MAX.as_secs(),
                "calls were cut off at the end of the time to finish"
            );
            self.tasks.shutdown().await;
        }
        self.writer.close().await;
        tracing::info!("control plane stopped");
    }
}

/// What the services share.
struct Services<'a> {
    config: &'a Config,
    tokens: Arc<Tokens>,
    writer: &'a Writer,
    planes: &'a Arc<Planes>,
}

impl Services<'_> {
    async fn router(self, metrics: &Arc<Metrics>, stopping: &Stopping) -> Result<Router, StartFault> {
        let internal = |error: &dyn std::fmt::Display| StartFault::Internal(error.to_string());
        let gate = |needed| Gate::new(Arc::clone(&self.tokens), needed, metrics.unauthenticated.clone());
        let file = self.config.resources.clone();
        let resources =
            ResourcesService::new(self.writer.clone(), Arc::clone(metrics), file, stopping.clone());
        let resources = ResourcesServer::new(resources)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let operations = OperationsService::new(self.writer.clone(), Arc::clone(self.planes));
        let sync = SyncService::new(
            self.writer.clone(),
            Arc::clone(self.planes),
            Arc::clone(metrics),
            stopping.clone(),
        );
        let sync = SyncServer::new(sync)
            .max_decoding_message_size(SYNC_REQUEST_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (health, health_server) = tonic_health::server::health_reporter();
        for name in ["atp.admin.v1.Resources", "atp.admin.v1.Operations", "atp.control.v1.Sync"] {
            health.set_service_status(name, tonic_health::ServingStatus::Serving).await;
        }
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto_rpc::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let mut server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
            .http2_keepalive_timeout(Some(KEEPALIVE_MAX))
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX);
        Ok(server
            .add_service(InterceptedService::new(resources, gate(Role::Operator)))
            .add_service(InterceptedService::new(OperationsServer::new(operations), gate(Role::Operator)))
            .add_service(InterceptedService::new(sync, gate(Role::DataPlane)))
            .add_service(health_server)
            .add_service(reflection().build_v1().map_err(|error| internal(&error))?)
            .add_service(reflection().build_v1alpha().map_err(|error| internal(&error))?))
    }
}

/// The data folder with its tokens and its store.
async fn open(config: &Config) -> Result<(Arc<Tokens>, Embedded), StartFault> {
    let path = config.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let wrong = |error: std::io::Error| StartFault::DataDir {
            path: path.display().to_string(),
            why: error.to_string(),
        };
        data_dir::create(&path).map_err(wrong)?;
        let operator = Token::open(path.join(OPERATOR_TOKEN)).map_err(wrong)?;
        let dataplane = Token::open(path.join(DATAPLANE_TOKEN)).map_err(wrong)?;
        let store = Embedded::open(&path).map_err(WriteFault::from)?;
        Ok((Arc::new(Tokens { operator, dataplane }), store))
    });
    opened.await.map_err(|error| StartFault::Internal(error.to_string()))?
}

/// Puts the first resources into a store that never held any.
async fn plant(writer: &Writer, seed: Vec<(String, Vec<u8>)>) -> Result<(), StartFault> {
    // Not "is empty": an operator who deleted everything does not want it back.
    if writer.state().generation().number > 0 {
        return Ok(());
    }
    let sources: Vec<Source<'_>> = seed.iter().map(|(file, content)| Source { file, content }).collect();
    let parsed = documents(&sources).map_err(StartFault::Seed)?;
    match writer.submit(Intent::Apply(parsed.documents)).await {
        Err(WriteFault::Refused(Refusal::Mistakes(mistakes))) => Err(StartFault::Seed(mistakes)),
        done => Ok(done.map(|_| ())?),
    }
}

/// In the data folder.
pub const OPERATOR_TOKEN: &str = "operator.token";
/// In the data folder.
pub const DATAPLANE_TOKEN: &str = "dataplane.token";

/// Connections to the gRPC port: every data plane, and as many operators and programs.
const GRPC_CONNECTIONS_MAX: usize = 2 * controlplane_core::fleet::CONNECTED_MAX;

/// Connections to the HTTP port: a few scrapers and health checkers.
const HTTP_CONNECTIONS_MAX: usize = 256;

/// Calls at once on one connection: a data plane has one, a busy operator's program a few.
const STREAMS_PER_CONNECTION_MAX: u32 = 64;

/// Bytes of a data plane's message: the longest explanation or refusal, and its frame.
const SYNC_REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// A peer that is gone without a word is found out within the sum of both.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEPALIVE_MAX: Duration = Duration::from_secs(10);

/// For calls under way when the control plane is told to stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);
