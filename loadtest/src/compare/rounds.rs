//! Rounds of a comparison: which proxy is measured when, and what one measurement is.
//!
//! What it is for: interleaving, so that whatever drifts (heat, neighbours, caches) drifts over both alike.
//! It never takes a cost from a measurement with failures: a refused request is cheap.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use serde::Serialize;

use super::configs::{ROUTES, route_model};
use crate::generate::generate;
use crate::generate::plan::{AskFor, Load, Plan, Target};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Proxy {
    Nginx,
    Atp,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// 32 kept connections, whole answers; the cost is per request.
    Requests,
    /// 64 streams of 200 chunks as fast as they go; the cost is per chunk. A proxy that falls behind finds
    /// several chunks in one read and gets cheaper by it: look at the chunks per read.
    Streams,
    /// 64 streams of 200 chunks at a model's pace, so that every chunk is handled alone.
    Paced,
}

/// One proxy under one case in one round.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub round: usize,
    pub case: Case,
    pub proxy: Proxy,
    /// CPU time of the proxy per request or per chunk, microseconds.
    pub cpu_us: f64,
    /// Share of it spent in the kernel.
    pub system_share: f64,
    pub good: u64,
    pub good_per_s: f64,
    pub chunks_per_s: f64,
    /// Chunks in one read of the generator: how many the proxy has moved at once.
    pub chunks_per_read: f64,
    pub latency_p50_us: f64,
    pub latency_p99_us: f64,
}

impl Case {
    pub const ALL: [Case; 3] = [Case::Requests, Case::Streams, Case::Paced];

    pub(crate) fn is_streamed(self) -> bool {
        self != Case::Requests
    }

    pub(crate) fn per(self) -> &'static str {
        if self.is_streamed() { "chunk" } else { "request" }
    }

    fn connections(self) -> usize {
        match self {
            Case::Requests => 32,
            Case::Streams | Case::Paced => 64,
        }
    }
}

/// The order within a round: it alternates, so that being first falls on both equally often.
pub(crate) fn order(round: usize, proxies: &[Proxy]) -> Vec<Proxy> {
    let mut order = proxies.to_vec();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// What the generator sends for a case; the model names take turns over all routes.
pub(crate) fn plan(case: Case, port: u16, key: &str, times: Times, pids: Vec<u32>) -> Result<Plan, String> {
    let path = "/v1/chat/completions";
    let stream = case.is_streamed();
    let ask = |number| {
        AskFor { path, model: &route_model(number), stream, tokens: 0, prompt_bytes: PROMPT_BYTES }.body()
    };
    let bearer = HeaderValue::from_str(&format!("Bearer {key}"));
    let mut headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (AUTHORIZATION, bearer.map_err(|_| "--key: holds characters that no header may")?),
    ];
    if case == Case::Paced {
        // By header, for a proxy hands that on; the model's name is atp's to change.
        headers.push((HeaderName::from_static("x-mock-script"), HeaderValue::from_static(PACE)));
    }
    Ok(Plan {
        target: Target::new(&format!("http://127.0.0.1:{port}"), path, false)?,
        ask: (0..ROUTES).map(ask).collect(),
        headers,
        stream,
        load: Load::Closed { connections: case.connections() },
        duration: Some(times.measured),
        requests: None,
        warmup: times.warmup,
        timeout: TIMEOUT,
        in_flight_max: case.connections(),
        seed: 1,
        pids,
    })
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) warmup: Duration,
    pub(crate) measured: Duration,
}

pub(crate) async fn measure(
    round: usize,
    case: Case,
    proxy: Proxy,
    plan: &Plan,
) -> Result<Measurement, String> {
    let report = generate(plan).await?;
    let named = || format!("round {round}, {proxy:?}, {case:?}").to_lowercase();
    if report.failed > 0 {
        let kinds: Vec<String> =
            report.failures.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
        return Err(format!(
            "{}: {} of {} failed ({})",
            named(),
            report.failed,
            report.requests,
            kinds.join(", ")
        ));
    }
    let system: f64 = report.cpu.iter().map(|cpu| cpu.system_us).sum();
    let used: f64 = report.cpu.iter().map(|cpu| cpu.user_us + cpu.system_us).sum();
    let count = if case.is_streamed() { report.chunks } else { report.good };
    if count == 0 || used == 0.0 {
        return Err(format!("{}: nothing was measured; give more --seconds", named()));
    }
    Ok(Measurement {
        round,
        case,
        proxy,
        cpu_us: used / count as f64,
        system_share: system / used,
        good: report.good,
        good_per_s: report.good_per_s,
        chunks_per_s: report.chunks_per_s,
        chunks_per_read: report.chunks_per_read,
        latency_p50_us: report.latency_us.p50,
        latency_p99_us: report.latency_us.p99,
    })
}

/// 64 streams make 25 600 chunks a second of it: about a third of a core for nginx, so that a proxy of twice
/// its cost still keeps up and meets every chunk alone.
const PACE: &str = "token-rate-400";
/// A short question.
const PROMPT_BYTES: usize = 200;
/// Far beyond any answer of the mock: a timeout here is a proxy that hangs.
const TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::{MockConfig, serve_here};

    #[test]
    fn being_first_alternates() {
        let both = [Proxy::Nginx, Proxy::Atp];
        assert_eq!(order(0, &both), both);
        assert_eq!(order(1, &both), [Proxy::Atp, Proxy::Nginx]);
        assert_eq!(order(1, &[Proxy::Nginx]), [Proxy::Nginx]);
    }

    #[tokio::test]
    async fn a_measurement_with_a_failure_has_no_cost() {
        let mut config = MockConfig::default();
        config.script.apply("status-503--for-first-1").unwrap();
        let mock = serve_here(config).await.unwrap();
        let times = Times { warmup: Duration::ZERO, measured: Duration::from_millis(50) };
        let plan = plan(Case::Requests, mock.address().port(), "k", times, vec![std::process::id()]).unwrap();
        let why = measure(3, Case::Requests, Proxy::Atp, &plan).await.unwrap_err();
        assert!(why.starts_with("round 3, atp, requests") && why.contains("status 503"), "{why}");
        let sent = mock.requests();
        assert!(sent.iter().all(|seen| seen.header("authorization") == Some("Bearer k")));
        assert_ne!(sent[0].body, sent[1].body, "the routes take turns");
    }
}
