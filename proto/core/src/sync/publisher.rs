//! The control plane's end of one Sync stream: decides what one data plane is sent, and what its answers
//! mean.
//!
//! Whole sets only, the newest only: while a push is unanswered nothing else is pushed, however many sets
//! come and go meanwhile. It never sends what the data plane already holds, and never again what this data
//! plane refused on this stream: a refusal is about the set or about the data plane's machine, and a newer
//! set or a reconnect asks anew. Deadlines are the shell's.
//!
//! ```text
//!              hello                 poll_push: newest is neither held nor refused
//!  Awaiting ─────────> Quiet ───────────────────────────────────────────────────> Outstanding(nonce)
//!                        ^                                                              │
//!                        └────────────────── ack(nonce) → held, nack(nonce) → refused ──┘
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::places::{PLACES_MAX, Unfit, check as check_places};
use super::{
    ANSWER_BYTES_MAX, Generation, Held, NODE_BYTES_MAX, PublishedSet, QUESTIONS_MAX, SetHash, bounded, wire,
};
use wire::sync_request::Message as Request;
use wire::sync_response::Message as Response;

/// The machine of one data plane's stream; a new stream gets a new one.
#[derive(Debug, Default)]
pub struct Publisher {
    /// `None`: it has not said hello yet.
    peer: Option<Peer>,
    newest: Option<Arc<PublishedSet>>,
    outstanding: Option<Outstanding>,
    /// Of the last push; zero: none was sent.
    nonce_last: u64,
    held: Option<Held>,
    refused: Option<Refused>,
    /// Not sent yet, at most [`QUESTIONS_MAX`] together with those sent.
    questions: VecDeque<wire::ExplainQuestion>,
    /// Sent and owed an answer.
    asked: BTreeSet<u64>,
    question_last: u64,
    /// The newest only, not sent yet.
    places: Option<wire::Places>,
}

#[derive(Debug)]
struct Peer {
    node: String,
    version: String,
    takes_places: bool,
}

#[derive(Debug)]
struct Outstanding {
    nonce: u64,
    set: Held,
}

#[derive(Debug)]
struct Refused {
    set: Held,
    rejects: Vec<wire::Reject>,
}

/// What a message of the data plane meant.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It introduced itself; [`Publisher::node`] is known from here on.
    Hello,
    /// It serves this generation.
    Accepted(Generation),
    /// It does not serve this generation; [`Publisher::rejects`] says why.
    Refused(Generation),
    /// The answer to the question of this id.
    Explained { id: u64, json: Bytes },
    /// Where adapters said to it that they stand: all of them.
    Places(wire::Places),
    /// An answer to something no longer asked: no change.
    Stale,
}

/// The data plane broke the protocol: the stream ends with this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("the message is empty; this control plane knows hello, ack, nack, explained and places")]
    Empty,
    #[error("the first message of a stream is hello")]
    HelloMissing,
    #[error("hello is the first message of a stream, and only the first")]
    HelloTwice,
    #[error("hello names the node and its version, each with 1 to {NODE_BYTES_MAX} visible ASCII characters")]
    HelloNames,
    #[error("held and held_hash (32 bytes) come together in hello, or neither does")]
    HelloHeld,
    #[error("nonce {0} was never sent on this stream")]
    NonceUnknown(u64),
    #[error("the answer to nonce {0} names another generation than was pushed with it")]
    GenerationDiffers(u64),
    #[error("an explain answer has {0} bytes, more than {ANSWER_BYTES_MAX}")]
    AnswerTooLong(usize),
    #[error(transparent)]
    Places(#[from] Unfit),
}

/// A data plane owes too many answers to be asked another question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data plane owes {QUESTIONS_MAX} answers already; ask again in a moment")]
pub struct Busy;

impl Publisher {
    pub fn on_message(&mut self, message: wire::SyncRequest) -> Result<Event, Violation> {
        match message.message.ok_or(Violation::Empty)? {
            Request::Hello(hello) => self.on_hello(hello),
            Request::Ack(ack) => self.on_ack(ack),
            Request::Nack(nack) => self.on_nack(nack),
            Request::Explained(answer) => self.on_explained(answer),
            Request::Places(list) => self.on_places(list),
        }
    }

    pub fn on_hello(&mut self, hello: wire::Hello) -> Result<Event, Violation> {
        if self.peer.is_some() {
            return Err(Violation::HelloTwice);
        }
        // Shown to operators on a terminal, so nothing that a terminal would obey.
        let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let named = |text: &str| (1..=NODE_BYTES_MAX).contains(&text.len()) && is_visible(text);
        if !named(&hello.node) || !named(&hello.version) {
            return Err(Violation::HelloNames);
        }
        self.held = match (hello.held, hello.held_hash.as_ref()) {
            (None, []) => None,
            (Some(generation), hash) => {
                let hash: SetHash = hash.try_into().map_err(|_| Violation::HelloHeld)?;
                Some(Held { generation: generation.into(), hash })
            }
            (None, _) => return Err(Violation::HelloHeld),
        };
        let takes_places = hello.takes_places;
        self.peer = Some(Peer { node: hello.node, version: hello.version, takes_places });
        Ok(Event::Hello)
    }

    /// A newer set exists. An older one of the same epoch, arriving late, changes nothing.
    pub fn on_set(&mut self, set: Arc<PublishedSet>) {
        let is_older = self.newest.as_ref().is_some_and(|newest| set.generation() < newest.generation());
        if !is_older {
            self.newest = Some(set);
        }
    }

    pub fn on_ack(&mut self, ack: wire::Ack) -> Result<Event, Violation> {
        let Some(set) = self.answered(ack.nonce, ack.generation)? else { return Ok(Event::Stale) };
        self.held = Some(set);
        self.refused = None;
        Ok(Event::Accepted(set.generation))
    }

