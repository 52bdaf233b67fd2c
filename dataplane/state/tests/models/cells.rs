//! The breaker and the retry budget.

use dataplane_core::breaker::{Breaker, FAILURES_MAX, TRIPPED_FOR, Verdict};
use dataplane_state::balance::BalanceCell;
use dataplane_state::endpoint::BreakerCell;
use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread;
use proto_core::units::Moment;

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
