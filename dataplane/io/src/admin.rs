//! The admin port: health, metrics, what is served, drain. On a runtime of its own; loopback unless the
//! configuration says otherwise.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::drain::Phase;
use crate::serve::health;
use crate::telemetry::metrics;
use crate::worker::Shared;

/// Serves until the process ends.
pub async fn serve(shared: Arc<Shared>, listener: tokio::net::TcpListener) {
    let is_loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let router = Router::new()
        .route("/healthz/live", get(async || "ok\n"))
        .route("/healthz/ready", get(ready))
        .route("/metrics", get(scrape))
        .route(
            "/adapters/health",
            get(async |State(shared): State<Arc<Shared>>| Json(health::adapters(&shared))),
        )
        .route("/config_dump", get(dump))
        .route("/drain", post(drain))
        .with_state(shared)
        .layer(middleware::from_fn(move |request: Request, next: Next| async move {
            match is_loopback && is_foreign(request.headers()) {
                true => {
                    (StatusCode::FORBIDDEN, "this port is for programs on this machine\n").into_response()
                }
                false => next.run(request).await,
            }
        }));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the admin port stopped");
    }
}

/// Whether a page of somewhere else may be behind a request to this machine: it names another host (a name
/// bound to loopback by its owner), or comes from another origin.
pub fn is_foreign(headers: &HeaderMap) -> bool {
    let is_ours = |authority: &str| {
        let host = authority.rsplit_once(':').map_or(authority, |(host, port)| match port.parse::<u16>() {
            Ok(_) => host,
            Err(_) => authority,
        });
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    };
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).is_some_and(|host| !is_ours(host));
    let origin = text(header::ORIGIN)
        .is_some_and(|origin| origin.split_once("://").is_none_or(|(_, authority)| !is_ours(authority)));
    host || origin
}

async fn ready(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let status = if shared.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health::readiness(&shared)))
}

async fn scrape(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&shared))
}

/// Begins to leave, as SIGTERM does; the process ends when it is done.
async fn drain(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    shared.enter(Phase::Leaving);
    (StatusCode::ACCEPTED, "leaving\n")
}

/// What is served, without secrets: the set never carries any.
async fn dump(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let Some(served) = shared.tables.peek() else { return Json(json!({"generation": null})) };
    let table = &served.table;
    let adapters = table.adapters.iter().map(|row| {
        json!({"name": row.name.as_str(), "kind": row.kind.as_str(), "max_parallel": row.limits.max_parallel})
    });
    let offers = table.offers.iter().map(|row| {
        json!({
            "adapter": table.adapter(row.owner).name.as_str(),
            "model": row.model.as_str(),
            "status": row.status.as_str(),
            "quality_permille": row.quality.0,
            "price_picodollars": {"in": row.price.input.0, "out": row.price.output.0},
        })
    });
    let routes = table.routes.iter().map(|row| {
        let candidates = row.candidates.iter().map(|candidate| {
            let offer = table.offer(candidate.offer);
            let adapter = table.adapter(offer.owner).name.as_str();
            json!({"adapter": adapter, "model": offer.model.as_str(), "weight": candidate.weight})
        });
        json!({
            "name": row.name,
            "declared": row.declared,
            "strategy": row.strategy.as_str(),
            "candidates": candidates.collect::<Vec<_>>(),
        })
    });
    let tenants = table.tenants.iter().map(|row| json!({"name": row.name.as_str(), "qos": row.qos.as_str()}));
    Json(json!({
        "generation": {"epoch": format!("{:x}", served.epoch), "number": served.number},
        "adapters": adapters.collect::<Vec<_>>(),
        "models": offers.collect::<Vec<_>>(),
        "routes": routes.collect::<Vec<_>>(),
        "tenants": tenants.collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_by_its_own_name_is_at_home() {
        let with = |name: header::HeaderName, value: &'static str| {
            is_foreign(&HeaderMap::from_iter([(name, header::HeaderValue::from_static(value))]))
        };
        for ours in ["localhost", "localhost:7445", "127.0.0.1:7445", "[::1]:7445", "127.9.9.9"] {
            assert!(!with(header::HOST, ours), "{ours}");
        }
        for foreign in ["evil.example", "localhost.evil.example:7445", "10.0.0.1:7445", ""] {
            assert!(with(header::HOST, foreign), "{foreign}");
        }
        assert!(!with(header::ORIGIN, "http://localhost:3000"));
        assert!(with(header::ORIGIN, "http://evil.example") && with(header::ORIGIN, "null"));
    }
}
