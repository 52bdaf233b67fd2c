//! The command `loadtest compare`.
//!
//! What it is for: flags to a contest, rounds to stdout as they end, the verdict behind them. It never leaves
//! its directory or processes behind unless told to keep the former.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Contest;
use super::rounds::{Case, Proxy, Times};
use crate::generate::command::{to_json, write_json};

/// Flags of `loadtest compare`.
#[derive(Clone, Debug, clap::Args)]
pub struct CompareArgs {
    /// The atp program, built with --release
    #[arg(long, default_value = "target/release/atp")]
    pub atp: PathBuf,
    /// Its arguments; {config} and {directory} are filled in
    #[arg(long, default_value = "dataplane --config {config}", allow_hyphen_values = true)]
    pub atp_args: String,
    /// The nginx program
    #[arg(long, default_value = "nginx")]
    pub nginx: PathBuf,
    /// Measure only this one
    #[arg(long, value_enum)]
    pub only: Option<Proxy>,
    /// Measure only this case
    #[arg(long, value_enum)]
    pub case: Option<Case>,
    /// Rounds; in each, every case is measured once per proxy
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Seconds of load before each measurement
    #[arg(long, default_value_t = 0.3)]
    pub warmup: f64,
    /// Key the generator sends and atp's tenant has
    #[arg(long, default_value = "bench-key")]
    pub key: String,
    /// Core of the proxies
    #[arg(long, default_value_t = 0)]
    pub proxy_core: u16,
    /// Core of the mock and the generator
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
    /// Keep configurations and logs, in this directory
    #[arg(long)]
    pub keep: Option<PathBuf>,
}

impl CompareArgs {
    fn contest(&self) -> Result<Contest, String> {
        let seconds = |flag: &str, value: f64| {
            let found = Duration::try_from_secs_f64(value).ok().filter(|time| *time <= SECONDS_MAX);
            found.ok_or_else(|| format!("{flag} {value}: give seconds from 0 to {}", SECONDS_MAX.as_secs()))
        };
        Ok(Contest {
            proxies: self.only.map_or_else(|| vec![Proxy::Nginx, Proxy::Atp], |only| vec![only]),
            cases: self.case.map_or_else(|| Case::ALL.to_vec(), |case| vec![case]),
            rounds: self.rounds.into(),
            times: Times {
                warmup: seconds("--warmup", self.warmup)?,
                measured: seconds("--seconds", self.seconds)?,
            },
            nginx: self.nginx.clone(),
            atp: self.atp.clone(),
            atp_arguments: self.atp_args.split_whitespace().map(str::to_owned).collect(),
            key: self.key.clone(),
            proxy_core: (!self.no_pin).then_some(self.proxy_core),
            load_core: (!self.no_pin).then_some(self.load_core),
            seed: self.seed,
        })
    }
}

/// Compares and reports; the error says what to change.
pub fn compare(args: &CompareArgs) -> Result<(), String> {
    let contest = args.contest()?;
    let temporary = tempfile::tempdir().map_err(|e| format!("making a temporary directory: {e}"))?;
    let directory = match &args.keep {
        Some(kept) => {
            std::fs::create_dir_all(kept).map_err(|e| format!("--keep {}: {e}", kept.display()))?;
            kept.canonicalize().map_err(|e| format!("--keep {}: {e}", kept.display()))?
        }
        None => temporary.path().to_owned(),
    };
    let quiet = args.json.as_deref() == Some(Path::new("-"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("starting a runtime: {e}"))?;
    let comparison = runtime.block_on(async {
        tokio::select! {
            compared = super::compare(&contest, &directory, |measured| {
                if !quiet {
                    println!("{measured}");
                }
            }) => compared,
            // Leaving by the error ends the children, which a signal alone would not.
            _ = crate::mock::command::signalled() => Err("stopped by a signal before the last round".into()),
        }
    })?;
    if quiet {
        println!("{}", to_json(&comparison));
        return Ok(());
    }
    comparison.setting.iter().for_each(|line| println!("{line}"));
    print!("{comparison}");
    args.json.as_deref().map_or(Ok(()), |path| write_json(path, &comparison))
}

/// Longer does not make a measurement better; more rounds do.
const SECONDS_MAX: Duration = Duration::from_secs(600);
