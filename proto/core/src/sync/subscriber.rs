//! The data plane's end of Sync: decides which sets are worth building, and what the control plane is told.
//!
//! It outlives connections: what is held stays held while the control plane is away, and hello says it. A set
//! goes back by number never within an epoch, and always into another epoch (a store that was wiped is a new
//! store). It never parses, builds or swaps: a [`Candidate`] goes to the shell, the shell's verdict comes
//! back. One candidate is out at a time; of what arrives meanwhile only the newest is kept.
//!
//! ```text
//!          push: checked                 poll              accepted → held, ack
//!  Idle ─────────────────> Waiting ───────────> Building ─────────────────────> Idle
//!    ^  push: held already → ack    (a newer push takes      rejected → nack
//!    └─ push: wrong or older → nack  the place of a waiting one)
//! ```
//! A connection that comes while a candidate is out says hello after the verdict on it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::places::{Place, REGISTERED_MAX, Telling, Unfit, check as check_places};
use super::set::check_bounds;
use super::{ANSWER_BYTES_MAX, Generation, Held, QUESTIONS_MAX, SetHash, about_the_set, bounded, hash, wire};
use crate::units::Moment;
use wire::sync_request::Message as Request;
use wire::sync_response::Message as Response;

/// The machine of a data plane, over all its connections.
#[derive(Debug)]
pub struct Subscriber {
    node: String,
    version: String,
    held: Option<Held>,
    is_connected: bool,
    /// Counts connections, so that a verdict or an answer that comes late does not speak for another
    /// connection.
    connection: u64,
    /// The highest on this connection; zero: none came.
    nonce_last: u64,
    waiting: Option<Offer>,
    building: Option<Building>,
    is_hello_due: bool,
    /// The newest only: an older nonce means nothing to the other end any more.
    verdict: Option<Request>,
    /// At most [`QUESTIONS_MAX`].
    answers: VecDeque<wire::ExplainAnswer>,
    /// At most [`QUESTIONS_MAX`].
    questions: VecDeque<Question>,
    /// It was told places on this connection, so the other end knows what they are.
    takes_places: bool,
    telling: Telling,
    /// The newest only, to be sent.
    own_places: Option<wire::Places>,
    /// The newest only, to be heard of.
    other_places: Option<wire::Places>,
}

/// What the shell does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send it.
    Send(wire::SyncRequest),
    /// Parse and build it, swap it in where it is right, then say [`Subscriber::accepted`] or
    /// [`Subscriber::rejected`]. Every candidate gets its verdict, also after the connection is gone: until
    /// then no other is offered.
    Build(Candidate),
    /// Answer it from the tables served, with [`Subscriber::explained`].
    Explain(Question),
    /// Adapters may be asked there, since other data planes were told so.
    Hear(wire::Places),
}

/// A set whose hash, bounds and order were checked. What its resources mean was not.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub ticket: Ticket,
    pub generation: Generation,
    pub hash: SetHash,
    pub resources: Vec<wire::ResourceBody>,
}

/// How would this request be routed? An empty field was not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub ticket: Ticket,
    pub model: String,
    pub task_type: String,
    pub tenant: String,
}

/// Ties a verdict or an answer to what it is about. Made here, handed back unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    connection: u64,
    /// The push's nonce or the question's id.
    number: u64,
}

/// The control plane broke the protocol: the connection ends, what is held stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unexpected {
    #[error("a message came while there was no connection")]
    NotConnected,
    #[error("the message is empty; this data plane knows push, explain and places")]
    Empty,
    #[error("a push has no nonce (numbers start from 1)")]
    NonceMissing,
    #[error("push {0} names no generation")]
    GenerationMissing(u64),
    #[error(transparent)]
    Places(#[from] Unfit),
}

#[derive(Debug)]
struct Offer {
    nonce: u64,
    set: Held,
    resources: Vec<wire::ResourceBody>,
}

#[derive(Debug)]
struct Building {
    ticket: Ticket,
    set: Held,
}

impl Subscriber {
    /// `held`: what is served already, such as a set read from disk at boot.
    pub fn new(node: String, version: String, held: Option<Held>) -> Subscriber {
        Subscriber {
            node,
            version,
            held,
            is_connected: false,
            connection: 0,
            nonce_last: 0,
            waiting: None,
            building: None,
            is_hello_due: false,
            verdict: None,
            answers: VecDeque::new(),
            questions: VecDeque::new(),
            takes_places: false,
            telling: Telling::default(),
            own_places: None,
            other_places: None,
        }
    }

