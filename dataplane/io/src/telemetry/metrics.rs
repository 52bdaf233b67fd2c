//! Prometheus exposition of all tallies, added up over workers when somebody asks. Labels come from the set
//! that is served and are bounded by `LABELS_MAX`; what is beyond goes under `other`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dataplane_state::tally::{Counter, Histogram, WorkerTally};
use prometheus::proto::{Bucket, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::{admission, sessions, tls};
use crate::clock;
use crate::served::Served;
use crate::trace::Traces;
use crate::worker::Shared;

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The whole page.
pub fn text(shared: &Shared) -> String {
    let mut page = Page::default();
    let tallies: Vec<&WorkerTally> = shared.tallies.iter().map(Arc::as_ref).collect();
    requests(&mut page, &tallies);
    path(&mut page, &tallies);
    admission::of_requests(&mut page, shared, &tallies);
    sessions::of_sessions(&mut page, shared, &tallies);
    process(&mut page, shared, &tallies);
    if let Some(side) = &shared.tls {
        tls::of_listeners(&mut page, side);
        tls::of_quic(&mut page, &shared.quic);
    }
    if let Some(traces) = &shared.traces {
        spans(&mut page, traces);
    }
    if let Some(served) = shared.tables.peek() {
        models(&mut page, &served);
        tenants(&mut page, &served);
        adapters(&mut page, &served);
        admission::of_queues(&mut page, &served);
    }
    page.encode()
}

fn requests(page: &mut Page, tallies: &[&WorkerTally]) {
    let mut answered: BTreeMap<(&str, String), u64> = BTreeMap::new();
    let (mut success, mut failed) = (0, 0);
    for (operation, hundreds, count) in tallies.iter().flat_map(|tally| tally.requests()) {
        let key = (operation.as_str(), format!("{hundreds}xx"));
        *answered.entry(key).or_default() += count;
        if hundreds < 4 { success += count } else { failed += count }
    }
    let name = "atp_requests_answered_total";
    page.family(name, "Answers by operation and class of status.", MetricType::COUNTER);
    for ((operation, status), count) in &answered {
        page.value(name, &[("operation", operation), ("status", status)], *count as f64);
    }
    let started = sum(tallies, |tally| &tally.requests_started);
    page.counter("requests_total", "Requests whose head arrived.", started);
    page.counter("requests_success_total", "Answers with a status below 400.", success);
    page.counter("requests_error_total", "Answers with a status of 400 or above.", failed);
    let cancelled = sum(tallies, |tally| &tally.cancelled);
    page.counter("requests_cancelled_total", "Answers whose client went away before their end.", cancelled);
    let name = "atp_errors_total";
    page.family(name, "Faults by code.", MetricType::COUNTER);
    let mut errors: BTreeMap<&str, u64> = BTreeMap::new();
    for (code, count) in tallies.iter().flat_map(|tally| tally.errors()) {
        *errors.entry(code).or_default() += count;
    }
    errors.iter().for_each(|(code, count)| page.value(name, &[("code", code)], *count as f64));
    let what = "Milliseconds from the arrival of a request to the end of its answer.";
    page.histogram("request_latency_ms", what, 1.0, tallies.iter().map(|tally| &tally.latency_ms));
    let what = "Milliseconds from the arrival of a request to the first byte of its answer.";
    page.histogram("atp_first_token_ms", what, 1.0, tallies.iter().map(|tally| &tally.first_token_ms));
    let what = "Microseconds from the arrival of a request to its dispatch: what this proxy adds before.";
    page.histogram("atp_overhead_us", what, 1.0, tallies.iter().map(|tally| &tally.overhead_us));
}

fn spans(page: &mut Page, traces: &Traces) {
    let mut count = |name: &'static str, what: &str, of: &Counter| page.counter(name, what, of.value());
    count("atp_spans_recorded_total", "Spans of requests that ended.", &traces.recorded);
    count("atp_spans_dropped_total", "Spans for which the queue had no room.", &traces.dropped);
    count("atp_spans_exported_total", "Spans that the receiver took.", &traces.exported);
    count(
        "atp_spans_failed_total",
        "Spans that the receiver refused or did not take in time.",
        &traces.failed,
    );
}

fn path(page: &mut Page, tallies: &[&WorkerTally]) {
    let mut count = |name: &'static str, what: &str, of: fn(&WorkerTally) -> &Counter| {
        page.counter(name, what, sum(tallies, of));
    };
    count("atp_attempts_total", "Calls to adapters.", |tally| &tally.attempts);
    count("atp_retries_total", "Attempts after another failed or was slow.", |tally| &tally.retries);
    count("atp_retries_denied_total", "Retries the budget did not allow.", |tally| &tally.retries_denied);
    count("atp_escalations_total", "Attempts beside a slow one.", |tally| &tally.escalations);
    count("atp_memory_calls_total", "Calls to the memory gateway.", |tally| &tally.memory_calls);
    count("atp_memory_failures_total", "Calls to the memory gateway without an answer of use.", |tally| {
        &tally.memory_failures
    });
    count(
        "atp_memory_refusals_total",
        "Calls to the memory gateway not made: too many under way.",
        |tally| &tally.memory_refusals,
    );
    count("atp_streams_broken_total", "Streams that ended with an error after their first byte.", |tally| {
        &tally.streams_broken
    });
    count("atp_clients_too_slow_total", "Streams cut because their client did not read.", |tally| {
        &tally.clients_too_slow
    });
    count("atp_connections_total", "Connections accepted.", |tally| &tally.connections_opened);
    count("atp_connections_refused_total", "Connections over the limit.", |tally| &tally.connections_refused);
    count(
        "atp_connections_cut_slow_total",
        "Connections cut at a deadline of reading or writing.",
        |tally| &tally.connections_cut_slow,
    );
    count("atp_panics_total", "Connections that ended in a bug of this program.", |tally| &tally.panics);
    count("atp_connections_cut_flood_total", "Connections cut for a flood of control frames.", |tally| {
        &tally.connections_cut_flood
    });
}

