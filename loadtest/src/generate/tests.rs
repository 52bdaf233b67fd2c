//! The generator against the mock, over real loopback sockets.

use std::time::Duration;

use super::plan::{AskFor, Load, Plan, Target};
use super::report::Report;
use super::schedule::Arrivals;
use super::{Bounds, generate};
use crate::mock::{Mock, MockConfig, serve_here};

fn plan(mock: &Mock, model: &str, stream: bool, load: Load, requests: u64) -> Plan {
    let path = "/v1/chat/completions";
    Plan {
        target: Target::new(&mock.url(), path, false).unwrap(),
        ask: vec![AskFor { path, model, stream, tokens: 0, prompt_bytes: 10 }.body()],
        headers: Vec::new(),
        stream,
        load,
        duration: None,
        requests: Some(requests),
        warmup: Duration::ZERO,
        timeout: Duration::from_secs(20),
        in_flight_max: 64,
        seed: 1,
        pids: vec![std::process::id()],
    }
}

async fn mock() -> Mock {
    serve_here(MockConfig::default()).await.unwrap()
}

fn failures(report: &Report) -> Vec<(&str, u64)> {
    report.failures.iter().map(|(kind, count)| (kind.as_str(), *count)).collect()
}

const CLOSED: Load = Load::Closed { connections: 3 };

#[tokio::test]
async fn a_closed_loop_sends_exactly_its_requests_over_kept_connections() {
    let mock = mock().await;
    let report = generate(&plan(&mock, "m--tokens-5", false, CLOSED, 50)).await.unwrap();
    assert_eq!((report.requests, report.good, report.failed), (50, 50, 0));
    assert_eq!((report.latency_us.count, report.in_flight_max), (50, 3));
    assert_eq!((mock.model("m--tokens-5").completed, mock.stats().connections), (50, 3));
    assert_eq!(report.connections_opened, 3);
    assert!(report.cpu[0].us_per_request.is_some() && report.cpu[0].us_per_chunk.is_none());
}

#[tokio::test]
async fn a_streams_chunks_and_tokens_are_counted() {
    let mock = mock().await;
    let report = generate(&plan(&mock, "m--tokens-5", true, CLOSED, 10)).await.unwrap();
    assert_eq!((report.good, report.tokens, report.chunks), (10, 50, 70), "role and reason are chunks too");
    assert_eq!(report.first_token_us.count, 10);
    assert_eq!(report.between_chunks_us.count, 60);
}

#[tokio::test]
async fn an_open_loop_counts_from_the_intended_moment() {
    let mock = mock().await;
    let load = Load::Open { rate: 2000.0, arrivals: Arrivals::Uniform };
    let report = generate(&plan(&mock, "m--first-token-ms-30", false, load, 40)).await.unwrap();
    assert_eq!((report.good, report.send_lag_us.count), (40, 40));
    assert!(report.latency_us.min >= 30_000.0);
    assert!(report.in_flight_max > 1, "the second does not wait for the first");
}

#[tokio::test]
async fn arrivals_beyond_the_bound_fail_as_dropped() {
    let mock = mock().await;
    let load = Load::Open { rate: 100_000.0, arrivals: Arrivals::Poisson };
    let mut plan = plan(&mock, "m--hang", false, load, 30);
    (plan.in_flight_max, plan.timeout) = (4, Duration::from_millis(500));
    let report = generate(&plan).await.unwrap();
    assert_eq!(failures(&report), [("dropped", 26), ("timeout", 4)]);
    assert_eq!((report.requests, report.in_flight_max), (30, 4));
    assert!(report.latency_us.min >= 499_000.0, "what timed out is in the latencies");
}

#[tokio::test]
async fn every_fault_of_the_mock_has_its_kind() {
    let mock = mock().await;
    let kinds = [
        ("reset", "reset"),
        ("reset-after-head", "cut"),
        ("cut-after-2", "cut"),
        ("end-after-2", "cut"),
        ("sse-error-after-2", "error_event"),
        ("status-503", "status 503"),
        ("wrong-length", "cut"),
        ("garbage", "cut"),
    ];
    for (fault, kind) in kinds {
        let report = generate(&plan(&mock, &format!("m--{fault}"), true, CLOSED, 4)).await.unwrap();
        assert_eq!(failures(&report), [(kind, 4)], "{fault}");
    }
    let whole = generate(&plan(&mock, "m--cut-after-2", false, CLOSED, 4)).await.unwrap();
    assert_eq!(failures(&whole), [("cut", 4)]);
    let plan = plan(&mock, "m", false, CLOSED, 4);
    mock.stop().await;
    assert_eq!(failures(&generate(&plan).await.unwrap()), [("connect", 4)]);
}

#[tokio::test]
async fn refusals_have_latencies_of_their_own() {
    let mock = mock().await;
    let load = Load::Open { rate: 4000.0, arrivals: Arrivals::Uniform };
    let model = "m--first-token-ms-200--capacity-2";
    let report = generate(&plan(&mock, model, false, load, 20)).await.unwrap();
    assert_eq!((report.good, failures(&report)), (2, vec![("status 429", 18)]));
    let refused = &report.failure_latency_us["status 429"];
    assert_eq!(refused.count, 18);
    assert!(refused.p50 < 200_000.0 && report.latency_us.min >= 200_000.0, "{report}");
    assert!(report.to_string().contains("\nstatus 429"), "{report}");
}

#[tokio::test]
async fn a_warmup_is_sent_but_not_counted() {
    let mock = mock().await;
    let mut plan = plan(&mock, "m", false, CLOSED, 5);
    plan.warmup = Duration::from_millis(20);
    let report = generate(&plan).await.unwrap();
    assert_eq!((report.requests, report.connections_opened), (5, 0), "its connections are kept");
    assert!(mock.model("m").completed > 5);
}

#[tokio::test]
async fn a_process_that_is_gone_is_an_error_and_not_a_zero() {
    let mut plan = plan(&mock().await, "m", false, CLOSED, 1);
    plan.pids = vec![u32::MAX];
    assert!(generate(&plan).await.unwrap_err().contains("/proc/4294967295/stat"));
}

#[test]
fn a_phase_ends_at_whichever_bound_comes_first() {
    let bounds =
        |seconds: Option<u64>, requests| Bounds { duration: seconds.map(Duration::from_secs), requests };
    let s = Duration::from_secs;
    assert!(bounds(Some(5), Some(10)).allow(9, s(4)));
    assert!(!bounds(Some(5), Some(10)).allow(10, s(4)));
    assert!(!bounds(Some(5), Some(10)).allow(9, s(5)));
    assert!(!bounds(None, None).allow(0, super::DURATION_MAX), "a plan without bounds still ends");
}
