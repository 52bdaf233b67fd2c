//! Counts, one set a worker, added up only when somebody asks. Recording is one add on memory no other worker
//! writes.

use std::sync::atomic::{AtomicU64, Ordering};

use dataplane_core::admit::estimate::ERROR_PERMILLE_BOUNDS;
use dataplane_core::fault::{CODES, Fault};

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, more: u64) {
        // Order: relaxed. A count for people; nothing is read because of it.
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The same, which stays at the end of its range: money of mistaken prices must not begin anew.
    pub fn add_saturating(&self, more: u64) {
        // Order: relaxed, see `add`. One worker writes.
        let sum = self.0.load(Ordering::Relaxed).saturating_add(more);
        // Order: relaxed, see `add`.
        self.0.store(sum, Ordering::Relaxed);
    }

    pub fn one(&self) {
        self.add(1);
    }

    pub fn value(&self) -> u64 {
        // Order: relaxed, see `add`.
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts by bucket; `BOUNDS` are upper bounds, inclusive, the last bucket is open.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    counts: Box<[Counter]>,
    sum: Counter,
}

impl Histogram {
    pub fn new(bounds: &'static [u64]) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| Counter::default()).collect();
        Histogram { bounds, counts, sum: Counter::default() }
    }

    pub fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].one();
        self.sum.add(value);
    }

    pub fn bounds(&self) -> &'static [u64] {
        self.bounds
    }

    /// Not cumulative, in the order of `bounds`, the open bucket last.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().map(Counter::value)
    }

    pub fn sum(&self) -> u64 {
        self.sum.value()
    }
}

/// What a request asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Chat,
    Completions,
    Embeddings,
    Models,
    Ask,
    /// An ATP session.
    Session,
    /// A message of MCP, or a call of a tool over WebSocket.
    Mcp,
    /// Health, metrics and what does not exist.
    Other,
}

impl Operation {
    pub const ALL: [Operation; 8] = [
        Operation::Chat,
        Operation::Completions,
        Operation::Embeddings,
        Operation::Models,
        Operation::Ask,
        Operation::Session,
        Operation::Mcp,
        Operation::Other,
    ];

    /// The GenAI convention's `gen_ai.operation.name` where there is one.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Chat => "chat",
            Operation::Completions => "text_completion",
            Operation::Embeddings => "embeddings",
            Operation::Models => "models",
            Operation::Ask => "ask",
            Operation::Session => "session",
            Operation::Mcp => "mcp",
            Operation::Other => "other",
        }
    }
}

/// What one worker saw.
#[derive(Debug)]
pub struct WorkerTally {
    pub connections_opened: Counter,
    pub sessions_opened: Counter,
    pub sessions_closed: Counter,
    pub sessions_refused: Counter,
    pub sessions_suspended: Counter,
    pub sessions_resumed: Counter,
    pub frames_sent: Counter,
    pub frames_received: Counter,
    pub frames_ignored: Counter,
    /// Begun, and no room for the rest.
    pub frames_without_room: Counter,
    pub agent_statuses: Counter,
    pub ecn_marks: Counter,
    pub ecn_reactions: Counter,
    /// Connections and streams of MCP that live: WebSockets with tools, streams of changes.
    pub mcp_opened: Counter,
    pub mcp_closed: Counter,
    /// Pieces of answers told to callers of tools.
    pub mcp_partials: Counter,
    pub mcp_heartbeats: Counter,
    pub connections_closed: Counter,
    /// Refused at accept: over the limit of connections.
    pub connections_refused: Counter,
    /// Ended for what the client did: no header in time, a stalled write, a flood of control frames.
    pub connections_cut_slow: Counter,
    pub connections_cut_flood: Counter,
    /// Connections that ended in a bug of ours; not tasks beside them (HTTP/2 streams, pumps, asks).
    pub panics: Counter,
    pub requests_started: Counter,
    /// By operation and hundreds of the status, 1 to 5.
    requests: [[Counter; 5]; Operation::ALL.len()],
    errors: Box<[Counter]>,
    pub cancelled: Counter,
    pub attempts: Counter,
    pub retries: Counter,
    pub retries_denied: Counter,
    pub escalations: Counter,
    /// Calls to the memory gateway, and those of them that got no answer that could be used.
    pub memory_calls: Counter,
    pub memory_failures: Counter,
    /// Those that were not made, as too many are waited for.
    pub memory_refusals: Counter,
    pub streams_broken: Counter,
    pub clients_too_slow: Counter,
    /// Milliseconds from the arrival of a request to the end of its answer.
    pub latency_ms: Histogram,
    /// Milliseconds from the arrival of a request to the first byte of its answer.
    pub first_token_ms: Histogram,
    /// Times the window of a run moved.
    pub flow_moves: Counter,
    /// Refused for a window or a budget, by what was short.
    pub denied_calls: Counter,
    pub denied_tokens: Counter,
    pub denied_usd: Counter,
    /// How far estimates were off, thousandths of what was predicted.
    pub estimate_error_tokens: Histogram,
    pub estimate_error_usd: Histogram,
    /// Answers that took more than a fifth above what was predicted.
    pub estimate_under_tokens: Counter,
    pub estimate_under_usd: Counter,
    /// Microseconds from the arrival of a request to its dispatch.
    pub overhead_us: Histogram,
}

