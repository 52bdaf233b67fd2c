//! What became of those who wanted to come in over QUIC and did not, or not at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// Since the start.
#[derive(Debug, Default)]
pub struct Counts {
    retries: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// As many handshakes as may be are under way.
    Crowded,
    /// The worker has as many connections as it may, or no memory for another.
    Full,
    /// This data plane is about to end.
    Draining,
}

impl Refused {
    const ALL: [Refused; 3] = [Refused::Crowded, Refused::Full, Refused::Draining];

    fn as_str(self) -> &'static str {
        match self {
            Refused::Crowded => "crowded",
            Refused::Full => "full",
            Refused::Draining => "draining",
        }
    }
}

impl Counts {
    pub fn on_retry(&self) {
        // Order: relaxed, a count for people.
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub fn on_refused(&self, why: Refused) {
        // Order: relaxed, a count for people.
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn retries(&self) -> u64 {
        // Order: relaxed, a count for people.
        self.retries.load(Ordering::Relaxed)
    }

    /// Refusals by reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        // Order: relaxed, a count for people.
        let counts = self.refused.iter().map(|count| count.load(Ordering::Relaxed));
        Refused::ALL.into_iter().map(Refused::as_str).zip(counts)
    }
}
