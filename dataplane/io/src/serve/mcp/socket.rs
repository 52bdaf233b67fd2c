//! The older protocol of tools, over WebSocket: a task for each connection that speaks it. Its calls run
//! beside each other, each through the same exchange as everything else, and end with the connection.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dataplane_core::admit::envelope::Envelope;
use dataplane_core::dialect::mcp::socket::{self, Call, CallId, HEARTBEAT, Place, Said};
use dataplane_core::fault::{Fault, Kind};
use dataplane_state::ledger::Debt;
use dataplane_state::tally::Operation;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::Live;
use super::call::{self, Came, Last, Running, Whose};
use super::fixed::{Called, Handler};
use super::listing::{self, Target};
use super::room::Room;
use crate::admission::may_begin;
use crate::clock;
use crate::serve::atp::Caller;
use crate::serve::atp::link::{Held, Outbound};
use crate::serve::memory;
use crate::worker::Worker;

/// The reader's end of a connection that speaks it.
pub struct Tools {
    to: mpsc::Sender<Asked>,
}

enum Asked {
    Message(Bytes),
    /// Its peer has said nothing for long, not even that it lives.
    Idle,
}

/// Starts the task. It ends with the connection.
pub fn start(caller: &Caller, out: &mpsc::Sender<Outbound>) -> Tools {
    let (to, asked) = mpsc::channel(ASKED_MAX);
    let (results_to, results) = mpsc::channel(RESULTS_MAX);
    let desk = Desk {
        _live: Live::new(&caller.peer.worker),
        caller: caller.clone(),
        out: out.clone(),
        results_to,
        rooms: [Room::new(&caller.peer.worker.ledger), Room::new(&caller.peer.worker.ledger)],
        under_way: HashMap::new(),
        next: 0,
    };
    tokio::spawn(desk.serve(asked, results));
    Tools { to }
}

impl Tools {
    /// False where the task is over.
    pub async fn on_message(&self, message: Bytes) -> bool {
        self.to.send(Asked::Message(message)).await.is_ok()
    }

    pub async fn on_idle(&self) {
        // A task that is over has nothing to say.
        let _ = self.to.send(Asked::Idle).await;
    }
}

/// Something for the peer, and the room it takes; with the number of its call, where that is over.
struct Told {
    message: Bytes,
    held: Held,
    over: Option<u64>,
}

struct Desk {
    _live: Live,
    caller: Caller,
    out: mpsc::Sender<Outbound>,
    results_to: mpsc::Sender<Told>,
    /// For what calls say, and for what is said at once: one never waits for the other.
    rooms: [Room; 2],
    under_way: HashMap<u64, UnderWay>,
    next: u64,
}

