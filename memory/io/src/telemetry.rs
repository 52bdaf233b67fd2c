//! What is counted, and its exposition. Recording takes no part in any answer. No label names a tenant: the
//! page is read without a key.

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::store::account::Account;

/// Counters and gauges of one gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    pub duration: Histogram,
    pub unauthenticated: IntCounter,
    pub throttled: IntCounter,
    pub anomalies: IntCounter,
    pub redactions: IntCounter,
    pub expired: IntCounter,
    pub failed: IntCounter,
    pub index_failures: IntCounter,
    pub index_rebuilds: IntCounter,
    /// By what went wrong.
    pub store_errors: IntCounterVec,
    pub store_conflicts: IntCounter,
    pub connections: IntGauge,
    pub connections_cut: IntCounter,
    tenants: IntGauge,
    items: IntGauge,
    bytes: IntGauge,
}

impl Metrics {
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let opts = Opts::new("atp_memory_requests_total", "Answers by call and status.");
        let requests = IntCounterVec::new(opts, &["call", "status"])?;
        registry.register(Box::new(requests.clone()))?;
        let help = "Seconds from a request's head to its answer.";
        let opts = HistogramOpts::new("atp_memory_request_duration_seconds", help).buckets(BUCKETS.to_vec());
        let duration = Histogram::with_opts(opts)?;
        registry.register(Box::new(duration.clone()))?;
        let opts = Opts::new("atp_memory_store_errors_total", "Calls to Redis that failed, by how.");
        let store_errors = IntCounterVec::new(opts, &["kind"])?;
        registry.register(Box::new(store_errors.clone()))?;
        Ok(Metrics {
            requests,
            store_errors,
            duration,
            unauthenticated: counter("atp_memory_unauthenticated_total", "Calls refused for who they are.")?,
            throttled: counter("memory_quota_throttles_total", "Writes refused for their tenant's quota.")?,
            anomalies: counter(
                "memory_access_anomalies_total",
                "Minutes in which a tenant looked into unusually many namespaces.",
            )?,
            redactions: counter("redactions_total", "Pieces of personal data and secrets replaced.")?,
            expired: counter("atp_memory_expired_total", "Items removed by sweeps after they expired.")?,
            failed: counter(
                "atp_memory_writes_failed_total",
                "Changes and audit events whose transaction failed.",
            )?,
            index_failures: counter(
                "atp_memory_index_failures_total",
                "Times the search index failed and was read again.",
            )?,
            index_rebuilds: counter(
                "atp_memory_index_rebuilds_total",
                "Times the search index was made anew, its first making included.",
            )?,
            store_conflicts: counter(
                "atp_memory_store_conflicts_total",
                "Changes that were decided anew because another gateway changed the same tenant.",
            )?,
            connections: gauge("atp_memory_connections", "Connections open now.")?,
            connections_cut: counter(
                "atp_memory_connections_cut_total",
                "Connections ended because the client sent or read nothing in time.",
            )?,
            tenants: gauge("atp_memory_tenants", "Tenants that ever stored or asked for something.")?,
            items: gauge(
                "atp_memory_items",
                "Items stored, those that expired since the last sweep included.",
            )?,
            bytes: gauge("atp_memory_bytes", "Bytes of quota that is used, over all tenants.")?,
            registry,
        })
    }

    pub fn answered(&self, call: &str, status: u16) {
        self.requests.with_label_values(&[call, &status.to_string()]).inc();
    }

    /// What the store holds now.
    pub fn sum(&self, accounts: &[(String, Account)]) {
        let sum = |of: fn(&Account) -> u64| {
            let sum = accounts.iter().fold(0_u64, |sum, (_, account)| sum.saturating_add(of(account)));
            i64::try_from(sum).unwrap_or(i64::MAX)
        };
        self.tenants.set(sum(|_| 1));
        self.items.set(sum(|account| account.usage.items));
        self.bytes.set(sum(|account| account.usage.bytes));
    }

    /// Prometheus' text exposition.
    pub fn exposition(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// From a read out of memory to a slow disk's commit.
const BUCKETS: [f64; 8] = [0.000_5, 0.001, 0.002_5, 0.01, 0.025, 0.1, 0.5, 2.5];
