//! The published bound, on the record of what was delivered.

use proptest::prelude::*;

use super::server::{BROKEN_NEED, Broken, Dice, Fair, Job, Order, Server};
use super::*;

/// How one tenant behaves.
#[derive(Debug, Clone)]
struct Habit {
    weight: u32,
    /// Requests in a hundred steps, in bursts of up to `burst`.
    rate: u64,
    burst: u64,
    input: u64,
    output: u64,
    /// Of a thousand: who loses patience, who ends early, who runs over.
    impatient: u64,
    short: u64,
    over: u64,
    /// Steps of each 500 that it is away.
    away: u64,
}

fn habit(weights: impl Strategy<Value = u32>) -> impl Strategy<Value = Habit> {
    let sizes = (1u64..60, 1u64..8, 1u64..200, 1u64..200);
    let shares = (0u64..300, 0u64..1000, 0u64..300, 0u64..450);
    (weights, sizes, shares).prop_map(
        |(weight, (rate, burst, input, output), (impatient, short, over, away))| Habit {
            weight,
            rate,
            burst,
            input,
            output,
            impatient,
            short,
            over,
            away,
        },
    )
}

impl Habit {
    fn arriving(&self, dice: &mut Dice, step: u64, tenant: usize) -> Vec<Job> {
        if step % 500 < self.away || dice.below(100 * self.burst) >= self.rate {
            return Vec::new();
        }
        (0..self.burst).map(|_| self.job(dice, tenant)).collect()
    }

    fn job(&self, dice: &mut Dice, tenant: usize) -> Job {
        let reserved = 1 + dice.below(self.output);
        let output = match dice.below(1000) {
            turn if turn < self.over => reserved + dice.below(150),
            turn if turn < self.over + self.short => dice.below(reserved),
            _ => reserved,
        };
        let cached = dice.below(self.input);
        Job {
            tenant,
            session: dice.below(4),
            uncached: 1 + self.input - cached,
            cached,
            reserved,
            output,
            patience: (dice.below(1000) < self.impatient).then(|| dice.below(200)),
        }
    }
}

fn run(settings: Settings, habits: &[Habit], window: u64, seed: u64) -> Server<Fair> {
    let weights: Vec<u32> = habits.iter().map(|habit| habit.weight).collect();
    let mut server = Server::new(Fair::new(settings), &weights, window);
    let mut dice = Dice(seed);
    for step in 0..1500 {
        let arriving: Vec<Job> = habits
            .iter()
            .enumerate()
            .flat_map(|(tenant, habit)| habit.arriving(&mut dice, step, tenant))
            .collect();
        server.step(arriving);
    }
    server
}

fn holds(server: &Server<Fair>, slack: f64) -> Result<(), TestCaseError> {
    let unit = server.unit() + slack;
    let (both, one) = (server.worst_between_backlogged(), server.worst_against_backlogged());
    prop_assert!(both <= 2.0 * unit, "2U is {}, between two backlogged {both}", 2.0 * unit);
    prop_assert!(one <= 4.0 * unit, "4U is {}, against a backlogged one {one}", 4.0 * unit);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn two_backlogged_tenants_differ_by_2u_and_nobody_passes_a_backlogged_one_by_4u(
        habits in prop::collection::vec(habit(Just(1)), 2..7),
        window in 50u64..4000,
        seed: u64,
    ) {
        holds(&run(Settings::DEFAULT, &habits, window, seed), 0.0)?;
    }

    #[test]
    fn by_weight_they_differ_by_that_over_the_least_weight(
        habits in prop::collection::vec(habit(1u32..20), 2..7),
        window in 50u64..4000,
        seed: u64,
    ) {
        holds(&run(Settings::DEFAULT, &habits, window, seed), 0.0)?;
    }

    #[test]
    fn slack_for_warm_caches_adds_itself_to_u_and_no_more(
        habits in prop::collection::vec(habit(Just(1)), 2..7),
        window in 50u64..4000,
        slack in 0u64..20_000,
        seed: u64,
    ) {
        let settings = Settings { slack: Charge(slack), ..Settings::DEFAULT };
        holds(&run(settings, &habits, window, seed), slack as f64)?;
    }
}

