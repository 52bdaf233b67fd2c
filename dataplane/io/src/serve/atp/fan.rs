//! A fan-out at work: a task for each of its lanes, and one for the model that chooses between them. What is
//! said, cancelled and asked next is the machine's to decide; the money of all of them is one purse.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use dataplane_core::admit::window::{Axis, Kinds, Limits, Need};
use dataplane_core::dialect::atp::plain_text;
use dataplane_core::dialect::errors::frame_code;
use dataplane_core::fault::{Fault, Kind, Whose};
use dataplane_core::reconcile::{Action, Arbitration, Dispatch, Fanout, LaneId, Spend, arbiter};
use dataplane_state::window::{Reserved, Window};
use proto_core::frame::{Code, RawJson, Text};
use proto_core::session::{Message, More, Refusal, StreamKey};
use proto_core::units::Moment;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::conversation::Conversation;
use super::opening::refusal;
use super::outbox::{Delivery, Outbox, Said, Ticket};
use super::strand::{AtWork, FINAL, Standing, qos};
use super::work::{self, Job};
use crate::admission::Counter;
use crate::clock;

/// One fan-out.
pub struct Fan {
    machine: Fanout,
    message: Message,
    lanes: Vec<Option<Lane>>,
    arbiter: Option<(Lane, Arbitration)>,
    /// What a dispatch may take in all; every lane is counted against it.
    purse: Arc<Window>,
    call: Call,
    /// When it wants to be looked at; it is among [`Conversation::fans`] then.
    due: Option<Moment>,
}

struct Lane {
    ticket: Ticket,
    task: AbortHandle,
    stop: Arc<Notify>,
    /// Its pieces are not read, and so hold it back.
    is_paused: bool,
    /// It was told to end, and has not said yet what it took.
    is_ending: bool,
    kept: VecDeque<Delivery>,
    /// Of an arbiter: what it said.
    text: String,
}

impl Lane {
    fn end(&mut self) {
        self.is_ending = true;
        self.stop.notify_one();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A fan-out is one of the calls its peer may have at once, however many lanes it has.
struct Call {
    window: Arc<Window>,
    held: Reserved,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.window.settle(std::mem::take(&mut self.held), Need { calls: 1, ..Need::default() });
    }
}

impl Fan {
    fn tickets(&self) -> impl Iterator<Item = Ticket> {
        let arbiter = self.arbiter.iter().map(|(lane, _)| lane.ticket);
        self.lanes.iter().flatten().map(|lane| lane.ticket).chain(arbiter)
    }

    /// Somebody was told to end and has not answered.
    fn is_ending(&self) -> bool {
        let arbiter = self.arbiter.as_ref().map(|(lane, _)| lane);
        self.lanes.iter().flatten().chain(arbiter).any(|lane| lane.is_ending)
    }

    fn lane_of(&self, ticket: Ticket) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.as_ref().is_some_and(|lane| lane.ticket == ticket))
    }
}

impl Conversation {
    pub(super) fn begin_fan(&mut self, stream: StreamKey, message: &Message) -> Result<(), Refusal> {
        let standing = self.asking()?;
        let mut dispatch = Dispatch::parse(message.content.as_str()).map_err(|mistakes| Refusal {
            code: Code::BadInput,
            reason: format!("invalid_value: {mistakes}").into(),
            retry_after_ms: None,
            resume_token: None,
        })?;
        if let Some(wishes) = &dispatch.wishes {
            let switcher = self.switcher.get_or_insert_default();
            let policy = switcher.choose(wishes, dispatch.targets.len(), clock::now());
            dispatch.follow(policy);
        }
        let internal = || refusal(Fault::proxy(Kind::Internal), &standing.telling);
        let window = self.open.as_ref().map(|open| open.window.clone()).ok_or_else(internal)?;
        let held = window.reserve(Need { calls: 1, ..Need::default() }).map_err(|axis: Axis| {
            refusal(Fault::proxy(Kind::WindowFull(Whose::Session, axis)), &standing.telling)
        })?;
        let budget = dispatch.budget;
        let limits = Limits { calls: None, tokens: budget.tokens, picodollars: budget.cost };
        let best = message.qos.as_ref().map_or(proto_core::model::Qos::Bronze, qos);
        let lanes = (0..dispatch.targets.len()).map(|_| None).collect();
        let fan = Fan {
            machine: Fanout::new(dispatch, best, clock::now()),
            message: message.clone(),
            lanes,
            arbiter: None,
            purse: Arc::new(Window::new(Kinds::SESSION, limits)),
            call: Call { window, held },
            due: None,
        };
        self.strands.entry(stream).or_default().at_work = AtWork::Fan(Box::new(fan));
        self.drive_fan(stream);
        Ok(())
    }

