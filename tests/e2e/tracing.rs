//! Tracing: what a receiver gets, and that one which is dead or hangs costs spans and nothing else.

use serde_json::json;
use tokio::net::TcpListener;

use loadtest::mock::Mock;

use super::kit::{Atp, Caller, Folder, adapter, chat, lines, mock, until};
use super::sessions::Hand;

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

/// Of the last request the model got, whose span is above it.
fn trace_of_last(mock: &Mock) -> String {
    let seen = mock.requests();
    let parent = seen.last().and_then(|seen| seen.header("traceparent")).expect("a context");
    parent.split('-').nth(1).expect("a trace").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_tools_and_requests_of_sessions_go_on_in_their_callers_trace() {
    let (folder, mock) = (Folder::new(), mock().await);
    for on in ["1", "0"] {
        let env = [("ROUTER_ENABLE_TRACING", on), ("ROUTER_DISABLE_OTLP_EXPORT", "1")];
        let data = Atp::dataplane_as(&folder, "resources: resources.yaml\n", &env);
        folder.write("resources.yaml", &adapter("a", &mock.url(), &["m"]));
        let data = data.await;
        data.until_ready().await;
        let given = |last: u64| (format!("00-{last:032x}-00f067aa0ba902b7-01"), format!("{last:032x}"));
        let call = |meta: &serde_json::Value| {
            let params = json!({"name": "adapter.a", "arguments": {"prompt": "hi"}, "_meta": meta});
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string()
        };
        let caller = Caller::new(data.clients).with("mcp-protocol-version", "2025-06-18");
        let caller = caller.with("accept", "application/json, text/event-stream");
        let (header, of_header) = given(0xa1);
        let (meta, of_meta) = given(0xa2);
        let called = caller.with("traceparent", &header).post("/mcp", call(&json!({}))).await;
        assert_eq!((called.status, trace_of_last(&mock)), (200, of_header), "{}", called.text);
        let both =
            caller.with("traceparent", &header).post("/mcp", call(&json!({"traceparent": meta}))).await;
        assert_eq!(
            (both.status, trace_of_last(&mock)),
            (200, of_meta),
            "the message is nearer: {}",
            both.text
        );
        for (at, is_object) in [(0xb1, false), (0xb2, true)] {
            let (said, trace) = given(at);
            let said = if is_object { json!({"traceparent": said}) } else { json!(said) };
            let mut hand = Hand::new(&data, json!({})).await;
            let body = serde_json::from_str(&chat("m", true)).expect("JSON");
            let told = hand.ask_of(json!({"trace": said}), body).await;
            assert_eq!(told["payload"]["type"], "agent.result.final", "{told}");
            assert_eq!(trace_of_last(&mock), trace);
        }
    }
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
