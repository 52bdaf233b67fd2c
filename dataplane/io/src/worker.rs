//! What one serving thread has at hand, and what all of them share.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use dataplane_core::trace::Context;
use dataplane_state::learned::Learned;
use dataplane_state::ledger::Ledger;
use dataplane_state::tables::Tables;
use dataplane_state::tally::{Operation, WorkerTally};
use proto_core::units::Moment;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::callers::Callers;
use crate::config::Config;
use crate::drain::Phase;
use crate::serve::atp::registry;
use crate::serve::hops::Mark;
use crate::serve::mcp::{Calls, Listeners};
use crate::serve::{Seats, quic};
use crate::served::Served;
use crate::sessions::Sessions;
use crate::tls::ServerSide;
use crate::trace::{Trace, Traces};
use crate::upstream::attached::Lines;
use crate::upstream::discover::Names;
use crate::upstream::memory::Memory;

/// One serving thread.
#[derive(Debug)]
pub struct Worker {
    /// From 0; index of its tallies and pools.
    pub id: usize,
    pub shared: Arc<Shared>,
    pub tally: Arc<WorkerTally>,
    /// Bytes it holds for others.
    pub ledger: Arc<Ledger>,
    /// Streams of changes.
    pub listeners: Arc<Listeners>,
    random: AtomicU64,
}

/// Shared by all threads.
#[derive(Debug)]
pub struct Shared {
    pub config: Config,
    pub tables: Tables<Served>,
    /// Of the listener behind TLS.
    pub tls: Option<Arc<ServerSide>>,
    pub quic: quic::Counts,
    /// Of adapters that register themselves.
    pub registry: Arc<registry::Counts>,
    pub sessions: Sessions,
    /// Sessions whose peers may come back.
    pub seats: Arc<Seats>,
    /// Calls of tools that their sessions may cancel.
    pub calls: Arc<Calls>,
    /// What requests that came by here carry on.
    pub mark: Mark,
    /// Adapters that dialled in.
    pub lines: Lines,
    /// How addresses of adapters are found.
    pub names: Arc<Names>,
    /// Of requests, where they are traced.
    pub traces: Option<Arc<Traces>>,
    /// What callers remember, where a gateway is set up.
    pub memory: Option<Memory>,
    /// What requests take, as earlier ones did.
    pub learned: Learned,
    /// How often callers asked, where that is bounded.
    pub callers: Option<Callers>,
    pub tallies: Box<[Arc<WorkerTally>]>,
    pub ledgers: Box<[Arc<Ledger>]>,
    phase: watch::Sender<Phase>,
    /// The same as one byte, for the path.
    phase_now: AtomicU8,
    /// The control plane's stream is up, or a file was read last without a mistake.
    pub source_ok: AtomicBool,
    /// Seconds since 1970 at which what is served was last known to be the newest.
    pub fresh_at: AtomicU64,
    /// Refusals of sets, by this data plane.
    pub sets_refused: AtomicU64,
    pub sets_taken: AtomicU64,
    /// Changed certificates of adapters that are in use since, and those that could not be used.
    pub adapter_files_taken: AtomicU64,
    pub adapter_files_refused: AtomicU64,
    /// Of the workers, set before anything is served.
    runtimes: OnceLock<Box<[Handle]>>,
}

