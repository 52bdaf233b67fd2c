//! The bars of limits that find themselves. Windows are counted as seconds, the least they last. Every bar
//! has a twin in which the limiter is broken (it does not move, or is set wrong) and misses it.

use proto_core::model::Concurrency::{self, Aimd, Fixed, Gradient};
use tests::sim::figures::{Trace, jain};
use tests::sim::scenarios::*;
use tests::sim::upstream::Manner;

/// Who finds what: `gradient` everywhere, `aimd` where the upstream refuses. Where it queues or slows down,
/// `aimd` takes the delay it caused for normal, which a test of its own shows.
const PAIRS: [(Concurrency, Manner, &str); 4] = [
    (Gradient, SHARES, "gradient, upstream slows down"),
    (Gradient, QUEUES, "gradient, upstream queues"),
    (Gradient, REFUSES, "gradient, upstream refuses"),
    (Aimd, REFUSES, "aimd, upstream refuses"),
];

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;

/// Windows until the step down is found, and the step back up.
fn found(trace: &Trace) -> (Option<usize>, Option<usize>) {
    let down = trace.found_after(NARROWS_AT, WIDENS_AT, NARROW.requests, 0.15);
    (down, trace.found_after(WIDENS_AT, STEP_ENDS, WIDE.requests, 0.15))
}

fn reach(runs: &[Option<usize>], bar: usize) -> bool {
    runs.iter().all(|found| found.is_some_and(|found| found <= bar))
}

#[test]
fn a_capacity_that_falls_from_100_to_30_is_found_in_12_windows_and_its_return_in_15() {
    for (kind, manner, name) in PAIRS {
        for seeds in [TUNED, UNSEEN] {
            let worlds = seeds.map(|seed| step(kind, 20, manner, seed));
            let (down, back): (Vec<_>, Vec<_>) = worlds.map(|world| found(world.trace(0))).unzip();
            println!("step, {name}: down {down:?}, back {back:?}");
            assert!(reach(&down, 12) && reach(&back, 15), "{name}: {down:?} {back:?}");
        }
    }
}

#[test]
fn a_limit_that_does_not_move_misses_the_step_bar() {
    for limit in [30, 60, 100] {
        let (down, back) = found(step(Fixed, limit, SHARES, 1).trace(0));
        assert!(!(reach(&[down], 12) && reach(&[back], 15)), "{limit}");
    }
}

/// Work answered against the best fixed limit there is, and the median first token against the same
/// requests alone.
fn use_and_stretch(kind: Concurrency, prior: u32, manner: Manner, seed: u64) -> (f64, f64) {
    let run = |kind, prior| {
        let world = steady(kind, prior, manner, STEADY_ENDS, seed);
        (world.trace(0).rate(60, STEADY_ENDS), world.trace(0).stretch(60, STEADY_ENDS))
    };
    let fixed = [80, 90, 100, 110, 120].map(|limit| run(Fixed, limit));
    let within = fixed.iter().filter(|(_, stretch)| *stretch <= STRETCH_MAX);
    let best = within.map(|(rate, _)| *rate).fold(0.0, f64::max);
    let (rate, stretch) = run(kind, prior);
    (rate / best, stretch)
}

#[test]
fn nine_tenths_of_the_best_fixed_limit_are_used_and_the_first_token_waits_a_quarter_at_most() {
    for (kind, manner, name) in PAIRS {
        for seed in SEEDS {
            let (used, stretch) = use_and_stretch(kind, 20, manner, seed);
            println!("steady, {name}, seed {seed}: {used:.3} of the best fixed, first token x {stretch:.2}");
            assert!(used >= 0.9 && stretch <= STRETCH_MAX, "{name}, seed {seed}: {used} {stretch}");
        }
    }
}

