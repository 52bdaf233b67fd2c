//! What came of the requests: histograms and counts.
//!
//! What it is for: adding up one phase of a run. It never decides anything and never forgets a request: every
//! one is either good or failed by a named kind.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No connection.
    Connect,
    /// The connection ended before the head of the answer.
    Reset,
    /// Something came that is no HTTP.
    Malformed,
    /// A status other than 2xx.
    Status(u16),
    /// The deadline passed.
    Timeout,
    /// The body ended early, or a stream without its end mark.
    Cut,
    /// An error event in a stream.
    ErrorEvent,
    /// Due while the bound of requests in flight was reached, so never sent.
    Dropped,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Connect => "connect",
            Failure::Reset => "reset",
            Failure::Malformed => "malformed",
            Failure::Status(status) => return write!(f, "status {status}"),
            Failure::Timeout => "timeout",
            Failure::Cut => "cut",
            Failure::ErrorEvent => "error_event",
            Failure::Dropped => "dropped",
        })
    }
}

/// One request that was sent, at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// From the intended moment to the end.
    pub(crate) latency: Duration,
    /// From the intended moment to the actual sending: the generator's own lateness.
    pub(crate) lag: Duration,
    pub(crate) failure: Option<Failure>,
}

/// Sums of one phase.
pub(crate) struct Tally {
    pub(crate) good: u64,
    pub(crate) failures: BTreeMap<Failure, u64>,
    /// Of those that failed after they were sent: a refusal has a latency of its own.
    pub(crate) failed_ns: BTreeMap<Failure, Histogram<u64>>,
    pub(crate) chunks: u64,
    pub(crate) tokens: u64,
    /// Reads that completed at least one chunk.
    pub(crate) reads: u64,
    pub(crate) body_bytes: u64,
    pub(crate) connections: u64,
    pub(crate) in_flight: usize,
    pub(crate) in_flight_max: usize,
    /// Good requests, and those that ran into their deadline: leaving these out would flatter a slow server.
    pub(crate) latency_ns: Histogram<u64>,
    /// From the intended moment to the first chunk of a stream.
    pub(crate) first_token_ns: Histogram<u64>,
    /// Between chunks of a stream; those that arrive in one read count as 1 ns apart.
    pub(crate) between_chunks_ns: Histogram<u64>,
    pub(crate) lag_ns: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Tally {
            good: 0,
            failures: BTreeMap::new(),
            failed_ns: BTreeMap::new(),
            chunks: 0,
            tokens: 0,
            reads: 0,
            body_bytes: 0,
            connections: 0,
            in_flight: 0,
            in_flight_max: 0,
            latency_ns: histogram(),
            first_token_ns: histogram(),
            between_chunks_ns: histogram(),
            lag_ns: histogram(),
        }
    }

    pub(crate) fn on_sent(&mut self) {
        self.in_flight += 1;
        self.in_flight_max = self.in_flight_max.max(self.in_flight);
    }

    pub(crate) fn on_dropped(&mut self) {
        *self.failures.entry(Failure::Dropped).or_default() += 1;
    }

    pub(crate) fn on_end(&mut self, ended: &Ended) {
        self.in_flight -= 1;
        record(&mut self.lag_ns, ended.lag);
        match ended.failure {
            None => self.good += 1,
            Some(failure) => {
                *self.failures.entry(failure).or_default() += 1;
                record(self.failed_ns.entry(failure).or_insert_with(histogram), ended.latency);
            }
        }
        if matches!(ended.failure, None | Some(Failure::Timeout)) {
            record(&mut self.latency_ns, ended.latency);
        }
    }

    /// `chunks` arrived together, `gap` behind the chunk before them.
    pub(crate) fn on_chunks(&mut self, chunks: u64, gap: Duration) {
        record(&mut self.between_chunks_ns, gap);
        self.between_chunks_ns.saturating_record_n(1, chunks - 1);
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.good + self.failed()
    }
}

pub(crate) fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(time.as_nanos().clamp(1, u128::from(LONGEST_NS)) as u64);
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("1 ns to 1 h at 3 digits is a valid range")
}

/// An hour: above every deadline a run accepts.
const LONGEST_NS: u64 = 3_600_000_000_000;
/// Three significant digits: a value is at most 0.1 % off.
const DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(latency_ms: u64, failure: Option<Failure>) -> Ended {
        Ended { latency: Duration::from_millis(latency_ms), lag: Duration::from_micros(5), failure }
    }

    #[test]
    fn every_request_is_good_or_failed_by_name() {
        let mut tally = Tally::new();
        for failure in [None, Some(Failure::Cut), Some(Failure::Status(503)), Some(Failure::Cut)] {
            tally.on_sent();
            tally.on_end(&ended(1, failure));
        }
        tally.on_dropped();
        assert_eq!((tally.good, tally.failed(), tally.requests(), tally.in_flight), (1, 4, 5, 0));
        let named: Vec<_> = tally.failures.iter().map(|(kind, n)| (kind.to_string(), *n)).collect();
        assert_eq!(named, [("status 503".into(), 1), ("cut".into(), 2), ("dropped".into(), 1)]);
    }

    #[test]
    fn latency_holds_the_good_and_the_timed_out_and_no_fast_failure() {
        let mut tally = Tally::new();
        for (latency, failure) in
            [(10, None), (1, Some(Failure::Status(429))), (30_000, Some(Failure::Timeout))]
        {
            tally.on_sent();
            tally.on_end(&ended(latency, failure));
        }
        assert_eq!(tally.latency_ns.len(), 2);
        assert!(tally.latency_ns.min() >= 9_990_000 && tally.latency_ns.max() >= 30_000_000_000);
        let refused = &tally.failed_ns[&Failure::Status(429)];
        assert_eq!((refused.len(), tally.failed_ns.len()), (1, 2));
        assert!(refused.max() <= 1_001_000, "each kind has its own");
    }

    #[test]
    fn a_thousand_known_values_have_their_percentiles_within_a_permille() {
        let mut known = histogram();
        (1..=1000).for_each(|ms| record(&mut known, Duration::from_millis(ms)));
        for (quantile, ms) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (0.999, 999.0)] {
            let value = known.value_at_quantile(quantile) as f64 / 1e6;
            assert!((value / ms - 1.0).abs() <= 0.001, "p{quantile}: {value} ms");
        }
    }

    #[test]
    fn chunks_of_one_read_are_as_many_gaps_but_one_wait() {
        let mut tally = Tally::new();
        tally.on_chunks(3, Duration::from_millis(9));
        assert_eq!((tally.between_chunks_ns.len(), tally.between_chunks_ns.count_at(1)), (3, 2));
    }

    #[test]
    fn the_most_in_flight_is_remembered() {
        let mut tally = Tally::new();
        tally.on_sent();
        tally.on_sent();
        tally.on_end(&ended(1, None));
        tally.on_sent();
        assert_eq!((tally.in_flight, tally.in_flight_max), (2, 2));
    }
}