    pub fn on_nack(&mut self, nack: wire::Nack) -> Result<Event, Violation> {
        let Some(set) = self.answered(nack.nonce, nack.generation)? else { return Ok(Event::Stale) };
        self.refused = Some(Refused { set, rejects: bounded(nack.rejects) });
        Ok(Event::Refused(set.generation))
    }

    pub fn on_explained(&mut self, answer: wire::ExplainAnswer) -> Result<Event, Violation> {
        if self.peer.is_none() {
            return Err(Violation::HelloMissing);
        }
        if answer.json.len() > ANSWER_BYTES_MAX {
            return Err(Violation::AnswerTooLong(answer.json.len()));
        }
        if !self.asked.remove(&answer.id) {
            return Ok(Event::Stale);
        }
        Ok(Event::Explained { id: answer.id, json: answer.json })
    }

    pub fn on_places(&mut self, list: wire::Places) -> Result<Event, Violation> {
        if self.peer.is_none() {
            return Err(Violation::HelloMissing);
        }
        check_places(&list, PLACES_MAX)?;
        Ok(Event::Places(list))
    }

    /// Where adapters stand, as the other data planes said.
    pub fn on_others(&mut self, list: wire::Places) {
        self.places = Some(list);
    }

    /// The places to tell, or `None` until there is a newer list, and always to a data plane that knows of
    /// none.
    pub fn poll_places(&mut self) -> Option<wire::SyncResponse> {
        if !self.peer.as_ref()?.takes_places {
            return None;
        }
        Some(wire::SyncResponse { message: Some(Response::Places(self.places.take()?)) })
    }

    /// Asks how a request would be routed; the answer is an [`Event::Explained`] with the id returned.
    pub fn ask(&mut self, model: String, task_type: String, tenant: String) -> Result<u64, Busy> {
        if self.questions.len() + self.asked.len() >= QUESTIONS_MAX {
            return Err(Busy);
        }
        self.question_last += 1;
        let id = self.question_last;
        self.questions.push_back(wire::ExplainQuestion { id, model, task_type, tenant });
        Ok(id)
    }

    /// Nobody waits for this answer any longer.
    pub fn forget(&mut self, id: u64) {
        self.asked.remove(&id);
        self.questions.retain(|question| question.id != id);
    }

    /// The next question to send, or `None` until another is asked.
    pub fn poll_question(&mut self) -> Option<wire::SyncResponse> {
        self.peer.as_ref()?;
        let question = self.questions.pop_front()?;
        self.asked.insert(question.id);
        Some(wire::SyncResponse { message: Some(Response::Explain(question)) })
    }

    /// The bytes [`Publisher::poll_push`] would send now; `None`: nothing is to be pushed until another
    /// input. Lets a shell with many data planes make room first: a set is copied for each stream while it is
    /// on its way.
    pub fn push_due(&self) -> Option<usize> {
        self.due().map(|set| set.bytes())
    }

    /// The set to send now, or `None` until another input.
    pub fn poll_push(&mut self) -> Option<wire::SyncResponse> {
        let newest = self.due()?;
        let (nonce, set) = (self.nonce_last + 1, newest.held());
        let push = newest.push(nonce);
        self.nonce_last = nonce;
        self.outstanding = Some(Outstanding { nonce, set });
        Some(wire::SyncResponse { message: Some(Response::Push(push)) })
    }

    /// What the data plane calls itself; `None` before its hello.
    pub fn node(&self) -> Option<&str> {
        self.peer.as_ref().map(|peer| peer.node.as_str())
    }

    /// Of the data plane's program; empty before its hello.
    pub fn version(&self) -> &str {
        self.peer.as_ref().map_or("", |peer| peer.version.as_str())
    }

    /// What it serves, as far as it said.
    pub fn held(&self) -> Option<Held> {
        self.held
    }

    /// Whether it serves the newest set.
    pub fn is_current(&self) -> bool {
        self.newest.as_ref().is_some_and(|newest| self.held == Some(newest.held()))
    }

    /// Whether a push waits for its answer: the shell gives it a deadline.
    pub fn is_outstanding(&self) -> bool {
        self.outstanding.is_some()
    }

    /// Why it refused the last set it was sent; empty where it took it.
    pub fn rejects(&self) -> &[wire::Reject] {
        self.refused.as_ref().map_or(&[], |refused| &refused.rejects)
    }

    /// The newest set, where it is to be pushed.
    fn due(&self) -> Option<&PublishedSet> {
        let newest = self.newest.as_deref()?;
        let set = newest.held();
        let is_known =
            self.held == Some(set) || self.refused.as_ref().is_some_and(|refused| refused.set == set);
        let is_due = self.peer.is_some() && self.outstanding.is_none() && !is_known;
        is_due.then_some(newest)
    }

    /// The set this nonce was about, if it is the outstanding one; `None` for an answer that came before.
    fn answered(
        &mut self,
        nonce: u64,
        generation: Option<wire::Generation>,
    ) -> Result<Option<Held>, Violation> {
        if self.peer.is_none() {
            return Err(Violation::HelloMissing);
        }
        if nonce == 0 || nonce > self.nonce_last {
            return Err(Violation::NonceUnknown(nonce));
        }
        let Some(outstanding) = self.outstanding.take_if(|outstanding| outstanding.nonce == nonce) else {
            return Ok(None);
        };
        if generation.map(Generation::from) != Some(outstanding.set.generation) {
            return Err(Violation::GenerationDiffers(nonce));
        }
        Ok(Some(outstanding.set))
    }
}
