//! Who does not get a permit: too late, too old, too many, or in the way of one in need.

use super::*;

fn full(terms: &str) -> (World, Permit) {
    let world = World::new(&limits(terms), &["m"]);
    let first = world.start("m", ask(0));
    (world, first)
}

#[test]
fn a_deadline_that_comes_while_it_waits_is_told_at_once_though_nothing_else_happens() {
    let (mut world, _first) = full("max_parallel: 1");
    let deadline = world.now + Duration::from_millis(150);
    let mut late = world.wait("m", Ask { deadline, ..ask(1) });
    world.turn();
    assert_eq!(world.due, deadline, "the owner asks for that very moment");
    world.pass(Duration::from_millis(149));
    assert!(is_waiting(&late));
    world.pass(Duration::from_millis(1));
    assert_eq!(refused(&mut late), Kind::DeadlineExceeded);
    world.turn();
    assert!(!world.has_waiters());
}

#[test]
fn one_whose_deadline_has_passed_before_it_is_looked_at_is_told_that_and_not_to_come_again() {
    let (mut world, _first) = full("max_parallel: 1");
    let mut late = world.wait("m", Ask { deadline: world.now, ..ask(1) });
    world.turn();
    assert_eq!(refused(&mut late), Kind::DeadlineExceeded);
}

#[test]
fn nobody_waits_longer_than_a_minute() {
    let (mut world, _first) = full("max_parallel: 1");
    let mut old = world.wait("m", ask(1));
    world.pass(Duration::from_secs(60) - Duration::from_millis(1));
    assert!(is_waiting(&old));
    world.pass(Duration::from_millis(1));
    assert_eq!(refused(&mut old), Kind::NoPermit);
}

#[test]
fn a_place_that_is_given_up_is_free_at_once_for_who_comes_to_a_full_queue() {
    let (mut world, _first) = full("max_parallel: 1, max_queued: 2");
    let (gone, _other) = (world.wait("m", ask(1)), world.wait("m", ask(2)));
    world.turn();
    let mut third = world.wait("m", ask(3));
    world.turn();
    assert_eq!(refused(&mut third), Kind::NoPermit);
    drop(gone);
    let fourth = world.wait("m", ask(4));
    world.turn();
    assert!(is_waiting(&fourth));
}

/// Grants one each hundred milliseconds, so that the queue knows how fast it is.
fn paced(world: &mut World, first: Permit) -> Permit {
    let mut permit = first;
    for _ in 0..20 {
        let mut next = world.wait("m", ask(1));
        world.pass(Duration::from_millis(100));
        drop(permit);
        world.turn();
        permit = granted(&mut next);
    }
    permit
}

#[test]
fn who_would_be_too_late_is_told_at_once_and_when_to_come_back() {
    let (mut world, first) = full("max_parallel: 1, max_queued: 1000");
    let _running = paced(&mut world, first);
    let _waiting: Vec<_> = (0..100).map(|_| world.wait("m", ask(1))).collect();
    let ask = Ask { deadline: world.now + Duration::from_secs(1), ..ask(1) };
    let mut late = world.wait("m", ask);
    world.turn();
    let Kind::TooLate { wait_s } = refused(&mut late) else { panic!("it waits or was refused otherwise") };
    // A hundred are before it, ten a second.
    assert!((9..=12).contains(&wait_s), "{wait_s} s");
    let soon = world.wait("m", Ask { deadline: world.now + Duration::from_secs(30), ..ask });
    world.turn();
    assert!(is_waiting(&soon), "one with time waits");
}

#[test]
fn nobody_is_told_to_come_back_later_than_all_who_wait_now_are_gone() {
    let (mut world, first) = full("max_parallel: 1, max_queued: 10000");
    let _running = paced(&mut world, first);
    let huge = Ask { charge: Charge(1_000_000), ..ask(1) };
    let _waiting: Vec<_> = (0..1000).map(|_| world.wait("m", huge)).collect();
    let mut late = world.wait("m", Ask { deadline: world.now + Duration::from_secs(1), ..ask(1) });
    world.turn();
    assert_eq!(refused(&mut late), Kind::TooLate { wait_s: 60 });
}

#[test]
fn where_none_may_wait_who_finds_no_permit_is_refused_and_counted() {
    let (mut world, _first) = full("max_parallel: 1, max_queued: 0");
    let mut second = world.wait("m", ask(1));
    world.turn();
    assert_eq!(refused(&mut second), Kind::NoPermit);
    assert_eq!(world.cell("m").queue.refused.value(), 1);
    assert!(!world.has_waiters());
}

