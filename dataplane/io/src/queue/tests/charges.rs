//! What a tenant is charged, seen by who is next.

use super::*;

#[test]
fn who_left_with_its_permit_on_its_way_gives_it_back_and_is_charged_nothing() {
    let mut world = World::new(&limits("max_parallel: 1"), &["m"]);
    let first = world.start("m", ask(0));
    let dear = Ask { charge: Charge(1_000_000), ..ask(1) };
    let gone = world.wait("m", dear);
    let (mut again, mut other, last) =
        (world.wait("m", dear), world.wait("m", ask(2)), world.wait("m", ask(2)));
    drop(first);
    world.turn();
    assert!(!is_waiting(&gone), "its permit is on its way");
    drop(gone);
    world.turn();
    // It was charged the least there is; the other tenant is next, and by its service behind again.
    let mut permit = granted(&mut other);
    permit.on_used(Charge(100));
    drop(permit);
    world.turn();
    assert!(!is_waiting(&again) && is_waiting(&last), "what was never used is not paid for");
    drop((granted(&mut again), last));
    world.turn();
    assert_eq!(world.in_flight(), (0, 0));
}

/// Two at once, of which tenant 2 has one, charged 500; tenant 1 has the other, charged 10. Both have another
/// waiting, and by that tenant 1 is next.
fn two_under_way() -> (World, [Permit; 2], [Place; 2]) {
    let mut world = World::new(&limits("max_parallel: 2"), &["m"]);
    let gold = |tenant, tenths| Ask { charge: Charge(tenths), ..of_band(Qos::Gold, tenant) };
    let before = [world.start("m", gold(0, 10)), world.start("m", gold(0, 10))];
    let mut places = [world.wait("m", gold(1, 10)), world.wait("m", gold(2, 500))];
    let behind = [world.wait("m", gold(1, 10)), world.wait("m", gold(2, 10))];
    world.turn();
    drop(before);
    world.turn();
    let permits = places.each_mut().map(granted);
    assert!(behind.iter().all(is_waiting));
    (world, permits, behind)
}

#[test]
fn who_was_charged_less_is_next() {
    let (mut world, [_one, mut two], behind) = two_under_way();
    two.on_used(Charge(500));
    drop(two);
    world.turn();
    assert_eq!(behind.each_ref().map(is_waiting), [false, true]);
}

#[test]
fn an_answer_that_grows_is_charged_while_it_grows() {
    let (mut world, [mut one, mut two], behind) = two_under_way();
    one.extend(64, Charge(1280));
    two.on_used(Charge(500));
    drop(two);
    world.turn();
    assert_eq!(behind.each_ref().map(is_waiting), [true, false]);
}

#[test]
fn what_the_owner_could_not_be_told_is_charged_at_the_end_and_who_comes_then_is_refused_and_counted() {
    let (mut world, [mut one, _two], behind) = two_under_way();
    while world.queue.notes_lost() == 0 {
        world.queue.on_preemptible(0, Preemption::new(false).1);
    }
    one.extend(64, Charge(1280));
    let late = world.come("m", ask(3));
    assert!(matches!(late, Came::Refused(fault) if fault.kind == Kind::NoPermit));
    assert_eq!(world.queue.notes_lost(), 3);
    world.turn();
    one.on_used(Charge(1290));
    drop(one);
    world.turn();
    assert_eq!(behind.each_ref().map(is_waiting), [true, false]);
}

#[test]
fn who_did_not_wait_is_charged_for_what_it_was_served_while_others_do() {
    for (used, is_first_next) in [(1000, false), (0, true)] {
        let mut world = World::new(&limits("max_parallel: 2"), &["m"]);
        let gold = |tenant| Ask { charge: Charge(10), ..of_band(Qos::Gold, tenant) };
        let [mut first, second] = [world.start("m", gold(1)), world.start("m", gold(2))];
        let places = [world.wait("m", gold(1)), world.wait("m", gold(2))];
        let behind = [world.wait("m", gold(1)), world.wait("m", gold(2))];
        world.turn();
        first.on_used(Charge(used));
        drop(first);
        world.turn();
        // Tenants 1 and 2 wait alike; who was served before them decides.
        assert_eq!(is_waiting(&places[0]), !is_first_next, "{used} tenths were served");
        drop((second, places, behind));
    }
}
