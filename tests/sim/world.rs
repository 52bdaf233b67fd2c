//! The loop: callers, data planes with their line and limiter, upstreams. It decides nothing the product
//! decides; the limiter is the real one and so is any line put in.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dataplane_core::limit::{Axis, Limiter, Limits, Loss, Sample, Settings};
use proto_core::units::Moment;

use super::arrivals::{Chance, Load, Shape, backoff};
use super::clock::Agenda;
use super::figures::{Answer, Second, Trace};
use super::upstream::{Capacity, Job, Speed, Stage, Upstream};

/// What a caller wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    pub id: u64,
    /// Which of the world's sources it came from.
    pub source: usize,
    pub born_at: Moment,
    pub prompt_tokens: u64,
    pub output_tokens: u64,
    /// Work until its first token, seconds at full speed: what it would take with nobody else there.
    pub first_s: f64,
}

impl Request {
    pub fn tokens(&self) -> u64 {
        self.prompt_tokens + self.output_tokens
    }
}

/// What may still be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub limits: Limits,
    pub requests_in_flight: u32,
    pub tokens_in_flight: u64,
}

impl Room {
    /// Which limit keeps out a request of so many tokens. Where nothing is in flight a request larger than
    /// the whole limit is let in: it would wait for ever.
    pub fn bound(&self, tokens: u64) -> Option<Axis> {
        if self.requests_in_flight >= self.limits.requests {
            return Some(Axis::Requests);
        }
        let is_over = self.tokens_in_flight.saturating_add(tokens) > self.limits.tokens;
        (is_over && self.requests_in_flight > 0).then_some(Axis::Tokens)
    }
}

/// What waits in front of an upstream, and in which order it leaves.
pub trait Line {
    fn push(&mut self, now: Moment, request: Request);
    /// The next one, if it fits; the limit that keeps it where it does not; `None` where nobody waits.
    fn pop(&mut self, now: Moment, room: Room) -> Option<Result<Request, Axis>>;
    /// Its first token came.
    fn on_first(&mut self, _now: Moment, _request: &Request) {}
    /// It was answered, or else refused or given up.
    fn on_end(&mut self, _now: Moment, _request: &Request, _is_answered: bool) {}
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// First come, first served.
#[derive(Debug, Default)]
pub struct Fifo(VecDeque<Request>);

impl Line for Fifo {
    fn push(&mut self, _now: Moment, request: Request) {
        self.0.push_back(request);
    }

    fn pop(&mut self, _now: Moment, room: Room) -> Option<Result<Request, Axis>> {
        match room.bound(self.0.front()?.tokens()) {
            Some(axis) => Some(Err(axis)),
            None => self.0.pop_front().map(Ok),
        }
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// A data plane: its line, its limiter, what it has in flight.
struct Plane<L> {
    line: L,
    limiter: Limiter,
    requests_in_flight: u32,
    tokens_in_flight: u64,
    trace: Trace,
    second: Second,
}

/// Callers of one data plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Source {
    pub plane: usize,
    pub load: Load,
    pub shape: Shape,
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    request: Request,
    plane: usize,
    dispatched_at: Moment,
    requests_in_flight: u32,
    tokens_in_flight: u64,
    ttft: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Arrival {
        source: usize,
    },
    /// A stage of the upstream, unless something has happened to it since.
    Stage {
        version: u64,
    },
    /// A request is at the upstream.
    Offer {
        id: u64,
    },
    /// A stage is known to the data plane.
    Told {
        id: u64,
        stage: Stage,
    },
    Refused {
        id: u64,
    },
    /// No first token in time.
    Timeout {
        id: u64,
    },
    Capacity(Capacity),
    Second,
}

/// One upstream and whoever shares it.
pub struct World<L> {
    agenda: Agenda<Event>,
    chance: Chance,
    upstream: Upstream,
    speed: Speed,
    /// Sigma of the logarithm of the noise on the work before a first token.
    noise: f64,
    /// A first token later than this after dispatch is a timeout, and a loss.
    first_token_max: Duration,
    version: u64,
    planes: Vec<Plane<L>>,
    sources: Vec<Source>,
    flights: BTreeMap<u64, Flight>,
    requests: u64,
}

impl<L: Line> World<L> {
    pub fn new(upstream: Upstream, seed: u64) -> World<L> {
        let mut agenda = Agenda::default();
        agenda.note(Moment(SECOND_NS), Event::Second);
        World {
            agenda,
            chance: Chance(seed),
            upstream,
            speed: Speed::COMMON,
            noise: NOISE,
            first_token_max: FIRST_TOKEN_MAX,
            version: 0,
            planes: Vec::new(),
            sources: Vec::new(),
            flights: BTreeMap::new(),
            requests: 0,
        }
    }

