//! Models of our own atomics under loom: every interleaving of a few steps. Each has a broken twin that must
//! fail, so that a model which proves nothing is noticed.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p dataplane-state --test models --release`.
#![cfg(loom)]

use dataplane_core::breaker::{Breaker, FAILURES_MAX, TRIPPED_FOR, Verdict};
use dataplane_state::balance::BalanceCell;
use dataplane_state::endpoint::BreakerCell;
use dataplane_state::permits::Permits;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use proto_core::units::Moment;

#[test]
fn permits_never_exceed_the_limit_and_all_come_home() {
    loom::model(|| {
        let permits = Arc::new(Permits::new(1));
        let holders = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (permits, holders) = (Arc::clone(&permits), Arc::clone(&holders));
                thread::spawn(move || {
                    if permits.try_acquire() {
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold the only permit");
                        holders.fetch_sub(1, Ordering::SeqCst);
                        permits.release();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(permits.in_flight(), 0);
        assert!(permits.try_acquire(), "a permit leaked");
    });
}

#[test]
fn a_limit_lowered_below_use_drains() {
    loom::model(|| {
        let permits = Arc::new(Permits::new(2));
        assert!(permits.try_acquire());
        let resizer = {
            let permits = Arc::clone(&permits);
            thread::spawn(move || permits.set_limit(1))
        };
        let granted = permits.try_acquire();
        resizer.join().unwrap();
        assert_eq!(permits.in_flight(), 1 + u32::from(granted));
        assert!(!permits.try_acquire(), "granted above the lowered limit");
    });
}

/// The same promise asked of a cell that checks, then adds: it must be found broken.
#[test]
#[should_panic(expected = "two hold the only permit")]
fn a_permit_cell_that_checks_before_it_adds_is_found_out() {
    loom::model(|| {
        let taken = Arc::new(AtomicU32::new(0));
        let holders = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (taken, holders) = (Arc::clone(&taken), Arc::clone(&holders));
                thread::spawn(move || {
                    if taken.load(Ordering::SeqCst) < 1 {
                        taken.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold the only permit");
                        holders.fetch_sub(1, Ordering::SeqCst);
                        taken.fetch_sub(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

fn later() -> Moment {
    Moment(1_000_000_000) + TRIPPED_FOR + TRIPPED_FOR
}

fn tripped() -> BreakerCell {
    let cell = BreakerCell::new();
    (0..FAILURES_MAX).for_each(|_| cell.on_failure(false, Moment(1_000_000_000)));
    assert!(matches!(cell.now(), Breaker::Tripped { .. }));
    cell
}

#[test]
fn half_open_lets_one_probe_through() {
    loom::model(|| {
        let cell = Arc::new(tripped());
        let probe = |cell: &BreakerCell| u32::from(cell.on_request(later()) == Verdict::Probe);
        let other = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || probe(&cell))
        };
        let here = probe(&cell);
        assert_eq!(here + other.join().unwrap(), 1, "exactly one probe");
    });
}

#[test]
#[should_panic(expected = "exactly one probe")]
fn a_breaker_that_stores_without_comparing_is_found_out() {
    loom::model(|| {
        let word = Arc::new(loom::sync::atomic::AtomicU64::new(tripped().now().pack()));
        let probe = |word: &loom::sync::atomic::AtomicU64| {
            let (next, verdict) = Breaker::unpack(word.load(Ordering::SeqCst)).on_request(later());
            word.store(next.pack(), Ordering::SeqCst);
            u32::from(verdict == Verdict::Probe)
        };
        let other = {
            let word = Arc::clone(&word);
            thread::spawn(move || probe(&word))
        };
        let here = probe(&word);
        assert_eq!(here + other.join().unwrap(), 1, "exactly one probe");
    });
}

#[test]
fn a_retry_is_spent_once() {
    loom::model(|| {
        let cell = Arc::new(BalanceCell::new());
        let mut had = 0;
        while cell.try_retry() {
            had += 1;
        }
        assert!(had > 0);
        cell.on_request(proto_core::units::Permille(1000));
        let other = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || u32::from(cell.try_retry()))
        };
        let here = u32::from(cell.try_retry());
        assert_eq!(here + other.join().unwrap(), 1);
    });
}
