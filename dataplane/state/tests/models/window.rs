//! The triplet: the sum of reservations keeps every axis, and all of it comes home.

use dataplane_core::admit::window::{Kinds, Limits, Need};
use dataplane_state::window::Window;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use proto_core::units::Picodollars;

fn need(calls: u32, tokens: u64, picodollars: u64) -> Need {
    Need { calls, tokens, picodollars: Picodollars(picodollars) }
}

fn limits(calls: u32, tokens: u64, picodollars: u64) -> Limits {
    Limits { calls: Some(calls), tokens: Some(tokens), picodollars: Some(Picodollars(picodollars)) }
}

/// Two who ask for `needs` of one window at once; `sum_max` is the most tokens both may hold.
fn two_at_once(kinds: Kinds, limit: Limits, needs: [Need; 2], sum_max: u64, used: u64) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(move || {
        let window = Arc::new(Window::new(kinds, limit));
        let sum = Arc::new(AtomicU64::new(0));
        let threads = needs.map(|need| {
            let (window, sum) = (Arc::clone(&window), Arc::clone(&sum));
            thread::spawn(move || {
                let Ok(held) = window.reserve(need) else { return 0 };
                let before = sum.fetch_add(need.tokens, Ordering::SeqCst);
                assert!(before + need.tokens <= sum_max, "reservations exceed the window");
                // What stays spent stays in the sum.
                let back = if kinds == Kinds::SESSION { need.tokens - used } else { need.tokens };
                sum.fetch_sub(back, Ordering::SeqCst);
                window.settle(held, Need { tokens: used, ..Need::default() });
                need.tokens - back
            })
        });
        let spent: u64 = threads.map(|thread| thread.join().unwrap()).iter().sum();
        assert_eq!(window.level(), need(0, spent, 0), "something leaked");
    });
}

/// Three axes twice, each asked again: without a bound there are billions of interleavings.
const PREEMPTIONS_MAX: usize = 3;

#[test]
fn a_tenants_reservations_never_exceed_its_window_and_all_come_home() {
    two_at_once(Kinds::TENANT, limits(2, 10, 10), [need(1, 6, 1), need(1, 5, 1)], 10, 3);
}

#[test]
fn a_reservation_refused_on_the_last_axis_undoes_the_others() {
    two_at_once(Kinds::TENANT, limits(2, 20, 10), [need(1, 6, 6), need(1, 5, 5)], 11, 3);
}

#[test]
fn a_session_never_spends_and_reserves_more_than_its_envelope() {
    two_at_once(Kinds::SESSION, limits(2, 10, 10), [need(1, 6, 1), need(1, 5, 1)], 10, 5);
}

#[test]
fn an_extension_beside_a_reservation_never_exceeds_the_window() {
    loom::model(|| {
        let window = Arc::new(Window::new(Kinds::TENANT, limits(2, 10, 10)));
        let mut held = window.reserve(need(1, 4, 0)).unwrap();
        let other = {
            let window = Arc::clone(&window);
            thread::spawn(move || match window.reserve(need(1, 6, 0)) {
                Ok(held) => {
                    window.settle(held, Need::default());
                    6
                }
                Err(_) => 0,
            })
        };
        let extended = window.extend(&mut held, need(0, 3, 0)).is_ok();
        assert!(window.level().tokens <= 10, "an extension exceeds the window");
        let of_other = other.join().unwrap();
        assert!(extended || of_other == 6, "both were refused");
        window.settle(held, Need::default());
        assert_eq!(window.level(), Need::default(), "something leaked");
    });
}

#[test]
fn limits_that_come_and_go_meanwhile_leak_nothing() {
    loom::model(|| {
        let window = Arc::new(Window::new(Kinds::TENANT, limits(1, 10, 10)));
        let resizer = {
            let window = Arc::clone(&window);
            thread::spawn(move || {
                window.set_limits(Limits { calls: Some(1), ..Limits::NONE });
                window.narrow(limits(1, 5, 10));
            })
        };
        if let Ok(held) = window.reserve(need(1, 6, 0)) {
            window.settle(held, Need::default());
        }
        resizer.join().unwrap();
        assert_eq!(window.level(), Need::default(), "something leaked");
        assert!(window.reserve(need(1, 6, 0)).is_err(), "the limit came");
    });
}

/// The same promise asked of an axis that is compared first and added to afterwards.
#[test]
#[should_panic(expected = "reservations exceed the window")]
fn a_window_that_checks_before_it_adds_is_found_out() {
    loom::model(|| {
        let level = Arc::new(AtomicU64::new(0));
        let threads = [6, 5].map(|tokens| {
            let level = Arc::clone(&level);
            thread::spawn(move || {
                if level.load(Ordering::SeqCst) + tokens <= 10 {
                    let before = level.fetch_add(tokens, Ordering::SeqCst);
                    assert!(before + tokens <= 10, "reservations exceed the window");
                    level.fetch_sub(tokens, Ordering::SeqCst);
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A refusal that keeps what earlier axes gave.
#[test]
#[should_panic(expected = "something leaked")]
fn a_window_that_does_not_undo_is_found_out() {
    loom::model(|| {
        let axes = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let take = |axis: &AtomicU64, need: u64, limit: u64| {
            axis.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |level| {
                (level + need <= limit).then_some(level + need)
            })
        };
        let threads = [6, 5].map(|tokens| {
            let axes = Arc::clone(&axes);
            thread::spawn(move || {
                if take(&axes[0], 1, 2).is_ok() && take(&axes[1], tokens, 10).is_ok() {
                    axes[1].fetch_sub(tokens, Ordering::SeqCst);
                    axes[0].fetch_sub(1, Ordering::SeqCst);
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(axes[0].load(Ordering::SeqCst), 0, "something leaked");
    });
}
