//! Refusing at the door: what would not fit, and what would not have its turn in time.

use std::time::Duration;

use proto_core::model::Qos;
use proto_core::units::Moment;

use super::FairQueue;
use super::account::{scaled, tenths};
use super::ask::{Ask, Refused};

impl<T> FairQueue<T> {
    /// From now on so many may wait and so many sessions are remembered. Who waits already may go on.
    pub fn resize(&mut self, items_max: u32, sessions_max: u32) {
        (self.settings.items_max, self.settings.sessions_max) = (items_max, sessions_max);
        self.sessions.resize(sessions_max.max(items_max));
    }

    /// The wait a request would have, as far as one can know; `None` before enough was served to tell.
    ///
    /// It starts when its tenant's counter, with all that the tenant has waiting, is the least. Until then
    /// every waiting tenant is served up to that counter, by its weight, but nobody more than waits of all
    /// together.
    pub fn expected_wait(&self, now: Moment, ask: &Ask) -> Option<Duration> {
        self.wait_of(now, ask, self.flows.find(ask.band, ask.tenant).1)
    }

    fn wait_of(&self, now: Moment, ask: &Ask, flow: Option<u32>) -> Option<Duration> {
        let band = self.bands.of(ask.band);
        if band.waiting == 0 {
            return Some(Duration::ZERO);
        }
        let weight = ask.weight.max(1);
        let level = self.level(ask.band);
        let (counter, own, weights) = match flow.map(|at| &self.flows.slab[at]) {
            Some(flow) if flow.waiting > 0 => (flow.account.counter(), flow.tenths, band.weights),
            Some(flow) => (flow.account.counter(), 0, band.weights + u64::from(weight)),
            None => (level, 0, band.weights + u64::from(weight)),
        };
        let until = counter.max(level).saturating_add(scaled(own, weight)) - level;
        let ahead = tenths(until.saturating_mul(u128::from(weights))).min(band.tenths);
        band.rate.wait(now, ahead)
    }

    /// What one tenant may have waiting is what is left for the others (dynamic thresholds, Choudhury and
    /// Hahne 1998): one alone can fill half of the queue, nine tenants nine tenths, and a tenth finds room.
    /// To gold the places of bronze are as good as free: see [`evict`](Self::evict).
    pub(super) fn refusal(&self, now: Moment, ask: &Ask, flow: Option<u32>) -> Option<Refused> {
        let (items, bytes) = (self.requests.len(), self.bytes);
        let items_left = (self.settings.items_max as usize).saturating_sub(items);
        let bytes_left = self.settings.bytes_max.saturating_sub(bytes);
        if items_left == 0 || u64::from(ask.bytes) > bytes_left {
            return Some(Refused::Full);
        }
        let items_left =
            items_left + if ask.band == Qos::Gold { self.depth(Qos::Bronze) as usize } else { 0 };
        let is_crowded = flow.is_some_and(|at| {
            let flow = &self.flows.slab[at];
            flow.waiting as usize >= items_left || flow.waiting > 0 && flow.bytes >= bytes_left
        });
        if is_crowded {
            return Some(Refused::Crowded);
        }
        if ask.deadline <= now {
            return Some(Refused::Late { expected_wait: Duration::ZERO });
        }
        match self.wait_of(now, ask, flow) {
            Some(expected_wait) if now + expected_wait > ask.deadline => {
                Some(Refused::Late { expected_wait })
            }
            _ => None,
        }
    }
}
