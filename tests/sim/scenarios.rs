//! The runs that tests judge and plots show: one upstream, a limiter, a story.

use std::time::Duration;

use dataplane_core::limit::Settings;
use proto_core::model::Concurrency;
use proto_core::units::Moment;

use super::arrivals::{Load, Shape};
use super::upstream::{Capacity, Manner, Upstream};
use super::world::{Fifo, Source, World};

/// A server of one's own: what is above its capacity makes all of it slower.
pub const SHARES: Manner = Manner::Shares { times_max: 20 };
/// A server of one's own that keeps a batch and lets the rest wait.
pub const QUEUES: Manner = Manner::Queues { waiting_max: 1000 };
/// A provider: refuses at once.
pub const REFUSES: Manner = Manner::Queues { waiting_max: 0 };

pub const WIDE: Capacity = Capacity { requests: 100.0, tokens: f64::INFINITY };
pub const NARROW: Capacity = Capacity { requests: 30.0, tokens: f64::INFINITY };

/// When the step story narrows, when it widens again, when it ends.
pub const NARROWS_AT: usize = 120;
pub const WIDENS_AT: usize = 240;
pub const STEP_ENDS: usize = 360;

pub fn second(second: usize) -> Moment {
    Moment(0) + Duration::from_secs(second as u64)
}

pub fn settings(kind: Concurrency, prior: u32) -> Settings {
    let requests_max = if kind == Concurrency::Fixed { prior } else { REQUESTS_MAX };
    Settings { kind, requests_max, tokens_max: None, prior }
}

/// Capacity 100, then 30, then 100 again, with more callers than either.
pub fn step(kind: Concurrency, prior: u32, manner: Manner, seed: u64) -> World<Fifo> {
    let mut world = World::new(Upstream::new(WIDE, manner), seed);
    let plane = world.add_plane(settings(kind, prior), Fifo::default());
    world.add_source(second(0), Source { plane, load: Load::Closed { clients: 200 }, shape: Shape::CHAT });
    world.set_capacity_at(second(NARROWS_AT), NARROW);
    world.set_capacity_at(second(WIDENS_AT), WIDE);
    world.run(second(STEP_ENDS));
    world
}

/// Capacity 100 and twice the callers, for `seconds`.
pub fn steady(kind: Concurrency, prior: u32, manner: Manner, seconds: usize, seed: u64) -> World<Fifo> {
    let mut world = World::new(Upstream::new(WIDE, manner), seed);
    let plane = world.add_plane(settings(kind, prior), Fifo::default());
    world.add_source(second(0), Source { plane, load: Load::Closed { clients: 200 }, shape: Shape::CHAT });
    world.run(second(seconds));
    world
}

/// Two data planes that know nothing of each other: one has the upstream for itself for a minute, then the
/// other comes.
pub fn shared(kinds: [Concurrency; 2], priors: [u32; 2], manner: Manner, seed: u64) -> World<Fifo> {
    let mut world = World::new(Upstream::new(WIDE, manner), seed);
    for (index, (kind, prior)) in kinds.into_iter().zip(priors).enumerate() {
        let plane = world.add_plane(settings(kind, prior), Fifo::default());
        let load = Load::Closed { clients: 200 };
        world.add_source(second(60 * index), Source { plane, load, shape: Shape::CHAT });
    }
    world.run(second(SHARED_ENDS));
    world
}

/// Ten times as many permits as the capacity has to begin with, ten times as many callers, and an attempt
/// that has no first token after three seconds is given up: its work is lost.
pub fn overload(kind: Concurrency, prior: u32, clients: u32, manner: Manner, seed: u64) -> World<Fifo> {
    let upstream = Upstream::new(WIDE, manner);
    let mut world = World::new(upstream, seed).with_first_token_max(Duration::from_secs(3));
    let plane = world.add_plane(settings(kind, prior), Fifo::default());
    world.add_source(second(0), Source { plane, load: Load::Closed { clients }, shape: Shape::CHAT });
    world.run(second(OVERLOAD_ENDS));
    world
}

pub const SHARED_ENDS: usize = 600;
pub const OVERLOAD_ENDS: usize = 240;

/// The operator's ceiling is far off and no help.
const REQUESTS_MAX: u32 = 1000;
