//! The command `loadtest overload`.
//!
//! What it is for: flags to a trial, one line for each load to stdout as it ends. It never leaves its
//! directory or processes behind unless told to keep the former.

use std::path::PathBuf;
use std::time::Duration;

use super::{Concurrency, Trial};
use crate::generate::command::write_json;

/// Flags of `loadtest overload`.
#[derive(Clone, Debug, clap::Args)]
pub struct OverloadArgs {
    /// The atp program, built with --release
    #[arg(long, default_value = "target/release/atp")]
    pub atp: PathBuf,
    /// Loads, as multiples of what the upstream can do
    #[arg(long = "factor", value_delimiter = ',', default_values_t = [0.5, 1.0, 2.0, 5.0, 10.0])]
    pub factors: Vec<f64>,
    /// Requests the upstream is given at once: max_parallel of the adapter
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub permits: u32,
    /// Requests that may wait: max_queued of the adapter
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub queued: u32,
    /// How the adapter's limit is found; with one that moves, it is printed each second
    #[arg(long, value_enum, default_value_t = Concurrency::Fixed)]
    pub concurrency: Concurrency,
    /// Requests the upstream bears at once, it answers 429 to more; 0 bears any
    #[arg(long, default_value_t = 0)]
    pub capacity: u32,
    /// Seconds of `retry-after` with its 429s; without it they have none
    #[arg(long)]
    pub retry_after: Option<u32>,
    /// Requests the upstream answers at ease, more take longer; 0 is any
    #[arg(long, default_value_t = 0)]
    pub at_ease: u32,
    /// Seconds of each load
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Seconds of the same load before
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// Core of the proxy
    #[arg(long, default_value_t = 0)]
    pub proxy_core: u16,
    /// Core of the mock and the generator
    #[arg(long, default_value_t = 1)]
    pub load_core: u16,
    /// Do not pin anything
    #[arg(long)]
    pub no_pin: bool,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write everything as JSON to this file
    #[arg(long)]
    pub json: Option<PathBuf>,
}

impl OverloadArgs {
    fn trial(&self) -> Result<Trial, String> {
        let seconds = |flag: &str, value: f64| {
            let found = Duration::try_from_secs_f64(value).ok().filter(|time| *time <= SECONDS_MAX);
            found.ok_or_else(|| format!("{flag} {value}: give seconds from 0 to {}", SECONDS_MAX.as_secs()))
        };
        let is_sound = |factor: &f64| *factor > 0.0 && *factor <= FACTOR_MAX;
        if let Some(factor) = self.factors.iter().find(|factor| !is_sound(factor)) {
            return Err(format!("--factor {factor}: give more than 0 and at most {FACTOR_MAX}"));
        }
        Ok(Trial {
            atp: self.atp.clone(),
            factors: self.factors.clone(),
            permits: self.permits,
            queued: self.queued,
            concurrency: self.concurrency,
            capacity: self.capacity,
            at_ease: self.at_ease,
            retry_after: self.retry_after,
            measured: seconds("--seconds", self.seconds)?,
            warmup: seconds("--warmup", self.warmup)?,
            proxy_core: (!self.no_pin).then_some(self.proxy_core),
            load_core: (!self.no_pin).then_some(self.load_core),
            seed: self.seed,
        })
    }
}

/// Measures and reports; the error says what to change.
pub fn overload(args: &OverloadArgs) -> Result<(), String> {
    let trial = args.trial()?;
    let directory = tempfile::tempdir().map_err(|e| format!("making a temporary directory: {e}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("starting a runtime: {e}"))?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = super::run(&trial, directory.path(), |line| println!("{line}")) => outcome,
            // Leaving by the error ends the children, which a signal alone would not.
            _ = crate::mock::command::signalled() => Err("stopped by a signal before the last load".into()),
        }
    })?;
    args.json.as_deref().map_or(Ok(()), |path| write_json(path, &outcome))
}

/// Longer says nothing more.
const SECONDS_MAX: Duration = Duration::from_secs(600);
/// What one thread can still send in time.
const FACTOR_MAX: f64 = 100.0;
