//! Takes spans that ended to an OTLP receiver, in batches, on the runtime of the admin port. A receiver that
//! is dead, slow or refuses costs spans, which are counted, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::{Traces, otlp};
use crate::config::Export;
use crate::drain::Phase;
use crate::worker::Shared;

/// Until this data plane ends; what is left then is sent once more.
pub async fn run(shared: Arc<Shared>, traces: Arc<Traces>) {
    let Some(export) = &shared.config.tracing.export else { return };
    let channel = match channel(export) {
        Ok(channel) => channel,
        Err(error) => {
            tracing::error!(%error, endpoint = %export.endpoint, "spans cannot be exported");
            return;
        }
    };
    let mut phases = shared.phases();
    let mut is_told = false;
    loop {
        let due = Instant::now() + export.every;
        let is_closing = tokio::select! {
            () = filled(&traces, export, due) => false,
            _ = phases.wait_for(|phase| *phase >= Phase::Closing) => true,
        };
        let wait = if is_closing { LAST_WAIT } else { export.timeout };
        loop {
            let spans = traces.take(export.batch);
            if spans.is_empty() {
                break;
            }
            let count = spans.len() as u64;
            let mut until = shared.phases();
            let sent = tokio::select! {
                sent = timeout(wait, send(&channel, export, spans)) => sent.map_err(|_| ()),
                // The process ends, and does not wait for a receiver that hangs.
                () = closed(&mut until), if !is_closing => Err(()),
            };
            match sent {
                Ok(Ok(rejected)) => {
                    let rejected = rejected.min(count);
                    traces.exported.add(count - rejected);
                    traces.failed.add(rejected);
                    is_told = false;
                }
                failed => {
                    traces.failed.add(count);
                    // Once, until it works again: a receiver that is away is away for many batches.
                    if !std::mem::replace(&mut is_told, true) {
                        let why = match failed {
                            Ok(Err(status)) => status.code().to_string(),
                            _ => "no answer in time".into(),
                        };
                        tracing::warn!(why, endpoint = %export.endpoint, "spans were not taken");
                    }
                    break;
                }
            }
        }
        if is_closing {
            return;
        }
    }
}

/// Until a last moment after this data plane began to close.
async fn closed(phases: &mut watch::Receiver<Phase>) {
    let _ = phases.wait_for(|phase| *phase >= Phase::Closing).await;
    sleep(LAST_WAIT).await;
}

/// Until it is time, or there is a batch.
async fn filled(traces: &Traces, export: &Export, due: Instant) {
    while Instant::now() < due && traces.waiting() < export.batch {
        sleep_until((Instant::now() + LOOK_EVERY).min(due)).await;
    }
}

/// How many were refused.
async fn send(
    channel: &Channel,
    export: &Export,
    spans: Vec<super::span::Span>,
) -> Result<u64, tonic::Status> {
    let request = otlp::request(&export.resource, spans);
    let response = otlp::send(channel.clone(), &export.headers, request).await?;
    let rejected = response.partial_success.map_or(0, |partial| partial.rejected_spans);
    Ok(u64::try_from(rejected).unwrap_or(0))
}

fn channel(export: &Export) -> Result<Channel, String> {
    let error = |error: tonic::transport::Error| error.to_string();
    let mut endpoint = Endpoint::from_shared(export.endpoint.clone()).map_err(error)?;
    if export.endpoint.starts_with("https://") {
        let anchors = crate::upstream::system_anchors().map_err(|error| error.to_string())?;
        endpoint = endpoint.tls_config(ClientTlsConfig::new().trust_anchors(anchors)).map_err(error)?;
    }
    Ok(endpoint.connect_timeout(CONNECT_WAIT).connect_lazy())
}

const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// For what is left at the end: the process waits for it.
const LAST_WAIT: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);