fn process(page: &mut Page, shared: &Shared, tallies: &[&WorkerTally]) {
    // The ends first: a connection that comes and goes in between must not count as fewer than none.
    let closed = sum(tallies, |tally| &tally.connections_closed);
    let open = sum(tallies, |tally| &tally.connections_opened).saturating_sub(closed);
    page.gauge("atp_connections_open", "Connections now.", open as f64);
    // Order: relaxed, numbers for people.
    let (taken, refused, fresh_at) = (
        shared.sets_taken.load(Ordering::Relaxed),
        shared.sets_refused.load(Ordering::Relaxed),
        shared.fresh_at.load(Ordering::Relaxed),
    );
    page.counter("atp_config_sets_taken_total", "Sets of resources put into service.", taken);
    page.counter("atp_config_sets_refused_total", "Sets of resources refused.", refused);
    // Order: relaxed, numbers for people.
    let (taken, refused) = (
        shared.adapter_files_taken.load(Ordering::Relaxed),
        shared.adapter_files_refused.load(Ordering::Relaxed),
    );
    page.counter("atp_adapter_files_taken_total", "Changed TLS files of adapters put into use.", taken);
    let what = "Changed TLS files of adapters that could not be used.";
    page.counter("atp_adapter_files_refused_total", what, refused);
    // Order: relaxed, numbers for people.
    let looks = shared.names.looks.load(Ordering::Relaxed);
    page.counter("atp_adapter_lookups_total", "Times the addresses of an adapter were looked for.", looks);
    // Order: relaxed, numbers for people.
    let failures = shared.names.failures.load(Ordering::Relaxed);
    page.counter("atp_adapter_lookup_failures_total", "Those without an answer.", failures);
    if fresh_at > 0 {
        // Order: relaxed, a state for people.
        let is_newest = shared.source_ok.load(Ordering::Relaxed);
        let age = if is_newest { 0 } else { clock::unix_seconds().saturating_sub(fresh_at) };
        let what = "Seconds since what is served was last known to be the newest.";
        page.gauge("config_age_seconds", what, age as f64);
    }
    page.gauge("atp_ready", "1 while traffic may be sent here.", f64::from(u8::from(shared.is_ready())));
    let name = "atp_router_service_version_info";
    page.family(name, "The program's version.", MetricType::GAUGE);
    page.value(name, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
}

fn models(page: &mut Page, served: &Served) {
    type Column = (&'static str, &'static str, fn(&dataplane_state::tally::OfferTally) -> &Counter);
    const COLUMNS: [Column; 6] = [
        ("atp_model_requests_total", "Attempts by model.", |tally| &tally.requests),
        ("atp_model_failures_total", "Attempts that failed for the upstream's sake.", |tally| {
            &tally.failures
        }),
        ("atp_model_cancelled_total", "Attempts cancelled from this side.", |tally| &tally.cancelled),
        ("atp_model_input_tokens_total", "Prompt tokens.", |tally| &tally.input_tokens),
        ("atp_model_output_tokens_total", "Answer tokens.", |tally| &tally.output_tokens),
        ("atp_model_output_tokens_estimated_total", "Answer tokens counted here.", |tally| {
            &tally.estimated_output_tokens
        }),
    ];
    let rows: Vec<_> = served.table.offers.iter().zip(&served.offers).collect();
    let named = |at: usize, offer: &dataplane_core::table::OfferRow| match at {
        ..LABELS_MAX => (served.table.adapter(offer.owner).name.to_string(), offer.model.to_string()),
        _ => (OTHER.into(), OTHER.into()),
    };
    let mut column =
        |name: &'static str, what: &str, value: &dyn Fn(&dataplane_state::tally::OfferTally) -> u64| {
            page.family(name, what, MetricType::COUNTER);
            let mut values: BTreeMap<(String, String), u64> = BTreeMap::new();
            for (at, (offer, cell)) in rows.iter().enumerate() {
                *values.entry(named(at, offer)).or_default() +=
                    cell.tallies.iter().map(|tally| value(tally)).sum::<u64>();
            }
            for ((adapter, model), count) in &values {
                page.value(name, &[("adapter", adapter), ("model", model)], *count as f64);
            }
            values.values().sum::<u64>()
        };
    let mut totals = [0; COLUMNS.len()];
    for (total, (name, what, of)) in totals.iter_mut().zip(COLUMNS) {
        *total = column(name, what, &|tally| of(tally).value());
    }
    column("atp_model_cost_usd_micros_total", "Cost in millionths of a dollar, rounded down.", &|tally| {
        tally.cost_picodollars.value() / 1_000_000
    });
    column("atp_model_wasted_usd_micros_total", "Of the cost, what bought no answer.", &|tally| {
        tally.wasted_picodollars.value() / 1_000_000
    });
    let what = "Cost in 1e-12 dollars: nothing is rounded.";
    column("atp_model_cost_picodollars_total", what, &|tally| tally.cost_picodollars.value());
    let what = "Of the cost, what bought no answer, in 1e-12 dollars.";
    column("atp_model_wasted_picodollars_total", what, &|tally| tally.wasted_picodollars.value());
    page.counter("tokens_input_total", "Prompt tokens of all models.", totals[3]);
    page.counter("tokens_output_total", "Answer tokens of all models.", totals[4]);
    page.counter("atp_router_total_calls", "Attempts of all models.", totals[0]);
}

