//! Bands of quality of service: how they share an upstream. By weights, each below a ceiling that keeps room
//! for the better ones, and each with a minimum past its ceiling, so that none starves.

use proto_core::model::Qos;

use super::account::{Account, scaled};
use super::rate::Rate;
use super::slab::NONE;

pub(super) struct Band {
    /// Among the bands.
    pub account: Account,
    /// Heap of flows that wait.
    pub flows: u32,
    /// Heap of flows that are away and have nothing in flight.
    pub idle: u32,
    /// Of flows that wait.
    pub weights: u64,
    pub waiting: u32,
    /// Charges of all that wait.
    pub tenths: u64,
    /// The counter of the flow that left last.
    pub last: u128,
    /// The most that any flow of this band could ever be given back at once.
    pub peak: u128,
    /// Of its guaranteed minimum, in tenths by thousand.
    owed: u64,
    pub rate: Rate,
}

pub(super) struct Bands {
    all: [Band; 3],
    /// The counter of the band that was empty last.
    last: u128,
}

impl Bands {
    pub fn new() -> Bands {
        let band = || Band {
            account: Account::default(),
            flows: NONE,
            idle: NONE,
            weights: 0,
            waiting: 0,
            tenths: 0,
            last: 0,
            peak: 0,
            owed: 0,
            rate: Rate::NEW,
        };
        Bands { all: [band(), band(), band()], last: 0 }
    }

    pub fn of(&self, band: Qos) -> &Band {
        &self.all[band as usize]
    }

    pub fn at(&mut self, band: Qos) -> &mut Band {
        &mut self.all[band as usize]
    }

    /// Somebody waits in a band again: it was away and earned nothing.
    pub fn lift(&mut self, band: Qos) {
        let level = self.waiting().map(|other| self.of(other).account.counter()).min();
        let level = level.unwrap_or(self.last);
        self.at(band).account.lift(level);
    }

    /// Nobody waits in a band now; it may have been charged before.
    pub fn on_empty(&mut self, band: Qos) {
        self.last = self.of(band).account.counter();
        self.at(band).owed = 0;
    }

    /// Charges a band; the epoch of its account. Where it was its turn by the counters, those before it were
    /// held back and earn nothing meanwhile: afterwards they would keep the better ones out for as long.
    pub fn charge(&mut self, band: Qos, tenths: u64, is_turn: bool) -> u32 {
        let level = self.of(band).account.counter();
        for other in BANDS {
            let other_band = self.at(other);
            if other_band.waiting == 0 {
                continue;
            }
            let share = tenths.saturating_mul(u64::from(terms(other).minimum_permille));
            other_band.owed = other_band.owed.saturating_add(share);
            if is_turn && other_band.account.counter() < level {
                other_band.account.lift(level);
            }
        }
        let own = self.at(band);
        own.owed = own.owed.saturating_sub(tenths.saturating_mul(1000));
        own.account.charge(scaled(tenths, terms(band).weight))
    }

    pub fn extend(&mut self, band: Qos, epoch: u32, before: u64, after: u64) {
        let weight = terms(band).weight;
        let more = scaled(after, weight) - scaled(before, weight);
        self.at(band).account.extend(epoch, more);
    }

    pub fn settle(&mut self, band: Qos, epoch: u32, charged: u64, used: u64) {
        let weight = terms(band).weight;
        self.at(band).account.settle(epoch, scaled(charged, weight), scaled(used, weight));
    }

    /// The band to be served, and whether by its minimum: one that is owed its next request, else the least
    /// served of those below their ceilings.
    pub fn next(&self, in_flight: u32, limit: u32, next_tenths: impl Fn(Qos) -> u64) -> Option<(Qos, bool)> {
        if in_flight >= limit {
            return None;
        }
        let is_owed = |band: &Qos| {
            terms(*band).minimum_permille > 0
                && self.of(*band).owed >= next_tenths(*band).saturating_mul(1000)
        };
        if let Some(due) = self.waiting().find(is_owed) {
            return Some((due, true));
        }
        let may = |band: &Qos| in_flight < ceiling(*band, limit);
        // Of equals the better one.
        let best = self.waiting().filter(may).min_by_key(|band| {
            let counter = self.of(*band).account.counter();
            (counter, std::cmp::Reverse(*band))
        });
        best.map(|band| (band, false))
    }

    fn waiting(&self) -> impl Iterator<Item = Qos> + '_ {
        BANDS.into_iter().filter(|band| self.of(*band).waiting > 0)
    }
}

/// Requests in flight below which a band may start one: its part of the limit, rounded up, at least 1.
pub fn ceiling(band: Qos, limit: u32) -> u32 {
    let part = u64::from(limit) * u64::from(terms(band).ceiling_permille);
    u32::try_from(part.div_ceil(1000)).unwrap_or(limit).max(1)
}

struct Terms {
    weight: u32,
    /// Of the limit, how much may be in flight before this band waits.
    ceiling_permille: u16,
    /// Of all service, how much it gets while it waits, past its ceiling too.
    minimum_permille: u16,
}

/// What each band is promised.
const fn terms(band: Qos) -> Terms {
    match band {
        Qos::Gold => Terms { weight: 5, ceiling_permille: 1000, minimum_permille: 0 },
        Qos::Silver => Terms { weight: 3, ceiling_permille: 850, minimum_permille: 150 },
        Qos::Bronze => Terms { weight: 1, ceiling_permille: 700, minimum_permille: 50 },
    }
}

pub(super) const BANDS: [Qos; 3] = [Qos::Bronze, Qos::Silver, Qos::Gold];
