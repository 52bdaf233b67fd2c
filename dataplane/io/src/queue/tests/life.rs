//! How an owner ends, is found again, and survives a mistake of ours.

use std::sync::Weak;
use std::task::Context;

use super::*;

impl World {
    /// Nobody but the owner and the returned weak reference has the queue.
    fn let_go(mut self) -> (Owner, Waker, Weak<Queue>) {
        self.world_ends();
        let waker = Waker::from(Arc::clone(&self.bell));
        (self.owner.take().expect("it runs"), waker, Arc::downgrade(&self.queue))
    }

    /// A thread keeps what it loaded last: nothing of this world any more.
    fn world_ends(&mut self) {
        self.tables = Tables::new();
        let other = Tables::new();
        other.swap(0);
        other.load().expect("it is there");
    }
}

#[test]
fn an_owner_ends_when_nobody_holds_its_queue_and_not_before() {
    let mut world = World::new(&limits("max_parallel: 1"), &["m"]);
    let first = world.start("m", ask(0));
    let mut second = world.wait("m", ask(1));
    let now = world.now;
    world.world_ends();
    world.turn();
    assert_eq!(world.depth(), 1);
    let (mut owner, waker, weak) = world.let_go();
    let mut look = move |seconds| owner.turn(&waker, now + Duration::from_secs(seconds), || ());
    assert!(look(1).is_some(), "requests under way hold it, and one who waits");
    drop(first);
    assert!(look(2).is_some());
    let permit = granted(&mut second);
    assert!(look(3).is_some(), "a permit holds it");
    drop((permit, second));
    assert!(look(40).is_none());
    assert!(weak.upgrade().is_none(), "it is gone with its owner");
    assert!(look(50).is_none(), "and stays gone");
}

#[test]
fn an_owner_with_nothing_to_do_looks_within_half_a_minute_whether_anybody_holds_it() {
    let world = World::new(&limits("max_parallel: 1"), &["m"]);
    assert!(world.due <= world.now + Duration::from_secs(30), "{:?}", world.due);
}

#[test]
fn a_queue_that_is_found_again_goes_on_and_one_that_is_over_is_found_no_more() {
    let world = World::new(&limits("max_parallel: 1"), &["m"]);
    let (text, now) = (limits("max_parallel: 3"), world.now);
    let (mut owner, waker, weak) = world.let_go();
    let found = weak.upgrade().expect("its owner has not looked yet");
    assert!(owner.turn(&waker, now, || ()).is_some(), "somebody holds it again");
    let (mut registry, tables) = (Registry::new(1), Tables::new());
    let snapshot = registry.bind(0, 2, table(&text, &["m", "n"]));
    let terms = Terms::of(&snapshot.table, &snapshot.offers).pop().expect("one adapter");
    found.set_terms(terms);
    assert!(owner.turn(&waker, now, || ()).is_some());
    assert_eq!(owner.lanes.len(), 2, "the new set is served");
    tables.swap(Served { snapshot, upstreams: Box::default(), queues: Box::default() });
    drop(found);
    assert!(owner.turn(&waker, now, || ()).is_none());
    assert!(weak.upgrade().is_none());
}

#[test]
fn lanes_of_models_that_are_gone_end_when_no_request_holds_them_and_come_back_with_their_limit() {
    let mut world = World::new(&limits("max_parallel: 1"), &["m", "n"]);
    let first = world.start("n", ask(0));
    let mut second = world.wait("n", ask(1));
    world.serve(&limits("max_parallel: 1"), &["m"]);
    drop(world.hold());
    world.pass(Duration::from_secs(5));
    let lanes = |world: &World| world.owner.as_ref().expect("it runs").lanes.len();
    assert_eq!(lanes(&world), 2, "somebody waits in it");
    drop(first);
    world.turn();
    drop(granted(&mut second));
    drop(second);
    // The owner of a quiet queue looks twice a minute, and counts seconds only when it looks.
    world.pass(Duration::from_secs(60));
    assert_eq!(lanes(&world), 1);
    world.serve(&limits("max_parallel: 1"), &["m", "n"]);
    world.turn();
    let first = world.start("n", ask(0));
    let mut second = world.wait("m", ask(1));
    drop(first);
    world.turn();
    drop(granted(&mut second));
}

