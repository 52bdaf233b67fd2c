//! Runs: what all requests of one `x-atp-session` share. Found by tenant and name; opened by the first
//! request that names one, forgotten an hour after its last. An envelope is this data plane's: with several,
//! each has its own.
//!
//! The map has locks (one a shard), so it is asked only where a worker does not remember the run itself.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use dashmap::DashMap;
use dataplane_core::admit::window::{Kinds, Limits};
use dataplane_state::flow::FlowCell;
use dataplane_state::registry::TenantCell;
use dataplane_state::window::Window;

/// One run's envelope.
#[derive(Debug)]
pub struct Session {
    pub window: Window,
    /// Calls at once that its answers bear: what a peer that speaks of windows is granted.
    pub flow: FlowCell,
    /// Within its tenant: its place in queues.
    pub key: u64,
    /// Seconds since 1970.
    used_at_s: AtomicU64,
    /// Attempts that hold part of its window, waiting ones included.
    holders: AtomicU32,
    /// Its user is gone for good: nothing is left to remember once nothing is held of it.
    is_left: AtomicBool,
    /// Swept from the map: whoever still remembers it asks again.
    is_gone: AtomicBool,
    /// `None` for the envelope of one request, which nobody finds.
    tenant: Option<Arc<TenantCell>>,
}

/// All of a data plane.
#[derive(Debug)]
pub struct Sessions {
    /// By two independent hashes of tenant and name, keyed at random: nobody outside can make two names meet.
    map: DashMap<u128, Arc<Session>>,
    hashers: [RandomState; 2],
}

/// Whose run, and what it is called.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Hash of the tenant's name.
    pub tenant: u64,
    pub cell: &'a Arc<TenantCell>,
    pub name: &'a [u8],
}

type Seen = (u128, Arc<Session>);

thread_local! {
    /// The runs this worker saw last, by the low bits of their keys.
    static SEEN: RefCell<Vec<Option<Seen>>> = RefCell::new(vec![None; SEEN_MAX]);
}

impl Session {
    /// The envelope of one request.
    pub fn alone(limits: Limits) -> Arc<Session> {
        Arc::new(Session::new(limits, 0, 0, None))
    }

    /// It is a run, of which there may be more requests.
    pub fn is_run(&self) -> bool {
        self.tenant.is_some()
    }

    /// An attempt of it begins; until its [`Session::on_end`] nobody forgets what the run has spent.
    pub fn on_begin(&self) {
        // Order: relaxed. Looked at in hours.
        self.holders.fetch_add(1, Ordering::Relaxed);
    }

    /// Exactly once for each that began.
    pub fn on_end(&self, now_s: u64) {
        self.on_used(now_s);
        // Order: release pairs with the acquire in `sweep`: who sees that nobody holds it sees since when.
        let before = self.holders.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "what ends has begun");
    }

    /// Still in use.
    fn on_used(&self, now_s: u64) {
        // Order: relaxed, a time that is compared in hours.
        self.used_at_s.store(now_s, Ordering::Relaxed);
    }

    fn new(limits: Limits, key: u64, now_s: u64, tenant: Option<Arc<TenantCell>>) -> Session {
        let window = Window::new(Kinds::SESSION, limits);
        Session {
            window,
            flow: FlowCell::new(),
            key,
            used_at_s: AtomicU64::new(now_s),
            holders: AtomicU32::new(0),
            is_left: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
            tenant,
        }
    }
}

impl Sessions {
    pub fn new() -> Sessions {
        Sessions { map: DashMap::new(), hashers: [RandomState::new(), RandomState::new()] }
    }

    /// The run, opened where it is new and only narrowed where it is not. `None`: its tenant has too many.
    pub fn find(&self, run: Run<'_>, limits: Limits, now_s: u64) -> Option<Arc<Session>> {
        let key = self.key(run.tenant, run.name);
        let place = (key as u64 % SEEN_MAX as u64) as usize;
        let seen = SEEN.with_borrow(|seen| {
            // Order: acquire pairs with the release in `sweep`; who sees it gone asks the map.
            let is_it = |(seen, session): &&Seen| *seen == key && !session.is_gone.load(Ordering::Acquire);
            seen[place].as_ref().filter(is_it).map(|(_, session)| Arc::clone(session))
        });
        let session = match seen {
            Some(session) => session,
            None => {
                let session = self.look_up(run, key, limits, now_s)?;
                SEEN.with_borrow_mut(|seen| seen[place] = Some((key, Arc::clone(&session))));
                session
            }
        };
        // Order: relaxed, see `on_used`.
        if now_s.saturating_sub(session.used_at_s.load(Ordering::Relaxed)) >= FLOW_IDLE_S {
            session.flow.on_idle();
        }
        session.on_used(now_s);
        // Order: relaxed, see `sweep`.
        session.is_left.store(false, Ordering::Relaxed);
        session.window.narrow(limits);
        Some(session)
    }

