//! The queue of `core` and the real one decide the same: of one schedule both grant in one order.

use std::sync::Mutex;
use std::task::Context;

use dataplane_core::admit::permits::{Bounds, Load, share};
use dataplane_core::fair::{FairQueue, Room, Settings};

use super::*;

#[derive(Clone, Copy)]
enum Event {
    Come(Ask),
    /// Of those under way, in the order they started; what it used.
    End(usize, u64),
    /// Of all who came.
    Leave(usize),
}

fn schedule(dice: &mut Dice) -> Vec<Event> {
    let mut came = 0;
    (0..EVENTS)
        .map(|_| match dice.below(20) {
            0..10 => {
                came += 1;
                let tokens = 1 + dice.below(40);
                let band = [Qos::Bronze, Qos::Silver, Qos::Gold][dice.below(3) as usize];
                Event::Come(Ask {
                    weight: 1 + dice.below(3) as u32,
                    session: dice.below(3),
                    charge: Charge(15 * tokens),
                    need_tokens: tokens,
                    deadline: Moment(u64::MAX - dice.below(1000)),
                    ..of_band(band, dice.below(6))
                })
            }
            10..19 => Event::End(dice.below(PARALLEL) as usize, dice.below(700)),
            _ => Event::Leave(dice.below(came) as usize),
        })
        .collect()
}

/// Permits and one queue, by hand. The order of grants.
fn by_hand(events: &[Event]) -> Vec<usize> {
    let bounds = Bounds { requests: PARALLEL as u32, tokens: Some(WINDOW) };
    let settings = Settings { items_max: QUEUED, sessions_max: 2 * QUEUED, ..Settings::DEFAULT };
    let mut queue = FairQueue::new(settings);
    let (mut load, mut order, mut has_left) = (Load::default(), Vec::new(), Vec::new());
    // What did not wait is charged at its end, where others wait then.
    let mut running: Vec<(u64, Result<Share, Ask>)> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let now = moment(at);
        match event {
            Event::Come(ask) => {
                let id = has_left.len();
                has_left.push(false);
                let at_once = load.on_turn(bounds, ask.need_tokens, share(ask.band));
                match at_once.filter(|_| queue.is_empty()) {
                    Some(next) => {
                        load = next;
                        running.push((ask.need_tokens, Err(*ask)));
                    }
                    None => drop(queue.enqueue(now, *ask, (id, ask.need_tokens)).expect("there is room")),
                }
            }
            Event::End(at, used) if *at < running.len() => {
                let (tokens, share) = running.remove(*at);
                load = Load { requests: load.requests - 1, tokens: load.tokens - tokens, ..load };
                match share {
                    Ok(share) => queue.settle(now, share, Charge(*used)),
                    Err(ask) if *used > 0 && !queue.is_empty() => {
                        let share = queue.note(now, Ask { charge: Charge(*used), ..ask });
                        queue.settle(now, share, Charge(*used));
                    }
                    Err(_) => {}
                }
            }
            Event::Leave(id) if *id < has_left.len() => has_left[*id] = true,
            _ => {}
        }
        loop {
            let fits = |tokens| load.requests == 0 || load.tokens + tokens <= WINDOW;
            let (in_flight, limit) = (load.requests, bounds.requests);
            let room = Room { in_flight, limit, fits: &fits, is_warm: &|_| false };
            let Some(pick) = queue.select(now, &room, |(id, _)| has_left[*id], |_, _| {}) else { break };
            let granted = queue.take(now, pick).expect("it was picked");
            let (id, tokens) = granted.payload;
            load = Load { requests: load.requests + 1, tokens: load.tokens + tokens, ..load };
            running.push((tokens, Ok(granted.share)));
            order.push(id);
        }
    }
    order
}

/// Writes down whom the owner wakes.
struct Told(usize, Arc<Mutex<Vec<usize>>>);

impl Wake for Told {
    fn wake(self: Arc<Told>) {
        self.1.lock().expect("one thread").push(self.0);
    }
}

fn by_owner(events: &[Event]) -> Vec<usize> {
    let terms = format!("max_parallel: {PARALLEL}, max_tokens_in_flight: {WINDOW}, max_queued: {QUEUED}");
    let mut world = World::new(&limits(&terms), &["m"]);
    let (told, mut order) = (Arc::new(Mutex::new(Vec::new())), Vec::new());
    let (mut places, mut running): (Vec<Option<Place>>, Vec<Permit>) = Default::default();
    for (at, event) in events.iter().enumerate() {
        world.now = moment(at);
        match event {
            Event::Come(ask) => match world.come("m", *ask) {
                Came::Permit(permit) => {
                    places.push(None);
                    running.push(permit);
                }
                Came::Waits(mut place) => {
                    let waker = Waker::from(Arc::new(Told(places.len(), Arc::clone(&told))));
                    assert!(Pin::new(&mut place).poll(&mut Context::from_waker(&waker)).is_pending());
                    places.push(Some(place));
                }
                Came::Refused(fault) => panic!("{fault:?}"),
            },
            Event::End(at, used) if *at < running.len() => {
                let mut permit = running.remove(*at);
                permit.on_used(Charge(*used));
            }
            Event::Leave(id) if *id < places.len() => places[*id] = None,
            _ => {}
        }
        // What is settled while nobody waits would be read later, and count for its session a little less.
        world.look();
        for id in std::mem::take(&mut *told.lock().expect("one thread")) {
            running.push(granted(places[id].as_mut().expect("it waits")));
            places[id] = None;
            order.push(id);
        }
    }
    assert_eq!(world.panics, 0);
    order
}

/// All within the tenth of a second in which the owner neither sweeps nor looks for who is in need: `by_hand`
/// does neither.
fn moment(at: usize) -> Moment {
    Moment(1_000_000_000 + 20_000 * at as u64)
}

#[test]
fn of_one_schedule_the_queue_alone_and_the_real_one_grant_in_the_same_order() {
    let mut grants = 0;
    for seed in 0..30 {
        let events = schedule(&mut Dice(seed));
        let (alone, real) = (by_hand(&events), by_owner(&events));
        let first = alone.iter().zip(&real).position(|(one, other)| one != other);
        assert_eq!(first, None, "seed {seed}: {} and {} grants", alone.len(), real.len());
        assert_eq!(alone.len(), real.len(), "seed {seed}");
        grants += real.len();
    }
    println!("{grants} grants");
    assert!(grants > 10_000);
}

const EVENTS: usize = 4000;
const PARALLEL: u64 = 12;
const WINDOW: u64 = 150;
const QUEUED: u32 = 10_000;
