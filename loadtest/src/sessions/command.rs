//! The commands `loadtest sessions` and, for the processes it starts, `loadtest sessions-part`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdk_rust::{Adapter, Encoding, Options, Usage, Via, Window};

use super::certs::{Certs, Whose};
use super::pace::{self, Pace};
use super::{Contest, Way, relay, stage};
use crate::generate::command::{to_json, write_json};

/// Flags of `loadtest sessions`.
#[derive(Clone, Debug, clap::Args)]
pub struct SessionsArgs {
    /// The data plane, built with --release
    #[arg(long, default_value = "target/release/atp-dataplane")]
    pub atp: PathBuf,
    /// Its arguments; {config} is filled in
    #[arg(long, default_value = "--config {config}", allow_hyphen_values = true)]
    pub atp_args: String,
    /// Ways to compare; the first of `bare` and `sse` among them is what the others are compared with
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sse,ws,h2,quic")]
    pub via: Vec<Way>,
    /// Of the sessions
    #[arg(long, value_enum, default_value = "bin")]
    pub encoding: Spelling,
    /// Without TLS, where there is a choice
    #[arg(long)]
    pub plain: bool,
    /// Answers at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub streams: u16,
    /// Tokens of an answer
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub tokens: u32,
    /// Tokens a second of each answer; 0 is as fast as it goes
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub token_rate: u32,
    /// Rounds; in each, every way is measured once
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Seconds of load before each measurement
    #[arg(long, default_value_t = 0.7)]
    pub warmup: f64,
    /// Core of the data plane and of the bare relay
    #[arg(long, default_value_t = 0)]
    pub proxy_core: u16,
    /// Core of everything else
    #[arg(long, default_value_t = 1)]
    pub load_core: u16,
    /// Do not pin anything
    #[arg(long)]
    pub no_pin: bool,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write everything as JSON to this file; `-` is stdout, instead of the text
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Keep configurations, certificates and logs, in this directory
    #[arg(long)]
    pub keep: Option<PathBuf>,
}

/// An encoding, as a flag says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Spelling {
    Json,
    Cbor,
    Bin,
}

impl SessionsArgs {
    fn contest(&self) -> Result<Contest, String> {
        let seconds = |flag: &str, value: f64| {
            let found = Duration::try_from_secs_f64(value).ok().filter(|time| *time <= SECONDS_MAX);
            found.ok_or_else(|| format!("{flag} {value}: give seconds from 0 to {}", SECONDS_MAX.as_secs()))
        };
        Ok(Contest {
            ways: self.via.clone(),
            encoding: match self.encoding {
                Spelling::Json => Encoding::Json,
                Spelling::Cbor => Encoding::Cbor,
                Spelling::Bin => Encoding::Bin,
            },
            is_plain: self.plain,
            streams: self.streams.into(),
            pace: Pace { tokens: self.tokens, token_rate: self.token_rate },
            rounds: self.rounds.into(),
            warmup: seconds("--warmup", self.warmup)?,
            measured: seconds("--seconds", self.seconds)?,
            program: self.atp.clone(),
            arguments: self.atp_args.split_whitespace().map(str::to_owned).collect(),
            proxy_core: (!self.no_pin).then_some(self.proxy_core),
            load_core: (!self.no_pin).then_some(self.load_core),
            seed: self.seed,
        })
    }
}

/// Measures and reports; the error says what to change.
pub fn sessions(args: &SessionsArgs) -> Result<(), String> {
    let contest = args.contest()?;
    let temporary = tempfile::tempdir().map_err(|error| format!("making a temporary directory: {error}"))?;
    let directory = match &args.keep {
        Some(kept) => {
            std::fs::create_dir_all(kept).map_err(|error| format!("--keep {}: {error}", kept.display()))?;
            kept.canonicalize().map_err(|error| format!("--keep {}: {error}", kept.display()))?
        }
        None => temporary.path().to_owned(),
    };
    let quiet = args.json.as_deref() == Some(Path::new("-"));
    let found = run(async {
        let measuring = super::measure(&contest, &directory, |measured| {
            if !quiet {
                println!("{measured}");
            }
        });
        tokio::select! {
            found = measuring => found,
            // Leaving by the error ends the children, which a signal alone would not.
            _ = crate::mock::command::signalled() => Err("stopped by a signal before the last round".into()),
        }
    })?;
    if quiet {
        println!("{}", to_json(&found));
        return Ok(());
    }
    print!("{found}");
    args.json.as_deref().map_or(Ok(()), |path| write_json(path, &found))
}

/// Flags of `loadtest sessions-part`.
#[derive(Clone, Debug, clap::Args)]
pub struct PartArgs {
    #[arg(value_enum)]
    pub part: Part,
    /// Directory of the certificates
    #[arg(long)]
    pub certs: PathBuf,
    #[arg(long)]
    pub tokens: u32,
    #[arg(long)]
    pub token_rate: u32,
    /// Of `relay` and `far`
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Of `relay`
    #[arg(long)]
    pub upstream: Option<SocketAddr>,
    /// Of `adapter`
    #[arg(long)]
    pub url: Option<String>,
}

/// A process of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    Relay,
    Far,
    Adapter,
}

/// Runs one process of a measurement until a signal.
pub fn part(args: &PartArgs) -> Result<(), String> {
    let certs = Certs(args.certs.clone());
    let pace = Pace { tokens: args.tokens, token_rate: args.token_rate };
    let missing = |flag: &str| format!("this part needs {flag}");
    println!("{}", stage::READY);
    run(async {
        let working = async {
            match args.part {
                Part::Relay => {
                    let listen = args.listen.ok_or_else(|| missing("--listen"))?;
                    relay::relay(&certs, listen, args.upstream.ok_or_else(|| missing("--upstream"))?).await
                }
                Part::Far => relay::far(&certs, args.listen.ok_or_else(|| missing("--listen"))?, pace).await,
                Part::Adapter => {
                    adapter(&certs, args.url.as_deref().ok_or_else(|| missing("--url"))?, pace).await
                }
            }
        };
        tokio::select! {
            worked = working => worked,
            signalled = crate::mock::command::signalled() => signalled.map_err(|error| error.to_string()),
        }
    })
}

async fn adapter(certs: &Certs, url: &str, pace: Pace) -> Result<(), String> {
    let tls = certs.of_client(Whose::Adapter);
    let options = Options { via: Via::Quic, tls, window: Window::WIDEST, ..Options::default() };
    let adapter = Adapter::new(stage::DIALED, move |_, reply: sdk_rust::Reply| async move {
        let mut ticks = pace.ticks();
        for number in 0..pace.tokens {
            ticks.tick().await;
            if reply.chunk(&pace::chunk(number)).await.is_err() {
                break;
            }
        }
        Ok(Usage { tokens_in: 10, tokens_out: pace.tokens.into() })
    });
    let served = adapter.serve(url, &options, std::future::pending()).await;
    served.map_err(|failure| failure.to_string())
}

fn run<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    // Where another has been installed, that one serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("starting a runtime: {error}"))?.block_on(work)
}

/// Longer does not make a measurement better; more rounds do.
const SECONDS_MAX: Duration = Duration::from_secs(600);
