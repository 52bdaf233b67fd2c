//! `atp memory`: the memory gateway alone. Programs put what they want to remember over HTTP, and find it
//! again after a restart.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use dataplane_io::config::default_data_dir;
use dataplane_io::run::told;
use dataplane_io::telemetry::logs::{self, Format};
use memory_io::config::Tenants;
use memory_io::{Bound, Config};
use proto_core::parse::Source;

use crate::outcome;

/// Run the memory gateway: items with a lifetime, quotas, search and an audit log, over HTTP
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct MemoryArgs {
    /// Where it listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where items and the audit log are kept [default: the user's state folder]
    #[arg(long, value_name = "DIR", env = "ATP_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Who keeps items: `file` in the data folder, `redis` (the one of REDIS_URL), or an address of Redis
    /// [default: file]
    #[arg(long, value_name = "file|redis|ADDRESS")]
    store: Option<String>,
    /// Documents with the Tenants that may call; without it everyone on this machine is `public`
    #[arg(long, value_name = "FILE")]
    tenants: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  atp memory
  atp memory --listen 127.0.0.1:0 --data-dir ./atp-data
  MEMORY_QUOTA_MB=64 MEMORY_TTL_SECONDS=0 atp memory --tenants tenants.yaml
  REDIS_PASSWORD_FILE=/run/secrets/redis atp memory --store rediss://cache.example:6379/0

Then:
  curl -X PUT localhost:8080/v1/memory/notes/today -d '{\"object\":{\"text\":\"blue sky\"}}'
  curl localhost:8080/v1/memory/notes/today

Environment:
  MEMORY_QUOTA_MB      megabytes a tenant may store [default: 1024]
  MEMORY_TTL_SECONDS   lifetime of items that name none, 0 for ever [default: 3600]
  MEMORY_PII           `redact`: personal data and secrets are taken out of what is put [default: keep]
  AUDIT_SECRET         16 bytes or more that seal audit events [default: none]
  ANOMALY_THRESHOLD    accesses a minute past which many namespaces are counted as an anomaly [default: 10]
  MEMORY_STORE         what --store says, where that is not given
  REDIS_URL            the Redis of `redis` [default: redis://localhost:6379/0]
  REDIS_PASSWORD, REDIS_PASSWORD_FILE, REDIS_CA_FILE
                       its password or a file with it, and whom to trust instead of what the system does
  ATP_CLEARTEXT        `allowed`: it may listen beyond this machine, with --tenants; redis:// may leave it

Exit codes: 0 stopped by a signal, 1 failed, 2 wrong usage or settings";

/// Serves until a signal.
pub fn run(args: &MemoryArgs, format: Format) -> ExitCode {
    logs::start(format);
    let config = match settings(args) {
        Ok(config) => config,
        Err(mistakes) => {
            mistakes.iter().for_each(|mistake| eprintln!("error: {mistake}"));
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build();
    outcome::of(runtime, serve(config, args.tenants.is_some()))
}

fn settings(args: &MemoryArgs) -> Result<Config, Vec<String>> {
    // Whoever may list processes would read it.
    let has_password = |store: &String| {
        let authority = store.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        authority.is_some_and(|(user, _)| user.contains(':'))
    };
    if args.store.as_ref().is_some_and(has_password) {
        return Err(vec!["--store: leave the password to REDIS_PASSWORD_FILE or MEMORY_STORE".into()]);
    }
    let env = |name: &str| match &args.store {
        Some(store) if name == "MEMORY_STORE" => Some(store.clone()),
        _ => std::env::var(name).ok(),
    };
    let data_dir = args.data_dir.clone().unwrap_or_else(|| default_data_dir(&env));
    let Some(path) = &args.tenants else {
        return Config::read(args.listen, data_dir, Tenants::Undeclared, &env);
    };
    let file = path.display().to_string();
    let content = std::fs::read(path).map_err(|error| vec![format!("{file}: {error}")])?;
    let source = Source { file: &file, content: &content };
    Config::read(args.listen, data_dir, Tenants::Of(&source), &env)
}

async fn serve(config: Config, has_tenants: bool) -> Result<(), String> {
    let bound = memory_io::bind(config).await.map_err(|fault| fault.to_string())?;
    greet(&bound, has_tenants);
    // What was acknowledged is on disk, so a second signal may cut what the first one lets finish.
    let twice = async {
        told().await;
        told().await;
    };
    tokio::select! {
        served = bound.serve(told()) => served,
        () = twice => Err("stopped by a second signal while requests were under way".into()),
    }
}

fn greet(bound: &Bound, has_tenants: bool) {
    let (address, keeper) = (bound.address(), bound.keeper());
    let who = match has_tenants {
        true => "tenants, each with its key",
        false => "everyone on this machine, as `public`",
    };
    let text = format!(
        "memory gateway http://{address}\nkept in        {keeper}\nopen to        {who}\n\
         try: curl -X PUT {address}/v1/memory/notes/today -d '{{\"object\":{{\"text\":\"blue sky\"}}}}'\n"
    );
    // A terminal that is gone takes nothing away from those who call.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Calls mostly wait for the disk; parsing one megabyte must not make the next caller wait.
const WORKERS: usize = 2;
/// Reads at once. More only make a disk seek.
const BLOCKING_THREADS_MAX: usize = 16;
