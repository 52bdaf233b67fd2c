//! A model server made of arithmetic. It works at full speed on as many requests and tokens as its capacity;
//! above that it does what its [`Manner`] says. Work is counted in seconds at full speed: a request needs
//! some until its first token (which grows with its prompt) and some more until its last.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proto_core::units::Moment;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    pub requests: f64,
    /// Infinite: only requests count.
    pub tokens: f64,
}

/// What happens above the capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// All get slower alike (one batch that grows), up to so many times the capacity, then 429.
    Shares { times_max: u32 },
    /// So many wait for their turn, first come first served, then 429. Zero: a provider that refuses at once.
    Queues { waiting_max: usize },
}

/// Seconds of work at full speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    pub first_token: f64,
    pub prompt_token: f64,
    pub output_token: f64,
}

impl Speed {
    /// A first token after 0.2 s and 0.1 s for each thousand of the prompt; 50 tokens a second.
    pub const COMMON: Speed = Speed { first_token: 0.2, prompt_token: 0.0001, output_token: 0.02 };
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Job {
    pub id: u64,
    /// Prompt and answer, for the capacity in tokens.
    pub tokens: u64,
    /// Work until the first token, seconds.
    pub first: f64,
    /// Work after it.
    pub rest: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    First,
    Last,
}

pub struct Upstream {
    capacity: Capacity,
    manner: Manner,
    /// Work each running job has been given since the beginning of time, up to `at`: all get the same, so one
    /// number serves for all and a job's stages are points on it.
    given: f64,
    at: Moment,
    /// Points still to come, in order; the bits of a positive float order like the float.
    points: BTreeSet<(u64, u64, bool)>,
    running: BTreeMap<u64, (f64, f64, u64)>,
    running_tokens: u64,
    waiting: VecDeque<Job>,
}

impl Upstream {
    pub fn new(capacity: Capacity, manner: Manner) -> Upstream {
        Upstream {
            capacity,
            manner,
            given: 0.0,
            at: Moment(0),
            points: BTreeSet::new(),
            running: BTreeMap::new(),
            running_tokens: 0,
            waiting: VecDeque::new(),
        }
    }

    pub fn set_capacity(&mut self, now: Moment, capacity: Capacity) {
        self.advance(now);
        self.capacity = capacity;
        self.start_waiting();
    }

    /// Whether it takes the job; `false` is a 429.
    pub fn offer(&mut self, now: Moment, job: Job) -> bool {
        self.advance(now);
        match self.manner {
            Manner::Shares { times_max } => {
                let times = f64::from(times_max);
                let is_full = (self.running.len() + 1) as f64 > times * self.capacity.requests
                    || (self.running_tokens + job.tokens) as f64 > times * self.capacity.tokens;
                if !is_full {
                    self.start(job);
                }
                !is_full
            }
            Manner::Queues { waiting_max } => {
                if self.waiting.is_empty() && self.has_room(job.tokens) {
                    self.start(job);
                    return true;
                }
                let is_taken = self.waiting.len() < waiting_max;
                if is_taken {
                    self.waiting.push_back(job);
                }
                is_taken
            }
        }
    }

    /// The caller left.
    pub fn cancel(&mut self, now: Moment, id: u64) {
        self.advance(now);
        self.waiting.retain(|job| job.id != id);
        self.end(id);
        self.start_waiting();
    }

    /// When the next stage of any job is reached if nothing else happens.
    pub fn next_stage(&self) -> Option<Moment> {
        let (point, ..) = self.points.first()?;
        let left = (f64::from_bits(*point) - self.given).max(0.0) / self.speed();
        // One nanosecond more, so that rounding never leaves the point just ahead.
        Some(self.at + Duration::from_secs_f64(left) + Duration::from_nanos(1))
    }

    /// The stages reached up to `now`, in order.
    pub fn reached(&mut self, now: Moment) -> Vec<(u64, Stage)> {
        self.advance(now);
        let mut reached = Vec::new();
        while let Some((point, id, is_last)) = self.points.first().copied() {
            if f64::from_bits(point) > self.given {
                break;
            }
            self.points.pop_first();
            reached.push((id, if is_last { Stage::Last } else { Stage::First }));
            if is_last {
                self.end(id);
            }
        }
        self.start_waiting();
        reached
    }