fn tenants(page: &mut Page, served: &Served) {
    type Column = (&'static str, &'static str, fn(&dataplane_state::tally::TenantTally) -> u64);
    const COLUMNS: [Column; 5] = [
        ("atp_tenant_requests_total", "Answers by tenant.", |tally| tally.requests.value()),
        ("atp_tenant_input_tokens_total", "Prompt tokens by tenant.", |tally| tally.input_tokens.value()),
        ("atp_tenant_output_tokens_total", "Answer tokens by tenant.", |tally| tally.output_tokens.value()),
        ("atp_tenant_cost_usd_micros_total", "What each tenant pays, in millionths of a dollar.", |tally| {
            tally.cost_picodollars.value() / 1_000_000
        }),
        ("atp_tenant_cost_picodollars_total", "What each tenant pays, in 1e-12 dollars.", |tally| {
            tally.cost_picodollars.value()
        }),
    ];
    for (name, what, of) in COLUMNS {
        page.family(name, what, MetricType::COUNTER);
        let mut values: BTreeMap<&str, u64> = BTreeMap::new();
        for (at, (tenant, cell)) in served.table.tenants.iter().zip(&served.tenants).enumerate() {
            let label = if at < LABELS_MAX { tenant.name.as_str() } else { OTHER };
            *values.entry(label).or_default() += cell.tallies.iter().map(|tally| of(tally)).sum::<u64>();
        }
        values.iter().for_each(|(tenant, count)| page.value(name, &[("tenant", tenant)], *count as f64));
    }
}

