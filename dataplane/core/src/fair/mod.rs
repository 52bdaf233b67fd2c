//! Who is next where more wait than there is room for: fair between tenants by what they are served, not by
//! how much they ask. One queue stands before one model of one adapter and has one owner. It decides who
//! starts and keeps account; it never starts anything, never counts what is in flight and never asks a
//! clock.
//!
//! ```text
//!  band      gold 5 : silver 3 : bronze 1, ceilings, minimums                         band
//!   └ tenant     least service by weight: a virtual token counter                     flow, account
//!      └ session     least attained service, halved every minute                      session
//!         └ request     earliest deadline; of one tenant, whoever starves goes first  mod, waits
//! ```
//! The owner's turn: [`select`](FairQueue::select), take a permit for it, [`take`](FairQueue::take), start
//! it; [`extend`](FairQueue::extend) where its output passes the reservation; [`settle`](FairQueue::settle)
//! when it ends. What is promised, with proof: docs/fairness.md. Tenants: Sheng et al., "Fairness in Serving
//! Large Language Models", OSDI 2024.

mod account;
mod ask;
mod band;
mod flow;
mod heap;
mod leave;
mod links;
mod rate;
mod refusal;
mod session;
mod slab;
mod waits;

use proto_core::model::Qos;
use proto_core::units::Moment;

pub use ask::{
    Ask, CHARGE_MIN, Charge, Counts, Granted, Pick, Refused, Room, Settings, Share, TOKENS_MAX, Tariff,
    Ticket, WEIGHT_MAX, Why,
};
pub use band::ceiling;

use account::scaled;
use band::Bands;
use flow::Flows;
use heap::Forest;
use session::Sessions;
use slab::{NONE, Slab};
use waits::Waits;

/// `T` is what the owner keeps of a waiting request, at least a way to answer it.
pub struct FairQueue<T> {
    settings: Settings,
    bands: Bands,
    flows: Flows,
    sessions: Sessions,
    requests: Slab<Request<T>>,
    /// Of each session's requests, by deadline.
    order: Forest<(u64, u64)>,
    /// Of all requests, by when they leave unserved.
    expiry: Forest<(u64, u64)>,
    expires_first: u32,
    bytes: u64,
    number: u64,
    waits: Waits,
    counts: Counts,
}

/// One that waits.
struct Request<T> {
    payload: T,
    number: u64,
    since: Moment,
    deadline: Moment,
    need_tokens: u64,
    tenths: u64,
    flow: u32,
    session: u32,
    /// Of its flow, who came just before and after.
    older: u32,
    newer: u32,
    weight: u32,
    bytes: u32,
}

impl<T> FairQueue<T> {
    /// Bytes kept for one that waits, what the owner keeps of it included, its tenant and session aside.
    pub const REQUEST_BYTES: usize =
        size_of::<slab::Entry<Request<T>>>() + 2 * size_of::<heap::Node<(u64, u64)>>();

    pub fn new(settings: Settings) -> FairQueue<T> {
        let sessions_max = settings.sessions_max.max(settings.items_max);
        FairQueue {
            settings,
            bands: Bands::new(),
            flows: Flows::new(settings.seed, settings.tenants_max),
            sessions: Sessions::new(settings.seed, settings.half_life, sessions_max),
            requests: Slab::new(),
            order: Forest::new(),
            expiry: Forest::new(),
            expires_first: NONE,
            bytes: 0,
            number: 0,
            waits: Waits::new(),
            counts: Counts::default(),
        }
    }

    /// Lets a request wait, or says at once why that is of no use.
    pub fn enqueue(&mut self, now: Moment, ask: Ask, payload: T) -> Result<Ticket, (T, Refused)> {
        let ask = links::bounded(ask);
        let found = self.flows.find(ask.band, ask.tenant);
        if let Some(refused) = self.refusal(now, &ask, found.1) {
            match refused {
                Refused::Full => self.counts.refused_full += 1,
                Refused::Crowded => self.counts.refused_crowded += 1,
                Refused::Late { .. } => self.counts.refused_late += 1,
            }
            return Err((payload, refused));
        }
        let (flow, session) = self.places(now, &ask, found);
        let number = self.number;
        let request = Request {
            payload,
            number,
            since: now,
            deadline: ask.deadline,
            need_tokens: ask.need_tokens,
            tenths: ask.charge.0,
            flow,
            session,
            older: NONE,
            newer: NONE,
            weight: ask.weight,
            bytes: ask.bytes,
        };
        let at = self.requests.insert(request);
        self.link(now, &ask, at);
        self.counts.enqueued += 1;
        Ok(Ticket { at, number })
    }

    /// Who is next, or nobody: none waits, or the next one does not fit yet. Whoever does not fit holds back
    /// the others too, since behind a stream of small ones a large one would wait for ever. On the way it
    /// drops requests that nobody waits for any more or whose time is over.
    pub fn select(
        &mut self,
        now: Moment,
        room: &Room<'_>,
        mut is_gone: impl FnMut(&T) -> bool,
        mut dropped: impl FnMut(T, Why),
    ) -> Option<Pick> {
        loop {
            let next_tenths = |band| self.requests[self.best(self.bands.of(band).flows)].tenths;
            let (band, is_due) = self.bands.next(room.in_flight, room.limit, next_tenths)?;
            let slack = scaled(self.settings.slack.0, 1);
            let flow = self.flows.first(self.bands.of(band), slack, room.is_warm);
            let (at, is_starved) = self.within(now, flow);
            let request = &self.requests[at];
            if let Some(why) = self.reason(now, request, &mut is_gone) {
                dropped(self.drop(at), why);
                continue;
            }
            let ticket = Ticket { at, number: request.number };
            let need_tokens = request.need_tokens;
            return (room.fits)(need_tokens).then_some(Pick {
                ticket,
                is_due,
                is_starved,
                need_tokens,
                band,
            });
        }
    }

