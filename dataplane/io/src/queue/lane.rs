//! One model's queue with what finds its limit: what comes in, who is next, what is told to those who leave.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use dataplane_core::admit::permits::{Bounds, Load, share};
use dataplane_core::fair::{self, Ask, Charge, FairQueue, Refused, Room, Why};
use dataplane_core::fault::{Fault, Kind};
use dataplane_core::limit::{self, Axis, Limiter, Watermark};
use dataplane_state::permits::Permits;
use dataplane_state::registry::{AdapterCell, OfferCell};
use proto_core::model::{Concurrency, Limits, Qos};
use proto_core::units::Moment;

use super::victims::{Preemptible, Victims};
use super::{Charged, Permit, Waiting};

pub struct Lane {
    pub cell: Arc<OfferCell>,
    pub queue: FairQueue<Box<Waiting>>,
    /// `None` where the limit does not move.
    pub limiter: Option<Limiter>,
    /// Its owner's, which its accounts belong to.
    life: u32,
    victims: Victims,
    watermark: Watermark,
    /// Since when a gold request waits and nothing comes free for it.
    in_need_since: Option<Moment>,
    /// Places that others gave away for gold and that it has not taken yet.
    coming: u32,
    /// Held back by its bands' ceilings, and how many others were given permits meanwhile.
    is_held_back: bool,
    passed: u32,
    /// What held its next request back in this round, of its own limits.
    bound: Option<Axis>,
    max_queued: u32,
    /// Somebody left since the last sweep.
    has_gone: bool,
    /// Counted so far.
    starved: u64,
    /// It is in the newest set.
    pub is_named: bool,
}

impl Lane {
    pub fn new(
        cell: Arc<OfferCell>,
        (limits, concurrency): (Limits, Concurrency),
        life: u32,
        now: Moment,
    ) -> Lane {
        let mut lane = Lane {
            cell,
            queue: FairQueue::new(fair::Settings::DEFAULT),
            limiter: None,
            life,
            victims: Victims::default(),
            watermark: Watermark::default(),
            in_need_since: None,
            coming: 0,
            is_held_back: false,
            passed: 0,
            bound: None,
            max_queued: limits.max_queued,
            has_gone: false,
            starved: 0,
            is_named: true,
        };
        lane.on_terms(limits, concurrency, now);
        lane
    }

    /// From the newest set; what was learned stays, and so does who waits already.
    pub fn on_terms(&mut self, limits: Limits, concurrency: Concurrency, now: Moment) {
        self.is_named = true;
        self.max_queued = limits.max_queued;
        self.queue.resize(limits.max_queued, limits.max_queued.saturating_mul(2).max(SESSIONS_MIN));
        let settings = limit::Settings {
            kind: concurrency,
            requests_max: limits.max_parallel,
            tokens_max: limits.max_tokens_in_flight.map(|tokens| tokens.0),
            prior: PRIOR.min(limits.max_parallel),
        };
        match &mut self.limiter {
            _ if concurrency == Concurrency::Fixed => self.limiter = None,
            Some(limiter) => limiter.resize(settings, now),
            None => self.limiter = Some(Limiter::new(settings, now)),
        }
        self.on_limits(now);
    }

    /// Puts what the limiter found where permits are taken.
    pub fn on_limits(&mut self, now: Moment) {
        let Some(limiter) = &self.limiter else { return };
        let limits = limiter.limits(now);
        let tokens = (limits.tokens != u64::MAX).then_some(limits.tokens);
        // The owner is awake and looks at its queues next, so nobody has to be woken.
        let _ = self.cell.permits.set_limits(limits.requests, tokens);
    }