fn adapters(page: &mut Page, served: &Served) {
    let count = served.table.adapters.len();
    page.gauge("adapters_registered", "Adapters in the set that is served.", count as f64);
    page.gauge("model_registry_size", "Models in the set that is served.", served.table.offers.len() as f64);
    let tripped = served.adapters.iter().filter(|cell| cell.breaker.now().as_str() != "passing").count();
    page.gauge("circuits_open", "Adapters whose breaker is tripped or probing.", tripped as f64);
    let name = "atp_upstream_in_flight";
    page.family(name, "Requests an adapter is working on.", MetricType::GAUGE);
    for (row, cell) in served.table.adapters.iter().zip(&served.adapters).take(LABELS_MAX) {
        page.value(name, &[("adapter", row.name.as_str())], f64::from(cell.permits.in_flight()));
    }
    let name = "atp_upstream_addresses";
    page.family(name, "Addresses an adapter is reached at.", MetricType::GAUGE);
    for upstream in served.upstreams.iter().take(LABELS_MAX) {
        if let Some(count) = upstream.addresses() {
            page.value(name, &[("adapter", upstream.name.as_str())], count as f64);
        }
    }
    page.gauge("atp_config_generation", "Number of the set that is served.", served.number as f64);
}

pub fn sum(tallies: &[&WorkerTally], of: fn(&WorkerTally) -> &Counter) -> u64 {
    tallies.iter().map(|tally| of(tally).value()).sum()
}

/// Families in the order they were begun.
#[derive(Default)]
pub struct Page(Vec<MetricFamily>);

impl Page {
    pub fn family(&mut self, name: &str, what: &str, kind: MetricType) {
        let mut family = MetricFamily::default();
        family.set_name(name.into());
        family.set_help(what.into());
        family.set_field_type(kind);
        self.0.push(family);
    }

    fn last(&mut self, name: &str) -> &mut MetricFamily {
        let family = self.0.last_mut().expect("a family is begun before its values");
        debug_assert_eq!(family.name(), name);
        family
    }

    pub fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut metric = Metric::default();
        metric.set_label(labels.iter().map(|(name, value)| label(name, value)).collect());
        let family = self.last(name);
        if family.get_field_type() == MetricType::COUNTER {
            let mut counter = prometheus::proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = prometheus::proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        family.mut_metric().push(metric);
    }

    pub fn counter(&mut self, name: &'static str, what: &str, value: u64) {
        self.family(name, what, MetricType::COUNTER);
        self.value(name, &[], value as f64);
    }

    pub fn gauge(&mut self, name: &'static str, what: &str, value: f64) {
        self.family(name, what, MetricType::GAUGE);
        self.value(name, &[], value);
    }

    /// Of several with the same bounds, added up; bounds and sum are shown divided by `scale`.
    pub fn histogram<'h>(
        &mut self,
        name: &'static str,
        what: &str,
        scale: f64,
        all: impl Iterator<Item = &'h Histogram>,
    ) {
        self.family(name, what, MetricType::HISTOGRAM);
        let all: Vec<&Histogram> = all.collect();
        let Some(first) = all.first() else { return };
        let bounds = first.bounds();
        let mut counts = vec![0; bounds.len() + 1];
        for one in &all {
            counts.iter_mut().zip(one.counts()).for_each(|(sum, count)| *sum += count);
        }
        let mut histogram = prometheus::proto::Histogram::default();
        let mut below = 0;
        let buckets = bounds.iter().zip(&counts).map(|(bound, count)| {
            below += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound as f64 / scale);
            bucket.set_cumulative_count(below);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(all.iter().map(|one| one.sum()).sum::<u64>() as f64 / scale);
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.last(name).mut_metric().push(metric);
    }

    fn encode(self) -> String {
        let mut text = Vec::new();
        // A family without a value says nothing, and the encoder refuses it.
        let families: Vec<_> = self.0.into_iter().filter(|family| !family.get_metric().is_empty()).collect();
        if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
            tracing::error!(%error, "metrics could not be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.into());
    pair.set_value(value.into());
    pair
}

/// Values of one label; a set may have more models than a database of metrics can bear.
pub const LABELS_MAX: usize = 1000;
pub const OTHER: &str = "other";
