//! The data plane as a process: settings in, signals obeyed, an exit code out.

use std::path::Path;
use std::process::ExitCode;

use proto_core::parse::{Mistake, Source};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{self, Handle};
use crate::config::{Config, environment};
use crate::telemetry::logs;

/// Runs a data plane from its configuration file until it is told to end. `format`: of logs, whatever the
/// file says.
pub fn from_file(path: &Path, format: Option<logs::Format>) -> ExitCode {
    let config = match read(path) {
        Ok(config) => config,
        Err(mistakes) => {
            mistakes.iter().for_each(|mistake| eprintln!("{mistake}"));
            return ExitCode::from(2);
        }
    };
    logs::start(format.or(config.log_format).unwrap_or_default());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match app::start(config) {
            Ok(handle) => until_told(handle).await,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        }
    })
}

/// Reads settings; warnings go to standard error.
pub fn read(path: &Path) -> Result<Config, Vec<Mistake>> {
    let file = path.display().to_string();
    let content = std::fs::read(path).map_err(|error| {
        vec![Mistake { place: None, path: file.clone(), what: format!("cannot be read: {error}") }]
    })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let source = Source { file: &file, content: &content };
    environment::unknown_here().iter().for_each(|warning| eprintln!("warning: {warning}"));
    let (config, warnings) = Config::read(&source, folder, &|name| std::env::var(name).ok())?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(config)
}

/// Serves until SIGTERM, SIGINT or `POST /drain`, then leaves in order; a second signal hurries.
async fn until_told(handle: Handle) -> ExitCode {
    for address in &handle.http {
        tracing::info!("clients: http://{address}");
    }
    if let Some(address) = &handle.https {
        tracing::info!("clients: https://{address}");
    }
    if let Some(address) = handle.quic {
        tracing::info!("clients: quic://{address}");
    }
    tracing::info!("admin: http://{}", handle.admin);
    if let Some(address) = handle.probes {
        tracing::info!("probes: http://{address}");
    }
    tokio::select! {
        () = told() => {}
        () = handle.asked_to_leave() => {}
    }
    handle.drain(told()).await;
    ExitCode::SUCCESS
}

/// Until a signal to end arrives.
pub async fn told() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be watched; the process ends only by force");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
