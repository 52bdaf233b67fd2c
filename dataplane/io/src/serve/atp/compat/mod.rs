//! Peers that never open a session: existing clients send a frame and wait for what comes back, in the shape
//! they know. A task a connection; each frame is a request of its own, run through the same exchange.

mod answer;
mod request;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dataplane_core::admit::envelope::Envelope;
use dataplane_core::fault::Kind;
use dataplane_state::ledger::{Debt, Ledger};
use dataplane_state::tally::Operation;
use proto_core::frame::json::Received;
use proto_core::frame::{FlagSet, Frame, Malformed, NAME_BYTES_MAX, Text};
use proto_core::session::{Event, Message, Session, Settings};
use proto_core::units::Moment;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use self::answer::{Asker, Style};
use super::link::Outbound;
use super::opening::Caller;
use super::outbox::{Delivery, Outbox, Said, Ticket};
use super::registry::Registrations;
use super::strand::qos;
use super::work::{self, Job};
use crate::clock;

/// The reader's end: frames go in, answers go to the connection.
pub struct Compat {
    to: mpsc::Sender<Asked>,
}

enum Asked {
    Frame(Box<Received>),
    /// An answer that needs no work.
    Said(&'static str),
}

/// Starts the task of a connection. It ends with the connection, and its requests with it.
pub fn start(caller: &Caller, out: &mpsc::Sender<Outbound>) -> Compat {
    let (to, asked) = mpsc::channel(ASKED_MAX);
    #[expect(clippy::disallowed_methods, reason = "every task in it has room for so many bytes and no more")]
    let (deliveries_to, deliveries) = mpsc::unbounded_channel();
    let desk = Desk {
        caller: caller.clone(),
        out: out.clone(),
        deliveries_to,
        under_way: HashMap::new(),
        next_ticket: 0,
        assembling: HashMap::new(),
        debt: Debt::none(&caller.peer.worker.ledger),
        refused: HashMap::new(),
        runs: HashSet::new(),
        registrations: None,
    };
    tokio::spawn(desk.serve(asked, deliveries));
    Compat { to }
}

impl Compat {
    pub async fn on_frame(&mut self, received: Received) -> bool {
        self.to.send(Asked::Frame(Box::new(received))).await.is_ok()
    }