    /// When the next of all fan-outs wants to be looked at.
    pub(super) fn fans_due(&self) -> Option<Moment> {
        self.fans.first().map(|(due, _)| *due)
    }

    pub(super) fn on_fans_time(&mut self) {
        let now = clock::now();
        while let Some((due, stream)) = self.fans.pop_first() {
            if due > now {
                self.fans.insert((due, stream));
                return;
            }
            if let Some(fan) = self.fan(stream) {
                fan.due = None;
                fan.machine.on_time(now);
                self.drive_fan(stream);
            }
        }
    }

    /// Looks at the fan-out of this stream again at `until`, and not before unless something happens.
    fn wait_for_fan(&mut self, stream: StreamKey, until: Moment) {
        let Some(fan) = self.fan(stream) else { return };
        let before = fan.due.replace(until);
        if before != Some(until) {
            before.map(|before| self.fans.remove(&(before, stream)));
            self.fans.insert((until, stream));
        }
    }

    /// Nothing comes of it any more.
    pub(super) fn end_fan(&mut self, stream: StreamKey, fan: &Fan) {
        fan.due.map(|due| self.fans.remove(&(due, stream)));
        for ticket in fan.tickets() {
            self.tickets.remove(&ticket);
        }
    }

    fn fan(&mut self, stream: StreamKey) -> Option<&mut Fan> {
        match &mut self.strands.get_mut(&stream)?.at_work {
            AtWork::Fan(fan) => Some(fan),
            _ => None,
        }
    }

    /// Something came of a lane, or of the arbiter.
    pub(super) fn on_lane(&mut self, stream: StreamKey, delivery: Delivery) {
        let Some(fan) = self.fan(stream) else { return };
        let Some(at) = fan.lane_of(delivery.ticket) else {
            self.on_arbiter(stream, delivery);
            return self.drive_fan(stream);
        };
        match &mut fan.lanes[at] {
            // Its end as well: what it said before comes first.
            Some(lane) if lane.is_paused && !lane.is_ending => lane.kept.push_back(delivery),
            _ => self.tell_lane(stream, at, delivery),
        }
        self.drive_fan(stream);
    }

    fn tell_lane(&mut self, stream: StreamKey, at: usize, delivery: Delivery) {
        let now = clock::now();
        let Some(fan) = self.fan(stream) else { return };
        let id = LaneId(u8::try_from(at).expect("a dispatch has few targets"));
        match &delivery.said {
            Said::Text(raw) => fan.machine.on_text(id, &plain_text(raw), 1, now),
            Said::Began { .. } | Said::Data(_) => return,
            Said::Done(done) => fan.machine.on_end(id, spend(&done.usage, done.cost), now),
            Said::Failed(failed) => {
                let spent = spend(&failed.usage, failed.cost);
                // One that was told to end is over already, and says what it took.
                fan.machine.on_settled(id, spent);
                fan.machine.on_failed(id, frame_code(failed.fault), false, spent, now);
            }
        }
        if !is_text(&delivery.said) {
            fan.lanes[at] = None;
            self.tickets.remove(&delivery.ticket);
        }
    }