#[test]
fn a_limit_set_wrong_misses_the_bar_of_use_or_that_of_delay() {
    assert!(use_and_stretch(Fixed, 50, SHARES, 1).0 < 0.9);
    assert!(use_and_stretch(Fixed, 150, SHARES, 1).1 > STRETCH_MAX);
    assert!(use_and_stretch(Fixed, 110, QUEUES, 1).1 > STRETCH_MAX);
}

#[test]
fn aimd_does_not_hold_the_delay_of_an_upstream_that_never_refuses() {
    for manner in [SHARES, QUEUES] {
        let (used, stretch) = use_and_stretch(Aimd, 20, manner, 1);
        println!("steady, aimd, {manner:?}: {used:.3} of the best fixed, first token x {stretch:.2}");
        assert!(used >= 0.9 && stretch > STRETCH_MAX);
    }
}

/// Shares of two data planes in the last five minutes of ten; the second comes a minute later.
fn shares(kinds: [Concurrency; 2], priors: [u32; 2], manner: Manner, seed: u64) -> [f64; 2] {
    let world = shared(kinds, priors, manner, seed);
    [0, 1].map(|plane| world.trace(plane).rate(SHARED_ENDS - 300, SHARED_ENDS))
}

#[test]
fn two_data_planes_on_one_upstream_come_to_equal_shares() {
    for (kind, manner, name) in PAIRS {
        for seed in SEEDS {
            let rates = shares([kind; 2], [20, 20], manner, seed);
            println!("shared, {name}, seed {seed}: {rates:.1?}, Jain {:.3}", jain(&rates));
            assert!(jain(&rates) >= 0.95, "{name}, seed {seed}: {rates:?}");
        }
    }
}

#[test]
fn two_data_planes_with_limits_that_do_not_move_keep_unequal_shares() {
    assert!(jain(&shares([Fixed; 2], [90, 30], SHARES, 1)) < 0.95);
}

/// Goodput with ten times the permits and callers there is room for, against the best with any fixed limit.
fn goodput_of_peak(kind: Concurrency, manner: Manner, seed: u64) -> f64 {
    let goodput = |kind, prior, clients| {
        let world = overload(kind, prior, clients, manner, seed);
        world.trace(0).goodput(60, OVERLOAD_ENDS, GOOD_TTFT_S)
    };
    let peak = [80, 90, 100, 110, 120].map(|limit| goodput(Fixed, limit, 200));
    goodput(kind, 1000, 1000) / peak.into_iter().fold(0.0, f64::max)
}

#[test]
fn under_ten_times_the_permits_goodput_is_nine_tenths_of_its_peak() {
    for (kind, manner, name) in PAIRS {
        for seed in SEEDS {
            let share = goodput_of_peak(kind, manner, seed);
            println!("overload, {name}, seed {seed}: {share:.3} of the peak");
            assert!(share >= 0.9, "{name}, seed {seed}: {share}");
        }
    }
}

#[test]
fn a_limit_that_does_not_move_loses_its_goodput_under_ten_times_the_permits() {
    for manner in [SHARES, QUEUES] {
        let share = goodput_of_peak(Fixed, manner, 1);
        println!("overload, fixed, {manner:?}: {share:.3} of the peak");
        assert!(share < 0.5);
    }
}

#[test]
fn a_run_is_the_same_every_time_and_another_with_another_seed() {
    let limits = |seed| step(Gradient, 20, SHARES, seed).trace(0).limits(0, STEP_ENDS);
    assert_eq!(limits(7), limits(7));
    assert_ne!(limits(7), limits(8));
}

/// The constants of the limiter were chosen with these in view.
const TUNED: std::ops::RangeInclusive<u64> = 1..=10;
/// And not with these, which were run once, when all was chosen.
const UNSEEN: std::ops::RangeInclusive<u64> = 11..=20;
/// A quarter more than alone.
const STRETCH_MAX: f64 = 1.25;
/// Three times what a request of median length takes alone.
const GOOD_TTFT_S: f64 = 1.0;
const STEADY_ENDS: usize = 360;