impl Default for WorkerTally {
    fn default() -> WorkerTally {
        WorkerTally {
            connections_opened: Counter::default(),
            sessions_opened: Counter::default(),
            sessions_closed: Counter::default(),
            sessions_refused: Counter::default(),
            sessions_suspended: Counter::default(),
            sessions_resumed: Counter::default(),
            frames_sent: Counter::default(),
            frames_received: Counter::default(),
            frames_ignored: Counter::default(),
            frames_without_room: Counter::default(),
            agent_statuses: Counter::default(),
            ecn_marks: Counter::default(),
            ecn_reactions: Counter::default(),
            mcp_opened: Counter::default(),
            mcp_closed: Counter::default(),
            mcp_partials: Counter::default(),
            mcp_heartbeats: Counter::default(),
            connections_closed: Counter::default(),
            connections_refused: Counter::default(),
            connections_cut_slow: Counter::default(),
            connections_cut_flood: Counter::default(),
            panics: Counter::default(),
            requests_started: Counter::default(),
            requests: Default::default(),
            errors: CODES.iter().map(|_| Counter::default()).collect(),
            cancelled: Counter::default(),
            attempts: Counter::default(),
            retries: Counter::default(),
            retries_denied: Counter::default(),
            escalations: Counter::default(),
            memory_calls: Counter::default(),
            memory_failures: Counter::default(),
            memory_refusals: Counter::default(),
            streams_broken: Counter::default(),
            clients_too_slow: Counter::default(),
            latency_ms: Histogram::new(LATENCY_MS),
            first_token_ms: Histogram::new(FIRST_TOKEN_MS),
            flow_moves: Counter::default(),
            denied_calls: Counter::default(),
            denied_tokens: Counter::default(),
            denied_usd: Counter::default(),
            estimate_error_tokens: Histogram::new(ERROR_PERMILLE_BOUNDS),
            estimate_error_usd: Histogram::new(ERROR_PERMILLE_BOUNDS),
            estimate_under_tokens: Counter::default(),
            estimate_under_usd: Counter::default(),
            overhead_us: Histogram::new(OVERHEAD_US),
        }
    }
}

impl WorkerTally {
    pub fn answered(&self, operation: Operation, status: u16) {
        let hundreds = usize::from(status / 100).clamp(1, 5) - 1;
        self.requests[operation as usize][hundreds].one();
    }

    pub fn error(&self, fault: Fault) {
        self.errors[fault.code_index()].one();
    }

    /// `(operation, hundreds of the status, count)`.
    pub fn requests(&self) -> impl Iterator<Item = (Operation, usize, u64)> {
        Operation::ALL.into_iter().flat_map(|operation| {
            let row = self.requests[operation as usize].iter().enumerate();
            row.map(move |(at, count)| (operation, at + 1, count.value()))
        })
    }

    /// `(code, count)`.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CODES.iter().copied().zip(self.errors.iter().map(Counter::value))
    }
}

