//! Cells that outlive snapshots. Keyed by kind and name, so that a swap never resets a budget, a breaker or a
//! count in flight. Owned by whoever swaps, one thread: no path reads it, requests find cells through their
//! snapshot.

use std::hash::Hash;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use dataplane_core::admit::window::{Kinds, Limits};
use dataplane_core::table::Table;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use proto_core::model::Name;

use crate::balance::BalanceCell;
use crate::count::Count;
use crate::endpoint::BreakerCell;
use crate::pace::BudgetCell;
use crate::permits::Permits;
use crate::tables::Snapshot;
use crate::tally::{OfferTally, QueueTally, TenantTally};
use crate::window::Window;

/// What is remembered for an adapter.
#[derive(Debug)]
pub struct AdapterCell {
    pub permits: Permits,
    pub breaker: BreakerCell,
}

/// What is remembered for one model of one adapter; one tally a worker.
#[derive(Debug)]
pub struct OfferCell {
    /// Where the limit of this model moves: what it carries now, and may. Whoever finds the limit sets it.
    pub permits: Permits,
    /// Written by its queue's owner alone.
    pub queue: QueueTally,
    pub tallies: Box<[CachePadded<OfferTally>]>,
}

/// What is remembered for a route.
#[derive(Debug, Default)]
pub struct RouteCell {
    pub retries: BalanceCell,
}

/// What is remembered for a tenant; one tally a worker.
#[derive(Debug)]
pub struct TenantCell {
    /// What it may have in flight.
    pub window: Window,
    /// What it spends over time.
    pub budget: BudgetCell,
    /// Runs it has open.
    pub sessions: Count,
    pub tallies: Box<[CachePadded<TenantTally>]>,
}

/// All cells by name.
#[derive(Debug)]
pub struct Registry {
    workers: usize,
    adapters: HashMap<Name, Arc<AdapterCell>, FixedState>,
    offers: HashMap<(Name, Name), Arc<OfferCell>, FixedState>,
    routes: HashMap<Box<str>, Arc<RouteCell>, FixedState>,
    tenants: HashMap<Name, Arc<TenantCell>, FixedState>,
}

impl Default for TenantCell {
    /// Of nobody: without limits, counted by no worker.
    fn default() -> TenantCell {
        let window = Window::new(Kinds::TENANT, Limits::NONE);
        TenantCell {
            window,
            budget: BudgetCell::default(),
            sessions: Count::default(),
            tallies: Box::default(),
        }
    }
}

impl Registry {
    /// For `workers` threads that serve.
    pub fn new(workers: usize) -> Registry {
        let (adapters, offers, routes, tenants) = Default::default();
        Registry { workers, adapters, offers, routes, tenants }
    }

    /// Puts beside each row of `table` its cell, the old one where the name is known.
    pub fn bind(&mut self, epoch: u64, number: u64, table: Table) -> Snapshot {
        let workers = self.workers;
        let adapters = table.adapters.iter().map(|row| {
            let cell = keep(&mut self.adapters, &row.name, || AdapterCell {
                permits: Permits::new(0, None),
                breaker: BreakerCell::new(),
            });
            let limits = row.limits;
            let tokens = limits.max_tokens_in_flight.map(|tokens| tokens.0);
            // Nobody queues yet, so nobody is woken.
            let _ = cell.permits.set_limits(limits.max_parallel, tokens);
            cell
        });
        let adapters = adapters.collect();
        let offers = table.offers.iter().map(|row| {
            let key = (table.adapter(row.owner).name.clone(), row.model.clone());
            keep(&mut self.offers, &key, || OfferCell {
                // Nothing until its owner has begun to look for its limit.
                permits: Permits::new(1, None),
                queue: QueueTally::default(),
                tallies: per_worker(workers),
            })
        });
        let offers = offers.collect();
        let routes = table.routes.iter().map(|row| keep(&mut self.routes, &row.name, RouteCell::default));
        let routes = routes.collect();
        let tenants = table.tenants.iter().map(|row| {
            let cell = keep(&mut self.tenants, &row.name, || TenantCell {
                window: Window::new(Kinds::TENANT, row.window),
                budget: BudgetCell::default(),
                sessions: Count::default(),
                tallies: per_worker(workers),
            });
            cell.window.set_limits(row.window);
            cell
        });
        let tenants = tenants.collect();
        self.forget();
        Snapshot { epoch, number, table, adapters, offers, routes, tenants }
    }

    /// Drops cells nobody holds any more: neither a snapshot nor a request under way.
    fn forget(&mut self) {
        self.adapters.retain(|_, cell| Arc::strong_count(cell) > 1);
        self.offers.retain(|_, cell| Arc::strong_count(cell) > 1);
        self.routes.retain(|_, cell| Arc::strong_count(cell) > 1);
        self.tenants.retain(|_, cell| Arc::strong_count(cell) > 1);
    }
}

fn keep<K: Hash + Eq + Clone, V>(
    cells: &mut HashMap<K, Arc<V>, FixedState>,
    key: &K,
    make: impl FnOnce() -> V,
) -> Arc<V> {
    match cells.get(key) {
        Some(cell) => Arc::clone(cell),
        None => {
            let cell = Arc::new(make());
            cells.insert(key.clone(), Arc::clone(&cell));
            cell
        }
    }
}

fn per_worker<T: Default>(workers: usize) -> Box<[CachePadded<T>]> {
    (0..workers).map(|_| CachePadded::new(T::default())).collect()
}
