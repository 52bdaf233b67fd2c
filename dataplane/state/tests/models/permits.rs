//! The permit word by itself: its bounds hold and nothing leaks.

use dataplane_core::admit::permits::Load;
use dataplane_state::permits::Permits;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::thread;
use proto_core::units::Permille;

const ALL: Permille = Permille(1000);

#[test]
fn permits_never_exceed_the_limit_and_all_come_home() {
    loom::model(|| {
        let permits = Arc::new(Permits::new(1, None));
        let holders = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (permits, holders) = (Arc::clone(&permits), Arc::clone(&holders));
                thread::spawn(move || {
                    if permits.try_acquire(3, ALL) {
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold the only permit");
                        holders.fetch_sub(1, Ordering::SeqCst);
                        assert!(!permits.release(3));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(permits.now(), Load::default());
        assert!(permits.try_acquire(3, ALL), "a permit leaked");
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

#[test]
fn tokens_in_flight_never_exceed_their_bound_but_for_one_that_is_alone() {
    loom::model(|| {
        let permits = Arc::new(Permits::new(9, Some(10)));
        let held = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = [6, 12]
            .into_iter()
            .map(|tokens| {
                let (permits, held) = (Arc::clone(&permits), Arc::clone(&held));
                thread::spawn(move || {
                    if permits.try_acquire(tokens, ALL) {
                        assert_eq!(held.fetch_add(tokens, Ordering::SeqCst), 0, "beside another");
                        held.fetch_sub(tokens, Ordering::SeqCst);
                        assert!(!permits.release(tokens));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(permits.now(), Load::default());
    });
}

#[test]
fn what_is_extended_while_others_come_and_go_comes_home() {
    loom::model(|| {
        let permits = Arc::new(Permits::new(2, None));
        assert!(permits.try_acquire(1, ALL));
        let other = {
            let permits = Arc::clone(&permits);
            thread::spawn(move || {
                assert!(permits.try_acquire(5, ALL));
                assert!(!permits.release(5));
            })
        };
        let held = 1 + permits.extend(64);
        assert!(!permits.shrink(4));
        other.join().unwrap();
        assert_eq!((permits.in_flight(), permits.tokens_in_flight()), (1, 61));
        assert!(!permits.release(held - 4));
        assert_eq!(permits.now(), Load::default());
    });
}

#[test]
fn a_limit_lowered_below_use_drains() {
    loom::model(|| {
        let permits = Arc::new(Permits::new(2, None));
        assert!(permits.try_acquire(0, ALL));
        let resizer = {
            let permits = Arc::clone(&permits);
            thread::spawn(move || assert!(!permits.set_limits(1, None)))
        };
        let granted = permits.try_acquire(0, ALL);
        resizer.join().unwrap();
        assert_eq!(permits.in_flight(), 1 + u32::from(granted));
        assert!(!permits.try_acquire(0, ALL), "granted above the lowered limit");
    });
}

/// One raises the bound and looks for a waiter, one becomes a waiter and looks for room: not both may miss
/// the other.
#[test]
fn room_made_while_somebody_begins_to_wait_is_seen_by_one_of_both() {
    loom::model(|| {
        let permits = Arc::new(Permits::new(1, None));
        assert!(permits.try_acquire(0, ALL));
        let resizer = {
            let permits = Arc::clone(&permits);
            thread::spawn(move || permits.set_limits(2, None))
        };
        permits.set_waiters();
        let granted = permits.acquire_for_queue(0, ALL);
        let woken = resizer.join().unwrap();
        assert!(granted || woken, "room and a waiter that never meet");
    });
}

/// The same with a resizer that reads the bit instead of writing the word.
#[test]
#[should_panic(expected = "room and a waiter that never meet")]
fn a_resizer_that_only_reads_the_bit_is_found_out() {
    loom::model(|| {
        let (waiters, bound) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(1)));
        let resizer = {
            let (waiters, bound) = (Arc::clone(&waiters), Arc::clone(&bound));
            thread::spawn(move || {
                bound.store(2, Ordering::Release);
                waiters.load(Ordering::Acquire) == 1
            })
        };
        waiters.fetch_or(1, Ordering::AcqRel);
        let granted = bound.load(Ordering::Acquire) == 2;
        let woken = resizer.join().unwrap();
        assert!(granted || woken, "room and a waiter that never meet");
    });
}
