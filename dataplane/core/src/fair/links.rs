//! How a request hangs together with its session, flow and band: every structure it is in, in one place.

use proto_core::model::Qos;
use proto_core::units::Moment;

use super::account::scaled;
use super::ask::{Ask, CHARGE_MIN, Share, Ticket, WEIGHT_MAX};
use super::flow::FlowName;
use super::session::SessionName;
use super::slab::NONE;
use super::{FairQueue, Request};

impl<T> FairQueue<T> {
    /// The session of an ask and its flow where it is new.
    pub(super) fn places(&mut self, now: Moment, ask: &Ask, found: (FlowName, Option<u32>)) -> (u32, u32) {
        let (name, flow) = found;
        self.counts.hashed += u64::from(name.is_shared);
        self.number += 1;
        let flow = flow.unwrap_or_else(|| self.flows.make(name, self.number));
        // Tenants of one shared flow keep their sessions apart.
        let session = if name.is_shared { ask.session ^ ask.tenant.rotate_left(32) } else { ask.session };
        let session = self.sessions.place(now, SessionName { flow: name, session }, self.number);
        (flow, session)
    }

    pub(super) fn link(&mut self, now: Moment, ask: &Ask, at: u32) {
        let request = &self.requests[at];
        let (session, flow, number) = (request.session, request.flow, request.number);
        let leaves = request.deadline.min(now + self.settings.age_max);
        self.expires_first = self.expiry.push(self.expires_first, at, (leaves.0, number));
        self.bytes += u64::from(ask.bytes);

        if self.bands.of(ask.band).waiting == 0 {
            self.bands.lift(ask.band);
            self.bands.at(ask.band).rate.on_backlog(now);
        }
        let band = self.bands.at(ask.band);
        band.waiting += 1;
        band.tenths = band.tenths.saturating_add(ask.charge.0);
        if self.flows.slab[flow].waiting == 0 {
            self.flows.slab[flow].weight = ask.weight;
            self.flows.lift(band, flow);
            self.flows.wait(band, flow, number);
        }
        let owner = &mut self.flows.slab[flow];
        owner.waiting += 1;
        owner.tenths = owner.tenths.saturating_add(ask.charge.0);
        owner.bytes += u64::from(ask.bytes);

        let requests = self.sessions.at(session).requests;
        if requests == NONE {
            self.sessions.wait(flow, &mut owner.sessions, session);
        }
        self.sessions.at(session).requests = self.order.push(requests, at, (ask.deadline.0, number));

        let newest = std::mem::replace(&mut owner.newest, at);
        if newest == NONE {
            owner.oldest = at;
        } else {
            self.requests[newest].newer = at;
        }
        self.requests[at].older = newest;
    }

    /// Takes a request out of everything. What its flow and session were charged just before takes effect.
    pub(super) fn unlink(&mut self, at: u32) -> Request<T> {
        let request = self.requests.remove(at);
        self.expires_first = self.expiry.remove(self.expires_first, at);
        self.bytes -= u64::from(request.bytes);
        for (neighbour, is_older) in [(request.older, true), (request.newer, false)] {
            let other = if is_older { request.newer } else { request.older };
            match (neighbour, is_older) {
                (NONE, true) => self.flows.slab[request.flow].oldest = other,
                (NONE, false) => self.flows.slab[request.flow].newest = other,
                (_, true) => self.requests[neighbour].newer = other,
                (_, false) => self.requests[neighbour].older = other,
            }
        }

        let owner = &mut self.flows.slab[request.flow];
        let requests = self.order.remove(self.sessions.at(request.session).requests, at);
        self.sessions.at(request.session).requests = requests;
        if requests == NONE {
            self.sessions.rest(&mut owner.sessions, request.session);
        } else {
            self.sessions.rekey(Some(&mut owner.sessions), request.session);
        }
        owner.waiting -= 1;
        owner.tenths = owner.tenths.saturating_sub(request.tenths);
        owner.bytes -= u64::from(request.bytes);

        let name = owner.name.band;
        let is_last = owner.waiting == 0;
        let band = self.bands.at(name);
        band.waiting -= 1;
        band.tenths = band.tenths.saturating_sub(request.tenths);
        if is_last {
            self.flows.leave(band, request.flow);
        } else {
            self.flows.rekey(band, request.flow);
        }
        if band.waiting == 0 {
            self.bands.on_empty(name);
        }
        request
    }

    /// Charges flow, band and session. Their places must be made right after.
    pub(super) fn charge(
        &mut self,
        now: Moment,
        flow: u32,
        session: u32,
        tenths: u64,
        weight: u32,
        is_turn: bool,
    ) -> Share {
        let owner = &mut self.flows.slab[flow];
        let name = owner.name.band;
        let flow_epoch = owner.account.charge(scaled(tenths, weight));
        let band = self.bands.at(name);
        band.peak = band.peak.max(owner.account.returnable());
        let band_epoch = self.bands.charge(name, tenths, is_turn);
        self.sessions.serve(now, session, tenths as f64);
        let session_number = self.sessions.at(session).number;
        Share { flow, weight, band: name, flow_epoch, band_epoch, session, session_number, charged: tenths }
    }

    /// After a session was charged or given back.
    pub(super) fn rekey_session(&mut self, session: u32) {
        let flow = self.sessions.flow(session);
        let root = flow.map(|flow| &mut self.flows.slab[flow].sessions);
        self.sessions.rekey(root, session);
    }

    /// The request of a flow that goes first by sessions and deadlines.
    pub(super) fn best(&self, flow: u32) -> u32 {
        self.sessions.find(self.flows.slab[flow].sessions).requests
    }

    /// The request of a flow that goes first, and whether because it is starved.
    pub(super) fn within(&self, now: Moment, flow: u32) -> (u32, bool) {
        let (best, oldest) = (self.best(flow), self.flows.slab[flow].oldest);
        let is_starved = oldest != best && now - self.requests[oldest].since > self.waits.starved();
        (if is_starved { oldest } else { best }, is_starved)
    }

    pub(super) fn find(&self, ticket: Ticket) -> Option<u32> {
        let request = self.requests.find(ticket.at)?;
        (request.number == ticket.number).then_some(ticket.at)
    }

    /// The least counter among the flows that wait in a band, to where a newcomer is lifted.
    pub(super) fn level(&self, band: Qos) -> u128 {
        self.flows.level(self.bands.of(band))
    }
}

pub(super) fn bounded(ask: Ask) -> Ask {
    Ask { weight: ask.weight.clamp(1, WEIGHT_MAX), charge: ask.charge.max(CHARGE_MIN), ..ask }
}
