//! The one snapshot cell. Whoever serves reads it; whoever subscribes swaps it, whole.
//!
//! A request clones an `Arc` that belongs to its own thread alone, so readers on different cores never write
//! one cache line: a clone of one shared count costs five times as much with two threads as with one.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use dataplane_core::table::Table;

use crate::registry::{AdapterCell, OfferCell, RouteCell, TenantCell};

/// One generation as it is served: its lookups, and beside each row the cell that remembers for it.
#[derive(Debug)]
pub struct Snapshot {
    /// Of the control plane's store; 0 for a file.
    pub epoch: u64,
    /// Within the epoch; for a file, how often it was read.
    pub number: u64,
    pub table: Table,
    /// By [`dataplane_core::table::AdapterId`].
    pub adapters: Box<[Arc<AdapterCell>]>,
    /// By [`dataplane_core::table::OfferId`].
    pub offers: Box<[Arc<OfferCell>]>,
    /// By [`dataplane_core::table::RouteId`].
    pub routes: Box<[Arc<RouteCell>]>,
    /// By [`dataplane_core::table::TenantId`].
    pub tenants: Box<[Arc<TenantCell>]>,
}

/// The cell. `T` is what is served: a [`Snapshot`], or one with what acts beside it.
#[derive(Debug)]
pub struct Tables<T> {
    current: ArcSwapOption<T>,
    /// Counts swaps; tells a thread that its clone is old.
    swaps: AtomicU64,
    /// Tells cells apart in a thread's memory.
    id: u64,
}

/// A thread's own clone.
struct Local {
    cell: u64,
    swaps: u64,
    held: Arc<dyn Any + Send + Sync>,
}

/// A snapshot held by one thread's requests. Derefs to it.
#[derive(Debug)]
pub struct Held<T>(Arc<T>);

impl<T> std::ops::Deref for Held<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

impl<T: Any + Send + Sync> Tables<T> {
    pub fn new() -> Tables<T> {
        static CELLS: AtomicU64 = AtomicU64::new(0);
        // Order: relaxed; only uniqueness matters.
        let id = CELLS.fetch_add(1, Ordering::Relaxed);
        Tables { current: ArcSwapOption::const_empty(), swaps: AtomicU64::new(0), id }
    }

    /// Serves `snapshot` from now on. Requests under way keep the one they started with.
    pub fn swap(&self, snapshot: T) {
        self.current.store(Some(Arc::new(snapshot)));
        // Order: release, after the store above: a thread that sees the count sees the snapshot.
        self.swaps.fetch_add(1, Ordering::Release);
    }

    /// What is served now; `None` before the first swap. Loaded once for each exchange.
    pub fn load(&self) -> Option<Arc<Held<T>>> {
        // Order: acquire pairs with the release in `swap`.
        let swaps = self.swaps.load(Ordering::Acquire);
        LOCAL.with_borrow_mut(|slot| {
            if let Some(local) = slot
                && local.cell == self.id
                && local.swaps == swaps
            {
                return Arc::clone(&local.held).downcast().ok();
            }
            let held = Arc::new(Held(self.current.load_full()?));
            *slot = Some(Local { cell: self.id, swaps, held: held.clone() });
            Some(held)
        })
    }

    /// The same, shared with whoever looks from outside the path (metrics, admin).
    pub fn peek(&self) -> Option<Arc<T>> {
        self.current.load_full()
    }
}

impl<T: Any + Send + Sync> Default for Tables<T> {
    fn default() -> Tables<T> {
        Tables::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_the_newest_and_keeps_what_it_started_with() {
        let tables = Tables::new();
        assert!(tables.load().is_none());
        tables.swap(1);
        let first = tables.load().unwrap();
        tables.swap(2);
        assert_eq!((**first, **tables.load().unwrap()), (1, 2));
    }

    #[test]
    fn two_cells_in_one_thread_do_not_answer_for_each_other() {
        let (left, right) = (Tables::new(), Tables::new());
        left.swap("left");
        right.swap("right");
        for _ in 0..3 {
            assert_eq!((**left.load().unwrap(), **right.load().unwrap()), ("left", "right"));
        }
    }

    #[test]
    fn readers_never_see_a_snapshot_go_back() {
        let tables = Arc::new(Tables::new());
        tables.swap(0u64);
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let tables = Arc::clone(&tables);
                std::thread::Builder::new().spawn(move || {
                    let mut last = 0;
                    while last < 10_000 {
                        let seen = **tables.load().expect("a first swap was made");
                        assert!(seen >= last, "went back from {last} to {seen}");
                        last = seen;
                    }
                })
            })
            .collect();
        (1..=10_000).for_each(|number| tables.swap(number));
        readers.into_iter().for_each(|reader| reader.unwrap().join().unwrap());
    }
}
