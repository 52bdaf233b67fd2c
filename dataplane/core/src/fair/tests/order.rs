//! Who is next, level by level, and how requests leave.

use super::*;

#[test]
fn tenants_take_turns_however_much_each_asks() {
    let mut queue = queue();
    for round in 0..6 {
        put(&mut queue, at(1), ask(1), (1, round));
    }
    put(&mut queue, at(1), ask(2), (2, 0));
    put(&mut queue, at(1), ask(2), (2, 1));
    let order: Vec<u64> = drain(&mut queue, at(1)).into_iter().map(|(tenant, _)| tenant).collect();
    assert_eq!(order, [1, 2, 1, 2, 1, 1, 1, 1]);
}

#[test]
fn shares_follow_weights_in_tokens() {
    let mut queue = queue();
    for _ in 0..400 {
        put(&mut queue, at(1), Ask { weight: 4, ..ask(1) }, 1);
        put(&mut queue, at(1), ask(2), 2);
    }
    let first: Vec<u64> =
        (0..100).map(|_| next(&mut queue, at(1), &room()).expect("many wait").payload).collect();
    assert_eq!(first.iter().filter(|tenant| **tenant == 1).count(), 80);
}

#[test]
fn of_one_tenant_the_session_served_least_of_late_goes_first() {
    let mut queue = queue();
    let of = |session| Ask { session, ..ask(1) };
    for _ in 0..3 {
        put(&mut queue, at(1), of(1), 1);
    }
    assert_eq!(next(&mut queue, at(1), &room()).expect("three wait").payload, 1);
    put(&mut queue, at(1), of(2), 2);
    put(&mut queue, at(1), of(2), 2);
    assert_eq!(drain(&mut queue, at(1)), [2, 1, 2, 1]);

    // Session 1 was served much, long ago; session 2 little, now.
    put(&mut queue, at(2), Ask { charge: Charge(100_000), ..of(1) }, 1);
    drain(&mut queue, at(2));
    let later = at(2 + 60 * 14);
    put(&mut queue, later, Ask { charge: Charge(100), ..of(2) }, 2);
    drain(&mut queue, later);
    put(&mut queue, later, of(2), 2);
    put(&mut queue, later, of(1), 1);
    assert_eq!(drain(&mut queue, later), [1, 2], "100,000 tenths halved fourteen times are six");
}

#[test]
fn of_one_session_the_earliest_deadline_goes_first() {
    let mut queue = queue();
    for seconds in [30, 10, 20] {
        put(&mut queue, at(1), Ask { deadline: at(seconds), ..ask(1) }, seconds);
    }
    assert_eq!(drain(&mut queue, at(1)), [10, 20, 30]);
}

#[test]
fn starvation_orders_one_tenants_requests_and_no_others() {
    let mut queue = queue();
    put(&mut queue, at(1), Ask { session: 1, charge: Charge(500), ..ask(1) }, "served");
    drain(&mut queue, at(1));
    put(&mut queue, at(1), Ask { session: 1, ..ask(1) }, "oldest");
    put(&mut queue, at(1), Ask { session: 2, ..ask(1) }, "newer");
    // The other tenant comes later and was served less: the starved request of the first does not pass it.
    put(&mut queue, at(2), ask(2), "other");
    let order = drain(&mut queue, at(2));
    assert_eq!(order, ["oldest", "other", "newer"]);
    assert_eq!(queue.counts().starved, 1);

    put(&mut queue, at(3), Ask { charge: Charge(5000), ..ask(1) }, "much");
    put(&mut queue, at(3), ask(2), "one");
    put(&mut queue, at(3), ask(2), "two");
    assert_eq!(next(&mut queue, at(3), &room()).expect("three wait").payload, "much");
    put(&mut queue, at(3), Ask { session: 1, ..ask(1) }, "starved, of whom was served more");
    put(&mut queue, at(3), Ask { session: 2, ..ask(1) }, "newer");
    let mut first = || next(&mut queue, at(4), &room()).expect("four wait").payload;
    assert_eq!([first(), first()], ["one", "two"], "a second is past the threshold, but of another tenant");
    assert_eq!(drain(&mut queue, at(9)), ["starved, of whom was served more", "newer"]);
}

