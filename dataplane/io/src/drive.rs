//! Runs an exchange: feeds its machine what happens, does what it says. Two attempts may race; whoever is
//! first with something to relay wins, the other is dropped, which cancels it upstream. One that waits in a
//! queue is dropped the same way, which gives its place up.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use dataplane_core::dialect::rope::Rope;
use dataplane_core::dialect::words::{self, Words};
use dataplane_core::exchange::{Action, Exchange, Slot};
use dataplane_core::fault::{Fault, Kind};
use dataplane_core::table::{OfferId, OfferRow};
use http::HeaderMap;
use proto_core::units::Moment;
use tokio::time::{Sleep, sleep_until};

use crate::attempt::{self, Begun};
use crate::charge::Charge;
use crate::clock;
use crate::drain::Phase;
use crate::queue::Preemption;
use crate::serve::headers::{ANTHROPIC_BETA, ANTHROPIC_VERSION};
use crate::upstream::{Call, Path};
use crate::worker::Worker;

/// What one request asks of its attempts.
pub struct Order<'a> {
    pub shared: attempt::Shared<'a>,
    /// As the caller's words have it.
    pub path: Path,
    /// What the caller speaks. An adapter that speaks the same gets it, any other the hub's.
    pub words: Words,
    pub streamed: bool,
    /// Nothing else wakes this exchange when time is up: it runs in a task that is not its connection's.
    pub is_apart: bool,
    /// Taken by the last attempt, copied by those before it.
    pub headers: HeaderMap,
    /// The body for one offer, in these words: the caller's own or the hub's.
    pub body: &'a (dyn Fn(&OfferRow, Words) -> Result<Rope, Fault> + Sync),
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
    let marks = [Marks::default(), Marks::default()];
    let retries = &held.routes[exchange.plan().route.0 as usize].retries;
    retries.on_request(held.table.route(exchange.plan().route).retry.budget);
    let _dispatch = shared.claim.trace.as_ref().map(|trace| trace.dispatching(exchange.plan().offers.len()));
    let mut slots = Slots { first: pin!(None), second: None };
    let (mut won, mut escalations): (Option<Begun>, _) = (None, 0);
    let mut closing = pin!(closing(worker, order.is_apart));
    let mut timer = pin!(sleep_until(clock::instant(exchange.deadline())));
    loop {
        match exchange.poll_action(clock::now()) {
            Action::Start { slot, offer } => match order.open(offer, exchange) {
                Ok((call, charge)) => {
                    watcher.on_dispatch(offer, exchange.escalations() > escalations);
                    escalations = exchange.escalations();
                    let marks = marks[slot as usize].fresh();
                    slots.put(slot, run(&shared, offer, Some(charge), call, marks));
                }
                Err(fault) => exchange.on_refused(slot, fault),
            },
            Action::Queue { slot, offer } => match order.call(offer, exchange) {
                Ok(call) => {
                    let marks = marks[slot as usize].fresh();
                    slots.put(slot, run(&shared, offer, None, call, marks));
                }
                Err(fault) => exchange.on_refused(slot, fault),
            },
            Action::Cancel { slot } => slots.clear(slot),
            Action::Relay { .. } => return Ok(won.expect("only an attempt that is ready is relayed")),
            Action::Answer(fault) => return Err(fault),
            Action::Wait { until } => {
                let event = poll_fn(|cx| {
                    poll_event(cx, worker, &mut slots, &marks, timer.as_mut(), closing.as_mut(), until)
                })
                .await;
                let failed = match event {
                    Event::Ended(slot, Ok(begun)) => {
                        won = Some(begun);
                        exchange.on_ready(slot);
                        None
                    }
                    Event::Ended(slot, Err(fault)) => Some((slot, fault)),
                    Event::Dispatched(slot) => {
                        exchange.on_dispatched(slot, clock::now());
                        watcher.on_dispatch(exchange.offer(slot).expect("it runs"), false);
                        None
                    }
                    Event::Time => exchange.on_time(clock::now()).inspect(|(slot, fault)| {
                        // Order: relaxed. Set and read by one task.
                        marks[*slot as usize].late.store(fault.is_upstream_failure(), Ordering::Relaxed);
                    }),
                    Event::Closing => return Err(Fault::proxy(Kind::Draining)),
                };
                if let Some((slot, fault)) = failed {
                    slots.clear(slot);
                    let granted = exchange.needs_budget(fault) && spend(worker, retries.try_retry());
                    exchange.on_fault(slot, fault, granted);
                }
                if exchange.wants_escalation() {
                    match spend(worker, retries.try_retry()) {
                        true => worker.tally.escalations.one(),
                        false => exchange.on_escalation_refused(),
                    }
                }
            }
        }
    }
}

/// What a slot's attempt and its driver tell each other. Set and read by one task; atomic so that the task
/// may be spawned.
#[derive(Debug, Default)]
struct Marks {
    /// The attempt is dropped for being late.
    late: AtomicBool,
    /// It waited and has its permit now.
    dispatched: AtomicBool,
}

impl Marks {
    fn fresh(&self) -> &Marks {
        // Order: relaxed, here and wherever a mark is read: one task.
        self.late.store(false, Ordering::Relaxed);
        // Order: relaxed, see above.
        self.dispatched.store(false, Ordering::Relaxed);
        self
    }
}

