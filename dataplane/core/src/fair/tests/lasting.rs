//! What stays: nothing is lost or granted twice, who is away is forgotten, and the door refuses in time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const BANDS: [Qos; 3] = [Qos::Bronze, Qos::Silver, Qos::Gold];

/// Everything a queue is asked to do, against a plain list of who waits.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<u64, (Ask, Ticket)>,
    shares: Vec<Share>,
    left: u64,
}

impl Model {
    fn step(&mut self, queue: &mut FairQueue<u64>, now: Moment, id: u64, (what, value): (u8, u64)) {
        let made = Ask {
            tenant: value % 7,
            weight: 1 + u32::try_from(value % 5).unwrap(),
            session: value % 3,
            band: BANDS[value as usize % 3],
            charge: Charge(value % 3000),
            deadline: Moment(now.0 + (1 + value % 40) * SECOND),
            bytes: (value % 50) as u32,
            ..ask(0)
        };
        match what {
            0..4 => {
                if let Ok(ticket) = queue.enqueue(now, made, id) {
                    self.waiting.insert(id, (made, ticket));
                }
            }
            4 | 5 => {
                let room = Room { in_flight: (value % 12) as u32, limit: 10, ..room() };
                let is_gone = |id: &u64| id.is_multiple_of(11);
                let pick = queue.select(now, &room, is_gone, |id, _| {
                    self.waiting.remove(&id).expect("only who waits is dropped");
                    self.left += 1;
                });
                if let Some(granted) = pick.and_then(|pick| queue.take(now, pick)) {
                    let (asked, _) =
                        self.waiting.remove(&granted.payload).expect("only who waits is granted");
                    assert!(asked.deadline > now && !granted.payload.is_multiple_of(11));
                    assert_eq!(granted.share.charged(), asked.charge.max(CHARGE_MIN));
                    self.shares.push(granted.share);
                }
            }
            6 if !self.shares.is_empty() => {
                let share = self.shares.swap_remove(value as usize % self.shares.len());
                queue.extend(share, Charge(value % 640));
                queue.settle(now, share.extended(Charge(value % 640)), Charge(value % 2000));
            }
            7 => {
                if let Some((&id, &(_, ticket))) = self.waiting.iter().nth(value as usize % 20) {
                    assert_eq!(queue.remove(ticket), Some(id));
                    self.waiting.remove(&id);
                    self.left += 1;
                }
            }
            8 => self.shares.push(queue.note(now, made)),
            _ => queue.expire(now, |id, why| {
                let (asked, _) = self.waiting.remove(&id).expect("only who waits expires");
                assert!(why == Why::Aged || asked.deadline <= now);
                self.left += 1;
            }),
        }
        let of = |band| self.waiting.values().filter(|(asked, _)| asked.band == band).count();
        assert_eq!(BANDS.map(|band| queue.depth(band) as usize), BANDS.map(of));
        let bytes: u64 = self.waiting.values().map(|(asked, _)| u64::from(asked.bytes)).sum();
        assert_eq!((queue.len(), queue.bytes()), (self.waiting.len(), bytes));
        assert_eq!(queue.counts().dropped, self.left);
    }
}

proptest! {
    #[test]
    fn whatever_happens_nothing_is_lost_or_granted_twice_and_no_bound_is_passed(
        steps in prop::collection::vec((0u8..10, any::<u64>(), 0u64..3_000_000_000), 1..300)
    ) {
        let (items_max, tenants_max, sessions_max) = (40, 5, 50);
        let settings = Settings { items_max, bytes_max: 800, tenants_max, sessions_max, ..Settings::DEFAULT };
        let (mut queue, mut model, mut now) = (FairQueue::new(settings), Model::default(), at(1));
        for (id, (what, value, passed)) in steps.into_iter().enumerate() {
            now = now + Duration::from_nanos(passed);
            model.step(&mut queue, now, id as u64, (what, value));
            let (flows, sessions) = queue.remembered();
            assert!(queue.len() <= 40 && queue.bytes() <= 800 && sessions <= 50, "{flows} {sessions}");
        }
        for share in model.shares.drain(..) {
            queue.settle(now, share, Charge(1));
        }
        queue.expire(Moment(u64::MAX), |id, _| {
            model.waiting.remove(&id).expect("it waited");
        });
        prop_assert!(queue.is_empty() && model.waiting.is_empty());
    }
}