    /// Grants it; `None` where it left since it was picked.
    pub fn take(&mut self, now: Moment, pick: Pick) -> Option<Granted<T>> {
        let at = self.find(pick.ticket)?;
        let request = &self.requests[at];
        let (flow, session, tenths, weight) = (request.flow, request.session, request.tenths, request.weight);
        if pick.is_starved {
            self.sessions.boost(now, session);
        }
        let share = self.charge(now, flow, session, tenths, weight, !pick.is_due);
        self.bands.at(pick.band).rate.on_dispatch(now, tenths);
        let request = self.unlink(at);
        let waited = now - request.since;
        self.waits.push(waited);
        self.counts.granted += 1;
        self.counts.starved += u64::from(pick.is_starved);
        self.counts.guaranteed += u64::from(pick.is_due);
        Some(Granted { payload: request.payload, share, waited })
    }

    /// Charges a request that found room without waiting here, so that what it is served counts later.
    pub fn note(&mut self, now: Moment, ask: Ask) -> Share {
        let ask = links::bounded(ask);
        let found = self.flows.find(ask.band, ask.tenant);
        let (flow, session) = self.places(now, &ask, found);
        let is_away = self.flows.slab[flow].waiting == 0;
        if self.bands.of(ask.band).waiting == 0 {
            self.bands.lift(ask.band);
        }
        let band = self.bands.at(ask.band);
        if is_away {
            self.flows.lift(band, flow);
        }
        let share = self.charge(now, flow, session, ask.charge.0, ask.weight, false);
        self.rekey_session(session);
        let band = self.bands.at(ask.band);
        self.flows.rekey(band, flow);
        if band.flows == NONE {
            band.last = self.flows.slab[flow].account.counter();
            self.bands.on_empty(ask.band);
        }
        share
    }

    /// Charges more for a granted request, before that much more output is let through. The holder of the
    /// share keeps [`share.extended(more)`](Share::extended) from then on.
    pub fn extend(&mut self, share: Share, more: Charge) {
        let (before, after) = (share.charged, share.extended(more).charged);
        if self.flows.slab.find(share.flow).is_none() {
            return;
        }
        let band = self.bands.at(share.band);
        let flow = &mut self.flows.slab[share.flow];
        let amount = scaled(after, share.weight) - scaled(before, share.weight);
        flow.account.extend(share.flow_epoch, amount);
        band.peak = band.peak.max(flow.account.returnable());
        self.flows.rekey(band, share.flow);
        self.bands.extend(share.band, share.band_epoch, before, after);
    }

    /// The end of a granted request, however it came: it used so much, and what it was charged beyond comes
    /// back.
    pub fn settle(&mut self, now: Moment, share: Share, used: Charge) {
        let used = used.max(CHARGE_MIN).0;
        if self.flows.slab.find(share.flow).is_none() {
            return;
        }
        let band = self.bands.at(share.band);
        let amounts = (scaled(share.charged, share.weight), scaled(used, share.weight));
        let flow = &mut self.flows.slab[share.flow];
        flow.account.settle(share.flow_epoch, amounts.0, amounts.1);
        self.flows.rekey(band, share.flow);
        self.flows.rest(band, share.flow);
        self.bands.settle(share.band, share.band_epoch, share.charged, used);
        if self.sessions.is(share.session, share.session_number) {
            self.sessions.serve(now, share.session, used as f64 - share.charged as f64);
            self.rekey_session(share.session);
        }
    }

    pub fn len(&self) -> usize {
        self.requests.len()
    }

    pub fn is_empty(&self) -> bool {
        self.requests.len() == 0
    }

    /// Requests that wait in a band.
    pub fn depth(&self, band: Qos) -> u32 {
        self.bands.of(band).waiting
    }

    /// Requests of a tenant that wait in a band; where it has no flow of its own, those of all who share it.
    pub fn depth_of(&self, band: Qos, tenant: u64) -> u32 {
        self.flows.find(band, tenant).1.map_or(0, |flow| self.flows.slab[flow].waiting)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Flows and sessions remembered, waiting or not.
    pub fn remembered(&self) -> (usize, usize) {
        (self.flows.slab.len(), self.sessions.len())
    }

    /// Who waits longer than this goes first among its tenant's requests.
    pub fn starved_after(&self) -> std::time::Duration {
        self.waits.starved()
    }
}

/// Bytes of one request that is alone in its session and its flow, its payload of no size.
#[cfg(test)]
fn per_request() -> usize {
    let request = FairQueue::<()>::REQUEST_BYTES;
    let session = size_of::<slab::Entry<session::Session>>() + size_of::<heap::Node<(u64, u64)>>();
    request + session + size_of::<slab::Entry<flow::Flow>>() + size_of::<heap::Node<(u128, u64)>>()
}

#[cfg(test)]
mod tests;