#[test]
fn gold_silver_and_bronze_share_five_to_three_to_one_while_there_is_room() {
    let mut queue = queue();
    for _ in 0..90 {
        for band in [Qos::Bronze, Qos::Silver, Qos::Gold] {
            put(&mut queue, at(1), Ask { band, ..ask(1) }, band);
        }
    }
    let first: Vec<Qos> =
        (0..90).map(|_| next(&mut queue, at(1), &room()).expect("many wait").payload).collect();
    let count = |band| first.iter().filter(|granted| **granted == band).count();
    assert_eq!((count(Qos::Gold), count(Qos::Silver), count(Qos::Bronze)), (50, 30, 10));
}

#[test]
fn lower_bands_leave_room_and_get_their_minimum_past_it() {
    let mut queue = queue();
    for _ in 0..2000 {
        for band in [Qos::Bronze, Qos::Silver, Qos::Gold] {
            put(&mut queue, at(1), Ask { band, tenant: band as u64, ..ask(1) }, band);
        }
    }
    let full = Room { in_flight: 900, ..room() };
    let served: Vec<Qos> =
        (0..1000).map(|_| next(&mut queue, at(1), &full).expect("many wait").payload).collect();
    let count = |band| served.iter().filter(|granted| **granted == band).count();
    // 15 % and 5 % of what was served before the request that is due.
    assert_eq!((count(Qos::Gold), count(Qos::Silver), count(Qos::Bronze)), (802, 149, 49));
    assert_eq!(queue.counts().guaranteed, 198);

    // Whoever was held back does not make up for it: the weights hold again at once.
    let after: Vec<Qos> =
        (0..90).map(|_| next(&mut queue, at(1), &room()).expect("many wait").payload).collect();
    let gold = after.iter().filter(|band| **band == Qos::Gold).count();
    assert!((40..=51).contains(&gold), "{gold} of 90");
}

#[test]
fn a_band_alone_keeps_below_its_ceiling_and_one_is_always_allowed() {
    assert_eq!([ceiling(Qos::Bronze, 10), ceiling(Qos::Silver, 10), ceiling(Qos::Gold, 10)], [7, 9, 10]);
    assert_eq!([ceiling(Qos::Bronze, 1), ceiling(Qos::Bronze, 0)], [1, 1]);
    let mut queue = queue();
    put(&mut queue, at(1), Ask { band: Qos::Bronze, ..ask(1) }, ());
    assert!(next(&mut queue, at(1), &Room { in_flight: 7, limit: 10, ..room() }).is_none());
    assert!(next(&mut queue, at(1), &Room { in_flight: 6, limit: 10, ..room() }).is_some());
    put(&mut queue, at(1), ask(1), ());
    assert!(next(&mut queue, at(1), &Room { in_flight: 0, limit: 0, ..room() }).is_none());
}

#[test]
fn what_does_not_fit_yet_is_not_passed_by_smaller_ones() {
    let mut queue = queue();
    put(&mut queue, at(1), Ask { need_tokens: 1000, ..ask(1) }, 1);
    put(&mut queue, at(1), Ask { need_tokens: 1, ..ask(2) }, 2);
    let small = Room { fits: &|tokens| tokens < 100, ..room() };
    assert!(next(&mut queue, at(1), &small).is_none());
    assert_eq!(drain(&mut queue, at(1)), [1, 2]);
}

#[test]
fn a_warm_tenant_goes_first_within_the_slack_and_not_beyond() {
    let mut queue = FairQueue::new(Settings { slack: Charge(150), ..Settings::DEFAULT });
    for _ in 0..4 {
        put(&mut queue, at(1), ask(1), 1);
        put(&mut queue, at(1), ask(2), 2);
    }
    let warm = Room { is_warm: &|tenant| tenant == 2, ..room() };
    let order: Vec<u64> =
        std::iter::from_fn(|| next(&mut queue, at(1), &warm)).map(|granted| granted.payload).collect();
    assert_eq!(order, [2, 2, 1, 2, 1, 2, 1, 1]);
}

#[test]
fn those_nobody_waits_for_are_dropped_on_the_way_and_cost_nothing() {
    let mut queue = queue();
    let ticket = put(&mut queue, at(1), ask(1), "cancelled");
    put(&mut queue, at(1), ask(1), "gone");
    put(&mut queue, at(1), Ask { deadline: at(2), ..ask(1) }, "late");
    put(&mut queue, at(1), ask(1), "alive");
    put(&mut queue, at(1), ask(2), "other");
    assert_eq!(queue.remove(ticket), Some("cancelled"));
    assert_eq!(queue.remove(ticket), None);
    let mut dropped = Vec::new();
    let pick = queue
        .select(at(2), &room(), |payload| *payload == "gone", |payload, why| dropped.push((payload, why)))
        .expect("two are alive");
    assert_eq!(dropped, [("gone", Why::Gone), ("late", Why::Late)]);
    assert_eq!(queue.take(at(2), pick).map(|granted| granted.payload), Some("alive"));
    assert!(queue.take(at(2), pick).is_none(), "nobody is granted twice");
    assert_eq!((queue.len(), queue.depth(Qos::Silver), queue.depth_of(Qos::Silver, 1)), (1, 1, 0));
    assert_eq!(queue.counts().dropped, 3);
}

