//! Flows: the tenants of each band, with what they were served and what waits for them. A flow is waiting (in
//! its band's heap), away with requests in flight (in none), or away without (in its band's heap of the idle,
//! out of which it is forgotten once forgetting changes nothing).

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use proto_core::model::Qos;

use super::account::Account;
use super::band::Band;
use super::heap::Forest;
use super::slab::{NONE, Slab};

pub(super) struct Flow {
    pub name: FlowName,
    pub account: Account,
    /// Heap of its waiting sessions.
    pub sessions: u32,
    /// Its waiting requests in the order they came.
    pub oldest: u32,
    pub newest: u32,
    pub waiting: u32,
    pub weight: u32,
    /// Charges of all that wait, in tenths.
    pub tenths: u64,
    pub bytes: u64,
    /// The order of those with equal counters.
    number: u64,
    is_idle: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FlowName {
    pub band: Qos,
    pub tenant: u64,
    /// Of all tenants past the limit whose hash is `tenant`.
    pub is_shared: bool,
}

pub(super) struct Flows {
    pub slab: Slab<Flow>,
    pub heap: Forest<(u128, u64)>,
    table: HashTable<u32>,
    hasher: FixedState,
    own: u32,
    own_max: u32,
}

impl Flows {
    pub fn new(seed: u64, own_max: u32) -> Flows {
        Flows {
            slab: Slab::new(),
            heap: Forest::new(),
            table: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            own: 0,
            own_max,
        }
    }

    /// The flow that a tenant has or would have: its own where there is room, else one it shares.
    pub fn find(&self, band: Qos, tenant: u64) -> (FlowName, Option<u32>) {
        let own = FlowName { band, tenant, is_shared: false };
        let found = self.look(own);
        if found.is_some() || self.own < self.own_max {
            return (own, found);
        }
        let shared = FlowName { band, tenant: tenant % SHARED_FLOWS, is_shared: true };
        (shared, self.look(shared))
    }

    fn look(&self, name: FlowName) -> Option<u32> {
        self.table.find(self.hasher.hash_one(name), |at| self.slab[*at].name == name).copied()
    }

    /// A flow that was not found.
    pub fn make(&mut self, name: FlowName, number: u64) -> u32 {
        self.own += u32::from(!name.is_shared);
        let at = self.slab.insert(Flow {
            name,
            account: Account::default(),
            sessions: NONE,
            oldest: NONE,
            newest: NONE,
            waiting: 0,
            weight: 1,
            tenths: 0,
            bytes: 0,
            number,
            is_idle: false,
        });
        let (slab, hasher) = (&self.slab, &self.hasher);
        self.table.insert_unique(hasher.hash_one(name), at, |at| hasher.hash_one(slab[*at].name));
        at
    }

    /// Where those who come back are lifted to: the least counter that waits, else that of who left last.
    pub fn level(&self, band: &Band) -> u128 {
        if band.flows == NONE { band.last } else { self.heap.key(band.flows).0 }
    }

    /// It has something to be served again.
    pub fn lift(&mut self, band: &mut Band, at: u32) {
        let level = self.level(band);
        let flow = &mut self.slab[at];
        if flow.is_idle {
            flow.is_idle = false;
            band.idle = self.heap.remove(band.idle, at);
        }
        flow.account.lift(level);
    }

    /// It waits now.
    pub fn wait(&mut self, band: &mut Band, at: u32, number: u64) {
        let flow = &mut self.slab[at];
        flow.number = number;
        band.weights += u64::from(flow.weight);
        band.flows = self.heap.push(band.flows, at, (flow.account.counter(), number));
    }

    /// It waits no more.
    pub fn leave(&mut self, band: &mut Band, at: u32) {
        band.flows = self.heap.remove(band.flows, at);
        let flow = &self.slab[at];
        band.weights -= u64::from(flow.weight);
        band.last = flow.account.counter();
        self.rest(band, at);
    }

    /// Its counter changed.
    pub fn rekey(&mut self, band: &mut Band, at: u32) {
        let flow = &self.slab[at];
        let key = (flow.account.counter(), flow.number);
        if flow.waiting > 0 && self.heap.key(at) != key {
            band.flows = self.heap.rekey(band.flows, at, key);
        }
    }

    /// Something of it ended. Where it neither waits nor has anything in flight it can be forgotten some
    /// time.
    pub fn rest(&mut self, band: &mut Band, at: u32) {
        let flow = &mut self.slab[at];
        if flow.waiting == 0 && flow.account.in_flight() == 0 && !flow.is_idle {
            flow.is_idle = true;
            band.idle = self.heap.push(band.idle, at, (flow.account.counter(), flow.number));
        }
        self.forget(band);
    }

    /// Forgets who would be lifted anyway, whenever it comes back. While somebody waits, no counter can
    /// return below the least one minus the most that any flow can be given back, so no later level is below
    /// that.
    fn forget(&mut self, band: &mut Band) {
        let level = if band.flows == NONE { band.last } else { self.level(band).saturating_sub(band.peak) };
        for _ in 0..FORGOTTEN_AT_ONCE {
            if band.idle == NONE || self.heap.key(band.idle).0 > level {
                return;
            }
            let at = band.idle;
            band.idle = self.heap.remove(band.idle, at);
            let flow = self.slab.remove(at);
            self.own -= u32::from(!flow.name.is_shared);
            let hash = self.hasher.hash_one(flow.name);
            if let Ok(entry) = self.table.find_entry(hash, |found| *found == at) {
                entry.remove();
            }
        }
    }

    /// The flow to be served: the least counter, or among those less than `slack` above it the least that is
    /// warm, looking at a few only.
    pub fn first(&self, band: &Band, slack: u128, is_warm: &dyn Fn(u64) -> bool) -> u32 {
        if slack == 0 {
            return band.flows;
        }
        let most = self.level(band).saturating_add(slack);
        let mut best: Option<((u128, u64), u32)> = None;
        let is_near = |(counter, _): (u128, u64)| counter <= most;
        self.heap.visit(band.flows, WARM_LOOKED_AT, is_near, |at, key| {
            let name = self.slab[at].name;
            let is_better = best.is_none_or(|(least, _)| key < least);
            if is_better && !name.is_shared && is_warm(name.tenant) {
                best = Some((key, at));
            }
        });
        best.map_or(band.flows, |(_, at)| at)
    }
}

/// More than enough that tenants past ten thousand seldom meet a heavy one.
const SHARED_FLOWS: u64 = 1024;
/// Each step brings at most one flow more, so two keep up; four catch up.
const FORGOTTEN_AT_ONCE: u32 = 4;
/// Asking costs a look into a cache's index each time.
const WARM_LOOKED_AT: usize = 16;