/// Dropped, its task ends, and with it the work upstream.
struct UnderWay {
    /// As its caller wrote it.
    id: Box<str>,
    task: AbortHandle,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Desk {
    async fn serve(mut self, mut asked: mpsc::Receiver<Asked>, mut results: mpsc::Receiver<Told>) {
        let mut beat = pin!(sleep_until(Instant::now() + BEAT_EVERY));
        loop {
            let (mut of_call, mut said) = (None, None);
            tokio::select! {
                asked = asked.recv() => match asked {
                    Some(Asked::Message(message)) => said = self.on_message(&message),
                    Some(Asked::Idle) => {
                        said = Some(error(CallId::NONE, "IDLE_TIMEOUT", "nothing came for 75 s"));
                    }
                    None => return,
                },
                told = results.recv() => match told {
                    Some(Told { message, held, over }) => {
                        over.map(|call| self.under_way.remove(&call));
                        of_call = Some((message, held));
                    }
                    None => return,
                },
                () = beat.as_mut() => {
                    self.caller.peer.worker.tally.mcp_heartbeats.one();
                    // Libraries answer a ping by themselves: a peer that only listens is known to live.
                    if self.say(Bytes::new()).await.is_err() {
                        return;
                    }
                    said = Some(Bytes::from_static(HEARTBEAT));
                }
                () = self.out.closed() => return,
            }
            beat.as_mut().reset(Instant::now() + BEAT_EVERY);
            if let Some(message) = said
                && self.say(message).await.is_err()
            {
                return;
            }
            if let Some((message, held)) = of_call
                && self.put(message, held).await.is_err()
            {
                return;
            }
        }
    }

    /// Waits for room; an error is a connection that is gone.
    async fn say(&self, mut message: Bytes) -> Result<(), Fault> {
        loop {
            let held = tokio::select! {
                held = self.rooms[1].take(message.len()) => held,
                () = self.out.closed() => return Err(Fault::client(Kind::ClientGone)),
            };
            match held {
                Ok(held) => return self.put(message, held).await,
                // The worker has no memory for it, and always some for a refusal.
                Err(fault) => {
                    self.caller.peer.worker.tally.error(fault);
                    message = error(CallId::NONE, socket::code(fault), OVERLOADED);
                }
            }
        }
    }

    async fn put(&self, message: Bytes, held: Held) -> Result<(), Fault> {
        let outbound = Outbound { stream: None, message, is_last: false, held: Some(held) };
        self.out.send(outbound).await.map_err(|_| Fault::client(Kind::ClientGone))
    }

    /// The answer, where there is one at once.
    fn on_message(&mut self, message: &[u8]) -> Option<Bytes> {
        let said = match socket::read(message) {
            Ok(Some(said)) => said,
            // A frame, which its reader keeps for others.
            Ok(None) => return None,
            Err((wrong, id)) => return Some(error(id, "INVALID_REQUEST", &wrong)),
        };
        match said {
            Said::ListTools => Some(self.listed()),
            Said::Call(call) => self.on_call(call),
            Said::Cancel { call } => self.cancel(call),
            Said::Negotiate { id } => {
                let mut out = Vec::new();
                socket::negotiated(id, &mut out);
                Some(out.into())
            }
            Said::Heartbeat => None,
            Said::Unknown => {
                let what = "There is no such type of message; there are listTools and callTool.";
                Some(error(CallId::NONE, "METHOD_NOT_FOUND", what))
            }
        }
    }

    fn listed(&self) -> Bytes {
        match self.caller.tenant() {
            Ok((held, _)) => {
                let mut out = Vec::new();
                socket::listed(&listing::listing(&self.caller.peer.worker.shared, &held), &mut out);
                out.into()
            }
            Err(fault) => self.refused(CallId::NONE, fault),
        }
    }

    fn refused(&self, id: CallId<'_>, fault: Fault) -> Bytes {
        self.caller.peer.worker.tally.error(fault);
        error(id, socket::code(fault), &self.caller.telling().reason(fault))
    }

    fn cancel(&mut self, call: CallId<'_>) -> Option<Bytes> {
        let found = self.under_way.iter().find(|(_, under_way)| *under_way.id == *call.as_json());
        let number = found.map(|(number, _)| *number)?;
        self.under_way.remove(&number);
        Some(self.refused(call, Fault::client(Kind::ClientGone)))
    }

    fn on_call(&mut self, call: Call<'_>) -> Option<Bytes> {
        let id = call.id;
        if self.under_way.len() >= CALLS_MAX {
            return Some(self.refused(id, Fault::client(Kind::Overloaded)));
        }
        let is_named = id != CallId::NONE;
        if is_named && self.under_way.values().any(|under_way| *under_way.id == *id.as_json()) {
            return Some(error(id, "INVALID_REQUEST", "A call with this id is under way. Use another id."));
        }
        let (held, tenant) = match self.caller.asks() {
            Ok(found) => found,
            Err(fault) => return Some(self.refused(id, fault)),
        };
        let Some(target) = listing::find(&held, &call.name) else {
            return Some(error(id, "METHOD_NOT_FOUND", "There is no tool of this name; see listTools."));
        };
        let telling = self.caller.telling();
        let request_id = telling.request_id().clone();
        let worker = Arc::clone(&self.caller.peer.worker);
        let task = match (&target, listing::completion(&target, call.arguments)) {
            (Target::Fixed(handler), _) => {
                // Completions ask the same where they begin.
                if let Err(fault) = may_begin(&worker, &held, tenant, &Envelope::default()) {
                    return Some(self.refused(id, fault));
                }
                let arguments = call.arguments.map_or("{}", |arguments| arguments.get()).into();
                let (held, key) = (Arc::clone(&held), memory::key(&self.caller.headers));
                let called = Called { worker, held, tenant, key, arguments, request_id };
                self.start(id, |task| handled(handler, called, task))
            }
            (_, Some(Ok(completion))) => {
                let whose = Whose {
                    worker,
                    held: Arc::clone(&held),
                    tenant,
                    run: None,
                    qos: call.qos,
                    deadline: call.deadline,
                    envelope: Envelope::default(),
                    operation: Some(Operation::Mcp),
                    request_id,
                    parent: call.parent,
                    at: clock::now(),
                };
                let running = Running::start(call::job(whose, &completion), None);
                let worker = Arc::clone(&self.caller.peer.worker);
                let streamed = call.streamed.then_some(worker);
                self.start(id, |task| completed(running, streamed, completion.quality, task))
            }
            (_, wrong) => {
                let wrong = wrong.and_then(Result::err).unwrap_or_default();
                return Some(error(id, "INVALID_REQUEST", &wrong));
            }
        };
        self.under_way.insert(self.next, UnderWay { id: id.as_json().into(), task });
        self.next += 1;
        None
    }

    fn start<F>(&self, id: CallId<'_>, run: impl FnOnce(Task) -> F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (room, worker) = (self.rooms[0].clone(), Arc::clone(&self.caller.peer.worker));
        let to = self.results_to.clone();
        let task = Task { number: self.next, id: id.as_json().into(), to, room, worker };
        tokio::spawn(run(task)).abort_handle()
    }
}

/// A call's own task, and how it tells what comes.
struct Task {
    number: u64,
    id: Box<str>,
    to: mpsc::Sender<Told>,
    room: Room,
    worker: Arc<Worker>,
}

impl Task {
    fn id(&self) -> CallId<'_> {
        CallId::again(&self.id)
    }

