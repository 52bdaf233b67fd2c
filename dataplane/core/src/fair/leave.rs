//! Leaving the queue without being granted: a caller who hangs up, a deadline, an age, one in need.

use proto_core::model::Qos;
use proto_core::units::Moment;

use super::ask::{Ticket, Why};
use super::slab::NONE;
use super::{FairQueue, Request};

impl<T> FairQueue<T> {
    /// The caller does not wait any more. `None` where the request has left already.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let at = self.find(ticket)?;
        Some(self.drop(at))
    }

    /// Drops all whose deadline or age has come.
    pub fn expire(&mut self, now: Moment, mut dropped: impl FnMut(T, Why)) {
        while self.next_expiry().is_some_and(|at| at <= now) {
            let at = self.expires_first;
            let why = if self.requests[at].deadline <= now { Why::Late } else { Why::Aged };
            dropped(self.drop(at), why);
        }
    }

    /// When [`expire`](Self::expire) has something to do next.
    pub fn next_expiry(&self) -> Option<Moment> {
        (self.expires_first != NONE).then(|| Moment(self.expiry.key(self.expires_first).0))
    }

    /// Drops all that nobody waits for any more: looks at every one.
    pub fn sweep(&mut self, mut is_gone: impl FnMut(&T) -> bool, mut dropped: impl FnMut(T)) {
        let gone: Vec<u32> =
            self.requests.iter().filter(|(_, request)| is_gone(&request.payload)).map(|(at, _)| at).collect();
        for at in gone {
            dropped(self.drop(at));
        }
    }

    /// Makes room: of a band's tenant that has most waiting, the newest. It waited least and had most before
    /// it. Looks at every tenant remembered.
    pub fn evict(&mut self, band: Qos) -> Option<T> {
        let of_band = self.flows.slab.iter().filter(|(_, flow)| flow.name.band == band && flow.waiting > 0);
        let newest = of_band.max_by_key(|(_, flow)| flow.waiting).map(|(_, flow)| flow.newest)?;
        Some(self.drop(newest))
    }

    /// Why a request is not worth granting, if it is not.
    pub(super) fn reason(
        &self,
        now: Moment,
        request: &Request<T>,
        is_gone: &mut impl FnMut(&T) -> bool,
    ) -> Option<Why> {
        if is_gone(&request.payload) {
            Some(Why::Gone)
        } else if request.deadline <= now {
            Some(Why::Late)
        } else {
            (request.since + self.settings.age_max <= now).then_some(Why::Aged)
        }
    }

    pub(super) fn drop(&mut self, at: u32) -> T {
        self.counts.dropped += 1;
        self.unlink(at).payload
    }
}
