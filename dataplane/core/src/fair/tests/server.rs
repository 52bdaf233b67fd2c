//! A model server in small, in front of it some order of who is next, and a record of what was delivered to
//! whom and who was waiting. What the bound promises is checked against the record alone: no counter of the
//! queue is read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

/// One request as it will turn out.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    pub tenant: usize,
    pub session: u64,
    pub uncached: u64,
    pub cached: u64,
    /// Output that is reserved when it starts.
    pub reserved: u64,
    /// Output it has in the end.
    pub output: u64,
    /// Steps after which its caller gives up waiting.
    pub patience: Option<u64>,
}

impl Job {
    pub fn need(&self) -> u64 {
        self.uncached + self.cached + self.reserved
    }

    fn charge(&self, output: u64) -> u64 {
        10 * self.uncached + self.cached + 20 * output
    }

    /// What it is charged past its reservation: output is let through in whole quanta.
    fn overrun(&self) -> u64 {
        20 * QUANTUM * self.output.saturating_sub(self.reserved).div_ceil(QUANTUM)
    }
}

/// Who is next. `id` is a job's place in [`Server::jobs`].
pub trait Order {
    fn enqueue(&mut self, now: Moment, id: usize, job: &Job, weight: u32);
    fn next(&mut self, now: Moment, room: &Room<'_>) -> Option<usize>;
    fn cancel(&mut self, id: usize);
    fn extend(&mut self, id: usize, tenths: u64);
    fn settle(&mut self, now: Moment, id: usize, tenths: u64);
}

/// The real one, with room for all that wait.
pub struct Fair {
    pub queue: FairQueue<usize>,
    waiting: BTreeMap<usize, Ticket>,
    shares: BTreeMap<usize, Share>,
}

impl Fair {
    pub fn new(settings: Settings) -> Fair {
        let settings = Settings { items_max: 100_000, age_max: Duration::from_secs(3600), ..settings };
        Fair { queue: FairQueue::new(settings), waiting: BTreeMap::new(), shares: BTreeMap::new() }
    }
}

impl Order for Fair {
    fn enqueue(&mut self, now: Moment, id: usize, job: &Job, weight: u32) {
        let charge = Tariff::DEFAULT.charge(job.uncached, job.cached, job.reserved);
        let ask =
            Ask { weight, session: job.session, charge, need_tokens: job.need(), ..ask(job.tenant as u64) };
        self.waiting.insert(id, put(&mut self.queue, now, ask, id));
    }

    fn next(&mut self, now: Moment, room: &Room<'_>) -> Option<usize> {
        let granted = next(&mut self.queue, now, room)?;
        self.waiting.remove(&granted.payload);
        self.shares.insert(granted.payload, granted.share);
        Some(granted.payload)
    }

    fn cancel(&mut self, id: usize) {
        let ticket = self.waiting.remove(&id).expect("it waits");
        assert_eq!(self.queue.remove(ticket), Some(id));
    }

    fn extend(&mut self, id: usize, tenths: u64) {
        let share = self.shares.get_mut(&id).expect("it runs");
        self.queue.extend(*share, Charge(tenths));
        *share = share.extended(Charge(tenths));
    }

    fn settle(&mut self, now: Moment, id: usize, tenths: u64) {
        let share = self.shares.remove(&id).expect("it runs");
        self.queue.settle(now, share, Charge(tenths));
    }
}

pub struct Server<O> {
    pub order: O,
    pub weights: Vec<u32>,
    pub window: u64,
    pub limit: usize,
    pub jobs: Vec<Job>,
    running: Vec<(usize, u64, u64)>,
    patience: BTreeSet<(u64, usize)>,
    waiting: Vec<BTreeSet<usize>>,
    step: u64,
    /// What was delivered to each tenant until the end of each step, in tenths.
    pub delivered: Vec<Vec<u64>>,
    /// Whether each tenant had somebody waiting all through the step.
    pub backlogged: Vec<Vec<bool>>,
    /// The greatest overrun of one tenant's requests in flight at once, and the greatest charge of one.
    pub overrun: u64,
    pub largest: u64,
}

impl<O: Order> Server<O> {
    pub fn new(order: O, weights: &[u32], window: u64) -> Server<O> {
        Server {
            order,
            weights: weights.to_vec(),
            window,
            limit: 1000,
            jobs: Vec::new(),
            running: Vec::new(),
            patience: BTreeSet::new(),
            waiting: vec![BTreeSet::new(); weights.len()],
            step: 0,
            delivered: vec![vec![0; weights.len()]],
            backlogged: vec![vec![false; weights.len()]],
            overrun: 0,
            largest: 0,
        }
    }

