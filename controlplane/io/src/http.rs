//! The HTTP port: health for orchestrators, metrics for Prometheus. It shows no resource and takes no
//! command.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::listen::Bound;
use crate::metrics::Metrics;
use crate::planes::Planes;
use crate::shutdown::Stopping;
use crate::writer::Writer;

/// What the answers are made of.
#[derive(Debug, Clone)]
pub struct View {
    pub writer: Writer,
    pub planes: Arc<Planes>,
    pub metrics: Arc<Metrics>,
}

/// Serves until told to stop.
pub async fn serve(bound: Bound, view: View, stopping: Stopping) -> std::io::Result<()> {
    let router = axum::Router::new()
        .route("/healthz/live", get(|| async { "ok\n" }))
        .route("/healthz/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(view);
    axum::serve(bound, router).with_graceful_shutdown(async move { stopping.wait().await }).await
}

/// The store is open before the port is, so whoever gets an answer gets this one.
async fn ready(Shared(view): Shared<View>) -> String {
    format!("ok: generation {}\n", view.writer.state().generation())
}

async fn metrics(Shared(view): Shared<View>) -> Response {
    match view.metrics.exposition(&view.writer.state(), &view.planes) {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