    fn look_up(&self, run: Run<'_>, key: u128, limits: Limits, now_s: u64) -> Option<Arc<Session>> {
        if let Some(known) = self.map.get(&key) {
            return Some(Arc::clone(&known));
        }
        if !run.cell.sessions.try_open(PER_TENANT_MAX) {
            return None;
        }
        let made = Arc::new(Session::new(limits, key as u64, now_s, Some(Arc::clone(run.cell))));
        let found = Arc::clone(&self.map.entry(key).or_insert_with(|| Arc::clone(&made)));
        if !Arc::ptr_eq(&found, &made) {
            // Another worker was faster.
            run.cell.sessions.close();
        }
        Some(found)
    }

    /// Forgets what was not used for long, and is not in use now. Seconds since 1970.
    pub fn sweep(&self, now_s: u64) {
        self.map.retain(|_, session| {
            // Order: acquire, see `on_end`.
            let is_held = session.holders.load(Ordering::Acquire) > 0;
            // Order: relaxed, see `on_used`.
            let used_at_s = session.used_at_s.load(Ordering::Relaxed);
            // Order: relaxed. Looked at once a minute.
            let is_left = session.is_left.load(Ordering::Relaxed);
            let stays = is_held || (!is_left && now_s.saturating_sub(used_at_s) < IDLE_S);
            if !stays {
                // Order: release, see `find`.
                session.is_gone.store(true, Ordering::Release);
                session.tenant.iter().for_each(|tenant| tenant.sessions.close());
            }
            stays
        });
    }

    /// Its last user is gone for good: a run that nothing is held of and nothing limits is nothing to
    /// remember.
    pub fn forget(&self, tenant: u64, name: &[u8]) {
        let key = self.key(tenant, name);
        let is_nothing = |session: &Arc<Session>| {
            // Order: acquire, see `on_end`.
            session.holders.load(Ordering::Acquire) == 0 && session.window.limits() == Limits::NONE
        };
        if let Some((_, session)) = self.map.remove_if(&key, |_, session| is_nothing(session)) {
            // Order: release, see `find`.
            session.is_gone.store(true, Ordering::Release);
            session.tenant.iter().for_each(|tenant| tenant.sessions.close());
        } else if let Some(session) =
            self.map.get(&key).filter(|session| session.window.limits() == Limits::NONE)
        {
            // What is under way holds it for a moment yet; the next sweep finds it free.
            // Order: relaxed, see `sweep`.
            session.is_left.store(true, Ordering::Relaxed);
        }
    }

    fn key(&self, tenant: u64, name: &[u8]) -> u128 {
        let [low, high] = [0, 1].map(|at: usize| self.hashers[at].hash_one((tenant, name)));
        u128::from(high) << 64 | u128::from(low)
    }

    /// For metrics.
    pub fn count(&self) -> usize {
        self.map.len()
    }
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions::new()
    }
}

