//! The opening of a session: who asks, what is granted. Fails closed: an opening that cannot be judged is
//! refused.

use std::sync::Arc;

use dataplane_core::admit::window::{Kinds, Limits};
use dataplane_core::dialect::errors::frame_code;
use dataplane_core::fault::{Fault, Kind};
use dataplane_core::table::TenantId;
use dataplane_state::window::Window as Counted;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use proto_core::frame::{Code, FlagSet, Frame, Meta, Text, Window};
use proto_core::identity::Identity;
use proto_core::session::{Ended, Refusal, Resume};
use proto_core::units::Picodollars;

use super::attached::role;
use super::conversation::{Conversation, Open};
use super::link::Link;
use super::seats::{Comeback, Who};
use crate::clock;
use crate::drain::Phase;
use crate::serve::Peer;
use crate::serve::headers::X_API_KEY;
use crate::serve::http::{held, identify, known};
use crate::served::Hold;
use crate::sessions::{Run, Session};
use crate::trace::span::Value;
use crate::words::{Dialect, Telling};

/// Who is at the other end: asked anew for each request, since keys and tenants may change while a session
/// lasts.
#[derive(Clone)]
pub struct Caller {
    pub peer: Arc<Peer>,
    /// What it showed when the connection began; all its sessions share it.
    pub headers: Arc<HeaderMap>,
}

impl Caller {
    /// What is served now, and to which tenant this caller belongs there.
    pub fn tenant(&self) -> Result<(Hold, TenantId), Fault> {
        let held = held(&self.peer)?;
        let tenant = known(&held.table, &self.headers, &self.peer)?;
        Ok((held, tenant))
    }

    /// The same for a request, which counts.
    pub fn asks(&self) -> Result<(Hold, TenantId), Fault> {
        let held = held(&self.peer)?;
        let tenant = identify(&held.table, &self.headers, &self.peer)?;
        Ok((held, tenant))
    }

    /// Whether it may open a session at all: it belongs to a tenant, or is an adapter by its certificate.
    pub fn check(&self) -> Result<(), Fault> {
        match self.peer.identity().and_then(Identity::adapter) {
            Some(_) => held(&self.peer).map(drop),
            None => self.asks().map(drop),
        }
    }

    /// Where the transport has no place for a key, the opening has: `meta.key`.
    pub fn take_key(&mut self, first: &Frame) {
        if self.headers.contains_key(AUTHORIZATION) || self.headers.contains_key(X_API_KEY) {
            return;
        }
        let said = first.meta.ext.get("key").filter(|_| first.flags.has(FlagSet::SYN));
        let key = said.and_then(|key| serde_json::from_slice::<String>(key.as_bytes()).ok());
        if let Some(mut key) = key.and_then(|key| HeaderValue::try_from(key).ok()) {
            key.set_sensitive(true);
            Arc::make_mut(&mut self.headers).insert(X_API_KEY, key);
        }
    }

    /// As the certificate said it.
    pub fn identity(&self) -> Option<Arc<str>> {
        self.peer.identity_name()
    }

    /// For faults of a request that has no id of its own yet.
    pub fn telling(&self) -> Telling {
        let id = crate::serve::headers::request_id(&HeaderMap::new(), &self.peer.worker);
        Telling::new(Dialect::OpenAi, &id)
    }

    /// Whether it may take work as this adapter.
    pub fn may_attach(&self, adapter: &str) -> bool {
        let is_it = self.peer.identity().is_some_and(|identity| identity.adapter() == Some(adapter));
        is_it || (self.peer.is_loopback && self.peer.worker.shared.config.is_local)
    }
}

impl Conversation {
    pub(super) fn on_opening(&mut self, wanted: Window, meta: &Meta) {
        match self.admit(wanted, meta) {
            Ok(open) => {
                let granted = open.granted;
                // An adapter that is gone is gone: its work goes elsewhere, and it dials again.
                let is_adapter = self.caller.peer.identity().and_then(Identity::adapter).is_some();
                let may_come_back = self.machine.is_resumable() && open.attached.is_none() && !is_adapter;
                let token = if may_come_back { self.token(&open.who) } else { None };
                let (token, seat) = token.unzip();
                self.open = Some(Open { seat, ..open });
                self.machine.grant(granted, token, clock::now());
            }
            Err(refusal) => {
                self.worker.tally.sessions_refused.one();
                self.machine.refuse(refusal, clock::now());
            }
        }
    }

    fn admit(&mut self, wanted: Window, meta: &Meta) -> Result<Open, Refusal> {
        let refused = |fault: Fault| refusal(fault, &self.telling());
        if self.worker.shared.is_past(Phase::Draining) {
            return Err(refused(Fault::proxy(Kind::Draining)));
        }
        if self.caller.peer.identity().and_then(Identity::adapter).is_some() {
            return self.admit_adapter(wanted, meta);
        }
        let (held, tenant) = self.caller.tenant().map_err(refused)?;
        // Before the run is: one that is refused here leaves none behind.
        let attached = self.attach(meta, wanted, &held)?.map(Box::new);
        let row = held.table.tenant(tenant);
        let cell = &held.tenants[tenant.0 as usize];
        let name = self.machine.session_id().as_str();
        let run = Run { tenant: row.hash, cell, name: name.as_bytes() };
        let run = self.worker.shared.sessions.find(run, Limits::NONE, clock::unix_seconds());
        let run = run.ok_or_else(|| refused(Fault::client(Kind::RunsFull)))?;
        let who = Who { tenant: row.hash, identity: self.caller.identity() };
        let granted = granted(wanted, cell.window.limits(), run.flow.current());
        let window = Arc::new(Counted::new(Kinds::TENANT, limits(granted)));
        Ok(Open { who, run, wanted, granted, window, seat: None, spent: None, attached })
    }

