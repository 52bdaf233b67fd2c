//! Sessions of tenants: whose was served least of late goes first. Attained service halves every half-life
//! (least attained service, as in Autellix, arXiv 2502.13965).
//!
//! Decay moves all sessions alike, so the order is kept by numbers that do not age (forward decay, Cormode
//! et al., ICDE 2009): `log2(attained) + at / half_life`. As a logarithm it needs no landmark and never
//! overflows.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use proto_core::units::Moment;

use super::flow::FlowName;
use super::heap::Forest;
use super::slab::{NONE, Slab};

pub(super) struct Session {
    pub name: SessionName,
    /// Tells it from others that were at the same place.
    pub number: u64,
    /// Tenths of service, as they counted `at` then.
    attained: f64,
    at: Moment,
    boosted: Option<Moment>,
    /// Heap of its waiting requests; without any it stands among the idle sessions.
    pub requests: u32,
    /// Where it waits.
    flow: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SessionName {
    pub flow: FlowName,
    pub session: u64,
}

pub(super) struct Sessions {
    slab: Slab<Session>,
    /// Of each tenant's sessions that wait, and one of all that do not: a session is in one of them.
    pub heap: Forest<(u64, u64)>,
    idle: u32,
    table: HashTable<u32>,
    hasher: FixedState,
    half_life_ns: f64,
    most: usize,
}

impl Sessions {
    pub fn new(seed: u64, half_life: Duration, most: u32) -> Sessions {
        Sessions {
            slab: Slab::new(),
            heap: Forest::new(),
            idle: NONE,
            table: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            half_life_ns: half_life.as_nanos().max(1) as f64,
            most: most as usize,
        }
    }

    /// More than a lowered bound are kept until they fade.
    pub fn resize(&mut self, most: u32) {
        self.most = most as usize;
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn find(&self, at: u32) -> &Session {
        &self.slab[at]
    }

    pub fn at(&mut self, at: u32) -> &mut Session {
        &mut self.slab[at]
    }

    /// The session of that name, which comes to be among the idle ones where it is new. Where no more may be
    /// remembered, the idle one that matters least is forgotten for it.
    pub fn place(&mut self, now: Moment, name: SessionName, number: u64) -> u32 {
        for _ in 0..FORGOTTEN_AT_ONCE {
            if self.idle != NONE && self.is_negligible(now, self.idle) {
                self.forget(self.idle);
            }
        }
        let hash = self.hasher.hash_one(name);
        if let Some(at) = self.table.find(hash, |at| self.slab[*at].name == name) {
            return *at;
        }
        if self.idle != NONE && self.slab.len() >= self.most {
            self.forget(self.idle);
        }
        let (attained, boosted) = (0.0, None);
        let session = Session { name, number, attained, at: now, boosted, requests: NONE, flow: NONE };
        let at = self.slab.insert(session);
        self.idle = self.heap.push(self.idle, at, (0, number));
        let (slab, hasher) = (&self.slab, &self.hasher);
        self.table.insert_unique(hash, at, |at| hasher.hash_one(slab[*at].name));
        at
    }

    /// Out of the idle ones, into the heap of its flow.
    pub fn wait(&mut self, flow: u32, root: &mut u32, at: u32) {
        self.idle = self.heap.remove(self.idle, at);
        self.slab[at].flow = flow;
        *root = self.heap.push(*root, at, self.key(at));
    }

    /// Out of the heap of its flow, among the idle ones.
    pub fn rest(&mut self, root: &mut u32, at: u32) {
        *root = self.heap.remove(*root, at);
        self.slab[at].flow = NONE;
        self.idle = self.heap.push(self.idle, at, self.key(at));
    }

    /// The flow it waits in, if it waits.
    pub fn flow(&self, at: u32) -> Option<u32> {
        let flow = self.slab[at].flow;
        (flow != NONE).then_some(flow)
    }

    /// After what it was served has changed: its place in the heap of its flow, or among the idle ones.
    pub fn rekey(&mut self, root: Option<&mut u32>, at: u32) {
        let key = self.key(at);
        if self.heap.key(at) != key {
            let root = root.unwrap_or(&mut self.idle);
            *root = self.heap.rekey(*root, at, key);
        }
    }

    /// The place is still that of the session `number`.
    pub fn is(&self, at: u32, number: u64) -> bool {
        self.slab.find(at).is_some_and(|session| session.number == number)
    }

    /// Adds what it was served, or takes back what it was not. [`rekey`](Self::rekey) must follow.
    pub fn serve(&mut self, now: Moment, at: u32, tenths: f64) {
        let half_life_ns = self.half_life_ns;
        let session = &mut self.slab[at];
        let passed = (now - session.at).as_nanos() as f64;
        let kept = session.attained * (-passed / half_life_ns).exp2();
        session.attained = (kept + tenths / session.favour(now)).max(0.0);
        session.at = session.at.max(now);
    }

    /// After starvation, what it is served counts less for a while.
    pub fn boost(&mut self, now: Moment, at: u32) {
        self.slab[at].boosted = Some(now);
    }

    fn key(&self, at: u32) -> (u64, u64) {
        let session = &self.slab[at];
        if session.attained < 1.0 {
            return (0, session.number);
        }
        let key = session.attained.log2() + session.at.0 as f64 / self.half_life_ns;
        // Not negative, so its bits are in the order of its value.
        (key.to_bits(), session.number)
    }

    /// What it was served long ago orders nothing any more.
    fn is_negligible(&self, now: Moment, at: u32) -> bool {
        let key = f64::from_bits(self.heap.key(at).0);
        key < now.0 as f64 / self.half_life_ns + NEGLIGIBLE_TENTHS.log2()
    }

    fn forget(&mut self, at: u32) {
        self.idle = self.heap.remove(self.idle, at);
        let session = self.slab.remove(at);
        let hash = self.hasher.hash_one(session.name);
        if let Ok(entry) = self.table.find_entry(hash, |found| *found == at) {
            entry.remove();
        }
    }
}

impl Session {
    /// By how much its service is divided: 2 at a boost, a tenth less each second, 1 when that is near.
    fn favour(&mut self, now: Moment) -> f64 {
        let Some(since) = self.boosted else { return 1.0 };
        let favour = BOOST * BOOST_KEPT_EACH_SECOND.powf((now - since).as_secs_f64());
        if favour > BOOST_LEAST {
            return favour;
        }
        self.boosted = None;
        1.0
    }
}

/// More than come, and not so many that one step is long.
const FORGOTTEN_AT_ONCE: u32 = 4;
/// Ten tokens of service.
const NEGLIGIBLE_TENTHS: f64 = 100.0;
const BOOST: f64 = 2.0;
const BOOST_KEPT_EACH_SECOND: f64 = 0.9;
/// Nearer to 1 it makes no difference.
const BOOST_LEAST: f64 = 1.05;