    pub fn waiting(&self, tenant: usize) -> usize {
        self.waiting[tenant].len()
    }

    /// A step: answers go on, those who are done or have lost patience leave, `arriving` come, free room is
    /// given.
    pub fn step(&mut self, arriving: impl IntoIterator<Item = Job>) {
        self.step += 1;
        let now = Moment(self.step * STEP_NS);
        let mut delivered = self.delivered.last().expect("there is a first").clone();
        let mut backlogged: Vec<bool> = self.waiting.iter().map(|waiting| !waiting.is_empty()).collect();
        self.produce(now, &mut delivered);
        while let Some((_, id)) = self.patience.first().copied().filter(|(until, _)| *until <= self.step) {
            self.patience.pop_first();
            let tenant = self.jobs[id].tenant;
            if self.waiting[tenant].remove(&id) {
                self.order.cancel(id);
                backlogged[tenant] &= !self.waiting[tenant].is_empty();
            }
        }
        for job in arriving {
            let id = self.jobs.len();
            self.jobs.push(job);
            self.waiting[job.tenant].insert(id);
            self.order.enqueue(now, id, &job, self.weights[job.tenant]);
            self.patience.extend(job.patience.map(|steps| (self.step + steps, id)));
        }
        self.start(now, &mut delivered, &mut backlogged);
        self.delivered.push(delivered);
        self.backlogged.push(backlogged);
    }

    fn produce(&mut self, now: Moment, delivered: &mut [u64]) {
        let mut done = Vec::new();
        for (id, produced, allowed) in &mut self.running {
            let job = &self.jobs[*id];
            let more = PACE.min(job.output - *produced);
            *produced += more;
            while *produced > *allowed {
                *allowed += QUANTUM;
                self.order.extend(*id, 20 * QUANTUM);
            }
            delivered[job.tenant] += 20 * more;
            if *produced == job.output {
                done.push(*id);
            }
        }
        self.running.retain(|(id, ..)| !done.contains(id));
        for id in done {
            self.order.settle(now, id, self.jobs[id].charge(self.jobs[id].output));
        }
    }

    fn start(&mut self, now: Moment, delivered: &mut [u64], backlogged: &mut [bool]) {
        loop {
            let tokens: u64 = self
                .running
                .iter()
                .map(|(id, _, allowed)| self.jobs[*id].need() - self.jobs[*id].reserved + allowed)
                .sum();
            let fits = |need: u64| tokens == 0 || tokens + need <= self.window;
            let (in_flight, limit) = (self.running.len() as u32, self.limit as u32);
            // One band only: its hold-back would be one more limit.
            let room = Room { in_flight: 0, limit, fits: &fits, is_warm: &|tenant| tenant % 2 == 0 };
            let next = if in_flight < limit { self.order.next(now, &room) } else { None };
            let Some(id) = next else { return };
            let job = self.jobs[id];
            assert!(self.waiting[job.tenant].remove(&id), "granted once, and only who waits");
            backlogged[job.tenant] &= !self.waiting[job.tenant].is_empty();
            delivered[job.tenant] += job.charge(0);
            self.running.push((id, 0, job.reserved));
            self.largest = self.largest.max(job.charge(job.reserved));
            let mut overruns = vec![0; self.weights.len()];
            for (id, ..) in &self.running {
                overruns[self.jobs[*id].tenant] += self.jobs[*id].overrun();
            }
            self.overrun = self.overrun.max(overruns.into_iter().max().unwrap_or(0));
        }
    }