    /// False where nobody wants it any more. Waits where the connection takes nothing; where the worker has
    /// no memory for it, the call fails instead.
    async fn say(&self, out: Vec<u8>, is_over: bool) -> bool {
        match self.room.take(out.len()).await {
            Ok(held) => self.put(out, held, is_over).await && !is_over,
            Err(fault) => {
                self.refuse(fault).await;
                false
            }
        }
    }

    async fn put(&self, out: Vec<u8>, held: Held, is_over: bool) -> bool {
        let over = is_over.then_some(self.number);
        self.to.send(Told { message: out.into(), held, over }).await.is_ok()
    }

    /// The last word of a call that is over.
    async fn refuse(&self, fault: Fault) {
        self.worker.tally.error(fault);
        let message = error(self.id(), socket::code(fault), OVERLOADED);
        // So few bytes are always there.
        let held = Held::new(Debt::of(&self.worker.ledger, message.len() as u64), None);
        self.put(message.into(), held, true).await;
    }
}

async fn handled(handler: &'static Handler, called: Called, task: Task) {
    let mut out = Vec::new();
    match (handler.handle)(called).await {
        Ok(object) => socket::handled(task.id(), &object, &mut out),
        Err(wrong) => socket::error(task.id(), "INVALID_REQUEST", &wrong, &mut out),
    }
    task.say(out, true).await;
}

/// `streamed`: whose pieces are told, and counted; `None`: only the whole.
async fn completed(
    mut running: Running,
    streamed: Option<Arc<Worker>>,
    quality: Option<&'static str>,
    task: Task,
) {
    let mut sequence = 0;
    loop {
        let mut out = Vec::new();
        let last = match (running.next().await, &streamed) {
            (Came::Text(piece, tokens), Some(worker)) => {
                sequence += 1;
                worker.tally.mcp_partials.one();
                socket::partial(task.id(), Place { sequence, tokens }, &piece, &mut out);
                if !task.say(out, false).await {
                    return;
                }
                continue;
            }
            (Came::Text(..), None) => continue,
            (Came::Last(last), _) => last,
        };
        match last {
            Last::Done(done) => {
                // Before it is written a second time.
                let text = done.text.as_ref().map_or(0, Vec::len);
                let held = match task.room.take(text + AROUND_BYTES).await {
                    Ok(held) => held,
                    Err(fault) => return task.refuse(fault).await,
                };
                socket::last(task.id(), sequence + 1, &call::completed(&done), quality, &mut out);
                task.put(out, held, true).await;
                return;
            }
            Last::Failed(fault, reason) => socket::error(task.id(), socket::code(fault), &reason, &mut out),
        }
        task.say(out, true).await;
        return;
    }
}

fn error(id: CallId<'_>, code: &str, message: &str) -> Bytes {
    let mut out = Vec::new();
    socket::error(id, code, message, &mut out);
    out.into()
}

/// Messages read ahead.
const ASKED_MAX: usize = 16;
/// What calls have said and the connection has not taken; each call waits with its next.
const RESULTS_MAX: usize = 16;
const OVERLOADED: &str = "This server is overloaded; try again later.";
/// Of a final message, beside its text.
const AROUND_BYTES: usize = 1024;
/// Calls of one connection at once.
const CALLS_MAX: usize = 64;
/// As existing clients know it.
const BEAT_EVERY: Duration = Duration::from_secs(30);
