mod adversaries;
mod bounds;
mod lasting;
mod order;
mod parts;
mod server;

use std::time::Duration;

use proto_core::model::Qos;
use proto_core::units::Moment;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> Moment {
    Moment(seconds * SECOND)
}

/// Ten tokens of input, far from any limit.
fn ask(tenant: u64) -> Ask {
    Ask {
        tenant,
        weight: 1,
        session: 0,
        band: Qos::Silver,
        charge: Charge(100),
        need_tokens: 10,
        deadline: Moment(u64::MAX),
        bytes: 1,
    }
}

/// Room for everything.
fn room() -> Room<'static> {
    Room { in_flight: 0, limit: 1000, fits: &|_| true, is_warm: &|_| false }
}

fn next<T>(queue: &mut FairQueue<T>, now: Moment, room: &Room<'_>) -> Option<Granted<T>> {
    let pick = queue.select(now, room, |_| false, |_, why| panic!("dropped: {why:?}"))?;
    queue.take(now, pick)
}

/// Everything that waits, in the order it is granted.
fn drain<T>(queue: &mut FairQueue<T>, now: Moment) -> Vec<T> {
    std::iter::from_fn(|| next(queue, now, &room()).map(|granted| granted.payload)).collect()
}

fn queue<T>() -> FairQueue<T> {
    FairQueue::new(Settings::DEFAULT)
}

fn put<T: std::fmt::Debug>(queue: &mut FairQueue<T>, now: Moment, ask: Ask, payload: T) -> Ticket {
    queue.enqueue(now, ask, payload).expect("the queue has room")
}
