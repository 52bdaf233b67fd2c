//! The admin port: health, metrics, what is served, drain. On a runtime of its own; loopback unless the
//! configuration says otherwise.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
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
        .with_state(shared);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the admin port stopped");
    }
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
            "adapter": table.adapter(row.adapter).name.as_str(),
            "model": row.model.as_str(),
            "status": row.status.as_str(),
            "quality_permille": row.quality.0,
            "price_picodollars": {"in": row.price.input.0, "out": row.price.output.0},
        })
    });
    let routes = table.routes.iter().map(|row| {
        let candidates = row.candidates.iter().map(|candidate| {
            let offer = table.offer(candidate.offer);
            let adapter = table.adapter(offer.adapter).name.as_str();
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
