//! How many of something there are, with a most: the sessions of a tenant. Never waits.

use crate::sync::{AtomicU32, Ordering};

/// Counts what is open.
#[derive(Debug, Default)]
pub struct Count(AtomicU32);

impl Count {
    /// One more, or false where there are `most`.
    #[must_use]
    pub fn try_open(&self, most: u32) -> bool {
        // Order: relaxed throughout. The word is the whole state and guards nothing beside it.
        let mut now = self.0.load(Ordering::Relaxed);
        while now < most {
            // Order: relaxed, see above.
            match self.0.compare_exchange_weak(now, now + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(seen) => now = seen,
            }
        }
        false
    }

    /// One less; once for each that was opened.
    pub fn close(&self) {
        // Order: relaxed, see above.
        let before = self.0.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "what is closed was open");
    }

    /// For metrics.
    pub fn now(&self) -> u32 {
        // Order: relaxed, a number for people.
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_opens_and_one_more_does_not_until_one_closes() {
        let count = Count::default();
        assert!(count.try_open(2) && count.try_open(2));
        assert!(!count.try_open(2));
        count.close();
        assert!(count.try_open(2));
        assert_eq!(count.now(), 2);
    }
}
