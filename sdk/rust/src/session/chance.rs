//! Numbers nobody needs to guess right: names of runs, jitter between attempts. Never secrets.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Differs with every call: the standard library seeds its hashers from the system.
pub fn number() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A name for a run that nobody else has.
pub fn name() -> String {
    format!("{:016x}{:016x}", number(), number())
}

/// How long to wait before attempt `attempt` (from 0): up to twice as long each time, any part of it, so that
/// many who lost the same server do not come back as one.
pub fn backoff(attempt: u32) -> Duration {
    if attempt == 0 {
        return Duration::ZERO;
    }
    let most = FIRST.saturating_mul(1 << (attempt - 1).min(16)).min(MOST);
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(1 + number() % most)
}

/// A proxy that was restarted listens again by then.
const FIRST: Duration = Duration::from_millis(100);
/// Ten attempts and more within the time a session is kept.
const MOST: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_differ() {
        assert_eq!(backoff(0), Duration::ZERO);
        for attempt in 1..40 {
            let wait = backoff(attempt);
            assert!(wait > Duration::ZERO && wait <= MOST, "{attempt}: {wait:?}");
        }
        let some: std::collections::HashSet<_> = (0..100).map(|_| backoff(20)).collect();
        assert!(some.len() > 50, "many clients do not come back at once");
    }

    #[test]
    fn no_two_runs_have_one_name() {
        assert_ne!(name(), name());
        assert_eq!(name().len(), 32);
    }
}
