//! A peer that is an adapter: it said so when it opened, and may. Work goes out on streams of this end, and
//! what comes back on them goes to whoever asked.

use std::collections::HashMap;
use std::sync::Arc;

use dataplane_core::dialect::atp::Retold;
use dataplane_core::fault::{Fault, Kind, Retry};
use proto_core::frame::{Code, Meta, RawJson, Text, Window};
use proto_core::model::{AdapterKind, Name};
use proto_core::session::{AgentState, AgentStatus, Message, Refusal, StreamKey};
use tokio::sync::mpsc;

use super::conversation::Conversation;
use crate::clock;
use crate::served::Hold;
use crate::upstream::attached::{BUSY, Back, Desk, Piece, Work};
use crate::worker::Shared;

/// Where a peer sits that takes work.
pub struct Seat {
    shared: Arc<Shared>,
    adapter: Name,
    desk: Desk,
    /// Calls at once, as it said when it opened.
    most: u32,
    calls: HashMap<u64, StreamKey>,
    streams: HashMap<StreamKey, Answering>,
}

struct Answering {
    id: u64,
    to: mpsc::UnboundedSender<Piece>,
    retold: Retold,
}

/// What happens at a desk.
pub enum Woken {
    Work(Work),
    Back(Back),
}

impl Seat {
    pub async fn next(&mut self) -> Woken {
        tokio::select! {
            biased;
            back = self.desk.back.recv() => Woken::Back(back.expect("the desk's line keeps a sender")),
            work = self.desk.work.recv() => Woken::Work(work.expect("the desk's line keeps a sender")),
        }
    }

    /// What else is there by now.
    pub fn poll_more(&mut self) -> Option<Woken> {
        let back = self.desk.back.try_recv().ok().map(Woken::Back);
        back.or_else(|| self.desk.work.try_recv().ok().map(Woken::Work))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.lines.leave(&self.adapter, &self.desk.line);
        tracing::info!(adapter = self.adapter.as_str(), "an attached adapter is gone");
    }
}

impl Conversation {
    /// A seat for a peer that says it is an adapter; `None` for one that does not, and for one that registers
    /// where it is.
    pub(super) fn attach(&self, meta: &Meta, wanted: Window, held: &Hold) -> Result<Option<Seat>, Refusal> {
        let role = role(meta);
        match role.as_deref() {
            None | Some("client") => return Ok(None),
            Some("adapter") => {}
            Some(_) => return Err(Refusal::new(Code::BadInput, "meta.role is `client` or `adapter`")),
        }
        let name = meta.ext.get("adapter").and_then(text).and_then(|name| Name::resource(&name).ok());
        let Some(name) = name else {
            return Err(Refusal::new(Code::BadInput, "meta.adapter names the Adapter this peer is"));
        };
        let declared = held.table.adapters.iter().position(|row| row.name == name);
        let is_dialled = |at: usize| held.upstreams[at].dialled().is_some();
        if declared.is_some_and(is_dialled) && self.caller.may_attach(name.as_str()) {
            // It takes no work here: it registers where it does.
            return Ok(None);
        }
        let is_attached = |at: usize| matches!(held.upstreams[at].kind(), AdapterKind::Attached);
        if !declared.is_some_and(is_attached) || !self.caller.may_attach(name.as_str()) {
            // One answer for both: who may not attach learns nothing of what is declared.
            tracing::warn!(adapter = name.as_str(), "a peer may not attach as this adapter");
            let what = "this peer may not attach: it needs the permission `adapter` for a declared Adapter \
                        of kind attached";
            return Err(Refusal::new(Code::Sec, what));
        }
        let most = if wanted.max_parallel == 0 { CALLS_DEFAULT } else { wanted.max_parallel.min(CALLS_MAX) };
        let desk = self.worker.shared.lines.join(&name, most);
        tracing::info!(adapter = name.as_str(), "an adapter attached");
        let shared = Arc::clone(&self.worker.shared);
        let (calls, streams) = (HashMap::new(), HashMap::new());
        Ok(Some(Seat { shared, adapter: name, desk, most, calls, streams }))
    }

    pub(super) fn on_desk(&mut self, woken: Woken) {
        match woken {
            Woken::Work(work) => self.on_work(work),
            Woken::Back(Back::Taken { id, mark }) => {
                if let Some(stream) = self.seat().and_then(|seat| seat.calls.get(&id).copied()) {
                    self.machine.on_consumed(stream, mark, clock::now());
                }
            }
            Woken::Back(Back::Gone { id }) => {
                if let Some(stream) = self.seat().and_then(|seat| seat.calls.get(&id).copied()) {
                    self.cancel_call(stream);
                }
            }
        }
    }