#[test]
fn deadlines_and_ages_end_a_wait_when_they_come() {
    let mut queue = FairQueue::new(Settings { age_max: Duration::from_secs(20), ..Settings::DEFAULT });
    put(&mut queue, at(1), Ask { deadline: at(50), ..ask(1) }, "aged");
    put(&mut queue, at(1), Ask { deadline: at(10), ..ask(2) }, "late");
    put(&mut queue, at(5), ask(3), "alive");
    assert_eq!(queue.next_expiry(), Some(at(10)));
    let mut dropped = Vec::new();
    queue.expire(at(9), |payload, why| dropped.push((payload, why)));
    assert_eq!(dropped, []);
    queue.expire(at(21), |payload, why| dropped.push((payload, why)));
    assert_eq!(dropped, [("late", Why::Late), ("aged", Why::Aged)]);
    assert_eq!((queue.len(), queue.next_expiry()), (1, Some(at(25))));
    queue.sweep(|_| true, |payload| dropped.push((payload, Why::Gone)));
    assert_eq!((queue.len(), queue.bytes(), queue.next_expiry()), (0, 0, None));
}

#[test]
fn who_makes_room_is_the_newest_of_who_has_most_waiting_and_of_that_band_alone() {
    let mut queue = queue();
    let bronze = |tenant| Ask { band: Qos::Bronze, ..ask(tenant) };
    put(&mut queue, at(1), ask(1), "silver");
    for (tenant, name) in [(1, "a"), (2, "b1"), (2, "b2"), (1, "a2"), (2, "b3")] {
        put(&mut queue, at(1), bronze(tenant), name);
    }
    assert_eq!([0; 2].map(|_| queue.evict(Qos::Bronze).is_some()), [true; 2], "b3, and one of two");
    let left: Vec<_> = drain(&mut queue, at(1));
    assert!(left.contains(&"a") && left.contains(&"b1") && left.len() == 4, "{left:?}");
    assert_eq!((queue.evict(Qos::Bronze), queue.evict(Qos::Silver)), (None, None));
    assert_eq!((queue.counts().dropped, queue.counts().granted), (2, 4));
}

#[test]
fn gold_finds_the_places_of_bronze_as_good_as_free_but_none_where_all_are_its_own() {
    let mut queue = FairQueue::new(Settings { items_max: 4, ..Settings::DEFAULT });
    for tenant in 0..4 {
        put(&mut queue, at(1), Ask { band: Qos::Bronze, ..ask(tenant) }, tenant);
    }
    let gold = Ask { band: Qos::Gold, ..ask(9) };
    assert!(matches!(queue.enqueue(at(1), gold, 9), Err((9, Refused::Full))), "not without an eviction");
    let mut evicted = 0;
    while queue.evict(Qos::Bronze).is_some() {
        evicted += 1;
        if queue.enqueue(at(1), gold, 9).is_err() {
            break;
        }
    }
    assert_eq!((evicted, queue.depth(Qos::Gold), queue.depth(Qos::Bronze)), (3, 2, 1));
}

#[test]
fn a_queue_that_is_made_smaller_lets_nobody_in_until_it_has_shrunk_and_a_larger_one_does_at_once() {
    let mut queue = FairQueue::new(Settings { items_max: 2, ..Settings::DEFAULT });
    put(&mut queue, at(1), ask(1), 1);
    put(&mut queue, at(1), ask(2), 2);
    assert!(matches!(queue.enqueue(at(1), ask(3), 3), Err((3, Refused::Full))));
    queue.resize(3, 6);
    put(&mut queue, at(1), ask(3), 3);
    queue.resize(1, 2);
    assert!(matches!(queue.enqueue(at(1), ask(4), 4), Err((4, Refused::Full))));
    assert_eq!(drain(&mut queue, at(1)).len(), 3, "who waited may go on");
    put(&mut queue, at(1), ask(4), 4);
}
