//! A stream at work: requests one after another, each answered by a task of its own (a fan-out by several);
//! what the peer has no credit for waits here and holds its task back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use dataplane_core::admit::envelope::Envelope;
use dataplane_core::admit::window::Kinds;
use dataplane_core::dialect::atp::{Final, partial};
use dataplane_core::dialect::errors::frame_code;
use dataplane_core::fault::{Fault, Kind};
use dataplane_state::tally::Operation;
use proto_core::frame::{Code, Frame, Meta, NAME_BYTES_MAX, Qos, RawJson, Text};
use proto_core::session::{Message, Refusal, SendFault, StreamKey};
use tokio::task::AbortHandle;

use super::again::{self, Again};
use super::conversation::Conversation;
use super::fan::Fan;
use super::opening::refusal;
use super::outbox::{Delivery, Outbox, Room, Said, Ticket};
use super::registry::Registrations;
use super::work::{self, Done, Failed, Job};
use crate::admission::Counter;
use crate::clock;
use crate::served::Hold;
use crate::words::Telling;
use dataplane_core::table::TenantId;

/// One stream.
#[derive(Default)]
pub struct Strand {
    /// Requests that came and wait for those before them. Not acknowledged, so their sender's credit bounds
    /// them.
    waiting: VecDeque<Box<(u64, Message)>>,
    pub(super) at_work: AtWork,
    /// The peer has said its last.
    is_peer_done: bool,
    /// What the peer has no credit for.
    stuck: VecDeque<Stuck>,
}

impl Strand {
    /// Nothing is kept here that the next request would need.
    fn is_at_rest(&self) -> bool {
        let is_free = matches!(self.at_work, AtWork::Nothing) && !self.is_peer_done;
        is_free && self.waiting.is_empty() && self.stuck.is_empty()
    }
}

/// What is being done for a stream.
#[derive(Default)]
pub enum AtWork {
    #[default]
    Nothing,
    One(One),
    Fan(Box<Fan>),
}

/// A request that one task answers.
pub struct One {
    ticket: Ticket,
    task: AbortHandle,
    adapter: Option<Text>,
}

impl Drop for One {
    fn drop(&mut self) {
        // The future's end cancels the work upstream; one that is done already does not notice.
        self.task.abort();
    }
}

/// What waits for credit.
enum Stuck {
    Say { message: Box<Message>, is_end: bool, _room: Option<Room> },
    Reset(Refusal),
}

/// What a request stands on.
pub(super) struct Standing {
    pub held: Hold,
    pub tenant: TenantId,
    pub telling: Telling,
}

impl Conversation {
    pub(super) fn on_message(&mut self, stream: StreamKey, msg_seq: u64, message: Message) {
        let strand = self.strands.entry(stream).or_default();
        strand.is_peer_done |= message.is_last;
        strand.waiting.push_back(Box::new((msg_seq, kept(message))));
        self.begin_next(stream);
    }

    /// Starts the next request of a stream that is free.
    fn begin_next(&mut self, stream: StreamKey) {
        let Some(strand) = self.strands.get_mut(&stream) else { return };
        let is_ending = self.resets.iter().any(|(ending, _)| *ending == stream);
        if is_ending || !matches!(strand.at_work, AtWork::Nothing) || !strand.stuck.is_empty() {
            return;
        }
        let Some((msg_seq, message)) = strand.waiting.pop_front().map(|next| *next) else { return };
        self.machine.on_consumed(stream, msg_seq, clock::now());
        if let Err(refusal) = self.begin(stream, message) {
            self.review_window();
            self.reset(stream, refusal);
        }
    }

    fn begin(&mut self, stream: StreamKey, message: Message) -> Result<(), Refusal> {
        match message.kind.as_str() {
            "completion" | "question" => self.begin_one(stream, &message),
            "agent.dispatch" => self.begin_fan(stream, &message),
            "adapter.capability" | "adapter.health" => {
                let is_health = message.kind.as_str() == "adapter.health";
                self.on_capability(stream, is_health, &message)
            }
            // What a peer says after its last request, and nothing has to answer.
            _ if message.content.is_null() && message.is_last => {
                self.end_in_order(stream);
                Ok(())
            }
            _ => {
                Err(Refusal::new(Code::BadInput, "streams carry `completion` and `agent.dispatch` requests"))
            }
        }
    }

