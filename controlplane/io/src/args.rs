//! The command line of a control plane alone, for `atp-controlplane` and `atp controlplane`.

use std::path::PathBuf;
use std::process::ExitCode;

use proto_core::logline::Shape;
use proto_core::parse::{Mistake, Source};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::data_dir::Env;

/// Runs a control plane: operators' API and data planes' Sync on gRPC, health and metrics on HTTP.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Settings; without it, what the environment and the defaults say
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where resources and tokens are kept [default: $ATP_DATA_DIR, else the settings', else the state
    /// folder]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// How logs are written, to stderr
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

const EXAMPLES: &str = "\
Examples:
  atp controlplane --config deploy/examples/controlplane.yaml
  ATP_DATA_DIR=/var/lib/atp atp controlplane --config controlplane.yaml --log-format json

Exit codes: 0 stopped by a signal, 1 failed, 2 wrong usage or settings";

/// Serves until SIGINT or SIGTERM.
pub fn main(args: &Args) -> ExitCode {
    crate::log::start(match args.log_format {
        LogFormat::Text => Shape::Text,
        LogFormat::Json => Shape::Json,
    });
    let config = match read(args) {
        Ok(config) => config,
        Err(told) => {
            eprintln!("{told}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(crate::run(config, told_to_stop())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

/// The settings, or what to tell the operator.
pub fn read(args: &Args) -> Result<Config, String> {
    let (file, content) = match &args.config {
        None => (DEFAULTS.to_owned(), Vec::new()),
        Some(path) => {
            let file = path.display().to_string();
            let content = std::fs::read(path).map_err(|error| format!("{file}: {error}"))?;
            (file, content)
        }
    };
    let source = Source { file: &file, content: &content };
    match Config::read(&source, args.data_dir.clone(), &Env::of_process()) {
        Ok((config, warnings)) => {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            Ok(config)
        }
        Err(mut mistakes) => {
            if args.config.is_none() {
                // What nobody wrote has no line; the way out is to write it.
                mistakes.iter_mut().for_each(|mistake| mistake.place = None);
                return Err(format!("{}; write settings to a file and pass --config FILE", told(&mistakes)));
            }
            Err(told(&mistakes))
        }
    }
}

fn told(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Ends with the first SIGINT or SIGTERM.
pub async fn told_to_stop() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("signals cannot be received; stop the process with SIGKILL");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// What settings without a file are called in messages.
const DEFAULTS: &str = "settings";
