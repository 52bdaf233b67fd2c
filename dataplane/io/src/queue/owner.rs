//! The task that owns the queues of one adapter.

use std::collections::HashMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use dataplane_core::fair::Ask;
use dataplane_core::limit::Limiter;
use proto_core::model::{Concurrency, Limits};
use proto_core::units::Moment;
use tokio::time::sleep_until;

use super::lane::{Lane, Turn};
use super::{Note, Queue, Terms, Waiting};
use crate::clock;
use crate::worker::Shared;

/// Owns `queue` until nobody else holds it.
pub async fn run(queue: Arc<Queue>, shared: Arc<Shared>) {
    let now = clock::now();
    let mut owner = Owner::new(queue, now);
    let mut timer = pin!(sleep_until(clock::instant(now + TICK)));
    poll_fn(|cx| {
        let Some(due) = owner.turn(cx.waker(), clock::now(), || shared.on_panic()) else {
            return Poll::Ready(());
        };
        timer.as_mut().reset(clock::instant(due));
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

pub(super) struct Owner {
    /// Gone once nobody else holds it.
    queue: Option<Arc<Queue>>,
    limits: Option<(Limits, Concurrency)>,
    pub(super) lanes: Vec<Lane>,
    /// Of an offer's hash.
    places: HashMap<u64, usize>,
    /// The lane that is asked first, so that each has its turn.
    turn: usize,
    ticked_at: Moment,
    /// Counts the mistakes it survived.
    life: u32,
}

impl Owner {
    pub fn new(queue: Arc<Queue>, now: Moment) -> Owner {
        Owner {
            queue: Some(queue),
            limits: None,
            lanes: Vec::new(),
            places: HashMap::new(),
            turn: 0,
            ticked_at: now,
            life: 0,
        }
    }

    /// Does all there is to do and says when to look again, whoever wakes it before; `None` at its end.
    pub fn turn(&mut self, waker: &Waker, now: Moment, on_panic: impl FnOnce()) -> Option<Moment> {
        let queue = self.queue.clone()?;
        queue.wake.register(waker);
        let due = catch_unwind(AssertUnwindSafe(|| self.step(&queue, now))).unwrap_or_else(|_| {
            // A bug of ours. Who waits is told by the end of its channel; others go on with a new queue.
            on_panic();
            self.start_again(Arc::clone(&queue), now);
            Some(now + TICK)
        });
        drop(queue);
        // Where nothing is due it still looks now and then, whether anybody holds it.
        if self.is_over() { None } else { Some(due.unwrap_or(now + REST)) }
    }

    fn step(&mut self, queue: &Queue, now: Moment) -> Option<Moment> {
        let has_more = loop {
            let has_more = self.take_notes(queue, now);
            self.lanes.iter_mut().for_each(|lane| lane.expire(now));
            self.tick(now);
            self.grant(queue, now);
            if has_more || self.is_waited_for() {
                break has_more;
            }
            let permits = &queue.cell.permits;
            permits.clear_waiters();
            if queue.notes.is_empty() {
                break false;
            }
            // Somebody came, and its bit may have been cleared just now.
            permits.set_waiters();
        };
        self.lanes.iter_mut().for_each(Lane::on_looked);
        // Nobody wakes it again for notes that are there already; others of this worker go first.
        if has_more { Some(now) } else { self.next_due(now) }
    }

    fn is_waited_for(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.queue.is_empty())
    }

    /// Whether there may be more. What comes meanwhile is for the next round: the permits given back by it
    /// should be given out first.
    fn take_notes(&mut self, queue: &Queue, now: Moment) -> bool {
        for _ in 0..NOTES_A_ROUND {
            let Some(note) = queue.take_note() else { return false };
            self.on_note(queue, note, now);
        }
        true
    }

    fn on_note(&mut self, queue: &Queue, note: Note, now: Moment) {
        match note {
            Note::Terms(terms) => self.on_terms(*terms, now),
            Note::Wait { lane, ask, waiting } => self.on_wait(queue, now, lane, ask, waiting),
            Note::Gone { lane } => {
                if let Some(lane) = self.lane(lane) {
                    lane.on_gone();
                }
            }
            Note::Extended { lane, charged, more } => {
                if let Some(lane) = self.lane(lane) {
                    lane.on_extended(charged, more);
                }
            }
            Note::Settled { lane, charged, used } => {
                if let Some(lane) = self.lane(lane) {
                    lane.on_settled(now, charged, used);
                }
            }
            Note::Served { lane, ask } => {
                if let Some(lane) = self.lane(lane) {
                    lane.on_served(now, ask);
                }
            }
            Note::Sample { lane, sample } => self.limit(lane, now, |limiter| limiter.on_sample(sample)),
            Note::Loss { lane, loss } => self.limit(lane, now, |limiter| limiter.on_loss(loss)),
            Note::Ceiling { lane, ceiling } => {
                self.limit(lane, now, |limiter| limiter.on_ceiling(ceiling, now));
            }
            Note::Preemptible { lane, victim } => {
                if let Some(lane) = self.lane(lane) {
                    lane.on_preemptible(victim);
                }
            }
        }
    }

    fn on_wait(&mut self, queue: &Queue, now: Moment, lane: u64, ask: Ask, waiting: Box<Waiting>) {
        let Some(at) = self.places.get(&lane).copied() else { return };
        if self.lanes[at].is_full() {
            // Who is before it may have a permit already, had somebody looked since it came free; or left.
            self.grant(queue, now);
            self.lanes[at].make_room();
        }
        if self.lanes[at].is_closed() && !self.is_waited_for() {
            self.lanes[at].at_once(ask, *waiting);
        } else {
            self.lanes[at].on_wait(now, ask, waiting);
        }
    }

    fn lane(&mut self, lane: u64) -> Option<&mut Lane> {
        self.lanes.get_mut(*self.places.get(&lane)?)
    }

    fn limit(&mut self, lane: u64, now: Moment, step: impl FnOnce(&mut Limiter)) {
        if let Some(lane) = self.lane(lane)
            && let Some(limiter) = &mut lane.limiter
        {
            step(limiter);
            lane.on_limits(now);
        }
    }

    fn on_terms(&mut self, terms: Terms, now: Moment) {
        let Terms { limits, concurrency, offers } = terms;
        self.limits = Some((limits, concurrency));
        self.lanes.iter_mut().for_each(|lane| lane.is_named = false);
        for (hash, cell) in offers {
            match self.places.get(&hash) {
                Some(at) => self.lanes[*at].on_terms(limits, concurrency, now),
                None => {
                    self.places.insert(hash, self.lanes.len());
                    self.lanes.push(Lane::new(cell, (limits, concurrency), self.life, now));
                }
            }
        }
    }

    /// Permits to those whose turn it is: one from each lane in turn, until none has room. One that does not
    /// fit the adapter's window of tokens keeps its turn: behind a stream of small ones of other models it
    /// would wait for ever.
    fn grant(&mut self, queue: &Queue, now: Moment) {
        let count = self.lanes.len();
        self.lanes.iter_mut().for_each(Lane::on_round);
        if let Some(at) = self.lanes.iter().position(Lane::has_place_coming) {
            self.turn = at;
        }
        let mut idle = 0;
        while idle < count {
            let at = self.turn % count;
            match self.lanes[at].grant_one(now, &queue.cell) {
                Turn::Granted => {
                    idle = 0;
                    self.lanes.iter_mut().for_each(Lane::on_passed);
                }
                Turn::Blocked => break,
                Turn::Nothing => idle += 1,
            }
            self.turn = at + 1;
        }
        for at in 0..count {
            if self.lanes[at].on_blocked(now) {
                self.cut_for(at, now);
            }
        }
    }

    /// Cuts one for a lane in need: of its own, or where it is not its own limit that holds it, of any.
    fn cut_for(&mut self, at: usize, now: Moment) {
        let all = self.lanes.len();
        let mut others = (0..if self.lanes[at].is_bound() { 1 } else { all }).map(|step| (at + step) % all);
        if others.any(|other| self.lanes[other].cut_one(now)) {
            self.lanes[at].on_place_coming();
        }
    }

    /// Once a second: limits that nobody needs drift home, and those who gave up are let go.
    fn tick(&mut self, now: Moment) {
        if now.since(self.ticked_at) < TICK {
            return;
        }
        self.ticked_at = now;
        self.prune();
        for lane in &mut self.lanes {
            lane.sweep();
            if let Some(limiter) = &mut lane.limiter {
                limiter.on_tick(now);
            }
            lane.on_limits(now);
        }
    }

    fn next_due(&self, now: Moment) -> Option<Moment> {
        let due = self.lanes.iter().flat_map(|lane| {
            let changes = lane.limiter.as_ref().and_then(|limiter| limiter.next_change(now));
            let ticks = (lane.limiter.is_some() || !lane.queue.is_empty()).then(|| self.ticked_at + TICK);
            [lane.queue.next_expiry(), changes, ticks, lane.next_need()]
        });
        due.flatten().min()
    }

    /// Nobody but this task holds the queue, and nobody waits. Taken apart, so that nobody finds it again
    /// through a weak reference and leaves a note that is never read.
    fn is_over(&mut self) -> bool {
        if self.is_waited_for() {
            return false;
        }
        let Some(queue) = self.queue.take() else { return true };
        self.queue = Arc::try_unwrap(queue).err();
        self.queue.is_none()
    }

    fn start_again(&mut self, queue: Arc<Queue>, now: Moment) {
        let limits = self.limits;
        let offers =
            self.places.iter().map(|(hash, at)| (*hash, Arc::clone(&self.lanes[*at].cell))).collect();
        *self = Owner { life: self.life.wrapping_add(1), ..Owner::new(queue, now) };
        if let Some((limits, concurrency)) = limits {
            self.on_terms(Terms { limits, concurrency, offers }, now);
        }
    }

    /// Lanes of models that are in no set any more and in no request's hands.
    fn prune(&mut self) {
        let is_over = |lane: &Lane| {
            !lane.is_named && lane.queue.is_empty() && Arc::strong_count(&lane.cell) <= HELD_BY_REGISTRY
        };
        if !self.lanes.iter().any(is_over) {
            return;
        }
        let hashes: HashMap<usize, u64> = self.places.iter().map(|(hash, at)| (*at, *hash)).collect();
        self.places.clear();
        for (at, lane) in std::mem::take(&mut self.lanes).into_iter().enumerate() {
            if !is_over(&lane) {
                self.places.insert(hashes[&at], self.lanes.len());
                self.lanes.push(lane);
            }
        }
    }
}

/// Also the time in which those who gave up are noticed.
const TICK: Duration = Duration::from_secs(1);
/// Between looks of an owner with nothing to do.
const REST: Duration = Duration::from_secs(30);
/// Read before permits are given out again.
const NOTES_A_ROUND: usize = 4096;
/// The lane's own reference and the registry's.
const HELD_BY_REGISTRY: usize = 2;
