//! The stories of fairness: tenants of different habits before one upstream. Each can be run with the real
//! queue and with broken ones.

use std::time::Duration;

use dataplane_core::{fair, limit};
use proto_core::model::{Concurrency, Qos};

use super::arrivals::{Load, Shape};
use super::fair_broken::{Broken, Unfair};
use super::fair_line::{Fair, Party};
use super::fair_record::{Record, Recorded};
use super::scenarios::{QUEUES, SHARES, WIDE, second, settings};
use super::upstream::{Manner, Upstream};
use super::world::{Fifo, Line, Source, World};

#[derive(Debug, Clone, Copy)]
pub struct Caller {
    pub party: Party,
    /// From which second on.
    pub from: usize,
    pub load: Load,
    pub shape: Shape,
}

/// Callers before an upstream of 100.
#[derive(Debug, Clone)]
pub struct Story {
    pub callers: Vec<Caller>,
    pub manner: Manner,
    pub limits: limit::Settings,
    pub queue: fair::Settings,
    pub seconds: usize,
}

impl Story {
    /// The limit is known and fixed at the capacity, so that only order matters.
    pub fn new(callers: Vec<Caller>, seconds: usize) -> Story {
        let is_open = |caller: &Caller| matches!(caller.load, Load::Open { .. });
        let age_max = if callers.iter().any(is_open) { fair::Settings::DEFAULT.age_max } else { DAY };
        let queue = fair::Settings { age_max, ..fair::Settings::DEFAULT };
        let limits = settings(Concurrency::Fixed, WIDE.requests as u32);
        Story { callers, manner: QUEUES, limits, queue, seconds }
    }

    /// By the real queue.
    pub fn fair(&self, seed: u64) -> Record {
        let world = self.run(seed, |parties| Fair::new(parties, self.queue));
        let Recorded { line, record, .. } = world.line(0);
        // Who asks only after an answer would be lost to the story.
        assert!(self.queue.age_max < DAY || line.refused() + line.counts().dropped == line.given_up());
        record.clone()
    }

    /// First come, first served.
    pub fn fifo(&self, seed: u64) -> Record {
        self.run(seed, |_| Fifo::default()).line(0).record.clone()
    }

    pub fn broken(&self, broken: Broken, seed: u64) -> Record {
        self.run(seed, |parties| Unfair::new(parties, broken)).line(0).record.clone()
    }

    fn run<L: Line>(&self, seed: u64, line: impl Fn(&[Party]) -> L) -> World<Recorded<L>> {
        let parties: Vec<Party> = self.callers.iter().map(|caller| caller.party).collect();
        let mut world = World::new(Upstream::new(WIDE, self.manner), seed);
        let plane = world.add_plane(self.limits, Recorded::new(line(&parties), &parties));
        for Caller { from, load, shape, .. } in self.callers.iter().copied() {
            world.add_source(second(from), Source { plane, load, shape });
        }
        world.run(second(self.seconds));
        world
    }
}

/// A caller of chats from the beginning.
pub fn chats(party: Party, load: Load) -> Caller {
    Caller { party, from: 0, load, shape: Shape::CHAT }
}

/// Requests a second that are so much of what the upstream can do.
pub fn open(part: f64) -> Load {
    Load::Open { per_second: part * ANSWERS_PER_S }
}

/// A hundred tenants with equal rights, who ask from 1.1 to 2.9 times their share: twice what there is.
pub fn equals(kind: Concurrency) -> Story {
    let part = |tenant: usize| (1.1 + 1.8 * tenant as f64 / 99.0) / 100.0;
    let callers = (0..100).map(|tenant| chats(Party::honest(tenant), open(part(tenant)))).collect();
    let prior = if kind == Concurrency::Fixed { WIDE.requests as u32 } else { 20 };
    let manner = if kind == Concurrency::Fixed { QUEUES } else { SHARES };
    Story { manner, limits: settings(kind, prior), ..Story::new(callers, EQUALS_END) }
}

/// Twenty tenants that always ask for more: 1 to 19 by ten callers each, 0 by so many times ten.
pub fn saturated(times: u32) -> Story {
    let clients = |tenant| Load::Closed { clients: if tenant == 0 { 10 * times } else { 10 } };
    let callers = (0..20).map(|tenant| chats(Party::honest(tenant), clients(tenant))).collect();
    Story::new(callers, NEIGHBOURS_END)
}

/// Tenants 1 to 19 ask for 2.5 hundredths of what there is each. Another 60, with which it is too little, are
/// asked for by ten tenants, of which 0 is one, or by 0 alone.
pub fn spread_or_alone(is_alone: bool) -> Story {
    let quiet = (1..20).map(|tenant| chats(Party::honest(tenant), open(0.025)));
    let loud = if is_alone {
        vec![chats(Party::honest(0), open(0.6))]
    } else {
        let ten = [0].into_iter().chain(20..29);
        ten.map(|tenant| chats(Party::honest(tenant), open(0.06))).collect()
    };
    Story::new(quiet.chain(loud).collect(), NEIGHBOURS_END)
}