    fn on_work(&mut self, work: Work) {
        // Gave up while it waited here: that was told before there was a stream to end.
        if work.to.is_closed() {
            return;
        }
        let retold = Retold::of(&work.body);
        let message = Message::new(COMPLETION, RawJson::checked(work.body)).last();
        match (self.begin_call(message), self.seat()) {
            (Some(stream), Some(seat)) => {
                seat.calls.insert(work.id, stream);
                seat.streams.insert(stream, Answering { id: work.id, to: work.to, retold });
            }
            // No stream, no credit: nothing was begun, somebody else may be asked.
            _ => drop(work.to.send(Piece::Failed(BUSY))),
        }
    }

    fn begin_call(&mut self, message: Message) -> Option<StreamKey> {
        let now = clock::now();
        let stream = self.machine.open(None, now).ok()?;
        if self.machine.send(stream, message, now).is_ok() {
            return Some(stream);
        }
        // Nothing was said on it, so nothing else would ever end it.
        self.machine.reset(stream, Refusal::new(Code::Window, "no credit for the request"), now);
        None
    }

    /// Nobody wants the answer.
    fn cancel_call(&mut self, stream: StreamKey) {
        self.end_call(stream, None);
        let gone = Refusal::new(Code::Preempt, "the caller does not want the answer any more");
        self.machine.reset(stream, gone, clock::now());
    }

    /// What an attached peer says on a stream of this end; true where it is one.
    pub(super) fn on_answer(&mut self, stream: StreamKey, msg_seq: u64, message: &Message) -> bool {
        let Some(answering) = self.seat().and_then(|seat| seat.streams.get_mut(&stream)) else {
            return false;
        };
        let is_final = message.kind.as_str() == "agent.result.final";
        let content = message.content.as_bytes();
        let events =
            if is_final { answering.retold.last(content) } else { answering.retold.partial(content) };
        let is_wanted = answering.to.send(Piece::Data(events, msg_seq)).is_ok();
        if is_final || message.is_last {
            let is_last = message.is_last;
            self.machine.on_consumed(stream, msg_seq, clock::now());
            self.end_call(stream, Some(Piece::Last));
            if !is_last {
                // Its answer is complete, so nothing may come behind it; a stream that waits for its end
                // would stay for as long as the adapter does.
                let unended = Refusal::new(Code::Proto, "the final message says no FIN: the stream is over");
                self.machine.reset(stream, unended, clock::now());
            }
        } else if !is_wanted {
            // It may have said so before the work was taken up here, when there was nothing to cancel.
            self.cancel_call(stream);
        }
        true
    }

    /// The peer gave a call up.
    pub(super) fn on_call_reset(&mut self, stream: StreamKey, refusal: &Refusal) {
        let fault = match refusal.code {
            Code::Window | Code::WindowAgent | Code::Draining => BUSY,
            Code::AgentDown => Fault::upstream(Kind::Refused, Retry::Elsewhere),
            _ => Fault::upstream(Kind::StreamError, Retry::ElsewhereAtCost),
        };
        self.end_call(stream, Some(Piece::Failed(fault)));
    }

    /// Its stream is over, whoever ended it: a caller that has not heard its last hears this.
    pub(super) fn on_call_closed(&mut self, stream: StreamKey) {
        let fault = Fault::upstream(Kind::StreamError, Retry::ElsewhereAtCost);
        self.end_call(stream, Some(Piece::Failed(fault)));
    }

    fn end_call(&mut self, stream: StreamKey, last: Option<Piece>) {
        let Some(seat) = self.seat() else { return };
        if let Some(Answering { id, to, .. }) = seat.streams.remove(&stream) {
            seat.calls.remove(&id);
            // A caller that is gone needs no last word.
            last.map(|last| to.send(last));
        }
    }

    /// An agent says how much it takes: never more than it said when it opened.
    pub(super) fn on_status(&mut self, status: &AgentStatus) {
        let Some(seat) = self.seat() else { return };
        let suggested = status.suggested.map_or(u32::MAX, |window| window.max_parallel);
        let most = match status.state {
            AgentState::Ready => seat.most.min(suggested),
            AgentState::Busy | AgentState::Pause => 0,
            AgentState::Draining => 0,
        };
        seat.desk.line.set_most(most);
        self.worker.tally.agent_statuses.one();
    }

    pub(super) fn seat(&mut self) -> Option<&mut Seat> {
        self.open.as_mut()?.attached.as_deref_mut()
    }
}

/// What a peer says it is.
pub(super) fn role(meta: &Meta) -> Option<String> {
    meta.ext.get("role").and_then(text)
}

/// A value of `meta` that is text.
fn text(raw: &RawJson) -> Option<String> {
    serde_json::from_slice(raw.as_bytes()).ok()
}

const COMPLETION: Text = Text::of_static("completion");
/// Of an adapter that does not say.
const CALLS_DEFAULT: u32 = 4;
/// Whatever it says: the streams a session may have.
const CALLS_MAX: u32 = 1024;
