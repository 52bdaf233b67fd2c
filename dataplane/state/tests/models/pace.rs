//! Budgets over time: what a day spends is exact while the day changes.

use std::time::Duration;

use dataplane_core::admit::pace::{Era, Spent};
use dataplane_state::pace::{DayCell, PaceCell};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use proto_core::units::{Moment, Picodollars};

const LIMIT: Picodollars = Picodollars(10);

#[test]
fn a_day_never_spends_more_than_its_limit_while_the_next_begins() {
    loom::model(|| {
        let cell = Arc::new(DayCell::new());
        let yesterday = cell.reserve(1, LIMIT, Picodollars(9)).expect("a new day");
        // Counts of both go to the newer day where it has begun; six and six of ten: one of them at most.
        let other = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || cell.reserve(2, LIMIT, Picodollars(6)).is_some())
        };
        let late = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || {
                cell.settle(yesterday, Picodollars(1));
                cell.reserve(1, LIMIT, Picodollars(6)).is_some()
            })
        };
        let of_other = other.join().unwrap();
        let of_late = late.join().unwrap();
        assert!(of_other || of_late, "both were refused");
        let spent = cell.spent();
        assert_eq!(spent, Picodollars(6), "the new day holds what it was charged, and nothing else");
        assert!(cell.reserve(2, LIMIT, Picodollars(5)).is_none(), "more than the limit");
    });
}

#[test]
fn two_who_begin_a_day_together_lose_nothing() {
    loom::model(|| {
        let cell = Arc::new(DayCell::new());
        assert!(cell.reserve(1, LIMIT, Picodollars(9)).is_some());
        let threads = [2, 3].map(|need| {
            let cell = Arc::clone(&cell);
            thread::spawn(move || cell.reserve(2, LIMIT, Picodollars(need)).map(|_| need))
        });
        let sum: u64 = threads.map(|thread| thread.join().unwrap().expect("there is room")).iter().sum();
        assert_eq!(cell.spent(), Picodollars(sum), "a charge was lost");
    });
}

/// A day that is begun by storing instead of comparing.
#[test]
#[should_panic(expected = "a charge was lost")]
fn a_day_begun_without_comparing_is_found_out() {
    loom::model(|| {
        let era = Era::default().on_day(2);
        let word = Arc::new(AtomicU64::new(Spent::default().pack()));
        let threads = [2, 3].map(|need| {
            let word = Arc::clone(&word);
            thread::spawn(move || {
                if Spent::unpack(word.load(Ordering::SeqCst)).mark != era.mark() {
                    word.store(Spent::default().on_day(era.mark()).pack(), Ordering::SeqCst);
                }
                word.fetch_add(need, Ordering::SeqCst);
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let spent = Spent::unpack(word.load(Ordering::SeqCst)).picodollars;
        assert_eq!(spent, Picodollars(5), "a charge was lost");
    });
}

#[test]
fn a_minutes_worth_is_given_once() {
    loom::model(|| {
        let cell = Arc::new(PaceCell::new());
        let threads = [60, 40].map(|tokens| {
            let cell = Arc::clone(&cell);
            thread::spawn(move || match cell.reserve(Moment(1), 60, tokens) {
                Ok(()) => {
                    cell.settle(60, tokens, 0);
                    1
                }
                Err(wait) => {
                    assert_eq!(wait, Duration::from_secs(40));
                    0
                }
            })
        });
        let granted: u32 = threads.map(|thread| thread.join().unwrap()).iter().sum();
        assert!(granted > 0);
        assert_eq!(cell.reserve(Moment(1), 60, 60), Ok(()), "what was given back is there");
    });
}