    /// So many wait as may.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= self.max_queued as usize
    }

    /// None may wait, and none does.
    pub fn is_closed(&self) -> bool {
        self.max_queued == 0 && self.queue.is_empty()
    }

    /// A request that wants to wait; where it may not, it is told so.
    pub fn on_wait(&mut self, now: Moment, ask: Ask, waiting: Box<Waiting>) {
        if ask.deadline <= now {
            self.cell.queue.refused.one();
            return refuse(*waiting, Fault::proxy(Kind::DeadlineExceeded));
        }
        if ask.band == Qos::Gold && self.is_full() {
            self.evict_for(now, &ask);
        }
        match self.queue.enqueue(now, ask, waiting) {
            Ok(_) => self.cell.queue.enqueued.one(),
            Err((waiting, refused)) => {
                self.cell.queue.refused.one();
                refuse(
                    *waiting,
                    Fault::proxy(match refused {
                        Refused::Full | Refused::Crowded => Kind::NoPermit,
                        Refused::Late { expected_wait } => Kind::TooLate { wait_s: seconds(expected_wait) },
                    }),
                );
            }
        }
    }

    /// One that did not wait was served this while others do: its tenant has had it.
    pub fn on_served(&mut self, now: Moment, ask: Ask) {
        let share = self.queue.note(now, ask);
        self.queue.settle(now, share, ask.charge);
    }

    /// A request that found somebody before it where none may wait: by now there may be room for it.
    pub fn at_once(&mut self, ask: Ask, waiting: Waiting) {
        match Permit::at_once(&waiting, self.limiter.is_some(), &ask) {
            Some(permit) => drop(waiting.answer.send(Ok(permit))),
            None => {
                self.cell.queue.refused.one();
                refuse(waiting, Fault::proxy(Kind::NoPermit));
            }
        }
    }

    /// The newest of bronze gives its place in a full queue to gold, but only where gold then waits in it.
    fn evict_for(&mut self, now: Moment, ask: &Ask) {
        let is_crowded = self.queue.depth_of(Qos::Gold, ask.tenant) >= self.queue.depth(Qos::Bronze);
        let is_late = self.queue.expected_wait(now, ask).is_some_and(|wait| now + wait > ask.deadline);
        if self.queue.len() > self.max_queued as usize || is_crowded || is_late {
            return;
        }
        if let Some(evicted) = self.queue.evict(Qos::Bronze) {
            let tally = &self.cell.queue;
            tally.dropped.one();
            tally.preempted.one();
            refuse(*evicted, Fault::proxy(Kind::Preempted));
        }
    }

    /// More for one under way.
    pub fn on_extended(&mut self, charged: Charged, more: Charge) {
        if charged.life == self.life {
            self.queue.extend(charged.share, more);
        }
    }

    /// The end of one that was charged.
    pub fn on_settled(&mut self, now: Moment, charged: Charged, used: Charge) {
        if charged.life == self.life {
            self.queue.settle(now, charged.share, used);
        }
    }

    pub fn on_preemptible(&mut self, victim: Preemptible) {
        self.victims.push(victim);
    }

    /// Drops those whose time is up.
    pub fn expire(&mut self, now: Moment) {
        let tally = &self.cell.queue;
        self.queue.expire(now, |waiting, why| {
            tally.dropped.one();
            drop_one(*waiting, why);
        });
    }

    /// Somebody who waited does not any more.
    pub fn on_gone(&mut self) {
        self.has_gone = true;
    }

    /// Places of those who have left are free.
    pub fn make_room(&mut self) {
        if self.has_gone && self.is_full() {
            self.sweep();
        }
    }

    /// Drops those nobody waits for, where they may be many.
    pub fn sweep(&mut self) {
        self.has_gone = false;
        let tally = &self.cell.queue;
        self.queue.sweep(|waiting| waiting.answer.is_closed(), |_| tally.dropped.one());
    }

    /// Permits are about to be given out.
    pub fn on_round(&mut self) {
        (self.bound, self.is_held_back) = (None, false);
        if self.queue.depth(Qos::Gold) == 0 {
            self.coming = 0;
        }
        if self.queue.is_empty() {
            self.passed = 0;
        }
    }

    /// Some lane was given a permit.
    pub fn on_passed(&mut self) {
        self.passed = self.passed.saturating_add(u32::from(self.is_held_back));
    }

    /// Gives a permit to whoever is next.
    pub fn grant_one(&mut self, now: Moment, adapter: &AdapterCell) -> Turn {
        if self.queue.is_empty() {
            return Turn::Nothing;
        }
        let own = self.limiter.is_some().then_some(&self.cell.permits);
        let refused_by = Cell::new(None);
        let fits = |tokens| {
            let by_adapter = !has_room(&adapter.permits, tokens);
            let by_own = own.is_some_and(|own| !has_room(own, tokens));
            refused_by.set(if by_own { Some(Window::Own) } else { by_adapter.then_some(Window::Adapter) });
            !by_own && !by_adapter
        };
        let (headroom, is_own) = tightest(own, adapter);
        let has_room = headroom.in_flight < headroom.limit;
        let (in_flight, limit) = match has_room {
            // The last free place of many: bands below gold leave it, but for what they are promised.
            true if self.coming > 0 => (ROOM_FOR_GOLD.0, ROOM_FOR_GOLD.1),
            // Their minimum, where others of this adapter take it all.
            true if self.passed >= PASSED_MAX => (0, headroom.limit),
            _ => (headroom.in_flight, headroom.limit),
        };
        let room = Room { in_flight, limit, fits: &fits, is_warm: &|_| false };
        let tally = &self.cell.queue;
        let pick = self.queue.select(
            now,
            &room,
            |waiting| waiting.answer.is_closed(),
            |waiting, why| {
                tally.dropped.one();
                drop_one(*waiting, why);
            },
        );
        let Some(pick) = pick else {
            if self.queue.is_empty() {
                return Turn::Nothing;
            }
            self.is_held_back = has_room && refused_by.get().is_none();
            self.bound = match refused_by.get() {
                Some(Window::Own) => Some(Axis::Tokens),
                Some(Window::Adapter) => None,
                None => is_own.then_some(Axis::Requests),
            };
            return if refused_by.get() == Some(Window::Adapter) { Turn::Blocked } else { Turn::Nothing };
        };
        // Its place in line decided already what its quality of service is worth.
        if !adapter.permits.acquire_for_queue(pick.need_tokens, share(Qos::Gold)) {
            return Turn::Nothing;
        }
        if own.is_some_and(|own| !own.acquire_for_queue(pick.need_tokens, share(Qos::Gold))) {
            // Who else waits is looked at by this very task, next.
            let _ = adapter.permits.release(pick.need_tokens);
            return Turn::Nothing;
        }
        let has_own = own.is_some();
        let granted = self.queue.take(now, pick).expect("what was picked waits until it is taken");
        self.victims.on_start(now);
        self.passed = 0;
        if pick.band == Qos::Gold {
            self.coming = self.coming.saturating_sub(1);
            self.in_need_since = None;
        }
        tally.granted.one();
        tally.wait_ms.record(millis(granted.waited));
        if self.watermark.on_wait(granted.waited).is_some() {
            tally.high_watermarks.one();
        }
        let waiting = *granted.payload;
        let charged = Charged { share: granted.share, life: self.life };
        let permit = Permit::of_turn(&waiting, has_own, charged, granted.waited);
        // One who has gone meanwhile gets it into an empty hand: dropping the permit gives it back.
        drop(waiting.answer.send(Ok(permit)));
        Turn::Granted
    }

    /// Permits were given out. Was it its own limit that held somebody back? Is it one in need, for whom
    /// another is to give way now?
    pub fn on_blocked(&mut self, now: Moment) -> bool {
        if let (Some(limiter), Some(axis)) = (&mut self.limiter, self.bound) {
            limiter.on_limit_bound(now, axis);
        }
        if self.queue.depth(Qos::Gold) == 0 {
            self.in_need_since = None;
            return false;
        }
        let since = *self.in_need_since.get_or_insert(now);
        if now.since(since) < NEED_AFTER {
            return false;
        }
        // Who is cut gives its place back within this time, so that one need cuts one.
        self.in_need_since = Some(now);
        // Nobody is cut for one who has gone.
        self.sweep();
        self.queue.depth(Qos::Gold) > 0
    }

    /// Its own limit holds it back, and not the adapter's.
    pub fn is_bound(&self) -> bool {
        self.bound.is_some()
    }

    /// Cuts one of its requests under way. False where there is none, or enough were cut of late.
    pub fn cut_one(&mut self, now: Moment) -> bool {
        let is_cut = self.victims.cut_one(now);
        if is_cut {
            self.cell.queue.preempted.one();
        }
        is_cut
    }

    /// Another gives its place away for it: what comes free next is for gold.
    pub fn on_place_coming(&mut self) {
        self.coming += 1;
    }

    pub fn has_place_coming(&self) -> bool {
        self.coming > 0 && self.queue.depth(Qos::Gold) > 0
    }

    /// When somebody in need is to be looked at again.
    pub fn next_need(&self) -> Option<Moment> {
        self.in_need_since.filter(|_| self.queue.depth(Qos::Gold) > 0).map(|since| since + NEED_AFTER)
    }

    /// For people.
    pub fn on_looked(&mut self) {
        let tally = &self.cell.queue;
        let starved = self.queue.counts().starved;
        tally.starved.add(starved - std::mem::replace(&mut self.starved, starved));
        tally.set_depth([Qos::Gold, Qos::Silver, Qos::Bronze].map(|band| self.queue.depth(band)));
    }
}