impl Shared {
    pub fn new(config: Config, tls: Option<Arc<ServerSide>>) -> Shared {
        let tallies = (0..config.workers).map(|_| Arc::default()).collect();
        // A worker that could not hold a few of the largest bodies would refuse them while it is idle.
        let bytes_min = config.limits.body_bytes.saturating_mul(BODIES_MIN);
        let bytes_max = (config.limits.memory_bytes / config.workers.max(1) as u64).max(bytes_min);
        let ledgers = (0..config.workers).map(|_| Arc::new(Ledger::new(bytes_max))).collect();
        let names = Arc::new(Names::new(config.dns_servers.clone()));
        let callers = config.limits.often();
        let spans_max = config.tracing.export.as_ref().map_or(0, |export| export.spans_max);
        let traces = config.tracing.sampler.map(|sampler| Arc::new(Traces::new(sampler, spans_max)));
        Shared {
            config,
            tables: Tables::new(),
            tls,
            quic: quic::Counts::default(),
            registry: Arc::default(),
            sessions: Sessions::new(),
            seats: Arc::default(),
            calls: Arc::default(),
            mark: Mark::new(),
            lines: Lines::default(),
            names,
            traces,
            memory: None,
            learned: Learned::new(),
            callers: callers.map(Callers::new),
            tallies,
            ledgers,
            phase: watch::Sender::new(Phase::Serving),
            phase_now: AtomicU8::new(Phase::Serving as u8),
            source_ok: AtomicBool::new(false),
            fresh_at: AtomicU64::new(0),
            sets_refused: AtomicU64::new(0),
            sets_taken: AtomicU64::new(0),
            adapter_files_taken: AtomicU64::new(0),
            adapter_files_refused: AtomicU64::new(0),
            runtimes: OnceLock::new(),
        }
    }

    /// Goes on to `phase`; never back.
    pub fn enter(&self, phase: Phase) {
        // Order: release, paired with `is_past`; whoever sees the phase sees what was done before it.
        self.phase_now.fetch_max(phase as u8, Ordering::Release);
        self.phase.send_if_modified(|now| {
            let is_later = phase > *now;
            *now = phase.max(*now);
            is_later
        });
    }

    /// Whether `phase` has begun.
    pub fn is_past(&self, phase: Phase) -> bool {
        // Order: acquire, see `enter`.
        self.phase_now.load(Ordering::Acquire) >= phase as u8
    }

    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// The workers' runtimes, once all are there.
    pub fn set_runtimes(&self, runtimes: Vec<Handle>) {
        self.runtimes.set(runtimes.into()).expect("a data plane starts once");
    }

    /// Runs `task` on the worker that `hash` falls to.
    pub fn spawn_at(&self, hash: u64, task: impl Future<Output = ()> + Send + 'static) {
        let runtimes = self.runtimes.get().expect("workers are started before sets are taken in");
        // Less than the number of workers, which is one.
        let at = (hash % runtimes.len() as u64) as usize;
        drop(runtimes[at].spawn(task));
    }

    /// A bug of ours ended something that is no connection.
    pub fn on_panic(&self) {
        self.tallies[0].panics.one();
    }

    /// May traffic be sent here?
    pub fn is_ready(&self) -> bool {
        !self.is_past(Phase::Leaving) && self.tables.peek().is_some()
    }
}

impl Worker {
    /// `seed`: random bits, different for each worker.
    pub fn new(id: usize, shared: Arc<Shared>, seed: u64) -> Worker {
        let tally = Arc::clone(&shared.tallies[id]);
        let ledger = Arc::clone(&shared.ledgers[id]);
        Worker { id, shared, tally, ledger, listeners: Arc::default(), random: AtomicU64::new(seed) }
    }

    /// The trace of a request that arrived `at`, where requests are traced and this one is drawn.
    /// `parent`: the span it belongs to.
    pub fn trace(
        &self,
        parent: impl FnOnce() -> Option<Context>,
        operation: Operation,
        at: Moment,
    ) -> Option<Trace> {
        let traces = self.shared.traces.as_ref()?;
        traces.begin(parent(), operation, at, || self.random())
    }

    /// 64 random bits (SplitMix64, Steele et al. 2014): for lots and ids, never for secrets.
    pub fn random(&self) -> u64 {
        // Order: relaxed. One thread draws; a lost race would only draw one number twice.
        let state = self.random.load(Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.store(state, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Of the largest size, that every worker may hold at once.
const BODIES_MIN: u64 = 4;
