//! What one serving thread has at hand, and what all of them share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use dataplane_state::tables::Tables;
use dataplane_state::tally::WorkerTally;
use tokio::sync::watch;

use crate::config::Config;
use crate::drain::Phase;
use crate::served::Served;

/// One serving thread.
#[derive(Debug)]
pub struct Worker {
    /// From 0; index of its tallies and pools.
    pub id: usize,
    pub shared: Arc<Shared>,
    pub tally: Arc<WorkerTally>,
    random: AtomicU64,
}

/// Shared by all threads.
#[derive(Debug)]
pub struct Shared {
    pub config: Config,
    pub tables: Tables<Served>,
    pub tallies: Box<[Arc<WorkerTally>]>,
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
}

impl Shared {
    pub fn new(config: Config) -> Shared {
        let tallies = (0..config.workers).map(|_| Arc::default()).collect();
        Shared {
            config,
            tables: Tables::new(),
            tallies,
            phase: watch::Sender::new(Phase::Serving),
            phase_now: AtomicU8::new(Phase::Serving as u8),
            source_ok: AtomicBool::new(false),
            fresh_at: AtomicU64::new(0),
            sets_refused: AtomicU64::new(0),
            sets_taken: AtomicU64::new(0),
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

    /// May traffic be sent here?
    pub fn is_ready(&self) -> bool {
        !self.is_past(Phase::Leaving) && self.tables.peek().is_some()
    }
}

impl Worker {
    /// `seed`: random bits, different for each worker.
    pub fn new(id: usize, shared: Arc<Shared>, seed: u64) -> Worker {
        let tally = Arc::clone(&shared.tallies[id]);
        Worker { id, shared, tally, random: AtomicU64::new(seed) }
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
