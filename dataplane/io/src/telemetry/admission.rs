//! What waited, what was refused for windows and budgets, what limits were found: the page's part on
//! admission. Names without a prefix are those that existing dashboards query.

use std::collections::BTreeMap;

use dataplane_state::tally::{Counter, QueueTally, WorkerTally};
use prometheus::proto::MetricType;

use super::metrics::{LABELS_MAX, OTHER, Page, sum};
use crate::served::Served;
use crate::worker::Shared;

/// Of all workers.
pub fn of_requests(page: &mut Page, shared: &Shared, tallies: &[&WorkerTally]) {
    let mut count = |name: &'static str, what: &str, of: fn(&WorkerTally) -> &Counter| {
        page.counter(name, what, sum(tallies, of));
    };
    count("flow_window_adjustments_total", "Times the window of a run moved.", |tally| &tally.flow_moves);
    count("window_denied_calls_total", "Requests refused for a window's parallel calls.", |tally| {
        &tally.denied_calls
    });
    count("window_denied_tokens_total", "Requests refused for a window's or a budget's tokens.", |tally| {
        &tally.denied_tokens
    });
    count("window_denied_usd_total", "Requests refused for a window's or a budget's money.", |tally| {
        &tally.denied_usd
    });
    count(
        "router_estimate_under_rate_tokens_total",
        "Answers that took over a fifth more tokens than was estimated.",
        |tally| &tally.estimate_under_tokens,
    );
    count(
        "router_estimate_under_rate_usd_total",
        "Answers that cost over a fifth more than was estimated.",
        |tally| &tally.estimate_under_usd,
    );
    let what = "Error of estimates of tokens, as a part of what was predicted.";
    let permille = 1000.0;
    page.histogram(
        "adapter_estimate_mape_tokens",
        what,
        permille,
        tallies.iter().map(|tally| &tally.estimate_error_tokens),
    );
    let what = "Error of estimates of cost, as a part of what was predicted.";
    page.histogram(
        "adapter_estimate_mape_usd",
        what,
        permille,
        tallies.iter().map(|tally| &tally.estimate_error_usd),
    );
    let buffered: u64 = shared.ledgers.iter().map(|ledger| ledger.buffered_bytes()).sum();
    page.gauge("atp_buffered_bytes", "Bytes of bodies and answers held now.", buffered as f64);
    let most: u64 = shared.ledgers.iter().map(|ledger| ledger.bytes_max()).sum();
    page.gauge("atp_buffered_bytes_limit", "Bytes that may be held at once.", most as f64);
    let worst = shared.ledgers.iter().map(|ledger| ledger.level()).max().unwrap_or_default();
    page.gauge(
        "atp_pressure",
        "0 green, 1 yellow, 2 red: of the worker that is pressed hardest.",
        f64::from(worst as u8),
    );
    page.gauge("sessions_active", "Runs that are open.", shared.sessions.count() as f64);
}

/// Of all queues.
pub fn of_queues(page: &mut Page, served: &Served) {
    let queues: Vec<&QueueTally> = served.offers.iter().map(|cell| &cell.queue).collect();
    let mut count = |name: &'static str, what: &str, of: fn(&QueueTally) -> &Counter| {
        page.counter(name, what, queues.iter().map(|tally| of(tally).value()).sum());
    };
    count("fair_sched_enqueued_total", "Requests that waited for a permit.", |tally| &tally.enqueued);
    count("fair_sched_grants_total", "Requests that waited and got one.", |tally| &tally.granted);
    count("fair_sched_dropped_total", "Requests that waited and got none.", |tally| &tally.dropped);
    count("atp_queue_refused_total", "Requests that found no place in a queue.", |tally| &tally.refused);
    count("fair_sched_starvation_boost_total", "Grants to one that starved within its tenant.", |tally| {
        &tally.starved
    });
    count("preemptions_total", "Requests that gave their place to one in need.", |tally| &tally.preempted);
    count("queue_high_watermark_events_total", "Times a queue became too old.", |tally| {
        &tally.high_watermarks
    });
    let lost: usize = served.queues.iter().map(|queue| queue.notes_lost()).sum();
    page.counter("atp_queue_notes_lost_total", "Notes to queues that found no room.", lost as u64);
    let what = "Milliseconds of waiting, of those that got a permit.";
    page.histogram("fair_sched_wait_ms", what, 1.0, queues.iter().map(|tally| &tally.wait_ms));
    let mut depth = [0; 3];
    for tally in &queues {
        depth.iter_mut().zip(tally.depth()).for_each(|(sum, depth)| *sum += depth);
    }
    let [gold, silver, bronze] = depth.map(|depth| depth as f64);
    page.gauge("fair_q_depth_gold", "Gold requests that wait.", gold);
    page.gauge("fair_q_depth_silver", "Silver requests that wait.", silver);
    page.gauge("fair_q_depth_bronze", "Bronze requests that wait.", bronze);
    page.gauge("fair_sched_queue_depth", "Requests that wait.", gold + silver + bronze);
    page.gauge(
        "fair_sched_jains_index",
        "Fairness of tokens over tenants by weight (Jain 1984).",
        jain(served),
    );
    limits(page, served);
}

fn limits(page: &mut Page, served: &Served) {
    let name = "atp_upstream_tokens_in_flight";
    page.family(name, "Tokens reserved for requests an adapter is working on.", MetricType::GAUGE);
    for (row, cell) in served.table.adapters.iter().zip(&served.adapters).take(LABELS_MAX) {
        let tokens = cell.permits.tokens_in_flight() as f64;
        page.value(name, &[("adapter", row.name.as_str())], tokens);
    }
    let name = "atp_upstream_limit";
    page.family(name, "Requests a model may be working on, where that limit moves.", MetricType::GAUGE);
    for (at, (row, cell)) in served.table.offers.iter().zip(&served.offers).enumerate() {
        let adapter = served.table.adapter(row.adapter);
        if adapter.concurrency != proto_core::model::Concurrency::Fixed && at < LABELS_MAX {
            let labels = [("adapter", adapter.name.as_str()), ("model", row.model.as_str())];
            page.value(name, &labels, f64::from(cell.permits.limit()));
        }
    }
    let name = "atp_queue_depth";
    page.family(name, "Requests that wait for a model.", MetricType::GAUGE);
    let mut depths: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (at, (row, cell)) in served.table.offers.iter().zip(&served.offers).enumerate() {
        let key = match at {
            ..LABELS_MAX => (served.table.adapter(row.owner).name.as_str(), row.model.as_str()),
            _ => (OTHER, OTHER),
        };
        *depths.entry(key).or_default() += cell.queue.depth().iter().sum::<u64>();
    }
    for ((adapter, model), depth) in depths {
        page.value(name, &[("adapter", adapter), ("model", model)], depth as f64);
    }
}

/// Over tenants that were served anything, what they were served by their weight; 1 with fewer than two.
fn jain(served: &Served) -> f64 {
    let shares = served.table.tenants.iter().zip(&served.tenants).map(|(row, cell)| {
        let tokens: u64 =
            cell.tallies.iter().map(|tally| tally.input_tokens.value() + tally.output_tokens.value()).sum();
        tokens as f64 / f64::from(row.weight)
    });
    let shares: Vec<f64> = shares.filter(|share| *share > 0.0).collect();
    let (sum, squares) =
        shares.iter().fold((0.0, 0.0), |(sum, squares), share| (sum + share, squares + share * share));
    if shares.len() < 2 { 1.0 } else { sum * sum / (shares.len() as f64 * squares) }
}
