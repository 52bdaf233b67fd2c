//! What one request wants of whoever is asked for it, and what it holds of its tenant's and its session's
//! windows while it is under way. Reserved before it is sent, from an estimate; grown as its answer comes;
//! settled exactly once, when this is dropped, to what was really used. Never waits.

use std::sync::Arc;

use dataplane_core::admit::envelope::Envelope;
use dataplane_core::admit::estimate::Estimate;
use dataplane_core::admit::pace::NEVER;
use dataplane_core::admit::permits;
use dataplane_core::admit::window::{Axis, Kind as Counted, Kinds, Limits, Need};
use dataplane_core::fault::{Fault, Kind, Whose};
use dataplane_core::table::{OfferId, TenantId};
use dataplane_state::learned::hash_of_both;
use dataplane_state::pace::{Charged, Exhausted};
use dataplane_state::window::{Reserved, Window};
use http::{HeaderMap, HeaderName};
use proto_core::model::Qos;
use proto_core::units::{Moment, Picodollars};

use crate::clock;
use crate::serve::headers::{
    X_ATP_BUDGET_TOKENS, X_ATP_BUDGET_USD, X_ATP_DEADLINE, X_ATP_PARALLEL, X_ATP_QOS, X_ATP_SESSION,
};
use crate::served::Hold;
use crate::sessions::{Run, Session};
use crate::trace::Trace;
use crate::worker::Worker;

/// One request, whoever is asked for it.
#[derive(Debug)]
pub struct Claim {
    pub tenant: TenantId,
    pub qos: Qos,
    /// Among those who wait for an adapter.
    pub band: Qos,
    /// The run it belongs to, or its own envelope; `None`: neither.
    pub session: Option<Arc<Session>>,
    /// Of the prompt, for estimates.
    pub prompt_bytes: u64,
    /// The most tokens the caller lets the answer have.
    pub output_max: Option<u64>,
    /// When all of it must be over.
    pub deadline: Moment,
    /// Of its body, held while it waits.
    pub body_bytes: u64,
    /// Windows of its own kind it is counted against as well: what a peer of a session was granted, the purse
    /// of a fan-out. Empty for plain requests.
    pub also: Vec<Counter>,
    /// Where it is traced.
    pub trace: Option<Trace>,
    /// It gave its place to another once, and is not cut again.
    pub is_spared: bool,
}

/// A window beside those of run and tenant.
#[derive(Debug, Clone)]
pub struct Counter {
    pub window: Arc<Window>,
    pub kinds: Kinds,
    /// It is a call of that window's by itself; else of something that is one already.
    pub is_call: bool,
}

/// What the body and the route say of a request.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub prompt_bytes: u64,
    pub output_max: Option<u64>,
    pub deadline: Moment,
    pub body_bytes: u64,
    /// What the dialect makes of it; `None`: the best there is for this tenant.
    pub qos: Option<Qos>,
}

/// What an attempt holds of windows and budgets.
#[derive(Debug)]
pub struct Admitted {
    held: Hold,
    tenant: TenantId,
    session: Option<Arc<Session>>,
    of_session: Reserved,
    of_tenant: Reserved,
    of_budget: Charged,
    also: Vec<(Counter, Reserved)>,
    used: Need,
}

/// What a caller's headers say; a mistake in one is a fault that names it.
pub fn envelope(headers: &HeaderMap) -> Result<Envelope<'_>, Fault> {
    let value_of = |name| {
        let header = ENVELOPE.iter().find(|header| header.as_str() == name)?;
        let mut values = headers.get_all(header).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Some(value.as_bytes()),
            // Two are a contradiction: as good as none that can be read.
            (Some(_), Some(_)) => Some(b"".as_slice()),
            (None, _) => None,
        }
    };
    Envelope::parse(value_of).map_err(|mistakes| {
        let first = mistakes[0];
        Fault::client(Kind::InvalidField(first.name(), first.shape()))
    })
}

