//! Health, readiness, metrics and the state of adapters, for whoever watches the clients' port.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::answer::AnswerBody;
use crate::clock;
use crate::telemetry::metrics;
use crate::worker::Shared;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Health,
    Ready,
    Metrics,
    Adapters,
}

pub async fn answer(shared: &Arc<Shared>, what: What) -> Response<AnswerBody> {
    match what {
        What::Health => json_answer(StatusCode::OK, &health(shared)),
        What::Ready => {
            let is_ready = shared.is_ready();
            let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let mut response = json_answer(status, &readiness(shared));
            if !is_ready {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            response
        }
        What::Adapters => json_answer(StatusCode::OK, &adapters(shared)),
        What::Metrics => {
            let shared = Arc::clone(shared);
            // Elsewhere: adding up and formatting must not delay a request of this worker.
            let text = tokio::task::spawn_blocking(move || metrics::text(&shared)).await.unwrap_or_default();
            let mut response = Response::new(AnswerBody::text(text));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
            response
        }
    }
}

/// Alive; degraded while there is nothing to serve or its source is away.
pub fn health(shared: &Shared) -> Value {
    let has_set = shared.tables.peek().is_some();
    // Order: relaxed, a state for people.
    let source_ok = shared.source_ok.load(Ordering::Relaxed);
    let status = if has_set && source_ok { "healthy" } else { "degraded" };
    let check =
        |ok: bool, details: &str| json!({"status": if ok {"healthy"} else {"degraded"}, "details": details});
    json!({
        "status": status,
        "service": "router",
        "timestamp": clock::unix_seconds(),
        "checks": {
            "model_registry": check(
                has_set,
                if has_set { "a set is served" } else { "no set has arrived yet" },
            ),
            "service_dependencies": check(
                source_ok,
                if source_ok {
                    "the source of resources is well"
                } else {
                    "the source of resources is away or has mistakes"
                },
            ),
        },
    })
}

/// Whether traffic may be sent here, and why not.
pub fn readiness(shared: &Shared) -> Value {
    let is_leaving = shared.is_past(crate::drain::Phase::Leaving);
    let has_set = shared.tables.peek().is_some();
    json!({
        "ready": shared.is_ready(),
        "checks": {
            "model_registry": if has_set { "ok" } else { "no set of resources has arrived yet" },
            "core_services": if is_leaving { "draining" } else { "ok" },
        },
    })
}

/// What is known of each adapter: its breaker and what is in flight.
pub fn adapters(shared: &Shared) -> Value {
    let Some(served) = shared.tables.peek() else { return json!([]) };
    let mut counts = vec![(0u64, 0u64); served.table.adapters.len()];
    for (offer, cell) in served.table.offers.iter().zip(&served.offers) {
        let (requests, failures) = &mut counts[offer.owner.0 as usize];
        for tally in &cell.tallies {
            *requests += tally.requests.value();
            *failures += tally.failures.value();
        }
    }
    let now = clock::now();
    let rows = served.table.adapters.iter().zip(&served.adapters).zip(&served.upstreams).zip(counts);
    let list = rows.map(|(((row, cell), upstream), (requests, failures))| {
        // One that registers itself, and has not.
        let is_somewhere = upstream.dialled().is_none_or(|dialled| dialled.live(now) > 0);
        let told = upstream.health();
        let breaker = cell.breaker.now();
        let error_rate = if requests == 0 { Value::Null } else { json!(failures as f64 / requests as f64) };
        json!({
            "endpoint": row.name.as_str(),
            "kind": row.kind.as_str(),
            "ok": breaker.as_str() == "passing" && is_somewhere,
            "breaker": breaker.as_str(),
            "in_flight": cell.permits.in_flight(),
            "max_parallel": cell.permits.limit(),
            "requests": requests,
            "error_rate": error_rate,
            "p95_ms": told.map(|(p95_ms, _)| p95_ms),
            "reported_error_rate": told.map(|(_, rate)| rate),
        })
    });
    Value::Array(list.collect())
}

fn json_answer(status: StatusCode, body: &Value) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::text(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
