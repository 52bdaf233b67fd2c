//! Runs an exchange: feeds its machine what happens, does what it says. Two attempts may race; whoever is
//! first with something to relay wins, the other is dropped, which cancels it upstream.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use dataplane_core::dialect::rope::Rope;
use dataplane_core::exchange::{Action, Exchange, Slot};
use dataplane_core::fault::{Fault, Kind};
use dataplane_core::table::{OfferId, OfferRow, TenantId};
use http::HeaderMap;
use proto_core::units::Moment;
use tokio::time::{Sleep, sleep_until};

use crate::attempt::{self, Begun};
use crate::charge::Charge;
use crate::clock;
use crate::drain::Phase;
use crate::upstream::{Call, Path};
use crate::worker::Worker;

/// What one request asks of its attempts.
pub struct Order<'a> {
    pub shared: attempt::Shared<'a>,
    pub tenant: TenantId,
    pub path: Path,
    pub streamed: bool,
    /// Nothing else wakes this exchange when time is up: it runs in a task that is not its connection's.
    pub is_apart: bool,
    /// Taken by the last attempt, copied by those before it.
    pub headers: HeaderMap,
    /// The body for one offer.
    pub body: &'a (dyn Fn(&OfferRow) -> Rope + Sync),
}

/// What the caller of [`drive`] is told on the way.
pub trait Watcher {
    /// An attempt was dispatched. `escalated`: beside one that is slow.
    fn on_dispatch(&mut self, offer: OfferId, escalated: bool);
}

/// For those who need not know.
pub struct Unwatched;

impl Watcher for Unwatched {
    fn on_dispatch(&mut self, _: OfferId, _: bool) {}
}

/// The first attempt worth relaying, or what to tell the caller.
pub async fn drive(
    mut order: Order<'_>,
    exchange: &mut Exchange,
    watcher: &mut impl Watcher,
) -> Result<Begun, Fault> {
    let shared = order.shared;
    let (worker, held) = (shared.worker, shared.held);
    let late = [AtomicBool::new(false), AtomicBool::new(false)];
    let retries = &held.routes[exchange.plan().route.0 as usize].retries;
    retries.on_request(held.table.route(exchange.plan().route).retry.budget);
    let mut slots = (pin!(None), pin!(None));
    let mut won: Option<Begun> = None;
    let mut escalations = 0;
    let mut closing = pin!(closing(worker, order.is_apart));
    let mut timer = pin!(sleep_until(clock::instant(exchange.deadline())));
    loop {
        match exchange.poll_action(clock::now()) {
            Action::Start { slot, offer } => {
                match Charge::open(worker, held, offer, order.tenant, clock::now()) {
                    Ok(charge) => {
                        watcher.on_dispatch(offer, exchange.escalations() > escalations);
                        escalations = exchange.escalations();
                        let call = order.call(offer, exchange.has_more());
                        let future = attempt::run(&shared, charge, call, &late[slot as usize]);
                        // Order: relaxed. Set and read by one task.
                        late[slot as usize].store(false, Ordering::Relaxed);
                        match slot {
                            Slot::First => slots.0.set(Some(future)),
                            Slot::Second => slots.1.set(Some(future)),
                        }
                    }
                    Err(fault) => exchange.on_refused(slot, fault),
                }
            }
            Action::Cancel { slot: Slot::First } => slots.0.set(None),
            Action::Cancel { slot: Slot::Second } => slots.1.set(None),
            Action::Relay { .. } => return Ok(won.expect("only an attempt that is ready is relayed")),
            Action::Answer(fault) => return Err(fault),
            Action::Wait { until } => {
                let event =
                    poll_fn(|cx| poll_event(cx, worker, &mut slots, timer.as_mut(), closing.as_mut(), until))
                        .await;
                let failed = match event {
                    Event::Ended(slot, Ok(begun)) => {
                        won = Some(begun);
                        exchange.on_ready(slot);
                        None
                    }
                    Event::Ended(slot, Err(fault)) => Some((slot, fault)),
                    Event::Time => exchange.on_time(clock::now()).inspect(|(slot, fault)| {
                        // Order: relaxed. Set and read by one task.
                        late[*slot as usize].store(fault.is_upstream_failure(), Ordering::Relaxed);
                    }),
                    Event::Closing => return Err(Fault::proxy(Kind::Draining)),
                };
                if let Some((slot, fault)) = failed {
                    match slot {
                        Slot::First => slots.0.set(None),
                        Slot::Second => slots.1.set(None),
                    }
                    let granted = exchange.needs_budget(fault) && spend(worker, retries.try_retry());
                    exchange.on_fault(slot, fault, granted);
                }
                if exchange.wants_escalation() {
                    if spend(worker, retries.try_retry()) {
                        worker.tally.escalations.one();
                    } else {
                        exchange.on_escalation_refused();
                    }
                }
            }
        }
    }
}

/// Until this data plane is out of time; for ever where the connection's own watch wakes the exchange.
async fn closing(worker: &Worker, is_apart: bool) {
    if !is_apart {
        return std::future::pending().await;
    }
    // A sender that is gone means the process is ending: the same.
    let _ = worker.shared.phases().wait_for(|phase| *phase >= Phase::Closing).await;
}

fn spend(worker: &Worker, granted: bool) -> bool {
    if granted {
        worker.tally.retries.one();
    } else {
        worker.tally.retries_denied.one();
    }
    granted
}

impl Order<'_> {
    fn call(&mut self, offer: OfferId, has_more: bool) -> Call {
        // Copied only where another attempt might need them.
        let headers = if has_more { self.headers.clone() } else { std::mem::take(&mut self.headers) };
        let body = (self.body)(self.shared.held.table.offer(offer));
        Call { path: self.path, headers, body, streamed: self.streamed }
    }
}

#[expect(clippy::large_enum_variant, reason = "lives on the stack for a moment")]
enum Event {
    Ended(Slot, Result<Begun, Fault>),
    Time,
    /// This data plane is out of time itself.
    Closing,
}

type Slots<'s, F> = (Pin<&'s mut Option<F>>, Pin<&'s mut Option<F>>);

fn poll_event<F: Future<Output = Result<Begun, Fault>>>(
    cx: &mut Context<'_>,
    worker: &Worker,
    slots: &mut Slots<'_, F>,
    mut timer: Pin<&mut Sleep>,
    closing: Pin<&mut impl Future<Output = ()>>,
    until: Moment,
) -> Poll<Event> {
    if let Poll::Ready(ended) = poll_slot(cx, slots.0.as_mut()) {
        return Poll::Ready(Event::Ended(Slot::First, ended));
    }
    if let Poll::Ready(ended) = poll_slot(cx, slots.1.as_mut()) {
        return Poll::Ready(Event::Ended(Slot::Second, ended));
    }
    if worker.shared.is_past(Phase::Closing) || closing.poll(cx).is_ready() {
        return Poll::Ready(Event::Closing);
    }
    let due = clock::instant(until);
    if timer.deadline() != due {
        timer.as_mut().reset(due);
    }
    timer.poll(cx).map(|()| Event::Time)
}

fn poll_slot<F: Future>(cx: &mut Context<'_>, slot: Pin<&mut Option<F>>) -> Poll<F::Output> {
    match slot.as_pin_mut() {
        Some(future) => future.poll(cx),
        None => Poll::Pending,
    }
}
