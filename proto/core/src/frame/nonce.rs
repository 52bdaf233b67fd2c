//! Nonces: each is taken once. Remembers those of the last minute, up to a bound; what a peer replays later
//! is for its stream's `msg_seq` to find.
//!
//! Ask only about frames whose signature was verified: else strangers could fill the memory, and what was
//! pushed out could be replayed.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::units::Moment;

/// The nonces of one holder of keys. Not shared between holders: none can push out another's.
#[derive(Debug, Clone)]
pub struct Nonces {
    span: Duration,
    capacity: usize,
    taken: BTreeSet<Mark>,
    /// The oldest first.
    order: VecDeque<(Moment, Mark)>,
}

/// The nonce was taken already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed;

/// Half a SHA-256: as long as any nonce may be, each costs the same.
type Mark = [u8; 16];

impl Default for Nonces {
    fn default() -> Nonces {
        Nonces::new(SPAN, CAPACITY)
    }
}

impl Nonces {
    /// Remembers for `span`, and at most `capacity` (at least one) of them: the oldest goes first.
    pub fn new(span: Duration, capacity: usize) -> Nonces {
        let capacity = capacity.max(1);
        Nonces { span, capacity, taken: BTreeSet::new(), order: VecDeque::new() }
    }

    /// Takes the nonce, if nobody has.
    pub fn on_nonce(&mut self, now: Moment, nonce: &str) -> Result<(), Replayed> {
        while self.order.front().is_some_and(|(at, _)| now.since(*at) >= self.span) {
            self.forget_oldest();
        }
        let mut mark = Mark::default();
        mark.copy_from_slice(&Sha256::digest(nonce)[..16]);
        if !self.taken.insert(mark) {
            return Err(Replayed);
        }
        self.order.push_back((now, mark));
        if self.order.len() > self.capacity {
            self.forget_oldest();
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn forget_oldest(&mut self) {
        if let Some((_, mark)) = self.order.pop_front() {
            self.taken.remove(&mark);
        }
    }
}

/// Longer than frames are under way, with the slowest links and one retry.
pub const SPAN: Duration = Duration::from_secs(60);

/// 166 signed frames a second for a minute; some 700 KiB.
pub const CAPACITY: usize = 10_000;