    /// A fresh stream is open. What an earlier one left unsaid is dropped: hello says where things stand.
    pub fn on_connected(&mut self) {
        self.on_disconnected();
        self.is_connected = true;
        self.connection += 1;
        self.nonce_last = 0;
        self.is_hello_due = true;
    }

    /// The stream is gone. What is held, and what is being built, stays.
    pub fn on_disconnected(&mut self) {
        self.is_connected = false;
        self.is_hello_due = false;
        self.waiting = None;
        self.verdict = None;
        self.answers.clear();
        self.questions.clear();
        self.takes_places = false;
        self.telling = Telling::default();
        self.own_places = None;
        self.other_places = None;
    }

    pub fn on_message(&mut self, message: wire::SyncResponse) -> Result<(), Unexpected> {
        match message.message.ok_or(Unexpected::Empty)? {
            Response::Push(push) => self.on_push(push),
            Response::Explain(question) => self.on_question(question),
            Response::Places(list) => self.on_places(list),
        }
    }

    pub fn on_push(&mut self, push: wire::Push) -> Result<(), Unexpected> {
        if !self.is_connected {
            return Err(Unexpected::NotConnected);
        }
        let nonce = push.nonce;
        if nonce == 0 {
            return Err(Unexpected::NonceMissing);
        }
        let generation = push.generation.map(Generation::from).ok_or(Unexpected::GenerationMissing(nonce))?;
        if nonce <= self.nonce_last {
            // A copy of what was or will be answered.
            return Ok(());
        }
        self.nonce_last = nonce;
        // The other end no longer waits for a verdict on the one before.
        self.waiting = None;
        match check(generation, push.resources, &push.hash) {
            Ok((set, resources)) => self.waiting = Some(Offer { nonce, set, resources }),
            Err(reason) => self.refuse(nonce, generation, vec![about_the_set(reason)]),
        }
        Ok(())
    }

    pub fn on_question(&mut self, question: wire::ExplainQuestion) -> Result<(), Unexpected> {
        if !self.is_connected {
            return Err(Unexpected::NotConnected);
        }
        if self.questions.len() == QUESTIONS_MAX {
            // The one that waited longest is the one whose asker has given up first.
            self.questions.pop_front();
        }
        let ticket = Ticket { connection: self.connection, number: question.id };
        let wire::ExplainQuestion { id: _, model, task_type, tenant } = question;
        self.questions.push_back(Question { ticket, model, task_type, tenant });
        Ok(())
    }

    pub fn on_places(&mut self, list: wire::Places) -> Result<(), Unexpected> {
        if !self.is_connected {
            return Err(Unexpected::NotConnected);
        }
        check_places(&list, REGISTERED_MAX)?;
        self.takes_places = true;
        self.other_places = Some(list);
        Ok(())
    }

    /// Adapters said to this data plane that they stand there, and may be asked. To be said again and again:
    /// what is worth telling is sent.
    pub fn on_standing(&mut self, now: Moment, standing: Vec<Place>) {
        if self.is_connected
            && self.takes_places
            && let Some(list) = self.telling.due(now, standing)
        {
            self.own_places = Some(list);
        }
    }

    /// The candidate is served. It is held from now on, whatever became of its connection.
    pub fn accepted(&mut self, ticket: Ticket) {
        let Some(built) = self.building.take_if(|building| building.ticket == ticket) else { return };
        self.held = Some(built.set);
        if self.is_current(ticket) {
            self.acknowledge(ticket.number, built.set.generation);
        }
    }

    /// The candidate is not served, for reasons that only this machine can know, such as a missing secret.
    pub fn rejected(&mut self, ticket: Ticket, rejects: Vec<wire::Reject>) {
        let Some(built) = self.building.take_if(|building| building.ticket == ticket) else { return };
        if self.is_current(ticket) {
            self.refuse(ticket.number, built.set.generation, rejects);
        }
    }