/// Refuses before a byte of the body is read, where the worker is too hard pressed for this caller's quality
/// of service.
pub fn may_begin(
    worker: &Worker,
    held: &Hold,
    tenant: TenantId,
    envelope: &Envelope<'_>,
) -> Result<(), Fault> {
    let level = worker.ledger.level();
    let row = held.table.tenant(tenant);
    let band = permits::band(envelope.qos(row.qos), held.table.best_qos);
    let own = held.tenants[tenant.0 as usize].tallies[worker.id].under_way();
    let may_have_more = level.may_exceed_share() || !worker.ledger.shares(own, row.weight).is_over();
    let refused = Fault::proxy(Kind::Shed { again_s: level.retry_after_s() });
    (level.may_begin(band) && may_have_more).then_some(()).ok_or(refused)
}

/// Looks at what every tenant has under way on this worker: once in a while, for [`may_begin`].
pub fn look(worker: &Worker) {
    let Some(served) = worker.shared.tables.peek() else { return };
    let (mut all, mut weights) = (0, 0);
    for (row, cell) in served.table.tenants.iter().zip(&served.tenants) {
        let under_way = cell.tallies[worker.id].under_way();
        all += under_way;
        weights += if under_way > 0 { u64::from(row.weight) } else { 0 };
    }
    worker.ledger.on_look(all, weights);
}

impl Claim {
    /// Of a caller, within what its headers say.
    pub fn new(
        worker: &Worker,
        held: &Hold,
        tenant: TenantId,
        envelope: &Envelope<'_>,
        asked: Asked,
    ) -> Result<Claim, Fault> {
        let row = held.table.tenant(tenant);
        let limits = envelope.limits();
        let session = match envelope.session {
            Some(name) => {
                let cell = &held.tenants[tenant.0 as usize];
                let run = Run { tenant: row.hash, cell, name: name.as_bytes() };
                let found = worker.shared.sessions.find(run, limits, clock::unix_seconds());
                Some(found.ok_or(Fault::client(Kind::RunsFull))?)
            }
            None => (limits != Limits::NONE).then(|| Session::alone(limits)),
        };
        let Asked { prompt_bytes, output_max, deadline, body_bytes, qos } = asked;
        let wanted = envelope.qos.or(qos).unwrap_or(row.qos);
        let qos = wanted.min(row.qos);
        let band = permits::band(qos, held.table.best_qos);
        let also = Vec::new();
        let trace = None;
        let is_spared = false;
        Ok(Claim {
            tenant,
            qos,
            band,
            session,
            prompt_bytes,
            output_max,
            deadline,
            body_bytes,
            also,
            is_spared,
            trace,
        })
    }

    /// Of one offer: from what its answers and this tenant's were like.
    pub fn estimate(&self, worker: &Worker, held: &Hold, offer: OfferId) -> Estimate {
        let learned = &worker.shared.learned;
        let row = held.table.offer(offer);
        let both = hash_of_both(held.table.tenant(self.tenant).hash, row.hash);
        let input = learned.input(row.hash, self.prompt_bytes, self.qos);
        Estimate::new(input, learned.output(both, self.output_max), &row.price)
    }
}

impl Admitted {
    /// Takes its part of everything it is counted against, or nothing; what is refused is counted.
    pub fn reserve(
        worker: &Worker,
        held: &Hold,
        claim: &Claim,
        estimate: &Estimate,
    ) -> Result<Admitted, Fault> {
        Admitted::try_reserve(held, claim, estimate).inspect_err(|fault| {
            let (Kind::WindowFull(_, axis) | Kind::BudgetSpent { axis, .. }) = fault.kind else { return };
            match axis {
                Axis::Calls => worker.tally.denied_calls.one(),
                Axis::Tokens => worker.tally.denied_tokens.one(),
                Axis::Money => worker.tally.denied_usd.one(),
            }
        })
    }