    pub fn with_first_token_max(mut self, first_token_max: Duration) -> World<L> {
        self.first_token_max = first_token_max;
        self
    }

    pub fn add_plane(&mut self, settings: Settings, line: L) -> usize {
        let limiter = Limiter::new(settings, self.agenda.now());
        self.planes.push(Plane {
            line,
            limiter,
            requests_in_flight: 0,
            tokens_in_flight: 0,
            trace: Trace::default(),
            second: Second::default(),
        });
        self.planes.len() - 1
    }

    pub fn add_source(&mut self, at: Moment, source: Source) -> usize {
        self.sources.push(source);
        let index = self.sources.len() - 1;
        let count = match source.load {
            Load::Closed { clients } => clients,
            Load::Burst { requests } => requests,
            Load::Open { .. } => 1,
        };
        for _ in 0..count {
            // Nobody begins in step.
            let jitter = Duration::from_secs_f64(self.chance.unit());
            self.agenda.note(at + jitter, Event::Arrival { source: index });
        }
        index
    }

    pub fn set_capacity_at(&mut self, at: Moment, capacity: Capacity) {
        self.agenda.note(at, Event::Capacity(capacity));
    }

    pub fn run(&mut self, end: Moment) {
        while let Some(event) = self.agenda.next(end) {
            self.on_event(event);
        }
    }

    pub fn trace(&self, plane: usize) -> &Trace {
        &self.planes[plane].trace
    }

    pub fn line(&self, plane: usize) -> &L {
        &self.planes[plane].line
    }

    fn on_event(&mut self, event: Event) {
        let now = self.agenda.now();
        match event {
            Event::Arrival { source } => self.on_arrival(now, source),
            Event::Stage { version } if version == self.version => {
                for (id, stage) in self.upstream.reached(now) {
                    let told_at = now + self.hop();
                    self.agenda.note(told_at, Event::Told { id, stage });
                }
                self.note_stage();
            }
            Event::Stage { .. } => {}
            Event::Offer { id } => self.on_offer(now, id),
            Event::Told { id, stage } => self.on_stage(now, id, stage),
            Event::Refused { id } => {
                self.on_loss(now, id);
            }
            Event::Timeout { id } => {
                if self.flights.get(&id).is_some_and(|flight| flight.ttft.is_none()) {
                    self.upstream.cancel(now, id);
                    self.note_stage();
                    self.on_loss(now, id);
                }
            }
            Event::Capacity(capacity) => {
                self.upstream.set_capacity(now, capacity);
                self.note_stage();
            }
            Event::Second => self.on_second(now),
        }
    }

    fn on_arrival(&mut self, now: Moment, source: usize) {
        let Source { plane, load, shape } = self.sources[source];
        let (prompt_tokens, output_tokens) = shape.draw(&mut self.chance);
        let work = self.speed.first_token + self.speed.prompt_token * prompt_tokens as f64;
        let first_s = work * self.chance.lognormal(1.0, self.noise);
        self.requests += 1;
        let id = self.requests;
        let request = Request { id, source, born_at: now, prompt_tokens, output_tokens, first_s };
        self.planes[plane].line.push(now, request);
        if let Load::Open { per_second } = load {
            let gap = Duration::from_secs_f64(self.chance.exponential(1.0 / per_second));
            self.agenda.note(now + gap, Event::Arrival { source });
        }
        self.pump(now, plane);
    }

    /// Sends what fits.
    fn pump(&mut self, now: Moment, index: usize) {
        loop {
            let plane = &mut self.planes[index];
            let room = Room {
                limits: plane.limiter.limits(now),
                requests_in_flight: plane.requests_in_flight,
                tokens_in_flight: plane.tokens_in_flight,
            };
            match plane.line.pop(now, room) {
                None => return,
                Some(Err(axis)) => {
                    plane.limiter.on_limit_bound(now, axis);
                    return;
                }
                Some(Ok(request)) => self.dispatch(now, index, request),
            }
        }
    }

