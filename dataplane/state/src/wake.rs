//! How the owner of a queue is woken from any thread, without a lock and without losing a wake-up. Never runs
//! the owner, never knows why it is woken.
//!
//! ```text
//! owner:  register(waker), look; nothing to do: sleep          others:  change something, wake()
//! ```
//!
//! A flag stands between the two. `wake` raises it and calls the waker only where it was down, so a hundred
//! wakes of an owner that has not come round yet are one. `register` takes it down before the owner looks: a
//! change whose `wake` found the flag up happened before that look, one whose `wake` came after raises it
//! again. The owner is one task for as long as the cell lives, and a task has one waker, so the waker is
//! written once.

use std::sync::OnceLock;

use crate::sync::{AtomicU32, Ordering};

/// What wakes an owner: [`std::task::Waker`], or a bell in a model.
pub trait Wake: Clone {
    /// From any thread; never blocks.
    fn wake(&self);
    /// Whether both wake the same owner.
    fn is_same(&self, other: &Self) -> bool;
}

impl Wake for std::task::Waker {
    fn wake(&self) {
        self.wake_by_ref();
    }

    fn is_same(&self, other: &std::task::Waker) -> bool {
        self.will_wake(other)
    }
}

/// Wakes one owner.
#[derive(Debug)]
pub struct WakeCell<W> {
    /// [`RAISED`] where the owner was woken and has not looked since.
    flag: AtomicU32,
    waker: OnceLock<W>,
}

impl<W: Wake> WakeCell<W> {
    /// Nobody sleeps on it yet.
    pub fn new() -> WakeCell<W> {
        WakeCell { flag: AtomicU32::new(DOWN), waker: OnceLock::new() }
    }

    /// The owner, each time before it looks for something to do. Panics where this is another owner than the
    /// first: poll the owner as a task of its own, not inside a combinator that has wakers of its own.
    pub fn register(&self, waker: &W) {
        let known = self.waker.get_or_init(|| waker.clone());
        assert!(known.is_same(waker), "a queue has one owner, a task that is spawned");
        // Order: acquire pairs with the release in `wake`: what was changed before a wake is seen by the look
        // that follows. Release: a wake that comes after this sees the waker.
        self.flag.swap(DOWN, Ordering::AcqRel);
    }

    /// Something changed for the owner. From any thread, after the change.
    pub fn wake(&self) {
        // Order: release publishes the change to the owner's look, acquire sees its waker. A write even where
        // the flag is up already: the owner that takes it down must see this change too.
        if self.flag.swap(RAISED, Ordering::AcqRel) == DOWN
            && let Some(waker) = self.waker.get()
        {
            // Without a waker the owner has not looked yet, and will before it sleeps.
            waker.wake();
        }
    }
}

impl<W: Wake> Default for WakeCell<W> {
    fn default() -> WakeCell<W> {
        WakeCell::new()
    }
}

const DOWN: u32 = 0;
const RAISED: u32 = 1;

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Count>) {
            // Order: relaxed, one thread.
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counted() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn many_wakes_before_the_owner_looks_are_one_and_the_next_counts_again() {
        let (count, waker) = counted();
        let cell = WakeCell::new();
        cell.wake();
        cell.register(&waker);
        (0..3).for_each(|_| cell.wake());
        // Order: relaxed, one thread.
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        cell.register(&waker.clone());
        cell.wake();
        // Order: relaxed, one thread.
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    #[should_panic(expected = "a queue has one owner")]
    fn a_second_owner_is_refused_aloud() {
        let cell = WakeCell::new();
        cell.register(&counted().1);
        cell.register(&counted().1);
    }
}