    /// Reserves in the session's window, the tenant's window and its budgets; undone in reverse.
    fn try_reserve(held: &Hold, claim: &Claim, estimate: &Estimate) -> Result<Admitted, Fault> {
        let need = Need { calls: 1, tokens: estimate.tokens(), picodollars: estimate.picodollars };
        // From here on whatever was taken goes back when this is dropped.
        let mut admitted = Admitted {
            held: Hold::clone(held),
            tenant: claim.tenant,
            session: claim.session.clone(),
            of_session: Reserved::default(),
            of_tenant: Reserved::default(),
            of_budget: Charged::default(),
            also: Vec::new(),
            used: Need::default(),
        };
        if let Some(session) = &claim.session {
            // First: its end is told with the drop, also where the next window refuses.
            session.on_begin();
        }
        for counter in &claim.also {
            let need = Need { calls: u32::from(counter.is_call), ..need };
            let held = reserve(&counter.window, need, Whose::Session, counter.kinds)?;
            admitted.also.push((counter.clone(), held));
        }
        if let Some(session) = &claim.session {
            admitted.of_session = reserve(&session.window, need, Whose::Session, Kinds::SESSION)?;
        }
        let cell = &held.tenants[claim.tenant.0 as usize];
        admitted.of_tenant = reserve(&cell.window, need, Whose::Tenant, Kinds::TENANT)?;
        if let Some(budget) = &held.table.tenant(claim.tenant).budget {
            let today = clock::unix_seconds() / DAY_S;
            let day = u32::try_from(today).unwrap_or(u32::MAX);
            let charged = cell.budget.reserve(Some(budget), clock::now(), day, need.tokens, need.picodollars);
            admitted.of_budget = charged.map_err(exhausted)?;
        }
        Ok(admitted)
    }

    /// Its answer is `tokens` and `picodollars` longer than was reserved.
    pub fn extend(&mut self, tokens: u64, picodollars: Picodollars) -> Result<(), Fault> {
        let more = Need { calls: 0, tokens, picodollars };
        for (Counter { window, kinds, .. }, held) in &mut self.also {
            window.extend(held, more).map_err(|axis| refusal(Whose::Session, axis, *kinds))?;
        }
        if let Some(session) = &self.session {
            let extended = session.window.extend(&mut self.of_session, more);
            extended.map_err(|axis| refusal(Whose::Session, axis, Kinds::SESSION))?;
        }
        let window = &self.held.tenants[self.tenant.0 as usize].window;
        let extended = window.extend(&mut self.of_tenant, more);
        extended.map_err(|axis| refusal(Whose::Tenant, axis, Kinds::TENANT))?;
        Ok(())
    }

    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// What of it the caller pays for; nothing until this is said.
    pub fn on_used(&mut self, tokens: u64, picodollars: Picodollars) {
        self.used = Need { calls: 1, tokens, picodollars };
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let cell = &self.held.tenants[self.tenant.0 as usize];
        let Need { tokens, picodollars, .. } = self.used;
        cell.budget.settle(std::mem::take(&mut self.of_budget), tokens, picodollars);
        cell.window.settle(std::mem::take(&mut self.of_tenant), self.used);
        if let Some(session) = &self.session {
            session.window.settle(std::mem::take(&mut self.of_session), self.used);
            session.on_end(clock::unix_seconds());
        }
        for (Counter { window, .. }, held) in self.also.drain(..) {
            window.settle(held, self.used);
        }
    }
}

fn reserve(window: &Window, need: Need, whose: Whose, kinds: Kinds) -> Result<Reserved, Fault> {
    window.reserve(need).map_err(|axis| refusal(whose, axis, kinds))
}

/// What is in flight comes back by itself; what is spent does not.
fn refusal(whose: Whose, axis: Axis, kinds: Kinds) -> Fault {
    Fault::proxy(match kinds.of(axis) {
        Counted::InFlight => Kind::WindowFull(whose, axis),
        Counted::Spent => Kind::BudgetSpent { whose, axis, again_s: None },
    })
}

fn exhausted(which: Exhausted) -> Fault {
    let (axis, again_s) = match which {
        Exhausted::Tokens { wait } if wait == NEVER => (Axis::Tokens, None),
        Exhausted::Tokens { wait } => (Axis::Tokens, Some(wait.as_millis().div_ceil(1000).max(1))),
        Exhausted::Money => (Axis::Money, Some(u128::from(DAY_S - clock::unix_seconds() % DAY_S))),
    };
    let again_s = again_s.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
    Fault::proxy(Kind::BudgetSpent { whose: Whose::Tenant, axis, again_s })
}

const DAY_S: u64 = 86_400;
/// Those that [`Envelope::parse`] asks for.
static ENVELOPE: [HeaderName; 6] =
    [X_ATP_DEADLINE, X_ATP_BUDGET_TOKENS, X_ATP_BUDGET_USD, X_ATP_PARALLEL, X_ATP_SESSION, X_ATP_QOS];
