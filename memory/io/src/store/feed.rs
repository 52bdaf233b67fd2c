//! What was changed, for whoever follows the store: the index. It is kept in memory only, and has a bound;
//! who fell behind reads everything anew.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One item that came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Put { tenant: String, version: u64 },
    Gone { tenant: String, version: u64 },
}

/// What changed since somebody last asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Unseen {
    Some(Vec<Change>),
    /// They were too many, or nobody knows: look at everything.
    Lost,
}

#[derive(Debug)]
pub struct Feed {
    /// Transactions that changed something, so far.
    reached: AtomicU64,
    pending: Mutex<Unseen>,
}

/// A commit is under way, or the state that a follower reads; never both at once.
#[derive(Debug)]
pub struct Turn<'f> {
    feed: &'f Feed,
    pending: MutexGuard<'f, Unseen>,
}

impl Default for Feed {
    /// Nobody has read anything yet, so everything is to be looked at.
    fn default() -> Feed {
        Feed { reached: AtomicU64::new(1), pending: Mutex::new(Unseen::Lost) }
    }
}

impl Feed {
    /// The number of the newest change whose writer may have been answered.
    pub fn reached(&self) -> u64 {
        // Order: what is read after this was committed before the number was raised.
        self.reached.load(Ordering::Acquire)
    }

    pub fn turn(&self) -> Turn<'_> {
        // A panic under this lock leaves a list that is whole.
        Turn { feed: self, pending: self.pending.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Turn<'_> {
    /// Says what a transaction changed.
    pub fn add(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        match &mut *self.pending {
            Unseen::Some(pending) if pending.len() + changes.len() <= CHANGES_MAX => pending.extend(changes),
            pending => *pending = Unseen::Lost,
        }
        self.raise();
    }

    /// Nobody knows what happened.
    pub fn lose(&mut self) {
        *self.pending = Unseen::Lost;
        self.raise();
    }

    /// All since the last time, and the number that this reaches.
    pub fn take(&mut self) -> (u64, Unseen) {
        let taken = std::mem::replace(&mut *self.pending, Unseen::Some(Vec::new()));
        (self.feed.reached(), taken)
    }

    fn raise(&self) {
        // Order: who sees the number sees the commit before it.
        self.feed.reached.fetch_add(1, Ordering::Release);
    }
}

/// A few seconds of writing as fast as a disk takes it; a few megabytes.
pub const CHANGES_MAX: usize = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn put(version: u64) -> Change {
        Change::Put { tenant: "a".into(), version }
    }

    #[test]
    fn what_was_added_is_taken_once_and_first_of_all_everything_is_looked_at() {
        let feed = Feed::default();
        assert_eq!(feed.turn().take(), (1, Unseen::Lost));
        feed.turn().add(vec![put(1)]);
        feed.turn().add(Vec::new());
        feed.turn().add(vec![put(2)]);
        assert_eq!(feed.reached(), 3);
        assert_eq!(feed.turn().take(), (3, Unseen::Some(vec![put(1), put(2)])));
        assert_eq!(feed.turn().take(), (3, Unseen::Some(Vec::new())));
    }

    #[test]
    fn at_the_bound_all_are_kept_and_past_it_none() {
        let feed = Feed::default();
        feed.turn().take();
        feed.turn().add(vec![put(1); CHANGES_MAX]);
        assert!(matches!(feed.turn().take().1, Unseen::Some(all) if all.len() == CHANGES_MAX));
        feed.turn().add(vec![put(1); CHANGES_MAX]);
        feed.turn().add(vec![put(2)]);
        feed.turn().add(vec![put(3)]);
        assert_eq!(feed.turn().take(), (4 + 1, Unseen::Lost));
    }

    #[test]
    fn a_commit_whose_end_nobody_knows_is_looked_for() {
        let feed = Feed::default();
        feed.turn().take();
        feed.turn().lose();
        assert_eq!(feed.turn().take(), (2, Unseen::Lost));
    }
}