/// A waker that is the mistake: it panics where the owner wakes the one it answers.
struct Mistake;

impl Wake for Mistake {
    fn wake(self: Arc<Mistake>) {
        panic!("a mistake within the owner");
    }
}

impl Place {
    /// To answer it is a mistake.
    fn is_mistaken(&mut self) {
        let waker = Waker::from(Arc::new(Mistake));
        assert!(Pin::new(self).poll(&mut Context::from_waker(&waker)).is_pending());
    }
}

#[test]
fn a_mistake_in_the_owner_leaves_nobody_waiting_and_those_who_come_later_are_served() {
    let mut world = World::new(&limits("max_parallel: 1"), &["m", "n"]);
    let first = world.start("m", ask(0));
    let (mut second, mut third) = (world.wait("m", ask(1)), world.wait("n", ask(2)));
    world.turn();
    second.is_mistaken();
    drop(first);
    world.turn();
    assert_eq!(world.panics, 1);
    assert!(third.answer.try_recv().is_err() && !is_waiting(&third), "its wait is over");
    drop((second, third));
    world.pass(Duration::from_secs(2));
    assert_eq!((world.in_flight(), world.has_waiters(), world.depth()), ((0, 0), false, 0));
    let first = world.start("n", ask(0));
    let mut later = world.wait("m", ask(1));
    world.turn();
    drop(first);
    world.turn();
    drop(granted(&mut later));
    assert_eq!((world.in_flight().0, world.panics), (0, 1));
}

#[test]
fn what_was_charged_before_a_mistake_is_given_back_to_nobody_after_it() {
    let mut world = World::new(&limits("max_parallel: 3"), &["m"]);
    let gold = |tenant, tenths| Ask { charge: Charge(tenths), ..of_band(Qos::Gold, tenant) };
    let [first, second, third] = [(); 3].map(|()| world.start("m", gold(0, 10)));
    let mut before = world.wait("m", gold(1, 1000));
    world.turn();
    drop(first);
    world.turn();
    let before = granted(&mut before);
    let mut mistaken = world.wait("m", gold(1, 10));
    world.turn();
    mistaken.is_mistaken();
    drop(second);
    world.turn();
    drop(mistaken);
    world.pass(Duration::from_secs(2));
    assert_eq!((world.panics, world.in_flight().0), (1, 2));
    // New accounts: tenant 2 is charged 1000, tenant 3 is charged 500.
    let fourth = world.start("m", gold(0, 10));
    let mut two = [world.wait("m", gold(2, 1000)), world.wait("m", gold(2, 10))];
    let mut three = [world.wait("m", gold(3, 500)), world.wait("m", gold(3, 10))];
    world.turn();
    drop(third);
    world.turn();
    drop(fourth);
    world.turn();
    let under_way = [granted(&mut two[0]), granted(&mut three[0])];
    drop(before);
    world.turn();
    assert!(
        is_waiting(&two[1]) && !is_waiting(&three[1]),
        "it was not tenant 2 that used less than it reserved"
    );
    drop(under_way);
}

#[test]
fn a_victim_whose_owner_is_gone_is_never_cut_however_often_it_asks() {
    let (mut preemption, victim) = Preemption::new(true);
    drop(victim);
    let mut cx = Context::from_waker(Waker::noop());
    assert!((0..3).all(|_| preemption.poll(&mut cx).is_pending()));
}

#[test]
fn more_notes_than_one_round_reads_are_all_read_without_another_wake() {
    let mut world = World::new(&limits("max_parallel: 1, max_queued: 100000"), &["m"]);
    let _first = world.start("m", ask(0));
    let _waits = world.wait("m", ask(1));
    world.turn();
    let late = Ask { deadline: world.now + Duration::from_millis(500), ..ask(2) };
    let mut places: Vec<_> = (0..10_000).map(|_| world.wait("m", late)).collect();
    world.turn();
    assert!(world.queue.notes.is_empty(), "{} notes unread", world.queue.notes.len());
    world.pass(Duration::from_millis(500));
    assert!(places.iter_mut().all(|place| !is_waiting(place)));
}