/// Twenty tenants: 1 to 19 ask for nine tenths of their share, 0 for `times` its share.
pub fn within_share(times: f64) -> Story {
    let part = |tenant: usize| if tenant == 0 { times / 20.0 } else { 0.9 / 20.0 };
    let callers = (0..20).map(|tenant| chats(Party::honest(tenant), open(part(tenant)))).collect();
    Story::new(callers, NEIGHBOURS_END)
}

/// One of these tenants, with a twentieth of the upstream for itself.
pub fn alone() -> Story {
    let story = Story::new(vec![chats(Party::honest(0), open(0.9 / 20.0))], ALONE_ENDS);
    Story { limits: settings(Concurrency::Fixed, WIDE.requests as u32 / 20), ..story }
}

/// Tenant 0 is gold, 1 bronze.
pub fn bands(gold: Load, bronze: Load) -> Story {
    let of = |tenant, band| Party { band, ..Party::honest(tenant) };
    Story::new(vec![chats(of(0, Qos::Gold), gold), chats(of(1, Qos::Bronze), bronze)], PAIR_ENDS)
}

/// Tenant 0 is as told, 1 an honest one that always has some waiting.
fn beside_honest(callers: Vec<Caller>) -> Story {
    let honest = chats(Party::honest(1), Load::Closed { clients: CLIENTS });
    Story::new([callers, vec![honest]].concat(), PAIR_ENDS)
}

/// Two alike, each with more callers than there is room for.
pub fn twins() -> Story {
    beside_honest(vec![chats(Party::honest(0), CLOSED)])
}

/// A thousand callers, each a session of its own.
pub fn many_sessions() -> Story {
    let party = Party { sessions: 1000, ..Party::honest(0) };
    beside_honest(vec![chats(party, Load::Closed { clients: 1000 })])
}

/// Prompts of a token with long answers, of which it reserves a tenth.
pub fn tiny_prompts() -> Story {
    let shape = Shape { prompt_tokens: (1.0, 0.0), output_tokens: 1000.0 };
    let party = Party { reserves_permille: 100, ..Party::honest(0) };
    beside_honest(vec![Caller { shape, ..chats(party, CLOSED) }])
}

/// Half of its requests give up after a second of waiting and ask again; all of them reserve ten times what
/// they take and hang up just before the end.
pub fn cancels() -> Story {
    let patience = Some(Duration::from_secs(1));
    let party = Party { reserves_permille: 10_000, patience, hangs_up: true, ..Party::honest(0) };
    beside_honest(vec![chats(party, CLOSED)])
}

/// Asks a little, is away for two minutes and comes back with as much as a minute can take.
pub fn idle_then_burst() -> Story {
    let burst = |from, requests| Caller { from, ..chats(Party::honest(0), Load::Burst { requests }) };
    beside_honest(vec![burst(0, 20), burst(RETURNS_AT, 2500)])
}

/// Tenant 0 has four times the weight of 1, and what is in flight is bounded in tokens.
pub fn weighted() -> Story {
    let of = |tenant, weight| Party { weight, ..Party::honest(tenant) };
    let callers = [of(0, 4), of(1, 1)].map(|party| chats(party, Load::Closed { clients: CLIENTS }));
    let story = Story::new(callers.to_vec(), WEIGHTED_ENDS);
    let limits = limit::Settings { tokens_max: Some(TOKENS_IN_FLIGHT), ..story.limits };
    Story { limits, ..story }
}

/// Tenant 0 asks for as much as there is, 1 for six times as much.
pub fn quiet_and_loud() -> Story {
    let callers = [1.0, 6.0].iter().enumerate();
    let callers = callers.map(|(tenant, part)| chats(Party::honest(tenant), open(*part)));
    Story::new(callers.collect(), PAIR_ENDS)
}

/// Where figures begin: what is in flight and waits has settled.
pub const FROM: usize = 30;
pub const EQUALS_END: usize = 240;
pub const NEIGHBOURS_END: usize = 360;
pub const ALONE_ENDS: usize = 3600;
pub const PAIR_ENDS: usize = 240;
pub const WEIGHTED_ENDS: usize = 600;
/// Who was away comes back.
pub const RETURNS_AT: usize = 120;
const CLOSED: Load = Load::Closed { clients: CLIENTS };
/// More than there is room for, so that some always wait.
const CLIENTS: u32 = 150;
/// Some twenty requests of common size, or one of the largest.
pub const TOKENS_IN_FLIGHT: u64 = 32_768;
/// A hundred at a time, each 2.38 s on the mean, its way included.
const ANSWERS_PER_S: f64 = 42.0;
/// Longer than any run.
const DAY: Duration = Duration::from_secs(86_400);
