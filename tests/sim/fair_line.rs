//! The real fair queue as a [`Line`], and what its callers are like. It does what the owner of a queue does:
//! takes what is selected, extends what runs over, settles what ends. It decides nothing of its own.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use dataplane_core::fair::{Ask, Charge, Counts, FairQueue, Settings, Share, Tariff, Ticket};
use dataplane_core::limit::Axis;
use proto_core::model::Qos;
use proto_core::units::Moment;

use super::arrivals::Chance;
use super::upstream::Speed;
use super::world::{Line, Request, Room};

/// Whoever stands behind one source of the world.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Party {
    pub tenant: usize,
    pub weight: u32,
    pub band: Qos,
    /// Sessions its requests take turns in.
    pub sessions: u64,
    /// Of a thousand of its output, what it reserves.
    pub reserves_permille: u64,
    /// After such a wait every second of its requests is given up and asked again.
    pub patience: Option<Duration>,
    /// It hangs up before the last token.
    pub hangs_up: bool,
}

impl Party {
    /// Reserves what it takes, waits, and hears the end. Of gold, which no ceiling holds back.
    pub fn honest(tenant: usize) -> Party {
        Party {
            tenant,
            weight: 1,
            band: Qos::Gold,
            sessions: 1,
            reserves_permille: 1000,
            patience: None,
            hangs_up: false,
        }
    }

    /// Tokens of output that reach it.
    pub fn takes(&self, request: &Request) -> u64 {
        request.output_tokens - u64::from(self.hangs_up)
    }

    fn reserves(&self, request: &Request) -> u64 {
        (request.output_tokens * self.reserves_permille / 1000).max(1)
    }
}

/// What is in flight.
struct Flight {
    share: Share,
    reserved: u64,
    output: u64,
    first_at: Option<Moment>,
}

pub struct Fair {
    queue: FairQueue<Request>,
    /// By source.
    parties: Vec<Party>,
    age_max: Duration,
    flights: BTreeMap<u64, Flight>,
    /// Who gives up when, if nothing comes before.
    impatient: BTreeMap<(Moment, u64), Ticket>,
    refused: u64,
    given_up: u64,
}

impl Fair {
    pub fn new(parties: &[Party], settings: Settings) -> Fair {
        Fair {
            queue: FairQueue::new(settings),
            parties: parties.to_vec(),
            age_max: settings.age_max,
            flights: BTreeMap::new(),
            impatient: BTreeMap::new(),
            refused: 0,
            given_up: 0,
        }
    }

    pub fn counts(&self) -> Counts {
        self.queue.counts()
    }

    /// Requests turned away at the door.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Requests whose callers lost patience, and asked again.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// What happened since somebody last looked: output that ran over, callers that lost patience.
    fn advance(&mut self, now: Moment) {
        for flight in self.flights.values_mut() {
            let Some(first_at) = flight.first_at else { continue };
            while flight.reserved < flight.output && flight.reserved < streamed(first_at, now) {
                let more = TARIFF.charge(0, 0, QUANTUM);
                self.queue.extend(flight.share, more);
                flight.share = flight.share.extended(more);
                flight.reserved += QUANTUM;
            }
        }
        while self.impatient.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
            let (_, ticket) = self.impatient.pop_first().expect("there is a first");
            if let Some(request) = self.queue.remove(ticket) {
                self.given_up += 1;
                self.push(now, request);
            }
        }
    }
}

impl Line for Fair {
    fn push(&mut self, now: Moment, request: Request) {
        let party = self.parties[request.source];
        let reserved = party.reserves(&request);
        let ask = Ask {
            // Well mixed, as a hash of a name is.
            tenant: Chance(party.tenant as u64).number(),
            weight: party.weight,
            session: request.id % party.sessions,
            band: party.band,
            charge: TARIFF.charge(request.prompt_tokens, 0, reserved),
            need_tokens: request.tokens(),
            deadline: now + self.age_max,
            bytes: 0,
        };
        match (self.queue.enqueue(now, ask, request), party.patience) {
            (Ok(ticket), Some(patience)) if request.id.is_multiple_of(2) => {
                self.impatient.insert((now + patience, request.id), ticket);
            }
            (Ok(_), _) => {}
            (Err(_), _) => self.refused += 1,
        }
    }

    fn pop(&mut self, now: Moment, room: Room) -> Option<Result<Request, Axis>> {
        self.advance(now);
        let is_tokens = Cell::new(false);
        let fits = |need| {
            let bound = room.bound(need);
            is_tokens.set(bound == Some(Axis::Tokens));
            bound.is_none()
        };
        let (in_flight, limit) = (room.requests_in_flight, room.limits.requests);
        let of_queue = dataplane_core::fair::Room { in_flight, limit, fits: &fits, is_warm: &|_| false };
        let Some(pick) = self.queue.select(now, &of_queue, |_| false, |_, _| ()) else {
            let bound = if is_tokens.get() { Some(Axis::Tokens) } else { room.bound(0) };
            return bound.filter(|_| !self.queue.is_empty()).map(Err);
        };
        let granted = self.queue.take(now, pick).expect("nobody left in between");
        let request = granted.payload;
        let party = self.parties[request.source];
        let flight = Flight {
            share: granted.share,
            reserved: party.reserves(&request),
            output: request.output_tokens,
            first_at: None,
        };
        self.flights.insert(request.id, flight);
        Some(Ok(request))
    }

    fn on_first(&mut self, now: Moment, request: &Request) {
        self.flights.get_mut(&request.id).expect("it is in flight").first_at = Some(now);
    }

    fn on_end(&mut self, now: Moment, request: &Request, is_answered: bool) {
        self.advance(now);
        let flight = self.flights.remove(&request.id).expect("it ends once");
        let used = if is_answered {
            TARIFF.charge(request.prompt_tokens, 0, self.parties[request.source].takes(request))
        } else {
            Charge(0)
        };
        self.queue.settle(now, flight.share, used);
    }

    fn len(&self) -> usize {
        self.queue.len()
    }
}

/// Tokens that came since the first, at full speed: upstreams here are not given more than they can do.
fn streamed(first_at: Moment, now: Moment) -> u64 {
    ((now - first_at).as_secs_f64() / Speed::COMMON.output_token) as u64 + 1
}

pub const TARIFF: Tariff = Tariff::DEFAULT;
/// As the data plane extends reservations.
const QUANTUM: u64 = 64;
