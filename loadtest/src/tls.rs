//! The command `loadtest tls`: handshakes a second, and what each costs the server.
//!
//! What it is for: comparing servers by full and by resumed handshakes. Each is a connection of its own;
//! after it one request is answered, so that a server is done with it and a client has its ticket. What it
//! never does: send early data.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::generate::process::CpuTime;

/// Flags of `loadtest tls`.
#[derive(Clone, Debug, clap::Args)]
pub struct TlsArgs {
    /// The server, 127.0.0.1:7444
    #[arg(long)]
    pub address: SocketAddr,
    /// Who vouches for it
    #[arg(long)]
    pub ca: PathBuf,
    /// A client certificate, and its key
    #[arg(long, requires = "key")]
    pub cert: Option<PathBuf>,
    #[arg(long, requires = "cert")]
    pub key: Option<PathBuf>,
    /// Resume sessions instead of beginning anew
    #[arg(long)]
    pub resume: bool,
    /// Handshakes at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub connections: u32,
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Processes whose CPU time counts
    #[arg(long = "pid", value_delimiter = ',')]
    pub pids: Vec<u32>,
    /// What is asked for
    #[arg(long, default_value = "/healthz")]
    pub path: String,
}

/// Makes handshakes for a while and prints a line.
pub fn tls(args: &TlsArgs) -> Result<(), String> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(load(args))
}

async fn load(args: &TlsArgs) -> Result<(), String> {
    let kinds = Arc::<[AtomicU64; 2]>::default();
    let until = Instant::now() + Duration::from_secs_f64(args.seconds.clamp(0.1, SECONDS_MAX));
    let (begun, before) = (Instant::now(), CpuTime::of_all(&args.pids)?);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..args.connections {
        let (args, kinds, config) = (args.clone(), Arc::clone(&kinds), client(args)?);
        callers.spawn(async move {
            while Instant::now() < until {
                let kind = one(&args, &config).await?;
                // Order: relaxed, a count that is read when all tasks have ended.
                kinds[usize::from(kind == HandshakeKind::Resumed)].fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), String>(())
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.map_err(|error| error.to_string())??;
    }
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), CpuTime::of_all(&args.pids)?.since(before));
    // Order: relaxed, the tasks have ended.
    let [full, resumed] = [0, 1].map(|at| kinds[at].load(Ordering::Relaxed));
    let made = (full + resumed) as f64;
    print!("{full} full, {resumed} resumed, {:.0} a second", made / seconds);
    if !args.pids.is_empty() {
        print!(", {:.0} µs of the server's CPU each", cpu.total_us() / made.max(1.0));
    }
    println!();
    Ok(())
}

async fn one(args: &TlsArgs, config: &Arc<ClientConfig>) -> Result<HandshakeKind, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", args.address);
    let stream = TcpStream::connect(args.address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(failed)?;
    let kind = stream.get_ref().1.handshake_kind().unwrap_or(HandshakeKind::Full);
    let request = format!("GET {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", args.path);
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(failed)?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        let head = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
        return Err(format!("{}{}: {head}", args.address, args.path));
    }
    Ok(kind)
}

fn client(args: &TlsArgs) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let wrong = |path: &PathBuf, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let ca = CertificateDer::from_pem_file(&args.ca).map_err(|error| wrong(&args.ca, &error))?;
    roots.add(ca).map_err(|error| wrong(&args.ca, &error))?;
    let builder = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots);
    let mut config = match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::from_pem_file(cert).map_err(|error| wrong(cert, &error))?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
            builder.with_client_auth_cert(vec![chain], private).map_err(|error| wrong(cert, &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if !args.resume {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// A measurement, not a siege.
const SECONDS_MAX: f64 = 600.0;
