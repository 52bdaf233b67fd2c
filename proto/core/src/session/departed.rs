//! Streams that have ended, for as long as something about them may still be under way: what comes late is
//! answered as before, and never taken for a new stream.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::units::Moment;

#[derive(Debug, Default)]
pub(super) struct Departed {
    /// The oldest first.
    streams: VecDeque<One>,
}

#[derive(Debug)]
struct One {
    /// Of the id. Two ids with one hash hurt only the peer that chose them.
    hash: u64,
    how: How,
    at: Moment,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// In order; the other end may not know that everything up to this was consumed.
    InOrder(u64),
    Reset,
}

impl Departed {
    pub fn add(&mut self, id: &str, how: How, now: Moment) {
        self.prune(now);
        if self.streams.len() == STREAMS_MAX {
            self.streams.pop_front();
        }
        self.streams.push_back(One { hash: hash(id), how, at: now });
    }

    pub fn find(&self, id: &str) -> Option<How> {
        let hash = hash(id);
        self.streams.iter().rev().find(|one| one.hash == hash).map(|one| one.how)
    }

    pub fn prune(&mut self, now: Moment) {
        while self.streams.front().is_some_and(|one| one.at + SPAN <= now) {
            self.streams.pop_front();
        }
    }

    pub fn compact(&mut self, now: Moment) {
        self.prune(now);
        self.streams.shrink_to_fit();
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.streams.capacity() * size_of::<One>()
    }
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// As many as the other end may believe are open.
const STREAMS_MAX: usize = 1024;

/// Twice what a session waits for its other end to come back.
const SPAN: Duration = Duration::from_secs(60);
