//! Tracing: what a receiver gets, and that one which is dead or hangs costs spans and nothing else.

use serde_json::json;
use tokio::net::TcpListener;

use super::kit::{Atp, Caller, Folder, lines, until};

/// `atp up` that sends its spans to `endpoint`, with room for few.
async fn traced(folder: &Folder, endpoint: &str) -> Atp {
    let env = [
        ("ROUTER_ENABLE_TRACING", "1"),
        ("ROUTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "16"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
    ];
    Atp::up_as(folder, "drain: { delay_ms: 0, grace_ms: 1000 }\n", &env).await
}

async fn value(caller: &Caller, name: &str) -> f64 {
    let text = caller.get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().parse().unwrap_or(0.0)
}

/// Asks until spans were lost in the way that `lost` counts; every answer is whole all the same.
async fn asks_until_lost(up: &Atp, lost: &str) {
    let caller = Caller::new(up.clients);
    until("spans that are lost", async || {
        for _ in 0..8 {
            let answer = caller.ask(&json!({})).await;
            assert_eq!((answer.status, answer.is_cut), (200, false), "{}", answer.text);
            assert_eq!(lines(&answer.text).last().expect("a final line")["type"], "final");
        }
        value(&caller, lost).await > 0.0
    })
    .await;
    assert_eq!(value(&caller, "atp_spans_exported_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_dead_costs_spans_which_are_counted_and_no_answer() {
    let folder = Folder::new();
    let up = traced(&folder, &crate::faults::dead_url()).await;
    asks_until_lost(&up, "atp_spans_failed_total").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hangs_costs_spans_which_are_counted_and_neither_answer_nor_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    // Takes connections and never says a word.
    let hanging = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok(accepted) = listener.accept().await {
            held.push(accepted);
        }
    });
    let folder = Folder::new();
    let mut up = traced(&folder, &endpoint).await;
    asks_until_lost(&up, "atp_spans_dropped_total").await;
    up.signal("-TERM");
    assert_eq!(up.ended().await, Some(0), "its end does not wait for the receiver");
    hanging.abort();
}