/// What one worker used of one model.
#[derive(Debug, Default)]
pub struct OfferTally {
    pub requests: Counter,
    pub failures: Counter,
    pub cancelled: Counter,
    pub input_tokens: Counter,
    pub cached_input_tokens: Counter,
    pub output_tokens: Counter,
    /// Of `output_tokens`, those counted here because the upstream did not say.
    pub estimated_output_tokens: Counter,
    pub cost_picodollars: Counter,
    /// Of `cost_picodollars`, what bought no answer: lost races and failed attempts.
    pub wasted_picodollars: Counter,
}

/// What happened in the queue of one model. One task writes it.
#[derive(Debug)]
pub struct QueueTally {
    pub enqueued: Counter,
    /// Left it with a permit.
    pub granted: Counter,
    /// Left it without: gave up, too late, too old.
    pub dropped: Counter,
    /// Had no place in it.
    pub refused: Counter,
    /// Gave their place to one in need.
    pub preempted: Counter,
    /// Of grants to one that starved within its tenant.
    pub starved: Counter,
    /// The queue was too old three times in a row.
    pub high_watermarks: Counter,
    /// Milliseconds of those granted.
    pub wait_ms: Histogram,
    /// Waiting now: gold, silver, bronze.
    depth: [AtomicU64; 3],
}

impl Default for QueueTally {
    fn default() -> QueueTally {
        QueueTally {
            enqueued: Counter::default(),
            granted: Counter::default(),
            dropped: Counter::default(),
            refused: Counter::default(),
            preempted: Counter::default(),
            starved: Counter::default(),
            high_watermarks: Counter::default(),
            wait_ms: Histogram::new(QUEUE_WAIT_MS),
            depth: Default::default(),
        }
    }
}

impl QueueTally {
    /// Gold, silver, bronze.
    pub fn set_depth(&self, depth: [u32; 3]) {
        for (word, depth) in self.depth.iter().zip(depth) {
            // Order: relaxed, a number for people.
            word.store(u64::from(depth), Ordering::Relaxed);
        }
    }

    pub fn depth(&self) -> [u64; 3] {
        // Order: relaxed, see above.
        [0, 1, 2].map(|at: usize| self.depth[at].load(Ordering::Relaxed))
    }
}

/// What one worker did for one tenant.
#[derive(Debug, Default)]
pub struct TenantTally {
    /// Attempts begun and ended: what lies between is under way.
    pub begun: Counter,
    pub ended: Counter,
    pub requests: Counter,
    pub input_tokens: Counter,
    pub output_tokens: Counter,
    pub cost_picodollars: Counter,
}

impl TenantTally {
    /// Attempts begun and not ended.
    pub fn under_way(&self) -> u64 {
        // The ends first: one that comes and goes in between must not count as fewer than none.
        let ended = self.ended.value();
        self.begun.value().saturating_sub(ended)
    }
}

/// The buckets dashboards of existing deployments query.
const LATENCY_MS: &[u64] = &[50, 100, 200, 400, 800, 1200, 2000, 5000, 10_000, 30_000, 60_000, 120_000];
/// The convention's 0.01 · 2ⁿ seconds.
const FIRST_TOKEN_MS: &[u64] =
    &[10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_240, 20_480, 40_960, 81_920];
/// Those existing dashboards query.
const QUEUE_WAIT_MS: &[u64] = &[1, 5, 10, 25, 50, 100, 250, 500, 1000];
/// From a fast parse to a body that trickles in.
const OVERHEAD_US: &[u64] = &[10, 25, 50, 100, 250, 500, 1000, 2500, 10_000, 100_000];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_counts_below_it_and_one_above_the_last_in_the_open_bucket() {
        let histogram = Histogram::new(&[10, 20]);
        for value in [10, 11, 20, 21] {
            histogram.record(value);
        }
        assert_eq!(histogram.counts().collect::<Vec<_>>(), [1, 2, 1]);
        assert_eq!(histogram.sum(), 62);
    }

    #[test]
    fn an_answer_counts_under_its_operation_and_class() {
        let tally = WorkerTally::default();
        tally.answered(Operation::Ask, 429);
        let counted: Vec<_> = tally.requests().filter(|(_, _, count)| *count > 0).collect();
        assert_eq!(counted, [(Operation::Ask, 4, 1)]);
    }
}