    fn on_arbiter(&mut self, stream: StreamKey, delivery: Delivery) {
        let Some(fan) = self.fan(stream) else { return };
        let Some((lane, arbitration)) = &mut fan.arbiter else { return };
        let candidates = arbitration.candidates.len();
        let (choice, spent) = match &delivery.said {
            Said::Text(raw) => return lane.text.push_str(&plain_text(raw)),
            Said::Began { .. } | Said::Data(_) => return,
            Said::Done(done) => (arbiter::choice(&lane.text, candidates), spend(&done.usage, done.cost)),
            Said::Failed(failed) => {
                if frame_code(failed.fault) == Code::Budget {
                    fan.machine.on_too_dear();
                }
                (None, spend(&failed.usage, failed.cost))
            }
        };
        fan.machine.on_verdict(choice, spent, clock::now());
        fan.arbiter = None;
        self.tickets.remove(&delivery.ticket);
    }

    /// Does what the machine says, until it waits.
    pub(super) fn drive_fan(&mut self, stream: StreamKey) {
        loop {
            let has_room = self.has_room(stream);
            let Some(fan) = self.fan(stream) else { return };
            // The last word has everybody's costs in it.
            let has_room = has_room && !fan.is_ending();
            match fan.machine.poll_action(has_room, clock::now()) {
                Action::Start(lane) => self.start_lane(stream, lane),
                Action::Cancel(lane) => self.cancel_lane(stream, lane),
                Action::Pause(lane) => {
                    if let Some(lane) = &mut fan.lanes[usize::from(lane.0)] {
                        lane.is_paused = true;
                    }
                }
                Action::Resume(lane) => self.resume_lane(stream, usize::from(lane.0)),
                Action::Arbitrate(arbitration) => self.arbitrate(stream, arbitration),
                Action::CancelArbiter => {
                    if let Some((lane, _)) = &mut fan.arbiter {
                        lane.end();
                    }
                }
                Action::Wait { until } => return self.wait_for_fan(stream, until),
                Action::Done => return,
                said => self.say_of_fan(stream, said),
            }
        }
    }

    fn start_lane(&mut self, stream: StreamKey, id: LaneId) {
        let Ok(standing) = self.standing() else {
            if let Some(fan) = self.fan(stream) {
                fan.machine.on_failed(id, Code::Sec, true, Spend::default(), clock::now());
            }
            return;
        };
        let Some(fan) = self.fan(stream) else { return };
        let mut body = Vec::new();
        fan.machine.dispatch().body(usize::from(id.0), &mut body);
        let qos = Some(fan.machine.qos(id));
        let lane = self.fan_job(stream, &standing, body.into()).map(|job| Job { qos, ..job });
        let lane = lane.map(|job| self.task(stream, job));
        if let (Some(lane), Some(fan)) = (lane, self.fan(stream)) {
            fan.lanes[usize::from(id.0)] = Some(lane);
        }
    }

    fn arbitrate(&mut self, stream: StreamKey, arbitration: Arbitration) {
        let Some(fan) = self.fan(stream) else { return };
        let mut body = Vec::new();
        fan.machine.question(&arbitration, &mut body);
        let limits = Limits { picodollars: Some(arbitration.cost_max), ..Limits::NONE };
        let window = Arc::new(Window::new(Kinds::SESSION, limits));
        let own = Counter { window, kinds: Kinds::SESSION, is_call: true };
        let standing = self.standing().ok();
        let job = standing.and_then(|standing| self.fan_job(stream, &standing, body.into()));
        let lane = job.map(|mut job| {
            job.also.push(own);
            self.task(stream, job)
        });
        let Some(fan) = self.fan(stream) else { return };
        match lane {
            Some(lane) => fan.arbiter = Some((lane, arbitration)),
            None => fan.machine.on_verdict(None, Spend::default(), clock::now()),
        }
    }

    /// What a lane or the arbiter is to do; counted against the purse of all, and against its peer's window,
    /// of which the whole fan-out is one call.
    fn fan_job(&mut self, stream: StreamKey, standing: &Standing, body: Bytes) -> Option<Job> {
        let fan = self.fan(stream)?;
        let purse = Counter { window: fan.purse.clone(), kinds: Kinds::SESSION, is_call: true };
        let peers = Counter { window: fan.call.window.clone(), kinds: Kinds::TENANT, is_call: false };
        let also = vec![purse, peers];
        let message = fan.message.clone();
        Some(Job { also, as_text: true, ..self.job(standing, &message, body) })
    }