    pub async fn on_malformed(&mut self, malformed: &Malformed) -> bool {
        tracing::debug!(%malformed, "a message is no frame");
        self.say(r#"{"error":"invalid_frame"}"#).await
    }

    pub async fn on_binary(&mut self) -> bool {
        self.say(r#"{"error":"binary_not_supported"}"#).await
    }

    pub async fn on_too_many(&mut self) -> bool {
        self.say(r#"{"error":"too_many_sessions"}"#).await
    }

    async fn say(&mut self, said: &'static str) -> bool {
        self.to.send(Asked::Said(said)).await.is_ok()
    }
}

struct Desk {
    caller: Caller,
    out: mpsc::Sender<Outbound>,
    deliveries_to: mpsc::UnboundedSender<Delivery>,
    under_way: HashMap<Ticket, UnderWay>,
    next_ticket: u64,
    /// Messages that come in fragments, by session.
    assembling: HashMap<Text, Session>,
    /// What those hold, in the worker's account.
    debt: Debt,
    /// When a stream was last told to wait.
    refused: HashMap<(Text, Text), Moment>,
    /// Whose runs were used, by tenant and name.
    runs: HashSet<(u64, Text)>,
    /// Where the peer said it is, as an adapter.
    registrations: Option<Registrations>,
}

struct UnderWay {
    asker: Asker,
    task: AbortHandle,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.under_way.clear();
        let sessions = &self.caller.peer.worker.shared.sessions;
        self.runs.iter().for_each(|(tenant, name)| sessions.forget(*tenant, name.as_str().as_bytes()));
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Desk {
    async fn serve(
        mut self,
        mut asked: mpsc::Receiver<Asked>,
        mut deliveries: mpsc::UnboundedReceiver<Delivery>,
    ) {
        loop {
            let said = tokio::select! {
                asked = asked.recv() => match asked {
                    Some(Asked::Frame(received)) => self.on_received(*received),
                    Some(Asked::Said(said)) => Some(Bytes::from_static(said.as_bytes())),
                    None => return,
                },
                delivery = deliveries.recv() => match delivery {
                    Some(delivery) => self.on_delivery(delivery).await,
                    None => return,
                },
                () = self.out.closed() => return,
            };
            if let Some(message) = said
                && self.out.send(Outbound::alone(message, self.ledger())).await.is_err()
            {
                return;
            }
        }
    }

    fn ledger(&self) -> &Arc<Ledger> {
        &self.caller.peer.worker.ledger
    }

    fn on_received(&mut self, received: Received) -> Option<Bytes> {
        let Received { frame, shape } = received;
        self.caller.peer.worker.tally.frames_received.one();
        if frame.ttl == 0 {
            return Some(Bytes::from_static(br#"{"error":"ttl_expired"}"#));
        }
        let is_part = frame.frag_seq > 0
            || frame.flags.has(FlagSet::FRAG)
            || (frame.flags.has(FlagSet::MORE) && frame.payload.content.as_bytes().starts_with(b"\""));
        let asker = Asker::new(&frame, Style::of(shape, &frame));
        let message = if is_part { self.assemble(frame)? } else { Message::of_frame(frame) };
        self.on_message(asker, &message)
    }

    /// One part of a message; the message once it is whole.
    fn assemble(&mut self, frame: Frame) -> Option<Message> {
        let now = clock::now();
        // A name of its own: the frame's would keep all of the message it came in.
        let id = Text::from(frame.session_id.as_str());
        if self.assembling.len() >= ASSEMBLING_MAX && !self.assembling.contains_key(&id) {
            self.assembling.clear();
        }
        let session = self.assembling.entry(id.clone());
        let session = session.or_insert_with(|| Session::accept(Settings::default(), id, now));
        session.on_frame(frame, now);
        let mut whole = None;
        while let Some(event) = session.poll_event() {
            match event {
                Event::Opening { wanted, .. } => session.grant(wanted, None, now),
                Event::Message { stream, msg_seq, message } => {
                    session.on_consumed(stream, msg_seq, now);
                    // This end's part of the stream is told in another shape, and not by this machine.
                    let over = Message::new("FIN", proto_core::frame::RawJson::NULL).last();
                    let _ = session.send(stream, over, now);
                    whole = Some(message);
                }
                _ => {}
            }
        }
        while session.poll_frame(now).is_some() {}
        self.account();
        whole
    }

    /// Where parts would be more than a connection, or the worker, may hold, all are forgotten.
    fn account(&mut self) {
        let held: u64 = self.assembling.values().map(|session| session.held_bytes() as u64).sum();
        let before = self.debt.bytes();
        let is_more = held > before && !self.debt.try_grow(held - before);
        if is_more || held > ASSEMBLING_BYTES_MAX {
            self.assembling.clear();
            self.debt.give_back(u64::MAX);
        } else {
            self.debt.give_back(before.saturating_sub(held));
        }
    }

    fn on_message(&mut self, asker: Asker, message: &Message) -> Option<Bytes> {
        match request::of(message) {
            request::Request::Work(content) => self.begin(asker, message, content),
            request::Request::Heartbeat => asker.heard(),
            request::Request::Capability { is_health } => {
                let caller = &self.caller;
                let registrations = self.registrations.get_or_insert_with(|| Registrations::new(caller));
                let told = registrations.on_said(caller, is_health, message.content.as_bytes());
                Some(told.map_or_else(|refusal| asker.refused(&refusal), |told| asker.registered(told)))
            }
            request::Request::Nothing => None,
        }
    }

    fn begin(&mut self, asker: Asker, message: &Message, content: Bytes) -> Option<Bytes> {
        let worker = &self.caller.peer.worker;
        if self.under_way.len() >= UNDER_WAY_MAX {
            return Some(asker.busy(false));
        }
        let telling = self.caller.telling();
        let (held, tenant) = match self.caller.asks() {
            Ok(found) => found,
            Err(fault) => return Some(asker.failed(fault, &telling.reason(fault))),
        };
        if self.runs.len() < UNDER_WAY_MAX {
            self.runs.insert((held.table.tenant(tenant).hash, asker.session_id().into()));
        }
        let job = Job {
            worker: worker.clone(),
            held,
            tenant,
            run: Some(Text::from(asker.session_id())).filter(|id| !id.is_empty()),
            content,
            task_type: task_type(message),
            qos: message.qos.as_ref().map(qos),
            deadline: None,
            envelope: Envelope::default(),
            adapter_kind: None,
            also: Vec::new(),
            as_text: true,
            operation: Some(Operation::Session),
            is_spared: false,
            request_id: telling.request_id().clone(),
            parent: work::parent(message),
            at: clock::now(),
        };
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let outbox = Outbox::new(worker, ticket, &self.deliveries_to);
        let task = tokio::spawn(work::run(job, outbox)).abort_handle();
        self.under_way.insert(ticket, UnderWay { asker, task });
        None
    }

    async fn on_delivery(&mut self, delivery: Delivery) -> Option<Bytes> {
        let under_way = self.under_way.get_mut(&delivery.ticket)?;
        let asker = &mut under_way.asker;
        match &delivery.said {
            Said::Began { adapter } => asker.began(adapter.clone()),
            Said::Text(raw) => asker.piece(raw),
            Said::Data(_) => None,
            Said::Done(done) => {
                let said = asker.done(done);
                self.under_way.remove(&delivery.ticket);
                Some(said)
            }
            Said::Failed(failed) => {
                let is_full = matches!(
                    failed.fault.kind,
                    Kind::WindowFull(..) | Kind::NoPermit | Kind::TooLate { .. } | Kind::Shed { .. }
                );
                let said = match is_full {
                    true => {
                        let is_again = self.on_refused(delivery.ticket);
                        self.under_way.get(&delivery.ticket)?.asker.busy(is_again)
                    }
                    false => asker.failed(failed.fault, &failed.reason),
                };
                self.under_way.remove(&delivery.ticket);
                Some(said)
            }
        }
    }

    /// Whether this stream was told to wait within the last seconds; it is now.
    fn on_refused(&mut self, ticket: Ticket) -> bool {
        let Some(under_way) = self.under_way.get(&ticket) else { return false };
        let now = clock::now();
        let key = (under_way.asker.session_id().into(), under_way.asker.stream_id().into());
        self.refused.retain(|_, at| now - *at < REFUSED_AGAIN);
        if self.refused.len() >= UNDER_WAY_MAX {
            self.refused.clear();
        }
        self.refused.insert(key, now).is_some() && under_way.asker.is_bronze()
    }
}

/// In words of its own: the message's would keep all of it while its answer is made.
fn task_type(message: &Message) -> Option<Text> {
    let task = message.meta.as_ref()?.task_type.as_ref()?;
    (task.len() <= NAME_BYTES_MAX).then(|| Text::from(task.as_str()))
}

/// Frames read ahead.
const ASKED_MAX: usize = 16;
/// Requests of one connection at once: as many as a session has streams.
const UNDER_WAY_MAX: usize = 1024;
/// Sessions with a message in parts; past it all are forgotten, and their senders hear nothing: as before.
const ASSEMBLING_MAX: usize = 64;
/// Of all of them: two of the longest messages.
const ASSEMBLING_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// After a refusal bronze is told that it is dropped, not to wait.
const REFUSED_AGAIN: Duration = Duration::from_secs(2);