    /// An adapter by its certificate belongs to no tenant, and asks for nothing.
    fn admit_adapter(&mut self, wanted: Window, meta: &Meta) -> Result<Open, Refusal> {
        let held = held(&self.caller.peer).map_err(|fault| refusal(fault, &self.telling()))?;
        let attached = self.attach(meta, wanted, &held)?.map(Box::new);
        if attached.is_none() && role(meta).as_deref() != Some("adapter") {
            let what = "this certificate is an adapter's: open the session with meta.role `adapter`";
            return Err(Refusal::new(Code::Sec, what));
        }
        let who = Who { tenant: 0, identity: self.caller.identity() };
        let window = Arc::new(Counted::new(Kinds::TENANT, Limits::NONE));
        let run = Session::alone(Limits::NONE);
        Ok(Open { who, run, wanted, granted: wanted, window, seat: None, spent: None, attached })
    }

    /// The SYN claims a session that is there already: its task gets the connection.
    pub(super) fn hand_over(&mut self, resume: Resume, link: &mut Option<Link>) -> Option<Ended> {
        let shared = &self.worker.shared;
        let found = self.caller.tenant().ok().and_then(|(held, tenant)| {
            let who = Who { tenant: held.table.tenant(tenant).hash, identity: self.caller.identity() };
            shared.seats.find(&resume.token, &who, self.machine.session_id())
        });
        let Some(door) = found else {
            self.worker.tally.sessions_refused.one();
            let unknown = "the resume token is spent, too old, or somebody else's; open the session anew";
            self.machine.refuse(Refusal::new(Code::Sec, unknown), clock::now());
            return None;
        };
        let link = link.take()?;
        // One that ended meanwhile drops the link, and the peer learns it from that.
        let Resume { token, received } = resume;
        let caller = self.caller.clone();
        door.bring(Comeback { link, caller, token, received });
        Some(Ended::Finished)
    }

    /// A token for coming back again, for a peer that came with `shown`.
    pub(super) fn next_token(&mut self, shown: &Text) -> Option<Text> {
        let who = self.open.as_ref()?.who.clone();
        let (token, seat) = self.token(&who)?;
        let open = self.open.as_mut()?;
        // What it came with is good until it shows that it has the next one; one given out between the two
        // was lost on the way.
        if let Some(newest) = open.seat.replace(seat).filter(|newest| newest.is_of(shown)) {
            open.spent = Some(newest);
        }
        Some(token)
    }

    fn token(&self, who: &Who) -> Option<(Text, super::seats::Ticket)> {
        self.worker.shared.seats.keep(who, self.machine.session_id(), &self.door)
    }

    /// After an answer: the run's flow may have moved, and so what its peer may have under way.
    pub(super) fn review_window(&mut self) {
        let Some(open) = &mut self.open else { return };
        let Ok((held, tenant)) = self.caller.tenant() else { return };
        let tenant = held.tenants[tenant.0 as usize].window.limits();
        let now = granted(open.wanted, tenant, open.run.flow.current());
        if now != open.granted {
            let began = clock::now();
            if let Some(traces) = &self.worker.shared.traces {
                let calls = |window: Window| u64::from(window.max_parallel);
                let (before, after) = (calls(open.granted), calls(now));
                let attributes = vec![
                    ("window.before", before.into()),
                    ("window.after", after.into()),
                    ("window.delta", Value::Change(after as i64 - before as i64)),
                ];
                traces.alone("window.update", began, attributes, || self.worker.random());
            }
            open.granted = now;
            open.window.set_limits(limits(now));
            self.machine.set_window(now, clock::now());
        }
    }

    pub(super) fn telling(&self) -> Telling {
        self.caller.telling()
    }
}

/// A fault as a peer is told it.
pub fn refusal(fault: Fault, telling: &Telling) -> Refusal {
    Refusal {
        code: frame_code(fault),
        reason: telling.reason(fault).into(),
        retry_after_ms: fault.retry_after_s().map(|seconds| u64::from(seconds) * 1000),
        resume_token: None,
    }
}

/// No more than is wanted, than the tenant has, and than the run's answers bear. Nothing wanted is no wish.
fn granted(wanted: Window, tenant: Limits, flow: u32) -> Window {
    let or_widest = |wanted: u64, widest: u64| if wanted == 0 { widest } else { wanted.min(widest) };
    let widest = Window::WIDEST;
    let calls = or_widest(wanted.max_parallel.into(), widest.max_parallel.into()).min(flow.into());
    let calls = u32::try_from(calls).unwrap_or(u32::MAX);
    let tokens = or_widest(wanted.max_tokens, widest.max_tokens);
    let usd = or_widest(wanted.max_usd_micros, widest.max_usd_micros);
    Window {
        max_parallel: tenant.calls.unwrap_or(u32::MAX).min(calls),
        max_tokens: tenant.tokens.unwrap_or(u64::MAX).min(tokens),
        max_usd_micros: tenant.picodollars.map_or(u64::MAX, |most| most.0 / Picodollars::PER_MICRO).min(usd),
    }
}

fn limits(window: Window) -> Limits {
    Limits {
        calls: Some(window.max_parallel),
        tokens: Some(window.max_tokens),
        picodollars: Some(Picodollars(window.max_usd_micros.saturating_mul(Picodollars::PER_MICRO))),
    }
}
