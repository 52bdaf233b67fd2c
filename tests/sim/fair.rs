//! The bars of fairness. Every one has a twin whose order is broken and misses it. Service is what
//! docs/fairness.md calls so, on a record made outside of the queue.

use proto_core::model::Concurrency::{Fixed, Gradient};
use tests::sim::arrivals::Load;
use tests::sim::fair_broken::Broken;
use tests::sim::fair_record::Record;
use tests::sim::fair_scenarios::*;
use tests::sim::figures::jain;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;

#[test]
fn a_hundred_equal_tenants_at_twice_what_there_is_have_a_jain_index_of_99_hundredths() {
    for kind in [Fixed, Gradient] {
        for seed in SEEDS {
            let index = jain(&equals(kind).fair(seed).services(FROM, EQUALS_END));
            println!("equals, limit {kind:?}, seed {seed}: Jain's index {index:.5}");
            assert!(index >= JAIN_MIN, "limit {kind:?}, seed {seed}: {index}");
        }
    }
}

#[test]
fn first_come_first_served_misses_the_jain_index() {
    let index = jain(&equals(Fixed).fifo(1).services(FROM, EQUALS_END));
    println!("equals, first come first served: Jain's index {index:.5}");
    assert!(index < JAIN_MIN);
}

/// The 99th percentile of the waits of tenants 1 to 19.
fn others_p99(record: Record) -> f64 {
    // Whoever came in the last minute may still be sent.
    record.waits(|tenant| (1..20).contains(&tenant), FROM, NEIGHBOURS_END - 60).quantile(990)
}

#[test]
fn one_tenant_at_ten_times_its_share_moves_the_others_waits_by_half_at_most() {
    for seed in SEEDS {
        let [one, ten] = [1, 10].map(|times| others_p99(saturated(times).fair(seed)));
        println!("all want more, seed {seed}: p99 {one:.2} s, beside ten times as many callers {ten:.2} s");
        assert!(ten <= MOVED_MAX * one, "seed {seed}: {one} {ten}");
        let [spread, alone] = [false, true].map(|is_alone| others_p99(spread_or_alone(is_alone).fair(seed)));
        println!("the same load, seed {seed}: p99 {spread:.2} s beside ten tenants, {alone:.2} s beside one");
        assert!(alone <= MOVED_MAX * spread, "seed {seed}: {spread} {alone}");
    }
}

#[test]
fn first_come_first_served_lets_one_tenant_move_the_others_waits() {
    let [one, ten] = [1, 10].map(|times| others_p99(saturated(times).fifo(1)));
    println!("all want more, first come first served: p99 {one:.2} s, then {ten:.2} s");
    assert!(ten > MOVED_MAX * one);
}

/// Not within half again of what it was: an upstream that was free nine tenths of the time is always full
/// beside the loud one. But better than with a part of their own.
#[test]
fn who_stays_within_its_share_waits_less_than_with_that_share_of_the_upstream_to_itself() {
    for seed in SEEDS {
        let [one, ten] = [1.0, 10.0].map(|times| others_p99(within_share(times).fair(seed)));
        let own = alone().fair(seed).waits(|_| true, FROM, ALONE_ENDS - 60).quantile(990);
        println!("within, seed {seed}: p99 {one:.2} s, beside ten shares {ten:.2} s, alone {own:.2} s");
        assert!(ten <= own, "seed {seed}: {ten} {own}");
    }
    let fifo = others_p99(within_share(10.0).fifo(1));
    println!("within, first come first served: p99 {fifo:.2} s beside ten shares");
    assert!(fifo > 60.0);
}

/// Bronze's part of all service beside gold that always wants more.
fn of_bronze(record: &Record) -> f64 {
    record.share(1, FROM, PAIR_ENDS)
}

#[test]
fn bronze_gets_its_minimum_beside_gold_that_always_wants_more() {
    for seed in SEEDS {
        let record = bands(MANY, MANY).fair(seed);
        let all: f64 = record.services(FROM, PAIR_ENDS).iter().sum();
        let (share, one_request) = (of_bronze(&record), REQUEST_MAX / all);
        println!("bands, seed {seed}: bronze has {share:.4}, one request is up to {one_request:.4}");
        assert!(share >= BRONZE_MIN - one_request, "seed {seed}: {share}");
    }
}

#[test]
fn where_the_better_band_always_goes_first_bronze_gets_nothing() {
    let share = of_bronze(&bands(MANY, MANY).broken(Broken::Strict, 1));
    println!("bands, gold always first: bronze has {share:.4}");
    assert!(share < BRONZE_MIN / 2.0);
}

/// The 99th percentile of gold's waits and the median of bronze's, where bronze always wants more.
fn waits_of_bands(record: &Record) -> (f64, f64) {
    let waits = |tenant| record.waits(|of| of == tenant, FROM, PAIR_ENDS - 60);
    (waits(0).quantile(990), waits(1).quantile(500))
}

#[test]
fn what_is_held_back_for_gold_lets_it_in_at_once_beside_bronze_that_always_wants_more() {
    for seed in SEEDS {
        let (gold, bronze) = waits_of_bands(&bands(open(0.25), MANY).fair(seed));
        println!("held back, seed {seed}: gold's p99 {gold:.3} s, bronze's median {bronze:.2} s");
        assert!(gold <= GOLD_WAIT_MAX * bronze, "seed {seed}: {gold} {bronze}");
    }
}