#[test]
fn ten_thousand_tenants_that_went_away_are_forgotten() {
    let mut queue = queue();
    for tenant in 0..10_000 {
        put(&mut queue, at(1), ask(tenant), ());
        let granted = next(&mut queue, at(1), &room()).expect("one waits");
        queue.settle(at(1), granted.share, Charge(100));
        let (flows, sessions) = queue.remembered();
        assert!(flows <= 3, "{flows} flows");
        assert!(sessions <= Settings::DEFAULT.sessions_max as usize);
    }
    // And where others wait meanwhile: as soon as everybody who waits was served as much.
    for _ in 0..100 {
        put(&mut queue, at(2), ask(1), ());
        put(&mut queue, at(2), ask(2), ());
    }
    for tenant in 10..60 {
        put(&mut queue, at(2), ask(tenant), ());
    }
    let mut most = 0;
    while let Some(granted) = next(&mut queue, at(3), &room()) {
        queue.settle(at(3), granted.share, Charge(100));
        most = most.max(queue.remembered().0);
    }
    assert!((50..=55).contains(&most) && queue.remembered().0 <= 3, "{most}, {:?}", queue.remembered());
    // A day later the sessions are nothing either.
    for _ in 0..10_000 / 4 {
        let ticket = put(&mut queue, at(100_000), ask(1), ());
        queue.remove(ticket);
    }
    assert!(queue.remembered().1 <= 2, "{:?}", queue.remembered());
}

#[test]
fn past_the_limit_of_tenants_flows_are_shared_and_still_take_turns() {
    let mut queue = FairQueue::new(Settings { tenants_max: 2, ..Settings::DEFAULT });
    for _ in 0..3 {
        for tenant in [1, 2, 3, 3 + 1024, 4] {
            put(&mut queue, at(1), ask(tenant), tenant);
        }
    }
    assert_eq!(queue.counts().hashed, 9);
    let order = drain(&mut queue, at(1));
    let turns = |tenants: &[u64]| order[..8].iter().filter(|tenant| tenants.contains(tenant)).count();
    // 3 and 1027 are one flow: of eight turns each flow has two.
    assert_eq!([turns(&[1]), turns(&[2]), turns(&[3, 1027]), turns(&[4])], [2, 2, 2, 2]);
}

#[test]
fn who_would_wait_past_the_deadline_is_told_at_once_how_long() {
    let mut queue = queue();
    // A request each second, for a minute and a half.
    for second in 0..90 {
        put(&mut queue, at(second), Ask { deadline: Moment(u64::MAX), ..ask(1) }, ());
        put(&mut queue, at(second), ask(2), ());
        let granted = next(&mut queue, at(second), &room()).expect("two wait");
        queue.settle(at(second), granted.share, Charge(100));
        queue.expire(at(second), |(), _| ());
    }
    let waiting = queue.len() as u64;
    assert!(waiting > 50);
    let short = Ask { deadline: at(95), ..ask(1) };
    let Err(((), Refused::Late { expected_wait })) = queue.enqueue(at(90), short, ()) else {
        panic!("{waiting} wait, one a second, and five seconds are left");
    };
    let expected = expected_wait.as_secs_f64();
    assert!((expected / waiting as f64 - 1.0).abs() < 0.1, "{expected} s for {waiting}");
    assert_eq!(queue.counts().refused_late, 1);
    // A tenant that has nothing waiting is served next, so it need not fear.
    put(&mut queue, at(90), Ask { deadline: at(95), ..ask(3) }, ());
    let late = queue.enqueue(at(90), Ask { deadline: at(90), ..ask(4) }, ());
    assert!(matches!(late, Err(((), Refused::Late { expected_wait: Duration::ZERO }))));
}

#[test]
fn what_was_granted_without_waiting_counts_once_there_is_a_queue() {
    let mut queue = queue();
    put(&mut queue, at(1), ask(2), 2);
    put(&mut queue, at(1), ask(2), 2);
    put(&mut queue, at(1), ask(1), 1);
    let share = queue.note(at(1), Ask { charge: Charge(150), ..ask(1) });
    assert_eq!(drain(&mut queue, at(1)), [2, 2, 1]);
    queue.settle(at(1), share, Charge(150));
}

#[test]
fn whoever_comes_back_is_lifted_to_the_least_who_waits_and_never_lowered() {
    let mut queue = queue();
    put(&mut queue, at(1), Ask { charge: Charge(1000), ..ask(1) }, 1);
    for _ in 0..5 {
        put(&mut queue, at(1), ask(2), 2);
    }
    assert_eq!(next(&mut queue, at(1), &room()).expect("six wait").payload, 1);
    assert_eq!(next(&mut queue, at(1), &room()).expect("five wait").payload, 2);
    // 1 was served 1000, 2 so far 100, 3 nothing: 3 is lifted to 2, 1 stays where it is.
    for tenant in [1, 3, 3] {
        put(&mut queue, at(1), ask(tenant), tenant);
    }
    assert_eq!(drain(&mut queue, at(1)), [2, 3, 2, 3, 2, 2, 1]);
}