    /// An adapter says what it can, where it is, or how.
    fn on_capability(
        &mut self,
        stream: StreamKey,
        is_health: bool,
        message: &Message,
    ) -> Result<(), Refusal> {
        let caller = &self.caller;
        let registrations = self.registrations.get_or_insert_with(|| Box::new(Registrations::new(caller)));
        let content = registrations.on_said(caller, is_health, message.content.as_bytes())?;
        let content = RawJson::checked(content.to_string().into());
        let is_last = self.is_last_request(stream);
        self.say(stream, Message { is_last, ..Message::new(FINAL, content) }, true, None);
        Ok(())
    }

    pub(super) fn standing(&self) -> Result<Standing, Refusal> {
        let telling = self.telling();
        let (held, tenant) = self.caller.tenant().map_err(|fault| refusal(fault, &telling))?;
        Ok(Standing { held, tenant, telling })
    }

    /// The same at the beginning of a request, which counts.
    pub(super) fn asking(&self) -> Result<Standing, Refusal> {
        let telling = self.telling();
        let (held, tenant) = self.caller.asks().map_err(|fault| refusal(fault, &telling))?;
        Ok(Standing { held, tenant, telling })
    }

    fn begin_one(&mut self, stream: StreamKey, message: &Message) -> Result<(), Refusal> {
        let standing = self.asking()?;
        let window = self.open.as_ref().map(|open| open.window.clone());
        let window = window.ok_or_else(|| refusal(Fault::proxy(Kind::Internal), &standing.telling))?;
        let also = vec![Counter { window, kinds: Kinds::TENANT, is_call: true }];
        let content = message.content.as_bytes().clone();
        let job = match again::token(&content) {
            None => Job { also, ..self.job(&standing, message, content) },
            Some(token) => {
                let kept = self.preempted.as_mut().and_then(|kept| kept.take(&token, clock::now()));
                let Again { content, task_type, qos } = kept.ok_or(SPENT)?;
                Job { also, task_type, qos, is_spared: true, ..self.job(&standing, message, content) }
            }
        };
        let ticket = self.ticket(stream);
        let worker = Arc::clone(&self.worker);
        let outbox = Outbox::new(&worker, ticket, self.deliveries_to());
        let task = tokio::spawn(work::run(job, outbox)).abort_handle();
        self.strands.entry(stream).or_default().at_work = AtWork::One(One { ticket, task, adapter: None });
        Ok(())
    }

    /// A token for what gave its place to another, where it is not too long to be kept.
    fn keep_preempted(&mut self, again: Again) -> Option<Text> {
        // A name within this session, and nothing else: who has the session has the request.
        let token = format!("{:016x}{:016x}", self.worker.random(), self.worker.random());
        let token = Text::from(token);
        let preempted = self.preempted.get_or_insert_default();
        preempted.keep(token.clone(), again, clock::now()).then_some(token)
    }

    /// A job for a message, counted against no window yet.
    pub(super) fn job(&self, standing: &Standing, message: &Message, content: bytes::Bytes) -> Job {
        Job {
            worker: self.worker.clone(),
            held: standing.held.clone(),
            tenant: standing.tenant,
            run: Some(self.machine.session_id().clone()).filter(|id| !id.is_empty()),
            content,
            task_type: message.meta.as_ref().and_then(|meta| meta.task_type.clone()),
            qos: message.qos.as_ref().map(qos),
            deadline: None,
            envelope: Envelope::default(),
            adapter_kind: None,
            also: Vec::new(),
            as_text: false,
            operation: Some(Operation::Session),
            is_spared: false,
            request_id: standing.telling.request_id().clone(),
            parent: work::parent(message),
            at: clock::now(),
        }
    }

