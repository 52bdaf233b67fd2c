//! Between the models of one adapter, and between who runs and who is in need.

use std::task::Context;

use super::*;

fn is_cut(preemption: &mut Preemption) -> bool {
    preemption.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// A bronze request under way that may be cut.
fn victim(world: &World, model: &str) -> (Permit, Preemption) {
    let permit = world.start(model, of_band(Qos::Bronze, 0));
    let held = world.hold();
    let (preemption, victim) = Preemption::new(false);
    world.queue.on_preemptible(held.table.offer(offer(&held, model)).hash, victim);
    (permit, preemption)
}

#[test]
fn a_large_request_of_one_model_is_not_passed_for_ever_by_small_ones_of_another() {
    let mut world = World::new(&limits("max_parallel: 100, max_tokens_in_flight: 100"), &["m", "n"]);
    let sized = |tokens| Ask { need_tokens: tokens, charge: Charge(10 * tokens), ..ask(1) };
    let mut running: Vec<_> = (0..5).map(|_| world.start("n", sized(20))).collect();
    let mut large = world.wait("m", sized(80));
    world.turn();
    let mut small: Vec<_> = (0..50).map(|_| world.wait("n", sized(20))).collect();
    world.turn();
    let mut ended = 0;
    while is_waiting(&large) {
        running.pop().expect("it had its turn long before");
        ended += 1;
        world.turn();
        let at = small.iter().position(|place| !is_waiting(place));
        running.extend(at.map(|at| granted(&mut small.swap_remove(at))));
        assert!(ended <= 10, "passed by {ended}");
    }
    drop(granted(&mut large));
}

#[test]
fn bronze_of_one_model_gets_its_twentieth_while_gold_of_another_takes_all() {
    let mut world = World::new(&limits("max_parallel: 10"), &["m", "n"]);
    let gold = of_band(Qos::Gold, 1);
    let mut running: Vec<_> = (0..10).map(|_| world.start("n", gold)).collect();
    let mut bronze: Vec<_> = (0..40).map(|_| world.wait("m", of_band(Qos::Bronze, 2))).collect();
    let mut waiting = vec![world.wait("n", gold)];
    for _ in 0..420 {
        waiting.push(world.wait("n", gold));
        running.remove(0);
        world.turn();
        for places in [&mut waiting, &mut bronze] {
            while let Some(at) = places.iter().position(|place| !is_waiting(place)) {
                running.push(granted(&mut places.swap_remove(at)));
            }
        }
        assert_eq!(running.len(), 10);
    }
    let served = 40 - bronze.len();
    assert!((19..=21).contains(&served), "{served} of 420");
}

#[test]
fn gold_in_need_takes_the_place_of_bronze_of_another_model_and_nobody_slips_in() {
    let mut world = World::new(&limits("max_parallel: 1"), &["m", "n"]);
    // Gold was served far more than silver: by shares alone silver is next.
    let first = world.start("m", ask(0));
    let dear = Ask { charge: Charge(1_000_000), ..of_band(Qos::Gold, 1) };
    let (mut gold, mut silver) = (world.wait("m", dear), world.wait("m", ask(2)));
    drop(first);
    world.turn();
    granted(&mut gold).on_used(dear.charge);
    world.turn();
    drop(granted(&mut silver));
    world.turn();
    let (permit, mut preemption) = victim(&world, "n");
    let others =
        [Qos::Silver, Qos::Bronze].map(|band| ["n", "m"].map(|model| world.wait(model, of_band(band, 2))));
    let mut gold = world.wait("m", of_band(Qos::Gold, 1));
    world.pass(Duration::from_millis(99));
    assert!(!is_cut(&mut preemption));
    world.pass(Duration::from_millis(1));
    assert!(is_cut(&mut preemption));
    drop(permit);
    world.turn();
    drop(granted(&mut gold));
    assert!(others.iter().flatten().all(is_waiting));
    world.turn();
    assert_eq!(others.iter().flatten().filter(|place| is_waiting(place)).count(), 3, "then they go on");
    assert_eq!(world.cell("n").queue.preempted.value(), 1);
}

#[test]
fn nobody_is_cut_for_gold_that_has_left() {
    let mut world = World::new(&limits("max_parallel: 1"), &["m"]);
    let (_permit, mut preemption) = victim(&world, "m");
    let _silver = world.wait("m", ask(2));
    let gold = world.wait("m", of_band(Qos::Gold, 1));
    world.pass(Duration::from_millis(50));
    drop(gold);
    world.pass(Duration::from_millis(500));
    assert!(!is_cut(&mut preemption));
}

#[test]
fn nobody_is_cut_while_gold_is_served_steadily() {
    let mut world = World::new(&limits("max_parallel: 2"), &["m"]);
    let (_permit, mut preemption) = victim(&world, "m");
    let gold = of_band(Qos::Gold, 1);
    let mut permit = world.start("m", gold);
    let mut next = world.wait("m", gold);
    for _ in 0..20 {
        let after = world.wait("m", gold);
        world.pass(Duration::from_millis(60));
        drop(permit);
        world.turn();
        permit = granted(&mut next);
        next = after;
        assert!(!is_cut(&mut preemption));
    }
}

#[test]
fn a_limit_that_was_lowered_drains_and_one_that_was_raised_is_given_out_at_once() {
    let mut world = World::new(&limits("max_parallel: 4"), &["m"]);
    let mut running: Vec<_> = (0..4).map(|_| world.start("m", of_band(Qos::Gold, 0))).collect();
    let gold = of_band(Qos::Gold, 1);
    let mut places: Vec<_> = (0..6).map(|_| world.wait("m", gold)).collect();
    world.serve(&limits("max_parallel: 2"), &["m"]);
    world.turn();
    for left in [3, 2] {
        running.pop();
        world.turn();
        assert_eq!((world.in_flight().0, places.iter().all(is_waiting)), (left, true));
    }
    running.pop();
    world.turn();
    assert_eq!((world.in_flight().0, is_waiting(&places[0])), (2, false));
    world.serve(&limits("max_parallel: 9"), &["m"]);
    world.turn();
    drop(places.iter_mut().map(granted).collect::<Vec<_>>());
    assert_eq!(world.in_flight().0, 1);
}

#[test]
fn a_models_own_limit_is_said_to_be_too_small_only_where_it_is_what_holds_somebody_back() {
    let moving = format!("{}  concurrency: aimd\n", limits("max_parallel: 2"));
    let mut world = World::new(&moving, &["m", "n"]);
    let gold = of_band(Qos::Gold, 1);
    let running = [world.start("m", gold), world.start("n", gold)];
    let _place = world.wait("m", gold);
    world.turn();
    let is_bound = |world: &World| world.owner.as_ref().expect("it runs").lanes[0].is_bound();
    assert!(!is_bound(&world), "the adapter is full, its own limit is not");
    let [_first, second] = running;
    drop(second);
    world.turn();
    let _more = world.wait("m", gold);
    world.turn();
    assert!(is_bound(&world), "both of it are its own");
}