/// One attempt, from its place in a queue where it has no permit yet.
async fn run(
    shared: &attempt::Shared<'_>,
    offer: OfferId,
    charge: Option<Charge>,
    call: Call,
    marks: &Marks,
) -> Result<Begun, Fault> {
    let mut charge = match charge {
        Some(charge) => charge,
        None => {
            // Boxed: few wait, and all would carry the room for it.
            let charge = Box::pin(Charge::wait(shared.worker, shared.held, offer, shared.claim)).await?;
            // Order: relaxed, see `Marks`.
            marks.dispatched.store(true, Ordering::Relaxed);
            charge
        }
    };
    let mut preemption = charge.take_preemption();
    let mut running = pin!(attempt::run(shared, charge, call, &marks.late));
    let outcome = poll_fn(|cx| match (running.as_mut().poll(cx), &mut preemption) {
        (Poll::Pending, Some(preemption)) => preemption.poll(cx).map(|()| Err(Fault::proxy(Kind::Preempted))),
        (polled, _) => polled,
    });
    let mut begun = outcome.await?;
    preemption.iter().for_each(Preemption::on_answering);
    begun.charge.set_preemption(preemption);
    Ok(begun)
}

/// The attempts that run. The second is boxed: few requests have one, and all would carry the room for it.
struct Slots<'s, F> {
    first: Pin<&'s mut Option<F>>,
    second: Option<Pin<Box<F>>>,
}

impl<F: Future> Slots<'_, F> {
    fn put(&mut self, slot: Slot, future: F) {
        match slot {
            Slot::First => self.first.set(Some(future)),
            Slot::Second => self.second = Some(Box::pin(future)),
        }
    }

    fn clear(&mut self, slot: Slot) {
        match slot {
            Slot::First => self.first.set(None),
            Slot::Second => self.second = None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Slot, F::Output)> {
        if let Some(first) = self.first.as_mut().as_pin_mut()
            && let Poll::Ready(ended) = first.poll(cx)
        {
            return Poll::Ready((Slot::First, ended));
        }
        match &mut self.second {
            Some(second) => second.as_mut().poll(cx).map(|ended| (Slot::Second, ended)),
            None => Poll::Pending,
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
    /// A call and its charge. One that cannot be said in its adapter's words costs nothing.
    fn open(&mut self, offer: OfferId, exchange: &Exchange) -> Result<(Call, Charge), Fault> {
        let body = self.body(offer)?;
        let attempt::Shared { worker, held, claim, .. } = self.shared;
        let charge = Charge::open(worker, held, offer, claim, clock::now())?;
        Ok((self.with(offer, body, exchange), charge))
    }

    fn call(&mut self, offer: OfferId, exchange: &Exchange) -> Result<Call, Fault> {
        let body = self.body(offer)?;
        Ok(self.with(offer, body, exchange))
    }

    /// What the offer's adapter speaks, and the words it and the caller's room meet in.
    fn words(&self, offer: OfferId) -> (Words, Words) {
        let table = &self.shared.held.table;
        let row = table.offer(offer);
        let spoken = Words::of(&table.adapter(row.adapter).kind);
        // A role is played in the hub's words.
        let is_same = spoken == self.words && row.role.is_none();
        (spoken, if is_same { spoken } else { Words::OpenAi })
    }

    /// In the words of the offer's adapter.
    fn body(&self, offer: OfferId) -> Result<Rope, Fault> {
        let (spoken, heard) = self.words(offer);
        let row = self.shared.held.table.offer(offer);
        let mut body = (self.body)(row, heard)?;
        if let Some(role) = &row.role {
            body = Rope::from(Bytes::from(role.apply(&body.joined())?));
        }
        if spoken == heard { Ok(body) } else { words::request(spoken, body) }
    }

    fn with(&mut self, offer: OfferId, body: Rope, exchange: &Exchange) -> Call {
        // Copied only where another attempt might need them.
        let mut headers = match exchange.has_more() {
            true => self.headers.clone(),
            false => std::mem::take(&mut self.headers),
        };
        let (_, heard) = self.words(offer);
        let mut path = self.path;
        if heard != self.words {
            path = Path::ChatCompletions;
            // They say how the caller's words are meant.
            [ANTHROPIC_VERSION, ANTHROPIC_BETA].iter().for_each(|name| drop(headers.remove(name)));
        }
        let (streamed, deadline) = (self.streamed, exchange.deadline());
        let model = self.shared.held.table.offer(offer).hash;
        let prompt_bytes = self.shared.claim.prompt_bytes;
        Call { path, headers, body, streamed, deadline, model, prompt_bytes, heard }
    }
}

#[expect(clippy::large_enum_variant, reason = "lives on the stack for a moment")]
enum Event {
    Ended(Slot, Result<Begun, Fault>),
    /// What waited in a queue is on its way.
    Dispatched(Slot),
    Time,
    /// This data plane is out of time itself.
    Closing,
}

fn poll_event<F: Future<Output = Result<Begun, Fault>>>(
    cx: &mut Context<'_>,
    worker: &Worker,
    slots: &mut Slots<'_, F>,
    marks: &[Marks; 2],
    mut timer: Pin<&mut Sleep>,
    closing: Pin<&mut impl Future<Output = ()>>,
    until: Moment,
) -> Poll<Event> {
    if let Poll::Ready((slot, ended)) = slots.poll(cx) {
        return Poll::Ready(Event::Ended(slot, ended));
    }
    for slot in [Slot::First, Slot::Second] {
        // Order: relaxed, see `Marks`.
        if marks[slot as usize].dispatched.swap(false, Ordering::Relaxed) {
            return Poll::Ready(Event::Dispatched(slot));
        }
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