#[test]
fn first_come_first_served_lets_gold_wait_as_bronze_does() {
    let (gold, bronze) = waits_of_bands(&bands(open(0.25), MANY).fifo(1));
    println!("held back, first come first served: gold's p99 {gold:.3} s, bronze's median {bronze:.2} s");
    assert!(gold > GOLD_WAIT_MAX * bronze);
}

/// A way to get more.
struct Way {
    name: &'static str,
    story: fn() -> Story,
    /// The seconds that are judged: long answers are noted at their end, so they need many.
    seconds: (usize, usize),
    /// An order in which it does get more; `None`: first come, first served.
    broken: Option<Broken>,
}

const WAYS: [Way; 4] = [
    Way { name: "a thousand sessions", story: many_sessions, seconds: (FROM, PAIR_ENDS), broken: None },
    Way {
        name: "idle, then a burst",
        story: idle_then_burst,
        seconds: (RETURNS_AT + 1, RETURNS_AT + 61),
        broken: Some(Broken::NoLift),
    },
    Way {
        name: "tiny prompts, huge answers",
        story: tiny_prompts,
        seconds: (FROM, PAIR_ENDS),
        broken: Some(Broken::ChargesPrompts),
    },
    Way {
        name: "cancels and asks again",
        story: cancels,
        seconds: (FROM, PAIR_ENDS),
        broken: Some(Broken::ChargesWholeAnswers),
    },
];

impl Way {
    /// The share of tenant 0, and that of an honest twin in its place.
    fn shares(&self, run: impl Fn(Story) -> Record) -> (f64, f64) {
        let share = |story| run(story).share(0, self.seconds.0, self.seconds.1);
        (share((self.story)()), share(twins()))
    }
}

#[test]
fn no_way_to_get_more_moves_the_share_of_an_honest_twin_by_two_points() {
    for way in WAYS {
        for seed in SEEDS {
            let (share, honest) = way.shares(|story| story.fair(seed));
            println!("{}, seed {seed}: share {share:.4}, of the honest twin {honest:.4}", way.name);
            assert!((share - honest).abs() <= POINTS, "{}, seed {seed}: {share} {honest}", way.name);
        }
    }
}

#[test]
fn each_way_to_get_more_gets_it_where_the_order_is_broken() {
    for way in WAYS {
        let (share, honest) = way.shares(|story| match way.broken {
            None => story.fifo(1),
            Some(broken) => story.broken(broken, 1),
        });
        println!("{}, {:?}: share {share:.4}, of the honest twin {honest:.4}", way.name, way.broken);
        assert!(share > honest + POINTS, "{}: {share} {honest}", way.name);
    }
}

#[test]
fn weights_of_four_to_one_give_service_of_four_to_one_within_the_bound() {
    for seed in SEEDS {
        let record = weighted().fair(seed);
        let services = record.services(FROM, WEIGHTED_ENDS);
        let (ratio, widest) = (services[0] / services[1], record.widest([(0, 4), (1, 1)], FROM));
        println!("weights, seed {seed}: {ratio:.4} to 1, widest {widest:.0} of 2U = {BOUND:.0}");
        assert!(record.dry_until(0).max(record.dry_until(1)) < FROM, "seed {seed}: both always wait");
        assert!(widest <= BOUND && (3.95..=4.05).contains(&ratio), "seed {seed}: {ratio} {widest}");
    }
}

#[test]
fn first_come_first_served_leaves_the_bound_of_weights() {
    let widest = weighted().fifo(1).widest([(0, 4), (1, 1)], FROM);
    println!("weights, first come first served: widest {:.1} times 2U", widest / BOUND);
    assert!(widest > BOUND);
}

#[test]
fn a_quiet_tenant_beside_one_that_asks_six_times_as_much_gets_its_half() {
    for seed in SEEDS {
        let share = quiet_and_loud().fair(seed).share(0, FROM, PAIR_ENDS);
        println!("quiet and loud, seed {seed}: the quiet one has {share:.4}");
        assert!((share - 0.5).abs() <= POINTS, "seed {seed}: {share}");
    }
}

#[test]
fn first_come_first_served_gives_a_quiet_tenant_what_it_asks_of_the_whole() {
    let share = quiet_and_loud().fifo(1).share(0, FROM, PAIR_ENDS);
    println!("quiet and loud, first come first served: the quiet one has {share:.4}");
    assert!(share < 0.5 - POINTS);
}

const JAIN_MIN: f64 = 0.99;
/// How far the others' waits may move.
const MOVED_MAX: f64 = 1.5;
const BRONZE_MIN: f64 = 0.05;
/// Gold's wait of bronze's: well below.
const GOLD_WAIT_MAX: f64 = 0.1;
/// Two points of a hundred.
const POINTS: f64 = 0.02;
/// Tenths of the longest prompt and an answer ten times as long as common.
const REQUEST_MAX: f64 = 32_000.0 * 10.0 + 1_000.0 * 20.0;
/// 2U of docs/fairness.md: the window bounds every charge, all is reserved, and the least weight is one.
const BOUND: f64 = 2.0 * 20.0 * TOKENS_IN_FLIGHT as f64;
/// Twice what there is room for.
const MANY: Load = Load::Closed { clients: 200 };