    fn task(&mut self, stream: StreamKey, job: Job) -> Lane {
        let ticket = self.ticket(stream);
        let worker = Arc::clone(&self.worker);
        let outbox = Outbox::new(&worker, ticket, self.deliveries_to());
        let stop = outbox.stop();
        let task = tokio::spawn(work::run(job, outbox)).abort_handle();
        Lane {
            ticket,
            task,
            stop,
            is_paused: false,
            is_ending: false,
            kept: VecDeque::new(),
            text: String::new(),
        }
    }

    fn cancel_lane(&mut self, stream: StreamKey, id: LaneId) {
        let at = usize::from(id.0);
        let Some(fan) = self.fan(stream) else { return };
        let Some(lane) = &mut fan.lanes[at] else { return fan.machine.on_settled(id, Spend::default()) };
        lane.end();
        // It may have ended while it was paused; then nothing more comes of it, and this says what it took.
        let last = std::mem::take(&mut lane.kept).pop_back().filter(|last| !is_text(&last.said));
        if let Some(last) = last {
            self.tell_lane(stream, at, last);
        }
    }

    fn resume_lane(&mut self, stream: StreamKey, at: usize) {
        let Some(Some(lane)) = self.fan(stream).map(|fan| &mut fan.lanes[at]) else { return };
        lane.is_paused = false;
        for delivery in std::mem::take(&mut lane.kept) {
            self.tell_lane(stream, at, delivery);
        }
    }

    fn say_of_fan(&mut self, stream: StreamKey, said: Action) {
        let now = clock::now();
        let session_id = self.machine.session_id().clone();
        let is_last = self.is_last_request(stream);
        let Some(fan) = self.fan(stream) else { return };
        let machine = &fan.machine;
        let message = |kind: Text, content: Vec<u8>| Message::new(kind, RawJson::checked(content.into()));
        let (message, is_end) = match said {
            Action::Stream(piece) => {
                let content = machine.stream_content(session_id.as_str(), &piece);
                (message(Text::of_static("agent.stream"), content), false)
            }
            Action::LaneEnd(lane) => {
                let content = machine.end_content(session_id.as_str(), lane, now);
                (message(Text::of_static("agent.end"), content), false)
            }
            Action::Provisional(provisional) => {
                let expiry_ms = u64::try_from(provisional.expiry.as_millis()).ok();
                let content = machine.provisional_content(&provisional);
                let more = Some(Box::new(More { expiry_ms, ..More::default() }));
                (Message { more, ..message(Text::of_static("agent.result.provisional"), content) }, false)
            }
            Action::Downgraded { from, to } => {
                (message(Text::of_static("control.status"), Fanout::downgraded_content(from, to)), false)
            }
            Action::Final(outcome) => {
                let telemetry = Fanout::telemetry(outcome.spend, outcome.latency);
                let content = machine.final_content(&outcome, now);
                let telemetry = Some(RawJson::checked(telemetry.into()));
                (Message { telemetry, is_last, ..message(FINAL, content) }, true)
            }
            Action::Failed(failure) => {
                let telemetry = Fanout::telemetry(failure.spend, failure.latency);
                let content = machine.failure_content(&failure, now);
                let telemetry = Some(RawJson::checked(telemetry.into()));
                let kind = Text::of_static("agent.result.error");
                (Message { telemetry, is_last, ..message(kind, content) }, true)
            }
            _ => return,
        };
        if is_end {
            let tickets: Vec<Ticket> = fan.tickets().collect();
            let due = fan.due.take();
            due.map(|due| self.fans.remove(&(due, stream)));
            tickets.iter().for_each(|ticket| {
                self.tickets.remove(ticket);
            });
        }
        self.say(stream, message, is_end, None);
    }
}

fn is_text(said: &Said) -> bool {
    matches!(said, Said::Text(_) | Said::Data(_) | Said::Began { .. })
}

fn spend(usage: &dataplane_core::bill::Usage, cost: proto_core::units::Picodollars) -> Spend {
    Spend { tokens_in: usage.input, tokens_out: usage.output, cost }
}