    pub(super) fn ticket(&mut self, stream: StreamKey) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.tickets.insert(ticket, stream);
        ticket
    }

    pub(super) fn on_delivery(&mut self, delivery: Delivery) {
        // One that was reset meanwhile is nobody's.
        let Some(stream) = self.tickets.get(&delivery.ticket).copied() else { return };
        let Some(strand) = self.strands.get_mut(&stream) else { return };
        let Delivery { ticket, said, tokens, room } = delivery;
        let adapter = match &mut strand.at_work {
            AtWork::Nothing => return,
            AtWork::One(one) => one.adapter.clone(),
            AtWork::Fan(_) => return self.on_lane(stream, Delivery { ticket, said, tokens, room }),
        };
        let is_last = strand.is_peer_done && strand.waiting.is_empty();
        let (message, is_end) = match said {
            Said::Began { adapter } => {
                if let AtWork::One(one) = &mut strand.at_work {
                    one.adapter = Some(adapter);
                }
                return;
            }
            Said::Data(data) => (Message::new(PARTIAL, RawJson::checked(data)), false),
            Said::Text(raw) => (Message::new(PARTIAL, RawJson::checked(partial(&raw))), false),
            Said::Done(done) => (last(&done, is_last), true),
            Said::Failed(mut failed) => {
                self.tickets.remove(&ticket);
                self.review_window();
                let resume_token = failed.again.take().and_then(|again| self.keep_preempted(*again));
                let refusal = Refusal { resume_token, ..refusal_of(&failed) };
                return self.reset_in_turn(stream, refusal);
            }
        };
        if is_end {
            self.tickets.remove(&ticket);
        }
        self.say(stream, Message { adapter, ..message }, is_end, room);
    }

    /// Says it now, or after what waits already. `is_end`: the request is answered with it.
    pub(super) fn say(&mut self, stream: StreamKey, message: Message, is_end: bool, room: Option<Room>) {
        let Some(strand) = self.strands.get_mut(&stream) else { return };
        // Nearly always: nothing waits, there is credit, and the message goes as it is.
        if strand.stuck.is_empty() && self.machine.room(stream) >= message.content.as_bytes().len() {
            let sent = self.machine.send(stream, message, clock::now());
            return self.on_said(stream, sent, is_end);
        }
        let stuck = Stuck::Say { message: Box::new(message), is_end, _room: room };
        strand.stuck.push_back(stuck);
        if strand.stuck.len() == 1 {
            self.say_stuck(stream);
        }
    }

    /// What the peer's credit allows of what waits.
    fn say_stuck(&mut self, stream: StreamKey) {
        while let Some(strand) = self.strands.get_mut(&stream)
            && let Some(stuck) = strand.stuck.pop_front()
        {
            let (message, is_end, room) = match stuck {
                Stuck::Say { message, is_end, _room } => (message, is_end, _room),
                Stuck::Reset(refusal) => return self.resets.push((stream, refusal)),
            };
            // Cheap: the content is shared.
            match self.machine.send(stream, Message::clone(&message), clock::now()) {
                Err(SendFault::Blocked) => {
                    let again = Stuck::Say { message, is_end, _room: room };
                    return strand.stuck.push_front(again);
                }
                sent => self.on_said(stream, sent, is_end),
            }
        }
    }

    fn on_said(&mut self, stream: StreamKey, sent: Result<u64, SendFault>, is_end: bool) {
        match sent {
            Ok(_) if is_end => self.on_answered(stream),
            Ok(_) => {}
            Err(SendFault::TooLong | SendFault::Blocked) => {
                let what = "the answer is longer than this peer takes";
                self.reset(stream, Refusal::new(Code::Window, what));
            }
            // The stream is on its way out.
            Err(SendFault::Unknown | SendFault::Finished | SendFault::TooMany) => self.forget(stream),
        }
    }

    /// Credit came.
    pub(super) fn on_room(&mut self, stream: StreamKey) {
        self.say_stuck(stream);
        self.drive_fan(stream);
        self.begin_next(stream);
    }

    /// The peer takes what is said at once.
    pub(super) fn has_room(&self, stream: StreamKey) -> bool {
        self.strands.get(&stream).is_some_and(|strand| strand.stuck.is_empty())
    }

    /// Whether nothing more is asked on this stream.
    pub(super) fn is_last_request(&self, stream: StreamKey) -> bool {
        self.strands.get(&stream).is_some_and(|strand| strand.is_peer_done && strand.waiting.is_empty())
    }

    fn on_answered(&mut self, stream: StreamKey) {
        if let Some(strand) = self.strands.get_mut(&stream) {
            strand.at_work = AtWork::Nothing;
        }
        self.review_window();
        self.begin_next(stream);
        // One with nothing to do is not kept: the machine knows that the stream is there.
        if self.strands.get(&stream).is_some_and(Strand::is_at_rest) {
            self.strands.remove(&stream);
        }
    }

    /// The peer's last word needs no answer.
    fn end_in_order(&mut self, stream: StreamKey) {
        let last = Message::new(FINAL, RawJson::NULL).last();
        self.say(stream, last, true, None);
    }

    /// After what waits already.
    fn reset_in_turn(&mut self, stream: StreamKey, refusal: Refusal) {
        let Some(strand) = self.strands.get_mut(&stream) else { return };
        strand.at_work = AtWork::Nothing;
        match strand.stuck.is_empty() {
            // What was said before it is written first.
            true => self.resets.push((stream, refusal)),
            false => strand.stuck.push_back(Stuck::Reset(refusal)),
        }
    }

    pub(super) fn reset(&mut self, stream: StreamKey, refusal: Refusal) {
        self.forget(stream);
        self.machine.reset(stream, refusal, clock::now());
    }

    /// Nothing more is done for this stream; what is under way for it is cancelled upstream.
    pub(super) fn forget(&mut self, stream: StreamKey) {
        let Some(strand) = self.strands.remove(&stream) else { return };
        match &strand.at_work {
            AtWork::Nothing => return,
            AtWork::One(one) => {
                self.tickets.remove(&one.ticket);
            }
            AtWork::Fan(fan) => self.end_fan(stream, fan),
        }
        drop(strand);
        self.review_window();
    }

    pub(super) fn on_warned(&mut self, stream: StreamKey, refusal: &Refusal) {
        tracing::debug!(?stream, code = refusal.code.as_str(), "a peer warned");
    }

    /// A control frame that says nothing to us; counted, so that peers that talk past us are seen.
    pub(super) fn on_control(&mut self, frame: Frame) {
        self.worker.tally.frames_ignored.one();
        tracing::debug!(kind = frame.payload.kind.as_str(), "a control frame was passed over");
    }
}