    fn advance(&mut self, now: Moment) {
        self.given += (now - self.at).as_secs_f64() * self.speed();
        self.at = self.at.max(now);
    }

    fn speed(&self) -> f64 {
        match self.manner {
            Manner::Queues { .. } => 1.0,
            Manner::Shares { .. } => {
                let requests = self.capacity.requests / self.running.len().max(1) as f64;
                let tokens = self.capacity.tokens / self.running_tokens.max(1) as f64;
                requests.min(tokens).min(1.0)
            }
        }
    }

    fn has_room(&self, tokens: u64) -> bool {
        (self.running.len() + 1) as f64 <= self.capacity.requests
            && (self.running_tokens + tokens) as f64 <= self.capacity.tokens
    }

    fn start(&mut self, job: Job) {
        let first = self.given + job.first;
        let last = first + job.rest;
        self.points.insert((first.to_bits(), job.id, false));
        self.points.insert((last.to_bits(), job.id, true));
        self.running.insert(job.id, (first, last, job.tokens));
        self.running_tokens += job.tokens;
    }

    fn start_waiting(&mut self) {
        while self.waiting.front().is_some_and(|job| self.has_room(job.tokens)) {
            let job = self.waiting.pop_front().expect("there is a front");
            self.start(job);
        }
    }

    fn end(&mut self, id: u64) {
        if let Some((first, last, tokens)) = self.running.remove(&id) {
            self.points.remove(&(first.to_bits(), id, false));
            self.points.remove(&(last.to_bits(), id, true));
            self.running_tokens -= tokens;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(manner: Manner, jobs: u64) -> Vec<(u64, u64)> {
        let mut upstream = Upstream::new(Capacity { requests: 2.0, tokens: f64::INFINITY }, manner);
        let job = |id| Job { id, tokens: 1, first: 1.0, rest: 1.0 };
        let mut seen: Vec<(u64, u64)> =
            (0..jobs).filter(|id| !upstream.offer(Moment(0), job(*id))).map(|id| (id, 0)).collect();
        while let Some(at) = upstream.next_stage() {
            let ends = upstream.reached(at).into_iter().filter(|(_, stage)| *stage == Stage::Last);
            seen.extend(ends.map(|(id, _)| (id, (at.0 + 500_000_000) / 1_000_000_000)));
        }
        seen
    }

    #[test]
    fn within_the_capacity_nobody_waits() {
        assert_eq!(run(Manner::Shares { times_max: 9 }, 2), [(0, 2), (1, 2)]);
        assert_eq!(run(Manner::Queues { waiting_max: 9 }, 2), [(0, 2), (1, 2)]);
    }

    #[test]
    fn above_it_all_are_slower_or_some_wait_or_some_are_refused() {
        let shared = [(0, 4), (1, 4), (2, 4), (3, 4)];
        assert_eq!(run(Manner::Shares { times_max: 2 }, 4), shared);
        assert_eq!(run(Manner::Shares { times_max: 2 }, 5), [&[(4, 0)][..], &shared].concat());
        assert_eq!(run(Manner::Queues { waiting_max: 2 }, 4), [(0, 2), (1, 2), (2, 4), (3, 4)]);
        assert_eq!(run(Manner::Queues { waiting_max: 0 }, 3), [(2, 0), (0, 2), (1, 2)]);
    }

    #[test]
    fn tokens_are_a_capacity_of_their_own() {
        let capacity = Capacity { requests: 100.0, tokens: 10.0 };
        let mut upstream = Upstream::new(capacity, Manner::Queues { waiting_max: 0 });
        let job = |id, tokens| Job { id, tokens, first: 1.0, rest: 1.0 };
        let taken = [(0, 6), (1, 5), (2, 4)].map(|(id, tokens)| upstream.offer(Moment(0), job(id, tokens)));
        assert_eq!(taken, [true, false, true]);
        upstream.cancel(Moment(1), 0);
        assert!(upstream.offer(Moment(1), job(3, 6)));
    }
}