    /// U as published, in tenths, by the least weight.
    pub fn unit(&self) -> f64 {
        let least = self.weights.iter().min().expect("there are tenants");
        ((20 * self.window).max(self.largest) + self.overrun) as f64 / f64::from(*least)
    }

    fn by_weight(&self, step: usize, tenant: usize) -> f64 {
        self.delivered[step][tenant] as f64 / f64::from(self.weights[tenant])
    }

    /// The greatest difference of service by weight between two who were both backlogged, over all intervals.
    pub fn worst_between_backlogged(&self) -> f64 {
        self.worst(|step, one, other| self.backlogged[step][one] && self.backlogged[step][other])
    }

    /// The most by which anybody was served more than somebody who was backlogged, over all intervals.
    pub fn worst_against_backlogged(&self) -> f64 {
        self.worst(|step, _, backlogged| self.backlogged[step][backlogged])
    }

    fn worst(&self, counts: impl Fn(usize, usize, usize) -> bool) -> f64 {
        let mut worst: f64 = 0.0;
        let tenants = self.weights.len();
        for (one, other) in (0..tenants * tenants).map(|pair| (pair / tenants, pair % tenants)) {
            let mut least: Option<f64> = None;
            for step in 0..self.delivered.len() {
                let ahead = self.by_weight(step, one) - self.by_weight(step, other);
                if !counts(step, one, other) {
                    least = None;
                    // The interval may begin at the end of the step in which the backlog began.
                    if self.delivered.len() > step + 1 && counts(step + 1, one, other) {
                        least = Some(ahead);
                    }
                    continue;
                }
                let begin = least.map_or(ahead, |least| least.min(ahead));
                least = Some(begin);
                worst = worst.max(ahead - begin);
            }
        }
        worst
    }

    /// What a tenant was served from a step on.
    pub fn served_since(&self, step: usize, tenant: usize) -> u64 {
        self.delivered.last().expect("there is a first")[tenant] - self.delivered[step][tenant]
    }
}

/// Orders that are not fair, to see that the record shows it.
pub enum Broken {
    /// First come, first served.
    Fifo(VecDeque<usize>),
    /// Least counter first, but who was away keeps its low counter.
    NoLift { counters: Vec<u64>, waiting: Vec<VecDeque<usize>>, tenants: BTreeMap<usize, (usize, u64)> },
}

impl Broken {
    pub fn no_lift(tenants: usize) -> Broken {
        let waiting = vec![VecDeque::new(); tenants];
        Broken::NoLift { counters: vec![0; tenants], waiting, tenants: BTreeMap::new() }
    }
}

impl Order for Broken {
    fn enqueue(&mut self, _: Moment, id: usize, job: &Job, _: u32) {
        match self {
            Broken::Fifo(all) => all.push_back(id),
            Broken::NoLift { waiting, tenants, .. } => {
                waiting[job.tenant].push_back(id);
                tenants.insert(id, (job.tenant, job.charge(job.reserved)));
            }
        }
    }

    fn next(&mut self, _: Moment, room: &Room<'_>) -> Option<usize> {
        // All jobs of these tests need as much as this.
        if !(room.fits)(BROKEN_NEED) {
            return None;
        }
        match self {
            Broken::Fifo(all) => all.pop_front(),
            Broken::NoLift { counters, waiting, tenants } => {
                let least = (0..waiting.len()).filter(|tenant| !waiting[*tenant].is_empty());
                let tenant = least.min_by_key(|tenant| counters[*tenant])?;
                let id = waiting[tenant].pop_front()?;
                counters[tenant] += tenants[&id].1;
                Some(id)
            }
        }
    }

    fn cancel(&mut self, _: usize) {}
    fn extend(&mut self, _: usize, _: u64) {}
    fn settle(&mut self, _: Moment, _: usize, _: u64) {}
}

/// A generator for tests: SplitMix64 (Steele, Lea and Flood, 2014).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

const STEP_NS: u64 = 20_000_000;
/// Tokens of each answer in a step.
const PACE: u64 = 8;
/// How much output is let through at a time past the reservation.
const QUANTUM: u64 = 64;
pub const BROKEN_NEED: u64 = 100;