#[test]
fn where_none_may_wait_nobody_is_refused_a_permit_for_another_that_was_refused_one() {
    let (mut world, first) = full("max_parallel: 1, max_queued: 0");
    let mut second = world.wait("m", ask(1));
    drop(first);
    // It finds the bit of the second, which nobody has looked at yet.
    let mut third = world.wait("m", ask(2));
    world.turn();
    let permit = granted(&mut second);
    assert_eq!(refused(&mut third), Kind::NoPermit);
    drop(permit);
    assert_eq!(world.in_flight(), (0, 0));
}

#[test]
fn a_burst_is_not_refused_while_there_is_room_though_the_queue_is_shorter_than_the_burst() {
    let (mut world, first) = full("max_parallel: 50, max_queued: 4");
    let _others: Vec<_> = (0..42).map(|_| world.start("m", ask(0))).collect();
    let mut places = vec![world.wait("m", ask(1))];
    drop((first, _others));
    // All find the bit of the first.
    places.extend((0..30).map(|tenant| world.wait("m", ask(tenant))));
    world.turn();
    let served = places.into_iter().map(|mut place| granted(&mut place)).collect::<Vec<_>>();
    assert_eq!((served.len(), world.in_flight().0), (31, 31));
}

#[test]
fn a_queue_made_shorter_keeps_who_waits_and_one_made_longer_takes_in_more() {
    let (mut world, first) = full("max_parallel: 1, max_queued: 4");
    let mut places: Vec<_> = (1..5).map(|tenant| world.wait("m", ask(tenant))).collect();
    world.turn();
    world.serve(&limits("max_parallel: 1, max_queued: 0"), &["m"]);
    let mut refused_now = world.wait("m", ask(5));
    world.turn();
    assert_eq!(refused(&mut refused_now), Kind::NoPermit);
    let mut permit = first;
    for place in &mut places {
        drop(permit);
        world.turn();
        permit = granted(place);
    }
    world.serve(&limits("max_parallel: 1, max_queued: 3"), &["m"]);
    world.turn();
    let mut more: Vec<_> = (1..5).map(|tenant| world.wait("m", ask(tenant))).collect();
    world.turn();
    assert!(more[..3].iter().all(is_waiting));
    assert_eq!(refused(&mut more[3]), Kind::NoPermit);
}

#[test]
fn gold_takes_the_place_of_the_newest_bronze_where_the_queue_is_full() {
    let (mut world, first) = full("max_parallel: 1, max_queued: 4");
    let bronze = |tenant| of_band(Qos::Bronze, tenant);
    let mut places: Vec<_> = [1, 2, 2, 3].map(|tenant| world.wait("m", bronze(tenant))).into();
    world.turn();
    let mut silver = world.wait("m", ask(9));
    let mut gold = world.wait("m", of_band(Qos::Gold, 9));
    world.turn();
    assert_eq!(refused(&mut silver), Kind::NoPermit, "silver takes nobody's place");
    assert!(is_waiting(&gold));
    assert_eq!(refused(&mut places[2]), Kind::Preempted, "the newest of who has most waiting");
    assert!([0, 1, 3].iter().all(|at| is_waiting(&places[*at])));
    let tally = &world.cell("m").queue;
    assert_eq!((tally.preempted.value(), tally.dropped.value(), tally.depth()), (1, 1, [1, 0, 3]));
    drop(first);
    world.turn();
    drop(granted(&mut gold));
}

#[test]
fn bronze_gives_no_place_to_gold_that_would_not_wait_in_it() {
    let (mut world, _first) = full("max_parallel: 1, max_queued: 4");
    let gold = |tenant| of_band(Qos::Gold, tenant);
    let bronze: Vec<_> = (1..5).map(|tenant| world.wait("m", of_band(Qos::Bronze, tenant))).collect();
    let mut late = world.wait("m", Ask { deadline: world.now, ..gold(9) });
    world.turn();
    assert_eq!(refused(&mut late), Kind::DeadlineExceeded);
    assert!(bronze.iter().all(is_waiting));
    let mut many: Vec<_> = (0..4).map(|_| world.wait("m", gold(9))).collect();
    world.turn();
    let left = bronze.iter().filter(|place| is_waiting(place)).count();
    assert_eq!(left, 2, "one tenant of gold alone takes half of the queue, as any tenant");
    assert_eq!(many.iter_mut().filter(|place| is_waiting(place)).count(), 2);
    let mut other = world.wait("m", gold(8));
    world.turn();
    assert!(is_waiting(&other) && bronze.iter().filter(|place| is_waiting(place)).count() == 1);
    drop(other.answer.try_recv());
}