/// What came of a lane's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Granted,
    /// Nobody waits, or for what others need not wait for.
    Nothing,
    /// The next one does not fit what the adapter has left of its window of tokens.
    Blocked,
}

/// Whose window of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    Own,
    Adapter,
}

/// Requests in flight and how many may be, at one look.
struct Headroom {
    in_flight: u32,
    limit: u32,
}

fn headroom(permits: &Permits) -> Headroom {
    Headroom { in_flight: permits.in_flight(), limit: permits.limit() }
}

/// Of the model and its adapter that which has less room, and whether it is the model's.
fn tightest(own: Option<&Permits>, adapter: &AdapterCell) -> (Headroom, bool) {
    let all = headroom(&adapter.permits);
    let Some(own) = own.map(headroom) else { return (all, false) };
    let left = |room: &Headroom| room.limit.saturating_sub(room.in_flight);
    if left(&own) <= left(&all) { (own, true) } else { (all, false) }
}

fn has_room(permits: &Permits, tokens: u64) -> bool {
    let bounds = Bounds { requests: u32::MAX, tokens: permits.tokens_limit() };
    let load = Load { has_waiters: false, ..permits.now() };
    load.on_turn(bounds, tokens, share(Qos::Gold)).is_some()
}

fn drop_one(waiting: Waiting, why: Why) {
    match why {
        Why::Gone => {}
        Why::Late => refuse(waiting, Fault::proxy(Kind::DeadlineExceeded)),
        Why::Aged => refuse(waiting, Fault::proxy(Kind::NoPermit)),
    }
}

fn refuse(waiting: Waiting, fault: Fault) {
    // One who has gone needs no answer.
    drop(waiting.answer.send(Err(fault)));
}

/// At least one: "now" would be wrong. At most as long as anybody waits: by then all others have left.
fn seconds(wait: Duration) -> u32 {
    let wait = wait.min(fair::Settings::DEFAULT.age_max);
    u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// In flight and limit of a room that gold alone still enters.
const ROOM_FOR_GOLD: (u32, u32) = (999, 1000);
/// One permit in twenty-one is the least promise of a band, 5 %.
const PASSED_MAX: u32 = 20;
/// How long a gold request waits before another gives way, and until the next does.
const NEED_AFTER: Duration = Duration::from_millis(100);
/// Where a limit that moves begins: a model server's common batch, and Netflix's and Envoy's beginning.
const PRIOR: u32 = 20;
/// Sessions remembered where few may wait.
const SESSIONS_MIN: u32 = 64;
