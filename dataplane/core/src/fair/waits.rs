//! How long requests waited of late, and from which wait on one counts as starved.

use std::time::Duration;

pub(super) struct Waits {
    /// The last waits in the order they came, in nanoseconds.
    ring: [u64; KEPT],
    /// The same, sorted.
    sorted: [u64; KEPT],
    len: usize,
    next: usize,
}

impl Waits {
    pub fn new() -> Waits {
        Waits { ring: [0; KEPT], sorted: [0; KEPT], len: 0, next: 0 }
    }

    pub fn push(&mut self, wait: Duration) {
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        if self.len == KEPT {
            let old = self.sorted.partition_point(|kept| *kept < self.ring[self.next]);
            self.sorted.copy_within(old + 1.., old);
            self.len -= 1;
        }
        let at = self.sorted[..self.len].partition_point(|kept| *kept < wait);
        self.sorted.copy_within(at..self.len, at + 1);
        self.sorted[at] = wait;
        self.len += 1;
        self.ring[self.next] = wait;
        self.next = (self.next + 1) % KEPT;
    }

    /// Who waits longer than this goes first among its tenant's requests.
    pub fn starved(&self) -> Duration {
        if self.len == 0 {
            return STARVED_AT_FIRST;
        }
        let at = (self.len * QUANTILE_PERMILLE / 1000).min(self.len - 1);
        Duration::from_nanos(self.sorted[at]).max(STARVED_MIN)
    }
}

/// Enough for a 95th percentile of five, few enough to follow a change within seconds.
const KEPT: usize = 100;
const QUANTILE_PERMILLE: usize = 950;
/// Without any history.
const STARVED_AT_FIRST: Duration = Duration::from_millis(50);
/// Below it nobody would notice an order.
const STARVED_MIN: Duration = Duration::from_millis(10);