/// A request as it waits and is worked on: what is read of it, in memory of its own. Its sender's credit
/// counts the content alone, and a mebibyte of frame may stand around a few bytes of it.
fn kept(message: Message) -> Message {
    // As its header is, whatever stood around it.
    let trace = work::parent(&message).map(|parent| format!("\"{}\"", parent.to_text()).into_bytes());
    let trace = trace.map(|text| RawJson::checked(text.into()));
    let content = match message.content.as_bytes() {
        long if long.len() >= SHARED_BYTES_MIN => message.content,
        short => RawJson::checked(bytes::Bytes::copy_from_slice(short)),
    };
    let task_type = message.meta.and_then(|meta| meta.task_type);
    let task_type = task_type.filter(|task| task.len() <= NAME_BYTES_MAX).map(|task| task.as_str().into());
    let has_any = task_type.is_some() || trace.is_some();
    let meta = has_any.then(|| Meta { task_type, trace, ..Meta::default() });
    Message {
        is_last: message.is_last,
        qos: message.qos.map(|word| match word {
            Qos::Gold => Qos::Gold,
            Qos::Silver => Qos::Silver,
            _ => Qos::Bronze,
        }),
        meta: meta.map(Box::new),
        ..Message::new(message.kind.as_str(), content)
    }
}

/// As a peer is told it.
pub(super) fn refusal_of(failed: &Failed) -> Refusal {
    Refusal {
        code: frame_code(failed.fault),
        reason: failed.reason.clone().into(),
        retry_after_ms: failed.fault.retry_after_s().map(|seconds| u64::from(seconds) * 1000),
        resume_token: None,
    }
}

fn last(done: &Done, is_last: bool) -> Message {
    let Done { adapter, model, usage, cost, latency, first_token, text, whole, _held } = done;
    let tells = Final {
        text: text.as_deref(),
        model_used: model.as_str(),
        adapter: adapter.as_str(),
        usage: *usage,
        cost: *cost,
    };
    let content = whole.clone().unwrap_or_else(|| tells.content());
    let ms = |span: &Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let telemetry = tells.telemetry(ms(latency), first_token.as_ref().map(ms));
    Message {
        is_last,
        telemetry: Some(RawJson::checked(telemetry)),
        ..Message::new(FINAL, RawJson::checked(content))
    }
}

/// In the words of tenants.
pub fn qos(qos: &proto_core::frame::Qos) -> proto_core::model::Qos {
    match qos {
        proto_core::frame::Qos::Gold => proto_core::model::Qos::Gold,
        proto_core::frame::Qos::Silver => proto_core::model::Qos::Silver,
        _ => proto_core::model::Qos::Bronze,
    }
}

/// A token that names nothing.
const SPENT: Refusal = Refusal::new(
    Code::BadInput,
    "the resume token is spent, too old, or of another session; send the request again",
);
/// Content that is most of any frame it came in, so that no copy is worth making.
const SHARED_BYTES_MIN: usize = 256 * 1024;

pub(super) const PARTIAL: Text = Text::of_static("agent.result.partial");
pub(super) const FINAL: Text = Text::of_static("agent.result.final");
