//! The result of a run, for people and for programs.
//!
//! What it is for: one JSON document and one table with the same numbers. It never rounds in the JSON and
//! never leaves out a failure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::plan::{Load, Plan};
use super::process::CpuTime;
use super::tally::Tally;

/// Everything measured in the measured phase.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub load: String,
    pub stream: bool,
    pub seed: u64,
    /// From the first request due to the end of the last.
    pub elapsed_s: f64,
    /// Good and failed ones, dropped arrivals included.
    pub requests: u64,
    pub good: u64,
    pub failed: u64,
    /// Failures by kind.
    pub failures: BTreeMap<String, u64>,
    /// From the intended moment to the end, by kind of failure; dropped arrivals have none.
    pub failure_latency_us: BTreeMap<String, Spread>,
    pub good_per_s: f64,
    /// `data:` events of streams, the end mark not counted.
    pub chunks: u64,
    pub chunks_per_s: f64,
    /// Chunks that arrived in one read, on average; 0 without streams.
    pub chunks_per_read: f64,
    /// Chunks that carried text or arguments.
    pub tokens: u64,
    pub tokens_per_s: f64,
    pub body_bytes: u64,
    pub connections_opened: u64,
    pub in_flight_max: u64,
    /// From the intended moment to the end; good requests and timed-out ones.
    pub latency_us: Spread,
    /// From the intended moment to the first chunk.
    pub first_token_us: Spread,
    pub between_chunks_us: Spread,
    /// From the intended to the actual sending: above a few hundred the generator itself is too slow for this
    /// rate.
    pub send_lag_us: Spread,
    pub cpu: Vec<Cpu>,
}

/// A histogram in microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Spread {
    pub count: u64,
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// CPU time of one process in the measured phase.
#[derive(Clone, Debug, Serialize)]
pub struct Cpu {
    pub pid: u32,
    pub user_us: f64,
    pub system_us: f64,
    /// Per good request; `None` without any.
    pub us_per_request: Option<f64>,
    /// Per chunk; `None` without any.
    pub us_per_chunk: Option<f64>,
}

impl Report {
    pub(crate) fn new(
        plan: &Plan,
        tally: &Tally,
        elapsed: Duration,
        cpu: impl Iterator<Item = (u32, CpuTime)>,
    ) -> Self {
        let elapsed_s = elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let per = |used: CpuTime, count: u64| (count > 0).then(|| used.total_us() / count as f64);
        Report {
            load: match plan.load {
                Load::Open { rate, arrivals } => {
                    format!("open loop, {rate} arrivals/s, {arrivals:?}").to_lowercase()
                }
                Load::Closed { connections } => format!("closed loop, {connections} connections"),
            },
            stream: plan.stream,
            seed: plan.seed,
            elapsed_s,
            requests: tally.requests(),
            good: tally.good,
            failed: tally.failed(),
            failures: tally.failures.iter().map(|(failure, count)| (failure.to_string(), *count)).collect(),
            failure_latency_us: tally
                .failed_ns
                .iter()
                .map(|(failure, latency)| (failure.to_string(), Spread::of(latency)))
                .collect(),
            good_per_s: tally.good as f64 / elapsed_s,
            chunks: tally.chunks,
            chunks_per_s: tally.chunks as f64 / elapsed_s,
            chunks_per_read: tally.chunks as f64 / tally.reads.max(1) as f64,
            tokens: tally.tokens,
            tokens_per_s: tally.tokens as f64 / elapsed_s,
            body_bytes: tally.body_bytes,
            connections_opened: tally.connections,
            in_flight_max: tally.in_flight_max as u64,
            latency_us: Spread::of(&tally.latency_ns),
            first_token_us: Spread::of(&tally.first_token_ns),
            between_chunks_us: Spread::of(&tally.between_chunks_ns),
            send_lag_us: Spread::of(&tally.lag_ns),
            cpu: cpu
                .map(|(pid, used)| Cpu {
                    pid,
                    user_us: used.user.as_secs_f64() * 1e6,
                    system_us: used.system.as_secs_f64() * 1e6,
                    us_per_request: per(used, tally.good),
                    us_per_chunk: per(used, tally.chunks),
                })
                .collect(),
        }
    }
}

impl Spread {
    fn of(histogram: &Histogram<u64>) -> Spread {
        if histogram.is_empty() {
            return Spread::default();
        }
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Spread {
            count: histogram.len(),
            min: histogram.min() as f64 / 1e3,
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.stream { "streams" } else { "whole answers" };
        writeln!(f, "{}, {kind}, seed {}, {:.2} s", self.load, self.seed, self.elapsed_s)?;
        writeln!(
            f,
            "requests {} · good {} ({:.1}/s) · failed {}",
            self.requests, self.good, self.good_per_s, self.failed
        )?;
        for (failure, count) in &self.failures {
            writeln!(f, "  failed: {failure:<24}{count:>10}")?;
        }
        if self.stream {
            write!(
                f,
                "chunks {} ({:.0}/s, {:.2}/read) · ",
                self.chunks, self.chunks_per_s, self.chunks_per_read
            )?;
            writeln!(f, "tokens {} ({:.0}/s)", self.tokens, self.tokens_per_s)?;
        }
        write!(f, "in flight at most {} · ", self.in_flight_max)?;
        writeln!(f, "connections opened {} · {} body bytes", self.connections_opened, self.body_bytes)?;
        let columns = ["p50", "p90", "p99", "p99.9", "max", "mean"];
        write!(f, "{:<20}", "microseconds")?;
        columns.iter().try_for_each(|column| write!(f, "{column:>12}"))?;
        writeln!(f)?;
        let failed = self.failure_latency_us.iter().map(|(failure, spread)| (failure.as_str(), spread));
        let spreads = [
            ("latency", &self.latency_us),
            ("first token", &self.first_token_us),
            ("between chunks", &self.between_chunks_us),
            ("send lag", &self.send_lag_us),
        ];
        for (name, spread) in spreads.into_iter().chain(failed).filter(|(_, spread)| spread.count > 0) {
            write!(f, "{name:<20}")?;
            let values = [spread.p50, spread.p90, spread.p99, spread.p999, spread.max, spread.mean];
            values.iter().try_for_each(|value| write!(f, "{value:>12.1}"))?;
            writeln!(f)?;
        }
        for cpu in &self.cpu {
            write!(f, "cpu of {}: user {:.0} µs, system {:.0} µs", cpu.pid, cpu.user_us, cpu.system_us)?;
            if let Some(each) = cpu.us_per_request {
                write!(f, " · {each:.2} µs/request")?;
            }
            if let Some(each) = cpu.us_per_chunk {
                write!(f, " · {each:.3} µs/chunk")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
