//! Where sets come from, and the one way they are put into service: parse, build beside what is served, swap
//! once. Runs on the runtime that no request shares.

mod control;
mod file;
mod kept;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use dataplane_core::table::Table;
use dataplane_state::registry::Registry;
use dataplane_state::tables::Snapshot;
use proto_core::model::{Name, Set};
use proto_core::parse::Document;

use crate::clock;
use crate::config::Origin;
use crate::queue::{self, Queue, Terms};
use crate::served::Served;
use crate::upstream::{Upstream, Ways};
use crate::worker::Shared;

/// Keeps what is served up to date until the process ends.
pub async fn follow(shared: Arc<Shared>) {
    let installer = Installer::new(Arc::clone(&shared));
    match shared.config.origin.clone() {
        Origin::File(path) => file::follow(installer, path).await,
        Origin::ControlPlane { url, token_file, tls } => {
            control::follow(installer, control::Way { url, token_file, tls }).await;
        }
    }
}

/// Puts sets into service.
pub struct Installer {
    shared: Arc<Shared>,
    registry: Registry,
    upstreams: HashMap<Name, Arc<Upstream>>,
    /// Weak: a queue lives as long as a snapshot, a request or somebody who waits needs it.
    queues: HashMap<Name, Weak<Queue>>,
    /// A set with keys was served once: from then on nobody is `public` by default.
    closed: bool,
}

/// One resource that this machine cannot serve, and why.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub kind: &'static str,
    pub name: String,
    pub reason: String,
}

impl Installer {
    fn new(shared: Arc<Shared>) -> Installer {
        let registry = Registry::new(shared.config.workers);
        let closed = kept::was_closed(&shared.config.kept_dir());
        Installer { shared, registry, upstreams: HashMap::new(), queues: HashMap::new(), closed }
    }

    /// Serves `documents` from now on, or says which of them this machine cannot serve; then nothing changes.
    fn install(&mut self, epoch: u64, number: u64, documents: &[Document]) -> Result<(), Vec<Refusal>> {
        let named = self.shared.config.named_adapters.iter();
        let is_declared =
            |named: &Document| documents.iter().any(|own| own.kind == named.kind && own.name == named.name);
        let named: Vec<Document> = named.filter(|named| !is_declared(named)).cloned().collect();
        let all: Vec<Document> = if named.is_empty() { Vec::new() } else { [documents, &named].concat() };
        let documents = if named.is_empty() { documents } else { &all };
        let set = proto_core::parse::set(documents).map_err(|mistakes| {
            let refusal = |mistake: proto_core::parse::Mistake| Refusal {
                kind: "",
                name: String::new(),
                reason: mistake.to_string(),
            };
            mistakes.into_iter().map(refusal).collect::<Vec<_>>()
        });
        let outcome = set.and_then(|set| self.serve(epoch, number, &set));
        match &outcome {
            // Order: relaxed, a count for people.
            Ok(()) => self.shared.sets_taken.fetch_add(1, Ordering::Relaxed),
            // Order: relaxed, a count for people.
            Err(_) => self.shared.sets_refused.fetch_add(1, Ordering::Relaxed),
        };
        outcome
    }

    fn serve(&mut self, epoch: u64, number: u64, set: &Set) -> Result<(), Vec<Refusal>> {
        let upstreams = self.upstreams(set)?;
        let table = Table::build(set, self.closed);
        if table.has_keys() && !self.closed {
            self.closed = true;
            kept::close(&self.shared.config.kept_dir());
        }
        self.upstreams = upstreams.iter().map(|each| (each.name.clone(), Arc::clone(each))).collect();
        let (adapters, routes, tenants) = (set.adapters().len(), set.routes().len(), set.tenants().len());
        let snapshot = self.registry.bind(epoch, number, table);
        let queues = self.queues(&snapshot);
        self.shared.tables.swap(Served { snapshot, upstreams: upstreams.into(), queues });
        self.on_newest();
        tracing::info!(epoch, number, adapters, routes, tenants, "serving a new set");
        Ok(())
    }

    /// In the table's order of adapters. Those that did not change keep their connections.
    fn upstreams(&self, set: &Set) -> Result<Vec<Arc<Upstream>>, Vec<Refusal>> {
        let ways = Ways { workers: self.shared.config.workers, names: Arc::clone(&self.shared.names) };
        let (mut built, mut refusals) = (Vec::new(), Vec::new());
        for adapter in set.adapters() {
            match self.upstreams.get(&adapter.name) {
                Some(known) if known.is(&adapter.kind) => built.push(Arc::clone(known)),
                _ => match Upstream::build(&adapter.name, &adapter.kind, &ways) {
                    Ok(upstream) => built.push(Arc::new(upstream)),
                    Err(error) => refusals.push(Refusal {
                        kind: "Adapter",
                        name: adapter.name.to_string(),
                        reason: error.to_string(),
                    }),
                },
            }
        }
        if refusals.is_empty() { Ok(built) } else { Err(refusals) }
    }

    /// In the table's order of adapters, each with its terms on the way. One that is known goes on, whoever
    /// waits in it: an adapter has one queue for as long as anybody holds it.
    fn queues(&mut self, snapshot: &Snapshot) -> Box<[Arc<Queue>]> {
        let terms = Terms::of(&snapshot.table, &snapshot.offers);
        let rows = snapshot.table.adapters.iter().zip(&snapshot.adapters).zip(terms);
        let queues = rows.map(|((row, cell), terms)| {
            let known = self.queues.get(&row.name).and_then(Weak::upgrade);
            let queue = known.unwrap_or_else(|| {
                let queue = Arc::new(Queue::new(Arc::clone(cell)));
                self.queues.insert(row.name.clone(), Arc::downgrade(&queue));
                self.shared.spawn_at(row.hash, queue::run(Arc::clone(&queue), Arc::clone(&self.shared)));
                queue
            });
            queue.set_terms(terms);
            queue
        });
        let queues = queues.collect();
        self.queues.retain(|_, queue| queue.strong_count() > 0);
        queues
    }

    /// What is served is known to be the newest.
    fn on_newest(&self) {
        // Order: relaxed, a time for people.
        self.shared.fresh_at.store(clock::unix_seconds(), Ordering::Relaxed);
    }

    /// A set was refused before it came to be installed.
    fn on_refused(&self) {
        // Order: relaxed, a count for people.
        self.shared.sets_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// While the source is well, what is served is the newest; from the moment it is not, that grows old.
    fn set_source_ok(&self, ok: bool) {
        // Order: relaxed, a state for people.
        if self.shared.source_ok.swap(ok, Ordering::Relaxed) && !ok {
            self.on_newest();
        }
    }
}
