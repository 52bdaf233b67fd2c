//! All of waiting: those who come, one who leaves, one who changes the bounds, and the owner of the queue.
//!
//! The inbox is a word of bits, one for each that may come: whoever comes sets its own, the owner takes all.
//! The owner runs only while its bell has rung, as a task does; a waiter it has not served when all is quiet
//! was lost.

use dataplane_core::admit::permits::Load;
use dataplane_state::permits::Permits;
use dataplane_state::wake::{Wake, WakeCell};
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use proto_core::units::Permille;

const ALL: Permille = Permille(1000);

/// The waker: a flag the owner's runtime looks at.
#[derive(Clone)]
struct Bell(Arc<AtomicU32>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(1, Ordering::Release);
    }

    fn is_same(&self, other: &Bell) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What is done wrongly on purpose.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Twin {
    Sound,
    ClearsWithoutLookingAgain,
    WakesBeforePushing,
    WakesWithoutRaisingTheBit,
    LooksBeforeRegistering,
}

struct World {
    permits: Permits,
    wake: WakeCell<Bell>,
    inbox: AtomicU32,
    holders: AtomicU32,
    served: AtomicU32,
    limit_max: u32,
    twin: Twin,
}

impl World {
    /// One permit, which is taken; bounds may later be `limit_max`.
    fn new(limit_max: u32, twin: Twin) -> Arc<World> {
        let world = World {
            permits: Permits::new(1, None),
            wake: WakeCell::new(),
            inbox: AtomicU32::new(0),
            holders: AtomicU32::new(0),
            served: AtomicU32::new(0),
            limit_max,
            twin,
        };
        assert!(world.permits.try_acquire(7, ALL));
        world.hold();
        Arc::new(world)
    }

    fn hold(&self) {
        let before = self.holders.fetch_add(1, Ordering::SeqCst);
        assert!(before < self.limit_max, "more hold a permit than there are");
    }

    /// Somebody who has a permit is done.
    fn leave(&self) {
        self.holders.fetch_sub(1, Ordering::SeqCst);
        if self.permits.release(7) {
            self.wake.wake();
        }
    }

    /// Somebody comes.
    fn come(&self, bit: u32) {
        if self.permits.try_acquire(7, ALL) {
            self.hold();
            self.served.fetch_or(bit, Ordering::SeqCst);
            self.leave();
            return;
        }
        if self.twin == Twin::WakesBeforePushing {
            self.wake.wake();
        }
        self.inbox.fetch_or(bit, Ordering::Release);
        if self.twin != Twin::WakesWithoutRaisingTheBit {
            self.permits.set_waiters();
        }
        if self.twin != Twin::WakesBeforePushing {
            self.wake.wake();
        }
    }

    /// The bounds become `limit_max`.
    fn resize(&self) {
        if self.permits.set_limits(self.limit_max, None) {
            self.wake.wake();
        }
    }

    /// Moves what came into `queue`; looks before it writes, as a real queue does.
    fn drain(&self, queue: &mut u32) -> bool {
        if self.inbox.load(Ordering::Acquire) == 0 {
            return false;
        }
        *queue |= self.inbox.swap(0, Ordering::Acquire);
        true
    }

    /// The owner, once: returns where it would sleep.
    fn poll(&self, bell: &Bell, queue: &mut u32) {
        if self.twin == Twin::LooksBeforeRegistering {
            self.look(queue);
            self.wake.register(bell);
        } else {
            self.wake.register(bell);
            self.look(queue);
        }
    }

    fn look(&self, queue: &mut u32) {
        loop {
            self.drain(queue);
            while *queue != 0 && self.permits.acquire_for_queue(7, ALL) {
                let first = *queue & queue.wrapping_neg();
                *queue &= !first;
                self.hold();
                self.served.fetch_or(first, Ordering::SeqCst);
                // Its work, as short as it can be; the owner itself is woken by its end.
                self.leave();
            }
            if *queue != 0 {
                return;
            }
            self.permits.clear_waiters();
            if self.twin == Twin::ClearsWithoutLookingAgain || !self.drain(queue) {
                return;
            }
            self.permits.set_waiters();
        }
    }
}

/// Runs `others` beside an owner that is polled up to `polls` times meanwhile, then until its bell is silent.
fn model(limit_max: u32, preemptions: usize, polls: u32, twin: Twin, others: &'static [fn(&World)]) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        let world = World::new(limit_max, twin);
        let bell = Bell(Arc::new(AtomicU32::new(1)));
        let threads: Vec<_> = others
            .iter()
            .map(|act| {
                let world = Arc::clone(&world);
                thread::spawn(move || act(&world))
            })
            .collect();
        let mut queue = 0;
        let has_rung = || bell.0.load(Ordering::Acquire) == 1 && bell.0.swap(0, Ordering::Acquire) == 1;
        for _ in 0..polls {
            if has_rung() {
                world.poll(&bell, &mut queue);
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        while has_rung() {
            world.poll(&bell, &mut queue);
        }
        let came = others.iter().filter(|act| is_arrival(**act)).count();
        assert_eq!(world.served.load(Ordering::SeqCst).count_ones() as usize, came, "a waiter was lost");
        assert_eq!(world.permits.now(), Load::default(), "something leaked");
    });
}

fn first_comes(world: &World) {
    world.come(1);
}

fn second_comes(world: &World) {
    world.come(2);
}

fn holder_leaves(world: &World) {
    world.leave();
}

fn bounds_grow(world: &World) {
    world.resize();
}

fn is_arrival(act: fn(&World)) -> bool {
    [first_comes as fn(&World), second_comes].iter().any(|arrival| std::ptr::fn_addr_eq(*arrival, act))
}

#[test]
fn two_come_one_leaves_and_the_bounds_grow_and_nobody_is_lost() {
    model(2, 2, 2, Twin::Sound, &[first_comes, second_comes, holder_leaves, bounds_grow]);
}

#[test]
fn one_comes_as_the_last_leaves_and_is_not_lost() {
    model(1, 4, 2, Twin::Sound, &[first_comes, holder_leaves]);
}

#[test]
fn two_come_as_the_last_leaves_and_are_not_lost() {
    model(1, 3, 2, Twin::Sound, &[first_comes, second_comes, holder_leaves]);
}

#[test]
#[should_panic(expected = "a waiter was lost")]
fn an_owner_that_clears_without_looking_again_is_found_out() {
    model(1, 4, 2, Twin::ClearsWithoutLookingAgain, &[first_comes, holder_leaves]);
}

#[test]
#[should_panic(expected = "a waiter was lost")]
fn one_who_wakes_before_it_queues_is_found_out() {
    model(1, 4, 2, Twin::WakesBeforePushing, &[first_comes, holder_leaves]);
}

#[test]
#[should_panic(expected = "a waiter was lost")]
fn one_who_queues_without_saying_so_is_found_out() {
    model(1, 4, 2, Twin::WakesWithoutRaisingTheBit, &[first_comes, holder_leaves]);
}

#[test]
#[should_panic(expected = "a waiter was lost")]
fn an_owner_that_looks_before_it_registers_is_found_out() {
    model(1, 4, 2, Twin::LooksBeforeRegistering, &[first_comes, holder_leaves]);
}