/// After the end of its last request.
const IDLE_S: u64 = 3600;
/// After which its flow begins anew, as existing routers do.
const FLOW_IDLE_S: u64 = 300;
/// Of one tenant at once; each is about 300 bytes.
const PER_TENANT_MAX: u32 = 10_000;
/// Runs a worker remembers; a run that falls on another's place costs a look at the map.
const SEEN_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use dataplane_core::admit::window::Need;

    use super::*;

    fn calls(calls: u32) -> Limits {
        Limits { calls: Some(calls), ..Limits::NONE }
    }

    #[test]
    fn one_name_is_one_run_for_its_tenant_alone() {
        let (sessions, cell) = (Sessions::new(), Arc::new(TenantCell::default()));
        let find = |tenant, name| {
            sessions.find(Run { tenant, cell: &cell, name }, Limits::NONE, 0).expect("there is room")
        };
        assert!(Arc::ptr_eq(&find(1, b"run"), &find(1, b"run")));
        assert!(!Arc::ptr_eq(&find(1, b"run"), &find(2, b"run")));
        assert!(!Arc::ptr_eq(&find(1, b"run"), &find(1, b"other")));
        assert_eq!((sessions.count(), cell.sessions.now()), (3, 3));
    }

    #[test]
    fn a_later_request_narrows_a_run_and_never_widens_it() {
        let (sessions, cell) = (Sessions::new(), Arc::new(TenantCell::default()));
        let run = Run { tenant: 1, cell: &cell, name: b"run" };
        for (asked, left) in [(4, 4), (2, 2), (9, 2)] {
            let session = sessions.find(run, calls(asked), 0).expect("there is room");
            assert_eq!(session.window.limits().calls, Some(left));
        }
        let unasked = sessions.find(run, Limits::NONE, 0).expect("there is room");
        assert_eq!(unasked.window.limits().calls, Some(2));
    }

    #[test]
    fn a_run_is_forgotten_an_hour_after_its_last_use_and_then_is_a_new_one() {
        let (sessions, cell) = (Sessions::new(), Arc::new(TenantCell::default()));
        let run = Run { tenant: 1, cell: &cell, name: b"run" };
        let purse = Limits { tokens: Some(10), ..Limits::NONE };
        let first = sessions.find(run, purse, 0).expect("there is room");
        let need = Need { tokens: 10, ..Need::default() };
        first.window.settle(first.window.reserve(need).expect("it is full"), need);
        sessions.sweep(IDLE_S - 1);
        let same = sessions.find(run, purse, IDLE_S - 1).expect("there is room");
        assert!(same.window.reserve(need).is_err(), "what is spent stays spent");
        sessions.sweep(2 * IDLE_S - 1);
        assert_eq!((sessions.count(), cell.sessions.now()), (0, 0));
        let again = sessions.find(run, purse, 2 * IDLE_S).expect("there is room");
        assert!(!Arc::ptr_eq(&first, &again), "although this thread remembered the old one");
    }

    #[test]
    fn a_run_is_not_forgotten_while_a_request_of_it_lasts_and_an_hour_after() {
        let (sessions, cell) = (Sessions::new(), Arc::new(TenantCell::default()));
        let run = Run { tenant: 1, cell: &cell, name: b"run" };
        let long = sessions.find(run, Limits::NONE, 0).expect("there is room");
        long.on_begin();
        sessions.sweep(5 * IDLE_S);
        assert!(Arc::ptr_eq(&long, &sessions.find(run, Limits::NONE, 0).expect("there is room")));
        long.on_end(5 * IDLE_S);
        sessions.sweep(6 * IDLE_S - 1);
        assert_eq!(sessions.count(), 1);
        sessions.sweep(6 * IDLE_S);
        assert_eq!((sessions.count(), cell.sessions.now()), (0, 0));
    }

    #[test]
    fn a_run_whose_user_is_gone_is_forgotten_unless_it_is_held_or_limited() {
        let (sessions, cell) = (Sessions::new(), Arc::new(TenantCell::default()));
        let find = |name, limits| sessions.find(Run { tenant: 1, cell: &cell, name }, limits, 0);
        let plain = find(b"plain", Limits::NONE).expect("there is room");
        let held = find(b"held", Limits::NONE).expect("there is room");
        let purse = find(b"purse", calls(4)).expect("there is room");
        held.on_begin();
        for name in [b"plain".as_slice(), b"held", b"purse", b"unknown"] {
            sessions.forget(1, name);
        }
        sessions.forget(2, b"held");
        assert_eq!((sessions.count(), cell.sessions.now()), (2, 2));
        let again = find(b"plain", Limits::NONE).expect("there is room");
        assert!(!Arc::ptr_eq(&plain, &again), "although this thread remembered it");
        assert!(Arc::ptr_eq(&held, &find(b"held", Limits::NONE).expect("there is room")));
        assert!(Arc::ptr_eq(&purse, &find(b"purse", Limits::NONE).expect("there is room")));
        sessions.forget(1, b"held");
        held.on_end(0);
        sessions.sweep(1);
        assert_eq!(sessions.count(), 2, "free now, and nobody came back for it");
    }

    #[test]
    fn a_tenant_has_so_many_runs_and_one_more_is_refused() {
        let (sessions, cell) = (Sessions::new(), Arc::new(TenantCell::default()));
        let find = |at: u32| {
            let name = at.to_le_bytes();
            sessions.find(Run { tenant: 1, cell: &cell, name: &name }, Limits::NONE, 0).is_some()
        };
        assert!((0..PER_TENANT_MAX).all(find));
        assert!(!find(PER_TENANT_MAX));
        assert!(find(0), "one that is open stays open");
    }
}