/// A second of each property.
const CASES: u32 = 96;

fn job(tenant: usize, input: u64, output: u64) -> Job {
    Job { tenant, session: 0, uncached: input, cached: 0, reserved: output, output, patience: None }
}

#[test]
fn the_bound_is_no_empty_promise_a_schedule_reaches_half_of_it() {
    let window = 1001;
    let mut server = Server::new(Fair::new(Settings::DEFAULT), &[1, 1], window);
    for step in 0..3000 {
        let both = (step == 0).then(|| (0..40).map(|turn| job(turn % 2, 1, 1000)));
        server.step(both.into_iter().flatten());
    }
    let (bound, reached) = (2.0 * server.unit(), server.worst_between_backlogged());
    println!("T = {window} tokens, 2U = {bound} tenths, reached {reached}: {:.0} %", 100.0 * reached / bound);
    assert!(reached >= 0.3 * bound && reached <= bound, "{reached} of {bound}");
}

fn half_and_half(tenant: usize, count: usize) -> impl Iterator<Item = Job> {
    (0..count).map(move |_| job(tenant, BROKEN_NEED / 2, BROKEN_NEED / 2))
}

/// One tenant is away for long, then both want more than there is: about three requests in two steps.
fn after_absence<O: Order>(order: O) -> f64 {
    let mut server = Server::new(order, &[1, 1], 1000);
    for step in 0..2000 {
        let (first, second) = if step < 1000 { (1, 0) } else { (2, 2) };
        server.step(half_and_half(0, first).chain(half_and_half(1, second)));
    }
    server.worst_between_backlogged() / (2.0 * server.unit())
}

/// One tenant asks six times as much as the other, both more than half of what there is.
fn crowded<O: Order>(order: O) -> f64 {
    let mut server = Server::new(order, &[1, 1], 1000);
    for _ in 0..2000 {
        server.step(half_and_half(0, 6).chain(half_and_half(1, 1)));
    }
    server.worst_between_backlogged() / (2.0 * server.unit())
}

#[test]
fn without_lift_or_first_come_first_served_the_bound_is_broken() {
    let fair = || Fair::new(Settings::DEFAULT);
    assert!(after_absence(fair()) <= 1.0 && crowded(fair()) <= 1.0);
    let (no_lift, fifo) = (after_absence(Broken::no_lift(2)), crowded(Broken::Fifo(Default::default())));
    println!("of the bound: {no_lift:.1} without lift, {fifo:.1} first come, first served");
    assert!(no_lift > 1.0, "without lift {no_lift}");
    assert!(fifo > 1.0, "first come, first served {fifo}");
}

#[test]
fn a_hundred_equal_tenants_at_twice_what_there_is_get_the_same() {
    let mut server = Server::new(Fair::new(Settings::DEFAULT), &[1; 100], 20_000);
    let mut dice = Dice(7);
    // The window takes about 77 of these requests, each for a dozen steps: 6 a step. Twice that comes.
    for _ in 0..4000 {
        let arriving: Vec<Job> = (0..13)
            .map(|_| job(dice.below(100) as usize, 80 + dice.below(160), 50 + dice.below(100)))
            .collect();
        server.step(arriving);
    }
    let served: Vec<f64> = (0..100).map(|tenant| server.served_since(0, tenant) as f64).collect();
    let (sum, squares): (f64, f64) = (served.iter().sum(), served.iter().map(|one| one * one).sum());
    let jain = sum * sum / (100.0 * squares);
    println!("Jain's index {jain:.5}");
    assert!(jain >= 0.99, "{jain}");
    let waiting: usize = (0..100).map(|tenant| server.waiting(tenant)).sum();
    assert!(waiting > 20_000 / 2, "{waiting} wait: there is no overload");
}
