//! `atp up`: both planes and the memory gateway in one process, on this machine, for its user. The data plane
//! is an ordinary client of the control plane's Sync, over its port: what works here works apart.

mod memory;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use dataplane_io::app::Handle as DataPlane;
use dataplane_io::config::{Config, Origin, default_data_dir, environment};
use dataplane_io::telemetry::logs::{self, Format};
use proto_core::parse::{Mistake, Source};

use crate::{cert, outcome};

/// Run both planes and the memory gateway in this process, with a built-in echo adapter until you declare
/// your own
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  atp up\n  atp up --data-dir ./atp-data\n\n\
    Then: curl localhost:7443/v1/ask -d '{\"prompt\":\"hi\"}'")]
pub struct UpArgs {
    /// Settings of the data plane: listeners, limits, drain
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where resources, tokens and the last known good set are kept [default: the user's state folder]
    #[arg(long, value_name = "DIR", env = "ATP_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// The control plane's gRPC
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7440")]
    grpc: SocketAddr,
    /// The control plane's health and metrics
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7441")]
    control_http: SocketAddr,
    /// The memory gateway [default: 127.0.0.1:8080, where that port is free]
    #[arg(long, value_name = "ADDRESS")]
    memory: Option<SocketAddr>,
}

/// Serves until a signal.
pub fn run(args: &UpArgs, format: Option<Format>) -> ExitCode {
    let config = match settings(args) {
        Ok(config) => config,
        Err(told) => {
            eprintln!("error: {told}");
            return ExitCode::FAILURE;
        }
    };
    logs::start(format.or(config.log_format).unwrap_or_default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build();
    outcome::of(runtime, serve(args, config))
}

async fn serve(args: &UpArgs, mut config: Config) -> Result<(), String> {
    let certificates = config.data_dir.join(CERTIFICATES);
    if let Some(tls) = config.tls.as_mut().filter(|tls| tls.files.is_none()) {
        tls.files = Some(cert::of_this_machine(&certificates)?);
    }
    let mut control = controlplane_io::Config::local(config.data_dir.clone());
    (control.grpc, control.http) = (args.grpc, args.control_http);
    let seed = vec![(SEED_FILE.to_owned(), SEED.as_bytes().to_vec())];
    let memory = memory::bind(args.memory, config.data_dir.clone(), &|name| std::env::var(name).ok()).await?;
    if let (Some(memory), None) = (&memory, &config.memory.gateway) {
        config.memory.gateway = Some(memory.endpoint());
    }
    let mut control = controlplane_io::start(control, Some(seed)).await.map_err(|fault| fault.to_string())?;
    config.origin = Origin::ControlPlane {
        url: format!("http://{}", control.grpc_addr),
        token_file: Some(control.dataplane_token_path.clone()),
        tls: None,
    };
    let data = match dataplane_io::app::start(config) {
        Ok(data) => data,
        Err(error) => {
            control.shutdown().await;
            return Err(error.to_string());
        }
    };
    let mut memory = memory.map(|memory| memory.start(data.callers()));
    until_ready(&data).await;
    greet(&data, &control, memory.as_ref(), &certificates);
    let failed = tokio::select! {
        () = dataplane_io::run::told() => None,
        () = data.asked_to_leave() => None,
        why = control.failed() => Some(why),
        why = memory::failed(memory.as_mut()) => Some(why),
    };
    // Requests under way may still ask the memory for something.
    data.drain(dataplane_io::run::told()).await;
    if let Some(memory) = memory {
        memory.stop().await;
    }
    control.shutdown().await;
    failed.map_or(Ok(()), Err)
}

/// Of the data plane, but for its origin: that is the control plane started beside it.
fn settings(args: &UpArgs) -> Result<Config, String> {
    let env = |name: &str| std::env::var(name).ok();
    let told =
        |mistakes: Vec<Mistake>| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    environment::unknown_here().iter().for_each(|warning| eprintln!("warning: {warning}"));
    let unset = Origin::File(PathBuf::new());
    let mut config = match &args.config {
        None => Config::local(default_data_dir(&env), unset).with_environment(&env).map_err(told)?,
        Some(path) => {
            let file = path.display().to_string();
            let content = std::fs::read(path).map_err(|error| format!("{file}: {error}"))?;
            let folder = path.parent().unwrap_or(Path::new("."));
            let source = Source { file: &file, content: &content };
            let (config, warnings) = Config::read_local(&source, folder, &env, unset).map_err(told)?;
            warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            config
        }
    };
    if let Some(data_dir) = &args.data_dir {
        config.data_dir.clone_from(data_dir);
    }
    if !config.http.contains(&SDK_DEFAULT) {
        config.http.push(SDK_DEFAULT);
    }
    Ok(config)
}

/// The first set arrives within milliseconds; if it does not, the log says why.
async fn until_ready(data: &DataPlane) {
    let ready = async {
        while !data.is_ready() {
            tokio::time::sleep(READY_LOOK).await;
        }
    };
    if tokio::time::timeout(READY_WAIT, ready).await.is_err() {
        tracing::warn!("no set of resources is served yet");
    }
}

fn greet(
    data: &DataPlane,
    control: &controlplane_io::Handle,
    memory: Option<&memory::Serving>,
    certificates: &Path,
) {
    let clients = data.http.iter().map(|address| format!("http://{address}")).collect::<Vec<_>>().join("  ");
    let at = data.http.first().map(ToString::to_string).unwrap_or_default();
    let secured = data.https.map_or_else(String::new, |address| {
        format!(
            "\x20 with TLS       https://{address} (also QUIC); certificates in {}\n",
            certificates.display()
        )
    });
    let memory =
        memory.map_or_else(String::new, |memory| format!("\x20 memory         http://{}\n", memory.address));
    let text = format!(
        "atp {version} is up\n\
         \x20 clients        {clients}  (OpenAI base URL: http://{at}/v1)\n\
         {secured}\
         {memory}\
         \x20 admin          http://{admin}\n\
         \x20 control plane  gRPC {grpc}, http://{http}; token in {token}\n\
         \n\
         try: curl http://{at}/v1/ask -d '{{\"prompt\":\"hi\"}}'\n",
        version = env!("CARGO_PKG_VERSION"),
        admin = data.admin,
        grpc = control.grpc_addr,
        http = control.http_addr,
        token = control.operator_token_path.display(),
    );
    // Nobody reads it: nothing is lost.
    let _ = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
}

/// In the data folder, made at a first start.
pub const CERTIFICATES: &str = "tls";
const SEED_FILE: &str = "built-in";
/// What a first start serves, so that a first request has an answer. It stays until it is deleted.
const SEED: &str = "\
kind: Adapter
name: echo
spec:
  kind: echo
  echo: { first_token_ms: 5, tokens_per_second: 200 }
  models:
    - name: echo
      quality: 0.5
";
/// Where existing SDKs look by default; taken where it is free.
const SDK_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8000);
/// Reads of the memory gateway at once, and what stores and files need beside them.
const BLOCKING_THREADS_MAX: usize = 64;
const READY_LOOK: Duration = Duration::from_millis(5);
const READY_WAIT: Duration = Duration::from_secs(5);