    /// The answer to a question, as JSON.
    pub fn explained(&mut self, ticket: Ticket, json: Bytes) {
        if ticket.connection != self.connection || !self.is_connected {
            return;
        }
        if self.answers.len() == QUESTIONS_MAX {
            self.answers.pop_front();
        }
        let json = if json.len() > ANSWER_BYTES_MAX { Bytes::from_static(ANSWER_TOO_LONG) } else { json };
        self.answers.push_back(wire::ExplainAnswer { id: ticket.number, json });
    }

    /// What to do next, or `None` until another input.
    pub fn poll_action(&mut self) -> Option<Action> {
        // Hello says what is held, so it waits for the verdict on what is being built.
        if self.is_hello_due && self.building.is_none() {
            self.is_hello_due = false;
            return Some(send(Request::Hello(self.hello())));
        }
        if self.building.is_none()
            && let Some(offer) = self.waiting.take()
            && let Some(candidate) = self.judge(offer)
        {
            return Some(Action::Build(candidate));
        }
        if let Some(verdict) = self.verdict.take() {
            return Some(send(verdict));
        }
        if let Some(answer) = self.answers.pop_front() {
            return Some(send(Request::Explained(answer)));
        }
        if let Some(list) = self.own_places.take() {
            return Some(send(Request::Places(list)));
        }
        if let Some(list) = self.other_places.take() {
            return Some(Action::Hear(list));
        }
        self.questions.pop_front().map(Action::Explain)
    }

    /// What is served; `None`: nothing was ever accepted.
    pub fn held(&self) -> Option<Held> {
        self.held
    }

    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// What becomes of a set that arrived whole: compared with what is held *now*, not with what was held
    /// when it arrived, because the set before it may have been accepted meanwhile.
    fn judge(&mut self, offer: Offer) -> Option<Candidate> {
        let Offer { nonce, set, resources } = offer;
        match self.held {
            Some(held) if held == set => {
                self.acknowledge(nonce, set.generation);
                None
            }
            Some(held) if set.generation < held.generation => {
                let reason = format!(
                    "generation {} is older than {}, which is served; apply a change to get a newer number",
                    set.generation, held.generation
                );
                self.refuse(nonce, set.generation, vec![about_the_set(reason)]);
                None
            }
            _ => {
                let ticket = Ticket { connection: self.connection, number: nonce };
                self.building = Some(Building { ticket, set });
                Some(Candidate { ticket, generation: set.generation, hash: set.hash, resources })
            }
        }
    }

    fn acknowledge(&mut self, nonce: u64, generation: Generation) {
        let generation = Some(generation.into());
        self.verdict = Some(Request::Ack(wire::Ack { nonce, generation }));
    }

    fn refuse(&mut self, nonce: u64, generation: Generation, rejects: Vec<wire::Reject>) {
        let (generation, rejects) = (Some(generation.into()), bounded(rejects));
        self.verdict = Some(Request::Nack(wire::Nack { nonce, generation, rejects }));
    }

    fn hello(&self) -> wire::Hello {
        wire::Hello {
            node: self.node.clone(),
            version: self.version.clone(),
            held: self.held.map(|held| held.generation.into()),
            held_hash: self.held.map(|held| Bytes::copy_from_slice(&held.hash)).unwrap_or_default(),
            takes_places: true,
        }
    }

    /// Whether the other end still waits for the answer to this push.
    fn is_current(&self, ticket: Ticket) -> bool {
        self.is_connected && ticket.connection == self.connection && ticket.number == self.nonce_last
    }
}

/// Whether what arrived is whole and within bounds.
fn check(
    generation: Generation,
    resources: Vec<wire::ResourceBody>,
    claimed: &[u8],
) -> Result<(Held, Vec<wire::ResourceBody>), String> {
    check_bounds(&resources).map_err(|too_large| too_large.to_string())?;
    if resources.iter().any(|resource| resource.kind.is_empty() || resource.name.is_empty()) {
        return Err("a resource without a kind or a name".into());
    }
    let hash = hash(&resources);
    if hash != claimed {
        let count = resources.len();
        return Err(format!("the hash of the {count} resources that arrived is not the one sent along"));
    }
    Ok((Held { generation, hash }, resources))
}

fn send(message: Request) -> Action {
    Action::Send(wire::SyncRequest { message: Some(message) })
}

const ANSWER_TOO_LONG: &[u8] = br#"{"error":"the explanation is longer than an answer may be"}"#;
