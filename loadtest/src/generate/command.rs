//! The command `loadtest run`.
//!
//! What it is for: flags to a plan, the report to stdout and a file. It never starts a run whose flags
//! contradict each other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};

use super::plan::{AskFor, Load, Plan, Target};
use super::schedule::Arrivals;

/// Flags of `loadtest run`.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("load").required(true))]
pub struct RunArgs {
    /// Server to load, http://ADDRESS:PORT
    #[arg(long)]
    pub url: String,
    #[arg(long, default_value = "/v1/chat/completions")]
    pub path: String,
    /// Model to ask for; repeated ones take turns
    #[arg(long = "model", default_value = "mock-model")]
    pub models: Vec<String>,
    /// Open loop: arrivals per second, whether or not earlier answers have come
    #[arg(long, group = "load")]
    pub rate: Option<f64>,
    /// Spread of arrivals in open loop
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub arrivals: Arrivals,
    /// Closed loop: this many users, each asking again when answered
    #[arg(long, group = "load")]
    pub connections: Option<u16>,
    /// Seconds of the measured phase (10 when --requests is not given either)
    #[arg(long)]
    pub duration: Option<f64>,
    /// Requests of the measured phase
    #[arg(long)]
    pub requests: Option<u64>,
    /// Seconds of the same load before the measured phase
    #[arg(long, default_value_t = 0.0)]
    pub warmup: f64,
    /// Ask for streamed answers
    #[arg(long)]
    pub stream: bool,
    /// max_tokens of each request; 0 leaves it out
    #[arg(long, default_value_t = 0)]
    pub tokens: u32,
    /// Bytes of the prompt's text
    #[arg(long, default_value_t = 100)]
    pub prompt_bytes: usize,
    /// Sent as `authorization: Bearer KEY`
    #[arg(long)]
    pub key: Option<String>,
    /// Further header, `name: value`; may be repeated
    #[arg(long = "header")]
    pub headers: Vec<String>,
    /// Deadline of each request in seconds
    #[arg(long, default_value_t = 30.0)]
    pub timeout: f64,
    /// Requests in flight at most; arrivals beyond fail as `dropped`
    #[arg(long, default_value_t = 4096)]
    pub in_flight_max: usize,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Processes whose CPU time per request and chunk is reported
    #[arg(long = "pid", value_delimiter = ',')]
    pub pids: Vec<u32>,
    /// Write the report as JSON to this file; `-` is stdout, instead of the table
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Load a machine other than this one
    #[arg(long)]
    pub allow_remote: bool,
}

impl RunArgs {
    /// The plan these flags describe; the error names the flag.
    pub fn plan(&self) -> Result<Plan, String> {
        let mut requests_or_duration = self.duration.map(|s| seconds("--duration", s)).transpose()?;
        if self.requests.is_none() && requests_or_duration.is_none() {
            requests_or_duration = Some(DURATION_USUAL);
        }
        let load = match (self.rate, self.connections) {
            (Some(rate), _) if rate > 0.0 && rate <= RATE_MAX => Load::Open { rate, arrivals: self.arrivals },
            (Some(rate), _) => return Err(format!("--rate {rate}: give more than 0 and at most {RATE_MAX}")),
            (None, Some(connections)) if connections > 0 => Load::Closed { connections: connections.into() },
            (None, _) => return Err("--connections: give at least 1, or --rate for an open loop".into()),
        };
        if self.prompt_bytes > PROMPT_BYTES_MAX {
            return Err(format!("--prompt-bytes {}: give at most {PROMPT_BYTES_MAX}", self.prompt_bytes));
        }
        if self.in_flight_max == 0 || self.in_flight_max > IN_FLIGHT_MAX {
            return Err(format!("--in-flight-max {}: give 1..{IN_FLIGHT_MAX}", self.in_flight_max));
        }
        let ask = |model: &String| {
            let (path, stream, tokens) = (self.path.as_str(), self.stream, self.tokens);
            AskFor { path, model, stream, tokens, prompt_bytes: self.prompt_bytes }.body()
        };
        Ok(Plan {
            target: Target::new(&self.url, &self.path, self.allow_remote)?,
            ask: self.models.iter().map(ask).collect(),
            headers: self.header_list()?,
            stream: self.stream,
            load,
            duration: requests_or_duration,
            requests: self.requests,
            warmup: seconds("--warmup", self.warmup)?,
            timeout: seconds("--timeout", self.timeout)?,
            in_flight_max: self.in_flight_max,
            seed: self.seed,
            pids: self.pids.clone(),
        })
    }

    fn header_list(&self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        if let Some(key) = &self.key {
            let value = HeaderValue::from_str(&format!("Bearer {key}"));
            headers.push((AUTHORIZATION, value.map_err(|_| "--key: holds characters that no header may")?));
        }
        for header in &self.headers {
            let parsed = header.split_once(':').and_then(|(name, value)| {
                Some((name.trim().parse::<HeaderName>().ok()?, HeaderValue::from_str(value.trim()).ok()?))
            });
            headers.push(parsed.ok_or_else(|| format!("--header {header}: write it as `name: value`"))?);
        }
        Ok(headers)
    }
}

/// Runs and reports; the error says what to change.
pub fn run(args: &RunArgs) -> Result<(), String> {
    let report = super::run(&args.plan()?)?;
    match args.json.as_deref() {
        Some(path) if path == Path::new("-") => println!("{}", to_json(&report)),
        Some(path) => {
            print!("{report}");
            write_json(path, &report)?;
        }
        None => print!("{report}"),
    }
    Ok(())
}

pub(crate) fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), String> {
    std::fs::write(path, to_json(value) + "\n")
        .map_err(|e| format!("--json {}: {e}; choose a file that can be written", path.display()))
}

pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("plain structs with string keys always serialise")
}

fn seconds(flag: &str, seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= super::DURATION_MAX)
        .ok_or_else(|| format!("{flag} {seconds}: give seconds from 0 to 86400"))
}

const DURATION_USUAL: Duration = Duration::from_secs(10);
/// Beyond what one thread sends by far.
const RATE_MAX: f64 = 1e6;
/// More than any model's context.
const PROMPT_BYTES_MAX: usize = 16 << 20;
/// One connection each: the ports of one source address.
const IN_FLIGHT_MAX: usize = 28_000;