    fn dispatch(&mut self, now: Moment, index: usize, request: Request) {
        let plane = &mut self.planes[index];
        plane.requests_in_flight += 1;
        plane.tokens_in_flight += request.tokens();
        let flight = Flight {
            request,
            plane: index,
            dispatched_at: now,
            requests_in_flight: plane.requests_in_flight,
            tokens_in_flight: plane.tokens_in_flight,
            ttft: None,
        };
        self.flights.insert(request.id, flight);
        let reaches_at = now + self.hop();
        self.agenda.note(reaches_at, Event::Offer { id: request.id });
        self.agenda.note(now + self.first_token_max, Event::Timeout { id: request.id });
    }

    fn on_offer(&mut self, now: Moment, id: u64) {
        let request = self.flights[&id].request;
        let rest = self.speed.output_token * request.output_tokens as f64;
        let job = Job { id, tokens: request.tokens(), first: request.first_s, rest };
        if !self.upstream.offer(now, job) {
            let told_at = now + self.hop();
            self.agenda.note(told_at, Event::Refused { id });
        }
        self.note_stage();
    }

    /// How long the network takes, one way.
    fn hop(&mut self) -> Duration {
        Duration::from_secs_f64(HOP_S * (0.5 + self.chance.unit()))
    }

    fn on_stage(&mut self, now: Moment, id: u64, stage: Stage) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let plane = &mut self.planes[flight.plane];
        match stage {
            Stage::First => {
                let ttft = now - flight.dispatched_at;
                flight.ttft = Some(ttft);
                plane.line.on_first(now, &flight.request);
                plane.limiter.on_sample(Sample {
                    dispatched_at: flight.dispatched_at,
                    now,
                    ttft: Some(ttft),
                    prompt_tokens_uncached: flight.request.prompt_tokens,
                    requests_in_flight: flight.requests_in_flight,
                    tokens_in_flight: flight.tokens_in_flight,
                    // Told by `on_limit_bound` when the line last met its limit.
                    bound: None,
                });
            }
            Stage::Last => {
                let ttft = flight.ttft.expect("the first token came before the last").as_secs_f64();
                let request = flight.request;
                plane.trace.answers.push(Answer {
                    at: now,
                    ttft_s: ttft,
                    unloaded_s: request.first_s + 2.0 * HOP_S,
                    work_s: request.first_s + self.speed.output_token * request.output_tokens as f64,
                });
                plane.second.answers += 1;
                self.on_end(now, id, None);
            }
        }
    }

    fn on_loss(&mut self, now: Moment, id: u64) {
        let Flight { plane, dispatched_at, requests_in_flight, tokens_in_flight, .. } = self.flights[&id];
        let plane = &mut self.planes[plane];
        plane.second.losses += 1;
        let what = Axis::Requests;
        plane.limiter.on_loss(Loss { dispatched_at, now, what, requests_in_flight, tokens_in_flight });
        let pause = backoff(&mut self.chance);
        self.on_end(now, id, Some(pause));
    }

    /// `pause`: how long its caller waits after a loss; `None` where it was answered.
    fn on_end(&mut self, now: Moment, id: u64, pause: Option<Duration>) {
        let flight = self.flights.remove(&id).expect("it ends once");
        let plane = &mut self.planes[flight.plane];
        plane.requests_in_flight -= 1;
        plane.tokens_in_flight -= flight.request.tokens();
        plane.line.on_end(now, &flight.request, pause.is_none());
        let source = flight.request.source;
        if matches!(self.sources[source].load, Load::Closed { .. }) {
            self.agenda.note(now + pause.unwrap_or_default(), Event::Arrival { source });
        }
        self.pump(now, flight.plane);
    }

    fn on_second(&mut self, now: Moment) {
        for plane in &mut self.planes {
            plane.limiter.on_tick(now);
            let second = Second {
                at: now,
                limit: plane.limiter.limits(now).requests,
                tokens_limit: plane.limiter.limits(now).tokens,
                in_flight: plane.requests_in_flight,
                waiting: plane.line.len(),
                ..std::mem::take(&mut plane.second)
            };
            plane.trace.seconds.push(second);
        }
        (0..self.planes.len()).for_each(|plane| self.pump(now, plane));
        self.agenda.note(now + Duration::from_secs(1), Event::Second);
    }

    fn note_stage(&mut self) {
        self.version += 1;
        if let Some(at) = self.upstream.next_stage() {
            self.agenda.note(at, Event::Stage { version: self.version });
        }
    }
}

const SECOND_NS: u64 = 1_000_000_000;
/// A network within a continent, give or take half.
const HOP_S: f64 = 0.01;
/// Alike requests differ by a fifth.
const NOISE: f64 = 0.2;
/// The default of a route.
const FIRST_TOKEN_MAX: Duration = Duration::from_secs(60);
